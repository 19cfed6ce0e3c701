"""One `ingest/*.toml` -> `Recipe`: which model, which SAEs, which text, which edges. No defaults for anything
that changes a number: what is not in the file is an error that names the file, the key and the line.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featgraph.errors import RecipeError, UsageError, nearest
from featgraph.model import EDGE_KINDS, SITES, EdgeKind, Site
from featgraph.shipped import shipped


@dataclass(frozen=True)
class ModelSource:
    """Where the language model comes from: a folder beside the recipe, or a Hugging Face id."""

    path: Path | None
    hf: str | None


@dataclass(frozen=True)
class SaeSource:
    """Where one site's SAEs come from; `{layer}` in path or sae_id stands for the layer number."""

    site: Site
    path: str | None
    release: str | None
    sae_id: str | None


@dataclass(frozen=True)
class TextSource:
    """The text that statistics are taken over."""

    path: Path
    separator: str
    tokens: int
    context: int


@dataclass(frozen=True)
class EdgePlan:
    """Which edges are looked for, and how many candidates each feature keeps at either end."""

    kinds: tuple[EdgeKind, ...]
    top_k: int


@dataclass(frozen=True)
class Recipe:
    """A suite to ingest, as its file says; relative paths are relative to the file."""

    name: str
    title: str
    file: Path
    model: ModelSource
    layers: int
    sources: tuple[SaeSource, ...]
    text: TextSource
    edges: EdgePlan
    seed: int

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.file.parent

    @property
    def model_name(self) -> str:
        """The model's Hugging Face id, or its folder as the recipe writes it."""
        return self.model.hf or self.as_written(self.model.path)

    def as_written(self, path: Path | None) -> str:
        """Return a path relative to the recipe, so that identities do not depend on where the recipe lies."""
        return str(path).removeprefix(f"{self.folder}/")

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that have an SAE, in the order a block computes them."""
        present = {source.site for source in self.sources}
        return tuple(site for site in SITES if site in present)


_KEYS: dict[str, dict[str, type]] = {
    "": {"title": str, "seed": int, "model": dict, "suite": dict, "text": dict, "edges": dict},
    "model": {"path": str, "hf": str},
    "suite": {"layers": int, "sites": dict},
    "suite.sites": {site: dict for site in SITES},
    "text": {"path": str, "separator": str, "tokens": int, "context": int},
    "edges": {"kinds": list, "top_k": int},
}
_SOURCE_KEYS: dict[str, type] = {"path": str, "release": str, "id": str}
_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "a table"}


def all_recipes() -> list[Recipe]:
    """Return the shipped recipes by name."""
    return [read_recipe(path) for path in sorted(shipped("ingest").glob("*.toml"))]


def find_recipe(name: str) -> Recipe:
    """Return a shipped recipe by name, or the one in a TOML file.

    Raises UsageError: neither exists. RecipeError: the file is malformed.
    """
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    known = {path.stem: path for path in shipped("ingest").glob("*.toml")}
    if name not in known:
        raise UsageError(
            f"no recipe named {name!r}{nearest(name, known)}; "
            f"`featgraph recipes` lists them, or give a path that ends in .toml"
        )
    return read_recipe(known[name])


def read_recipe(path: Path) -> Recipe:
    """Read and check one recipe file.

    Raises RecipeError: unreadable, not TOML, an unknown or missing key, or a value of the wrong kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot read recipe {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r"line (\d+)", message)
        line = int(place[1]) if place else len(text.splitlines())
        raise RecipeError(f"{path}:{line}: not valid TOML: {message[:1].lower()}{message[1:]}") from error
    return _Reader(path, text).recipe(raw)


class _Reader:
    """Checks one file's tables; every complaint names the file, the line where it can, and the key."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text

    def recipe(self, raw: dict[str, Any]) -> Recipe:
        self.check(raw, "", _KEYS[""], required=tuple(_KEYS[""]))
        for name in ("model", "suite", "text", "edges"):
            required = () if name == "model" else tuple(_KEYS[name])
            self.check(raw[name], name, _KEYS[name], required=required)
        suite, text, edges = raw["suite"], raw["text"], raw["edges"]
        self.positive(suite, "suite", "layers")
        self.positive(text, "text", "tokens")
        self.positive(text, "text", "context")
        self.positive(edges, "edges", "top_k")
        return Recipe(
            name=self.path.stem,
            title=raw["title"],
            file=self.path,
            model=self.model(raw["model"]),
            layers=suite["layers"],
            sources=self.sources(suite["sites"]),
            text=TextSource(self.beside(text["path"]), text["separator"], text["tokens"], text["context"]),
            edges=EdgePlan(self.kinds(edges["kinds"]), edges["top_k"]),
            seed=raw["seed"],
        )

    def model(self, raw: dict[str, Any]) -> ModelSource:
        if ("path" in raw) == ("hf" in raw):
            raise self.error("model", "give either 'path' (a folder) or 'hf' (a Hugging Face id) in [model]")
        return ModelSource(self.beside(raw["path"]) if "path" in raw else None, raw.get("hf"))

    def sources(self, raw: dict[str, Any]) -> tuple[SaeSource, ...]:
        self.check(raw, "suite.sites", _KEYS["suite.sites"], required=())
        if "res" not in raw:
            raise self.error(
                "suite.sites", "missing key 'suite.sites.res'; every suite needs its residual SAEs"
            )
        found = []
        for site in (site for site in SITES if site in raw):
            where = f"suite.sites.{site}"
            table = raw[site]
            self.check(table, where, _SOURCE_KEYS, required=())
            if ("path" in table) == ("release" in table) or ("release" in table) != ("id" in table):
                raise self.error(where, f"give either 'path' or both 'release' and 'id' in [{where}]")
            found.append(SaeSource(site, table.get("path"), table.get("release"), table.get("id")))
        return tuple(found)

    def kinds(self, raw: list[Any]) -> tuple[EdgeKind, ...]:
        for kind in raw:
            if kind not in EDGE_KINDS:
                hint = nearest(str(kind), EDGE_KINDS)
                raise self.error("edges.kinds", f"unknown edge kind {kind!r} in 'edges.kinds'{hint}")
        return tuple(kind for kind in EDGE_KINDS if kind in raw)

    def check(self, raw: Any, where: str, keys: Mapping[str, type], *, required: tuple[str, ...]) -> None:
        prefix = f"{where}." if where else ""
        for key, value in raw.items():
            if key not in keys:
                hint = nearest(key, keys)
                known = "" if hint else f"; known keys: {', '.join(keys)}"
                raise self.error(prefix + key, f"unknown key {prefix + key!r}{hint}{known}")
            if not isinstance(value, keys[key]) or isinstance(value, bool):
                raise self.error(prefix + key, f"{prefix + key!r} must be {_NAMES[keys[key]]}, not {value!r}")
        for key in required:
            if key not in raw:
                raise self.error(where, f"missing key {prefix + key!r}")

    def positive(self, raw: dict[str, Any], where: str, key: str) -> None:
        if raw[key] < 1:
            raise self.error(f"{where}.{key}", f"'{where}.{key}' must be at least 1, not {raw[key]}")

    def beside(self, path: str) -> Path:
        return self.path.parent / path

    def error(self, key: str, message: str) -> RecipeError:
        return RecipeError(f"{self.path}:{self.line(key)}: {message}")

    def line(self, key: str) -> int:
        """Return the line of a dotted key or table header, else of the nearest enclosing table, else 1."""
        table, _, last = key.rpartition(".")
        header, inside = "", 1
        for number, line in enumerate(self.text.splitlines(), 1):
            if opened := re.match(r"\s*\[([^\[\]]+)\]", line):
                header = opened[1].strip()
                if header == key:
                    return number
                inside = number if header == table else inside
            elif header == table and re.match(rf"\s*[\"']?{re.escape(last)}[\"']?\s*=", line):
                return number
        return inside
