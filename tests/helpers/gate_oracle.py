"""What a gate should add, from an SAE's weights in plain torch, against what the modules after it read."""

from collections.abc import Sequence
from typing import Any

import torch

from featgraph.steering import SteeringVector
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.graph_suite import GraphSuite
from featgraph.suite.hooks import Hook, blocks_of
from helpers.steered import IDS, PROMPT, kept, stream


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """SAEs run in float32: equal to 1e-5 of the largest value."""
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, largest))


def loaded_of(vector: SteeringVector, model: Any) -> list[LoadedSae]:
    suite = vector.suite
    assert isinstance(suite, GraphSuite)
    language_model = LanguageModel(model, None, "random")
    sae_ranges = sorted({member.sae_number for member in vector.members})
    return [suite.sae(suite.saes[sae_range], language_model, keep=True) for sae_range in sae_ranges]


def check(model: Any, vector: SteeringVector, steered: Sequence[bool], ids: torch.Tensor = IDS) -> None:
    """Hold every SAE's gate against the oracle, in one run in which all of them steer."""
    saes = loaded_of(vector, model)
    read = {}
    for loaded in saes:
        assert loaded.reading is not None
        place = f"{loaded.block}/{loaded.site}"
        read[f"read {place}"] = (loaded.reading.module, loaded.reading.end)
        read[f"rebuilt {place}"] = (loaded.reading.rebuilt.module, loaded.reading.rebuilt.end)
    prompt = PROMPT if vector.settings.positions in ("prompt", "generated") else None
    with kept(model, read) as before, vector.apply(model, prompt_tokens=prompt):
        after = stream(model, ids)
    moved = 0
    for loaded in saes:
        place = f"{loaded.block}/{loaded.site}"
        added = addition(loaded, model, vector, before[f"read {place}"], steered)
        moved += int(added.abs().max() > 0.01)
        wanted = before[f"rebuilt {place}"] + added
        written = after_block(model, loaded, before, after)
        assert_same(written, written_by(model, loaded, wanted))
    assert moved > len(saes) / 2, "the mode has something to do"


def written_by(model: Any, loaded: LoadedSae, tensor: torch.Tensor) -> torch.Tensor:
    """What a block adds to the stream when the tensor that an SAE rebuilds is this."""
    hook = Hook("z" if "hook_z" in loaded.hook_name else "resid_post", loaded.block)
    with torch.no_grad():
        for path in blocks_of(model).writing(hook):
            tensor = model.get_submodule(path)(tensor)
    return tensor


def after_block(
    model: Any, loaded: LoadedSae, before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]
) -> torch.Tensor:
    """What the residual stream says that an SAE's tensor was after the gate; blocks are sequential."""
    block = loaded.block
    if loaded.site == "res":
        return after[f"out {block}"]
    start = after[f"out {block - 1}"]
    left = before.get(f"rebuilt {block}/res", after[f"out {block}"])
    return after[f"mid {block}"] - start if loaded.site == "att" else left - after[f"mid {block}"]


def addition(
    loaded: LoadedSae, model: Any, vector: SteeringVector, tensor: torch.Tensor, steered: Sequence[bool]
) -> torch.Tensor:
    """Return what a gate should add where an SAE writes, given the tensor that it reads.

    steered: by token. Worked out feature by feature from the decoder's rows.
    """
    sae, settings = loaded.sae, vector.settings
    assert sae is not None
    assert loaded.reading is not None
    read = tensor.float()
    if loaded.reading.form == "centred":
        read = read - read.mean(-1, keepdim=True)
    if loaded.reading.form == "normalised":
        read = _normalised(read, model.get_submodule(loaded.reading.module))
    with torch.no_grad():
        codes = sae.encode(read)
        rows = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True) if rescaled(sae) else sae.W_dec
    total = torch.zeros(*codes.shape[:-1], rows.shape[1], dtype=torch.float64)
    for member in vector.members:
        layer, site, idx = member.key.split("/")
        if (int(layer), site) != (loaded.layer, loaded.site):
            continue
        a, target = codes[..., int(idx)].double(), member.target or 0.0
        wanted = {
            "add": a + target,
            "rescale": a * member.coefficient,
            "clamp": torch.full_like(a, target),
            "min-clamp": a.clamp(min=target),
            "ablate": 0 * a,
        }[settings.mode]
        change = (wanted - a) * torch.tensor(steered)
        if settings.positions == "firing":
            change = change * (a != 0)
        total += change[..., None] * rows[int(idx)].double()
    if sae.cfg.normalize_activations == "layer_norm":
        total = total * read.double().std(-1, keepdim=True)
    if loaded.reading.rebuilt.form == "centred":
        total = total - total.mean(-1, keepdim=True)
    return total


def rescaled(sae: Any) -> bool:
    return bool(getattr(sae.cfg, "rescale_acts_by_decoder_norm", False))


def _normalised(read: torch.Tensor, norm: Any) -> torch.Tensor:
    if isinstance(norm, torch.nn.LayerNorm):
        read = read - read.mean(-1, keepdim=True)
        return read / (read.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    epsilon = getattr(norm, "variance_epsilon", None) or norm.eps
    normalised: torch.Tensor = read / (read.square().mean(-1, keepdim=True) + epsilon).sqrt()
    return normalised
