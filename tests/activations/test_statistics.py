"""Statistics of sparse codes against dense counting, however the text is cut."""

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featgraph.activations import Tokens, top_tokens
from featgraph.activations.contexts import AFTER, BEFORE, EXAMPLES, Contexts
from featgraph.activations.statistics import Moments, Reconstruction
from featgraph.activations.top_tokens import TopTokens
from featgraph.core.arrays import Matrix
from helpers.examples import examples

N_FEATURES, N_VOCABULARY, DEAD, ALWAYS = 6, 9, 0, 1
Gathered = tuple[Moments, TopTokens, Contexts]
Shard = tuple[Matrix, Tokens]


def text(rng: np.random.Generator, n_rows: int) -> list[Shard]:
    """Dense codes of some token rows: signed, in quarters, with ties; one feature dead, one always on."""
    found = []
    for row in range(n_rows):
        n = int(rng.integers(1, 40))
        codes = rng.integers(-4, 9, size=(n, N_FEATURES)) / 4 * (rng.random((n, N_FEATURES)) < 0.3)
        codes[:, DEAD], codes[:, ALWAYS] = 0, 0.5
        token = rng.integers(0, N_VOCABULARY, size=n)
        found.append((codes.astype(np.float32), Tokens(np.full(n, row), np.arange(n) + 1, token)))
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
            if here.sum() >= top_tokens.MIN_OCCURRENCES and codes[here, feature].any():
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
    monkeypatch.setattr(top_tokens, "RANKED", ranked)
    monkeypatch.setattr(top_tokens, "HELD", ranked)
    assert gathered(*([shard] for shard in shards))[1].best(3) == whole


def test_contexts_are_the_strongest_peaks_one_per_row_with_what_is_around_them() -> None:
    shards = text(np.random.default_rng(3), 50)
    found = gathered(shards[:25], shards[25:])[2]
    rows = list(zip(found.feature, found.row, found.position, found.value, found.window, strict=True))
    expected = []
    for feature in range(N_FEATURES):
        peaks = [
            (-float(codes[:, feature].max()), row, int(codes[:, feature].argmax()))
            for row, (codes, _) in enumerate(shards)
            if codes[:, feature].max() > 0
        ]
        expected += [(feature, *peak) for peak in sorted(peaks)[:EXAMPLES]]
    assert [(f, -v, p, i - 1) for f, p, i, v, _ in rows] == expected
    for feature, row, position, _, window in rows:
        padded = np.zeros(BEFORE + 40 + AFTER, dtype=np.float32)
        codes = shards[row][0][:, feature]
        padded[BEFORE : BEFORE + len(codes)] = codes
        np.testing.assert_array_equal(window, padded[position - 1 :][: BEFORE + 1 + AFTER])


def test_statistics_of_nothing_are_empty() -> None:
    silent = (np.zeros((4, N_FEATURES), dtype=np.float32), Tokens(*(np.arange(4) for _ in range(3))))
    moments, top_tokens, contexts = gathered([silent])
    assert not moments.n_active.any()
    assert top_tokens.best(3) == [[]] * N_FEATURES
    assert contexts.window.shape == (0, BEFORE + 1 + AFTER)


P = TypeVar("P", Moments, Contexts, Reconstruction)


def saved(partial: P) -> P:
    """The partial result after a file held it."""
    file = io.BytesIO()
    np.savez(file, **partial.arrays())  # type: ignore[arg-type]
    file.seek(0)
    with np.load(file, allow_pickle=False) as found:
        return type(partial).of(dict(found))


@pytest.mark.thorough
@settings(deadline=None, max_examples=examples(60))
@given(st.integers(0, 10_000), st.lists(st.integers(0, 30), max_size=3))
def test_results_do_not_depend_on_how_the_text_is_cut(seed: int, cuts: list[int]) -> None:
    shards = text(np.random.default_rng(seed), 30)
    whole = gathered(*([shard] for shard in shards))
    cut = gathered(*(shards[start:stop] for start, stop in pairwise(sorted({0, *cuts, 30}))))
    partials = [(whole[0].arrays(), cut[0].arrays()), (whole[2].arrays(), saved(cut[2]).arrays())]
    for expected, arrays in partials:
        for name, values in expected.items():
            np.testing.assert_array_equal(values, arrays[name], err_msg=name)
    assert whole[1].best(4) == cut[1].best(4)


def test_a_file_holds_moments() -> None:
    moments, _, _ = gathered(text(np.random.default_rng(4), 20))
    for name, values in moments.arrays().items():
        np.testing.assert_array_equal(values, saved(moments).arrays()[name], err_msg=name)


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
    assert merged.n.sum() == 50


def test_the_error_of_the_explained_variance_is_that_of_leaving_out_a_tenth_at_a_time() -> None:
    rng = np.random.default_rng(0)
    piece = rng.integers(0, 40, size=600)
    activations = torch.from_numpy(rng.normal(size=(600, 5)).astype(np.float32))
    rebuilt = activations + 0.3 * torch.from_numpy(rng.normal(size=(600, 5)).astype(np.float32))
    whole = Reconstruction(5)
    for start in range(0, 600, 77):
        part = slice(start, start + 77)
        whole.update(activations[part], rebuilt[part], piece[part])
    values = []
    for left_out in range(10):
        kept = torch.from_numpy(piece % 10 != left_out)
        error = (activations[kept] - rebuilt[kept]).double().square().sum()
        spread = (activations[kept] - activations[kept].mean(0)).double().square().sum()
        values.append(1 - float(error / spread))
    expected = np.sqrt(9 / 10 * ((np.array(values) - np.mean(values)) ** 2).sum())
    assert whole.explained_variance_se == pytest.approx(expected, rel=1e-4)
    one = Reconstruction(5)
    one.update(activations, rebuilt)
    assert math.isnan(one.explained_variance_se)
    assert math.isnan(Reconstruction(5).explained_variance_se)
