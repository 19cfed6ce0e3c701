"""Nearest features: by a feature, a vector or a text, against brute force over the same directions."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import featgraph
from featgraph import Graph, SourceError, StoreError, UsageError
from featgraph.core.arrays import Matrix
from featgraph.core.result import Result
from featgraph.ingestion import ingest
from featgraph.query.similar import read_vector
from featgraph.recipe import read_recipe
from featgraph.store import vectors
from helpers.small_suite import LAYERS, MODULES, build_small_suite
from helpers.toy import D_MODEL, DEAD, directions, ids, saes

TEXT = "the cat sat on the mat and the dog ran to the park to play with a red ball"


def ranked(
    queries: Mapping[str, Matrix], rows: Mapping[str, Matrix], k: int, without: str = ""
) -> list[tuple[str, float]]:
    """The k nearest of every SAE to its own query, best first, by brute force; SAEs by `layer/site`."""
    found: list[tuple[str, float]] = []
    for place, units in rows.items():
        scored = [(f"{place}/{idx}", float(unit @ queries[place])) for idx, unit in enumerate(units)]
        found += sorted((pair for pair in scored if pair[0] != without), key=lambda pair: -pair[1])[:k]
    return sorted(found, key=lambda pair: -pair[1])


def nearest_in_toy(query: Matrix, k: int, without: str = "") -> list[tuple[str, float]]:
    rows = {f"{sae_range.layer}/{sae_range.site}": directions(sae_range) for sae_range in saes()}
    return ranked(dict.fromkeys(rows, query), rows, k, without)


def same(result: Result, expected: list[tuple[str, float]]) -> None:
    assert [row["key"] for row in result.dicts()] == [key for key, _ in expected]
    cosines = np.array([row["cosine"] for row in result.dicts()], dtype=np.float64)
    np.testing.assert_allclose(cosines, [cosine for _, cosine in expected], atol=1e-6)


# ---- to a feature


@pytest.mark.parametrize(("key", "k"), [("1/res/0", 1), ("1/res/3", 2), ("0/att/2", 3), ("2/mlp/1", 10)])
def test_similar_finds_what_brute_force_finds(graph: Graph, key: str, k: int) -> None:
    seed = next(
        directions(sae_range)[idx]
        for sae_range in saes()
        for idx in range(4)
        if str(sae_range.key(idx)) == key
    )
    same(graph.similar(key, k=k), nearest_in_toy(seed, k, without=key))


def test_similar_names_its_columns(graph: Graph) -> None:
    result = graph.similar("1/mlp/1")
    assert result.columns == ["id", "key", "layer", "site", "cosine", "label"]
    assert {row["key"]: row["label"] for row in result.dicts()}["1/res/3"] == "sun"
    assert all(row["id"] == ids()[str(row["key"])] for row in result.dicts())


def test_similar_leaves_the_seed_out_and_keeps_dead_features(graph: Graph) -> None:
    found = {row["key"] for row in graph.similar("1/res/0", k=4).dicts()}
    assert found == set(ids()) - {"1/res/0"}
    assert found >= DEAD


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k = 0 is too small; give a whole number from 1 up"),
        ({"k": 1.5}, "k = 1.5 is not a whole number"),
        ({"k": "three"}, "k = 'three' is not a whole number"),
    ],
)
def test_similar_refuses_what_is_no_number_of_features(
    graph: Graph, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        graph.similar("1/res/0", **arguments)
    assert str(caught.value) == message


def test_a_number_of_features_may_be_text_as_in_other_verbs(graph: Graph) -> None:
    asked: Any = "3"
    assert graph.similar("1/res/0", k=asked) == graph.similar("1/res/0", k=3)


@pytest.mark.parametrize(
    "arguments", [{}, {"key": "1/res/0", "text": "a"}, {"vector": [1.0], "text": "a", "key": "1/res/0"}]
)
def test_there_is_one_thing_to_be_similar_to(graph: Graph, arguments: dict[str, Any]) -> None:
    with pytest.raises(
        UsageError, match=f"^give exactly one of a feature key, a vector and a text, got {len(arguments)}$"
    ):
        graph.similar(**arguments)


# ---- to a vector


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_length_of_a_vector_does_not_matter(graph: Graph, k: int) -> None:
    vector = np.random.default_rng(7).normal(size=D_MODEL).astype(np.float32)
    unit = vector / np.linalg.norm(vector)
    expected = nearest_in_toy(unit, k)
    for length in (1.0, 1e-30, 1e30):
        same(graph.similar(vector=(vector.astype(np.float64) * length).tolist(), k=k), expected)


def test_the_direction_of_a_feature_finds_the_feature_itself(graph: Graph) -> None:
    best = graph.similar(vector=directions(saes()[5])[1], k=1).dicts()[0]
    assert (best["key"], best["cosine"]) == ("1/res/1", pytest.approx(1.0))


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0] * 5, "the vector has 5 numbers; a vector of 6 numbers is needed"),
        ([], "the vector has 0 numbers; a vector of 6 numbers is needed"),
        ([[1.0] * 6], r"the vector has the shape (1, 6); a vector of 6 numbers is needed"),
        ([1.0, 2.0, float("nan"), 1.0, 1.0, 1.0], "number 2 of the 6 of the vector is nan"),
        ([1.0, 2.0, 1.0, 1.0, 1.0, float("-inf")], "number 5 of the 6 of the vector is -inf"),
        ([0.0] * 6, "all 6 numbers of the vector are 0, so it has no direction"),
        (["a"] * 6, "the vector is not a list of numbers; a vector of 6 numbers is needed"),
        ([10**400] * 6, "the vector is not a list of numbers"),
    ],
)
def test_a_vector_without_a_direction_here_is_refused(graph: Graph, vector: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        graph.similar(vector=vector)
    assert message in str(caught.value)


# ---- to a vector in a file


def test_a_vector_is_read_from_any_of_its_files(tmp_path: Path) -> None:
    values = [1.5, -2.0, 0.25]
    (tmp_path / "v.json").write_text(json.dumps(values), encoding="utf-8")
    np.save(tmp_path / "v.npy", np.array([values], dtype=np.float16))
    save_file({"anything": torch.tensor(values)}, tmp_path / "one.safetensors")
    save_file({"other": torch.zeros(2), "vector": torch.tensor(values)}, tmp_path / "two.safetensors")
    for name in ("v.json", "v.npy", "one.safetensors", "two.safetensors"):
        assert read_vector(tmp_path / name) == values


def test_a_file_that_holds_no_vector_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "two.safetensors")
    save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    np.save(tmp_path / "matrix.npy", np.ones((2, 2)))
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "cut.json").write_text("[1, 2", encoding="utf-8")
    (tmp_path / "words.json").write_text('["a", "b"]', encoding="utf-8")
    (tmp_path / "ragged.json").write_text("[[1], [1, 2]]", encoding="utf-8")
    (tmp_path / "vector.pt").write_bytes(b"")
    for name, message in {
        "two.safetensors": "it has 2 tensors and none is named 'vector'",
        "half.safetensors": "save it as float32",
        "matrix.npy": "holds float64 of shape (2, 2); a vector is a list of real numbers",
        "pickled.npy": "not an array of numbers as numpy.save writes it",
        "cut.safetensors": "cannot read the vector",
        "cut.json": "Expecting ',' delimiter",
        "words.json": "a vector is a list of real numbers",
        "ragged.json": "cannot read the vector",
        "vector.pt": "give one of .safetensors, .npy, .json",
        "absent.npy": "there is no file",
    }.items():
        with pytest.raises(UsageError) as caught:
            read_vector(tmp_path / name)
        assert message in str(caught.value)
        assert name in str(caught.value)


# ---- to a text


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small suite, its SAEs' decoder biases random, and its graph beside the recipe."""
    folder = tmp_path_factory.mktemp("told")
    recipe = build_small_suite(folder)
    torch.manual_seed(1)
    for weights in sorted((folder / "small" / "saes").rglob("*.safetensors")):
        tensors = load_file(weights)
        save_file({**tensors, "b_dec": 3 * torch.randn_like(tensors["b_dec"])}, weights)
    ingest(read_recipe(recipe), folder / "small.featgraph")
    return folder


def _unit(values: torch.Tensor) -> Matrix:
    unit: Matrix = (values / values.norm(dim=-1, keepdim=True)).numpy()
    return unit


def test_a_text_is_the_mean_of_its_activations_less_the_bias_of_each_sae(told: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(told / "small" / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(told / "small" / "model")
    tokens = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    pieces = [tokens[start : start + 11] for start in range(0, len(tokens), 11)]
    queries, rows = {}, {}
    for layer in range(LAYERS):
        for site, module in MODULES.items():
            kept: list[torch.Tensor] = []

            def keep(_module: Any, _inputs: Any, output: Any, kept: list[torch.Tensor] = kept) -> None:
                kept.append((output[0] if isinstance(output, tuple) else output)[0, 1:])

            handle = model.get_submodule(module.format(layer)).register_forward_hook(keep)
            with torch.no_grad():
                for piece in pieces:
                    model(torch.tensor([[tokenizer.bos_token_id, *piece]]))
            handle.remove()
            sae = load_file(told / "small" / "saes" / f"{layer}.{site}" / "sae_weights.safetensors")
            queries[f"{layer}/{site}"] = _unit(torch.cat(kept).mean(dim=0) - sae["b_dec"])
            rows[f"{layer}/{site}"] = _unit(sae["W_dec"])
    assert len(pieces) > 1
    with featgraph.open(told / "small.featgraph") as opened:
        same(opened.similar(text=TEXT, k=5), ranked(queries, rows, 5))


def test_a_text_without_tokens_is_refused(told: Path) -> None:
    with featgraph.open(told / "small.featgraph") as opened, pytest.raises(UsageError) as caught:
        opened.similar(text="")
    assert str(caught.value) == "the text '' has no tokens"


def test_the_recipe_is_also_found_in_the_working_folder(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(told / "small.featgraph", tmp_path / "moved.featgraph")
    with featgraph.open(tmp_path / "moved.featgraph") as opened:
        with pytest.raises(SourceError, match=r"its recipe small\.toml is not a shipped one"):
            opened.similar(text=TEXT)
        monkeypatch.chdir(told)
        assert len(opened.similar(text=TEXT, k=1)) == 3 * LAYERS


def test_a_recipe_that_has_changed_is_not_taken(told: Path, tmp_path: Path) -> None:
    shutil.copytree(told, tmp_path / "told")
    recipe = tmp_path / "told" / "small.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("top_k = 3", "top_k = 4"), encoding="utf-8")
    with (
        featgraph.open(tmp_path / "told" / "small.featgraph") as opened,
        pytest.raises(SourceError, match="not in its original form in"),
    ):
        opened.similar(text=TEXT)


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ("model/model.safetensors", "the model small/model"),
        ("saes/1.mlp/sae_weights.safetensors", "the SAE small/saes/1.mlp"),
    ],
)
def test_weights_that_have_changed_are_refused(told: Path, tmp_path: Path, weights: str, named: str) -> None:
    shutil.copytree(told, tmp_path / "told")
    file = tmp_path / "told" / "small" / weights
    tensors = load_file(file)
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    with (
        featgraph.open(tmp_path / "told" / "small.featgraph") as opened,
        pytest.raises(SourceError) as caught,
    ):
        opened.similar(text=TEXT)
    assert str(caught.value).startswith(f"{named} is not the one that ")


# ---- the index


def test_an_index_is_counted_without_its_vectors(tmp_path: Path) -> None:
    told = Path("/proc/self/io")
    if not told.exists():
        pytest.skip("only Linux says how much a process has read")

    def n_read() -> int:
        return int(told.read_text().split()[1])

    index = tmp_path / "res.0.faiss"
    vectors.save(index, np.zeros((20_000, 64), dtype=np.float32))
    before = n_read()
    assert vectors.shape(index)[0] == 20_000
    assert n_read() - before < index.stat().st_size / 100


def test_an_index_cut_short_is_not_counted(tmp_path: Path) -> None:
    index = tmp_path / "toy.featgraph" / "vectors" / "res.0.faiss"
    index.parent.mkdir(parents=True)
    vectors.save(index, np.eye(D_MODEL, dtype=np.float32))
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"its .* bytes are not those"):
        vectors.shape(index)
