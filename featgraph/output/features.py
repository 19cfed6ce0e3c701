"""What a graph file says of a feature that a row names by id or by key."""

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass

from featgraph.core.keys import FeatureKey, SaeRange
from featgraph.errors import UsageError
from featgraph.store import BEST_LABEL, Store
from featgraph.store.features import find_feature

Name = int | str
"""A feature as a row gives it: its id or its key."""


@dataclass(frozen=True)
class Feature:
    """One feature of the graph."""

    id: int
    key: FeatureKey
    label: str | None

    def attributes(self) -> dict[str, object]:
        """Return what a node carries beside its name, which is the key.

        The id is called `feature`, as in the tables, because `id` names the node itself in most formats.
        """
        layer, site, idx = self.key
        found: dict[str, object] = {"feature": self.id, "layer": layer, "site": site, "idx": idx}
        return found if self.label is None else {**found, "label": self.label}


def described(store: Store, names: Collection[Name]) -> dict[Name, Feature]:
    """Return the features that the graph has, by the names given; the rest are left out."""
    places = {name: place for name in names if (place := _place(store.saes, name)) is not None}
    ids = [sae.first_id + idx for sae, idx in places.values()]
    labels = {row[0]: row[1] for row in store.rows(_LABELS, {"ids": ids})} if ids else {}
    return {
        name: Feature(sae.first_id + idx, sae.key(idx), labels.get(sae.first_id + idx))
        for name, (sae, idx) in places.items()
    }


def _place(saes: list[SaeRange], name: Name) -> tuple[SaeRange, int] | None:
    """Return the SAE of a feature and the index in it."""
    if isinstance(name, int):
        after = bisect_right(saes, name, key=lambda sae: sae.first_id)
        home = saes[max(after - 1, 0)]
        idx = name - home.first_id
        return (home, idx) if 0 <= idx < home.n_features else None
    try:
        key, home = find_feature(saes, name)
    except UsageError:
        return None
    return home, key.idx


_LABELS = f"""
    select feature, {BEST_LABEL}
    from label where feature in (select unnest($ids)) group by feature
"""
