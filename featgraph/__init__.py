"""featgraph: a feature-graph database and query tool for sparse autoencoders."""

from featgraph.core.keys import FeatureKey
from featgraph.errors import FeatgraphError, QueryError, RecipeError, SourceError, StoreError, UsageError
from featgraph.graph import Graph
from featgraph.graph import open_graph as open

__version__ = "0.1.0"

__all__ = [
    "FeatgraphError",
    "FeatureKey",
    "Graph",
    "QueryError",
    "RecipeError",
    "SourceError",
    "StoreError",
    "UsageError",
    "open",
]
