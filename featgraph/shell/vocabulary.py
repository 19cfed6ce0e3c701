"""The words that can be completed: those of the language, and the names in the open graph."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import get_args

from featgraph.core.keys import EDGE_KINDS, SCORES, SITES, SaeRange
from featgraph.core.measures import FINDERS, WALKABLE
from featgraph.errors import FeatgraphError
from featgraph.query import VERBS
from featgraph.query.language import expressions as language
from featgraph.query.language.ast import Choice
from featgraph.store import Store
from featgraph.store.features import best_labels

SELECTORS = tuple(sorted({*get_args(Choice), "any shortest"}))
"""The words before a pattern; ANY SHORTEST is the choice `shortest` of one path."""

MEASURES = tuple(f"{score}(" for score in SCORES)
PATH_FUNCTIONS = tuple(f"{function}(" for function in sorted(language.PATH_FUNCTIONS))

STARTS = ("select", "match", "from", "with", "explain", "describe", "summarize")

NEXT: Mapping[str, tuple[str, ...]] = {
    "select": ("from", "as"),
    "from": ("where", "join", "left join", "on", "using", "group by", "order by", "limit", "union all", "as"),
    "where": ("and", "or", "in", "is null", "is not null", "between", "group by", "order by", "limit"),
    "by": ("asc", "desc", "having", "order by", "limit"),
    "condition": ("and", "or", "in", "is null", "is not null", "between"),
    "return": ("as", "group by", "having", "order by", "limit"),
    "limit": ("offset",),
    "with": ("as (",),
}
"""What may follow a whole operand in each clause."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "site": SITES,
    "kind": EDGE_KINDS,
    "by": WALKABLE,
    "score": SCORES,
    "found_by": FINDERS,
    "direction": ("up", "down"),
    "origin": ("mlp", "att", "mlp+att", "unexplained", "not measured"),
}
"""The values of columns and arguments that take only a few."""

MOST_INDEXES = 40
"""Features offered at once; one more digit narrows them."""

_COLUMNS = """
    select table_name, list(column_name order by column_index)
    from duckdb_columns()
    where schema_name = 'main' and not internal
    group by table_name
    order by table_name
"""


@dataclass(frozen=True)
class Suggestion:
    """One completion of the word before the cursor."""

    text: str
    about: str = ""


@dataclass(frozen=True)
class Words:
    """What one open graph adds to the language."""

    tables: Mapping[str, Sequence[str]]
    """The columns of each table."""
    saes: Sequence[SaeRange]
    labels: Callable[[Sequence[int]], Mapping[int, str]]
    """Feature ids -> a label of those that have one."""
    verbs: Mapping[str, Mapping[str, str]]
    """The arguments of each verb, with their types."""

    @classmethod
    def of(cls, store: Store) -> "Words":
        """Read the words of a graph; labels are read when they are asked for.

        Raises StoreError: the database is damaged.
        """
        verbs = {name: verb.arguments for name, verb in VERBS.items()}
        return cls(dict(store.rows(_COLUMNS)), store.saes, partial(_labels, store), verbs)


def keys(typed: str, words: Words) -> Iterator[Suggestion]:
    """Yield what a feature key may go on with: first layers, then sites, then features with their labels."""
    layer, slash, rest = typed.partition("/")
    if not slash:
        for number in dict.fromkeys(sae.layer for sae in words.saes):
            yield Suggestion(f"{number}/", "layer")
        return
    for sae in words.saes:
        if str(sae.layer) == layer:
            prefix = f"{layer}/{sae.site}/"
            if typed.startswith(prefix):
                yield from _features(sae, typed.removeprefix(prefix), words)
            elif sae.site.startswith(rest):
                yield Suggestion(prefix, f"{sae.n_features:,} features")


def _features(sae: SaeRange, digits: str, words: Words) -> Iterator[Suggestion]:
    idxs = list(islice(_numbers(digits, sae.n_features), MOST_INDEXES))
    labels = words.labels([sae.first_id + idx for idx in idxs])
    for idx in idxs:
        yield Suggestion(str(sae.key(idx)), labels.get(sae.first_id + idx, ""))


def _numbers(digits: str, n: int) -> Iterator[int]:
    """Yield the numbers below n that are written with some digits first, from the smallest.

    >>> list(_numbers("1", 13)), list(_numbers("0", 13)), list(_numbers("", 3))
    ([1, 10, 11, 12], [0], [0, 1, 2])
    """
    if digits in ("", "0"):
        yield from range(min(n, 1) if digits else n)
    elif digits.isdecimal() and digits[0] != "0":
        width = 1
        while int(digits) * width < n:
            yield from range(int(digits) * width, min((int(digits) + 1) * width, n))
            width *= 10


def _labels(store: Store, ids: Sequence[int]) -> dict[int, str]:
    """Return the best labels; none where the graph is damaged, which the next statement reports."""
    try:
        return best_labels(store, ids)
    except FeatgraphError:
        return {}
