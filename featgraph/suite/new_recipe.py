"""Writes a first recipe for a model: from what the registry has for it, or from folders of one's own SAEs.

Picks what covers most layers and says in the file what else there is, so that a person can choose otherwise.
Which SAEs belong together is for `families` to say.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from featgraph.core.files import output_file
from featgraph.core.keys import SITES, Site
from featgraph.errors import SourceError, UsageError, nearest
from featgraph.recipe import Recipe, read_recipe
from featgraph.suite.families import Family, own_families, released_families
from featgraph.suite.layouts import read_config
from featgraph.suite.registry import Release, normalised, releases, releases_of, resolve

COMMENTS = {
    "res": "the residual stream after the block",
    "mlp": "the MLP's output as added to the residual",
    "att": "the attention's output, mapped to where it is added to the residual",
}


@dataclass(frozen=True)
class _Draft:
    """The content of the new recipe."""

    model: str
    folder: Path
    """Folder of the recipe, to which its paths are relative."""
    chosen: dict[Site, Family]
    others: list[Family]
    """Families that were not chosen."""
    text: str | None = None
    """A file, a folder or a dataset; None for the default dataset."""

    @property
    def config(self) -> dict[str, Any]:
        """The config.json of a model in a folder; empty for a model on the Hub."""
        path = Path(self.model) / "config.json"
        values = read_config(path) if path.is_file() else {}
        part: dict[str, Any] = values.get("text_config") or values
        return part


def short_name(model: str) -> str:
    """Return the default name of a recipe for a model."""
    return Path(model).name or "recipe"


def write_recipe(
    model: str,
    path: Path,
    *,
    releases: Sequence[str] = (),
    saes: Path | None = None,
    text: str | None = None,
    force: bool = False,
) -> Recipe:
    """Write a recipe for a model, and return the recipe read from the file.

    releases: use only these, instead of all in the registry for the model. saes: a folder with SAEs,
    preferred to any release. text: a file or folder, or a Hugging Face dataset. force: replace what is at
    `path`.

    Raises UsageError: nothing is known for the model, or the file is there. SourceError: no SAE in `saes`.
    """
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; --force replaces it, -o writes another file")
    if path.suffix != ".toml":
        raise UsageError(f"{str(path)!r} does not end in .toml, as a recipe must")
    own = own_families(saes) if saes is not None else []
    available = [] if saes is not None and not releases else _releases(model, releases)
    published = [family for release in available for family in released_families(release)]
    families = _chosen(published, own)
    if "res" not in families:
        where = str(saes) if saes is not None else f"the releases for {model}"
        raise UsageError(f"{where}: no SAE of the residual stream, which every suite needs")
    others = [family for family in published if family not in families.values()]
    draft = _Draft(model, path.absolute().parent, families, others, text)
    with output_file(path) as partial:
        partial.write_text(_text(draft), encoding="utf-8")
        resolve(read_recipe(partial))
    return read_recipe(path)


def _releases(model: str, names: Sequence[str]) -> list[Release]:
    known = releases()
    for name in names:
        if name not in known:
            raise UsageError(
                f"no release {name!r} in the registry of sae_lens {version('sae_lens')}{nearest(name, known)}"
            )
    chosen_releases = [known[name] for name in names] or releases_of(model)
    if not chosen_releases:
        models = sorted({normalised(release.model) for release in known.values()})
        hint = nearest(normalised(model), models)
        raise UsageError(
            f"sae_lens {version('sae_lens')} knows no SAEs for {model!r}{hint or ';'} "
            "with SAEs of your own, add --saes DIR"
        )
    return chosen_releases


def _chosen(published: list[Family], own: list[Family]) -> dict[Site, Family]:
    """Return site -> family: preferably the user's own, or else published families of one suite."""
    chosen: dict[Site, Family] = {}
    for site in reversed(SITES):
        like = chosen["res"].release if "res" in chosen else ""
        for families in (published, own):
            if best := _best([family for family in families if family.site == site], like):
                chosen[site] = best
    return chosen


def _best(families: list[Family], like: str) -> Family | None:
    """Return the family with the most layers; of several, the plainest, then one of the same suite as `like`.

    If several remain, the smallest.
    """

    def words(release: str) -> set[str]:
        return set(re.split(r"[-_]", release))

    def rank(one: Family) -> tuple[object, ...]:
        odd = one.transcoder, "resid_pre" in one.pattern, "canonical" not in one.pattern
        numbers = [int(number) for number in re.findall(r"\d+", one.release)]
        return -len(one.layers), *odd, -len(words(one.release) & words(like)), numbers, one.pattern

    return min(families, key=rank, default=None)


def _text(draft: _Draft) -> str:
    sites = draft.chosen
    count = max(max(family.layers) for family in sites.values()) + 1
    # Prefer the model's number of blocks to the number of layers with SAEs.
    count = max(count, draft.config.get("num_hidden_layers") or draft.config.get("n_layer") or 0)
    parts = [
        f"# SAEs on {short_name(draft.model)}. Written by `featgraph recipe init`, to be read and changed.",
        f"title = {json.dumps('SAEs on ' + short_name(draft.model))}\n"
        "seed = 0                                # of the null that thresholds are set against",
        _model(draft),
        _suite(sites, count),
        *(
            _site(site, sites[site], draft.folder, count, _widths(sites["res"]))
            for site in reversed(SITES)
            if site in sites
        ),
    ]
    if draft.others:
        parts.append(_alternatives(draft.others))
    parts.append(_reading(draft))
    return "\n\n".join(parts) + "\n"


def _alternatives(others: list[Family]) -> str:
    """Return a comment that lists the families that were not chosen, one line per site and release."""
    groups: dict[tuple[Site, str], list[Family]] = {}
    for family in others:
        groups.setdefault((family.site, family.release), []).append(family)
    lines = [f"# What else sae_lens {version('sae_lens')} has for this model (site, layers, release, ids):"]
    for (site, release), families in groups.items():
        fullest = max(families, key=lambda one: len(one.layers))
        widths = f", width {' '.join(fullest.widths)}" if fullest.widths else ""
        more = f", and {len(families) - 1} more such" if len(families) > 1 else ""
        lines.append(f"#   {site} {len(fullest.layers):3} {release}: {fullest.pattern}{widths}{more}")
    return "\n".join(lines)


_DATASET = """\
dataset = "monology/pile-uncopyrighted" # on the Hugging Face hub, streamed; or path = "a file or folder"
split = "train"
column = "text\""""

CONTEXT = 512
"""Tokens per row, if the model has so many positions. Our choice."""


def _reading(draft: _Draft) -> str:
    """Return the `[text]` table."""
    positions = draft.config.get("max_position_embeddings") or draft.config.get("n_positions") or CONTEXT
    context = f"context = {min(CONTEXT, positions)}"
    return "\n".join(
        [
            "[text]",
            _text_place(draft) if draft.text is not None else _DATASET,
            "tokens = 500_000                        # read at most so many",
            f"{context:<39} # longest piece the model sees at once",
            "",
            "# [edges] says how edges are searched for; its defaults are in ingest/README.md",
        ]
    )


def _text_place(draft: _Draft) -> str:
    """Return the keys of `[text]` for its place and its separator or column."""
    path = Path(str(draft.text))
    if not path.exists():
        return "\n".join([_line("dataset", str(draft.text)), 'split = "train"', 'column = "text"'])
    lines = [_line("path", os.path.relpath(path, draft.folder))]
    names = [path.name] if path.is_file() else [one.name for one in path.iterdir()]
    if any(part in name for name in names for part in (".json", ".csv", ".parquet")):
        return "\n".join([*lines, _line("column", "text")])
    separator = f"{_line('separator', _separator(path)):<39} # what stands between two documents"
    return "\n".join([*lines, separator])


def _separator(path: Path) -> str:
    """Guess the separator of documents from the beginning of a plain text."""
    if path.is_file():
        with path.open("rb") as handle:
            beginning = handle.read(BEGINNING)
        for mark in ("<|endoftext|>", "</s>", "<eos>"):
            if mark.encode() in beginning:
                return mark
    return "\n\n"


BEGINNING = 2**20
"""Bytes at the beginning of a text that are searched for a separator. Our choice."""


def _model(draft: _Draft) -> str:
    folder = Path(draft.model)
    local = folder.is_dir()
    source = _line("path", os.path.relpath(folder, draft.folder)) if local else _line("hf", draft.model)
    width = _d_model(folder / "config.json") if local else _cached_d_model(draft.model)
    lines = ["[model]", source]
    if width is not None:
        lines.append(f"d_model = {width}")
    elif not local:
        lines.append(
            "# d_model = 0                           # with it, and the next two, `featgraph recipes`"
        )
        lines.append(
            "# parameters = 0                        # and --dry-run can say what the ingest will take"
        )
        lines.append('# dtype = "bfloat16"')
    return "\n".join(lines)


def _d_model(path: Path) -> int | None:
    config = read_config(path)
    text = config.get("text_config", config)
    width = text.get("hidden_size") or text.get("n_embd")
    return int(width) if width else None


def _cached_d_model(model: str) -> int | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "config.json")
    except HFValidationError as error:
        raise UsageError(f"{model!r} is neither a folder nor a Hugging Face id; write org/name") from error
    try:
        return _d_model(Path(cached)) if isinstance(cached, str) else None
    except SourceError:
        return None


def _widths(family: Family) -> dict[str, int]:
    return {name: features for name, features in family.widths.items() if features}


def _suite(sites: dict[Site, Family], count: int) -> str:
    widths = _widths(sites["res"])
    lines = ["[suite]", f"layers = {count}"]
    if not widths:
        return "\n".join(lines)
    named = [f"{name} = {features:_}" for name, features in widths.items()]
    width = f"{_line('width', next(iter(widths))):<39} # which of the widths below"
    return "\n".join([*lines, width, "", "[suite.widths]", *named])


def _site(site: Site, family: Family, folder: Path, count: int, widths: dict[str, int]) -> str:
    lines = [f"[suite.sites.{site}]                       # {COMMENTS[site]}"]
    excepted = dict(family.exceptions)
    if family.folder is not None:
        start = os.path.relpath(family.folder, folder)
        lines.append(_line("path", f"{start}/{family.pattern}"))
        excepted = {layer: f"{start}/{name}" for layer, name in excepted.items()}
    else:
        lines += [_line("release", family.release), _line("id", family.in_width(bool(widths)))]
    if "{l0}" in family.pattern:
        lines.append("l0 = 100                                # {l0} is the published one nearest to this")
    if family.hook:
        lines.append(_line("hook", family.hook))
    if sorted(family.layers) != list(range(count)):
        lines.append(f"layers = {json.dumps(sorted(family.layers))}")
    if widths and family.folder is None and not set(widths) <= set(family.widths):
        lines.append(f"widths = {json.dumps([name for name in widths if name in family.widths])}")
    if excepted:
        lines += ["", f"[suite.sites.{site}.except]"]
        lines += [f"{layer} = {json.dumps(name)}" for layer, name in sorted(excepted.items())]
    return "\n".join(lines)


def _line(key: str, value: str) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
