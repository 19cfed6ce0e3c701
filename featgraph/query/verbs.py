"""The arguments of verbs, checked, and the verbs that are computed outside SQL.

What a verb is called with stands in the registry, `core.verbs`; what it means, as a table macro in the graph.
"""

from collections.abc import Callable, Mapping
from typing import Any

from featgraph.core import arguments
from featgraph.core.keys import SCORES
from featgraph.core.measures import CALIBRATED, MEASURES, WALKABLE
from featgraph.core.result import Result
from featgraph.core.verbs import VERBS, ArgumentType, Verb
from featgraph.errors import UsageError, nearest
from featgraph.store import Store
from featgraph.store.features import find_feature

__all__ = ["VERBS", "Verb", "check", "compute"]


def check(verb: Verb, name: str, value: object, store: Store, by: object = "cosine") -> object:
    """Return the value of one argument, checked, in the form in which DuckDB binds it.

    by: the measure that the verb goes by, which says what `min` may be.

    Raises UsageError: the argument cannot have it, or the graph has no such feature.
    """
    if value is None and name in _OPTIONAL:
        return None
    if name == "min" and by not in ("cosine", "coactive"):
        return arguments.check_number(name, value)
    return _CHECKS[verb.arguments[name]](name, value, store)


IN_MEMORY = ("lineage", "ancestors", "descendants", "paths", "components")
"""The verbs that edges in memory can answer."""


def from_memory(store: Store, verb: str, values: Mapping[str, Any]) -> Result | None:
    """Answer a verb from the edges in memory, from checked values; None if SQL should.

    Memory holds the cosines alone; by another measure SQL answers.

    Edges are read into memory once a few such questions were asked, see `lineage.in_memory`.
    """
    if verb not in IN_MEMORY or values.get("by", "cosine") != "cosine":
        return None
    from featgraph.lineage.in_memory import adjacency_if_repeated

    memory = adjacency_if_repeated(store)
    if memory is None:
        return None
    rows: Result = getattr(memory, verb)(**{name: value for name, value in values.items() if name != "by"})
    return rows


def compute(store: Store, verb: str, values: Mapping[str, Any]) -> Result:
    """Answer a verb that is no macro, from checked values.

    Raises UsageError: the values do not go together. SourceError: a text's language model cannot be found.
    """
    if verb == "components":
        from featgraph.lineage.adjacency import components

        return components(store, min=values.get("min"), by=values.get("by", "cosine"))
    from featgraph.query.similar import similar

    given = {name: value for name, value in values.items() if name != "f"}
    return similar(store, values.get("f"), **given)


_OPTIONAL = {"min", "hops", "layer", "layer_a", "layer_b", "source"}
"""Arguments that may be NULL, which is as if they were left out."""

_LEAST = {"k": 1}
"""Smallest value of an int; 0 for the others, which count hops and layers."""


def _key(name: str, value: object, store: Store) -> str:
    if value is None:
        raise UsageError(f"{name} is null; write a feature as layer/site/index, such as '12/res/3456'")
    return str(find_feature(store.saes, str(value))[0])


def _cosine(name: str, value: object, store: Store) -> float:
    return arguments.check_cosine(name, value)


def _count(name: str, value: object, store: Store) -> int:
    return arguments.check_count(name, value, _LEAST.get(name, 0))


def _truth(name: str, value: object, store: Store) -> bool:
    return arguments.check_bool(name, value)


def _word(name: str, value: object, store: Store) -> object:
    if not isinstance(value, str):
        raise UsageError(f"{name} = {arguments.shown(value)} is not text; write it in quotes")
    if name == "words" and not any(letter.isalnum() for letter in value):
        raise UsageError(
            f"{name} = {value!r} has no letter or digit to search for; write 'rain' or 'heavy rain'"
        )
    return value


def _score(name: str, value: object, store: Store) -> object:
    word = _word(name, value, store)
    if word not in SCORES:
        hint = nearest(str(word), SCORES) or ";"
        raise UsageError(f"{name} = {value!r} is not a score of paths{hint} scores are {', '.join(SCORES)}")
    return word


def _measure(name: str, value: object, store: Store) -> object:
    word = str(_word(name, value, store))
    if word not in WALKABLE:
        hint = nearest(word, WALKABLE) or ";"
        raise UsageError(
            f"{name} = {value!r} is not a measure of edges{hint} measures are {', '.join(WALKABLE)}"
        )
    if word not in ("cosine", "coactive") and not store.rows(
        f"select 1 from edge where {word} is not null limit 1"
    ):
        raise UsageError(f"{name} = {value!r}: no edge of {store.path} has it; {_mend(word, store)}")
    return word


def check_values(values: Mapping[str, object], store: Store) -> None:
    """Refuse a measure that has no default threshold in this graph, unless `min` is given.

    Raises UsageError: it has none.
    """
    by = values.get("by", "cosine")
    if by in ("cosine", "coactive") or values.get("min") is not None:
        return
    if not store.rows("select 1 from threshold where measure = $by limit 1", {"by": by}):
        raise UsageError(
            f"by = {by!r} has no default threshold in {store.path}; give min, or go by "
            f"{', '.join(('cosine', 'coactive', *CALIBRATED))}"
        )


def _mend(measure: str, store: Store) -> str:
    """Return what gives the edges of a graph a measure that they lack."""
    if any(one.name == measure and one.grade == "ablated" for one in MEASURES):
        return f"`featgraph ablate {store.path} --exhaustive` measures it"
    if "n_tokens" not in dict(store.rows("select key, value from meta")):
        return "it was ingested without a text; `featgraph ingest` with a text computes it"
    return f"`featgraph info {store.path}` says why"


def _as_it_is(name: str, value: object, store: Store) -> object:
    return value


_CHECKS: dict[ArgumentType, Callable[[str, object, Store], object]] = {
    "key": _key,
    "float": _cosine,
    "int": _count,
    "bool": _truth,
    "text": _word,
    "vector": _as_it_is,
    "measure": _measure,
    "score": _score,
}
