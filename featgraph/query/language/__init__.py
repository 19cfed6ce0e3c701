"""Compiles a statement to SQL.

tokens        text -> words, strings, numbers, symbols
parse         MATCH -> syntax tree
ast           the classes of that tree
bind          looks up names, and finds the SAEs that each variable can match
predicates    splits conditions, and hands each to its variable
sae_sets      the SAEs that each node of a pattern can be in
compile       one SELECT for all paths
path_tables   one path as tables
walks         a repeated edge: one table per hop
best_walks    ANY, SHORTEST and BEST over one repeated edge
selectors     ANY, SHORTEST and BEST over whole paths
scans         reads the rows of `feature` and `edge` that a variable can match
feature_ids   layer, site, index and key from an id
expressions   DuckDB's expressions, with `variable.property` and path functions filled in
verb_calls    checks verbs that are used like tables
translate     all steps for one statement
source_map    the place in the user's query that each part of the SQL comes from
context       the inputs for compiling: text, parameter values, limits, graph
"""
