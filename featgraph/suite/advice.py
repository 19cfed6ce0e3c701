"""Describes the layers of a recipe: those with SAEs, and the edges that its SAEs do not allow."""

from collections.abc import Sequence
from itertools import pairwise

from featgraph.core.keys import Site
from featgraph.recipe import Recipe


def runs(layers: Sequence[int]) -> str:
    """Return layers as text, consecutive ones as ranges.

    >>> runs([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    ordered = sorted(set(layers))
    parts: list[list[int]] = []
    for layer in ordered:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def sae_layers(recipe: Recipe) -> str:
    """Return the layers that have SAEs, site by site."""
    return "; ".join(f"{source.site} at {runs(source.layers)}" for source in recipe.sources)


def impossible_edges(recipe: Recipe) -> list[str]:
    """Return a sentence for each edge kind of the recipe that its SAEs do not allow, or only at some
    layers."""
    at: dict[Site, set[int]] = {source.site: set(source.layers) for source in recipe.sources}
    residual = at.get("res", set())
    sentences = []
    if "res_res" in recipe.edges.kinds:
        if len(residual) < 2:
            sentences.append(
                "res_res: there are not two layers with a res SAE, so there will be no such edges"
            )
        gaps = [pair for pair in pairwise(sorted(residual)) if pair[1] > pair[0] + 1]
        if gaps:
            named = ", ".join(f"{low} to {high}" for low, high in gaps[:3])
            sentences.append(f"res_res: layers between have no res SAE, so edges go over them ({named})")
    for site in ("mlp", "att"):
        writers = at.get(site, set())
        if not writers or f"{site}_res" not in recipe.edges.kinds:
            continue
        alone = sorted(writers - residual)
        if not writers & residual:
            where = f"{site} at {runs(sorted(writers))}, res at {runs(sorted(residual))}"
            sentences.append(f"{site}_res: no layer has both SAEs ({where}), so there will be no such edges")
        elif alone:
            sentences.append(f"{site}_res: none from {site} at {runs(alone)}, where there is no res SAE")
    return sentences
