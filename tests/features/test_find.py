"""Features found by label, nearness and contrast of prompts, against brute force; and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import featgraph
from featgraph import Graph, SourceError, UsageError
from featgraph.cli import app
from featgraph.features import contrast
from featgraph.features import prompts as running
from featgraph.store import Store, vectors
from helpers.lit_suite import Suite
from helpers.toy import directions, saes
from test_imports import ALL_COMMANDS, run

POSITIVE = [
    "the cat sat on the mat",
    "a cat and a red ball",
    "the cat ran to the park to play with a sad cat",
]
NEGATIVE = ["mom said it was a sad day", "the dog ran to the park"]


@pytest.fixture(scope="module")
def toy_graph(toy: Path) -> Iterator[Graph]:
    with featgraph.open(toy) as opened:
        yield opened


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# ---- by contrast


def expected(
    suite: Suite, positive: list[str], negative: list[str], least: float
) -> dict[str, tuple[float, ...]]:
    """Score and firing rates by key: one feature at a time, from dense codes."""
    read = [[suite.dense(prompt) for prompt in prompts] for prompts in (positive, negative)]
    found = {}
    for (layer, site), first in read[0][0].items():
        for idx in range(first.shape[1]):
            largest = [[codes[layer, site][:, idx].max() for codes in side] for side in read]
            fires = [[(codes[layer, site][:, idx] != 0).any() for codes in side] for side in read]
            means, rates = [np.mean(side) for side in largest], [float(np.mean(side)) for side in fires]
            squares = sum(((np.array(side) - np.mean(side)) ** 2).sum() for side in largest)
            spread = (squares / (len(positive) + len(negative) - 2)) ** 0.5
            most = max(abs(value) for side in largest for value in side)
            difference = float(means[0] - means[1])
            if difference and (rates[0] if difference > 0 else rates[1]) >= least:
                score = difference / max(spread, contrast.FLOOR * most)
                found[f"{layer}/{site}/{idx}"] = (score, *rates)
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("least", [0.0, 0.1, 0.6])
def test_a_contrast_is_what_dense_codes_say(suite: Suite, graph: Graph, least: float) -> None:
    wanted = expected(suite, POSITIVE, NEGATIVE, least)
    rows = graph.find(positive=POSITIVE, negative=NEGATIVE, k=1000, min_firing=least).dicts()
    found = {row["key"]: (row["score"], row["firing_positive"], row["firing_negative"]) for row in rows}
    assert set(found) == set(wanted)
    for key, values in wanted.items():
        assert found[key] == pytest.approx(values, rel=1e-4, abs=1e-5), key
    scores: list[Any] = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.thorough
def test_swapped_prompts_have_the_opposite_scores(graph: Graph) -> None:
    ahead = graph.find(positive=POSITIVE, negative=NEGATIVE, k=1000).dicts()
    back = graph.find(positive=NEGATIVE, negative=POSITIVE, k=1000).dicts()
    swapped: dict[Any, Any] = {row["key"]: row["score"] for row in back}
    assert {row["key"]: row["score"] for row in ahead} == pytest.approx(
        {key: -swapped[key] for key in swapped}
    )


@pytest.mark.thorough
def test_a_contrast_reads_one_sae_after_another_where_memory_is_short(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = graph.find(positive=POSITIVE, negative=NEGATIVE)
    monkeypatch.setattr(running, "GROUP_BYTES", 1)
    assert graph.find(positive=POSITIVE, negative=NEGATIVE) == whole


@pytest.mark.thorough
def test_a_score_ends_where_the_floor_says(graph: Graph) -> None:
    once = graph.find(positive=[POSITIVE[0]] * 2, negative=[NEGATIVE[0]] * 2, k=1000).dicts()
    scores: list[Any] = [row["score"] for row in once]
    assert max(map(abs, scores)) == pytest.approx(1 / contrast.FLOOR)


def test_only_what_passes_is_found(graph: Graph) -> None:
    asked: dict[str, Any] = {"positive": POSITIVE, "negative": NEGATIVE, "k": 1000}
    whole = graph.find(**asked).dicts()
    part = graph.find(**asked, site="mlp", layers=(1, 2), min_density=0.101, max_density=0.399).dicts()
    kept = [row for row in whole if row["site"] == "mlp" and row["layer"] in (1, 2)]
    assert part == [row for row in kept if 0.101 <= row["density"] <= 0.399]  # type: ignore[operator]
    assert 0 < len(part) < len(kept)
    assert graph.find(**{**asked, "k": 3}).dicts() == whole[:3]


@pytest.mark.thorough
def test_a_finding_says_what_the_graph_says_of_a_feature(graph: Graph) -> None:
    result = graph.find(positive=POSITIVE, negative=NEGATIVE, k=5)
    names = "id, key, layer, site, score, firing_positive, firing_negative, density, label"
    assert result.columns == names.split(", ")
    for row in result.dicts():
        statement = "select id, layer, site, density from feature where key = $key"
        [known] = graph.store.rows(statement, {"key": row["key"]})
        assert known == (row["id"], row["layer"], row["site"], row["density"])
        labels = graph.store.rows("select text from label where feature = $id", {"id": row["id"]})
        assert (row["label"],) in labels


# ---- by nearness


def brute(graph: Graph, query: Any, passing: str) -> list[tuple[str, float]]:
    """All features that pass, by cosine to a unit vector."""
    store: Store = graph.store
    kept = {row[0] for row in store.rows(f"select key from feature where {passing}")}
    found = []
    for sae in store.saes:
        for idx, unit in enumerate(vectors.directions(store.vectors(sae))):
            if str(sae.key(idx)) in kept:
                found.append((str(sae.key(idx)), float(unit @ query)))
    return sorted(found, key=lambda pair: -pair[1])


@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("least", [0.0, 0.15])
def test_the_nearest_are_found_whatever_is_left_out(graph: Graph, k: int, least: float) -> None:
    vector = np.random.default_rng(3).normal(size=16)
    query = (vector / np.linalg.norm(vector)).astype(np.float32)
    wanted = brute(graph, query, f"site <> 'att' and density >= {least}")
    wanted = [pair for pair in wanted if "/mlp/" in pair[0]][:k]
    found = graph.find(vector=(vector * 7).tolist(), k=k, site="mlp", min_density=least).dicts()
    assert [row["key"] for row in found] == [key for key, _ in wanted]
    scores: list[Any] = [row["score"] for row in found]
    assert scores == pytest.approx([cosine for _, cosine in wanted], abs=1e-5)


@pytest.mark.thorough
def test_the_nearest_are_found_where_the_nearest_of_its_sae_does_not_pass(graph: Graph) -> None:
    [sae] = [sae for sae in graph.store.saes if (sae.layer, sae.site) == (1, "res")]
    rows = graph.store.rows("select key, idx, density from feature where layer = 1 and site = 'res'")
    deep = 0
    for key, idx, density in rows[:20]:
        most = float(np.nextafter(np.float32(density), np.float32(0)))
        query = vectors.directions(graph.store.vectors(sae), [idx])[0]
        wanted = brute(graph, query, f"density <= {most!r}")[:1]
        found = graph.find(vector=query, k=1, max_density=most).dicts()
        assert [row["key"] for row in found] == [near for near, _ in wanted], key
        deep += any(near.startswith("1/res/") for near, _ in wanted)
    assert deep > 0


def test_near_leaves_out_the_feature_itself(toy_graph: Graph) -> None:
    found = toy_graph.find(near="1/res/0", k=100).dicts()
    assert len(found) == 35
    assert [row["key"] for row in found] == [row["key"] for row in toy_graph.similar("1/res/0").dicts()]
    assert list(found[0]) == ["id", "key", "layer", "site", "score", "density", "label"]


# ---- by label


def test_labels_are_searched_as_the_verb_searches(toy_graph: Graph) -> None:
    searched = toy_graph.search("sun").dicts()
    found = toy_graph.find(label="sun").dicts()
    same = [(row["key"], row["score"], row["text"]) for row in searched]
    assert [(row["key"], row["score"], row["label"]) for row in found] == same
    assert [row["key"] for row in toy_graph.find(label="sun", site="mlp").dicts()] == ["1/mlp/0"]
    assert len(toy_graph.find(label="cat", layers=(0, 1))) == 2
    assert len(toy_graph.find(label="nowhere")) == 0


@pytest.mark.thorough
def test_finding_without_prompts_imports_light(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text("[1, 0, 0, 0, 0, 0]", encoding="utf-8")
    ways = (["--label", "sun"], ["--near", "1/res/0"], ["--vector", str(tmp_path / "v.json")])
    lines = run(ALL_COMMANDS, json.dumps([["find", str(toy), *way] for way in ways]))
    assert [line for line in lines if line.startswith("heavy:")] == ["heavy:"] * len(ways)


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give exactly one of label, near, vector, or positive with negative, got 0"),
        ({"label": "sun", "near": "1/res/0"}, ", got 2"),
        ({"positive": ["a"]}, "a contrast needs both positive and negative prompts"),
        ({"positive": [], "negative": ["a"]}, "there are no positive prompts; give at least one"),
        ({"positive": ["a", "b"], "negative": []}, "there are no negative prompts"),
        ({"positive": "a cat", "negative": ["b"]}, "positive is one text, 'a cat'; give a list of prompts"),
        ({"positive": ["a", "b"], "negative": ["b", "a"]}, "positive and negative are the same 2 prompts"),
        ({"positive": ["a"], "negative": ["b"]}, "one prompt per set gives no variance"),
        ({"positive": ["a", "b"], "negative": ["c"], "min_firing": 2}, "min_firing = 2 is out of range"),
        ({"label": "sun", "k": 0}, "k = 0 is too small; give a whole number from 1 up"),
        ({"label": "sun", "site": "rse"}, "no site 'rse'; did you mean 'res'? sites are att, mlp, res"),
        ({"label": "sun", "layers": (7, 9)}, "no SAEs in layers 7 to 9; they are at 0 to 2"),
        ({"label": "sun", "max_density": 1.5}, "max_density = 1.5 is out of range: 0 to 1"),
        ({"label": "sun", "min_s_out": -1}, "min_s_out = -1 is out of range"),
        ({"near": "9/res/0"}, "did you mean"),
        ({"vector": [1.0]}, "a vector of 6 numbers is needed"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(
    toy_graph: Graph, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        toy_graph.find(**arguments)
    assert message in str(caught.value)


def test_a_prompt_without_tokens_is_refused(graph: Graph) -> None:
    with pytest.raises(UsageError, match="has no tokens"):
        graph.find(positive=["the cat", ""], negative=["the dog"])


def test_a_graph_without_a_text_has_nothing_to_contrast(toy_graph: Graph) -> None:
    with pytest.raises(SourceError) as caught:
        toy_graph.find(positive=POSITIVE, negative=NEGATIVE)
    assert "was made without a text" in str(caught.value)
    assert "ingest it again with --text FILE" in str(caught.value)


def test_a_graph_whose_model_is_gone_says_where_it_should_be(suite: Suite, tmp_path: Path) -> None:
    shutil.copytree(suite.graph, tmp_path / "away.featgraph")
    with (
        featgraph.open(tmp_path / "away.featgraph") as away,
        pytest.raises(SourceError, match=r"small\.toml"),
    ):
        away.find(positive=POSITIVE, negative=NEGATIVE)


# ---- from the command line


@pytest.mark.thorough
def test_the_command_finds_what_python_finds(suite: Suite, graph: Graph, tmp_path: Path) -> None:
    for name, prompts in (("yes", POSITIVE), ("no", NEGATIVE)):
        (tmp_path / name).write_text("\n\n".join(prompts) + "\n", encoding="utf-8")
    options = ["--site", "res", "--layers", "1-2", "--min-firing", "0.5", "-k", "4", "--format", "json"]
    done = call("find", suite.graph, "--positive", tmp_path / "yes", "--negative", tmp_path / "no", *options)
    assert done.exit_code == 0, done.stderr
    asked: dict[str, Any] = {"site": "res", "layers": (1, 2), "min_firing": 0.5, "k": 4}
    found = graph.find(positive=POSITIVE, negative=NEGATIVE, **asked).dicts()
    for row, wanted in zip(json.loads(done.stdout), found, strict=True):
        assert row["key"] == wanted["key"]
        assert row["score"] == pytest.approx(wanted["score"])


def test_the_command_takes_a_vector_from_a_file(toy: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", directions(saes()[5])[1])
    done = call("find", toy, "--vector", tmp_path / "v.npy", "-k", "1", "--format", "jsonl")
    found = json.loads(done.stdout)
    assert (found["key"], found["score"]) == ("1/res/1", pytest.approx(1.0))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--positive", "none.txt", "--negative", "no"], 2, "cannot read the prompts none.txt: no such file"),
        (
            ["--positive", "no", "--negative", "no"],
            2,
            "--positive and --negative are both no; give two files",
        ),
        (["--positive", "empty", "--negative", "no"], 2, "empty has no prompts; write one per line"),
        (
            ["--positive", "bytes", "--negative", "no"],
            2,
            "cannot read the prompts bytes: it is not UTF-8 text",
        ),
        (["--positive", "no"], 2, "a contrast needs both positive and negative prompts"),
        (["--positive", "yes", "--negative", "no"], 4, "was made without a text"),
        (["--label", "sun", "--layers", "2-1"], 2, "'2-1' ends before it begins"),
        (["--label", "sun", "--screen"], 4, "has no language model"),
        (["--vector", "gone.npy"], 2, "there is no file gone.npy"),
        ([], 2, "give exactly one of label"),
    ],
)
def test_the_command_says_what_is_wrong(
    toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no").write_text("\n".join(NEGATIVE), encoding="utf-8")
    Path("yes").write_text("\n".join(POSITIVE), encoding="utf-8")
    Path("empty").write_text("\n  \n", encoding="utf-8")
    Path("bytes").write_bytes(b"\xff\xfe\x00")
    done = call("find", toy, *arguments)
    assert done.exit_code == code, done.stderr
    assert message in done.stderr


def test_help_ends_with_lines_that_can_be_typed() -> None:
    for name in ("find", "activate"):
        text = call(name, "--help").stdout
        assert f"featgraph {name} demo.featgraph" in text.splitlines()[-1]
