"""The protocol: half of the prompts choose the scale, the other half report it beside controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from featgraph.core.bootstrap import Values, mean_interval
from featgraph.core.progress import Progress, Silent
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.evaluation.controls import CONTROLS, control
from featgraph.evaluation.judging import Goal, Judge
from featgraph.evaluation.measures import GEOMETRIC, MEASURES
from featgraph.evaluation.measuring import Evaluator, Measured
from featgraph.evaluation.prompts import PROMPTS, split
from featgraph.evaluation.themes import theme_of
from featgraph.steering import Settings, SteeringVector
from featgraph.steering.compare import sweep
from featgraph.steering.generate import Generation
from featgraph.store import Store
from featgraph.suite.graph_suite import GraphSuite

MOST_PERPLEXITY = 1.5
"""Largest perplexity ratio of a fluent text. Source: arXiv 2608.05732 (normalised PPL <= 1.5)."""

LEAST_SEEDS = 3
"""Source: Agarwal et al., arXiv 2108.13264, on how little a single run says; that 3 is the least is ours."""

COLUMNS = {
    "method": "VARCHAR",
    "scale": "DOUBLE",
    "split": "VARCHAR",
    "measure": "VARCHAR",
    "value": "DOUBLE",
    "low": "DOUBLE",
    "high": "DOUBLE",
    "n": "INTEGER",
}

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Trial:
    """The settings of one evaluation of steering."""

    scales: Sequence[float] = (0.0, 0.5, 1.0, 2.0)
    prompts: Sequence[str] = PROMPTS
    generation: Generation = field(default_factory=lambda: Generation(samples=LEAST_SEEDS))
    """Generation settings: one seed per sample, counted from `seed`, which also splits the prompts."""
    goal: Goal = "promote"
    keywords: Sequence[str] | None = None
    judge: Judge | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation of steering."""

    rows: Result
    """Every scale on the validation prompts, then the chosen one and its controls on the test prompts."""
    scale: float
    """The scale chosen on the validation prompts."""
    keywords: tuple[str, ...]
    n_features: int
    """Downstream features whose activation was measured."""


def evaluate(
    store: Store,
    weights: Mapping[str, float],
    settings: Settings,
    trial: Trial,
    progress: Progress | None = None,
) -> Evaluation:
    """Choose a steering scale on validation prompts and measure it, with controls, on test prompts.

    Raises UsageError: no such feature or setting, fewer than 3 seeds or 2 prompts, or no scale steers.
    SourceError: the model or its SAEs cannot be found, or the judge cannot be reached.
    """
    _check(trial)
    suite = GraphSuite(store)
    vectors = sweep(store, weights, settings, trial.scales, suite)
    if not any(vectors.values()):
        raise UsageError(
            f"nothing is steered at scale {', '.join(f'{scale:g}' for scale in vectors)}; add another"
        )
    theme = theme_of(store, weights, suite.model, min=settings.min, keywords=trial.keywords)
    judge = None if trial.judge is None else replace(trial.judge, goal=trial.goal)
    evaluator = Evaluator(suite, theme, trial.generation, judge)
    validation, test = split(trial.prompts, trial.generation.seed)
    rows: list[tuple[object, ...]] = []
    tried: dict[float, Measured] = {}
    with (progress or Silent()).step("choosing the scale", len(vectors), "scales") as advance:
        for scale, vector in vectors.items():
            tried[scale] = evaluator.measure(vector, validation)
            rows += _rows("steered", scale, "validation", tried[scale])
            advance(1)
    best_scale = choose({scale: measured for scale, measured in tried.items() if vectors[scale]}, trial.goal)
    made = vectors[best_scale]
    assert made is not None
    tested = conditions(store, made, weights, trial.generation.seeds)
    with (progress or Silent()).step("controls", len(tested), "methods") as advance:
        for method, vector_or_draws in tested.items():
            scale = 0.0 if vector_or_draws is None else best_scale
            rows += _rows(method, scale, "test", evaluator.measure(vector_or_draws, test))
            advance(1)
    answer = Result.of(COLUMNS, rows)
    return Evaluation(answer, best_scale, theme.keywords, len(theme.features))


def conditions(
    store: Store, made: SteeringVector, weights: Mapping[str, float], seeds: Sequence[int]
) -> dict[str, SteeringVector | list[SteeringVector] | None]:
    """Return the vectors to compare, by method: no steering (None), the vector, and its controls.

    Random controls are drawn anew for each seed, so that the interval includes the draw.
    """
    vectors: dict[str, SteeringVector | list[SteeringVector] | None] = {"baseline": None, "steered": made}
    for which in CONTROLS:
        drawn = [control(store, made, weights, which, seed) for seed in seeds]
        differing = [vector for vector in drawn if vector is not None]
        if differing:
            vectors[which] = differing[0] if which == "seed-only" else differing
    return vectors


def choose(tried: Mapping[float, Measured], goal: Goal) -> float:
    """Return the scale to report: with a judge, the one with the largest `final`.

    Without a judge: among the scales with fluent texts (see MOST_PERPLEXITY), the one with the largest
    `theme_activation`, or the smallest if the goal is to suppress; if none is fluent, the most fluent one.

    Raises UsageError: all texts are empty at every scale.
    """
    mean = {
        scale: {name: _mean(values) for name, values in measured.items()} for scale, measured in tried.items()
    }
    if all("final" in measured for measured in mean.values()):
        judged = {
            scale: measured["final"] for scale, measured in mean.items() if np.isfinite(measured["final"])
        }
        if judged:
            return max(judged, key=lambda scale: judged[scale])
    read = {scale: measured for scale, measured in mean.items() if np.isfinite(measured["perplexity_ratio"])}
    if not read:
        raise UsageError("every steered text is empty; choose smaller scales")
    fluent = [
        scale for scale, measured in read.items() if np.exp(measured["perplexity_ratio"]) <= MOST_PERPLEXITY
    ]
    if not fluent:
        return min(read, key=lambda scale: read[scale]["perplexity_ratio"])
    sign = 1 if goal == "promote" else -1
    return max(fluent, key=lambda scale: sign * read[scale]["theme_activation"])


def _mean(values: Values) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else np.nan


def _rows(method: str, scale: float, split: Split, measured: Measured) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name in [*MEASURES, *(name for name in measured if name not in MEASURES)]:
        mean = mean_interval(measured[name], geometric=name in GEOMETRIC)
        numbers = [value if np.isfinite(value) else None for value in (mean.value, mean.low, mean.high)]
        rows.append((method, scale, split, name, *numbers, mean.n))
    return rows


def _check(trial: Trial) -> None:
    """Raise UsageError: too few seeds or prompts."""
    if trial.generation.samples < LEAST_SEEDS:
        raise UsageError(
            f"{trial.generation.samples} seeds say little about chance; give {LEAST_SEEDS} or more: --seeds 3"
        )
    if len(trial.prompts) < 2:
        raise UsageError(
            f"{len(trial.prompts)} prompts; one chooses the scale and one reports, so give at least two"
        )
