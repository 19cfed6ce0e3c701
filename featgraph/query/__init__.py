"""Asking a graph: one read-only statement, a named query, a verb, or an overview of the whole.

language    a statement of the language -> SQL, one file a step
run         one statement or verb: read-only check, parameters, limits
verbs       the verbs: arguments, checks, those computed outside SQL or answered from memory
named       named queries: the `.sql` files of `queries/`
similar     the verb `similar`: nearest features to a feature, a vector or a text
overview    what `featgraph info` prints
errors      DuckDB's errors as featgraph's, at the user's text
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
