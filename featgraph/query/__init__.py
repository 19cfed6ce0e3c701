"""Asking a graph: one read-only statement, a named query, a verb, or an overview of the whole.

A statement becomes SQL on this way, one file a step:

    tokens         text -> words, strings, numbers, symbols
    parse          MATCH -> what it says, as written (`syntax`)
    bind           names looked up, conditions handed to their variables (`conditions`), SAEs narrowed
                   (`reach`)
    compile        one SELECT: a table per path (`rows`), repeated edges (`walks`), the strongest (`best`,
                   `selecting`), scans of the two tables (`scan`), keys from ids (`arithmetic`)
    expressions    DuckDB's own expressions, with `variable.property` and path functions filled in
    calls          verbs where a table may stand, checked (`verbs`)
    translate      all of it for one statement, each part marked with where it comes from (`origins`)
    run            the gate, parameters, limits; DuckDB's errors in our words (`faults`)

What a statement is read against (its text, values, limits, the graph) goes along as `surroundings`.
Beside them stand named queries (`named`) and the overview that `featgraph info` prints (`overview`).
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
