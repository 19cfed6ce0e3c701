"""What each step does: read what earlier steps left, compute, leave files. Nothing else is passed on.

A step leaves the same files wherever it runs: what it reads is named by its arguments, and it uses one thread
for what more threads would round otherwise.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from featgraph import edges
from featgraph.activations import codes, read_shards
from featgraph.activations.encoding import encode_rows
from featgraph.activations.statistics import Contexts, Moments, Reconstruction, TopTokens
from featgraph.activations.vocabulary import Vocabulary, promoted
from featgraph.core.keys import EdgeKind, SaeRange
from featgraph.core.ranking import ranks
from featgraph.edges import coactivation, evidence
from featgraph.edges.calibration import thresholds
from featgraph.edges.candidates import Candidates
from featgraph.errors import SourceError
from featgraph.ingestion import rows as tables
from featgraph.ingestion.worker import Place, Worker, pair_name
from featgraph.store import new_graph, vectors, vectors_file


def load_sae(worker: Worker, place: Place) -> None:
    """SAE -> its directions, norms, encoder rows and identity."""
    loaded, work = worker.load(place), worker.work
    n_features, d_model = loaded.directions.shape
    file = vectors_file(new_graph(work.root), SaeRange(0, loaded.layer, loaded.site, 0, n_features))
    with work.arriving(str(file.relative_to(work.root))) as path:
        vectors.save(path, loaded.directions)
    encoder = np.zeros((0, 0), dtype=np.float32) if loaded.encoder is None else loaded.encoder
    work.save_matrix(f"saes/{loaded.name}.encoder.npy", encoder)
    work.save_matrix(f"saes/{loaded.name}.norms.npy", loaded.norms)
    facts = {
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
    }
    work.save_facts(f"saes/{loaded.name}.json", facts)


def match(worker: Worker, upstream: SaeRange, downstream: SaeRange) -> None:
    """Directions of two SAEs -> exact cosine candidates, both ways."""
    ends = worker.directions(upstream), worker.directions(downstream)
    if ends[0].shape[1] != ends[1].shape[1]:
        raise SourceError(
            f"the SAEs {upstream.name} and {downstream.name} write {ends[0].shape[1]} and "
            f"{ends[1].shape[1]} dimensions; a graph needs SAEs of one model"
        )
    found = edges.candidates(*ends, worker.recipe.edges.top_k)
    worker.work.save_arrays(f"candidates/{pair_name(upstream, downstream)}.npz", vars(found))


def read_text(worker: Worker) -> None:
    """Text -> token rows in shards, and how many tokens there are."""
    assert worker.recipe.text is not None
    n_tokens, n_pieces = [], 0
    for shard, pieces in enumerate(read_shards(worker.recipe.text, worker.meta_model.tokenizer)):
        worker.check_stopped()
        arrays = {
            "ids": np.concatenate(pieces.rows),
            "lengths": np.array([len(row) for row in pieces.rows]),
            "special": np.array(sorted(pieces.special)),
            "first": np.array(pieces.first),
        }
        worker.work.save_arrays(f"text/{shard:05}.npz", arrays)
        n_tokens.append(pieces.n_tokens)
        n_pieces += len(pieces.rows)
    worker.work.save_facts("text.json", {"n_tokens": n_tokens, "n_pieces": n_pieces})


def encode(worker: Worker, places: Sequence[Place], shard: int) -> None:
    """One shard of text -> the codes of some SAEs on it, and how well they rebuild what they read."""
    saes = worker.group(places)
    encoded = encode_rows(worker.model, saes, worker.pieces(shard))
    for loaded, (found, rebuilt) in zip(saes, encoded, strict=True):
        worker.work.save_arrays(f"codes/{loaded.name}/{shard:05}.npz", codes.pack(found))
        worker.work.save_arrays(f"rebuilt/{loaded.name}/{shard:05}.npz", rebuilt.arrays())


def summarise(worker: Worker, sae: SaeRange) -> None:
    """Codes of all shards -> moments, top tokens, strongest contexts and explained variance of one SAE."""
    moments, contexts = Moments(sae.n_features), Contexts(sae.n_features)
    top_tokens = TopTokens(worker.meta_model.n_vocabulary, sae.n_features)
    for shard, found in enumerate(worker.codes(sae)):
        tokens = worker.tokens(shard)
        moments.update(found)
        top_tokens.update(found, tokens)
        contexts.update(found.T.tocsr(), tokens)
    rebuilt = [Reconstruction.of(arrays) for arrays in worker.rebuilt(sae)]
    best = top_tokens.best(tables.TOP_TOKENS)
    arrays = {
        "lengths": np.array([len(row) for row in best]),
        "tokens": np.array([token for row in best for token in row], dtype=np.int64),
    }
    worker.work.save_arrays(f"moments/{sae.name}.npz", moments.arrays())
    worker.work.save_arrays(f"contexts/{sae.name}.npz", contexts.arrays())
    worker.work.save_arrays(f"top/{sae.name}.npz", arrays)
    whole = reduce(Reconstruction.merge, rebuilt)
    facts = {"explained_variance": whole.explained_variance, "rms_length": whole.rms_length}
    worker.work.save_facts(f"moments/{sae.name}.json", facts)


def calibrate(worker: Worker, sae: SaeRange, upstream: SaeRange) -> None:
    """Directions of an SAE and of the residual one before it -> its thresholds, from live features."""
    before, own = (worker.live_directions(end) for end in (upstream, sae))
    low, high = thresholds(before, own, np.random.default_rng([worker.recipe.seed, sae.number]))
    worker.work.save_facts(f"thresholds/{sae.name}.json", {"low": low, "high": high})


def link(worker: Worker, upstream: SaeRange, downstream: SaeRange, kind: EdgeKind) -> None:
    """Candidates and codes of two SAEs -> their edges with all evidence, by index within the SAEs."""
    name = pair_name(upstream, downstream)
    near = worker.candidates(name)
    ends = worker.directions(upstream), worker.directions(downstream)
    coactivated = _coactivation(worker, upstream, downstream, near) if worker.n_shards else None
    if coactivated is not None:
        src, dst = coactivated.pairs.src, coactivated.pairs.dst
        cosine = edges.cosines(*ends, src, dst)
        near = Candidates(src, dst, cosine, ranks(src, cosine, dst), ranks(dst, cosine, src))
    encoder = worker.work.matrix(f"saes/{downstream.name}.encoder.npy")
    weights = None
    if len(encoder):
        norms = worker.norms(upstream)
        weights = evidence.virtual_weight(ends[0], norms, encoder, near.src, near.dst)
    worker.work.save_rows(f"edges/{name}.parquet", tables.edges(kind, near, weights, coactivated))


def _coactivation(
    worker: Worker, upstream: SaeRange, downstream: SaeRange, near: Candidates
) -> tables.CoactivationStats:
    plan, ends = worker.recipe.edges, (worker.moments(upstream), worker.moments(downstream))
    pairs = coactivation.count(
        lambda: zip(worker.codes(upstream), worker.codes(downstream), strict=True),
        *ends,
        worker.n_tokens,
        (near.src, near.dst),
        plan.coactive_k,
        plan.min_support,
    )
    return tables.CoactivationStats(pairs, *ends, worker.n_tokens)


def describe(worker: Worker, sae: SaeRange, writers: Sequence[SaeRange]) -> None:
    """All that is known of one SAE's features -> their rows, their examples and their labels."""
    scores = {}
    for writer in writers:
        near = worker.candidates(pair_name(writer, sae))
        scores[f"s_{writer.site}"] = edges.best_cosine(sae.n_features, near.dst, near.cosine)
    fired = _fired(worker, sae) if worker.n_shards else None
    rows = tables.features(sae, worker.norms(sae), scores, fired)
    worker.work.save_rows(f"features/{sae.name}.parquet", rows)
    if fired is not None:
        contexts = Contexts.of(worker.work.arrays(f"contexts/{sae.name}.npz"))
        shards = [worker.pieces(shard) for shard in range(worker.n_shards)]
        pieces = [row for shard in shards for row in shard.rows]
        examples = tables.examples(contexts, pieces, shards[0].special, fired.words)
        worker.work.save_rows(f"examples/{sae.name}.parquet", examples)
        worker.work.save_rows(f"labels/{sae.name}.parquet", tables.labels(rows))


def _fired(worker: Worker, sae: SaeRange) -> tables.FeatureStats:
    model, top = worker.meta_model, worker.work.arrays(f"top/{sae.name}.npz")
    best = np.split(top["tokens"], np.cumsum(top["lengths"])[:-1])
    promotes = promoted(worker.directions(sae), worker.unembedding, tables.TOP_TOKENS)
    words = Vocabulary(model.tokenizer, model.n_vocabulary)
    return tables.FeatureStats(worker.moments(sae), worker.n_tokens, best, promotes, words)
