"""The features that are active on each token of a text, and how strongly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arguments import check_count
from featgraph.core.arrays import Indices, Matrix
from featgraph.core.progress import Progress
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.features.find import FeatureFilter, share
from featgraph.features.prompts import codes, cut
from featgraph.store import Store
from featgraph.store.features import known_features
from featgraph.suite.graph_suite import GraphSuite

PER_TOKEN = 3
"""Default number of features shown per token: a sentence fits on a screen. Our choice."""

MIN_SHARE = 0.2
"""Smallest share of a feature's largest activation on the graph's text at which it counts as active.

Source: arXiv 2410.08869, "relative activation"."""


@dataclass(frozen=True, eq=False)
class ActiveFeatures:
    """The features that are active on a text: arrays of equal length, by token, then by descending share."""

    tokens: list[str]
    """The counted tokens, in the order of the text."""
    places: list[int]
    """Position of each token in the text, from 0, without BOS."""
    token: Indices
    """Index in `tokens`."""
    feature: Indices
    """Id of the feature."""
    activation: Matrix
    share: Matrix
    """Activation divided by the largest one on the graph's text; NaN for a feature that never fired there."""
    layer: Indices
    """Layer of the feature."""
    layers: list[int]
    """Layers of the SAEs that were run, in the order of the model."""

    def result(self, store: Store, per_token: int = PER_TOKEN) -> Result:
        """Return the most active features of each token.

        Columns: token_index, token, id, key, layer, site, activation, share, label.

        Raises UsageError: per_token is below 1.
        """
        most = check_count("per_token", per_token, least=1)
        first = np.searchsorted(self.token, self.token)
        kept = np.flatnonzero(np.arange(len(self.token)) - first < most)
        named = known_features(store, self.feature[kept].tolist())
        rows: list[tuple[object, ...]] = []
        for place in kept.tolist():
            token, feature = int(self.token[place]), int(self.feature[place])
            key, label = named[feature].key, named[feature].label
            strength, part = float(self.activation[place]), float(self.share[place])
            known = None if np.isnan(part) else part
            where = (self.places[token], self.tokens[token])
            rows.append((*where, feature, str(key), key.layer, key.site, strength, known, label))
        return Result.of(_COLUMNS, rows)


def active_features(
    store: Store,
    text: str,
    *,
    feature_filter: FeatureFilter | None = None,
    min_share: float = MIN_SHARE,
    progress: Progress | None = None,
) -> ActiveFeatures:
    """Run a text through the language model and the SAEs; return the features that are active on its tokens.

    BOS and other special tokens are left out. feature_filter: by default residual features of all layers.
    min_share: 0 keeps all that are active, also those that never fired on the graph's text.

    Raises UsageError: the text has no tokens, or a value is out of range. SourceError: the graph was made
    without a text, or its model or an SAE is not there.
    """
    feature_filter, least = feature_filter or FeatureFilter("res"), share("min_share", min_share)
    saes = feature_filter.saes(store)
    if not text.strip():
        raise UsageError(f"the text {text!r} is empty; give some words")
    suite = GraphSuite(store)
    prompts = cut(suite, [text])
    tokens = prompts.tokens
    places = prompts.place(tokens)
    order = np.argsort(places)
    rank = np.argsort(order)
    parts = []
    for sae, feature_codes in codes(suite, saes, prompts, progress):
        entries = feature_codes.tocoo()
        feature = sae.first_id + entries.col.astype(np.int64)
        largest, passes = _known(store, feature, feature_filter)
        part = entries.data / largest
        kept = np.flatnonzero(passes & ((part >= least) | (least == 0)))
        layer = np.full(len(kept), sae.layer)
        parts.append((rank[entries.row[kept]], feature[kept], entries.data[kept], part[kept], layer))
    token, feature, activation, part, layer = map(np.concatenate, zip(*parts, strict=True))
    by_token = np.lexsort((feature, -np.nan_to_num(part, nan=-np.inf), token))
    return ActiveFeatures(
        [suite.model.tokenizer.decode([int(tokens.token[place])]) for place in order],
        places[order].tolist(),
        token[by_token],
        feature[by_token],
        activation[by_token],
        part[by_token],
        layer[by_token],
        list(dict.fromkeys(sae.layer for sae in saes)),
    )


def _known(
    store: Store, features: Indices, feature_filter: FeatureFilter
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Return each feature's largest activation on the graph's text (NaN: none), and whether it passes the
    filter."""
    ids, place = np.unique(features, return_inverse=True)
    bounds = {"least": feature_filter.min_density, "most": feature_filter.max_density}
    largest, passes = np.full(len(ids), np.nan, dtype=np.float32), np.zeros(len(ids), dtype=np.bool_)
    for id, value in store.rows(_KNOWN, {"ids": ids.tolist(), **bounds}):
        at = np.searchsorted(ids, id)
        passes[at] = True
        largest[at] = np.nan if value is None or value <= 0 else value
    return largest[place], passes[place]


_COLUMNS = {
    "token_index": "INTEGER",
    "token": "VARCHAR",
    "id": "INTEGER",
    "key": "VARCHAR",
    "layer": "INTEGER",
    "site": "VARCHAR",
    "activation": "FLOAT",
    "share": "FLOAT",
    "label": "VARCHAR",
}

_KNOWN = """
    select id, max_activation from feature
    where id in (select unnest($ids::integer[]))
        and ($least is null or density >= $least::float) and ($most is null or density <= $most::float)
"""
