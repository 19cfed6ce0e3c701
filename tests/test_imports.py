"""Asking a graph never loads what only building or steering needs: those libraries take seconds to import."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "transformers", "sae_lens", "transformer_lens", "datasets", "pandas"}


def run(code: str, *arguments: str) -> list[str]:
    """Run code in a fresh interpreter; return the lines that it prints to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr.splitlines()


IMPORTED = f"print('heavy:', *sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"


@pytest.mark.thorough
def test_a_heavy_import_would_be_noticed() -> None:
    assert run(f"import sys, featgraph, torch; {IMPORTED}")[-1] == "heavy: torch"


def test_the_library_imports_light() -> None:
    assert run(f"import sys, featgraph; {IMPORTED}")[-1] == "heavy:"


COMMANDS = [
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
]

ALL_COMMANDS = f"""
import json, sys
from featgraph.cli import app
for command in json.loads(sys.argv[1]):
    try:
        app(command, prog_name="featgraph")
    except SystemExit as end:
        assert not end.code, command
    print("after", *command, file=sys.stderr)
    {IMPORTED}
"""


def test_commands_that_ask_import_light(toy: Path, tmp_path: Path) -> None:
    """All in one process: the first command after which something heavy is there is to blame."""
    places = {"GRAPH": str(toy), "OUT": str(tmp_path / "out")}
    commands = [[places.get(word, word) for word in command] for command in COMMANDS]
    lines = run(ALL_COMMANDS, json.dumps(commands))
    heavy = [line for line in lines if line.startswith("heavy:")]
    blamed = [after for after, line in pairwise(lines) if line.startswith("heavy: ")]
    assert len(heavy) == len(COMMANDS)
    assert blamed == []
