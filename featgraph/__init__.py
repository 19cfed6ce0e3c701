"""featgraph: a feature-graph database and query tool for sparse autoencoders.

    ingest           recipe -> graph directory, with a progress bar
    open             graph directory -> Graph
    Graph            everything that can be asked, as methods
    Result           rows: named tuples, dictionaries, Arrow, pandas
    Lineage          a feature with its ancestors, descendants and writers
    SteeringVector   what steers a language model: `apply` it, `save` it
    FeatureKey       layer/site/index
    FeatgraphError   base of every error that a user can cause, see `featgraph.errors`

Torch, transformers and sae_lens are imported by the calls that need them.
"""

from typing import TYPE_CHECKING, Any

from featgraph import export
from featgraph.core.keys import FeatureKey
from featgraph.core.result import Result
from featgraph.errors import (
    FeatgraphError,
    ParameterError,
    QueryError,
    RecipeError,
    SourceError,
    StoreError,
    UsageError,
)
from featgraph.graph import Graph, ingest
from featgraph.graph import open_graph as open
from featgraph.lineage.lineage import Lineage

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector

__version__ = "0.1.0"

__all__ = [
    "FeatgraphError",
    "FeatureKey",
    "Graph",
    "Lineage",
    "ParameterError",
    "QueryError",
    "RecipeError",
    "Result",
    "SourceError",
    "SteeringVector",
    "StoreError",
    "UsageError",
    "export",
    "ingest",
    "open",
]


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first asked for."""
    if name == "SteeringVector":
        from featgraph.steering import SteeringVector

        return SteeringVector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
