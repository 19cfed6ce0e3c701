"""Exhaustive removal on a random sample of tokens -> `effect`, and the columns beside it, of every edge."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from featgraph.ablation.effects import EffectSums, edge_columns
from featgraph.ablation.exhaustive import TokenSample, removal_sums
from featgraph.ablation.firing import Text
from featgraph.ablation.recording import record_effects
from featgraph.ablation.sessions import Session
from featgraph.ablation.token_sample import SUPPORT
from featgraph.core import arguments
from featgraph.core.arrays import Indices
from featgraph.core.keys import SaeRange
from featgraph.core.progress import Progress, Silent
from featgraph.core.result import Result
from featgraph.edges.cause_nulls import effect_thresholds
from featgraph.store import Store
from featgraph.store.update import updating

SAMPLED_TOKENS = 2000
"""Tokens by default. Our choice: on the demo, half a minute for 900,000 removals on two cores."""

_COLUMNS = {
    "src_sae": "VARCHAR",
    "dst_sae": "VARCHAR",
    "kind": "VARCHAR",
    "n_pairs": "INTEGER",
    "n_edges": "INTEGER",
    "n_measured": "INTEGER",
    "n_targets": "INTEGER",
    "largest_is_edge": "FLOAT",
}

_PAIRS = """
    select src_sae, dst_sae from pair where n_edges > 0 and kind <> 'far' order by dst_sae, src_sae
"""

_EDGES = """
    select src, dst from edge
    where src >= $src_first and src < $src_last and dst >= $dst_first and dst < $dst_last
    order by src, dst
"""


def ablate_exhaustively(
    path: str | Path,
    *,
    tokens: int = SAMPLED_TOKENS,
    text: str | None = None,
    read: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Remove every active feature of a sample of tokens, and write the effects of all edges into the graph.

    tokens: size of the sample; every counted token of the text is as likely. text, read: another text than
    the recipe's, and how many tokens of it. All edges get new values of `effect`, `effect_n`, `effect_se`,
    `silenced`, `ablation_change` and `ablation_n`.

    Returns one row per pair of SAEs: n_pairs of features that fire together in the sample, n_edges, of
    which n_measured have an effect, n_targets downstream features with SUPPORT tokens or more, and
    largest_is_edge, the share of these whose largest cause is the source of an edge.

    Raises UsageError: a number is out of range. SourceError: the graph has no model or text, or they cannot
    be found again. StoreError: the graph cannot be written.
    """
    most, seed = arguments.check_count("tokens", tokens, 1), arguments.check_count("seed", seed)
    with updating(path, ".ablating") as work:
        session = Session(work.store, text, read)
        pairs = [(int(up), int(down)) for up, down in work.store.rows(_PAIRS)]
        sample = draw_tokens(session.text, most, seed)
        sums = _summed(session, pairs, sample, progress or Silent())
        tables, rows, nulls = [], [], []
        for pair in pairs:
            up, down = (session.sae_ranges[number] for number in pair)
            src, dst = _edges_of(work.store, up, down)
            tables.append(_measured(sums[pair], up, down, src, dst))
            rows.append(_answer(sums[pair], up, down, src, dst))
            if up.site == "res":
                nulls.append((down.number, _threshold(work.store, sums[pair], up, down, seed)))
        settings = {"exhaustive": True, "tokens": len(sample), "seed": seed, "text": session.identity()}
        known = [(sae, *null) for sae, null in nulls if null is not None]
        record_effects(work, pa.concat_tables(tables), known, settings)
    return Result.of(_COLUMNS, rows)


def draw_tokens(text: Text, n: int, seed: int) -> TokenSample:
    """Return n counted tokens of a text at random, all of them if it has fewer."""
    places: list[tuple[Indices, Indices]] = []
    first = 0
    for shard in text.shards:
        for number, ids in enumerate(shard.rows):
            counted = np.flatnonzero(shard.counted(ids))
            places.append((np.full(len(counted), first + number, dtype=np.int64), counted))
        first += len(shard.rows)
    row, position = (np.concatenate(parts).astype(np.int64) for parts in zip(*places, strict=True))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(row))[:n])
    return TokenSample(row[chosen], position[chosen])


def _summed(
    session: Session, pairs: Sequence[tuple[int, int]], sample: TokenSample, progress: Progress
) -> Mapping[tuple[int, int], EffectSums]:
    """Return the sums of all pairs, for as many downstream SAEs at once as fit in memory."""
    needed = {down: {down, *(up for up, other in pairs if other == down)} for _, down in pairs}
    rounds = session.rounds(needed)
    sums: dict[tuple[int, int], EffectSums] = {}
    with progress.step("remove features", len(rounds) * len(sample), "tokens") as advance:
        for group in rounds:
            saes = session.saes(sorted({sae for down in group for sae in needed[down]}))
            some = [pair for pair in pairs if pair[1] in group]
            sums |= removal_sums(session.model, saes, session.text.rows, sample, some, advance)
    return sums


def _edges_of(store: Store, up: SaeRange, down: SaeRange) -> tuple[Indices, Indices]:
    """Return both ends of the edges between two SAEs, within their SAEs, by src, then dst."""
    ends = {
        f"{name}_{end}": id
        for name, sae in (("src", up), ("dst", down))
        for end, id in (("first", sae.first_id), ("last", sae.first_id + sae.n_features))
    }
    rows = np.array(store.rows(_EDGES, ends), dtype=np.int64).reshape(-1, 2)
    return rows[:, 0] - up.first_id, rows[:, 1] - down.first_id


def _measured(sums: EffectSums, up: SaeRange, down: SaeRange, src: Indices, dst: Indices) -> pa.Table:
    """Return the columns that edges get."""
    columns = {"src": (up.first_id + src).astype(np.int32), "dst": (down.first_id + dst).astype(np.int32)}
    measured = {
        name: values.astype(np.int32) if values.dtype.kind == "i" else pa.array(values, from_pandas=True)
        for name, values in edge_columns(sums, src, dst).items()
    }
    return pa.table({**columns, **measured})


def _threshold(
    store: Store, sums: EffectSums, up: SaeRange, down: SaeRange, seed: int
) -> tuple[float, float] | None:
    """Return (low, high) of `effect` on edges between two SAEs; None where nothing was measured."""
    rows = store.rows(
        "select coalesce(density, 0) from feature where id >= $first and id < $last order by id",
        {"first": up.first_id, "last": up.first_id + up.n_features},
    )
    # As counts: firing rates are only compared.
    n_active = np.round(np.array(rows, dtype=np.float64)[:, 0] * 1e9).astype(np.int64)
    effects = sums.effects()
    sure = effects.effect_n >= SUPPORT
    rng = np.random.default_rng([seed, up.number, down.number])
    return effect_thresholds(effects.src[sure], effects.dst[sure], effects.effect[sure], n_active, rng)


def _answer(sums: EffectSums, up: SaeRange, down: SaeRange, src: Indices, dst: Indices) -> tuple[object, ...]:
    """Return the row of one pair of SAEs."""
    effects = sums.effects()
    order = np.lexsort((-effects.effect, effects.dst))
    order = order[np.diff(effects.dst[order], prepend=-1) != 0]
    largest = order[effects.effect_n[order] >= SUPPORT]
    edges = np.isin(sums.keys[largest], src * len(sums.fires) + dst)
    share = float(edges.mean()) if len(edges) else None
    measured = int((sums.fires[dst, 0] > 0).sum())
    names = (f"{up.layer}/{up.site}", f"{down.layer}/{down.site}", f"{up.site}_res")
    return (*names, len(effects), len(src), measured, len(largest), share)
