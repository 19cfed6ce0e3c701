"""Rules for choosing the upstream feature that a target depends on: random, best match, or best of all.

Targets are activations drawn at random from a text. Every candidate edge into each is ablated, one at a time,
and all rules are compared on the same targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featgraph import store
from featgraph.ablation.measuring import removed
from featgraph.ablation.sessions import Session
from featgraph.ablation.targets import Targets, draw_targets
from featgraph.core import arguments
from featgraph.core.arrays import Indices, Matrix
from featgraph.core.bootstrap import cluster_interval
from featgraph.core.keys import EDGE_KINDS
from featgraph.core.progress import Progress, Silent
from featgraph.core.result import Result
from featgraph.errors import SourceError
from featgraph.store import Store

TARGETS = 1000
"""Targets drawn by default."""

Pool = Literal["res_res", "mlp_res", "att_res", "all", "single"]
"""The candidates of a target that a rule may choose. single: those of the one kind whose nearest match fires,
for targets with just one such kind, as in the paper's Table 1."""

_COLUMNS = {
    "candidates": "VARCHAR",
    "method": "VARCHAR",
    "n_targets": "INTEGER",
    "fires": "DOUBLE",
    "n": "INTEGER",
    "change": "DOUBLE",
    "change_low": "DOUBLE",
    "change_high": "DOUBLE",
    "success": "DOUBLE",
    "success_low": "DOUBLE",
    "success_high": "DOUBLE",
}

_INTO = """
    select e.dst, e.src, e.kind, e.cosine, coalesce(e.pearson, -2)
    from edge e semi join (select unnest($dst::integer[]) as dst) t using (dst)
    order by e.dst, e.src
"""


@dataclass(frozen=True)
class Tried:
    """Candidates of targets and the effect of removing each, one entry per pair, by target."""

    target: Indices
    kind: NDArray[np.int8]
    """Place in EDGE_KINDS."""
    cosine: Matrix
    pearson: Matrix
    fires: NDArray[np.bool_]
    """Whether the candidate is active at the target's token."""
    change: Matrix
    silenced: NDArray[np.bool_]
    order: NDArray[np.float64]
    """A random number."""


def baselines(
    path: str | Path,
    *,
    sample: int = TARGETS,
    text: str | None = None,
    read: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Compare rules for choosing the one upstream feature that a target depends on; nothing is written.

    sample: targets, an activation of a residual feature at a token each, drawn at random from the text, as
    many of each SAE. Columns: `n_targets` of which some candidate fires; `fires`, the share of these on which
    the rule's choice does; `n`, targets on which the choices of all rules do; on these, the mean activation
    change and the share that fell silent, with 95 % intervals.

    Raises SourceError: the graph has no model or text, or they cannot be found again.
    """
    most = arguments.check_count("sample", sample, 1)
    arguments.check_count("seed", seed)
    with store.open_store(path) as opened:
        session = Session(opened, text, read)
        shown = progress or Silent()
        targets = draw_targets(session, most, seed, shown)
        tried = _tried(opened, session, targets, seed, shown)
    rows: list[tuple[object, ...]] = []
    for pool in get_args(Pool):
        rows.extend((pool, *row) for row in _compared(_pooled(tried, pool), targets.row, seed))
    return Result.of(_COLUMNS, rows)


def _tried(opened: Store, session: Session, targets: Targets, seed: int, progress: Progress) -> Tried:
    """Remove every candidate of every target."""
    ids = targets.ids(session.sae_ranges)
    rows = opened.rows(_INTO, {"dst": np.unique(ids).tolist()})
    if not rows:
        raise SourceError(f"no edge leads to any of the {len(ids)} features drawn; draw more with --sample")
    dst, src, kind, cosine, pearson = (np.array(column) for column in zip(*rows, strict=True))
    first, last = np.searchsorted(dst, ids, side="left"), np.searchsorted(dst, ids, side="right")
    target = np.repeat(np.arange(len(ids)), last - first)
    edge = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    removals = targets.removals(session.sae_ranges, target, src[edge])
    fires, silenced = np.zeros((2, len(target)), dtype=np.bool_)
    change = np.zeros(len(target), dtype=np.float32)
    with progress.step("remove features", len(target), "candidates") as advance:
        for sae in np.unique(targets.sae).tolist():
            places = np.flatnonzero(targets.sae[target] == sae)
            some = removals.take(places)
            saes = session.saes({sae, *some.sae.tolist()})
            effects = removed(session, saes, sae, some, advance)
            fires[places[effects.valid]] = True
            change[places], silenced[places] = effects.change, effects.silenced
    kinds = np.array([EDGE_KINDS.index(name) for name in kind], dtype=np.int8)
    order = np.random.default_rng(seed).random(len(target))
    return Tried(target, kinds[edge], cosine[edge], pearson[edge], fires, change, silenced, order)


def _pooled(tried: Tried, pool: Pool) -> Tried:
    """Return the candidates of a pool, for targets with one that fires."""
    if pool == "single":
        nearest = np.zeros((int(tried.target.max()) + 1, len(EDGE_KINDS)), dtype=np.bool_)
        for kind in range(len(EDGE_KINDS)):
            places = _best(tried.cosine, tried.target, tried.kind == kind)
            nearest[tried.target[places], kind] = tried.fires[places]
        kept = nearest[tried.target, tried.kind] & (nearest.sum(axis=1) == 1)[tried.target]
    else:
        kept = (
            np.ones(len(tried.target), dtype=np.bool_)
            if pool == "all"
            else tried.kind == EDGE_KINDS.index(pool)
        )
    alive = np.bincount(tried.target[kept & tried.fires], minlength=int(tried.target.max()) + 1) > 0
    places = np.flatnonzero(kept & alive[tried.target])
    return Tried(*(getattr(tried, name)[places] for name in tried.__dataclass_fields__))


def _best(score: NDArray[Any], target: Indices, among: NDArray[np.bool_]) -> Indices:
    """Return the place of each target's largest score among some entries; the first of ties."""
    places = np.flatnonzero(among)
    order = places[np.lexsort((-score[places], target[places]))]
    first: Indices = order[np.diff(target[order], prepend=-1) != 0]
    return first


def _compared(tried: Tried, row: Indices, seed: int) -> Iterator[tuple[object, ...]]:
    """Yield the figures of each rule; row: the row of the text that each target is in.

    random is one of the candidates that fire; best, of all candidates the one whose removal takes away most.

    Source: arXiv 2502.03032 v3, section 4.2 and Table 1; there random is one of the five nearest, and pearson
    looks at all features of the SAE, not at candidates.
    """
    always = np.ones(len(tried.target), dtype=np.bool_)
    choices = {
        "random": _best(tried.order, tried.target, tried.fires),
        "top-1 cosine": _best(tried.cosine, tried.target, always),
        "top-1 pearson": _best(tried.pearson, tried.target, always),
        "best": _best(tried.change, tried.target, tried.fires),
    }
    fires = {rule: tried.fires[places] for rule, places in choices.items()}
    shared = np.flatnonzero(np.logical_and.reduce(list(fires.values())))
    for rule, places in choices.items():
        chosen = places[shared]
        firing = float(fires[rule].mean()) if len(places) else None
        values = np.stack([tried.change[chosen], tried.silenced[chosen]], axis=1).astype(np.float64)
        yield rule, len(places), firing, len(chosen), *_means(values, row[tried.target[chosen]], seed)


def _means(values: NDArray[np.float64], clusters: Indices, seed: int) -> list[float | None]:
    """Return the mean of each column with the ends of its interval; None where there is none."""
    if not len(values):
        return [None] * (3 * values.shape[1])
    low, high = cluster_interval(lambda places: values[places].mean(axis=0), clusters, seed)
    ends = zip(values.mean(axis=0), low, high, strict=True)
    return [None if np.isnan(one) else float(one) for each in ends for one in each]
