"""The memory that a step that encodes needs."""

from collections.abc import Iterator, Mapping, Sequence

from featgraph.activations.tokens import BATCH_TOKENS
from featgraph.core.keys import SaeRange
from featgraph.ingestion.worker import Worker
from featgraph.suite.memory import SHARE, groups_that_fit, memory
from featgraph.suite.memory import sae_bytes as loaded_bytes


def groups(saes: Sequence[SaeRange], worker: Worker, at_once: int) -> Iterator[list[SaeRange]]:
    """Yield runs of SAEs that fit in memory together, at least one each; codes do not depend on the runs.

    at_once: encoding steps that share this machine; each has a model of its own.
    """
    budget = SHARE * memory() / at_once - model_bytes(worker)
    return groups_that_fit(saes, lambda group: sum(sae_bytes(sae, worker) for sae in group), budget)


def removal_groups(
    into: Mapping[SaeRange, Sequence[tuple[SaeRange, SaeRange]]], worker: Worker, at_once: int
) -> Iterator[list[SaeRange]]:
    """Yield runs of downstream SAEs that fit in memory with all SAEs upstream of them, at least one each.

    into: the pairs of SAEs into each downstream one. at_once: as in `groups`.
    """
    budget = SHARE * memory() / at_once - model_bytes(worker)

    def n_bytes(group: list[SaeRange]) -> float:
        saes = {sae for down in group for pair in into[down] for sae in pair}
        return sum(sae_bytes(sae, worker) for sae in saes)

    return groups_that_fit(into, n_bytes, budget)


def model_bytes(worker: Worker) -> int:
    """Return the bytes of the model's weights in float32."""
    return 4 * sum(int(parameter.numel()) for parameter in worker.meta_model.model.parameters())


def sae_bytes(sae: SaeRange, worker: Worker) -> int:
    """Return the bytes of a loaded SAE and of the activations of two batches that it reads, in float32."""
    metadata = worker.sae_metadata(sae.name)
    d_in, d_model = int(metadata["d_in"]), int(metadata["d_model"])
    weights = loaded_bytes(sae.n_features, d_in, d_model, residual=sae.site == "res")
    return weights + 4 * 2 * BATCH_TOKENS * d_in
