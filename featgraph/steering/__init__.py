"""Features or a lineage -> `SteeringVector`: what to add to the residual stream, and adding it.

vector      the steering vector, and the words for how it came about
checks      what settings and weights may be, and what a vector must come to
members     one feature -> the features that steer for it, and where each writes
units       what scale 1 means
schedules   how scale goes over layers, and what earlier layers have added already
planning    all of it together: features of a graph -> vector
applying    hooks that add it to a transformers model
positions   which tokens of a forward pass are steered
gates       modes that change what an SAE finds, token by token
generating  text, steered or not, token by token
comparing   the same prompts at several scales; how a plan says it
"""

from featgraph.steering.build import from_features
from featgraph.steering.vector import Settings, SettingsOptions, SteeredFeature, SteeredModel, SteeringVector

__all__ = ["Settings", "SettingsOptions", "SteeredFeature", "SteeredModel", "SteeringVector", "from_features"]
