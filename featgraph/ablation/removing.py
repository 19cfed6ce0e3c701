"""Features taken out of a language model, one upstream feature at one token at a time, many in one pass.

The tensor that the upstream SAE rebuilds moves by what the SAE decodes without the feature less what it
decodes with it, so its error stays. The model makes the rest up to the downstream SAE, which encodes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.copies import copying, read_until
from featgraph.activations.encoding import group_size
from featgraph.activations.forward import formed
from featgraph.activations.tokens import BATCH_TOKENS
from featgraph.core.arrays import Indices, Matrix
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.hooks import on_tensor

if TYPE_CHECKING:
    import torch

MAX_COPIES = 128
"""Most copies in one row; a row with more to change is read again. Their attention grows with the square."""


@dataclass(frozen=True)
class Removals:
    """What is to be removed, one entry each; arrays of one length."""

    piece: Indices
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
        return len(self.piece)

    def take(self, places: Indices) -> "Removals":
        """Return some of them."""
        return Removals(*(getattr(self, name)[places] for name in self.__dataclass_fields__))


class Effects(NamedTuple):
    """What came of each removal, (n,)."""

    removed: Matrix
    """Activation of the upstream feature, 0 where there was nothing to remove."""
    before: Matrix
    """Activation of the downstream feature with it."""
    after: Matrix
    """And without."""

    @property
    def valid(self) -> Indices:
        """Places where both fired; what fired only just in another batch of text may be silent here."""
        return np.flatnonzero((self.removed != 0) & (self.before != 0))

    @property
    def change(self) -> Matrix:
        """1 - activation after / before: 1 = silenced, 0 = as it was, below 0 = strengthened; NaN if silent.

        Source: arXiv 2502.03032 v3, section 5.2, activation change."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Matrix = np.where(self.before != 0, 1 - self.after / self.before, np.nan)
        return found

    @property
    def silenced(self) -> NDArray[np.bool_]:
        """Whether the downstream feature fell silent, as the success rate counts."""
        silenced: NDArray[np.bool_] = self.after == 0
        return silenced


class Remover:
    """One downstream SAE, and the SAEs whose features are removed."""

    def __init__(
        self, model: LanguageModel, upstream: Mapping[int, LoadedSae], downstream: LoadedSae
    ) -> None:
        """upstream: by sae; all of them before the downstream one, which reads the residual stream."""
        self.model, self.upstream, self.downstream = model, upstream, downstream
        first = min(loaded.block + (loaded.site == "res") for loaded in upstream.values())
        self.blocks = range(first, downstream.block + 1)

    def __call__(
        self, rows: Sequence[NDArray[np.int32]], removals: Removals
    ) -> Iterator[tuple[Indices, Effects]]:
        """Yield, batch by batch, which removals were made and what came of them; rows: those of the text."""
        import torch

        for batch in _batches(removals):
            chosen = [removals.take(places) for places in batch]
            width = max(len(part) for part in chosen)
            # What comes after the last token that is changed is not needed.
            length = max(int(part.position.max()) for part in chosen) + 1
            ids = torch.zeros((len(chosen), length), dtype=torch.int64)
            at = torch.zeros((len(chosen), width), dtype=torch.int64)
            for number, part in enumerate(chosen):
                row = rows[part.piece[0]][:length]
                ids[number, : len(row)] = torch.from_numpy(row.astype(np.int64))
                at[number, : len(part)] = torch.from_numpy(part.position)
            yield np.concatenate(batch), self._read(ids, at, chosen)

    def _read(self, ids: "torch.Tensor", at: "torch.Tensor", chosen: Sequence[Removals]) -> Effects:
        """Return what came of the removals of each row."""
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
            made = []
            for number, loaded in self.upstream.items():
                mine = torch.from_numpy(np.flatnonzero(sae == number)).to(device)
                if len(mine):
                    removal = _Removal(self.model, loaded, row[mine], copy[mine], src[mine])
                    made.append((mine, hooks.enter_context(removal)))
            left = read_until(self.model, self.downstream.block, ids)
        for mine, removal in made:
            removed[mine] = removal.removed
        before = self._encoded(left[row, at[row, copy - ids.shape[1]]], dst)
        after = self._encoded(left[row, copy], dst)
        return Effects(*(part.cpu().numpy() for part in (removed, before, after)))

    def _encoded(self, tensor: "torch.Tensor", dst: "torch.Tensor") -> "torch.Tensor":
        """Return one activation per row of a tensor, that of the feature that is read there."""
        import torch

        loaded = self.downstream
        assert loaded.reading is not None
        assert loaded.sae is not None
        found = []
        with torch.inference_mode():
            read = formed(tensor.float(), loaded.reading, self.model.model)
            size = group_size(loaded.sae.cfg.d_sae)
            for part, idx in zip(read.split(size), dst.split(size), strict=True):
                found.append(loaded.sae.encode(part).gather(1, idx[:, None])[:, 0])
        return torch.cat(found)


class _Removal:
    """Hooks that take features of one SAE out of copied tokens."""

    def __init__(
        self,
        model: LanguageModel,
        loaded: LoadedSae,
        row: "torch.Tensor",
        copy: "torch.Tensor",
        src: "torch.Tensor",
    ) -> None:
        self.model, self.loaded, self.row, self.copy, self.src = model, loaded, row, copy, src
        self._hooks = ExitStack()

    def __enter__(self) -> "_Removal":
        model, reading = self.model.model, self.loaded.reading
        assert reading is not None
        if self.loaded.site == "res":
            # What a block leaves is what the next one is given, where copies begin.
            block = model.get_submodule(f"{self.model.blocks.path}.{self.loaded.block + 1}")
            self._hooks.callback(on_tensor(block, "input", self._through).remove)
            return self
        look = self._look if reading.target else self._through
        self._hooks.callback(on_tensor(model.get_submodule(reading.module), reading.end, look).remove)
        if reading.target:
            writes = model.get_submodule(reading.target.module)
            self._hooks.callback(on_tensor(writes, reading.target.end, self._move).remove)
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.close()

    def _through(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that the SAE reads and rebuilds, changed."""
        self._look(tensor)
        return self._move(tensor)

    def _look(self, tensor: "torch.Tensor") -> None:
        """Find what is to be removed, and change nothing yet."""
        import torch

        loaded, deltas, removed = self.loaded, [], []
        assert loaded.reading is not None
        assert loaded.sae is not None
        read = formed(tensor[self.row, self.copy].float(), loaded.reading, self.model.model)
        size = group_size(loaded.sae.cfg.d_sae)
        for part, idx in zip(read.split(size), self.src.split(size), strict=True):
            codes = loaded.sae.encode(part)
            active = codes.gather(1, idx[:, None])
            removed.append(active[:, 0])
            change = torch.zeros_like(codes).scatter_(1, idx[:, None], -active)
            # Both at once, because some SAEs remember the scale of what they encoded for one decoding.
            further, nothing = loaded.decode(torch.stack([change, torch.zeros_like(change)]), part)
            deltas.append(further - nothing)
        delta = torch.cat(deltas)
        centred = loaded.reading.rebuilt.form == "centred"
        self._delta = delta - delta.mean(dim=-1, keepdim=True) if centred else delta
        self.removed = torch.cat(removed)

    def _move(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that the SAE rebuilds, changed by what was found before."""
        changed = tensor.clone()
        changed[self.row, self.copy] += self._delta.to(tensor.dtype)
        return changed


def _batches(removals: Removals) -> Iterator[list[Indices]]:
    """Yield places of removals, in batches of rows of about BATCH_TOKENS tokens, copies included."""
    order = np.lexsort((removals.position, removals.piece))
    ends = np.flatnonzero(np.diff(removals.piece[order])) + 1
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
