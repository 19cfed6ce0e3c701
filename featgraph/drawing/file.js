// What surrounds a picture in a file of its own: the threshold, the note on what is picked, a table, and export.

const told = document.querySelector("#told");
const view = mount(document.querySelector("#picture"), {
  onpick(key) {
    const mark = key && document.querySelector(`#picture [data-key="${CSS.escape(key)}"] title`);
    told.textContent = mark ? mark.textContent : told.dataset.hint;
  },
});
const svg = document.querySelector("#picture svg");
const name = document.title.replace(/[^\w.-]+/g, "-").replace(/^-+|-+$/g, "") || "picture";
const links = [...svg.querySelectorAll(".link")];
const slider = document.querySelector("#least");

if (links.length) {
  const values = links.map((link) => +link.dataset.value);
  slider.min = Math.floor(Math.min(...values) * 100) / 100;
  slider.max = Math.ceil(Math.max(...values) * 100) / 100;
  slider.value = slider.min;
  const move = () => {
    document.querySelector("#shown").textContent = (+slider.value).toFixed(2);
    view.threshold(+slider.value);
  };
  slider.addEventListener("input", move);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "[" && event.key !== "]") return;
    slider.value = +slider.value + (event.key === "]" ? 0.01 : -0.01);
    move();
  });
  move();
  document.querySelector("#threshold").hidden = false;
  document.querySelector("#table").hidden = false;
}

document.querySelector("#svg").addEventListener("click", () => {
  save(new Blob([view.text()], { type: "image/svg+xml" }), `${name}.svg`);
});
document.querySelector("#png").addEventListener("click", async () => save(await png(view.text()), `${name}.png`));
document.querySelector("#table").addEventListener("click", () => {
  const rows = document.querySelector("#rows");
  rows.hidden = !rows.hidden;
  document.querySelector("#table").setAttribute("aria-pressed", `${!rows.hidden}`);
  if (rows.childElementCount) return;
  const table = document.createElement("table");
  const add = (kind, cells) => {
    const row = table.insertRow();
    for (const cell of cells) row.append(Object.assign(document.createElement(kind), { textContent: cell }));
  };
  add("th", ["from", "to", svg.dataset.measure ?? "value"]);
  for (const link of links) add("td", [link.dataset.src, link.dataset.dst, link.dataset.value]);
  rows.append(table);
});
document.body.dataset.ready = "";
