"""recipe -> graph directory, in steps that the same command resumes where they were cut off.

    plan         the order of the steps, and what each one reads (its key)
    steps        the work of each step: read files, compute, write files
    removals     the steps of exhaustive removal: tokens, removals, sums
    worker       state that the steps of one process share: recipe, model, SAEs, earlier files
    step_files   how steps write and read files
    ledger       which steps are done
    ingest       runs the steps that are not done, then puts the graph in place
    local, ray   where steps run: in this process, or as Ray tasks
    shared       the tokens that count at both ends of an edge
    memory       how many SAEs encode at once
    rows         measurements -> rows of `feature`, `edge`, `example`, `label`
    write_graph  files of the steps -> `graph.duckdb` and `manifest.json`

Nothing appears at the target before the whole graph is written.
"""

from featgraph.ingestion.ingest import Summary, ingest

__all__ = ["Summary", "ingest"]
