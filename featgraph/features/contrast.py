"""Features more active on some prompts than on others: standardised differences of activations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featgraph.core.arrays import Indices, Sums
from featgraph.core.keys import SaeRange
from featgraph.core.progress import Progress
from featgraph.core.text import pluralize
from featgraph.errors import UsageError
from featgraph.features.prompts import codes, cut
from featgraph.suite.graph_suite import GraphSuite

if TYPE_CHECKING:
    import scipy.sparse

FLOOR = 0.1
"""Smallest standard deviation, as a share of the feature's largest activation on the prompts. Without it, a
feature that is nearly constant on few prompts would have an unbounded score; with it, scores are at most 10.
Our choice; the purpose is that of s0 in Tusher, Tibshirani and Chu 2001, PNAS 98, 5116."""

MIN_FIRING = 0.1
"""Smallest share of prompts on which a feature has to fire. Source: arXiv 2608.05732, its re-implementation
of
feature flow as a baseline (automatic seeds)."""


@dataclass(frozen=True)
class Contrast:
    """The features of one SAE on two sets of prompts, (n_features,) each."""

    score: Sums
    """Score; NaN for a feature that is never active, or fires on too few prompts of the set it prefers."""
    firing_positive: Sums
    firing_negative: Sums


@dataclass(frozen=True)
class _Moments:
    """Statistics of each feature over one set of prompts, (n_features,)."""

    n: int
    mean: Sums
    spread: Sums
    """Sum of squared differences from the mean."""
    largest: Sums
    """Largest absolute activation."""
    firing: Sums
    """Share of prompts on which it fires."""


def contrasts(
    suite: GraphSuite,
    saes: Sequence[SaeRange],
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    min_firing: float = MIN_FIRING,
    progress: Progress | None = None,
) -> Iterator[tuple[SaeRange, Contrast]]:
    """Yield, SAE by SAE, how much more each feature fires on the positive prompts than on the negative ones.

    The activation of a prompt is the largest over its tokens, BOS left out: BOS activates features of its own
    on any prompt. The score is

        (mean over positive - mean over negative) / max(s, FLOOR * largest activation)

    with s the standard deviation over prompts pooled from both sets. A feature with a positive score has to
    fire on `min_firing` of the positive prompts, one with a negative score on as many of the negative ones.

    Source: Cohen's d; as a choice of seeds arXiv 2608.05732, "max standardised contrast".

    Raises UsageError: a set is empty, has a prompt without tokens, both are the same, or both have one
    prompt. SourceError: the graph was made without a text, or its model or an SAE is not there.
    """
    for name, prompts in (("positive", positive), ("negative", negative)):
        if not prompts:
            raise UsageError(f"there are no {name} prompts; give at least one")
    if sorted(positive) == sorted(negative):
        raise UsageError(
            f"positive and negative are the same {pluralize(len(positive), 'prompt')}; give two sets"
        )
    if len(positive) + len(negative) < 3:
        raise UsageError("one prompt per set gives no variance of activations; give more prompts")
    n_positive = len(positive)
    read = cut(suite, [*positive, *negative])
    owner = read.owner[read.tokens.row]
    for sae, feature_codes in codes(suite, saes, read, progress):
        prompt, feature, activation = largest_per_prompt(feature_codes, owner, n_positive + len(negative))
        first, n_features = prompt < n_positive, feature_codes.shape[1]
        yield (
            sae,
            _contrast(
                _moments(feature[first], activation[first], n_positive, n_features),
                _moments(feature[~first], activation[~first], len(negative), n_features),
                min_firing,
            ),
        )


def largest_per_prompt(
    feature_codes: "scipy.sparse.csr_matrix", owner: Indices, n_prompts: int
) -> tuple[Indices, Indices, Sums]:
    """Return prompt, feature and largest activation of each feature on each prompt on which it fires.

    feature_codes: (n_tokens, n_features). owner: prompt of each token. A silent feature is 0, so with signed
    activations the largest is negative only if the feature fires on every token.
    """
    entries = feature_codes.tocoo()
    n_features = feature_codes.shape[1]
    place = owner[entries.row] * n_features + entries.col
    order = np.argsort(place, kind="stable")
    place, values = place[order], entries.data[order].astype(np.float64)
    opens = np.flatnonzero(np.diff(place, prepend=-1))
    if not len(opens):
        return place, place, values
    largest = np.maximum.reduceat(values, opens)
    counts = np.diff(np.append(opens, len(place)))
    prompt, feature = np.divmod(place[opens], n_features)
    silent = counts < np.bincount(owner, minlength=n_prompts)[prompt]
    return prompt, feature, np.where(silent, np.maximum(largest, 0.0), largest)


def _moments(feature: Indices, activation: Sums, n: int, n_features: int) -> _Moments:
    def total(values: Sums) -> Sums:
        summed: Sums = np.bincount(feature, weights=values, minlength=n_features).astype(np.float64)
        return summed

    mean = total(activation) / n
    firing = np.bincount(feature, minlength=n_features)
    # A feature is 0 on prompts on which it is silent, which adds mean ** 2 for each.
    spread = total((activation - mean[feature]) ** 2) + (n - firing) * mean**2
    largest = np.zeros(n_features)
    np.maximum.at(largest, feature, np.abs(activation))
    return _Moments(n, mean, spread, largest, firing / n)


def _contrast(positive: _Moments, negative: _Moments, min_firing: float) -> Contrast:
    pooled = np.sqrt((positive.spread + negative.spread) / (positive.n + negative.n - 2))
    floor = FLOOR * np.maximum(positive.largest, negative.largest)
    difference = positive.mean - negative.mean
    firing = np.where(difference > 0, positive.firing, negative.firing)
    scored = (difference != 0) & (firing >= min_firing)
    score = np.full(len(difference), np.nan)
    np.divide(difference, np.maximum(pooled, floor), out=score, where=scored)
    return Contrast(score, positive.firing, negative.firing)
