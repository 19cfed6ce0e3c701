"""`Graph`: one graph directory and what can be asked of it; each method hands over to one module."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from featgraph import store
from featgraph.core import arguments
from featgraph.core.keys import MODULE_THRESHOLD, FeatureKey, Score
from featgraph.core.result import MAX_ROWS, TIMEOUT, Result
from featgraph.core.text import pluralize
from featgraph.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featgraph.core.progress import Progress
    from featgraph.ingestion import Summary
    from featgraph.ingestion.ingest import EngineName
    from featgraph.lineage.adjacency import Adjacency
    from featgraph.lineage.lineage import Lineage
    from featgraph.steering import SettingsOptions, SteeringVector


class Graph:
    """A feature graph, open for reading; use it in a `with` block or call `close`.

    Each verb of the language is a method; `lineage` answers an object, the others rows.

    Arguments that several verbs share. min: cosine threshold of residual edges; left out, each edge is held
    against its downstream SAE's `threshold_high`. writer_min: that of the edges by which mlp and att features
    write. hops: how many edges to go each way. layer: only events of this layer. by: the measure
    of edges that `min` and ranks go by, see `core.measures.WALKABLE`. All raise
    UsageError for a feature that does not exist or a value out of range.
    """

    def __init__(self, opened: store.Store) -> None:
        self.store = opened

    @property
    def path(self) -> Path:
        """The graph directory."""
        return self.store.path

    @property
    def manifest(self) -> dict[str, Any]:
        """How the graph was made: recipe, model and SAE identities, settings, versions, times."""
        return self.store.manifest

    def __repr__(self) -> str:
        model, saes = self.manifest.get("model", {}), self.manifest.get("saes", [])
        return (
            f"<Graph {self.path}: {pluralize(len(saes), 'SAE')} of {model.get('name', 'an unnamed model')}>"
        )

    def sql(
        self,
        statement: str,
        parameters: Mapping[str, object] | None = None,
        *,
        timeout: float | None = TIMEOUT,
        max_rows: int | None = MAX_ROWS,
    ) -> Result:
        """Run one read-only statement, SQL or MATCH; `$name` in it is bound to `parameters[name]`.

        timeout: seconds. max_rows: most rows of the answer, and most paths of one repeated edge. None
        for no limit.

        Raises QueryError: the statement is not one query, DuckDB refuses it, or it exceeds a limit.
        """
        from featgraph.query import run

        return run(self.store, statement, parameters, timeout=timeout, max_rows=max_rows)

    def lineage(
        self,
        key: str | FeatureKey,
        *,
        min: float | None = None,
        hops: int | None = None,
        writers: bool = True,
        writer_min: float = MODULE_THRESHOLD,
        by: str = "cosine",
    ) -> "Lineage":
        """Return a feature with its ancestors, descendants and writers over edges that pass `min`.

        min: threshold of `by`; left out, each edge is held against that of its downstream SAE.
        hops: how many edges to go each way. writer_min: smallest cosine of mlp and att writers.

        Raises UsageError: there is no such feature, or a value is out of range.
        """
        from featgraph.lineage.lineage import lineage

        if by != "cosine":
            from featgraph.query.verbs import VERBS, check, check_values

            check(VERBS["lineage"], "by", by, self.store)
            check_values({"by": by, "min": min}, self.store)
        checked = arguments.check_cosine if by in ("cosine", "coactive") else arguments.check_number
        return lineage(
            self.store,
            str(key),
            min=None if min is None else checked("min", min),
            hops=None if hops is None else arguments.check_count("hops", hops),
            writers=arguments.check_bool("writers", writers),
            writer_min=arguments.check_cosine("writer_min", writer_min),
            by=by,
        )

    @property
    def adjacency(self) -> "Adjacency":
        """All edges in memory, 16 bytes each, read at the first use.

        From the third question on, `lineage`, `ancestors`, `descendants`, `paths` and `components` are
        answered from memory without being asked to, many times sooner. Timings: tests/bench/README.md.
        """
        from featgraph.lineage.in_memory import adjacency

        return adjacency(self.store)

    def ancestors(
        self, key: str | FeatureKey, *, min: float | None = None, hops: int | None = None, by: str = "cosine"
    ) -> Result:
        """Return everything upstream of a feature over residual edges that pass, in order of id."""
        return self._ask("ancestors", f=key, min=min, hops=hops, by=by)

    def descendants(
        self, key: str | FeatureKey, *, min: float | None = None, hops: int | None = None, by: str = "cosine"
    ) -> Result:
        """Return everything downstream of a feature over residual edges that pass, in order of id."""
        return self._ask("descendants", f=key, min=min, hops=hops, by=by)

    def subgraph(
        self,
        key: str | FeatureKey,
        *,
        min: float | None = None,
        hops: int | None = None,
        writers: bool = True,
        writer_min: float = MODULE_THRESHOLD,
        by: str = "cosine",
    ) -> Result:
        """Return the edges of a feature's lineage."""
        return self._ask("subgraph", f=key, min=min, hops=hops, writers=writers, writer_min=writer_min, by=by)

    def paths(
        self,
        a: str | FeatureKey,
        b: str | FeatureKey,
        *,
        k: int = 1,
        min: float | None = None,
        score: Score = "product",
        writer_min: float = MODULE_THRESHOLD,
        by: str = "cosine",
    ) -> Result:
        """Return the k best paths from one feature down to another, best first.

        score: what a path scores, the product, sum or least of the measure.
        """
        return self._ask("paths", a=a, b=b, k=k, min=min, score=score, writer_min=writer_min, by=by)

    def neighbors(
        self,
        key: str | FeatureKey,
        *,
        min: float | None = None,
        writer_min: float = MODULE_THRESHOLD,
        by: str = "cosine",
    ) -> Result:
        """Return every edge at a feature that passes, with its evidence: upstream first, strongest first."""
        return self._ask("neighbors", f=key, min=min, writer_min=writer_min, by=by)

    def splits(self, *, min: float | None = None, layer: int | None = None, by: str = "cosine") -> Result:
        """Return features with two or more children that pass and whose best parent they are."""
        return self._ask("splits", min=min, layer=layer, by=by)

    def merges(self, *, min: float | None = None, layer: int | None = None, by: str = "cosine") -> Result:
        """Return features with two or more parents that pass and whose best child they are."""
        return self._ask("merges", min=min, layer=layer, by=by)

    def births(self, *, min: float | None = None, layer: int | None = None, by: str = "cosine") -> Result:
        """Return features that no parent passes into, and what writes them."""
        return self._ask("births", min=min, layer=layer, by=by)

    def deaths(self, *, min: float | None = None, layer: int | None = None, by: str = "cosine") -> Result:
        """Return features that pass into no child."""
        return self._ask("deaths", min=min, layer=layer, by=by)

    def chains(self, *, min: float | None = None, by: str = "cosine") -> Result:
        """Return the longest runs of features that persist, each in the next."""
        return self._ask("chains", min=min, by=by)

    def components(self, *, min: float | None = None, by: str = "cosine") -> Result:
        """Return the residual features that edges connect to at least one other, with their component."""
        return self._ask("components", min=min, by=by)

    def flow(
        self,
        layer_a: int | None = None,
        layer_b: int | None = None,
        *,
        min: float | None = None,
        by: str = "cosine",
    ) -> Result:
        """Return what happens between each residual layer and the next, from layer_a to layer_b."""
        return self._ask("flow", layer_a=layer_a, layer_b=layer_b, min=min, by=by)

    def search(self, words: str, *, source: str | None = None) -> Result:
        """Return the features whose labels have all the words, best first.

        words: case and accents do not count, a word may be the beginning of a longer one, and those in double
        quotes stand one after the other. source: only labels of this source, or of all that begin with it
        and a colon.
        """
        return self._ask("search", words=words, source=source)

    def similar(
        self,
        key: str | FeatureKey | None = None,
        *,
        k: int = 10,
        vector: "Sequence[float] | NDArray[Any] | None" = None,
        text: str | None = None,
    ) -> Result:
        """Return the k features of every SAE nearest to a direction, best first.

        The direction is that of a feature, a vector of d_model numbers in the residual stream, or what a text
        adds at each SAE's site; give one of the three. A text runs the language model.

        Raises UsageError: there is no such feature, the vector has no direction, or k is below 1.
        SourceError: the language model or an SAE cannot be found.
        """
        given = {"f": key, "vector": vector, "text": text}
        return self._ask(
            "similar", k=k, **{name: value for name, value in given.items() if value is not None}
        )

    def steering_vector(
        self,
        features: "str | FeatureKey | Sequence[str | FeatureKey] | Mapping[str, float]",
        **settings: "Unpack[SettingsOptions]",
    ) -> "SteeringVector":
        """Return what steers a language model by some features: one vector per layer, or changed activations.

        features: keys; as a mapping, each with its weight, negative to suppress. settings: see
        `steering.Settings`, such as scale=4, where="cumulative", unit="max-act", mode="ablate".

        Raises UsageError: no such feature or setting, or a feature that cannot be steered so.
        """
        from featgraph.steering import Settings, from_features

        if isinstance(features, (str, FeatureKey)):
            features = [features]
        weights = dict(features) if isinstance(features, Mapping) else {str(key): 1.0 for key in features}
        return from_features(self.store, weights, Settings(**settings))

    def find(
        self,
        *,
        label: str | None = None,
        near: str | FeatureKey | None = None,
        vector: "Sequence[float] | NDArray[Any] | None" = None,
        positive: Sequence[str] | None = None,
        negative: Sequence[str] | None = None,
        k: int = 20,
        site: str | None = None,
        layers: tuple[int, int] | None = None,
        min_density: float | None = None,
        max_density: float | None = None,
        min_firing: float = 0.1,
        screen: bool = False,
        min_s_out: float | None = None,
        progress: "Progress | None" = None,
    ) -> Result:
        """Return the k best features by label, nearness or a contrast of prompts; give exactly one.

        layers: first and last. min_firing: least share of prompts of a contrast that a feature fires on.
        screen: sort the k by output score; min_s_out: and keep those from there on. What the scores are: see
        `finding.find`, `finding.contrast` and `finding.output_score`.

        Raises UsageError: not exactly one is given, or a value does not exist. SourceError: prompts or a
        screen need the language model, and it is not there.
        """
        from featgraph.features import FeatureFilter, find

        return find(
            self.store,
            label=label,
            near=None if near is None else str(near),
            vector=vector,
            positive=positive,
            negative=negative,
            k=k,
            feature_filter=FeatureFilter(site, layers, min_density, max_density),
            min_firing=min_firing,
            screen=screen,
            min_s_out=min_s_out,
            progress=progress,
        )

    def activate(
        self,
        text: str,
        *,
        site: str | None = "res",
        layers: tuple[int, int] | None = None,
        per_token: int = 3,
        min_share: float = 0.2,
        max_density: float | None = None,
        lineages: bool = False,
        min: float | None = None,
    ) -> Result:
        """Return the features, or lineages, that active_features up most on each token of a text.

        site: None for all. min_share: least share of a feature's largest activation on the graph's text. min:
        cosine threshold of lineages, as for `lineage`.

        Raises UsageError: the text is empty, or a value is out of range. SourceError: the graph was made
        without a text, or its model or an SAE is not there.
        """
        from featgraph.features import FeatureFilter, active_features, find_active_lineages, lineage_rows

        feature_filter = FeatureFilter(site, layers, max_density=max_density)
        active = active_features(self.store, text, feature_filter=feature_filter, min_share=min_share)
        if not lineages:
            return active.result(self.store, per_token)
        return lineage_rows(self.store, active, find_active_lineages(self.store, active, min=min), per_token)

    def _ask(self, verb: str, **arguments: object) -> Result:
        from featgraph.query import run_verb

        return run_verb(self.store, verb, arguments)

    def verify(self) -> Result:
        """Check every hash, count and rule of the graph; columns check, result (`ok` or `broken`), detail."""
        from featgraph.store.verify import verify

        return verify(self.path)

    def close(self) -> None:
        """Close the database connection."""
        self.store.close()

    def __enter__(self) -> "Graph":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_graph(path: str | Path, *, timeout: float | None = TIMEOUT, memory: int | None = None) -> Graph:
    """Open a graph directory for reading.

    timeout: seconds that a question of ours to the graph may take, None for no limit. memory: bytes that
    DuckDB, and an answer, may take; left out, a quarter of the machine, at most 4 GB.

    Raises StoreError: there is no graph there, it is broken, being written, or of another format.
    """
    return Graph(store.open_store(path, timeout=timeout, memory=memory))


def ingest(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    width: str | None = None,
    text: str | None = None,
    tokens: int | None = None,
    data_free: bool = False,
    progress: bool = True,
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    fresh: bool = False,
    force: bool = False,
) -> "Summary":
    """Build the feature graph of a recipe's suite, as `featgraph ingest` does; return its size and `.path`.

    recipe: a shipped recipe's name or a TOML file. out: the graph directory, by default NAME.featgraph here;
    a graph that is there is replaced once the new one is complete. width, text, tokens: in place of the
    recipe's. data_free: geometry alone, no text is read. progress: show a bar per step. An interrupted ingest
    continues where it stopped, unless `fresh`. force: drop labels and ablations that the new graph cannot
    take over. engine: where the steps run; ray_address: a running cluster.

    Raises UsageError, RecipeError: no such recipe, or it is malformed. SourceError: the model, an SAE or the
    text cannot be used. StoreError: `out` is something else, is being written, or the disk is full.
    """
    from featgraph.core.progress import shown
    from featgraph.ingestion import ingest as build
    from featgraph.recipe import find_recipe

    if data_free and (text is not None or tokens is not None):
        raise UsageError("a data-free graph reads no text; leave out text and tokens")
    chosen = find_recipe(str(recipe)).changed(width=width, text=text, tokens=tokens, data_free=data_free)
    target = Path(f"{chosen.name}.featgraph" if out is None else out).expanduser()
    with shown(quiet=not progress) as bars:
        return build(chosen, target, bars, engine=engine, ray_address=ray_address, fresh=fresh, force=force)
