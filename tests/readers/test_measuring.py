"""The measure that readers are held to fails where one goes wrong; no reader is needed to know that."""

import json
from pathlib import Path

import numpy as np
import pytest

from readers import Case, Logits, Reference
from readers.__main__ import READERS
from readers.environments import REQUIREMENTS
from readers.measuring import measured, telling

CASE = Case("layer-3", 1.0, [3])


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """One prompt of 5 tokens, a vocabulary of 7."""
    random = np.random.default_rng(0)
    plain, change, late = random.normal(size=(3, 5, 7)).astype(np.float32)
    np.savez(
        tmp_path / "reference.npz",
        allow_pickle=False,
        **{"plain/0": plain, "layer-3/0": plain + change, "late layer-3/0": plain + late},
    )
    described = {
        "model": "none",
        "cases": [vars(CASE)],
        "prompts": [{"text": "a", "tokens": [0, 1, 2, 3, 4]}],
    }
    (tmp_path / "reference.json").write_text(json.dumps(described), encoding="utf-8")
    return Reference(tmp_path)


def verdicts(reference: Reference, plain: Logits, steered: Logits) -> list[bool]:
    """Whether a reader with these logits passes, without steering and with."""
    rows = measured("it", "1", reference, lambda case: [plain if case is None else steered], [CASE])
    return [row.ok for row in rows]


def test_a_reader_that_does_the_same_passes(reference: Reference) -> None:
    [plain], [steered] = reference.plain(), reference.steered(CASE)
    assert verdicts(reference, plain, steered) == [True, True]


@pytest.mark.parametrize("factor", [-1, 0, 0.98, 1.02, np.nan])
def test_a_change_of_another_sign_or_size_fails(reference: Reference, factor: float) -> None:
    [plain], [steered] = reference.plain(), reference.steered(CASE)
    changed = (plain + factor * (steered - plain)).astype(np.float32)
    assert verdicts(reference, plain, changed) == [True, False]


def test_one_token_that_differs_is_enough_to_fail(reference: Reference) -> None:
    [plain], [steered] = reference.plain(), reference.steered(CASE)
    changed = steered.copy()
    changed[4] = plain[4] + np.roll(steered[4] - plain[4], 1)
    assert verdicts(reference, plain, changed) == [True, False]


def test_another_model_fails_although_it_is_steered_the_same(reference: Reference) -> None:
    [plain], [steered] = reference.plain(), reference.steered(CASE)
    other = plain[:, ::-1]
    assert verdicts(reference, other, other + steered - plain) == [False, True]


def test_the_control_fails_where_a_block_cannot_be_told_from_the_next(
    tmp_path: Path, reference: Reference
) -> None:
    assert telling(reference).ok
    [plain], [steered] = reference.plain(), reference.steered(CASE)
    arrays = {"plain/0": plain, "layer-3/0": steered, "late layer-3/0": steered}
    np.savez(tmp_path / "reference.npz", allow_pickle=False, **arrays)
    assert not telling(Reference(tmp_path)).ok


def test_every_environment_says_what_it_needs_and_has_its_reader() -> None:
    here = Path(__file__).parent
    assert {path.stem for path in REQUIREMENTS.glob("*.txt")} == READERS.keys()
    assert {path.stem.removeprefix("with_") for path in here.glob("with_*.py")} == set(READERS.values())
