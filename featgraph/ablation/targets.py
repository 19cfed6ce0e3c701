"""Targets: activations of residual features, drawn at random from a text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from featgraph.ablation.firing import codes_of
from featgraph.ablation.removing import Removals
from featgraph.ablation.sessions import Session
from featgraph.activations import Tokens
from featgraph.core.arrays import Indices
from featgraph.core.keys import SaeRange
from featgraph.core.progress import Progress
from featgraph.errors import SourceError


@dataclass(frozen=True)
class Targets:
    """One entry per target, by SAE."""

    sae: Indices
    idx: Indices
    """The feature within its SAE."""
    row: Indices
    """Row of the text."""
    position: Indices
    """Place of the token in it."""

    def ids(self, sae_ranges: Sequence[SaeRange]) -> Indices:
        """Return their feature ids."""
        return np.array([sae.first_id for sae in sae_ranges], dtype=np.int64)[self.sae] + self.idx

    def removals(self, sae_ranges: Sequence[SaeRange], target: Indices, src: Indices) -> Removals:
        """Return removals upstream of targets; target: places of the targets, src: feature ids."""
        firsts = np.array([sae.first_id for sae in sae_ranges], dtype=np.int64)
        upstream = np.searchsorted(firsts, src, side="right") - 1
        return Removals(
            self.row[target], self.position[target], upstream, src - firsts[upstream], self.idx[target]
        )


def draw_targets(session: Session, n: int, seed: int, progress: Progress) -> Targets:
    """Draw n targets, equally many from each SAE with incoming edges; every activation is as likely as any.

    Raises SourceError: nothing fires on the text.
    """
    sae_ranges = session.downstream
    shares = np.array_split(np.arange(n), len(sae_ranges))
    draws = {sae: _Draw(sae, len(part), seed) for sae, part in zip(sae_ranges, shares, strict=True)}
    rounds = session.rounds({sae: [sae] for sae in sae_ranges})
    with progress.step("read text", len(rounds) * session.text.n_tokens, "tokens") as advance:
        for group in rounds:
            saes = session.saes(group)
            for shard in session.text.shards:
                tokens, all_codes = codes_of(session.model, [saes[sae] for sae in group], shard)
                for sae, codes in zip(group, all_codes, strict=True):
                    draws[sae].add(tokens, codes)
                advance(shard.n_tokens)
    drawn = np.concatenate([draw.entries for draw in draws.values()], axis=1)
    if not drawn.shape[1]:
        raise SourceError(
            "no residual feature fires on this text, so there is nothing to remove; read another"
        )
    return Targets(*drawn)


class _Draw:
    """A random sample of one SAE's activations."""

    def __init__(self, number: int, n: int, seed: int) -> None:
        self.number, self.n = number, n
        self.entries = np.zeros((4, 0), dtype=np.int64)
        self._rng, self._priority = np.random.default_rng([seed, number]), np.zeros(0)

    def add(self, tokens: Tokens, codes: scipy.sparse.csr_matrix) -> None:
        """Offer the activations on some tokens, (n_tokens, n_features), to the sample."""
        priority = self._rng.random(codes.nnz)
        first = np.argsort(priority)[: self.n]
        token = np.searchsorted(codes.indptr, first, side="right") - 1
        sae, idx = np.full(len(first), self.number), codes.indices[first].astype(np.int64)
        entries = np.stack([sae, idx, tokens.row[token], tokens.position[token]])
        together = np.concatenate([self._priority, priority[first]])
        least = np.argsort(together)[: self.n]
        self.entries = np.concatenate([self.entries, entries], axis=1)[:, least]
        self._priority = together[least]
