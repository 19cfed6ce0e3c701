"""Schedules, compensation, units on a real text, spans, shared members, and settings that make no plan."""

import inspect
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import duckdb
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import featgraph
from featgraph import Graph, UsageError
from featgraph.activations.statistics import Reconstruction
from featgraph.activations.tokens import read_shards
from featgraph.cli.steering_options import with_settings
from featgraph.core.arrays import Matrix
from featgraph.steering import Settings, SettingsOptions
from featgraph.steering.schedules import compensation, scheduled
from featgraph.steering.settings import settings_table
from featgraph.store import vectors
from featgraph.suite.graph_suite import GraphSuite
from helpers.small_suite import N_FEATURES
from helpers.steered import IDS, suite_of
from helpers.toy import build_toy

LENGTHS = arrays(np.float32, 4, elements=st.integers(-8, 8).map(lambda n: n / 4))


@pytest.fixture(scope="module")
def real(small: Path) -> Iterator[Graph]:
    with featgraph.open(small) as opened:
        yield opened


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [3.0, 3.0, 3.0, 3.0]),
        ("exponential", [3 * math.exp(-0.25 * layer) for layer in (2, 3, 5, 6)]),
        ("linear", [3.0, 2.5, 1.5, 1.0]),
        ("cosine", [1.5, 3.0, 2.25, 2.7]),
    ],
)
def test_schedules_are_as_published(schedule: Any, expected: list[float]) -> None:
    settings = Settings(scale=3, schedule=schedule, alpha=-0.25, end=1)
    assert scheduled(settings, [2, 3, 5, 6], [0.5, None, 0.75, 0.9]) == pytest.approx(expected)


@pytest.mark.parametrize("layers", [[4], [4, 4, 4]])
def test_a_line_through_one_layer_has_the_scale_it_begins_with(layers: list[int]) -> None:
    assert scheduled(Settings(scale=3, schedule="linear"), layers, [None] * len(layers)) == [3.0] * len(
        layers
    )


def test_the_schedule_goes_over_the_layers_of_the_plan(graph: Graph) -> None:
    vector = graph.steering_vector("1/res/2", where="cumulative", scale=4, schedule="exponential", alpha=0.5)
    assert [member.coefficient for member in vector.members] == pytest.approx(
        [4 * math.exp(0.5 * layer) for layer in (0, 1, 2)]
    )
    by_cosine = graph.steering_vector("1/res/2", where="cumulative", scale=4, schedule="cosine")
    assert [member.coefficient for member in by_cosine.members] == pytest.approx([3.2, 4.0, 3.2])


@given(st.lists(LENGTHS, min_size=1, max_size=6))
def test_compensated_vectors_reach_each_ones_own_length(vectors: list[Matrix]) -> None:
    carried = np.zeros(4)
    for vector, factor in zip(vectors, compensation(vectors), strict=True):
        wanted = vector.astype(np.float64)
        carried = carried + factor * wanted
        assert carried @ wanted == pytest.approx(wanted @ wanted, abs=1e-6 * (1 + abs(carried).max()))


def test_a_single_layer_needs_no_compensation(graph: Graph) -> None:
    plain = graph.steering_vector("1/res/0", scale=3)
    made = graph.steering_vector("1/res/0", scale=3, compensate=True)
    assert made.layers[1].tobytes() == plain.layers[1].tobytes()
    assert made.members == plain.members


def test_compensation_counts_what_was_added_between_attention_and_mlp() -> None:
    _, graph = suite_of("llama")
    weights = ["1/att/0", "1/mlp/3", "1/res/0", "2/att/1", "2/res/0"]
    plain, made = (graph.steering_vector(weights, compensate=compensate) for compensate in (False, True))
    order = [(1, "mid"), (1, "out"), (2, "mid"), (2, "out")]
    carried = np.zeros(16)
    for layer, point in order:
        wanted, added = (
            (vector.middles if point == "mid" else vector.layers)[layer].astype(np.float64)
            for vector in (plain, made)
        )
        carried = carried + added
        assert carried @ wanted == pytest.approx(wanted @ wanted, rel=1e-5)
    rebuilt = {layer: np.zeros(16) for layer in (1, 2)}
    for member in made.members:
        if member.point == "out":
            idx = int(member.key.split("/")[2])
            sae = graph.store.saes[member.sae_number]
            [direction] = vectors.directions(graph.store.vectors(sae), [idx])
            rebuilt[member.write_layer] += member.weight * direction
    for layer, values in rebuilt.items():
        np.testing.assert_allclose(made.layers[layer], values, atol=1e-5)


def on_the_text(graph: Graph, layer: int) -> tuple[float, Matrix]:
    """Root mean square length of out(layer) over the whole text, and the largest activations of its SAE."""
    suite = GraphSuite(graph.store)
    [sae] = [sae for sae in graph.store.saes if (sae.layer, sae.site) == (layer, "res")]
    loaded = suite.sae(sae)
    assert loaded.sae is not None
    squares, largest, n_tokens = 0.0, np.zeros(N_FEATURES, dtype=np.float32), 0
    assert suite.recipe.text is not None
    for shard in read_shards(suite.recipe.text, suite.model.tokenizer):
        for row in shard.rows:
            with torch.inference_mode():
                hidden = suite.model.model(torch.from_numpy(row)[None].long(), output_hidden_states=True)
                stream = hidden.hidden_states[layer + 1][0][torch.from_numpy(shard.counted(row))]
                largest = np.maximum(largest, loaded.sae.encode(stream).amax(0).numpy())
            squares += float(stream.double().square().sum())
            n_tokens += len(stream)
    return math.sqrt(squares / n_tokens), largest


def test_units_equal_the_models_activations_on_the_text(
    real: Graph, small_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_recipe.parent)
    length, largest = on_the_text(real, 1)
    idx = int(largest.argmax())
    key, norm = f"1/res/{idx}", real.steering_vector(f"1/res/{idx}").members[0].decoder_norm
    lengths = {"raw": norm, "unit": 1.0, "max-act": norm * largest[idx], "residual": length}
    for unit, expected in lengths.items():
        vector = real.steering_vector(key, scale=-2, unit=unit)  # type: ignore[arg-type]
        assert np.linalg.norm(vector.layers[1]) == pytest.approx(2 * expected, rel=1e-4)
        clamped = real.steering_vector(key, scale=-2, unit=unit, mode="clamp")  # type: ignore[arg-type]
        assert clamped.members[0].target == pytest.approx(-2 * expected / norm, rel=1e-4)
        assert clamped.layers == {}


def test_the_length_of_activations_is_their_root_mean_square() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32))
    whole, parts = Reconstruction(5), Reconstruction(5)
    whole.update(rows, torch.zeros_like(rows))
    for part in rows.split(7):
        parts.update(part, torch.zeros_like(part))
    expected = float(np.sqrt((rows.double().numpy() ** 2).sum(axis=1).mean()))
    assert whole.rms_length == pytest.approx(expected)
    assert Reconstruction.of(parts.merge(Reconstruction(5)).arrays()).rms_length == pytest.approx(expected)
    assert math.isnan(Reconstruction(5).rms_length)


SPANS: list[tuple[dict[str, Any], list[str]]] = [
    ({"where": "single"}, ["1/res/1"]),
    ({"where": "per-layer", "at": 0}, ["0/res/1"]),
    ({"where": "per-layer", "at": 2}, ["2/res/1"]),
    ({"where": "cumulative"}, ["0/res/1", "1/res/1", "2/res/1"]),
    ({"where": "cumulative", "at": 1}, ["0/res/1", "1/res/1"]),
    ({"where": "cumulative", "at": 0}, ["0/res/1"]),
    ({"where": "cumulative", "min": 0.9}, ["1/res/1"]),
    ({"where": "cumulative", "writers": 0.4}, ["0/res/1", "1/att/0", "1/res/1", "2/res/1"]),
    ({"where": "per-layer", "at": 1, "writers": 0.3}, ["1/att/0", "1/res/1"]),
    ({"where": "cumulative", "writers": 0.9}, ["0/res/1", "1/res/1", "2/res/1"]),
]


@pytest.mark.parametrize(("settings", "keys"), SPANS, ids=str)
def test_where_says_which_of_the_lineage_is_steered(
    graph: Graph, settings: dict[str, Any], keys: list[str]
) -> None:
    vector = graph.steering_vector("1/res/1", schedule="linear", scale=3, **settings)
    assert [member.key for member in vector.members] == keys
    assert all(math.isfinite(member.weight) for member in vector.members)


def test_a_feature_of_two_lineages_adds_up_where_vectors_are_added(graph: Graph) -> None:
    seeds = {"1/res/1": 1.0, "1/res/2": -0.25}
    vector = graph.steering_vector(seeds, where="cumulative", unit="unit")
    assert [member.key for member in vector.members].count("2/res/1") == 2
    assert np.linalg.norm(vector.layers[2]) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("mode", "seeds", "expected"),
    [
        ("ablate", {"1/res/1": 1.0, "1/res/2": 1.0}, None),
        ("rescale", {"1/res/1": 1.0, "1/res/2": 1.0}, 3.0),
        ("rescale", {"1/res/1": 1.0, "1/res/2": -0.25}, 3.0),
        ("rescale", {"1/res/1": 0.5, "1/res/2": -0.25}, -0.75),
        ("clamp", {"1/res/1": 1.0, "1/res/2": -2.0}, -6.0),
        ("min-clamp", {"1/res/1": 1.0, "1/res/2": -2.0}, 3.0),
    ],
)
def test_a_feature_of_two_lineages_is_changed_once_by_the_larger_change(
    graph: Graph, mode: Any, seeds: dict[str, float], expected: float | None
) -> None:
    vector = graph.steering_vector(seeds, where="cumulative", mode=mode, scale=3)
    [shared] = [member for member in vector.members if member.key == "2/res/1"]
    assert (shared.coefficient if mode == "rescale" else shared.target) == expected
    assert len(vector.members) == len({member.key for member in vector.members}) == 4


def test_the_same_feature_twice_adds_twice_where_it_fires() -> None:
    model, graph = suite_of("llama")
    line = graph.steering_vector(
        {"0/res/3": 1.0, "1/res/3": 1.0}, where="cumulative", positions="firing", scale=2
    )
    assert [member.key for member in line.members] == ["0/res/3", "1/res/3", "2/res/3"] * 2
    once = graph.steering_vector("0/res/3", where="cumulative", positions="firing", scale=4)
    with torch.no_grad():
        with line.apply(model):
            twice_two = model(IDS).logits
        with once.apply(model):
            once_four = model(IDS).logits
        assert (twice_two - model(IDS).logits).abs().max() > 0.01
    torch.testing.assert_close(twice_two, once_four, atol=1e-4, rtol=1e-4)


NAN, INF = float("nan"), float("inf")
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"mode": "ablat"},
        "no mode 'ablat'; did you mean 'ablate'? mode is one of add, rescale, clamp, min-clamp",
    ),
    ({"unit": "max_act"}, "no unit 'max_act'; did you mean 'max-act'?"),
    ({"where": "cumulativ"}, "no where 'cumulativ'; did you mean 'cumulative'?"),
    ({"schedule": "lineer"}, "no schedule 'lineer'; did you mean 'linear'?"),
    ({"positions": "prompts"}, "no positions 'prompts'; did you mean 'prompt'?"),
    ({"mode": None}, "no mode None; mode is one of"),
    ({"scale": NAN}, "scale is nan; give a finite number"),
    ({"scale": INF}, "scale is inf; give a finite number"),
    ({"scale": "3"}, "scale is 3; give a finite number"),
    ({"scale": 0}, "every vector is 0 at scale 0, so nothing is steered; choose another scale or weights"),
    (
        {"scale": 1e300},
        "the vector of layer 1 has NaN or infinite values at scale 1e+300; choose a finite, smaller",
    ),
    ({"alpha": NAN}, "alpha is nan; give a finite number"),
    ({"end": -INF}, "end is -inf; give a finite number"),
    ({"min": NAN, "where": "cumulative"}, "min = nan is out of range: -1 to 1"),
    ({"writers": 1.5, "where": "cumulative"}, "writers = 1.5 is out of range"),
    ({"at": -1, "where": "cumulative"}, "at = -1 is too small"),
    ({"at": 1.5, "where": "cumulative"}, "at = 1.5 is not a whole number"),
    ({"at": 9, "where": "cumulative"}, "no layer 9: residual SAEs are at layers 0 to 2"),
    ({"at": 9, "where": "per-layer"}, "no layer 9: residual SAEs are at layers 0 to 2"),
    ({"where": "per-layer"}, "where per-layer needs the layer: at"),
    ({"at": 1}, "where single has no span, so it takes neither at nor writers"),
    ({"writers": 0.5}, "where single has no span, so it takes neither at nor writers"),
    ({"compensate": True, "mode": "clamp"}, "compensate is for vectors known before the model runs"),
    ({"compensate": True, "positions": "firing"}, "compensate is for vectors known before the model runs"),
    ({"compensate": 1}, "compensate = 1 is not true or false"),
    ({"mode": "rescale"}, "rescale by 1 leaves every activation as it is; choose another scale"),
    ({"mode": "rescale", "scale": 1e39}, "'1/res/0' would be changed without bound at scale 1e+39"),
    ({"mode": "clamp", "scale": 1e39}, "'1/res/0' would be changed without bound at scale 1e+39"),
    ({"positions": "firing", "scale": 0}, "nothing is added at scale 0, so nothing is steered"),
    (
        {"where": "cumulative", "schedule": "exponential", "alpha": 1e6},
        "the exponential schedule is infinite at layer 2 with alpha 1e+06; choose an alpha nearer to 0",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=str)
def test_conflicting_settings_are_refused_with_the_reason(
    graph: Graph, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as told:
        graph.steering_vector("1/res/0", **settings)
    assert message in str(told.value)


@pytest.mark.parametrize("weight", [NAN, INF, "2", None])
def test_a_weight_that_is_not_finite_is_refused_with_its_feature(graph: Graph, weight: Any) -> None:
    with pytest.raises(UsageError, match=f"the weight of 1/res/0 is {weight}; give a finite number"):
        graph.steering_vector({"1/res/0": weight})


def test_the_error_about_a_layer_outside_the_span_gives_its_ends(graph: Graph) -> None:
    message = "the span of '1/res/3' goes from layer 1 to 1, so has nothing at layer 2"
    with pytest.raises(UsageError, match=message):
        graph.steering_vector("1/res/3", where="per-layer", at=2)
    with pytest.raises(UsageError, match="nothing up to layer 0"):
        graph.steering_vector("1/res/3", where="cumulative", at=0)


def altered(path: Path, sql: str) -> Graph:
    build_toy(path)
    with duckdb.connect(str(path / "graph.duckdb")) as connection:
        connection.execute(sql)
    return featgraph.open(path)


ALTERED = [
    (
        "update feature set max_activation = -0.5 where key = '1/res/0'",
        "max-act",
        "'1/res/0' fired on the graph's text with negative activations only (largest -0.5), which would",
    ),
    (
        "update feature set max_activation = null, density = null",
        "max-act",
        "the graph was made without a text, so it has no largest activation of '1/res/0'; use unit raw",
    ),
    (
        "update feature set decoder_norm = 0 where key = '1/res/0'",
        "raw",
        "'1/res/0' has a zero decoder row, so it writes nothing; steer with another feature",
    ),
    ("update sae set rms_length = 'nan'", "residual", "the graph has no norm of the residual stream"),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("sql", "unit", "message"), ALTERED, ids=[message[:40] for _, _, message in ALTERED])
def test_a_feature_without_a_length_is_refused_with_the_reason(
    tmp_path: Path, sql: str, unit: Any, message: str
) -> None:
    with altered(tmp_path / "toy.featgraph", sql) as graph:
        for mode in ("add", "clamp"):
            with pytest.raises(UsageError) as told:
                graph.steering_vector("1/res/0", unit=unit, mode=mode)
            assert message in str(told.value)


def test_a_graph_of_directions_alone_makes_vectors_too(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["model"] = {"name": "toy", "d_model": 6, "n_layers": 3}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with featgraph.open(path) as graph:
        vector = graph.steering_vector(["1/res/0", "1/att/0"])
    assert (vector.model.type, list(vector.layers), list(vector.middles)) == ("", [1], [1])


def test_keyword_arguments_are_the_settings() -> None:
    assert get_type_hints(SettingsOptions) == get_type_hints(Settings)


def test_the_options_of_commands_are_the_settings() -> None:
    options = inspect.signature(with_settings(lambda settings: None)).parameters
    assert {name: option.default for name, option in options.items()} == vars(Settings())


def test_the_documented_table_is_made_of_the_settings() -> None:
    page = Path(__file__).parents[2] / "docs" / "steering.md"
    assert settings_table() in page.read_text(encoding="utf-8")
