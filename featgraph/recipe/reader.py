"""One `ingest/*.toml` -> `Recipe`: the keys of a recipe, which of them go together, and their errors.

`recipe.py` says what each key means. Only `[edges]`, in `EdgePlan`, and `text.massive` have defaults, which
the manifest tells; any other missing key is an error that names the file, the key and the line.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from featgraph.core.keys import EDGE_KINDS, SITES, EdgeKind, Site
from featgraph.core.shipped import shipped
from featgraph.errors import UsageError, nearest
from featgraph.recipe.recipe import MASSIVE, EdgePlan, ModelSource, Recipe, SaeSource, TextSource, Width
from featgraph.recipe.toml_file import Kinds, RecipeFile

_KEYS: dict[str, Kinds] = {
    "": {"title": str, "seed": int, "model": dict, "suite": dict, "text": dict, "edges": dict},
    "model": {"path": str, "hf": str, "d_model": int, "parameters": int, "dtype": str},
    "suite": {
        "layers": int,
        "sites": dict,
        "width": str,
        "widths": dict,
        "ladder": list,
        "block": int,
        "dtype": str,
    },
    "suite.sites": {site: dict for site in SITES},
    "text": {
        "path": str,
        "dataset": str,
        "config": str,
        "split": str,
        "column": str,
        "separator": str,
        "tokens": int,
        "context": int,
        "massive": (float, int),
    },
    "edges": {"kinds": list, **{field.name: int for field in fields(EdgePlan) if field.name != "kinds"}},
}
_SITE_KEYS: Kinds = {
    "path": str,
    "release": str,
    "id": str,
    "decoders": str,
    "key": str,
    "hook": str,
    "layers": list,
    "except": dict,
    "widths": list,
    "d_in": int,
    "l0": int,
}
_LARGEST = 2**31 - 1
"""Largest count, width or seed: feature ids have 32 bits."""

_MOST_LAYERS, _MOST_K = 10_000, 10_000
"""Most layers of a model, and most candidates per feature: far above real values, to catch slips."""

_DTYPES = ("float32", "bfloat16", "float16")


def all_recipes() -> list[Recipe]:
    """Return name -> shipped recipe."""
    return [read_recipe(path) for path in sorted(shipped("ingest").glob("*.toml"))]


def find_recipe(name: str) -> Recipe:
    """Return a shipped recipe by name, or the recipe in a TOML file.

    Raises UsageError: neither exists. RecipeError: the file is malformed.
    """
    if name.endswith(".toml"):
        return read_recipe(Path(name).expanduser())
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
    return _Reader(RecipeFile(path)).recipe()


def chosen(recipe: Recipe) -> dict[str, object]:
    """Return the choices that differ from the recipe file (width, text), for the manifest."""
    as_read = read_recipe(recipe.file)
    choices: dict[str, object] = {}
    if recipe.width != as_read.width and recipe.width is not None:
        choices["width"] = recipe.width.name
    if recipe.text is None and as_read.text is not None:
        choices["text"] = None
    elif recipe.text is not None and recipe.text != as_read.text:
        path = recipe.text.path and recipe.as_written(recipe.text.path)
        choices["text"] = {**asdict(recipe.text), "path": path}
    return choices


def choose(recipe: Recipe, what: Mapping[str, object]) -> Recipe:
    """Apply choices that `chosen` returned earlier to a recipe as read from its file."""
    if "width" in what:
        recipe = recipe.with_width(str(what["width"]))
    if "text" not in what:
        return recipe
    text = what["text"]
    if not isinstance(text, Mapping):
        return recipe.data_free()
    path = text["path"] and recipe.folder / str(text["path"])
    return replace(recipe, text=TextSource(**{**text, "path": path}))


def _home(path: str | None) -> str | None:
    """Return a path with a leading `~` replaced by the home folder."""
    return str(Path(path).expanduser()) if path is not None and path.startswith("~") else path


class _Reader:
    """Converts the tables of one file into a recipe."""

    def __init__(self, file: RecipeFile) -> None:
        self.file = file
        self.raw = file.raw

    def recipe(self) -> Recipe:
        raw, file = self.raw, self.file
        always = ("title", "seed", "model", "suite")
        file.check(raw, "", _KEYS[""], required=always)
        file.check(raw["model"], "model", _KEYS["model"], required=())
        file.check(raw["suite"], "suite", _KEYS["suite"], required=("layers", "sites"))
        suite = raw["suite"]
        file.at_least(raw, "", 0, "seed")
        file.at_most(raw, "", seed=_LARGEST)
        file.at_least(suite, "suite", 1, "layers")
        file.at_most(suite, "suite", layers=_MOST_LAYERS, block=_MOST_LAYERS)
        file.at_least(suite, "suite", 0, "block")
        widths = self.widths(suite)
        recipe = Recipe(
            name=file.path.stem,
            title=raw["title"],
            file=file.path,
            model=self.model(raw["model"]),
            layers=suite["layers"],
            declared=self.sources(suite["sites"], suite["layers"], [width.name for width in widths]),
            text=self.text(raw["text"]) if "text" in raw else None,
            edges=self.edges(raw.get("edges", {})),
            seed=raw["seed"],
            width=self.width(suite, widths),
            widths=widths,
            ladder=self.ladder(suite),
            block=suite.get("block"),
            dtype=self.dtype(suite, "suite"),
        )
        self.check_patterns(recipe)
        return recipe

    def model(self, raw: dict[str, Any]) -> ModelSource:
        self.file.at_least(raw, "model", 1, "d_model", "parameters")
        self.file.at_most(raw, "model", d_model=_LARGEST, parameters=10**18)
        if ("path" in raw) == ("hf" in raw):
            raise self.file.error(
                "model", "give either 'path' (a folder) or 'hf' (a Hugging Face id) in [model]"
            )
        path = self.beside(raw["path"]) if "path" in raw else None
        dtype = self.dtype(raw, "model")
        return ModelSource(path, raw.get("hf"), raw.get("d_model"), raw.get("parameters"), dtype)

    def dtype(self, raw: dict[str, Any], where: str) -> str | None:
        dtype = raw.get("dtype")
        if dtype is not None and dtype not in _DTYPES:
            raise self.file.error(
                f"{where}.dtype", f"'{where}.dtype' must be one of {', '.join(_DTYPES)}, not {dtype!r}"
            )
        return dtype

    def widths(self, suite: dict[str, Any]) -> tuple[Width, ...]:
        widths = []
        for name, value in suite.get("widths", {}).items():
            key = f"suite.widths.{name}"
            self.file.kind(key, value, (int, dict))
            table = {"features": value} if isinstance(value, int) else value
            kinds: Kinds = {word: int if word == "features" else str for word in table} | {"features": int}
            self.file.check(table, key, kinds, required=("features",))
            self.file.at_least(table, key, 1, "features")
            self.file.at_most(table, key, features=_LARGEST)
            words = tuple((word, str(text)) for word, text in table.items() if word != "features")
            widths.append(Width(name, table["features"], words))
        return tuple(widths)

    def width(self, suite: dict[str, Any], widths: tuple[Width, ...]) -> Width | None:
        if ("width" in suite) != bool(widths):
            raise self.file.error("suite", "'suite.width' and [suite.widths] go together: one of the widths")
        for width in widths:
            if width.name == suite["width"]:
                return width
        if not widths:
            return None
        hint = nearest(suite["width"], [width.name for width in widths])
        raise self.file.error("suite.width", f"no width {suite['width']!r} in [suite.widths]{hint}")

    def ladder(self, suite: dict[str, Any]) -> tuple[int, ...]:
        ladder: list[int] = suite.get("ladder", [])
        self.numbers("suite.ladder", ladder, least=1)
        if "ladder" in suite and (len(ladder) != suite["layers"] or "widths" in suite):
            raise self.file.error(
                "suite.ladder",
                f"'suite.ladder' gives the features of {len(ladder)} layers, but there are {suite['layers']}"
                if len(ladder) != suite["layers"]
                else "a suite has either [suite.widths] or 'suite.ladder'",
            )
        if ("ladder" in suite) != ("block" in suite):
            raise self.file.error(
                "suite", "'suite.ladder' and 'suite.block' go together: widths at one block"
            )
        return tuple(ladder)

    def sources(self, raw: dict[str, Any], layers: int, widths: list[str]) -> tuple[SaeSource, ...]:
        self.file.check(raw, "suite.sites", _KEYS["suite.sites"], required=())
        if "res" not in raw:
            raise self.file.error(
                "suite.sites", "missing key 'suite.sites.res'; every suite needs its residual SAEs"
            )
        return tuple(self.source(site, raw[site], layers, widths) for site in SITES if site in raw)

    def source(self, site: Site, table: dict[str, Any], layers: int, widths: list[str]) -> SaeSource:
        where = f"suite.sites.{site}"
        self.file.check(table, where, _SITE_KEYS, required=())
        ways = [way for way in ("path", "release", "decoders") if way in table]
        pairs = (("release", "id"), ("decoders", "key"))
        if len(ways) != 1 or any((one in table) != (other in table) for one, other in pairs):
            raise self.file.error(
                where,
                f"give either 'path' or both 'release' and 'id' in [{where}], or 'decoders' and its 'key'",
            )
        self.file.at_least(table, where, 1, "d_in", "l0")
        self.file.at_most(table, where, d_in=_LARGEST, l0=_LARGEST)
        present = table.get("layers", list(range(layers)))
        self.numbers(f"{where}.layers", present, least=0, most=layers - 1)
        if not present:
            raise self.file.error(f"{where}.layers", f"'{where}.layers' names no layer")
        named = {name: str for name in table.get("except", {})}
        self.file.check(table.get("except", {}), f"{where}.except", named, required=())
        for name in named:
            if not name.isdecimal() or int(name) not in present:
                raise self.file.error(f"{where}.except", f"{name!r} in [{where}.except] is no layer of it")
        for width in table.get("widths", []):
            if width not in widths:
                hint = nearest(str(width), widths)
                raise self.file.error(f"{where}.widths", f"no width {width!r} in [suite.widths]{hint}")
        return SaeSource(
            site,
            _home(table.get("path")),
            table.get("release"),
            table.get("id"),
            _home(table.get("decoders")),
            table.get("key"),
            table.get("hook"),
            tuple(sorted(set(present))),
            tuple(sorted((int(name), text) for name, text in table.get("except", {}).items())),
            tuple(table.get("widths", [])),
            table.get("d_in"),
            table.get("l0"),
        )

    def text(self, raw: dict[str, Any]) -> TextSource:
        self.file.check(raw, "text", _KEYS["text"], required=("tokens", "context"))
        self.file.at_least(raw, "text", 1, "tokens", "context")
        self.file.at_most(raw, "text", tokens=10**15, context=_LARGEST)
        if ("path" in raw) == ("dataset" in raw):
            raise self.file.error("text", "give either 'path' or 'dataset' in [text]")
        if "dataset" in raw and not {"split", "column"} <= set(raw):
            missing = "split" if "split" not in raw else "column"
            raise self.file.error(
                "text", f"missing key 'text.{missing}'; a dataset needs 'split' and 'column'"
            )
        if "path" in raw and not {"separator", "column"} & set(raw):
            raise self.file.error(
                "text", "missing key 'text.separator' (plain text) or 'text.column' (JSONL, Parquet)"
            )
        return TextSource(
            path=self.beside(raw["path"]) if "path" in raw else None,
            dataset=raw.get("dataset"),
            config=raw.get("config"),
            split=raw.get("split"),
            column=raw.get("column"),
            separator=raw.get("separator", ""),
            tokens=raw["tokens"],
            context=raw["context"],
            massive=self.massive(raw),
        )

    def edges(self, raw: dict[str, Any]) -> EdgePlan:
        self.file.check(raw, "edges", _KEYS["edges"], required=())
        self.file.at_least(raw, "edges", 1, "top_k", "min_support")
        self.file.at_least(raw, "edges", 0, "twera_k", "effect_tokens")
        most = {"top_k": _MOST_K, "twera_k": _MOST_K, "min_support": _LARGEST, "effect_tokens": _LARGEST}
        self.file.at_most(raw, "edges", **most)
        options = {key: value for key, value in raw.items() if key != "kinds"}
        if "kinds" in raw:
            return EdgePlan(self.kinds(raw["kinds"]), **options)
        return EdgePlan(**options)

    def massive(self, raw: dict[str, Any]) -> float:
        times = float(raw.get("massive", MASSIVE))
        if times != 0 and not 1 < times < math.inf:
            raise self.file.error(
                "text.massive",
                f"'text.massive' is {raw['massive']}; give a number above 1, or 0 to leave no token out",
            )
        return times

    def kinds(self, raw: list[Any]) -> tuple[EdgeKind, ...]:
        for kind in raw:
            if kind not in EDGE_KINDS:
                hint = nearest(str(kind), EDGE_KINDS)
                raise self.file.error("edges.kinds", f"unknown edge kind {kind!r} in 'edges.kinds'{hint}")
        return tuple(kind for kind in EDGE_KINDS if kind in raw)

    def numbers(self, key: str, numbers: list[Any], *, least: int, most: int | None = None) -> None:
        for number in numbers:
            self.file.kind(key, number, int)
            if number < least or (most is not None and number > most):
                bound = f"at least {least}" if most is None else f"between {least} and {most}"
                raise self.file.error(key, f"{key!r} holds {number}, which is not {bound}")

    def check_patterns(self, recipe: Recipe) -> None:
        """Raise RecipeError: a pattern has an unknown word, or the recipe has a text for SAEs without
        encoders."""
        for source in recipe.declared:
            where = f"suite.sites.{source.site}"
            if source.decoders is not None and recipe.text is not None:
                raise self.file.error(
                    where, f"[{where}] has decoders only, which read no text; take [text] out of this recipe"
                )
            names = source.widths or [width.name for width in recipe.widths]
            for at_width in [recipe.with_width(name) for name in names] or [recipe]:
                self.check_pattern(at_width, source, where)

    def check_pattern(self, recipe: Recipe, source: SaeSource, where: str) -> None:
        for key, pattern in (
            (source.kind, source.pattern),
            ("release", source.release),
            ("hook", source.hook),
            *((source.kind, text) for _, text in source.exceptions),
        ):
            known = recipe.words(source.layers[0])
            if key == "id" and source.l0 is not None:
                known["l0"] = str(source.l0)
            for name in re.findall(r"\{([^{}]*)\}", pattern or ""):
                if name not in known:
                    offered = ", ".join(f"{{{word}}}" for word in known)
                    hint = nearest(name, known)
                    raise self.file.error(
                        f"{where}.{key}", f"{pattern!r} names {{{name}}}{hint}; here it may name {offered}"
                    )

    def beside(self, path: str) -> Path:
        return self.file.path.parent / Path(path).expanduser()
