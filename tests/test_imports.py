"""Asking a graph never loads what only building or steering needs: those libraries take seconds to import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "transformers", "sae_lens", "transformer_lens", "datasets", "pandas"}
COMMAND = "from featgraph.cli import main; main()"


def imported(code: str, *arguments: str) -> set[str]:
    """Run code in a fresh interpreter; return the top-level packages that it had imported at its end."""
    report = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('\\nimported:', *sys.modules, file=sys.stderr))\n"
        "sys.argv[0] = 'featgraph'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", report + code, *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    talk, _, names = ended.stderr.rpartition("\nimported: ")
    assert ended.returncode == 0, talk
    assert "featgraph.errors" in names.split()
    return {name.partition(".")[0] for name in names.split()}


def test_the_driver_would_notice() -> None:
    assert "scipy" in imported("import featgraph, scipy")


def test_the_library_imports_light() -> None:
    assert imported("import featgraph") & HEAVY == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["recipes"],
        ["queries"],
        ["query", "--help"],
        ["query", "GRAPH", "select count(*) from feature"],
        ["info", "GRAPH"],
        ["run", "GRAPH", "splits"],
        ["lineage", "GRAPH", "1/res/0"],
        ["lineage", "GRAPH", "1/res/0", "--format", "json"],
        ["export", "GRAPH", "1/res/0", "--unit", "unit", "--format", "json", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--unit", "unit", "--format", "gguf", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--where", "cumulative", "--format", "safetensors", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--where", "cumulative", "--format", "repeng", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--where", "cumulative", "--format", "easysteer", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--where", "cumulative", "--format", "steering-vectors", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--format", "npz", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--format", "svec", "-o", "OUT"],
        ["export", "GRAPH", "1/res/0", "--format", "attribution-graph", "-o", "OUT"],
        ["find", "GRAPH", "--label", "tokens"],
    ],
    ids=" ".join,
)
def test_commands_that_ask_import_light(toy: Path, tmp_path: Path, arguments: list[str]) -> None:
    places = {"GRAPH": str(toy), "OUT": str(tmp_path / "out")}
    assert imported(COMMAND, *(places.get(word, word) for word in arguments)) & HEAVY == set()
