import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

import featgraph
from featgraph import Graph, SourceError, UsageError
from featgraph.arrays import Matrix
from featgraph.steering import Settings, SteeredModel, SteeringVector
from toy import D_MODEL, build_toy, directions, slabs

N_LAYERS, WIDTH, VOCABULARY = 3, 8, 17
SMALL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 16,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 1, "head_dim": 4}
IDS = torch.tensor([[1, 5, 9, 3, 7], [1, 2, 16, 11, 4]])
FAMILIES = ["llama", "gemma2", "gpt2", "gpt_neox"]
FINAL_NORMS = {
    "llama": "model.norm",
    "gemma2": "model.norm",
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
}
BLOCKS = {
    "llama": "model.layers",
    "gemma2": "model.layers",
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
}


def language_model(family: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**{**GROUPED, **changes})).eval()
    if family == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**GROUPED)).eval()
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**SMALL)).eval()
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL)).eval()


def steering(layers: dict[int, Matrix], width: int = WIDTH) -> SteeringVector:
    model = SteeredModel("small", "llama", width, N_LAYERS)
    return SteeringVector(layers, (), Settings(), model)


def some_vector(seed: int) -> Matrix:
    return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)


def residuals(model: Any, family: str) -> list[torch.Tensor]:
    """What out(0), out(1), ... are: the input of the next block, and of the final norm after the last."""
    followers = [f"{BLOCKS[family]}.{layer}" for layer in range(1, N_LAYERS)] + [FINAL_NORMS[family]]
    seen: list[torch.Tensor] = []
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        for name in followers
    ]
    with torch.no_grad():
        model(IDS)
    for handle in handles:
        handle.remove()
    return seen


def n_hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.fixture(scope="module")
def graph(toy: Path) -> Iterator[Graph]:
    with featgraph.open(toy) as opened:
        yield opened


def direction(key: str) -> Matrix:
    layer, site, idx = key.split("/")
    [slab] = [slab for slab in slabs() if (slab.layer, slab.site) == (int(layer), site)]
    found: Matrix = directions(slab)[int(idx)]
    return found


@pytest.mark.parametrize("layer", range(N_LAYERS))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_residual_changes_by_exactly_the_vector_at_exactly_its_layer(family: str, layer: int) -> None:
    model, vector = language_model(family), some_vector(layer)
    before = residuals(model, family)
    with steering({layer: vector}).apply(model):
        after = residuals(model, family)
    assert all(torch.equal(before[earlier], after[earlier]) for earlier in range(layer))
    assert torch.equal(after[layer], before[layer] + torch.from_numpy(vector))


@pytest.mark.parametrize("family", FAMILIES)
def test_several_layers_are_steered_at_once(family: str) -> None:
    model, first, second = language_model(family), some_vector(1), some_vector(2)
    with steering({0: first}).apply(model):
        only_first = residuals(model, family)
    with steering({0: first, 2: second}).apply(model):
        both = residuals(model, family)
    assert torch.equal(both[1], only_first[1])
    assert torch.equal(both[2], only_first[2] + torch.from_numpy(second))


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_a_cache_agrees_with_full_forward_passes(family: str) -> None:
    model = language_model(family)
    with steering({1: 3 * some_vector(1)}).apply(model), torch.no_grad():
        made = model.generate(
            IDS,
            attention_mask=torch.ones_like(IDS),
            max_new_tokens=4,
            do_sample=False,
            use_cache=True,
            return_dict_in_generate=True,
            output_logits=True,
        )
        full = model(made.sequences).logits
    steps = torch.stack(made.logits, dim=1)
    torch.testing.assert_close(steps, full[:, IDS.shape[1] - 1 : -1], atol=1e-5, rtol=1e-4)


def test_steering_reaches_every_row_of_a_batch() -> None:
    model = language_model("llama")
    with steering({1: some_vector(1)}).apply(model), torch.no_grad():
        together = model(IDS).logits
        alone = torch.cat([model(row[None]).logits for row in IDS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_afterwards_the_model_is_as_before(family: str) -> None:
    model = language_model(family)
    before = residuals(model, family)
    with steering({0: some_vector(0), 2: some_vector(2)}).apply(model):
        assert n_hooks(model) == 2
    assert n_hooks(model) == 0
    assert all(torch.equal(one, other) for one, other in zip(before, residuals(model, family), strict=True))


def test_an_exception_leaves_no_hook_behind() -> None:
    model, vector = language_model("llama"), steering({0: some_vector(0), 1: some_vector(1)})
    with pytest.raises(RuntimeError, match="interrupted"), vector.apply(model):
        raise RuntimeError("interrupted")
    assert n_hooks(model) == 0


def test_nested_vectors_add_up() -> None:
    model, vector = language_model("llama"), steering({1: some_vector(1)})
    before = residuals(model, "llama")
    with vector.apply(model), vector.apply(model):
        after = residuals(model, "llama")
    added = torch.from_numpy(some_vector(1))
    assert torch.equal(after[1], before[1] + added + added)


def test_a_block_may_give_a_tuple() -> None:
    model = language_model("llama")
    model.model.layers[1].register_forward_hook(lambda _, given, output: (output, "extra"))
    with steering({1: some_vector(1)}).apply(model):
        hidden, extra = model.model.layers[1](torch.zeros(1, 1, WIDTH), **_positions(model))
    model.model.layers[1]._forward_hooks.clear()
    plain = model.model.layers[1](torch.zeros(1, 1, WIDTH), **_positions(model))
    assert torch.equal(hidden, plain + torch.from_numpy(some_vector(1)))
    assert extra == "extra"


def _positions(model: Any) -> dict[str, Any]:
    places = torch.zeros(1, 1, dtype=torch.long)
    return {"position_embeddings": model.model.rotary_emb(torch.zeros(1, 1, WIDTH), places)}


def test_a_half_precision_model_stays_in_half_precision() -> None:
    model = language_model("llama").to(torch.bfloat16)
    with steering({1: some_vector(1)}).apply(model):
        assert residuals(model, "llama")[1].dtype == torch.bfloat16


def test_a_model_of_another_width_is_refused() -> None:
    with (
        pytest.raises(SourceError, match="this LlamaForCausalLM has d_model 8, but the vector has 6; apply"),
        steering({0: np.ones(6, dtype=np.float32)}, width=6).apply(language_model("llama")),
    ):
        pass


def test_a_model_with_too_few_blocks_is_refused_before_any_hook() -> None:
    model = language_model("llama")
    with (
        pytest.raises(SourceError, match="has blocks 0 to 2, but the vector writes after block 3"),
        steering({0: some_vector(0), 3: some_vector(3)}).apply(model),
    ):
        pass
    assert n_hooks(model) == 0


@pytest.mark.parametrize(("unit", "length"), [("raw", 2.0), ("unit", 1.0), ("max-act", 8.0)])
def test_the_unit_says_how_long_scale_one_is(graph: Graph, unit: Any, length: float) -> None:
    vector = graph.steering_vector("1/res/0", unit=unit)
    assert list(vector.layers) == [1]
    np.testing.assert_array_equal(vector.layers[1], direction("1/res/0") * np.float32(length))
    assert vector.layers[1].dtype == np.float32
    assert (vector.members[0].weight, vector.settings.unit) == (length, unit)


def test_the_scale_multiplies_and_may_suppress(graph: Graph) -> None:
    vector = graph.steering_vector("1/res/0", scale=-1.5, unit="unit")
    np.testing.assert_array_equal(vector.layers[1], direction("1/res/0") * np.float32(-1.5))
    assert (vector.members[0].coefficient, vector.members[0].weight) == (-1.5, -1.5)


def test_features_that_write_at_one_layer_add_up(graph: Graph) -> None:
    vector = graph.steering_vector(["2/res/1", "1/mlp/0", "1/res/3"], unit="unit")
    assert list(vector.layers) == [1, 2]
    np.testing.assert_array_equal(vector.layers[1], direction("1/mlp/0") + direction("1/res/3"))
    assert [member.write_layer for member in vector.members] == [2, 1, 1]


def test_a_lineage_writes_one_vector_per_layer_of_its_span(graph: Graph) -> None:
    vector = graph.steering_vector("1/res/2", where="cumulative")
    assert [member.key for member in vector.members] == ["0/res/1", "1/res/2", "2/res/1"]
    assert [member.cosine for member in vector.members] == [pytest.approx(0.8), None, pytest.approx(0.8)]
    assert list(vector.layers) == [0, 1, 2]


def test_a_part_of_the_layers_can_be_taken(graph: Graph) -> None:
    whole = graph.steering_vector("1/res/0", where="cumulative")
    part = whole.between(1, 9)
    assert list(part.layers) == [1, 2]
    assert [member.key for member in part.members] == ["1/res/0", "2/res/0"]
    assert list(whole.layers) == [0, 1, 2]
    with pytest.raises(UsageError, match=r"no vector in layers 7 to 9; this one writes after block 0, 1, 2"):
        whole.between(7, 9)


def test_the_lineage_of_an_att_feature_is_steered_through_what_it_writes(graph: Graph) -> None:
    vector = graph.steering_vector("1/att/0", where="cumulative")
    assert [member.key for member in vector.members] == ["0/res/1", "1/res/1", "2/res/1"]


def test_a_vector_knows_where_it_came_from(graph: Graph) -> None:
    vector = graph.steering_vector("2/mlp/3")
    assert (vector.model.name, vector.model.type, vector.model.d_model) == ("toy", "llama", D_MODEL)
    [member] = vector.members
    assert (member.key, member.release, member.sae_id) == ("2/mlp/3", "toy", "2.mlp")
    assert (member.decoder_norm, member.max_activation, member.cosine) == (2.0, 4.0, None)


def test_a_vector_from_the_graph_steers_the_model(graph: Graph) -> None:
    model = language_model("llama", hidden_size=D_MODEL)
    before = residuals(model, "llama")
    with graph.steering_vector("1/mlp/0").apply(model):
        after = residuals(model, "llama")
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1] + torch.from_numpy(direction("1/mlp/0") * np.float32(2)))


def test_an_att_feature_of_sequential_blocks_writes_between_attention_and_mlp(graph: Graph) -> None:
    vector = graph.steering_vector("1/att/0", unit="unit")
    assert vector.layers == {}
    assert list(vector.middles) == [1]
    np.testing.assert_array_equal(vector.middles[1], direction("1/att/0"))


def changed(path: Path, model: dict[str, object], sql: str = "select 1") -> Graph:
    """A toy graph of another model or other SAEs."""
    build_toy(path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["model"] |= model
    (path / "manifest.json").write_text(json.dumps(manifest))
    with duckdb.connect(str(path / "graph.duckdb")) as connection:
        connection.execute(sql)
    return featgraph.open(path)


def test_an_att_feature_of_parallel_blocks_writes_the_block_output(tmp_path: Path) -> None:
    with changed(tmp_path / "toy.featgraph", {"model_type": "gpt_neox"}) as neox:
        assert list(neox.steering_vector("1/att/0").layers) == [1]


def test_the_manifest_overrules_what_the_model_type_suggests(tmp_path: Path) -> None:
    model = {"model_type": "gpt_neox", "parallel_residual": False}
    with changed(tmp_path / "toy.featgraph", model) as neox:
        assert list(neox.steering_vector("1/att/0").middles) == [1]


def test_a_suite_that_reads_before_blocks_writes_one_block_earlier(tmp_path: Path) -> None:
    sql = "update sae set hook_name = 'blocks.' || layer || '.hook_resid_pre' where site = 'res'"
    with changed(tmp_path / "toy.featgraph", {}, sql) as before_blocks:
        assert list(before_blocks.steering_vector(["1/res/0", "2/res/0", "2/mlp/0"]).layers) == [0, 1, 2]
        with pytest.raises(UsageError, match="'0/res/0' reads the residual stream before the first block"):
            before_blocks.steering_vector("0/res/0")


def test_a_dead_feature_has_no_largest_activation(graph: Graph) -> None:
    assert graph.steering_vector("2/res/2").members[0].max_activation is None
    with pytest.raises(UsageError, match=r"'2/res/2' never fired on the graph's text.*use unit raw or unit"):
        graph.steering_vector("2/res/2", unit="max-act")


def test_an_unknown_unit_is_told_the_nearest(graph: Graph) -> None:
    with pytest.raises(
        UsageError,
        match=r"no unit 'max_act'; did you mean 'max-act'\? unit is one of raw, unit, max-act, residual",
    ):
        graph.steering_vector("1/res/0", **{"unit": cast(Any, "max_act")})


def test_an_unknown_unit_without_a_near_one_is_told_all(graph: Graph) -> None:
    with pytest.raises(UsageError, match=r"^no unit 'kg'; unit is one of raw, unit, max-act, residual$"):
        graph.steering_vector("1/res/0", **{"unit": cast(Any, "kg")})


def test_several_seeds_bring_a_lineage_each(graph: Graph) -> None:
    vector = graph.steering_vector({"1/res/0": 1.0, "1/res/2": -2.0}, where="cumulative", unit="unit")
    alone = graph.steering_vector("1/res/0", where="cumulative", unit="unit")
    other = graph.steering_vector("1/res/2", where="cumulative", unit="unit", scale=-2)
    for layer in vector.layers:
        np.testing.assert_allclose(vector.layers[layer], alone.layers[layer] + other.layers[layer], rtol=1e-6)


def test_a_module_feature_without_span_is_not_steered_as_a_lineage(graph: Graph) -> None:
    with pytest.raises(UsageError, match="'1/mlp/2' writes no residual feature, so has no span"):
        graph.steering_vector("1/mlp/2", where="cumulative")


def test_no_features_make_no_vector(graph: Graph) -> None:
    with pytest.raises(UsageError, match="needs at least one feature key"):
        graph.steering_vector([])


def test_an_unknown_feature_is_refused(graph: Graph) -> None:
    with pytest.raises(UsageError, match="no feature '1/res/99'"):
        graph.steering_vector("1/res/99")
