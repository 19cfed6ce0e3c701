"""Token ids as people read them, the tokens a direction promotes, and short labels made of both."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Matrix
from featgraph.core.ranking import ranks

_VISIBLE = {"": "", " ": "␣", "\n": "⏎", "\t": "⇥"}
"""White space -> its symbol in labels."""

LONG_RUN = 4
"""Runs of at least so many equal white space characters are shown by their length."""

RANDOM_DIRECTIONS = 512
"""Random directions for the null of promoted logits: about five lie above the 99 % quantile. Our choice."""

LOGITS = 2**24
"""Logits in memory at once."""


class Vocabulary:
    """Decodes single tokens to text, each once."""

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
    """Return the k tokens whose logits each direction raises most, best first, (n_features, k).

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


def telling_tokens(
    directions: Matrix, unembedding: Matrix, promoted: Sequence[Sequence[int]], occurs: NDArray[np.bool_]
) -> list[list[int]]:
    """Return, per direction, the promoted tokens that are informative enough for a label.

    They occur in the text, and their logit exceeds the largest logit of 99 % of random directions. occurs:
    mask of the tokens in the text, (n_vocabulary,).

    Source: the null is ours; in early layers three of four promoted tokens never occur in the text
    ("hasattr").
    """
    null = _random_logit(unembedding)
    return [
        [token for token, logit in zip(tokens, logits, strict=True) if occurs[token] and logit >= null]
        for tokens, logits in zip(
            promoted, _logits(directions, unembedding, np.array(promoted, dtype=np.int64)), strict=True
        )
    ]


def _logits(directions: Matrix, unembedding: Matrix, tokens: NDArray[np.int64]) -> Matrix:
    """Return the logits of some tokens per direction, (n_features, k)."""
    columns = [np.einsum("fd,fd->f", directions, unembedding[column]) for column in tokens.T]
    return np.stack(columns, axis=1) if columns else np.zeros(tokens.shape, dtype=np.float32)


def _random_logit(unembedding: Matrix) -> float:
    """Return the 99 % quantile of the largest logit of a random unit direction."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(RANDOM_DIRECTIONS, unembedding.shape[1])).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    largest = np.concatenate([(drawn @ part.T).max(axis=1)[None] for part in _parts(unembedding)])
    return float(np.quantile(largest.max(axis=0), 0.99, method="higher"))


def _parts(unembedding: Matrix) -> Iterator[Matrix]:
    step = max(1, LOGITS // RANDOM_DIRECTIONS)
    for start in range(0, len(unembedding), step):
        yield unembedding[start : start + step]


def label(top: list[str], promotes: list[str]) -> str:
    """Return a short label: tokens that a feature fires on, and tokens that it promotes, if any.

    >>> label([" cat", " Cat", " dog", " pig", " hen"], [" purr", "red", " ran"])
    'cat, dog, pig → purr, red'
    """
    fires, raises = _distinct(top, 3), _distinct(promotes, 2)
    return " → ".join(", ".join(part) for part in (fires, raises) if part) if fires else ""


def _white_space(token: str) -> str:
    """Return white space as symbols; a long run as its length and one symbol.

    >>> _white_space("\\n\\n"), _white_space(" " * 40)
    ('⏎⏎', '40␣')
    """
    runs = [(letter, len(list(run))) for letter, run in groupby(token)]
    shown = [(_VISIBLE.get(letter, letter), n) for letter, n in runs]
    return "".join(letter * n if n < LONG_RUN else f"{n}{letter}" for letter, n in shown if letter)


def _distinct(tokens: list[str], n: int) -> list[str]:
    """Return the first n tokens that differ not only in case and white space."""
    spellings: dict[str, str] = {}
    for token in tokens:
        shown = token.strip() or _white_space(token)
        spellings.setdefault(shown.lower(), shown)
    return [shown for shown in spellings.values() if shown][:n]
