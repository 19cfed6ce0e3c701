"""Expressions over the variables of a pattern: what each mentions, and its SQL once that is known.

An expression is DuckDB's but for three things, which are found here: `variable.property`, functions of a path
variable, and aggregates over a repeated edge. All else is passed on as it was written.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from featgraph.errors import QueryError, nearest
from featgraph.query.language.ast import Expression
from featgraph.query.language.bind import Edge, Node, Path
from featgraph.query.language.context import QueryContext
from featgraph.query.language.source_map import mark
from featgraph.query.language.tokens import Token, closing

PATH_FUNCTIONS = ("path_length", "nodes", "vertices", "edges", "weight", "bottleneck", "keys")
NAMELESS = "a parameter needs a name; write $name, not ? or $1"

AGGREGATES = ("count", "min", "max", "avg", "sum", "product", "list")

Variables = Mapping[str, Node | Edge | Path]
Nested = Callable[[tuple[Token, ...], int], tuple[str, int] | None]
"""Given tokens and a place: the SQL of what begins there in place of a table, and the place after it."""


@dataclass(frozen=True)
class Use:
    """One mention of a variable: its `property`, or what a function says of a path or a run of edges."""

    variable: Node | Edge | Path
    prop: str | None = None
    function: str | None = None

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """What tells two uses apart."""
        return self.variable.name or "", self.prop, self.function


Render = Callable[[Use], str]


Replace = Callable[[Expression, int], tuple[str | None, int]]
"""Given tokens and a place: what stands for them from there (None: the token itself), the place after."""


def rewritten(tokens: Expression, text: str, replace: Replace) -> str:
    """Return the SQL of tokens with some of them replaced, and all else as it was written."""
    pieces: list[str] = []
    place, end = 0, tokens[0].start if tokens else 0
    while place < len(tokens):
        token = tokens[place]
        if token.text == "?":
            raise QueryError(NAMELESS, text, token.start)
        if token.start > end:
            pieces.append(mark(text[end : token.start], end, token.start))
        made, after = replace(tokens, place)
        end = tokens[after - 1].end
        pieces.append(mark(token.text if made is None else made, token.start, end))
        place = after
    return "".join(pieces)


class Expressions:
    """Writes expressions for one set of variables."""

    def __init__(self, variables: Variables, context: QueryContext, nested: Nested) -> None:
        self.variables = variables
        self.context = context
        self.nested = nested

    def sql(
        self,
        tokens: Expression,
        render: Render,
        aliases: frozenset[str] = frozenset(),
        own: Node | Edge | None = None,
    ) -> str:
        """Return the SQL of an expression.

        render: gives the SQL of each use of a variable. aliases: names of columns that a bare name may mean.
        own: the variable in whose brackets the expression stands, where even a repeated edge is one edge.

        Raises QueryError: an unknown variable or property, or one used in a way that it cannot be.
        """
        text = self.context.text
        inner = _Inner(tokens, text)
        here = _Here(render, aliases, own, inner)
        return rewritten(tokens, text, lambda some, place: self.replaced(some, place, here))

    def uses(self, tokens: Expression, aliases: frozenset[str] = frozenset()) -> list[Use]:
        """Return every use of a variable in an expression.

        Raises QueryError: as `sql`.
        """
        uses: list[Use] = []

        def remember(use: Use) -> str:
            uses.append(use)
            return "null"

        self.sql(tokens, remember, aliases)
        return uses

    def replaced(self, tokens: Expression, place: int, here: "_Here") -> tuple[str | None, int]:
        """Return what stands for the tokens from a place on, and the place after them."""
        token = tokens[place]
        nested = self.nested(tokens, place)
        if nested is not None:
            return nested
        after_dot = place > 0 and tokens[place - 1].is_symbol(".")
        if not token.is_name or after_dot:
            return None, place + 1
        use, after = self.call(tokens, place, here) if _opens(tokens, place + 1, "(") else (None, place + 1)
        if use is None and _opens(tokens, place + 1, "."):
            use, after = self.property(tokens, place, here)
        if use is not None:
            return here.render(use), after
        if token.name in self.variables and not here.inner.is_inner(place):
            self.refuse_bare(tokens, place, here.aliases)
        return None, place + 1

    def call(self, tokens: Expression, place: int, here: "_Here") -> tuple[Use | None, int]:
        """Read `path_length(p)` or `avg(e.cosine)`."""
        name, inside = tokens[place].name, tokens[place + 2 : place + 3]
        variable = self.variables.get(inside[0].name) if inside and inside[0].is_name else None
        is_ours = name in (*PATH_FUNCTIONS, *AGGREGATES) and isinstance(variable, Path | Edge)
        if is_ours and here.own is not None and not here.inner.is_inner(place):
            self.context.fail(
                f"{name} is of a whole path; in brackets a condition is on one node or edge: move it to the "
                "WHERE after the patterns",
                tokens[place],
            )
        if name in PATH_FUNCTIONS and _opens(tokens, place + 3, ")"):
            if isinstance(variable, Path):
                return Use(variable, function="nodes" if name == "vertices" else name), place + 4
            if isinstance(variable, Node | Edge):
                self.context.fail(
                    f"{name} wants a path; name it in the pattern, such as MATCH p = (a)-[e]->(b)", inside[0]
                )
        if name in AGGREGATES and isinstance(variable, Edge) and variable.is_group:
            if name == "count" and _opens(tokens, place + 3, ")"):
                return Use(variable, function="count"), place + 4
            if _opens(tokens, place + 3, ".") and _opens(tokens, place + 5, ")"):
                prop = self.known(variable, tokens[place + 4])
                return Use(variable, prop, name), place + 6
        if name == "element_id" and isinstance(variable, Node):
            self.context.fail(f"write {inside[0].text}.id for the id of a feature", tokens[place])
        return None, place + 1

    def property(self, tokens: Expression, place: int, here: "_Here") -> tuple[Use | None, int]:
        """Read `variable.property`."""
        inner = here.inner
        token = tokens[place]
        prop = tokens[place + 2] if place + 2 < len(tokens) else None
        is_own = here.own is not None and token.name == here.own.name
        variable = here.own if is_own else self.variables.get(token.name)
        if inner.hides(token.name, place) or prop is None:
            return None, place + 1
        if here.own is not None and variable is not None and variable is not here.own:
            self.context.fail(
                f"a condition in brackets is on its own variable only; move the one on {token.text} to the "
                "WHERE after the patterns",
                token,
            )
        if variable is None and token.name in here.aliases:
            return None, place + 1
        if variable is None:
            if not (inner.is_inner(place) or _opens(tokens, place + 3, "(") or prop.is_symbol("*")):
                hint = nearest(token.name, self.variables) or self._hint_of_others()
                self.context.fail(f"no variable {token.text!r} in this pattern{hint}", token)
            return None, place + 1
        if isinstance(variable, Path):
            self.context.fail(f"{token.text} is a path; write {self._path_hint(token)}", token)
        name = self.known(variable, prop)
        if isinstance(variable, Edge) and variable.is_group and variable is not here.own:
            self.context.fail(
                f"{token.text} is a run of edges; say how to combine them, such as avg({token.text}.{name}) "
                f"or min({token.text}.{name})",
                token,
            )
        return Use(variable, name), place + 3

    def known(self, variable: Node | Edge, prop: Token) -> str:
        """Return the name of a property that exists."""
        columns = self.context.columns["feature" if isinstance(variable, Node) else "edge"]
        if not prop.is_name or prop.name not in columns:
            noun = "a feature" if isinstance(variable, Node) else "an edge"
            hint = nearest(prop.text, columns) or f"; it has {', '.join(columns)}"
            self.context.fail(f"{noun} has no property {prop.text!r}{hint}", prop)
        return prop.name

    def _hint_of_others(self) -> str:
        named = ", ".join(name for name in self.variables)
        return f"; it has {named}" if named else "; name one, such as (a:res)"

    def _path_hint(self, token: Token) -> str:
        return ", ".join(f"{name}({token.text})" for name in ("keys", "path_length", "weight"))

    def refuse_bare(self, tokens: Expression, place: int, aliases: frozenset[str]) -> None:
        """Refuse a variable that stands alone, unless it names a column there."""
        token, following = tokens[place], tokens[place + 1 : place + 2]
        before = tokens[place - 1] if place else None
        names_column = before is not None and (
            before.is_word("as", "end") or before.is_symbol(")", "]") or _is_value(tokens, place - 1)
        )
        is_label = bool(following) and following[0].is_symbol(":", "=") and not _is_comparison(tokens, place)
        if names_column or is_label or token.name in aliases:
            return
        variable = self.variables[token.name]
        wanted = f"{token.text}.key" if isinstance(variable, Node) else self._path_hint(token)
        if isinstance(variable, Edge):
            wanted = f"avg({token.text}.cosine)" if variable.is_group else f"{token.text}.cosine"
        noun = {Node: "a node", Edge: "an edge", Path: "a path"}[type(variable)]
        self.context.fail(f"{token.text} is {noun}; write what of it you want, such as {wanted}", token)


@dataclass(frozen=True)
class _Here:
    """How one expression is written; see `Expressions.sql`."""

    render: Render
    aliases: frozenset[str]
    own: Node | Edge | None
    inner: "_Inner"


class _Inner:
    """The parts of an expression that are queries of their own or lambdas, which have names of their own."""

    def __init__(self, tokens: Expression, text: str) -> None:
        self.spans: list[tuple[int, int, frozenset[str]]] = []
        for place, token in enumerate(tokens):
            following = tokens[place + 1 : place + 2]
            if (
                token.is_symbol("(")
                and following
                and following[0].is_word("select", "from", "with", "values")
            ):
                end = closing([*tokens], place, text)
                self.spans.append((place, end, frozenset(_defined(tokens[place + 1 : end]))))
            if token.is_word("lambda"):
                self.spans.append((place, _end(tokens, place), frozenset(_parameters(tokens[place + 1 :]))))

    def hides(self, name: str, place: int) -> bool:
        """Say whether a name at a place is one that the inner query defines."""
        return any(start < place < end and name in names for start, end, names in self.spans)

    def is_inner(self, place: int) -> bool:
        """Say whether a place is in such a part."""
        return any(start < place < end for start, end, _ in self.spans)


_BEFORE_VALUES = (
    "select",
    "where",
    "and",
    "or",
    "not",
    "by",
    "on",
    "having",
    "in",
    "group",
    "order",
    "limit",
)
"""Keywords that neither are an alias nor have one after them."""


def _defined(tokens: Expression) -> Iterator[str]:
    """Yield names that an inner query may define: what follows FROM and JOIN, and aliases."""
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else None
        if token.is_name and before is not None and not _opens(tokens, place + 1, "."):
            is_alias = before.is_word("from", "join", "as") or before.is_symbol(")") or before.is_name
            if is_alias and not before.is_word(*_BEFORE_VALUES) and not token.is_word(*_BEFORE_VALUES):
                yield token.name


def _end(tokens: Expression, place: int) -> int:
    """Return the place of the bracket that closes around a place, or the end."""
    depth = 0
    for number in range(place, len(tokens)):
        depth += tokens[number].is_symbol("(", "[", "{") - tokens[number].is_symbol(")", "]", "}")
        if depth < 0:
            return number
    return len(tokens)


def _parameters(tokens: Expression) -> Iterator[str]:
    """Yield the parameters of a lambda."""
    for token in tokens:
        if token.is_symbol(":"):
            return
        if token.is_name:
            yield token.name


def _opens(tokens: Expression, place: int, symbol: str) -> bool:
    return place < len(tokens) and tokens[place].is_symbol(symbol)


def _is_value(tokens: Expression, place: int) -> bool:
    """Say whether the token at a place ends a value, so that a name after it is the name of a column."""
    token = tokens[place]
    if token.kind in ("number", "string", "parameter", "quoted"):
        return True
    return token.kind == "word" and place > 0 and tokens[place - 1].is_symbol(".")


def _is_comparison(tokens: Expression, place: int) -> bool:
    """Say whether `=` after a name compares it, rather than being part of `=>` or `:=`."""
    one, two = tokens[place + 1], tokens[place + 2 : place + 3]
    arrow = bool(two) and two[0].is_symbol(">", "=") and two[0].start == one.end
    return one.is_symbol("=") and not arrow
