"""Lineages that are active on a text: features active on one token that descend from each other.

Each residual feature is joined to its best parent alone, the way a lineage is traced back; over all edges
that pass, most of the active features would be one lineage.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from featgraph.core.arguments import check_cosine, check_count
from featgraph.core.result import Result
from featgraph.features.active import PER_TOKEN, ActiveFeatures
from featgraph.store import Store
from featgraph.store.features import known_features

Member = tuple[int, float, int]
"""A feature active on a token: id, share, layer."""


@dataclass(frozen=True)
class ActiveLineage:
    """One lineage and the tokens on which it is active."""

    name: str
    """A, B, ..., AA after Z: in order of the largest `strength` on any token."""
    by_token: dict[int, list[Member]]
    """Token index, ascending -> its two or more active members, by layer."""
    key: str
    """Key of the member with the largest share."""
    label: str | None

    def strength(self, token: int) -> float:
        """Return the sum over layers of the largest share on a token; 0 if the lineage is not active
        there."""
        largest: dict[int, float] = {}
        for _, share, layer in self.by_token.get(token, []):
            largest[layer] = max(share, largest.get(layer, share))
        return sum(largest.values())

    @property
    def members(self) -> list[int]:
        """Ids of the members, in the order of the model."""
        return sorted({id for members in self.by_token.values() for id, _, _ in members})

    @property
    def layers(self) -> tuple[int, int]:
        """First and last layer of the members."""
        layers = [layer for members in self.by_token.values() for _, _, layer in members]
        return min(layers), max(layers)

    @property
    def mean_share(self) -> float:
        """Mean share over the members and the tokens on which they are active."""
        shares = [share for members in self.by_token.values() for _, share, _ in members]
        return sum(shares) / len(shares)


def find_active_lineages(
    store: Store, active: ActiveFeatures, *, min: float | None = None
) -> list[ActiveLineage]:
    """Return the lineages with two or more features active on one token, strongest first.

    A feature and its best parent (rank_in 1) belong to the same lineage if their cosine is at or above the
    threshold and both are active on some token. min: cosine threshold; None holds each edge against its
    downstream SAE's `threshold_high`.

    Source: arXiv 2502.03032 v3, sections 3.2 and 3.3 (backward top-1 matching).

    Raises UsageError: min is out of range.
    """
    by_feature: dict[int, dict[int, tuple[float, int]]] = defaultdict(dict)
    columns = (active.token, active.feature, active.share, active.layer)
    for token, id, share, layer in zip(*(column.tolist() for column in columns), strict=True):
        if share == share:
            by_feature[id][token] = (share, layer)
    threshold = None if min is None else check_cosine("min", min)
    edges = [
        (src, dst)
        for src, dst in store.rows(_PARENTS, {"ids": list(by_feature), "min": threshold})
        if by_feature[src].keys() & by_feature[dst].keys()
    ]
    components: dict[int, dict[int, list[Member]]] = defaultdict(lambda: defaultdict(list))
    for id, component in _components(sorted(by_feature), edges).items():
        for token, (share, layer) in by_feature[id].items():
            components[component][token].append((id, share, layer))
    by_token = [
        {token: members for token, members in sorted(tokens.items()) if len(members) > 1}
        for tokens in components.values()
    ]
    lineages = [ActiveLineage("", tokens, "", None) for tokens in by_token if tokens]
    lineages.sort(key=lambda lineage: (-max(map(lineage.strength, lineage.by_token)), lineage.members))
    strongest = [_strongest(lineage.by_token.values()) for lineage in lineages]
    named = known_features(store, strongest)
    return [
        replace(lineage, name=_letters(number), key=str(named[id].key), label=named[id].label)
        for number, (lineage, id) in enumerate(zip(lineages, strongest, strict=True))
    ]


def lineage_rows(
    store: Store, active: ActiveFeatures, lineages: list[ActiveLineage], per_token: int = PER_TOKEN
) -> Result:
    """Return the strongest lineages of each token.

    Columns: token_index, token, lineage (its name in this text), first_layer, last_layer, n (members active
    on this token), mean_share, members (keys), label (of the member with the largest share).

    Raises UsageError: per_token is below 1.
    """
    most = check_count("per_token", per_token, least=1)
    named = known_features(store, active.feature.tolist())
    rows: list[tuple[object, ...]] = []
    for token, (place, text) in enumerate(zip(active.places, active.tokens, strict=True)):
        strongest = sorted(lineages, key=lambda lineage: -lineage.strength(token))[:most]
        for lineage in strongest:
            if token not in lineage.by_token:
                continue
            members = lineage.by_token[token]
            best = _strongest([members])
            keys = [str(named[id].key) for id, _, _ in members]
            layers = [layer for _, _, layer in members]
            mean = sum(share for _, share, _ in members) / len(members)
            span = (min(layers), max(layers), len(members))
            rows.append((place, text, lineage.name, *span, mean, keys, named[best].label))
    return Result.of(_COLUMNS, rows)


def _components(ids: list[int], edges: list[tuple[int, int]]) -> dict[int, int]:
    """Return the number of the connected component of each feature."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.searchsorted(ids, np.array(edges, dtype=np.int64).reshape(-1, 2))
    joined = coo_matrix((np.ones(len(ends)), ends.T), shape=(len(ids), len(ids)))
    _, component = connected_components(joined, directed=False)
    return dict(zip(ids, component.tolist(), strict=True))


def _strongest(by_token: Iterable[list[Member]]) -> int:
    """Return the id of the member with the largest share; of several, the first."""
    every = (member for members in by_token for member in members)
    return max(every, key=lambda member: (member[1], -member[0]))[0]


def _letters(number: int) -> str:
    """Return the name of a lineage from its number.

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
