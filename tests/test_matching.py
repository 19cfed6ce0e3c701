"""Candidates and the null, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featgraph import matching
from featgraph.arrays import Matrix
from featgraph.matching import best_cosine, candidates, null_best_cosine


def unit_rows(rng: np.random.Generator, n: int, d: int) -> Matrix:
    rows = rng.normal(size=(n, d)).astype(np.float32)
    unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def brute_force(upstream: Matrix, downstream: Matrix, k: int) -> dict[tuple[int, int], tuple[int, int]]:
    """The kept pairs with their ranks among the kept, straight from the definition."""
    cosine = upstream @ downstream.T
    pairs = set()
    for src in range(len(upstream)):
        pairs |= {
            (src, dst) for dst in sorted(range(len(downstream)), key=lambda d: (-cosine[src, d], d))[:k]
        }
    for dst in range(len(downstream)):
        pairs |= {(src, dst) for src in sorted(range(len(upstream)), key=lambda s: (-cosine[s, dst], s))[:k]}
    found = {}
    for src, dst in pairs:
        out = sorted((d for s, d in pairs if s == src), key=lambda d: (-cosine[src, d], d))
        into = sorted((s for s, d in pairs if d == dst), key=lambda s: (-cosine[s, dst], s))
        found[src, dst] = (1 + out.index(dst), 1 + into.index(src))
    return found


def as_dict(found: matching.Candidates) -> dict[tuple[int, int], tuple[int, int]]:
    columns = (found.src, found.dst, found.rank_out, found.rank_in)
    return {(s, d): (o, i) for s, d, o, i in zip(*(column.tolist() for column in columns), strict=True)}


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 6),
    st.sampled_from([3, 7, 4096]),
)
def test_candidates_equal_brute_force_for_any_sizes_and_tiles(
    seed: int, n: int, m: int, k: int, tile: int
) -> None:
    rng = np.random.default_rng(seed)
    upstream, downstream = unit_rows(rng, n, 5), unit_rows(rng, m, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "TILE", tile)
        found = candidates(upstream, downstream, k)
    assert as_dict(found) == brute_force(upstream, downstream, k)


def test_equal_cosines_go_to_the_smaller_index_at_either_end() -> None:
    same = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (5, 1))
    found = candidates(same, same, 2)
    assert as_dict(found) == brute_force(same, same, 2)
    assert found.rank_out[(found.src == 3) & (found.dst == 0)] == 1


def test_candidates_come_ordered_by_source_then_target_and_carry_their_cosine() -> None:
    rng = np.random.default_rng(3)
    upstream, downstream = unit_rows(rng, 20, 6), unit_rows(rng, 25, 6)
    found = candidates(upstream, downstream, 4)
    assert (np.diff(found.src * 25 + found.dst) > 0).all()
    np.testing.assert_allclose(found.cosine, (upstream @ downstream.T)[found.src, found.dst], atol=1e-6)


def test_best_cosine_is_the_largest_over_all_sources() -> None:
    rng = np.random.default_rng(4)
    upstream, downstream = unit_rows(rng, 20, 6), unit_rows(rng, 25, 6)
    found = candidates(upstream, downstream, 1)
    best = best_cosine(25, found.dst, found.cosine)
    np.testing.assert_allclose(best, (upstream @ downstream.T).max(axis=0), atol=1e-6)


def test_the_null_of_independent_directions_is_near_its_formula() -> None:
    rng = np.random.default_rng(5)
    upstream, downstream = unit_rows(rng, 2000, 256), unit_rows(rng, 500, 256)
    mean = float(null_best_cosine(upstream, downstream, rng).mean())
    assert mean == pytest.approx(np.sqrt(2 * np.log(2000) / 256), rel=0.15)


def test_the_null_forgets_a_perfect_match() -> None:
    rng = np.random.default_rng(6)
    rows = unit_rows(rng, 300, 128)
    assert float((rows @ rows.T).max(axis=0).min()) > 0.99
    assert float(null_best_cosine(rows, rows, rng).max()) < 0.6
