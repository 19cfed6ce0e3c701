"""Whether two graphs say the same: every table, row by row, and every index of directions, byte by byte."""

from pathlib import Path

import duckdb

TABLES = ("sae", "threshold", "feature", "edge", "pair", "example", "label", "meta")


def differences(one: Path, two: Path) -> list[str]:
    """Return what differs between two graph directories, as text."""
    found = []
    with duckdb.connect() as both:
        both.execute(f"attach '{one / 'graph.duckdb'}' as one (read_only)")
        both.execute(f"attach '{two / 'graph.duckdb'}' as two (read_only)")
        for table in TABLES:
            for left, right in (("one", "two"), ("two", "one")):
                rows = f"(from {left}.{table} except all from {right}.{table})"
                [(n,)] = both.execute(f"select count(*) from {rows}").fetchall()
                if n:
                    found.append(f"{n} rows of {table} are in {left} only")
    names = {index.name for graph in (one, two) for index in (graph / "vectors").iterdir()}
    for name in sorted(names):
        files = [graph / "vectors" / name for graph in (one, two)]
        if not all(file.is_file() for file in files) or files[0].read_bytes() != files[1].read_bytes():
            found.append(f"vectors/{name}")
    return found
