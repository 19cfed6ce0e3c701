"""What each step does: read what earlier steps left, compute, leave files. Nothing else is passed on.

A step leaves the same files wherever it runs: what it reads is named by its arguments, and it uses one thread
for what more threads would round otherwise.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from featgraph import evidence, matching, tables, vectors
from featgraph.activations import codes, read_shards
from featgraph.activations.encoding import encode_pieces
from featgraph.build.worker import Place, Worker, pair_name
from featgraph.errors import SourceError
from featgraph.matching import Candidates
from featgraph.matching.calibration import thresholds
from featgraph.model import EdgeKind, Slab
from featgraph.statistics import Contexts, Moments, Reconstruction, TopTokens, coactivation
from featgraph.store import new_graph, vectors_file
from featgraph.words import Vocabulary, promoted


def load_sae(worker: Worker, place: Place) -> None:
    """SAE -> its directions, norms, encoder rows and identity."""
    loaded, work = worker.load(place), worker.work
    n_features, d_model = loaded.directions.shape
    file = vectors_file(new_graph(work.root), Slab(0, loaded.layer, loaded.site, 0, n_features))
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


def match(worker: Worker, upstream: Slab, downstream: Slab) -> None:
    """Directions of two SAEs -> exact cosine candidates, both ways."""
    ends = worker.directions(upstream), worker.directions(downstream)
    if ends[0].shape[1] != ends[1].shape[1]:
        raise SourceError(
            f"the SAEs {upstream.name} and {downstream.name} write {ends[0].shape[1]} and "
            f"{ends[1].shape[1]} dimensions; a graph needs SAEs of one model"
        )
    found = matching.candidates(*ends, worker.recipe.edges.top_k)
    worker.work.save_arrays(f"candidates/{pair_name(upstream, downstream)}.npz", vars(found))


def read_text(worker: Worker) -> None:
    """Text -> token rows in shards, and how many tokens there are."""
    assert worker.recipe.text is not None
    n_tokens, n_pieces = [], 0
    for shard, pieces in enumerate(read_shards(worker.recipe.text, worker.skeleton.tokenizer)):
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
    encoded = encode_pieces(worker.model, saes, worker.pieces(shard))
    for loaded, (found, rebuilt) in zip(saes, encoded, strict=True):
        worker.work.save_arrays(f"codes/{loaded.name}/{shard:05}.npz", codes.pack(found))
        worker.work.save_arrays(f"rebuilt/{loaded.name}/{shard:05}.npz", rebuilt.arrays())


def summarise(worker: Worker, slab: Slab) -> None:
    """Codes of all shards -> moments, top tokens, strongest contexts and explained variance of one SAE."""
    moments, contexts = Moments(slab.n_features), Contexts(slab.n_features)
    top_tokens = TopTokens(worker.skeleton.n_vocabulary, slab.n_features)
    for shard, found in enumerate(worker.codes(slab)):
        tokens = worker.tokens(shard)
        moments.update(found)
        top_tokens.update(found, tokens)
        contexts.update(found.T.tocsr(), tokens)
    rebuilt = [Reconstruction.of(arrays) for arrays in worker.rebuilt(slab)]
    best = top_tokens.best(tables.TOP_TOKENS)
    arrays = {
        "lengths": np.array([len(row) for row in best]),
        "tokens": np.array([token for row in best for token in row], dtype=np.int64),
    }
    worker.work.save_arrays(f"moments/{slab.name}.npz", moments.arrays())
    worker.work.save_arrays(f"contexts/{slab.name}.npz", contexts.arrays())
    worker.work.save_arrays(f"top/{slab.name}.npz", arrays)
    whole = reduce(Reconstruction.merge, rebuilt)
    facts = {"explained_variance": whole.explained_variance, "rms_length": whole.rms_length}
    worker.work.save_facts(f"moments/{slab.name}.json", facts)


def calibrate(worker: Worker, slab: Slab, upstream: Slab) -> None:
    """Directions of an SAE and of the residual one before it -> its thresholds, from live features."""
    before, own = (worker.live_directions(end) for end in (upstream, slab))
    low, high = thresholds(before, own, np.random.default_rng([worker.recipe.seed, slab.slab]))
    worker.work.save_facts(f"thresholds/{slab.name}.json", {"low": low, "high": high})


def link(worker: Worker, upstream: Slab, downstream: Slab, kind: EdgeKind) -> None:
    """Candidates and codes of two SAEs -> their edges with all evidence, by index within the SAEs."""
    name = pair_name(upstream, downstream)
    near = worker.candidates(name)
    ends = worker.directions(upstream), worker.directions(downstream)
    together = _together(worker, upstream, downstream, near) if worker.n_shards else None
    if together is not None:
        src, dst = together.pairs.src, together.pairs.dst
        cosine = matching.cosines(*ends, src, dst)
        near = Candidates(
            src, dst, cosine, matching.ranks(src, cosine, dst), matching.ranks(dst, cosine, src)
        )
    encoder = worker.work.matrix(f"saes/{downstream.name}.encoder.npy")
    weights = None
    if len(encoder):
        norms = worker.norms(upstream)
        weights = evidence.virtual_weight(ends[0], norms, encoder, near.src, near.dst)
    worker.work.save_rows(f"edges/{name}.parquet", tables.edges(kind, near, weights, together))


def _together(worker: Worker, upstream: Slab, downstream: Slab, near: Candidates) -> tables.Together:
    plan, ends = worker.recipe.edges, (worker.moments(upstream), worker.moments(downstream))
    pairs = coactivation.count(
        lambda: zip(worker.codes(upstream), worker.codes(downstream), strict=True),
        *ends,
        worker.n_tokens,
        (near.src, near.dst),
        plan.coactive_k,
        plan.min_support,
    )
    return tables.Together(pairs, *ends, worker.n_tokens)


def describe(worker: Worker, slab: Slab, writers: Sequence[Slab]) -> None:
    """All that is known of one SAE's features -> their rows, their examples and their labels."""
    scores = {}
    for writer in writers:
        near = worker.candidates(pair_name(writer, slab))
        scores[f"s_{writer.site}"] = matching.best_cosine(slab.n_features, near.dst, near.cosine)
    fired = _fired(worker, slab) if worker.n_shards else None
    rows = tables.features(slab, worker.norms(slab), scores, fired)
    worker.work.save_rows(f"features/{slab.name}.parquet", rows)
    if fired is not None:
        contexts = Contexts.of(worker.work.arrays(f"contexts/{slab.name}.npz"))
        shards = [worker.pieces(shard) for shard in range(worker.n_shards)]
        pieces = [row for shard in shards for row in shard.rows]
        examples = tables.examples(contexts, pieces, shards[0].special, fired.words)
        worker.work.save_rows(f"examples/{slab.name}.parquet", examples)
        worker.work.save_rows(f"labels/{slab.name}.parquet", tables.labels(rows))


def _fired(worker: Worker, slab: Slab) -> tables.Fired:
    model, top = worker.skeleton, worker.work.arrays(f"top/{slab.name}.npz")
    best = np.split(top["tokens"], np.cumsum(top["lengths"])[:-1])
    promotes = promoted(worker.directions(slab), worker.unembedding, tables.TOP_TOKENS)
    words = Vocabulary(model.tokenizer, model.n_vocabulary)
    return tables.Fired(worker.moments(slab), worker.n_tokens, best, promotes, words)
