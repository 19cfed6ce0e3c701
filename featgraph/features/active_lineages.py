"""Lineages that a text lights up: features lit on one token that come from each other, layer by layer.

Each residual feature is joined to its best parent alone, the way a lineage is traced back; over all edges
that pass, most of what is lit would be one lineage.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from featgraph.core.arguments import check_cosine, check_count
from featgraph.core.result import Result
from featgraph.features.active import PER_TOKEN, ActiveFeatures
from featgraph.store import Store
from featgraph.store.features import known_features

Member = tuple[int, float, int]
"""A feature lit on a token: id, share, layer."""


@dataclass(frozen=True)
class ActiveLineage:
    """One lineage and where it is lit."""

    name: str
    """A, B, ..., in order of `brightness` on the token where that is largest; AA after Z."""
    lit: dict[int, list[Member]]
    """By place of the token, ascending: its members lit there, from first to last layer;
    two or more."""
    key: str
    """Of its brightest member."""
    label: str | None

    def brightness(self, token: int) -> float:
        """How bright it is on a token: the largest share of each layer, added up; 0 where it is not lit."""
        largest: dict[int, float] = {}
        for _, share, layer in self.lit.get(token, []):
            largest[layer] = max(share, largest.get(layer, share))
        return sum(largest.values())

    @property
    def members(self) -> list[int]:
        """Ids of the features, in the order of the model."""
        return sorted({id for members in self.lit.values() for id, _, _ in members})

    @property
    def layers(self) -> tuple[int, int]:
        """First and last layer that is lit."""
        found = [layer for members in self.lit.values() for _, _, layer in members]
        return min(found), max(found)

    @property
    def mean_share(self) -> float:
        """Mean over its members on all tokens that active_features it."""
        shares = [share for members in self.lit.values() for _, share, _ in members]
        return sum(shares) / len(shares)


def find_active_lineages(
    store: Store, active: ActiveFeatures, *, min: float | None = None
) -> list[ActiveLineage]:
    """Return the lineages with two or more features lit on one token, brightest first.

    A feature and its best parent (rank_in 1) are of one lineage if their cosine passes and some token lights
    both. min: cosine threshold; None holds each edge against its downstream SAE's `threshold_high`.

    Source: arXiv 2502.03032 v3, sections 3.2 and 3.3 (backward top-1 matching).

    Raises UsageError: min is no cosine.
    """
    places: dict[int, dict[int, tuple[float, int]]] = defaultdict(dict)
    columns = (active.token, active.feature, active.share, active.layer)
    for token, id, share, layer in zip(*(column.tolist() for column in columns), strict=True):
        if share == share:
            places[id][token] = (share, layer)
    threshold = None if min is None else check_cosine("min", min)
    parents = store.rows(_PARENTS, {"ids": list(places), "min": threshold})
    joined = [(src, dst) for src, dst in parents if places[src].keys() & places[dst].keys()]
    component = _components(sorted(places), joined)
    together: dict[int, dict[int, list[Member]]] = defaultdict(lambda: defaultdict(list))
    for id in sorted(places):
        for token, (share, layer) in places[id].items():
            together[component[id]][token].append((id, share, layer))
    lit = [
        {token: members for token, members in sorted(tokens.items()) if len(members) > 1}
        for tokens in together.values()
    ]
    found = [ActiveLineage("", tokens, "", None) for tokens in lit if tokens]
    found.sort(key=lambda lineage: (-max(map(lineage.brightness, lineage.lit)), lineage.members))
    brightest = [_brightest(lineage.lit.values()) for lineage in found]
    named = known_features(store, brightest)
    return [
        replace(lineage, name=_letters(number), key=str(named[id].key), label=named[id].label)
        for number, (lineage, id) in enumerate(zip(found, brightest, strict=True))
    ]


def lineage_rows(
    store: Store, active: ActiveFeatures, lineages: list[ActiveLineage], per_token: int = PER_TOKEN
) -> Result:
    """Return the lineages that are brightest on each token.

    Columns: token_index, token, lineage (its name in this text), first_layer, last_layer, n (members lit on
    this token), mean_share, members (keys), label (of the member with the largest share).

    Raises UsageError: per_token is below 1.
    """
    most = check_count("per_token", per_token, least=1)
    named = known_features(store, active.feature.tolist())
    rows: list[tuple[object, ...]] = []
    for token, (place, text) in enumerate(zip(active.places, active.tokens, strict=True)):
        here = sorted(lineages, key=lambda lineage: -lineage.brightness(token))[:most]
        for name, members in [(one.name, one.lit[token]) for one in here if token in one.lit]:
            best = _brightest([members])
            keys = [str(named[id].key) for id, _, _ in members]
            layers = [layer for _, _, layer in members]
            mean = sum(share for _, share, _ in members) / len(members)
            span = (min(layers), max(layers), len(members))
            rows.append((place, text, name, *span, mean, keys, named[best].label))
    return Result.of(_COLUMNS, rows)


def _brightest(lit: Iterable[list[Member]]) -> int:
    """Return the id of the member with the largest share, of several the first."""
    return max((member for members in lit for member in members), key=lambda member: (member[1], -member[0]))[
        0
    ]


def _components(ids: list[int], joined: list[tuple[int, int]]) -> dict[int, int]:
    """Return the number of the connected component of each feature; ids ascend."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.searchsorted(ids, np.array(joined, dtype=np.int64).reshape(-1, 2)).T
    graph = coo_array((np.ones(len(joined)), tuple(ends)), shape=(len(ids), len(ids)))
    return dict(zip(ids, connected_components(graph, directed=False)[1].tolist(), strict=True))


def _letters(number: int) -> str:
    """Return the name of the lineage of this number.

    >>> [_letters(number) for number in (0, 25, 26, 51, 52)]
    ['A', 'Z', 'AA', 'AZ', 'BA']
    """
    first, last = divmod(number, 26)
    return (_letters(first - 1) if first else "") + chr(ord("A") + last)


_COLUMNS = {
    "token_index": "INTEGER",
    "token": "VARCHAR",
    "lineage": "VARCHAR",
    "first_layer": "INTEGER",
    "last_layer": "INTEGER",
    "n": "INTEGER",
    "mean_share": "FLOAT",
    "members": "VARCHAR[]",
    "label": "VARCHAR",
}

_PARENTS = """
    select src, dst from matched(min := $min)
    where rank_in = 1 and src in (select unnest($ids::integer[])) and dst in (select unnest($ids::integer[]))
    order by src, dst
"""
