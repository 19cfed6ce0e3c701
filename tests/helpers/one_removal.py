"""Features removed the plain way: one full run of the model for each, with a hook that changes one token."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featgraph.ablation.removing import Effects, Removals
from featgraph.suite import LoadedSae
from featgraph.suite.hooks import sae_input


@torch.no_grad()
def one_by_one(
    model: Any,
    upstream: Mapping[int, LoadedSae],
    downstream: LoadedSae,
    rows: Sequence[NDArray[np.int32]],
    removals: Removals,
) -> Effects:
    """A full forward pass of the text up to the token, for each removal: clean, then changed by a hook."""
    found = []
    for number in range(len(removals)):
        entry = removals.take(np.array([number]))
        up, position = upstream[int(entry.sae[0])], int(entry.position[0])
        ids = torch.from_numpy(rows[int(entry.row[0])][: position + 1].astype(np.int64))[None]
        clean = run(model, ids, up, downstream, None)
        codes = encode(up, clean["read"], model)
        less = codes.clone()
        less[0, int(entry.src[0])] = 0
        assert up.reading is not None
        read = sae_input(clean["read"], up.reading, model)
        delta = up.decode(less, read)
        encode(up, clean["read"], model)  # some SAEs remember the scale of it for one decoding
        delta = delta - up.decode(codes, read)
        if up.reading.rebuilt.form == "centred":
            delta = delta - delta.mean()
        changed = run(model, ids, up, downstream, delta[0])
        at = int(entry.dst[0])
        before, after = (encode(downstream, kept["left"], model)[0, at] for kept in (clean, changed))
        found.append((float(codes[0, int(entry.src[0])]), float(before), float(after)))
    return Effects(*(np.array(column, dtype=np.float32) for column in zip(*found, strict=True)))


def encode(loaded: LoadedSae, tensor: torch.Tensor, model: Any) -> torch.Tensor:
    assert loaded.reading is not None
    assert loaded.sae is not None
    codes: torch.Tensor = loaded.sae.encode(sae_input(tensor, loaded.reading, model))
    return codes


def run(
    model: Any, ids: torch.Tensor, up: LoadedSae, down: LoadedSae, delta: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Run the whole model; return what both SAEs read at the last token; delta: added where `up` writes."""
    kept: dict[str, torch.Tensor] = {}

    def hook(place: Any, name: str, added: torch.Tensor | None) -> Any:
        def act(tensor: torch.Tensor) -> torch.Tensor:
            kept[name] = tensor[0, -1:].clone()
            if added is None:
                return tensor
            tensor = tensor.clone()
            tensor[0, -1] += added
            return tensor

        def before(_module: Any, arguments: Any, named: Any) -> Any:
            if arguments:
                return (act(arguments[0]), *arguments[1:]), named
            return arguments, {**named, "hidden_states": act(named["hidden_states"])}

        def after(_module: Any, _arguments: Any, output: Any) -> Any:
            return (act(output[0]), *output[1:]) if isinstance(output, tuple) else act(output)

        module = model.get_submodule(place.module)
        if place.end == "input":
            return module.register_forward_pre_hook(before, with_kwargs=True)
        return module.register_forward_hook(after)

    assert up.reading is not None
    assert down.reading is not None
    handles = [
        hook(up.reading.rebuilt, "written", delta),
        hook(up.reading, "read", None),
        hook(down.reading, "left", None),
    ]
    model(ids)
    for handle in handles:
        handle.remove()
    return kept
