"""The SAEs of a graph as other tools name them, looked up for a steering vector."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featgraph.store import Store, open_store

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


@dataclass(frozen=True)
class Known:
    """One SAE, as other tools know it."""

    architecture: str
    neuronpedia_id: str | None
    """model/source."""
    released: bool
    """Whether sae_lens can load it by its release; a local SAE has none."""


def known_saes(vector: "SteeringVector") -> dict[int, Known]:
    """Return the SAEs of the graph that a vector was made from, by number; none if it came without.

    Raises StoreError: the graph is no longer there.
    """
    if vector.suite is None:
        return {}
    with open_store(vector.suite.path) as store:
        return known_of(store)


def known_of(store: Store) -> dict[int, Known]:
    """Return the SAEs of a graph, by number."""
    local = store.manifest["recipe"].get("name")
    return {
        sae: Known(architecture, neuronpedia_id, release != local)
        for sae, architecture, neuronpedia_id, release in store.rows(_SAES)
    }


_SAES = "select number, architecture, neuronpedia_id, release from sae order by number"
