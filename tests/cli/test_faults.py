"""What goes wrong during an ingest: each fault is named, and the graph that was there stays as it was."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from featgraph.errors import SourceError, StoreError
from featgraph.ingestion import ingest
from featgraph.recipe import read_recipe
from helpers.repository import ROOT
from helpers.small_suite import END, save_model, save_sae
from helpers.toy import build_toy


@pytest.fixture
def suite_copy(small_recipe: Path, tmp_path: Path) -> Path:
    """A copy of the small suite that a test may damage; returns the recipe."""
    shutil.copytree(small_recipe.parent, tmp_path / "suite")
    return tmp_path / "suite" / small_recipe.name


def refusal(recipe: Path, out: Path) -> str:
    """Run an ingest that must fail for its sources; return the message, which must be one line."""
    with pytest.raises(SourceError) as caught:
        ingest(read_recipe(recipe), out)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert [found.name for found in out.parent.glob(".*")] in ([], [f".{out.name}.building"])
    assert not out.exists()
    return str(caught.value)


def test_an_sae_that_does_not_fit_the_model_is_refused(suite_copy: Path, tmp_path: Path) -> None:
    folder = suite_copy.parent / "small" / "saes" / "1.mlp"
    shutil.rmtree(folder)
    save_sae(folder, "model.layers.1.mlp", d_in=24)
    assert refusal(suite_copy, tmp_path / "x.featgraph") == (
        "SAE small/saes/1.mlp reads 24 dimensions, but model.layers.1.mlp of small/model gives 16; "
        "the recipe pairs the wrong model and SAEs"
    )


def test_an_sae_of_another_layer_than_the_recipe_says_is_refused(suite_copy: Path, tmp_path: Path) -> None:
    saes = suite_copy.parent / "small" / "saes"
    shutil.rmtree(saes / "1.res")
    shutil.copytree(saes / "2.res", saes / "1.res")
    message = refusal(suite_copy, tmp_path / "x.featgraph")
    assert message == "SAE small/saes/1.res reads model.layers.2 (2/res), but the recipe puts it at 1/res"


def test_an_sae_whose_decoder_is_outside_the_residual_basis_is_refused(
    suite_copy: Path, tmp_path: Path
) -> None:
    folder = suite_copy.parent / "small" / "saes" / "0.att"
    shutil.rmtree(folder)
    save_sae(folder, "blocks.0.attn.hook_q")
    message = refusal(suite_copy, tmp_path / "x.featgraph")
    assert "'blocks.0.attn.hook_q'" in message
    assert "can be compared" in message


def test_a_missing_sae_names_the_recipe_and_the_folder(suite_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(suite_copy.parent / "small" / "saes" / "2.att")
    message = refusal(suite_copy, tmp_path / "x.featgraph")
    assert message.startswith(f"{suite_copy}: no SAE at ")
    assert "2.att" in message


def test_a_truncated_sae_file_is_named(suite_copy: Path, tmp_path: Path) -> None:
    weights = suite_copy.parent / "small" / "saes" / "1.res" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    message = refusal(suite_copy, tmp_path / "x.featgraph")
    assert message.startswith(f"cannot load {weights}: ")


def test_an_sae_with_nan_weights_is_refused(suite_copy: Path, tmp_path: Path) -> None:
    weights = suite_copy.parent / "small" / "saes" / "1.res" / "sae_weights.safetensors"
    tensors = load_file(weights)
    tensors["W_dec"][3, 5] = torch.nan
    save_file(tensors, weights)
    message = refusal(suite_copy, tmp_path / "x.featgraph")
    assert message == (
        f"SAE {weights} is damaged: 1 of 640 values of W_dec are NaN or infinite; fetch or write it again"
    )


def test_a_missing_model_is_named(suite_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(suite_copy.parent / "small" / "model")
    message = refusal(suite_copy, tmp_path / "x.featgraph")
    assert message.startswith(f"{suite_copy}: no model at ")


def test_another_model_of_the_same_kind_is_refused_by_its_width(suite_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(suite_copy.parent / "small" / "model")
    save_model(suite_copy.parent / "small" / "model", d_model=32)
    assert "reads 16 dimensions, but model.layers.0.self_attn of small/model gives 32" in refusal(
        suite_copy, tmp_path / "x.featgraph"
    )


def test_an_sae_of_whole_numbers_is_refused(suite_copy: Path, tmp_path: Path) -> None:
    weights = suite_copy.parent / "small" / "saes" / "1.res" / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor.to(torch.int32) for name, tensor in tensors.items()}, weights)
    message = refusal(suite_copy, tmp_path / "x.featgraph")
    assert str(weights) in message
    assert "I32" in message or "int" in message


@pytest.mark.parametrize("content", ["", "  \n", f"\n{END}\n {END}"])
def test_a_text_without_a_token_is_refused(suite_copy: Path, tmp_path: Path, content: str) -> None:
    text = suite_copy.parent / "small" / "text.txt"
    text.write_text(content, encoding="utf-8")
    suite_copy.write_text(suite_copy.read_text().replace("text.txt.gz", "text.txt"), encoding="utf-8")
    assert refusal(suite_copy, tmp_path / "x.featgraph").endswith(
        "text.txt is empty; statistics need at least one token"
    )


def test_a_missing_text_and_a_damaged_one_are_named(suite_copy: Path, tmp_path: Path) -> None:
    text = suite_copy.parent / "small" / "text.txt.gz"
    text.write_bytes(text.read_bytes()[:50])
    assert refusal(suite_copy, tmp_path / "x.featgraph").startswith(f"cannot read the text {text}: ")
    text.unlink()
    assert refusal(suite_copy, tmp_path / "x.featgraph").startswith(f"there is no text at {text}")


def test_a_target_that_is_something_else_is_left_alone(small_recipe: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.tex").write_text("do not lose me")
    with pytest.raises(StoreError, match="exists and is not a feature graph; choose another name with -o"):
        ingest(read_recipe(small_recipe), mine)
    assert (mine / "chapter1.tex").read_text() == "do not lose me"


def snapshot(graph: Path) -> dict[str, bytes]:
    return {
        str(found.relative_to(graph)): found.read_bytes() for found in graph.rglob("*") if found.is_file()
    }


@pytest.mark.thorough
def test_when_the_disk_fills_up_the_old_graph_stays_whole(small_recipe: Path, tmp_path: Path) -> None:
    old = build_toy(tmp_path / "x.featgraph")
    before = snapshot(old)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*x\.featgraph: .*; what was there is as it was"):
            ingest(read_recipe(small_recipe), old)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot(old) == before
    assert sorted(found.name for found in tmp_path.iterdir()) == [".x.featgraph.building", "x.featgraph"]
    ingest(read_recipe(small_recipe), old)
    assert [found.name for found in tmp_path.iterdir()] == ["x.featgraph"]


@pytest.mark.slow
def test_ctrl_c_leaves_the_old_graph_and_the_next_run_works(small_recipe: Path, tmp_path: Path) -> None:
    old = build_toy(tmp_path / "x.featgraph")
    before = snapshot(old)
    command = [sys.executable, "-m", "featgraph", "ingest", str(small_recipe), "-o", str(old)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 120
    ledger = tmp_path / ".x.featgraph.building" / "ledger.jsonl"
    # Each finished step is a line; with two there, one of them surely counts when the interrupt comes.
    while not (ledger.exists() and ledger.read_text().count("\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGINT)
    _, talk = running.communicate(timeout=60)
    assert running.returncode == 130, talk
    assert "Traceback" not in talk
    assert "finished steps are kept; the same command goes on from there" in talk
    assert snapshot(old) == before
    assert sorted(found.name for found in tmp_path.iterdir()) == [".x.featgraph.building", "x.featgraph"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    assert snapshot(old) != before
