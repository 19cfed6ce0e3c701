"""Answers as pictures: SVG, PNG, or one HTML file that answers the reader.

Which picture rows make is told by their columns. Imported only when a picture is asked for.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from featgraph.core.result import Result
from featgraph.drawing import (
    Activation,
    Panel,
    Passage,
    PngUnavailable,
    PromptLens,
    Series,
    draw_alluvial,
    draw_lineage,
    draw_prompt_lens,
    draw_small_multiples,
    html_page,
    png,
)
from featgraph.drawing.graph import Origin
from featgraph.errors import UsageError
from featgraph.features import ActiveFeatures, ActiveLineage
from featgraph.lineage.lineage import Lineage
from featgraph.lineage.view import LIMIT, MOST, edges_view, lineage_view
from featgraph.output.format import Format
from featgraph.output.graphs.edges import INSTEAD, Arrows, arrows_of
from featgraph.store import Store
from featgraph.store.features import Feature, Name, known_features

FLOW = {"layer_a", "layer_b", "n_a", "n_b", "n_persists", "n_births", "n_deaths", "n_splits", "n_merges"}
"""Columns of what happens between layers."""

PERSISTENCE = {"layer", "tau", "n_persists", "n_births", "n_deaths", "n_splits", "n_merges"}
"""Columns of what happens at each layer over a range of thresholds."""

ACTIVE = {"token_index", "token", "key", "layer", "share"}
"""Columns of the features active on a text."""


class Picture(NamedTuple):
    """An SVG and what it shows."""

    svg: str
    title: str


def write_to(stream: Any, picture: Picture, format: Format) -> None:
    """Write a picture as svg, png or html.

    Raises UsageError: PNG would go to a terminal, or cannot be made here.
    """
    if format == "png":
        if stream.isatty():
            raise UsageError("png is binary and stdout is a terminal; name a file with -o FILE")
        try:
            data = png(picture.svg)
        except PngUnavailable as error:
            raise UsageError(str(error)) from error
        stream.flush()
        stream.buffer.write(data)
    else:
        stream.write(html_page(*picture) if format == "html" else picture.svg)


def lineage_picture(lineage: Lineage, limit: int | None = None) -> Picture:
    """Return the picture of a lineage; limit: most residual features drawn, 0 for as many as there may be.

    Raises UsageError: the limit is above what a picture may have.
    """
    most = MOST if limit == 0 else LIMIT if limit is None else limit
    if most > MOST:
        raise UsageError(f"--limit {most} is too many for a picture: {MOST} at most")
    graph = lineage_view(lineage, limit=most)
    return Picture(draw_lineage(graph), graph.title)


def picture_of(result: Result, store: Store | None) -> Picture:
    """Return the picture that rows make: of links, of flow, of persistence, or of a text.

    Raises UsageError: they make none.
    """
    columns = {column.lower() for column in result.columns}
    rows = [{name.lower(): value for name, value in row.items()} for row in result.dicts()]
    about = store.path.name if store is not None else ""
    if columns >= FLOW:
        return flow_picture(rows, about)
    if columns >= PERSISTENCE:
        return _persistence(rows, about)
    if columns >= ACTIVE:
        return _active(rows, about)
    arrows = arrows_of(result)
    if store is None:
        raise UsageError("a picture of links needs the graph that they are of")
    return _links(arrows, store)


def flow_picture(
    rows: list[dict[str, Any]],
    about: str,
    origins: Mapping[int, Mapping[Origin, int]] | None = None,
    noise: Collection[int] = (),
) -> Picture:
    """Return what happens between layers as an alluvial picture.

    about: the line below the title. origins: births by layer and origin. noise: layers whose threshold chance
    reaches.

    Raises UsageError: the rows do not follow one another.
    """
    _check_numbers(rows, FLOW)
    passages = []
    try:
        for row in rows:
            counts = {name: row[name] for name in FLOW}
            born = (origins or {}).get(row["layer_b"], {})
            passages.append(Passage(**counts, origins=born, is_noise=row["layer_b"] in noise))
        title = "What becomes of the features"
        return Picture(draw_alluvial(passages, title=title, subtitle=about), title)
    except ValueError as error:
        raise UsageError(f"the rows are no flow from layer to layer: {error}") from error


def flow_of(store: Store, rows: list[dict[str, Any]], min: float | None) -> Picture:
    """Return the rows of the verb `flow` as a picture that also tells births by origin, and noise.

    min: the threshold they were asked with; None for each SAE's own.
    """
    origins: dict[int, dict[Origin, int]] = {}
    for layer, origin, n in store.rows(_ORIGINS, {"min": min}):
        origins.setdefault(layer, {})[origin] = n
    noise = [layer for (layer,) in store.rows(_NOISE, {"min": min})]
    threshold = "each SAE's threshold" if min is None else f"{min:g}"
    return flow_picture(rows, f"{store.path.name} · cosine ≥ {threshold}", origins, noise)


def _persistence(rows: list[dict[str, Any]], about: str) -> Picture:
    """Return what happens at each layer over a range of thresholds, one chart a layer."""
    _check_numbers(rows, PERSISTENCE)
    layers: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["layer"], row["tau"])):
        layers.setdefault(row["layer"], []).append(row)
    panels = []
    for layer, here in layers.items():
        # Nothing can happen to a first layer's features from above, nor to a last one's from below.
        names = ["persists", "births", "merges"] * (layer != min(layers)) + ["deaths", "splits"] * (
            layer != max(layers)
        )
        series = [
            Series(name, [(row["tau"], row[f"n_{name}"]) for row in here])
            for name in _EVENTS
            if name in names
        ]
        above = [row["tau"] for row in here if row.get("above_null", True)]
        noise = min(above, default=float("inf"))
        panels.append(Panel(f"layer {layer}", series, noise if noise > here[0]["tau"] else None))
    title = "What happens at each layer"
    svg = draw_small_multiples(panels, title=title, subtitle=about, x_name="threshold", y_name="features")
    return Picture(svg, title)


def lens_picture(store: Store, text: str, active: ActiveFeatures, lineages: list[ActiveLineage]) -> Picture:
    """Return the features active on a text, with its strongest lineages in colour."""
    known = known_features(store, active.feature.tolist())
    member = {
        (token, id): number
        for number, lineage in enumerate(lineages)
        for token, members in lineage.by_token.items()
        for id, _, _ in members
    }
    columns = (active.token, active.feature, active.share, active.layer)
    activations = [
        Activation(
            token,
            layer,
            str(known[id].key),
            _first_word(known[id].label, known[id].key),
            share,
            member.get((token, id)),
        )
        for token, id, share, layer in zip(*(column.tolist() for column in columns), strict=True)
        if share == share
    ]
    told = [(lineage.name, lineage.label or lineage.key) for lineage in lineages]
    title = "Features active on the text"
    lens = PromptLens(active.tokens, sorted(set(active.layers)), activations, told, title, text)
    return Picture(draw_prompt_lens(lens), title)


def _active(rows: list[dict[str, Any]], about: str) -> Picture:
    """Return rows of the features active on a text as a picture."""
    _check_numbers(rows, {"token_index", "layer"})
    tokens = {row["token_index"]: str(row["token"]) for row in rows}
    place = {index: number for number, index in enumerate(sorted(tokens))}
    activations = [
        Activation(
            place[row["token_index"]],
            row["layer"],
            str(row["key"]),
            _first_word(row.get("label"), row["key"]),
            share,
        )
        for row in rows
        for share in [row["share"]]
        if isinstance(share, float) and share == share
    ]
    title = "Features active on the text"
    layers = sorted({one.layer for one in activations})
    lens = PromptLens([tokens[index] for index in place], layers, activations, title=title, subtitle=about)
    return Picture(draw_prompt_lens(lens), title)


def _links(arrows: Arrows, store: Store) -> Picture:
    """Return the links of an answer as a picture.

    Raises UsageError: an end is no feature, both are of one SAE, or they are too many.
    """
    names = arrows.names()
    known = known_features(store, names)
    for name in sorted(names, key=str):
        if name not in known:
            raise UsageError(f"{name!r} is no feature of {store.path}; {INSTEAD}")
    if len({feature.id for feature in known.values()}) > MOST:
        many = len({feature.id for feature in known.values()})
        raise UsageError(
            f"{many:,} features are too many for a picture, which has {MOST} at most; ask for fewer, "
            "cut with --limit, or write --format graphml"
        )
    pairs = {
        _ordered(src, dst, known)
        for row in arrows.rows
        for src, dst, _ in row
        if src is not None and dst is not None
    }
    features = {feature.id: feature for feature in known.values()}
    title = "Links of the answer"
    return Picture(draw_lineage(edges_view(store, features.values(), pairs, title=title)), title)


def _ordered(src: Name, dst: Name, known: Mapping[Name, Feature]) -> tuple[int, int]:
    """Return the ids of two joined features, the upstream one first, however the row has them."""
    one, two = sorted((known[src], known[dst]), key=lambda feature: feature.id)
    if one.key[:2] == two.key[:2]:
        raise UsageError(f"{one.key} and {two.key} are of one SAE, so no link joins them; {INSTEAD}")
    return one.id, two.id


def _first_word(label: object, key: object) -> str:
    """Return what of a label fits a cell: what stands before its first comma; the key where there is none."""
    return str(label).split(", ")[0].split(" → ")[0] if label else str(key)


def _check_numbers(rows: list[dict[str, Any]], columns: Collection[str]) -> None:
    for row in rows:
        for name in sorted(columns):
            if not isinstance(row[name], int | float) or isinstance(row[name], bool):
                raise UsageError(
                    f"column {name!r} holds {row[name]!r}, which is no number; no picture is made"
                )


_EVENTS = ("persists", "births", "deaths", "splits", "merges")

_ORIGINS = "select layer, origin, count(*) from births(min := $min) group by all"

_NOISE = "select layer from sae where site = 'res' and $min is not null and $min::float < threshold_low"
