"""SAEs in their places: layers and blocks, targets of transcoders, meta models, and errors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featgraph.core.keys import SITES, SaeRange, block_of, edge_plan
from featgraph.errors import SourceError
from featgraph.recipe import Recipe
from featgraph.suite import LanguageModel, load_meta_model, load_model
from helpers.one_sae import N_FEATURES, load_one, recipe_of, save_sae
from helpers.real_models import D_MODEL, D_Z, LAYERS, each_family, random_model
from helpers.small_suite import save_model


def one(folder: Path, site: Any, hook: str, *, layer: int = 1, d_in: int = D_MODEL, **options: Any) -> Recipe:
    return recipe_of(save_sae(folder / "sae", hook, d_in, **options), site, layer=layer)


# Where an SAE belongs.


def test_what_reads_before_a_block_belongs_to_the_block_before_and_keeps_its_number(tmp_path: Path) -> None:
    loaded = load_one(one(tmp_path, "res", "blocks.1.hook_resid_pre"), random_model("gpt2"))
    assert (loaded.layer, loaded.block) == (1, 0)
    assert loaded.reading is not None
    assert (loaded.reading.module, loaded.reading.end) == ("transformer.h.1", "input")
    assert block_of(1, loaded.hook_name) == 0


def test_before_the_first_block_is_the_embedding(tmp_path: Path) -> None:
    recipe = one(tmp_path, "res", "blocks.0.hook_resid_pre", layer=0)
    assert load_one(recipe, random_model("gpt2")).block == -1


def test_what_leaves_the_last_block_may_be_one_more_layer_where_the_recipe_says_so(tmp_path: Path) -> None:
    recipe = one(tmp_path, "res", f"blocks.{LAYERS - 1}.hook_resid_post", layer=LAYERS)
    [source] = recipe.declared
    excepted = replace(recipe, declared=(replace(source, exceptions=((LAYERS, "sae"),)),))
    loaded = load_one(excepted, random_model("gpt2"))
    assert (loaded.layer, loaded.block) == (LAYERS, LAYERS - 1)
    with pytest.raises(
        SourceError, match=r"reads blocks\.2\.hook_resid_post \(2/res\), but the recipe .* 3/res"
    ):
        load_one(recipe, random_model("gpt2"))


def test_widths_as_layers_all_belong_to_the_block_that_the_recipe_names(tmp_path: Path) -> None:
    recipe = replace(one(tmp_path, "res", "blocks.2.hook_resid_pre", layer=0), block=2)
    loaded = load_one(recipe, random_model("gpt2"))
    assert (loaded.layer, loaded.block) == (0, 1)


def test_an_sae_elsewhere_than_the_recipe_says_is_refused(tmp_path: Path) -> None:
    for site, hook in (("res", "blocks.2.hook_resid_post"), ("att", "blocks.1.hook_mlp_out")):
        with pytest.raises(
            SourceError, match=rf"SAE sae reads {hook} \(.*\), but the recipe puts it at 1/{site}"
        ):
            load_one(one(tmp_path, site, hook), random_model("llama"))


def test_a_layer_beyond_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"SAE sae: the model has no layer 5 with mlp output under model\.layers"
    ):
        load_one(one(tmp_path, "mlp", "blocks.5.hook_mlp_out", layer=5), random_model("llama"))


def test_the_recipe_may_say_where_an_sae_reads(tmp_path: Path) -> None:
    recipe = one(tmp_path, "mlp", "blocks.1.hook_resid_post")
    [source] = recipe.declared
    named = replace(recipe, declared=(replace(source, hook="blocks.{layer}.hook_mlp_out"),))
    loaded = load_one(named, random_model("llama"))
    assert (loaded.site, loaded.hook_name) == ("mlp", "blocks.1.hook_mlp_out")


def test_the_module_path_in_the_metadata_counts_where_the_hook_name_is_unknown(tmp_path: Path) -> None:
    options: dict[str, Any] = {"hf_hook_name": "model.layers.1.self_attn.o_proj.input"}
    recipe = one(tmp_path, "att", "blocks.1.attn.hook_heads", d_in=D_Z, **options)
    loaded = load_one(recipe, random_model("gemma3"))
    assert loaded.hook_name == options["hf_hook_name"]
    assert loaded.writer.modules == (
        "model.layers.1.self_attn.o_proj",
        "model.layers.1.post_attention_layernorm",
    )


def test_heads_of_attention_are_taken_flat(tmp_path: Path) -> None:
    recipe = one(tmp_path, "att", "blocks.1.attn.hook_z", d_in=D_Z, reshape_activations="hook_z")
    loaded = load_one(recipe, random_model("llama"))
    assert loaded.sae is not None
    with torch.inference_mode():
        codes = loaded.sae.encode(torch.randn(5, D_Z))
        assert loaded.decode(codes, torch.randn(5, D_Z)).shape == (5, D_Z)


# Transcoders.


@pytest.mark.parametrize(
    ("family", "hook", "module", "end", "form"),
    [
        ("gemma2", "blocks.1.ln2.hook_normalized", ".pre_feedforward_layernorm", "input", "normalised"),
        ("qwen3", "blocks.1.mlp.hook_in", ".mlp", "input", "raw"),
        ("llama", "blocks.1.hook_resid_mid", ".post_attention_layernorm", "input", "raw"),
    ],
)
def test_a_transcoder_reads_one_tensor_and_rebuilds_another(
    family: str, hook: str, module: str, end: str, form: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"kind": "transcoder", "hook_name_out": "blocks.1.hook_mlp_out"}
    loaded = load_one(one(tmp_path, "mlp", hook, **options), random_model(family))
    reading = loaded.reading
    assert reading is not None
    assert (reading.module, reading.end, reading.form) == (f"model.layers.1{module}", end, form)
    last = ".post_feedforward_layernorm" if family == "gemma2" else ".mlp"
    assert (reading.rebuilt.module, reading.rebuilt.end) == (f"model.layers.1{last}", "output")
    assert loaded.encoder is None


def test_the_module_path_says_whether_a_transcoder_reads_before_the_norm(tmp_path: Path) -> None:
    path = "model.layers.1.pre_feedforward_layernorm.output"
    options: dict[str, Any] = {
        "kind": "jumprelu_skip_transcoder",
        "hf_hook_name": path,
        "hook_name_out": "blocks.1.hook_mlp_out",
    }
    loaded = load_one(one(tmp_path, "mlp", "blocks.1.hook_mlp_in", **options), random_model("gemma3"))
    assert loaded.hook_name == path
    assert loaded.reading is not None
    assert (loaded.reading.module, loaded.reading.end) == ("model.layers.1.mlp", "input")


def test_a_skip_transcoder_decodes_with_its_skip_connection(tmp_path: Path) -> None:
    options: dict[str, Any] = {"kind": "skip_transcoder", "hook_name_out": "blocks.1.hook_mlp_out"}
    loaded = load_one(one(tmp_path, "mlp", "blocks.1.mlp.hook_in", **options), random_model("llama"))
    assert loaded.sae is not None
    activations = torch.randn(5, D_MODEL)
    with torch.inference_mode():
        codes = loaded.sae.encode(activations)
        torch.testing.assert_close(loaded.decode(codes, activations), loaded.sae(activations))


def test_a_transcoder_from_one_block_to_another_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"kind": "transcoder", "hook_name_out": "blocks.2.hook_mlp_out"}
    with pytest.raises(
        SourceError, match=r"SAE sae reads block 1 and writes block 2; only transcoders within one"
    ):
        load_one(one(tmp_path, "mlp", "blocks.1.mlp.hook_in", **options), random_model("llama"))


# What is refused.


@pytest.mark.parametrize(
    "hook", ["blocks.1.hook_q", "model.layers.1.self_attn.o_proj", "blocks.1.mlp.hook_in"]
)
def test_a_hook_that_cannot_be_compared_is_refused_with_those_that_can(hook: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"SAE sae reads .* hooks that can be compared: hook_resid_post"):
        load_one(one(tmp_path, "res", hook), random_model("llama"))


def test_between_attention_and_mlp_is_no_site(tmp_path: Path) -> None:
    message = r"which is no site of a graph; use the suite's SAEs of hook_resid_post or hook_resid_pre"
    with pytest.raises(SourceError, match=message):
        load_one(one(tmp_path, "res", "blocks.1.hook_resid_mid"), random_model("llama"))


def test_layers_of_cross_layer_transcoders_are_refused(tmp_path: Path) -> None:
    recipe = replace(one(tmp_path, "mlp", "blocks.1.hook_mlp_out"), name="mntss-2.5m-clt-as-per-layer")
    with pytest.raises(
        SourceError, match=r"SAE sae of mntss-2\.5m-clt-as-per-layer is one layer of a cross-layer"
    ):
        load_one(recipe, random_model("gemma2"))


def test_temporal_saes_are_refused(tmp_path: Path) -> None:
    recipe = one(
        tmp_path,
        "res",
        "blocks.1.hook_resid_post",
        kind="temporal",
        n_heads=1,
        bottleneck_factor=1,
        sae_diff_type="relu",
    )
    with pytest.raises(SourceError, match=r"SAE sae is a temporal SAE: the output of a feature depends on"):
        load_one(recipe, random_model("llama"))


@pytest.mark.parametrize(
    ("hook", "site", "d_in", "message"),
    [
        (
            "blocks.1.hook_mlp_out",
            "mlp",
            24,
            r"reads 24 dimensions, but model\.layers\.1\.mlp of random gives 16",
        ),
        ("blocks.1.attn.hook_z", "att", 16, r"reads 16 dimensions, but \S+\.o_proj of random gives 24"),
    ],
)
def test_an_sae_of_another_width_than_the_model_is_refused(
    hook: str, site: Any, d_in: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message):
        load_one(one(tmp_path, site, hook, d_in=d_in), random_model("llama"))


def test_a_transcoder_that_writes_another_width_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"kind": "transcoder", "hook_name_out": "blocks.1.hook_mlp_out", "d_out": 24}
    with pytest.raises(
        SourceError, match=r"writes 24 dimensions, but model\.layers\.1\.mlp of random gives 16"
    ):
        load_one(one(tmp_path, "mlp", "blocks.1.mlp.hook_in", **options), random_model("llama"))


# Without a model, and with a meta_model of one.


@pytest.mark.parametrize(
    ("site", "hook"),
    [
        ("res", "blocks.1.hook_resid_pre"),
        ("res", "model.layers.1"),
        ("mlp", "blocks.1.hook_mlp_out"),
        ("att", "blocks.1.hook_attn_out"),
    ],
)
def test_rows_that_write_the_residual_directly_need_no_model(site: Any, hook: str, tmp_path: Path) -> None:
    recipe = one(tmp_path, site, hook)
    without, within = load_one(recipe, None), load_one(recipe, random_model("gemma2"))
    assert without.reading is None
    np.testing.assert_array_equal(without.directions, within.directions)
    assert (without.block, without.hook_name) == (within.block, within.hook_name)


def test_heads_of_attention_need_the_model(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"directions depend on weights of the language model"):
        load_one(one(tmp_path, "att", "blocks.1.attn.hook_z", d_in=D_Z), None)


def test_a_file_of_decoders_has_directions_and_nothing_to_run(tmp_path: Path) -> None:
    decoder = torch.randn(N_FEATURES, D_Z)
    save_file({"W": decoder}, tmp_path / "rows.safetensors")
    options: dict[str, Any] = {
        "path": None,
        "decoders": "rows.safetensors",
        "key": "W",
        "hook": "blocks.{layer}.attn.hook_z",
    }
    model = random_model("llama")
    loaded = load_one(recipe_of(tmp_path / "sae", "att", **options), model)
    assert (loaded.sae, loaded.encoder, loaded.architecture, loaded.d_in) == (None, None, None, D_Z)
    written = decoder @ model.model.layers[1].self_attn.o_proj.weight.detach().T
    rows = torch.from_numpy(loaded.directions * loaded.norms[:, None])
    torch.testing.assert_close(rows, written, atol=1e-5, rtol=1e-5)


@each_family()
@pytest.mark.parametrize("shards", [1, 3])
def test_a_meta_model_gives_the_same_directions(family: str, shards: int, tmp_path: Path) -> None:
    model = random_model(family)
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    model.save_pretrained(tmp_path / "model", max_shard_size=size if shards == 1 else size // shards)
    d_in = D_MODEL if "gpt" in family else D_Z
    folder = save_sae(tmp_path / "sae", "blocks.1.attn.hook_z", d_in)
    recipe = recipe_of(folder, "att", model=tmp_path / "model")
    meta_model = load_meta_model(recipe)
    assert all(parameter.is_meta for parameter in meta_model.model.parameters())
    whole = LanguageModel(model, None, "random")
    with_meta_model, with_model = load_one(recipe, meta_model), load_one(recipe, whole)
    np.testing.assert_array_equal(with_meta_model.directions, with_model.directions)
    np.testing.assert_array_equal(with_meta_model.norms, with_model.norms)
    assert with_meta_model.reading == with_model.reading
    np.testing.assert_array_equal(meta_model.unembedding, whole.unembedding)
    assert meta_model.n_vocabulary == whole.n_vocabulary


def test_a_checkpoint_may_begin_its_names_otherwise(tmp_path: Path) -> None:
    model = random_model("gpt2")
    model.save_pretrained(tmp_path)
    path, lost = (f"transformer.h.{block}.attn.c_proj.weight" for block in (1, 2))
    weights = {name: value.clone() for name, value in model.state_dict().items() if name != lost}
    bare = {name.removeprefix("transformer."): value for name, value in weights.items()}
    save_file(bare, tmp_path / "model.safetensors")
    meta_model = load_meta_model(recipe_of(tmp_path / "sae", "att", model=tmp_path))
    torch.testing.assert_close(meta_model.parameter(path), model.get_parameter(path), atol=0, rtol=0)
    with pytest.raises(SourceError, match=rf"the weights of \S+ have no tensor '{lost}'"):
        meta_model.parameter(lost)


def test_a_meta_model_without_safetensors_says_what_to_do(tmp_path: Path) -> None:
    random_model("gpt2").config.save_pretrained(tmp_path)
    meta_model = load_meta_model(recipe_of(tmp_path / "sae", "att", model=tmp_path))
    with pytest.raises(
        SourceError, match=r"has no model\.safetensors, .* save it again with save_pretrained"
    ):
        meta_model.parameter("transformer.h.1.attn.c_proj.weight")


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    random_model("gpt2").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    recipe = recipe_of(tmp_path / "sae", "att", model=tmp_path)
    with pytest.raises(SourceError, match=r"cannot read .*model\.safetensors"):
        load_meta_model(recipe).parameter("transformer.h.1.attn.c_proj.weight")
    with pytest.raises(SourceError, match=r"cannot load model"):
        load_model(recipe)


def test_a_model_is_identified_by_the_files_that_it_is_made_of(tmp_path: Path) -> None:
    save_model(tmp_path)
    recipe = recipe_of(tmp_path / "sae", "att", model=tmp_path)
    before = load_meta_model(recipe).digest
    (tmp_path / "README.md").write_text("about it", encoding="utf-8")
    assert before == load_meta_model(recipe).digest == load_model(recipe).digest
    for file in ("tokenizer.json", "model.safetensors"):
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes() + b" ")
        after = load_meta_model(recipe).digest
        assert after != before
        before = after


# SaeRanges.


def test_an_sae_belongs_to_the_block_of_its_layer_unless_shifted() -> None:
    assert SaeRange(0, 3, "res", 0, 10).block == 3
    shifted = SaeRange(0, 3, "res", 0, 10, shift=-1)
    assert (shifted.block, replace(shifted, first_id=5).block, shifted.name) == (2, 2, "3.res")


def test_edges_join_by_block_and_not_by_number() -> None:
    """A suite that reads before each block, with mlp SAEs: block 0 writes what the SAE of layer 1 reads."""
    saes = [
        SaeRange(0, 0, "res", 0, 1, -1),
        SaeRange(1, 0, "mlp", 1, 1),
        SaeRange(2, 1, "res", 2, 1, -1),
        SaeRange(3, 1, "mlp", 3, 1),
        SaeRange(4, 2, "res", 4, 1, -1),
    ]
    plan = edge_plan(saes, ("res_res", "mlp_res", "att_res"))
    assert [(up.number, down.number, kind) for up, down, kind in plan] == [
        (0, 2, "res_res"),
        (1, 2, "mlp_res"),
        (2, 4, "res_res"),
        (3, 4, "mlp_res"),
    ]


def test_saes_of_one_block_come_in_the_order_in_which_they_are_written() -> None:
    assert SITES == ("att", "mlp", "res")
