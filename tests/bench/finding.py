"""Find the events of a planted suite: by featgraph's verbs on a real graph directory, and by three rivals.

No method is told what was planted. All leave dead features out, and for all an edge between a feature that
splits or one that others merge into is part of that, not a persistence.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse
from planting import Events, Suite
from scipy.optimize import linear_sum_assignment

from featgraph import store
from featgraph.activations.statistics import Moments
from featgraph.core.arrays import Indices, Matrix
from featgraph.core.keys import SAME_FEATURE, SaeRange
from featgraph.core.ranking import ranks
from featgraph.edges import candidates, evidence
from featgraph.edges.calibration import thresholds
from featgraph.edges.candidates import cosines
from featgraph.edges.coactivation import CoActive, count, statistics
from featgraph.recipe import EdgePlan
from featgraph.store import Store

TESTS = Path(__file__).parent.parent
TOP_K = EdgePlan().top_k
"""Candidates per feature by cosine, as in an ingest. What is planted has no encoders to predict causes by."""


# ---- featgraph


def build_graph(suite: Suite, path: Path, seed: int = 0) -> Path:
    """Write a suite as a graph directory: exact candidates, evidence, thresholds."""
    n, layers = suite.n_features, len(suite.directions)
    saes = [SaeRange(layer, layer, "res", layer * n, n) for layer in range(layers)]
    live = [np.bincount(codes.indices, minlength=n) > 0 for codes in suite.codes]
    sys.path.insert(0, str(TESTS))
    from helpers.new_graph import replacing

    with replacing(path) as directory:
        connection = store.create_database(directory)
        for sae, codes in zip(saes, suite.codes, strict=True):
            before = max(sae.layer - 1, 0)
            ends = suite.directions[before][live[before]], suite.directions[sae.layer][live[sae.layer]]
            low, high = thresholds(*ends, np.random.default_rng([seed, sae.number]))
            connection.execute(
                "insert into sae (number, layer, site, first_id, n_features, hook_name, threshold_low,"
                " threshold_high) values (?, ?, 'res', ?, ?, ?, ?, ?)",
                [sae.number, sae.layer, sae.first_id, n, f"blocks.{sae.layer}.hook_resid_post", low, high],
            )
            connection.register("incoming", _features(sae, codes))
            connection.execute("insert into feature by name from incoming")
            connection.unregister("incoming")
        for upstream, downstream in pairwise(saes):
            connection.register("incoming", _edges(suite, upstream, downstream))
            connection.execute("insert into edge by name from incoming")
            connection.unregister("incoming")
        store.finish_database(connection)
        model = {
            "name": "none",
            "model_type": "none",
            "d_model": suite.directions[0].shape[1],
            "n_layers": layers,
        }
        store.write_manifest(directory, {"recipe": {"name": "planted"}, "model": model})
    return path


def _features(sae: SaeRange, codes: scipy.sparse.csr_matrix) -> pa.Table:
    n_active = np.bincount(codes.indices, minlength=sae.n_features)
    idx = np.arange(sae.n_features)
    return pa.table(
        {
            "id": sae.first_id + idx,
            "key": [str(sae.key(int(place))) for place in idx],
            "layer": np.full(sae.n_features, sae.layer),
            "site": ["res"] * sae.n_features,
            "idx": idx,
            "density": n_active / codes.shape[0],
        }
    )


def _edges(suite: Suite, upstream: SaeRange, downstream: SaeRange) -> pa.Table:
    """The nearest directions and the pairs that fire most alike, with their evidence, as in an ingest."""
    ends = suite.directions[upstream.layer], suite.directions[downstream.layer]
    near = candidates(*ends, TOP_K)
    pairs, u, d = _coactive(suite, upstream.layer, (near.src, near.dst))
    src, dst, cosine = pairs.src, pairs.dst, cosines(*ends, pairs.src, pairs.dst)
    sums = statistics(u, d, suite.n_tokens, pairs, None)
    columns = {name: formula(sums) for name, formula in evidence.FORMULAS.items()}
    return pa.table(
        {
            "src": upstream.first_id + src,
            "dst": downstream.first_id + dst,
            "kind": ["res_res"] * len(pairs),
            "cosine": cosine,
            "rank_out": ranks(src, cosine, dst),
            "rank_in": ranks(dst, cosine, src),
            "n_both": pairs.n_both,
            **{
                name: pa.array(values, from_pandas=True)
                for name, values in columns.items()
                if values is not None
            },
        }
    )


def _coactive(suite: Suite, layer: int, wanted: tuple[Indices, Indices]) -> tuple[CoActive, Moments, Moments]:
    codes = suite.codes[layer], suite.codes[layer + 1]
    u, d = Moments(suite.n_features), Moments(suite.n_features)
    u.update(codes[0])
    d.update(codes[1])
    return count(lambda: [codes], u, d, suite.n_tokens, wanted, [], 1), u, d


def _pearson(suite: Suite, pairs: CoActive, u: Moments, d: Moments) -> Matrix:
    src, dst = pairs.src, pairs.dst
    return evidence.pearson(
        suite.n_tokens, u.sum[src], u.square[src], d.sum[dst], d.square[dst], pairs.product
    )


def by_verbs(graph: Store, min: float | None = None, *, by_evidence: bool = False) -> Events:
    """Ask the verbs of a graph for every event. min: the threshold; the graph's own if left out."""
    asked = "(min := $min::float, by := $by)"

    def ask(columns: str, verb: str) -> list[tuple[Any, ...]]:
        return graph.rows(
            f"select {columns} from {verb}{asked}",
            {"min": min, "by": "coactive" if by_evidence else "cosine"},
        )

    ids = {key: id for key, id in graph.rows("select key, id from feature")}
    dead = {id for (id,) in graph.rows("select id from feature where density = 0")}
    found = Events(
        {(src, dst) for src, dst in ask("src, dst", "persists")},
        {id for (id,) in ask("id", "births")} - dead,
        {id for (id,) in ask("id", "deaths")} - dead,
        {(id, frozenset(map(ids.__getitem__, members))) for id, members in ask("id, members", "splits")},
        {(id, frozenset(map(ids.__getitem__, members))) for id, members in ask("id, members", "merges")},
    )
    return _without_forks(found)


# ---- rivals


@dataclass(frozen=True)
class Matches:
    """Who is whose best match over all layers, by one measure; features by id."""

    live: Indices
    """All features that ever fire."""
    first: int
    """Features from this id on are above the first layer."""
    last: int
    """Features from this id on are of the last layer."""
    into: dict[int, tuple[int, float]]
    """Per downstream feature: its best source, and how alike they are."""
    out: dict[int, tuple[int, float]]
    """Per upstream feature: its best target."""
    partner: dict[int, tuple[int, float]]
    """Per downstream feature: the source that the one-to-one assignment gives it."""


def match(suite: Suite) -> Matches:
    """Match live features of adjacent layers by cosine, all with all."""
    n, found = suite.n_features, _none(suite)
    alive = [np.unique(codes.indices) for codes in suite.codes]
    for layer, (up, down) in enumerate(pairwise(alive)):
        alike = suite.directions[layer][up] @ suite.directions[layer + 1][down].T
        src, dst = up + layer * n, down + (layer + 1) * n
        best, row = alike.argmax(axis=0), np.arange(len(dst))
        found.into.update(_best(dst, src[best], alike[best, row]))
        best, column = alike.argmax(axis=1), np.arange(len(src))
        found.out.update(_best(src, dst[best], alike[column, best]))
        row, column = linear_sum_assignment(alike, maximize=True)
        found.partner.update(_best(dst[column], src[row], alike[row, column]))
    return found


def match_by_pearson(suite: Suite, graph: Store) -> Matches:
    """Match by pearson, among the edges of a graph; there is no assignment."""
    found = _none(suite)
    for ends, best in (("dst, src", found.into), ("src, dst", found.out)):
        group, other = ends.split(", ")
        statement = f"select {group}, arg_max({other}, pearson), max(pearson) from edge group by {group}"
        best.update({end: (other, alike) for end, other, alike in graph.rows(statement) if alike is not None})
    return found


def by_top_one(matches: Matches, tau: float = SAME_FEATURE) -> Events:
    """Many-to-one matching as published, run both path_edges.

    Backward, each target has at most one source, its best one from tau on: a source of two or more targets
    splits, one of a single target persists in it, a target without a source is born. Forward likewise: a
    target of two or more sources is a merge, a source without a target dies.

    Source: arXiv 2502.03032 v3, section 3.2.
    """
    children, parents = defaultdict(set), defaultdict(set)
    for dst, (src, alike) in matches.into.items():
        if alike >= tau:
            children[src].add(dst)
    for src, (dst, alike) in matches.out.items():
        if alike >= tau:
            parents[dst].add(src)
    links = {(src, dst) for src, found in children.items() for dst in found}
    return _events(
        matches, links, children, parents, {dst for _, dst in links}, set().union(*parents.values())
    )


def by_assignment(matches: Matches, tau: float = SAME_FEATURE, *, joining: bool = False) -> Events:
    """One-to-one assignment of largest total cosine, cut at tau.

    A feature with a partner persists; a target left without one is born, a source dies. One-to-one knows no
    splits and merges, so with `joining` a target that is left out becomes a further child of its best source
    from tau on, a source a further parent of its best target, and only who joins nobody is born or dies.

    Source: arXiv 2410.07656 for the assignment; joining is ours, in its favour.
    """
    links = {(src, dst) for dst, (src, alike) in matches.partner.items() if alike >= tau}
    has_source, has_target = {dst for _, dst in links}, {src for src, _ in links}
    children, parents = defaultdict(set), defaultdict(set)
    for src, dst in links:
        children[src].add(dst)
        parents[dst].add(src)
    left = [(dst, best) for dst, best in matches.into.items() if dst not in has_source]
    for dst, (src, alike) in left:
        if joining and alike >= tau:
            children[src].add(dst)
            has_source.add(dst)
    over = [(src, best) for src, best in matches.out.items() if src not in has_target]
    for src, (dst, alike) in over:
        if joining and alike >= tau:
            parents[dst].add(src)
            has_target.add(src)
    return _events(matches, links, children, parents, has_source, has_target)


def _events(
    matches: Matches,
    links: set[tuple[int, int]],
    children: dict[int, set[int]],
    parents: dict[int, set[int]],
    has_source: set[int],
    has_target: set[int],
) -> Events:
    live = matches.live.tolist()
    found = Events(
        links,
        {id for id in live if id >= matches.first} - has_source,
        {id for id in live if id < matches.last} - has_target,
        {(id, frozenset(members)) for id, members in children.items() if len(members) >= 2},
        {(id, frozenset(members)) for id, members in parents.items() if len(members) >= 2},
    )
    return _without_forks(found)


def _without_forks(found: Events) -> Events:
    split, merged = {id for id, _ in found.splits}, {id for id, _ in found.merges}
    lasting = {(src, dst) for src, dst in found.persistences if src not in split and dst not in merged}
    return Events(lasting, found.births, found.deaths, found.splits, found.merges)


def _none(suite: Suite) -> Matches:
    n = suite.n_features
    live = [layer * n + np.unique(codes.indices) for layer, codes in enumerate(suite.codes)]
    return Matches(np.concatenate(live), n, (len(live) - 1) * n, {}, {}, {})


def _best(ends: Indices, others: Indices, alike: Matrix) -> dict[int, tuple[int, float]]:
    pairs = zip(others.tolist(), alike.tolist(), strict=True)
    return dict(zip(ends.tolist(), pairs, strict=True))
