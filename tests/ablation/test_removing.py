"""Removing features, many in one pass, against one full run of the model for each, on every family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from featgraph.ablation import removing
from featgraph.ablation.copies import _mask
from featgraph.ablation.removing import Effects, Removals, Remover
from featgraph.errors import SourceError
from featgraph.suite import LanguageModel, LoadedSae
from helpers.one_removal import one_by_one
from helpers.one_sae import N_FEATURES, load_one, recipe_of, save_sae
from helpers.real_models import D_MODEL, D_Z, N_VOCABULARY, each_family, random_model

ROWS = [
    np.array(row, dtype=np.int32)
    for row in ([3, 9, 1, 4, 7, 7, 2, 30, 5, 11], [8, 2, 2, 40, 6, 1], [5, 6, 7, 8, 9, 10, 11, 12])
]
CENTRED: dict[str, Any] = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


def one(
    folder: Path, model: Any, layer: int, site: str, hook: str, kind: str = "standard", **more: Any
) -> LoadedSae:
    name = f"{layer}.{site}.{kind}"
    d_in = D_Z if hook.endswith("hook_z") and not type(model).__name__.startswith("GPT") else D_MODEL
    save_sae(folder / name, hook, d_in, kind=kind, **more)
    return load_one(recipe_of(folder / name, site, layer=layer), model)  # type: ignore[arg-type]


def every_removal(saes: Sequence[int], rng: np.random.Generator, n: int = 60) -> Removals:
    """Random edges at random tokens, the same token several times among them."""
    piece = rng.integers(len(ROWS), size=n)
    position = np.array([rng.integers(len(ROWS[number])) for number in piece])
    ends = rng.integers(N_FEATURES, size=(2, n))
    return Removals(piece, position, rng.choice(saes, size=n), ends[0], ends[1])


def measured(remover: Remover, removals: Removals, rows: list[NDArray[np.int32]] = ROWS) -> Effects:
    found = [np.full(len(removals), np.nan, dtype=np.float32) for _ in range(3)]
    for places, effects in remover(rows, removals):
        for whole, part in zip(found, effects, strict=True):
            whole[places] = part
    return Effects(*found)


def close(found: Effects, expected: Effects) -> None:
    for name in Effects._fields:
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-4, atol=2e-4, err_msg=name
        )


@pytest.mark.thorough
@each_family()
def test_every_site_of_every_family_matches_a_run_for_each_removal(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    upstream = {
        0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post"),
        1: one(tmp_path, model, 1, "mlp", "blocks.1.hook_mlp_out"),
        2: one(tmp_path, model, 1, "att", "blocks.1.hook_attn_out"),
    }
    downstream = one(tmp_path, model, 1, "res", "blocks.1.hook_resid_post")
    removals = every_removal([0, 1, 2], np.random.default_rng(0))
    found = measured(Remover(LanguageModel(model, None, "random"), upstream, downstream), removals)
    expected = one_by_one(model, upstream, downstream, ROWS, removals)
    close(found, expected)
    active = (expected.removed != 0) & (expected.before != 0)
    assert active.sum() > 10
    assert np.abs(expected.after - expected.before)[active].max() > 0.1


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize(
    ("site", "hook", "options"),
    [
        ("att", "blocks.2.attn.hook_z", {"kind": "jumprelu"}),
        ("mlp", "blocks.2.hook_mlp_out", {"kind": "topk", "k": 3}),
        (
            "mlp",
            "blocks.2.mlp.hook_in",
            {"kind": "skip_transcoder", "hook_name_out": "blocks.2.hook_mlp_out"},
        ),
        ("res", "blocks.0.hook_resid_pre", {}),
        ("res", "blocks.0.hook_resid_post", {"normalize_activations": "layer_norm"}),
        ("res", "blocks.1.hook_resid_pre", CENTRED),
    ],
)
def test_other_hooks_and_saes_match_too(
    family: str, site: str, hook: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """Heads before W_O, transcoders, SAEs that normalise, and residual SAEs several blocks above."""
    model = random_model(family)
    layer = int(hook.split(".")[1])
    upstream = {4: one(tmp_path, model, layer, site, hook, **options)}
    downstream = one(tmp_path, model, 2, "res", "blocks.2.hook_resid_post")
    removals = every_removal([4], np.random.default_rng(1), n=30)
    found = measured(Remover(LanguageModel(model, None, "random"), upstream, downstream), removals)
    expected = one_by_one(model, upstream, downstream, ROWS, removals)
    close(found, expected)
    assert (expected.removed != 0).any()


def two_layers(tmp_path: Path, model: Any) -> tuple[dict[int, LoadedSae], LoadedSae]:
    upstream = {0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post")}
    return upstream, one(tmp_path, model, 1, "res", "blocks.1.hook_resid_post")


@pytest.mark.thorough
@pytest.mark.parametrize(("family", "attention"), [("gemma2", "eager"), ("gemma3", "sdpa")])
def test_a_window_that_slides_hides_the_same_tokens_from_copies(
    family: str, attention: str, tmp_path: Path
) -> None:
    model = random_model(family)
    model.config.sliding_window = 3
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 3
    model.set_attn_implementation(attention)
    assert "sliding_attention" in model.config.layer_types[1:3]
    upstream = {0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post")}
    downstream = one(tmp_path, model, 2, "res", "blocks.2.hook_resid_post")
    removals = every_removal([0], np.random.default_rng(2), n=30)
    found = measured(Remover(LanguageModel(model, None, "random"), upstream, downstream), removals)
    close(found, one_by_one(model, upstream, downstream, ROWS, removals))
    wide = random_model(family)
    assert not np.allclose(
        found.before, one_by_one(wide, upstream, downstream, ROWS, removals).before, atol=1e-3
    )


@pytest.mark.parametrize(("copies", "tokens"), [(1, 8192), (3, 20), (128, 1)])
def test_how_removals_are_batched_makes_no_difference(
    copies: int, tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model("llama")
    upstream, downstream = two_layers(tmp_path, model)
    removals = every_removal([0], np.random.default_rng(3))
    remover = Remover(LanguageModel(model, None, "random"), upstream, downstream)
    whole = measured(remover, removals)
    monkeypatch.setattr(removing, "MAX_COPIES", copies)
    monkeypatch.setattr(removing, "BATCH_TOKENS", tokens)
    assert len(list(removing._batches(removals))) > 1 or copies == 1
    close(measured(remover, removals), whole)


def test_no_hook_is_left_behind_even_by_an_error(tmp_path: Path) -> None:
    model = random_model("llama")
    upstream, downstream = two_layers(tmp_path, model)
    remover = Remover(LanguageModel(model, None, "random"), upstream, downstream)
    removals = every_removal([0], np.random.default_rng(4))
    measured(remover, removals)
    with pytest.raises(IndexError):
        measured(remover, removals, [np.array([N_VOCABULARY + 1], dtype=np.int32)] * len(ROWS))
    hooks = [(module._forward_hooks, module._forward_pre_hooks) for module in model.modules()]
    assert not any(after or before for after, before in hooks)


def test_a_mask_that_is_not_understood_is_refused() -> None:
    with pytest.raises(
        SourceError, match=r'takes a mask that is not understood .*attn_implementation="sdpa"'
    ):
        _mask(torch.ones(2, 5), torch.zeros(2, 1, dtype=torch.int64), 5)


def test_the_change_is_the_published_one() -> None:
    effects = Effects(
        np.array([1, 1, 1, 0, 1], dtype=np.float32),
        np.array([2, 2, 2, 2, 0], dtype=np.float32),
        np.array([0, 1, 3, 1, 1], dtype=np.float32),
    )
    np.testing.assert_array_equal(effects.change, np.array([1, 0.5, -0.5, 0.5, np.nan], dtype=np.float32))
    assert effects.valid.tolist() == [0, 1, 2]
    assert effects.silenced.tolist() == [True, False, False, False, False]
