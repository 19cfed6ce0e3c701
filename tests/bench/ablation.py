"""Ablate a graph's edges at random, and compare rules and measures that point at what a feature depends on.

python tests/bench/ablation.py --graph demo.featgraph [--edges 4000] [--targets 4000] [--seed 0]

Works on a copy of the graph, prints Markdown, and needs the graph's model. `ablation.md` has what it printed.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import featgraph
from featgraph import ablation
from featgraph.ablation.predicting import MIN_TOKENS, STRONG
from featgraph.core.keys import EDGE_KINDS
from featgraph.core.progress import Bars
from featgraph.core.result import Result

SOME = """
    select src, dst from (select src, dst from edge where kind = '{kind}')
    using sample {n} rows (reservoir, {seed})
"""

_SPREAD = """
    select kind, count(*) as edges, avg((n_both = 0)::int) as never_together,
        avg(ablation_change) as mean_change, quantile_cont(ablation_change, 0.5) as median,
        quantile_cont(ablation_change, 0.9) as q90, avg((ablation_change >= $strong)::int) as strong
    from edge where ablation_n is not null and (ablation_n = 0 or ablation_n >= $least)
    group by kind order by kind
"""

_BY_COSINE = """
    select kind, floor(cosine * 5) / 5 as cosine_from, count(*) as edges, avg(ablation_change) as mean_change,
        avg((ablation_change >= $strong)::int) as strong
    from edge where ablation_n >= $least
    group by all order by all
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--edges", type=int, default=4000, help="edges, a third of each kind")
    parser.add_argument("--targets", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Bars() as progress:
        graph = Path(shutil.copytree(given.graph, Path(folder) / given.graph.name))
        started = time.perf_counter()
        rules = ablation.baselines(graph, sample=given.targets, seed=given.seed, progress=progress)
        print(f"## Rules\n\n{given.targets:,} targets, {time.perf_counter() - started:.0f} s\n")
        print(rules_table(rules), flush=True)
        started = time.perf_counter()
        each = given.edges // len(EDGE_KINDS)
        parts = [f"({SOME.format(kind=kind, n=each, seed=given.seed)})" for kind in EDGE_KINDS]
        ablation.ablate(graph, " union all ".join(parts), sample=None, seed=given.seed, progress=progress)
        print(f"## Edges\n\n{3 * each:,} edges, {time.perf_counter() - started:.0f} s\n")
        with featgraph.open(graph) as opened:
            for statement in (_SPREAD, _BY_COSINE):
                found = opened.sql(statement, {"strong": STRONG, "least": MIN_TOKENS})
                print(table(found.columns, [list(row) for row in found]))
            print(measures_table(ablation.predictions(opened.store, seed=given.seed)))


def rules_table(found: Result) -> str:
    """One row per pool and rule, with intervals in brackets."""
    rows = [
        [
            row["candidates"],
            row["method"],
            row["n_targets"],
            row["fires"],
            row["n"],
            *(span(row, name) for name in ("change", "success")),
        ]
        for row in found.dicts()
    ]
    return table(["candidates", "method", "targets", "fires", "n", "change", "success"], rows)


def measures_table(found: Result) -> str:
    """One row per kind of edge and measure."""
    rows = [
        [
            row["kind"],
            row["found_by"],
            row["measure"],
            row["n"],
            row["n_strong"],
            span(row, "auroc"),
            span(row, "spearman"),
        ]
        for row in found.dicts()
    ]
    return table(["kind", "found by", "measure", "edges", "strong", "AUROC", "Spearman"], rows)


def span(row: dict[str, object], name: str) -> str:
    """Return a figure and its interval."""
    middle, low, high = (shown(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{middle} [{low}, {high}]"


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(columns), ["---"] * len(columns), *([shown(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
