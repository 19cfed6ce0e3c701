"""A statement of the language -> one statement of DuckDB, with the origin of every part of it.

DuckDB's SQL is passed on as it was written. Replaced are GRAPH_TABLE (MATCH ...), verbs that stand where a
table may, and a whole statement MATCH ... RETURN ...
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from featgraph.errors import ParameterError, QueryError, UsageError, nearest
from featgraph.query.language.ast import Expression, Match
from featgraph.query.language.bind import Bindings, Node, bind
from featgraph.query.language.compile import Compiler
from featgraph.query.language.context import QueryContext
from featgraph.query.language.expressions import NAMELESS, Expressions, Use, rewritten
from featgraph.query.language.parse import parse_match
from featgraph.query.language.scans import quoted
from featgraph.query.language.source_map import RESERVED, SourceMap, mark, unchanged, unmark
from featgraph.query.language.tokens import Token, closing, split, tokenize
from featgraph.query.language.verb_calls import Call, read_call
from featgraph.query.verbs import VERBS
from featgraph.store import Store

_SETS = ("union", "except", "intersect")
_TAIL = ("group", "having", "qualify", "window", "order", "limit", "offset", *_SETS)
_CLAUSES = ("select", "where", "group", "order", "having", "by", "values", "limit", "set")

_DEEPEST = {"(": 300, "graph_table": 20}
"""Levels of brackets, and of patterns, inside each other: beyond, DuckDB's parser takes seconds and ours a
deep stack, and no time limit stops either."""


@dataclass(frozen=True)
class Translation:
    """What runs in place of a statement."""

    sql: str
    source_map: SourceMap
    calls: list[Call]
    """Verbs whose rows are computed first and bound as lists."""
    whole: Call | None
    """The verb, if the statement is nothing but one call of constants: `from verb(...)`."""
    explained: str
    """The SQL without EXPLAIN before it."""
    shows_sql: bool
    """Whether the answer is the SQL itself: EXPLAIN before something that only this language has."""


def translate(store: Store, text: str, values: Mapping[str, object], max_rows: int | None) -> Translation:
    """Return the SQL of one statement.

    values: of the parameters, by name; those that decide what is scanned are read here, the rest is bound.

    Raises QueryError: the statement is empty, more than one, lacks the value of a parameter, or is malformed
    where it is not plain SQL. UsageError: it has no such parameter.
    """
    tokens = _one_statement(text)
    named = (token for token in reversed(tokens) if token.kind == "parameter" and token.text != "?")
    parameters = {token.text[1:]: token for token in named}
    _check_parameters(parameters, values, text)
    context = QueryContext(store, text, values, max_rows)
    writer = _Writer(context, frozenset(token.name for token in tokens if token.is_name))
    start = _after_explain(tokens, text)
    marked = writer.statement(tokens, start)
    if not writer.is_used:
        return Translation(text, unchanged(text), [], None, text[tokens[start].start :], False)
    before = text[tokens[0].start : tokens[start - 1].end] + " " if start > 1 else ""
    sql, source_map = unmark(mark(before, tokens[0].start, tokens[max(start, 1) - 1].end) + marked, text)
    computed = [one for one in writer.calls if one.verb.computed]
    whole = None if start else _whole(tokens, writer.calls, text)
    return Translation(sql, source_map, computed, whole, sql[len(before) :], start == 1)


def _whole(tokens: list[Token], calls: list[Call], text: str) -> Call | None:
    """Return the one call of constants that a statement `[select *] from verb(...)` consists of."""
    if len(calls) != 1 or not calls[0].is_constant:
        return None
    texts = [token.name if token.kind == "word" else token.text for token in tokens[:5]]
    verb = 3 if texts[:3] == ["select", "*", "from"] else 1 if texts[:1] == ["from"] else 0
    if not verb or tokens[verb] != calls[0].at:
        return None
    after = closing(tokens, verb + 1, text) + 1
    return calls[0] if tokens[after].kind == "end" else None


def _one_statement(text: str) -> list[Token]:
    """Return the tokens of the one statement in the text, without the semicolons around it."""
    for place, char in enumerate(text):
        if char in RESERVED or "\ud800" <= char <= "\udfff":
            raise QueryError(f"the character {char!a} cannot be part of a statement", text, place)
    tokens = tokenize(text)
    parts = [part for part in split(tokens[:-1], ";") if part]
    if not parts:
        raise QueryError(
            "the statement is empty; write a SELECT or a MATCH, such as `select key from feature limit 5`",
            text,
            0,
        )
    if len(parts) > 1:
        second = parts[1][0]
        raise QueryError(
            f"{len(parts)} statements where one is expected; run them one by one",
            text,
            second.start,
            len(second.text),
        )
    _check_depth(parts[0], text)
    end = parts[0][-1].end
    return [*parts[0], Token("end", "", end, end, tokens[-1].comment)]


def _check_depth(tokens: list[Token], text: str) -> None:
    """Raise if brackets or patterns are nested too deep."""
    inside: list[str] = []
    for place, token in enumerate(tokens):
        if token.is_symbol("(", "[", "{"):
            before = tokens[place - 1].name if place and tokens[place - 1].kind == "word" else ""
            word = "graph_table" if before == "graph_table" or before in VERBS else "("
            inside.append(word)
            if len(inside) > _DEEPEST["("] or inside.count("graph_table") > _DEEPEST["graph_table"]:
                raise QueryError("brackets are nested too deep here", text, token.start)
        elif token.is_symbol(")", "]", "}") and inside:
            inside.pop()


def _check_parameters(wanted: Mapping[str, Token], given: Mapping[str, object], text: str) -> None:
    """Raise unless the parameters of the statement are those given."""
    for name, token in wanted.items():
        if name.isdigit():
            raise QueryError(NAMELESS, text, token.start)
    for name in given:
        if name not in wanted:
            known = f"; it has {_listed(wanted)}" if wanted else "; it has none"
            raise UsageError(f"the statement has no parameter ${name}{nearest(name, wanted) or known}")
    missing = [name for name in sorted(wanted) if name not in given]
    if missing:
        token = wanted[missing[0]]
        message = f"no value for {_listed(missing)}; give one with -p {missing[0]}=VALUE"
        raise ParameterError(message, text, token.start, len(token.text))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names))


def _after_explain(tokens: list[Token], text: str) -> int:
    """Return the place of the token after EXPLAIN, EXPLAIN ANALYZE or EXPLAIN (options); 0 without it."""
    if not tokens[0].is_word("explain"):
        return 0
    if tokens[1].is_symbol("(") and tokens[2].is_word("analyze", "analyse", "format"):
        return closing(tokens, 1, text) + 1
    return 2 if tokens[1].is_word("analyze", "analyse") else 1


class _Writer:
    """Writes one statement."""

    def __init__(self, context: QueryContext, names: frozenset[str]) -> None:
        self.context = context
        self.names = names
        self.calls: list[Call] = []
        self.is_used = False
        self.written: dict[int, tuple[str, int]] = {}
        """What was written for GRAPH_TABLE and verbs, by the offset of their name: they are visited twice."""

    def statement(self, tokens: list[Token], start: int) -> str:
        if tokens[start].is_word("match"):
            self.is_used = True
            return mark(self.standing_alone(tokens[start:]), tokens[start].start, tokens[start].end)
        return self.plain(tuple(tokens[start:-1]))

    def plain(self, tokens: Expression) -> str:
        """Return SQL in which only tables are replaced."""
        return rewritten(tokens, self.context.text, lambda some, at: self.table(some, at) or (None, at + 1))

    def table(self, tokens: Expression, place: int) -> tuple[str, int] | None:
        """Return what takes the place of GRAPH_TABLE (...) or verb (...), and the place after it."""
        token, following = tokens[place], tokens[place + 1 : place + 2]
        if token.kind != "word" or not following:
            return None
        if token.is_word("match"):
            self.refuse_inner_match(tokens, place)
        if not following[0].is_symbol("("):
            return None
        is_pattern = token.is_word("graph_table")
        if not is_pattern and not (token.name in VERBS and _is_table(tokens, place)):
            return None
        end = closing(list(tokens), place + 1, self.context.text)
        if token.start not in self.written:
            self.is_used = True
            inside = tokens[place + 2 : end]
            if is_pattern:
                sql = f"({self.graph_table(inside, tokens[end])})"
            else:
                n_computed = sum(one.verb.computed for one in self.calls)
                written = read_call(token, inside, self.context, self.plain, n_computed + 1)
                self.calls.append(written)
                sql = written.sql
            self.written[token.start] = sql, end + 1
        return self.written[token.start]

    def refuse_inner_match(self, tokens: Expression, place: int) -> None:
        before = tokens[place - 1] if place else None
        starts = before is not None and (
            before.is_symbol("(") or before.is_word("from", "join", "union", "all", "except", "intersect")
        )
        if starts and (
            tokens[place + 1].is_symbol("(") or tokens[place + 1].is_word("any", "all", "best", "shortest")
        ):
            self.context.fail(
                "MATCH ... RETURN stands alone; inside SQL write FROM GRAPH_TABLE (MATCH ... COLUMNS (...))",
                tokens[place],
            )

    def graph_table(self, inside: Expression, close: Token) -> str:
        """Return the SELECT for what stands in the brackets of GRAPH_TABLE."""
        tokens = [*inside, Token("end", "", close.start, close.start, close.comment)]
        start = 1 if len(tokens) > 2 and tokens[0].is_name and tokens[1].is_word("match") else 0
        if not tokens[start].is_word("match"):
            self.context.fail(
                "GRAPH_TABLE holds a pattern: GRAPH_TABLE (MATCH ... COLUMNS (...))", tokens[start]
            )
        match, place = parse_match(tokens, start, self.context.text)
        word, bracket = tokens[place], tokens[min(place + 1, len(tokens) - 1)]
        if word.is_word("return"):
            self.context.fail("inside GRAPH_TABLE write COLUMNS (...) in place of RETURN", word)
        if not word.is_word("columns") or not bracket.is_symbol("("):
            self.context.fail("GRAPH_TABLE needs its columns: COLUMNS (a.key, b.key)", word)
        end = closing(tokens, place + 1, self.context.text)
        if tokens[end + 1].kind != "end":
            self.context.fail(
                f"expected ')' after the columns, found {tokens[end + 1].text!r}", tokens[end + 1]
            )
        return self.match(match, tuple(tokens[place + 2 : end]), (), bracket)

    def standing_alone(self, tokens: list[Token]) -> str:
        """Return the SELECT for MATCH ... RETURN ..."""
        match, place = parse_match(tokens, 0, self.context.text)
        if not tokens[place].is_word("return"):
            self.context.fail("a MATCH needs what it returns, such as RETURN a.key, b.key", tokens[place])
        rest = tokens[place + 1 : -1]
        depth, columns = 0, len(rest)
        for number, token in enumerate(rest):
            depth += token.is_symbol("(", "[", "{") - token.is_symbol(")", "]", "}")
            if depth == 0 and token.is_word(*_TAIL) and not (number and rest[number - 1].is_symbol(".")):
                columns = number
                break
        # Beyond UNION and the like stands another query, which knows nothing of the pattern.
        end = next((n for n, token in enumerate(rest) if n >= columns and token.is_word(*_SETS)), len(rest))
        sql = self.match(match, tuple(rest[:columns]), tuple(rest[columns:end]), tokens[place])
        return f"{sql}\n{self.plain(tuple(rest[end:]))}" if end < len(rest) else sql

    def match(self, match: Match, columns: Expression, tail: Expression, at: Token) -> str:
        """Return the SELECT for a pattern, its columns and what follows them."""
        bound = bind(match, self.context)
        expressions = Expressions(bound.variables, self.context, self.table)
        distinct = columns[: _distinct(columns, self.context.text)]
        parts = self.parts(columns[len(distinct) :], bound, at)
        aliases = frozenset(name for part in parts if (name := _alias(part)))
        uses: list[Use] = [use for part in (*parts, *bound.where) for use in expressions.uses(part)]
        uses += [*expressions.uses(distinct), *expressions.uses(tail, aliases)]
        compiler = Compiler(bound, uses, self.context, expressions, self.names)
        written = (self.column(part, expressions, compiler) for part in parts)
        chosen = f"{expressions.sql(distinct, compiler.render)} {', '.join(written)}"
        end = f"\n{expressions.sql(tail, compiler.render, aliases)}" if tail else ""
        return compiler.select(chosen, end)

    def parts(self, columns: Expression, bound: Bindings, at: Token) -> list[Expression]:
        """Return the columns one by one, with `a.*` written out."""
        parts: list[Expression] = []
        for part in split(list(columns), ","):
            if not part or part[0].is_symbol("*"):
                self.context.fail(
                    "name what to return, such as a.key, b.layer, a.* or keys(p)", part[0] if part else at
                )
            if len(part) == 3 and part[1].is_symbol(".") and part[2].is_symbol("*"):
                table = "feature" if isinstance(bound.variables.get(part[0].name), Node) else "edge"
                place = (part[2].start, part[2].end)
                names = self.context.columns[table]
                parts += [(part[0], part[1], Token("quoted", quoted(name), *place)) for name in names]
            else:
                parts.append(tuple(part))
        return parts

    def column(self, part: Expression, expressions: Expressions, compiler: Compiler) -> str:
        """Return one column with the name that a reader expects."""
        sql = expressions.sql(part, compiler.render)
        if _is_property(part):
            return f"{sql} as {quoted(part[2].name)}"
        if _is_named(part):
            return sql
        is_call = len(part) == 4 and part[0].is_name and part[1].is_symbol("(")
        words = " ".join(self.context.text[part[0].start : part[-1].end].split())
        return f"{sql} as {quoted(part[0].name if is_call else words)}"


def _is_named(part: Expression) -> bool:
    """Say whether a column has a name of its own: AS and a name, or a name after a value."""
    depth = 0
    for token in part:
        depth += token.is_symbol("(", "[", "{") - token.is_symbol(")", "]", "}")
        if depth == 0 and token.is_word("as"):
            return True
    if len(part) < 2 or not part[-1].is_name or part[-1].is_word("end", "null", "true", "false", "unknown"):
        return False
    before = part[-2]
    ends_value = before.kind in ("string", "number", "parameter", "quoted") or before.is_symbol(")", "]", "}")
    return ends_value or before.is_word("end") or (len(part) > 3 and _is_property(part[-4:-1]))


def _distinct(columns: Expression, text: str) -> int:
    """Return how many tokens DISTINCT or DISTINCT ON (...) takes."""
    if not columns or not columns[0].is_word("distinct"):
        return 0
    is_on = len(columns) > 2 and columns[1].is_word("on") and columns[2].is_symbol("(")
    return closing(list(columns), 2, text) + 1 if is_on else 1


def _is_property(part: Expression) -> bool:
    return len(part) == 3 and part[0].is_name and part[1].is_symbol(".") and part[2].is_name


def _alias(part: Expression) -> str | None:
    """Return the name that a column is given by AS, or by a property alone."""
    if len(part) > 1 and part[-1].is_name and (part[-2].is_word("as") or _is_property(part)):
        return part[-1].name
    return None


def _is_table(tokens: Expression, place: int) -> bool:
    """Say whether a call at a place stands where a table may: after FROM, JOIN, or a comma of a FROM."""
    before = tokens[place - 1] if place else None
    if before is None or before.is_word("from", "join", "lateral"):
        return before is not None
    if not before.is_symbol(","):
        return False
    depth = 0
    for token in reversed(tokens[: place - 1]):
        depth += token.is_symbol(")", "]", "}") - token.is_symbol("(", "[", "{")
        if depth < 0:
            return False
        if depth == 0 and token.is_word("from", "join", *_CLAUSES):
            return token.is_word("from", "join")
    return False
