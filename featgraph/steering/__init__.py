"""Features or a lineage -> `SteeringVector`: vectors for the residual stream, and a model steered by them.

settings    how a vector is made: one dataclass; the records that a vector keeps
checks      refuses settings, weights and vectors that make no sense
members     one feature -> the features that steer for it, and where each writes
units       what scale 1 means
schedules   scale over the layers, and compensation for what earlier layers have added
build       features of a graph -> vector
vector      the steering vector
hooks       adds it to a transformers model
positions   which tokens of a forward pass are steered
sae_modes   modes that change SAE codes, token by token
generate    text, steered or not, token by token
compare     the same prompts at several scales; how a plan records it
"""

from typing import TYPE_CHECKING, Any

from featgraph.steering.settings import Settings, SettingsOptions, SteeredFeature, SteeredModel
from featgraph.steering.vector import SteeringVector

if TYPE_CHECKING:
    from featgraph.steering.build import from_features

__all__ = ["Settings", "SettingsOptions", "SteeredFeature", "SteeredModel", "SteeringVector", "from_features"]


def __getattr__(name: str) -> Any:
    """Import the builder on first use, because the command line needs only the settings."""
    if name == "from_features":
        from featgraph.steering.build import from_features

        return from_features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
