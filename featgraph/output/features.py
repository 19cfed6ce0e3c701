"""What a graph file says of a feature that a row names by id or by key."""

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass

from featgraph.errors import UsageError
from featgraph.lookup import find_feature
from featgraph.model import FeatureKey, Slab
from featgraph.store import BEST_LABEL, Store

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
    places = {name: place for name in names if (place := _place(store.slabs, name)) is not None}
    ids = [slab.first_id + idx for slab, idx in places.values()]
    labels = {row[0]: row[1] for row in store.rows(_LABELS, {"ids": ids})} if ids else {}
    return {
        name: Feature(slab.first_id + idx, slab.key(idx), labels.get(slab.first_id + idx))
        for name, (slab, idx) in places.items()
    }


def _place(slabs: list[Slab], name: Name) -> tuple[Slab, int] | None:
    """Return the SAE of a feature and the index in it."""
    if isinstance(name, int):
        after = bisect_right(slabs, name, key=lambda slab: slab.first_id)
        home = slabs[max(after - 1, 0)]
        idx = name - home.first_id
        return (home, idx) if 0 <= idx < home.n_features else None
    try:
        key, home = find_feature(slabs, name)
    except UsageError:
        return None
    return home, key.idx


_LABELS = f"""
    select feature, {BEST_LABEL}
    from label where feature in (select unnest($ids)) group by feature
"""
