"""How many random examples a property test tries: all in `poe test-all`, a share of them in `poe test`."""

import os

SHARE = float(os.environ.get("FEATGRAPH_EXAMPLES", "1"))
"""Share of the examples that are tried."""


def examples(full: int) -> int:
    """Return how many of `full` examples to try, 5 at least.

    >>> examples(100) == max(5, round(100 * SHARE))
    True
    """
    return max(5, round(full * SHARE))
