"""Tokens -> `Match`, by recursive descent; what the standard or Cypher has beyond it is refused by name.

    match    = MATCH path {, path} [WHERE expression]
    path     = [selector] [name =] [selector] node {edge [quantifier] node}
    selector = ALL | ANY | ANY SHORTEST | ALL SHORTEST | SHORTEST k | BEST [k] [BY product|sum|min(property)]
    node     = ( [name] [: site {| site}] ['layer/site/index'] [{property: literal}] [WHERE expression] )
    edge     = -[ [name] [: kind {| kind}] [{property: literal}] [WHERE expression] ]-> | <-[ ... ]- | -> | <-

Source: ISO/IEC 9075-16:2023 (SQL/PGQ), the subset of it that a finite, acyclic, directed graph needs.
"""

from typing import NoReturn

from featgraph.core.keys import SCORES
from featgraph.errors import QueryError, nearest
from featgraph.query.language.ast import (
    EdgePattern,
    Element,
    Expression,
    Match,
    PathPattern,
    Quantifier,
    Selector,
)
from featgraph.query.language.tokens import Token, closing

_ONCE = ("trail", "simple", "acyclic")
_MODES = ("walk", "trail", "simple", "acyclic", "path", "paths")
_SELECTORS = ("all", "any", "shortest", "best", *_MODES)
_FOREIGN = {
    "optional": "write a LEFT JOIN with a GRAPH_TABLE",
    "cost": "write BEST",
    "cheapest": "write BEST",
    "keep": "put the selector before the pattern, such as ANY SHORTEST",
    "shortestpath": "write ANY SHORTEST before the pattern",
    "allshortestpaths": "write ALL SHORTEST before the pattern",
}
_UNDIRECTED = (
    "an edge needs a direction; write -[...]-> or <-[...]-, and UNION of the two for neighbours of both sides"
)
_PARENTHESES = (
    "a path in parentheses is not supported; a quantifier stands after one edge, such as -[e]->{1,5}"
)
_LARGEST = 1_000_000
_MOST_PATHS, _MOST_EDGES = 50, 100
"""DuckDB plans more joins than that for minutes, and no time limit stops it."""


def parse_match(tokens: list[Token], start: int, text: str) -> tuple[Match, int]:
    """Return the MATCH whose keyword is at `start`, and the place of the token after it.

    Raises QueryError: it is malformed, with the place and what to write instead.
    """
    parser = _Parser(tokens, start, text)
    match = parser.match()
    return match, parser.place


class _Parser:
    """A cursor over tokens that do not end before the one of kind `end`."""

    def __init__(self, tokens: list[Token], place: int, text: str) -> None:
        self.tokens = tokens
        self.place = place
        self.text = text
        self.mode: Token | None = None

    @property
    def here(self) -> Token:
        return self.tokens[self.place]

    @property
    def following(self) -> Token:
        return self.tokens[min(self.place + 1, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.here
        self.place += token.kind != "end"
        return token

    def skip(self, *symbols: str) -> bool:
        """Step over symbols that follow each other; say whether they were all there."""
        ahead = self.tokens[self.place : self.place + len(symbols)]
        there = [token.text for token in ahead if token.kind == "symbol"] == list(symbols)
        self.place += len(symbols) * there
        return there

    def fail(self, message: str, at: Token | None = None) -> NoReturn:
        token = at or self.here
        raise QueryError(message, self.text, token.start, max(1, token.end - token.start))

    def expect(self, symbol: str, after: str) -> Token:
        if not self.here.is_symbol(symbol):
            self.fail(f"expected {symbol!r} after {after}, found {_shown(self.here)}")
        return self.take()

    def match(self) -> Match:
        self.take()
        paths = [self.path()]
        while self.skip(","):
            if len(paths) == _MOST_PATHS:
                self.fail(f"a MATCH has at most {_MOST_PATHS} patterns")
            paths.append(self.path())
        where: Expression = ()
        if self.here.is_word("where"):
            self.take()
            where = self.expression("return", "columns")
        elif not (self.here.is_word("return", "columns") or self.here.kind == "end"):
            self.refuse_arrow()
            self.fail(f"expected an edge, WHERE, or the columns to return, found {_shown(self.here)}")
        return Match(tuple(paths), where)

    def expression(self, *keywords: str) -> Expression:
        """Take everything up to one of some keywords outside brackets, or to the end."""
        start, after = self.place, self.tokens[self.place - 1]
        while self.here.kind != "end" and not self.here.is_word(*keywords):
            if self.here.is_symbol("(", "[", "{"):
                self.place = closing(self.tokens, self.place, self.text)
            self.take()
        if start == self.place:
            self.fail(f"expected a condition after {after.text}, found {_shown(self.here)}")
        return tuple(self.tokens[start : self.place])

    def path(self) -> PathPattern:
        self.mode = None
        selector = self.selector()
        variable = None
        if self.here.is_name and self.following.is_symbol("="):
            variable = self.take()
            self.take()
            if selector.at is None:
                selector = self.selector()
        nodes = [self.node()]
        edges: list[EdgePattern] = []
        while (edge := self.edge()) is not None:
            if len(edges) == _MOST_EDGES:
                self.fail(
                    f"a path has at most {_MOST_EDGES} edges; repeat one, such as ->{{1,5}}", edge.element.at
                )
            edges.append(edge)
            nodes.append(self.node())
        if self.mode is not None and self.mode.is_word(*_ONCE) and len({edge.down for edge in edges}) > 1:
            self.fail(
                f"{self.mode.text} is for paths that go one way, which visit nothing twice anyway; "
                "here write a condition such as a.id <> c.id",
                self.mode,
            )
        return PathPattern(selector, variable, tuple(nodes), tuple(edges))

    def selector(self) -> Selector:
        at = self.here
        selector = Selector()
        if self.following.is_symbol("=") and not at.is_word("any"):
            return selector
        if at.is_word("all", "any"):
            self.take()
            if self.here.is_word("shortest"):
                self.take()
                self.refuse_group()
                selector = Selector("all shortest" if at.is_word("all") else "shortest", at=at)
            else:
                if self.here.kind == "number":
                    self.fail(
                        f"{at.text} takes no number; write SHORTEST {self.here.text} or BEST", self.here
                    )
                selector = Selector("all" if at.is_word("all") else "any", at=at)
        elif at.is_word("shortest"):
            self.take()
            if self.here.kind != "number":
                self.fail("SHORTEST needs a number of paths; write SHORTEST 3, ANY SHORTEST or ALL SHORTEST")
            selector = Selector("shortest", self.count(1), at=at)
            self.refuse_group()
        elif at.is_word("best"):
            selector = self.best()
        while self.here.is_word(*_MODES) and not self.following.is_symbol("="):
            self.mode = self.take()
        return selector

    def refuse_group(self) -> None:
        if self.here.is_word("group", "groups"):
            self.fail("groups of paths are not supported; ALL SHORTEST keeps every path of the least length")

    def best(self) -> Selector:
        at = self.take()
        k = self.count(1) if self.here.kind == "number" else 1
        if not self.here.is_word("by"):
            return Selector("best", k, at=at)
        self.take()
        score = self.take()
        by = next((known for known in SCORES if score.is_name and known == score.name), None)
        if by is None:
            hint = nearest(score.text, SCORES) or "; write product, sum or min of an edge's property"
            self.fail(f"paths have no score {_shown(score)}{hint}", score)
        self.expect("(", score.text)
        prop = self.take()
        if self.skip("."):
            prop = self.take()
        if not prop.is_name:
            self.fail(f"expected a property of edges, such as cosine, found {_shown(prop)}", prop)
        self.expect(")", "the property")
        return Selector("best", k, by, prop.name, at)

    def node(self) -> Element:
        if not self.here.is_symbol("("):
            self.refuse_foreign()
            self.fail(f"expected a node such as (a:res), found {_shown(self.here)}")
        at = self.take()
        if self.here.is_symbol("("):
            self.fail(_PARENTHESES)
        inside = self.element(at, ")", is_node=True)
        if self.here.is_symbol("{", "*", "+") or self.here.text == "?":
            self.fail("a quantifier stands after an edge, such as -[e]->{1,5}, not after a node")
        return inside

    def edge(self) -> EdgePattern | None:
        """Return the arrow that comes next, or None if the path ends here."""
        self.refuse_arrow()
        at = self.here
        left = self.skip("<", "-")
        if not left and not self.skip("-"):
            return None
        element = Element(at)
        if self.here.is_symbol("["):
            self.take()
            element = self.element(at, "]", is_node=False)
            self.refuse_arrow()
            if not self.skip("-"):
                self.fail(f"expected '-' after ']', found {_shown(self.here)}")
        elif left:
            return EdgePattern(element, False, self.quantifier())
        right = self.skip(">")
        if left == right:
            self.fail(_UNDIRECTED, at)
        return EdgePattern(element, right, self.quantifier())

    def element(self, at: Token, close: str, *, is_node: bool) -> Element:
        """Return what stands inside a node's or an edge's brackets, up to and with the closing one."""
        noun = "a node" if is_node else "an edge"
        variable = key = None
        if self.here.is_name and not self.here.is_word("where", "is"):
            variable = self.take()
            if variable.kind == "quoted" and "/" in variable.text:
                self.fail(f"a feature key stands in single quotes: ('{variable.text[1:-1]}')", variable)
        labels = self.labels(is_node)
        if is_node and (self.here.kind == "string" or self.here.text.startswith("$")):
            key = self.take()
        properties = self.properties() if self.here.is_symbol("{") else ()
        where: Expression = ()
        if self.here.is_word("where"):
            self.take()
            where = self.until(close)
        if not self.here.is_symbol(close):
            self.refuse_inside(is_node)
            self.fail(f"expected {close!r} or WHERE in {noun}, found {_shown(self.here)}")
        self.take()
        return Element(at, variable, labels, properties, where, key)

    def until(self, close: str) -> Expression:
        start = self.place
        while self.here.kind != "end" and not self.here.is_symbol(close):
            if self.here.is_symbol("(", "[", "{"):
                self.place = closing(self.tokens, self.place, self.text)
            self.take()
        if start == self.place:
            self.fail(f"expected a condition after WHERE, found {_shown(self.here)}")
        return tuple(self.tokens[start : self.place])

    def labels(self, is_node: bool) -> tuple[Token, ...]:
        if not (self.here.is_symbol(":") or self.here.is_word("is")):
            return ()
        noun = "site, one of res, mlp, att" if is_node else "kind, one of res_res, mlp_res, att_res"
        labels: list[Token] = []
        while not labels or self.skip("|"):
            if not labels:
                self.take()
            if not self.here.is_name:
                self.fail(f"expected a {noun}, found {_shown(self.here)}; several are joined by |")
            labels.append(self.take())
        if self.here.is_symbol("&", "!", "%"):
            self.fail("labels are joined by | only; say the rest in WHERE")
        return tuple(labels)

    def properties(self) -> tuple[tuple[Token, Expression], ...]:
        self.take()
        properties: list[tuple[Token, Expression]] = []
        while not properties or self.skip(","):
            if not self.here.is_name:
                self.fail(f"expected a property, such as {{layer: 12}}, found {_shown(self.here)}")
            name = self.take()
            if self.here.is_symbol("="):
                self.fail(f"write {{{name.text}: ...}}, or WHERE for other comparisons")
            self.expect(":", name.text)
            properties.append((name, self.literal()))
        self.expect("}", "the properties")
        return tuple(properties)

    def literal(self) -> Expression:
        start = self.place
        self.skip("-")
        token = self.take()
        plain = token.kind in ("number", "string", "parameter") or token.is_word("true", "false", "null")
        if not plain:
            self.fail(f"expected a number, a string or a parameter, found {_shown(token)}", token)
        return tuple(self.tokens[start : self.place])

    def quantifier(self) -> Quantifier | None:
        at = self.here
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(at.text)
        if simple is not None and at.kind in ("symbol", "parameter"):
            self.take()
            if self.here.kind == "number":
                self.fail(f"write {self.braces(self.place)} instead of {at.text}{self.here.text}...", at)
            return Quantifier(*simple)
        if not self.skip("{"):
            return None
        low = None if self.here.is_symbol(",") else self.count(0)
        high: int | None = low
        if self.skip(","):
            high = None if self.here.is_symbol("}") else self.count(0)
            if low is None and high is None:
                self.fail("a quantifier needs a number; write {1,5}, {2,} or *", at)
        self.expect("}", "the quantifier")
        if high is not None and high < (low or 0):
            self.fail(f"{{{low},{high}}} ends before it begins; write {{{high},{low}}}", at)
        return Quantifier(low or 0, high)

    def count(self, least: int) -> int:
        token = self.take()
        if token.kind != "number" or not token.text.isascii() or not token.text.isdigit():
            self.fail(f"expected a whole number, found {_shown(token)}", token)
        number = int(token.text) if len(token.text) < 10 else _LARGEST + 1
        if not least <= number <= _LARGEST:
            self.fail(f"{token.text} is out of range; write {least} to {_LARGEST}", token)
        return number

    def braces(self, place: int) -> str:
        """Return the quantifier that a Cypher range such as `1..5`, which begins at `place`, would be."""
        digits = "".join(
            token.text for token in self.tokens[place : place + 4] if token.text[:1] in ".0123456789"
        )
        low, dots, high = digits.partition("..")
        return f"{{{low},{high}}}" if dots else f"{{{low}}}"

    def refuse_arrow(self) -> None:
        """Refuse `-->`, `--` and `<--`, which SQL reads as comments."""
        if self.here.is_symbol("<") and self.text.startswith("<--", self.here.start):
            self.fail("<-- begins a comment in SQL; write <-")
        comment = self.here.comment
        if comment is None or not self.text.startswith("--", comment):
            return
        if self.text[comment + 2 : comment + 3] in (">", "(", "["):
            arrow = Token("symbol", "-->", comment, comment + 3)
            self.fail("--> begins a comment in SQL; write -> for an edge", arrow)

    def refuse_inside(self, is_node: bool) -> None:
        """Refuse what Cypher writes in brackets, and keys without quotes."""
        if is_node and self.here.kind == "number":
            self.fail("a feature key stands in single quotes, such as ('12/res/345')")
        if not is_node and self.here.is_symbol("*"):
            self.place += 1
            braces = self.braces(self.place) if self.here.kind in ("number", "symbol") else "*"
            wanted = "*" if braces == "{}" else braces
            self.place -= 1
            self.fail(f"the quantifier stands after the arrow: -[...]->{wanted}")
        if not is_node and self.here.kind == "string":
            self.fail("an edge has no key; write its conditions after WHERE")

    def refuse_foreign(self) -> None:
        word = self.here.text.lower()
        if self.here.kind == "word" and word in _FOREIGN:
            self.fail(f"{self.here.text} is not part of this language; {_FOREIGN[word]}")
        if self.here.is_symbol("~", "-", "<"):
            self.fail(
                _UNDIRECTED if self.here.text == "~" else "a pattern begins with a node such as (a:res)"
            )
        if self.here.is_word(*_SELECTORS):
            self.fail(f"a path has one selector; take {self.here.text} away")
        if self.here.kind == "word" and not self.following.is_symbol("="):
            self.fail(f"expected a node such as (a:res), found {self.here.text}{nearest(word, _SELECTORS)}")


def _shown(token: Token) -> str:
    return "the end" if token.kind == "end" else repr(token.text)
