"""An evaluation as a picture: one panel per measure, scales along the bottom, with confidence intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featgraph.errors import UsageError
from featgraph.evaluation.protocol import Evaluation

_COLUMNS = 4

_LOOKS = {
    "baseline": ("o", "#767676"),
    "steered": ("D", "#0b6e99"),
    "random": ("s", "#c25700"),
    "shuffled": ("^", "#8a4fa3"),
    "seed-only": ("v", "#3b7d23"),
}
"""Method -> marker and colour; colours for colour-blind readers, markers for print."""


def draw(evaluation: Evaluation, path: Path) -> None:
    """Write a PNG: the validation prompts as a line over scales, the test prompts as points beside it.

    Raises UsageError: matplotlib is not installed, or the file cannot be written.
    """
    pyplot = plotting()
    rows = evaluation.rows.dicts()
    measures = list(dict.fromkeys(str(row["measure"]) for row in rows))
    height = -(-len(measures) // _COLUMNS)
    figure, axes = pyplot.subplots(height, _COLUMNS, figsize=(3.4 * _COLUMNS, 2.7 * height), squeeze=False)
    for axis in axes.flat[len(measures) :]:
        axis.set_axis_off()
    for axis, measure in zip(axes.flat, measures, strict=False):
        _panel(axis, measure, [row for row in rows if row["measure"] == measure and row["value"] is not None])
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False
    )
    save(figure, path)


def plotting() -> Any:
    """Return pyplot with a backend that only writes files.

    Raises UsageError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError(
            "a plot needs matplotlib; install it with `pip install 'featgraph[plot]'`"
        ) from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"figure.constrained_layout.use": True, "font.size": 8, "axes.spines.top": False})
    pyplot.rcParams.update({"axes.spines.right": False, "savefig.dpi": 110})
    return pyplot


def save(figure: Any, path: Path) -> None:
    """Write a figure and close it.

    Raises UsageError: the file cannot be written.
    """
    from matplotlib import pyplot

    from featgraph.core.files import output_file

    try:
        with output_file(path) as partial:
            figure.savefig(partial, format="png")
    finally:
        pyplot.close(figure)


def _panel(axis: Any, measure: str, rows: Sequence[dict[str, Any]]) -> None:
    swept = [row for row in rows if row["split"] == "validation"]
    scales = [row["scale"] for row in swept]
    axis.plot(
        scales, [row["value"] for row in swept], color="#0b6e99", linewidth=1, label="by scale (validation)"
    )
    low, high = [row["low"] for row in swept], [row["high"] for row in swept]
    axis.fill_between(scales, low, high, color="#0b6e99", alpha=0.15, linewidth=0)
    tested = [row for row in rows if row["split"] == "test"]
    width = (max(scales) - min(scales)) or 1.0
    for place, row in enumerate(tested):
        marker, colour = _LOOKS[row["method"]]
        # Side by side: all points have the same scale and would hide each other.
        axis.errorbar(
            row["scale"] + width * 0.025 * (place - 2),
            row["value"],
            [[max(0.0, row["value"] - row["low"])], [max(0.0, row["high"] - row["value"])]],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            label=row["method"],
        )
    axis.set_title(measure, loc="left")
    axis.set_xlabel("scale")
