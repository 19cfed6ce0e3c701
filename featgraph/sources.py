"""The language model and the SAEs that a graph was made of, loaded again and held against its manifest.

A graph holds neither: its manifest names them, with the sha256 of each.
"""

import tomllib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from featgraph.errors import SourceError, UsageError
from featgraph.model import Slab
from featgraph.store import Store

if TYPE_CHECKING:
    from featgraph.activations import Pieces
    from featgraph.recipe import Recipe
    from featgraph.suite import LanguageModel, LoadedSae


class Sources:
    """What a graph was made of; loaded when it is asked for."""

    def __init__(self, store: Store) -> None:
        self.path, self.slabs, self.manifest = store.path, store.slabs, store.manifest
        self._kept: WeakKeyDictionary[Any, dict[int, LoadedSae]] = WeakKeyDictionary()

    @cached_property
    def recipe(self) -> "Recipe":
        """The recipe that the graph was made of: a shipped one, or beside the graph, or in this folder.

        Raises SourceError: there is none, or what is there has changed since.
        """
        from featgraph.recipe import choose, read_recipe
        from featgraph.shipped import shipped

        as_read = dict(self.manifest["recipe"])
        name = f"{as_read.pop('name')}.toml"
        folders = [shipped("ingest"), self.path.parent, Path()]
        for folder in folders:
            try:
                same = tomllib.loads((folder / name).read_text(encoding="utf-8")) == as_read
            except (OSError, ValueError):
                continue
            if same:
                return choose(read_recipe(folder / name), self.manifest["chosen"])
        raise SourceError(
            f"cannot find the language model of {self.path} again: its recipe {name} is not among the "
            f"shipped ones, and not, as it was read, in {self.path.parent} or this folder; run this where "
            "the recipe is"
        )

    @cached_property
    def model(self) -> "LanguageModel":
        """The language model with its tokenizer.

        Raises SourceError: it is not there, not the one that the graph was made of, or there was none.
        """
        from featgraph import suite

        if "sha256" not in self.manifest["model"]:
            raise SourceError(f"{self.path} was made from directions alone, so it knows no language model")
        model = suite.load_model(self.recipe)
        self._check(f"the model {model.name}", model.digest, self.manifest["model"])
        return model

    @property
    def context(self) -> int:
        """Tokens of one piece of text.

        Raises SourceError: the graph was made without a text.
        """
        if self.recipe.text is None:
            raise SourceError(f"{self.path} was made without a text, so nothing says how to cut one")
        return self.recipe.text.context

    def sae(self, slab: Slab, model: "LanguageModel | None" = None, *, keep: bool = False) -> "LoadedSae":
        """Return one SAE, ready to run in a language model; None: this graph's own.

        keep: hold it in memory for the next time; a whole suite may be larger than memory is.

        Raises SourceError: it is not there, not the one that the graph was made of, or holds decoders only.
        """
        from featgraph import suite

        model = model or self.model
        kept = self._kept.setdefault(model.model, {})
        if slab.slab in kept:
            return kept[slab.slab]
        [source] = [source for source in self.recipe.sources if source.site == slab.site]
        loaded = suite.load_sae(self.recipe, source, slab.layer, model)
        self._check(f"the SAE {loaded.sae_id}", loaded.digest, self.manifest["saes"][slab.slab])
        if loaded.sae is None or loaded.reading is None:
            raise SourceError(f"{loaded.sae_id} holds decoders only, which encode nothing")
        if keep:
            kept[slab.slab] = loaded
        return loaded

    def pieces(self, text: str) -> "Pieces":
        """Cut a text into pieces as an ingest does.

        Raises UsageError: the text has no tokens.
        """
        from featgraph.activations import Pieces

        tokenizer = self.model.tokenizer
        bos = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        width = self.context - len(bos)
        starts = range(0, len(ids), width)
        rows = [np.array(bos + ids[start : start + width], dtype=np.int32) for start in starts]
        pieces = Pieces(rows, frozenset(int(token) for token in tokenizer.all_special_ids))
        if pieces.n_tokens == 0:
            raise UsageError(f"the text {text!r} has no tokens")
        return pieces

    def _check(self, what: str, digest: str, known: dict[str, Any]) -> None:
        if digest != known["sha256"]:
            raise SourceError(
                f"{what} is not the one that {self.path} was made of: its sha256 is {digest[:12]}..., the "
                f"manifest says {known['sha256'][:12]}...; build the graph again"
            )
