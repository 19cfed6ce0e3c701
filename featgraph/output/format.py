"""The format of an answer: the one asked for, else the one of the file's ending."""

from pathlib import Path
from typing import Literal

from featgraph.errors import UsageError, nearest

Format = Literal[
    "table", "json", "jsonl", "csv", "csv-safe", "parquet",
    "graphml", "gexf", "dot", "mermaid", "node-link",
    "svg", "png", "html",
]  # fmt: skip
LineageFormat = Literal["tree", Format]

PICTURES: tuple[Format, ...] = ("svg", "png", "html")
"""Formats that show an answer as a picture."""

PLAIN = ("", ".txt")
"""Endings of text for people: a table, or a lineage's tree."""

ENDINGS: dict[str, Format] = {
    **dict.fromkeys(PLAIN, "table"),
    ".table": "table",
    ".json": "json",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".graphml": "graphml",
    ".gexf": "gexf",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".svg": "svg",
    ".png": "png",
    ".html": "html",
}
"""Format of each ending of a file's name; node-link is JSON inside, so it has no ending of its own."""


def format_of(format: Format | None, out: Path | None) -> Format:
    """Return the format asked for, else the one of the file's ending, else `table`.

    Raises UsageError: no format has the name's ending.
    """
    if format is not None:
        return format
    ending = out.suffix.lower() if out else ""
    if ending not in ENDINGS:
        known = [name for name in ENDINGS if name]
        raise UsageError(
            f"{str(out)!r}: no format has the ending {ending!r}{nearest(ending, known) or ';'} "
            f"endings are {' '.join(known)}, or say --format FORMAT"
        )
    return ENDINGS[ending]
