"""How many SAEs are in memory at once while they encode: as many as fit beside the model."""

import os
from collections.abc import Iterator, Sequence

from featgraph.build.worker import Worker
from featgraph.model import Slab

SHARE = 0.4
"""Share of the machine's memory for the SAEs that encode together; the model and one batch take the rest."""


def groups(slabs: Sequence[Slab], worker: Worker, at_once: int) -> Iterator[list[Slab]]:
    """Yield runs of SAEs that fit in memory together, at least one each; codes do not depend on the runs.

    at_once: encoding steps that share this machine.
    """
    budget = SHARE * machine_bytes() / at_once
    group: list[Slab] = []
    for slab in slabs:
        taken = sum(sae_bytes(one, worker) for one in [*group, slab])
        if group and taken > budget:
            yield group
            group = []
        group.append(slab)
    if group:
        yield group


def sae_bytes(slab: Slab, worker: Worker) -> int:
    """Return what a loaded SAE takes in float32: encoder, decoder and directions."""
    facts = worker.facts(slab.name)
    return 4 * slab.n_features * (2 * int(facts["d_in"]) + int(facts["d_model"]))


def machine_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
