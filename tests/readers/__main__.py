"""Proves every reader and prints the table: `tests/readers/run`; see README.md."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from readers import Reference, Row
from readers.environments import environment, llama_cpp
from readers.measuring import telling
from readers.published import HUB
from readers.reference import prepare
from readers.with_llama_cpp import LIBRARIES

READERS = {
    "gguf": "gguf",
    "llama_cpp": "llama_cpp",
    "repeng": "repeng",
    "steering_vectors": "steering_vectors",
    "lm_eval": "lm_eval",
    "lm_eval_csv": "lm_eval",
}
"""Name of each environment and the module `with_*` that runs in it."""


def main() -> int:
    """Return 0 if every reader does as `SteeringVector.apply` does, else 1."""
    parser = argparse.ArgumentParser(prog="tests/readers/run", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; all if none")
    parser.add_argument("--work", type=Path, help="folder for environments, kept for the next time")
    parser.add_argument("--graph", type=Path, help="a graph of the demo; ingested if there is none")
    asked = parser.parse_args()
    unknown = sorted(set(asked.readers) - READERS.keys())
    if unknown:
        parser.error(f"no reader {unknown[0]!r}; readers are {', '.join(READERS)}")
    names = asked.readers or list(READERS)
    if asked.work is not None:
        return prove(names, asked.work.resolve(), asked.graph)
    with tempfile.TemporaryDirectory() as work:
        return prove(names, Path(work), asked.graph)


def prove(names: list[str], work: Path, graph: Path | None) -> int:
    """Print a row per check as it comes; return the exit code."""
    folder = work / "reference"
    prepare(graph or _ingested(work), folder)
    _print("reader", "version", "what it does", "at the worst token", "as expected")
    _print("---", "---", "---", "---", "---")
    failed = 0
    for row in _all_rows(names, Reference(folder), work):
        _print(row.reader, row.version, row.what, row.figure, "yes" if row.ok else "NO")
        failed += not row.ok
    return 1 if failed else 0


def _all_rows(names: list[str], reference: Reference, work: Path) -> Iterator[Row]:
    yield telling(reference)
    for name in names:
        started = time.monotonic()
        out = work / f"{name}.jsonl"
        out.unlink(missing_ok=True)
        try:
            _read(name, reference, work, out)
        except subprocess.CalledProcessError as error:
            last = (error.stderr or error.stdout or "").strip().splitlines()[-1:]
            yield Row(name, "", f"failed: {Path(error.cmd[0]).name}", " ".join(last), False)
        if out.exists():
            yield from (Row(**json.loads(line)) for line in out.read_text(encoding="utf-8").splitlines())
        sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")


def _read(name: str, reference: Reference, work: Path, out: Path) -> None:
    """Run one reader in its environment, which is made first.

    Raises CalledProcessError: it cannot be installed, or it stopped.
    """
    python = environment(name, work)
    here = Path(__file__).parent.parent
    environ = {
        **os.environ,
        "PYTHONPATH": str(here),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(reference.folder / HUB),
    }
    if name == "llama_cpp":
        environ[LIBRARIES] = str(llama_cpp(python, work))
    command = [str(python), "-m", "readers.alone", READERS[name], str(reference.folder), str(out)]
    subprocess.run(command, env=environ, capture_output=True, text=True, check=True)


def _ingested(work: Path) -> Path:
    graph = work / "demo.featgraph"
    if not graph.exists():
        command = [sys.executable, "-m", "featgraph", "ingest", "demo", "--quiet", "-o", str(graph)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return graph


def _print(*cells: str) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
