"""Safetensors: one tensor `layer.N` per block, provenance as JSON in the header's string metadata."""

from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.export.files import OutputFiles, beside, stem
from featgraph.export.formats import FORMATS
from featgraph.export.module_paths import module_path
from featgraph.export.provenance import as_text, describe

if TYPE_CHECKING:
    from featgraph.core.arrays import Vector
    from featgraph.steering import SteeringVector


def python(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return `layer.N`, F32 (d_model,), the vector added at coefficient 1 to the output of block N.

    `middle.N` is added between attention and mlp of block N.
    """
    return OutputFiles({out: _safetensors(vector, approximations)})


def steering_vectors(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return the same file, and a Python module that loads it as a `SteeringVector`.

    The library has no file format: its users pickle vectors, which torch no longer loads by default.
    Source: steering-vectors, steering_vector.py.
    """
    name = stem(out, ".safetensors", ".py")
    tensors = beside(name, ".safetensors")
    loader = _LOADER.format(
        file=tensors.name,
        config={"decoder_block": module_path(vector.model.type) + ".{num}"},
        model=vector.model.name,
        approximations="".join(f"# Approximate: {one}.\n" for one in approximations),
    )
    return OutputFiles({tensors: _safetensors(vector, approximations), beside(name, ".py"): loader.encode()})


def named(vector: "SteeringVector", format: str) -> "dict[str, Vector]":
    """Return name -> vector: `layer.N`, `middle.N`."""
    export_format = FORMATS[format]
    layers = {
        export_format.layer(block, vector.model.type): values for block, values in vector.layers.items()
    }
    return {**layers, **{f"middle.{block}": values for block, values in vector.middles.items()}}


def _safetensors(vector: "SteeringVector", approximations: tuple[str, ...]) -> bytes:
    from safetensors import numpy as safetensors

    saved: bytes = safetensors.save(named(vector, "safetensors"), as_text(describe(vector, approximations)))
    return saved


_LOADER = """\
# Loads {file!r} as a vector of the library steering-vectors, for {model!r}.
from pathlib import Path

from safetensors.torch import load_file
from steering_vectors import SteeringVector

{approximations}LAYER_CONFIG = {config!r}
tensors = load_file(Path(__file__).with_name({file!r}))
layers = {{int(name.removeprefix("layer.")): tensor for name, tensor in tensors.items()}}
steering_vector = SteeringVector(layers, "decoder_block")
# with steering_vector.apply(model, layer_config=LAYER_CONFIG):
#     model.generate(...)
"""
