"""The count of pairs above the threshold without an edge, against all cosines."""

import numpy as np
import pytest

from featgraph.edges import crowding
from featgraph.edges.candidates import candidates
from featgraph.edges.crowding import count_crowded
from helpers.crowds import all_cosines, crowds

LEAST, K = 0.3, 3


@pytest.mark.parametrize("name", crowds(0, 12))
@pytest.mark.parametrize("products", [1, 700, 2**24])
def test_crowded_pairs_are_those_above_the_cosine_that_are_no_edge(
    name: str, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowding, "PRODUCTS", products)
    upstream, downstream = crowds(0, 12)[name]
    nearest = candidates(upstream, downstream, K)
    # As if another search had joined some of them as well.
    more = np.stack(np.divmod(np.arange(0, len(upstream) * len(downstream), 97), len(downstream)))
    src, dst = np.concatenate([nearest.src, more[0]]), np.concatenate([nearest.dst, more[1]])
    close = all_cosines(upstream, downstream) >= LEAST
    close[src, dst] = False
    assert count_crowded(upstream, downstream, nearest, (src, dst), K, LEAST) == int(close.sum())
