"""One reader in its own environment: `python -m readers.alone NAME FOLDER OUT` writes rows as JSON lines."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from readers import Reference


def main(name: str, folder: str, out: str) -> None:
    """Measure the reader of module `with_NAME` by what lies in a folder."""
    reader: Any = importlib.import_module(f"readers.with_{name}")
    with Path(out).open("w", encoding="utf-8") as file:
        for row in reader.rows(Reference(Path(folder))):
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
