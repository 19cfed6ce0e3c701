"""A reader's logits against those that featgraph's own hooks give: changed the same way and as far."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from readers import Case, Logits, Reference, Row

MIN_COSINE = 0.99
"""Between the change that a reader makes to the logits of a token and the change it should make."""
MAX_STRETCH = 0.01
"""How far the ratio of their lengths may be from 1: a strength that counts twice, or not at all, shows."""
MIN_SAME = 0.9999
"""Cosine of the logits themselves without steering; below it the reader runs another model."""
_NOTHING = 1e-30
"""In place of a length of 0, so that nothing is divided by it."""

Run = Callable[[Case | None], Sequence[Logits]]
"""Returns a reader's logits per prompt: steered, or for None as they are."""


def measured(
    reader: str, version: str, reference: Reference, run: Run, cases: Sequence[Case]
) -> Iterator[Row]:
    """Yield a row for the reader without steering, one for single layers together, one per other vector."""
    plain = run(None)
    same = _cosine(plain, reference.plain())
    yield Row(reader, version, "logits without steering", f"cosine {same:.7f}", same >= MIN_SAME)
    single = [case for case in cases if case.name == f"layer-{case.blocks[0]}"]
    if single:
        blocks = f"layers {single[0].blocks[0]} to {single[-1].blocks[0]}, each alone"
        yield _row(reader, version, blocks, reference, run, plain, single)
    for case in cases:
        if case not in single:
            what = f"{case.name}, layers {', '.join(map(str, case.blocks))}, times {case.strength:g}"
            yield _row(reader, version, what, reference, run, plain, [case])


def _row(
    reader: str,
    version: str,
    what: str,
    reference: Reference,
    run: Run,
    plain: Sequence[Logits],
    cases: Sequence[Case],
) -> Row:
    """Hold the changes against the expected ones; the worst of all cases, prompts and tokens counts."""
    cosine, stretch = 1.0, 0.0
    for case in cases:
        found = _less(run(case), plain)
        wanted = _less(reference.steered(case), reference.plain())
        cosine = min(cosine, _cosine(found, wanted))
        stretch = max(stretch, _stretch(found, wanted))
    figure = f"cosine {cosine:.7f}, length within {stretch:.1e}"
    return Row(reader, version, what, figure, cosine >= MIN_COSINE and stretch <= MAX_STRETCH)


def telling(reference: Reference) -> Row:
    """Return whether the line is high enough to tell a vector from the same one at the next block."""
    cosines = {}
    for case in reference.cases:
        late = reference.late(case)
        if late is not None:
            plain = reference.plain()
            cosines[case.name] = _cosine(_less(late, plain), _less(reference.steered(case), plain))
    nearest = max(cosines, key=lambda name: cosines[name])
    figure = f"cosine {cosines[nearest]:.4f} at most ({nearest})"
    return Row("(control)", "", "the same vectors one block too late", figure, cosines[nearest] < MIN_COSINE)


def _less(logits: Sequence[Logits], plain: Sequence[Logits]) -> list[Logits]:
    return [after - before for after, before in zip(logits, plain, strict=True)]


def _cosine(found: Sequence[Logits], wanted: Sequence[Logits]) -> float:
    """Return the smallest cosine over all tokens of all prompts; of a token without a change it is 0."""
    smallest = 1.0
    for one, other in zip(found, wanted, strict=True):
        dots = np.einsum("tv,tv->t", one, other, dtype=np.float64)
        cosines = dots / np.maximum(_lengths(one) * _lengths(other), _NOTHING)
        smallest = min(smallest, float(np.nan_to_num(cosines, nan=-1.0).min()))
    return smallest


def _stretch(found: Sequence[Logits], wanted: Sequence[Logits]) -> float:
    """Return how far the length of a token's change is from what it should be, at worst, as a fraction."""
    ratios = [
        _lengths(one) / np.maximum(_lengths(other), _NOTHING)
        for one, other in zip(found, wanted, strict=True)
    ]
    return float(np.abs(np.concatenate(ratios) - 1).max())


def _lengths(logits: Logits) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(logits.astype(np.float64), axis=1)
    return lengths
