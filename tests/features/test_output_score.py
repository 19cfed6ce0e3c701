"""The output score S_out: batched against one feature at a time, and its parts against hand-made ones."""

from pathlib import Path
from typing import Any

import pytest
import torch

import featgraph
from featgraph import Graph
from featgraph.features import output_score
from featgraph.features.output_score import lens_tokens, output_scores, scored
from featgraph.suite import LanguageModel
from helpers.lit_suite import Suite
from helpers.real_models import N_VOCABULARY, each_family, random_model


def one(suite: Suite, graph: Graph, key: str) -> float:
    """S_out of one feature: its definition read out, with the steering vector that the graph makes of it."""
    layer, site, idx = key.split("/")
    sae = suite.sae(int(layer), site)
    ids = torch.tensor([[suite.tokenizer.bos_token_id, *suite.ids(output_score.PROMPT)]])
    with torch.no_grad():
        largest = float(sae.encode(suite.read(ids)[int(layer), site])[0, -1].max())
        lens = suite.model.lm_head(suite.model.model.norm(sae.W_dec[int(idx)])).topk(20).indices.tolist()
        vector = graph.steering_vector(key, scale=10 * largest, positions="generated")
        with vector.apply(suite.model, prompt_tokens=ids.shape[1] - 1):
            probabilities: torch.Tensor = suite.model(ids).logits[0, -1].softmax(dim=0)
    order: list[int] = probabilities.argsort(descending=True).tolist()
    rank = min(order.index(token) for token in lens)
    return (1 - rank / len(order)) * max(float(probabilities[token]) for token in lens)


@pytest.mark.thorough
@pytest.mark.parametrize("site", ["res", "mlp", "att"])
def test_a_score_is_that_of_one_feature_at_a_time(
    suite: Suite, graph: Graph, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_score, "ROWS", 3)
    saes = [sae_range for sae_range in graph.store.saes if sae_range.site == site]
    chosen = {
        str(sae_range.key(idx)): sae_range.first_id + idx for sae_range in saes for idx in (0, 3, 7, 11, 38)
    }
    scores = output_scores(graph.store, list(chosen.values()))
    assert set(scores) == set(chosen.values())
    for key, id in chosen.items():
        assert scores[id] == pytest.approx(one(suite, graph, key), rel=1e-3, abs=1e-6), key


def test_a_screen_sorts_and_sieves(graph: Graph) -> None:
    asked: dict[str, Any] = {"near": "1/res/3", "k": 12}
    plain = graph.find(**asked).dicts()
    screened = graph.find(**asked, screen=True).dicts()
    assert {row["key"] for row in screened} == {row["key"] for row in plain}
    scores: list[Any] = [row["s_out"] for row in screened]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    least = scores[5]
    assert (
        graph.find(**asked, min_s_out=least).dicts() == screened[: scores.count(least) + scores.index(least)]
    )


@pytest.mark.thorough
def test_where_no_feature_is_active_a_score_says_nothing(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_score, "AMPLIFICATION", 0.0)
    assert output_scores(graph.store, [5]) == {5: None}
    rows = graph.find(near="1/res/3", k=2, screen=True).dicts()
    assert [row["s_out"] for row in rows] == [None, None]
    assert len(graph.find(near="1/res/3", k=2, min_s_out=0.0)) == 0


def test_the_best_place_and_the_largest_probability_count() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    lens = torch.tensor([[0, 2], [0, 1]])
    assert scored(probabilities, lens) == pytest.approx([(1 - 1 / 4) * 0.3, 0.7])


@each_family()
def test_every_family_has_a_logit_lens_and_takes_vectors(family: str) -> None:
    model = random_model(family)
    held = LanguageModel(model, None, family)
    rows = torch.randn(4, held.d_model, generator=torch.Generator().manual_seed(1)).numpy()
    ids = torch.tensor([[3, 4, 5]])
    with torch.inference_mode():
        lens = lens_tokens(held, rows)
        after = output_score._after(held, ids, rows, 1, between=False)
        plain = model(ids).logits[0, -1].softmax(dim=0)
    assert lens.shape == (4, min(20, N_VOCABULARY))
    assert after.shape == (4, N_VOCABULARY)
    assert not torch.allclose(after, plain.expand(4, -1), atol=1e-3)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits[0, -1].softmax(dim=0), plain)


@pytest.mark.parametrize(("family", "norm"), [("llama", "model.norm"), ("gpt2", "transformer.ln_f")])
def test_the_lens_looks_through_the_final_norm(family: str, norm: str) -> None:
    model = random_model(family)
    rows = torch.randn(6, model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = model.lm_head(model.get_submodule(norm)(rows)).topk(20, dim=1).indices
        plain = model.lm_head(rows).topk(20, dim=1).indices
        found = lens_tokens(LanguageModel(model, None, family), rows.numpy())
    assert found.tolist() == wanted.tolist()
    assert found.tolist() != plain.tolist()


@pytest.mark.slow
def test_a_screen_of_the_demo_takes_seconds_and_tells_features_apart(demo: tuple[Path, str]) -> None:
    with featgraph.open(demo[0] / "demo.featgraph") as graph:
        rows = graph.find(label="scared", k=50, screen=True).dicts()
    scores: list[Any] = [row["s_out"] for row in rows]
    assert len(scores) > 20
    assert scores[0] > 5 * scores[-1]
