"""Labels for the features of a graph: from Neuronpedia, a table, the tokens, or a language model.

    neuronpedia    bulk explanations, joined on the SAE and `index` (their files: `bulk`)
    table          a CSV, JSON or Parquet file with a key and a text per row
    tokens         the labels that ingest makes, made again
    llm            one request per feature to an OpenAI-compatible endpoint (questions: `prompts`)
    writing        writes them to the graph at once; a reader sees the old labels or the new ones

A label replaces one of the same source and feature; those of other sources stay.
"""

from featgraph.core.chat import Endpoint, key_from
from featgraph.core.http import RetryPolicy
from featgraph.labels.llm import from_llm
from featgraph.labels.neuronpedia import from_neuronpedia
from featgraph.labels.table import from_table
from featgraph.labels.tokens import from_tokens
from featgraph.labels.writing import Added, Labelled

__all__ = [
    "Added",
    "Endpoint",
    "Labelled",
    "RetryPolicy",
    "from_llm",
    "from_neuronpedia",
    "from_table",
    "from_tokens",
    "key_from",
]
