"""The steps of exhaustive removal: the tokens, the removals at some of them, the sums of a pair of SAEs."""

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.effects import EffectSums
from featgraph.ablation.exhaustive import TokenSample, removal_sums
from featgraph.ablation.token_sample import draw, probabilities, rarest
from featgraph.activations import Tokens
from featgraph.core.arrays import Counts
from featgraph.core.keys import SaeRange
from featgraph.ingestion.worker import Worker, pair_name

TokenIds = NDArray[np.int32]

CHUNK = 1024
"""Tokens of one step: an interruption loses at most so many. Our choice: half a minute on the demo."""


def draw_tokens(worker: Worker, saes: Sequence[SaeRange]) -> None:
    """Codes of the downstream SAEs -> the tokens at which features are removed, with their weights."""
    n_active = [worker.moments(sae).n_active for sae in saes]
    codes = zip(*(worker.codes(sae) for sae in saes), strict=True)
    fewest = np.concatenate([rarest(of_shard, n_active) for of_shard in codes])
    probability = probabilities(fewest, worker.recipe.edges.effect_tokens)
    chosen = draw(probability, worker.recipe.seed)
    tokens = Tokens.joined([worker.tokens(shard) for shard in range(worker.n_shards)])
    arrays = {
        "row": tokens.row[chosen],
        "position": tokens.position[chosen],
        "weight": 1 / probability[chosen],
    }
    worker.work.save_arrays("removed/tokens.npz", arrays)


def n_tokens(worker: Worker) -> int:
    """Return how many tokens `draw_tokens` drew."""
    return len(worker.work.arrays("removed/tokens.npz")["row"])


def remove(worker: Worker, pairs: Sequence[tuple[SaeRange, SaeRange]], chunk: int) -> None:
    """Some sampled tokens -> the sums over all removals at them, for each pair of SAEs."""
    saes = {sae.number: sae for pair in pairs for sae in pair}
    places = [(sae.layer, sae.site) for sae in saes.values()]
    loaded = dict(zip(saes, worker.group(places), strict=True))
    sample = _sample(worker, chunk)
    rows, local = _rows(worker, sample)
    worker.check_stopped()
    numbers = [(up.number, down.number) for up, down in pairs]
    sums = removal_sums(worker.model, loaded, rows, local, numbers)
    for (up, down), pair in zip(pairs, numbers, strict=True):
        found = sums[pair]
        arrays = {"keys": found.keys, "figures": found.figures, "fires": found.fires}
        worker.work.save_arrays(sums_file(up, down, chunk), arrays)


def sums_file(up: SaeRange, down: SaeRange, chunk: int) -> str:
    """Return the name of the file with the sums of one pair of SAEs over some tokens."""
    return f"removed/{pair_name(up, down)}/{chunk:05}.npz"


def effect_sums(worker: Worker, up: SaeRange, down: SaeRange) -> EffectSums | None:
    """Return the sums of one pair of SAEs over all sampled tokens; None where nothing is removed."""
    if not worker.recipe.edges.effect_tokens or not worker.n_shards:
        return None
    chunks = range(n_chunks(n_tokens(worker)))
    parts = (EffectSums(**worker.work.arrays(sums_file(up, down, chunk))) for chunk in chunks)
    return reduce(EffectSums.merge, parts)


def n_chunks(tokens: int) -> int:
    """Return how many steps some tokens take.

    >>> n_chunks(1), n_chunks(1024), n_chunks(1025)
    (1, 1, 2)
    """
    return -(-tokens // CHUNK)


def _sample(worker: Worker, chunk: int) -> TokenSample:
    arrays = worker.work.arrays("removed/tokens.npz")
    some = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    return TokenSample(arrays["row"][some], arrays["position"][some], arrays["weight"][some])


def _rows(worker: Worker, sample: TokenSample) -> tuple[list[TokenIds], TokenSample]:
    """Return the rows of text that a sample stands in, and the sample with their places among these."""
    numbers, place = np.unique(sample.row, return_inverse=True)
    rows = list(_chosen_rows(worker, numbers))
    return rows, TokenSample(place.astype(np.int64), sample.position, sample.weight)


def _chosen_rows(worker: Worker, numbers: Counts) -> Iterator[TokenIds]:
    """Yield some rows of the text by their numbers, ascending."""
    for shard in range(worker.n_shards):
        token_rows = worker.token_rows(shard)
        last = token_rows.first + len(token_rows.rows)
        for number in numbers[(numbers >= token_rows.first) & (numbers < last)].tolist():
            yield token_rows.rows[number - token_rows.first]
