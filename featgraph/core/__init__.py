"""Shared parts: feature keys, results, verbs and measures, arguments, files, progress, HTTP.

keys        sites, feature keys, edge kinds, ranges of ids
result      named columns and rows of an answer, in memory
verbs       the registry of verbs
measures    the definition of every measure of an edge
arguments   checks of the arguments of a verb
arrays      names for kinds of arrays
ranking     ranks within groups
bootstrap   confidence intervals
bounded     reads files and text with limits on size and nesting
limits      memory and time limits of a query
text        counts with their nouns, text that is safe to print
files       hashes of files, and files that appear only when complete
saving      gives `SteeringVector.save` the function of `export`
shipped     finds `ingest/` and `queries/`
progress    shows how far a long job is
http        requests with retries
chat        a language model behind an OpenAI-compatible endpoint
"""
