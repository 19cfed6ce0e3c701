"""Rows that hold edges or paths, and lineages, as graphs in other tools' formats."""
