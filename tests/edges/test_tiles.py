"""By how much products may be off, that less would lose neighbours, and how much is held at once."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from featgraph.core.arrays import Matrix, Sums
from featgraph.edges import candidates, products, tiles
from featgraph.errors import FeatgraphError
from helpers.crowds import Forced, as_dict, by_definition, crowds, forced, unit_rows

CPU = torch.device("cpu")
DTYPES = [torch.bfloat16, torch.float32]


def off_and_allowed(upstream: Matrix, downstream: Matrix, dtype: torch.dtype) -> tuple[Matrix, Matrix]:
    """How far each product lies from the exact cosine, and the margin of each, both (n_source, n_target)."""
    rows, columns = (products.rounded(m, np.arange(len(m)), dtype, CPU) for m in (upstream, downstream))
    product = (rows.rows @ columns.rows.T).float()
    exact = torch.from_numpy(upstream).double() @ torch.from_numpy(downstream).double().T
    margin = products.margin(
        upstream.shape[1], rows.norm[:, None], rows.lost[:, None], columns.norm[None], columns.lost[None]
    )
    allowed = margin + products.rounding(dtype) * product.abs()
    return (product - exact).abs().float().numpy(), allowed.numpy()


def misled() -> tuple[Matrix, Matrix]:
    """Directions among which bfloat16 ranks two targets wrongly, by nearly as much as rounding ever can.

    Entries lie by a hair above or below the middle between two bfloat16 numbers, so that each is rounded by
    half a unit in the direction chosen. Source 0 is nearly at right angles to both targets, a bit nearer to
    target 0; all rounding makes its product with target 0 smaller and the one with target 1 larger. Sources 1
    and 2 are the targets themselves, so that only source 0 still asks for target 0.
    """
    rng = np.random.default_rng(0)
    sign = rng.permutation(np.repeat([1.0, -1.0], 125))
    # What rounding takes from source 0 has these signs, at right angles to its own.
    taken = sign * rng.permutation(np.repeat([1.0, -1.0], 125))

    def entries(sign: Sums, taken: Sums) -> Sums:
        found: Sums = sign * (1 + 2.0**-8 * (1 - 0.001 * sign * taken)) / 16
        return found

    source = np.r_[entries(sign, taken), 1 / 8, 0]
    targets = [np.r_[entries(taken, sign), 2.0**-10, 1 / 8], np.r_[entries(-taken, -sign), 0, 1 / 8]]
    return np.array([source, *targets], dtype=np.float32), np.array(targets, dtype=np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [3, 64, 257])
@pytest.mark.parametrize("crowd", sorted(crowds(0, 3)))
def test_no_product_is_off_by_more_than_its_margin(crowd: str, d: int, dtype: torch.dtype) -> None:
    off, allowed = off_and_allowed(*crowds(d, d)[crowd], dtype)
    assert (off <= allowed).all()
    assert allowed.max() < (0.02 if dtype == torch.bfloat16 else 2e-4)


def test_the_margin_is_no_wider_than_rounding_can_be_unkind() -> None:
    off, allowed = off_and_allowed(*misled(), torch.bfloat16)
    assert (off[0] > 0.95 * allowed[0]).all()


@pytest.mark.parametrize(("share", "kept"), [(1.0, True), (0.9, False), (0.5, False), (0.0, False)])
def test_a_smaller_margin_loses_a_neighbour(
    share: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream, downstream = misled()
    margin = products.margin
    for module in (products, tiles):
        monkeypatch.setattr(module, "margin", lambda *rows: share * margin(*rows))
    with forced(Forced("bfloat16", group=1)):
        found = list(tiles.possible_pairs(upstream, downstream, np.arange(3), np.arange(2), 1))
    assert ((0, 0) in zip(found[0].src.tolist(), found[0].dst.tolist(), strict=True)) is kept


def test_candidates_are_exact_where_rounding_misleads() -> None:
    with forced(Forced("bfloat16", group=1)):
        found = candidates(*misled(), 1)
    assert as_dict(found) == by_definition(*misled(), 1)
    assert found.dst[found.src == 0].tolist() == [0]


def test_candidates_are_exact_where_the_product_itself_is_rounded() -> None:
    """Both products are about half a unit above 0.375: the lesser is rounded up, the greater is rounded down.

    Only the third entry of source 0 loses by rounding, and what it loses makes target 0 the nearer one.
    """
    source = [0.5, 0.25, 0.0625 * (1 + 0.9 * 2.0**-9), 2.0**-5]
    targets = [[0.75, -0.125, 0.5, 2.0**-5 * (1 - 2.0**-7)], [0.75, 0.125, -0.5, 2.0**-5 * (1 + 2.0**-7)]]
    upstream, downstream = np.array([source, *targets], np.float32), np.array(targets, np.float32)
    product = torch.from_numpy(upstream[:1]).bfloat16() @ torch.from_numpy(downstream).bfloat16().T
    assert product.tolist() == [[0.375, 0.375 + 2.0**-9]]
    with forced(Forced("bfloat16", group=1)):
        found = candidates(upstream, downstream, 1)
    assert found.dst[found.src == 0].tolist() == [0]


def test_products_worse_than_the_margin_allows_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_rows(np.random.default_rng(0), 50, 30)
    monkeypatch.setattr(products, "margin", lambda d_model, norm, *others: 0 * norm)
    monkeypatch.setattr(tiles, "margin", lambda d_model, norm, *others: 0 * norm - 1e-3)
    with pytest.raises(FeatgraphError, match=r"a cosine is 0\.\d+, above its bound of 0\.\d+"):
        candidates(rows, rows, 3)


def test_settings_that_make_sums_less_exact_are_put_aside_and_back() -> None:
    def settings() -> tuple[str, bool, int]:
        reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        return torch.get_float32_matmul_precision(), reduced, torch.get_num_threads()

    torch.set_float32_matmul_precision("medium")
    before = settings()
    try:
        with products.prepared(CPU) as run:
            assert settings()[:2] == ("highest", False)
            assert list(run(lambda _: torch.get_num_threads(), range(3))) == [1, 1, 1]
        assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_products_are_made_in_one_of_two_dtypes() -> None:
    device, dtype = products.fastest()
    assert device.type in tiles.TILE
    assert dtype in DTYPES


def test_torch_is_not_imported_before_a_product_is_made() -> None:
    script = "import sys, featgraph.edges.candidates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.thorough
def test_no_more_than_tiles_of_the_product_is_held() -> None:
    script = """
import resource
import numpy as np
from featgraph.edges import candidates
rows = np.random.default_rng(0).normal(size=(2, 8192, 64)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=2, keepdims=True)
candidates(rows[0, :1500], rows[1, :1500], 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
candidates(rows[0], rows[1], 8)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    whole = 8192 * 8192 * 2 // 2**20
    assert int(ran.stdout) < whole // 2
