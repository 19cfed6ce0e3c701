"""A plan is read back exactly; a damaged file, or one that is not a plan, is refused by name and key."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import featgraph
from featgraph import FeatgraphError, Graph, SourceError, StoreError, UsageError, export
from featgraph.export.provenance import FORMAT
from featgraph.steering import Settings, SteeredFeature, SteeredModel, SteeringVector
from helpers.toy import D_MODEL, build_toy

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
VECTORS = st.dictionaries(st.integers(0, 4), arrays(np.float32, D_MODEL, elements=FLOATS), max_size=5)
TEXT = st.text(max_size=8)


def same(one: SteeringVector, other: SteeringVector) -> bool:
    """Whether two vectors agree to the bit, their SAEs apart."""
    if (one.members, one.settings, one.model) != (other.members, other.settings, other.model):
        return False
    pairs = ((one.layers, other.layers), (one.middles, other.middles))
    return all(
        [(block, values.tobytes(), values.dtype) for block, values in mine.items()]
        == [(block, values.tobytes(), values.dtype) for block, values in theirs.items()]
        for mine, theirs in pairs
    )


@pytest.mark.thorough
@given(layers=VECTORS, middles=VECTORS, name=TEXT, number=FLOATS, key=st.integers(0, 10**6))
def test_a_plan_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    layers: Any,
    middles: Any,
    name: str,
    number: float,
    key: int,
) -> None:
    settings = Settings(scale=number, alpha=-number, unit="residual", schedule="cosine")
    member = SteeredFeature(
        f"3/res/{key}", 3, number, number / 3, None, name, name, name, abs(number), None, "mid", None, 2, name
    )
    model = SteeredModel(name, "llama", D_MODEL, 5, name)
    filled = dict(sorted({**layers, 0: np.ones(D_MODEL, dtype=np.float32)}.items()))
    vector = SteeringVector(filled, (member,), settings, model, dict(sorted(middles.items())))
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    export.write(vector, path, "json")
    assert same(export.read_plan(path), vector)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {"scale": -0.3, "unit": "max-act", "where": "cumulative", "schedule": "linear"},
        {"where": "cumulative", "writers": 0.3, "min": 0.5, "compensate": True, "positions": "generated"},
        {"mode": "ablate"},
        {"mode": "clamp", "scale": 3, "unit": "max-act", "positions": "prompt"},
        {"mode": "rescale", "scale": -4.0, "where": "per-layer", "at": 1},
        {"positions": "firing"},
    ],
)
def test_plans_of_a_graph_keep_their_settings(graph: Graph, tmp_path: Path, settings: Any) -> None:
    vector = graph.steering_vector({"1/res/0": 1.0, "2/res/0": -0.5}, **settings)
    export.write(vector, tmp_path / "plan.json", "json")
    found = export.read_plan(tmp_path / "plan.json")
    assert same(found, vector)
    assert found.suite is not None
    assert found.suite.path == graph.path.absolute()
    assert [sae.name for sae in found.suite.saes] == [sae.name for sae in graph.store.saes]


def test_a_plan_that_was_read_is_written_the_same(graph: Graph, tmp_path: Path) -> None:
    export.write(graph.steering_vector(["1/att/0", "2/res/0"]), tmp_path / "one.json", "json")
    export.write(export.read_plan(tmp_path / "one.json"), tmp_path / "two.json", "json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_further_keys_come_back_and_do_not_disturb(graph: Graph, tmp_path: Path) -> None:
    vector, extra = graph.steering_vector("1/res/0"), {"generation": {"prompts": ["né\n\ud800"], "seed": 3}}
    export.write(vector, tmp_path / "plan.json", "json", extra=extra)
    assert export.read_extra(tmp_path / "plan.json", "generation") == extra["generation"]
    assert export.read_extra(tmp_path / "plan.json", "absent") is None
    assert same(export.read_plan(tmp_path / "plan.json"), vector)
    with pytest.raises(ValueError, match="'layers' is a key of the plan itself"):
        export.write(vector, tmp_path / "plan.json", "json", extra={"layers": {}})


# ---- the graph of a plan


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    return build_toy(tmp_path / "graphs" / "toy.featgraph")


def plan_of(path: Path, plan: Path, **settings: Any) -> None:
    with featgraph.open(path) as opened:
        export.write(opened.steering_vector("1/res/0", **settings), plan, "json")


def test_a_plan_finds_its_graph_beside_it(moved: Path, tmp_path: Path) -> None:
    plan_of(moved, tmp_path / "plan.json", mode="ablate")
    moved.rename(tmp_path / "toy.featgraph")
    found = export.read_plan(tmp_path / "plan.json").suite
    assert found is not None
    assert found.path == tmp_path / "toy.featgraph"


def test_a_plan_of_numbers_needs_no_graph(moved: Path, tmp_path: Path) -> None:
    plan_of(moved, tmp_path / "plan.json")
    shutil.rmtree(moved)
    assert export.read_plan(tmp_path / "plan.json").suite is None


def test_a_plan_that_changes_activations_needs_its_graph(moved: Path, tmp_path: Path) -> None:
    plan_of(moved, tmp_path / "plan.json", mode="ablate")
    shutil.rmtree(moved)
    with pytest.raises(StoreError, match=r"plan\.json steers by the SAEs of its graph: there is no graph at"):
        export.read_plan(tmp_path / "plan.json")


def test_a_plan_that_changes_activations_wants_the_same_saes(moved: Path, tmp_path: Path) -> None:
    plan_of(moved, tmp_path / "plan.json", mode="ablate")
    manifest = json.loads((moved / "manifest.json").read_text())
    manifest["saes"][5]["sha256"] = "another"
    (moved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SourceError, match=r"steers by the SAE 1\.res, and .* was made of another one"):
        export.read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize(
    "settings", [{"mode": "ablate"}, {"positions": "firing", "scale": 5.0}, {"scale": 2.0}]
)
def test_a_plan_steers_as_the_vector_it_was_made_of(
    small: Path, small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.chdir(small_recipe.parent)
    with featgraph.open(small) as opened:
        key = str(opened.sql("select key from feature where site = 'res' order by density desc").rows[0][0])
        vector = opened.steering_vector(key, **settings)
    assert vector.suite is not None
    loaded = vector.suite.model
    export.write(vector, tmp_path / "plan.json", "json")
    found = export.read_plan(tmp_path / "plan.json")
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        plain = loaded.model(ids).logits
        with vector.apply(loaded.model):
            steered = loaded.model(ids).logits
        with found.apply(loaded.model):
            read = loaded.model(ids).logits
    assert torch.equal(read, steered)
    assert not torch.allclose(steered, plain)


# ---- what is wrong with a file


def damaged(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.pop("settings"), "'settings' is missing"),
        (lambda plan: plan["settings"].pop("scale"), "'settings.scale' is missing"),
        (lambda plan: plan["settings"].update(scale="4"), "'settings.scale' is \"4\", not a number"),
        (lambda plan: plan["settings"].update(scale=True), "'settings.scale' is true, not a number"),
        (
            lambda plan: plan["settings"].update(mode="ad"),
            "'settings.mode' is \"ad\", not one of add, rescale",
        ),
        (lambda plan: plan["settings"].update(mode=[]), "'settings.mode' is [], not one of add, rescale"),
        (lambda plan: plan["settings"].update(at=1.5), "'settings.at' is 1.5, not a whole number"),
        (
            lambda plan: plan["settings"].update(scal=1),
            "'settings.scal' is not a setting; did you mean 'scale'?",
        ),
        (lambda plan: plan["settings"].update(at=1), "'settings' is not valid: where single has no span"),
        (
            lambda plan: plan["settings"].update(mode="ablate"),
            "'layers' has vectors, and the plan's settings",
        ),
        (lambda plan: plan.update(members={}), "'members' is {}, not a list"),
        (lambda plan: plan["members"].append(3), "'members[1]' is 3, not an object"),
        (lambda plan: plan["members"][0].pop("weight"), "'members[0].weight' is missing"),
        (
            lambda plan: plan["members"][0].update(key="1/rse/0"),
            "'members[0].key' is not valid: no site 'rse'",
        ),
        (
            lambda plan: plan["members"][0].update(point="up"),
            "'members[0].point' is \"up\", not one of out, mid",
        ),
        (lambda plan: plan["members"][0].update(weight=1e999), "it has Infinity, but numbers in a plan are"),
        (lambda plan: plan.update(n_layers="3"), "'n_layers' is \"3\", not a whole number"),
        (lambda plan: plan.update(n_layers=1), "the vector writes after block 1, but toy has blocks 0 to 0"),
        (lambda plan: plan.update(d_model=5), "the vector of layer 1 has 6 numbers, but d_model of toy is 5"),
        (lambda plan: plan.update(layers=[]), "'layers' is [], not an object"),
        (lambda plan: plan["layers"].update(a=[]), "'layers.a' is not the number of a block"),
        (lambda plan: plan["layers"].update({"01": []}), "'layers.01' is not the number of a block"),
        (lambda plan: plan["layers"].update({"1": 3}), "'layers.1' is 3, not a list"),
        (lambda plan: plan["layers"].update({"1": [[1]] * 6}), "'layers.1[0]' is [1], not a number"),
        (lambda plan: plan["layers"].update({"1": [True] * 6}), "'layers.1[0]' is true, not a number"),
        (
            lambda plan: plan["layers"].update({"1": [1e39] * 6}),
            "'layers.1[0]' is 1e+39, too large for float32",
        ),
        (lambda plan: plan["layers"].update({"1": [10**400] * 6}), "'layers.1[0]' is too large a number"),
        (lambda plan: plan["layers"].update({"1": [0.0] * 6}), "every vector is 0"),
        (
            lambda plan: plan["layers"].update({"1": [float("nan")] * 6}),
            "it has NaN, but numbers in a plan are",
        ),
        (lambda plan: plan.update(graph=3), "'graph' is 3, not text"),
        (
            lambda plan: plan.update(format="featgraph.steering/2"),
            "is of format 'featgraph.steering/2', and this",
        ),
        (lambda plan: plan.pop("format"), "it has no 'format'"),
    ],
)
def test_a_damaged_plan_is_named_with_the_key(
    graph: Graph, tmp_path: Path, change: Any, message: str
) -> None:
    export.write(graph.steering_vector("1/res/0"), tmp_path / "plan.json", "json")
    damaged(tmp_path / "plan.json", change)
    with pytest.raises(UsageError) as caught:
        export.read_plan(tmp_path / "plan.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "plan.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.update(members=[]), "the vector has no features, and mode clamp needs"),
        (
            lambda plan: plan["members"][0].update(target=None),
            "'members[0].target' is null, and the mode needs",
        ),
        (
            lambda plan: plan["members"][0].update(write_layer=9),
            "the vector writes after block 9, but toy has",
        ),
        (lambda plan: plan["members"][0].update(key="1/res/9"), "'members[0].key' is not valid: no feature"),
        (
            lambda plan: plan["members"][0].update(sae_number=-4),
            "'members[0].sae_number' is -4, and 1/res/0 is in 5",
        ),
    ],
)
def test_a_damaged_plan_of_activations_is_too(
    graph: Graph, tmp_path: Path, change: Any, message: str
) -> None:
    export.write(graph.steering_vector("1/res/0", mode="clamp"), tmp_path / "plan.json", "json")
    damaged(tmp_path / "plan.json", change)
    with pytest.raises(UsageError) as caught:
        export.read_plan(tmp_path / "plan.json")
    assert message in str(caught.value)


def test_numbers_beyond_float_are_refused_where_they_stand(graph: Graph, tmp_path: Path) -> None:
    export.write(graph.steering_vector("1/res/0"), tmp_path / "plan.json", "json")
    text = (tmp_path / "plan.json").read_text().replace('"alpha": -0.05', '"alpha": 1e999')
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match=r"'settings\.alpha' is too large a number"):
        export.read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff\xfe\x00", b"[" * 100_000, b'{"format": 3}', b"GGUF\x03\x00", b"null"],
)
@pytest.mark.parametrize("read", [export.read_plan, lambda path: export.read_extra(path, "generation")])
def test_a_file_that_is_not_a_plan_is_refused(tmp_path: Path, content: bytes, read: Any) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"plan\.json is not a steering plan: "):
        read(tmp_path / "plan.json")


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*: (no such file or directory|is a directory)"):
        export.read_plan(tmp_path / name)


@pytest.mark.thorough
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_changed_byte_never_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, graph: Graph, place: float, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.json"
    export.write(replace(graph.steering_vector("1/res/0", mode="clamp"), suite=None), path, "json")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = byte
    path.write_bytes(content)
    with suppress(FeatgraphError):
        export.read_plan(path)


def test_the_version_of_plans_is_that_of_the_metadata(graph: Graph, tmp_path: Path) -> None:
    export.write(graph.steering_vector("1/res/0"), tmp_path / "plan.json", "json")
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == FORMAT
