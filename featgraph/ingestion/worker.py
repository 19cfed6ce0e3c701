"""The state that the steps of one process share: recipe, build directory, the model and SAEs in memory."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph import suite
from featgraph.activations import Batch, TokenRows, Tokens, codes, massive
from featgraph.activations.statistics import Moments
from featgraph.core.arrays import Matrix
from featgraph.core.keys import SaeRange, Site
from featgraph.edges.candidates import Candidates
from featgraph.errors import SourceError
from featgraph.ingestion.step_files import Arrays, StepFiles
from featgraph.recipe import Recipe
from featgraph.store import new_graph, vectors, vectors_file
from featgraph.suite import LanguageModel, LoadedSae, self_check

Place = tuple[int, Site]
"""Layer and site of one SAE."""


class Stopped(Exception):
    """The build was interrupted while this step ran."""


def pair_name(upstream: SaeRange, downstream: SaeRange) -> str:
    """Return the name of the files that join two SAEs."""
    return f"{upstream.name}-{downstream.name}"


class Worker:
    """One process at work on one build."""

    def __init__(self, recipe: Recipe, root: Path, stop: Event | None = None) -> None:
        self.recipe = recipe
        self.work = StepFiles(root)
        self._stop = stop
        self._group: dict[Place, LoadedSae] = {}
        self._unembedding: Matrix | None = None
        self._lock = Lock()
        self._no_model = ""

    def check_stopped(self) -> None:
        """Leave a long step when the build has been interrupted."""
        if self._stop is not None and self._stop.is_set():
            raise Stopped

    # The model and its SAEs.

    @cached_property
    def meta_model(self) -> LanguageModel:
        """The model's shape and tokenizer; single weights are read when they are asked for."""
        return suite.load_meta_model(self.recipe)

    @cached_property
    def shape(self) -> LanguageModel | None:
        """The meta_model; None for a graph of directions alone whose model is not to be had."""
        try:
            return self.meta_model
        except SourceError as error:
            if self.recipe.text is not None:
                raise
            self._no_model = str(error)
            return None

    @cached_property
    def model(self) -> LanguageModel:
        """The model with its weights, checked to be as the other steps take it to be."""
        loaded = suite.load_model(self.recipe)
        self_check.check_model(loaded, self.unembedding)
        return loaded

    @property
    def unembedding(self) -> Matrix:
        """Output embedding rows, (n_vocabulary, d_model); read once, whichever thread asks first."""
        with self._lock:
            if self._unembedding is None:
                self._unembedding = self.meta_model.unembedding
        return self._unembedding

    def release(self) -> None:
        """Free the model and the SAEs, which only the stage that has ended needed."""
        self._group = {}
        self.__dict__.pop("model", None)

    def load(self, place: Place, model: LanguageModel | None = None) -> LoadedSae:
        """Load one SAE, to be run in `model` or, without one, only for its weights."""
        layer, site = place
        [source] = [one for one in self.recipe.sources if one.site == site]
        try:
            return suite.load_sae(self.recipe, source, layer, model or self.shape)
        except SourceError as error:
            if self._no_model:
                error.add_note(f"its model was not to be had: {self._no_model}")
            raise

    def group(self, places: Sequence[Place]) -> list[LoadedSae]:
        """Return several SAEs ready to run, which stay in memory until another group is asked for."""
        self._group = {place: loaded for place, loaded in self._group.items() if place in places}
        new = [self._same(self.load(place, self.model)) for place in places if place not in self._group]
        if new:
            assert self.recipe.text is not None, "only what reads a text is run"
            for loaded in new:
                self_check.check_sae(self.model, loaded)
            opening = massive.opening_rows(self.token_rows(0))
            limited = massive.with_limits(self.model, new, opening, self.recipe.text.massive)
            self._group |= {(loaded.layer, loaded.site): loaded for loaded in limited}
        return [self._group[place] for place in places]

    def _same(self, loaded: LoadedSae) -> LoadedSae:
        """Return an SAE that is the one whose directions were taken.

        Raises SourceError: it was replaced since.
        """
        if loaded.digest != self.sae_metadata(loaded.name)["sha256"]:
            raise SourceError(
                f"the SAE {loaded.sae_id} was replaced while it was being ingested; give the command again"
            )
        return loaded

    # The files of earlier steps.

    def sae_metadata(self, name: str) -> dict[str, Any]:
        """Return the identity and the shape of one SAE, by its name."""
        return self.work.json(f"saes/{name}.json")

    def directions(self, sae: SaeRange) -> Matrix:
        """Return the unit decoder directions of one SAE, (n_features, d_model)."""
        return vectors.directions(vectors_file(new_graph(self.work.root), sae))

    def live_directions(self, sae: SaeRange) -> Matrix:
        """Return the directions of the features that fire on the text; without a text, of all features."""
        directions = self.directions(sae)
        return directions[self.moments(sae).n_active > 0] if self.n_shards else directions

    def sae_arrays(self, sae: SaeRange) -> Arrays:
        """Return numbers of one SAE's features: `norms` of decoder rows, `encoder_alignment` if known."""
        return self.work.arrays(f"saes/{sae.name}.npz")

    def candidates(self, name: str) -> Candidates:
        """Return the cosine candidates of one pair of SAEs."""
        return Candidates(**self.work.arrays(f"candidates/{name}.npz"))

    @property
    def n_shards(self) -> int:
        """Number of shards of the text; 0 for a graph of directions alone."""
        return 0 if self.recipe.text is None else len(self.work.json("text.json")["n_tokens"])

    @property
    def n_tokens(self) -> int:
        """Tokens that the statistics count."""
        return sum(self.work.json("text.json")["n_tokens"])

    def token_rows(self, shard: int) -> TokenRows:
        """Return the token rows of one shard of the text."""
        arrays = self.work.arrays(f"text/{shard:05}.npz")
        ends = arrays["lengths"].cumsum()
        rows = [arrays["ids"][end - n : end] for end, n in zip(ends, arrays["lengths"], strict=True)]
        return TokenRows(
            rows, frozenset(arrays["special"].tolist()), int(arrays["first"]), bool(arrays["without_bos"])
        )

    def tokens(self, shard: int) -> Tokens:
        """Return the place in the text of each row of one shard's codes."""
        return Tokens.joined(list[Batch](self.token_rows(shard).batches()))

    def codes(self, sae: SaeRange) -> Iterator[scipy.sparse.csr_matrix]:
        """Yield the codes of one SAE, (n_tokens, n_features), shard by shard."""
        for shard in range(self.n_shards):
            self.check_stopped()
            yield codes.unpack(self.work.arrays(f"codes/{sae.name}/{shard:05}.npz"))

    def rebuilt(self, sae: SaeRange) -> Iterator[Arrays]:
        """Yield the sums behind one SAE's explained variance, shard by shard."""
        for shard in range(self.n_shards):
            yield self.work.arrays(f"rebuilt/{sae.name}/{shard:05}.npz")

    def massive(self, sae: SaeRange, shard: int) -> NDArray[np.bool_]:
        """Return which tokens of a shard do not count at one SAE's site, (n_tokens,)."""
        left_out = np.zeros(self.work.json("text.json")["n_tokens"][shard], dtype=np.bool_)
        left_out[self.work.arrays(f"rebuilt/{sae.name}/{shard:05}.npz")["massive"]] = True
        return left_out

    def n_counted(self, sae: SaeRange) -> int:
        """How many tokens count at one SAE's site."""
        return self.n_tokens - int(self.work.json(f"moments/{sae.name}.json")["n_massive"])

    def moments(self, sae: SaeRange) -> Moments:
        """Return the moments of one SAE's activations."""
        return Moments.of(self.work.arrays(f"moments/{sae.name}.npz"))
