"""The provenance that every format records with a steering vector."""

import json
from typing import TYPE_CHECKING

from featgraph.core.keys import FeatureKey

if TYPE_CHECKING:
    from featgraph.steering import SteeredFeature, SteeringVector

FORMAT = "featgraph.steering/3"
"""Name and version of the layout that `safetensors`, `npz` and `json` files share."""

_SCALE_CONVENTIONS = {"raw": "raw_w_dec", "unit": "unit", "max-act": "max_act", "residual": "residual_rms"}


def describe(vector: "SteeringVector", approximations: tuple[str, ...] = ()) -> dict[str, object]:
    """Return model, hook, settings and members of a steering vector as plain JSON values.

    `layer.N` of such a file is added, at coefficient 1, to the output of block N (`hook` resid_post),
    `middle.N` between attention and mlp of block N.
    approximations: descriptions of the changes that the file makes to the vector.
    """
    model = vector.model
    return {
        "format": FORMAT,
        "model_id": model.name,
        "model_type": model.type,
        "model_sha256": model.sha256,
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "hook": "resid_post",
        "scale_convention": _SCALE_CONVENTIONS[vector.settings.unit],
        "settings": dict(vars(vector.settings)),
        "members": [_describe_member(member) for member in vector.members],
        **({"approximate": list(approximations)} if approximations else {}),
    }


def as_text(described: dict[str, object]) -> dict[str, str]:
    """Return a description for formats whose values are text: other values become JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in described.items()}


def title(vector: "SteeringVector", approximations: tuple[str, ...] = ()) -> str:
    """Return one line that names a vector's features, for formats that hold a title only."""
    keys = list(dict.fromkeys(member.key for member in vector.members))
    shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
    named = f"featgraph {shown} at {vector.settings.scale:g}" if keys else "featgraph"
    return f"{named} (approximate: {'; '.join(approximations)})" if approximations else named


_SHOWN = 4


def _describe_member(member: "SteeredFeature") -> dict[str, object]:
    """Return one feature; `weight`: factor of its unit direction; `sign`: that of its coefficient."""
    key = FeatureKey.parse(member.key)
    return {
        "key": member.key,
        "site": key.site,
        "layer": key.layer,
        "feature": key.idx,
        **{name: value for name, value in vars(member).items() if name != "key"},
        "write_exact": member.point == "out",
        "sign": -1 if member.coefficient < 0 else 1,
    }
