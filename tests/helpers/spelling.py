"""A described query as the text of a statement, in one of many spellings that mean the same.

Upper and lower case, quoted names, comments and newlines between tokens, `IS` for `:`, `{1,}` for `+`, values
given as parameters, `MATCH ... RETURN` for `SELECT ... FROM GRAPH_TABLE (...)`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from helpers.oracle import EdgeSpec, Expression, NodeSpec, PathSpec, Query, Selector

_TOKEN = re.compile(
    r"\{\w+\}|'(?:[^']|'')*'|\$\w+|\"[^\"]+\"|[A-Za-z_]\w*|\d+(?:\.\d+)?(?:e\d+)?|<>|<=|>=|::|\|\||\S",
    re.DOTALL,
)
_KEYWORDS = {
    "match",
    "where",
    "and",
    "or",
    "not",
    "in",
    "from",
    "columns",
    "graph_table",
    "with",
    "as",
    "return",
}
_BETWEEN = ("  ", "\n", "\t", " /* ) ]-> */ ", " -- it's ]->\n", "\r\n  ")
_ODD_NAMES = (
    "layer",
    "key",
    "density",
    "best",
    '"where"',
    '"a b"',
    '"]->("',
    "é",
    "x1",
    "_",
    "res",
    "feature",
)


@dataclass
class Statement:
    """Text and the parameters that it needs."""

    text: str
    parameters: dict[str, object] = field(default_factory=dict)
    copies: int = 1
    """How often every row of the query is in the answer."""


def plain(query: Query) -> Statement:
    """Write a query in the simplest way, as MATCH ... RETURN."""
    return _Writer(query, None).statement()


def spelt(query: Query, seed: int) -> Statement:
    """Write a query in the way that belongs to a number."""
    return _Writer(query, Random(seed)).statement()


class _Writer:
    """Writes one query; without a generator of random numbers in the simplest way."""

    def __init__(self, query: Query, random: Random | None) -> None:
        self.query, self.random = query, random
        self.parameters: dict[str, object] = {}
        self.names: dict[str, str] = {}
        self.wild = self.chance(0.6)
        odd = random.sample(_ODD_NAMES, len(_ODD_NAMES)) if random else []
        for name in _variables(query):
            self.names[name] = odd.pop() if odd and self.chance(0.15) else name

    def chance(self, share: float) -> bool:
        return self.random is not None and self.random.random() < share

    def choose(self, *options: str) -> str:
        """Return one of the options; the first is the simplest."""
        return self.random.choice(options) if self.random else options[0]

    def statement(self) -> Statement:
        body = [*self.words("match"), *self.patterns()]
        if self.query.where:
            body += self.words("where")
            body += self.join_with("and", [self.condition(one) for one in self.query.where])
        form = self.choose("return", "from", "select", "with", "nested", "cross", "twice")
        tokens = self.returned(body) if form == "return" else self.table(body, form)
        if self.chance(0.2):
            tokens += self.words("limit 1000000")
        if self.chance(0.2):
            tokens.append(";")
        return Statement(self.joined(tokens), self.parameters, 1 + (form == "twice"))

    def returned(self, body: list[str]) -> list[str]:
        tokens = [*body, *self.words("return distinct" if self.query.shape == "distinct" else "return")]
        tokens += self.columns(returned=True)
        if self.query.shape == "counted":
            tokens += self.words("group by all")
        return tokens + (
            self.words(self.choose("order by 1", "order by all desc")) if self.chance(0.2) else []
        )

    def table(self, body: list[str], form: str) -> list[str]:
        name = [self.choose("features", "graph_of_mine", "g")] if self.chance(0.3) else []
        inside = [*name, *body, *self.words("columns"), "(", *self.columns(), ")"]
        table = [*self.words("graph_table"), "(", *inside, ")"]
        largest = ", ".join(f"max(c{place})" for place in range(len(self.query.columns)))
        shapes = {"distinct": "distinct *", "counted": "*, count(*)", "largest": largest}
        shapes["totalled"] = "*, count(*) over ()"
        what = self.words(shapes.get(self.query.shape or "", "*"))
        group = self.words("group by all") if self.query.shape == "counted" else []
        alias = self.words(self.choose("as t", "t"))
        if form == "from" and self.query.shape is None:
            return [*self.words("from"), *table, *(alias if self.chance(0.5) else [])]
        if form == "with":
            head = [*self.words("with q as (select * from"), *table, ")"]
            return [*head, *self.words("select"), *what, *self.words("from q"), *group]
        if form == "nested":
            inner = [*self.words("( select * from"), *table, *alias, ")"]
            return [*self.words("select"), *what, *self.words("from"), *inner, *self.words("as s"), *group]
        if form == "twice":
            one = [*self.words("select"), *what, *self.words("from"), *table, *group]
            return [*one, *self.words("union all"), *one]
        if form == "cross" and self.query.shape is None:
            return [*self.words("select t.* from (values (1)) as one(x),"), *table, *self.words("as t")]
        return [*self.words("select"), *what, *self.words("from"), *table, *group]

    def columns(self, returned: bool = False) -> list[str]:
        tokens: list[str] = []
        for place, column in enumerate(self.query.columns):
            always = self.random is None or self.query.shape == "largest"
            named = self.words(f"as c{place}") if always or self.chance(0.6) else []
            text = f"max({column.text})" if self.query.shape == "largest" and returned else column.text
            tokens += [*([","] if place else []), *self.expression(text), *named]
        counts = {"counted": ", count(*)", "totalled": ", count(*) over ()"}
        return [*tokens, *self.words(counts.get(self.query.shape or "", "") if returned else "")]

    def patterns(self) -> list[str]:
        tokens: list[str] = []
        for place, path in enumerate(self.query.paths):
            tokens += [*([","] if place else []), *self.path(path)]
        return tokens

    def path(self, path: PathSpec) -> list[str]:
        selector = self.selector(path.selector) if path.selector else []
        if len({edge.direction for edge in path.edges}) < 2 and self.chance(0.1):
            selector += self.words(self.choose("walk", "trail", "simple", "acyclic"))
        variable = [self.name(path.variable), "="] if path.variable else []
        tokens = [*variable, *selector] if self.chance(0.5) else [*selector, *variable]
        for place, node in enumerate(path.nodes):
            tokens += self.edge(path.edges[place - 1]) if place else []
            tokens += self.node(node)
        return tokens

    def selector(self, selector: Selector) -> list[str]:
        tokens = self.words(selector.word)
        if selector.k is not None:
            tokens.append(str(selector.k))
        if selector.by is not None:
            tokens += self.words(f"by {selector.by[0]}({selector.by[1]})")
        return tokens

    def node(self, node: NodeSpec) -> list[str]:
        key: list[str] = []
        if node.key is not None:
            key = [self.parameter(node.key) if self.chance(0.4) else f"'{node.key}'"]
        return ["(", *self.labelled(node.variable, node.sites), *key, *self.conditions(node), ")"]

    def edge(self, edge: EdgeSpec) -> list[str]:
        inside = [*self.labelled(edge.variable, edge.kinds), *self.conditions(edge)]
        quantifier = self.quantifier(edge.quantifier) if edge.quantifier else []
        opening, closing = ("-[", "]->") if edge.direction == "right" else ("<-[", "]-")
        if not inside and not self.chance(0.3):
            return ["->" if edge.direction == "right" else "<-", *quantifier]
        return [opening, *inside, closing, *quantifier]

    def labelled(self, variable: str | None, labels: tuple[str, ...]) -> list[str]:
        tokens = [self.name(variable)] if variable else []
        if labels:
            tokens += [self.choose(":", self.choose("IS", "is"))]
            tokens += self.join_with("|", [[label] for label in labels])
        return tokens

    def conditions(self, spec: NodeSpec | EdgeSpec) -> list[str]:
        tokens: list[str] = []
        if spec.properties:
            pairs = [
                [*self.words(name), ":", *self.expression(_sql(value))] for name, value in spec.properties
            ]
            tokens += ["{", *self.join_with(",", pairs), "}"]
        if spec.predicate is not None:
            assert spec.variable is not None
            text = spec.predicate.text.replace("{v}", f"{{{spec.variable}}}")
            tokens += [*self.words("where"), *self.expression(text, values=True)]
        return tokens

    def quantifier(self, quantifier: tuple[int, int | None]) -> list[str]:
        least, most = quantifier
        signs = {(0, None): "*", (1, None): "+", (0, 1): "?"}
        sign = signs.get(quantifier)
        if sign and not self.chance(0.3):
            return [sign]
        if least == most and not self.chance(0.3):
            return ["{", str(least), "}"]
        first = [] if least == 0 and most is not None and self.chance(0.5) else [str(least)]
        return ["{", *first, ",", *([] if most is None else [str(most)]), "}"]

    def condition(self, condition: Expression) -> list[str]:
        return ["(", *self.expression(condition.text, values=True), ")"]

    def expression(self, text: str, values: bool = False) -> list[str]:
        """Return the tokens of a piece of SQL; with `values`, some of its values become parameters."""
        tokens: list[str] = []
        for found in _TOKEN.finditer(text):
            token = found[0]
            if token[0] == "{" and len(token) > 2:
                tokens.append(self.name(token[1:-1]))
            elif values and tokens and tokens[-1] in (">=", "<=", ">", "=", "<>") and self.chance(0.25):
                tokens.append(self.as_parameter(token))
            else:
                tokens.append(self.word(token))
        return tokens

    def as_parameter(self, token: str) -> str:
        if re.fullmatch(r"\d+", token):
            return self.parameter(int(token))
        if re.fullmatch(r"\d+\.\d+", token):
            return self.parameter(float(token))
        if re.fullmatch(r"'[a-z0-9_/]*[a-z][a-z0-9_/]*'", token):
            return self.parameter(token[1:-1])
        return self.word(token)

    def parameter(self, value: object) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def name(self, variable: str) -> str:
        """Return one spelling of a variable; names do not care about case."""
        name = self.names[variable]
        if name[0] == '"' or not self.wild or not name.isascii():
            return name
        return self.choose(name, name, name.upper(), f'"{name}"')

    def words(self, text: str) -> list[str]:
        return [self.word(found[0]) for found in _TOKEN.finditer(text)]

    def word(self, token: str) -> str:
        if token[0] in "'$\"" or not self.wild:
            return token
        return self.choose(token, token.upper(), token.lower(), token.capitalize())

    def join_with(self, separator: str, parts: Sequence[Sequence[str]]) -> list[str]:
        tokens: list[str] = []
        for place, part in enumerate(parts):
            tokens += [*(self.words(separator) if place else []), *part]
        return tokens

    def joined(self, tokens: Iterable[str]) -> str:
        text = ""
        last = ""
        for token in tokens:
            text += (self.space(last, token) if last else "") + token
            last = token
        return text

    def space(self, left: str, right: str) -> str:
        if "." in (left, right):
            return ""
        if self.wild and self.chance(0.08):
            return self.choose(*_BETWEEN)
        if self.wild and self.chance(0.1):
            return " "
        return "" if _tight(left, right) else " "


def _tight(left: str, right: str) -> bool:
    """Say whether no space is wanted, nor needed, between two tokens."""
    call = right[0] in "([" and (left[-1].isalnum() or left[-1] in '"])') and left.lower() not in _KEYWORDS
    arrow = left[-1] in ")>-" and right[0] in "<-({*+?" and len(left + right) > 2
    return call or arrow or left[-1] in "([{" or right[0] in ")]},;" or right == ":"


def _variables(query: Query) -> list[str]:
    nodes = [node.variable for path in query.paths for node in path.nodes]
    edges = [edge.variable for path in query.paths for edge in path.edges]
    walks = [path.variable for path in query.paths]
    return list(dict.fromkeys(name for name in [*nodes, *edges, *walks] if name))


def _sql(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else repr(value)
