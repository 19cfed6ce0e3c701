"""Commands that make something: what they take, what they say before anything is fetched, and new recipes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from featgraph import ingestion
from featgraph.cli import app
from featgraph.recipe import Recipe, all_recipes, find_recipe
from featgraph.suite.estimate import estimate
from helpers.small_suite import build_small_suite


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# ---- recipes


@pytest.mark.thorough
def test_recipes_tell_sizes_in_bytes_to_programs() -> None:
    rows = {row["name"]: row for row in json.loads(call("recipes", "--format", "json").stdout)}
    assert set(rows) == {recipe.name for recipe in all_recipes()}
    needs, row = estimate(find_recipe("gemma-2-2b")), rows["gemma-2-2b"]
    assert (row["model"], row["layers"], row["width"]) == ("google/gemma-2-2b", 26, "16k")
    assert (row["widths"], row["sites"]) == (["16k", "65k"], ["att", "mlp", "res"])
    assert (row["download"], row["disk"], row["memory"]) == (needs.download, needs.building, needs.memory)
    assert row["features"] == needs.features


@pytest.mark.thorough
def test_recipes_tell_sizes_as_text_to_people() -> None:
    [line] = [line for line in call("recipes").stdout.splitlines() if line.startswith("gemma-2-2b ")]
    assert "33.1 GB" in line


# ---- what an ingest would take


def test_a_dry_run_names_every_site_and_total_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("ingest", "gemma-2-2b", "--width", "65k", "--tokens", "1000", "--dry-run")
    assert done.exit_code == 0
    for site in ("att", "mlp", "res"):
        assert f"gemma-scope-2b-pt-{site}-canonical" in done.stdout
    assert "layer_0/width_65k/canonical ... layer_25/width_65k/canonical" in done.stdout
    said = {line.split("   ")[0]: line for line in done.stdout.splitlines()}
    assert "1,000 " in said["tokens"]
    assert "5,111,808" in said["features"]
    assert set(said) >= {"download", "disk, building", "disk, after", "memory"}
    assert "nothing was fetched or written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_programs_bytes() -> None:
    rows = json.loads(call("ingest", "gemma-2-2b", "--dry-run", "--format", "json").stdout)
    sites = {row["site"]: row for row in rows if row["section"] == "sites"}
    needs = {size.site: size for size in estimate(find_recipe("gemma-2-2b")).sites}
    assert {site: row["vectors"] for site, row in sites.items()} == {
        site: size.vectors for site, size in needs.items()
    }
    totals = {row["what"]: row["amount"] for row in rows if row["section"] == "totals"}
    assert totals["features"] == str(78 * 16_384)
    assert int(totals["download"]) > 10**9


def test_a_format_without_a_dry_run_is_refused() -> None:
    refused = call("ingest", "demo", "--format", "json")
    assert refused.exit_code == 2
    assert "--format needs --dry-run" in refused.stderr


def test_a_dry_run_says_what_this_machine_lacks() -> None:
    done = call("ingest", "gemma-3-27b-it", "--width", "262k", "--dry-run", "--tokens", 10**9)
    assert done.exit_code == 0
    assert "free, and building takes up to " in done.stderr


def test_a_dry_run_counts_the_l0_that_the_registry_has() -> None:
    sparse = call("ingest", "gemma-3-1b", "--width", "16k-sparse", "--dry-run").stdout
    assert "10-20" in sparse
    assert sparse != call("ingest", "gemma-3-1b", "--dry-run").stdout


def test_a_dry_run_of_data_free_reads_no_text() -> None:
    done = call("ingest", "gemma-2-2b", "--data-free", "--dry-run")
    assert "data-free: no text is read" in done.stdout


def test_a_dry_run_names_an_id_that_does_not_exist(tmp_path: Path) -> None:
    text = find_recipe("gpt2-small-res-jb").file.read_text()
    (tmp_path / "mine.toml").write_text(text.replace("blocks.{layer}.hook_resid_pre", "block.{layer}.pre"))
    done = call("ingest", tmp_path / "mine.toml", "--dry-run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "release gpt2-small-res-jb has no SAE 'block.0.pre'" in done.stderr
    assert "nearest: 'blocks.0.hook_resid_pre'" in done.stderr


def test_a_model_that_the_saes_were_not_made_for_is_told(tmp_path: Path) -> None:
    text = find_recipe("gpt2-small-res-jb").file.read_text()
    (tmp_path / "mine.toml").write_text(text.replace("openai-community/gpt2", "me/gpt2-tuned"))
    said = call("ingest", tmp_path / "mine.toml", "--dry-run").stderr
    assert "release gpt2-small-res-jb was made for gpt2-small, not me/gpt2-tuned" in said


@pytest.mark.thorough
def test_sizing_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from featgraph.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = ('torch', 'sae_lens', 'transformers', 'datasets')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    for arguments in (["recipes"], ["ingest", "gemma-2-2b", "--dry-run"], ["ingest", "--help"]):
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("\n[]\n")


# ---- what an ingest is given


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, dict[str, object]]]:
    """What the library is asked to build, which it then refuses, so that nothing is built."""
    asked: list[tuple[Recipe, dict[str, object]]] = []

    def ingest(recipe: Recipe, out: Path, progress: object, **named: object) -> None:
        asked.append((recipe, {"out": out, **named}))
        raise KeyboardInterrupt

    monkeypatch.setattr(ingestion, "ingest", ingest)
    return asked


Given = list[tuple[Recipe, dict[str, object]]]


def test_every_flag_reaches_the_library(given: Given, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    flags = ["--width", "65k", "--tokens", 99, "--text", tmp_path / "texts", "--fresh"]
    call("ingest", "gemma-2-2b", "-o", "x.featgraph", *flags, "--engine", "ray", "--ray-address", "a:1")
    [(recipe, named)] = given
    assert recipe.width is not None
    assert recipe.text is not None
    assert (recipe.width.name, recipe.text.tokens, recipe.text.path) == ("65k", 99, tmp_path / "texts")
    wanted = {"out": Path("x.featgraph"), "engine": "ray", "ray_address": "a:1"}
    wanted |= {"fresh": True, "force": False}
    assert named == wanted


def test_without_flags_the_recipe_is_as_it_was_read(given: Given) -> None:
    call("ingest", "gemma-2-2b")
    [(recipe, named)] = given
    assert recipe == find_recipe("gemma-2-2b")
    assert named["out"] == Path("gemma-2-2b.featgraph")
    assert (named["engine"], named["ray_address"], named["fresh"]) == ("local", None, False)


def test_data_free_takes_the_text_away(given: Given) -> None:
    call("ingest", "gemma-2-2b", "--data-free")
    assert given[0][0].text is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--width", "66k"], "no width '66k'; did you mean '65k'? it comes in 16k, 65k"),
        (["--data-free", "--tokens", "5"], "--data-free reads no text, so it goes with neither --text nor"),
        (["--text", "gone.txt"], "no text at 'gone.txt'; --text takes a file, a folder or a dataset's id"),
        (["--ray-address", "a:1"], "--ray-address needs --engine ray"),
        (["--tokens", "0"], "--tokens"),
        (["--engine", "rey"], "--engine"),
    ],
)
def test_flags_that_make_no_sense_are_refused(given: Given, flags: list[str], expected: str) -> None:
    done = call("ingest", "gemma-2-2b", *flags)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert given == []


# ---- recipe init


@pytest.mark.thorough
def test_recipe_init_writes_a_recipe_that_a_dry_run_accepts(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    done = call("recipe", "init", "google/gemma-2-2b", "-o", path)
    assert (done.exit_code, done.stdout) == (0, f"{path}\n")
    assert f"wrote {path}: 26 layers, SAEs: att at 0-25; mlp at 0-25; res at 0-25" in done.stderr
    assert call("ingest", path, "--dry-run").exit_code == 0
    again = call("recipe", "init", "google/gemma-2-2b", "-o", path)
    assert (again.exit_code, "--force replaces it" in again.stderr) == (2, True)
    assert call("recipe", "init", "google/gemma-2-2b", "-o", path, "--force").exit_code == 0


def test_recipe_init_is_called_after_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("recipe", "init", "google/gemma-2-2b").stdout == "gemma-2-2b.toml\n"


def test_recipe_init_takes_own_saes(tmp_path: Path) -> None:
    build_small_suite(tmp_path)
    small, path = tmp_path / "small", tmp_path / "mine.toml"
    done = call("recipe", "init", small / "model", "--saes", small / "saes", "-o", path)
    assert done.exit_code == 0
    shown = call("ingest", path, "--dry-run")
    assert shown.exit_code == 0
    assert "small/saes/0.res ... small/saes/2.res" in shown.stdout


def test_recipe_knows_init_alone() -> None:
    done = call("recipe", "begin", "google/gemma-2-2b")
    assert (done.exit_code, "begin" in done.stderr) == (2, True)
