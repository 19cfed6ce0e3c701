"""The same prompts gone on with unsteered and at several scales; and how, as a plan says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featgraph.errors import UsageError, nearest
from featgraph.steering.build import from_features
from featgraph.steering.generate import Generation, generate
from featgraph.steering.settings import Settings
from featgraph.steering.vector import SteeringVector
from featgraph.store import Store
from featgraph.suite.graph_suite import GraphSuite

if TYPE_CHECKING:
    from featgraph.suite import LanguageModel


@dataclass(frozen=True)
class Compared:
    """The baseline and the steered continuation of a prompt, from the same random numbers."""

    prompt: str
    sample: int
    scale: float
    baseline: str
    steered: str


def sweep(
    store: Store,
    weights: Mapping[str, float],
    settings: Settings,
    scales: Sequence[float],
    suite: GraphSuite,
) -> dict[float, SteeringVector | None]:
    """Return the steering vector at each scale; None at a scale that changes nothing.

    suite: the graph's model and SAEs, shared by all vectors, so that an SAE is loaded once.

    Raises UsageError: a scale is given twice or not finite, or `from_features` refuses one.
    """
    vectors: dict[float, SteeringVector | None] = {}
    for scale in scales:
        if scale in vectors:
            raise UsageError(f"scale {scale:g} is given twice")
        made = _made(store, weights, replace(settings, scale=scale))
        vectors[scale] = None if made is None else replace(made, suite=suite)
    return vectors


def _made(store: Store, weights: Mapping[str, float], settings: Settings) -> SteeringVector | None:
    """Return a steering vector; None if it would only add 0 or multiply by 1."""
    try:
        return from_features(store, weights, settings)
    except UsageError:
        if settings.scale != {"add": 0.0, "rescale": 1.0}.get(settings.mode):
            raise
        # Any other error also occurs at another scale: raise it now.
        from_features(store, weights, replace(settings, scale=2.0))
        return None


def compare(
    model: "LanguageModel",
    vectors: Mapping[float, SteeringVector | None],
    prompts: Sequence[str],
    generation: Generation,
) -> list[Compared]:
    """Return baseline and steered text per prompt, scale and sample; samples of a prompt are one batch.

    vectors: scale -> vector; None repeats the baseline.

    Raises UsageError, SourceError: as `generate`.
    """
    rows = []
    seeds = generation.seeds
    for prompt in prompts:
        repeated = [prompt] * len(seeds)
        baseline = generate(model, repeated, seeds, generation)
        for scale, vector in vectors.items():
            steered = generate(model, repeated, seeds, generation, vector) if vector else baseline
            rows += [
                Compared(prompt, sample, scale, before.text, after.text)
                for sample, (before, after) in enumerate(zip(baseline, steered, strict=True), start=1)
            ]
    return rows


def described(prompts: Sequence[str], generation: Generation) -> dict[str, Any]:
    """Return prompts and generation settings as JSON values, for a plan."""
    return {"prompts": list(prompts), **vars(generation)}


def read_generation(recorded: object, plan: Path) -> tuple[list[str], Generation]:
    """Return the prompts and generation settings of a plan; no prompts and defaults if it has none.

    Raises UsageError: the plan's value is malformed.
    """
    if recorded is None:
        return [], Generation()
    values: dict[str, Any] = dict(recorded) if isinstance(recorded, dict) else {"": recorded}
    prompts = values.pop("prompts", [])
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise UsageError(f"{plan} is damaged: 'generation.prompts' is {prompts!r}, not a list of texts")
    known = [field.name for field in fields(Generation)]
    for name in values:
        if name not in known:
            raise UsageError(f"{plan} is damaged: 'generation' has {name!r}{nearest(name, known)}")
    try:
        return prompts, Generation(**values)
    except UsageError as error:
        raise UsageError(f"{plan} is damaged: in 'generation', {error}") from error
