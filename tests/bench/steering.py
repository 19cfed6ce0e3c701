"""What steering along lineages does on the demo: the published comparisons, with controls as strong.

python tests/bench/steering.py --graph demo.featgraph --out tests/bench

Prints the tables that stand in steering.md and draws its pictures in the folder `--out`. Themes are taken by
the rule of `themes`, before anything is generated.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import featgraph
from featgraph import Graph
from featgraph.core.bootstrap import Interval, Values, mean_interval
from featgraph.evaluation.drawing import plotting, save
from featgraph.evaluation.measuring import Evaluator, Measured
from featgraph.evaluation.prompts import PROMPTS, split
from featgraph.evaluation.protocol import choose, conditions
from featgraph.evaluation.themes import theme_of
from featgraph.steering import SettingsOptions, SteeringVector
from featgraph.steering.generate import Generation
from featgraph.suite.graph_suite import GraphSuite

GENERATION = Generation(samples=3, max_tokens=32)
SCALES = (4.0, 8.0, 16.0, 32.0)
"""Lengths of the vector at a layer (raw decoder rows of length 1); the residual stream's own is 55 to 163."""
EQUAL = 1.25
LAYER_SCALES = (16.0,)
FACTORS = (0.0, -1.0, -2.0, -4.0, -8.0, -16.0, -32.0, -64.0)
"""r of rescale. Source: arXiv 2502.03032 v3, section 5.3."""
BY_LAYER = (0.0, -4.0, -16.0, -64.0)
"""Those of which every layer is tried, and controls."""
N_VALIDATION, N_TEST, N_LIT = 6, 8, 4
"""Prompts: neutral ones that choose, neutral ones that report, ones that end where the seed fires."""

SCHEDULES: dict[str, SettingsOptions] = {
    "cumulative, constant": {"where": "cumulative"},
    "cumulative, linear to 1": {"where": "cumulative", "schedule": "linear", "end": 1.0},
    "cumulative, exponential": {"where": "cumulative", "schedule": "exponential", "alpha": -0.05},
    "cumulative, cosine": {"where": "cumulative", "schedule": "cosine"},
    "cumulative, compensated": {"where": "cumulative", "compensate": True},
}
SHOWN = (
    "theme_activation",
    "theme_share",
    "theme_logprob",
    "keyword_rate",
    "perplexity_ratio",
    "kl",
    "distinct_2",
)

WHOLE = ("seed", "whole span", "random", "shuffled")
SUPPRESSED = ("theme_logprob", "theme_activation", "theme_share", "keyword_rate", "perplexity_ratio", "kl")


def themes(graph: Graph, n: int) -> list[str]:
    """Return n seeds: residual features in the middle of the model, no two with a span in common.

    They fire on 0.2 to 2 % of tokens, their span has at least 5 layers, and in 9 of their 10 strongest
    examples or more they are strongest on a whole word (a leading blank, 4 letters or more). Those whose
    span holds together best come first: the highest smallest cosine.
    """
    layers = sorted({sae.layer for sae in graph.store.saes if sae.site == "res"})
    rows = graph.store.rows(_CLEAR, {"layer": layers[(len(layers) - 1) // 2]})
    found: list[tuple[float, str, set[str]]] = []
    for (key,) in rows:
        line = graph.lineage(key, writers=False).span
        if len(line) >= 5:
            weakest = min(step.cosine for step in line if step.cosine is not None)
            found.append((weakest, key, {step.key for step in line}))
    chosen: list[tuple[str, set[str]]] = []
    for _, key, keys in sorted(found, key=lambda one: (-one[0], one[1])):
        if not any(keys & other for _, other in chosen):
            chosen.append((key, keys))
    return [key for key, _ in chosen[:n]]


_CLEAR = """
    select f.key
    from feature f join example e on e.feature = f.id
    where f.site = 'res' and f.layer = $layer and f.density between 0.002 and 0.02 and e.rank <= 10
    group by f.id, f.key
    having count(*) filter (regexp_full_match(e.tokens[e.token_index + 1], ' [A-Za-z]{4,}')) >= 9
    order by f.id
"""


def evaluator(graph: Graph, suite: GraphSuite, seed: str) -> Evaluator:
    return Evaluator(suite, theme_of(graph.store, {seed: 1.0}, suite.model), GENERATION)


def vector(graph: Graph, suite: GraphSuite, seed: str, **settings: Any) -> SteeringVector:
    return replace(graph.steering_vector(seed, **settings), suite=suite)


def promotion(graph: Graph, suite: GraphSuite, seed: str) -> "tuple[dict[str, Measured], dict[str, Any]]":
    """Return what each method does on test prompts at what validation chose, and its curve over scales."""
    measuring = evaluator(graph, suite, seed)
    validation, test = (part[:n] for part, n in zip(split(PROMPTS, 0), (N_VALIDATION, N_TEST), strict=True))
    layers = [step.layer for step in graph.lineage(seed, writers=False).span]

    def tried(
        options: Mapping[Any, Mapping[str, Any]],
    ) -> tuple[dict[Any, SteeringVector], dict[Any, Measured]]:
        made = {name: vector(graph, suite, seed, **given) for name, given in options.items()}
        return made, {name: measuring.measure(one, validation) for name, one in made.items()}

    curves: dict[str, Any] = {"baseline": {0.0: measuring.measure(None, validation)}}
    chosen: dict[str, SteeringVector | list[SteeringVector] | None] = {}
    made, found = tried({scale: {"scale": scale} for scale in SCALES})
    curves["seed's layer"], chosen["seed's layer"] = found, made[choose(found, "promote")]
    made, found = tried(
        {
            (layer, scale): {"scale": scale, "where": "per-layer", "at": layer}
            for layer in layers
            for scale in LAYER_SCALES
        }
    )
    chosen["best layer"] = made[choose(found, "promote")]
    for method, settings in SCHEDULES.items():
        made, found = tried({scale: {"scale": scale, **settings} for scale in SCALES})
        curves[method], chosen[method] = found, made[choose(found, "promote")]
    steered = chosen["cumulative, constant"]
    assert isinstance(steered, SteeringVector)
    controls = conditions(graph.store, steered, {seed: 1.0}, GENERATION.seeds)
    chosen |= {
        f"control: {name}": one for name, one in controls.items() if name not in ("baseline", "steered")
    }
    return {name: measuring.measure(one, test) for name, one in {"baseline": None, **chosen}.items()}, curves


def suppression(graph: Graph, suite: GraphSuite, seed: str) -> "Suppressed":
    """Return what rescaling by r does, at one layer of the span (per-layer) or up to it (cumulative)."""
    measuring, prompts = evaluator(graph, suite, seed), lit(graph, seed)
    line = [step.layer for step in graph.lineage(seed, writers=False).span]
    found = {("baseline", 1.0, -1): measuring.measure(None, prompts)}
    for factor in FACTORS:
        given: dict[str, Any] = {"mode": "rescale", "scale": factor}
        found["seed", factor, -1] = measuring.measure(vector(graph, suite, seed, **given), prompts)
        whole = vector(graph, suite, seed, where="cumulative", **given)
        found["whole span", factor, -1] = measuring.measure(whole, prompts)
        if factor not in BY_LAYER:
            continue
        for where in ("per-layer", "cumulative"):
            for layer in line:
                made = vector(graph, suite, seed, where=where, at=layer, **given)
                found[where, factor, layer] = measuring.measure(made, prompts)
        controls = conditions(graph.store, whole, {seed: 1.0}, GENERATION.seeds)
        for name in ("random", "shuffled"):
            found[name, factor, -1] = measuring.measure(controls[name], prompts)
    return found


def lit(graph: Graph, seed: str) -> list[str]:
    """Return beginnings that end where a feature is strongest: its first examples that differ."""
    rows = graph.sql(
        "select e.tokens[: e.token_index + 1] from example e join feature f on f.id = e.feature "
        "where f.key = $key order by e.rank",
        {"key": seed},
    ).rows
    texts = ["".join(list(tokens)).strip() for (tokens,) in rows]  # type: ignore[call-overload]
    return list(dict.fromkeys(text for text in texts if text))[:N_LIT]


def by_theme(measured: Sequence[Measured], baseline: Sequence[Measured], name: str) -> Values:
    """Return the mean over prompts of each theme and seed, (n_themes, n_seeds), less the baseline's.

    Perplexity ratios and KL are against the unsteered model already.
    """
    rows = []
    for found, before in zip(measured, baseline, strict=True):
        less = 0.0 if name in ("perplexity_ratio", "kl") else before[name]
        mean = np.nanmean(found[name] - less, axis=0)
        rows.append(np.broadcast_to(mean, (GENERATION.samples,)))
    return np.array(rows)


def shown(found: Interval) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"


def mean(measured: Sequence[Measured], baseline: Sequence[Measured], name: str) -> Interval:
    return mean_interval(by_theme(measured, baseline, name), geometric=name == "perplexity_ratio")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def report_promotion(
    found: Sequence[dict[str, Measured]], out: Path, curves: Sequence[dict[str, Any]]
) -> None:
    baseline = [one["baseline"] for one in found]
    methods = [name for name in found[0] if name != "baseline"]
    table(
        ["method", *SHOWN],
        [
            [method, *(shown(mean([one[method] for one in found], baseline, name)) for name in SHOWN)]
            for method in methods
        ],
    )
    steered = [one["cumulative, constant"] for one in found]
    print("\nPaired differences, cumulative (constant) less the other, same prompts and seeds:")
    names = [name for name in SHOWN if name not in ("perplexity_ratio", "kl")]
    table(
        ["against", *names],
        [
            [
                method,
                *(
                    shown(mean_interval(by_theme(steered, [one[method] for one in found], name)))
                    for name in names
                ),
            ]
            for method in methods
            if method != "cumulative, constant"
        ],
    )
    print(
        f"\nAt equal fluency: theme_logprob less baseline at a perplexity ratio of {EQUAL:g}, between scales:"
    )
    gains = {name: at_equal_perplexity(curves, name) for name in curves[0] if name != "baseline"}
    constant = gains["cumulative, constant"]
    rows = [
        [name, shown(mean_interval(gain)), shown(mean_interval(gain - constant)), str(mean_interval(gain).n)]
        for name, gain in gains.items()
    ]
    table(["method", "theme_logprob", "less cumulative, constant (paired)", "themes"], rows)
    draw_promotion(found, curves, out / "steering_promotion.png")


def at_equal_perplexity(curves: Sequence[dict[str, Any]], method: str) -> Values:
    """Return how far a method has raised theme_logprob at a perplexity ratio of EQUAL, (n_themes, 1).

    Straight between the scales tried, in the ratio's logarithm; NaN for a theme that does not get there.
    """
    gains = []
    for one in curves:
        before = [one["baseline"][0.0]]
        points = [(0.0, 0.0)]
        for scale in SCALES:
            ratio, gain = (
                by_theme([one[method][scale]], before, name).mean()
                for name in ("perplexity_ratio", "theme_logprob")
            )
            points.append((max(points[-1][0], float(ratio)), float(gain)))
        ratios, gained = zip(*points, strict=True)
        gains.append(np.interp(np.log(EQUAL), ratios, gained, right=np.nan))
    return np.array(gains)[:, None]


def draw_promotion(
    found: Sequence[dict[str, Measured]], curves: Sequence[dict[str, Any]], path: Path
) -> None:
    pyplot = plotting()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    baseline = [one["baseline"] for one in found]
    methods = [name for name in found[0] if name != "baseline"]
    for place, method in enumerate(reversed(methods)):
        one = mean([each[method] for each in found], baseline, "theme_logprob")
        colour = "#c25700" if method.startswith("control") else "#0b6e99"
        left.errorbar(
            one.value, place, xerr=[[one.value - one.low], [one.high - one.value]], marker="o", color=colour
        )
    left.set_yticks(range(len(methods)), list(reversed(methods)))
    left.axvline(0, color="#767676", linewidth=0.8)
    left.set_title("theme_logprob less baseline, test prompts, 95 %", loc="left")
    before = [one["baseline"][0.0] for one in curves]
    for method in (name for name in curves[0] if name != "baseline"):
        points = [
            [mean([one[method][scale] for one in curves], before, name).value for scale in SCALES]
            for name in ("perplexity_ratio", "theme_logprob")
        ]
        right.plot(*points, marker=".", linewidth=1, label=method)
    right.set_xscale("log")
    right.set_xlabel("perplexity ratio (validation prompts)")
    right.set_title("theme_logprob less baseline, by scale", loc="left")
    right.legend(frameon=False)
    save(figure, path)


Suppressed = dict[tuple[str, float, int], Measured]
"""By method, r and layer; -1 where there is no one layer."""


def weakened(found: Sequence[Suppressed], method: str, factor: float, layer: int, name: str) -> Interval:
    """Return a measure less the baseline's, over the themes that have this method and layer."""
    there = [one for one in found if (method, factor, layer) in one]
    baseline = [one["baseline", 1.0, -1] for one in there]
    return mean([one[method, factor, layer] for one in there], baseline, name)


def report_suppression(found: Sequence[Suppressed], out: Path) -> None:
    rows = []
    for factor in FACTORS:
        for method in WHOLE if factor in BY_LAYER else WHOLE[:2]:
            cells = (shown(weakened(found, method, factor, -1, name)) for name in SUPPRESSED)
            rows.append([f"{factor:g}", method, *cells])
    table(["r", "method", *SUPPRESSED], rows)
    print("\nWhole span less seed, paired:")
    lines = []
    for factor in FACTORS:
        span, seed = ([one[method, factor, -1] for one in found] for method in WHOLE[1::-1])
        lines.append(
            [f"{factor:g}", *(shown(mean_interval(by_theme(span, seed, name))) for name in SUPPRESSED[:4])]
        )
    table(["r", *SUPPRESSED[:4]], lines)
    layers = sorted({layer for one in found for _, _, layer in one if layer >= 0})
    for where in ("per-layer", "cumulative"):
        print(f"\ntheme_logprob less baseline, {where}, by layer (of the themes whose span has it):")
        grid = [
            [weakened(found, where, factor, layer, "theme_logprob") for layer in layers]
            for factor in BY_LAYER
        ]
        cells_of = zip(BY_LAYER, grid, strict=True)
        table(
            ["r", *map(str, layers)],
            [[f"{r:g}", *(f"{one.value:.2f}" for one in row)] for r, row in cells_of],
        )
    draw_suppression(found, layers, out / "steering_suppression.png")


def draw_suppression(found: Sequence[Suppressed], layers: Sequence[int], path: Path) -> None:
    pyplot = plotting()
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4))
    for method in WHOLE:
        places = [place for place, factor in enumerate(FACTORS) if method in WHOLE[:2] or factor in BY_LAYER]
        ends = [weakened(found, method, FACTORS[place], -1, "theme_logprob") for place in places]
        axes[0].plot(places, [one.value for one in ends], marker=".", label=method)
        axes[0].fill_between(places, [one.low for one in ends], [one.high for one in ends], alpha=0.12)
    axes[0].set_xticks(range(len(FACTORS)), [f"{factor:g}" for factor in FACTORS])
    axes[0].set_xlabel("r")
    axes[0].set_title("theme_logprob less baseline, 95 %", loc="left")
    axes[0].legend(frameon=False)
    for axis, where in zip(axes[1:], ("per-layer", "cumulative"), strict=True):
        for place, factor in enumerate(BY_LAYER):
            row = [weakened(found, where, factor, layer, "theme_logprob").value for layer in layers]
            colour = pyplot.get_cmap("viridis")(place / len(BY_LAYER))
            axis.plot(layers, row, marker=".", color=colour, label=f"r = {factor:g}")
        axis.set_xlabel("layer" if where == "per-layer" else "up to layer")
        axis.set_title(f"the same, {where}", loc="left")
        axis.sharey(axes[1])
    axes[2].legend(frameon=False)
    save(figure, path)


def each(
    graph: Graph, suite: GraphSuite, seeds: Sequence[str], job: Callable[..., Any], what: str
) -> Iterator[Any]:
    for seed in seeds:
        began = time.perf_counter()
        yield job(graph, suite, seed)
        print(f"<!-- {what} {seed}: {time.perf_counter() - began:.0f} s -->", flush=True)


def report_themes(graph: Graph, suite: GraphSuite, seeds: Sequence[str]) -> None:
    rows = []
    for seed in seeds:
        theme = theme_of(graph.store, {seed: 1.0}, suite.model)
        line = graph.lineage(seed, writers=False).span
        weakest = min(step.cosine for step in line if step.cosine is not None)
        span = f"{line[0].layer} to {line[-1].layer}"
        rows.append([seed, span, f"{weakest:.2f}", str(len(theme.features)), ", ".join(theme.keywords)])
    table(["seed", "span", "smallest cosine", "features downstream", "keywords"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graph", type=Path, default=Path("demo.featgraph"))
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the pictures")
    parser.add_argument("--themes", type=int, default=6)
    arguments = parser.parse_args()
    with featgraph.open(arguments.graph) as graph:
        suite = GraphSuite(graph.store)
        seeds = themes(graph, arguments.themes)
        report_themes(graph, suite, seeds)
        promoted = list(each(graph, suite, seeds, promotion, "promotion"))
        report_promotion([found for found, _ in promoted], arguments.out, [curves for _, curves in promoted])
        suppressed = list(each(graph, suite, seeds, suppression, "suppression"))
        report_suppression(suppressed, arguments.out)


if __name__ == "__main__":
    main()
