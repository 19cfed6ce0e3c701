"""Documents -> token rows: the sequences that the model reads, in shards and batches.

A document is cut into rows of at most `context` tokens, each opened by the BOS token where the tokenizer
has one. BOS and padding are left out of everything that is counted; without BOS, the first token of a row
is, because the model treats whatever comes first as it would treat BOS.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featgraph.activations.documents import documents
from featgraph.errors import SourceError, UsageError
from featgraph.recipe import TextSource
from featgraph.suite.graph_suite import GraphSuite

SHARD_TOKENS = 32_768
"""Tokens per shard, a few batches: the unit of work, and the most that an interruption loses. Our choice."""

BATCH_TOKENS = 8192
"""Tokens that the model reads at once, padding included: large enough to keep two cores busy, small enough
for the cache."""


@dataclass(frozen=True)
class Tokens:
    """The positions of some counted tokens in the text, (n_tokens,) each; without BOS and padding."""

    row: NDArray[np.int64]
    """Number of each token's row in the whole text."""
    position: NDArray[np.int64]
    """Position in the row, BOS included."""
    token: NDArray[np.int64]
    """Token id."""

    def take(self, chosen: NDArray[np.bool_]) -> "Tokens":
        """Return a selection of the tokens."""
        return Tokens(self.row[chosen], self.position[chosen], self.token[chosen])

    @classmethod
    def joined(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """Return the concatenation of all parts."""
        return cls(
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.position for part in parts]),
            np.concatenate([part.token for part in parts]),
        )


@dataclass(frozen=True)
class Batch(Tokens):
    """A batch of token rows, padded to one length."""

    ids: NDArray[np.int64]
    """Token ids, (n_rows, length); padding repeats a row's first token, after all others."""
    counted: NDArray[np.bool_]
    """Mask of the counted tokens, (n_rows, length)."""

    @classmethod
    def of(cls, token_rows: "TokenRows", chosen: NDArray[np.int64], length: int) -> "Batch":
        """Return the chosen rows padded to one length."""
        ids = np.zeros((len(chosen), length), dtype=np.int64)
        counted = np.zeros((len(chosen), length), dtype=np.bool_)
        for place, number in enumerate(chosen):
            row = token_rows.rows[number]
            ids[place] = row[0]
            ids[place, : len(row)] = row
            counted[place, : len(row)] = token_rows.counted(row)
        row_of, position = np.nonzero(counted)
        return cls(token_rows.first + chosen[row_of], position, ids[counted], ids, counted)


@dataclass(frozen=True)
class TokenRows:
    """Part of the text as rows of token ids, without padding."""

    rows: list[NDArray[np.int32]]
    special: frozenset[int]
    """Ids of special tokens, which are not counted."""
    first: int = 0
    """Number of the first row in the whole text."""
    without_bos: bool = False
    """Whether rows have no BOS; then their first token is not counted, in its place."""

    @cached_property
    def n_tokens(self) -> int:
        """Number of counted tokens."""
        return sum(int(self.counted(row).sum()) for row in self.rows)

    def counted(self, row: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return the mask of a row's counted tokens."""
        counts = ~np.isin(row, list(self.special))
        if self.without_bos:
            counts[:1] = False
        return counts

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in batches of about BATCH_TOKENS, longest first, to keep padding short."""
        order = sorted(range(len(self.rows)), key=lambda place: -len(self.rows[place]))
        start = 0
        while start < len(order):
            longest = len(self.rows[order[start]])
            rows_of_batch = order[start : start + max(1, BATCH_TOKENS // longest)]
            yield Batch.of(self, np.array(rows_of_batch, dtype=np.int64), longest)
            start += len(rows_of_batch)


def read_shards(text: TextSource, tokenizer: Any) -> Iterator[TokenRows]:
    """Tokenise the recipe's text, up to `text.tokens` counted tokens, and yield it in shards.

    Raises SourceError: the text is missing, unreadable, or has no counted token.
    """
    none = _no_rows(tokenizer)
    waiting: list[NDArray[np.int32]] = []
    first = n_waiting = n_read = 0
    for row, n_counted in _rows(text, tokenizer, none):
        waiting.append(row)
        n_waiting += n_counted
        n_read += n_counted
        if n_waiting >= SHARD_TOKENS:
            yield replace(none, rows=waiting, first=first)
            first, waiting, n_waiting = first + len(waiting), [], 0
    if n_read == 0:
        raise SourceError(
            f"the text {text.path or text.dataset} has no counted token; statistics need at least one"
        )
    if n_waiting:
        yield replace(none, rows=waiting, first=first)


def _no_rows(tokenizer: Any) -> TokenRows:
    """Return an empty `TokenRows` for a tokenizer."""
    special = frozenset(int(token) for token in tokenizer.all_special_ids)
    return TokenRows([], special, without_bos=tokenizer.bos_token_id is None)


def _opening(tokenizer: Any) -> list[int]:
    """Return the ids that precede each row: BOS, if the tokenizer has one."""
    return [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]


def _rows(text: TextSource, tokenizer: Any, none: TokenRows) -> Iterator[tuple[NDArray[np.int32], int]]:
    """Yield each non-empty row of tokens, with its number of counted tokens."""
    bos = _opening(tokenizer)
    width, left = text.context - len(bos), text.tokens
    if text.context < 2:
        what = "beside the BOS token" if bos else "behind the first token, which stands in the place of BOS"
        raise SourceError(f"a context of {text.context} has no room {what}; it takes 2 or more")
    for document in documents(text):
        ids = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(ids), width):
            row = np.array(bos + ids[start : start + min(width, left + none.without_bos)], dtype=np.int32)
            if len(row) < 2:
                continue
            n_counted = int(none.counted(row).sum())
            yield row, n_counted
            left -= n_counted
            if left <= 0:
                return


def tokens_of_text(suite: GraphSuite, text: str) -> TokenRows:
    """Cut a text into token rows as an ingest does.

    Raises UsageError: the text has no tokens that count.
    """
    tokenizer = suite.model.tokenizer
    bos = _opening(tokenizer)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    width = suite.context - len(bos)
    starts = range(0, len(ids), width)
    rows = [np.array(bos + ids[start : start + width], dtype=np.int32) for start in starts]
    token_rows = replace(_no_rows(tokenizer), rows=[row for row in rows if len(row) > 1])
    if token_rows.n_tokens == 0:
        if ids and token_rows.without_bos:
            raise UsageError(
                f"the text {text!r} has no token behind its first, which does not count where the tokenizer "
                "sets no BOS; give more words"
            )
        raise UsageError(f"the text {text!r} has no tokens")
    return token_rows
