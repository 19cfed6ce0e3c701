"""The SAEs of a graph as other tools name them, looked up for a steering vector."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featgraph.store import Store, open_store

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


@dataclass(frozen=True)
class SaeIds:
    """The ids of one SAE in other tools."""

    architecture: str
    neuronpedia_id: str | None
    """`model/source` on Neuronpedia."""
    released: bool
    """Whether sae_lens can load it by its release; a local SAE has none."""


def ids_of_vector(vector: "SteeringVector") -> dict[int, SaeIds]:
    """Return number -> ids of the SAEs of a vector's graph; empty for a vector without a graph.

    Raises StoreError: the graph is missing.
    """
    if vector.suite is None:
        return {}
    with open_store(vector.suite.path) as store:
        return ids_of_graph(store)


def ids_of_graph(store: Store) -> dict[int, SaeIds]:
    """Return number -> ids of the SAEs of a graph."""
    local = store.manifest["recipe"].get("name")
    return {
        sae: SaeIds(architecture, neuronpedia_id, release != local)
        for sae, architecture, neuronpedia_id, release in store.rows(_SAES)
    }


_SAES = "select number, architecture, neuronpedia_id, release from sae order by number"
