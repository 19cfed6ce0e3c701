"""The verbs of the language as methods of a graph that is open.

Each answers what its table macro of `verbs.sql` answers; what belongs to all of them is said there.
"""

from typing import TYPE_CHECKING

from featgraph.model import MODULE_THRESHOLD, FeatureKey, Score

if TYPE_CHECKING:
    from featgraph.result import Result
    from featgraph.store import Store


class Verbs:
    """What can be asked of a graph in one word.

    min: cosine threshold of residual edges; left out, each edge is held against its downstream SAE's
    `threshold_high`. writer_min: that of the edges by which mlp and att features write. hops: how many edges
    to go each way. layer: only events of this layer. evidence: an edge passes from `threshold_low` (or min)
    on if its ends fire together, and dead features have no events. All raise UsageError for a feature that
    does not exist or a value out of range.
    """

    store: "Store"

    def ancestors(
        self, key: str | FeatureKey, *, min: float | None = None, hops: int | None = None
    ) -> "Result":
        """Return everything upstream of a feature over residual edges that pass, in order of id."""
        return self._ask("ancestors", f=key, min=min, hops=hops)

    def descendants(
        self, key: str | FeatureKey, *, min: float | None = None, hops: int | None = None
    ) -> "Result":
        """Return everything downstream of a feature over residual edges that pass, in order of id."""
        return self._ask("descendants", f=key, min=min, hops=hops)

    def subgraph(
        self,
        key: str | FeatureKey,
        *,
        min: float | None = None,
        hops: int | None = None,
        writers: bool = True,
        writer_min: float = MODULE_THRESHOLD,
    ) -> "Result":
        """Return the edges of a feature's lineage."""
        return self._ask("subgraph", f=key, min=min, hops=hops, writers=writers, writer_min=writer_min)

    def paths(
        self,
        a: str | FeatureKey,
        b: str | FeatureKey,
        *,
        k: int = 1,
        min: float | None = None,
        by: Score = "product",
        writer_min: float = MODULE_THRESHOLD,
    ) -> "Result":
        """Return the k best paths from one feature down to another, best first.

        by: what a path scores, the product, sum or least of its cosines.
        """
        return self._ask("paths", a=a, b=b, k=k, min=min, by=by, writer_min=writer_min)

    def neighbors(
        self, key: str | FeatureKey, *, min: float | None = None, writer_min: float = MODULE_THRESHOLD
    ) -> "Result":
        """Return every edge at a feature that passes, with its evidence: upstream first, strongest first."""
        return self._ask("neighbors", f=key, min=min, writer_min=writer_min)

    def splits(
        self, *, min: float | None = None, layer: int | None = None, evidence: bool = False
    ) -> "Result":
        """Return features with two or more children that pass and whose best parent they are."""
        return self._ask("splits", min=min, layer=layer, evidence=evidence)

    def merges(
        self, *, min: float | None = None, layer: int | None = None, evidence: bool = False
    ) -> "Result":
        """Return features with two or more parents that pass and whose best child they are."""
        return self._ask("merges", min=min, layer=layer, evidence=evidence)

    def births(
        self, *, min: float | None = None, layer: int | None = None, evidence: bool = False
    ) -> "Result":
        """Return features that no parent passes into, and what writes them."""
        return self._ask("births", min=min, layer=layer, evidence=evidence)

    def deaths(
        self, *, min: float | None = None, layer: int | None = None, evidence: bool = False
    ) -> "Result":
        """Return features that pass into no child."""
        return self._ask("deaths", min=min, layer=layer, evidence=evidence)

    def chains(self, *, min: float | None = None) -> "Result":
        """Return the longest runs of features that persist, each in the next."""
        return self._ask("chains", min=min)

    def components(self, *, min: float | None = None) -> "Result":
        """Return the residual features that are joined, by whatever way, to at least one other."""
        return self._ask("components", min=min)

    def flow(
        self, layer_a: int | None = None, layer_b: int | None = None, *, min: float | None = None
    ) -> "Result":
        """Return what happens between each residual layer and the next, from layer_a to layer_b."""
        return self._ask("flow", layer_a=layer_a, layer_b=layer_b, min=min)

    def search(self, words: str, *, source: str | None = None) -> "Result":
        """Return the features whose labels have all the words, best first.

        words: case and accents do not count, a word may be the beginning of a longer one, and those in double
        quotes stand one after the other. source: only labels of this source, or of all that begin with it
        and a colon.
        """
        return self._ask("search", words=words, source=source)

    def _ask(self, verb: str, **arguments: object) -> "Result":
        from featgraph.query import run_verb

        return run_verb(self.store, verb, arguments)
