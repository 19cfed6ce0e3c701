"""How many SAEs are in memory at once while they encode: as many as fit beside the model."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from featgraph.activations.pieces import BATCH_TOKENS
from featgraph.build.worker import Worker
from featgraph.model import Slab

SHARE = 0.7
"""Share of the memory for models, SAEs and what they read; libraries and one forward pass take the rest."""

CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container."""


def groups(slabs: Sequence[Slab], worker: Worker, at_once: int) -> Iterator[list[Slab]]:
    """Yield runs of SAEs that fit in memory together, at least one each; codes do not depend on the runs.

    at_once: encoding steps that share this machine; each has a model of its own.
    """
    budget = SHARE * memory() / at_once - model_bytes(worker)
    group: list[Slab] = []
    for slab in slabs:
        taken = sum(sae_bytes(one, worker) for one in [*group, slab])
        if group and taken > budget:
            yield group
            group = []
        group.append(slab)
    if group:
        yield group


def model_bytes(worker: Worker) -> int:
    """Return what the model's weights take in float32."""
    return 4 * sum(int(parameter.numel()) for parameter in worker.skeleton.model.parameters())


def sae_bytes(slab: Slab, worker: Worker) -> int:
    """Return what a loaded SAE takes in float32, with what it reads of two batches.

    That is its encoder and decoder, its directions and, for a residual SAE, the rows of its encoder.
    """
    facts = worker.facts(slab.name)
    d_in, d_model = int(facts["d_in"]), int(facts["d_model"])
    rows = 2 if slab.site == "res" else 1
    return 4 * (slab.n_features * (2 * d_in + rows * d_model) + 2 * BATCH_TOKENS * d_in)


def memory() -> int:
    """Return the memory, in bytes, of the GPU that models run on, else of this machine or container."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[1])
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else ""
    return min(found, int(limit)) if limit.isdigit() else found
