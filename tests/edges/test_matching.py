"""Candidates and the null, against brute force."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featgraph.core.arrays import Indices
from featgraph.core.ranking import ranks
from featgraph.edges import candidates
from featgraph.edges.candidates import best_cosine, cosines, null_best_cosine
from helpers.crowds import Forced, all_cosines, as_dict, by_definition, crowds, forced, unit, unit_rows
from helpers.examples import examples


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("d", [3, 64, 257])
@pytest.mark.parametrize("k", [1, 8, 50])
@pytest.mark.parametrize("crowd", sorted(crowds(0, 3)))
def test_candidates_are_exact_however_directions_crowd(crowd: str, d: int, k: int, dtype: str) -> None:
    upstream, downstream = crowds(d + k, d)[crowd]
    with forced(Forced(dtype, tile=40, block=56, group=4, held=900)):
        found = candidates(upstream, downstream, k)
    assert as_dict(found) == by_definition(upstream, downstream, k)


@settings(deadline=None, max_examples=examples(60))
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 6),
    st.builds(
        Forced,
        st.sampled_from(["bfloat16", "float32"]),
        tile=st.sampled_from([3, 7, 4096]),
        block=st.sampled_from([1, 5, 4096]),
        group=st.sampled_from([1, 4, 64]),
        held=st.sampled_from([1, 30, 4096]),
    ),
)
def test_candidates_equal_brute_force_for_any_sizes_and_tiles(
    seed: int, n: int, m: int, k: int, setting: Forced
) -> None:
    rng = np.random.default_rng(seed)
    upstream, downstream = unit_rows(rng, n, 5), unit_rows(rng, m, 5)
    with forced(setting):
        found = candidates(upstream, downstream, k)
    assert as_dict(found) == by_definition(upstream, downstream, k)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_two_searches_of_faiss_find_the_same(dtype: str) -> None:
    rng = np.random.default_rng(1)
    upstream, downstream = unit_rows(rng, 700, 96), unit_rows(rng, 900, 96)
    downstream[:300] = unit(downstream[0] + 1e-4 * downstream[:300])
    with forced(Forced(dtype, tile=256, block=512)):
        found = candidates(upstream, downstream, 8)
    for near, far, own, other, rank in (
        (upstream, downstream, found.src, found.dst, found.rank_out),
        (downstream, upstream, found.dst, found.src, found.rank_in),
    ):
        index = faiss.IndexFlatIP(96)
        index.add(far)
        value, place = index.search(near, 9)
        order = np.lexsort((rank, own))
        best = order[rank[order] <= 8].reshape(-1, 8)
        np.testing.assert_array_equal(own[best], np.arange(len(near))[:, None].repeat(8, axis=1))
        np.testing.assert_allclose(found.cosine[best], value[:, :8], atol=1e-6)
        # FAISS rounds otherwise, so it may order differently what differs by no more than that.
        clear = (np.diff(value, axis=1) < -1e-6).all(axis=1)
        assert clear.mean() > 0.5
        np.testing.assert_array_equal(other[best][clear], place[clear, :8])


def test_equal_cosines_go_to_the_smaller_index_at_either_end() -> None:
    same = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (5, 1))
    found = candidates(same, same, 2)
    assert as_dict(found) == by_definition(same, same, 2)
    assert found.rank_out[(found.src == 3) & (found.dst == 0)] == 1


def test_directions_of_length_zero_are_as_far_from_all() -> None:
    zero, one = np.zeros((2, 3), dtype=np.float32), np.eye(1, 3, dtype=np.float32)
    found = candidates(np.concatenate([zero, -one]), np.concatenate([one, zero]), 1)
    assert as_dict(found) == {(0, 0): (1, 1), (0, 1): (2, 1), (0, 2): (3, 1), (1, 0): (1, 2), (2, 1): (1, 2)}
    assert found.cosine.tolist() == [0.0] * 5


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0), (0, 0)])
def test_an_empty_side_has_no_candidates(n: int, m: int) -> None:
    rng = np.random.default_rng(2)
    found = candidates(unit_rows(rng, n, 3), unit_rows(rng, m, 3), 2)
    assert len(found) == 0
    assert null_best_cosine(unit_rows(rng, n, 3), unit_rows(rng, m, 3), rng).tolist() == [-1.0] * m


def test_directions_that_may_not_be_written_are_read() -> None:
    rows = unit_rows(np.random.default_rng(2), 20, 6)
    rows.flags.writeable = False
    assert as_dict(candidates(rows, rows, 3)) == by_definition(rows, rows, 3)


def test_candidates_come_ordered_by_source_then_target_and_carry_their_cosine() -> None:
    rng = np.random.default_rng(3)
    upstream, downstream = unit_rows(rng, 20, 6), unit_rows(rng, 25, 6)
    found = candidates(upstream, downstream, 4)
    assert (np.diff(found.src * 25 + found.dst) > 0).all()
    np.testing.assert_array_equal(found.cosine, all_cosines(upstream, downstream)[found.src, found.dst])


@pytest.mark.parametrize("d", [1, 3, 64, 257])
def test_the_cosine_of_a_pair_depends_on_nothing_else(d: int) -> None:
    rng = np.random.default_rng(d)
    upstream, downstream = unit_rows(rng, 30, d), unit_rows(rng, 40, d)
    src, dst = rng.integers(0, 30, 200), rng.integers(0, 40, 200)
    found = cosines(upstream, downstream, src, dst)
    for place in range(200):
        alone = upstream[src[place]][None].copy(), downstream[: dst[place] + 1].copy()
        assert cosines(*alone, _one(0), dst[place : place + 1]) == found[place]
    assert found.tolist() == cosines(downstream, upstream, dst, src).tolist()
    exact = (upstream.astype(np.float64)[src] * downstream[dst]).sum(axis=1)
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_the_cosine_of_a_feature_that_is_not_there_is_refused() -> None:
    rows = unit_rows(np.random.default_rng(3), 4, 3)
    with pytest.raises(IndexError, match="feature 4 of an SAE of 4"):
        cosines(rows, rows, _one(0), _one(4))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0]), st.integers(0, 99)))
)
def test_ranks_put_larger_values_first_and_then_smaller_ties(rows: list[tuple[int, float, int]]) -> None:
    group, tie = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 2))
    value = np.array([row[1] for row in rows], dtype=np.float32)
    found = ranks(group, value, tie)
    for one in np.unique(group):
        own = np.flatnonzero(group == one)
        assert sorted(found[own]) == list(range(1, len(own) + 1))
        in_order = own[np.argsort(found[own])]
        pairs = list(zip(-value[in_order], tie[in_order], strict=True))
        assert pairs == sorted(pairs)


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


@pytest.mark.parametrize(("n", "m"), [(70, 30), (30, 70), (1, 1)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_null_is_the_largest_cosine_after_the_rotation(n: int, m: int, dtype: str) -> None:
    rng = np.random.default_rng(7)
    upstream, downstream = unit_rows(rng, n, 33), unit_rows(rng, m, 33)
    upstream[n // 2 :] = upstream[0]
    downstream[m // 2 :] = 0
    orthogonal, triangular = np.linalg.qr(np.random.default_rng(8).standard_normal((33, 33)))
    rotated = upstream @ (orthogonal * np.sign(np.diag(triangular)))
    with forced(Forced(dtype, tile=16)):
        found = null_best_cosine(upstream, downstream, np.random.default_rng(8))
    np.testing.assert_allclose(found, (rotated @ downstream.T).max(axis=0), atol=1e-6)


def _one(place: int) -> Indices:
    return np.array([place], dtype=np.int64)
