"""Co-activation of all pairs against a dense oracle, however text and features are cut."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featgraph.activations.statistics import Moments
from featgraph.core import ranking
from featgraph.core.arrays import Indices, Matrix
from featgraph.core.ranking import largest
from featgraph.edges import coactivation, pair_sums, top_pairs
from featgraph.edges.coactivation import CoActive, Finder, finder
from featgraph.edges.top_pairs import Pairs, TopPairs
from helpers.examples import examples

Pair = tuple[int, int]
DEAD, ALWAYS, TWIN, OTHER_TWIN = range(4)
NONE: tuple[Indices, Indices] = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def random_codes(rng: np.random.Generator, n_tokens: int, n_u: int, n_d: int) -> tuple[Matrix, Matrix]:
    """Signed codes in quarters, so that sums are exact; one feature is dead, one always on, two are twins."""
    upstream, downstream = (
        (
            rng.integers(-4, 9, size=(n_tokens, n)) / 4 * (rng.random((n_tokens, n)) < rng.random(n) * 0.5)
        ).astype(np.float32)
        for n in (n_u, n_d)
    )
    shared = min(n_u, n_d) // 2
    kept = rng.random((n_tokens, shared)) < 0.7
    downstream[:, -shared:] = np.where(kept, upstream[:, -shared:], downstream[:, -shared:])
    for side in (upstream, downstream):
        side[:, DEAD], side[:, ALWAYS], side[:, OTHER_TWIN] = 0, 1.5, side[:, TWIN]
    return upstream, downstream


def moments(codes: Matrix) -> Moments:
    found = Moments(codes.shape[1])
    found.update(scipy.sparse.csr_matrix(codes))
    return found


def count(
    codes: tuple[Matrix, Matrix],
    requested: tuple[Indices, Indices] = NONE,
    k: int = 2,
    min_support: int = 1,
    cuts: tuple[int, ...] = (),
) -> CoActive:
    upstream, downstream = codes
    edges = [0, *cuts, len(upstream)]

    def shards() -> Iterator[tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]]:
        for start, stop in pairwise(edges):
            yield (
                scipy.sparse.csr_matrix(upstream[start:stop]),
                scipy.sparse.csr_matrix(downstream[start:stop]),
            )

    ends = moments(upstream), moments(downstream)
    return coactivation.count(shards, *ends, len(upstream), requested, finders(codes, k), min_support)


def finders(codes: tuple[Matrix, Matrix], k: int) -> list[Finder]:
    """All searches, twera with made-up weights."""
    ends, n = (moments(codes[0]), moments(codes[1])), len(codes[0])

    def weigh(src: Indices, dst: Indices) -> Matrix:
        return weights(codes)[src, dst]

    return [
        finder("twera", k, *ends, n, weigh),
        finder("pearson", k, *ends, n),
        finder("jaccard", k, *ends, n),
    ]


def weights(codes: tuple[Matrix, Matrix]) -> Matrix:
    """Virtual weights in quarters; those of twins are the same."""
    made = np.random.default_rng(0).integers(-4, 5, size=(codes[0].shape[1], codes[1].shape[1])) / 4
    if min(made.shape) > OTHER_TWIN:
        made[OTHER_TWIN], made[:, OTHER_TWIN] = made[TWIN], made[:, TWIN]
    return made.astype(np.float32)


def dense_sums(codes: tuple[Matrix, Matrix]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    upstream, downstream = (side.astype(np.float64) for side in codes)
    n_both = (upstream != 0).astype(np.float64).T @ (downstream != 0).astype(np.float64)
    return n_both.astype(np.int64), upstream.T @ downstream


def dense_ratios(codes: tuple[Matrix, Matrix]) -> NDArray[np.float64]:
    """Sums of u / d over tokens on which both are active."""
    upstream, downstream = (side.astype(np.float64) for side in codes)
    inverse = np.divide(1, downstream, out=np.zeros_like(downstream), where=downstream != 0)
    return upstream.T @ inverse


def dense_measures(codes: tuple[Matrix, Matrix]) -> dict[str, Matrix]:
    """The measures of all searches for all pairs, NaN where not defined."""
    n = len(codes[0])
    n_both, product = dense_sums(codes)
    (on_u, on_d), (sum_u, sum_d), (square_u, square_d) = (
        [np.asarray(part, dtype=np.float64).sum(axis=0) for part in parts]
        for parts in ([c != 0 for c in codes], codes, [c.astype(np.float64) ** 2 for c in codes])
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        jaccard = n_both / (on_u[:, None] + on_d - n_both)
        spread = (n * square_u - sum_u**2)[:, None] * (n * square_d - sum_d**2)
        pearson = np.clip((n * product - sum_u[:, None] * sum_d) / np.sqrt(spread), -1, 1)
        twera = weights(codes) * (product / sum_d)
    measures = {"twera": twera, "pearson": pearson, "jaccard": jaccard}
    return {name: values.astype(np.float32) for name, values in measures.items()}


def expected_finds(codes: tuple[Matrix, Matrix], k: int, min_support: int) -> dict[str, set[Pair]]:
    """By search, the pairs of positive value that are among the k best of their row or of their column."""
    supported = dense_sums(codes)[0] >= max(min_support, 1)
    found: dict[str, set[Pair]] = {}
    for name, value in dense_measures(codes).items():
        usable, best = supported & (value > 0), set()
        for u in range(len(value)):
            best |= {
                (u, int(d)) for d in sorted(np.flatnonzero(usable[u]), key=lambda d: (-value[u, d], d))[:k]
            }
        for d in range(value.shape[1]):
            best |= {
                (int(u), d) for u in sorted(np.flatnonzero(usable[:, d]), key=lambda u: (-value[u, d], u))[:k]
            }
        found[name] = best
    return found


def finds(found: CoActive) -> dict[str, set[Pair]]:
    return {name: pairs_where(found, mask) for name, mask in found.proposed.items()}


def pairs_where(found: CoActive, flag: NDArray[np.bool_]) -> set[Pair]:
    return set(zip(found.src[flag].tolist(), found.dst[flag].tolist(), strict=True))


def same(one: CoActive, other: CoActive) -> bool:
    columns = all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one) if name != "proposed"
    )
    return columns and all(np.array_equal(mask, other.proposed[name]) for name, mask in one.proposed.items())


@pytest.fixture(params=["mkl where there is one", "scipy alone"])
def _either_product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "scipy alone":
        monkeypatch.setattr(pair_sums, "_mkl", lambda: False)


limits = st.fixed_dictionaries(
    {
        "PART": st.sampled_from([1, 40, 300, 8_000_000]),
        "BLOCK": st.sampled_from([1, 30, 200, 2**20]),
        "GROUP": st.sampled_from([1, 3]),
        "RARE": st.sampled_from([0.0, 3.0, 1e9]),
        "FINE": st.sampled_from([20, 2**19]),
        "EXACT": st.sampled_from([16, 2**24]),
        "HELD": st.sampled_from([0, 4]),
        "PADDED": st.sampled_from([0, 2**21]),
    }
)


def set_limits(patch: pytest.MonkeyPatch, values: dict[str, float]) -> None:
    for module in (coactivation, pair_sums, top_pairs):
        for name, value in values.items():
            if hasattr(module, name):
                patch.setattr(module, name, value)


@pytest.mark.thorough
@settings(deadline=None, max_examples=examples(40))
@given(st.integers(0, 10_000), limits, st.integers(0, 30), st.integers(0, 12), st.lists(st.integers(0, 60)))
def test_sums_and_finds_equal_the_dense_oracle(
    seed: int, limits: dict[str, float], k: int, min_support: int, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    n_u, n_d = rng.integers(4, 16, size=2)
    codes = random_codes(rng, 60, n_u, n_d)
    requested = rng.integers(0, n_u, size=20), rng.integers(0, n_d, size=20)
    with pytest.MonkeyPatch.context() as patch:
        set_limits(patch, limits)
        found = count(codes, requested, k, min_support, tuple(sorted(cuts)))
    n_both, product = dense_sums(codes)
    np.testing.assert_array_equal(found.n_both, n_both[found.src, found.dst])
    np.testing.assert_array_equal(found.product, product[found.src, found.dst])
    assert pairs_where(found, found.requested) == set(
        zip(*(side.tolist() for side in requested), strict=True)
    )
    np.testing.assert_allclose(found.ratio, dense_ratios(codes)[found.src, found.dst], rtol=1e-12, atol=1e-12)
    assert finds(found) == (expected_finds(codes, k, min_support) if k else {})
    assert np.logical_or.reduce([found.requested, *found.proposed.values()]).all()
    assert (np.diff(found.src * n_d + found.dst) > 0).all()


@pytest.mark.usefixtures("_either_product")
@pytest.mark.parametrize("rare", [0.0, 1e9])
def test_both_kinds_of_blocks_and_of_products_equal_the_oracle(
    rare: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coactivation, "RARE", rare)
    codes = random_codes(np.random.default_rng(1), 500, 40, 30)
    every = (np.repeat(np.arange(40), 30), np.tile(np.arange(30), 40))
    found = count(codes, every, 3, 5)
    n_both, product = dense_sums(codes)
    np.testing.assert_array_equal(found.n_both, n_both.ravel())
    np.testing.assert_array_equal(found.product, product.ravel())
    np.testing.assert_allclose(found.ratio, dense_ratios(codes).ravel(), rtol=1e-12, atol=1e-12)
    assert finds(found) == expected_finds(codes, 3, 5)


@pytest.mark.parametrize("part", [1, 700, 8_000_000])
def test_results_do_not_depend_on_how_the_text_was_cut(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coactivation, "PART", part)
    rng = np.random.default_rng(2)
    codes = random_codes(rng, 300, 20, 25)
    codes = codes[0] * rng.random(codes[0].shape, dtype=np.float32), codes[1]
    whole = count(codes, k=4)
    for cuts in ((1, 2, 3), (150,), (0, 0, 300), tuple(range(0, 300, 7))):
        assert same(whole, count(codes, k=4, cuts=cuts))


@pytest.mark.parametrize("part", [1, 700, 8_000_000])
def test_sums_of_real_values_are_double_precise(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coactivation, "PART", part)
    rng = np.random.default_rng(3)
    codes = random_codes(rng, 400, 12, 9)
    codes = codes[0] * rng.random(codes[0].shape, dtype=np.float32), codes[1] * np.float32(1 / 3)
    found = count(codes, k=12)
    product = dense_sums(codes)[1][found.src, found.dst]
    np.testing.assert_allclose(found.product, product, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rare", [0.0, 1e9])
def test_tokens_shared_by_signed_features_count_though_their_products_cancel(
    rare: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coactivation, "RARE", rare)
    upstream = np.array([[1.0], [1.0], [0.0]], dtype=np.float32)
    downstream = np.array([[2.0], [-2.0], [1.0]], dtype=np.float32)
    found = count((upstream, downstream), min_support=2)
    assert found.n_both.tolist() == [2]
    assert found.product.tolist() == [0.0]


def test_explicit_zeros_are_not_active() -> None:
    sides = [scipy.sparse.csr_matrix(np.ones((3, 2), dtype=np.float32)) for _ in range(2)]
    sides[0].data[:] = [1, 0, 1, 1, 0, 1]
    ends = [Moments(2), Moments(2)]
    for end, side in zip(ends, sides, strict=True):
        end.update(side)
    every = (np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    found = coactivation.count(lambda: [(sides[0], sides[1])], ends[0], ends[1], 3, every, [], 1)
    assert ends[0].n_active.tolist() == [2, 2]
    assert found.n_both.tolist() == [2, 2, 2, 2]


def test_min_support_is_met_exactly_at_the_edge() -> None:
    codes = random_codes(np.random.default_rng(4), 80, 10, 10)
    n_both, _ = dense_sums(codes)
    for edge in (1, 7, int(n_both.max()), int(n_both.max()) + 1):
        found = count(codes, k=20, min_support=edge)
        supported = set(zip(*np.nonzero(n_both >= edge), strict=True))
        assert all(pairs <= supported for pairs in finds(found).values())
        assert (found.n_both == edge).any() == (n_both == edge).any()


def test_a_feature_that_never_varies_is_found_by_jaccard_alone() -> None:
    rng = np.random.default_rng(5)
    codes = random_codes(rng, 100, 6, 6)
    found = count(codes, k=6)
    assert np.isnan(dense_measures(codes)["pearson"][ALWAYS]).all()
    assert (ALWAYS, ALWAYS) in finds(found)["jaccard"] - finds(found)["pearson"]


def test_features_that_meet_less_than_by_chance_are_not_found_by_pearson() -> None:
    on = np.array([[1, 1], [1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    codes = on[:, :1], np.column_stack([on[:, 1], on[:, 0]])
    pearson = dense_measures(codes)["pearson"]
    assert pearson[0, 0] < 0 < pearson[0, 1]
    found = finds(count(codes, k=1))
    assert found["pearson"] == {(0, 1)}
    assert found["jaccard"] == {(0, 0), (0, 1)}, "each is the best of its own target"


def test_twins_tie_and_the_smaller_index_wins() -> None:
    codes = random_codes(np.random.default_rng(6), 200, 8, 8)
    codes[1][:, 5] = codes[1][:, 6] = codes[0][:, TWIN]
    found = count(codes, k=1)
    best = finds(found)["pearson"]
    assert {(TWIN, 5), (TWIN, 6), (OTHER_TWIN, 5)} <= best
    assert (OTHER_TWIN, 6) not in best


def test_nothing_to_find_leaves_the_wanted_pairs() -> None:
    codes = random_codes(np.random.default_rng(7), 50, 5, 5)
    requested = np.array([4, 0, 4, DEAD]), np.array([2, 3, 2, DEAD])
    for k, min_support in ((0, 1), (3, 51)):
        found = count(codes, requested, k, min_support)
        assert list(zip(found.src.tolist(), found.dst.tolist(), strict=True)) == [(0, 0), (0, 3), (4, 2)]
        assert found.requested.all()
        assert not any(mask.any() for mask in found.proposed.values())
        assert found.n_both[0] == 0


@pytest.mark.parametrize("n_tokens", [0, 5])
def test_a_text_on_which_nothing_fires_gives_zeros(n_tokens: int) -> None:
    codes = np.zeros((n_tokens, 3), dtype=np.float32), np.zeros((n_tokens, 4), dtype=np.float32)
    found = count(codes, (np.array([2]), np.array([3])), cuts=(0, n_tokens))
    assert (found.src.tolist(), found.dst.tolist()) == ([2], [3])
    assert (found.n_both.tolist(), found.product.tolist()) == ([0], [0.0])


def test_the_text_is_opened_once_if_it_fits_and_once_per_group_if_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream, downstream = random_codes(np.random.default_rng(8), 60, 12, 10)
    opened = []

    def shards() -> list[tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]]:
        opened.append(1)
        return [(scipy.sparse.csr_matrix(upstream), scipy.sparse.csr_matrix(downstream))]

    def times_opened() -> int:
        opened.clear()
        coactivation.count(shards, moments(upstream), moments(downstream), 60, NONE, [], 1)
        return len(opened)

    monkeypatch.setattr(coactivation, "BLOCK", 20)
    monkeypatch.setattr(coactivation, "RARE", 0.0)
    monkeypatch.setattr(coactivation, "GROUP", 3)
    assert times_opened() == 1
    monkeypatch.setattr(coactivation, "PART", 50)
    n_live = int((moments(upstream).n_active > 0).sum())
    assert times_opened() == -(-n_live // 6), "two features per block, three blocks per group"


@settings(deadline=None, max_examples=examples(40))
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=60), st.integers(1, 5), st.booleans()
)
def test_the_largest_of_each_group_are_those_of_a_sorted_list(
    entries: list[Pair], k: int, padded: bool
) -> None:
    group, value = (np.array([entry[side] for entry in entries], dtype=np.int64) for side in (0, 1))
    tie = np.random.default_rng(len(entries)).permutation(len(entries))
    expected = {
        place
        for g in range(7)
        for place in sorted(np.flatnonzero(group == g), key=lambda p: (-value[p], tie[p]))[:k]
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "PADDED", 2**21 if padded else 0)
        assert set(largest(group, value.astype(np.float32), tie, k)) == expected


def test_pairs_of_a_target_are_held_within_bounds() -> None:
    rng = np.random.default_rng(9)
    kept = TopPairs(10, 2)
    for src in range(400):
        pairs = Pairs(np.full(10, src), np.arange(10), np.ones(10, dtype=np.int64), np.ones(10), np.ones(10))
        kept.add(pairs, rng.random(10, dtype=np.float32))
        assert kept._held <= (top_pairs.HELD + 1) * 2 * 10
