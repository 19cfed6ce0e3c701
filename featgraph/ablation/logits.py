"""What a feature does to the next token: the change of every logit along what the feature writes.

Activation times derivative, in one forward pass with the derivative carried along, so that all logits come at
once.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.gradients import TargetTokens, padded, without_weight_gradients
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.hooks import on_tensor, sae_input

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LogitChanges:
    """Mean change of each logit over the tokens on which a feature fires, (n_vocabulary,)."""

    mean: NDArray[np.float64]
    """In logits, less the mean over the vocabulary, which no probability depends on."""
    error: NDArray[np.float64]
    """Its standard error over tokens; NaN for a single one."""
    n: int


def logit_changes(model: LanguageModel, loaded: LoadedSae, idx: int, tokens: TargetTokens) -> LogitChanges:
    """Return how feature `idx` of an SAE changes the logits after the tokens on which it fires."""
    total, squares = np.zeros((2, model.n_vocabulary))
    n = 0
    with without_weight_gradients(model):
        for batch in tokens.batches():
            changes = _changes(model, loaded, idx, batch).double()
            centred = (changes - changes.mean(dim=-1, keepdim=True)).cpu().numpy()
            total += centred.sum(axis=0)
            squares += (centred**2).sum(axis=0)
            n += len(centred)
    mean = total / n
    if n < 2:
        return LogitChanges(mean, np.full(len(mean), np.nan), n)
    spread = np.maximum(squares - n * mean**2, 0)
    return LogitChanges(mean, np.sqrt(spread / (n - 1) / n), n)


def _changes(model: LanguageModel, loaded: LoadedSae, idx: int, tokens: TargetTokens) -> "torch.Tensor":
    """Return the change of all logits after each token, (n_rows, n_vocabulary)."""
    import torch
    from torch.autograd import forward_ad
    from torch.nn.attention import SDPBackend, sdpa_kernel

    assert loaded.reading is not None
    ids, _ = padded(tokens)
    rows, position = torch.arange(len(ids)), torch.from_numpy(tokens.position)
    kept: dict[str, torch.Tensor] = {}

    def read(tensor: "torch.Tensor") -> None:
        kept["read"] = tensor[rows, position]

    def write(tensor: "torch.Tensor") -> "torch.Tensor":
        primal = forward_ad.unpack_dual(tensor).primal
        moved = _written(model, loaded, idx, kept["read"].float())
        tangent = torch.zeros_like(primal)
        tangent[rows, position] = moved.to(primal)
        dual: torch.Tensor = forward_ad.make_dual(primal, tangent)
        return dual

    reading, written = loaded.reading, loaded.reading.rebuilt
    with ExitStack() as hooks, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        hooks.enter_context(warnings.catch_warnings())
        # torch compiles its forward derivatives with torch.jit.script, which it announces to drop.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        hooks.enter_context(forward_ad.dual_level())
        hooks.callback(on_tensor(model.model.get_submodule(reading.module), reading.end, read).remove)
        hooks.callback(on_tensor(model.model.get_submodule(written.module), written.end, write).remove)
        hooks.enter_context(_only(model, rows, position))
        logits = model.model(ids.to(model.device), use_cache=False).logits[:, 0]
        tangent = forward_ad.unpack_dual(logits).tangent
    assert tangent is not None, "the logits depend on every place of the residual stream"
    changes: torch.Tensor = tangent.float()
    return changes


def _written(model: LanguageModel, loaded: LoadedSae, idx: int, read: "torch.Tensor") -> "torch.Tensor":
    """Return what one feature writes at some tokens, (n_tokens, d)."""
    import torch

    assert loaded.reading is not None
    assert loaded.sae is not None
    activations = sae_input(read, loaded.reading, model.model)
    codes = loaded.sae.encode(activations)
    own = torch.zeros_like(codes)
    own[:, idx] = codes[:, idx]
    moved, nothing = loaded.decode(torch.stack([own, torch.zeros_like(own)]), activations)
    delta: torch.Tensor = moved - nothing
    if loaded.reading.rebuilt.form == "centred":
        delta = delta - delta.mean(dim=-1, keepdim=True)
    return delta


@contextmanager
def _only(model: LanguageModel, rows: "torch.Tensor", position: "torch.Tensor") -> Iterator[None]:
    """Let the output layer compute logits after one token of each row alone."""

    def choose(_module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][rows, position][:, None], *arguments[1:])

    handle = model.model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()
