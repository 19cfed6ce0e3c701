"""The language model and a graph's SAEs over prompts: texts in, sparse codes of one SAE after another out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featgraph.core.arrays import Indices
from featgraph.core.bounded import read_text
from featgraph.core.files import os_reason
from featgraph.core.keys import SaeRange
from featgraph.core.progress import Progress, Silent
from featgraph.errors import SourceError, UsageError
from featgraph.suite.graph_suite import GraphSuite
from featgraph.suite.memory import groups_that_fit, sae_bytes

if TYPE_CHECKING:
    import scipy.sparse

    from featgraph.activations import TokenRows, Tokens

GROUP_BYTES = 2**32
"""Bytes of SAEs in memory at once, 4 GB; the model reads the prompts once per group of SAEs. Our choice."""


@dataclass(frozen=True)
class Prompts:
    """Prompts cut into token rows."""

    token_rows: "TokenRows"
    """Token rows; a prompt longer than the graph's context has several."""
    owner: Indices
    """Number of each row's prompt."""
    start: Indices
    """Position in its prompt, from 0, of each row's first token after BOS."""
    n_opening: int
    """Number of BOS tokens at the beginning of a row."""

    @property
    def tokens(self) -> "Tokens":
        """The counted tokens, in the order of the codes."""
        from featgraph.activations import Tokens

        return Tokens.joined(list(self.token_rows.batches()))

    def place(self, tokens: "Tokens") -> Indices:
        """Return the positions of tokens in their prompts, from 0."""
        places: Indices = self.start[tokens.row] + tokens.position - self.n_opening
        return places


def cut(suite: GraphSuite, prompts: Sequence[str]) -> Prompts:
    """Cut prompts into token rows as an ingest cuts its text, with BOS before each.

    Raises UsageError: a prompt has no tokens. SourceError: the graph was made without a text, or the model
    cannot be found.
    """
    from featgraph.activations.tokens import tokens_of_text

    if suite.manifest.get("text") is None:
        raise SourceError(
            f"{suite.path} was made without a text, so it records no activations; "
            "ingest it again with --text FILE, or search for features by label, key or vector"
        )
    of_prompts = [tokens_of_text(suite, prompt) for prompt in prompts]
    rows = [row for tokens in of_prompts for row in tokens.rows]
    n_opening = int(suite.model.tokenizer.bos_token_id is not None)
    starts = [np.cumsum([0, *(len(row) - n_opening for row in tokens.rows[:-1])]) for tokens in of_prompts]
    owner = np.repeat(np.arange(len(of_prompts)), [len(tokens.rows) for tokens in of_prompts])
    return Prompts(replace(of_prompts[0], rows=rows), owner, np.concatenate(starts), n_opening)


def codes(
    suite: GraphSuite, sae_ranges: Sequence[SaeRange], prompts: Prompts, progress: Progress | None = None
) -> Iterator[tuple[SaeRange, "scipy.sparse.csr_matrix"]]:
    """Yield the codes of each SAE on the prompts' tokens, (n_tokens, n_features), in the order of `tokens`.

    In memory are the SAEs of one group, their inputs on one batch of text, and their codes.
    """
    from featgraph.activations.encoding import encode_rows

    none = np.zeros((0, 0), dtype=np.float32)
    with (progress or Silent()).step("encode", len(sae_ranges), "SAEs") as advance:
        d_model = int(suite.manifest["model"]["d_model"])
        for group in groups_that_fit(sae_ranges, lambda group: _n_bytes(group, d_model), GROUP_BYTES):
            # Encoding does not need the directions.
            saes = [replace(suite.sae(sae), directions=none, encoder=None) for sae in group]
            encoded = encode_rows(suite.model, saes, prompts.token_rows)
            del saes
            for sae, one in zip(group, encoded, strict=True):
                yield sae, one.codes
                advance(1)


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a file, one per line; empty lines are skipped.

    Raises UsageError: the file cannot be read as UTF-8 text, or has no prompts.
    """
    try:
        lines = read_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the prompts {path}: it is not UTF-8 text") from error
    except (OSError, ValueError) as error:
        reason = os_reason(error)
        raise UsageError(f"cannot read the prompts {path}: {reason}") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise UsageError(f"{path} has no prompts; write one per line")
    return prompts


def _n_bytes(saes: Sequence[SaeRange], d_model: int) -> int:
    """Return an upper bound of the bytes of some SAEs without their rows in the residual basis."""
    return sum(sae_bytes(sae.n_features, d_model) for sae in saes)
