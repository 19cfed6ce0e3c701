"""Steered generation: with a key-value cache, in batches, padded, and token by token, as in one full pass."""

from typing import Any

import pytest
import torch

from featgraph import UsageError
from featgraph.steering import SteeringVector
from helpers.real_models import each_family
from helpers.steered import IDS, SAES, plain_vector, some_vector, suite_of

N_NEW = 5
CASES = [("add", "all"), ("add", "generated"), ("rescale", "prompt"), ("min-clamp", "firing")]
KINDS: dict[str, dict[str, Any]] = {
    "add": {},
    "rescale": {"mode": "rescale", "scale": -2},
    "min-clamp": {"mode": "min-clamp", "scale": 2},
}


def vector_of(family: str, kind: str, positions: Any) -> SteeringVector:
    """One feature of every SAE; `firing` is a gate of its own where the mode is add."""
    _, graph = suite_of(family)
    keys = [f"{place}/{number % 6}" for number, place in enumerate(SAES)]
    return graph.steering_vector(keys, positions=positions, **KINDS[kind])


def generated(model: Any, ids: torch.Tensor, **options: Any) -> Any:
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": N_NEW, "do_sample": False, **options}
    return model.generate(
        ids, **given, pad_token_id=0, eos_token_id=None, return_dict_in_generate=True, output_logits=True
    )


def full(model: Any, vector: SteeringVector, sequences: torch.Tensor, n_prompt: int) -> torch.Tensor:
    """The logits that chose each new token, in one pass over prompt and text."""
    with torch.no_grad(), vector.apply(model, prompt_tokens=n_prompt):
        logits: torch.Tensor = model(sequences).logits
    return logits[:, n_prompt - 1 : -1]


def agrees(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), atol=1e-4, rtol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "positions"), CASES)
@each_family()
def test_generation_with_a_cache_agrees_with_a_full_pass(family: str, kind: str, positions: str) -> None:
    model, _ = suite_of(family)
    vector = vector_of(family, kind, positions)
    with vector.apply(model):
        made = generated(model, IDS)
    steps = torch.stack(made.logits, dim=1)
    agrees(steps, full(model, vector, made.sequences, IDS.shape[1]))
    with torch.no_grad():
        plain = model(made.sequences).logits[:, IDS.shape[1] - 1 : -1]
    assert (steps - plain).abs().max() > 0.01, "the vector has something to do"


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "positions"), CASES)
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_generation_without_a_cache_agrees_too(family: str, kind: str, positions: str) -> None:
    model, _ = suite_of(family)
    vector = vector_of(family, kind, positions)
    with vector.apply(model):
        made = generated(model, IDS, use_cache=False)
        again = generated(model, IDS[:1, :3], use_cache=False)
    agrees(torch.stack(made.logits, dim=1), full(model, vector, made.sequences, IDS.shape[1]))
    agrees(torch.stack(again.logits, dim=1), full(model, vector, again.sequences, 3))


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "positions"), CASES)
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "gpt_neox"])
def test_padding_on_the_left_does_not_change_a_rows_text(family: str, kind: str, positions: str) -> None:
    model, _ = suite_of(family)
    vector = vector_of(family, kind, positions)
    padded, mask = IDS.clone(), torch.ones_like(IDS)
    padded[0, :3], mask[0, :3] = 0, 0
    with vector.apply(model):
        together = torch.stack(generated(model, padded, attention_mask=mask).logits, dim=1)
        alone = [torch.stack(generated(model, row[None]).logits, dim=1) for row in (IDS[0, 3:], IDS[1])]
    agrees(together, torch.cat(alone))


@pytest.mark.thorough
@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "firing"])
def test_the_rows_of_a_batch_do_not_mix(positions: str) -> None:
    model, _ = suite_of("qwen3")
    vector = vector_of("qwen3", "rescale", positions)
    with torch.no_grad(), vector.apply(model, prompt_tokens=4):
        together = model(IDS).logits
        alone = torch.cat([model(row[None]).logits for row in IDS])
    agrees(together, alone)


@pytest.mark.parametrize("positions", ["prompt", "generated"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_a_prompt_read_in_two_parts_needs_its_length(family: str, positions: Any) -> None:
    model, _ = suite_of(family)
    vector = vector_of(family, "add", positions)
    with torch.no_grad(), vector.apply(model, prompt_tokens=5):
        first = model(IDS[:, :3], use_cache=True)
        second = model(IDS[:, 3:], past_key_values=first.past_key_values, use_cache=True)
        whole = model(IDS).logits
    agrees(torch.cat([first.logits, second.logits], dim=1), whole)
    told = rf"positions {positions}: a pass reads 4 tokens after 3 in its cache, and nothing says how many"
    with torch.no_grad(), vector.apply(model):
        first = model(IDS[:, :3], use_cache=True)
        with pytest.raises(UsageError, match=told):
            model(IDS[:, 3:], past_key_values=first.past_key_values, use_cache=True)


def test_a_cache_from_elsewhere_needs_the_length_of_the_prompt_too() -> None:
    model, _ = suite_of("llama")
    with torch.no_grad():
        read = model(IDS[:, :-1], use_cache=True).past_key_values
    vector = vector_of("llama", "add", "generated")
    with (
        torch.no_grad(),
        vector.apply(model),
        pytest.raises(UsageError, match="a pass reads 1 tokens after 6 in its cache"),
    ):
        model(IDS[:, -1:], past_key_values=read)


def test_the_base_model_is_followed_as_the_whole_one() -> None:
    model, _ = suite_of("llama")
    vector = vector_of("llama", "add", "prompt")
    with torch.no_grad(), vector.apply(model):
        bare = model.base_model(IDS).last_hidden_state
        by_embedding = model.base_model(inputs_embeds=model.get_input_embeddings()(IDS)).last_hidden_state
        whole = model(IDS).logits
    agrees(model.lm_head(bare), whole)
    agrees(model.lm_head(by_embedding), whole)


@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_generation_from_embeddings_knows_its_prompt(positions: Any) -> None:
    model, _ = suite_of("llama")
    vector = plain_vector(model, {1: 3 * some_vector(1)}, positions=positions)
    embedded = model.get_input_embeddings()(IDS)
    with vector.apply(model):
        by_ids = generated(model, IDS)
        by_embedding = model.generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones_like(IDS),
            max_new_tokens=N_NEW,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )
    assert torch.equal(by_embedding, by_ids.sequences[:, IDS.shape[1] :])


@pytest.mark.thorough
def test_beams_keep_the_prompt_they_began_with() -> None:
    model, _ = suite_of("gpt2")
    vector = vector_of("gpt2", "add", "generated")
    with vector.apply(model):
        cached = model.generate(IDS, max_new_tokens=4, num_beams=3, do_sample=False, pad_token_id=0)
        bare = model.generate(
            IDS, max_new_tokens=4, num_beams=3, do_sample=False, pad_token_id=0, use_cache=False
        )
    with vector.apply(model, prompt_tokens=IDS.shape[1]):
        told = model.generate(IDS, max_new_tokens=4, num_beams=3, do_sample=False, pad_token_id=0)
    assert torch.equal(cached, told)
    assert torch.equal(bare, told)


def test_a_second_prompt_in_one_block_begins_anew() -> None:
    model, _ = suite_of("llama")
    vector = vector_of("llama", "add", "generated")
    with vector.apply(model):
        generated(model, IDS)
        second = generated(model, IDS[:, :4])
    agrees(torch.stack(second.logits, dim=1), full(model, vector, second.sequences, 4))


def test_another_prompt_that_is_a_token_longer_is_a_prompt() -> None:
    model, _ = suite_of("llama")
    vector = vector_of("llama", "add", "prompt")
    with torch.no_grad():
        with vector.apply(model):
            model(IDS[:1, :4], use_cache=False)
            found = model(IDS[1:, :5], use_cache=False).logits
        with vector.apply(model, prompt_tokens=5):
            expected = model(IDS[1:, :5]).logits
    agrees(found, expected)


@pytest.mark.parametrize("length", [-1, 2.5, "3"])
def test_a_prompt_of_an_impossible_length_is_refused(length: Any) -> None:
    model, _ = suite_of("llama")
    vector = vector_of("llama", "add", "prompt")
    with pytest.raises(UsageError, match="give a whole number"), vector.apply(model, prompt_tokens=length):
        pass
