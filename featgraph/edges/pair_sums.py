"""Sums over tokens for pairs of features, from sparse codes: some upstream ones with all downstream ones.

A block keeps its sums in dense arrays, or in sparse ones where few of its pairs meet at all. Dense products
come from MKL, which torch carries on x86, and from scipy elsewhere; both let other threads run meanwhile.
"""

import warnings
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices, Sums

FINE = 2**19
"""Downstream codes multiplied at once where each is used often: 6 MB, small enough for the cache."""

FINE_SUM = 1.5
"""Products per pair and run of tokens from which that pays; measured, tests/bench/README.md."""

EXACT = 2**24
"""float32 counts exactly below this. Source: IEEE 754, 24 bits of significand."""

_probing = Lock()


class TokenRun(NamedTuple):
    """A run of tokens of the downstream codes, as `_multiply` takes them."""

    tokens: slice
    values: Any
    inverse: Any
    ones: Any


class Downstream:
    """Downstream codes on fewer than EXACT tokens, (n_tokens, n_d), made ready for many products.

    No code is an explicit zero.
    """

    def __init__(self, codes: scipy.sparse.csr_matrix) -> None:
        self.n_tokens = codes.shape[0]
        self.l0 = codes.nnz / max(self.n_tokens, 1)
        self.values, self.ones = codes.astype(np.float64), _ones(codes)
        self.inverse = _inverse(self.values)
        self.whole = [self._run(0, self.n_tokens)]
        step = max(1, int(FINE / max(self.l0, 1)))
        self.fine = [self._run(start, start + step) for start in range(0, self.n_tokens, step)]

    def _run(self, start: int, stop: int) -> TokenRun:
        tokens = slice(start, min(stop, self.n_tokens))
        return TokenRun(
            tokens, *(_operand(_rows(codes, tokens)) for codes in (self.values, self.inverse, self.ones))
        )


class DenseBlock:
    """n_both, sums of u d and of u / d of some upstream features with all others, in dense arrays."""

    def __init__(self, n_rows: int, n_downstream: int, n_tokens: int) -> None:
        counting = np.float32 if n_tokens < EXACT else np.float64
        self.n_both = np.zeros((n_rows, n_downstream), dtype=counting)
        self.product: Sums = np.zeros((n_rows, n_downstream))
        self.ratio: Sums = np.zeros((n_rows, n_downstream))
        self._empty = True

    def add(self, rows: scipy.sparse.csr_matrix, downstream: Downstream) -> None:
        """Add some tokens; rows: the block's codes on them, (n_rows, n_tokens)."""
        fine = rows.nnz * downstream.l0 >= FINE_SUM * len(downstream.fine) * self.n_both.size
        for run in downstream.fine if fine else downstream.whole:
            part = rows[:, run.tokens] if fine else rows
            values = part.astype(np.float64)
            _add(self.product, values, run.values, replace=self._empty)
            _add(self.ratio, values, run.inverse, replace=self._empty)
            _add(self.n_both, _ones(part), run.ones, replace=self._empty)
            self._empty = False

    def at_least(self, n: int) -> tuple[Indices, Indices]:
        """Return row and column of the pairs with both features active on n tokens or more."""
        row, column = np.divmod(np.flatnonzero(self.n_both >= n), self.n_both.shape[1])
        return row, column

    def at(self, row: Indices, column: Indices) -> tuple[Counts, Sums, Sums]:
        """Return n_both, the sum of u d and the sum of u / d of some pairs."""
        return self.n_both[row, column].astype(np.int64), self.product[row, column], self.ratio[row, column]


class SparseBlock:
    """The same sums in sparse arrays, for rare features, which co-fire with few others; n_both stays below
    EXACT."""

    def __init__(self, n_rows: int, n_downstream: int) -> None:
        self.n_both = scipy.sparse.csr_matrix((n_rows, n_downstream), dtype=np.float32)
        self.product = scipy.sparse.csr_matrix((n_rows, n_downstream), dtype=np.float64)
        self.ratio = scipy.sparse.csr_matrix((n_rows, n_downstream), dtype=np.float64)
        self._empty = True

    def add(self, rows: scipy.sparse.csr_matrix, downstream: Downstream) -> None:
        """Add some tokens; rows: the block's codes on them, (n_rows, n_tokens)."""
        values, n_both = rows.astype(np.float64), _ones(rows) @ downstream.ones
        product, ratio = values @ downstream.values, values @ downstream.inverse
        self.product = product if self._empty else self.product + product
        self.ratio = ratio if self._empty else self.ratio + ratio
        self.n_both = n_both if self._empty else self.n_both + n_both
        self._empty = False

    def at_least(self, n: int) -> tuple[Indices, Indices]:
        """Return row and column of the pairs with both features active on n tokens or more."""
        kept = np.flatnonzero(self.n_both.data >= n)
        row = np.searchsorted(self.n_both.indptr, kept, side="right") - 1
        return row, self.n_both.indices[kept].astype(np.int64)

    def at(self, row: Indices, column: Indices) -> tuple[Counts, Sums, Sums]:
        """Return n_both, the sum of u d and the sum of u / d of some pairs."""
        entries = _entries(self.n_both, row, column)

        def values(sums: scipy.sparse.csr_matrix) -> Sums:
            # Sums that cancel to 0 have no entry; without such sums, all matrices have the same entries.
            same = np.array_equal(sums.indices, self.n_both.indices)
            return _values(sums, entries if same else _entries(sums, row, column))

        n_both = _values(self.n_both, entries).astype(np.int64)
        return n_both, values(self.product), values(self.ratio)


def _entries(sums: scipy.sparse.csr_matrix, row: Indices, column: Indices) -> Indices:
    """Return the index of some pairs in `sums.data`, from 1; 0 for a pair without an entry."""
    if not len(row):
        return np.zeros(0, dtype=np.int64)
    numbers = np.arange(1, sums.nnz + 1)
    numbered = scipy.sparse.csr_matrix((numbers, sums.indices, sums.indptr), shape=sums.shape)
    entries: Indices = np.asarray(numbered[row, column]).ravel()
    return entries


def _values(sums: scipy.sparse.csr_matrix, entries: Indices) -> Sums:
    values: Sums = np.r_[0.0, sums.data][entries]
    return values


def _add(sums: NDArray[Any], left: scipy.sparse.csr_matrix, right: Any, *, replace: bool) -> None:
    """Add left @ right to dense sums."""
    if replace and sums.dtype == left.dtype:
        _multiply(left, right, sums)
    else:
        product = np.empty(sums.shape, dtype=left.dtype)
        _multiply(left, right, product)
        np.add(sums, product, out=sums)


def _multiply(left: scipy.sparse.csr_matrix, right: Any, out: NDArray[Any]) -> None:
    if isinstance(right, scipy.sparse.csr_matrix):
        (left @ right).toarray(out=out)
    else:
        import torch

        torch.mm(_tensor(left), right, out=torch.from_numpy(out))


def _operand(codes: scipy.sparse.csr_matrix) -> Any:
    """Return codes as a sparse torch tensor for MKL; unchanged without MKL."""
    return _tensor(codes) if _mkl() else codes


def _tensor(codes: scipy.sparse.csr_matrix) -> Any:
    import torch

    starts, column, values = (torch.from_numpy(part) for part in (codes.indptr, codes.indices, codes.data))
    return torch.sparse_csr_tensor(starts, column, values, codes.shape, check_invariants=False)


def _mkl() -> bool:
    with _probing:
        return _multiplies()


@cache
def _multiplies() -> bool:
    """Whether torch can multiply sparse matrices into a dense one here; silence its warning that this is
    new."""
    import torch

    one = scipy.sparse.csr_matrix(np.ones((1, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            torch.mm(_tensor(one), _tensor(one), out=torch.empty((1, 1), dtype=torch.float64))
        except RuntimeError:
            return False
    return True


def _rows(codes: scipy.sparse.csr_matrix, tokens: slice) -> scipy.sparse.csr_matrix:
    """Return some rows without copying their codes."""
    starts = codes.indptr[tokens.start : tokens.stop + 1]
    inside = slice(starts[0], starts[-1])
    shape = (tokens.stop - tokens.start, codes.shape[1])
    parts = (codes.data[inside], codes.indices[inside], starts - starts[0])
    return scipy.sparse.csr_matrix(parts, shape=shape)


def _inverse(codes: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Return the codes with 1 / activation in place of each activation."""
    return scipy.sparse.csr_matrix((1 / codes.data, codes.indices, codes.indptr), shape=codes.shape)


def _ones(codes: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Return the codes with 1 in place of each activation."""
    data = np.ones(len(codes.data), dtype=np.float32)
    return scipy.sparse.csr_matrix((data, codes.indices, codes.indptr), shape=codes.shape)
