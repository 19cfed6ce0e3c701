"""Feature key -> the SAE that it belongs to, or a message that names the nearest feature there is."""

from collections.abc import Sequence

from featgraph.core.keys import FeatureKey, SaeRange
from featgraph.errors import UsageError


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
