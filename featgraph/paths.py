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

import duckdb
import numpy as np

from featgraph.arguments import cosine, count
from featgraph.arrays import Indices, Matrix
from featgraph.errors import StoreError, UsageError, nearest
from featgraph.kbest import SCORES, Ways, best_paths
from featgraph.links import Bar, Ids, Links, Reached, opens
from featgraph.lookup import find_feature
from featgraph.model import MODULE_THRESHOLD, FeatureKey, Slab
from featgraph.result import Result
from featgraph.store import Store

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


@dataclass(frozen=True, eq=False)
class Adjacency:
    """All edges of a graph in memory, 16 bytes each; arguments and rows of each method are the verb's."""

    slabs: list[Slab]
    high: Matrix
    """threshold_high of the SAE of each feature, (n_features,)."""
    down: Links
    """Residual edges from upstream."""
    up: Links
    """Residual edges from downstream."""
    written: Links
    """What mlp and att features write."""
    writers: Links
    """By which mlp and att features a residual one is written."""

    @classmethod
    def read(cls, store: Store) -> "Adjacency":
        """Read every edge of a graph.

        Raises StoreError: the database is damaged.
        """
        thresholds = store.rows("select coalesce(threshold_high, 'inf') from sae order by slab")
        sizes = [slab.n_features for slab in store.slabs]
        high = np.repeat(np.array(thresholds, dtype=np.float32).reshape(-1), sizes)
        select = "select src, dst, cosine from edge where kind"
        edges = [_columns(store, f"{select} {chosen}") for chosen in ("= 'res_res'", "<> 'res_res'")]
        with ThreadPoolExecutor(2) as pool:
            wanted = [
                pool.submit(Links.of, len(high), *columns, down=down)
                for columns in edges
                for down in (True, False)
            ]
        return cls(store.slabs, high, *(links.result() for links in wanted))

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
        seed, bar, hops = self._id(f), self._bar(min), _far(hops)
        above, below = self.up.reach(seed, bar, hops), self.down.reach(seed, bar, hops)
        found = Reached(
            [*above.ids, seed, *below.ids],
            [*above.distances, 0, *below.distances],
            [*above.weights, 1.0, *below.weights],
        )
        return self._members(self._with_writers(found, writer_min) if writers else found)

    def ancestors(self, f: str | FeatureKey, *, min: float | None = None, hops: int | None = None) -> Result:
        """Return all that is upstream of a feature.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        return self._members(self.up.reach(self._id(f), self._bar(min), _far(hops)))

    def descendants(
        self, f: str | FeatureKey, *, min: float | None = None, hops: int | None = None
    ) -> Result:
        """Return all that is downstream of a feature.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        return self._members(self.down.reach(self._id(f), self._bar(min), _far(hops)))

    def paths(
        self,
        a: str | FeatureKey,
        b: str | FeatureKey,
        *,
        k: int = 1,
        min: float | None = None,
        by: str = "product",
        writer_min: float = MODULE_THRESHOLD,
    ) -> Result:
        """Return the k best paths from one feature down to another, best first.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        if by not in SCORES:
            raise UsageError(f"no score {by!r}{nearest(by, SCORES) or ';'} scores are {', '.join(SCORES)}")
        if k < 1:
            raise UsageError(f"k = {k} asks for no paths; give 1 or more")
        ways = Ways(
            self.slabs, self.down, self.up, self.written, self._bar(min), self._bar(writer_min, "writer_min")
        )
        found = best_paths(ways, self._id(a), self._id(b), by=by, k=k)
        rows: list[tuple[object, ...]] = []
        for rank, path in enumerate(found, 1):
            score, weight = array("f", [path.score, prod(path.cosines)])
            weakest = float(np.min(path.cosines)) if path.cosines else None
            keys = _Names.of(self.slabs, path.nodes).keys
            rows.append((rank, len(path.cosines), score, weight, weakest, path.nodes, keys))
        return _result(_PATH_COLUMNS, rows)

    def components(self, *, min: float | None = None) -> Result:
        """Return the residual features that are joined, by whatever way, to at least one other."""
        src, dst, _ = self.down.passing(np.arange(len(self.high)), self._bar(min))
        return _components(self.slabs, src, dst)

    def _id(self, key: str | FeatureKey) -> int:
        found, slab = find_feature(self.slabs, str(key))
        return slab.first_id + found.idx

    def _bar(self, min: float | None, name: str = "min") -> Bar:
        if min is None:
            return self._default
        return Bar(float(np.float32(cosine(name, min))))

    @cached_property
    def _default(self) -> Bar:
        return Bar(float(self.high.min(initial=np.inf)), self.high)

    def _with_writers(self, found: Reached, writer_min: float) -> Reached:
        """Add the mlp and att features that write members, each beyond the one it writes most strongly."""
        members = np.array(found.ids)
        owner, src, cosines = self.writers.passing(members, self._bar(writer_min, "writer_min"))
        if not len(src):
            return found
        distances, weights = np.array(found.distances), np.array(found.weights, dtype=np.float32)
        products = weights[owner] * cosines
        order = np.lexsort((owner, -products, src))
        best = order[opens(src[order])]
        ids = np.concatenate([members, src[best]])
        distances = np.concatenate([distances, distances[owner[best]] + 1])
        weights = np.concatenate([weights, products[best]])
        order = np.argsort(ids)
        return Reached(ids[order].tolist(), distances[order].tolist(), weights[order].tolist())

    def _members(self, found: Reached) -> Result:
        rows = zip(found.ids, *_Names.of(self.slabs, found.ids), found.distances, found.weights, strict=True)
        return _result(_MEMBER_COLUMNS, list(rows))


def components(store: Store, *, min: float | None) -> Result:
    """Return the residual features that are joined, by whatever way, to at least one other.

    min: cosine threshold; None holds each edge against `threshold_high` of its downstream SAE.
    Columns: id, key, layer, component (the smallest id in it), n (its size); in order of component and id.
    """
    src, dst = _columns(store, "select src, dst from matched(min := $min)", {"min": min})
    return _components(store.slabs, src, dst)


def _components(slabs: Sequence[Slab], src: Indices | Ids, dst: Ids) -> Result:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_features = sum(slab.n_features for slab in slabs)
    joined = coo_array((np.ones(len(src), dtype=np.int8), (src, dst)), shape=(n_features, n_features))
    _, label = connected_components(joined, directed=False)
    _, smallest, size = np.unique(label, return_index=True, return_counts=True)
    ids = np.flatnonzero(size[label] >= 2)
    names = _Names.of(slabs, ids.tolist())
    of, n = smallest[label[ids]], size[label[ids]]
    rows = list(zip(ids.tolist(), names.keys, names.layers, of.tolist(), n.tolist(), strict=True))
    return _result(_COMPONENT_COLUMNS, [rows[place] for place in np.argsort(of, kind="stable")])


def _far(hops: int | None) -> int | None:
    """Return how many edges to go; refuse a number below 0."""
    return None if hops is None else count("hops", hops)


class _Names(NamedTuple):
    """What is known of features from their ids alone."""

    keys: list[str]
    layers: list[int]
    sites: list[str]
    idxs: list[int]

    @classmethod
    def of(cls, slabs: Sequence[Slab], ids: list[int]) -> "_Names":
        """Name features given in order of id."""
        names = cls([], [], [], [])
        start = 0
        for slab in slabs:
            end = bisect_left(ids, slab.first_id + slab.n_features, start)
            if end > start:
                idxs = [node - slab.first_id for node in ids[start:end]]
                prefix = f"{slab.layer}/{slab.site}/"
                names.keys.extend([f"{prefix}{idx}" for idx in idxs])
                names.layers.extend(repeat(slab.layer, len(idxs)))
                names.sites.extend(repeat(slab.site, len(idxs)))
                names.idxs.extend(idxs)
                start = end
        return names


def _result(columns: Mapping[str, str], rows: list[tuple[object, ...]]) -> Result:
    return Result(list(columns), rows, list(columns.values()))


def _columns(store: Store, statement: str, parameters: Mapping[str, object] | None = None) -> list[Any]:
    """Return the columns of one of our own statements as arrays; Arrow hands them over sooner than numpy."""
    try:
        table = store.connection.sql(statement, params=dict(parameters or {})).to_arrow_table()
    except duckdb.Error as error:
        again = f"build it again with `featgraph ingest RECIPE -o {store.path}`"
        raise StoreError(f"cannot read the edges in {store.database}; {again}") from error
    return [column.to_numpy() for column in table.columns]
