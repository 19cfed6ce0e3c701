"""Conditions taken apart: what AND joins, and which of it says where in the model a node can be.

`layer`, `site`, `key` and `id` of a node and `kind` of an edge are read here, before DuckDB sees them,
because they decide which part of the graph is scanned at all.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from featgraph.core.keys import FeatureKey, SaeRange
from featgraph.errors import UsageError
from featgraph.query.language.ast import Expression
from featgraph.query.language.tokens import Token, split

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": eq,
    "<": lt,
    ">": gt,
    "<=": le,
    ">=": ge,
    "<>": ne,
    "!=": ne,
}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


@dataclass(frozen=True)
class Predicate:
    """A comparison of one property of one variable with constants."""

    variable: str
    prop: str
    passes: Callable[[Any], bool]
    constants: tuple[object, ...]
    is_equality: bool = False

    def sae_test(self) -> Callable[[SaeRange], bool] | None:
        """Return the test of an SAE that a predicate on `layer` or `site` makes, None for other properties.

        Constants of another type than the column's are left to DuckDB, which knows how it casts.
        """
        if self.prop == "layer" and self._are(int, float, Decimal):
            return lambda sae: self.passes(sae.layer)
        if self.prop == "site" and self._are(str):
            return lambda sae: self.passes(sae.site)
        return None

    def kind_test(self) -> Callable[[str], bool] | None:
        """Return the test of an edge's kind that a predicate on `kind` makes, None for other properties."""
        return self.passes if self.prop == "kind" and self._are(str) else None

    def feature(self, saes: list[SaeRange]) -> tuple[int] | tuple[()] | None:
        """Return the id of the one feature that `key = ...` or `id = ...` allows, () if there is no such one.

        None: the predicate is on something else.
        """
        if not self.is_equality:
            return None
        wanted = self.constants[0]
        if self.prop == "id" and self._are(int, Decimal):
            known = any(s.first_id <= wanted < s.first_id + s.n_features for s in saes)  # type: ignore[operator]
            return (int(wanted),) if known and wanted % 1 == 0 else ()  # type: ignore[operator, call-overload]
        if self.prop == "key" and self._are(str):
            return _id_of(str(wanted), saes)
        return None

    def _are(self, *types: type) -> bool:
        return all(
            constant is None or (isinstance(constant, types) and not isinstance(constant, bool))
            for constant in self.constants
        ) and (self.prop not in ("id", "key") or None not in self.constants)


def _id_of(text: str, saes: list[SaeRange]) -> tuple[int] | tuple[()]:
    try:
        key = FeatureKey.parse(text)
    except UsageError:
        return ()
    for sae in saes:
        if (sae.layer, sae.site) == (key.layer, key.site) and key.idx < sae.n_features:
            return (sae.first_id + key.idx,) if str(key) == text else ()
    return ()


def conjuncts(condition: Expression) -> Iterator[Expression]:
    """Yield the parts that AND joins outside brackets; a condition with OR is one part."""
    parts: list[list[Token]] = [[]]
    depth = cases = betweens = 0
    for token in condition:
        depth += token.is_symbol("(", "[", "{") - token.is_symbol(")", "]", "}")
        cases += token.is_word("case") - (token.is_word("end") and cases > 0)
        if depth == 0 and cases == 0:
            if token.is_word("or"):
                yield condition
                return
            betweens += token.is_word("between")
            if token.is_word("and"):
                if not betweens:
                    parts.append([])
                    continue
                betweens -= 1
        parts[-1].append(token)
    yield from (tuple(part) for part in parts if part)


def read_predicate(part: Expression, values: Mapping[str, object]) -> Predicate | None:
    """Return what a part says of one property of one variable, if it is a plain comparison with constants.

    values: of the parameters, by name.
    """
    tokens = list(part)
    while len(tokens) > 2 and tokens[0].is_symbol("(") and tokens[-1].is_symbol(")") and _wraps(tokens):
        tokens = tokens[1:-1]
    if not (_is_property(tokens[:3])):
        return _mirrored(tokens, values)
    variable, prop, rest = tokens[0].name, tokens[2].name, tokens[3:]
    for length in (2, 1):
        symbol = "".join(token.text for token in rest[:length])
        if symbol in _COMPARE and all(token.kind == "symbol" for token in rest[:length]):
            return _comparison(variable, prop, symbol, constant(rest[length:], values))
    if rest and rest[0].is_word("in") and rest[1:2] and rest[1].is_symbol("("):
        constants = [constant(item, values) for item in split(rest[2:-1], ",")]
        if rest[-1].is_symbol(")") and all(constant is not None for constant in constants):
            allowed = [constant[0] for constant in constants if constant]
            return Predicate(
                variable, prop, lambda value: any(_holds(eq, value, one) for one in allowed), tuple(allowed)
            )
    if rest and rest[0].is_word("between"):
        places = [place for place, token in enumerate(rest) if token.is_word("and")]
        if len(places) == 1:
            low, high = constant(rest[1 : places[0]], values), constant(rest[places[0] + 1 :], values)
            if low is not None and high is not None:
                least, most = low[0], high[0]
                return Predicate(
                    variable, prop, lambda x: _holds(ge, x, least) and _holds(le, x, most), (least, most)
                )
    return None


def _wraps(tokens: list[Token]) -> bool:
    """Say whether the first bracket is closed by the last one."""
    depth = 0
    for token in tokens[:-1]:
        depth += token.is_symbol("(", "[", "{") - token.is_symbol(")", "]", "}")
        if depth == 0:
            return False
    return True


def _is_property(tokens: list[Token]) -> bool:
    return len(tokens) == 3 and tokens[0].is_name and tokens[1].is_symbol(".") and tokens[2].is_name


def _mirrored(tokens: list[Token], values: Mapping[str, object]) -> Predicate | None:
    """Read `constant < variable.property`."""
    if not _is_property(tokens[-3:]):
        return None
    rest = tokens[:-3]
    for length in (2, 1):
        symbol = "".join(token.text for token in rest[-length:])
        if symbol in _COMPARE and all(token.kind == "symbol" for token in rest[-length:]):
            value = constant(rest[:-length], values)
            return _comparison(tokens[-3].name, tokens[-1].name, _MIRRORED.get(symbol, symbol), value)
    return None


def _comparison(variable: str, prop: str, symbol: str, constant: tuple[object] | None) -> Predicate | None:
    if constant is None:
        return None
    value = constant[0]
    return Predicate(
        variable, prop, lambda left: _holds(_COMPARE[symbol], left, value), (value,), symbol == "="
    )


def _holds(compare: Callable[[Any, Any], bool], left: object, right: object) -> bool:
    """Compare as SQL does: NULL with anything is not true."""
    return right is not None and bool(compare(left, right))


def constant(tokens: list[Token], values: Mapping[str, object]) -> tuple[object] | None:
    """Return the value of a literal or parameter, in a tuple since it may be None; None for all else."""
    sign = 1
    if len(tokens) == 2 and tokens[0].is_symbol("-") and tokens[1].kind == "number":
        sign, tokens = -1, tokens[1:]
    if len(tokens) != 1:
        return None
    token = tokens[0]
    if token.kind == "number":
        try:
            number = Decimal(token.text.replace("_", ""))
        except ArithmeticError:
            return None
        return (number.copy_negate() if sign < 0 else number,)
    if token.kind == "string" and token.text[0] == "'":
        return (token.text[1:-1].replace("''", "'"),)
    if token.is_word("null"):
        return (None,)
    if token.kind == "parameter" and token.text[1:] in values:
        return (values[token.text[1:]],)
    return None
