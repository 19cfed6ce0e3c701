"""Formulas, readings and controls of `featgraph evaluate`, against numbers by hand and brute force."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featgraph import Graph, UsageError
from featgraph.core.bootstrap import Values, mean_interval
from featgraph.evaluation import measures
from featgraph.evaluation.controls import CONTROLS, control
from featgraph.evaluation.prompts import NEUTRAL, PROMPTS, read_prompts, split
from featgraph.evaluation.readings import divergence, likelihood, presence, theme_logprobs
from featgraph.evaluation.themes import Downstream, Theme, theme_of
from featgraph.steering.generate import Generated, Generation, generate
from featgraph.suite.graph_suite import GraphSuite

SEED = "1/res/3"
CUMULATIVE: Any = {"where": "cumulative", "min": -1.0, "scale": 2.0}


@pytest.fixture
def suite(graph: Graph) -> GraphSuite:
    return GraphSuite(graph.store)


def texts(suite: GraphSuite) -> list[Generated]:
    made = generate(suite.model, ["the cat", "a dog and a", "the"], [0, 1, 2], Generation(max_tokens=9))
    return [*made, Generated((0, 5), (), "")]


def test_theme_activation_is_a_weighted_mean_of_shares_of_the_largest() -> None:
    codes = torch.tensor([[1.0, 0.0], [3.0, 8.0]])
    found = measures.theme_activation(codes, torch.tensor([4.0, 16.0]), torch.tensor([3.0, 1.0]))
    assert found == pytest.approx(0.75 * (2 / 4) + 0.25 * (4 / 16))
    assert measures.theme_share(codes[:, 1:]) == 0.5


def test_texts_without_tokens_or_words_have_no_measure() -> None:
    nothing = torch.zeros(0, 2)
    found = [
        measures.theme_activation(nothing, torch.ones(2), torch.ones(2)),
        measures.theme_share(nothing),
        measures.keyword_rate("...", {"rain"}),
        measures.distinct("word", 2),
    ]
    assert all(map(math.isnan, found))


def test_theme_logprob_adds_up_probabilities() -> None:
    logprobs = torch.tensor([[0.5, 0.2, 0.3]]).log()
    assert measures.theme_logprob(logprobs, torch.tensor([0, 2])).exp().item() == pytest.approx(0.8)


def test_kl_is_the_sum_of_p_ln_p_over_q_and_0_of_the_same() -> None:
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert measures.kl(p.log(), q.log()).item() == pytest.approx(expected, rel=1e-5)
    assert measures.kl(p.log(), p.log()).item() == 0


def test_words_are_counted_without_case_and_punctuation() -> None:
    assert measures.words_of('"Don\'t," said Tom_. 2 dogs!') == ["don't", "said", "tom", "2", "dogs"]
    assert measures.keyword_rate("Rain! The rain, raining.", {"rain"}) == 0.5
    assert measures.distinct("a a a b", 1) == 0.5
    assert measures.distinct("a a a b", 2) == pytest.approx(2 / 3)


def test_likelihood_is_the_models_own_loss_on_each_text(suite: GraphSuite) -> None:
    made = texts(suite)
    found = likelihood(suite.model, made)
    for text, value in zip(made[:3], found, strict=False):
        labels = torch.tensor([[-100] * len(text.prompt) + list(text.tokens)])
        ids = torch.tensor([[*text.prompt, *text.tokens]])
        assert value == pytest.approx(suite.model.model(ids, labels=labels).loss.item(), rel=1e-4)
    assert math.isnan(found[3])


@pytest.mark.thorough
def test_presence_uses_sae_activations_on_the_generated_tokens(graph: Graph, suite: GraphSuite) -> None:
    theme = theme_of(graph.store, {SEED: 1.0}, suite.model, min=-1, keywords=["cat"])
    made = texts(suite)
    activation, share = presence(suite, theme, made)
    for place, text in enumerate(made[:3]):
        codes = torch.stack([_codes(suite, text, one) for one in theme.features], dim=1)
        shares = codes / torch.tensor([one.largest for one in theme.features])
        weight = torch.tensor([one.weight for one in theme.features])
        assert activation[place] == pytest.approx(
            float((shares.mean(0) * weight).sum() / weight.sum()), rel=1e-4
        )
        assert share[place] == pytest.approx(float((codes != 0).any(1).float().mean()))
    assert math.isnan(activation[3])
    assert activation[:3].any()


def _codes(suite: GraphSuite, text: Generated, feature: Downstream) -> torch.Tensor:
    sae = suite.saes[feature.number]
    ids = torch.tensor([[*text.prompt, *text.tokens]])
    with torch.no_grad():
        # Layer L's residual stream is the hidden state after L + 1 blocks; the last one is normed there.
        assert sae.layer < 2 or sae.site == "res"
        seen: list[torch.Tensor] = []
        block = suite.model.model.model.layers[sae.layer]
        handle = block.register_forward_hook(lambda _, __, out: seen.append(out))
        suite.model.model(ids)
        handle.remove()
        codes = suite.sae(sae).sae.encode(seen[0][0])  # type: ignore[union-attr]
    found: torch.Tensor = codes[len(text.prompt) :, feature.idx]
    return found


def test_the_themes_logprob_without_steering_is_the_models_own(suite: GraphSuite) -> None:
    made = texts(suite)
    found = theme_logprobs(suite.model, made, None, Theme((), ("cat",), (5, 9), ()))
    ids = torch.tensor([[*made[0].prompt, *made[0].tokens]])
    shares = suite.model.model(ids).logits[0].softmax(-1)[len(made[0].prompt) - 1 : -1]
    assert found[0] == pytest.approx(shares[:, [5, 9]].sum(-1).log().mean().item(), rel=1e-4)
    assert np.isnan(found).tolist() == [False, False, False, True]


def test_nothing_diverges_without_steering(suite: GraphSuite) -> None:
    assert np.nanmax(np.abs(divergence(suite.model, texts(suite), None))) == 0


def test_texts_are_steered_from_where_they_were_generated(graph: Graph, suite: GraphSuite) -> None:
    made, model = texts(suite), suite.model.model
    after = graph.steering_vector(SEED, scale=3, positions="generated")
    found = divergence(suite.model, made, after)
    for text, value in zip(made[:3], found, strict=False):
        ids = torch.tensor([[*text.prompt, *text.tokens]])
        with torch.no_grad():
            clean = model(ids).logits.log_softmax(-1)
            with after.apply(model, prompt_tokens=len(text.prompt)):
                moved = model(ids).logits.log_softmax(-1)
        expected = (moved.exp() * (moved - clean)).sum(-1)[0, len(text.prompt) - 1 : -1].mean().item()
        assert value == pytest.approx(expected, abs=1e-5)
    everywhere = divergence(suite.model, made, graph.steering_vector(SEED, scale=3))
    assert (everywhere[:3] > found[:3]).all()


@pytest.mark.thorough
def test_an_interval_is_that_of_a_bootstrap_over_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    values: Values = rng.normal(size=(12, 4)) + rng.normal(size=(12, 1))
    values[3, 1] = np.nan
    drawn = []
    for _ in range(4000):
        rows, columns = rng.integers(0, 12, 12), rng.integers(0, 4, 4)
        drawn.append(np.nanmean(values[rows][:, columns]))
    found = mean_interval(values)
    assert found.value == pytest.approx(np.nanmean(values))
    assert found.n == 47
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.05)


@pytest.mark.thorough
def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for number in range(200):
        values = rng.normal(size=(20, 1)) + 0.5 * rng.normal(size=(20, 5))
        found = mean_interval(values, seed=number)
        held += found.low <= 0 <= found.high
    assert 0.88 <= held / 200 <= 1.0


def test_geometric_means_and_means_of_nothing() -> None:
    found = mean_interval(np.log(np.array([[1.0, 4.0]])), geometric=True)
    assert found.value == pytest.approx(2)
    assert found.low == pytest.approx(1)
    assert mean_interval(np.full((2, 2), np.nan)).n == 0
    assert math.isnan(mean_interval(np.full((2, 2), np.nan)).low)


def lengths(vector: Any) -> dict[int, float]:
    return {layer: float(np.linalg.norm(values)) for layer, values in vector.layers.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("which", ["random", "shuffled"])
def test_controls_are_as_long_layer_by_layer_along_other_directions(graph: Graph, which: Any) -> None:
    made = graph.steering_vector(SEED, **CUMULATIVE, schedule="cosine", compensate=True)
    assert len(made.layers) == 3
    found = control(graph.store, made, {SEED: 1.0}, which, 0)
    assert found is not None
    assert lengths(found) == pytest.approx(lengths(made), rel=1e-5)
    cosines = [
        float(found.layers[layer] @ made.layers[layer]) / length**2 for layer, length in lengths(made).items()
    ]
    seeds = [layer == 1 and which == "shuffled" for layer in made.layers]
    assert [abs(cosine) > 0.999 for cosine in cosines] == seeds


def test_controls_are_drawn_anew_for_each_seed_and_alike_for_the_same(graph: Graph) -> None:
    made = graph.steering_vector(SEED, **CUMULATIVE)
    for which in ("random", "shuffled"):
        first, again, other = (control(graph.store, made, {SEED: 1.0}, which, seed) for seed in (0, 0, 1))
        assert first is not None
        assert again is not None
        assert other is not None
        assert all(np.array_equal(first.layers[layer], again.layers[layer]) for layer in made.layers)
        assert any(not np.array_equal(first.layers[layer], other.layers[layer]) for layer in made.layers)


def test_seed_only_puts_the_whole_length_at_the_seed(graph: Graph) -> None:
    made = graph.steering_vector(SEED, **CUMULATIVE)
    found = control(graph.store, made, {SEED: 1.0}, "seed-only", 0)
    assert found is not None
    assert lengths(found) == pytest.approx({1: sum(lengths(made).values())}, rel=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["rescale", "clamp"])
def test_gated_controls_change_other_features_of_the_same_saes(graph: Graph, mode: Any) -> None:
    made = graph.steering_vector(SEED, **CUMULATIVE, mode=mode)
    random = control(graph.store, made, {SEED: 1.0}, "random", 0)
    shuffled = control(graph.store, made, {SEED: 1.0}, "shuffled", 0)
    alone = control(graph.store, made, {SEED: 1.0}, "seed-only", 0)
    assert random is not None
    assert shuffled is not None
    assert alone is not None
    old = {member.sae_number: member for member in made.members}
    assert [member.sae_number for member in random.members] == list(old)
    assert not {member.key for member in random.members} & {member.key for member in made.members}
    assert [member.key for member in shuffled.members if member.key in {m.key for m in made.members}] == [
        SEED
    ]
    assert [member.key for member in alone.members] == [SEED]
    for member in random.members:
        assert member.coefficient == old[member.sae_number].coefficient
        if mode == "clamp":
            assert member.target is not None
            before = old[member.sae_number]
            assert before.target is not None
            assert member.target * member.decoder_norm == pytest.approx(before.target * before.decoder_norm)


def test_a_vector_without_edges_has_no_lineage_controls(graph: Graph) -> None:
    made = graph.steering_vector(SEED)
    found = {which: control(graph.store, made, {SEED: 1.0}, which, 0) for which in CONTROLS}
    assert [which for which, vector in found.items() if vector is None] == ["shuffled", "seed-only"]


def test_a_theme_has_downstream_features_and_whole_words_of_the_seeds(
    graph: Graph, suite: GraphSuite
) -> None:
    theme = theme_of(
        graph.store, {SEED: 1.0, "0/res/1": -1.0}, suite.model, min=-1, keywords=[" Cat", "cat", "mat"]
    )
    expected = graph.sql(
        "select f.key from descendants('1/res/3', min => -1) d join feature f on f.id = d.id "
        "where f.max_activation > 0 and d.distance > 0 order by d.id"
    )
    found = [graph.store.saes[one.number].key(one.idx) for one in theme.features]
    assert [(str(key),) for key in found] == expected.rows
    assert len(found) > 0
    assert theme.keywords == ("cat", "mat")
    tokenizer = suite.model.tokenizer
    assert all(tokenizer.decode([token]).strip().lower() in ("cat", "mat") for token in theme.tokens)


def test_a_theme_without_descendants_is_its_seeds(graph: Graph, suite: GraphSuite) -> None:
    theme = theme_of(graph.store, {"2/res/3": 1.0}, suite.model, keywords=["cat"])
    assert [(one.idx, one.weight) for one in theme.features] == [(3, 1.0)]


@pytest.mark.parametrize(
    ("key", "keywords", "said"), [("1/res/7", ["cat"], "never fired"), (SEED, [" "], "no word")]
)
def test_a_theme_that_shows_nowhere_is_an_error(
    graph: Graph, suite: GraphSuite, key: str, keywords: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        theme_of(graph.store, {key: 1.0}, suite.model, min=0.99, keywords=keywords)


def test_prompts_are_split_in_halves_that_share_none() -> None:
    first, second = split(PROMPTS, 3)
    assert sorted([*first, *second]) == sorted(PROMPTS)
    assert abs(len(first) - len(second)) <= 1
    assert split(PROMPTS, 3) == (first, second) != split(PROMPTS, 4)
    assert len(set(NEUTRAL)) == len(NEUTRAL)


def test_prompts_are_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("one day\n\n two \none day\n", encoding="utf-8")
    assert read_prompts(file) == ("one day", "two")
    file.write_text("one day\n", encoding="utf-8")
    with pytest.raises(UsageError, match="has 1 prompts"):
        read_prompts(file)
    with pytest.raises(UsageError, match=r"cannot read the prompts .*absent"):
        read_prompts(tmp_path / "absent")
