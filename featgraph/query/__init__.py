"""Queries on a graph: one read-only statement, a named query, a verb, or an overview of the graph.

language    compiles a statement to SQL
run         runs one statement or verb: read-only check, parameters, limits
verbs       the verbs: their arguments, and those that SQL cannot compute
named       named queries: the `.sql` files of `queries/`
similar     the verb `similar`: nearest features to a feature, a vector or a text
overview    the contents of `featgraph info`
errors      DuckDB's errors, with their place in the user's query
"""

from featgraph.core.result import MAX_ROWS, TIMEOUT, Result
from featgraph.query.named import NamedQuery, Parameter, all_named, listing, named, run_named
from featgraph.query.overview import Section, joined, overview
from featgraph.query.run import explain, literal, run, run_verb
from featgraph.query.verbs import VERBS

__all__ = [
    "MAX_ROWS",
    "TIMEOUT",
    "VERBS",
    "NamedQuery",
    "Parameter",
    "Result",
    "Section",
    "all_named",
    "explain",
    "joined",
    "listing",
    "literal",
    "named",
    "overview",
    "run",
    "run_named",
    "run_verb",
]
