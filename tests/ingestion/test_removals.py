"""Effects measured by an ingest: those of the removals themselves, the same however it was cut or stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from featgraph.ablation import exhaustive
from featgraph.ablation.exhaustive import TokenSample, exhaustive_effects
from featgraph.ablation.firing import codes_of
from featgraph.ablation.sessions import Session
from featgraph.ablation.token_sample import FOR_RARE, SUPPORT, draw, probabilities, rarest
from featgraph.ingestion import ingest, removals
from featgraph.recipe import read_recipe
from featgraph.store import open_store
from featgraph.store.carry import user_data
from featgraph.store.verify import is_whole, verify
from helpers.same_tables import differences

N = 60


@pytest.fixture(scope="module")
def measured_recipe(small_recipe: Path) -> Path:
    """The small recipe with removals at some tokens."""
    text = small_recipe.read_text(encoding="utf-8")
    path = small_recipe.with_name("measured.toml")
    path.write_text(f"{text}effect_tokens = {N}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def measured(measured_recipe: Path) -> Path:
    path = measured_recipe.with_name("measured.featgraph")
    ingest(read_recipe(measured_recipe), path)
    return path


def columns(path: Path) -> dict[tuple[int, int], tuple[Any, ...]]:
    with open_store(path) as store:
        rows = store.rows(
            "select src, dst, effect, effect_n, effect_se, silenced, ablation_change, ablation_n, found_by "
            "from edge"
        )
    return {(row[0], row[1]): row[2:] for row in rows}


def sample_of(path: Path, recipe: Path) -> tuple[TokenSample, Session]:
    """Return the tokens that the definition draws: from codes that the session encodes again."""
    store = open_store(path)
    session = Session(store, None, None)
    downs = [sae for sae in store.saes if sae.number in session.downstream]
    fewest, rows, positions = [], [], []
    counts = {
        sae.number: np.array(
            [
                round(density * session.text.n_tokens)
                for (density,) in store.rows(
                    "select density from feature where id >= $a and id < $b order by id",
                    {"a": sae.first_id, "b": sae.first_id + sae.n_features},
                )
            ]
        )
        for sae in downs
    }
    for shard in session.text.shards:
        saes = session.saes([sae.number for sae in downs])
        tokens, codes = codes_of(session.model, [saes[sae.number] for sae in downs], shard)
        fewest.append(rarest(codes, [counts[sae.number] for sae in downs]))
        rows.append(tokens.row)
        positions.append(tokens.position)
    chance = probabilities(np.concatenate(fewest), N)
    chosen = draw(chance, read_recipe(recipe).seed)
    sample = TokenSample(np.concatenate(rows)[chosen], np.concatenate(positions)[chosen], 1 / chance[chosen])
    return sample, session


def test_effects_are_those_of_the_removals(measured: Path, measured_recipe: Path) -> None:
    sample, session = sample_of(measured, measured_recipe)
    stored, found_by_effect = columns(measured), 0
    with open_store(measured) as store:
        pairs = [
            (int(a), int(b)) for a, b in store.rows("select src_sae, dst_sae from pair where n_edges > 0")
        ]
        saes = session.saes(sorted({number for pair in pairs for number in pair}))
        effects = exhaustive_effects(session.model, saes, session.text.rows, sample, pairs)
        for up, down in pairs:
            of_pair, ranges = effects[up, down], store.saes
            found = {
                (ranges[up].first_id + int(src), ranges[down].first_id + int(dst)): place
                for place, (src, dst) in enumerate(
                    zip(of_pair.src.tolist(), of_pair.dst.tolist(), strict=True)
                )
            }
            for ends, place in found.items():
                if ends not in stored:
                    continue
                values = [of_pair.effect, of_pair.effect_n, of_pair.effect_se, of_pair.silenced]
                values += [of_pair.ablation_change, of_pair.ablation_n]
                expected = [None if np.isnan(one[place]) else float(one[place]) for one in values]
                assert list(stored[ends][:-1]) == [
                    one if one is None else pytest.approx(one, abs=1e-4) for one in expected
                ]
            found_by_effect += check_found(of_pair, found, stored)
    assert found_by_effect
    assert is_whole(verify(measured))


def check_found(effects: Any, found: dict[tuple[int, int], int], stored: dict[Any, Any]) -> int:
    """Hold the edges that say `effect` against the 8 largest of every source and target; return how many."""
    rows = [
        (src, dst, float(np.float32(effects.effect[place])))
        for (src, dst), place in found.items()
        if effects.effect[place] > 0 and effects.effect_n[place] >= SUPPORT
    ]
    wanted = set()
    for end, other in ((0, 1), (1, 0)):
        for feature in {row[end] for row in rows}:
            own = sorted((row for row in rows if row[end] == feature), key=lambda row: (-row[2], row[other]))
            wanted |= {row[:2] for row in own[:8]}
    said = {ends for ends in found if ends in stored and "effect" in stored[ends][-1].split(",")}
    assert said == wanted
    return len(wanted)


@pytest.mark.thorough
def test_an_ingest_that_stops_between_removals_resumes_to_the_same_tables(
    measured: Path, measured_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "CHUNK", 16)
    whole = tmp_path / "whole.featgraph"
    ingest(read_recipe(measured_recipe), whole)
    stopped, calls = tmp_path / "stopped.featgraph", []

    def some(*arguments: Any, **named: Any) -> Any:
        calls.append(named)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return summed(*arguments, **named)

    summed = exhaustive.removal_sums
    monkeypatch.setattr(removals, "removal_sums", some)
    with pytest.raises(KeyboardInterrupt):
        ingest(read_recipe(measured_recipe), stopped)
    assert len(calls) == 3
    ingest(read_recipe(measured_recipe), stopped)
    assert len(calls) == 3 + -(-N // 16) - 2
    assert differences(whole, stopped) == []
    found, expected = columns(measured), columns(whole)
    assert found.keys() == expected.keys()
    for ends, values in expected.items():
        near = [pytest.approx(one, abs=1e-5) if isinstance(one, float) else one for one in values]
        assert list(found[ends]) == near


def test_effects_of_an_ingest_are_not_taken_for_the_users(measured: Path, measured_recipe: Path) -> None:
    """Another text would give other effects, and nothing of the old ones is carried over."""
    data = user_data(measured)
    assert data is not None
    assert data.ablations.num_rows == 0


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 300),
    st.integers(1, 400),
    st.sampled_from([1, 2]),
)
def test_every_feature_is_drawn_as_often_as_it_should(seed: int, n_tokens: int, n: int, n_saes: int) -> None:
    rng = np.random.default_rng(seed)
    codes = [
        scipy.sparse.csr_matrix(rng.random((n_tokens, 5)) * (rng.random((n_tokens, 5)) < rng.random(5) ** 3))
        for _ in range(n_saes)
    ]
    counts = [np.asarray((one != 0).sum(axis=0)).ravel() for one in codes]
    fewest = rarest(codes, counts)
    dense = [one.toarray() != 0 for one in codes]
    expected = [
        min((float(n) for on, count in zip(dense, counts, strict=True) for n in count[on[t]]), default=np.inf)
        for t in range(n_tokens)
    ]
    assert fewest.tolist() == expected
    chance = probabilities(fewest, n)
    assert ((chance > 0) & (chance <= 1)).all()
    assert chance.sum() == pytest.approx(min(n, n_tokens))
    own = np.minimum(1, SUPPORT / fewest)
    if own.sum() <= FOR_RARE * n:
        for on in dense:
            expected_n = (chance[:, None] * on).sum(axis=0)
            assert (expected_n >= np.minimum(on.sum(axis=0), SUPPORT) - 1e-6).all()
    drawn = draw(chance, seed)
    assert abs(len(drawn) - chance.sum()) <= 1
    assert set(np.flatnonzero(chance == 1)) <= set(drawn.tolist())


def test_weights_make_a_mean_over_the_sample_that_of_the_text() -> None:
    rng = np.random.default_rng(0)
    fewest: NDArray[np.float64] = rng.choice([3.0, 40.0, 500.0, np.inf], 2000)
    values, chance = rng.random(2000) + (fewest == 3), probabilities(fewest, 200)
    means = []
    for seed in range(300):
        drawn = draw(chance, seed)
        means.append(np.average(values[drawn], weights=1 / chance[drawn]))
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * np.std(means) / np.sqrt(len(means)) + 1e-3)
