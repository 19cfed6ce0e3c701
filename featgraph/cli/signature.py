"""Options that are added to a command's signature: Typer reads what a command takes from there."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

REQUIRED = inspect.Parameter.empty
"""Stands for a default where there is none."""

Parameters = Mapping[str, tuple[Any, Any]]
"""Annotation and default of each, by name."""


def with_parameters(
    function: Callable[..., None], collected: str, parameters: Parameters
) -> Callable[..., None]:
    """Return a command that takes `parameters` too; `function` gets their values as one dictionary.

    collected: the parameter of `function` that takes the dictionary; the command does not show it.
    """

    @wraps(function)
    def call(**values: Any) -> None:
        taken = {name: values.pop(name) for name in parameters}
        function(**values, **{collected: taken})

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in parameters.items()
    ]
    own = {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    place = list(own).index(collected)
    before, after = list(own.values())[:place], list(own.values())[place + 1 :]
    call.__signature__ = inspect.Signature([*before, *added, *after])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in [*before, *added, *after]}
    del call.__wrapped__
    return call
