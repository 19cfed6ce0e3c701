"""Asking a graph: one read-only statement, a named query, a verb, or an overview of the whole."""

from featgraph.query.named import NamedQuery, Parameter, all_named, listing, named, run_named
from featgraph.query.overview import Section, joined, overview
from featgraph.query.result import Result
from featgraph.query.run import TIMEOUT, literal, run
from featgraph.query.verbs import VERBS, run_verb

__all__ = [
    "TIMEOUT",
    "VERBS",
    "NamedQuery",
    "Parameter",
    "Result",
    "Section",
    "all_named",
    "joined",
    "listing",
    "literal",
    "named",
    "overview",
    "run",
    "run_named",
    "run_verb",
]
