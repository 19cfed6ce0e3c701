"""Score how well lineages that were planted are found again, by featgraph and by what one would do otherwise.

python tests/bench/planted.py [--widths 512:2048,2304:4096] [--noise ...] [--seeds 0,1,2] [--quick]

Makes suites (`planting.py`), asks every method (`finding.py`) for all events, and prints precision, recall
and F1 as Markdown. An event counts as found if it is right in every part: both ends of a persistence, a split
with its parent and all its children, and no other. Only features that fire at all are asked for.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from finding import Matches, build_graph, by_assignment, by_top_one, by_verbs, match, match_by_pearson
from planting import NOISES, Events, Noise, Suite, plant

from featgraph.store import open_store

KINDS = [field.name for field in fields(Events)]
TAUS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
CORRELATED = 0.4
"""Source: arXiv 2410.08869, charts of its repository."""

Finder = Callable[[float | None], Events]
"""A method: finds the events, given a threshold or by its own."""


class Score(NamedTuple):
    """How well one kind of event was found."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Trial:
    """What each method made of one suite: by its own threshold, and by every one of TAUS."""

    plain: dict[str, dict[str, Score]]
    curves: dict[str, dict[float, dict[str, Score]]]


def score(found: set[object], planted: set[object]) -> Score:
    """Compare two sets of events; finding nothing where nothing is counts as right."""
    right = len(found & planted)
    precision = right / len(found) if found else float(not planted)
    recall = right / len(planted) if planted else float(not found)
    return Score(precision, recall, 2 * precision * recall / ((precision + recall) or 1.0))


def scores(found: Events, planted: Events) -> dict[str, Score]:
    """Compare every kind of event."""
    return {kind: score(getattr(found, kind), getattr(planted, kind)) for kind in KINDS}


def visible(suite: Suite, live: Iterable[int]) -> Events:
    """What was planted, without births and deaths of features that happen never to fire."""
    truth, seen = suite.truth, set(live)
    return Events(truth.persistences, truth.births & seen, truth.deaths & seen, truth.splits, truth.merges)


def trial(suite: Suite, *, curves: bool = True) -> Trial:
    """Ask every method for the events of a suite."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(build_graph(suite, Path(folder) / "planted.featgraph")) as graph,
    ):
        cosines, pearsons = match(suite), match_by_pearson(suite, graph)
        methods: dict[str, Finder] = {
            "verbs": lambda tau: by_verbs(graph, tau),
            "verbs, by => coactive": lambda tau: by_verbs(graph, tau, by_evidence=True),
            **rivals(cosines, pearsons),
        }
        truth = visible(suite, cosines.live.tolist())
        plain = {name: scores(find(None), truth) for name, find in methods.items()}
        swept = {
            name: {tau: scores(find(tau), truth) for tau in TAUS if curves} for name, find in methods.items()
        }
    return Trial(plain, swept)


def rivals(cosines: Matches, pearsons: Matches) -> dict[str, Finder]:
    """What one would do without a graph."""
    return {
        "top-1 cosine": lambda tau: by_top_one(cosines, 0.5 if tau is None else tau),
        "one-to-one": lambda tau: by_assignment(cosines, 0.5 if tau is None else tau),
        "one-to-one, the rest joining": lambda tau: by_assignment(
            cosines, 0.5 if tau is None else tau, joining=True
        ),
        "top-1 pearson": lambda tau: by_top_one(pearsons, CORRELATED if tau is None else tau),
    }


def table(trials: list[Trial]) -> str:
    """Return the scores of all methods, one line each: F1, mean and half its range, (precision/recall)."""
    lines = [f"| method | {' | '.join(KINDS)} |", f"|---|{'--:|' * len(KINDS)}"]
    for name in trials[0].plain:
        cells = [_cell([trial.plain[name][kind] for trial in trials]) for kind in KINDS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        if any(trial.curves[name] for trial in trials):
            best = [_best(trials, name, kind) for kind in KINDS]
            lines.append(f"| - at its best threshold | {' | '.join(best)} |")
    return "\n".join(lines)


def curve(trials: list[Trial], names: list[str]) -> str:
    """Return mean F1 over thresholds, one line each, a number per method in every cell."""
    lines = [f"| threshold | {' | '.join(KINDS)} |", f"|--:|{'---|' * len(KINDS)}"]
    for tau in TAUS:
        cells = [" / ".join(f"{_mean(trials, name, tau, kind):.2f}" for name in names) for kind in KINDS]
        lines.append(f"| {tau} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: list[Score]) -> str:
    mean = [statistics.mean(part) for part in zip(*found, strict=True)]
    if not mean[2]:
        return "0"
    spread = max(score.f1 for score in found) - min(score.f1 for score in found)
    return f"{mean[2]:.3f} ±{spread / 2:.3f} ({mean[0]:.2f}/{mean[1]:.2f})"


def _best(trials: list[Trial], name: str, kind: str) -> str:
    f1, tau = max((_mean(trials, name, tau, kind), tau) for tau in TAUS)
    return f"{f1:.3f} at {tau}" if f1 else "0"


def _mean(trials: list[Trial], name: str, tau: float, kind: str) -> float:
    return statistics.mean(trial.curves[name][tau][kind].f1 for trial in trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--widths", default="512:2048,2304:4096", help="d_model:n_features, ...")
    parser.add_argument("--noise", default=",".join(NOISES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=30_000)
    parser.add_argument(
        "--touching", type=float, default=Noise.touching, help="of features that only look alike"
    )
    parser.add_argument("--quick", action="store_true", help="the first width and seed, no curves")
    given = parser.parse_args()
    widths, seeds = given.widths.split(","), [int(seed) for seed in given.seeds.split(",")]
    if given.quick:
        widths, seeds = widths[:1], seeds[:1]
    for width in widths:
        d_model, n_features = map(int, width.split(":"))
        for noise in given.noise.split(","):
            began, trials = time.monotonic(), []
            curves = noise == "moderate" and not given.quick
            for seed in seeds:
                suite = plant(
                    replace(NOISES[noise], touching=given.touching),
                    d_model=d_model,
                    n_features=n_features,
                    layers=given.layers,
                    n_tokens=given.tokens,
                    seed=seed,
                )
                trials.append(trial(suite, curves=curves))
            print(
                f"\n#### {n_features:,} features in {d_model:,} dimensions, {noise} noise\n\n{table(trials)}"
            )
            if curves:
                names = ["verbs", "verbs, by => coactive", "one-to-one, the rest joining"]
                print(f"\nF1 by threshold: {' / '.join(names)}\n\n{curve(trials, names)}")
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
