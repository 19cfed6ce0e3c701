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
    """What a prompt is gone on with, steered and not, from the same random numbers."""

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
    """Return the steering vector at each scale, None where it would change nothing.

    suite: of the same graph; all vectors share it, so that an SAE is loaded once.

    Raises UsageError: a scale is given twice or not finite, or `from_features` refuses one.
    """
    found: dict[float, SteeringVector | None] = {}
    for scale in scales:
        if scale in found:
            raise UsageError(f"scale {scale:g} is given twice")
        made = _made(store, weights, replace(settings, scale=scale))
        found[scale] = None if made is None else replace(made, suite=suite)
    return found


def _made(store: Store, weights: Mapping[str, float], settings: Settings) -> SteeringVector | None:
    """Return a steering vector, or None where adding 0 or multiplying by 1 is all that it would do."""
    try:
        return from_features(store, weights, settings)
    except UsageError:
        if settings.scale != {"add": 0.0, "rescale": 1.0}.get(settings.mode):
            raise
        # Whatever else was wrong is so at another scale too.
        from_features(store, weights, replace(settings, scale=2.0))
        return None


def compare(
    model: "LanguageModel",
    vectors: Mapping[float, SteeringVector | None],
    prompts: Sequence[str],
    generation: Generation,
) -> list[Compared]:
    """Return baseline and steered text per prompt, scale and sample; samples of a prompt are one batch.

    vectors: by scale. A scale without one is the baseline again.

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
    """Return what a plan says of how its text was generated, as JSON values."""
    return {"prompts": list(prompts), **vars(generation)}


def read_generation(said: object, plan: Path) -> tuple[list[str], Generation]:
    """Return the prompts and how text is generated, as a plan says; no prompts and defaults if it does not.

    Raises UsageError: what it says is not that.
    """
    if said is None:
        return [], Generation()
    found: dict[str, Any] = dict(said) if isinstance(said, dict) else {"": said}
    prompts = found.pop("prompts", [])
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise UsageError(f"{plan} is damaged: 'generation.prompts' is {prompts!r}, not a list of texts")
    known = [field.name for field in fields(Generation)]
    for name in found:
        if name not in known:
            raise UsageError(f"{plan} is damaged: 'generation' has {name!r}{nearest(name, known)}")
    try:
        return prompts, Generation(**found)
    except UsageError as error:
        raise UsageError(f"{plan} is damaged: in 'generation', {error}") from error
