"""The options of commands that steer: one per field of `steering.Settings`, made from it."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from featgraph.errors import UsageError
from featgraph.steering.settings import Settings


def _options() -> list[inspect.Parameter]:
    """Return one keyword parameter per setting, with its type, default and help."""
    kinds = get_type_hints(Settings)
    return [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=setting.default,
            annotation=Annotated[
                kinds[setting.name],
                typer.Option(
                    f"--{setting.name}",
                    help=setting.metadata["help"],
                    metavar=setting.metadata["metavar"],
                    min=-1 if setting.metadata["cosine"] else None,
                    max=1 if setting.metadata["cosine"] else None,
                ),
            ],
        )
        for setting in fields(Settings)
    ]


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per setting, and the function what they were set to, as `settings`."""
    options = _options()

    @wraps(function)
    def call(**values: Any) -> None:
        settings = {option.name: values.pop(option.name) for option in options}
        function(**values, settings=settings)

    given = inspect.signature(function).parameters.values()
    own = [parameter for parameter in given if parameter.name != "settings"]
    kept = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters = [*kept, *options]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del call.__wrapped__
    return call


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
