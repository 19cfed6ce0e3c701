"""What the graph knows of a steering vector's SAEs beyond what the vector itself says."""

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
    """Whether sae_lens can load it by its release, which a local one has not."""


def known_saes(vector: "SteeringVector") -> dict[int, Known]:
    """Return the SAEs of the graph that a vector was made from, by sae; none where it came without.

    Raises StoreError: the graph is no longer there.
    """
    if vector.suite is None:
        return {}
    with open_store(vector.suite.path) as store:
        return known_of(store)


def known_of(store: Store) -> dict[int, Known]:
    """Return the SAEs of a graph, by sae."""
    local = store.manifest["recipe"].get("name")
    return {
        sae: Known(architecture, neuronpedia_id, release != local)
        for sae, architecture, neuronpedia_id, release in store.rows(_SAES)
    }


_SAES = "select number, architecture, neuronpedia_id, release from sae order by number"
