"""Verbs where a table may stand: their arguments checked, and the SQL that takes their place.

A verb is a table macro of `verbs.sql`, so its call stays a call; what SQL cannot compute (`Verb.computed`) is
computed first and bound as one list per column.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from featgraph.errors import QueryError, UsageError, nearest
from featgraph.query.language.ast import Expression
from featgraph.query.language.context import QueryContext
from featgraph.query.language.predicates import constant
from featgraph.query.language.source_map import mark
from featgraph.query.language.tokens import Token, split
from featgraph.query.verbs import VERBS, Verb, check, check_values, compute
from featgraph.store import Store

_DIGITS_OF_INTEGER = 30


@dataclass(frozen=True)
class Call:
    """A verb as a statement calls it."""

    verb: Verb
    at: Token
    sql: str
    """What takes the place of the call: that of a macro, or a SELECT from lists that are bound."""
    values: dict[str, object]
    """Of the arguments that are constants or parameters."""
    is_constant: bool
    """Whether all its arguments are."""
    prefix: str = ""
    """What the names of the bound lists begin with, one list per column; only of a computed verb."""

    def parameters(self, store: Store, text: str) -> dict[str, object]:
        """Compute the rows and return one list per column.

        Raises QueryError: the values do not go together. SourceError: what they need cannot be found.
        """
        try:
            result = compute(store, self.verb.name, self.values)
        except UsageError as error:
            raise QueryError(str(error), text, self.at.start, len(self.at.text)) from error
        columns = zip(*result.rows, strict=True) if result.rows else ([] for _ in result.columns)
        return {
            self.prefix + name: list(values) for name, values in zip(result.columns, columns, strict=True)
        }


def read_call(
    at: Token, inside: Expression, context: QueryContext, sql: Callable[[Expression], str], number: int
) -> Call:
    """Return the call `verb(arguments)`, checked.

    at: the verb. inside: the tokens between its brackets. sql: writes an argument that is no constant.
    number: of the computed verb in its statement.

    Raises QueryError: an unknown argument, one given twice or left out, or a value that it cannot have.
    """
    verb = VERBS[at.name]
    given = _arguments(verb, at, inside, context)
    values: dict[str, object] = {}
    passed: list[str] = []
    measure = constant(list(given["by"]), context.values) if "by" in given else None
    by = measure[0] if measure else "cosine"
    for name, tokens in given.items():
        known = constant(list(tokens), context.values)
        if known is not None:
            values[name] = _checked(verb, name, known[0], tokens[0], context, by)
        elif verb.computed:
            values[name] = _checked(verb, name, _list(tokens, name, context), tokens[0], context, by)
        written = sql(tokens)
        if name in values and verb.arguments[name] == "key":  # as it was checked: `03/res/7` is 3/res/7
            written = mark(f"'{values[name]}'", tokens[0].start, tokens[-1].end)
        passed.append(written if name in verb.required else f"{name} := {written}")
    try:
        check_values(values, context.store)
    except UsageError as error:
        context.fail(str(error), at)
    is_constant = len(values) == len(given)
    if not verb.computed:
        macro = f"{mark(at.text, at.start, at.end)}({', '.join(passed)})"
        return Call(verb, at, macro, values, is_constant)
    prefix = f"{verb.name}_{number}_"
    while any(parameter.startswith(prefix) for parameter in context.values):
        prefix += "_"
    lists = ", ".join(f"unnest(${prefix}{name}::{kind}[]) as {name}" for name, kind in verb.columns.items())
    return Call(verb, at, f"(select {lists})", values, is_constant, prefix)


def _arguments(verb: Verb, at: Token, inside: Expression, context: QueryContext) -> dict[str, Expression]:
    """Return the tokens of each argument by its name, required ones first and in the verb's order."""
    names = list(verb.arguments)
    given: dict[str, Expression] = {}
    for place, part in enumerate(split(list(inside), ",") if inside else []):
        name, value = _named(part)
        if not value:
            context.fail(f"an argument of {verb.name} is missing", part[0] if part else at)
        if name is None:
            if place >= len(names):
                context.fail(
                    f"{verb.name} takes at most {len(names)} arguments: {', '.join(names)}", value[0]
                )
            word = names[place]
        elif name.name in verb.arguments:
            word = name.name
        else:
            hint = nearest(name.text, names) or f"; it takes {', '.join(names)}"
            context.fail(f"{verb.name} takes no {name.text!r}{hint}", name)
        if word in given:
            context.fail(f"{word} is given twice", name or value[0])
        given[word] = tuple(value)
    for name_of_required in verb.required:
        if name_of_required not in given:
            context.fail(f"{verb.name} needs {name_of_required}; write {_example(verb)}", at)
    return {name: given[name] for name in names if name in given}


def _named(part: list[Token]) -> tuple[Token | None, list[Token]]:
    """Split `name => value` or `name := value`."""
    if len(part) > 2 and part[0].is_name and part[1].text + part[2].text in ("=>", ":="):
        return part[0], part[3:]
    return None, part


def _example(verb: Verb) -> str:
    wanted = ", ".join("'3/res/346'" if verb.arguments[name] == "key" else "..." for name in verb.required)
    return f"{verb.name}({wanted})"


def _checked(verb: Verb, name: str, value: object, at: Token, context: QueryContext, by: object) -> object:
    if isinstance(value, Decimal):
        is_count = value.adjusted() < _DIGITS_OF_INTEGER and value == value.to_integral_value()
        value = int(value) if is_count else float(value)
    try:
        return check(verb, name, value, context.store, by)
    except UsageError as error:
        context.fail(str(error), at)


def _list(tokens: Expression, name: str, context: QueryContext) -> list[object]:
    """Return the value of `[1, 2, 3]`."""
    is_list = tokens[0].is_symbol("[") and tokens[-1].is_symbol("]")
    items = [constant(item, context.values) for item in split(list(tokens[1:-1]), ",")] if is_list else [None]
    if not all(items):
        message = f"{name} must be a constant or a parameter here: it is computed before the statement runs"
        context.fail(message, tokens[0])
    return [item[0] for item in items if item]
