"""The registry of export formats: one row says what a format is for, who writes it and what it can hold.

A new format is one row here, one function in a module `*_file(s).py` beside this one, and its reader in
`tests/readers/`. The command line, completion, error messages and the choice by a file's name follow.

out(b) is the residual stream after block b, counted from 0. A number off by one steers a block too late and
no reader complains, so every writer takes its layer names from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from featgraph.export.module_paths import below_base_model

if TYPE_CHECKING:
    from featgraph.export.files import OutputFiles


@dataclass(frozen=True)
class ExportFormat:
    """One file format: its name of each block's output, out(b), and the kinds of steering vector it can
    hold."""

    name: str
    """Name for `--format`."""
    purpose: str
    """Purpose, in half a line."""
    writer: str
    """Module of this package and function, such as `gguf_file.llama_cpp`; the function returns
    `OutputFiles`."""
    tool: str
    """The tool that reads the files."""
    layer_name: str = "{n}"
    """Name of out(b): `{n}` is b plus `layer_offset`, `{path}` the blocks' list below `model.base_model`."""
    layer_offset: int = 0
    first_block: int = 0
    """Lowest block whose output the format can name."""
    unreachable: int = 0
    """Number of last blocks whose outputs the format cannot name."""
    why_unreachable: str = ""
    positions: tuple[str, ...] = ("all",)
    """Values of the setting `positions` that the format can express."""
    middles: bool = False
    """Whether the format can hold vectors added between attention and mlp."""
    gated: bool = False
    """Whether the format can hold steering that depends on SAE activations."""
    clamps: bool = False
    """Whether the tool has its own clamp, which approximates clamping one residual feature."""
    one_block: bool = False
    """Whether one file, and so one run, steers a single block."""
    endings: tuple[str, ...] = ()
    """File extensions of the format, besides its name."""

    def layer(self, block: int, model_type: str) -> str:
        """Return the format's name of a block's output."""
        return self.layer_name.format(n=block + self.layer_offset, path=below_base_model(model_type))

    def function(self) -> "Callable[..., OutputFiles]":
        """Import and return the function that makes the files."""
        module, function = self.writer.split(".")
        writer = getattr(import_module(f"featgraph.export.{module}"), function)
        return cast("Callable[..., OutputFiles]", writer)


_SELECTIONS = ("all", "prompt", "generated")
"""Values of `positions` that do not depend on activations."""

FORMATS: dict[str, ExportFormat] = {
    row.name: row
    for row in (
        ExportFormat(
            "gguf",
            "control vector for llama.cpp (--control-vector)",
            "gguf_file.llama_cpp",
            tool="llama.cpp",
            layer_name="direction.{n}",
            first_block=1,
            why_unreachable="llama.cpp drops a control vector file with direction.0",
        ),
        ExportFormat(
            "safetensors",
            "tensors layer.N with the provenance as metadata, for Python",
            "safetensors_file.python",
            tool="Python",
            layer_name="layer.{n}",
            positions=_SELECTIONS,
            middles=True,
        ),
        ExportFormat(
            "npz",
            "the same for NumPy",
            "npz_file.numpy",
            tool="NumPy",
            layer_name="layer.{n}",
            positions=_SELECTIONS,
            middles=True,
        ),
        ExportFormat(
            "json",
            "the plan: everything, read back by featgraph",
            "json_file.plan",
            tool="featgraph",
            positions=(*_SELECTIONS, "firing"),
            middles=True,
            gated=True,
        ),
        ExportFormat(
            "repeng",
            "gguf with a direction for every block, for repeng",
            "gguf_file.repeng",
            tool="repeng",
            layer_name="direction.{n}",
        ),
        ExportFormat(
            "steering-vectors",
            "safetensors and a module that loads it, for the library steering-vectors",
            "safetensors_file.steering_vectors",
            tool="steering-vectors",
            layer_name="layer.{n}",
        ),
        ExportFormat(
            "easysteer",
            "gguf and the spec that applies it, for EasySteer (vLLM)",
            "gguf_file.easysteer",
            tool="EasySteer",
            layer_name="direction.{n}",
            positions=_SELECTIONS,
        ),
        ExportFormat(
            "lm-eval",
            "pt and csv, one per block, for lm-evaluation-harness (--model steered)",
            "lm_eval_files.lm_eval",
            tool="lm-evaluation-harness",
            layer_name="{path}.{n}",
            clamps=True,
            one_block=True,
            endings=(".pt", ".csv"),
        ),
        ExportFormat(
            "svec",
            "for IBM's activation-steering",
            "svec_file.activation_steering",
            tool="activation-steering",
            layer_offset=1,
            unreachable=1,
            why_unreachable="activation-steering adds a vector before the block it names, "
            "so there is none to name",
        ),
        ExportFormat(
            "neuronpedia",
            "payloads for Neuronpedia's /api/steer and /api/vector/new, not sent",
            "neuronpedia_file.neuronpedia",
            tool="Neuronpedia",
        ),
        ExportFormat(
            "caa",
            "a folder of tensors, one per block, for Contrastive Activation Addition",
            "caa_files.caa",
            tool="CAA",
        ),
    )
}
"""Formats of a steering vector, by name.

Source: gguf: llama.cpp common_control_vector_load_one and llama_adapter_cvec::apply (its cvector-generator
names one higher). repeng: control.py, ControlModel wraps block n and adds to its output. steering-vectors:
steering_vector.py, hooks on a decoder block's output. EasySteer: docs/user-guide/steering.md, ApplySpec;
docs/api-reference/algorithms.md, `direct` adds to a decoder layer's output. lm-eval: hf_steered.py, names
below model.base_model; up to 0.4.9.1 its `add` closes over loop variables. activation-steering:
leash_layer.py, forward adds to the block's input. Neuronpedia: /api/vector/new, layerNumber with
hook_resid_post. CAA: behaviors.py, one file per layer, and llama_wrapper.py, added to a block's output."""

LINEAGE_FORMATS: dict[str, ExportFormat] = {
    row.name: row
    for row in (
        ExportFormat(
            "attribution-graph",
            "a lineage for the graph pages of circuit-tracer and Neuronpedia",
            "attribution_graph.attribution_graph",
            tool="circuit-tracer",
        ),
    )
}
"""Formats of a lineage, by name."""

ALL_FORMATS = {**FORMATS, **LINEAGE_FORMATS}
