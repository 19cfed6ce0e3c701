"""Feature key -> the SAE that it belongs to, or a message that names the nearest feature there is."""

from collections.abc import Sequence

from featgraph.errors import UsageError
from featgraph.model import FeatureKey, Slab


def find_feature(slabs: Sequence[Slab], key: str) -> tuple[FeatureKey, Slab]:
    """Return a feature's key, parsed, and the SAE that it belongs to.

    Raises UsageError: the key is malformed, or none of the SAEs has such a feature.
    """
    wanted = FeatureKey.parse(key)
    for slab in slabs:
        if (slab.layer, slab.site) != (wanted.layer, wanted.site):
            continue
        if wanted.idx < slab.n_features:
            return wanted, slab
        last = f"; the last is '{slab.key(slab.n_features - 1)}'" if slab.n_features else ""
        raise UsageError(f"no feature {key!r}: {slab.layer}/{slab.site} has {slab.n_features} features{last}")
    raise UsageError(f"no feature {key!r}: {_why_no_sae(wanted, slabs)}")


def _why_no_sae(wanted: FeatureKey, slabs: Sequence[Slab]) -> str:
    """Say which layers or sites there are instead, and the nearest key that exists."""
    slabs = [slab for slab in slabs if slab.n_features]
    if not slabs:
        return "this graph has no features"
    same_site = [slab for slab in slabs if slab.site == wanted.site]
    if same_site:
        layers = ", ".join(str(slab.layer) for slab in same_site)
        there = f"{wanted.site} SAEs are at layer {layers}"
    else:
        there = f"there are no {wanted.site} SAEs, only {', '.join(sorted({slab.site for slab in slabs}))}"
    # At equal distance the later one of the model, so the residual one of a layer.
    close = min(same_site or slabs, key=lambda slab: (abs(slab.layer - wanted.layer), -slab.slab))
    return f"{there}; did you mean '{close.key(min(wanted.idx, close.n_features - 1))}'?"
