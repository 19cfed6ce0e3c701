"""`python -m featgraph` is the `featgraph` command."""

from featgraph.cli import main

main()
