"""A statement becomes SQL, one file a step.

tokens         text -> words, strings, numbers, symbols
parse          MATCH -> what it says, as written (`ast`)
bind           names looked up, conditions handed to their variables (`predicates`), SAEs narrowed
               (`sae_sets`)
compile        one SELECT: a table per path (`path_tables`), repeated edges (`walks`), the strongest
               (`best_walks`, `selectors`), scans of the two tables (`scans`), keys from ids (`feature_ids`)
expressions    DuckDB's own expressions, with `variable.property` and path functions filled in
verb_calls     verbs where a table may stand, checked
translate      all of it for one statement, each part marked with where it comes from (`source_map`)

`context` is what a statement is read against: its text, values, limits, the graph.
"""
