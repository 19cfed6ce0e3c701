"""Which edges to ablate: those of a statement or those that the verbs follow, all or a sample."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.core.keys import MODULE_THRESHOLD, SaeRange
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.store import Store
from featgraph.store.features import find_feature

Pairs = list[tuple[int, int]]

_FOLLOWED = """
    select e.src, e.dst
    from edge e join sae s on e.dst >= s.first_id and e.dst < s.first_id + s.n_features
    where e.cosine >= case e.kind when 'res_res' then s.threshold_high else $writers::float end
        and e.kind <> 'far' and coalesce(e.n_both, 1) > 0
"""
"""The edges of lineages, except those whose ends never fire together: there is nothing to measure."""

_ASKED = "select distinct unnest($src::integer[]) as src, unnest($dst::integer[]) as dst"

_EDGES = """
    select e.src, e.dst, e.cosine, count(*) over () as n
    from ({pairs}) asked join edge e on e.src = asked.src and e.dst = asked.dst
    order by hash(e.src, e.dst, $seed::bigint), e.src, e.dst
    limit $most
"""


@dataclass(frozen=True)
class Edges:
    """Some edges of a graph, in order of their downstream end."""

    saes: list[SaeRange]
    src: Indices
    """Feature ids."""
    dst: Indices
    cosine: Matrix
    among: int
    """Number of edges that they are a sample of."""

    def __len__(self) -> int:
        return len(self.src)

    @cached_property
    def upstream(self) -> Indices:
        """The sae of each upstream end."""
        return self._saes(self.src)

    @cached_property
    def downstream(self) -> Indices:
        """The sae of each downstream end."""
        return self._saes(self.dst)

    def _saes(self, ids: Indices) -> Indices:
        firsts = [sae.first_id for sae in self.saes]
        return np.searchsorted(firsts, ids, side="right").astype(np.int64) - 1

    def take(self, places: Indices) -> "Edges":
        """Return some of them."""
        return replace(self, src=self.src[places], dst=self.dst[places], cosine=self.cosine[places])

    def by_downstream(self) -> dict[int, Indices]:
        """Return the places of the edges into each downstream SAE."""
        return {int(sae): np.flatnonzero(self.downstream == sae) for sae in np.unique(self.downstream)}

    def index(self, ids: Indices, saes: Indices) -> Indices:
        """Return the places of features within their SAEs."""
        firsts = np.array([sae.first_id for sae in self.saes], dtype=np.int64)
        return ids - firsts[saes]


def choose_edges(store: Store, statement: str | None, sample: int | None, seed: int) -> Edges:
    """Return the edges that a statement names by columns `src` and `dst`, ids or keys; at most `sample`.

    statement: None for the edges that the verbs follow: cosine from `threshold_high` on, that of writers from
    0.25 on. sample: drawn by a hash of the edge and the seed, so the same every time; None for all.

    Raises UsageError: the statement returns something else, or a pair that is no edge. QueryError: it cannot
    be run.
    """
    parameters: dict[str, object] = {"seed": seed, "most": sample}
    if statement is None:
        pairs, parameters["writers"] = _FOLLOWED, MODULE_THRESHOLD
    else:
        asked = _asked(store, statement)
        pairs = _ASKED
        parameters |= {"src": [src for src, _ in asked], "dst": [dst for _, dst in asked]}
    rows = store.rows(_EDGES.format(pairs=pairs), parameters)
    among = int(rows[0][3]) if rows else 0
    if statement is not None and among < len(asked):
        _refuse_strangers(store, asked)
    rows.sort(key=lambda row: (row[1], row[0]))
    src, dst = (np.array([row[end] for row in rows], dtype=np.int64) for end in (0, 1))
    return Edges(store.saes, src, dst, np.array([row[2] for row in rows], dtype=np.float32), among)


def _asked(store: Store, statement: str) -> Pairs:
    """Return the distinct pairs of ids that a statement returns."""
    from featgraph.query import run

    result = run(store, statement)
    missing = [name for name in ("src", "dst") if name not in result.columns]
    if missing:
        raise UsageError(
            f"the statement for --edges returns no column {missing[0]!r}, only {', '.join(result.columns)}; "
            "name both ends, as in SELECT src, dst FROM edge WHERE cosine > 0.8, or MATCH (a)-[e]->(b) "
            "RETURN a.key AS src, b.key AS dst"
        )
    ends = [_ids(store, result, name) for name in ("src", "dst")]
    return sorted(set(zip(*ends, strict=True)))


def _ids(store: Store, result: Result, name: str) -> list[int]:
    """Return a column of ids, or of keys as ids."""
    place, ids = result.columns.index(name), []
    for row in result.rows:
        value = row[place]
        if isinstance(value, int) and not isinstance(value, bool):
            ids.append(value)
        elif isinstance(value, str):
            key, sae = find_feature(store.saes, value)
            ids.append(sae.first_id + key.idx)
        else:
            shown = "null" if value is None else repr(str(value))
            raise UsageError(
                f"{name} is {shown} in a row that the statement for --edges returns; return ids or keys"
            )
    return ids


def _refuse_strangers(store: Store, asked: Pairs) -> None:
    rows = store.rows(
        f"select src, dst from ({_ASKED}) a anti join edge e using (src, dst) order by src, dst limit 1",
        {"src": [src for src, _ in asked], "dst": [dst for _, dst in asked]},
    )
    if rows:
        ends = " -> ".join(_named(store, end) for end in rows[0])
        raise UsageError(
            f"{ends} is no edge of this graph; --edges takes pairs that are, as in SELECT src, dst FROM edge"
        )


def _named(store: Store, id: int) -> str:
    for sae in store.saes:
        if sae.first_id <= id < sae.first_id + sae.n_features:
            return repr(str(sae.key(id - sae.first_id)))
    return f"id {id}"
