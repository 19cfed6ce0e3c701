"""Features of a graph by key or by id: which SAE each belongs to, its key, its best label.

Ids are dense, SAE by SAE, so a key and an id say each other without a row being read; only labels are.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from featgraph.core.keys import FeatureKey, SaeRange
from featgraph.errors import UsageError
from featgraph.store.store import Store

BEST_LABEL = "arg_min(text, (source = 'tokens', source, text))"
"""One label of several: what somebody wrote comes before what was made from the feature's tokens."""

_LABELS = f"""
    select feature, {BEST_LABEL}
    from label
    where feature in (select unnest($ids::integer[]))
    group by feature
"""


Name = int | str
"""A feature as a row names it: its id or its key."""


@dataclass(frozen=True)
class Feature:
    """One feature of a graph."""

    id: int
    key: FeatureKey
    label: str | None
    """Its best label."""


def find_feature(saes: Sequence[SaeRange], key: str) -> tuple[FeatureKey, SaeRange]:
    """Return a feature's key, parsed, and the SAE that it belongs to.

    Raises UsageError: the key is malformed, or none of the SAEs has such a feature.
    """
    wanted = FeatureKey.parse(key)
    for sae in saes:
        if (sae.layer, sae.site) != (wanted.layer, wanted.site):
            continue
        if wanted.idx < sae.n_features:
            return wanted, sae
        last = f"; the last is '{sae.key(sae.n_features - 1)}'" if sae.n_features else ""
        raise UsageError(f"no feature {key!r}: {sae.layer}/{sae.site} has {sae.n_features} features{last}")
    raise UsageError(f"no feature {key!r}: {_why_no_sae(wanted, saes)}")


def id_of(saes: Sequence[SaeRange], key: str) -> int:
    """Return the id of a feature.

    Raises UsageError: the key is malformed, or none of the SAEs has such a feature.
    """
    parsed, sae = find_feature(saes, key)
    return sae.first_id + parsed.idx


def key_of(saes: Sequence[SaeRange], id: int) -> FeatureKey | None:
    """Return the key of a feature, or None if none of the SAEs has a feature with this id."""
    after = bisect_right(saes, id, key=lambda sae: sae.first_id)
    sae = saes[max(after - 1, 0)]
    idx = id - sae.first_id
    return sae.key(idx) if 0 <= idx < sae.n_features else None


def known_features(store: Store, names: Iterable[Name]) -> dict[Name, Feature]:
    """Return the features that the graph has, by the names given; the rest are left out.

    Raises StoreError: the database is damaged.
    """
    ids = {name: id for name in names if (id := _known_id(store.saes, name)) is not None}
    labels = best_labels(store, set(ids.values()))
    keys = {id: key for id in ids.values() if (key := key_of(store.saes, id)) is not None}
    return {name: Feature(id, keys[id], labels.get(id)) for name, id in ids.items()}


def best_labels(store: Store, ids: Collection[int]) -> dict[int, str]:
    """Return one label, the best, of each feature that has any.

    Raises StoreError: the database is damaged.
    """
    return dict(store.rows(_LABELS, {"ids": sorted(ids)})) if ids else {}


def _known_id(saes: Sequence[SaeRange], name: Name) -> int | None:
    if isinstance(name, int):
        return name if key_of(saes, name) is not None else None
    try:
        return id_of(saes, name)
    except UsageError:
        return None


def _why_no_sae(wanted: FeatureKey, saes: Sequence[SaeRange]) -> str:
    """Say which layers or sites there are instead, and the nearest key that exists."""
    saes = [sae for sae in saes if sae.n_features]
    if not saes:
        return "this graph has no features"
    same_site = [sae for sae in saes if sae.site == wanted.site]
    if same_site:
        layers = ", ".join(str(sae.layer) for sae in same_site)
        there = f"{wanted.site} SAEs are at layer {layers}"
    else:
        there = f"there are no {wanted.site} SAEs, only {', '.join(sorted({sae.site for sae in saes}))}"
    # At equal distance the later one of the model, so the residual one of a layer.
    close = min(same_site or saes, key=lambda sae: (abs(sae.layer - wanted.layer), -sae.number))
    return f"{there}; did you mean '{close.key(min(wanted.idx, close.n_features - 1))}'?"
