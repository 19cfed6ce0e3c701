"""The options of commands that steer: one per field of `steering.Settings`, made from it."""

from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, get_type_hints

import typer

from featgraph.cli.signature import Parameters, with_parameters
from featgraph.errors import UsageError
from featgraph.steering.settings import Settings


def _options() -> Parameters:
    """Return one option per setting, with its type, default and help."""
    kinds = get_type_hints(Settings)
    return {
        setting.name: (
            Annotated[
                kinds[setting.name],
                typer.Option(
                    f"--{setting.name}",
                    help=setting.metadata["help"],
                    metavar=setting.metadata["metavar"],
                    min=-1 if setting.metadata["cosine"] else None,
                    max=1 if setting.metadata["cosine"] else None,
                ),
            ],
            setting.default,
        )
        for setting in fields(Settings)
    }


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per setting; `function` gets their values as `settings`."""
    return with_parameters(function, "settings", _options())


def weighted(features: list[str]) -> dict[str, float]:
    """Return the weight of each key; `KEY` weighs 1, `KEY=-0.5` says so itself.

    Raises UsageError: a weight is no number, or a key is given twice.
    """
    weights: dict[str, float] = {}
    for text in features:
        key, equals, weight = text.partition("=")
        try:
            value = float(weight) if equals else 1.0
        except ValueError as error:
            raise UsageError(
                f"{weight!r} is not a weight; write KEY=NUMBER, such as 3/res/346=-0.5"
            ) from error
        if key in weights:
            raise UsageError(f"feature {key!r} is given twice")
        weights[key] = value
    return weights
