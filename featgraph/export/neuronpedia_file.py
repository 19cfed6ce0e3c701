"""Neuronpedia: the bodies of requests to its steering API, as JSON; nothing is sent."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.core.keys import FeatureKey
from featgraph.errors import UsageError
from featgraph.export.files import OutputFiles
from featgraph.export.formats import FORMATS
from featgraph.export.provenance import describe, title
from featgraph.export.sae_ids import SaeIds, ids_of_vector

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector

URL = "https://www.neuronpedia.org"
PROMPT = "WRITE YOUR PROMPT HERE"
MAX_WIDTH = 24_576
"""Longest vector that Neuronpedia accepts. Source: Neuronpedia, app/api/vector/new/route.ts,
MAX_VECTOR_LENGTH."""

_STEER = {
    "temperature": 0.5,
    "n_tokens": 48,
    "freq_penalty": 0,
    "seed": 0,
    "strength_multiplier": 1,
    "steer_method": "SIMPLE_ADDITIVE",
}
"""Parameters of /api/steer besides prompt and features; a multiplier of 1 leaves strengths unchanged.

Source: Neuronpedia, app/api/steer/route.tsx, steerSchema."""


def neuronpedia(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return a request body of /api/vector/new per block, and one of /api/steer if features can express the
    vector.

    To steer with an uploaded vector, use it as the feature (source, index) of the answer. /api/steer adds
    strength x multiplier x the raw decoder row.

    Raises UsageError: Neuronpedia has no SAE of the graph, or accepts no vector of this length.
    Source: Neuronpedia, app/api/vector/new/route.ts and app/api/steer/route.tsx.
    """
    known = ids_of_vector(vector)
    model_id = _model_id(known)
    if model_id is None:
        raise UsageError(
            "no SAE of this vector's graph has a Neuronpedia id, so Neuronpedia's name of the "
            f"model {vector.model.name} is unknown; use another format"
        )
    if vector.model.d_model > MAX_WIDTH:
        raise UsageError(
            f"Neuronpedia takes vectors of up to {MAX_WIDTH} numbers, and d_model of {vector.model.name} is "
            f"{vector.model.d_model}; use another format"
        )
    why = _no_steer(vector, known)
    content = {
        **describe(vector, approximations),
        "steer": _steer(vector, model_id, known) if why is None else None,
        "vectors": _vectors(vector, model_id, title(vector, approximations)),
    }
    notes = () if why is None else (f"no payload for /api/steer: {why}; the vectors say it all",)
    return OutputFiles({out: f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode()}, notes)


def _model_id(known: dict[int, SaeIds]) -> str | None:
    for sae in known.values():
        if sae.neuronpedia_id is not None:
            return sae.neuronpedia_id.partition("/")[0]
    return None


def _vectors(vector: "SteeringVector", model_id: str, label: str) -> list[dict[str, object]]:
    export_format = FORMATS["neuronpedia"]
    return [
        {
            "url": f"{URL}/api/vector/new",
            "body": {
                "modelId": model_id,
                "layerNumber": int(export_format.layer(block, vector.model.type)),
                "hookType": "hook_resid_post",
                "vector": values.tolist(),
                "vectorDefaultSteerStrength": 1,
                "vectorLabel": f"{label}, after block {block}",
            },
        }
        for block, values in vector.layers.items()
    ]


def _steer(vector: "SteeringVector", model_id: str, known: dict[int, SaeIds]) -> dict[str, object]:
    features = []
    for member in vector.members:
        source = known[member.sae_number].neuronpedia_id
        assert source is not None, "_no_steer has looked"
        features.append(
            {
                "modelId": model_id,
                "layer": source.partition("/")[2],
                "index": FeatureKey.parse(member.key).idx,
                "strength": member.weight / member.decoder_norm,
            }
        )
    body = {"modelId": model_id, "prompt": PROMPT, "features": features, **_STEER}
    return {"url": f"{URL}/api/steer", "body": body}


def _no_steer(vector: "SteeringVector", known: dict[int, SaeIds]) -> str | None:
    """Return why Neuronpedia's own features cannot express the vectors, or None."""
    if not vector.members:
        return "the vector says nothing of its features"
    if vector.settings.compensate:
        return "compensate changes how much of each feature is added"
    for member in vector.members:
        if FeatureKey.parse(member.key).site != "res":
            return f"{member.key} is not a residual feature, and Neuronpedia steers with those as they are"
        if known[member.sae_number].neuronpedia_id is None:
            return f"the SAE {member.sae_id} of {member.key} is not on Neuronpedia"
    return None
