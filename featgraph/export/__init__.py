"""Writes steering vectors and lineages as files for other tools, and reads plans.

formats            the registry: the purpose, writer and limits of each format
compatibility      whether a format supports a vector: exactly, approximately or not
provenance         the metadata that every format adds
files              writes all files of one export, or none
gguf_file          llama.cpp control vectors
svec_file          IBM's activation-steering
safetensors_file   safetensors
npz_file           NumPy archives
json_file          plans
plan_reader        reads a plan
caa_files          one file per layer, for CAA
lm_eval_files      lm-evaluation-harness
neuronpedia_file   requests to Neuronpedia's steering API
attribution_graph  lineages as attribution graphs
module_paths       the module paths of a model's blocks
sae_ids            a vector's SAEs as sae_lens and Neuronpedia name them
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.core.saving import Written, set_save_vector
from featgraph.errors import UsageError, nearest
from featgraph.export.formats import ALL_FORMATS, FORMATS, LINEAGE_FORMATS

if TYPE_CHECKING:
    from featgraph.lineage.lineage import Lineage
    from featgraph.steering import SteeringVector
    from featgraph.store import Store

__all__ = [
    "ALL_FORMATS",
    "FORMATS",
    "LINEAGE_FORMATS",
    "Written",
    "format_of",
    "read_extra",
    "read_plan",
    "write",
    "write_lineage",
]


def write(
    vector: "SteeringVector",
    path: str | Path,
    format: str,
    *,
    approximate: bool = False,
    extra: Mapping[str, object] | None = None,
) -> Written:
    """Write a steering vector in one of `FORMATS`; existing files are replaced.

    path: a file; for caa and lm-eval a folder; for steering-vectors and easysteer either of two files.
    approximate: approximate the vector if the format cannot hold it. extra: further keys of a
    json plan, which `read_extra` returns.

    Raises UsageError: no such format, the format cannot hold this vector, its values are not finite, or a
    file cannot be written.
    """
    from featgraph.export.compatibility import fit
    from featgraph.export.files import write_files

    if format not in FORMATS:
        raise _unknown(format)
    if extra is not None and format != "json":
        raise ValueError(f"only json takes extra keys, not {format}")
    fitted, approximations = fit(vector, format, approximate=approximate)
    make = FORMATS[format].function()
    files = make(fitted, Path(path), approximations, *([] if extra is None else [extra]))
    write_files(files)
    return Written(tuple(files.files), approximations, files.notes)


def save(
    vector: "SteeringVector", path: str | Path, format: str | None = None, *, approximate: bool = False
) -> Written:
    """Write a steering vector in the given format, by default that of the file extension; see `write`."""
    return write(vector, path, format_of(Path(path), format), approximate=approximate)


set_save_vector(save)


def write_lineage(lineage: "Lineage", store: "Store", path: str | Path, format: str) -> Written:
    """Write a lineage in one of `LINEAGE_FORMATS`; an existing file is replaced.

    Raises UsageError: no such format, the format cannot show this lineage, or the file cannot be written.
    """
    from featgraph.export.files import write_files

    if format not in LINEAGE_FORMATS:
        raise _unknown(format)
    files = LINEAGE_FORMATS[format].function()(lineage, store, Path(path))
    write_files(files)
    return Written(tuple(files.files), (), files.notes)


def format_of(path: Path, format: str | None) -> str:
    """Return the given format, by default that of the file extension.

    Raises UsageError: no such format, or the path has no extension.
    """
    if format is None and not path.suffix:
        raise UsageError(f"{str(path)!r} names no format; give --format, one of {', '.join(ALL_FORMATS)}")
    by_ending = {ending: row.name for row in ALL_FORMATS.values() for ending in row.endings}
    named = format if format is not None else by_ending.get(path.suffix, path.suffix.removeprefix("."))
    if named not in ALL_FORMATS:
        raise _unknown(named)
    return named


def read_plan(path: str | Path, graph: str | Path | None = None) -> "SteeringVector":
    """Return the steering vector of a plan, a file in format json; see `plan_reader.read_plan`.

    graph: path of the plan's graph, if it was moved.
    """
    from featgraph.export import plan_reader

    return plan_reader.read_plan(path, graph)


def read_extra(path: str | Path, name: str) -> object | None:
    """Return the value of a further key of a plan, as given to `write`; None if it has no such key."""
    from featgraph.export import plan_reader

    return plan_reader.read_extra(path, name)


def _unknown(format: str) -> UsageError:
    if format in LINEAGE_FORMATS:
        return UsageError(
            f"{format} holds a lineage, not a vector; formats of vectors are {', '.join(FORMATS)}"
        )
    hint = nearest(format, ALL_FORMATS) or ";"
    return UsageError(f"no export format {format!r}{hint} formats are {', '.join(ALL_FORMATS)}")
