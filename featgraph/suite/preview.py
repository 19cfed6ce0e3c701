"""Lists the shipped recipes, and what an ingest would fetch and write, as rows to show.

Sizes are bytes for programs and text for people. Reads recipes and sae_lens's registry; fetches nothing.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from featgraph.core.result import Result
from featgraph.recipe import Recipe, all_recipes
from featgraph.suite import registry
from featgraph.suite.advice import runs, sae_layers
from featgraph.suite.estimate import Estimate, estimate, human
from featgraph.suite.fits import check_folder_context
from featgraph.suite.layouts import layout_of
from featgraph.suite.memory import SHARE
from featgraph.suite.sae_configs import check_folder

Size = Callable[[int | None], object]


def _bytes(size: int | None) -> object:
    return size


def shipped_recipes(*, people: bool) -> Result:
    """Return one row per shipped recipe at its default width; sizes as readable text for people, else in
    bytes."""
    size: Size = human if people else _bytes
    kind = "VARCHAR" if people else "BIGINT"
    columns = {
        "name": "VARCHAR",
        "model": "VARCHAR",
        "sites": "VARCHAR[]",
        "layers": "INTEGER",
        "width": "VARCHAR",
        "widths": "VARCHAR[]",
        "features": "BIGINT",
        "download": kind,
        "disk": kind,
        "memory": kind,
        "title": "VARCHAR",
        "file": "VARCHAR",
    }
    rows: list[tuple[object, ...]] = []
    for recipe in all_recipes():
        needs = estimate(recipe)
        rows.append(
            (
                recipe.name,
                recipe.model_name,
                list(recipe.sites),
                recipe.layers,
                recipe.width.name if recipe.width else None,
                [width.name for width in recipe.widths],
                needs.features,
                size(needs.download),
                size(needs.building),
                size(needs.memory),
                recipe.title,
                str(recipe.file),
            )
        )
    return Result.of(columns, rows)


def sites(
    recipe: Recipe, resolved: list[registry.Resolved], needs: Estimate, *, people: bool = True
) -> Result:
    """Return the names and sizes of each site's SAEs, one row per site; sizes as in `shipped_recipes`."""
    amount: Size = human if people else _bytes
    rows: list[tuple[object, ...]] = []
    for size in needs.sites:
        of_site = [one for one in resolved if one.source.site == size.site]
        first, last = of_site[0], of_site[-1]
        known = [registry.expected(one.release, one.sae_id)[1] for one in of_site]
        l0s = sorted(l0 for l0 in known if l0 is not None)
        rows.append(
            (
                size.site,
                size.n_saes,
                runs([one.layer for one in of_site]),
                first.release or "beside the recipe",
                first.sae_id if first.sae_id == last.sae_id else f"{first.sae_id} ... {last.sae_id}",
                size.features,
                f"{l0s[0]:g}-{l0s[-1]:g}" if l0s else None,
                amount(size.download),
                amount(size.vectors),
                amount(size.codes),
            )
        )
    columns = ["site", "SAEs", "layers", "release", "ids", "features", "L0", "download", "vectors", "codes"]
    numbers = {"SAEs", "features"} | (set() if people else {"download", "vectors", "codes"})
    return Result(columns, rows, ["BIGINT" if name in numbers else "VARCHAR" for name in columns])


def totals(recipe: Recipe, needs: Estimate, *, people: bool = True) -> Result:
    """Return the sizes of the whole ingest with their reasons; sizes as text, for programs only digits."""
    amount = _known if people else _digits
    saes = sum(site.n_saes for site in needs.sites)
    width = f" at width {recipe.width.name}" if recipe.width and len(recipe.widths) > 1 else ""
    text = recipe.text and (recipe.text.dataset or recipe.as_written(recipe.text.path))
    of_saes = sum(site.download or 0 for site in needs.sites)
    download = (
        f"{human(of_saes)} of SAEs and {human(needs.model_download) or 'an unknown size'} of the model, "
        "less what is in the cache"
    )
    rows: list[tuple[object, ...]] = [
        ("model", recipe.model_name, f"{recipe.layers} layers, {saes} SAEs{width}: {sae_layers(recipe)}"),
        (
            "features",
            None if needs.features is None else f"{needs.features:{',' if people else ''}}",
            "of all SAEs",
        ),
        (
            "tokens",
            f"{needs.tokens:{',' if people else ''}}",
            f"at most, of {text}" if text else "data-free: no text is read",
        ),
        ("download", amount(needs.download), download),
        ("disk, building", amount(needs.building), "at most, beside the download"),
        ("disk, after", amount(needs.graph), "the graph, at most"),
        (
            "memory",
            amount(needs.one_pass),
            "at least"
            if recipe.text is None
            else f"to read the text once; with {amount(needs.memory)} at least, it is read more often",
        ),
    ]
    return Result.of(dict.fromkeys(("what", "amount", "note"), "VARCHAR"), rows)


def _known(size: int | None) -> str:
    return "not known" if size is None else human(size)


def _digits(size: int | None) -> str | None:
    return None if size is None else str(size)


def dry_run(recipe: Recipe, *, people: bool = True) -> tuple[Result, Result, Estimate]:
    """Return the sizes of an ingest per site and in total, after looking up every SAE in the registry.

    Raises RecipeError: the registry has no such SAE. SourceError: a local file is missing, or describes an
    SAE that ingest does not support.
    """
    check_folder_context(recipe)
    resolved = registry.resolve(recipe)
    for one in resolved:
        if one.source.path is not None:
            folder = recipe.folder / one.sae_id
            hook = recipe.hook_name(one.source, one.layer)
            check_folder(folder, layout_of(folder, str(recipe.file)), hook, str(recipe.file))
    expected = {
        (one.source.site, one.layer): registry.expected(one.release, one.sae_id)[1] for one in resolved
    }
    needs = estimate(recipe, {place: l0 for place, l0 in expected.items() if l0 is not None})
    return (
        sites(recipe, resolved, needs, people=people),
        totals(recipe, needs, people=people),
        needs,
    )


def shortages(needs: Estimate, out: Path) -> list[str]:
    """Return warnings about too little disk space or memory for an ingest to `out`."""
    folder = next(parent for parent in [out.absolute(), *out.absolute().parents] if parent.exists())
    free = shutil.disk_usage(folder).free
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    warnings = []
    if needs.building is not None and needs.building > free:
        warnings.append(f"{folder} has {human(free)} free, and building takes up to {human(needs.building)}")
    if needs.memory is not None and needs.memory > memory:
        warnings.append(
            f"this machine has {human(memory)} of memory, and the ingest needs at least {human(needs.memory)}"
        )
    elif needs.one_pass is not None and needs.one_pass > SHARE * memory:
        warnings.append(
            f"this machine has {human(memory)} of memory; with the {human(needs.one_pass)} for all SAEs at "
            "once, the model would run over the text only once"
        )
    return warnings


def other_models(recipe: Recipe) -> list[str]:
    """Return warnings about releases made for a model other than the recipe's."""
    if recipe.model.hf is None:
        return []
    warnings = []
    for source in recipe.sources:
        known = registry.releases().get(recipe.release_name(source)) if source.release else None
        if known and registry.normalised(known.model) != registry.normalised(recipe.model.hf):
            warnings.append(f"release {known.name} was made for {known.model}, not {recipe.model.hf}")
    return warnings
