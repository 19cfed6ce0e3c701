"""Text -> tokens -> activations at each site -> SAE codes, streamed one batch at a time.

A document is cut into pieces of at most `context` tokens, each opened by the BOS token where the tokenizer
has one. BOS and padding are left out of everything that is counted. Codes come from the SAE's own `encode`,
in float32, and leave as sparse rows, one per counted token.
"""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.errors import SourceError
from featgraph.recipe import TextSource
from featgraph.suite import LanguageModel, LoadedSae

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = 8192
"""Tokens seen at once, padding included: large enough to keep two cores busy, small enough for the cache."""


ENCODE_TOKENS = 256
"""Tokens encoded at once: few enough that their dense codes stay in the processor's cache."""

RECONSTRUCT_EVERY = 4
"""One group of tokens in so many is also decoded, for the explained variance."""


@dataclass(frozen=True)
class Pieces:
    """The text as the model sees it: rows of token ids without padding, and which tokens are not counted."""

    rows: list[NDArray[np.int32]]
    special: frozenset[int]

    @cached_property
    def n_tokens(self) -> int:
        """Tokens that count in the statistics."""
        return sum(int(self.counted(row).sum()) for row in self.rows)

    def counted(self, row: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which tokens of a row count."""
        return ~np.isin(row, list(self.special))

    def batches(self) -> Iterator["Batch"]:
        """Yield the rows in batches of about BATCH_TOKENS, longest first so that little is padded."""
        order = sorted(range(len(self.rows)), key=lambda place: -len(self.rows[place]))
        start = 0
        while start < len(order):
            longest = len(self.rows[order[start]])
            chosen = order[start : start + max(1, BATCH_TOKENS // longest)]
            yield Batch.of(self, np.array(chosen, dtype=np.int64), longest)
            start += len(chosen)


@dataclass(frozen=True)
class Batch:
    """Some rows of the text, padded to one length; arrays of n_tokens leave padding and BOS out."""

    ids: NDArray[np.int64]
    """Token ids, (n_rows, length); padding repeats a row's first token, after all others."""
    counted: NDArray[np.bool_]
    """Which of them count, (n_rows, length)."""
    piece: NDArray[np.int64]
    """Row of the text that each counted token is in, (n_tokens,)."""
    position: NDArray[np.int64]
    """Its place in that row, (n_tokens,)."""
    token: NDArray[np.int64]
    """Its id, (n_tokens,)."""

    @classmethod
    def of(cls, pieces: Pieces, chosen: NDArray[np.int64], length: int) -> "Batch":
        """Pad the chosen rows to one length."""
        ids = np.zeros((len(chosen), length), dtype=np.int64)
        counted = np.zeros((len(chosen), length), dtype=np.bool_)
        for place, number in enumerate(chosen):
            row = pieces.rows[number]
            ids[place] = row[0]
            ids[place, : len(row)] = row
            counted[place, : len(row)] = pieces.counted(row)
        row_of, position = np.nonzero(counted)
        return cls(ids, counted, chosen[row_of], position, ids[counted])


def read_pieces(text: TextSource, model: LanguageModel) -> Pieces:
    """Read and tokenise the recipe's text, at most `text.tokens` tokens that count.

    Raises SourceError: the file is absent, unreadable or empty.
    """
    tokenizer = model.tokenizer
    bos = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    special = frozenset(int(token) for token in tokenizer.all_special_ids)
    pieces = Pieces([], special)
    left = text.tokens
    width = text.context - len(bos)
    for document in documents(text.path, text.separator):
        ids = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(ids), width):
            row = np.array(bos + ids[start : start + min(width, left)], dtype=np.int32)
            left -= int(pieces.counted(row).sum())
            pieces.rows.append(row)
            if left <= 0:
                return pieces
    if not pieces.rows:
        raise SourceError(f"the text {text.path} is empty; statistics need at least one token")
    return pieces


def documents(path: Path, separator: str) -> Iterator[str]:
    """Yield the documents of a text file, plain or gzipped, that a separator stands between."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as handle:
            content = handle.read()
    except FileNotFoundError as error:
        raise SourceError(f"there is no text at {path}; 'text.path' is relative to the recipe") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the text {path}: {error}") from error
    parts = content.split(separator) if separator else [content]
    yield from (part.strip() for part in parts if part.strip())


class Sites:
    """Runs the model up to its last block and keeps the outputs of the modules that SAEs read."""

    def __init__(self, model: LanguageModel, modules: Sequence[str]) -> None:
        self.model = model
        self.modules = list(modules)

    def __call__(self, batch: Batch) -> dict[str, "torch.Tensor"]:
        """Return each module's output on the counted tokens, float32 (n_tokens, d_model)."""
        import torch

        kept: dict[str, torch.Tensor] = {}
        counted = torch.from_numpy(batch.counted)

        def keep(module: str) -> Any:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                tensor = output[0] if isinstance(output, tuple) else output
                kept[module] = tensor[counted].float()

            return hook

        language_model = self.model.model
        handles = [
            language_model.get_submodule(module).register_forward_hook(keep(module))
            for module in self.modules
        ]
        try:
            with torch.inference_mode():
                language_model.base_model(torch.from_numpy(batch.ids), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return kept


def encode(loaded: LoadedSae, activations: "torch.Tensor") -> tuple[scipy.sparse.csr_matrix, "torch.Tensor"]:
    """Return the SAE's codes as a sparse (n_tokens, n_features) matrix, and some reconstructions, dense.

    Active means not zero: some SAEs keep signed activations. The first of every RECONSTRUCT_EVERY groups of
    ENCODE_TOKENS is decoded, at once, because some SAEs remember the scale of what they encoded last; the
    rows are those of `decoded`.
    """
    import torch

    codes, rebuilt = [], []
    with torch.inference_mode():
        for number, part in enumerate(activations.split(ENCODE_TOKENS)):
            dense = loaded.sae.encode(part)
            if number % RECONSTRUCT_EVERY == 0:
                rebuilt.append(loaded.sae.decode(dense))
            codes.append(_sparse(dense))
    return scipy.sparse.vstack(codes, format="csr"), torch.cat(rebuilt)


def decoded(activations: "torch.Tensor") -> "torch.Tensor":
    """Return the rows that `encode` also decodes."""
    import torch

    return torch.cat(activations.split(ENCODE_TOKENS)[::RECONSTRUCT_EVERY])


@contextmanager
def one_thread_per_task() -> Iterator[None]:
    """Keep torch to one thread per call: many small products run side by side instead, which wastes less."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sparse(dense: "torch.Tensor") -> scipy.sparse.csr_matrix:
    values = dense.numpy()
    n_tokens, n_features = values.shape
    place = np.flatnonzero(values.astype(bool))
    starts = np.zeros(n_tokens + 1, dtype=np.int32)
    np.cumsum(np.bincount(place // n_features, minlength=n_tokens), out=starts[1:])
    column = (place % n_features).astype(np.int32)
    return scipy.sparse.csr_matrix((values.ravel()[place], column, starts), shape=values.shape)
