"""Finds the theme of some features: their downstream features, keywords and tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featgraph.core.keys import MODULE_THRESHOLD
from featgraph.errors import UsageError
from featgraph.lineage.lineage import lineage
from featgraph.store import Store
from featgraph.store.features import best_labels, id_of

if TYPE_CHECKING:
    from featgraph.suite import LanguageModel

_SHORTEST = 3
"""Fewest letters of a keyword taken from tokens; shorter tokens are mostly parts of words. Our choice."""


@dataclass(frozen=True)
class Downstream:
    """A residual feature whose activation measures the theme."""

    number: int
    idx: int
    largest: float
    """Its largest activation on the graph's text, above 0."""
    weight: float
    """Largest product of cosines on a path from a seed; 1 for a seed."""


@dataclass(frozen=True)
class Theme:
    """The theme by which steering is measured: downstream features, keywords, and their tokens."""

    features: tuple[Downstream, ...]
    keywords: tuple[str, ...]
    """Keywords in lower case and alphabetical order."""
    tokens: tuple[int, ...]
    """Sorted ids of the tokens with which a keyword begins."""
    labels: tuple[str, ...]
    """Labels of the seeds."""


def theme_of(
    store: Store,
    weights: Mapping[str, float],
    model: "LanguageModel",
    *,
    min: float | None = None,
    keywords: Sequence[str] | None = None,
) -> Theme:
    """Return the theme of the features with a positive weight, or of all features if none has one.

    Its features are the residual features downstream of these seeds that fired; if none did, the seeds.
    Its keywords, unless given, are the whole words among the seeds' top tokens and promoted tokens: a leading
    blank and at least 3 letters.

    Raises UsageError: no such feature, none of them ever fired, or no keyword has a token.
    """
    seeds = [key for key, weight in weights.items() if weight > 0] or list(weights)
    ids = {key: id_of(store.saes, key) for key in seeds}
    features = _downstream(store, ids, min)
    rows = store.rows(_SEEDS, {"ids": list(ids.values())})
    labels = best_labels(store, ids.values())
    if not features:
        raise UsageError(f"{', '.join(map(repr, seeds))}: never fired, so the theme cannot be measured")
    words = [token for top, promoted in rows for token in [*(top or []), *(promoted or [])]]
    theme_words = _given(keywords) if keywords is not None else sorted({*filter(None, map(_word, words))})
    tokens = sorted({token for word in theme_words for token in _first_tokens(model.tokenizer, word)})
    if not tokens:
        raise UsageError(
            f"no whole word among the tokens of {', '.join(map(repr, seeds))}; give --keywords WORD,WORD"
        )
    return Theme(
        tuple(features), tuple(theme_words), tuple(tokens), tuple(labels[id] for id in sorted(labels))
    )


def _downstream(store: Store, seeds: Mapping[str, int], min: float | None) -> list[Downstream]:
    weight: dict[int, float] = {}
    for key, seed in seeds.items():
        line = lineage(store, key, min=min, hops=None, writers=False, writer_min=MODULE_THRESHOLD)
        for member in line.members:
            if member.id > seed:
                weight[member.id] = max(weight.get(member.id, 0.0), member.weight)
    for weights in (weight, dict.fromkeys(seeds.values(), 1.0)):
        rows = store.rows(_FIRED, {"ids": list(weights)})
        if rows:
            return [Downstream(sae, idx, largest, weights[id]) for id, sae, idx, largest in rows]
    return []


def _given(keywords: Sequence[str]) -> list[str]:
    words = sorted({word.strip().lower() for word in keywords} - {""})
    if not words:
        raise UsageError("the keywords have no word; write --keywords rain,cloud")
    return words


def _word(token: str) -> str | None:
    """Return a token that is a whole word, in lower case; None for part of a word.

    >>> [_word(token) for token in (" Rain", "ain", " W", " don't")]
    ['rain', None, None, None]
    """
    word = token[1:]
    return word.lower() if token[:1] == " " and len(word) >= _SHORTEST and word.isalpha() else None


def _first_tokens(tokenizer: Any, word: str) -> list[int]:
    """Return the first token of a word after a blank, in lower case and capitalised.

    A first token of fewer than 3 letters is too common to count, unless it is the whole word.
    """
    tokens = []
    for form in (word, word.capitalize()):
        ids = tokenizer(f" {form}", add_special_tokens=False, verbose=False)["input_ids"]
        if ids and (len(ids) == 1 or len(tokenizer.decode(ids[:1]).strip()) >= _SHORTEST):
            tokens.append(int(ids[0]))
    return tokens


_FIRED = """
    select f.id, s.number, f.idx, f.max_activation
    from feature f join sae s on f.id between s.first_id and s.first_id + s.n_features - 1
    where f.id in (select unnest($ids::integer[])) and f.max_activation > 0
    order by f.id
"""

_SEEDS = """
    select top_tokens, logit_tokens from feature where id in (select unnest($ids::integer[])) order by id
"""
