"""Features become a steering vector: members, places, weights, and errors."""

import json
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pytest

import featgraph
from featgraph import Graph, UsageError
from featgraph.core.arrays import Matrix
from helpers.toy import D_MODEL, build_toy, directions, saes


def direction(key: str) -> Matrix:
    layer, site, idx = key.split("/")
    [sae] = [sae for sae in saes() if (sae.layer, sae.site) == (int(layer), site)]
    found: Matrix = directions(sae)[int(idx)]
    return found


@pytest.mark.parametrize(
    ("unit", "length"), [("raw", 2.0), ("unit", 1.0), ("max-act", 8.0), ("residual", 8.0)]
)
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


def test_the_lineage_of_an_att_feature_is_that_of_its_best_residual_child(graph: Graph) -> None:
    vector = graph.steering_vector("1/att/0", where="cumulative")
    assert [member.key for member in vector.members] == ["0/res/1", "1/res/1", "2/res/1"]


def test_a_vector_knows_where_it_came_from(graph: Graph) -> None:
    vector = graph.steering_vector("2/mlp/3")
    assert (vector.model.name, vector.model.type, vector.model.d_model) == ("toy", "llama", D_MODEL)
    [member] = vector.members
    assert (member.key, member.release, member.sae_id) == ("2/mlp/3", "toy", "2.mlp")
    assert (member.decoder_norm, member.max_activation, member.cosine) == (2.0, 4.0, None)


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


@pytest.mark.thorough
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


def test_the_error_about_an_unknown_unit_names_the_nearest(graph: Graph) -> None:
    with pytest.raises(
        UsageError,
        match=r"no unit 'max_act'; did you mean 'max-act'\? unit is one of raw, unit, max-act, residual",
    ):
        graph.steering_vector("1/res/0", **{"unit": cast(Any, "max_act")})


def test_the_error_about_an_unknown_unit_lists_all(graph: Graph) -> None:
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
