"""What some features are about: the features downstream of them, and the words that they stand for."""

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
"""Letters of a keyword taken from tokens: shorter ones are mostly pieces of words."""


@dataclass(frozen=True)
class Downstream:
    """A feature that shows the theme."""

    number: int
    idx: int
    largest: float
    """Its largest activation on the graph's text, above 0."""
    weight: float
    """Largest product of cosines over the ways to it from a seed; 1 for a seed."""


@dataclass(frozen=True)
class Theme:
    """What steering is held against."""

    features: tuple[Downstream, ...]
    keywords: tuple[str, ...]
    """In lower case, in alphabetical order."""
    tokens: tuple[int, ...]
    """Ids of the tokens that begin a keyword, ascending."""
    labels: tuple[str, ...]
    """What the seeds are called."""


def theme_of(
    store: Store,
    weights: Mapping[str, float],
    model: "LanguageModel",
    *,
    min: float | None = None,
    keywords: Sequence[str] | None = None,
) -> Theme:
    """Return the theme of the features that a positive weight promotes, or of all if none does.

    Its features are the residual ones downstream of these seeds that have fired, the seeds if there are none.
    Its keywords, unless given, are the whole words among the tokens on which the seeds fire most and which
    they promote: a leading blank and at least 3 letters.

    Raises UsageError: no such feature, none of them ever fired, or no keyword has a token.
    """
    seeds = [key for key, weight in weights.items() if weight > 0] or list(weights)
    ids = {key: id_of(store.saes, key) for key in seeds}
    found = _downstream(store, ids, min)
    rows = store.rows(_SEEDS, {"ids": list(ids.values())})
    labels = best_labels(store, ids.values())
    if not found:
        raise UsageError(
            f"{', '.join(map(repr, seeds))}: never fired, so nothing tells whether its theme is there"
        )
    words = [token for top, promoted in rows for token in [*(top or []), *(promoted or [])]]
    chosen = _given(keywords) if keywords is not None else sorted({*filter(None, map(_word, words))})
    tokens = sorted({token for word in chosen for token in _first_tokens(model.tokenizer, word)})
    if not tokens:
        raise UsageError(
            f"no whole word is among the tokens of {', '.join(map(repr, seeds))}; say --keywords WORD,WORD"
        )
    return Theme(tuple(found), tuple(chosen), tuple(tokens), tuple(labels[id] for id in sorted(labels)))


def _downstream(store: Store, seeds: Mapping[str, int], min: float | None) -> list[Downstream]:
    weight: dict[int, float] = {}
    for key, seed in seeds.items():
        line = lineage(store, key, min=min, hops=None, writers=False, writer_min=MODULE_THRESHOLD)
        for member in line.members:
            if member.id > seed:
                weight[member.id] = max(weight.get(member.id, 0.0), member.weight)
    for chosen in (weight, dict.fromkeys(seeds.values(), 1.0)):
        rows = store.rows(_FIRED, {"ids": list(chosen)})
        if rows:
            return [Downstream(sae, idx, largest, chosen[id]) for id, sae, idx, largest in rows]
    return []


def _given(keywords: Sequence[str]) -> list[str]:
    found = sorted({word.strip().lower() for word in keywords} - {""})
    if not found:
        raise UsageError("there is no word in the keywords; write --keywords rain,cloud")
    return found


def _word(token: str) -> str | None:
    """Return the word that a token is, in lower case, or None for a piece of one.

    >>> [_word(token) for token in (" Rain", "ain", " W", " don't")]
    ['rain', None, None, None]
    """
    word = token[1:]
    return word.lower() if token[:1] == " " and len(word) >= _SHORTEST and word.isalpha() else None


def _first_tokens(tokenizer: Any, word: str) -> list[int]:
    """Return the token that begins a word after a blank, as it is and with a capital.

    One letter tells nothing, so it counts only where it is the word.
    """
    found = []
    for form in (word, word.capitalize()):
        ids = tokenizer(f" {form}", add_special_tokens=False, verbose=False)["input_ids"]
        if ids and (len(ids) == 1 or len(tokenizer.decode(ids[:1]).strip()) >= _SHORTEST):
            found.append(int(ids[0]))
    return found


_FIRED = """
    select f.id, s.number, f.idx, f.max_activation
    from feature f join sae s on f.id between s.first_id and s.first_id + s.n_features - 1
    where f.id in (select unnest($ids::integer[])) and f.max_activation > 0
    order by f.id
"""

_SEEDS = """
    select top_tokens, logit_tokens from feature where id in (select unnest($ids::integer[])) order by id
"""
