"""sae_lens's list of published SAEs: which ids a recipe means, what to expect of each, what fits a model.

Reads the list that the installed sae_lens ships, without importing it: that takes seconds, the list alone
under one. Nothing here fetches anything.
"""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from featgraph.errors import RecipeError, SourceError
from featgraph.recipe import Recipe, SaeSource

ALIASES = {"gpt2": "gpt2-small"}
"""Name of a model on the Hugging Face Hub -> its name in the registry, both without organisation."""

NEAREST = 3
"""Number of similar ids that an error suggests."""


class RegistrySae(NamedTuple):
    """The registry's entry of one SAE of a release."""

    path: str
    """Path in the release's repository."""
    explained_variance: float | None
    l0: float | None
    neuronpedia: str | None


@dataclass(frozen=True)
class Release:
    """SAEs of one model, published together."""

    name: str
    model: str
    repo: str
    layout: str
    """sae_lens's name of the loader for its files."""
    saes: dict[str, RegistrySae]


class Resolved(NamedTuple):
    """One SAE of a recipe with its release and id."""

    layer: int
    source: SaeSource
    release: str
    """Name of the release; empty for local files."""
    sae_id: str
    """Id in the release, or file or folder as written in the recipe."""


@cache
def releases() -> dict[str, Release]:
    """Return name -> release.

    Raises SourceError: sae_lens is not installed, or has no list of releases at the known path.
    """
    import yaml  # type: ignore[import-untyped]

    spec = find_spec("sae_lens")
    places = spec.submodule_search_locations if spec else None
    path = Path(places[0]) / "pretrained_saes.yaml" if places else None
    if path is None or not path.is_file():
        raise SourceError("cannot find sae_lens's list of published SAEs; reinstall it: pip install sae_lens")
    with path.open(encoding="utf-8") as handle:
        raw = yaml.load(handle, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: _release(name, entry) for name, entry in raw.items()}


def _release(name: str, entry: dict[str, object]) -> Release:
    listed = entry["saes"]
    assert isinstance(listed, list)
    saes = {
        one["id"]: RegistrySae(
            str(one["path"]), one.get("variance_explained"), _l0(one), one.get("neuronpedia")
        )
        for one in listed
    }
    layout = str(entry.get("conversion_func") or "sae_lens")
    return Release(name, str(entry["model"]), str(entry["repo_id"]), layout, saes)


def _l0(one: dict[str, object]) -> float | None:
    """Return an SAE's L0, as listed or from its folder's name (the canonical Gemma Scope SAEs)."""
    named = re.search(r"average_l0_(\d+)", str(one["path"]))
    listed = one.get("l0") or (named and named[1])
    return float(str(listed)) if listed else None


def expected(release: str, sae_id: str) -> tuple[float | None, float | None]:
    """Return the published explained variance and L0 of an SAE; None if not listed."""
    known = releases().get(release)
    sae = known.saes.get(sae_id) if known else None
    return (sae.explained_variance, sae.l0) if sae else (None, None)


def normalised(model: str) -> str:
    """Return a model's name in a form shared by registry and Hub: without organisation, in lower case.

    >>> normalised("openai-community/gpt2"), normalised("google/gemma-2-2b")
    ('gpt2-small', 'gemma-2-2b')
    """
    bare = model.rpartition("/")[2].lower()
    return ALIASES.get(bare, bare)


def releases_of(model: str) -> list[Release]:
    """Return the releases of a model, sorted by name."""
    wanted = normalised(model)
    matching = [release for release in releases().values() if normalised(release.model) == wanted]
    return sorted(matching, key=lambda release: release.name)


def resolve(recipe: Recipe) -> list[Resolved]:
    """Return every SAE of a recipe with its release and id, in the order of `Recipe.places`.

    Raises RecipeError: the installed registry has no such release or id.
    """
    return [resolve_one(recipe, layer, source) for layer, source in recipe.places]


def resolve_one(recipe: Recipe, layer: int, source: SaeSource) -> Resolved:
    """Return one SAE of a recipe with its id, in which `{l0}` is the published L0 nearest to `l0`.

    A release that is a Hugging Face repository (with a `/`) is not looked up.

    Raises RecipeError: the installed registry has no such release or id.
    """
    name = recipe.sae_name(source, layer)
    if source.release is None:
        return Resolved(layer, source, "", name)
    release = recipe.release_name(source)
    known = releases().get(release)
    if known is None and "/" in release and "{l0}" not in name:
        return Resolved(layer, source, release, name)
    if known is None:
        raise _unknown(recipe, f"no release {release!r}", release, releases())
    id_in_release = _nearest_l0(name, source.l0, known.saes) if "{l0}" in name else name
    if id_in_release not in known.saes:
        raise _unknown(recipe, f"release {release} has no SAE {name!r}", name, known.saes)
    return Resolved(layer, source, release, str(id_in_release))


def _nearest_l0(pattern: str, wanted: int | None, ids: Collection[str]) -> str | None:
    """Return the id that matches the pattern with the L0 nearest to the wanted one; of two, the lower."""
    left, right = (re.escape(part) for part in pattern.split("{l0}", 1))
    fitting = {one: float(match[1]) for one in ids if (match := re.fullmatch(rf"{left}(\d+){right}", one))}
    return min(fitting, key=lambda one: (abs(fitting[one] - (wanted or 0)), fitting[one]), default=None)


def _unknown(recipe: Recipe, what: str, name: str, known: Collection[str]) -> RecipeError:
    close = difflib.get_close_matches(name, list(known), n=NEAREST, cutoff=0.0)
    offered = ", ".join(repr(one) for one in close)
    return RecipeError(
        f"{recipe.file}: {what} in the registry of sae_lens {version('sae_lens')}; nearest: {offered}; "
        "a later sae_lens may have it: pip install -U sae_lens"
    )
