"""Estimates against what the parts really take, and against sums by hand."""

from pathlib import Path

import faiss
import numpy as np
import pytest
import scipy.sparse

from featgraph.activations.codes import pack
from featgraph.recipe import Recipe, find_recipe, read_recipe
from featgraph.store import vectors
from featgraph.suite.estimate import CODE_BYTES, PROCESS_BYTES, Estimate, estimate, human
from helpers.sae_files import recipe_of, save_decoders
from helpers.small_suite import D_MODEL, LAYERS, N_FEATURES, build_small_suite


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return read_recipe(build_small_suite(tmp_path_factory.mktemp("small")))


def test_a_suite_on_disk_is_sized_by_its_own_files(small: Recipe) -> None:
    needs = estimate(small)
    assert needs.features == 3 * LAYERS * N_FEATURES
    assert [(site.site, site.n_saes, site.d_in) for site in needs.sites] == [
        (site, LAYERS, D_MODEL) for site in ("att", "mlp", "res")
    ]
    assert needs.download == 0
    assert needs.tokens == 250


def test_directions_take_what_their_index_takes(small: Recipe, tmp_path: Path) -> None:
    directions = np.zeros((N_FEATURES, D_MODEL), np.float32)
    vectors.save(tmp_path / "one.faiss", directions)
    header = len(faiss.serialize_index(faiss.IndexFlatIP(D_MODEL)))
    taken = (tmp_path / "one.faiss").stat().st_size - header
    assert [site.vectors for site in estimate(small).sites] == [LAYERS * taken] * 3


@pytest.mark.parametrize(("features", "each"), [(2**16, CODE_BYTES[0]), (2**16 + 1, CODE_BYTES[1])])
def test_a_code_takes_what_it_is_packed_into(features: int, each: int) -> None:
    packed = pack(scipy.sparse.csr_matrix(([1.0, 2.0], ([0, 0], [3, 5])), shape=(1, features)))
    assert packed["feature"].nbytes + packed["activation"].nbytes == 2 * each


def test_codes_grow_with_tokens_and_l0(small: Recipe) -> None:
    assert codes(estimate(small)) == [LAYERS * 250 * 100 * 6] * 3
    assert codes(estimate(small.with_tokens(1000))) == [LAYERS * 1000 * 100 * 6] * 3
    known = {("res", layer): 10.0 for layer in range(LAYERS)}
    assert codes(estimate(small, known))[2] == LAYERS * 250 * 10 * 6  # type: ignore[arg-type]
    assert codes(estimate(small.data_free())) == [0, 0, 0]


def test_indices_of_wide_saes_take_more() -> None:
    recipe = find_recipe("gemma-3-1b").with_tokens(10)
    assert codes(estimate(recipe)) == [26 * 10 * 100 * 6] * 3
    assert codes(estimate(recipe.with_width("262k"))) == [26 * 10 * 100 * 8] * 3


def codes(needs: Estimate) -> list[int | None]:
    return [site.codes for site in needs.sites]


def test_memory_is_the_model_and_the_widest_sae(small: Recipe) -> None:
    from transformers import AutoModelForCausalLM

    assert small.model.path is not None
    model = AutoModelForCausalLM.from_pretrained(small.model.path)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sae = 3 * N_FEATURES * D_MODEL
    assert estimate(small).memory == 4 * (parameters + sae) + PROCESS_BYTES
    assert estimate(small.data_free()).memory == 4 * sae + PROCESS_BYTES


def test_a_published_suite_is_sized_by_hand() -> None:
    needs = estimate(find_recipe("gemma-2-2b").with_width("65k"))
    features, d_model, z = 65_536, 2304, 2048
    assert needs.features == 78 * features
    assert [site.download for site in needs.sites] == [
        26 * 2 * features * width * 4 for width in (z, d_model, d_model)
    ]
    assert [site.vectors for site in needs.sites] == [26 * features * d_model * 4] * 3
    assert needs.model_download == 2_614_341_888 * 4
    pairs = 25 + 26 + 26
    assert needs.graph == 78 * features * (d_model * 4 + 564) + 2 * pairs * features * 16 * 42


def test_sizes_missing_from_the_recipe_are_unknown(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, 'release = "me/saes"\nid = "{layer}"')
    (tmp_path / "small" / "model").mkdir(parents=True)
    (tmp_path / "small" / "model" / "config.json").write_text('{"hidden_size": 8}')
    needs = estimate(recipe)
    assert (needs.features, needs.download, needs.graph, needs.memory) == (None, None, None, None)


def test_bare_decoders_are_sized_by_their_header(tmp_path: Path) -> None:
    recipe = save_decoders(tmp_path, rows=20)
    (tmp_path / "small" / "model").mkdir(parents=True)
    (tmp_path / "small" / "model" / "config.json").write_text('{"hidden_size": 8}')
    needs = estimate(recipe)
    assert (needs.features, needs.tokens) == (3 * 20, 0)
    assert needs.sites[0].vectors == 3 * 20 * 8 * 4


def test_a_ladder_is_the_sum_of_its_rungs() -> None:
    needs = estimate(find_recipe("gpt2-small-feature-splitting"))
    assert needs.features == 768 * (2**8 - 1)


def test_sizes_for_people_have_three_digits() -> None:
    assert [human(size) for size in (0, 999, 1000, 99_949_999, 999_499_999, 999_500_000)] == [
        *("0 B", "999 B", "1.0 kB"),
        *("99.9 MB", "999 MB", "1.0 GB"),
    ]
