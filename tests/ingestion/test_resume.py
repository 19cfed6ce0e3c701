"""An ingest goes on where it was cut off: killed at any moment, by whatever, the tables come out the same."""

import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from featgraph import store
from featgraph.errors import SourceError, StoreError
from featgraph.ingestion import ingest
from featgraph.ingestion.ledger import Ledger
from featgraph.recipe import read_recipe
from helpers.same_tables import differences

CutOff = Callable[[Path, Path], None]

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["featgraph.ingestion", "sae_lens", "transformers"])


def run(recipe: Path, out: Path) -> None:
    """What a killed process was doing; one thread, since it is forked."""
    torch.set_num_threads(1)
    ingest(read_recipe(recipe), out)


def lines(out: Path) -> int:
    """How many steps the ledger of a build has."""
    ledger = out.parent / f".{out.name}.building" / "ledger.jsonl"
    return ledger.read_bytes().count(b"\n") if ledger.is_file() else 0


def killed(recipe: Path, out: Path, moment: Callable[[], bool]) -> bool:
    """Start an ingest and kill it at a moment; say whether it was still running."""
    process = _FORKS.Process(target=run, args=(recipe, out))
    process.start()
    while process.is_alive() and not moment():
        time.sleep(0.002)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def n_steps(whole: Path) -> int:
    """How many steps the ingest of a graph has."""
    with store.open_store(whole) as opened:
        return sum(int(entry["n"]) for entry in opened.manifest["steps"] if entry["step"] != "write")


def check_kills(recipe: Path, whole: Path, folder: Path, kills: int, seed: int) -> None:
    """Kill an ingest at random moments of its work, each time from nothing, and let another one end it."""
    total, chance, n_killed = n_steps(whole), random.Random(seed), 0
    other = folder / "other.toml"
    text = recipe.read_text(encoding="utf-8").replace('"small/', f'"{recipe.parent}/small/')
    other.write_text(text.replace("top_k = 3", "top_k = 5"), encoding="utf-8")
    for number in range(kills):
        out = folder / f"{number}.featgraph"
        wanted, pause = chance.randrange(total), chance.random() * 0.05

        def moment(out: Path = out, wanted: int = wanted, pause: float = pause) -> bool:
            if lines(out) < wanted:
                return False
            time.sleep(pause)
            return True

        if number % 2:
            ingest(read_recipe(other), out)  # so that a graph is there to be replaced
        n_killed += killed(recipe, out, moment)
        done = lines(out)
        resumed = ingest(read_recipe(recipe), out).n_resumed
        assert resumed >= min(wanted, done)
        assert differences(whole, out) == [], f"killed after {wanted} steps and {pause:.3f} s"
        assert sorted(found.name for found in out.iterdir()) == ["graph.duckdb", "manifest.json", "vectors"]
        assert len(list((out / "vectors").iterdir())) == 9
    assert n_killed >= kills * 0.6


@pytest.mark.thorough
def test_killed_at_random_moments_the_tables_are_the_same(
    small: Path, small_recipe: Path, tmp_path: Path
) -> None:
    check_kills(small_recipe, small, tmp_path, kills=2, seed=1)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_the_tables_are_the_same(
    small: Path, small_recipe: Path, tmp_path: Path
) -> None:
    check_kills(small_recipe, small, tmp_path, kills=20, seed=2)


@pytest.mark.thorough
def test_killed_again_and_again_it_still_comes_to_an_end(
    small: Path, small_recipe: Path, tmp_path: Path
) -> None:
    out, seen, rounds = tmp_path / "x.featgraph", [0], 0
    while not out.exists():
        before = seen[-1]
        killed(small_recipe, out, lambda before=before: lines(out) >= before + 15)  # type: ignore[misc]
        seen.append(lines(out))
        rounds += 1
        assert rounds < 50
    assert rounds > 3
    assert differences(small, out) == []


@pytest.fixture
def suite_copy(small_recipe: Path, tmp_path: Path) -> Path:
    """A copy of the small suite that a test may change; returns the recipe."""
    shutil.copytree(small_recipe.parent, tmp_path / "suite")
    return tmp_path / "suite" / small_recipe.name


@pytest.fixture
def cut_off(small: Path) -> Callable[[Path, Path], None]:
    """Leaves a build that was killed near its end."""
    total = n_steps(small)

    def cut(recipe: Path, out: Path) -> None:
        assert killed(recipe, out, lambda: lines(out) >= total - 8)

    return cut


@pytest.mark.thorough
def test_a_changed_sae_is_noticed_and_only_what_follows_from_it_is_done_again(
    suite_copy: Path, cut_off: CutOff, tmp_path: Path
) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(suite_copy, out)
    done = lines(out)
    weights = suite_copy.parent / "small" / "saes" / "2.mlp" / "sae_weights.safetensors"
    tensors = load_file(weights)
    tensors["W_dec"] = tensors["W_dec"].flip(0).contiguous()
    save_file(tensors, weights)
    summary = ingest(read_recipe(suite_copy), out)
    assert 0 < summary.n_resumed < done
    ingest(read_recipe(suite_copy), tmp_path / "again.featgraph")
    assert differences(tmp_path / "again.featgraph", out) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [("top_k = 3", "top_k = 4"), ("tokens = 250", "tokens = 200"), ("twera_k = 3", "twera_k = 0")],
)
def test_a_changed_setting_is_noticed(
    suite_copy: Path, cut_off: CutOff, tmp_path: Path, old: str, new: str
) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(suite_copy, out)
    text = suite_copy.read_text()
    assert old in text
    suite_copy.write_text(text.replace(old, new))
    assert ingest(read_recipe(suite_copy), out).n_resumed > 0
    ingest(read_recipe(suite_copy), tmp_path / "again.featgraph")
    assert differences(tmp_path / "again.featgraph", out) == []


@pytest.mark.thorough
def test_a_changed_text_is_noticed(suite_copy: Path, cut_off: CutOff, tmp_path: Path) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(suite_copy, out)
    text = suite_copy.parent / "small" / "text.txt.gz"
    text.unlink()
    (suite_copy.parent / "small" / "text.txt").write_text("a red cat and a sad dog sat in the park " * 30)
    suite_copy.write_text(suite_copy.read_text().replace("text.txt.gz", "text.txt"))
    ingest(read_recipe(suite_copy), out)
    ingest(read_recipe(suite_copy), tmp_path / "again.featgraph")
    assert differences(tmp_path / "again.featgraph", out) == []


@pytest.mark.thorough
def test_a_file_of_a_finished_step_that_is_gone_or_cut_is_made_again(
    small: Path, small_recipe: Path, cut_off: CutOff, tmp_path: Path
) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(small_recipe, out)
    root = tmp_path / ".x.featgraph.building"
    next(iter(sorted((root / "candidates").iterdir()))).unlink()
    cut = next(iter(sorted((root / "graph" / "vectors").iterdir())))
    cut.write_bytes(cut.read_bytes()[:-100])
    ingest(read_recipe(small_recipe), out)
    assert differences(small, out) == []


@pytest.mark.thorough
def test_a_build_that_another_one_wrote_over_is_not_trusted(
    small: Path, suite_copy: Path, cut_off: CutOff, tmp_path: Path
) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(suite_copy, out)
    mine, weights = suite_copy.read_text(), suite_copy.parent / "small/saes/0.mlp/sae_weights.safetensors"
    whole = weights.read_bytes()
    tensors = load_file(weights)
    tensors["W_dec"] = tensors["W_dec"].flip(0).contiguous()
    save_file(tensors, weights)
    suite_copy.write_text(mine.replace("tokens = 250", "tokens = 200"))
    killed(suite_copy, out, lambda: (out.parent / ".x.featgraph.building/codes").is_dir())
    suite_copy.write_text(mine)
    weights.write_bytes(whole)
    ingest(read_recipe(suite_copy), out)
    assert differences(small, out) == []


@pytest.mark.thorough
def test_an_early_error_keeps_what_was_finished(
    small: Path, suite_copy: Path, cut_off: CutOff, tmp_path: Path
) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(suite_copy, out)
    config = suite_copy.parent / "small/model/config.json"
    hidden = config.rename(config.with_suffix(".hidden"))
    with pytest.raises(SourceError) as caught:
        ingest(read_recipe(suite_copy), out)
    assert "finished steps are kept" in caught.value.__notes__[0]
    hidden.rename(config)
    assert ingest(read_recipe(suite_copy), out).n_resumed > 0
    assert differences(small, out) == []


@pytest.mark.thorough
def test_a_kill_between_the_swap_and_the_end_leaves_nothing_to_trust(
    small: Path, suite_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.featgraph"
    weights = suite_copy.parent / "small/saes/0.mlp/sae_weights.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)
    tensors["W_dec"] = tensors["W_dec"].flip(0).contiguous()
    save_file(tensors, weights)
    ingest(read_recipe(suite_copy), out)
    weights.write_bytes(whole)
    with monkeypatch.context() as patched:
        patched.setattr(
            shutil, "rmtree", lambda *_, **__: None
        )  # the process ends before it removes anything
        ingest(read_recipe(suite_copy), out)
    assert (tmp_path / ".x.featgraph.building").is_dir()
    assert ingest(read_recipe(suite_copy), out).n_resumed == 0
    assert differences(small, out) == []


def test_an_sae_that_is_replaced_during_the_ingest_is_refused(suite_copy: Path, tmp_path: Path) -> None:
    from featgraph.ingestion import steps
    from featgraph.ingestion.ledger import Ledger as Book
    from featgraph.ingestion.worker import Worker

    recipe = read_recipe(suite_copy)
    worker = Worker(recipe, tmp_path)
    steps.read_text(worker)
    assert len(Book(tmp_path)) == 0
    loaded = worker.load((0, "mlp"))
    worker.work.save_json("saes/0.mlp.json", {"sha256": loaded.digest})
    assert [one.digest for one in worker.group([(0, "mlp")])] == [loaded.digest]
    worker.release()
    worker.work.save_json("saes/0.mlp.json", {"sha256": "another"})
    with pytest.raises(SourceError, match="was replaced while it was being ingested"):
        worker.group([(0, "mlp")])


@pytest.mark.thorough
def test_half_a_line_in_the_ledger_is_a_step_not_done(
    small: Path, small_recipe: Path, cut_off: CutOff, tmp_path: Path
) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(small_recipe, out)
    ledger = tmp_path / ".x.featgraph.building" / "ledger.jsonl"
    content = ledger.read_bytes()
    ledger.write_bytes(content[: -len(content.splitlines()[-1]) // 2])
    ingest(read_recipe(small_recipe), out)
    assert differences(small, out) == []


@pytest.mark.thorough
def test_fresh_forgets_what_was_done(
    small: Path, small_recipe: Path, cut_off: CutOff, tmp_path: Path
) -> None:
    out = tmp_path / "x.featgraph"
    cut_off(small_recipe, out)
    assert ingest(read_recipe(small_recipe), out, fresh=True).n_resumed == 0
    assert differences(small, out) == []


@pytest.mark.thorough
def test_what_was_finished_is_kept_when_a_later_step_fails(suite_copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.featgraph"
    text = suite_copy.parent / "small" / "text.txt.gz"
    hidden = text.rename(text.with_suffix(".hidden"))
    with pytest.raises(SourceError) as caught:
        ingest(read_recipe(suite_copy), out)
    hidden.rename(text)
    assert "no text at" in str(caught.value)
    [note] = caught.value.__notes__
    assert "finished steps are kept; the same command goes on from there" in note
    assert ingest(read_recipe(suite_copy), out).n_resumed == int(note.split()[0]) > 0


def test_two_ingests_into_one_graph_the_second_is_refused(small_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.featgraph"
    with store.building(out), pytest.raises(StoreError, match="is being written by another process"):
        ingest(read_recipe(small_recipe), out)


def test_a_ledger_takes_a_step_as_done_only_with_its_key_and_its_files(tmp_path: Path) -> None:
    from featgraph.ingestion.ledger import Step

    step = Step("one", "key", lambda worker: None, ("a.txt",))
    assert not Ledger(tmp_path).done(step)
    (tmp_path / "a.txt").write_text("done")
    Ledger(tmp_path).enter(step, 1.5)
    again = Ledger(tmp_path)
    assert again.done(step)
    assert again.seconds([step]) == 1.5
    assert not again.done(Step("one", "other", step.run, step.files))
    (tmp_path / "a.txt").write_text("cut")
    assert not again.done(step)
