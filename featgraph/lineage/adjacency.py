"""Lineages, best paths and components over adjacency in memory: the verbs' rows, many times sooner.

For a process that keeps its graph open. `verbs.sql` says what the verbs mean; the tests hold both to the
same rows.
"""

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from math import prod
from typing import Any, NamedTuple

import numpy as np

from featgraph.core.arguments import check_cosine, check_count
from featgraph.core.arrays import Indices, Matrix
from featgraph.core.keys import MODULE_THRESHOLD, FeatureKey, SaeRange
from featgraph.core.ranking import run_starts
from featgraph.core.result import Result
from featgraph.errors import StoreError, UsageError, nearest
from featgraph.lineage.best_paths import SCORES, PathEdges, best_paths
from featgraph.lineage.edge_arrays import EdgeArrays, Ids, Reached, Threshold
from featgraph.store import Store
from featgraph.store.features import id_of

_MEMBER_COLUMNS = {
    "id": "INTEGER",
    "key": "VARCHAR",
    "layer": "INTEGER",
    "site": "VARCHAR",
    "idx": "INTEGER",
    "distance": "INTEGER",
    "weight": "FLOAT",
}
_PATH_COLUMNS = {
    "rank": "INTEGER",
    "length": "INTEGER",
    "score": "FLOAT",
    "weight": "FLOAT",
    "bottleneck": "FLOAT",
    "nodes": "INTEGER[]",
    "keys": "VARCHAR[]",
}
_COMPONENT_COLUMNS = {
    "id": "INTEGER",
    "key": "VARCHAR",
    "layer": "INTEGER",
    "component": "INTEGER",
    "n": "INTEGER",
}


class Among(NamedTuple):
    """The edges among some features, and the degrees of these."""

    src: Indices
    """Id of the upstream end of each edge; edges come in order of `src`, then `dst`."""
    dst: Indices
    cosine: Matrix
    n_parents: Indices
    """Of each feature, in the order given: residual edges that pass into it, from anywhere in the graph."""
    n_children: Indices
    """Of each feature: residual edges that pass out of it, to anywhere."""


@dataclass(frozen=True, eq=False)
class Adjacency:
    """All edges of a graph in memory, 16 bytes each; arguments and rows of a verb's method are the verb's."""

    saes: list[SaeRange]
    high: Matrix
    """threshold_high of the SAE of each feature, (n_features,)."""
    down: EdgeArrays
    """Residual edges from upstream."""
    up: EdgeArrays
    """Residual edges from downstream."""
    written: EdgeArrays
    """What mlp and att features write."""
    writers: EdgeArrays
    """By which mlp and att features a residual one is written."""

    @classmethod
    def read(cls, store: Store) -> "Adjacency":
        """Read every edge of a graph.

        Raises StoreError: the database is damaged.
        """
        thresholds = store.rows("select coalesce(threshold_high, 'inf') from sae order by number")
        sizes = [sae.n_features for sae in store.saes]
        high = np.repeat(np.array(thresholds, dtype=np.float32).reshape(-1), sizes)
        select = "select src, dst, cosine from edge where kind"
        kinds = ("= 'res_res'", "in ('mlp_res', 'att_res')")
        edges = [_columns(store, f"{select} {chosen}") for chosen in kinds]
        for src, dst, _ in edges:
            if len(src) and not (src.min() >= 0 and dst.max() < len(high) and (src < dst).all()):
                raise StoreError(
                    f"{store.path} has edges that do not go downstream, or end at no feature; see "
                    f"`featgraph verify {store.path}`"
                )
        with ThreadPoolExecutor(2) as pool:
            wanted = [
                pool.submit(EdgeArrays.of, len(high), *columns, down=down)
                for columns in edges
                for down in (True, False)
            ]
        return cls(store.saes, high, *(links.result() for links in wanted))

    def lineage(
        self,
        f: str | FeatureKey,
        *,
        min: float | None = None,
        hops: int | None = None,
        writers: bool = True,
        writer_min: float = MODULE_THRESHOLD,
    ) -> Result:
        """Return a feature with its ancestors, descendants and writers, in order of id.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        seed, threshold, hops = self._id(f), self._threshold(min), _far(hops)
        above, below = self.up.reach(seed, threshold, hops), self.down.reach(seed, threshold, hops)
        reached = Reached(
            [*above.ids, seed, *below.ids],
            [*above.distances, 0, *below.distances],
            [*above.weights, 1.0, *below.weights],
        )
        return self._members(self._with_writers(reached, writer_min) if writers else reached)

    def ancestors(self, f: str | FeatureKey, *, min: float | None = None, hops: int | None = None) -> Result:
        """Return all that is upstream of a feature.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        return self._members(self.up.reach(self._id(f), self._threshold(min), _far(hops)))

    def descendants(
        self, f: str | FeatureKey, *, min: float | None = None, hops: int | None = None
    ) -> Result:
        """Return all that is downstream of a feature.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        return self._members(self.down.reach(self._id(f), self._threshold(min), _far(hops)))

    def paths(
        self,
        a: str | FeatureKey,
        b: str | FeatureKey,
        *,
        k: int = 1,
        min: float | None = None,
        score: str = "product",
        writer_min: float = MODULE_THRESHOLD,
    ) -> Result:
        """Return the k best paths from one feature down to another, best first.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        if score not in SCORES:
            raise UsageError(
                f"no score {score!r}{nearest(score, SCORES) or ';'} scores are {', '.join(SCORES)}"
            )
        k = check_count("k", k, least=1)
        path_edges = PathEdges(
            self.saes,
            self.down,
            self.up,
            self.written,
            self._threshold(min),
            self._threshold(writer_min, "writer_min"),
        )
        paths = best_paths(path_edges, self._id(a), self._id(b), by=score, k=k)
        rows: list[tuple[object, ...]] = []
        for rank, path in enumerate(paths, 1):
            total, weight = array("f", [path.score, prod(path.cosines)])
            weakest = float(np.min(path.cosines)) if path.cosines else None
            keys = _Names.of(self.saes, path.nodes).keys
            rows.append((rank, len(path.cosines), total, weight, weakest, path.nodes, keys))
        return Result.of(_PATH_COLUMNS, rows)

    def among(
        self, ids: Sequence[int] | Indices, min: float | None = None, *, writer_min: float | None = None
    ) -> Among:
        """Return the edges among some features, and how many edges each of them has in the whole graph.

        ids: each once. min: cosine threshold of residual edges. writer_min: that of the edges by which mlp
        and att features write; None leaves these out.

        Raises UsageError: a threshold is out of range.
        """
        given = np.asarray(ids, dtype=np.int64)
        threshold = self._threshold(min)
        owner, dst, cosine = self.down.passing(given, threshold)
        n_children = np.bincount(owner, minlength=len(given))
        n_parents = np.bincount(self.up.passing(given, threshold)[0], minlength=len(given))
        src = given[owner]
        if writer_min is not None:
            owner, *written = self.written.passing(given, self._threshold(writer_min, "writer_min"))
            src = np.concatenate([src, given[owner]])
            dst, cosine = (np.concatenate(both) for both in zip((dst, cosine), written, strict=True))
        inside = np.flatnonzero(np.isin(dst, given))
        inside = inside[np.lexsort((dst[inside], src[inside]))]
        return Among(src[inside], dst[inside].astype(np.int64), cosine[inside], n_parents, n_children)

    def components(self, *, min: float | None = None) -> Result:
        """Return the residual features that edges connect to at least one other, with their component."""
        src, dst, _ = self.down.passing(np.arange(len(self.high)), self._threshold(min))
        return _components(self.saes, src, dst)

    def _id(self, key: str | FeatureKey) -> int:
        return id_of(self.saes, str(key))

    def _threshold(self, min: float | None, name: str = "min") -> Threshold:
        if min is None:
            return self._default
        return Threshold(float(np.float32(check_cosine(name, min))))

    @cached_property
    def _default(self) -> Threshold:
        return Threshold(float(self.high.min(initial=np.inf)), self.high)

    def _with_writers(self, reached: Reached, writer_min: float) -> Reached:
        """Add the mlp and att features that write members, each beyond the one it writes most strongly."""
        members = np.array(reached.ids)
        owner, src, cosines = self.writers.passing(members, self._threshold(writer_min, "writer_min"))
        if not len(src):
            return reached
        distances, weights = np.array(reached.distances), np.array(reached.weights, dtype=np.float32)
        products = weights[owner] * cosines
        order = np.lexsort((owner, -products, src))
        best = order[run_starts(src[order])]
        ids = np.concatenate([members, src[best]])
        distances = np.concatenate([distances, distances[owner[best]] + 1])
        weights = np.concatenate([weights, products[best]])
        order = np.argsort(ids)
        return Reached(ids[order].tolist(), distances[order].tolist(), weights[order].tolist())

    def _members(self, reached: Reached) -> Result:
        names = _Names.of(self.saes, reached.ids)
        rows = zip(reached.ids, *names, reached.distances, reached.weights, strict=True)
        return Result.of(_MEMBER_COLUMNS, list(rows))


def components(store: Store, *, min: float | None, by: str = "cosine") -> Result:
    """Return the residual features that edges connect to at least one other, with their component.

    min: cosine threshold; None holds each edge against `threshold_high` of its downstream SAE.
    Columns: id, key, layer, component (the smallest id in it), n (its size); in order of component and id.
    """
    src, dst = _columns(store, "select src, dst from matched(min := $min, by := $by)", {"min": min, "by": by})
    return _components(store.saes, src, dst)


def _components(saes: Sequence[SaeRange], src: Indices | Ids, dst: Ids) -> Result:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_features = sum(sae.n_features for sae in saes)
    joined = coo_array((np.ones(len(src), dtype=np.int8), (src, dst)), shape=(n_features, n_features))
    _, label = connected_components(joined, directed=False)
    _, smallest, size = np.unique(label, return_index=True, return_counts=True)
    ids = np.flatnonzero(size[label] >= 2)
    names = _Names.of(saes, ids.tolist())
    of, n = smallest[label[ids]], size[label[ids]]
    rows = list(zip(ids.tolist(), names.keys, names.layers, of.tolist(), n.tolist(), strict=True))
    return Result.of(_COMPONENT_COLUMNS, [rows[place] for place in np.argsort(of, kind="stable")])


def _far(hops: int | None) -> int | None:
    """Return how many edges to go; refuse a number below 0."""
    return None if hops is None else check_count("hops", hops)


class _Names(NamedTuple):
    """Keys, layers, sites and indices of features, computed from their ids."""

    keys: list[str]
    layers: list[int]
    sites: list[str]
    idxs: list[int]

    @classmethod
    def of(cls, saes: Sequence[SaeRange], ids: list[int]) -> "_Names":
        """Name features given in order of id."""
        names = cls([], [], [], [])
        start = 0
        for sae in saes:
            end = bisect_left(ids, sae.first_id + sae.n_features, start)
            if end > start:
                idxs = [node - sae.first_id for node in ids[start:end]]
                prefix = f"{sae.layer}/{sae.site}/"
                names.keys.extend([f"{prefix}{idx}" for idx in idxs])
                names.layers.extend(repeat(sae.layer, len(idxs)))
                names.sites.extend(repeat(sae.site, len(idxs)))
                names.idxs.extend(idxs)
                start = end
        return names


def _columns(store: Store, statement: str, parameters: Mapping[str, object] | None = None) -> list[Any]:
    """Return the columns of one of our own statements as arrays; Arrow hands them over sooner than numpy."""
    table = store.arrow(statement, parameters)
    return [column.to_numpy() for column in table.columns]
