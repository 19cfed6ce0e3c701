"""`featgraph evaluate steering`: the protocol, the judge and the command, on the small suite."""

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from featgraph import Graph, SourceError, UsageError
from featgraph.cli import app
from featgraph.evaluation import Evaluation, Judge, Trial, evaluate
from featgraph.evaluation.judging import final, read_grades
from featgraph.evaluation.measures import MEASURES
from featgraph.evaluation.measuring import Evaluator
from featgraph.evaluation.protocol import COLUMNS, choose
from featgraph.evaluation.themes import Theme, theme_of
from featgraph.labels import Endpoint, RetryPolicy
from featgraph.steering import Settings
from featgraph.steering.generate import Generation
from featgraph.suite.graph_suite import GraphSuite
from helpers.label_server import Asked, Reply, Stub, chat, serving

SEED = "1/res/3"
PROMPTS = ("the cat", "a dog", "mom said", "the ball")
SHORT = Generation(samples=3, max_tokens=8)
LINE = Settings(where="cumulative", min=-1.0)


def evaluated(graph: Graph, settings: Settings = LINE, **changes: Any) -> Evaluation:
    given = {
        "scales": (0.0, 1.0, 4.0),
        "prompts": PROMPTS,
        "generation": SHORT,
        "keywords": ["cat"],
        **changes,
    }
    return evaluate(graph.store, {SEED: 1.0}, settings, Trial(**given))


def test_all_scales_use_the_validation_prompts_and_the_chosen_one_the_test_prompts(
    graph: Graph,
) -> None:
    found = evaluated(graph)
    assert found.rows.columns == list(COLUMNS)
    rows = found.rows.dicts()
    validation = [("steered", scale, "validation") for scale in (0.0, 1.0, 4.0)]
    methods = ("baseline", "steered", "random", "shuffled", "seed-only")
    test = [(method, 0.0 if method == "baseline" else found.scale, "test") for method in methods]
    expected = [(*about, measure) for about in [*validation, *test] for measure in MEASURES]
    assert [(row["method"], row["scale"], row["split"], row["measure"]) for row in rows] == expected
    assert found.scale in (1.0, 4.0)


@pytest.mark.thorough
def test_at_scale_0_and_without_steering_nothing_moves(graph: Graph) -> None:
    rows = [row for row in evaluated(graph).rows.dicts() if row["scale"] == 0]
    assert len(rows) == 2 * len(MEASURES)
    for row in rows:
        if row["measure"] in ("kl", "perplexity_ratio"):
            assert [row["value"], row["low"], row["high"]] == [row["measure"] != "kl"] * 3


@pytest.mark.thorough
def test_steering_raises_what_the_seed_promotes(graph: Graph) -> None:
    """The token that the seed's direction promotes most, among all, becomes likelier along it."""
    [[promoted]] = graph.sql(f"select logit_tokens[1] from feature where key = '{SEED}'").rows
    rows = evaluated(graph, Settings(), scales=(2.0,), keywords=[str(promoted)]).rows.dicts()
    tested = [row for row in rows if row["measure"] == "theme_logprob" and row["split"] == "test"]
    logprob = {str(row["method"]): float(str(row["value"])) for row in tested}
    assert logprob["steered"] > max(logprob["baseline"], logprob["random"])


@pytest.mark.thorough
def test_the_same_evaluation_says_the_same(graph: Graph) -> None:
    assert evaluated(graph).rows == evaluated(graph).rows
    other = evaluated(graph, generation=Generation(samples=3, max_tokens=8, seed=5))
    assert other.rows != evaluated(graph).rows


@pytest.mark.thorough
def test_suppression_by_rescaling_has_controls_too(graph: Graph) -> None:
    found = evaluated(
        graph, Settings(mode="rescale", where="cumulative", min=-1), scales=(1.0, -8.0), goal="suppress"
    )
    assert found.scale == -8
    assert {row["method"] for row in found.rows.dicts()} == {
        "baseline",
        "steered",
        "random",
        "shuffled",
        "seed-only",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generation": Generation(samples=2)}, "2 seeds say little about chance"),
        ({"prompts": ["one"]}, "1 prompts; one chooses"),
        ({"scales": (0.0,)}, "nothing is steered at scale 0; add another"),
    ],
)
def test_too_little_to_measure_is_an_error(graph: Graph, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        evaluated(graph, **changes)


def measured(activation: float, ratio: float, **more: float) -> dict[str, Any]:
    values = {"theme_activation": activation, "perplexity_ratio": math.log(ratio), **more}
    return {name: np.array([[value, np.nan]]) for name, value in values.items()}


def test_the_scale_with_most_theme_among_fluent_ones_is_chosen() -> None:
    tried = {1.0: measured(0.1, 1.1), 2.0: measured(0.2, 1.4), 4.0: measured(0.9, 1.6)}
    assert choose(tried, "promote") == 2
    assert choose(tried, "suppress") == 1
    assert choose({4.0: tried[4.0], 8.0: measured(0.1, 5)}, "suppress") == 4
    graded = {1.0: measured(0.1, 1, final=0.9), 2.0: measured(0.9, 1, final=0.1)}
    assert choose(graded, "promote") == 1


def test_texts_that_are_all_empty_choose_nothing() -> None:
    with pytest.raises(UsageError, match="every steered text is empty"):
        choose({1.0: measured(np.nan, np.nan)}, "promote")


def test_empty_texts_have_no_measures_but_those_of_the_model(graph: Graph) -> None:
    suite = GraphSuite(graph.store)
    suite.model.model.generation_config.eos_token_id = list(range(suite.model.n_vocabulary))
    evaluator = Evaluator(suite, theme_of(graph.store, {SEED: 1.0}, suite.model, keywords=["cat"]), SHORT)
    found = evaluator.measure(graph.steering_vector(SEED), PROMPTS)
    assert sorted(found) == sorted(MEASURES)
    assert [name for name, values in found.items() if np.isfinite(values).any()] == ["kl"]


def grades(asked: Asked) -> Reply:
    return chat('{"coherence": 4, "behaviour": 1}')


@pytest.fixture
def server() -> Iterator[Stub]:
    with serving(grades) as stub:
        yield stub


def judge(server: Stub, **changes: Any) -> Judge:
    return Judge(Endpoint(server.url, "m", retry_policy=RetryPolicy(tries=1)), **changes)


THEME = Theme((), ("rain", "sun"), (1,), ("weather",))


def test_a_judge_grades_each_text_by_itself(server: Stub) -> None:
    found = judge(server).scores(["it rained", " ", "sun"], ["One day", "a", "b"], THEME)
    assert found["coherence"].tolist() == pytest.approx([0.8, np.nan, 0.8], nan_ok=True)
    assert found["behaviour"].tolist() == pytest.approx([0.2, np.nan, 0.2], nan_ok=True)
    assert found["final"].tolist() == pytest.approx([0.16, np.nan, 0.16], nan_ok=True)
    questions = sorted(asked.question for asked in server.asked)
    assert questions[0] == "Theme: weather; words such as rain, sun\nBeginning: One day\nText: it rained"
    assert len(questions) == 2


def test_suppressing_a_theme_scores_its_absence() -> None:
    coherence, behaviour = np.array([0.8]), np.array([0.2])
    assert final(coherence, behaviour, "promote").tolist() == pytest.approx([0.16])
    assert final(coherence, behaviour, "suppress").tolist() == pytest.approx([0.64])


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "4 and 1",
        '{"coherence": 4}',
        '{"coherence": "high", "behaviour": 1}',
        '{"coherence": 6, "behaviour": 1}',
    ],
)
def test_an_answer_without_grades_is_nan(answer: str) -> None:
    assert np.isnan(read_grades(answer)).all()


def test_thoughts_and_fences_around_grades_are_passed_over() -> None:
    assert read_grades('<think>{"coherence": 0}</think>```json\n{"coherence": 5,\n"behaviour": 0}\n```') == (
        5,
        0,
    )


def test_a_judge_that_refuses_is_an_error(server: Stub) -> None:
    server.rule = lambda asked: Reply(401, b"no key")
    with pytest.raises(SourceError, match=f"the judge m at {server.url}/v1/chat/completions: 401: no key"):
        judge(server).scores(["it rained"], ["One day"], THEME)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "steering", *(str(argument) for argument in arguments)])


QUICK = ("--sweep", "0,2", "--max-tokens", 6, "--keywords", "cat", "--quiet", "--format", "json")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS), encoding="utf-8")
    return file


@pytest.mark.thorough
def test_the_command_prints_rows_and_says_what_it_chose(graph: Graph, prompts: Path) -> None:
    done = call(graph.path, SEED, "--where", "cumulative", "--min", -1, *QUICK, "--prompts", prompts)
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert list(rows[0]) == list(COLUMNS)
    assert {row["n"] for row in rows if row["measure"] == "theme_logprob"} == {6}
    assert re.search(
        r"scale 2 chosen; the theme: \d+ downstream features? and the keywords cat\n", done.stderr
    )


@pytest.mark.thorough
def test_the_command_asks_a_judge(
    graph: Graph, prompts: Path, server: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE", "secret")
    asked = (
        "--judge-url",
        server.url,
        "--judge-model",
        "m",
        "--judge-key-env",
        "JUDGE",
        "--judge-about",
        "cats",
    )
    done = call(graph.path, SEED, *QUICK, "--prompts", prompts, *asked)
    assert done.exit_code == 0, done.stderr
    found = {row["measure"]: row["value"] for row in json.loads(done.stdout)}
    assert [found["coherence"], found["behaviour"]] == pytest.approx([0.8, 0.2])
    assert found["final"] == pytest.approx(0.16)
    assert server.asked[0].headers["authorization"] == "Bearer secret"
    assert server.asked[0].question.startswith("Theme: cats\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--judge-url", "http://localhost:1"), "--judge-url needs --judge-model"),
        (("--judge-about", "cats"), "--judge-about needs --judge-url"),
        (("--plot", "found.pdf"), "'found.pdf' is a PNG file; name it found.png"),
        (("--seeds", "2"), "give 3 or more: --seeds 3"),
        (("--sweep", "a"), "'a' is not a list of numbers"),
    ],
)
def test_the_command_says_what_was_wrong(graph: Graph, given: tuple[str, ...], said: str) -> None:
    done = call(graph.path, SEED, "--quiet", *given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.thorough
def test_a_plot_is_drawn(graph: Graph, prompts: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "found.png"
    done = call(graph.path, SEED, *QUICK, "--prompts", prompts, "--plot", plot)
    assert done.exit_code == 0, done.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {plot}" in done.stderr


def test_without_matplotlib_a_plot_is_refused_before_anything_runs(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = call(graph.path, SEED, "--plot", tmp_path / "found.png")
    assert done.exit_code == 2
    assert "pip install 'featgraph[plot]'" in done.stderr
