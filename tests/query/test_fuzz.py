"""Mutilated statements have one of two outcomes: rows, or a refusal that points into the text."""

import pytest

from featgraph.store import Store
from helpers.fuzz import outcome_of, run_fuzz
from helpers.fuzz_seeds import SEEDS, Seed


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.text)
def test_a_seed_is_answered(store: Store, seed: Seed) -> None:
    assert outcome_of(store, seed.text, seed.parameters) is None


@pytest.mark.thorough
def test_a_statement_can_only_be_answered_or_refused_with_its_place(store: Store) -> None:
    assert run_fuzz(store, 1_000, seed=0) == []


@pytest.mark.slow
def test_many_statements_can_only_be_answered_or_refused(store: Store) -> None:
    assert run_fuzz(store, 10_000, seed=1) == []
