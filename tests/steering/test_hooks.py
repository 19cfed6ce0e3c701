"""Adding vectors to models of every family: exactly at the named point, nowhere before, and not for good."""

from typing import Any

import numpy as np
import pytest
import torch

from featgraph import SourceError
from featgraph.steering import SteeringVector
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.hooks import blocks_of, on_tensor
from helpers.gate_oracle import addition, rescaled
from helpers.real_models import D_MODEL, LAYERS, each_family, random_model
from helpers.steered import (
    EVERYWHERE,
    IDS,
    MIXED,
    PROMPT,
    SAES,
    n_hooks,
    parallel,
    plain_vector,
    points,
    some_vector,
    stream,
    suite_of,
)


@pytest.mark.parametrize("layer", range(LAYERS))
@each_family()
def test_the_residual_changes_by_exactly_the_vector_at_exactly_its_layer(family: str, layer: int) -> None:
    model, added = random_model(family), some_vector(layer)
    before = stream(model)
    with plain_vector(model, {layer: added}).apply(model):
        after = stream(model)
    names = list(points(model))
    for name in names[: names.index(f"out {layer}")]:
        assert torch.equal(before[name], after[name])
    assert torch.equal(after[f"out {layer}"], before[f"out {layer}"] + torch.from_numpy(added))


@pytest.mark.parametrize("layer", range(LAYERS))
@each_family("gpt_neox")
def test_a_middle_changes_the_residual_between_attention_and_mlp(family: str, layer: int) -> None:
    model, added = random_model(family).double(), some_vector(layer)
    before = stream(model)
    with plain_vector(model, {}, {layer: added}).apply(model):
        after = stream(model)
    names = list(points(model))
    for name in names[: names.index(f"mid {layer}")]:
        assert torch.equal(before[name], after[name])
    moved = after[f"mid {layer}"] - before[f"mid {layer}"]
    torch.testing.assert_close(moved, torch.from_numpy(added).double().expand_as(moved))


@pytest.mark.thorough
@pytest.mark.parametrize("positions", ["all", "generated"])
@each_family()
def test_features_of_every_site_are_added_where_they_write(family: str, positions: Any) -> None:
    model, graph = suite_of(family)
    weights = {f"{place}/{idx}": weight for place in SAES for idx, weight in MIXED.items()}
    vector = graph.steering_vector(weights, scale=1.5, positions=positions)
    ends = {**{(layer, "out"): [f"{layer}/res", f"{layer}/mlp"] for layer in range(LAYERS)}}
    for layer in range(LAYERS):
        ends.setdefault((layer, "out" if parallel(model) else "mid"), []).append(f"{layer}/att")
    for (layer, point), places in ends.items():
        expected = sum(written(vector, model, place) for place in places)
        found = vector.layers[layer] if point == "out" else vector.middles[layer]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    part = vector.between(1, 1)
    assert_moves(model, part, positions)


def loaded_of(vector: SteeringVector, place: str, model: Any) -> LoadedSae:
    assert vector.suite is not None
    layer, site = place.split("/")
    [sae] = [sae for sae in vector.suite.saes if (sae.layer, sae.site) == (int(layer), site)]
    return vector.suite.sae(sae, LanguageModel(model, None, "random"), keep=True)


def written(vector: SteeringVector, model: Any, place: str) -> Any:
    """What the features of one SAE write into the stream, from its weights, at scale 1.5."""
    layer = place.split("/")[0]
    loaded = loaded_of(vector, place, model)
    assert loaded.sae is not None
    rows = loaded.sae.W_dec.detach().double()
    if rescaled(loaded.sae):
        rows = rows / rows.norm(dim=1, keepdim=True)
    total = sum(1.5 * weight * rows[int(idx)] for idx, weight in MIXED.items())
    assert isinstance(total, torch.Tensor)
    blocks, suffix = blocks_of(model), f"{blocks_of(model).path}.{layer}"
    with torch.no_grad():
        if "hook_z" in loaded.hook_name:
            projection = model.get_submodule(suffix + blocks.projection)
            total = projection(total[None])[0] - projection(torch.zeros_like(total[None]))[0]
            if blocks.norm_after_attention:
                norm = model.get_submodule(suffix + blocks.norm_after_attention)
                total = total * norm(torch.ones_like(total))
    return total.numpy()


def assert_moves(model: Any, vector: SteeringVector, positions: str) -> None:
    """The stream after block 1 moves by its vector at the right tokens, whatever the middle does to it."""
    middle = plain_vector(model, {}, vector.middles, positions=positions)
    with middle.apply(model, prompt_tokens=PROMPT):
        before = stream(model)
    with vector.apply(model, prompt_tokens=PROMPT):
        after = stream(model)
    moved = after["out 1"] - before["out 1"]
    place = torch.arange(IDS.shape[1])[None, :, None]
    here = {"all": place >= 0, "prompt": place < PROMPT, "generated": place >= PROMPT}[positions]
    expected = here * torch.from_numpy(vector.layers[1]).double()
    torch.testing.assert_close(moved, expected.expand_as(moved))


@each_family()
def test_several_layers_are_steered_at_once(family: str) -> None:
    model, first, second = random_model(family), some_vector(1), some_vector(2)
    with plain_vector(model, {0: first}).apply(model):
        only_first = stream(model)
    with plain_vector(model, {0: first, 2: second}).apply(model):
        both = stream(model)
    assert torch.equal(both["out 1"], only_first["out 1"])
    assert torch.equal(both["out 2"], only_first["out 2"] + torch.from_numpy(second))


@pytest.mark.thorough
@each_family()
def test_afterwards_the_model_is_as_before(family: str) -> None:
    model, graph = suite_of(family)
    before = stream(model)
    weights = {f"{place}/0": 1.0 for place in SAES}
    for mode, positions in (("add", "prompt"), ("ablate", "generated")):
        vector = graph.steering_vector(weights, mode=mode, positions=positions)  # type: ignore[arg-type]
        with vector.apply(model):
            assert n_hooks(model) > LAYERS
            stream(model)
        assert n_hooks(model) == 0
    after = stream(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("mode", ["add", "ablate"])
def test_an_exception_leaves_no_hook_behind(mode: Any) -> None:
    model, graph = suite_of("llama")
    vector = graph.steering_vector([f"{place}/0" for place in SAES], mode=mode, positions="prompt")
    with pytest.raises(RuntimeError, match="interrupted"), vector.apply(model):
        raise RuntimeError("interrupted")
    assert n_hooks(model) == 0


@pytest.mark.thorough
def test_an_sae_that_does_not_load_leaves_no_hook_of_those_before_it(tmp_path: Any) -> None:
    import featgraph
    from helpers.steered import write_graph

    model = random_model("llama")
    with featgraph.open(write_graph(tmp_path, model, SAES)) as graph:
        vector = graph.steering_vector(["0/res/0", "1/res/0", "2/res/0"], mode="ablate")
    (tmp_path / "1.res" / "sae_weights.safetensors").unlink()
    with pytest.raises(SourceError, match=r"1\.res"), vector.apply(model):
        pass
    assert n_hooks(model) == 0


def test_nested_vectors_add_up() -> None:
    model = random_model("llama")
    vector = plain_vector(model, {1: some_vector(1)})
    before = stream(model)
    with vector.apply(model), vector.apply(model):
        after = stream(model)
    added = torch.from_numpy(some_vector(1))
    assert torch.equal(after["out 1"], before["out 1"] + added + added)


@pytest.mark.parametrize("mode", ["rescale", "clamp"])
def test_a_nested_gate_finds_what_the_outer_one_has_left(mode: Any) -> None:
    model, graph = suite_of("gpt2")
    vector = graph.steering_vector({"1/res/1": 1, "1/res/3": 1}, mode=mode, scale=-3)
    loaded = loaded_of(vector, "1/res", model)
    plain = stream(model)["out 1"]
    once = plain + addition(loaded, model, vector, plain, EVERYWHERE)
    twice = once + addition(loaded, model, vector, once, EVERYWHERE)
    with vector.apply(model), vector.apply(model):
        found = stream(model)["out 1"]
    assert (twice - once).abs().max() > 0.01
    torch.testing.assert_close(found, twice, rtol=0, atol=1e-5 * float(twice.detach().abs().max()))


@pytest.mark.parametrize("mode", ["add", "rescale"])
def test_a_half_precision_model_stays_in_half_precision(mode: Any) -> None:
    plain, graph = suite_of("llama")
    model = random_model("llama").to(torch.bfloat16)
    vector = graph.steering_vector(["1/res/0", "1/mlp/1", "0/att/2"], mode=mode, scale=4)
    with vector.apply(model):
        steered = stream(model)["out 1"]
    assert steered.dtype == torch.bfloat16
    moved = steered.double() - stream(model)["out 1"].double()
    with vector.apply(plain):
        expected = stream(plain)["out 1"]
    expected = expected - stream(plain)["out 1"]
    assert (moved - expected).norm() < 0.1 * expected.norm()


def test_a_block_may_give_a_tuple() -> None:
    model = random_model("llama")
    last = model.model.layers[LAYERS - 1]
    last.register_forward_hook(lambda _, given, output: (output, "extra"))
    seen = []

    def first_of_two(_module: Any, _given: Any, output: Any) -> Any:
        seen.append(output)
        return output[0]

    with plain_vector(model, {LAYERS - 1: some_vector(1)}).apply(model):
        last.register_forward_hook(first_of_two)
        steered = stream(model)
    last._forward_hooks.clear()
    [(hidden, extra)] = seen
    assert torch.equal(hidden, steered[f"out {LAYERS - 1}"])
    assert torch.equal(hidden, stream(model)[f"out {LAYERS - 1}"] + torch.from_numpy(some_vector(1)))
    assert extra == "extra"


def test_a_hook_name_may_mean_a_modules_input() -> None:
    class Doubling(torch.nn.Module):
        def forward(self, hidden_states: torch.Tensor, *, other: int) -> torch.Tensor:
            return 2 * hidden_states + other

    module, one = Doubling(), torch.ones(2)
    assert module(hidden_states=one, other=3).tolist() == [5, 5]
    handle = on_tensor(module, "input", lambda tensor: tensor + 1)
    assert module(hidden_states=one, other=3).tolist() == module(one, other=3).tolist() == [7, 7]
    handle.remove()
    on_tensor(module, "input", lambda tensor: None)
    assert module(hidden_states=one, other=3).tolist() == [5, 5]


def refused(vector: SteeringVector, model: Any, match: str) -> None:
    with pytest.raises(SourceError, match=match), vector.apply(model):
        pass
    assert n_hooks(model) == 0


def test_a_model_of_another_width_is_refused() -> None:
    model = random_model("llama")
    vector = plain_vector(model, {0: np.ones(6, dtype=np.float32)})
    vector = SteeringVector(vector.layers, (), vector.settings, type(vector.model)("small", "llama", 6, 3))
    refused(
        vector,
        model,
        rf"this LlamaForCausalLM has d_model {D_MODEL}, but the vector has 6; apply it to small",
    )


def test_a_model_with_too_few_blocks_is_refused_before_any_hook() -> None:
    model = random_model("llama")
    vector = plain_vector(model, {0: some_vector(0), 3: some_vector(3)})
    refused(vector, model, "has blocks 0 to 2, but the vector writes after block 3")


def test_a_model_of_another_family_is_refused() -> None:
    vector = plain_vector(random_model("llama"), {0: some_vector(0)})
    refused(vector, random_model("gpt2"), r"this GPT2LMHeadModel is a gpt2, but the vector is for a llama")


def test_the_text_part_of_a_multimodal_model_is_of_its_family() -> None:
    whole, text = random_model("gemma3_multimodal"), random_model("gemma3")
    for made_for, applied_to in ((whole, text), (text, whole)):
        with plain_vector(made_for, {0: some_vector(0)}).apply(applied_to):
            assert n_hooks(applied_to) == 1


def test_a_gated_vector_without_its_graph_is_refused() -> None:
    model = random_model("llama")
    refused(
        plain_vector(model, {}, mode="clamp"), model, "mode clamp looks at activations, so it needs the SAEs"
    )
    firing = plain_vector(model, {}, positions="firing")
    refused(firing, model, "positions firing looks at activations, so it needs the SAEs of a graph")


def test_the_error_about_other_weights_names_both_digests() -> None:
    model, graph = suite_of("llama")
    vector = graph.steering_vector("1/res/0")
    same = LanguageModel(model, None, "this")
    vector.check_model(same)
    other = LanguageModel(random_model("llama"), None, "other")
    with pytest.raises(SourceError) as told:
        vector.check_model(other)
    assert str(told.value).startswith(
        "the model other is not the one that the vector was made for: its sha256"
    )
    assert other.digest[:12] in str(told.value)
    assert same.digest[:12] in str(told.value)


def test_a_vector_that_knows_no_digest_takes_any_weights() -> None:
    model = random_model("llama")
    plain_vector(model, {0: some_vector(0)}).check_model(LanguageModel(model, None, "random"))
