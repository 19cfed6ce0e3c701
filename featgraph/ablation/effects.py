"""Sparse sums over removals for each pair of an upstream and a downstream feature, and their effects.

Sums of shards of a text add up (`merge`), in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices, Matrix, Sums
from featgraph.core.ranking import largest

BUFFER = 2**18
"""Entries of a pair of SAEs that are added up at once."""

FIGURES = ("count", "weight", "loss", "loss_w2", "square_w2", "silenced")
"""Columns of the sums over tokens on which both features fire: 1, w, w x, w^2 x, w^2 x^2, and w where the
downstream one falls silent; w is the weight of the token, x the share of the downstream activation lost."""


@dataclass(frozen=True)
class PairEffects:
    """Causal evidence for pairs of features of two SAEs, (n_pairs,), ordered by src, then dst."""

    src: Indices
    """Upstream feature, within its SAE."""
    dst: Indices
    """Downstream feature, within its SAE."""
    effect: Sums
    """Mean share of the downstream activation lost without the upstream feature, over the tokens on which the
    downstream one fires; a token on which the upstream one is silent counts 0.

    Source: ours, docs/edges.md."""
    effect_n: Counts
    """Tokens of the sample on which the downstream feature fires."""
    effect_se: Sums
    """Standard error of `effect`, of independent tokens; NaN of a single one."""
    silenced: Sums
    """Share of the same tokens on which the downstream feature falls silent without the upstream one."""
    ablation_change: Sums
    """Mean share lost over the tokens on which both fire. Source: arXiv 2502.03032 v3, section 5.2."""
    ablation_n: Counts
    """Tokens of the sample on which both fire."""

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True)
class EffectSums:
    """Sums over removals between two SAEs; see `FIGURES`."""

    keys: Indices
    """src * n_dst + dst of each pair, ascending."""
    figures: Sums
    """(n_pairs, len(FIGURES))."""
    fires: Sums
    """Of the tokens on which each downstream feature fires, (n_dst, 3): their number, sum w, sum w^2."""

    @classmethod
    def empty(cls, n_dst: int) -> "EffectSums":
        """Return the sums of no removals."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, len(FIGURES))), np.zeros((n_dst, 3)))

    def merge(self, other: "EffectSums") -> "EffectSums":
        """Return the sums of both."""
        keys, figures = _added([self.keys, other.keys], [self.figures, other.figures])
        return EffectSums(keys, figures, self.fires + other.fires)

    def effects(self) -> PairEffects:
        """Return the evidence that the sums give.

        effect_se is that of a weighted mean m: sqrt(n / (n - 1) * sum w^2 (x - m)^2) / sum w.
        Source: Cochran, Sampling Techniques (1977), section 6.4 (ratio estimators).
        """
        src, dst = np.divmod(self.keys, max(1, len(self.fires)))
        count, weight, loss, loss_w2, square_w2, silenced = self.figures.T
        n, total, total_w2 = self.fires[dst].T
        effect = loss / total
        spread = np.maximum(0, square_w2 - 2 * effect * loss_w2 + effect**2 * total_w2)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(n > 1, np.sqrt(n / (n - 1) * spread) / total, np.nan)
        return PairEffects(
            src,
            dst,
            effect,
            n.astype(np.int64),
            error,
            silenced / total,
            loss / weight,
            count.astype(np.int64),
        )


class EffectAccumulator:
    """Adds removals up, some at a time."""

    def __init__(self, n_dst: int) -> None:
        self.n_dst = n_dst
        self.fires = np.zeros((n_dst, 3))
        self._parts: list[tuple[Indices, Sums]] = []
        self._buffer: list[tuple[Indices, Sums]] = []
        self._n = 0

    def fire(self, dst: Indices, weight: NDArray[np.float64]) -> None:
        """Count activations of downstream features, each with the weight of its token."""
        for column, values in enumerate((None, weight, weight**2)):
            self.fires[:, column] += np.bincount(dst, weights=values, minlength=self.n_dst)

    def add(
        self,
        src: Indices,
        dst: Indices,
        weight: NDArray[np.float64],
        loss: NDArray[np.float64],
        silenced: NDArray[np.bool_],
    ) -> None:
        """Add removals, one entry for each token, removed feature and downstream feature that fires."""
        square = weight**2
        figures = [
            np.ones(len(src)),
            weight,
            weight * loss,
            square * loss,
            square * loss**2,
            weight * silenced,
        ]
        self._buffer.append((src * self.n_dst + dst, np.stack(figures, axis=1)))
        self._n += len(src)
        if self._n >= BUFFER:
            self._flush()

    def sums(self) -> EffectSums:
        """Return all that was added."""
        self._flush()
        if not self._parts:
            return EffectSums(*_none(), self.fires)
        [(keys, figures)] = self._parts = [_joined(self._parts)]
        return EffectSums(keys, figures, self.fires)

    def _flush(self) -> None:
        """Add the buffer up; join parts of like size, so that each entry is joined a few times only."""
        if self._buffer:
            self._parts.append(_joined(self._buffer))
            self._buffer, self._n = [], 0
        while len(self._parts) > 1 and len(self._parts[-2][0]) <= 2 * len(self._parts[-1][0]):
            self._parts[-2:] = [_joined(self._parts[-2:])]


def _none() -> tuple[Indices, Sums]:
    return np.zeros(0, dtype=np.int64), np.zeros((0, len(FIGURES)))


def _joined(parts: Sequence[tuple[Indices, Sums]]) -> tuple[Indices, Sums]:
    return _added([keys for keys, _ in parts], [figures for _, figures in parts])


def _added(keys: Sequence[Indices], figures: Sequence[Sums]) -> tuple[Indices, Sums]:
    """Return each key once, ascending, with the sum of its figures."""
    key, figure = np.concatenate(keys), np.concatenate(figures)
    if not len(key):
        return _none()
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    return key[starts], np.add.reduceat(figure[order], starts, axis=0)


def edge_columns(sums: EffectSums, src: Indices, dst: Indices) -> dict[str, Matrix | Counts]:
    """Return the measured columns of edges between two SAEs, by name, (n_edges,) each; NaN for not known.

    src, dst: ends of the edges, within their SAEs. `effect` is 0 where the source is never active together
    with its target, and not known where the target is active on no token of the sample.
    """
    effects = sums.effects()
    keys = src * len(sums.fires) + dst
    place = np.searchsorted(sums.keys, keys)
    known = np.zeros(len(keys), dtype=np.bool_)
    inside = place < len(sums.keys)
    known[inside] = sums.keys[place[inside]] == keys[inside]
    n = sums.fires[dst, 0].astype(np.int64)
    both = np.zeros(len(keys), dtype=np.int64)
    both[known] = effects.ablation_n[place[known]]
    columns: dict[str, Matrix | Counts] = {"effect_n": n, "ablation_n": both}
    never = {"effect": 0.0, "effect_se": 0.0, "silenced": 0.0, "ablation_change": np.nan}
    for name, otherwise in never.items():
        values = np.where(n > 0, otherwise, np.nan)
        values[known] = getattr(effects, name)[place[known]]
        columns[name] = values.astype(np.float32)
    return columns


def largest_causes(sums: EffectSums, k: int, support: int) -> tuple[Indices, Indices]:
    """Return the pairs whose effect is among the k largest of their source or of their target.

    Only effects above 0 count, of targets that fire on `support` tokens of the sample or more.
    """
    effects = sums.effects()
    sure = np.flatnonzero((effects.effect > 0) & (effects.effect_n >= support))
    src, dst, effect = effects.src[sure], effects.dst[sure], effects.effect[sure].astype(np.float32)
    of_source, of_target = largest(src, effect, dst, k), largest(dst, effect, src, k)
    chosen = np.union1d(of_source, of_target)
    return src[chosen], dst[chosen]
