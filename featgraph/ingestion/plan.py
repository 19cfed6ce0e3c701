"""The order of an ingest: its stages, the steps of each, and the key of each step.

`Plan.stages` is the order. The work of a step is the function of the same name in `steps.py`, or in
`removals.py` for exhaustive removal. A key names everything that a step reads, so a changed input runs the
step again and all that follow it. The steps of a stage are known once the stage before it is done: an SAE's
features and a text's shards are counted then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version

from featgraph.activations import documents
from featgraph.core.keys import SITES, EdgeKind, SaeRange, edge_plan
from featgraph.ingestion import removals, steps
from featgraph.ingestion.ledger import Step, key_of
from featgraph.ingestion.memory import groups, model_bytes, removal_groups, sae_bytes
from featgraph.ingestion.worker import Worker, pair_name
from featgraph.suite import sae_files


@dataclass(frozen=True)
class Stage:
    """Steps that are independent of each other."""

    name: str
    unit: str
    steps: list[Step]
    whole_machine: bool
    """Whether one step at a time is enough for a machine: it uses all processors, or all of the disk."""


class Plan:
    """The steps of one build."""

    def __init__(self, worker: Worker, at_once: int) -> None:
        """at_once: encoding steps that share this machine's memory."""
        self.worker = worker
        self.recipe = worker.recipe
        self.at_once = at_once
        self._threshold_keys: dict[str, str] = {}
        """By SAE, what its thresholds are made from; known once they are planned."""

    def stages(self) -> Iterator[Stage]:
        """Yield the stages in order; ask for the next when the steps of one are done."""
        yield Stage("load SAEs", "SAEs", list(self.load()), whole_machine=True)
        yield Stage("match directions", "pairs of SAEs", list(self.match()), whole_machine=True)
        if self.recipe.text is not None:
            yield Stage("read text", "text", [self.read()], whole_machine=True)
            yield Stage("read activations", "tokens", list(self.encode()), whole_machine=True)
            yield Stage("sum up", "SAEs", list(self.summarise()), whole_machine=False)
        yield Stage("calibrate", "SAEs", list(self.calibrate()), whole_machine=True)
        if self.removes:
            yield Stage("draw tokens", "text", [self.draw_tokens()], whole_machine=True)
            yield Stage("remove features", "tokens", list(self.remove()), whole_machine=True)
        yield Stage("gather evidence", "pairs of SAEs", list(self.link()), whole_machine=False)
        yield Stage("describe features", "SAEs", list(self.describe()), whole_machine=False)

    @cached_property
    def saes(self) -> list[SaeRange]:
        """The SAEs in topological order, once they are loaded."""
        ranges: list[SaeRange] = []
        metadata = [self.worker.sae_metadata(name) for name in self._sae_keys]
        metadata.sort(key=lambda one: (one["block"], SITES.index(one["site"]), one["layer"]))
        for number, one in enumerate(metadata):
            first = ranges[-1].first_id + ranges[-1].n_features if ranges else 0
            shift = one["block"] - one["layer"]
            ranges.append(SaeRange(number, one["layer"], one["site"], first, one["n_features"], shift))
        return ranges

    @cached_property
    def pairs(self) -> list[tuple[SaeRange, SaeRange, EdgeKind]]:
        """The pairs of SAEs that get edges, by the upstream one, as edges are stored."""
        pairs = edge_plan(self.saes, self.recipe.edges.kinds)
        return sorted(pairs, key=lambda pair: (pair[0].number, pair[1].number))

    def load(self) -> Iterator[Step]:
        """Load each SAE."""
        for layer, source in self.recipe.places:
            name = f"{layer}.{source.site}"
            files = [f"saes/{name}.json", f"saes/{name}.npz", f"saes/{name}.encoder.npy"]
            files.append(f"graph/vectors/{source.site}.{layer}.faiss")
            run = partial(steps.load_sae, place=(layer, source.site))
            yield Step(f"load/{name}", self._sae_keys[name], run, tuple(files))

    def match(self) -> Iterator[Step]:
        """Match the directions of each pair of SAEs."""
        for up, down, _ in self.pairs:
            name = pair_name(up, down)
            run = partial(steps.match, upstream=up, downstream=down)
            yield Step(f"match/{name}", self._match_key(up, down), run, (f"candidates/{name}.npz",))

    def read(self) -> Step:
        """Tokenise the text."""
        return Step("text", self._text_key, steps.read_text, ("text.json",))

    def encode(self) -> Iterator[Step]:
        """Encode each shard of text, by groups of SAEs that fit in memory together."""
        n_tokens = self.worker.work.json("text.json")["n_tokens"]
        for group in groups(self.saes, self.worker, self.at_once):
            names = [sae.name for sae in group]
            needed = model_bytes(self.worker) + sum(sae_bytes(sae, self.worker) for sae in group)
            for shard, tokens in enumerate(n_tokens):
                files = [f"{kind}/{name}/{shard:05}.npz" for name in names for kind in ("codes", "rebuilt")]
                places = [(sae.layer, sae.site) for sae in group]
                run = partial(steps.encode, places=places, shard=shard)
                key = key_of("encode", self._codes_key(*group), shard)
                name = f"encode/{names[0]}-{names[-1]}/{shard}"
                yield Step(name, key, run, tuple(files), units=tokens, memory=needed)

    def summarise(self) -> Iterator[Step]:
        """Sum up what each SAE's features fire on."""
        for sae in self.saes:
            files = [f"moments/{sae.name}.json"]
            files += [f"{kind}/{sae.name}.npz" for kind in ("moments", "contexts", "top")]
            run = partial(steps.summarise, sae=sae)
            yield Step(f"sum/{sae.name}", self._codes_key(sae), run, tuple(files))

    def calibrate(self) -> Iterator[Step]:
        """Find each SAE's thresholds, against the residual SAE before it, or itself where there is none."""
        residual = None
        for sae in self.saes:
            upstream = residual if sae.site == "res" and residual else sae
            run = partial(steps.calibrate, sae=sae, upstream=upstream)
            key = key_of("calibrate", self._codes_key(sae, upstream), self.recipe.seed, sae.number)
            self._threshold_keys[sae.name] = key
            yield Step(f"calibrate/{sae.name}", key, run, (f"thresholds/{sae.name}.json",))
            residual = sae if sae.site == "res" else residual

    @property
    def removes(self) -> bool:
        """Whether features are removed to measure effects: the recipe says so, and something encodes."""
        return bool(self.recipe.text and self.recipe.edges.effect_tokens and self.pairs)

    def draw_tokens(self) -> Step:
        """Draw the tokens at which features are removed."""
        saes = sorted({down for _, down, _ in self.pairs}, key=lambda sae: sae.number)
        run = partial(removals.draw_tokens, saes=saes)
        return Step("draw tokens", self._sample_key, run, ("removed/tokens.npz",))

    def remove(self) -> Iterator[Step]:
        """Remove every active feature at some of the tokens, for as many downstream SAEs as fit in memory."""
        into: dict[SaeRange, list[tuple[SaeRange, SaeRange]]] = {}
        for up, down, _ in sorted(self.pairs, key=lambda pair: pair[1].number):
            into.setdefault(down, []).append((up, down))
        n_tokens = removals.n_tokens(self.worker)
        for group in removal_groups(into, self.worker, self.at_once):
            pairs = [pair for down in group for pair in into[down]]
            saes = {sae for pair in pairs for sae in pair}
            needed = model_bytes(self.worker) + sum(sae_bytes(sae, self.worker) for sae in saes)
            for chunk in range(removals.n_chunks(n_tokens)):
                units = min(removals.CHUNK, n_tokens - chunk * removals.CHUNK)
                yield Step(
                    f"remove/{group[0].name}-{group[-1].name}/{chunk}",
                    key_of("remove", self._sample_key, pairs, chunk),
                    partial(removals.remove, pairs=pairs, chunk=chunk),
                    tuple(removals.sums_file(up, down, chunk) for up, down in pairs),
                    units=units,
                    memory=needed,
                )

    def link(self) -> Iterator[Step]:
        """Gather the evidence for the edges of each pair of SAEs."""
        for up, down, kind in self.pairs:
            name = pair_name(up, down)
            threshold = self._threshold_keys[down.name]
            key = key_of(
                "link", self._match_key(up, down), self._codes_key(up, down), threshold, self.recipe.edges
            )
            key = key_of(key, self._sample_key) if self.removes else key
            run = partial(steps.link, upstream=up, downstream=down, kind=kind)
            yield Step(f"link/{name}", key, run, (f"edges/{name}.parquet", f"edges/{name}.json"))

    def describe(self) -> Iterator[Step]:
        """Describe the features of each SAE."""
        for sae in self.saes:
            writers = [up for up, down, _ in self.pairs if down == sae]
            key = key_of("describe", self._codes_key(sae), [self._match_key(up, sae) for up in writers])
            files = [f"features/{sae.name}.parquet"]
            if self.recipe.text is not None:
                files += [f"{kind}/{sae.name}.parquet" for kind in ("examples", "labels")]
            yield Step(
                f"describe/{sae.name}",
                key,
                partial(steps.describe, sae=sae, writers=writers),
                tuple(files),
            )

    # Keys: the inputs of steps.

    @cached_property
    def _sae_keys(self) -> dict[str, str]:
        """Per SAE, in the order of the recipe; the model takes part because some decoders go through it."""
        return {
            f"{layer}.{source.site}": key_of(
                "load SAE",
                self._model_key,
                version("sae_lens"),
                self.recipe.name,
                self.recipe.sae_name(source, layer),
                sae_files.source_digest(self.recipe, source, layer),
            )
            for layer, source in self.recipe.places
        }

    @cached_property
    def _model_key(self) -> str:
        shape = self.worker.shape
        return key_of(version("featgraph"), self.recipe.model_name, shape and shape.digest)

    @cached_property
    def _text_key(self) -> str:
        source = self.recipe.text
        if source is None:
            return ""
        limits = (source.tokens, source.context, source.massive)
        return key_of("text", self._model_key, self.text_identity, *limits)

    @cached_property
    def text_identity(self) -> str:
        """The digest of the text."""
        assert self.recipe.text is not None
        return documents.text_digest(self.recipe.text)

    def _codes_key(self, *saes: SaeRange) -> str:
        """The inputs of some SAEs' codes on the text."""
        return key_of("codes", self._text_key, [(sae, self._sae_keys[sae.name]) for sae in saes])

    @property
    def _sample_key(self) -> str:
        """The inputs of the tokens at which features are removed, and of the removals."""
        settings = (self.recipe.edges.effect_tokens, self.recipe.seed, removals.CHUNK)
        return key_of("draw tokens", self._codes_key(*self.saes), *settings)

    def _match_key(self, up: SaeRange, down: SaeRange) -> str:
        keys = [self._sae_keys[end.name] for end in (up, down)]
        return key_of("match", keys, self.recipe.edges.top_k)
