"""repeng: `ControlVector.import_gguf`, then `ControlModel.set_control`.

Two files: the one for llama.cpp, for which exactly its layers are wrapped, and the one with a direction for
every block, which any choice of layers can be wrapped for.
"""

import importlib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from readers import Case, Logits, Reference, Row
from readers.measuring import measured
from readers.transformers_model import load, logits


def rows(reference: Reference) -> Iterator[Row]:
    """Yield the rows of both files."""
    every = reference.cases
    for ending, cases in (("repeng.gguf", every), ("gguf", [case for case in every if 0 not in case.blocks])):
        yield from measured(
            f"repeng, {ending}", version("repeng"), reference, _Wrapped(reference, ending), cases
        )


class _Wrapped:
    """A model in repeng's hands; called, it answers logits."""

    def __init__(self, reference: Reference, ending: str) -> None:
        self.repeng: Any = importlib.import_module("repeng")
        self.reference, self.ending, self.model = reference, ending, load(reference)

    def __call__(self, case: Case | None) -> list[Logits]:
        if case is None:
            return logits(self.model, self.reference)
        vector = self.repeng.ControlVector.import_gguf(self.reference.file(case, self.ending))
        wrapped = self.repeng.ControlModel(self.model, list(vector.directions))
        try:
            wrapped.set_control(vector, case.strength)
            return logits(wrapped, self.reference)
        finally:
            wrapped.unwrap()
