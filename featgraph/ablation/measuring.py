"""Edges -> the change of their downstream ends without the upstream ones, on a text, into the graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.choosing import Edges, choose_edges
from featgraph.ablation.firing import Drawn, firing
from featgraph.ablation.recording import record
from featgraph.ablation.removing import Effects, Removals, Remover
from featgraph.ablation.sessions import Session
from featgraph.core import arguments
from featgraph.core.arrays import Counts, Indices
from featgraph.core.progress import Advance, Progress, Silent
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.store.update import updating
from featgraph.suite import LoadedSae

SAMPLE = 1000
"""Edges ablated by default."""

TOKENS = 16
"""Tokens per edge by default. Our choice: the standard error of 16 changes is at most an eighth of their
range."""

_COLUMNS = {
    "src": "VARCHAR",
    "dst": "VARCHAR",
    "kind": "VARCHAR",
    "cosine": "FLOAT",
    "ablation_change": "FLOAT",
    "success": "FLOAT",
    "ablation_n": "INTEGER",
    "n_both": "INTEGER",
    "n_dst": "INTEGER",
}


@dataclass(frozen=True)
class Measured:
    """The ablation of some edges, (n_edges,)."""

    edges: Edges
    change: NDArray[np.float64]
    """Mean of 1 - activation without / with the upstream feature; NaN where there was no token."""
    success: NDArray[np.float64]
    """Share of the tokens on which the downstream feature fell silent."""
    n: Counts
    """Tokens on which both fired and the upstream one was removed."""
    n_both: Counts
    """Tokens of the text on which both fire."""
    n_dst: Counts
    """Tokens of the text on which the downstream end fires."""

    def result(self) -> Result:
        """Return one row per edge, as `ablate` prints them."""
        edges, sae_ranges = self.edges, self.edges.saes
        ends = [
            [str(sae_ranges[sae].key(idx)) for sae, idx in zip(places.tolist(), inside.tolist(), strict=True)]
            for places, inside in (
                (edges.upstream, edges.index(edges.src, edges.upstream)),
                (edges.downstream, edges.index(edges.dst, edges.downstream)),
            )
        ]
        kinds = [f"{sae_ranges[sae].site}_res" for sae in edges.upstream.tolist()]
        measures = [
            [None if np.isnan(one) else one for one in part.tolist()] for part in (self.change, self.success)
        ]
        counts = [part.tolist() for part in (self.n, self.n_both, self.n_dst)]
        rows = zip(*ends, kinds, edges.cosine.tolist(), *measures, *counts, strict=True)
        return Result.of(_COLUMNS, (tuple(row) for row in rows))


def ablate(
    path: str | Path,
    edges: str | None = None,
    *,
    sample: int | None = SAMPLE,
    tokens: int = TOKENS,
    text: str | None = None,
    read: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Ablate edges on tokens where both ends fire, and write `ablation_change` into the graph.

    edges: a statement that returns columns `src` and `dst`, ids or keys; None for the edges that the verbs
    follow. sample: ablate so many of them, drawn at random; None for all. tokens: most tokens per edge. text,
    read: another text than the recipe's, and how many tokens of it. New numbers replace those of an earlier
    ablation; other edges keep theirs. Returns one row per edge.

    Raises UsageError: the statement returns no edges, or a number is out of range. SourceError: the graph has
    no model or text, or they cannot be found again. StoreError: the graph cannot be written.
    """
    most = arguments.check_count("tokens", tokens, 1)
    wanted = None if sample is None else arguments.check_count("sample", sample, 1)
    with updating(path, ".ablating") as work:
        session = Session(work.store, text, read)
        chosen = choose_edges(work.store, edges, wanted, arguments.check_count("seed", seed))
        if not len(chosen):
            raise UsageError(
                "no edges to ablate; name others with --edges, such as SELECT src, dst FROM edge"
            )
        measured = measure(session, chosen, most, seed, progress or Silent())
        settings = {"edges": edges, "among": chosen.among, "n": len(chosen), "tokens": most, "seed": seed}
        record(work, chosen, measured.change, measured.n, {**settings, "text": session.identity()})
    return measured.result()


def measure(session: Session, edges: Edges, most: int, seed: int, progress: Progress) -> Measured:
    """Ablate edges, one downstream SAE after the other, and write nothing."""
    n_dst, n_both, n = np.zeros((3, len(edges)), dtype=np.int64)
    change, success = np.full((2, len(edges)), np.nan)
    model, text = session.model, session.text
    parts = edges.by_downstream()
    rounds = session.rounds({sae: {sae, *edges.upstream[part].tolist()} for sae, part in parts.items()})
    with (
        progress.step("read text", len(rounds) * text.n_tokens, "tokens") as reading,
        progress.step("remove features", len(edges) * most, "tokens") as removing,
    ):
        for group in rounds:
            together = np.concatenate([parts[sae] for sae in group])
            some = edges.take(together)
            saes = session.saes({*some.upstream.tolist(), *some.downstream.tolist()})
            fired = firing(model, saes, text, some, most, seed, reading)
            n_dst[together], n_both[together] = fired.n_dst, fired.n_both
            removing(len(some) * most - len(fired.drawn.edge))
            for sae in group:
                places = parts[sae]
                drawn = fired.drawn.take(some.downstream[fired.drawn.edge] == sae)
                effects = removed(session, saes, sae, _removals(some, drawn), removing)
                kept = effects.valid
                of = np.searchsorted(places, together[drawn.edge[kept]])
                n[places] = np.bincount(of, minlength=len(places))
                change[places] = _means(of, effects.change[kept], n[places])
                success[places] = _means(of, effects.silenced[kept], n[places])
    return Measured(edges, change, success, n, n_both, n_dst)


def removed(
    session: Session, saes: Mapping[int, LoadedSae], number: int, removals: Removals, advance: Advance
) -> Effects:
    """Make removals upstream of one SAE; return the effect of each.

    saes: by number; that one, those upstream, and any others.
    """
    effects = Effects(*np.zeros((3, len(removals)), dtype=np.float32))
    upstream = {number: saes[number] for number in np.unique(removals.sae).tolist()}
    if not upstream:
        return effects
    for places, part in Remover(session.model, upstream, saes[number])(session.text.rows, removals):
        for values, found in zip(effects, part, strict=True):
            values[places] = found
        advance(len(places))
    return effects


def _removals(edges: Edges, drawn: Drawn) -> Removals:
    src, dst = edges.index(edges.src, edges.upstream), edges.index(edges.dst, edges.downstream)
    return Removals(drawn.row, drawn.position, edges.upstream[drawn.edge], src[drawn.edge], dst[drawn.edge])


def _means(of: Indices, values: NDArray[Any], n: Counts) -> NDArray[np.float64]:
    """Return the mean of the values of each edge, NaN where there are none."""
    sums = np.bincount(of, weights=values, minlength=len(n))
    return np.where(n > 0, sums / np.maximum(n, 1), np.nan)
