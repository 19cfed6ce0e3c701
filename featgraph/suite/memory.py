"""Memory: how much there is, how much an SAE takes, and which SAEs fit at once."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

Task = TypeVar("Task")

SHARE = 0.7
"""Share of the memory for models, SAEs and their inputs; the rest is for libraries and a forward pass. Our
choice."""

CGROUP = Path("/sys/fs/cgroup/memory.max")
"""File with the memory limit of a container."""


def groups_that_fit(
    tasks: Iterable[Task], n_bytes: Callable[[list[Task]], float], budget: float
) -> Iterator[list[Task]]:
    """Yield groups of consecutive tasks that fit in memory together; a task that does not fit is a group of
    its own.

    n_bytes: memory of a list of tasks, in bytes. budget: bytes.
    """
    group: list[Task] = []
    for task in tasks:
        if group and n_bytes([*group, task]) > budget:
            yield group
            group = []
        group.append(task)
    if group:
        yield group


def sae_bytes(n_features: int, d_in: int, d_model: int = 0, *, residual: bool = False) -> int:
    """Return the bytes of an SAE in float32: encoder, decoder, and its rows in the residual basis.

    d_model: 0 where those rows are dropped. residual: a residual SAE also keeps the rows of its encoder.

    >>> sae_bytes(1024, 128, 128, residual=True)
    2097152
    """
    return 4 * n_features * (2 * d_in + (2 if residual else 1) * d_model)


def memory() -> int:
    """Return the memory in bytes of the GPU that models run on, or else of this machine or container."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[1])
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else ""
    return min(total, int(limit)) if limit.isdigit() else total
