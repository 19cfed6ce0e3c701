"""Where both ends of edges fire on a text, and a random sample of those tokens for each edge.

Each token of the text is as likely as any other. Memory grows with the text by its token ids alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.ablation.choosing import Edges
from featgraph.activations import Batch, TokenRows, Tokens
from featgraph.activations.encoding import encode_rows
from featgraph.core.arrays import Counts, Indices
from featgraph.core.progress import Advance
from featgraph.suite import LanguageModel, LoadedSae


@dataclass(frozen=True)
class Drawn:
    """A sample of tokens on which both ends of edges fire, one entry per token and edge."""

    edge: Indices
    """Place of the edge among those to ablate."""
    row: Indices
    position: Indices

    def take(self, chosen: NDArray[np.bool_]) -> "Drawn":
        """Return some of them."""
        return Drawn(self.edge[chosen], self.row[chosen], self.position[chosen])

    @classmethod
    def none(cls) -> "Drawn":
        """Return no tokens."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, nothing)


@dataclass(frozen=True)
class Firing:
    """On how many tokens of a text the ends of edges fire, (n_edges,), and a sample on which both do."""

    n_dst: Counts
    n_both: Counts
    drawn: Drawn


class Text:
    """A text in memory, as shards for encoding and as rows by their number."""

    def __init__(self, shards: Sequence[TokenRows]) -> None:
        self.shards = list(shards)
        self.rows: list[NDArray[np.int32]] = [row for shard in self.shards for row in shard.rows]
        self.n_tokens = sum(shard.n_tokens for shard in self.shards)


def codes_of(
    model: LanguageModel, saes: Sequence[LoadedSae], shard: TokenRows
) -> tuple[Tokens, list[scipy.sparse.csr_matrix]]:
    """Return the counted tokens of a shard, and the codes of each SAE on them, (n_tokens, n_features)."""
    tokens = Tokens.joined(list[Batch](shard.batches()))
    return tokens, [encoded.codes for encoded in encode_rows(model, saes, shard)]


def firing(
    model: LanguageModel,
    saes: dict[int, LoadedSae],
    text: Text,
    edges: Edges,
    most: int,
    seed: int,
    advance: Advance,
) -> Firing:
    """Read a text once and draw tokens for some edges.

    saes: by number, those of all ends. most: tokens drawn per edge, from the seed and the downstream SAE,
    whichever other edges are read with it. advance: counts tokens read.
    """
    rngs = {sae: np.random.default_rng([seed, sae]) for sae in np.unique(edges.downstream).tolist()}
    n_dst, n_both = np.zeros((2, len(edges)), dtype=np.int64)
    ends = [
        (sae_ranges, edges.index(ids, sae_ranges))
        for ids, sae_ranges in ((edges.src, edges.upstream), (edges.dst, edges.downstream))
    ]
    kept, priorities = Drawn.none(), np.zeros(0)
    for shard in text.shards:
        tokens, all_codes = codes_of(model, list(saes.values()), shard)
        columns = {sae: codes.tocsc() for sae, codes in zip(saes, all_codes, strict=True)}
        parts = [(kept, priorities)]
        for edge in range(len(edges)):
            src, dst = (_active(columns[int(sae[edge])], int(idx[edge])) for sae, idx in ends)
            both = np.intersect1d(src, dst, assume_unique=True)
            n_dst[edge] += len(dst)
            n_both[edge] += len(both)
            parts.append(_some(edge, tokens, both, most, rngs[int(edges.downstream[edge])]))
        kept, priorities = _least(parts, most)
        advance(shard.n_tokens)
    return Firing(n_dst, n_both, kept)


def _active(codes: scipy.sparse.csc_matrix, column: int) -> NDArray[np.int32]:
    """Return the tokens on which a feature is active."""
    rows: NDArray[np.int32] = codes.indices[codes.indptr[column] : codes.indptr[column + 1]]
    return rows


def _some(
    edge: int, tokens: Tokens, chosen: NDArray[np.int32], most: int, rng: np.random.Generator
) -> tuple[Drawn, NDArray[np.float64]]:
    """Return the tokens of one edge that come first in a random order, with their places in it."""
    priority = rng.random(len(chosen))
    if len(chosen) > most:
        first = np.argpartition(priority, most)[:most]
        chosen, priority = chosen[first], priority[first]
    drawn = Drawn(np.full(len(chosen), edge, dtype=np.int64), tokens.row[chosen], tokens.position[chosen])
    return drawn, priority


def _least(
    parts: Sequence[tuple[Drawn, NDArray[np.float64]]], most: int
) -> tuple[Drawn, NDArray[np.float64]]:
    """Return, of each edge, the tokens that come first over all parts."""
    edge, row, position = (
        np.concatenate([getattr(drawn, name) for drawn, _ in parts]) for name in ("edge", "row", "position")
    )
    priority = np.concatenate([values for _, values in parts])
    order = np.lexsort((priority, edge))
    starts = np.searchsorted(edge[order], edge[order])
    first = order[np.arange(len(order)) - starts < most]
    return Drawn(edge[first], row[first], position[first]), priority[first]
