"""Rehearse the ingest of a whole suite without weights: synthetic directions of its shape, then questions.

python tests/bench/rehearsal.py --folder DIR [--keep] [--layers 26] [--features 16384] [--d-model 2304]

Makes a suite in DIR (`shaped_suite.py`), runs `featgraph ingest --data-free` on it in a process of its own,
looks for the links that were planted, and runs `queries.py` on the graph. Prints Markdown, also to
DIR/report.md; says on stderr what it is at. What was cut off goes on when the same command is given again.
Ends with 1 if anything failed: then suite and graph stay, as with --keep, and --reuse takes that graph.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import shaped_suite
from peers import THRESHOLD, connect
from shaped_suite import SuiteShape
from watching import Watched, free_memory, kilobytes, occupied, watch

import featgraph
from featgraph.core.keys import SITES
from featgraph.recipe import read_recipe
from featgraph.suite.estimate import estimate, human

EDGE_BYTES = 200
"""Room on disk for an edge that may be found: candidates, evidence, tables, and what ladybug copies.

Source: our allowance."""
MEMORY = 3_000_000_000
"""Beside six SAEs in float32: the libraries and a tile of matching. Source: our allowance."""
FOUND = 0.99
"""Share of the planted links from THRESHOLD on that must be edges; top_k may leave out some of a family."""
SAME = 1e-3
"""Largest difference between a planted cosine and the edge's; both are of the same stored rows."""
BEGAN = time.monotonic()


@dataclass(frozen=True)
class Places:
    """Where all lies."""

    folder: Path

    @property
    def suite(self) -> Path:
        return self.folder / "suite"

    @property
    def graph(self) -> Path:
        return self.folder / "rehearsal.featgraph"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def log(self) -> Path:
        return self.folder / "ingest.log"

    @property
    def measured(self) -> Path:
        return self.folder / "measured.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.md"

    def building(self) -> int:
        """Return what is on disk beside the suite."""
        return occupied(self.folder, but=self.suite)


def say(what: str) -> None:
    """Say on stderr what goes on: the time, and the minutes since the start."""
    minutes = (time.monotonic() - BEGAN) / 60
    print(f"{time.strftime('%H:%M:%S')} +{minutes:.1f}m {what}", file=sys.stderr, flush=True)


def report(places: Places, text: str) -> None:
    """Print a piece of the report and add it to the file."""
    print(text, flush=True)
    with places.report.open("a", encoding="utf-8") as handle:
        handle.write(text + "\n")


def check_room(shape: SuiteShape, places: Places) -> None:
    """End the program with a message if disk or memory do not suffice."""
    edges = shape.layers * len(shape.sites) * 2 * shape.top_k * shape.features
    built = 0 if places.graph.exists() else 2 * shape.n_saes * shape.file_bytes - places.building()
    missing = shaped_suite.missing_bytes(shape, places.suite)
    needed, free = missing + max(built, 0) + edges * EDGE_BYTES, shutil.disk_usage(places.folder).free
    say(f"disk: {human(needed)} needed, {human(free)} free at {places.folder}")
    if needed > free:
        sys.exit(
            f"not enough room at {places.folder}: {human(needed)} are needed, of it {human(missing)} for the "
            f"suite, but {human(free)} are free; give another --folder, or cut the suite with --layers, "
            "--features, --d-model or --sites"
        )
    needed, free = 6 * 2 * shape.file_bytes + MEMORY, free_memory()
    say(f"memory: {human(needed)} needed, {human(free)} free")
    if needed > free:
        sys.exit(
            f"not enough memory: {human(needed)} are needed, but {human(free)} are free; end other programs, "
            "or cut the suite with --features or --d-model"
        )


def build(recipe: Path, places: Places, measured: Watched) -> None:
    """Make the graph, or go on making it; end the program if that fails."""
    flags = ["--data-free", "-o", str(places.graph), *([] if measured.attempts else ["--fresh"])]
    command = [sys.executable, "-m", "featgraph", "ingest", str(recipe), *flags]
    say(f"{' '.join(command[1:])} (what it says goes to {places.log})")
    status = watch(
        command,
        measured,
        places.measured,
        places.building,
        environment=_environment(places),
        log=places.log,
        say=say,
    )
    if status != 0:
        tail = places.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        sys.exit("\n".join([*tail, f"the ingest ended with {status}; the same command goes on from there"]))


def _environment(places: Places) -> dict[str, str]:
    """Return the environment of children: the network is left alone, large sorts spill into the folder."""
    places.scratch.mkdir(exist_ok=True)
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TMPDIR": str(places.scratch)}


def tell(shape: SuiteShape, places: Places, measured: Watched, recipe: Path) -> None:
    """Report what was made and what it took."""
    expected = estimate(read_recipe(recipe))
    with featgraph.open(places.graph) as graph:

        def count(source: str) -> str:
            return f"{graph.sql(f'select count(*) from {source}', timeout=None).rows[0][0]:,}"

        steps = graph.manifest["steps"]
        n_features, n_edges = count("feature"), count("edge")
        kinds = graph.sql("select kind, sum(n_edges)::bigint from pair group by kind order by kind").rows
        events = [f"{count(f'{name}()')} {name}" for name in ("births", "deaths", "splits", "merges")]
    again = f", in {measured.attempts} attempts" if measured.attempts > 1 else ""
    cores = measured.processor_seconds / max(measured.seconds, 1e-9)
    memory = kilobytes(Path("/proc/meminfo"), "MemTotal")
    threads = os.environ.get("OMP_NUM_THREADS")
    rows = {
        "suite": f"{shape.layers} layers x {len(shape.sites)} sites x {shape.features:,} features x "
        f"{shape.d_model:,} dimensions, {human(occupied(places.suite))}",
        "machine": f"{os.cpu_count()} cores, {memory / 2**30:.0f} GiB, Python {platform.python_version()}"
        + (f", OMP_NUM_THREADS={threads}" if threads else ""),
        "ingest, wall time": f"{measured.seconds:,.0f} s{again}, {cores:.1f} cores busy",
        "memory at the peak": f"{human(measured.resident)} with mapped files, {human(measured.anonymous)} "
        f"without (estimate: {human(expected.memory)})",
        "disk at the peak": f"{human(measured.disk)}, the suite aside (estimate: {human(expected.building)})",
        "graph on disk": f"{human(occupied(places.graph))}, of it "
        f"{human((places.graph / 'graph.duckdb').stat().st_size)} of tables "
        f"(estimate: {human(expected.graph)})",
        "features": n_features,
        "edges": f"{n_edges} ({', '.join(f'{kind} {n:,}' for kind, n in kinds)})",
        "events at the default threshold": ", ".join(events),
    }
    report(places, f"### {shape.n_saes} SAEs, data-free\n\n| | |\n|---|---|")
    report(places, "\n".join(f"| {name} | {value} |" for name, value in rows.items()))
    report(places, "\n| step | steps | seconds |\n|---|--:|--:|")
    report(places, "\n".join(f"| {step['step']} | {step['n']} | {step['seconds']:,.1f} |" for step in steps))


def look_for_planted(shape: SuiteShape, places: Places) -> bool:
    """Report how many planted links are edges; return whether these are enough, with the right cosines."""
    links = list(shaped_suite.planted(shape, places.suite))
    if not links:
        return True
    report(places, f"\n| planted, cosine >= {THRESHOLD} | links | edges | largest error of cosine |")
    report(places, "|---|--:|--:|--:|")
    good = True
    for site, n, n_found, error in _found(places.graph, links):
        report(places, f"| {site}_res | {n:,} | {n_found:,} ({n_found / n:.2%}) | {error or 0:.1e} |")
        good &= n_found >= FOUND * n and (error or 0) <= SAME
    if not good:
        report(places, f"\nFAILED: less than {FOUND:.0%} of the planted links are edges, or cosines differ")
    return good


def _found(graph: Path, links: list[pa.Table]) -> list[tuple[Any, ...]]:
    """Return per site of the source: planted links, how many are edges, and how far cosines differ."""
    with connect(graph) as connection:
        connection.register("planted", pa.concat_tables(links))
        return connection.execute(
            """
            select p.src_site, count(*), count(e.cosine), max(abs(e.cosine - p.cosine))
            from planted p
            join sae s on s.layer = p.src_layer and s.site = p.src_site
            join sae d on d.layer = p.dst_layer and d.site = 'res'
            left join edge e on e.src = s.first_id + p.src_idx and e.dst = d.first_id + p.dst_idx
            where p.cosine >= $threshold
            group by p.src_site
            order by p.src_site desc
            """,
            {"threshold": THRESHOLD},
        ).fetchall()


def ask(places: Places, rounds: int) -> bool:
    """Run the query bench on the graph; return whether all went well."""
    bench = Path(__file__).with_name("queries.py")
    command = [sys.executable, str(bench), "--graph", str(places.graph), "--rounds", str(rounds)]
    say(" ".join(command[1:]))
    environment = _environment(places)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    report(places, done.stdout)
    return done.returncode == 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes")
    parser.add_argument("--layers", type=int, default=26)
    parser.add_argument("--features", type=int, default=16384, help="of each SAE")
    parser.add_argument("--d-model", type=int, default=2304)
    parser.add_argument("--sites", default=",".join(SITES), help="res, and which others")
    parser.add_argument("--top-k", type=int, default=8, help="candidates that each end of a pair keeps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7, help="of the questions; 0 asks none")
    parser.add_argument("--keep", action="store_true", help="leave suite and graph in the folder")
    parser.add_argument("--reuse", action="store_true", help="take the graph that an earlier run left")
    arguments = parser.parse_args()
    sites = arguments.sites.split(",")
    if "res" not in sites or not set(sites) <= set(SITES):
        parser.error(f"--sites takes res and any of the others: {','.join(SITES)}")
    arguments.sites = tuple(site for site in SITES if site in sites)
    return arguments


def main() -> None:
    given = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shape = SuiteShape(given.layers, given.sites, given.features, given.d_model, given.top_k, given.seed)
    places = Places(given.folder.resolve())
    places.folder.mkdir(parents=True, exist_ok=True)
    measured = Watched.read(places.measured, json.loads(json.dumps(asdict(shape))))
    made = measured.attempts > 0 and places.graph.is_dir()
    reused = given.reuse and made
    if given.reuse and not made:
        say("no graph of this shape was left here, so one is made")
    if made and not given.reuse:
        measured = Watched(measured.what)
    if not measured.attempts:
        shutil.rmtree(places.graph, ignore_errors=True)
    check_room(shape, places)
    recipe = shaped_suite.make(shape, places.suite, say)
    if not reused:
        build(recipe, places, measured)
    places.report.unlink(missing_ok=True)
    tell(shape, places, measured, recipe)
    good = look_for_planted(shape, places)
    good &= not given.rounds or ask(places, given.rounds)
    shutil.rmtree(places.scratch, ignore_errors=True)
    if good and not given.keep and not reused:
        for folder in (places.suite, places.graph):
            shutil.rmtree(folder)
        places.measured.unlink()
    say("done" if good else "done, with failures; --reuse takes the graph as it is")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
