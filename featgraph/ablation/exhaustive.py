"""Exhaustive removal: every active upstream feature is removed, every active downstream feature is read.

A sampled token is copied once for each feature that is removed from it (see `copies`); blocks run on the
copies alone, and one copy serves all downstream features. A removal moves the upstream SAE's tensor by
decode(change) - decode(0), which is the feature's decoder row times its activation, so the SAE's error stays.

Not seen: features that appear when another one is removed, effects at later tokens, joint removals.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.columns import ColumnEncoder
from featgraph.ablation.effects import EffectAccumulator, EffectSums, PairEffects
from featgraph.ablation.text_pass import TextPass, read_text
from featgraph.activations.encoding import one_thread_per_task
from featgraph.activations.massive import is_massive
from featgraph.activations.tokens import BATCH_TOKENS
from featgraph.core.arrays import Indices
from featgraph.core.progress import Advance
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.hooks import End, on_tensor, sae_input
from featgraph.suite.residual import decoder_rows
from featgraph.suite.sae import tokens_at_once

if TYPE_CHECKING:
    import torch

Pairs = Sequence[tuple[int, int]]
"""Numbers of the upstream and the downstream SAE of each pair; downstream ones read the residual stream."""

COPIES = 64
"""Copies in one row: each attends to the keys of all, so more of them waste time."""

ROWS = 32
"""Rows of copies that run through a block at once: together few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class TokenSample:
    """Tokens of a text at which features are removed, one entry each."""

    row: Indices
    """Row of the text."""
    position: Indices
    """Place in it; tokens that do not count, such as BOS, should be left out."""
    weight: NDArray[np.float64] | None = None
    """1 / probability of being drawn, where tokens are not drawn alike; None for all 1."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, places: Indices) -> "TokenSample":
        """Return some of them."""
        weight = None if self.weight is None else self.weight[places]
        return TokenSample(self.row[places], self.position[places], weight)


def exhaustive_effects(
    model: LanguageModel,
    saes: Mapping[int, LoadedSae],
    rows: Sequence[NDArray[np.int32]],
    sample: TokenSample,
    pairs: Pairs,
    advance: Advance | None = None,
) -> dict[tuple[int, int], PairEffects]:
    """Return the effect of every upstream feature on every downstream one, for each pair of SAEs.

    saes: by number. rows: token ids of the text. advance: counts sampled tokens.

    Raises SourceError: the model's attention takes a mask that is not understood.
    """
    sums = removal_sums(model, saes, rows, sample, pairs, advance)
    return {pair: found.effects() for pair, found in sums.items()}


def removal_sums(
    model: LanguageModel,
    saes: Mapping[int, LoadedSae],
    rows: Sequence[NDArray[np.int32]],
    sample: TokenSample,
    pairs: Pairs,
    advance: Advance | None = None,
) -> dict[tuple[int, int], EffectSums]:
    """Return the sums over removals, to be merged with those of other samples; see `exhaustive_effects`."""
    removal = _Exhaustive(model, saes, pairs)
    with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool, removal.hooked():
        for batch in _batches(sample):
            removal.batch(rows, batch, pool)
            if advance is not None:
                advance(len(batch))
    return {pair: total.sums() for pair, total in removal.totals.items()}


def _batches(sample: TokenSample) -> Iterator[TokenSample]:
    """Yield the sample by rows of the text, in batches of about BATCH_TOKENS tokens, padding included."""
    if not len(sample):
        return
    order = np.lexsort((sample.position, sample.row))
    starts = np.flatnonzero(np.diff(sample.row[order], prepend=-1))
    by_row = np.split(order, starts[1:])
    by_row.sort(key=lambda places: -int(sample.position[places[-1]]))
    start = 0
    while start < len(by_row):
        length = int(sample.position[by_row[start][-1]]) + 1
        chosen = by_row[start : start + max(1, BATCH_TOKENS // length)]
        yield sample.take(np.concatenate(chosen))
        start += len(chosen)


@dataclass(frozen=True)
class _Codes:
    """The active features of one SAE at the sampled tokens of a batch, by token."""

    token: "torch.Tensor"
    """Of each activation, ascending, (n,)."""
    feature: "torch.Tensor"
    activation: "torch.Tensor"
    scale: "torch.Tensor | None"
    """By which decoding multiplies the decoder rows of a token, (n_tokens, 1); None for 1."""


class _Upstream:
    """How the features of one SAE are removed."""

    def __init__(self, model: LanguageModel, loaded: LoadedSae) -> None:
        import torch

        assert loaded.reading is not None
        assert loaded.sae is not None
        self.first = loaded.block + (loaded.site == "res")
        """The block that copies enter first."""
        rebuilt = loaded.reading.rebuilt
        rows = torch.from_numpy(decoder_rows(loaded.sae))
        if rebuilt.form == "centred":
            rows = rows - rows.mean(dim=1, keepdim=True)
        self.rows = rows.to(model.device)
        self.place = None if loaded.site == "res" else (rebuilt.module, rebuilt.end)
        """Where inside the first block the tensor is changed; None: what the block is given."""
        # What is added to the residual stream as it is, after all else that the block does.
        self.added_last = loaded.site == "mlp" and not loaded.writer.modules

    def delta(self, codes: _Codes, entries: "torch.Tensor") -> "torch.Tensor":
        """Return by how much the tensor moves in each removal, (n, width)."""
        delta = self.rows[codes.feature[entries]] * -codes.activation[entries, None]
        return delta if codes.scale is None else delta * codes.scale[codes.token[entries]]


class _Exhaustive:
    """The SAEs of all pairs, and the sums over removals so far."""

    def __init__(self, model: LanguageModel, saes: Mapping[int, LoadedSae], pairs: Pairs) -> None:
        self.model = model
        self.saes = {number: saes[number] for pair in pairs for number in pair}
        self.upstream = {up: _Upstream(model, saes[up]) for up, _ in pairs}
        self.encoders = {down: ColumnEncoder(saes[down]) for _, down in pairs}
        self.by_downstream: dict[int, list[int]] = {}
        for up, down in pairs:
            self.by_downstream.setdefault(down, []).append(up)
        self.totals = {(up, down): EffectAccumulator(self.encoders[down].sae.cfg.d_sae) for up, down in pairs}
        chains = [range(self.upstream[up].first, saes[down].block + 1) for up, down in pairs]
        self.blocks = sorted({block for chain in chains for block in chain})
        self._local = threading.local()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Let a thread change tensors inside a block that it runs on copies."""
        with ExitStack() as hooks:
            for place in {upstream.place for upstream in self.upstream.values()} - {None}:
                assert place is not None
                module = self.model.model.get_submodule(place[0])
                hooks.callback(on_tensor(module, place[1], self._mover(place)).remove)
            yield

    def _mover(self, place: tuple[str, End]) -> Callable[["torch.Tensor"], "torch.Tensor | None"]:
        def move(hidden: "torch.Tensor") -> "torch.Tensor | None":
            moved = getattr(self._local, "move", None)
            return hidden + moved[1].to(hidden) if moved is not None and moved[0] == place else None

        return move

    def batch(self, rows: Sequence[NDArray[np.int32]], sample: TokenSample, pool: ThreadPoolExecutor) -> None:
        """Make all removals at some tokens; sample: by row of the text."""
        numbers, row = np.unique(sample.row, return_inverse=True)
        order = np.argsort(row, kind="stable")
        sample, row = sample.take(order), row[order].astype(np.int64)
        own = [loaded.reading for loaded in self.saes.values() if loaded.reading is not None]
        readings = [one for reading in own for one in (reading, reading.rebuilt)]
        text = read_text(
            self.model, [rows[number] for number in numbers], row, sample.position, readings, self.blocks
        )
        weight = np.ones(len(sample)) if sample.weight is None else sample.weight
        jobs = {number: pool.submit(_encode, loaded, text) for number, loaded in self.saes.items()}
        codes = {number: job.result() for number, job in jobs.items()}
        removing = [
            pool.submit(self._remove, ups, down, text, codes, weight)
            for down, ups in self.by_downstream.items()
        ]
        for job in removing:
            job.result()

    def _remove(
        self,
        ups: Sequence[int],
        down: int,
        text: TextPass,
        codes: Mapping[int, _Codes],
        weight: NDArray[np.float64],
    ) -> None:
        """Remove the features of all SAEs upstream of one."""
        import torch

        with torch.inference_mode():
            active = _padded(codes[down], len(weight))
            feature = codes[down].feature.cpu().numpy()
            token = codes[down].token.cpu().numpy()
            for up in ups:
                total = self.totals[up, down]
                total.fire(feature, weight[token])
                for entries in _groups(codes[up], text.row):
                    self._read(up, down, text, codes[up], entries, active, weight)

    def _read(
        self,
        up: int,
        down: int,
        text: TextPass,
        codes: _Codes,
        entries: list["torch.Tensor"],
        active: "tuple[torch.Tensor, torch.Tensor]",
        weight: NDArray[np.float64],
    ) -> None:
        """Make some removals, and add up what they change.

        entries: places of the activations that are removed, row by row of copies. active: see `_padded`.
        """
        import torch

        loaded = self.saes[down]
        assert loaded.reading is not None
        left = self._without(self.upstream[up], loaded.block, text, codes, entries)
        places = torch.cat(entries)
        token = codes.token[places]
        columns, before = active
        tokens, group = torch.unique_consecutive(token, return_inverse=True)
        read = sae_input(left.float(), loaded.reading, self.model.model)
        after = self.encoders[down](read, group, columns[tokens])
        first = before[token]
        copy, place = torch.nonzero(first, as_tuple=True)
        lost = 1 - (after[copy, place] / first[copy, place]).double()
        self.totals[up, down].add(
            codes.feature[places][copy].cpu().numpy(),
            columns[token[copy], place].cpu().numpy(),
            weight[token[copy].cpu().numpy()],
            lost.cpu().numpy(),
            (after[copy, place] == 0).cpu().numpy(),
        )

    def _without(
        self,
        upstream: _Upstream,
        last: int,
        text: TextPass,
        codes: _Codes,
        entries: list["torch.Tensor"],
    ) -> "torch.Tensor":
        """Return the residual stream after block `last` at each copy, (n_copies, d_model)."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        places = torch.cat(entries)
        delta, token = upstream.delta(codes, places), codes.token[places]
        if upstream.added_last and upstream.first == last:
            return text.leaving[last][token] + delta.to(text.leaving[last])
        lengths = [len(part) for part in entries]
        at = pad_sequence([text.position[codes.token[part]] for part in entries], batch_first=True)
        row = torch.stack([text.row[codes.token[part[0]]] for part in entries])
        moved = pad_sequence(list(delta.split(lengths)), batch_first=True)
        hidden = pad_sequence(list(text.entering[upstream.first][token].split(lengths)), batch_first=True)
        if upstream.place is None:
            hidden = hidden + moved.to(hidden)
        for block in range(upstream.first, last + 1):
            self._local.move = (upstream.place, moved) if block == upstream.first else None
            hidden = text.run(block, hidden, row, at)
        self._local.move = None
        return torch.cat([hidden[number, :length] for number, length in enumerate(lengths)])


def _encode(loaded: LoadedSae, text: TextPass) -> _Codes:
    """Encode the sampled tokens with one SAE; nothing fires on tokens of massive activations."""
    import torch

    assert loaded.reading is not None
    assert loaded.sae is not None
    tokens, features, activations, scales = [], [], [], []
    size = tokens_at_once(loaded.sae.cfg.d_sae)
    scaled = loaded.sae.cfg.normalize_activations != "none"
    massive = torch.from_numpy(is_massive(text.read[loaded.reading.rebuilt], loaded))
    with torch.inference_mode():
        for number, part in enumerate(text.read[loaded.reading].split(size)):
            dense = loaded.sae.encode(part)
            dense[massive[number * size :][: len(part)].to(dense.device)] = 0
            if scaled:
                scales.append(_scale(loaded, dense, part))
            token, feature = torch.nonzero(dense, as_tuple=True)
            tokens.append(token + number * size)
            features.append(feature)
            activations.append(dense[token, feature])
        scale = torch.cat(scales) if scaled else None
        return _Codes(torch.cat(tokens), torch.cat(features), torch.cat(activations), scale)


def _scale(loaded: LoadedSae, codes: "torch.Tensor", read: "torch.Tensor") -> "torch.Tensor":
    """Return by which decoding multiplies the decoder rows of the tokens just encoded, (n_tokens, 1)."""
    import torch

    rows = torch.from_numpy(decoder_rows(loaded.sae)).to(codes)
    longest = int(rows.norm(dim=1).argmax())
    one = torch.zeros_like(codes)
    one[:, longest] = 1
    decoded, nothing = loaded.decode(torch.stack([one, torch.zeros_like(one)]), read)
    scale: torch.Tensor = (decoded - nothing) @ rows[longest] / rows[longest].square().sum()
    return scale[:, None]


def _padded(codes: _Codes, n_tokens: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the active features of each token and their activations, (n_tokens, k); 0, 0 for padding."""
    import torch

    counts = torch.bincount(codes.token, minlength=n_tokens)
    slot = torch.arange(len(codes.token), device=counts.device) - (counts.cumsum(0) - counts)[codes.token]
    width = max(1, int(counts.max())) if n_tokens else 1
    columns = codes.feature.new_zeros(n_tokens, width)
    activations = codes.activation.new_zeros(n_tokens, width)
    columns[codes.token, slot] = codes.feature
    activations[codes.token, slot] = codes.activation
    return columns, activations


def _groups(codes: _Codes, row: "torch.Tensor") -> Iterator[list[Any]]:
    """Yield places of activations: up to ROWS rows of COPIES activations, each within one row of text."""
    import torch

    by_row = row[codes.token]
    counts = torch.unique_consecutive(by_row, return_counts=True)[1].tolist() if len(by_row) else []
    parts: list[Any] = []
    for places in torch.arange(len(by_row), device=row.device).split(counts):
        parts += places.split(COPIES)
    for start in range(0, len(parts), ROWS):
        yield parts[start : start + ROWS]
