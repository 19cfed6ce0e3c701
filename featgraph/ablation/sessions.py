"""The model, the text and the SAEs of one ablation, loaded for one downstream SAE after the other."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from featgraph.ablation.firing import Text
from featgraph.activations import read_shards
from featgraph.activations.documents import text_digest
from featgraph.errors import SourceError
from featgraph.recipe import TextSource
from featgraph.store import Store
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.graph_suite import GraphSuite
from featgraph.suite.memory import groups_that_fit, memory, sae_bytes

SHARE = 0.5
"""Share of the memory for SAEs; the model, what it reads and the codes take the rest. Our choice."""


class Session:
    """A graph's model and SAEs, and a text to run them on."""

    def __init__(self, store: Store, place: str | None, most: int | None) -> None:
        """place: another text than the recipe's. most: another number of tokens than the recipe's.

        Raises SourceError: the graph was made without a model or a text. UsageError: there is no such text.
        """
        self.suite = GraphSuite(store)
        self.sae_ranges = store.saes
        self._store = store
        recipe = self.suite.recipe
        if recipe.text is None:
            raise SourceError(
                f"{store.path} was made without a text, so nothing in it ever fired and no model was run; "
                "build it from a recipe with a [text] to ablate its edges"
            )
        recipe = recipe if place is None else recipe.with_text(place)
        self.recipe = recipe if most is None else recipe.with_tokens(most)
        self._held: dict[int, LoadedSae] = {}

    @property
    def source(self) -> TextSource:
        """The text that is read."""
        assert self.recipe.text is not None, "checked above"
        return self.recipe.text

    @cached_property
    def model(self) -> LanguageModel:
        """The graph's language model."""
        return self.suite.model

    @cached_property
    def text(self) -> Text:
        """The text, tokenised."""
        return Text(list(read_shards(self.source, self.model.tokenizer)))

    def rounds(self, needed: Mapping[int, Iterable[int]]) -> list[list[int]]:
        """Group tasks so that the SAEs of a group fit in memory together.

        needed: the SAEs of each task; one that needs more than fits comes alone.
        """
        return list(
            groups_that_fit(
                needed,
                lambda tasks: self._size({sae for task in tasks for sae in needed[task]}),
                SHARE * memory(),
            )
        )

    def _size(self, numbers: set[int]) -> int:
        """Return the bytes of some SAEs; they read d_model or fewer."""
        width = self.model.d_model
        ranges = [self.sae_ranges[number] for number in numbers]
        return sum(sae_bytes(sae.n_features, width, width, residual=sae.site == "res") for sae in ranges)

    @cached_property
    def downstream(self) -> list[int]:
        """The SAEs that have incoming edges.

        Raises SourceError: there are none.
        """
        rows = self._store.rows(
            "select distinct dst_sae from pair where n_edges > 0 and kind <> 'far' order by all"
        )
        if not rows:
            raise SourceError(
                f"{self._store.path} has no edges, so nothing upstream of anything can be removed"
            )
        return [sae for (sae,) in rows]

    def saes(self, numbers: Iterable[int]) -> dict[int, LoadedSae]:
        """Return some SAEs; release those of the last call that are not among them."""
        wanted = list(numbers)
        self._held = {sae: self._held[sae] for sae in wanted if sae in self._held}
        for sae in wanted:
            if sae not in self._held:
                self._held[sae] = self.suite.sae(self.sae_ranges[sae])
        return {sae: self._held[sae] for sae in wanted}

    def identity(self) -> dict[str, Any]:
        """Return the record of the text for the manifest."""
        source = self.source
        return {
            "path": self.recipe.as_written(source.path) if source.path else None,
            "dataset": source.dataset,
            "sha256": text_digest(source),
            "n_tokens": self.text.n_tokens,
        }
