"""The options by which commands that steer are told how: one per field of `steering.Settings`."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from featgraph.errors import UsageError

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "scale": (
        Annotated[
            float,
            typer.Option(metavar="S", help="Multiplies every vector; r of rescale, the value of clamp."),
        ],
        1.0,
    ),
    "mode": (
        Annotated[
            Literal["add", "rescale", "clamp", "min-clamp", "ablate"],
            typer.Option(
                help="Add a vector, or change what the SAE finds: times S, to S, at least S, to nothing."
            ),
        ],
        "add",
    ),
    "unit": (
        Annotated[
            Literal["raw", "unit", "max-act", "residual"],
            typer.Option(
                help="What scale 1 is: the decoder row, length 1, the row times its largest activation, "
                "or the usual length of the residual stream there."
            ),
        ],
        "raw",
    ),
    "where": (
        Annotated[
            Literal["single", "per-layer", "cumulative"],
            typer.Option(help="The feature alone, its lineage at layer --at, or its span, up to --at."),
        ],
        "single",
    ),
    "at": (
        Annotated[int | None, typer.Option(metavar="LAYER", help="See --where.  [default: the whole span]")],
        None,
    ),
    "min": (
        Annotated[
            float | None,
            typer.Option(
                "--min",
                min=-1,
                max=1,
                metavar="COSINE",
                help="Cosine down to which a span goes on.  [default: each SAE's threshold_high]",
            ),
        ],
        None,
    ),
    "writers": (
        Annotated[
            float | None,
            typer.Option(
                min=-1,
                max=1,
                metavar="COSINE",
                help="Steer the span's mlp and att writers from this cosine on too.",
            ),
        ],
        None,
    ),
    "schedule": (
        Annotated[
            Literal["constant", "linear", "exponential", "cosine"],
            typer.Option(help="How scale goes over the layers of a span."),
        ],
        "constant",
    ),
    "alpha": (
        Annotated[float, typer.Option(metavar="A", help="Of the exponential schedule, S exp(A layer).")],
        -0.05,
    ),
    "end": (
        Annotated[float, typer.Option(metavar="S", help="Scale at the last layer, of the linear schedule.")],
        1.0,
    ),
    "compensate": (
        Annotated[
            bool,
            typer.Option("--compensate", help="Take off each vector what earlier layers added along it."),
        ],
        False,
    ),
    "positions": (
        Annotated[
            Literal["all", "prompt", "generated", "firing"],
            typer.Option(help="Which tokens are steered; firing: where the feature is active."),
        ],
        "all",
    ),
}
"""Type and default of each; the defaults are those of `Settings`, which a test holds them to."""


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above, and the function what they were set to, as `settings`."""
    given = inspect.signature(function).parameters.values()
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=type, default=default)
        for name, (type, default) in _OPTIONS.items()
    ]

    @wraps(function)
    def call(**values: Any) -> None:
        settings = {name: values.pop(name) for name in _OPTIONS}
        function(**values, settings=settings)

    own = [parameter for parameter in given if parameter.name != "settings"]
    kept = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    call.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in [*kept, *options]}
    del call.__wrapped__
    return call


def weighted(features: list[str]) -> dict[str, float]:
    """Return the weight of each key; `KEY` weighs 1, `KEY=-0.5` says so itself.

    Raises UsageError: a weight is no number, or a key is given twice.
    """
    found: dict[str, float] = {}
    for text in features:
        key, equals, weight = text.partition("=")
        try:
            value = float(weight) if equals else 1.0
        except ValueError as error:
            raise UsageError(
                f"{weight!r} is not a weight; write KEY=NUMBER, such as 3/res/346=-0.5"
            ) from error
        if key in found:
            raise UsageError(f"feature {key!r} is given twice")
        found[key] = value
    return found
