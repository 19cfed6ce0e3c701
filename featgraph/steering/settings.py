"""The settings of a steering vector, defined once.

Each field of `Settings` carries its help text; the options of the commands and the table in docs/steering.md
are made from it. Light to import: `featgraph --help` reads it.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypedDict, get_args, get_type_hints

Mode = Literal["add", "rescale", "clamp", "min-clamp", "ablate"]
"""Source: arXiv 2502.03032 v3, section 3.5 (add, rescale as h + (r - 1) a V^T); AxBench, arXiv 2501.17148
(clamp with the SAE's error kept, min-clamp)."""

Unit = Literal["raw", "unit", "max-act", "residual"]

Where = Literal["single", "per-layer", "cumulative"]
"""Source: arXiv 2502.03032 v3, section 4.2."""

Schedule = Literal["constant", "linear", "exponential", "cosine"]

Positions = Literal["all", "prompt", "generated", "firing"]

Point = Literal["out", "mid"]
"""The point in block b at which a vector is added: its output, out(b), or between attention and mlp."""


def _help(text: str, metavar: str | None = None, *, cosine: bool = False) -> dict[str, Any]:
    """Return a field's metadata; metavar: stands for its value; cosine: a number from -1 to 1."""
    return {"help": text, "metavar": metavar, "cosine": cosine}


@dataclass(frozen=True)
class Settings:
    """Settings of a steering vector: the options that `featgraph steer` and `Graph.steering_vector` take."""

    scale: float = field(
        default=1.0,
        metadata=_help(
            "Multiplies every vector; the factor of rescale, the value of clamp and min-clamp.", "S"
        ),
    )
    mode: Mode = field(
        default="add",
        metadata=_help(
            "add: a vector. The others change what the SAE encodes, token by token, and keep its error. "
            "rescale: times S; clamp: to S; min-clamp: to at least S; ablate: to 0.",
        ),
    )
    unit: Unit = field(
        default="raw",
        metadata=_help(
            "What scale 1 means. raw: the decoder row as trained; unit: length 1; max-act: the row times "
            "the feature's largest activation; residual: the root mean square length of the residual stream "
            "there.",
        ),
    )
    where: Where = field(
        default="single",
        metadata=_help(
            "single: the feature at its own layer; per-layer: its lineage's member at layer --at; "
            "cumulative: all members of its span, up to --at.",
        ),
    )
    at: int | None = field(
        default=None,
        metadata=_help("Layer of per-layer, last layer of cumulative.  [default: the whole span]", "LAYER"),
    )
    min: float | None = field(
        default=None,
        metadata=_help(
            "Smallest cosine within a span.  [default: each SAE's threshold_high]", "COSINE", cosine=True
        ),
    )
    writers: float | None = field(
        default=None,
        metadata=_help(
            "Also steer the mlp and att writers of the span, from this cosine on.", "COSINE", cosine=True
        ),
    )
    schedule: Schedule = field(
        default="constant",
        metadata=_help(
            "Scale over the layers l of a span. constant: S; linear: from S to --end; exponential: "
            "S exp(--alpha l); cosine: S times the edge's cosine.",
        ),
    )
    alpha: float = field(default=-0.05, metadata=_help("Rate of the exponential schedule.", "A"))
    end: float = field(default=1.0, metadata=_help("Scale of the linear schedule at the last layer.", "S"))
    compensate: bool = field(
        default=False,
        metadata=_help("Subtract from each vector its projection on what earlier layers have added."),
    )
    positions: Positions = field(
        default="all",
        metadata=_help(
            "Tokens to steer. all: every token; prompt: those of the prompt; generated: those after it; "
            "firing: those on which the feature is active.",
        ),
    )

    @property
    def gated(self) -> bool:
        """Whether the change depends on the activations of the features, token by token."""
        return self.mode != "add" or self.positions == "firing"


class SettingsOptions(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments, for type checkers; a test holds the two together."""

    scale: float
    mode: Mode
    unit: Unit
    where: Where
    at: int | None
    min: float | None
    writers: float | None
    schedule: Schedule
    alpha: float
    end: float
    compensate: bool
    positions: Positions


@dataclass(frozen=True)
class SteeredFeature:
    """One feature of a steering vector: where it came from and how it is added."""

    key: str
    write_layer: int
    """The block after (point out) or in (mid) which its direction is added; not always the key's layer."""
    coefficient: float
    """Scale times the feature's own weight, as the schedule has it at this layer."""
    weight: float
    """Factor of its unit direction; 0 in a mode that changes codes."""
    cosine: float | None
    """Cosine of the edge that joins it to its span, on the seed's side; None for a seed."""
    release: str
    sae_id: str
    hook_name: str
    decoder_norm: float
    max_activation: float | None
    """None for a feature that never fired on the graph's text."""
    point: Point = "out"
    target: float | None = None
    """Activation that `clamp` and `min-clamp` set, and that `add` adds where the feature fires."""
    sae_number: int = 0
    """Number of its SAE in the graph."""
    sae_sha256: str = ""


@dataclass(frozen=True)
class SteeredModel:
    """The language model that a steering vector is for."""

    name: str
    type: str
    """Architecture as transformers names it, such as `llama`."""
    d_model: int
    n_layers: int
    sha256: str = ""


def choices(name: str) -> tuple[str, ...]:
    """Return the valid words of a setting; none for a number.

    >>> choices("unit")
    ('raw', 'unit', 'max-act', 'residual')
    """
    kind = get_type_hints(Settings)[name]
    return tuple(word for word in get_args(kind) if isinstance(word, str))


def settings_table() -> str:
    """Return the table of docs/steering.md, Markdown: one row per setting."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for setting in fields(Settings):
        metavar = "" if setting.metadata["metavar"] is None else f" {setting.metadata['metavar']}"
        help, _, shown = setting.metadata["help"].partition("  [default: ")
        if not shown:
            shown = "off" if setting.default in (None, False) else f"`{setting.default}`"
        rows.append(f"| `--{setting.name}{metavar}` | {shown.rstrip(']')} | {_coded(help)} |")
    return "\n".join(rows) + "\n"


def _coded(text: str) -> str:
    """Return a help text with options, and choices before their colon, as code."""
    text = re.sub(r"--[a-z]+", lambda match: f"`{match[0]}`", text)
    words = "|".join(re.escape(word) for name in get_type_hints(Settings) for word in choices(name))
    return re.sub(rf"(?<![\w-])({words}):", r"`\1`:", text)
