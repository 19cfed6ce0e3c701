"""How long statements take to become SQL: those of the language page and the fuzzer's seeds, on one graph.

python tests/bench/compile.py demo.featgraph
"""

import argparse
import re
import statistics
import sys
import time
from pathlib import Path

import featgraph
from featgraph.errors import FeatgraphError
from featgraph.query import explain
from featgraph.store import Store

TESTS = Path(__file__).parent.parent
ROUNDS = 7


def statements() -> list[tuple[str, dict[str, object]]]:
    """Return the statements, without those whose verb is computed while it is read."""
    sys.path.insert(0, str(TESTS))
    from helpers.fuzz_seeds import SEEDS

    page = (TESTS.parent / "queries" / "README.md").read_text(encoding="utf-8")
    asked = re.findall(r"^```sql\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    found = [
        *((text, dict[str, object]()) for text in asked),
        *((seed.text, seed.parameters) for seed in SEEDS),
    ]
    return [(text, values) for text, values in found if not re.search(r"\b(similar|components)\(", text)]


def milliseconds(store: Store, text: str, values: dict[str, object]) -> float:
    """Return the median time of a statement."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        explain(store, text, values)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path)
    arguments = parser.parse_args()
    measured: list[tuple[float, str]] = []
    with featgraph.open(arguments.graph) as graph:
        for text, values in statements():
            try:
                measured.append((milliseconds(graph.store, text, values), " ".join(text.split())))
            except FeatgraphError as error:  # a feature of the toy that this graph has not
                print(f"left out: {text.splitlines()[0]}: {error.args[0]}", file=sys.stderr)
    measured.sort(reverse=True)
    times = [taken for taken, _ in measured]
    print(f"{len(times)} statements: median {statistics.median(times):.2f} ms, largest {times[0]:.2f} ms")
    for taken, text in measured[:3]:
        print(f"  {taken:.2f} ms  {text[:100]}")


if __name__ == "__main__":
    main()
