"""Time commands from a cold process against `python -c "import duckdb"`, in turn, and print a table.

python tests/bench/cold.py demo.featgraph 5/res/100
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path)
    parser.add_argument("key")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    graph, key = str(arguments.graph), arguments.key
    featgraph = str(Path(sys.executable).with_name("featgraph"))
    commands = {
        "python -c 'import duckdb'": [sys.executable, "-c", "import duckdb"],
        "featgraph --help": [featgraph, "--help"],
        f"featgraph lineage GRAPH {key}": [featgraph, "lineage", graph, key],
        f"featgraph lineage GRAPH {key} --format json": [
            featgraph, "lineage", graph, key, "--format", "json"
        ],
        "featgraph query GRAPH 'select count(*) from edge'": [
            featgraph, "query", graph, "select count(*) from edge"
        ],
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(arguments.runs + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if run > 0:  # the first round warms the page cache
                times[name].append(taken)
    base = times["python -c 'import duckdb'"]
    print("| command | median ms | times `import duckdb`, median of pairs |\n|---|--:|--:|")
    for name, measured in times.items():
        ratio = statistics.median(one / other for one, other in zip(measured, base, strict=True))
        print(f"| `{name}` | {1000 * statistics.median(measured):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
