"""Checks settings, weights and the finished vectors of steering."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING

from featgraph.core import arguments
from featgraph.errors import UsageError, nearest
from featgraph.steering.settings import Settings, SteeredFeature, choices

if TYPE_CHECKING:
    from featgraph.core.arrays import Vector


def checked(settings: Settings) -> Settings:
    """Return settings with every number as such.

    Raises UsageError: an unknown word, a number not finite or out of range, or conflicting settings.
    """
    for name, value in vars(settings).items():
        known = choices(name)
        if known and value not in known:
            raise UsageError(
                f"no {name} {value!r}{nearest(str(value), known) or ';'} {name} is one of {', '.join(known)}"
            )
    if settings.where == "per-layer" and settings.at is None:
        raise UsageError("where per-layer needs the layer: at")
    if settings.where == "single" and (settings.at is not None or settings.writers is not None):
        raise UsageError("where single has no span, so it takes neither at nor writers")
    compensate = arguments.check_bool("compensate", settings.compensate)
    if compensate and settings.gated:
        raise UsageError(
            "compensate is for vectors known before the model runs: mode add, positions not firing"
        )
    return replace(
        settings,
        scale=finite("scale", settings.scale),
        alpha=finite("alpha", settings.alpha),
        end=finite("end", settings.end),
        at=None if settings.at is None else arguments.check_count("at", settings.at),
        min=None if settings.min is None else arguments.check_cosine("min", settings.min),
        writers=None if settings.writers is None else arguments.check_cosine("writers", settings.writers),
    )


def finite(name: str, value: object) -> float:
    """Return a value as a number; raise UsageError if it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not abs(float(value)) < float("inf"):
        raise UsageError(f"{name} is {value}; give a finite number")
    return float(value)


def check_added(vectors: Sequence[tuple[int, "Vector"]], scale: float) -> None:
    """Raise UsageError: a vector, each with its layer, is not finite, or all are 0."""
    import numpy as np

    for layer, values in vectors:
        if not np.isfinite(values).all():
            raise UsageError(
                f"the vector of layer {layer} has NaN or infinite values at scale {scale:g}; "
                "choose a finite, smaller one"
            )
    if not any(values.any() for _, values in vectors):
        raise UsageError(
            f"every vector is 0 at scale {scale:g}, so nothing is steered; choose another scale or weights"
        )


def check_changed(members: Sequence[SteeredFeature], settings: Settings) -> None:
    """Raise UsageError: activations would be set to what no float32 holds, or stay as they are."""
    import numpy as np

    largest = float(np.finfo(np.float32).max)
    for member in members:
        if not max(abs(member.coefficient), abs(member.target or 0.0)) <= largest:
            raise UsageError(
                f"{member.key!r} would be changed without bound at scale {settings.scale:g}; "
                "choose a smaller one"
            )
    if settings.mode == "rescale" and all(member.coefficient == 1 for member in members):
        raise UsageError("rescale by 1 leaves every activation as it is; choose another scale")
    if settings.mode == "add" and not any(member.target for member in members):
        raise UsageError(
            f"nothing is added at scale {settings.scale:g}, so nothing is steered; "
            "choose another scale or weights"
        )


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Return each key as text with its weight.

    Raises UsageError: there are none, or a weight is not finite.
    """
    if not weights:
        raise UsageError("a steering vector needs at least one feature key, such as 12/res/3456")
    return {str(key): finite(f"the weight of {key}", weight) for key, weight in weights.items()}
