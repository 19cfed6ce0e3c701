"""Measurements -> rows of schema.sql, as Arrow tables, for one SAE or one pair of SAEs at a time.

Features are given by their index within the SAE (`idx`, `src`, `dst`, `feature`); ids are added when the rows
enter the database. A measure that was not taken is NULL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featgraph.activations.contexts import AFTER, BEFORE, Contexts
from featgraph.activations.statistics import Moments
from featgraph.activations.vocabulary import Vocabulary, label
from featgraph.core.arrays import Indices, Matrix
from featgraph.core.keys import EdgeKind, SaeRange
from featgraph.core.ranking import ranks
from featgraph.edges import evidence
from featgraph.edges.candidates import Candidates
from featgraph.edges.coactivation import CoActive

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
    words: Vocabulary


@dataclass(frozen=True)
class CoactivationStats:
    """Statistics of pairs of features of two SAEs on the text."""

    pairs: CoActive
    upstream: Moments
    downstream: Moments
    n_tokens: int


def features(
    sae: SaeRange, norms: Matrix, scores: Mapping[str, Matrix], fired: FeatureStats | None
) -> pa.Table:
    """Return the rows of `feature`, without ids.

    norms: lengths of the decoder rows, (n_features,). scores: s_res, s_mlp and s_att as far as there are such
    writers, each (n_features,). fired: None for a graph of directions alone.
    """
    idx = np.arange(sae.n_features)
    columns: dict[str, object] = {
        "key": [str(sae.key(int(place))) for place in idx],
        "layer": np.full(sae.n_features, sae.layer),
        "site": [sae.site] * sae.n_features,
        "idx": idx,
        "decoder_norm": norms,
        **{name: _nullable(values) for name, values in scores.items()},
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
        }
    return pa.table(columns)


def edges(
    kind: EdgeKind, found: Candidates, weights: Matrix | None, text: CoactivationStats | None
) -> pa.Table:
    """Return the rows of `edge` between two SAEs, by index, ordered by src, then dst.

    weights: virtual weights, one per edge, None where nothing reads the residual stream. text: None for a
    graph of directions alone.
    """
    n = len(found)
    columns: dict[str, object] = {
        "src": found.src,
        "dst": found.dst,
        "kind": pa.repeat(kind, n),
        "cosine": found.cosine,
        "rank_out": found.rank_out,
        "rank_in": found.rank_in,
        "found_by": pa.repeat("cosine", n),
    }
    if weights is not None:
        columns["virtual_weight"] = _nullable(weights)
    if text is not None:
        columns |= _measures(text)
    return pa.table(columns)


def _measures(text: CoactivationStats) -> dict[str, object]:
    both, u, d = text.pairs, text.upstream, text.downstream
    src, dst = both.src, both.dst
    n_u, n_d = u.n_active[src], d.n_active[dst]
    pearson = evidence.pearson(
        text.n_tokens, u.sum[src], u.square[src], d.sum[dst], d.square[dst], both.product
    )
    found_by = np.where(both.requested, np.where(both.found, "both", "cosine"), "coactivation")
    return {
        "n_both": both.n_both,
        "jaccard": _nullable(evidence.jaccard(n_u, n_d, both.n_both)),
        "necessity": _nullable(evidence.necessity(n_d, both.n_both)),
        "sufficiency": _nullable(evidence.sufficiency(n_u, both.n_both)),
        "pearson": _nullable(pearson),
        "found_by": found_by,
    }


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


def labels(rows: pa.Table) -> pa.Table:
    """Return the rows of `label` that the tokens of features give, by index."""
    texts = [
        label(top, promotes)
        for top, promotes in zip(
            rows["top_tokens"].to_pylist(), rows["logit_tokens"].to_pylist(), strict=True
        )
    ]
    named = [place for place, text in enumerate(texts) if text]
    return pa.table(
        {
            "feature": rows["idx"].take(pa.array(named, type=pa.int64())),
            "source": pa.repeat("tokens", len(named)),
            "text": pa.array([texts[place] for place in named], type=pa.string()),
        }
    )


def _nullable(values: NDArray[np.floating]) -> pa.Array:
    """float32 with NaN as NULL."""
    return pa.array(values.astype(np.float32), from_pandas=True)
