"""Files that name features of released SAEs: lm-evaluation-harness's csv and Neuronpedia's payloads."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch

import featgraph
from featgraph import Graph, StoreError, UsageError, export
from helpers.toy import build_toy


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """The toy, but of released SAEs that are on Neuronpedia."""
    path = build_toy(tmp_path_factory.mktemp("known") / "toy.featgraph")
    with duckdb.connect(path / "graph.duckdb") as connection:
        connection.execute(
            "update sae set release = 'toy-res', "
            "neuronpedia_id = 'toy-1b/' || layer || '-toy-' || site || '-4'"
        )
    with featgraph.open(path) as opened:
        yield opened


# ---- lm-evaluation-harness


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_lm_eval_gets_a_dictionary_by_hookpoint(graph: Graph, tmp_path: Path) -> None:
    vector = graph.steering_vector(["1/res/0", "1/mlp/0"])
    written = export.write(vector, tmp_path / "v.pt", "lm-eval")
    assert written == export.Written((tmp_path / "v.pt",))
    content = torch.load(tmp_path / "v.pt", weights_only=True)
    assert list(content) == ["layers.1"]
    entry = content["layers.1"]
    assert (entry["action"], entry["steering_coefficient"], entry["bias"]) == ("add", 1.0, None)
    assert entry["steering_vector"].numpy().tobytes() == vector.layers[1].tobytes()
    assert json.loads(entry["featgraph"])["members"][1]["key"] == "1/mlp/0"


def test_lm_eval_names_the_feature_of_a_released_sae_in_a_csv(known: Graph, tmp_path: Path) -> None:
    vector = known.steering_vector({"1/res/2": -1.0}, scale=3.0, unit="max-act")
    export.write(vector, tmp_path / "v.csv", "lm-eval")
    assert read_csv(tmp_path / "v.csv") == [
        {
            "loader": "sae_lens",
            "action": "add",
            "sparse_model": "toy-res",
            "hookpoint": "layers.1",
            "feature_index": "2",
            "steering_coefficient": "-12.0",
            "sae_id": "1.res",
            "description": "featgraph 1/res/2 at 3",
        }
    ]


def test_the_coefficient_of_a_csv_multiplies_the_raw_decoder_row(known: Graph, tmp_path: Path) -> None:
    vector = known.steering_vector("1/res/2", scale=0.7, unit="unit")
    export.write(vector, tmp_path / "v.csv", "lm-eval")
    [row] = read_csv(tmp_path / "v.csv")
    raw = known.steering_vector("1/res/2").layers[1]
    np.testing.assert_allclose(float(row["steering_coefficient"]) * raw, vector.layers[1], rtol=1e-6)


def test_lm_eval_writes_a_csv_for_each_block_that_allows_it(known: Graph, tmp_path: Path) -> None:
    vector = known.steering_vector(["1/res/0", "1/mlp/0", "2/res/1"])
    written = export.write(vector, tmp_path / "v", "lm-eval", approximate=True)
    names = sorted(path.name for path in (tmp_path / "v").iterdir())
    assert names == ["layers.1.pt", "layers.2.csv", "layers.2.pt"]
    assert written.notes == (
        "no csv for layers.1: it names one feature, and 2 write here",
        "lm-eval after 0.4.9.1 refuses a csv that adds, because of the SAE's bias; give it the pt",
    )
    assert written.approximations[0].endswith("a run with one steers there alone")
    assert (
        "approximate: it writes after 2 blocks" in read_csv(tmp_path / "v" / "layers.2.csv")[0]["description"]
    )
    with pytest.raises(UsageError, match=r"holds 'layers\.1\.pt', a file of another vector"):
        export.write(known.steering_vector("2/res/1"), tmp_path / "v", "lm-eval")


@pytest.mark.parametrize(
    ("features", "settings", "why"),
    [
        (["1/res/0", "1/res/1"], {}, "it names one feature, and 2 write here"),
        (["1/mlp/0"], {}, "the decoder row of 1/mlp/0 is not added to the residual stream as it is"),
        (["1/res/0"], {"compensate": True}, "compensate changes how much of the feature is added"),
    ],
)
def test_a_csv_that_cannot_express_the_vector_is_refused(
    known: Graph, tmp_path: Path, features: list[str], settings: Any, why: str
) -> None:
    with pytest.raises(UsageError, match=rf"lm-eval cannot hold this vector: no csv for layers\.1: {why}"):
        export.write(known.steering_vector(features, **settings), tmp_path / "v.csv", "lm-eval")


def test_a_local_sae_is_in_no_csv(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the SAE 1\.res has no release that lm-eval could load it by"):
        export.write(graph.steering_vector("1/res/0"), tmp_path / "v.csv", "lm-eval")


@pytest.mark.thorough
def test_rows_that_a_topk_sae_rescales_are_in_no_csv(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(path / "graph.duckdb") as connection:
        connection.execute("update sae set release = 'toy-res', architecture = 'topk'")
    with featgraph.open(path) as opened:
        vector = opened.steering_vector("1/res/0")
    with pytest.raises(UsageError, match=r"1\.res is a topk SAE, whose decoder rows may be divided"):
        export.write(vector, tmp_path / "v.csv", "lm-eval")


@pytest.mark.thorough
def test_a_pt_needs_no_graph(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with featgraph.open(path) as opened:
        vector = opened.steering_vector("1/res/0")
    shutil.rmtree(path)
    export.write(vector, tmp_path / "v.pt", "lm-eval")
    with pytest.raises(StoreError, match="there is no graph at"):
        export.write(vector, tmp_path / "v.csv", "lm-eval")


def test_a_clamp_there_is_another_one_and_says_so(known: Graph, tmp_path: Path) -> None:
    vector = known.steering_vector("1/res/0", mode="clamp", scale=3.0)
    with pytest.raises(UsageError, match="it sets the activation of an SAE feature; use --format json, or"):
        export.write(vector, tmp_path / "v.csv", "lm-eval")
    written = export.write(vector, tmp_path / "v", "lm-eval", approximate=True)
    [row] = read_csv(tmp_path / "v" / "layers.1.csv")
    assert (row["action"], float(row["steering_coefficient"])) == ("clamp", 6.0)
    assert written.notes[0].startswith("no pt for layers.1: a clamp there also needs the SAE's bias")


# ---- Neuronpedia


def test_neuronpedia_gets_its_own_features_and_the_vectors(known: Graph, tmp_path: Path) -> None:
    vector = known.steering_vector({"1/res/2": 1.0, "2/res/0": -0.5}, scale=4.0)
    written = export.write(vector, tmp_path / "v.json", "neuronpedia")
    content = json.loads((tmp_path / "v.json").read_text())
    steer, first = content["steer"], content["vectors"][0]
    assert written.notes == ()
    assert steer["url"] == "https://www.neuronpedia.org/api/steer"
    assert steer["body"]["features"] == [
        {"modelId": "toy-1b", "layer": "1-toy-res-4", "index": 2, "strength": pytest.approx(4.0)},
        {"modelId": "toy-1b", "layer": "2-toy-res-4", "index": 0, "strength": pytest.approx(-2.0)},
    ]
    asked = ("prompt", "modelId", "temperature", "n_tokens", "freq_penalty", "seed", "strength_multiplier")
    assert all(name in steer["body"] for name in asked)
    assert first["url"] == "https://www.neuronpedia.org/api/vector/new"
    body = first["body"]
    assert (body["modelId"], body["layerNumber"], body["hookType"]) == ("toy-1b", 1, "hook_resid_post")
    assert np.array(body["vector"], dtype=np.float32).tobytes() == vector.layers[1].tobytes()
    assert -300 <= body["vectorDefaultSteerStrength"] <= 300


@pytest.mark.parametrize(
    ("features", "settings", "why"),
    [
        (["1/res/0", "1/mlp/0"], {}, "1/mlp/0 is not a residual feature"),
        (["1/res/0"], {"compensate": True}, "compensate changes"),
    ],
)
def test_vectors_that_features_cannot_express_are_uploaded_to_neuronpedia(
    known: Graph, tmp_path: Path, features: list[str], settings: Any, why: str
) -> None:
    vector = known.steering_vector(features, **settings)
    written = export.write(vector, tmp_path / "v.json", "neuronpedia")
    content = json.loads((tmp_path / "v.json").read_text())
    assert content["steer"] is None
    assert written.notes[0].startswith(f"no payload for /api/steer: {why}")
    assert len(content["vectors"]) == 1


def test_a_model_that_neuronpedia_does_not_know_is_refused(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no SAE of this vector's graph has a Neuronpedia id"):
        export.write(graph.steering_vector("1/res/0"), tmp_path / "v.json", "neuronpedia")
