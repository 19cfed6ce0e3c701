"""Named queries: `.sql` files whose first comments say what they return and which parameters they take.

    -- One sentence: what it returns.
    -- :min float = null  smallest cosine; null = each SAE's own threshold
    -- :feature key  where to start
    from splits(min := $min::float) ...

A parameter without a default is required. The whole file is the statement, so lines in errors are its lines.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from featgraph.core.bounded import read_text
from featgraph.core.files import os_reason
from featgraph.core.result import MAX_ROWS, TIMEOUT, Result
from featgraph.core.shipped import shipped
from featgraph.errors import QueryError, UsageError, nearest
from featgraph.query.language.tokens import tokenize
from featgraph.query.run import run
from featgraph.store import Store
from featgraph.store.features import find_feature

ParameterType = Literal["float", "int", "text", "bool", "key"]

_DECLARATION = r"-- :(\w+) (\w+)(?: = ('[^']*'|\S+))?  +(\S.*)"
_BOOLS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


@dataclass(frozen=True)
class Parameter:
    """One declared parameter of a named query."""

    name: str
    type: ParameterType
    required: bool
    default: object
    """Used when no value is given; None also stands for `null`."""
    description: str

    def value(self, text: object) -> object:
        """Return a value for this parameter, read from text if it is text; `null` is NULL, `'null'` the word.

        Raises UsageError: the text is not of the parameter's type.
        """
        if text is None or text == "null":
            return None
        if not isinstance(text, str):
            return text
        try:
            return _read(text, self.type)
        except (ValueError, KeyError) as error:
            raise UsageError(f"parameter ${self.name} wants {_WANTED[self.type]}, not {text!r}") from error


@dataclass(frozen=True)
class NamedQuery:
    """One query file, read and checked."""

    name: str
    path: Path
    purpose: str
    parameters: tuple[Parameter, ...]
    statement: str

    def bind(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return a value for every parameter: the given one, else the default.

        Raises UsageError: an unknown parameter, a required one left out, or a value of the wrong type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in values:
            if name not in known:
                listed = f"; it takes {', '.join(known)}" if known else "; it takes none"
                raise UsageError(
                    f"query {self.name!r} has no parameter {name!r}{nearest(name, known) or listed}"
                )
        for name, parameter in known.items():
            if parameter.required and name not in values:
                raise UsageError(
                    f"query {self.name!r} needs {name!r} ({parameter.description}); give -p {name}=VALUE"
                )
        return {
            name: parameter.value(values[name]) if name in values else parameter.default
            for name, parameter in known.items()
        }


def run_named(
    store: Store,
    name: str,
    values: Mapping[str, object] | None = None,
    *,
    timeout: float | None = TIMEOUT,
    max_rows: int | None = MAX_ROWS,
) -> Result:
    """Run a shipped query by name, or the one in a `.sql` file, with parameters by name.

    Raises UsageError: no such query, parameter or feature. QueryError: DuckDB refuses the statement.
    """
    query = named(name)
    bound = query.bind(values or {})
    for parameter in query.parameters:
        if parameter.type == "key" and bound[parameter.name] is not None:
            bound[parameter.name] = str(find_feature(store.saes, str(bound[parameter.name]))[0])
    return run(store, query.statement, bound, timeout=timeout, max_rows=max_rows)


def all_named() -> list[NamedQuery]:
    """Return the shipped queries by name."""
    return [read_query(path) for path in sorted(shipped("queries").glob("*.sql"))]


def listing(queries: list[NamedQuery]) -> Result:
    """Return one row per query: its name, what it returns, the names of its parameters."""
    rows: list[tuple[object, ...]] = [
        (query.name, query.purpose, [parameter.name for parameter in query.parameters]) for query in queries
    ]
    return Result.of({"name": "VARCHAR", "purpose": "VARCHAR", "parameters": "VARCHAR[]"}, rows)


def named(name: str) -> NamedQuery:
    """Return a shipped query by name, or the one in a `.sql` file.

    Raises UsageError: there is no such query or file. QueryError: the file is malformed.
    """
    if name.endswith(".sql"):
        return read_query(Path(name))
    known = {path.stem: path for path in shipped("queries").glob("*.sql")}
    if name not in known:
        raise UsageError(
            f"no query named {name!r}{nearest(name, known) or ';'} "
            f"`featgraph queries` lists all {len(known)}, or give a path that ends in .sql"
        )
    return read_query(known[name])


def read_query(path: Path) -> NamedQuery:
    """Read and check one query file.

    Raises UsageError: it cannot be read. QueryError: no purpose line, a malformed declaration, a parameter
    used but not declared or declared but not used; names the file and the line.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read query {path}: {os_reason(error)}") from error
    lines = text.splitlines()
    purpose = lines[0].removeprefix("-- ").strip() if lines and lines[0].startswith("-- ") else ""
    if not purpose or purpose.startswith(":"):
        raise QueryError(f"{path}:1: the first line must be a comment that says what the query returns")
    declared: dict[str, Parameter] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("-- :"):
            parameter = _declaration(line, f"{path}:{number}")
            if parameter.name in declared:
                raise QueryError(f"{path}:{number}: parameter {parameter.name!r} is declared twice")
            declared[parameter.name] = parameter
    _check_use(path, text, declared)
    return NamedQuery(path.stem, path, purpose, tuple(declared.values()), text)


def _declaration(line: str, where: str) -> Parameter:
    match = re.fullmatch(_DECLARATION, line)
    if match is None:
        raise QueryError(
            f"{where}: cannot read the declaration {line!r}; write `-- :name type = default  description`, "
            "with two spaces before the description"
        )
    name, kind, default, description = match.groups()
    if kind not in get_args(ParameterType):
        types = ", ".join(get_args(ParameterType))
        hint = nearest(kind, get_args(ParameterType)) or f"; types are {types}"
        raise QueryError(f"{where}: unknown type {kind!r} of parameter {name!r}{hint}")
    parameter = Parameter(name, cast(ParameterType, kind), default is None, None, description)
    if default is None or default == "null":
        return parameter
    try:
        value = parameter.value(default)
    except UsageError as error:
        raise QueryError(f"{where}: {error}") from error
    return Parameter(name, parameter.type, False, value, description)


def _check_use(path: Path, text: str, declared: Mapping[str, Parameter]) -> None:
    """Raise unless the parameters used are those declared."""
    used: dict[str, int] = {}
    for token in tokenize(text):
        if token.kind == "parameter":
            used.setdefault(token.text[1:], text.count("\n", 0, token.start) + 1)
    for name, line in used.items():
        if name not in declared:
            hint = nearest(name, declared) or f"; add a line `-- :{name} type = default  description`"
            raise QueryError(f"{path}:{line}: parameter ${name} is not declared{hint}")
    for number, line_text in enumerate(text.splitlines(), 1):
        declaration = re.fullmatch(_DECLARATION, line_text)
        if declaration and declaration[1] not in used:
            raise QueryError(f"{path}:{number}: parameter {declaration[1]!r} is declared but not used")


_WANTED: dict[ParameterType, str] = {
    "float": "a number",
    "int": "a whole number",
    "text": "text",
    "bool": "true or false",
    "key": "a feature key such as 12/res/3456",
}


def _read(text: str, kind: ParameterType) -> object:
    if kind == "float":
        return float(text)
    if kind == "int":
        return int(text)
    if kind == "bool":
        return _BOOLS[text.lower()]
    quoted = len(text) > 1 and text[0] == text[-1] == "'"
    return text[1:-1] if quoted else text
