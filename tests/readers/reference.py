"""What the readers get and what they should make of it: `featgraph export` files, and logits under `apply`.

Runs in featgraph's own environment. The vectors are of half the residual stream's length, so that they change
the logits far beyond rounding; the strengths show whether a reader scales and turns round.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from readers import Case, Logits, Prompt
from readers.convert_demo import convert
from readers.published import publish

if TYPE_CHECKING:
    from featgraph import Graph
    from featgraph.steering import SettingsOptions, SteeringVector

TEXTS = (
    "Once upon a time there was a little girl who liked to play in the park with her dog.",
    'Tom was sad. "Can I have the big red ball?" he said to his mom, but she did not hear him.',
)
FORMATS = {
    "gguf": "gguf",
    "repeng": "repeng.gguf",
    "steering-vectors": "steering-vectors",
    "lm-eval": "lm-eval",
}
"""Each with the ending of its file, folder, or files."""

_BASE: "SettingsOptions" = {"scale": 0.5, "unit": "residual"}


@dataclass(frozen=True)
class Wanted:
    """A steering vector to export."""

    name: str
    features: dict[str, float]
    strength: float = 1.0
    options: "SettingsOptions" = field(default_factory=lambda: _BASE)
    layers: tuple[int, int] = (0, sys.maxsize)

    def of(self, graph: "Graph", strength: float = 1.0) -> "SteeringVector":
        """Return it, times a strength that the features' own weights carry."""
        weights = {key: weight * strength for key, weight in self.features.items()}
        whole = graph.steering_vector(weights, **self.options)
        return whole.between(*self.layers)

    def arguments(self) -> Iterator[str]:
        """Yield what `featgraph export` is given to write it."""
        yield from (f"{key}={weight:g}" for key, weight in self.features.items())
        for name, value in self.options.items():
            yield from (f"--{name}", str(value))
        if self.layers[1] != sys.maxsize:
            yield from ("--layers", "{}-{}".format(*self.layers))


def wanted(graph: "Graph") -> list[Wanted]:
    """Return the vectors: each layer's busiest feature, a span, the same turned round, and two features."""
    busiest = {str(site): _busiest(graph, site) for site in ("res", "mlp")}
    single = [Wanted(f"layer-{layer}", {key: 1.0}) for layer, key in enumerate(busiest["res"])]
    middle = len(single) // 2
    seed, last = busiest["res"][middle], len(single) - 1
    span: SettingsOptions = {**_BASE, "where": "cumulative", "at": last, "schedule": "linear", "end": 0.25}
    mixed = {busiest["mlp"][middle - 1]: 1.0, busiest["res"][last - 1]: -0.5}
    return [
        *single,
        Wanted("span", {seed: 1.0}, 1.0, span, (1, last)),
        Wanted("span-turned", {seed: 1.0}, -1.5, span, (1, last)),
        Wanted("mixed", mixed, 2.0),
    ]


def prepare(graph: Path, folder: Path) -> None:
    """Write everything that a `Reference` reads."""
    import featgraph
    from featgraph.core.shipped import shipped
    from featgraph.suite.graph_suite import GraphSuite

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "vectors").mkdir(parents=True)
    published = publish(graph, folder)
    with featgraph.open(published) as opened:
        loaded = GraphSuite(opened.store).model
        prompts = [Prompt(text, _tokens(loaded.tokenizer, text)) for text in TEXTS]
        arrays = dict(_named("plain", _logits(loaded.model, prompts)))
        cases = []
        for want in wanted(opened):
            vector = want.of(opened, want.strength)
            cases.append(Case(want.name, want.strength, list(vector.write_layers)))
            with vector.apply(loaded.model):
                arrays |= _named(want.name, _logits(loaded.model, prompts))
            if len(vector.layers) == 1 and max(vector.layers) + 1 < vector.model.n_layers:
                with _late(vector).apply(loaded.model):
                    arrays |= _named(f"late {want.name}", _logits(loaded.model, prompts))
            for format, ending in FORMATS.items():
                if format != "gguf" or 0 not in vector.layers:
                    _export(published, want, format, folder / "vectors" / f"{want.name}.{ending}")
    np.savez(folder / "reference.npz", allow_pickle=False, **arrays)
    model = shipped("ingest") / "demo" / "model"
    convert(model, folder / "model.gguf")
    described = {
        "model": str(model),
        "cases": list(map(asdict, cases)),
        "prompts": list(map(asdict, prompts)),
    }
    (folder / "reference.json").write_text(json.dumps(described, indent=2), encoding="utf-8")


def _busiest(graph: "Graph", site: str) -> list[str]:
    """Return, layer by layer, the feature that fires on most tokens."""
    found = graph.sql(_BUSIEST, {"site": site})
    return [str(key) for (key,) in found.rows]


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]


def _logits(model: Any, prompts: list[Prompt]) -> list[Logits]:
    import torch

    with torch.no_grad():
        return [model(torch.tensor([prompt.tokens])).logits[0].numpy() for prompt in prompts]


def _late(vector: "SteeringVector") -> "SteeringVector":
    """Return the same vector one block later, as an exporter that is off by one would have it."""
    return replace(vector, layers={layer + 1: values for layer, values in vector.layers.items()})


def _named(name: str, logits: list[Logits]) -> dict[str, Logits]:
    return {f"{name}/{number}": values for number, values in enumerate(logits)}


def _export(graph: Path, want: Wanted, format: str, out: Path) -> None:
    """Run `featgraph export`.

    Raises RuntimeError: it failed, with what it said.
    """
    from featgraph.cli import app

    # lm-eval holds one block per file: of several it gets as many files, which exporting calls approximate.
    approximate = ["--approximate"] if format == "lm-eval" else []
    arguments = ["export", str(graph), *want.arguments(), "--format", format, "-o", str(out), *approximate]
    with redirect_stderr(StringIO()) as said:
        code = app(arguments, prog_name="featgraph", standalone_mode=False)
    if code:
        raise RuntimeError(f"featgraph {' '.join(arguments)}: {said.getvalue()}")


_BUSIEST = """
select arg_max(key, density) from feature where site = $site group by layer order by layer
"""
