"""Finds `ingest/` and `queries/`: inside the package in a wheel, beside it in a checkout."""

from pathlib import Path
from typing import Literal


def shipped(kind: Literal["ingest", "queries"]) -> Path:
    """Return the folder of shipped recipes or queries."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_shipped" / kind
    return inside if inside.is_dir() else package.parent / kind
