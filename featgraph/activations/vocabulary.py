"""Token ids as people read them, the tokens a direction promotes, and short labels made of both."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from featgraph.core.arrays import Matrix
from featgraph.core.ranking import ranks

_VISIBLE = {"": "", " ": "␣", "\n": "⏎", "\t": "⇥"}
"""White space as a label shows it."""

LOGITS = 2**24
"""Logits in memory at once."""


class Vocabulary:
    """The text of single tokens, decoded once each."""

    def __init__(self, tokenizer: Any, size: int) -> None:
        self.tokenizer = tokenizer
        self.size = size
        self._known: dict[int, str] = {}

    def __getitem__(self, token: int) -> str:
        if token not in self._known:
            self._known[token] = self.tokenizer.decode([token])
        return self._known[token]

    def words(self, tokens: Iterable[int]) -> list[str]:
        """Return the text of each token."""
        return [self[token] for token in tokens]


def top_logit_tokens(directions: Matrix, unembedding: Matrix, k: int) -> list[list[int]]:
    """Return, per direction, the k tokens whose logits it raises most, best first.

    directions: (n_features, d_model). unembedding: (n_vocabulary, d_model). The final norm is left out.

    Source: the logit lens of a decoder row, as in arXiv 2309.08600, section 5.
    """
    k = min(k, len(unembedding))
    rows = max(1, LOGITS // len(unembedding))
    tokens: list[list[int]] = []
    for start in range(0, len(directions), rows):
        logits = directions[start : start + rows] @ unembedding.T
        least = np.partition(logits, logits.shape[1] - k, axis=1)[:, -k]
        row, token = np.nonzero(logits >= least[:, None])
        place = ranks(row, logits[row, token], token)
        row, token, place = row[place <= k], token[place <= k], place[place <= k]
        tokens += token[np.lexsort((place, row))].reshape(-1, k).tolist()
    return tokens


def label(top: list[str], promotes: list[str]) -> str:
    """Return a short label: tokens that a feature fires on, and tokens that it promotes.

    >>> label([" cat", " Cat", " dog", " pig", " hen"], [" purr", "red", " ran"])
    'cat, dog, pig → purr, red'
    """
    fires, raises = _distinct(top, 3), _distinct(promotes, 2)
    return f"{', '.join(fires)} → {', '.join(raises)}" if fires else ""


def _distinct(tokens: list[str], n: int) -> list[str]:
    """Return the first n tokens that differ in more than case and white space."""
    spellings: dict[str, str] = {}
    for token in tokens:
        shown = token.strip() or "".join(_VISIBLE.get(letter, letter) for letter in token)
        spellings.setdefault(shown.lower(), shown)
    return [shown for shown in spellings.values() if shown][:n]
