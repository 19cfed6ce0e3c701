"""Proof against the programs that load our steering files: they change logits as `SteeringVector.apply` does.

Each reader runs in a virtual environment of its own, which has numpy but not featgraph.

__main__      all of it: environments, then one reader after another, then the table
environments  a virtual environment per reader, and llama.cpp built
reference     what readers load, and the logits that should come out
convert_demo  the demo's language model as GGUF
published     the demo's SAEs as if they had been released
alone         one reader, within its environment
with_*        one reader each; `rows` are its lines of the table
measuring     what a reader did against what it should have done
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""(n_tokens, n_vocab)"""


@dataclass(frozen=True)
class Case:
    """One steering vector on disk and how a reader is to use it."""

    name: str
    strength: float
    """What the reader multiplies the file's vectors by."""
    blocks: list[int]
    """After which it writes."""


@dataclass(frozen=True)
class Prompt:
    """One text and its tokens, the first of which begins a text."""

    text: str
    tokens: list[int]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    reader: str
    version: str
    what: str
    figure: str
    ok: bool


@dataclass(frozen=True)
class Reference:
    """A folder with the model, prompts and vectors, and the logits as they should be."""

    folder: Path

    @property
    def model(self) -> Path:
        """The language model as a transformers folder."""
        return Path(self._described["model"])

    @property
    def gguf(self) -> Path:
        """The same as a file for llama.cpp."""
        return self.folder / "model.gguf"

    @cached_property
    def cases(self) -> list[Case]:
        """Every vector, in the order of the table."""
        return [Case(**case) for case in self._described["cases"]]

    @cached_property
    def prompts(self) -> list[Prompt]:
        """What is read with and without steering."""
        return [Prompt(**prompt) for prompt in self._described["prompts"]]

    def file(self, case: Case, ending: str) -> Path:
        """Where a vector lies in the format whose files end so."""
        return self.folder / "vectors" / f"{case.name}.{ending}"

    def plain(self) -> list[Logits]:
        """The logits without steering, per prompt."""
        return self._read("plain")

    def steered(self, case: Case) -> list[Logits]:
        """The logits within `SteeringVector.apply`, at the case's strength, per prompt."""
        return self._read(case.name)

    def late(self, case: Case) -> list[Logits] | None:
        """The logits where the vector is added one block too late; None where there is no such block."""
        return self._read(f"late {case.name}") if f"late {case.name}/0" in self._logits else None

    @cached_property
    def _described(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "reference.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def _logits(self) -> dict[str, Logits]:
        with np.load(self.folder / "reference.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def _read(self, name: str) -> list[Logits]:
        return [self._logits[f"{name}/{number}"] for number in range(len(self.prompts))]
