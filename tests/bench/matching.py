"""Time matching two SAEs against two searches of `faiss.IndexFlatIP`, or matching a suite, and print a table.

python tests/bench/matching.py
python tests/bench/matching.py --suite --layers 4
"""

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.edges import candidates, products
from featgraph.edges.candidates import Candidates

SITES = 3
"""SAEs per layer: residual, MLP and attention."""


def unit_rows(rng: np.random.Generator, n: int, d: int) -> Matrix:
    rows = rng.standard_normal((n, d), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def next_layer(rng: np.random.Generator, upstream: Matrix) -> Matrix:
    """Directions half of which are some of upstream, turned by up to a right angle; the others are new."""
    n, d = upstream.shape
    rows, half = unit_rows(rng, n, d), n // 2
    kept = rng.random((half, 1), dtype=np.float32)
    rows[:half] = kept * upstream[rng.permutation(n)[:half]] + np.sqrt(1 - kept**2) * rows[:half]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def two_searches(upstream: Matrix, downstream: Matrix, k: int) -> list[tuple[Matrix, Indices]]:
    found = []
    for near, far in ((upstream, downstream), (downstream, upstream)):
        index = faiss.IndexFlatIP(far.shape[1])
        index.add(far)
        found.append(index.search(near, k))
    return found


def same(found: Candidates, searched: list[tuple[Matrix, Indices]], k: int) -> int:
    """Return how many neighbours differ, all of them ties to FAISS's rounding; exit where one is no tie."""
    ties = 0
    ends = ((found.src, found.dst, found.rank_out), (found.dst, found.src, found.rank_in))
    for (own, other, rank), (value, place) in zip(ends, searched, strict=True):
        order = np.lexsort((rank, own))
        best = order[rank[order] <= k].reshape(-1, k)
        differs = other[best] != place
        if (np.abs(found.cosine[best] - value)[differs] > 1e-6).any():
            sys.exit("the neighbours are not those that FAISS finds")
        ties += int(differs.sum())
    return ties


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def grown(run: Callable[[], object]) -> int:
    """Return by how much the memory of this process grows meanwhile, MiB, or -1 where it is not Linux."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        run()
        return -1
    # 5 sets the peak back to what is in use now. Source: proc_pid_clear_refs(5).
    reset.write_text("5")
    before = _kib(status, "VmRSS")
    run()
    return (_kib(status, "VmHWM") - before) // 1024


def _kib(status: Path, name: str) -> int:
    return int(re.findall(rf"{name}:\s+(\d+) kB", status.read_text())[0])


def growth(way: str, arguments: argparse.Namespace) -> int:
    """Return by how much the memory of a process of its own grows, once it has both SAEs and is warm, MiB."""
    command = [sys.executable, __file__, "--grow", way]
    for name in ("features", "dim", "k", "seed"):
        command += [f"--{name}", str(getattr(arguments, name))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def grow(way: str, upstream: Matrix, downstream: Matrix, k: int) -> None:
    run = {"featgraph": candidates, "faiss": two_searches}[way]
    run(upstream[:2000], downstream[:2000], k)
    print(grown(lambda: run(upstream, downstream, k)))


def product_seconds(n: int, d: int) -> float:
    """Return how long torch takes for the product alone, where and in the dtype that featgraph chose."""
    import torch

    device, dtype = products.fastest()
    rows = torch.randn((n, d), dtype=dtype, device=device)

    def product() -> None:
        # Copying one number back waits for a GPU.
        (rows @ rows.T)[0, 0].item()

    return min(seconds(product) for _ in range(4))


def one_pair(upstream: Matrix, downstream: Matrix, arguments: argparse.Namespace) -> None:
    k, (n, d) = arguments.k, upstream.shape
    ties = same(candidates(upstream, downstream, k), two_searches(upstream, downstream, k), k)
    print(f"The answers are the same but for {ties} of {4 * n * k // 2} neighbours that tie within 1e-6.\n")
    runs: dict[str, Callable[[], object]] = {
        "two `IndexFlatIP` searches": lambda: two_searches(upstream, downstream, k),
        "featgraph": lambda: candidates(upstream, downstream, k),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(arguments.rounds):
        for name in sorted(runs, reverse=turn % 2 == 1):
            times[name].append(seconds(runs[name]))
    base = times["two `IndexFlatIP` searches"]
    device, dtype = products.fastest()
    plain = product_seconds(n, d)
    print(f"{n:,} x {n:,} x {d:,}, k = {k}, {faiss.omp_get_max_threads()} threads, {device.type}, {dtype}\n")
    print("| | median s | times faster, median of pairs | range | TFLOP/s | memory beyond the SAEs, MiB |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, way in zip(runs, ("faiss", "featgraph"), strict=True):
        ratios = [b / own for b, own in zip(base, times[name], strict=True)]
        median = statistics.median(times[name])
        # Both ways in one product, or each in its own.
        flop = 2 * n * n * d * (2 if way == "faiss" else 1)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| {name} | {median:.2f} | {statistics.median(ratios):.2f} | {spread} "
            f"| {flop / median / 1e12:.3g} | {growth(way, arguments)} |"
        )
    print(f"| the product alone | {plain:.2f} | | | {2 * n * n * d / plain / 1e12:.3g} | |")


def suite(arguments: argparse.Namespace) -> None:
    """Match all pairs of a suite whose directions lie in memory, as an ingest would."""
    rng = np.random.default_rng(arguments.seed)
    layers: list[list[Matrix]] = []
    for layer in range(arguments.layers):
        residual = (
            next_layer(rng, layers[-1][0]) if layer else unit_rows(rng, arguments.features, arguments.dim)
        )
        layers.append([residual, *(next_layer(rng, residual) for _ in range(SITES - 1))])
    pairs = [(above[0], below[0]) for above, below in itertools.pairwise(layers)]
    pairs += [(writer, layer[0]) for layer in layers for writer in layer[1:]]
    candidates(layers[0][0][:2000], layers[0][1][:2000], arguments.k)
    times, found = [], 0

    def match() -> None:
        nonlocal found
        for upstream, downstream in pairs:
            began = time.perf_counter()
            found += len(candidates(upstream, downstream, arguments.k))
            times.append(time.perf_counter() - began)

    beyond = grown(match)
    device, dtype = products.fastest()
    n, d = arguments.features, arguments.dim
    shape = f"{arguments.layers} layers x {SITES} sites x {n:,} x {d:,}, k = {arguments.k}"
    print(f"{shape}, {faiss.omp_get_max_threads()} threads, {device.type}, {dtype}\n")
    print("| pairs | candidates | s | median s | TFLOP/s | of the plain rate | memory beyond the SAEs, MiB |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    rate, plain = 2 * n * n * d * len(pairs) / sum(times) / 1e12, product_seconds(n, d) * len(pairs)
    print(
        f"| {len(pairs)} | {found:,} | {sum(times):.1f} | {statistics.median(times):.2f} | {rate:.3g} "
        f"| {plain / sum(times):.0%} | {beyond} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=16384)
    parser.add_argument("--dim", type=int, default=2304)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suite", action="store_true", help="all pairs of a suite instead of one pair")
    parser.add_argument(
        "--layers", type=int, default=26, help="of the suite; a layer takes 432 MiB at full size"
    )
    parser.add_argument("--grow", choices=["featgraph", "faiss"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.suite:
        suite(arguments)
        return
    rng = np.random.default_rng(arguments.seed)
    upstream = unit_rows(rng, arguments.features, arguments.dim)
    downstream = next_layer(rng, upstream)
    if arguments.grow:
        grow(arguments.grow, upstream, downstream, arguments.k)
        return
    one_pair(upstream, downstream, arguments)


if __name__ == "__main__":
    main()
