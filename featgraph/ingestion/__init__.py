"""The ingest stage: recipe -> graph directory, in steps that are resumed where they were cut off.

    plan      which steps there are and what each is made from
    steps     what each does: read what earlier steps left, compute, leave files
    ledger    which are done, so that the same command goes on after whatever stopped it
    local     runs them here
    cluster   runs them as Ray tasks
    writing   their files -> tables and manifest, which then take the place of the graph

Nothing is visible at the target until all is written.
"""

from featgraph.ingestion.ingest import Summary, ingest

__all__ = ["Summary", "ingest"]
