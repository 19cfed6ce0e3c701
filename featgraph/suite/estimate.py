"""Estimates the download, disk space and memory of an ingest.

From the recipe and the small files beside it alone: no model, no SAE and no registry is opened. What the
recipe does not say is None, never a guess. Sizes are in bytes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from featgraph.core.keys import Site
from featgraph.errors import SourceError
from featgraph.recipe import Recipe, SaeSource
from featgraph.suite.layouts import declared_shape, layout_of, read_config, tensor_shapes

FLOAT32 = 4
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

CODE_BYTES = (6, 8)
"""Bytes of one code: its activation (4) and its index (2 up to 65,536 features, else 4).

Source: `codes.pack`."""

EDGE_BYTES = 42
FEATURE_BYTES = 64
EXAMPLES_BYTES = 500
"""Bytes in DuckDB per edge, per feature, and per feature's examples.

Source: measured on the demo graph (243,761 edges, 24,576 features)."""

CANDIDATE_BYTES = 20
"""Bytes of a candidate during the build: two indices, a cosine and two ranks of 4 bytes each.

Source: `matching.Candidates`."""

PROCESS_BYTES = 1_500_000_000
"""Bytes of the libraries, a tile of matching and a batch of text.

Source: our allowance; torch, transformers, sae_lens, FAISS and DuckDB take 0.65 GB once imported."""

BATCH = 8192
"""Tokens of one batch. Source: `tokens.BATCH_TOKENS`; a test compares both."""

FORWARD_VALUES = 4 * 16
"""Bytes of one forward pass per token and dimension: 16 float32 values, mostly the mlp's inner ones.

Source: our allowance; SmolLM2-135M with 32 SAEs took 4.07 GB, and 2.75 GB with 7."""

USUAL_L0 = 100
"""L0 (active features per token) if the recipe names none.

Source: our choice; the canonical Gemma Scope SAEs are those with the L0 nearest to 100."""


@dataclass(frozen=True)
class SiteSize:
    """Sizes of the SAEs of one site, in bytes; None: not known."""

    site: Site
    n_saes: int
    features: int | None
    """Number of features of all SAEs."""
    d_in: int | None
    download: int | None
    """Encoders and decoders as published; 0 for local files."""
    vectors: int | None
    """Directions in the graph."""
    codes: int | None
    """Codes during the build; 0 without text."""


@dataclass(frozen=True)
class Estimate:
    """Sizes of one ingest, in bytes; None: not known."""

    sites: tuple[SiteSize, ...]
    model_download: int | None
    """Download of the model; 0 if it is local. Without text, only some files are needed."""
    graph: int | None
    """Size of the finished graph on disk."""
    building: int | None
    """Largest size on disk during the build, with the graph and without downloads."""
    memory: int | None
    """Smallest sufficient memory."""
    one_pass: int | None
    """Memory to encode with all SAEs at once, so that the model reads the text only once."""
    tokens: int

    @property
    def features(self) -> int | None:
        """Return the number of features of all SAEs."""
        return _total(site.features for site in self.sites)

    @property
    def download(self) -> int | None:
        """Return the total download."""
        return _total([self.model_download, *(site.download for site in self.sites)])


@dataclass(frozen=True)
class _Model:
    d_model: int | None
    parameters: int | None
    download: int | None


def estimate(recipe: Recipe, l0s: Mapping[tuple[Site, int], float] | None = None) -> Estimate:
    """Estimate the sizes of an ingest of a recipe.

    l0s: (site, layer) -> L0, if better known than from the recipe.

    Raises SourceError: a local file of the recipe is missing or damaged.
    """
    model = _model(recipe)
    sites = tuple(_site(recipe, source, model, l0s or {}) for source in recipe.sources)
    graph, candidates = _graph(recipe, sites), _candidates(recipe)
    encoders = [
        _times(site.features, model.d_model, FLOAT32) for site in sites if site.site == "res"
    ]  # Encoder rows are kept during the build, for virtual weights.
    building = _total([graph, candidates, *encoders, *(site.codes for site in sites)])
    tokens = recipe.text.tokens if recipe.text else 0
    memory = _memory(recipe, model)
    one_pass = memory if recipe.text is None else _one_pass(recipe, model)
    return Estimate(sites, model.download, graph, building, memory, one_pass, tokens)


def _model(recipe: Recipe) -> _Model:
    """Return the model's sizes, from the recipe or the model's folder."""
    source = recipe.model
    if source.path is None:
        size = _times(source.parameters, DTYPE_BYTES[source.dtype or "float32"])
        return _Model(source.d_model, source.parameters, size)
    config = read_config(source.path / "config.json")
    text = config.get("text_config", config)
    width = source.d_model or text.get("hidden_size") or text.get("n_embd")
    files = sorted(source.path.glob("*.safetensors"))
    parameters = sum(math.prod(shape) for file in files for shape in tensor_shapes(file).values())
    return _Model(width, source.parameters or parameters or None, 0)


def _site(
    recipe: Recipe, source: SaeSource, model: _Model, l0s: Mapping[tuple[Site, int], float]
) -> SiteSize:
    """Return the sizes of one site.

    download = features x 2 d_in x bytes of the published dtype: an encoder and a decoder, beside which biases
    and thresholds are small. codes = tokens x L0 x bytes of a code, per SAE.
    """
    shapes = [_shape(recipe, source, layer, model) for layer in source.layers]
    features = _total(features for features, _ in shapes)
    d_in = shapes[0][1]
    stored = DTYPE_BYTES[recipe.dtype or "float32"]
    download = _times(features, d_in, 2, stored) if source.release else 0
    codes = 0
    if recipe.text is not None:
        for layer, (count, _) in zip(source.layers, shapes, strict=True):
            l0 = l0s.get((source.site, layer)) or source.l0 or USUAL_L0
            codes += round(recipe.text.tokens * l0 * CODE_BYTES[(count or 0) > 2**16])
    vectors = _times(features, model.d_model or d_in, FLOAT32)
    return SiteSize(source.site, len(shapes), features, d_in, download, vectors, codes)


def _shape(recipe: Recipe, source: SaeSource, layer: int, model: _Model) -> tuple[int | None, int | None]:
    """Return (n_features, d_in) of one SAE, from its files or the recipe."""
    name = recipe.sae_name(source, layer)
    if source.path is not None:
        folder = recipe.folder / name
        return declared_shape(folder, layout_of(folder, str(recipe.file)))
    if source.decoders is not None:
        shape = tensor_shapes(_there(recipe, recipe.folder / name)).get(
            recipe.filled(str(source.key), layer), ()
        )
        return (shape[0], shape[1]) if len(shape) == 2 else (None, None)
    return recipe.features(layer), source.d_in or model.d_model


def _there(recipe: Recipe, path: Path) -> Path:
    if not path.is_file():
        raise SourceError(f"{recipe.file}: no decoders at {path}")
    return path


def _graph(recipe: Recipe, sites: tuple[SiteSize, ...]) -> int | None:
    """Return the graph's size: directions, one row and some examples per feature, and its edges."""
    features = _total(site.features for site in sites)
    rows = _times(features, FEATURE_BYTES + (EXAMPLES_BYTES if recipe.text else 0))
    return _total([rows, _times(_edges(recipe), EDGE_BYTES), *(site.vectors for site in sites)])


def _candidates(recipe: Recipe) -> int | None:
    return _times(_edges(recipe), CANDIDATE_BYTES)


def _edges(recipe: Recipe) -> int | None:
    """Return the largest possible number of edges: each feature of a pair of SAEs has its own candidates.

    Each end has top_k by cosine, and with text twera_k by twera. The searches overlap, so the real number is
    smaller: on the demo, by about a third.
    """
    plan = recipe.edges
    per_feature = plan.top_k + (plan.twera_k if recipe.text else 0)
    of_layer = {
        source.site: {layer: _features(recipe, source, layer) for layer in source.layers}
        for source in recipe.sources
    }
    residuals = sorted(of_layer.get("res", {}).items())
    ends: list[int | None] = []
    if "res_res" in plan.kinds:
        ends += [size for pair in pairwise(residuals) for _, size in pair]
    for site in ("mlp", "att"):
        if f"{site}_res" in plan.kinds:
            writers = of_layer.get(site, {})
            ends += [size for layer, own in residuals if layer in writers for size in (own, writers[layer])]
    return _times(_total(ends), per_feature)


def _features(recipe: Recipe, source: SaeSource, layer: int) -> int | None:
    return _shape(recipe, source, layer, _Model(None, None, None))[0]


def _memory(recipe: Recipe, model: _Model) -> int | None:
    """Return the smallest sufficient memory: that of the largest step and of the process itself.

    Matching holds two SAEs' directions. Loading an SAE, and encoding with it, hold its encoder, decoder and
    directions; encoding holds the model too, all in float32. With more memory, more SAEs encode at once, and
    the model reads the text fewer times.
    """
    widest = 0
    for layer, source in recipe.places:
        features, d_in = _shape(recipe, source, layer, model)
        width = model.d_model or d_in
        if features is None or d_in is None or width is None:
            return None
        directions, weights = features * width, 2 * features * d_in
        widest = max(widest, FLOAT32 * max(2 * directions, weights + directions))
    if recipe.text is None:
        return widest + PROCESS_BYTES
    return _total([widest, PROCESS_BYTES, _times(model.parameters, FLOAT32)])


def _one_pass(recipe: Recipe, model: _Model) -> int | None:
    """Return the memory to encode with all SAEs at once.

    That is the process; the model in float32 and, while loading, in the published dtype; and for each SAE its
    encoder, decoder, directions, encoder rows and the inputs of two batches.
    """
    loading = FLOAT32 + DTYPE_BYTES[recipe.model.dtype or "bfloat16"]
    parts = [PROCESS_BYTES, _times(model.parameters, loading), _times(FORWARD_VALUES, BATCH, model.d_model)]
    for layer, source in recipe.places:
        features, d_in = _shape(recipe, source, layer, model)
        rows = 2 if source.site == "res" else 1
        parts.append(
            _times(FLOAT32, features, _total([_times(2, d_in), _times(rows, model.d_model or d_in)]))
        )
        parts.append(_times(FLOAT32, 2 * BATCH, d_in))
    return _total(parts)


def _total(parts: Iterable[int | None]) -> int | None:
    sizes = list(parts)
    known = [part for part in sizes if part is not None]
    return sum(known) if len(known) == len(sizes) else None


def _times(*factors: int | None) -> int | None:
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def human(size: int | None) -> str:
    """Return a size as readable text; empty if it is not known.

    >>> human(21_500_000_000), human(940), human(None)
    ('21.5 GB', '940 B', '')
    """
    if size is None:
        return ""
    number, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
