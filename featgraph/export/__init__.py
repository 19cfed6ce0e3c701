"""Steering vectors and lineages as files of other tools, and plans read back; a file appears whole or not.

conventions  what each format calls the output of a block, and what it can hold
fitting      whether it can hold a given vector: exactly, nearly or not
provenance   what every format says of a vector besides its numbers
files       the files of one export
*_file(s)    one module per kind of file
plan         the json file read back
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.errors import UsageError, nearest

if TYPE_CHECKING:
    from featgraph.export.files import OutputFiles
    from featgraph.lineage.lineage import Lineage
    from featgraph.steering import SteeringVector
    from featgraph.store import Store

FORMATS: dict[str, str] = {
    "gguf": "control vector for llama.cpp (--control-vector)",
    "safetensors": "tensors layer.N with the provenance as metadata, for Python",
    "npz": "the same for NumPy",
    "json": "the plan: everything, read back by featgraph",
    "repeng": "gguf with a direction for every block, for repeng",
    "steering-vectors": "safetensors and a module that loads it, for the library steering-vectors",
    "easysteer": "gguf and the spec that applies it, for EasySteer (vLLM)",
    "lm-eval": "pt and csv, one per block, for lm-evaluation-harness (--model steered)",
    "svec": "for IBM's activation-steering",
    "neuronpedia": "payloads for Neuronpedia's /api/steer and /api/vector/new, not sent",
    "caa": "a folder of tensors, one per block, for Contrastive Activation Addition",
}
"""Name of each format of a steering vector and what it is for."""

LINEAGE_FORMATS: dict[str, str] = {
    "attribution-graph": "a lineage for the graph pages of circuit-tracer and Neuronpedia"
}
"""Likewise, of a lineage."""

_WRITERS = {
    "gguf": "gguf_file.llama_cpp",
    "safetensors": "safetensors_file.python",
    "npz": "npz_file.numpy",
    "json": "json_file.plan",
    "repeng": "gguf_file.repeng",
    "steering-vectors": "safetensors_file.steering_vectors",
    "easysteer": "gguf_file.easysteer",
    "lm-eval": "lm_eval_files.lm_eval",
    "svec": "svec_file.activation_steering",
    "neuronpedia": "neuronpedia_file.neuronpedia",
    "caa": "caa_files.caa",
}
_ENDINGS = {".pt": "lm-eval", ".csv": "lm-eval"}
"""Formats by the end of a file's name, where that is not the format's own."""


@dataclass(frozen=True)
class Written:
    """What an export wrote."""

    paths: tuple[Path, ...]
    near: tuple[str, ...] = ()
    """What the files change, where they come only near to what was asked; they say so themselves too."""
    notes: tuple[str, ...] = ()
    """What was left out and why."""


def write(
    vector: "SteeringVector",
    path: str | Path,
    format: str,
    *,
    approximate: bool = False,
    extra: Mapping[str, object] | None = None,
) -> Written:
    """Write a steering vector in one of `FORMATS`; files that are there are replaced.

    path: a file; for caa and lm-eval a folder; for steering-vectors and easysteer either of two files.
    approximate: write what comes nearest where the format cannot hold the vector. extra: further keys of a
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
    fitted, near = fit(vector, format, approximate=approximate)
    module, function = _WRITERS[format].split(".")
    make: Callable[..., OutputFiles] = getattr(import_module(f"featgraph.export.{module}"), function)
    files = make(fitted, Path(path), near, *([] if extra is None else [extra]))
    write_files(files)
    return Written(tuple(files.files), near, files.notes)


def write_lineage(lineage: "Lineage", store: "Store", path: str | Path, format: str) -> Written:
    """Write a lineage in one of `LINEAGE_FORMATS`; a file that is there is replaced.

    Raises UsageError: no such format, the format cannot show this lineage, or the file cannot be written.
    """
    from featgraph.export.attribution_graph import attribution_graph
    from featgraph.export.files import write_files

    if format not in LINEAGE_FORMATS:
        raise _unknown(format)
    files = attribution_graph(lineage, store, Path(path))
    write_files(files)
    return Written(tuple(files.files), (), files.notes)


def format_of(path: Path, format: str | None) -> str:
    """Return the format asked for, or the one that a file's name ends in.

    Raises UsageError: there is no such format, or the name says none.
    """
    if format is None and not path.suffix:
        raise UsageError(f"{str(path)!r} names no format; give --format, one of {_all()}")
    named = format if format is not None else _ENDINGS.get(path.suffix, path.suffix.removeprefix("."))
    if named not in FORMATS and named not in LINEAGE_FORMATS:
        raise _unknown(named)
    return named


def read_plan(path: str | Path, graph: str | Path | None = None) -> "SteeringVector":
    """Return the steering vector of a plan, a file in format json; see `plan_reader.read_plan`.

    graph: where the plan's graph is, if not where it was.
    """
    from featgraph.export import plan_reader

    return plan_reader.read_plan(path, graph)


def read_extra(path: str | Path, name: str) -> object | None:
    """Return what `write` put into a plan under a further key, None if nothing."""
    from featgraph.export import plan_reader

    return plan_reader.read_extra(path, name)


def _unknown(format: str) -> UsageError:
    known = [*FORMATS, *LINEAGE_FORMATS]
    if format in LINEAGE_FORMATS:
        return UsageError(
            f"{format} holds a lineage, not a vector; formats of vectors are {', '.join(FORMATS)}"
        )
    return UsageError(f"no export format {format!r}{nearest(format, known) or ';'} formats are {_all()}")


def _all() -> str:
    return ", ".join([*FORMATS, *LINEAGE_FORMATS])
