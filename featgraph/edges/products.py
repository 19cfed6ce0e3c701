"""Multiplies directions: chooses device and dtype, and bounds the error of the products.

In bfloat16 where the hardware makes that fast. Knows nothing of neighbours, which `tiles` finds by products.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeVar

from featgraph.core.arrays import Indices, Matrix

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

FASTER = 1.5
"""Speed-up from which bfloat16 is used: its error bound is wider and leaves more pairs to check. Our
choice."""

TRIALS = 20
"""Timed products per dtype, of which the fastest counts: about 0.2 s once per process. Our choice."""

CHUNK = 256
"""Directions rounded at once. Our choice: bounds memory."""


class Run(Protocol):
    """A function like `map`, which may use threads."""

    def __call__(self, work: Callable[[int], T], items: Iterable[int], /) -> Iterable[T]:
        """Call `work` with each number and yield the results in order."""


@dataclass(frozen=True)
class Rounded:
    """Rounded directions with the norms of their rounding errors."""

    rows: "Tensor"
    """Rounded directions in the dtype of the products, (n, d_model)."""
    norm: "Tensor"
    """Norms before rounding, (n,)."""
    lost: "Tensor"
    """Norms of the rounding errors, (n,)."""

    def margin(self, other: "Rounded") -> "Tensor":
        """Return the error bound of each direction's products with the others, (n,)."""
        return margin(self.rows.shape[1], self.norm, self.lost, other.norm.max(), other.lost.max())


def margin(d_model: int, norm: "Tensor", lost: "Tensor", norms: "Tensor", losses: "Tensor") -> "Tensor":
    """Return the error bound of products, before the products themselves are rounded.

    norm, lost: norms of a direction and of its rounding error. norms, losses: those of the other direction,
    or the largest of several.

    With x and y exact, x' and y' rounded, d = d_model and u = 2^-23:
    |x.y - x'.y'| <= |x - x'| |y'| + |x| |y - y'| (Cauchy-Schwarz); summing x'.y' in float32 is off by at most
    d u |x'| |y'|, and so is the float32 cosine that the pair gets in the end by d u |x| |y|.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5 (inner products, in
    any order). u is twice float32's unit roundoff: GPUs truncate where CPUs round (M. Fasi et al., Numerical
    behavior of NVIDIA tensor cores, 2021), and lengths and bounds are computed in float32 themselves.
    """
    rounding = lost * (norms + losses) + norm * losses
    return rounding + 2 * d_model * 2.0**-23 * (norm + lost) * (norms + losses)


def rounding(dtype: "torch.dtype") -> float:
    """Return the largest relative error of rounding to nearest: half a unit in the last place.

    Source: IEEE 754-2019, section 4.3.1.
    """
    import torch

    return torch.finfo(dtype).eps / 2


@cache
def fastest() -> "tuple[torch.device, torch.dtype]":
    """Return the device and dtype of the fastest products, by timing small ones."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    dtypes = (torch.bfloat16, torch.float32)
    rows = {dtype: torch.ones((1024, 512), dtype=dtype, device=device) for dtype in dtypes}
    taken = dict.fromkeys(dtypes, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(TRIALS):  # Alternate, so that other processes slow down both alike.
            for dtype in dtypes:
                start = perf_counter()
                (rows[dtype] @ rows[dtype].T)[0, 0].item()
                taken[dtype] = min(taken[dtype], perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    faster = FASTER * taken[torch.bfloat16] < taken[torch.float32]
    return device, torch.bfloat16 if faster else torch.float32


def rounded(
    directions: Matrix,
    features: Indices,
    dtype: "torch.dtype",
    device: "torch.device",
    run: "Run" = map,
) -> Rounded:
    """Return directions rounded for the products, without a second float32 copy of all.

    run: maps a function over numbers, perhaps in threads.
    """
    import torch

    rows = torch.empty((len(features), directions.shape[1]), dtype=dtype, device=device)
    norm, lost = (torch.empty(len(features), device=device) for _ in range(2))

    def copy(start: int) -> None:
        part = slice(start, start + CHUNK)
        exact = torch.from_numpy(directions[features[part]]).to(device)
        rows[part] = exact
        norm[part] = torch.linalg.vector_norm(exact, dim=1)
        lost[part] = torch.linalg.vector_norm(exact - rows[part], dim=1)

    deque(run(copy, range(0, len(features), CHUNK)), maxlen=0)
    return Rounded(rows, norm, lost)


@contextmanager
def prepared(device: "torch.device") -> "Iterator[Run]":
    """Make torch sum products in float32, as the error bounds assume; restore its settings afterwards.

    Each call of the yielded function has a thread to itself: threads that share a product wait for each
    other at each step of it, which takes very long where another process uses their cores. Results come in
    order, at most two per thread ahead of the caller.

    Source: PyTorch documentation, Numerical accuracy: TF32, reduced precision reduction of bf16 GEMMs.
    """
    import torch

    cuda, precision = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    reduced, threads = cuda.allow_bf16_reduced_precision_reduction, torch.get_num_threads()
    cuda.allow_bf16_reduced_precision_reduction = False
    torch.set_float32_matmul_precision("highest")
    workers = threads if device.type == "cpu" else 1
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def run(work: Callable[[int], T], items: Iterable[int]) -> Iterator[T]:
                ahead: deque[Future[T]] = deque()
                for item in items:
                    ahead.append(pool.submit(work, item))
                    if len(ahead) >= 2 * workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()

            yield run
    finally:
        cuda.allow_bf16_reduced_precision_reduction = reduced
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
