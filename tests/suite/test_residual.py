"""Directions in the residual basis: each is how the stream moves when its feature is added at its hook.

The change is measured where the next module reads the stream, on random models of the real classes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from featgraph.suite import LoadedSae
from featgraph.suite.hooks import Reading, blocks_of
from helpers.one_sae import N_FEATURES, load_one, recipe_of, save_sae
from helpers.real_models import D_MODEL, D_Z, each_family, lens, random_model

BLOCK = 1
IDS = torch.arange(1, 11)[None]
SAME = 0.9999

HOOKS = {
    "res": ("hook_resid_post", "hook_resid_pre"),
    "mlp": ("hook_mlp_out",),
    "att": ("hook_attn_out", "attn.hook_z"),
}
PLACES = [(site, f"blocks.{BLOCK}.{hook}") for site, hooks in HOOKS.items() for hook in hooks]
BEHIND_A_NORM = [
    ("mlp", "model.layers.1.mlp"),
    ("att", "model.layers.1.self_attn.output"),
    ("att", "model.layers.1.self_attn.o_proj.input"),
    ("mlp", "model.layers.1.post_feedforward_layernorm"),
]
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")

CENTRED: dict[str, Any] = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


def width(family: str, hook: str) -> int:
    grouped = "gpt" not in family
    return D_Z if grouped and hook.endswith(("hook_z", "o_proj.input")) else D_MODEL


def stream(model: Any, site: str, hook: str) -> Callable[[], dict[str, torch.Tensor]]:
    """Return a run of the model that keeps the residual stream where a site's SAE has written.

    Attention of sequential blocks writes before the mlp's norm reads; all else before the next block does.
    """
    blocks = blocks_of(model)
    parallel = getattr(model.config, "use_parallel_residual", False)
    if site == "att" and not parallel:
        path = f"{blocks.path}.{BLOCK}{blocks.norm_before_mlp}"
    elif hook.endswith("hook_resid_pre"):
        path = f"{blocks.path}.{BLOCK}.{'ln_1' if 'transformer' in blocks.path else 'input_layernorm'}"
    else:
        path = f"{blocks.path}.{BLOCK + 1}"

    def run() -> dict[str, torch.Tensor]:
        kept = {}

        def keep(_module: Any, arguments: Any, named: Any) -> None:
            kept["stream"] = arguments[0] if arguments else named["hidden_states"]

        norms = [
            model.get_submodule(f"{blocks.path}.{BLOCK}{suffix}")
            for suffix in (blocks.norm_after_attention, blocks.norm_after_mlp)
            if suffix
        ]
        handles = [model.get_submodule(path).register_forward_pre_hook(keep, with_kwargs=True)]
        for number, norm in enumerate(norms):

            def keep_norm(_module: Any, arguments: Any, output: Any, number: int = number) -> None:
                kept[f"{number} in"], kept[f"{number} out"] = arguments[0], output

            handles.append(norm.register_forward_hook(keep_norm))
        with torch.inference_mode():
            model(IDS)
        for handle in handles:
            handle.remove()
        return kept

    return run


def adding(model: Any, reading: Reading, row: torch.Tensor) -> Any:
    """Register a hook that adds a decoder row to the tensor that an SAE rebuilds."""
    place = reading.rebuilt
    module = model.get_submodule(place.module)
    addend = row.to(torch.float64)

    def before(_module: Any, arguments: Any, named: Any) -> Any:
        if arguments:
            return (arguments[0] + addend, *arguments[1:]), named
        return arguments, {**named, "hidden_states": named["hidden_states"] + addend}

    def after(_module: Any, _arguments: Any, output: Any) -> Any:
        return (output[0] + addend, *output[1:]) if isinstance(output, tuple) else output + addend

    if place.end == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def moved(model: Any, site: str, hook: str, loaded: LoadedSae, row: torch.Tensor) -> torch.Tensor:
    """Return how the residual stream moves at each token, (n_tokens, d_model).

    Behind a norm the stream is taken before what the norm divides by, which the feature changes too.
    """
    assert loaded.reading is not None
    run = stream(model, site, hook)
    clean = run()
    handle = adding(model, loaded.reading, row)
    changed = run()
    handle.remove()
    if not loaded.writer.modules or "norm" not in loaded.writer.modules[-1]:
        return (changed["stream"] - clean["stream"])[0]
    norm = 0 if site == "att" else 1

    def undivided(kept: dict[str, torch.Tensor]) -> torch.Tensor:
        """What the block adds, times the root mean square of what the norm reads."""
        scale = kept[f"{norm} in"].square().mean(dim=-1, keepdim=True).add(1e-6).sqrt()
        return kept[f"{norm} out"] * scale

    others = (changed["stream"] - changed[f"{norm} out"]) - (clean["stream"] - clean[f"{norm} out"])
    assert others.abs().max() < 1e-5, "the norm's output is all that moves the stream"
    return (undivided(changed) - undivided(clean))[0]


def check(model: Any, site: str, hook: str, loaded: LoadedSae) -> None:
    assert loaded.sae is not None
    for row, direction, norm in zip(loaded.sae.W_dec, loaded.directions, loaded.norms, strict=True):
        change = moved(model, site, hook, loaded, row.detach())
        expected = torch.from_numpy(direction).to(change.dtype).expand_as(change)
        assert torch.nn.functional.cosine_similarity(change, expected).min() >= SAME
        torch.testing.assert_close(
            change.norm(dim=-1), torch.full_like(change[:, 0], float(norm)), rtol=1e-4, atol=0
        )


@each_family()
@pytest.mark.parametrize(("site", "hook"), PLACES, ids=[hook for _, hook in PLACES])
def test_a_direction_is_how_the_residual_moves(family: str, site: Any, hook: str, tmp_path: Path) -> None:
    model = random_model(family).double()
    folder = save_sae(tmp_path / "sae", hook, width(family, hook))
    check(model, site, hook, load_one(recipe_of(folder, site), model))


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "gemma3_multimodal"])
@pytest.mark.parametrize(("site", "hook"), BEHIND_A_NORM, ids=[hook for _, hook in BEHIND_A_NORM])
def test_what_stands_before_a_blocks_own_norm_is_seen_through_its_gain(
    family: str, site: Any, hook: str, tmp_path: Path
) -> None:
    model = random_model(family).double()
    folder = save_sae(tmp_path / "sae", hook, width(family, hook))
    check(model, site, hook, load_one(recipe_of(folder, site), model))


@each_family()
@pytest.mark.parametrize("kind", TRANSCODERS)
def test_a_transcoder_writes_what_the_mlp_writes(family: str, kind: str, tmp_path: Path) -> None:
    model = random_model(family).double()
    options = {"kind": kind, "hook_name_out": "blocks.1.hook_mlp_out"}
    folder = save_sae(tmp_path / "sae", "blocks.1.ln2.hook_normalized", D_MODEL, **options)
    check(model, "mlp", "hook_mlp_out", load_one(recipe_of(folder, "mlp"), model))


def test_the_mean_that_a_centred_suite_loses_has_no_effect(tmp_path: Path) -> None:
    model = random_model("gpt2").double()
    folder = save_sae(tmp_path / "sae", "blocks.1.hook_resid_pre", D_MODEL, **CENTRED)
    loaded = load_one(recipe_of(folder, "res"), model)
    assert loaded.sae is not None
    assert loaded.reading is not None
    assert loaded.reading.form == "centred"
    assert loaded.sae.W_dec.mean(dim=1).abs().max() > 0.1, "the rows themselves have a mean"
    for row, direction, norm in zip(loaded.sae.W_dec.detach(), loaded.directions, loaded.norms, strict=True):
        found = []
        for added in (row, torch.from_numpy(direction * norm)):
            handle = adding(model, loaded.reading, added)
            with torch.inference_mode():
                found.append(model(IDS).logits)
            handle.remove()
        torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("hook", ["attn.hook_z", "hook_mlp_out", "hook_resid_post"])
def test_a_centred_models_residual_moves_along_the_direction(hook: str, tmp_path: Path) -> None:
    model = random_model("gpt2")
    site: Any = {"attn.hook_z": "att", "hook_mlp_out": "mlp"}.get(hook, "res")
    folder = save_sae(tmp_path / "sae", f"blocks.1.{hook}", D_MODEL, **CENTRED)
    loaded = load_one(recipe_of(folder, site), model)
    assert loaded.sae is not None
    assert loaded.reading is not None
    assert loaded.reading.form == ("raw" if site == "att" else "centred"), "z is before what is centred"
    lensed = lens("gpt2", model, tmp_path, centred=True)
    where = "blocks.1.hook_resid_mid" if site == "att" else "blocks.1.hook_resid_post"
    for row, direction in zip(loaded.sae.W_dec.detach(), loaded.directions, strict=True):
        # The suite's own model gets from a feature what it can write: for z, through its centred W_O.
        change = lensed_change(lensed, f"blocks.1.{hook}", row if site == "att" else row - row.mean(), where)
        expected = torch.from_numpy(direction).expand_as(change)
        assert torch.nn.functional.cosine_similarity(change, expected).min() >= SAME


def lensed_change(lensed: Any, hook: str, row: torch.Tensor, where: str) -> torch.Tensor:
    kept = []

    def add(tensor: torch.Tensor, hook: Any) -> torch.Tensor:
        return tensor + row.reshape(tensor.shape[2:])

    def keep(tensor: torch.Tensor, hook: Any) -> None:
        kept.append(tensor[0])

    with torch.inference_mode():
        lensed.run_with_hooks(IDS, fwd_hooks=[(where, keep)])
        lensed.run_with_hooks(IDS, fwd_hooks=[(hook, add), (where, keep)])
    return kept[1] - kept[0]


def test_centring_is_left_to_models_with_layer_norm(tmp_path: Path) -> None:
    folder = save_sae(tmp_path / "sae", "blocks.1.hook_resid_post", D_MODEL, **CENTRED)
    loaded = load_one(recipe_of(folder, "res"), random_model("llama"))
    assert loaded.reading is not None
    assert (loaded.reading.form, loaded.writer.centred) == ("raw", False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "topk", "k": 2},
        {"kind": "topk", "k": 2, "rescale_acts_by_decoder_norm": True},
        {"kind": "abstopk", "k": 2},
        {"kind": "jumprelu"},
        {"kind": "gated"},
        {"kind": "matching_pursuit"},
    ],
    ids=str,
)
def test_direction_times_norm_is_what_one_unit_of_activation_decodes_to(
    options: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_sae(tmp_path / "sae", "blocks.1.hook_resid_post", D_MODEL, **options)
    loaded = load_one(recipe_of(folder, "res"), None)
    assert loaded.sae is not None
    assert loaded.reading is None
    with torch.inference_mode():
        nothing = loaded.sae.decode(torch.zeros(1, N_FEATURES))
        decoded = loaded.sae.decode(torch.eye(N_FEATURES)) - nothing
    rows = torch.from_numpy(loaded.directions * loaded.norms[:, None])
    torch.testing.assert_close(rows, decoded, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "topk", "k": N_FEATURES, "rescale_acts_by_decoder_norm": True},
        {"kind": "jumprelu", "apply_b_dec_to_input": False},
        {"kind": "jumprelu", "apply_b_dec_to_input": True},
        {"kind": "gated"},
        CENTRED,
    ],
    ids=str,
)
def test_encoder_rows_are_how_pre_activations_change_with_the_stream(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = random_model("gpt2")
    folder = save_sae(tmp_path / "sae", "blocks.1.hook_resid_post", D_MODEL, **options)
    loaded = load_one(recipe_of(folder, "res"), model)
    assert loaded.sae is not None
    assert loaded.encoder is not None
    assert loaded.reading is not None
    stream = torch.cat([torch.zeros(1, D_MODEL), torch.eye(D_MODEL)])
    if loaded.reading.form == "centred":
        stream = stream - stream.mean(dim=-1, keepdim=True)
    with torch.inference_mode():
        for name, bias in loaded.sae.named_parameters():
            if name in ("b_enc", "b_gate", "b_mag"):
                bias.fill_(50.0)  # So that every feature fires, and linearly.
        activations = loaded.sae.encode(stream)
    change = activations[1:] - activations[:1]
    torch.testing.assert_close(torch.from_numpy(loaded.encoder).T, change, atol=1e-4, rtol=1e-4)
    assert loaded.no_virtual_weight is None


def test_only_residual_saes_have_encoder_rows(tmp_path: Path) -> None:
    folder = save_sae(tmp_path / "sae", "blocks.1.hook_mlp_out", D_MODEL)
    assert load_one(recipe_of(folder, "mlp"), random_model("llama")).encoder is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"normalize_activations": "layer_norm"}, "divides each activation by its own standard deviation"),
        ({"normalize_activations": "constant_norm_rescale"}, "divides each activation by its own length"),
        ({"kind": "matching_pursuit"}, "encodes without an encoder"),
    ],
)
def test_an_sae_that_scales_each_token_has_no_virtual_weights(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = save_sae(tmp_path / "sae", "blocks.1.hook_resid_post", D_MODEL, **options)
    assert reason in str(load_one(recipe_of(folder, "res"), None).no_virtual_weight)


@pytest.mark.parametrize(("family", "known"), [("llama", True), ("gemma2", False)])
def test_directions_through_a_norm_have_no_virtual_weights(family: str, known: bool, tmp_path: Path) -> None:
    folder = save_sae(tmp_path / "sae", f"blocks.{BLOCK}.attn.hook_z", D_Z)
    loaded = load_one(recipe_of(folder, "att"), random_model(family))
    assert (loaded.no_virtual_weight is None) == known
    assert known or "a norm, scales what it writes" in str(loaded.no_virtual_weight)


@pytest.mark.parametrize("kind", ["standard", "gated", "topk"])
def test_alignment_is_the_cosine_of_encoder_and_decoder_rows(kind: str, tmp_path: Path) -> None:
    options = {"k": 2} if kind == "topk" else {}
    folder = save_sae(tmp_path / "sae", "blocks.1.hook_mlp_out", D_MODEL, kind=kind, **options)
    loaded = load_one(recipe_of(folder, "mlp"), None)
    assert loaded.sae is not None
    assert loaded.encoder_alignment is not None
    expected = torch.cosine_similarity(loaded.sae.W_enc.T, loaded.sae.W_dec, dim=1)
    torch.testing.assert_close(torch.from_numpy(loaded.encoder_alignment), expected, atol=1e-6, rtol=1e-5)


def test_rows_of_two_spaces_have_no_alignment(tmp_path: Path) -> None:
    options = {"hook_name_out": "blocks.1.hook_mlp_out"}
    folder = save_sae(tmp_path / "sae", "blocks.1.ln2.hook_normalized", D_MODEL, kind="transcoder", **options)
    assert load_one(recipe_of(folder, "mlp"), random_model("llama")).encoder_alignment is None
