"""Removing features from a language model: one upstream feature at one token each, many in one pass.

`Intervention` takes the feature out of a copy of the token; the model runs on up to the downstream SAE, which
encodes the token and its copy.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.copies import copying, read_until
from featgraph.activations.tokens import BATCH_TOKENS
from featgraph.core.arrays import Indices, Matrix
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.hooks import Change, End, on_tensor, sae_input
from featgraph.suite.intervention import Intervention, Places
from featgraph.suite.sae import tokens_at_once

if TYPE_CHECKING:
    import torch

MAX_COPIES = 128
"""Most copies in one row; a row with more is read again. Their attention grows with the square."""


@dataclass(frozen=True)
class Removals:
    """Removals to make, one entry each; arrays of one length."""

    row: Indices
    """Row of the text."""
    position: Indices
    """Place of the token in it."""
    sae: Indices
    """The upstream SAE."""
    src: Indices
    """The feature that is removed, within its SAE."""
    dst: Indices
    """The feature that is read, within the downstream SAE."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, places: Indices) -> "Removals":
        """Return some of them."""
        return Removals(*(getattr(self, name)[places] for name in self.__dataclass_fields__))


class Effects(NamedTuple):
    """Activations with and without the removed features, (n,)."""

    removed: Matrix
    """Activation of the upstream feature, 0 where it was silent."""
    before: Matrix
    """Activation of the downstream feature with it."""
    after: Matrix
    """And without."""

    @property
    def valid(self) -> Indices:
        """Places where both fired; a feature that barely fired in another batch may be silent here."""
        return np.flatnonzero((self.removed != 0) & (self.before != 0))

    @property
    def change(self) -> Matrix:
        """1 - activation after / before: 1 = silenced, 0 = unchanged, below 0 = strengthened; NaN if silent.

        Source: arXiv 2502.03032 v3, section 5.2, activation change."""
        with np.errstate(divide="ignore", invalid="ignore"):
            change: Matrix = np.where(self.before != 0, 1 - self.after / self.before, np.nan)
        return change

    @property
    def silenced(self) -> NDArray[np.bool_]:
        """Whether the downstream feature fell silent."""
        silenced: NDArray[np.bool_] = self.after == 0
        return silenced


class Remover:
    """One downstream SAE, and the SAEs whose features are removed."""

    def __init__(
        self, model: LanguageModel, upstream: Mapping[int, LoadedSae], downstream: LoadedSae
    ) -> None:
        """upstream: by number; all before the downstream SAE, which reads the residual stream."""
        self.model, self.upstream, self.downstream = model, upstream, downstream
        first = min(loaded.block + (loaded.site == "res") for loaded in upstream.values())
        self.blocks = range(first, downstream.block + 1)

    def __call__(
        self, rows: Sequence[NDArray[np.int32]], removals: Removals
    ) -> Iterator[tuple[Indices, Effects]]:
        """Yield, batch by batch, places of removals and their effects; rows: token ids of the text."""
        import torch

        for batch in _batches(removals):
            chosen = [removals.take(places) for places in batch]
            width = max(len(part) for part in chosen)
            # Tokens after the last one that is changed do not matter.
            length = max(int(part.position.max()) for part in chosen) + 1
            ids = torch.zeros((len(chosen), length), dtype=torch.int64)
            at = torch.zeros((len(chosen), width), dtype=torch.int64)
            for number, part in enumerate(chosen):
                row = rows[part.row[0]][:length]
                ids[number, : len(row)] = torch.from_numpy(row.astype(np.int64))
                at[number, : len(part)] = torch.from_numpy(part.position)
            yield np.concatenate(batch), self._read(ids, at, chosen)

    def _read(self, ids: "torch.Tensor", at: "torch.Tensor", chosen: Sequence[Removals]) -> Effects:
        """Return the effects of the removals of each row."""
        import torch

        device = self.model.device
        ids, at = ids.to(device), at.to(device)
        row = torch.cat([torch.full((len(part),), n) for n, part in enumerate(chosen)]).to(device)
        copy = torch.cat([torch.arange(len(part)) for part in chosen]).to(device) + ids.shape[1]
        sae = np.concatenate([part.sae for part in chosen])
        src, dst = (
            torch.from_numpy(np.concatenate([getattr(part, end) for part in chosen])).to(device)
            for end in ("src", "dst")
        )
        removed = torch.zeros(len(sae), device=device)
        with ExitStack() as hooks:
            hooks.enter_context(copying(self.model, self.blocks, at))
            removals = []
            for number, loaded in self.upstream.items():
                mine = torch.from_numpy(np.flatnonzero(sae == number)).to(device)
                if len(mine):
                    removal = _Removal(src[mine])
                    places = _constant((row[mine], copy[mine]))
                    change = Intervention(loaded, self.model.model, removal, places)
                    for module, end, hook in removal_hooks(self.model, change):
                        hooks.callback(on_tensor(self.model.model.get_submodule(module), end, hook).remove)
                    removals.append((mine, removal))
            left = read_until(self.model, self.downstream.block, ids)
        for mine, removal in removals:
            removed[mine] = removal.removed
        before = self._encoded(left[row, at[row, copy - ids.shape[1]]], dst)
        after = self._encoded(left[row, copy], dst)
        return Effects(*(part.cpu().numpy() for part in (removed, before, after)))

    def _encoded(self, tensor: "torch.Tensor", dst: "torch.Tensor") -> "torch.Tensor":
        """Return the activation of one downstream feature per row of a tensor."""
        import torch

        loaded = self.downstream
        assert loaded.reading is not None
        assert loaded.sae is not None
        activations = []
        with torch.inference_mode():
            read = sae_input(tensor.float(), loaded.reading, self.model.model)
            size = tokens_at_once(loaded.sae.cfg.d_sae)
            for part, idx in zip(read.split(size), dst.split(size), strict=True):
                activations.append(loaded.sae.encode(part).gather(1, idx[:, None])[:, 0])
        return torch.cat(activations)


class _Removal:
    """Takes one feature's activation out of the codes of each copied token of one SAE."""

    def __init__(self, src: "torch.Tensor") -> None:
        """src: the feature of each token, (n,), within its SAE."""
        self.src = src
        self.removed = src.new_zeros(len(src)).float()
        """Activation that each had."""

    def __call__(self, codes: "torch.Tensor", tokens: slice) -> "torch.Tensor":
        """Return what is added to codes, (n, n_features)."""
        idx = self.src[tokens][:, None]
        active = codes.gather(1, idx)
        self.removed[tokens] = active[:, 0]
        return codes.new_zeros(codes.shape).scatter_(1, idx, -active)


def _constant(index: "tuple[torch.Tensor, torch.Tensor]") -> Places:
    """Return an index that does not depend on the tensor."""
    return lambda _hidden: index


def removal_hooks(model: LanguageModel, intervention: Intervention) -> Iterator[tuple[str, End, Change]]:
    """Yield where an intervention on copied tokens belongs.

    What a block leaves is what the next one is given, and there copies begin.
    """
    if intervention.loaded.site == "res":
        yield f"{model.blocks.path}.{intervention.loaded.block + 1}", "input", intervention.apply
    else:
        yield from intervention.hooks()


def _batches(removals: Removals) -> Iterator[list[Indices]]:
    """Yield places of removals, in batches of rows of about BATCH_TOKENS tokens, copies included."""
    order = np.lexsort((removals.position, removals.row))
    ends = np.flatnonzero(np.diff(removals.row[order])) + 1
    rows = [
        part[start : start + MAX_COPIES]
        for part in np.split(order, ends)
        for start in range(0, len(part), MAX_COPIES)
    ]
    rows = [row for row in rows if len(row)]
    rows.sort(key=lambda row: (-int(removals.position[row].max()), -len(row)))
    batch: list[Indices] = []
    length = width = 0
    for row in rows:
        longest, widest = max(length, int(removals.position[row].max()) + 1), max(width, len(row))
        if batch and (len(batch) + 1) * (longest + widest) > BATCH_TOKENS:
            yield batch
            batch, longest, widest = [], int(removals.position[row].max()) + 1, len(row)
        batch.append(row)
        length, width = longest, widest
    if batch:
        yield batch
