"""steering-vectors: the `SteeringVector` that our loader lines make, and its `apply`."""

import runpy
from collections.abc import Iterator
from importlib.metadata import version

from readers import Case, Logits, Reference, Row
from readers.measuring import measured
from readers.transformers_model import load, logits


def rows(reference: Reference) -> Iterator[Row]:
    """Yield the rows of the safetensors file with the module beside it."""
    model = load(reference)

    def run(case: Case | None) -> list[Logits]:
        if case is None:
            return logits(model, reference)
        loaded = runpy.run_path(str(reference.file(case, "steering-vectors.py")))
        with loaded["steering_vector"].apply(model, loaded["LAYER_CONFIG"], multiplier=case.strength):
            return logits(model, reference)

    yield from measured("steering-vectors", version("steering-vectors"), reference, run, reference.cases)
