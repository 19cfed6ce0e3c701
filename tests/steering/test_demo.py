"""The demo suite, steered: every mode moves its tensors as its SAEs say, and generation as a full pass."""

from typing import Any

import pytest
import torch

from featgraph import Graph
from featgraph.steering import SteeringVector
from featgraph.suite.graph_suite import GraphSuite
from helpers.gate_oracle import check
from helpers.steered import PROMPT, stream

STORY = "Once upon a time there was a little girl who had a dog. One day the dog"
MODES: list[dict[str, Any]] = [
    {"mode": "add", "positions": "firing", "unit": "max-act"},
    {"mode": "rescale", "scale": -4},
    {"mode": "clamp", "unit": "max-act", "scale": 2, "positions": "prompt"},
    {"mode": "min-clamp", "unit": "max-act", "positions": "generated"},
    {"mode": "ablate"},
]


def densest(demo_graph: Graph) -> list[str]:
    """The feature of each SAE of three layers that fires most often."""
    rows = demo_graph.store.rows(
        "select arg_max(key, density) from feature where layer in (0, 3, 7) group by layer, site order by 1"
    )
    return [key for (key,) in rows]


def story(model: Any) -> torch.Tensor:
    ids = model.tokenizer(STORY, add_special_tokens=False)["input_ids"]
    return torch.tensor([[model.tokenizer.bos_token_id, *ids]])


def steered(ids: torch.Tensor, positions: str) -> list[bool]:
    place = range(ids.shape[1])
    return [{"prompt": at < PROMPT, "generated": at >= PROMPT}.get(positions, True) for at in place]


@pytest.mark.slow
def test_every_mode_moves_the_demo_models_tensors_as_its_saes_say(demo_graph: Graph) -> None:
    model = GraphSuite(demo_graph.store).model
    ids = story(model)
    for settings in MODES:
        vector = demo_graph.steering_vector(densest(demo_graph), **settings)
        vector.check_model(model)
        check(model.model.double(), vector, steered(ids, vector.settings.positions), ids)


@pytest.mark.slow
def test_a_vector_moves_the_demo_models_stream_by_itself(demo_graph: Graph) -> None:
    model = GraphSuite(demo_graph.store).model
    ids = story(model)
    vector = demo_graph.steering_vector("3/res/346", where="cumulative", unit="residual", scale=0.3).between(
        3, 3
    )
    before = stream(model.model, ids)
    with vector.apply(model.model):
        after = stream(model.model, ids)
    assert torch.equal(after["out 3"], before["out 3"] + torch.from_numpy(vector.layers[3]))
    assert torch.equal(after["out 2"], before["out 2"])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"unit": "residual", "scale": 0.5}, *MODES], ids=str)
def test_steered_generation_is_that_of_a_full_pass(demo_graph: Graph, settings: dict[str, Any]) -> None:
    model = GraphSuite(demo_graph.store).model
    ids = story(model)
    vector: SteeringVector = demo_graph.steering_vector(densest(demo_graph), **settings)
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    with vector.apply(model.model):
        made = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
            **options,
        )
    with torch.no_grad(), vector.apply(model.model, prompt_tokens=ids.shape[1]):
        full = model.model(made.sequences).logits[:, ids.shape[1] - 1 : -1]
    torch.testing.assert_close(torch.stack(made.logits, dim=1), full, atol=1e-4, rtol=1e-4)
