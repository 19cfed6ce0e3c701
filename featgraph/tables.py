"""What an ingest measured -> the rows of schema.sql, as Arrow tables with the same column names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import scipy.sparse
from numpy.typing import NDArray

from featgraph import evidence
from featgraph.activations import Batch, Pieces, decoded, encode
from featgraph.arrays import Matrix
from featgraph.matching import Candidates, best_cosine, ranks
from featgraph.model import EdgeKind, Slab
from featgraph.recipe import Recipe
from featgraph.statistics import AFTER, BEFORE, CoActivation, Contexts, Moments, Reconstruction, TopTokens
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.words import Vocabulary, label, promoted

if TYPE_CHECKING:
    import torch

Codes = tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]
"""One batch's codes, (n_tokens, n_features) and transposed."""

TOP_TOKENS = 10
"""Tokens listed per feature, fired on and promoted."""


@dataclass(frozen=True)
class Pair:
    """The candidates between two SAEs."""

    upstream: Slab
    downstream: Slab
    kind: EdgeKind
    candidates: Candidates


@dataclass(frozen=True)
class Counted:
    """What the pass over the text gathered: one entry per SAE, and one co-activation per pair of SAEs."""

    moments: list[Moments]
    reconstructions: list[Reconstruction]
    top_tokens: list[TopTokens]
    contexts: list[Contexts]
    coactivations: list[CoActivation]

    def update_sae(self, place: int, loaded: LoadedSae, activations: "torch.Tensor", batch: Batch) -> Codes:
        """Encode one batch at one site and add it to everything that concerns that SAE alone."""
        codes, reconstruction = encode(loaded, activations)
        self.reconstructions[place].update(decoded(activations), reconstruction)
        flipped = codes.T.tocsr()
        self.moments[place].update(codes)
        self.top_tokens[place].update(codes, batch)
        self.contexts[place].update(flipped, batch)
        return codes, flipped

    def update_pair(self, place: int, upstream: Codes, downstream: Codes) -> None:
        """Add one batch to the co-activation of one pair of SAEs."""
        self.coactivations[place].update(upstream[1], downstream[0])


@dataclass(frozen=True)
class Thresholds:
    """Calibrated cosines of one SAE."""

    low: float
    high: float


def all_tables(
    recipe: Recipe,
    model: LanguageModel,
    saes: list[LoadedSae],
    pieces: Pieces,
    pairs: list[Pair],
    counted: Counted,
    thresholds: list[Thresholds],
    words: Vocabulary,
) -> Iterator[tuple[str, pa.Table]]:
    """Yield (table name, rows) for every table of the schema."""
    yield "sae", _saes(saes, pieces, counted, thresholds)
    features = _features(model, saes, pieces, pairs, counted, words)
    yield "feature", features
    yield "edge", _edges(saes, pairs, counted, pieces.n_tokens)
    yield "example", _examples(saes, pieces, counted, words)
    yield "label", _labels(features)
    yield "meta", _meta(recipe, model, pieces)


def _saes(saes: list[LoadedSae], pieces: Pieces, counted: Counted, thresholds: list[Thresholds]) -> pa.Table:
    rows = []
    for loaded, moments, reconstruction, found in zip(
        saes, counted.moments, counted.reconstructions, thresholds, strict=True
    ):
        metadata = loaded.sae.cfg.metadata
        rows.append(
            {
                "slab": loaded.slab.slab,
                "layer": loaded.slab.layer,
                "site": loaded.slab.site,
                "first_id": loaded.slab.first_id,
                "n_features": loaded.slab.n_features,
                "hook_name": loaded.hook_name,
                "release": loaded.release,
                "sae_id": loaded.sae_id,
                "architecture": loaded.sae.cfg.architecture(),
                "d_in": loaded.sae.cfg.d_in,
                "neuronpedia_id": metadata.neuronpedia_id,
                "n_dead": int((moments.n_active == 0).sum()),
                "l0": float(moments.n_active.sum() / pieces.n_tokens),
                "explained_variance": reconstruction.explained_variance,
                "threshold_low": found.low,
                "threshold_high": found.high,
            }
        )
    return pa.Table.from_pylist(rows)


def _features(
    model: LanguageModel,
    saes: list[LoadedSae],
    pieces: Pieces,
    pairs: list[Pair],
    counted: Counted,
    words: Vocabulary,
) -> pa.Table:
    scores = _scores(saes, pairs)
    parts = []
    for place, (loaded, moments) in enumerate(zip(saes, counted.moments, strict=True)):
        slab, active = loaded.slab, moments.n_active > 0
        idx = np.arange(slab.n_features)
        with np.errstate(invalid="ignore"):
            mean = moments.sum / moments.n_active
        columns = {
            "id": slab.first_id + idx,
            "key": [str(slab.key(int(place))) for place in idx],
            "layer": np.full(slab.n_features, slab.layer),
            "site": [slab.site] * slab.n_features,
            "idx": idx,
            "density": moments.n_active / pieces.n_tokens,
            "mean_activation": _nullable(np.where(active, mean, np.nan)),
            "max_activation": _nullable(np.where(active, moments.max, np.nan)),
            "decoder_norm": loaded.norms,
            **{name: _nullable(scores[name][place]) for name in ("s_res", "s_mlp", "s_att")},
            "top_tokens": [words.words(best) for best in counted.top_tokens[place].best(TOP_TOKENS)],
            "logit_tokens": [
                words.words(best) for best in promoted(loaded.directions, model.unembedding, TOP_TOKENS)
            ],
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _scores(saes: list[LoadedSae], pairs: list[Pair]) -> dict[str, list[Matrix]]:
    """Return s_res, s_mlp and s_att per SAE: each feature's largest cosine to the features of a writer."""
    found = {
        name: [np.full(loaded.slab.n_features, np.nan, dtype=np.float32) for loaded in saes]
        for name in ("s_res", "s_mlp", "s_att")
    }
    for pair in pairs:
        best = best_cosine(pair.downstream.n_features, pair.candidates.dst, pair.candidates.cosine)
        found[f"s_{pair.upstream.site}"][pair.downstream.slab] = best
    return found


def _edges(saes: list[LoadedSae], pairs: list[Pair], counted: Counted, n_tokens: int) -> pa.Table:
    parts = []
    for pair, both in zip(pairs, counted.coactivations, strict=True):
        ends, nearest = (saes[pair.upstream.slab], saes[pair.downstream.slab]), pair.candidates
        u, d = (counted.moments[end.slab.slab] for end in ends)
        src, dst = nearest.src, nearest.dst
        n_u, n_d = u.n_active[src], d.n_active[dst]
        pearson = evidence.pearson(
            n_tokens, u.sum[src], u.square[src], d.sum[dst], d.square[dst], both.product
        )
        columns = {
            "src": pair.upstream.first_id + src,
            "dst": pair.downstream.first_id + dst,
            "kind": pa.array([pair.kind] * len(nearest)),
            "cosine": nearest.cosine,
            "rank_out": nearest.rank_out,
            "rank_in": nearest.rank_in,
            "n_both": both.n_both,
            "jaccard": _nullable(evidence.jaccard(n_u, n_d, both.n_both)),
            "necessity": _nullable(evidence.necessity(n_d, both.n_both)),
            "sufficiency": _nullable(evidence.sufficiency(n_u, both.n_both)),
            "pearson": _nullable(pearson),
            "virtual_weight": _nullable(_virtual_weight(ends, nearest)),
            "found_by": pa.array(["cosine"] * len(nearest)),
        }
        parts.append(pa.table(columns))
    edges = pa.concat_tables(parts)
    return edges.sort_by([("src", "ascending"), ("dst", "ascending")])


def _virtual_weight(ends: tuple[LoadedSae, LoadedSae], nearest: Candidates) -> Matrix:
    upstream, downstream = ends
    encoder = downstream.sae.W_enc.detach().numpy().T
    decoder = upstream.directions * upstream.norms[:, None]
    return evidence.virtual_weight(decoder[nearest.src], encoder[nearest.dst])


def _examples(saes: list[LoadedSae], pieces: Pieces, counted: Counted, words: Vocabulary) -> pa.Table:
    spelling = pa.array(words.words(range(words.size)))
    parts = []
    opens = np.array([1 if len(row) and row[0] in pieces.special else 0 for row in pieces.rows])
    length = np.array([len(row) for row in pieces.rows])
    for loaded, contexts in zip(saes, counted.contexts, strict=True):
        first = np.maximum(contexts.position - BEFORE, opens[contexts.piece])
        last = np.minimum(contexts.position + AFTER + 1, length[contexts.piece])
        tokens = [pieces.rows[p][a:b] for p, a, b in zip(contexts.piece, first, last, strict=True)]
        place = contexts.position[:, None] + np.arange(-BEFORE, AFTER + 1)
        shown = (place >= first[:, None]) & (place < last[:, None])
        offsets = pa.array(np.r_[0, np.cumsum(last - first)].astype(np.int32))
        flat = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32)
        columns = {
            "feature": loaded.slab.first_id + contexts.feature,
            "rank": ranks(contexts.feature, contexts.value, contexts.piece),
            "activation": contexts.value,
            "token_index": contexts.position - first,
            "tokens": pa.ListArray.from_arrays(offsets, spelling.take(pa.array(flat))),
            "activations": pa.ListArray.from_arrays(offsets, pa.array(contexts.window[shown])),
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _labels(features: pa.Table) -> pa.Table:
    texts = [
        label(top, promotes)
        for top, promotes in zip(
            features["top_tokens"].to_pylist(), features["logit_tokens"].to_pylist(), strict=True
        )
    ]
    named = [place for place, text in enumerate(texts) if text]
    return pa.table(
        {
            "feature": features["id"].take(pa.array(named, type=pa.int64())),
            "source": ["tokens"] * len(named),
            "text": [texts[place] for place in named],
        }
    )


def _meta(recipe: Recipe, model: LanguageModel, pieces: Pieces) -> pa.Table:
    rows = {
        "recipe": recipe.name,
        "model": model.name,
        "n_tokens": str(pieces.n_tokens),
        "top_k": str(recipe.edges.top_k),
    }
    return pa.table({"key": list(rows), "value": list(rows.values())})


def _nullable(values: NDArray[np.floating]) -> pa.Array:
    """float32 with NaN as NULL."""
    return pa.array(values.astype(np.float32), from_pandas=True)
