"""Massive activations: tokens on which a site is many times as long as usual, left out of what is counted.

Language models keep a few tokens, mostly the first of a text, at a norm of a hundred times the others', from
some layer on. They are no evidence of what a feature means, and three of them outweigh all other tokens in
means, maxima and correlations. A token is left out at a site where its norm exceeds a multiple of the site's
median norm; the median is that of the first MEDIAN_TOKENS tokens of the text, so that it is the same on
every machine, whatever is read by whom.

Source: arXiv 2402.17762 (Sun et al.), who call an activation massive above 100 in magnitude and 1,000 times
the median; the norm's multiple is ours, see tests/bench/massive.py.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featgraph.activations.forward import Sites
from featgraph.activations.tokens import TokenRows
from featgraph.suite import LanguageModel, LoadedSae

if TYPE_CHECKING:
    import torch

MEDIAN_TOKENS = 4096
"""Tokens from which the median norm is estimated; our choice: enough for an error of a few per cent."""


def with_limits(
    model: LanguageModel, saes: Sequence[LoadedSae], opening: TokenRows, massive: float
) -> list[LoadedSae]:
    """Return SAEs with a limit of the norm: a multiple of the median at the tensor they write to.

    opening: the beginning of the text, see `opening_rows`. massive: the multiple; 0 leaves nothing out.
    """
    if not massive:
        return list(saes)
    sites = Sites(model, [loaded.reading for loaded in saes if loaded.reading is not None])
    norms: list[list[NDArray[np.float32]]] = [[] for _ in saes]
    for batch in opening.batches():
        activations = sites(batch)
        for parts, loaded in zip(norms, saes, strict=True):
            assert loaded.reading is not None
            parts.append(norms_of(activations[loaded.reading.rebuilt]).cpu().numpy())
    medians = [float(np.median(np.concatenate(parts))) for parts in norms]
    return [
        # If most tokens are zero at a site, the median is no typical norm.
        replace(loaded, massive_norm=massive * median if median > 0 else None)
        for loaded, median in zip(saes, medians, strict=True)
    ]


def opening_rows(token_rows: TokenRows) -> TokenRows:
    """Return the first rows of a text, up to MEDIAN_TOKENS tokens in all."""
    chosen, n_tokens = 0, 0
    while chosen < len(token_rows.rows) and n_tokens < MEDIAN_TOKENS:
        n_tokens += int(token_rows.counted(token_rows.rows[chosen]).sum())
        chosen += 1
    return replace(token_rows, rows=token_rows.rows[:chosen])


def norms_of(activations: "torch.Tensor") -> "torch.Tensor":
    """Return the length of each token's activation, (n_tokens,); activations: (n_tokens, d)."""
    norms: torch.Tensor = activations.norm(dim=-1)
    return norms


def is_massive(activations: "torch.Tensor", loaded: LoadedSae) -> NDArray[np.bool_]:
    """Return the mask of tokens left out at an SAE's site, (n_tokens,).

    activations: of the tensor the SAE writes to, (n_tokens, d).
    """
    if loaded.massive_norm is None:
        return np.zeros(len(activations), dtype=np.bool_)
    above: NDArray[np.bool_] = (norms_of(activations) > loaded.massive_norm).cpu().numpy()
    return above
