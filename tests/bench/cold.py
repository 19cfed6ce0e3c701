"""Time commands from a cold process against `python -c "import duckdb"`, in turn, and print a table.

Both the time that passes and the processor time, which other work on the machine disturbs less.

python tests/bench/cold.py demo.featgraph 5/res/100
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> tuple[float, float]:
    """Run a command; return the seconds that passed, and those that it took of the processors."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


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
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for run in range(arguments.runs + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if run > 0:  # the first round warms the page cache
                times[name].append(taken)
    base = times["python -c 'import duckdb'"]
    print("| command | median ms | times `import duckdb`, median of pairs | likewise, processor time |")
    print("|---|--:|--:|--:|")
    for name, measured in times.items():
        wall, processor = (
            statistics.median(one[kind] / other[kind] for one, other in zip(measured, base, strict=True))
            for kind in (0, 1)
        )
        median = 1000 * statistics.median(passed for passed, _ in measured)
        print(f"| `{name}` | {median:.0f} | {wall:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()
