"""Gradient times activation: how much of a feature's activation the features of any earlier SAE carry.

The activation of the target at one token is differentiated with respect to the tensor that each upstream SAE
writes, at all tokens before and including that one, in one backward pass. A feature u carries the sum over
those tokens of a_u * <what u writes, gradient>, as a share of the target's activation.

Source: arXiv 2403.19647 (Marks et al., sparse feature circuits), equation 1 with the baseline 0; as a share
of the target and over all source tokens: ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featgraph.activations.massive import is_massive
from featgraph.core.arrays import Indices
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.hooks import End, Reading, on_tensor, sae_input
from featgraph.suite.sae import tokens_at_once

if TYPE_CHECKING:
    import torch

ROWS = 16
"""Rows of text in one backward pass: few enough that the tensors of all blocks fit beside the SAEs."""


@dataclass(frozen=True)
class TargetTokens:
    """One token in each of some rows of text, at which the target fires, (n_rows,)."""

    rows: Sequence[NDArray[np.int32]]
    """Token ids of each row, up to the token or further."""
    position: Indices
    counted: Sequence[NDArray[np.bool_]]
    """Which tokens of each row count; features at the others carry nothing."""

    def batches(self) -> "Iterator[TargetTokens]":
        """Yield ROWS rows at a time, the longest first so that little is padded."""
        order = np.argsort(-self.position, kind="stable")
        for start in range(0, len(order), ROWS):
            places = order[start : start + ROWS]
            rows, counted = ([part[place] for place in places] for part in (self.rows, self.counted))
            yield TargetTokens(rows, self.position[places], counted)


class CarriedSums:
    """Sums over target tokens of what each feature of one SAE carries, (n_features,)."""

    def __init__(self, n_features: int) -> None:
        self.total, self.squares, self.at_token = np.zeros((3, n_features))
        self.n = 0

    def add(self, shares: "torch.Tensor", at_token: "torch.Tensor") -> None:
        """Add some rows, (n_rows, n_features) each: over all tokens, and at the target's own."""
        by_row = shares.double().cpu().numpy()
        self.total += by_row.sum(axis=0)
        self.squares += (by_row**2).sum(axis=0)
        self.at_token += at_token.double().sum(dim=0).cpu().numpy()
        self.n += len(by_row)

    @property
    def attribution(self) -> NDArray[np.float64]:
        """Mean share of the target's activation that each feature carries."""
        return self.total / max(self.n, 1)

    @property
    def same_token(self) -> NDArray[np.float64]:
        """The part of it that comes from the target's own token."""
        return self.at_token / max(self.n, 1)

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard error of the mean over target tokens; NaN for a single one."""
        if self.n < 2:
            return np.full(len(self.total), np.nan)
        spread = np.maximum(self.squares - self.total**2 / self.n, 0)
        return np.sqrt(spread / (self.n - 1) / self.n)


def carried(
    model: LanguageModel,
    target: LoadedSae,
    idx: int,
    upstream: Mapping[int, LoadedSae],
    tokens: TargetTokens,
) -> dict[int, CarriedSums]:
    """Return what the features of each upstream SAE carry of feature `idx` of another, by SAE number."""
    sums = {number: CarriedSums(len(loaded.directions)) for number, loaded in upstream.items()}
    with without_weight_gradients(model):
        for batch in tokens.batches():
            _add_batch(model, target, idx, upstream, batch, sums)
    return sums


def _add_batch(
    model: LanguageModel,
    target: LoadedSae,
    idx: int,
    upstream: Mapping[int, LoadedSae],
    tokens: TargetTokens,
    sums: Mapping[int, CarriedSums],
) -> None:
    import torch

    assert target.reading is not None
    assert target.sae is not None
    ids, counted = padded(tokens)
    text = _Text(model, target.reading, [loaded.reading for loaded in upstream.values() if loaded.reading])
    text.run(ids)
    rows, position = torch.arange(len(ids)), torch.from_numpy(tokens.position)
    with torch.enable_grad():
        read = sae_input(text.read[target.reading][rows, position].float(), target.reading, model.model)
        active = target.sae.encode(read)[:, idx]
        kept = active.detach() > 0
        share = (active[kept] / active[kept].detach()).sum()
    written = [loaded.reading.rebuilt for loaded in upstream.values() if loaded.reading]
    places = list(dict.fromkeys((one.module, one.end) for one in written))
    gradients = torch.autograd.grad(share, [text.leaves[place] for place in places], allow_unused=True)
    by_place = dict(zip(places, gradients, strict=True))
    for number, loaded in upstream.items():
        assert loaded.reading is not None
        gradient = by_place[loaded.reading.rebuilt.module, loaded.reading.rebuilt.end]
        if gradient is not None:
            _add_sae(sums[number], loaded, text, gradient, counted, position, kept)


def _add_sae(
    sums: CarriedSums,
    loaded: LoadedSae,
    text: "_Text",
    gradient: "torch.Tensor",
    counted: "torch.Tensor",
    position: "torch.Tensor",
    kept: "torch.Tensor",
) -> None:
    """Add what the features of one SAE carry in the rows whose target fired."""
    import torch

    assert loaded.reading is not None
    row, place = torch.nonzero(counted & kept[:, None], as_tuple=True)
    read = sae_input(text.read[loaded.reading][row, place].float(), loaded.reading, text.model.model)
    slopes = gradient[row, place].float()
    if loaded.reading.rebuilt.form == "centred":
        slopes = slopes - slopes.mean(dim=-1, keepdim=True)
    rebuilt = text.read[loaded.reading.rebuilt][row, place].float()
    massive = torch.from_numpy(is_massive(rebuilt, loaded)).to(row.device)
    n_rows, n_features = len(counted), len(sums.total)
    shares, at_token = torch.zeros((2, n_rows, n_features), device=row.device)
    size = tokens_at_once(n_features)
    for start in range(0, len(row), size):
        some = slice(start, start + size)
        carried_here = _products(loaded, read[some], slopes[some], massive[some])
        shares.index_add_(0, row[some], carried_here)
        own = place[some] == position[row[some]]
        at_token.index_add_(0, row[some][own], carried_here[own])
    sums.add(shares[kept], at_token[kept])


def _products(
    loaded: LoadedSae, read: "torch.Tensor", slopes: "torch.Tensor", massive: "torch.Tensor"
) -> "torch.Tensor":
    """Return activation times slope along what each feature writes, (n_tokens, n_features).

    The slope is the derivative of <decode(codes), slopes> with respect to the codes, so it has whatever scale
    the SAE decodes at.
    """
    import torch

    assert loaded.sae is not None
    with torch.no_grad():
        codes = loaded.sae.encode(read)
        codes[massive] = 0
    with torch.enable_grad():
        leaf = codes.detach().clone().requires_grad_()
        decoded = loaded.decode(leaf, read)
        (slope,) = torch.autograd.grad(decoded, leaf, slopes.to(decoded))
    products: torch.Tensor = codes * slope
    return products


def padded(tokens: TargetTokens) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return token ids up to the last target, and which tokens up to their own target count.

    Both are (n_rows, length).
    """
    import torch

    length = int(tokens.position.max()) + 1
    ids = torch.zeros((len(tokens.rows), length), dtype=torch.int64)
    counted = torch.zeros((len(tokens.rows), length), dtype=torch.bool)
    for number, row in enumerate(tokens.rows):
        part = row[:length].astype(np.int64)
        ids[number, : len(part)] = torch.from_numpy(part)
        own = tokens.counted[number][: int(tokens.position[number]) + 1]
        counted[number, : len(own)] = torch.from_numpy(own)
    return ids, counted


class _Read(Exception):
    """Ends a forward pass once the target's SAE has its input."""


class _Text:
    """What SAEs read in some rows of text, and a zero added to each tensor that one writes."""

    def __init__(self, model: LanguageModel, last: Reading, readings: Sequence[Reading]) -> None:
        self.model = model
        self.read: dict[Reading, torch.Tensor] = {}
        """Raw tensors, (n_rows, length, d); with their history for the target's."""
        self.leaves: dict[tuple[str, End], torch.Tensor] = {}
        self._last = last
        self._readings = readings

    def run(self, ids: "torch.Tensor") -> None:
        """Run the model up to the target's SAE."""
        import torch

        with ExitStack() as hooks, torch.enable_grad():
            # The target's hook comes after those of upstream SAEs at the same module.
            for reading in dict.fromkeys(self._readings):
                self._hook(hooks, reading, self._keep(reading))
                if reading.target is not None:
                    self._hook(hooks, reading.target, self._keep(reading.target))
            for path, end in dict.fromkeys((one.rebuilt.module, one.rebuilt.end) for one in self._readings):
                module = self.model.model.get_submodule(path)
                hooks.callback(on_tensor(module, end, self._leaf((path, end))).remove)
            self._hook(hooks, self._last, self._stop)
            with suppress(_Read):
                self.model.model.base_model(ids.to(self.model.device), use_cache=False)

    def _hook(self, hooks: ExitStack, reading: Reading, change: Any) -> None:
        module = self.model.model.get_submodule(reading.module)
        hooks.callback(on_tensor(module, reading.end, change).remove)

    def _keep(self, reading: Reading) -> Any:
        def keep(tensor: "torch.Tensor") -> None:
            self.read[reading] = tensor.detach()

        return keep

    def _leaf(self, place: tuple[str, End]) -> Any:
        def add(tensor: "torch.Tensor") -> "torch.Tensor":
            import torch

            leaf = torch.zeros_like(tensor, requires_grad=True)
            self.leaves[place] = leaf
            return tensor + leaf

        return add

    def _stop(self, tensor: "torch.Tensor") -> None:
        self.read[self._last] = tensor
        raise _Read


@contextmanager
def without_weight_gradients(model: LanguageModel) -> Iterator[None]:
    """Let no derivative reach the model's weights while the context is open."""
    wanted = [weight for weight in model.model.parameters() if weight.requires_grad]
    for weight in wanted:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in wanted:
            weight.requires_grad_(True)
