"""Planted lineages: what the generator plants, how it is scored, and what the rivals call an event."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from finding import build_graph, by_assignment, by_top_one, by_verbs, match
from planted import Score, score, scores, trial, visible
from planting import BIRTHS, DEAD, NOISES, Events, Noise, Suite, plant

from featgraph.core.arrays import Matrix
from featgraph.store import open_store

LAYERS, WIDTH = 4, 400
QUIET = Noise((0.9, 0.02), (0.99, 0.005), 0.0)


@pytest.fixture(scope="module")
def suite() -> Suite:
    return plant(NOISES["moderate"], d_model=64, n_features=WIDTH, layers=LAYERS, n_tokens=4000, seed=3)


@pytest.fixture(scope="module")
def quiet() -> Suite:
    return plant(QUIET, d_model=256, n_features=WIDTH, layers=LAYERS, n_tokens=12_000, seed=4)


def fires(suite: Suite, id: int) -> set[int]:
    codes = suite.codes[id // suite.n_features]
    return set(codes[:, [id % suite.n_features]].nonzero()[0].tolist())


def direction(suite: Suite, id: int) -> Matrix:
    row: Matrix = suite.directions[id // suite.n_features][id % suite.n_features]
    return row


# ---- the generator


@pytest.mark.thorough
def test_the_same_seed_plants_the_same_suite(suite: Suite) -> None:
    again = plant(NOISES["moderate"], d_model=64, n_features=WIDTH, layers=LAYERS, n_tokens=4000, seed=3)
    other = plant(NOISES["moderate"], d_model=64, n_features=WIDTH, layers=LAYERS, n_tokens=4000, seed=5)
    assert all((a == b).all() for a, b in zip(suite.directions, again.directions, strict=True))
    assert all((a != b).nnz == 0 for a, b in zip(suite.codes, again.codes, strict=True))
    assert suite.truth == again.truth != other.truth


def test_directions_are_unit_and_a_tenth_of_the_features_is_dead(suite: Suite) -> None:
    for directions, codes in zip(suite.directions, suite.codes, strict=True):
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
        n_dead = WIDTH - len(np.unique(codes.indices))
        assert DEAD * WIDTH <= n_dead <= DEAD * WIDTH + 0.01 * WIDTH


def test_every_live_feature_comes_from_one_event_and_goes_into_one(suite: Suite) -> None:
    truth, n_live = suite.truth, round(WIDTH * (1 - DEAD))
    come = [dst for _, dst in truth.persistences] + [id for id, _ in truth.merges] + list(truth.births)
    come += [child for _, children in truth.splits for child in children]
    go = [src for src, _ in truth.persistences] + [id for id, _ in truth.splits] + list(truth.deaths)
    go += [parent for _, parents in truth.merges for parent in parents]
    for ids, layers in ((come, range(1, LAYERS)), (go, range(LAYERS - 1))):
        assert len(ids) == len(set(ids))
        assert [sum(id // WIDTH == layer for id in ids) for layer in layers] == [n_live] * (LAYERS - 1)


def test_events_are_as_frequent_as_stated(suite: Suite) -> None:
    truth, steps, n_live = suite.truth, LAYERS - 1, round(WIDTH * (1 - DEAD))
    assert len(truth.deaths) == steps * round(0.15 * n_live)
    assert len(truth.splits) == len(truth.merges) == steps * round(0.04 * n_live)
    assert 0.10 * steps * n_live < len(truth.births) < 0.20 * steps * n_live


def test_a_feature_turns_as_much_as_the_noise_says(suite: Suite) -> None:
    cosines = [float(direction(suite, src) @ direction(suite, dst)) for src, dst in suite.truth.persistences]
    mean, spread = NOISES["moderate"].cosine
    assert np.mean(cosines) == pytest.approx(mean, abs=0.02)
    assert np.std(cosines) == pytest.approx(spread, abs=0.02)


def test_children_of_a_split_fire_on_disjoint_tokens_of_the_parent(quiet: Suite) -> None:
    for parent, children in quiet.truth.splits:
        tokens = [fires(quiet, child) for child in children]
        assert sum(map(len, tokens)) == len(set().union(*tokens))
        assert 0.15 < float(direction(quiet, parent) @ direction(quiet, next(iter(children)))) < 0.95
    assert {len(children) for _, children in quiet.truth.splits} == {2, 3}


def test_what_others_merge_into_fires_where_any_of_them_does(quiet: Suite) -> None:
    shares = []
    for child, parents in quiet.truth.merges:
        tokens = set().union(*(fires(quiet, parent) for parent in parents))
        shares.append(len(fires(quiet, child) & tokens) / len(fires(quiet, child)))
    assert np.mean(shares) > 0.8


def test_distractors_look_alike_and_have_nothing_to_do_with_each_other(suite: Suite) -> None:
    assert set(suite.distractors) == set(BIRTHS) - {"plain", "family"}
    for kind, pairs in suite.distractors.items():
        cosines = np.array([direction(suite, a) @ direction(suite, b) for a, b in pairs])
        together = np.array([len(fires(suite, a) & fires(suite, b)) / len(fires(suite, b)) for a, b in pairs])
        assert {b for _, b in pairs} <= suite.truth.births
        assert pairs.isdisjoint(suite.truth.persistences)
        if kind == "companion":
            assert abs(cosines).mean() < 0.2 < 0.4 < together.mean()
        else:
            assert (cosines.min() > 0.4) if kind.startswith("near") else (cosines.max() < -0.4)
            assert together.mean() < 0.2


# ---- scores


def test_a_score_is_by_hand_what_it_should_be() -> None:
    assert score({1, 2, 3, 4}, {3, 4, 5}) == pytest.approx((1 / 2, 2 / 3, 4 / 7))
    assert score(set(), {1}) == Score(0.0, 0.0, 0.0)
    assert score(set(), set()) == Score(1.0, 1.0, 1.0)


def test_a_split_is_found_only_with_all_its_children() -> None:
    planted = Events(splits={(0, frozenset({5, 6, 7})), (1, frozenset({8, 9}))})
    found = Events(splits={(0, frozenset({5, 6})), (1, frozenset({8, 9}))})
    assert scores(found, planted)["splits"] == Score(0.5, 0.5, 0.5)


# ---- rivals, on two layers of four features that a human can check


@pytest.fixture(scope="module")
def small() -> Suite:
    """0 -> 4 persists (0.9), 1 -> 5 and 6 splits (0.8, 0.6), 2 and 3 -> 7 merge (0.7, 0.6)."""
    up, down = np.eye(8, dtype=np.float32)[:4], np.zeros((4, 8), dtype=np.float32)
    for (src, place), cosine in {(0, 0): 0.9, (1, 1): 0.8, (1, 2): 0.6, (2, 3): 0.7, (3, 3): 0.6}.items():
        down[place, src] = cosine
    down[range(4), range(4, 8)] = np.sqrt(1 - (down**2).sum(axis=1))
    tokens = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 3], dtype=np.int64)
    codes = scipy.sparse.csr_matrix((np.ones(10, dtype=np.float32), (np.arange(10), tokens)), shape=(10, 4))
    return Suite(4, 10, [up, down], [codes, codes])


def test_top_one_takes_the_best_match_of_both_ends(small: Suite) -> None:
    assert by_top_one(match(small)) == Events(
        {(0, 4)}, set(), set(), {(1, frozenset({5, 6}))}, {(7, frozenset({2, 3}))}
    )
    assert by_top_one(match(small), 0.65) == Events({(0, 4), (1, 5), (2, 7)}, {6}, {3}, set(), set())


def test_an_assignment_has_one_partner_each_and_the_rest_may_join(small: Suite) -> None:
    assert by_assignment(match(small)) == Events({(0, 4), (1, 5), (2, 7)}, {6}, {3}, set(), set())
    assert by_assignment(match(small), joining=True) == by_top_one(match(small))


# ---- featgraph


@pytest.mark.slow
def test_the_verbs_by_cosine_are_top_one_but_for_ranks(quiet: Suite, tmp_path: Path) -> None:
    with open_store(build_graph(quiet, tmp_path / "planted.featgraph")) as graph:
        found, rival = by_verbs(graph), by_top_one(match(quiet))
    assert (found.births, found.deaths) == (rival.births, rival.deaths)
    assert (found.splits, found.merges) == (rival.splits, rival.merges)
    assert found.persistences <= rival.persistences


@pytest.mark.slow
def test_by_evidence_the_verbs_find_what_was_planted(quiet: Suite) -> None:
    found = trial(quiet, curves=False).plain
    for kind, by_evidence in found["verbs, by => coactive"].items():
        assert by_evidence.f1 >= 0.9, kind
        assert by_evidence.f1 >= found["top-1 cosine"][kind].f1
        assert by_evidence.f1 >= found["one-to-one, the rest joining"][kind].f1


def test_only_features_that_fire_have_births_and_deaths() -> None:
    truth = Events({(0, 4)}, {5, 6}, {1, 2}, set(), set())
    suite = Suite(4, 10, truth=truth)
    assert visible(suite, [0, 1, 4, 5]) == Events({(0, 4)}, {5}, {1}, set(), set())
