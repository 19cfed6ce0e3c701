"""Groups SAEs whose names differ only in the layer into families, one per site.

Goes by names as releases and folders have them, and by an SAE's own config where there is one. Only drafts a
recipe: what a name means is settled when the SAE is loaded.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from featgraph.core.keys import Site
from featgraph.errors import SourceError
from featgraph.suite.layouts import LAYOUTS, Layout, layout_of, read_config
from featgraph.suite.registry import Release
from featgraph.suite.sae_configs import bare_layer

_LAYER = re.compile(r"(?<=layer_)\d+|(?<=layer)\d+|(?<=layers[._])\d+|(?<=blocks\.)\d+|(?<=\bl)\d+(?=[rma]_)")
"""Matches the layer number in ids of the registry: layer_3, layer3, layers.3, blocks.3, l3r_8x."""

_SITES: tuple[tuple[str, Site | None], ...] = (
    (r"resid[_-]?mid|embed|(?<![a-z])clt", None),
    (r"transcoder|(?<![a-z])mlp|(?<![a-z])lxm|(?<![a-z0-9])l\d+m_", "mlp"),
    (r"(?<![a-z])att|hook_z|(?<![a-z])lxa|(?<![a-z0-9])l\d+a_", "att"),
    (r"(?<![a-z])res(?![a-hj-z])|(?<![a-z])lxr|(?<![a-z0-9])l\d+r_", "res"),
)
"""(part of a name, site), in order of precedence; None: a site that graphs do not have."""

_THOUSANDS = {
    "16k": 2**14,
    "32k": 2**15,
    "65k": 2**16,
    "131k": 2**17,
    "262k": 2**18,
    "524k": 2**19,
    "1m": 2**20,
}
"""Name of a width -> number of features, as Gemma Scope rounds it. Source: sae_lens,
`get_gemma_2_config_from_hf`."""


@dataclass
class Family:
    """SAEs of one site, one per layer."""

    site: Site
    pattern: str
    """Pattern of the ids, or of the folders below `folder`, with {layer}, and {width} and {l0} if they
    vary."""
    layers: list[int]
    release: str = ""
    folder: Path | None = None
    hook: str = ""
    widths: dict[str, int] = field(default_factory=dict)
    """Value of {width} -> number of features; 0 if not known."""
    exceptions: dict[int, str] = field(default_factory=dict)
    transcoder: bool = False

    def in_width(self, named: bool) -> str:
        """Return the pattern, with its first width written out if the recipe names no widths."""
        return self.pattern if named else self.pattern.replace("{width}", next(iter(self.widths), ""))


def released_families(release: Release) -> list[Family]:
    """Return the families of a release, by site and pattern."""
    layers: dict[tuple[Site, str], dict[str, set[int]]] = {}
    for sae_id, sae in release.saes.items():
        site = _site(sae_id, sae.path, release.name, release.repo)
        match = _LAYER.search(sae_id)
        if site is None or match is None:
            continue
        pattern = sae_id[: match.start()] + "{layer}" + sae_id[match.end() :]
        pattern = re.sub(r"(?<=average_l0_)\d+", "{l0}", pattern)
        width = re.search(r"(?<=width_)\d+[km]", pattern)
        if width:
            pattern = pattern[: width.start()] + "{width}" + pattern[width.end() :]
        name = width[0] if width else ""
        layers.setdefault((site, pattern), {}).setdefault(name, set()).add(int(match[0]))
    families = []
    for (site, pattern), by_width in layers.items():
        most = max(by_width.values(), key=len)
        widths = {
            name: _THOUSANDS.get(name, 0) for name, present in by_width.items() if name and present == most
        }
        transcoder = "transcoder" in f"{release.name} {pattern}"
        families.append(
            Family(site, pattern, sorted(most), release.name, widths=widths, transcoder=transcoder)
        )
    return sorted(families, key=lambda one: (one.site, one.pattern))


def _site(*names: str) -> Site | None:
    """Return the site from the first name that contains one."""
    for name in names:
        for words, site in _SITES:
            if re.search(words, name.lower()):
                return site
    return None


def own_families(folder: Path) -> list[Family]:
    """Return the SAEs below a folder, one family per site.

    Raises SourceError: no SAE, or an SAE without a known layer and site.
    """
    weights = sorted(path for layout in LAYOUTS for path in folder.rglob(layout.weights))
    if not weights:
        known = ", ".join(layout.weights for layout in LAYOUTS)
        raise SourceError(f"no SAE below {folder}: no folder there has one of {known}")
    names_by_layer: dict[Site, dict[int, str]] = {}
    hooks: dict[Site, str] = {}
    for path in weights:
        place = path.parent
        layout = layout_of(place, str(folder))
        site, layer = _own_place(place, layout, folder)
        if layout.name == "sparsify" and bare_layer(place.name) is None:
            # In this layout, only the folder's name gives the module that the SAE reads.
            hooks[site] = re.sub(r"(?<=[._])\d+(?=[._])", "{layer}", place.name, count=1)
        name = place.relative_to(folder).as_posix()
        if layer in names_by_layer.setdefault(site, {}):
            raise SourceError(f"{folder}: {names_by_layer[site][layer]} and {name} are both {layer}/{site}")
        names_by_layer[site][layer] = name
    return [_own_family(site, names, folder, hooks.get(site, "")) for site, names in names_by_layer.items()]


def _own_place(place: Path, layout: Layout, folder: Path) -> tuple[Site, int]:
    """Return (site, layer) of an SAE, from the hook in its config or else from its path."""
    config = read_config(place / layout.config)
    trainer = config.get("trainer", {})
    hook = str(
        config.get("metadata", {}).get("hook_name")
        or config.get("hook_name")
        or trainer.get("submodule_name")
        or place.relative_to(folder).as_posix()
    )
    layer = trainer.get("layer")
    numbers = re.findall(r"\d+", hook)
    if layer is None and numbers:
        layer = int(numbers[0])
    bare = re.fullmatch(r"(?:[\w./]*[./])?(?:layers|h|blocks)[._]\d+", hook)
    # Without a module's name, dictionary_learning means the output of a block.
    whole = bare or (layout.name == "dictionary_learning" and not trainer.get("submodule_name"))
    site: Site | None = "res" if whole else _site(hook)
    if layer is None or site is None:
        raise SourceError(
            f"{place}: neither {layout.config} nor the name gives its layer and site ({hook!r})"
        )
    return site, int(layer)


def _own_family(site: Site, names: dict[int, str], folder: Path, hook: str) -> Family:
    """Return one site's SAEs under the pattern that most of them have; the others are exceptions."""
    patterns: Counter[str] = Counter()
    for layer, name in names.items():
        for found in re.finditer(rf"(?<!\d){layer}(?!\d)", name):
            patterns[name[: found.start()] + "{layer}" + name[found.end() :]] += 1
    pattern = patterns.most_common(1)[0][0] if patterns else names[min(names)]
    exceptions = {
        layer: name for layer, name in names.items() if pattern.replace("{layer}", str(layer)) != name
    }
    return Family(site, pattern, sorted(names), folder=folder, hook=hook, exceptions=exceptions)
