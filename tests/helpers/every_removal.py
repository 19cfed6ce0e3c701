"""Exhaustive removal the plain way: one full pass with a hook for each feature that is removed at a token."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featgraph.ablation.exhaustive import TokenSample
from featgraph.suite import LoadedSae
from featgraph.suite.hooks import sae_input
from helpers.one_removal import encode, run

Losses = dict[tuple[int, int], list[tuple[int, float, bool]]]
"""By (src, dst): for each token on which both fire, its number, the share lost, whether dst fell silent."""


@torch.no_grad()
def every_removal(
    model: Any, up: LoadedSae, down: LoadedSae, rows: Sequence[NDArray[np.int32]], sample: TokenSample
) -> tuple[Losses, dict[int, list[int]]]:
    """Return what every removal takes away, and the tokens on which each downstream feature fires."""
    losses: Losses = {}
    fires: dict[int, list[int]] = {}
    for token, (row, position) in enumerate(zip(sample.row, sample.position, strict=True)):
        ids = torch.from_numpy(rows[row][: position + 1].astype(np.int64))[None]
        clean = run(model, ids, up, down, None)
        before = encode(down, clean["left"], model)[0]
        for dst in torch.nonzero(before)[:, 0].tolist():
            fires.setdefault(dst, []).append(token)
        for src in torch.nonzero(encode(up, clean["read"], model)[0])[:, 0].tolist():
            after = encode(
                down, run(model, ids, up, down, moved(model, up, clean["read"], src))["left"], model
            )[0]
            for dst in torch.nonzero(before)[:, 0].tolist():
                lost = 1 - float(after[dst]) / float(before[dst])
                losses.setdefault((src, dst), []).append((token, lost, float(after[dst]) == 0))
    return losses, fires


def moved(model: Any, up: LoadedSae, read: torch.Tensor, src: int) -> torch.Tensor:
    """Return by how much the tensor that an SAE rebuilds moves without a feature, (width,)."""
    assert up.reading is not None
    codes = encode(up, read, model)
    less = codes.clone()
    less[0, src] = 0
    without = up.decode(less, sae_input(read, up.reading, model))
    encode(up, read, model)  # some SAEs remember the scale of it for one decoding
    delta = (without - up.decode(codes, sae_input(read, up.reading, model)))[0]
    return delta - delta.mean() if up.reading.rebuilt.form == "centred" else delta


def figures(
    losses: Losses, fires: Mapping[int, list[int]], weight: NDArray[np.float64]
) -> dict[tuple[int, int], tuple[float, ...]]:
    """Return the columns of `PairEffects` for each pair, token by token from their definitions."""
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    for (src, dst), entries in sorted(losses.items()):
        share, silent = dict.fromkeys(fires[dst], 0.0), dict.fromkeys(fires[dst], 0.0)
        for token, lost, gone in entries:
            share[token], silent[token] = lost, float(gone)
        x, w = np.array([share[token] for token in fires[dst]]), weight[fires[dst]]
        both = weight[[token for token, _, _ in entries]]
        mean, n = float(w @ x / w.sum()), len(x)
        error = np.sqrt(n / (n - 1) * (w**2 @ (x - mean) ** 2)) / w.sum() if n > 1 else np.nan
        change = float(both @ [lost for _, lost, _ in entries] / both.sum())
        silenced = float(w @ [silent[token] for token in fires[dst]] / w.sum())
        found[src, dst] = (mean, n, float(error), silenced, change, len(entries))
    return found
