"""Leaves that every room may use.

keys        sites, feature keys, edge kinds, ranges of ids
measures    the measures of an edge, and the searches that propose one
result      rows under named columns
text        counts with nouns, cells, printable text
verbs       the verbs: names, arguments, help
arguments   checks of their arguments
arrays      names for kinds of arrays
ranking     places within groups, the k largest of each
bootstrap   percentile bootstrap, correlations
files       files that appear whole; why the system refused one
saving      how SteeringVector.save reaches export
progress    progress bars
http, chat  requests with retries; chat completions
shipped     where the shipped recipes and queries are
"""
