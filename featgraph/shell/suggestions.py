"""What may stand at the cursor of a statement: keywords, tables, verbs, columns, words of patterns, keys."""

import re
from collections.abc import Iterable, Iterator

from featgraph.query.language.tokens import Token
from featgraph.shell.context import KEYWORDS, Frame, Names, read
from featgraph.shell.reading import scan
from featgraph.shell.vocabulary import (
    MEASURES,
    NEXT,
    PATH_FUNCTIONS,
    SELECTORS,
    STARTS,
    VALUES,
    Suggestion,
    Words,
    keys,
)

_KEYED = ("", "a", "b", "f", "feature", "key")
"""What a feature key is compared with or given to; empty = nothing."""


def suggestions(
    before: str, after: str, words: Words, parameters: Iterable[str] = ()
) -> tuple[str, list[Suggestion]]:
    """Return the typed part of the word at the cursor, and its completions.

    parameters: the names that `$name` can stand for.
    """
    tokens, unclosed = scan(before)
    if unclosed is not None:
        return _in_quotes(before, unclosed, tokens, words)
    if re.search(r"--.*\Z", before[tokens[-1].end if tokens else 0 :]):
        return "", []
    typed = _typed(tokens, before)
    frames, _ = read(tokens[: len(tokens) - bool(typed)], words.verbs)
    _, names = read(_whole(before[: len(before) - len(typed)], after), words.verbs)
    fitting = _fitting(typed, frames, names, words, parameters)
    return typed, _starting(typed, fitting)


def _in_quotes(before: str, start: int, tokens: list[Token], words: Words) -> tuple[str, list[Suggestion]]:
    """Complete inside a string: a value of the column it is held against, else a feature key."""
    typed = before[start + 1 :]
    if before[start] != "'":
        return typed, []
    frames, _ = read(tokens, words.verbs)
    subject = _subject(frames)
    if subject in VALUES:
        return typed, _starting(typed, [Suggestion(value, subject) for value in VALUES[subject]])
    if subject in _KEYED:
        return typed, _starting(typed, keys(typed, words))
    return typed, []


def _subject(frames: list[Frame]) -> str:
    """Return the column or argument that a value at the cursor is held against or given to, or nothing."""
    place = list(frames[-1].tokens)
    if place and frames[-1].role == "group" and len(frames) > 1 and place[-1].is_symbol(","):
        place = place[:0]
    if not place and len(frames) > 1:
        place = frames[-2].tokens[:-1]
        if not place or not place[-1].is_word("in"):
            return ""
    held = False
    while place and (place[-1].is_symbol(*"=<>!:") or place[-1].is_word("in", "not", "like", "ilike")):
        held = True
        place.pop()
    return place[-1].name if held and place else ""


def _typed(tokens: list[Token], before: str) -> str:
    """Return the word that ends at the cursor, `$` included."""
    last = tokens[-1] if tokens else None
    if last is None or last.end != len(before):
        return ""
    return last.text if last.kind in ("word", "parameter") or last.is_symbol("$") else ""


def _whole(before: str, after: str) -> list[Token]:
    """Return the tokens up to the end of the statement that the cursor is in."""
    filler = "_" if before.endswith(".") else " "
    tokens = scan(f"{before}{filler} {after}")[0]
    ends = (place for place, token in enumerate(tokens) if token.is_symbol(";") and token.start > len(before))
    return tokens[: next(ends, None)]


def _starting(typed: str, items: Iterable[Suggestion]) -> list[Suggestion]:
    """Return the suggestions that begin as typed, each once."""
    fitting = (item for item in items if item.text.lower().startswith(typed.lower()))
    return list({item.text: item for item in fitting}.values())


def _fitting(
    typed: str, frames: list[Frame], names: Names, words: Words, parameters: Iterable[str]
) -> Iterator[Suggestion]:
    """Yield what fits the place of the cursor, the most special first."""
    frame = frames[-1]
    last = frame.last
    if typed.startswith("$"):
        yield from (Suggestion(f"${name}", "parameter") for name in parameters)
    elif last is not None and last.is_symbol("."):
        owner = frame.tokens[-2].name if len(frame.tokens) > 1 else ""
        table = names.owners.get(owner, owner)
        yield from (Suggestion(name, table) for name in words.tables.get(table, ()))
    elif frame.role in ("node", "edge") and frame.clause != "where":
        yield from _in_element(typed, frame, names, words)
    elif frame.role in ("properties", "measure"):
        table = "feature" if frame.owner == "node" else "edge"
        if frame.owner or frame.role == "measure":
            yield from (Suggestion(name, table) for name in words.tables.get(table, ()))
    elif frame.role == "call":
        yield from _in_call(frame, words)
    elif frame.in_pattern:
        yield from _between_elements(typed, frame)
    elif frame.role == "graph" and frame.clause == "":
        yield from _keywords(typed, ["match"])
    elif _is_operand(frame):
        yield from _keywords(typed, _following(frame))
    elif frame.clause == "from":
        yield from (Suggestion(name, "table") for name in words.tables)
        yield from (Suggestion(name, "subquery") for name in names.subqueries)
        yield from (Suggestion(f"{name}(", "verb") for name in words.verbs)
        yield from _keywords(typed, ["graph_table (match"])
    elif frame.clause == "":
        yield from _keywords(typed, STARTS)
    elif last is not None and last.is_word("group", "order", "partition"):
        yield from _keywords(typed, ["by"])
    elif frame.clause not in ("limit", "with"):
        yield from _operands(typed, frame, names, words)


def _is_operand(frame: Frame) -> bool:
    """Say whether the token before the cursor ends an operand, so that a keyword or operator is next."""
    last = frame.last
    if last is None:
        return False
    if last.kind == "word":
        return last.name not in KEYWORDS or last.name in ("end", "null")
    if last.is_symbol("*"):  # all columns, or a product that wants its second factor
        return len(frame.tokens) > 1 and frame.tokens[-2].name in ("select", ",", ".")
    return last.kind != "symbol" or last.is_symbol(")", "]", "}")


def _following(frame: Frame) -> Iterable[str]:
    """Return the keywords that may come after a whole operand."""
    if frame.role in ("node", "edge"):
        return NEXT["condition"]
    if frame.clause == "where" and frame.role == "graph":
        return (*NEXT["condition"], "columns (")
    if frame.clause == "where" and any(token.is_word("match") for token in frame.tokens):
        return (*NEXT["condition"], "return")
    return NEXT.get(frame.clause, ())


def _in_element(typed: str, frame: Frame, names: Names, words: Words) -> Iterator[Suggestion]:
    """Yield what a node or an edge may hold before its WHERE."""
    last = frame.last
    if last is not None and (last.is_symbol(":", "|") or last.is_word("is")):
        known = dict.fromkeys(sae.site for sae in words.saes) if frame.role == "node" else VALUES["kind"]
        yield from (Suggestion(name, "site" if frame.role == "node" else "kind") for name in known)
    elif last is not None:
        yield from _keywords(typed, ["where"])
    elif frame.role == "node":
        yield from (Suggestion(name, "node") for name in names.variables if names.owners[name] == "feature")


def _in_call(frame: Frame, words: Words) -> Iterator[Suggestion]:
    """Yield a verb's arguments that are not given yet, or the values of one that takes few."""
    last = frame.last
    if last is None or last.is_symbol(","):
        given = {token.name for token in frame.tokens if token.is_name}
        n_before = sum(token.is_symbol(",") for token in frame.tokens)
        rest = list(words.verbs[frame.owner])[n_before if not given else 0 :]
        yield from (Suggestion(f"{name} => ", "argument") for name in rest if name not in given)
    elif last.is_symbol("=", ">"):
        subject = _subject([frame])
        if subject in VALUES:
            yield from (Suggestion(f"'{value}'", subject) for value in VALUES[subject])
        elif words.verbs[frame.owner].get(subject) == "bool":
            yield from (Suggestion(value, subject) for value in ("true", "false"))


def _between_elements(typed: str, frame: Frame) -> Iterator[Suggestion]:
    """Yield what may stand in a MATCH outside its nodes and edges."""
    last = frame.last
    if last is None or last.is_word("match") or last.is_symbol(","):
        yield from _keywords(typed, SELECTORS)
    elif last.is_word("all", "any"):
        yield from _keywords(typed, ["shortest"])
    elif last.is_word("by"):
        yield from (Suggestion(name, "measure") for name in MEASURES)
    elif last.is_word("best") or last.kind == "number":
        yield from _keywords(typed, ["by"])
    elif last.is_symbol(")", "}", "*", "+", "?"):
        ends = ["columns ("] if frame.role == "graph" else ["return"]
        yield from _keywords(typed, ["where", *ends])


def _operands(typed: str, frame: Frame, names: Names, words: Words) -> Iterator[Suggestion]:
    """Yield what an expression may begin with."""
    variables = names.variables
    if frame.role in ("node", "edge"):
        variables = [token.name for token in frame.tokens[:1]]
    yield from (Suggestion(f"{name}.", names.owners.get(name, "")) for name in dict.fromkeys(variables))
    if names.paths and frame.role not in ("node", "edge"):
        yield from (Suggestion(f"{function}{names.paths[-1]})", "path") for function in PATH_FUNCTIONS)
    if variables:
        return
    sources = [name for name in names.sources if name in words.tables]
    for table in sources or words.tables:
        yield from (Suggestion(name, table) for name in words.tables[table])
    yield from (Suggestion(f"{name}.", owner) for name, owner in names.owners.items() if name != owner)
    if frame.clause == "select":
        yield from _keywords(typed, ["distinct"])


def _keywords(typed: str, words: Iterable[str]) -> Iterator[Suggestion]:
    """Yield keywords in the case in which the user types."""
    upper = typed.isupper()
    yield from (Suggestion(word.upper() if upper else word, "") for word in words)
