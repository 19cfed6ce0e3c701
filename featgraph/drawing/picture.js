// Makes a picture of featgraph answer: hover, keys, pick, threshold, export. It fetches nothing, keeps no global
// state and sets attributes, never styles, so that it runs under a strict content security policy.

const FAINT = "0.12";

/**
 * @param {Element} element holds the SVG
 * @param {{onpick?: (key: string | null) => void, onseed?: (key: string) => void}} told
 */
export function mount(element, told = {}) {
  let svg, nodes, links, marks, picked, low;

  function show(text) {
    if (text) {
      const read = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
      if (read.nodeName !== "svg" || read.querySelector("script, foreignObject")) throw new Error("not a picture");
      element.replaceChildren(document.importNode(read, true));
    }
    svg = element.querySelector("svg");
    picked = null;
    low = 0;
    nodes = new Map();
    for (const mark of svg.querySelectorAll(".node")) {
      nodes.set(mark.dataset.key, { key: mark.dataset.key, mark, parents: [], children: [] });
    }
    links = [...svg.querySelectorAll(".link")].map((mark) => ({
      mark, value: +mark.dataset.value, src: nodes.get(mark.dataset.src), dst: nodes.get(mark.dataset.dst),
    }));
    for (const link of [...links].sort((one, other) => other.value - one.value)) {
      link.src.children.push(link);
      link.dst.parents.push(link);
    }
    marks = [...svg.querySelectorAll(".active, .lineage-name")];
    for (const { mark, parents, children } of nodes.values()) {
      const name = mark.querySelector("title")?.textContent ?? "";
      mark.setAttribute("role", "button");
      mark.setAttribute("tabindex", "-1");
      mark.setAttribute("aria-label", `${name}, ${parents.length} parents, ${children.length} children`);
    }
    const first = nodes.get(svg.dataset.seed) ?? nodes.values().next().value;
    first?.mark.setAttribute("tabindex", "0");
    light(null);
  }

  /** All that is reached from some nodes over links of the threshold or more, upstream and downstream. */
  function lineage(starts) {
    const lit = new Set(starts.map((node) => node.mark));
    for (const [out, end] of [["parents", "src"], ["children", "dst"]]) {
      const walk = [...starts], seen = new Set(starts);
      while (walk.length) {
        for (const link of walk.pop()[out].filter((one) => one.value >= low)) {
          lit.add(link.mark);
          lit.add(link[end].mark);
          if (!seen.has(link[end])) walk.push(link[end]);
          seen.add(link[end]);
        }
      }
    }
    return lit;
  }

  /** Dim all but these; null: all that the threshold leaves. */
  function light(lit) {
    if (!lit && links.some((link) => link.value < low)) {
      const seed = nodes.get(svg.dataset.seed);
      lit = lineage(seed ? [seed] : [...nodes.values()].filter((node) => linked(node)));
    }
    for (const mark of [...[...nodes.values()].map((node) => node.mark), ...links.map((link) => link.mark), ...marks]) {
      if (!lit || lit.has(mark)) mark.removeAttribute("opacity");
      else mark.setAttribute("opacity", FAINT);
    }
  }

  const linked = (node) => [...node.parents, ...node.children].some((link) => link.value >= low);

  function over(event) {
    const mark = event.target.closest?.(".node, .link, .active, .lineage-name");
    if (!mark) return light(picked && lineage([picked]));
    if (mark.matches(".node")) return light(lineage([nodes.get(mark.dataset.key)]));
    if (mark.matches(".link")) {
      const link = links.find((one) => one.mark === mark);
      return light(new Set([mark, link.src.mark, link.dst.mark]));
    }
    if (mark.dataset.lineage === undefined) return light(new Set([mark]));
    return light(new Set(marks.filter((one) => one.dataset.lineage === mark.dataset.lineage)));
  }

  function pick(key) {
    const mark = key && marks.find((one) => one.dataset.key === key);
    picked = nodes.get(key) ?? null;
    for (const node of nodes.values()) node.mark.setAttribute("aria-pressed", `${node === picked}`);
    light(picked && lineage([picked]));
    told.onpick?.(picked || mark ? key : null);
  }

  function focus(node) {
    if (!node) return;
    for (const other of nodes.values()) other.mark.setAttribute("tabindex", other === node ? "0" : "-1");
    node.mark.focus();
    light(lineage([node]));
  }

  /** The next node above or below in the same column. */
  function beside(node, step) {
    const place = (one) => one.mark.querySelector(".box");
    const x = place(node).getAttribute("x");
    const column = [...nodes.values()].filter((one) => place(one).getAttribute("x") === x);
    column.sort((one, other) => place(one).getAttribute("y") - place(other).getAttribute("y"));
    return column[column.indexOf(node) + step];
  }

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") return pick(null);
    const node = nodes.get(event.target.closest?.(".node")?.dataset.key);
    if (!node) return;
    const act = {
      ArrowLeft: () => focus(node.parents[0]?.src),
      ArrowRight: () => focus(node.children[0]?.dst),
      ArrowUp: () => focus(beside(node, -1)),
      ArrowDown: () => focus(beside(node, 1)),
      " ": () => pick(node === picked ? null : node.key),
      Enter: () => (told.onseed ? told.onseed(node.key) : pick(node.key)),
    }[event.key];
    if (act) event.preventDefault();
    act?.();
  }

  element.addEventListener("pointerover", over);
  element.addEventListener("pointerleave", () => light(picked && lineage([picked])));
  element.addEventListener("keydown", press);
  element.addEventListener("click", (event) => pick(event.target.closest?.("[data-key]")?.dataset.key ?? null));
  element.addEventListener("dblclick", (event) => {
    const key = event.target.closest?.(".node")?.dataset.key;
    if (key) told.onseed?.(key);
  });
  show(null);

  return {
    show,
    pick,
    /** Dim what does not belong to the lineage at this threshold. */
    threshold(least) {
      low = least;
      light(picked && lineage([picked]));
    },
    /** The picture as SVG, all of it lit. */
    text() {
      const copy = /** @type {Element} */ (svg.cloneNode(true));
      for (const mark of copy.querySelectorAll("[opacity], [tabindex]")) {
        for (const name of ["opacity", "tabindex", "role", "aria-pressed", "aria-label"]) mark.removeAttribute(name);
      }
      return new XMLSerializer().serializeToString(copy);
    },
  };
}

/** Hand a file to the reader. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Turn SVG into a PNG of so many times its size. */
export async function png(text, times = 2) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.width * times;
  canvas.height = image.height * times;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
