"""A synthetic suite of a published one's shape: decoders alone, as bare safetensors beside a recipe.

Directions are random but related as those of real suites are, in the order in which a block writes:

- **att, mlp**: NEAR of the features lie near a residual feature of the layer before, or opposite to it; the
  others are families of siblings.
- **res**: of the features of the layer before, DEATHS end, SPLITS have two or three children, pairs merge
  (MERGES of the features), all others persist. A persisting feature turns: its cosine to itself is Beta
  distributed in COSINES, nearer to 1 in later layers. The places left are births: near an mlp feature, near
  an att feature, or families of siblings (ORIGINS), all of them so in the first layer.

Each file is a function of the settings and of the files before it, so that making goes on where it was cut
off. What is linked to what is kept beside them, for `planted`. In memory are the SAE that is made, the
residual one before it and a writer or two, all in half precision, and blocks of ROWS in float32.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from featgraph.core.arrays import Indices, Matrix
from featgraph.core.keys import SITES, Site

DEATHS, SPLITS, MERGES = 0.18, 0.04, 0.06
"""Shares of a residual layer. 12 to 30 % appear and disappear per layer of GPT-2 small.

Source: arXiv 2410.08869, charts of its repository (Pearson 0.4), for deaths; splits and merges are ours."""
COSINES = (0.3, 0.95)
ORIGINS: dict[Site, float] = {"mlp": 0.40, "att": 0.25}
WRITTEN = (0.4, 0.95)
"""Cosine of a birth to the module feature that it is near."""
NEAR, NEARNESS, OPPOSITE = 0.25, (0.3, 0.8), 0.3
"""Share of module features near a residual one, their cosines to it, and the share of negative ones."""
FAMILY, KIN = 4, (0.3, 0.8)
"""Siblings in a family, and the cosine among them."""
SHARED = (0.7, 0.95)
"""What a child's cosine to a parent that splits is of that of a feature that persists."""
SPECTRUM = 0.5
"""The variance of the i-th coordinate of a random direction falls as i to the minus this."""
ROWS = 2048
"""Rows that are made at once in float32."""
KEY = "W_dec"
COLUMNS = ("src_layer", "src_site", "src_idx", "dst_layer", "dst_idx", "cosine")
"""What is kept of a link to a residual feature."""

Halves = NDArray[np.float16]


@dataclass(frozen=True)
class SuiteShape:
    """How large a suite is."""

    layers: int
    sites: tuple[Site, ...]
    features: int
    d_model: int
    top_k: int
    seed: int

    @property
    def n_saes(self) -> int:
        return self.layers * len(self.sites)

    @property
    def file_bytes(self) -> int:
        """Of one SAE on disk."""
        return 2 * self.features * self.d_model


@dataclass(frozen=True)
class Part:
    """Some features of an SAE: the directions that they are turned away from, and how far."""

    site: Site | None
    """Where these directions are features; None for the centres of families."""
    rows: Halves
    first: Indices
    """The row of each feature."""
    cosine: Matrix
    """To that row."""
    second: Indices | None = None
    """For merges: the row of the other parent."""

    def bases(self, chosen: slice) -> Matrix:
        """Return unit rows."""
        found = self.rows[self.first[chosen]].astype(np.float32)
        if self.second is not None:
            found += self.rows[self.second[chosen]]
        return _unit(found)


def make(shape: SuiteShape, folder: Path, say: Callable[[str], None]) -> Path:
    """Write what is not there yet of a suite and return its recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    before: Halves | None = None
    for layer in range(shape.layers):
        for site in shape.sites:
            path = _file(folder, layer, site)
            if not _is_there(path, shape):
                say(f"making the SAE {path.name}")
                _write(shape, folder, layer, site, before)
        before = _read(folder, layer, "res")
    recipe = folder / "rehearsal.toml"
    recipe.write_text("\n".join(_recipe(shape)), encoding="utf-8")
    return recipe


def planted(shape: SuiteShape, folder: Path) -> Iterator[pa.Table]:
    """Yield what was linked to each residual SAE, as COLUMNS."""
    for layer in range(shape.layers):
        with np.load(_links_file(folder, layer)) as found:
            if len(found["dst_idx"]):
                yield pa.table(dict(found))


def missing_bytes(shape: SuiteShape, folder: Path) -> int:
    """Return what there is still to be written of a suite."""
    places = [(layer, site) for layer in range(shape.layers) for site in shape.sites]
    absent = sum(not _is_there(_file(folder, *place), shape) for place in places)
    return absent * shape.file_bytes


def _write(shape: SuiteShape, folder: Path, layer: int, site: Site, before: Halves | None) -> None:
    rng = np.random.default_rng([shape.seed, layer, SITES.index(site)])
    residual = site == "res"
    parts = _residual(shape, folder, layer, before, rng) if residual else _module(shape, before, rng)
    places = _places(shape, layer, site)
    made = np.empty((shape.features, shape.d_model), dtype=np.float16)
    links, start = [], 0
    for part in parts:
        own = places[start : start + len(part.first)]
        start += len(own)
        for chosen in _blocks(len(own)):
            made[own[chosen]] = _turned(part.bases(chosen), part.cosine[chosen], rng)
        if part.site is not None and site == "res":
            links += [
                _links(part, of, own, made, layer) for of in (part.first, part.second) if of is not None
            ]
    if site == "res":
        columns = {name: [link[name] for link in links] for name in COLUMNS}
        joined = {name: np.concatenate(found) if found else np.zeros(0) for name, found in columns.items()}
        np.savez(_links_file(folder, layer), **joined)  # type: ignore[arg-type]
    path = _file(folder, layer, site)
    partial = path.with_suffix(".partial")
    save_file({KEY: made}, partial, metadata={"made": _made(shape)})
    partial.replace(path)


def _module(shape: SuiteShape, before: Halves | None, rng: np.random.Generator) -> Iterator[Part]:
    """Yield the features of an mlp or att SAE: first those near residual ones, if there are any."""
    n_near = 0 if before is None else round(NEAR * shape.features)
    if before is not None:
        cosine = rng.uniform(*NEARNESS, n_near).astype(np.float32)
        cosine *= np.where(rng.random(n_near) < OPPOSITE, -1, 1)
        yield Part("res", before, _some(rng, shape.features, n_near), cosine)
    yield _families(shape, shape.features - n_near, rng)


def _residual(
    shape: SuiteShape, folder: Path, layer: int, before: Halves | None, rng: np.random.Generator
) -> Iterator[Part]:
    """Yield the features of a residual SAE: those that go on from the layer before, then births."""
    born = shape.features
    if before is not None:
        for part in _going_on(shape, layer, before, rng):
            born -= len(part.first)
            yield part
    left = born
    for site, share in ORIGINS.items():
        if site in shape.sites:
            n_near = 0 if before is None else round(NEAR * shape.features)
            own = _places(shape, layer, site)[n_near:]
            n = min(round(share * born), len(own))
            left -= n
            chosen = own[_some(rng, len(own), n)]
            yield Part(site, _read(folder, layer, site), chosen, rng.uniform(*WRITTEN, n).astype(np.float32))
    yield _families(shape, left, rng)


def _going_on(shape: SuiteShape, layer: int, before: Halves, rng: np.random.Generator) -> Iterator[Part]:
    n = shape.features
    fates = rng.permutation(n)[round(DEATHS * n) :]
    splitting, fates = np.split(fates, [round(SPLITS * n)])
    merging, lasting = np.split(fates, [2 * round(MERGES * n / 2)])
    yield Part("res", before, lasting, _cosines(shape, layer, len(lasting), rng))
    pairs = merging.reshape(2, -1)
    yield Part("res", before, pairs[0], _cosines(shape, layer, len(pairs[0]), rng), pairs[1])
    children = np.repeat(splitting, rng.integers(2, 4, len(splitting)))
    shared = rng.uniform(*SHARED, len(children)).astype(np.float32)
    yield Part("res", before, children, shared * _cosines(shape, layer, len(children), rng))


def _cosines(shape: SuiteShape, layer: int, n: int, rng: np.random.Generator) -> Matrix:
    """Draw cosines of features to themselves; their mean goes from 0.66 to 0.82 over the layers."""
    mean = 0.55 + 0.25 * layer / max(shape.layers - 1, 1)
    low, high = COSINES
    found: Matrix = (low + (high - low) * rng.beta(4 * mean, 4 * (1 - mean), n)).astype(np.float32)
    return found


def _families(shape: SuiteShape, n: int, rng: np.random.Generator) -> Part:
    """Return features in families, each with one cosine among its members."""
    family = np.arange(n) // FAMILY
    n_families = -(-n // FAMILY)
    centres = np.empty((n_families, shape.d_model), dtype=np.float16)
    for chosen in _blocks(n_families):
        centres[chosen] = _random(len(centres[chosen]), shape.d_model, rng)
    kin = rng.uniform(*KIN, n_families).astype(np.float32)
    return Part(None, centres, family, np.sqrt(kin)[family])


def _turned(base: Matrix, cosine: Matrix, rng: np.random.Generator) -> Matrix:
    """Return unit rows with these cosines to unit rows, in random directions away from them."""
    away = _random(len(base), base.shape[1], rng)
    away -= np.einsum("ij,ij->i", away, base)[:, None] * base
    aside: Matrix = np.sqrt(1 - cosine**2).astype(np.float32)
    return cosine[:, None] * base + aside[:, None] * _unit(away)


def _random(n: int, d_model: int, rng: np.random.Generator) -> Matrix:
    spectrum = (np.arange(1, d_model + 1) ** (-SPECTRUM / 2)).astype(np.float32)
    return _unit(rng.standard_normal((n, d_model), dtype=np.float32) * spectrum)


def _links(part: Part, of: Indices, own: Indices, made: Halves, layer: int) -> dict[str, NDArray[np.generic]]:
    """Return which features some are turned away from, with the cosines of what is stored."""
    assert part.site is not None
    cosine = np.empty(len(own), dtype=np.float32)
    for chosen in _blocks(len(own)):
        ends = part.rows[of[chosen]].astype(np.float32), made[own[chosen]].astype(np.float32)
        cosine[chosen] = np.einsum("ij,ij->i", *map(_unit, ends))
    source_layer = layer - 1 if part.site == "res" else layer
    return {
        "src_layer": np.full(len(own), source_layer),
        "src_site": np.full(len(own), part.site),
        "src_idx": of,
        "dst_layer": np.full(len(own), layer),
        "dst_idx": own,
        "cosine": cosine,
    }


def _places(shape: SuiteShape, layer: int, site: Site) -> Indices:
    """Return where the features of an SAE stand in it, in the order in which they are made."""
    return np.random.default_rng([shape.seed, layer, SITES.index(site), 1]).permutation(shape.features)


def _some(rng: np.random.Generator, below: int, n: int) -> Indices:
    return rng.permutation(below)[:n]


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, ROWS):
        yield slice(start, min(start + ROWS, n))


def _unit(rows: Matrix) -> Matrix:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _recipe(shape: SuiteShape) -> Iterator[str]:
    yield 'title = "Synthetic decoders of the shape of a published suite"'
    yield f"seed = {shape.seed}\n\n[model]"
    yield f'hf = "synthetic/of-no-model"\nd_model = {shape.d_model}\n\n[suite]'
    yield f'layers = {shape.layers}\ndtype = "float16"\n'
    for site in shape.sites:
        yield f'[suite.sites.{site}]\ndecoders = "{{layer}}.{site}.safetensors"\nkey = "{KEY}"\n'
    kinds = ", ".join(f'"{site}_res"' for site in reversed(shape.sites))
    yield f"[edges]\nkinds = [{kinds}]\ntop_k = {shape.top_k}\ntwera_k = 0\nmin_support = 1\n"


def _file(folder: Path, layer: int, site: Site) -> Path:
    return folder / f"{layer}.{site}.safetensors"


def _links_file(folder: Path, layer: int) -> Path:
    return folder / f"{layer}.links.npz"


def _read(folder: Path, layer: int, site: Site) -> Halves:
    found: Halves = load_file(_file(folder, layer, site))[KEY]
    return found


def _made(shape: SuiteShape) -> str:
    """Return what a file was made from: the settings, and this program."""
    return json.dumps([asdict(shape), hashlib.sha256(Path(__file__).read_bytes()).hexdigest()])


def _is_there(path: Path, shape: SuiteShape) -> bool:
    """Say whether a file is there, whole and made from the same settings."""
    try:
        with safe_open(path, framework="np") as opened:
            return (opened.metadata() or {}).get("made") == _made(shape)
    except (SafetensorError, OSError):
        return False
