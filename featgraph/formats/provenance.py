"""What every format says about a steering vector besides its numbers."""

from typing import TYPE_CHECKING

from featgraph.model import FeatureKey

if TYPE_CHECKING:
    from featgraph.steering import SteeredFeature, SteeringVector

FORMAT = "featgraph.steering/1"
"""Name and version of the layout that `safetensors` and `json` files share."""

_SCALE_CONVENTIONS = {"raw": "raw_w_dec", "unit": "unit", "max-act": "max_act"}


def describe(vector: "SteeringVector") -> dict[str, object]:
    """Return model, hook, scale and members of a steering vector as plain JSON values.

    `layer.N` of such a file is added, at coefficient 1, to the output of block N (`hook` resid_post).
    """
    return {
        "format": FORMAT,
        "model_id": vector.model_name,
        "model_type": vector.model_type,
        "d_model": vector.d_model,
        "hook": "resid_post",
        "scale_convention": _SCALE_CONVENTIONS[vector.unit],
        "scale": vector.scale,
        "members": [_describe_member(member) for member in vector.members],
    }


def _describe_member(member: "SteeredFeature") -> dict[str, object]:
    """One feature; `weight` is what its unit direction was multiplied by, `sign` the sign of that."""
    key = FeatureKey.parse(member.key)
    return {
        "key": member.key,
        "site": key.site,
        "layer": key.layer,
        "feature": key.idx,
        "release": member.release,
        "sae_id": member.sae_id,
        "hook_name": member.hook_name,
        "write_layer": member.write_layer,
        "write_exact": True,
        "sign": -1 if member.weight < 0 else 1,
        "weight": member.weight,
        "decoder_norm": member.decoder_norm,
        "max_activation": member.max_activation,
        "cosine": member.cosine,
    }
