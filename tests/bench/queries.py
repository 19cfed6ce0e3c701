"""Time the same questions in featgraph and in what one could use instead, on the same graphs, in turn.

pip install rustworkx ladybug
python tests/bench/queries.py --graphs DIR [--sizes XS,S,M] [--rounds 9] [--quick]
python tests/bench/queries.py --graph PATH [--rounds 9]

Makes the graphs that DIR lacks, or takes any one graph. Every answer is compared with featgraph's before
anything is timed; a row in which one differs is left out, with a message, and the program ends with 1.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cold
import layers
import worker
from cases import Arguments, cases
from peers import HOPS, PEERS, THRESHOLD, Shape, connect, read_shape

SIZES = {"XS": (26, 16384, 1.2), "S": (26, 16384, 8.0), "M": (26, 65536, 8.0)}
"""Layers, features per layer, edges per feature."""
WORKS = {
    "lineage": f"lineage of one feature, cosine >= {THRESHOLD} (ids)",
    "splits": f"all splits at {THRESHOLD} (id, number of children)",
    "children": f"all splits at {THRESHOLD} (id, children)",
    "best_path": "best product path over {hops} layers, all edges (ids)",
    "walks": f"walks of 1 to {HOPS} edges from a layer, cosine >= {THRESHOLD} (count, sum of lengths)",
}
"""Method of a peer -> how the table calls it."""
RESIDUAL = (
    "All questions are about residual features and the edges among them. Every peer leaves the other edges "
    "out: those with SQL by a condition on the kind, those in memory while loading."
)
"""What the questions mean on a graph with other sites."""
OURS = next(iter(PEERS))


@dataclass
class Table:
    """What was measured on one graph; a peer or a cell that is missing has a note instead."""

    title: str
    works: dict[str, str]
    """Work -> how the table calls it."""
    remark: str = ""
    loading: dict[str, tuple[float, int, int]] = field(default_factory=dict)
    """Peer -> seconds, bytes after loading, bytes after the first answers."""
    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Work -> peer -> seconds of one answer, one figure per round."""
    notes: dict[str, set[str]] = field(default_factory=dict)
    """Why -> the peers that have no figure."""
    faults: list[str] = field(default_factory=list)
    """Rows that were left out, and why."""


def measure(name: str, graph: Path, rounds: int) -> Table:
    """Load every peer in a process of its own, compare their answers, time them round by round."""
    shape = read_shape(graph)
    asked = cases(graph, shape)
    works = {work: text.format(hops=shape.hops) for work, text in WORKS.items()}
    table = Table(_title(name, graph, shape), works, RESIDUAL if shape.writers else "")
    with ExitStack() as stack:
        workers: dict[str, ProcessPoolExecutor] = {}
        for peer in PEERS:
            _say(f"{name}: loading {peer}")
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="featgraph-bench-")))
            pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
            stack.push(lambda *_, pool=pool: pool.submit(worker.close).result())
            loaded = pool.submit(worker.load, peer, graph, shape, scratch).result()
            if isinstance(loaded, worker.NoAnswer):
                if peer == OURS:
                    sys.exit(f"{peer} does not load {graph}: {loaded.reason}")
                _note(table, peer, "loading", loaded)
                continue
            workers[peer] = pool
            table.loading[peer] = (loaded, pool.submit(worker.grown).result(), 0)
        able = {work: _compare(table, workers, work, asked[work], shape) for work in WORKS}
        for peer, pool in workers.items():
            taken, before, _ = table.loading[peer]
            table.loading[peer] = (taken, before, pool.submit(worker.grown).result())
        table.times = {work: {peer: [] for peer in peers} for work, peers in able.items() if peers}
        for number in range(rounds):
            _say(f"{name}: round {number + 1} of {rounds}")
            for work, times in table.times.items():
                order = list(times)
                for peer in order[number % len(order) :] + order[: number % len(order)]:
                    times[peer].append(workers[peer].submit(worker.seconds, work, asked[work]).result())
    return table


def _compare(
    table: Table, workers: dict[str, ProcessPoolExecutor], work: str, asked: list[Arguments], shape: Shape
) -> list[str]:
    """Return the peers that can be timed on one question: none if any of them answers differently."""
    _say(f"comparing answers: {table.works[work]}")
    if not asked:
        table.notes[f"this graph has no case of: {table.works[work]}"] = set(workers)
        return []
    able: list[str] = []
    ours: list[Any] | None = None
    for peer, pool in workers.items():
        found = pool.submit(worker.answers, work, asked).result()
        if isinstance(found, worker.NoAnswer):
            _note(table, peer, table.works[work], found)
            if found.fault:
                return []
            continue
        plain = [comparable(work, answer, shape) for answer in found]
        if ours is None:
            ours = plain
        elif plain != ours:
            case = next(case for case, a, b in zip(asked, ours, plain, strict=True) if a != b)
            table.faults.append(f"{table.works[work]}: {peer} answers {case} otherwise than {able[0]}")
            return []
        able.append(peer)
    return able


def _note(table: Table, peer: str, what: str, missing: worker.NoAnswer) -> None:
    if missing.fault:
        table.faults.append(f"{what}: {peer} fails: {missing.reason}")
    else:
        table.notes.setdefault(missing.reason, set()).add(peer)


def comparable(work: str, answer: Any, shape: Shape) -> Any:
    """Return an answer in one form for all peers: ids for keys, rows in order."""
    if work == "lineage":
        return sorted(answer)
    if work == "splits":
        return sorted((int(feature), int(n)) for feature, n in answer)
    if work == "children":
        return sorted(
            (feature, sorted(shape.feature(child) if isinstance(child, str) else child for child in members))
            for feature, members in answer
        )
    return list(answer)


def _title(name: str, graph: Path, shape: Shape) -> str:
    passing = f"count(*) filter (cosine >= {THRESHOLD})"
    with connect(graph) as connection:
        edges, strong = connection.execute(f"select count(*), {passing} from edge").fetchall()[0]
        statement = f"select count(*), {passing} from edge e where true{shape.residual}"
        residual, strong_residual = connection.execute(statement).fetchall()[0]
    widths = {len(ids) for ids in shape.layers.values()}
    title = f"{name}: {len(shape.layers)} x {' or '.join(f'{width:,}' for width in sorted(widths))} "
    if not shape.writers:
        return f"{title}features, {edges:,} edges, {strong:,} of them >= {THRESHOLD}"
    return (
        f"{title}residual features, {residual:,} edges among them, {strong_residual:,} >= {THRESHOLD}; "
        f"with other sites {shape.n_features:,} features, {edges:,} edges"
    )


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def show(table: Table) -> None:
    """Print one graph's figures as Markdown."""
    print(f"\n### {table.title}\n")
    print(f"| median ms (times {OURS}) | {' | '.join(PEERS)} | fastest |")
    print(f"|---|{'--:|' * len(PEERS)}---|")
    for work, times in table.times.items():
        medians = {peer: statistics.median(measured) for peer, measured in times.items()}
        fastest = min(medians, key=medians.__getitem__)
        cells = {peer: _digits(1000 * median) + _ratio(times, peer) for peer, median in medians.items()}
        cells[fastest] = f"**{cells[fastest]}**"
        print(f"| {table.works[work]} | {_row(cells)} | {fastest} |")
    print(f"| loading, s | {_row({peer: _digits(took[0]) for peer, took in table.loading.items()})} | |")
    for place, when in ((1, "after loading"), (2, "after the first answers")):
        megabytes = {peer: _digits(took[place] / 1e6) for peer, took in table.loading.items()}
        print(f"| memory {when}, MB | {_row(megabytes)} | |")
    if table.remark:
        print(f"\n{table.remark}")
    for reason, peers in table.notes.items():
        print(f"\n`-` {', '.join(peer for peer in PEERS if peer in peers)}: {reason}.")
    for fault in table.faults:
        print(f"\nLEFT OUT {fault}")


def _row(cells: dict[str, str]) -> str:
    return " | ".join(cells.get(peer, "-") for peer in PEERS)


def _ratio(times: dict[str, list[float]], peer: str) -> str:
    """Return how many times as long as OURS a peer takes, the median of pairs of one round."""
    if peer == OURS:
        return ""
    pairs = zip(times[peer], times[OURS], strict=True)
    return f" ({_digits(statistics.median(theirs / ours for theirs, ours in pairs))})"


def _digits(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 10 else f"{figure:.2g}"


def measure_cold(name: str, graph: Path, rounds: int) -> bool:
    """Print what questions cost from a cold process, beside `import duckdb`; return whether all ran."""
    _say(f"{name}: cold processes")
    shape = read_shape(graph)
    key = _followed(graph, shape)
    edge = "e:res_res" if shape.writers else "e"
    passing = f"-[{edge} WHERE e.cosine >= {THRESHOLD}]->{{1,{HOPS}}}"
    match = f"MATCH p = (a '{key}'){passing}(b) RETURN b.key, weight(p)"
    featgraph = str(Path(sys.executable).with_name("featgraph"))
    commands = {"python -c 'import duckdb'": [sys.executable, "-c", "import duckdb"]}
    for statement in ("select count(*) from edge", match):
        commands[f'featgraph query {name}.featgraph "{statement}"'] = [
            featgraph, "query", str(graph), statement,
        ]  # fmt: skip
    commands[f"featgraph lineage {name}.featgraph {key}"] = [featgraph, "lineage", str(graph), key]
    times: dict[str, list[float]] = {}
    for label, command in commands.items():  # warms the page cache
        try:
            cold.seconds(command)
        except subprocess.CalledProcessError as error:
            print(f"LEFT OUT `{label}`: it ends with {error.returncode}\n")
        else:
            times[label] = []
    for _ in range(rounds):
        for label, measured in times.items():
            measured.append(cold.seconds(commands[label])[0])
    base = next(iter(times.values()))
    print("| cold process | median ms | times `import duckdb` |\n|---|--:|--:|")
    for label, measured in times.items():
        ratio = statistics.median(one / other for one, other in zip(measured, base, strict=True))
        print(f"| `{label}` | {1000 * statistics.median(measured):.0f} | {ratio:.2f} |")
    return times.keys() == commands.keys()


def _followed(graph: Path, shape: Shape) -> str:
    """Return the key of the first feature of the middle layer that a passing edge leaves, else its first."""
    start = shape.layers[shape.middle].start
    passing = f"src >= {start} and cosine >= {THRESHOLD}{shape.residual}"
    with connect(graph) as connection:
        first = connection.execute(f"select coalesce(min(src), {start}) from edge e where {passing}")
        return shape.key(first.fetchall()[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--graphs", type=Path, help="directory of random graphs, made if they are not there")
    place.add_argument("--graph", type=Path, help="any graph, instead of random ones")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="two rounds on the smallest graph")
    arguments = parser.parse_args()
    sizes = ["XS"] if arguments.quick else arguments.sizes.split(",")
    rounds = 2 if arguments.quick else arguments.rounds
    if arguments.graph:
        graphs = {arguments.graph.name.removesuffix(".featgraph"): arguments.graph}
    else:
        graphs = {name: layers.ready(arguments.graphs / f"{name}.featgraph", *SIZES[name]) for name in sizes}
    complete = True
    for name, graph in graphs.items():
        table = measure(name, graph, rounds)
        show(table)
        print(flush=True)
        complete &= measure_cold(name, graph, rounds) and not table.faults
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
