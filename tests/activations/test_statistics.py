"""Statistics of sparse codes against dense counting; partial results that merge into those of one pass."""

import io
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featgraph.activations import Tokens, statistics
from featgraph.activations.statistics import (
    AFTER,
    BEFORE,
    EXAMPLES,
    Contexts,
    Moments,
    Reconstruction,
    TopTokens,
)
from featgraph.core.arrays import Matrix

N_FEATURES, N_VOCABULARY, DEAD, ALWAYS = 6, 9, 0, 1
Gathered = tuple[Moments, TopTokens, Contexts]
Shard = tuple[Matrix, Tokens]


def text(rng: np.random.Generator, n_pieces: int) -> list[Shard]:
    """Dense codes of some pieces of text: signed, in quarters, with ties; one feature dead, one always on."""
    found = []
    for piece in range(n_pieces):
        n = int(rng.integers(1, 40))
        codes = rng.integers(-4, 9, size=(n, N_FEATURES)) / 4 * (rng.random((n, N_FEATURES)) < 0.3)
        codes[:, DEAD], codes[:, ALWAYS] = 0, 0.5
        token = rng.integers(0, N_VOCABULARY, size=n)
        found.append((codes.astype(np.float32), Tokens(np.full(n, piece), np.arange(n) + 1, token)))
    return found


def joined(shards: Sequence[Shard]) -> Shard:
    return np.concatenate([codes for codes, _ in shards]), Tokens.joined([tokens for _, tokens in shards])


def gathered(*batches: Sequence[Shard]) -> Gathered:
    found = Moments(N_FEATURES), TopTokens(N_VOCABULARY, N_FEATURES), Contexts(N_FEATURES)
    for batch in batches:
        dense, tokens = joined(batch)
        codes = scipy.sparse.csr_matrix(dense)
        found[0].update(codes)
        found[1].update(codes, tokens)
        found[2].update(codes.T.tocsr(), tokens)
    return found


def merged(one: Gathered, other: Gathered) -> Gathered:
    return one[0].merge(other[0]), one[1].merge(other[1]), one[2].merge(other[2])


def arrays(found: Gathered) -> dict[str, NDArray[Any]]:
    return {f"{type(one).__name__}.{name}": values for one in found for name, values in one.arrays().items()}


def test_moments_equal_dense_sums() -> None:
    shards = text(np.random.default_rng(0), 30)
    found, _, _ = gathered(shards[:11], shards[11:12], shards[12:])
    codes = joined(shards)[0].astype(np.float64)
    np.testing.assert_array_equal(found.n_active, (codes != 0).sum(axis=0))
    np.testing.assert_allclose(found.sum, codes.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.square, (codes**2).sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found.max, np.maximum(codes.max(axis=0), 0))


def test_top_tokens_are_those_of_largest_mean_over_their_occurrences() -> None:
    shards = text(np.random.default_rng(1), 40)
    found = gathered(shards[:20], shards[20:])[1].best(4)
    codes, tokens = joined(shards)
    for feature in range(N_FEATURES):
        means = {}
        for token in range(N_VOCABULARY):
            here = tokens.token == token
            if here.sum() >= statistics.MIN_OCCURRENCES and codes[here, feature].any():
                means[token] = np.float32(codes[here, feature].astype(np.float64).mean())
        assert found[feature] == sorted(means, key=lambda token: (-means[token], token))[:4]
    assert found[DEAD] == []


def test_a_token_that_is_seldom_seen_is_no_top_token() -> None:
    codes = np.array([[9.0], [9.0], [1.0], [1.0], [1.0]], dtype=np.float32)
    token = np.array([0, 0, 1, 1, 1])
    found = TopTokens(2, 1)
    found.update(scipy.sparse.csr_matrix(codes), Tokens(np.zeros(5, dtype=np.int64), np.arange(5), token))
    assert found.best(5) == [[1]]


@pytest.mark.parametrize("ranked", [1, 20])
def test_top_tokens_do_not_depend_on_how_many_are_ranked_or_held(
    ranked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = text(np.random.default_rng(2), 40)
    whole = gathered(shards)[1].best(3)
    monkeypatch.setattr(statistics, "RANKED", ranked)
    monkeypatch.setattr(statistics, "HELD", ranked)
    assert gathered(*([shard] for shard in shards))[1].best(3) == whole


def test_contexts_are_the_strongest_peaks_one_per_piece_with_what_is_around_them() -> None:
    shards = text(np.random.default_rng(3), 50)
    found = gathered(shards[:25], shards[25:])[2]
    rows = list(zip(found.feature, found.piece, found.position, found.value, found.window, strict=True))
    expected = []
    for feature in range(N_FEATURES):
        peaks = [
            (-float(codes[:, feature].max()), piece, int(codes[:, feature].argmax()))
            for piece, (codes, _) in enumerate(shards)
            if codes[:, feature].max() > 0
        ]
        expected += [(feature, *peak) for peak in sorted(peaks)[:EXAMPLES]]
    assert [(f, -v, p, i - 1) for f, p, i, v, _ in rows] == expected
    for feature, piece, position, _, window in rows:
        padded = np.zeros(BEFORE + 40 + AFTER, dtype=np.float32)
        codes = shards[piece][0][:, feature]
        padded[BEFORE : BEFORE + len(codes)] = codes
        np.testing.assert_array_equal(window, padded[position - 1 :][: BEFORE + 1 + AFTER])


def test_statistics_of_nothing_are_empty() -> None:
    silent = (np.zeros((4, N_FEATURES), dtype=np.float32), Tokens(*(np.arange(4) for _ in range(3))))
    moments, top_tokens, contexts = gathered([silent])
    assert not moments.n_active.any()
    assert top_tokens.best(3) == [[]] * N_FEATURES
    assert contexts.window.shape == (0, BEFORE + 1 + AFTER)


P = TypeVar("P", Moments, TopTokens, Contexts, Reconstruction)


def saved(partial: P) -> P:
    """The partial result after a file held it."""
    file = io.BytesIO()
    np.savez(file, **partial.arrays())  # type: ignore[arg-type]
    file.seek(0)
    with np.load(file, allow_pickle=False) as found:
        return type(partial).of(dict(found))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_partial_results_of_any_shards_merge_into_those_of_one_pass(seed: int, cuts: list[int]) -> None:
    shards = text(np.random.default_rng(seed), 30)
    whole = gathered(shards)
    parts = []
    for start, stop in pairwise([0, *sorted(cuts), 30]):
        one = gathered(*([shard] for shard in shards[start:stop]))
        parts.append((saved(one[0]), saved(one[1]), saved(one[2])))
    of_parts = reduce(merged, parts)
    for name, values in arrays(whole).items():
        np.testing.assert_array_equal(values, arrays(of_parts)[name], err_msg=name)
    assert whole[1].best(4) == of_parts[1].best(4)


def test_merging_leaves_both_parts_as_they_were() -> None:
    shards = text(np.random.default_rng(4), 20)
    ends = gathered(shards[:10]), gathered(shards[10:])
    before = [{name: values.copy() for name, values in arrays(end).items()} for end in ends]
    merged(*ends)
    for end, copies in zip(ends, before, strict=True):
        for name, values in arrays(end).items():
            np.testing.assert_array_equal(values, copies[name], err_msg=name)


def test_explained_variance_is_that_of_all_batches_merged_or_not() -> None:
    torch.manual_seed(0)
    activations = torch.randn(50, 7) + 3
    rebuilt = activations + 0.2 * torch.randn(50, 7)
    whole, first, second = (Reconstruction(7) for _ in range(3))
    whole.update(activations, rebuilt)
    first.update(activations[:20], rebuilt[:20])
    second.update(activations[20:], rebuilt[20:])
    error = ((activations - rebuilt) ** 2).sum()
    expected = 1 - float(error / ((activations - activations.mean(0)) ** 2).sum())
    assert whole.explained_variance == pytest.approx(expected, rel=1e-5)
    merged = saved(first).merge(saved(second))
    assert merged.explained_variance == pytest.approx(whole.explained_variance, rel=1e-12)
    assert merged.n == 50
