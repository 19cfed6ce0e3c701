"""What can be ingested, and what it would take, before anything is fetched or run.

registry   the SAEs that sae_lens knows
layouts    the folders of SAEs that people have on disk
families   which SAEs belong together as a suite
starting   a recipe to begin with, for a model
estimate   what an ingest downloads, needs and leaves
preview    all that as rows
"""
