"""Which features of any layer below carry a feature, and which logits it raises, over a graph's text."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featgraph.ablation.far_edges import FarEdges, write_far_edges
from featgraph.ablation.firing import codes_of
from featgraph.ablation.gradients import CarriedSums, TargetTokens, carried
from featgraph.ablation.logits import logit_changes
from featgraph.ablation.sessions import Session
from featgraph.core import arguments
from featgraph.core.keys import SaeRange
from featgraph.core.progress import Progress, Silent
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.store import Store, open_store
from featgraph.store.features import best_labels, find_feature
from featgraph.store.update import updating
from featgraph.suite.frozen import frozen as holding

ATTRIBUTED_TOKENS = 64
"""Tokens per feature by default. Our choice: the standard error of a share is at most an eighth of its
spread."""

TOP = 20
"""Rows per feature by default."""

_COLUMNS = {
    "target": "VARCHAR",
    "key": "VARCHAR",
    "layers": "INTEGER",
    "attribution": "FLOAT",
    "attribution_se": "FLOAT",
    "same_token": "FLOAT",
    "n": "INTEGER",
    "label": "VARCHAR",
}

_LOGIT_COLUMNS = {
    "feature": "VARCHAR",
    "token": "VARCHAR",
    "token_id": "INTEGER",
    "change": "FLOAT",
    "change_se": "FLOAT",
    "n": "INTEGER",
}


@dataclass(frozen=True)
class Target:
    """A feature to attribute, and the tokens at which that is done."""

    key: str
    sae: SaeRange
    idx: int
    tokens: TargetTokens

    @property
    def id(self) -> int:
        """Its id in the graph."""
        return self.sae.first_id + self.idx


def attribute(
    path: str | Path,
    features: Iterable[str],
    *,
    tokens: int = ATTRIBUTED_TOKENS,
    top: int = TOP,
    frozen: bool = False,
    write: bool = False,
    text: str | None = None,
    read: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Return the features of all earlier SAEs that carry most of each given feature's activation.

    tokens: at most so many tokens on which the feature fires, drawn at random, one per row of text. top: rows
    per feature. frozen: norms' scales and attention patterns are constants. write: keep the rows as edges of
    kind `far` in the graph, but for pairs of SAEs that other edges join; they replace those of these features
    of an earlier call. text, read: another text than the recipe's, and how many tokens of it.

    Columns: target, key, layers (between the two), attribution (share of the target's activation carried from
    its own and all earlier tokens of the row), attribution_se (standard error over tokens), same_token (the
    part from the target's own token), n (tokens), label.

    Raises UsageError: a feature is not in the graph or never fires on the text, or a number is out of range.
    SourceError: the graph has no model or text, or they cannot be found again. StoreError: the graph cannot
    be written.
    """
    most, rows = arguments.check_count("tokens", tokens, 1), arguments.check_count("top", top, 1)
    seed = arguments.check_count("seed", seed)
    progress = progress or Silent()
    with ExitStack() as stack:
        work = stack.enter_context(updating(path, ".attributing")) if write else None
        store = work.store if work else stack.enter_context(open_store(path))
        session = Session(store, text, read)
        targets = targets_of(session, store, features, most, seed, progress)
        answers = []
        with (
            holding(session.model) if frozen else nullcontext(),
            progress.step("attribute", len(targets), "features") as advance,
        ):
            for target in targets:
                answers.append(_strongest(_carried(session, target), target, rows))
                advance(1)
        if work is not None:
            settings = {"tokens": most, "seed": seed, "frozen": frozen, "text": session.identity()}
            write_far_edges(work, _edges(targets, answers), [target.id for target in targets], settings)
        return _result(store, targets, answers)


def attribute_logits(
    path: str | Path,
    features: Iterable[str],
    *,
    tokens: int = ATTRIBUTED_TOKENS,
    top: int = TOP,
    frozen: bool = False,
    text: str | None = None,
    read: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Return the logits that each given feature changes most after the tokens on which it fires.

    The arguments are those of `attribute`; top: half as many logits raised as lowered.

    Columns: feature, token, token_id, change (mean activation times derivative, in logits, less the mean over
    the vocabulary), change_se (standard error over tokens), n (tokens).

    Raises as `attribute`.
    """
    most, rows = arguments.check_count("tokens", tokens, 1), arguments.check_count("top", top, 1)
    seed = arguments.check_count("seed", seed)
    progress = progress or Silent()
    found: list[tuple[object, ...]] = []
    with open_store(path) as store:
        session = Session(store, text, read)
        targets = targets_of(session, store, features, most, seed, progress)
        with (
            holding(session.model) if frozen else nullcontext(),
            progress.step("attribute", len(targets), "features") as advance,
        ):
            for target in targets:
                loaded = session.saes([target.sae.number])[target.sae.number]
                changes = logit_changes(session.model, loaded, target.idx, target.tokens)
                order = np.argsort(-changes.mean, kind="stable")
                raised, lowered = order[: rows - rows // 2], order[len(order) - rows // 2 :]
                for token in [*raised.tolist(), *lowered.tolist()]:
                    word = session.model.tokenizer.decode([token])
                    error = _known(changes.error[token])
                    found.append((target.key, word, token, float(changes.mean[token]), error, changes.n))
                advance(1)
    return Result.of(_LOGIT_COLUMNS, found)


def targets_of(
    session: Session, store: Store, features: Iterable[str], most: int, seed: int, progress: Progress
) -> list[Target]:
    """Return the features with tokens at which each fires.

    Raises UsageError: a feature is not in the graph or never fires, or none is given.
    """
    wanted = {str(key): (sae, key.idx) for key, sae in (find_feature(store.saes, name) for name in features)}
    if not wanted:
        raise UsageError("give one feature or more, such as 5/res/985")
    numbers = sorted({sae.number for sae, _ in wanted.values()})
    places: dict[str, list[Any]] = {key: [] for key in wanted}
    text = session.text
    with progress.step("read text", text.n_tokens, "tokens") as advance:
        for shard in text.shards:
            saes = session.saes(numbers)
            found, codes = codes_of(session.model, list(saes.values()), shard)
            columns = {sae: part.tocsc() for sae, part in zip(saes, codes, strict=True)}
            for key, (sae, idx) in wanted.items():
                column = columns[sae.number]
                active = column.indices[column.indptr[idx] : column.indptr[idx + 1]]
                positive = column.data[column.indptr[idx] : column.indptr[idx + 1]] > 0
                places[key].append(np.stack([found.row[active], found.position[active]])[:, positive])
            advance(shard.n_tokens)
    counted = {
        shard.first + place: shard.counted(row)
        for shard in text.shards
        for place, row in enumerate(shard.rows)
    }
    targets = []
    for key, (sae, idx) in wanted.items():
        rng = np.random.default_rng([seed, sae.number, idx])
        row, position = _one_per_row(np.concatenate(places[key], axis=1), most, rng)
        if not len(row):
            raise UsageError(
                f"{key} never fires on the text, so nothing carries it; see `featgraph run dead-features`"
            )
        tokens = TargetTokens(
            [text.rows[number] for number in row], position, [counted[int(number)] for number in row]
        )
        targets.append(Target(key, sae, idx, tokens))
    return targets


def _one_per_row(places: Any, most: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return at most so many rows and a position in each, at random."""
    shuffled = places[:, rng.permutation(places.shape[1])]
    _, first = np.unique(shuffled[0], return_index=True)
    chosen = shuffled[:, np.sort(first)[:most]]
    return chosen[0], chosen[1]


def _carried(session: Session, target: Target) -> dict[int, CarriedSums]:
    """Return what the features of all earlier SAEs carry, for as many SAEs at once as fit in memory."""
    own = target.sae.number
    sums: dict[int, CarriedSums] = {}
    for group in session.rounds({number: {number, own} for number in range(own)}):
        saes = session.saes([*group, own])
        upstream = {number: saes[number] for number in group}
        sums |= carried(session.model, saes[own], target.idx, upstream, target.tokens)
    return sums


def _strongest(
    sums: Mapping[int, CarriedSums], target: Target, most: int
) -> list[tuple[int, int, float, float | None, float, int]]:
    """Return number of the SAE, index, attribution, error, same_token and n of the strongest, in order."""
    parts = []
    for number, part in sorted(sums.items()):
        shares = part.attribution
        first = np.argsort(-np.abs(shares), kind="stable")[:most]
        parts += [
            (
                number,
                int(idx),
                float(shares[idx]),
                _known(part.error[idx]),
                float(part.same_token[idx]),
                part.n,
            )
            for idx in first.tolist()
            if shares[idx] != 0
        ]
    return sorted(parts, key=lambda row: (-abs(row[2]), row[0], row[1]))[:most]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _edges(targets: Sequence[Target], answers: Sequence[Sequence[tuple[Any, ...]]]) -> FarEdges:
    ends = [
        (number, idx, target.sae.number, target.idx, share)
        for target, rows in zip(targets, answers, strict=True)
        for number, idx, share, *_ in rows
    ]
    return (
        FarEdges(*(list(column) for column in zip(*ends, strict=True)))
        if ends
        else FarEdges([], [], [], [], [])
    )


def _result(store: Store, targets: Sequence[Target], answers: Sequence[Sequence[tuple[Any, ...]]]) -> Result:
    saes = store.saes
    ids = {saes[number].first_id + idx for rows in answers for number, idx, *_ in rows}
    labels = best_labels(store, ids)
    return Result.of(
        _COLUMNS,
        [
            (
                target.key,
                str(saes[number].key(idx)),
                target.sae.layer - saes[number].layer,
                share,
                error,
                own,
                n,
                labels.get(saes[number].first_id + idx),
            )
            for target, rows in zip(targets, answers, strict=True)
            for number, idx, share, error, own, n in rows
        ],
    )
