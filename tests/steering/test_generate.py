"""Generated text, steered and not: compared with transformers, and by the command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

import featgraph
from featgraph import SourceError, UsageError
from featgraph.cli import app
from featgraph.output.side_by_side import Framed, write_texts
from featgraph.steering import Settings, SteeredModel, SteeringVector
from featgraph.steering.compare import compare, sweep
from featgraph.steering.generate import Generation, _chosen, generate
from featgraph.suite import LanguageModel
from featgraph.suite.graph_suite import GraphSuite
from helpers.real_models import D_MODEL, LAYERS, N_VOCABULARY, each_family, random_model
from helpers.repository import ROOT
from helpers.small_suite import save_model

GREEDY = Generation(temperature=0, max_tokens=8)
PROMPTS = ["w7 w8 w9", "w20", "w31 w5 w5 w12 w40"]


def language_model(family: str, bos: str | None = "<s>") -> LanguageModel:
    words = ["<unk>", "<s>", "</s>", *(f"w{token}" for token in range(3, N_VOCABULARY))]
    bare = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token=bos, eos_token="</s>")
    model = random_model(family)
    model.generation_config.eos_token_id = 2
    return LanguageModel(model, tokenizer, family)


def steering(model: LanguageModel, scale: float = 3.0) -> SteeringVector:
    rng = np.random.default_rng(0)
    layers = {
        layer: np.float32(scale) * rng.normal(size=D_MODEL).astype(np.float32) for layer in range(LAYERS)
    }
    return SteeringVector(layers, (), Settings(), SteeredModel("m", model.model_type, D_MODEL, LAYERS))


def transformers_text(model: LanguageModel, prompt: str) -> list[int]:
    ids = torch.tensor([[1, *(int(word[1:]) for word in prompt.split())]])
    given = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0, "max_new_tokens": GREEDY.max_tokens}
    made: list[int] = model.model.generate(ids, do_sample=False, use_cache=False, **given)[
        0, ids.shape[1] :
    ].tolist()
    return made[: made.index(2)] if 2 in made else made


@pytest.mark.thorough
@each_family()
def test_greedy_text_is_that_of_transformers(family: str) -> None:
    model = language_model(family)
    for prompt in PROMPTS:
        [found] = generate(model, [prompt], [0], GREEDY)
        assert list(found.tokens) == transformers_text(model, prompt)


@each_family()
def test_greedy_steered_text_is_that_of_transformers_under_the_same_vector(family: str) -> None:
    model = language_model(family)
    vector = steering(model)
    [found] = generate(model, [PROMPTS[0]], [0], GREEDY, vector)
    with vector.apply(model.model):
        assert list(found.tokens) == transformers_text(model, PROMPTS[0])


@each_family()
def test_padding_does_not_change_a_rows_text(family: str) -> None:
    model = language_model(family)
    vector = steering(model)
    together = generate(model, PROMPTS, [3, 4, 5], Generation(max_tokens=6), vector)
    for row, prompt, seed in zip(together, PROMPTS, [3, 4, 5], strict=True):
        assert [row] == generate(model, [prompt], [seed], Generation(max_tokens=6), vector)


@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_padding_counts_as_prompt(positions: Any) -> None:
    model = language_model("llama")
    vector = steering(model)
    vector = SteeringVector(vector.layers, (), Settings(positions=positions), vector.model)
    together = generate(model, PROMPTS, [0, 0, 0], GREEDY, vector)
    for row, prompt in zip(together, PROMPTS, strict=True):
        assert [row] == generate(model, [prompt], [0], GREEDY, vector)


def test_a_seed_says_the_same_whoever_else_is_sampled_and_another_seed_does_not() -> None:
    model, generation = language_model("llama"), Generation(max_tokens=12, temperature=2.0, top_p=1.0)
    [first, second] = generate(model, [PROMPTS[0]] * 2, [0, 1], generation)
    assert first.tokens != second.tokens
    assert generate(model, [PROMPTS[0]], [1], generation) == [second]


def test_sampling_leaves_the_random_numbers_of_torch_alone() -> None:
    model = language_model("llama")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generate(model, PROMPTS, [0, 1, 2], Generation(max_tokens=3))
    assert torch.equal(torch.rand(3), expected)


def test_text_stops_at_the_end_token() -> None:
    model = language_model("llama")
    [free] = generate(model, [PROMPTS[0]], [0], GREEDY)
    model.model.generation_config.eos_token_id = [2, free.tokens[3]]
    [found] = generate(model, [PROMPTS[0]], [0], GREEDY)
    assert found.tokens == free.tokens[: free.tokens.index(free.tokens[3])]


def test_the_chosen_token_inverts_the_distribution_of_the_nucleus() -> None:
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()[None]
    generation = Generation(temperature=1.0, top_p=0.8)  # keeps 0.5, 0.25 and the one that crosses
    shares = np.array([0.5, 0.25, 0.15]) / 0.9
    for uniform in np.linspace(0, 0.999, 37):
        [found] = _chosen(logits, torch.tensor([uniform]), generation).tolist()
        assert found == int(np.searchsorted(shares.cumsum(), uniform, side="right"))


def test_sampled_shares_are_those_of_the_softmax_at_the_temperature() -> None:
    logits = torch.tensor([[1.0, -1.0, 0.3, 2.0]]).expand(20_000, -1)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = _chosen(logits, uniform, Generation(temperature=0.7, top_p=1.0))
    shares = torch.bincount(drawn, minlength=4) / 20_000
    assert torch.allclose(shares, (logits[0] / 0.7).softmax(0), atol=0.015)


def test_a_prompt_without_tokens_is_an_error() -> None:
    with pytest.raises(UsageError, match="the prompt '' has no tokens"):
        generate(language_model("llama", bos=None), [""], [0], GREEDY)


def test_text_longer_than_the_model_reads_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"a prompt of 4 tokens and 61 more do not fit.*--max-tokens 60"):
        generate(language_model("llama"), [PROMPTS[0]], [0], Generation(max_tokens=61))


def test_logits_that_are_not_finite_are_an_error() -> None:
    model = language_model("gpt2")
    with pytest.raises(UsageError, match="not finite; choose a smaller scale"):
        generate(model, [PROMPTS[0]], [0], GREEDY, steering(model, 1e38))


@pytest.mark.parametrize(
    "settings",
    [
        {"samples": 0},
        {"seed": -1},
        {"seed": True},
        {"max_tokens": 1.5},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": "x"},
    ],
)
def test_how_text_is_generated_is_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(settings))} is"):
        Generation(**settings)


@pytest.fixture
def beside(small: Path, small_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small graph, in the folder of its recipe."""
    monkeypatch.chdir(small_recipe.parent)
    return small


SEED = "1/res/3"


@pytest.mark.thorough
def test_a_sweep_compares_every_scale_with_one_baseline(beside: Path) -> None:
    with featgraph.open(beside) as graph:
        suite = GraphSuite(graph.store)
        vectors = sweep(graph.store, {SEED: 1.0}, Settings(), [0.0, 40.0], suite)
    assert vectors[0.0] is None
    rows = compare(suite.model, vectors, ["the cat"], Generation(max_tokens=6))
    assert [(row.scale, row.sample) for row in rows] == [(0.0, 1), (0.0, 2), (40.0, 1), (40.0, 2)]
    assert [row.baseline for row in rows[:2]] == [row.baseline for row in rows[2:]]
    assert [row.steered for row in rows[:2]] == [row.baseline for row in rows[:2]]
    assert rows[2].steered != rows[2].baseline


def test_rescaling_by_1_is_the_baseline_and_other_errors_still_occur(beside: Path) -> None:
    with featgraph.open(beside) as graph:
        suite = GraphSuite(graph.store)
        rescale = Settings(mode="rescale")
        assert sweep(graph.store, {SEED: 1.0}, rescale, [1.0], suite) == {1.0: None}
        with pytest.raises(UsageError, match="no feature '9/res/3'"):
            sweep(graph.store, {"9/res/3": 1.0}, rescale, [1.0], suite)
        with pytest.raises(UsageError, match="scale 2 is given twice"):
            sweep(graph.store, {SEED: 1.0}, rescale, [2.0, 2.0], suite)


def call(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


def rows(*arguments: object, text: str | None = None) -> list[dict[str, Any]]:
    done = call("steer", *arguments, "--format", "json", text=text)
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


STEERED = (SEED, "--scale", 40, "--max-tokens", 6)


def test_steer_prints_rows_for_programs(beside: Path) -> None:
    found = rows(beside, *STEERED, "--prompt", "the cat", "--prompt", "a dog", "--samples", 3)
    assert list(found[0]) == ["prompt", "sample", "scale", "baseline", "steered"]
    assert [(row["prompt"], row["sample"]) for row in found] == [
        (prompt, sample) for prompt in ("the cat", "a dog") for sample in (1, 2, 3)
    ]


@pytest.mark.thorough
def test_steer_puts_texts_side_by_side_for_people(beside: Path) -> None:
    shown = call("steer", beside, *STEERED, "--prompt", "the cat", "--samples", 1).stdout
    lines = shown.splitlines()
    assert lines[0] == "sample 1"
    assert "baseline" in lines[1]
    assert "scale 40" in lines[1]
    assert lines[2].count("the cat") == 2


@pytest.mark.thorough
def test_the_prompt_can_come_from_stdin(beside: Path) -> None:
    [found] = rows(beside, *STEERED, "--samples", 1, "--prompt", "-", text="the cat\n")
    assert found["prompt"] == "the cat"


@pytest.mark.thorough
@pytest.mark.parametrize("more", [(), ("--mode", "clamp"), ("--positions", "generated", "--temperature", 0)])
def test_a_plan_generates_the_same_text(beside: Path, tmp_path: Path, more: tuple[object, ...]) -> None:
    plan = tmp_path / "plan.json"
    made = rows(beside, *STEERED, *more, "--prompt", "the cat", "--seed", 7, "--save", plan)
    assert rows("--plan", plan) == made
    assert rows("--plan", plan, "--samples", 1) == made[:1]
    assert [row["prompt"] for row in rows("--plan", plan, "--prompt", "a dog")] == ["a dog"] * 2


@pytest.mark.thorough
def test_a_plan_uses_the_graph_at_a_given_path(beside: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(beside, tmp_path / "moved.featgraph"))
    plan = tmp_path / "plan.json"
    made = rows(moved, *STEERED, "--prompt", "the cat", "--save", plan)
    moved.rename(tmp_path / "elsewhere.featgraph")
    done = call("steer", "--plan", plan)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"say where it is: steer GRAPH --plan {plan}" in done.stderr
    assert rows(tmp_path / "elsewhere.featgraph", "--plan", plan) == made


@pytest.mark.thorough
def test_a_plan_is_not_carried_over_to_a_graph_of_other_saes(beside: Path, tmp_path: Path) -> None:
    plan, other = tmp_path / "plan.json", Path(shutil.copytree(beside, tmp_path / "other.featgraph"))
    made = rows(beside, *STEERED, "--mode", "clamp", "--prompt", "the cat", "--save", plan)
    assert rows(other, "--plan", plan) == made
    manifest = json.loads((other / "manifest.json").read_text())
    for sae in manifest["saes"]:
        sae["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    done = call("steer", other, "--plan", plan)
    assert done.exit_code == 4
    assert f"{other} was made of another one" in done.stderr


@pytest.mark.thorough
def test_a_plan_for_another_model_is_refused(beside: Path, small_recipe: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    rows(beside, *STEERED, "--prompt", "the cat", "--save", plan)
    said = json.loads(plan.read_text())
    said["model_sha256"] = "0" * 64
    plan.write_text(json.dumps(said))
    done = call("steer", "--plan", plan)
    assert done.exit_code == 4
    assert "not the one that the vector was made for" in done.stderr


def test_a_model_that_has_changed_since_is_refused(small: Path, small_recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(small_recipe.parent, tmp_path, dirs_exist_ok=True)
    graph = shutil.copytree(small, tmp_path / "g.featgraph")
    torch.manual_seed(1)
    save_model(tmp_path / "small" / "model")
    with featgraph.open(graph) as opened, pytest.raises(SourceError, match="is not the one"):
        GraphSuite(opened.store).model  # noqa: B018


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--prompt", "a"), "steer needs a graph and features"),
        (("GRAPH", SEED), "say how the text begins: --prompt TEXT"),
        (("GRAPH", SEED, "--prompt", "a", "--sweep", "1,x"), "'1,x' is not a list of numbers"),
        (("GRAPH", SEED, "--prompt", "a", "--sweep", "1,2", "--save", "p.json"), "a plan holds one scale"),
        (("GRAPH", SEED, "--prompt", "a", "--scale", "0", "--save", "p.json"), "nothing to save"),
        (("GRAPH", SEED, "--plan", "p.json"), "a plan has its features; leave out '1/res/3'"),
        (("--plan", "p.json", "--mode", "clamp"), "leave out --mode or --plan"),
        (("--plan", "p.json", "--sweep", "1,2"), "leave out --sweep or --plan"),
        (("--plan", "absent.json"), "cannot read absent.json"),
    ],
)
def test_steer_says_what_was_wrong(beside: Path, given: tuple[str, ...], said: str) -> None:
    done = call("steer", *(beside if one == "GRAPH" else one for one in given))
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("generation", "said"),
    [
        ({"prompts": "a"}, "'generation.prompts' is 'a', not a list"),
        ({"prompts": [], "sample": 2}, "'generation' has 'sample'; did you mean 'samples'?"),
        ({"prompts": [], "top_p": 7}, "in 'generation', top_p is 7"),
        ([1], "is damaged"),
    ],
)
def test_a_plan_that_says_nonsense_of_generation_is_damaged(
    beside: Path, tmp_path: Path, generation: object, said: str
) -> None:
    plan = tmp_path / "plan.json"
    rows(beside, *STEERED, "--prompt", "the cat", "--save", plan)
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "generation": generation}))
    done = call("steer", "--plan", plan, "--prompt", "a")
    assert done.exit_code == 2
    assert said in done.stderr


def test_narrow_terminals_get_texts_one_below_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    pair = [Framed("baseline", "one day", " it [b]rained\n"), Framed("scale 2", "one day", " sun")]
    write_texts([("sample 1", pair)], width=79)
    narrow = capsys.readouterr().out
    write_texts([("sample 1", pair)], width=80)
    wide = capsys.readouterr().out
    assert (len(narrow.splitlines()), len(wide.splitlines())) == (7, 4)
    assert "one day it [b]rained" in narrow


@pytest.mark.slow
def test_a_plan_of_the_demo_says_the_same_in_a_process_of_its_own(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    def steer(*arguments: object) -> str:
        command = [sys.executable, "-m", "featgraph", "steer", *map(str, arguments), "--format", "json"]
        path = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    plan, graph = tmp_path / "plan.json", demo[0] / "demo.featgraph"
    line = ("3/res/346", "--where", "cumulative", "--unit", "residual", "--scale", 0.05)
    made = steer(graph, *line, "--prompt", "One day", "--save", plan)
    assert steer("--plan", plan) == made
    [first, _] = json.loads(made)
    assert first["steered"] != first["baseline"]
