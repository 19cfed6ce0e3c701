"""Every measure on a candidate, against dense numpy over made-up codes."""

import numpy as np
import pytest
import scipy.sparse

from featgraph.activations.statistics import Moments
from featgraph.core.arrays import Matrix
from featgraph.edges import coactivation, evidence, virtual_weights
from featgraph.edges.virtual_weights import VirtualWeights

N_TOKENS, N_U, N_D = 400, 12, 9
WEIGHTS = np.random.default_rng(2).normal(size=(N_U, N_D)).astype(np.float32)


def sparse_codes(rng: np.random.Generator, n_features: int) -> Matrix:
    values = rng.exponential(size=(N_TOKENS, n_features)) * (rng.random((N_TOKENS, n_features)) < 0.2)
    values[:, 0] = 0.0
    values[:, 1] = 2.0
    codes: Matrix = values.astype(np.float32)
    return codes


@pytest.fixture
def codes() -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(0)
    upstream, downstream = sparse_codes(rng, N_U), sparse_codes(rng, N_D)
    downstream[:, 3] = upstream[:, 4] * 2
    return upstream, downstream


@pytest.fixture
def measured(codes: tuple[Matrix, Matrix]) -> dict[str, Matrix]:
    """Each measure as an (N_U, N_D) matrix, counted in three batches."""
    src, dst = (part.ravel() for part in np.meshgrid(np.arange(N_U), np.arange(N_D), indexing="ij"))
    u, d = Moments(N_U), Moments(N_D)
    batches = []
    for rows in np.array_split(np.arange(N_TOKENS), 3):
        parts = [scipy.sparse.csr_matrix(side[rows]) for side in codes]
        u.update(parts[0])
        d.update(parts[1])
        batches.append((parts[0], parts[1]))
    both = coactivation.count(lambda: batches, u, d, N_TOKENS, (src, dst), [], 1)
    weight = WEIGHTS[src, dst]
    pairs = coactivation.statistics(u, d, N_TOKENS, both, weight)
    measures = {name: formula(pairs) for name, formula in evidence.FORMULAS.items()}
    measures["n_both"] = both.n_both.astype(np.float32)
    return {name: values.reshape(N_U, N_D) for name, values in measures.items() if values is not None}


def test_counts_and_shares_equal_dense_counting(
    codes: tuple[Matrix, Matrix], measured: dict[str, Matrix]
) -> None:
    upstream, downstream = codes
    for u in range(N_U):
        for d in range(N_D):
            on_u, on_d = upstream[:, u] != 0, downstream[:, d] != 0
            both, either = int((on_u & on_d).sum()), int((on_u | on_d).sum())
            assert measured["n_both"][u, d] == both
            expected = {
                "jaccard": (both, either),
                "necessity": (both, int(on_d.sum())),
                "sufficiency": (both, int(on_u.sum())),
            }
            for name, (part, whole) in expected.items():
                share = part / whole if whole else np.nan
                np.testing.assert_allclose(measured[name][u, d], share, rtol=1e-6)


def test_pearson_equals_numpy_and_is_nan_where_a_feature_never_varies(
    codes: tuple[Matrix, Matrix], measured: dict[str, Matrix]
) -> None:
    upstream, downstream = codes
    for u in range(N_U):
        for d in range(N_D):
            if {u, d} & {0, 1}:
                continue
            expected = np.corrcoef(upstream[:, u], downstream[:, d])[0, 1]
            assert measured["pearson"][u, d] == pytest.approx(expected, abs=1e-5)
    assert np.isnan(measured["pearson"][0]).all()
    assert np.isnan(measured["pearson"][1]).all()
    assert measured["pearson"][4, 3] == pytest.approx(1.0, abs=1e-6)


def test_predicted_causes_equal_the_definitions_token_by_token(
    codes: tuple[Matrix, Matrix], measured: dict[str, Matrix]
) -> None:
    upstream, downstream = (side.astype(np.float64) for side in codes)
    for u in range(N_U):
        for d in range(N_D):
            a_u, a_d, weight = upstream[:, u], downstream[:, d], float(WEIGHTS[u, d])
            if not a_d.any():
                assert np.isnan(measured["twera"][u, d])
            else:
                expected = weight * (a_u * a_d).mean() / a_d.mean()
                assert measured["twera"][u, d] == pytest.approx(expected, rel=1e-5)
            both = (a_u != 0) & (a_d != 0)
            if not both.any():
                assert np.isnan(measured["attribution"][u, d])
            else:
                expected = weight * (a_u[both] / a_d[both]).mean()
                assert measured["attribution"][u, d] == pytest.approx(expected, rel=1e-5)


def test_without_virtual_weights_only_predicted_causes_are_unknown(codes: tuple[Matrix, Matrix]) -> None:
    ends = [Moments(side.shape[1]) for side in codes]
    sides = [scipy.sparse.csr_matrix(side) for side in codes]
    for end, side in zip(ends, sides, strict=True):
        end.update(side)
    every = np.arange(N_D), np.arange(N_D)
    sums = coactivation.count(lambda: [(sides[0], sides[1])], ends[0], ends[1], N_TOKENS, every, [], 1)
    pairs = coactivation.statistics(ends[0], ends[1], N_TOKENS, sums, None)
    unknown = {name for name, formula in evidence.FORMULAS.items() if formula(pairs) is None}
    assert unknown == {"twera", "attribution"}


def test_virtual_weight_is_the_change_of_the_pre_activation() -> None:
    rng = np.random.default_rng(1)
    decoder, encoder = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(5, 7)).astype(np.float32)
    residual = rng.normal(size=7).astype(np.float32)
    norms = np.linalg.norm(decoder, axis=1)
    src, dst = np.array([0, 1, 2, 3, 4, 4]), np.array([0, 3, 2, 1, 4, 0])
    weights = evidence.virtual_weight(decoder / norms[:, None], norms, encoder, src, dst)
    for weight, u, d in zip(weights, src, dst, strict=True):
        change = (residual + decoder[u]) @ encoder[d] - residual @ encoder[d]
        assert weight == pytest.approx(change, rel=1e-3)


@pytest.mark.parametrize("cells", [1, 20, 2**24])
@pytest.mark.parametrize("sparse", [0.0, 1.0])
def test_ranked_virtual_weights_are_the_exact_ones_to_rounding(
    cells: int, sparse: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual_weights, "CELLS", cells)
    monkeypatch.setattr(virtual_weights, "SPARSE", sparse)
    rng = np.random.default_rng(4)
    directions, encoder = (rng.normal(size=(n, 7)).astype(np.float32) for n in (9, 5))
    weights = VirtualWeights(directions, rng.random(9, dtype=np.float32), encoder)
    src, dst = rng.integers(0, 9, size=30), rng.integers(0, 5, size=30)
    np.testing.assert_allclose(weights.ranked(src, dst), weights.exact(src, dst), rtol=1e-5, atol=1e-6)
