"""The language model and the SAEs that a graph was made of, loaded again and held against its manifest.

A graph holds neither: its manifest names them, with the sha256 of each.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from featgraph.core.bounded import read_text, toml_value
from featgraph.core.keys import SaeRange
from featgraph.errors import SourceError
from featgraph.store import Store

if TYPE_CHECKING:
    from featgraph.recipe import Recipe
    from featgraph.suite import LanguageModel, LoadedSae


class GraphSuite:
    """The model, SAEs and recipe that a graph was made from, loaded on demand."""

    def __init__(self, store: Store) -> None:
        self.path, self.saes, self.manifest = store.path, store.saes, store.manifest
        self._massive_norms = dict(store.rows("select number, massive_norm from sae"))
        self._kept: WeakKeyDictionary[Any, dict[int, LoadedSae]] = WeakKeyDictionary()

    @cached_property
    def recipe(self) -> "Recipe":
        """The recipe of the graph: a shipped one, or one beside the graph or in the current folder.

        Raises SourceError: no such recipe, or it has changed since the ingest.
        """
        from featgraph.core.shipped import shipped
        from featgraph.recipe import read_recipe

        as_read = dict(self.manifest["recipe"])
        name = f"{as_read.pop('name', '')}.toml"
        folders = [shipped("ingest"), self.path.parent, Path()]
        for folder in folders:
            try:
                same = toml_value(read_text(folder / name)) == as_read
            except (OSError, ValueError):
                continue
            if same:
                return self._chosen(read_recipe(folder / name))
        raise SourceError(
            f"cannot find the language model of {self.path} again: its recipe {name} is not a "
            f"shipped one, and not in its original form in {self.path.parent} or this folder; run this where "
            "the recipe is"
        )

    def _chosen(self, recipe: "Recipe") -> "Recipe":
        from featgraph.recipe import choose

        try:
            return choose(recipe, self.manifest["chosen"])
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(
                f"the manifest of {self.path} does not record the choices made from its recipe: {error}"
            ) from error

    @cached_property
    def model(self) -> "LanguageModel":
        """The language model with its tokenizer.

        Raises SourceError: the model is missing, differs from the graph's model, or fails the self-check, or
        the graph has no model.
        """
        from featgraph import suite
        from featgraph.suite import self_check

        if "sha256" not in self.manifest["model"]:
            raise SourceError(f"{self.path} was made from directions alone, so it has no language model")
        model = suite.load_model(self.recipe)
        self._check(f"the model {model.name}", model.digest, self.manifest["model"])
        self_check.check_model(model)
        return model

    @property
    def context(self) -> int:
        """Length of a token row.

        Raises SourceError: the graph was made without a text.
        """
        if self.recipe.text is None:
            raise SourceError(f"{self.path} was made without a text, so its token rows have no length")
        return self.recipe.text.context

    def sae(
        self, sae_range: SaeRange, model: "LanguageModel | None" = None, *, keep: bool = False
    ) -> "LoadedSae":
        """Return one SAE, ready to run in a language model; None: this graph's own.

        keep: keep the SAE in memory; a whole suite may exceed the memory.

        Raises SourceError: the SAE is missing, differs from the graph's SAE, or has only a decoder.
        """
        from featgraph import suite
        from featgraph.suite import self_check

        model = model or self.model
        kept = self._kept.setdefault(model.model, {})
        if sae_range.number in kept:
            return kept[sae_range.number]
        [source] = [source for source in self.recipe.sources if source.site == sae_range.site]
        loaded = suite.load_sae(self.recipe, source, sae_range.layer, model)
        self._check(f"the SAE {loaded.sae_id}", loaded.digest, self.manifest["saes"][sae_range.number])
        if loaded.sae is None or loaded.reading is None:
            raise SourceError(f"{loaded.sae_id} has only a decoder, so it cannot encode")
        self_check.check_sae(model, loaded)
        loaded = replace(loaded, massive_norm=self._massive_norms[sae_range.number])
        if keep:
            kept[sae_range.number] = loaded
        return loaded

    def _check(self, what: str, digest: str, known: dict[str, Any]) -> None:
        if digest != known["sha256"]:
            raise SourceError(
                f"{what} is not the one that {self.path} was made from: its sha256 is {digest[:12]}..., the "
                f"manifest says {known['sha256'][:12]}...; build the graph again"
            )
