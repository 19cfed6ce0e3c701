"""The work of each step: read the files of earlier steps, compute, write files. Steps share nothing else.

A step writes the same files wherever it runs: its arguments name what it reads, and sums whose rounding
depends on the number of threads use one. `plan.py` has the order of the steps.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from featgraph import edges
from featgraph.ablation.effects import EffectSums, edge_columns, largest_causes
from featgraph.ablation.token_sample import SUPPORT
from featgraph.activations import codes, read_shards
from featgraph.activations.contexts import Contexts
from featgraph.activations.encoding import decode_every, encode_rows
from featgraph.activations.statistics import Moments, Reconstruction
from featgraph.activations.top_tokens import TopTokens
from featgraph.activations.vocabulary import Vocabulary, telling_tokens, top_logit_tokens
from featgraph.core.arrays import Counts, Indices, Matrix
from featgraph.core.keys import EdgeKind, SaeRange
from featgraph.core.ranking import ranks
from featgraph.edges import coactivation
from featgraph.edges.calibration import thresholds
from featgraph.edges.candidates import Candidates, Mask
from featgraph.edges.cause_nulls import effect_thresholds, exchanged_sources, null_thresholds
from featgraph.edges.coactivation import CoActive, Weigh, finder
from featgraph.edges.crowding import count_crowded
from featgraph.edges.evidence import FORMULAS
from featgraph.edges.virtual_weights import VirtualWeights
from featgraph.errors import SourceError
from featgraph.ingestion import removals, rows, shared
from featgraph.ingestion.worker import Place, Worker, pair_name
from featgraph.store import new_graph, vectors, vectors_file
from featgraph.suite.fits import check_context, check_ids

EFFECT_K = 8
"""Edges by measured effect, per source and per target, beside the candidates of the searches. Our choice: as
many as each search keeps."""


def load_sae(worker: Worker, place: Place) -> None:
    """SAE -> its directions, norms, encoder rows and identity."""
    loaded, work = worker.load(place), worker.work
    n_features, d_model = loaded.directions.shape
    file = vectors_file(new_graph(work.root), SaeRange(0, loaded.layer, loaded.site, 0, n_features))
    with work.arriving(str(file.relative_to(work.root))) as path:
        vectors.save(path, loaded.directions)
    encoder = np.zeros((0, 0), dtype=np.float32) if loaded.encoder is None else loaded.encoder
    work.save_matrix(f"saes/{loaded.name}.encoder.npy", encoder)
    arrays = {"norms": loaded.norms}
    if loaded.encoder_alignment is not None:
        arrays["encoder_alignment"] = loaded.encoder_alignment
    work.save_arrays(f"saes/{loaded.name}.npz", arrays)
    metadata = {
        "layer": loaded.layer,
        "site": loaded.site,
        "block": loaded.block,
        "n_features": n_features,
        "d_model": d_model,
        "hook_name": loaded.hook_name,
        "release": loaded.release,
        "sae_id": loaded.sae_id,
        "sha256": loaded.digest,
        "architecture": loaded.architecture,
        "d_in": loaded.d_in,
        "neuronpedia_id": loaded.neuronpedia_id,
        "no_virtual_weight": loaded.no_virtual_weight,
    }
    work.save_json(f"saes/{loaded.name}.json", metadata)


def match(worker: Worker, upstream: SaeRange, downstream: SaeRange) -> None:
    """Directions of two SAEs -> exact cosine candidates, both ways."""
    ends = worker.directions(upstream), worker.directions(downstream)
    if ends[0].shape[1] != ends[1].shape[1]:
        raise SourceError(
            f"the SAEs {upstream.name} and {downstream.name} write {ends[0].shape[1]} and "
            f"{ends[1].shape[1]} dimensions; a graph needs SAEs of one model"
        )
    candidates = edges.candidates(*ends, worker.recipe.edges.top_k)
    worker.work.save_arrays(f"candidates/{pair_name(upstream, downstream)}.npz", vars(candidates))


def read_text(worker: Worker) -> None:
    """Text -> token rows in shards, and how many tokens there are."""
    assert worker.recipe.text is not None
    check_context(worker.recipe, worker.meta_model.model.config.to_dict())
    n_tokens, n_rows = [], 0
    for shard, token_rows in enumerate(read_shards(worker.recipe.text, worker.meta_model.tokenizer)):
        worker.check_stopped()
        check_ids(max(int(row.max()) for row in token_rows.rows), worker.meta_model)
        arrays = {
            "ids": np.concatenate(token_rows.rows),
            "lengths": np.array([len(row) for row in token_rows.rows]),
            "special": np.array(sorted(token_rows.special)),
            "first": np.array(token_rows.first),
            "without_bos": np.array(token_rows.without_bos),
        }
        worker.work.save_arrays(f"text/{shard:05}.npz", arrays)
        n_tokens.append(token_rows.n_tokens)
        n_rows += len(token_rows.rows)
    worker.work.save_json("text.json", {"n_tokens": n_tokens, "n_rows": n_rows})


def encode(worker: Worker, places: Sequence[Place], shard: int) -> None:
    """One shard of text -> the codes of some SAEs on it, and how well they rebuild what they read."""
    saes = worker.group(places)
    every = decode_every(worker.n_tokens)
    encoded = encode_rows(worker.model, saes, worker.token_rows(shard), every)
    for loaded, one in zip(saes, encoded, strict=True):
        worker.work.save_arrays(f"codes/{loaded.name}/{shard:05}.npz", codes.pack(one.codes))
        limit = np.nan if loaded.massive_norm is None else loaded.massive_norm
        left_out = {"massive": np.flatnonzero(one.massive), "massive_norm": np.array(limit)}
        worker.work.save_arrays(f"rebuilt/{loaded.name}/{shard:05}.npz", {**one.rebuilt.arrays(), **left_out})


def summarise(worker: Worker, sae: SaeRange) -> None:
    """Codes of all shards -> moments, top tokens, strongest contexts and explained variance of one SAE."""
    moments, contexts = Moments(sae.n_features), Contexts(sae.n_features)
    top_tokens = TopTokens(worker.meta_model.n_vocabulary, sae.n_features)
    for shard, fired in enumerate(worker.codes(sae)):
        tokens, counted = worker.tokens(shard), ~worker.massive(sae, shard)
        moments.update(fired)
        top_tokens.update(fired[counted], tokens.take(counted))
        contexts.update(fired.T.tocsr(), tokens)
    best = top_tokens.best(rows.TOP_TOKENS)
    arrays = {
        "lengths": np.array([len(row) for row in best]),
        "tokens": np.array([token for row in best for token in row], dtype=np.int64),
        "occurs": top_tokens.occurrences > 0,
    }
    worker.work.save_arrays(f"moments/{sae.name}.npz", moments.arrays())
    worker.work.save_arrays(f"contexts/{sae.name}.npz", contexts.arrays())
    worker.work.save_arrays(f"top/{sae.name}.npz", arrays)
    worker.work.save_json(f"moments/{sae.name}.json", _rebuilt(worker, sae))


def _rebuilt(worker: Worker, sae: SaeRange) -> dict[str, object]:
    """Return how well an SAE rebuilds what it reads, and how many tokens are left out; unknown: None."""
    shards = list(worker.rebuilt(sae))
    whole = reduce(Reconstruction.merge, [Reconstruction.of(arrays) for arrays in shards])
    figures = {
        "explained_variance": whole.explained_variance,
        "explained_variance_se": whole.explained_variance_se,
        "rms_length": whole.rms_length,
        "massive_norm": float(shards[0]["massive_norm"]),
    }
    known = {name: None if np.isnan(value) else value for name, value in figures.items()}
    return {**known, "n_massive": sum(len(arrays["massive"]) for arrays in shards)}


def calibrate(worker: Worker, sae: SaeRange, upstream: SaeRange) -> None:
    """Directions of an SAE and of the residual one before it -> its thresholds, from live features."""
    before, own = (worker.live_directions(end) for end in (upstream, sae))
    low, high = thresholds(before, own, np.random.default_rng([worker.recipe.seed, sae.number]))
    worker.work.save_json(f"thresholds/{sae.name}.json", {"low": low, "high": high})


def link(worker: Worker, upstream: SaeRange, downstream: SaeRange, kind: EdgeKind) -> None:
    """Candidates and codes of two SAEs -> their edges with all evidence, by index within the SAEs."""
    name, weights = pair_name(upstream, downstream), _virtual_weights(worker, upstream, downstream)
    pairs, found_by = worker.candidates(name), {}
    nearest = pairs
    found_by["cosine"] = np.ones(len(pairs), dtype=np.bool_)
    sums = counted = None
    effects = removals.effect_sums(worker, upstream, downstream)
    if worker.n_shards:
        counted = shared.counted(worker, upstream, downstream)
        requested = _requested(nearest, effects, downstream.n_features)
        sums = _pair_sums(worker, upstream, downstream, requested, weights, counted)
    if sums is not None:
        src, dst = sums.src, sums.dst
        cosine = edges.cosines(worker.directions(upstream), worker.directions(downstream), src, dst)
        pairs = Candidates(src, dst, cosine, ranks(src, cosine, dst), ranks(dst, cosine, src))
        found_by = {"cosine": _among(pairs, (nearest.src, nearest.dst)), **sums.proposed}
        if effects is not None:
            found_by["effect"] = _among(pairs, largest_causes(effects, EFFECT_K, SUPPORT))
    known = weights is not None and _known(worker, upstream, downstream)
    weight = weights.exact(pairs.src, pairs.dst) if weights and known else None
    measures: dict[str, Matrix | Counts | None] = {"virtual_weight": weight}
    if sums is not None and counted is not None:
        statistics = coactivation.statistics(*counted, sums, weight)
        measures["n_both"] = sums.n_both
        measures |= {key: formula(statistics) for key, formula in FORMULAS.items()}
    if effects is not None:
        measures |= edge_columns(effects, pairs.src, pairs.dst)
    worker.work.save_rows(f"edges/{name}.parquet", rows.edges(kind, pairs, found_by, measures))
    ends = worker.directions(upstream), worker.directions(downstream)
    least = worker.work.json(f"thresholds/{downstream.name}.json")["high"]
    top_k = worker.recipe.edges.top_k
    n_crowded = count_crowded(*ends, nearest, (pairs.src, pairs.dst), top_k, least)
    nulls: dict[str, tuple[float, float] | None] = {}
    if kind == "res_res" and sums is not None and counted is not None:
        weigh = weights.exact if weights and known else None
        seeds = [worker.recipe.seed, upstream.number, downstream.number]
        nulls = _nulls(sums, counted, weigh, effects, np.random.default_rng(seeds))
    worker.work.save_json(f"edges/{name}.json", {"n_crowded": n_crowded, "nulls": nulls})


def _nulls(
    sums: CoActive,
    counted: shared.Counted,
    weigh: Weigh | None,
    effects: EffectSums | None,
    rng: np.random.Generator,
) -> dict[str, tuple[float, float] | None]:
    """Return (low, high) of each measure of causes, from sources that are exchanged for others."""
    n_active = counted[0].n_active
    nulls: dict[str, tuple[float, float] | None] = {}
    if weigh is not None:
        others = exchanged_sources(sums.src, n_active, rng)
        by_chance = coactivation.statistics(*counted, sums, weigh(others, sums.dst))
        for measure in ("twera", "attribution"):
            values = FORMULAS[measure](by_chance)
            nulls[measure] = None if values is None else null_thresholds(values)
    if effects is not None:
        measured = effects.effects()
        sure = measured.effect_n >= SUPPORT
        ends = measured.src[sure], measured.dst[sure]
        nulls["effect"] = effect_thresholds(*ends, measured.effect[sure], n_active, rng)
    return nulls


def _requested(nearest: Candidates, effects: EffectSums | None, n_downstream: int) -> tuple[Indices, Indices]:
    """Return the nearest pairs and those of the largest effects, each once, by source, then target."""
    src, dst = nearest.src, nearest.dst
    if effects is not None:
        more = largest_causes(effects, EFFECT_K, SUPPORT)
        src, dst = np.concatenate([src, more[0]]), np.concatenate([dst, more[1]])
    keys = np.unique(src.astype(np.int64) * n_downstream + dst)
    return keys // n_downstream, keys % n_downstream


def _among(pairs: Candidates, some: tuple[Indices, Indices]) -> Mask:
    """Return which of the pairs are among others."""
    width = int(max(pairs.dst.max(initial=0), some[1].max(initial=0))) + 1
    return np.isin(pairs.src.astype(np.int64) * width + pairs.dst, some[0].astype(np.int64) * width + some[1])


def _pair_sums(
    worker: Worker,
    upstream: SaeRange,
    downstream: SaeRange,
    requested: tuple[Indices, Indices],
    weights: VirtualWeights | None,
    counted: shared.Counted,
) -> CoActive:
    """Return the sums over the text of the requested pairs and of those that the search by twera proposes."""
    plan = worker.recipe.edges
    return coactivation.count(
        lambda: shared.codes(worker, upstream, downstream),
        *counted,
        requested,
        [finder("twera", plan.twera_k, *counted, weights.ranked)] if weights else [],
        plan.min_support,
    )


def _virtual_weights(worker: Worker, upstream: SaeRange, downstream: SaeRange) -> VirtualWeights | None:
    """Return the virtual weights between two SAEs, None where nothing encodes.

    Where they are not `_known`, a norm scales them by another factor at each token, about the same for all
    pairs: good enough to rank candidates, not to be stored.
    """
    encoder = worker.work.matrix(f"saes/{downstream.name}.encoder.npy")
    if not len(encoder):
        return None
    directions, norms = worker.directions(upstream), worker.sae_arrays(upstream)["norms"]
    return VirtualWeights(directions, norms, encoder)


def _known(worker: Worker, upstream: SaeRange, downstream: SaeRange) -> bool:
    """Return whether the virtual weights between two SAEs hold at every token."""
    ends = [downstream] if upstream.site == "res" else [upstream, downstream]
    return not any(worker.sae_metadata(sae.name)["no_virtual_weight"] for sae in ends)


def describe(worker: Worker, sae: SaeRange, writers: Sequence[SaeRange]) -> None:
    """Statistics of one SAE's features -> the rows of `feature`, `example` and `label`."""
    arrays = worker.sae_arrays(sae)
    weights = {"decoder_norm": arrays["norms"]}
    if "encoder_alignment" in arrays:
        weights["encoder_alignment"] = arrays["encoder_alignment"]
    for writer in writers:
        matched = worker.candidates(pair_name(writer, sae))
        weights[f"s_{writer.site}"] = edges.best_cosine(sae.n_features, matched.dst, matched.cosine)
    statistics = _feature_stats(worker, sae) if worker.n_shards else None
    features = rows.features(sae, weights, statistics)
    worker.work.save_rows(f"features/{sae.name}.parquet", features)
    if statistics is not None:
        contexts = Contexts.of(worker.work.arrays(f"contexts/{sae.name}.npz"))
        shards = [worker.token_rows(shard) for shard in range(worker.n_shards)]
        token_rows = [row for shard in shards for row in shard.rows]
        examples = rows.examples(contexts, token_rows, shards[0].special, statistics.words)
        worker.work.save_rows(f"examples/{sae.name}.parquet", examples)
        worker.work.save_rows(f"labels/{sae.name}.parquet", rows.labels(features, statistics))


def _feature_stats(worker: Worker, sae: SaeRange) -> rows.FeatureStats:
    model, top = worker.meta_model, worker.work.arrays(f"top/{sae.name}.npz")
    best = np.split(top["tokens"], np.cumsum(top["lengths"])[:-1])
    directions, unembedding = worker.directions(sae), worker.unembedding
    promotes = top_logit_tokens(directions, unembedding, rows.TOP_TOKENS)
    telling = telling_tokens(directions, unembedding, promotes, top["occurs"])
    words = Vocabulary(model.tokenizer, model.n_vocabulary)
    return rows.FeatureStats(worker.moments(sae), worker.n_counted(sae), best, promotes, telling, words)
