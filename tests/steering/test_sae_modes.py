"""Modes that change SAE codes: the change at every site, in every family, computed from the weights."""

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from featgraph.steering import SteeringVector
from featgraph.suite import LanguageModel
from featgraph.suite.graph_suite import GraphSuite
from helpers.gate_oracle import addition, assert_same, check, loaded_of, written_by
from helpers.real_models import LAYERS, each_family, random_model
from helpers.steered import EVERYWHERE, IDS, MIXED, PROMPT, SAES, kept, parallel, points, stream, suite_of

MODES = ["add", "rescale", "clamp", "min-clamp", "ablate"]


def vector_of(
    family: str, places: Sequence[str], *, centred: bool = False, **settings: Any
) -> SteeringVector:
    """Several features of each of some SAEs, at weights of both signs."""
    _, graph = suite_of(family, centred=centred)
    weights = {f"{place}/{idx}": weight for place in places for idx, weight in MIXED.items()}
    return graph.steering_vector(weights, **settings)


@each_family("gpt_neox")
@pytest.mark.parametrize("mode", MODES)
def test_every_sae_moves_its_tensor_as_the_mode_says(family: str, mode: Any) -> None:
    positions: Any = "firing" if mode == "add" else "all"
    vector = vector_of(family, list(SAES), mode=mode, positions=positions, scale=1.5)
    check(suite_of(family)[0], vector, EVERYWHERE)


@pytest.mark.thorough
@pytest.mark.parametrize("site", ["att", "mlp"])
@pytest.mark.parametrize("mode", MODES)
def test_parallel_blocks_add_what_attention_and_mlp_were_changed_by(mode: Any, site: str) -> None:
    model, _ = suite_of("gpt_neox")
    positions: Any = "firing" if mode == "add" else "all"
    vector = vector_of("gpt_neox", [f"1/{site}"], mode=mode, positions=positions, scale=1.5)
    [loaded] = loaded_of(vector, model)
    assert loaded.reading is not None
    ends = {
        "read": (loaded.reading.module, loaded.reading.end),
        "rebuilt": (loaded.reading.rebuilt.module, loaded.reading.rebuilt.end),
    }
    plain = stream(model)
    with kept(model, ends) as before, vector.apply(model):
        after = stream(model)
    added = addition(loaded, model, vector, before["read"], EVERYWHERE)
    rebuilt = before["rebuilt"]
    moved = written_by(model, loaded, rebuilt + added) - written_by(model, loaded, rebuilt)
    assert added.abs().max() > 0.01
    assert_same(after["out 1"] - plain["out 1"], moved)


@each_family()
@pytest.mark.parametrize("positions", ["prompt", "generated", "firing"])
@pytest.mark.parametrize("mode", ["rescale", "clamp"])
def test_only_the_tokens_asked_for_are_changed(family: str, positions: Any, mode: Any) -> None:
    places = [place for place in SAES if family != "gpt_neox" or place.endswith("res")]
    vector = vector_of(family, places, mode=mode, positions=positions, scale=-2)
    place = range(IDS.shape[1])
    steered = {
        "prompt": [token < PROMPT for token in place],
        "generated": [token >= PROMPT for token in place],
        "firing": EVERYWHERE,
    }[positions]
    check(suite_of(family)[0], vector, steered)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", MODES)
def test_a_centred_suite_moves_the_stream_without_its_mean(mode: Any) -> None:
    positions: Any = "firing" if mode == "add" else "all"
    places = [f"{layer}/{site}" for layer in range(LAYERS) for site in ("att", "mlp", "res")]
    vector = vector_of("gpt2", places, centred=True, mode=mode, positions=positions, scale=1.5)
    assert vector.members[8].write_layer == -1, "0/res reads what the embedding gives"
    check(suite_of("gpt2", centred=True)[0], vector, EVERYWHERE)


@pytest.mark.parametrize("place", SAES)
@each_family()
def test_nothing_before_the_sae_changes_by_a_bit(family: str, place: str) -> None:
    model, graph = suite_of(family)
    before = stream(model)
    vector = graph.steering_vector(f"{place}/0", mode="clamp", scale=3)
    with vector.apply(model):
        after = stream(model)
    layer, site = place.split("/")
    first = f"mid {layer}" if site == "att" and not parallel(model) else f"out {layer}"
    names = list(points(model))
    for name in names[: names.index(first)]:
        assert torch.equal(before[name], after[name]), name
    assert (before[first] - after[first]).abs().max() > 0.01


@pytest.mark.thorough
def test_an_sae_is_loaded_once_for_each_model_and_not_kept_longer_than_that() -> None:
    _, graph = suite_of("llama")
    suite = GraphSuite(graph.store)
    sae, first = graph.store.saes[2], random_model("llama")
    loaded = suite.sae(sae, LanguageModel(first, None, "random"), keep=True)
    assert suite.sae(sae, LanguageModel(first, None, "random")) is loaded
    assert suite.sae(sae, LanguageModel(random_model("llama"), None, "random")) is not loaded
    gone = weakref.ref(loaded)
    del first, loaded
    gc.collect()
    assert gone() is None


def test_steering_vectors_need_no_gradient_and_keep_the_models() -> None:
    model, graph = suite_of("llama")
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    vector = graph.steering_vector("1/res/3", mode="rescale", scale=-2)
    with vector.apply(model):
        model(inputs_embeds=embedded).logits.sum().backward()
    [loaded] = loaded_of(vector, model)
    assert loaded.sae is not None
    assert loaded.sae.W_dec.grad is None
    assert embedded.grad is not None
    assert embedded.grad.abs().max() > 0


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_many_tokens_are_encoded_group_by_group(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = suite_of(family)
    places = [place for place in SAES if place != "0/att"]
    vector = vector_of(family, places, mode="clamp", positions="generated", scale=2)
    with vector.apply(model, prompt_tokens=3):
        whole = stream(model)
    monkeypatch.setattr("featgraph.suite.sae.ENCODE_CODES", 30)
    with vector.apply(model, prompt_tokens=3):
        grouped = stream(model)
    for name, found in grouped.items():
        assert_same(found, whole[name])
