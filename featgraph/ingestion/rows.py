"""Measurements -> rows of schema.sql, as Arrow tables, for one SAE or one pair of SAEs at a time.

Features are given by their index within the SAE (`idx`, `src`, `dst`, `feature`); ids are added when the rows
enter the database. A measure that was not taken is NULL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featgraph.activations.contexts import AFTER, BEFORE, Contexts
from featgraph.activations.statistics import Moments
from featgraph.activations.vocabulary import Vocabulary, label
from featgraph.core.arrays import Counts, Indices, Matrix
from featgraph.core.keys import EdgeKind, SaeRange
from featgraph.core.measures import FINDERS
from featgraph.core.ranking import ranks
from featgraph.edges.candidates import Candidates, Mask

TOP_TOKENS = 10
"""Tokens listed per feature, fired on and promoted."""


@dataclass(frozen=True)
class FeatureStats:
    """Statistics of one SAE's features on the text."""

    moments: Moments
    n_tokens: int
    top: Sequence[Indices]
    """Per feature, the tokens it fires on most."""
    promoted: Sequence[Sequence[int]]
    """Per feature, the tokens it promotes most."""
    telling: Sequence[Sequence[int]]
    """Of these, the tokens that a label may name."""
    words: Vocabulary


def features(sae: SaeRange, weights: Mapping[str, Matrix], fired: FeatureStats | None) -> pa.Table:
    """Return the rows of `feature`, without ids.

    weights: columns that follow from weights alone, each (n_features,): decoder_norm, encoder_alignment, and
    s_res, s_mlp, s_att as far as there are such writers. fired: None for a graph of directions alone.
    """
    idx = np.arange(sae.n_features)
    columns: dict[str, object] = {
        "key": [str(sae.key(int(place))) for place in idx],
        "layer": np.full(sae.n_features, sae.layer),
        "site": [sae.site] * sae.n_features,
        "idx": idx,
        **{name: _nullable(values) for name, values in weights.items()},
    }
    if fired is not None:
        moments, active = fired.moments, fired.moments.n_active > 0
        with np.errstate(invalid="ignore"):
            mean = moments.sum / moments.n_active
        columns |= {
            "density": moments.n_active / fired.n_tokens,
            "mean_activation": _nullable(np.where(active, mean, np.nan)),
            "max_activation": _nullable(np.where(active, moments.max, np.nan)),
            "top_tokens": [fired.words.words(best.tolist()) for best in fired.top],
            "logit_tokens": [fired.words.words(best) for best in fired.promoted],
            "telling_tokens": [fired.words.words(best) for best in fired.telling],
        }
    return pa.table(columns)


def edges(
    kind: EdgeKind,
    pairs: Candidates,
    found_by: Mapping[str, Mask],
    measures: Mapping[str, Matrix | Counts | None],
) -> pa.Table:
    """Return the rows of `edge` between two SAEs, by index, ordered by src, then dst.

    found_by: the edges that each finder proposes. measures: columns of evidence beside the cosine, None for
    one that is not known.
    """
    return pa.table(
        {
            "src": pairs.src,
            "dst": pairs.dst,
            "kind": pa.repeat(kind, len(pairs)),
            "cosine": pairs.cosine,
            "rank_out": pairs.rank_out,
            "rank_in": pairs.rank_in,
            **{name: _nullable(values) for name, values in measures.items() if values is not None},
            "found_by": _joined(found_by, len(pairs)),
        }
    )


def _joined(found_by: Mapping[str, Mask], n_pairs: int) -> list[str]:
    """Return, per edge, the finders that propose it, in the order of FINDERS, joined by commas."""
    masks = [found_by.get(name, np.zeros(n_pairs, dtype=np.bool_)) for name in FINDERS]
    code = sum(
        (mask.astype(np.int64) << place for place, mask in enumerate(masks)), np.zeros(n_pairs, np.int64)
    )
    words = [
        ",".join(name for place, name in enumerate(FINDERS) if number >> place & 1)
        for number in range(1 << len(FINDERS))
    ]
    return [words[number] for number in code]


def examples(
    contexts: Contexts, rows: Sequence[NDArray[np.int32]], special: frozenset[int], words: Vocabulary
) -> pa.Table:
    """Return the rows of `example`, by index: the strongest contexts of one SAE's features.

    rows: token ids of every row of the text. special: ids that open a row and are not shown.
    """
    opens = np.array([1 if len(row) and row[0] in special else 0 for row in rows])
    length = np.array([len(row) for row in rows])
    first = np.maximum(contexts.position - BEFORE, opens[contexts.row])
    last = np.minimum(contexts.position + AFTER + 1, length[contexts.row])
    tokens = [rows[p][a:b] for p, a, b in zip(contexts.row, first, last, strict=True)]
    place = contexts.position[:, None] + np.arange(-BEFORE, AFTER + 1)
    shown = (place >= first[:, None]) & (place < last[:, None])
    offsets = pa.array(np.r_[0, np.cumsum(last - first)].astype(np.int32))
    flat = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32)
    distinct, spelled = np.unique(flat, return_inverse=True)
    spelling = pa.array(words.words(distinct.tolist()), type=pa.string())
    return pa.table(
        {
            "feature": contexts.feature,
            "rank": ranks(contexts.feature, contexts.value, contexts.row),
            "activation": contexts.value,
            "token_index": contexts.position - first,
            "tokens": pa.ListArray.from_arrays(offsets, spelling.take(pa.array(spelled))),
            "activations": pa.ListArray.from_arrays(offsets, pa.array(contexts.window[shown])),
        }
    )


def labels(rows: pa.Table, statistics: FeatureStats) -> pa.Table:
    """Return the rows of `label` that the tokens of features give, by index; rows: those of `feature`."""
    texts = [
        label(top, statistics.words.words(telling))
        for top, telling in zip(rows["top_tokens"].to_pylist(), statistics.telling, strict=True)
    ]
    named = [place for place, text in enumerate(texts) if text]
    return pa.table(
        {
            "feature": rows["idx"].take(pa.array(named, type=pa.int64())),
            "source": pa.repeat("tokens", len(named)),
            "text": pa.array([texts[place] for place in named], type=pa.string()),
        }
    )


def _nullable(values: NDArray[Any]) -> pa.Array:
    """Return counts as they are, strengths as float32 with NaN as NULL."""
    if values.dtype.kind == "i":
        return pa.array(values)
    return pa.array(values.astype(np.float32), from_pandas=True)
