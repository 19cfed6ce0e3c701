"""How each tool numbers layers: the one table that says what a file calls out(b), and what it cannot hold.

out(b) is the residual stream after block b, counted from 0. A number off by one steers a block too late and
no reader complains, so every exporter takes its names from here.
"""

from dataclasses import dataclass

_PATHS = {
    "transformer.h": ("gpt2", "gpt_neo", "gptj", "codegen", "gpt_bigcode", "bloom", "falcon"),
    "gpt_neox.layers": ("gpt_neox",),
    "model.language_model.layers": ("gemma3",),
}
"""Where transformers keeps the blocks, by model type; `model.layers` in all other families.

Source: the models of transformers 5."""


@dataclass(frozen=True)
class Convention:
    """What one file format calls out(b), and what it can hold of a steering vector."""

    reader: str
    """The tool that reads it."""
    key: str
    """Name of out(b); `{n}` is b plus `offset`, `{path}` the blocks' list as `model.base_model` names it."""
    offset: int = 0
    first: int = 0
    """Lowest block whose output it can name."""
    unreachable: int = 0
    """How many of the last blocks' outputs it cannot name."""
    why: str = ""
    """Why those blocks are out of reach."""
    positions: tuple[str, ...] = ("all",)
    """Choices of tokens that it can hold."""
    middles: bool = False
    """Whether it can hold what is added between attention and mlp."""
    gated: bool = False
    """Whether it can hold what depends on the activations that SAEs find."""
    clamps: bool = False
    """Whether it knows a clamp of its own, near to that of one residual feature."""
    lone: bool = False
    """Whether one file, and so one run, steers one block."""

    def name(self, block: int, model_type: str) -> str:
        """Return what the format calls the output of a block."""
        return self.key.format(n=block + self.offset, path=below_base_model(model_type))


_SAID = ("all", "prompt", "generated")
"""What can be said of positions without looking at activations."""

CONVENTIONS: dict[str, Convention] = {
    "gguf": Convention(
        "llama.cpp",
        "direction.{n}",
        first=1,
        why="llama.cpp drops a control vector file with direction.0",
    ),
    "safetensors": Convention("Python", "layer.{n}", positions=_SAID, middles=True),
    "npz": Convention("NumPy", "layer.{n}", positions=_SAID, middles=True),
    "json": Convention("featgraph", "{n}", positions=(*_SAID, "firing"), middles=True, gated=True),
    "repeng": Convention("repeng", "direction.{n}"),
    "steering-vectors": Convention("steering-vectors", "layer.{n}"),
    "easysteer": Convention("EasySteer", "direction.{n}", positions=_SAID),
    "lm-eval": Convention("lm-evaluation-harness", "{path}.{n}", clamps=True, lone=True),
    "svec": Convention(
        "activation-steering",
        "{n}",
        offset=1,
        unreachable=1,
        why="activation-steering adds a vector before the block it names, so there is none to name",
    ),
    "neuronpedia": Convention("Neuronpedia", "{n}"),
    "caa": Convention("CAA", "{n}"),
}
"""By format.

Source: gguf: llama.cpp common_control_vector_load_one and llama_adapter_cvec::apply (its cvector-generator
names one higher). repeng: control.py, ControlModel wraps block n and adds to its output. steering-vectors:
steering_vector.py, hooks on a decoder block's output. EasySteer: docs/user-guide/steering.md, ApplySpec;
docs/api-reference/algorithms.md, `direct` adds to a decoder layer's output. lm-eval: hf_steered.py, names
below model.base_model; up to 0.4.9.1 its `add` closes over loop variables. activation-steering:
leash_layer.py, forward adds to the block's input. Neuronpedia: /api/vector/new, layerNumber with
hook_resid_post. CAA: behaviors.py, one file per layer, and llama_wrapper.py, added to a block's output."""


def module_path(model_type: str) -> str:
    """Return the path of the module list that holds the blocks of a transformers model."""
    for path, types in _PATHS.items():
        if model_type in types:
            return path
    return "model.layers"


def below_base_model(model_type: str) -> str:
    """Return that path as `model.base_model` names it.

    >>> below_base_model("llama"), below_base_model("gpt2"), below_base_model("gemma3")
    ('layers', 'h', 'language_model.layers')
    """
    return module_path(model_type).partition(".")[2]
