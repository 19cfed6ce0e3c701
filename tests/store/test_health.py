"""SAEs that do not fit the model or the text are named, with what may be the reason."""

from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph.store.health import warnings


def changed(toy_copy: Path, statement: str) -> list[str]:
    """The warnings after a change of the table `sae`."""
    with duckdb.connect(str(toy_copy / "graph.duckdb")) as connection:
        connection.execute(statement)
    with featgraph.open(toy_copy) as opened:
        return warnings(opened.store)


def test_a_suite_that_fits_has_no_warning(toy_copy: Path) -> None:
    assert changed(toy_copy, "update sae set explained_variance = 0.3, expected_l0 = l0 * 2.9") == []


def test_an_sae_that_explains_too_little_is_a_warning_with_causes(toy_copy: Path) -> None:
    statement = (
        "update sae set explained_variance = -0.25, expected_variance = 0.8 where layer = 1 and site = 'mlp'"
    )
    [warning] = changed(toy_copy, statement)
    assert warning.startswith(
        "1 of 9 SAEs explain less than 0.3 of the variance of what they read "
        "(1/mlp: -0.25, published as 0.80); "
    )
    for cause in ("another model", "another checkpoint", "a hook or layer other", "a text unlike"):
        assert cause in warning


def test_a_variance_that_is_no_number_is_a_warning(toy_copy: Path) -> None:
    assert len(changed(toy_copy, "update sae set explained_variance = 'nan' where number = 2")) == 1


@pytest.mark.parametrize("times", [0.2, 5.0])
def test_an_l0_far_from_the_published_one_is_a_warning(toy_copy: Path, times: float) -> None:
    [warning] = changed(toy_copy, f"update sae set expected_l0 = l0 * {times} where number = 3")
    assert "1 of 9 SAEs have another L0 than published (1/att: 2.0 for" in warning


def test_without_a_text_nothing_is_said(toy_copy: Path) -> None:
    assert changed(toy_copy, "update sae set l0 = null, explained_variance = null, expected_l0 = 50") == []
