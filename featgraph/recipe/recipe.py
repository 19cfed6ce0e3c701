"""The values of a recipe: a model, its SAEs by layer and site, a text, and the searches for edges.

`reader.py` reads them from a file. Names of SAEs are patterns: `suite/registry.py` looks them up in
sae_lens's registry, `suite/sae_files.py` on disk.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from featgraph.core.keys import EDGE_KINDS, SITES, EdgeKind, Site
from featgraph.errors import UsageError, nearest

HOOKS: dict[Site, str] = {
    "res": "blocks.{layer}.hook_resid_post",
    "mlp": "blocks.{layer}.hook_mlp_out",
    "att": "blocks.{layer}.hook_attn_out",
}
"""Site -> default hook of decoders without metadata."""

TEXT_ENDINGS = (".txt", ".jsonl", ".ndjson", ".json", ".csv", ".parquet")
"""Extensions of text files; `activations/document_files.py` has a reader for each."""

CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Extension of a compressed file -> pyarrow's name of the compression."""

_NO_DATASET = (*TEXT_ENDINGS, *CODECS, ".md")
"""Extensions that no dataset id has: such a name without a file is a typing error, not a dataset."""

MASSIVE = 10.0
"""Default factor of the median norm above which a token is left out. Our choice: of 100,000
tokens it leaves out 12 at layer 11 of SmolLM2-135M and none at layer 10; see tests/bench/massive.py."""


@dataclass(frozen=True)
class ModelSource:
    """The source of the language model: a folder beside the recipe, or a Hugging Face id."""

    path: Path | None
    hf: str | None
    d_model: int | None = None
    """Width of the residual stream. Like the next two fields, only used to estimate sizes before a
    download."""
    parameters: int | None = None
    dtype: str | None = None
    """Dtype of the published weights."""


@dataclass(frozen=True)
class Width:
    """One of the widths in which a suite is published."""

    name: str
    features: int
    """Features of each SAE."""
    words: tuple[tuple[str, str], ...] = ()
    """(word, value) pairs that patterns may use at this width."""


@dataclass(frozen=True)
class SaeSource:
    """The source of one site's SAEs: exactly one of path, release with sae_id, and decoders.

    These texts are patterns, in which the recipe replaces `{layer}`, `{width}` and the words of the width.
    """

    site: Site
    path: str | None = None
    """A folder beside the recipe: in the layout of sae_lens, dictionary_learning or sparsify."""
    release: str | None = None
    """A release of sae_lens's registry, or a Hugging Face repository in sae_lens's layout."""
    sae_id: str | None = None
    """The id within the release; `{l0}` in it is the published L0 nearest to `l0`."""
    decoders: str | None = None
    """A safetensors file of decoders beside the recipe; it has no encoder, so the graph is data-free."""
    key: str | None = None
    """The tensor in that file, (n_features, d_model)."""
    hook: str | None = None
    """Hook name of these SAEs, if it is missing or wrong in their files."""
    layers: tuple[int, ...] = ()
    """The layers that have an SAE."""
    exceptions: tuple[tuple[int, str], ...] = ()
    """(layer, path, id or decoders) of layers that do not follow the pattern."""
    widths: tuple[str, ...] = ()
    """The widths in which this site is published; empty: all widths of the suite."""
    d_in: int | None = None
    """Width of the tensor that these SAEs read, if it is not d_model (the heads of attention before W_O)."""
    l0: int | None = None
    """Features that fire per token: picks among published L0s, and counts the codes in estimates."""

    @property
    def kind(self) -> str:
        """The key of the pattern that names its SAEs: path, id or decoders."""
        return "path" if self.path is not None else "decoders" if self.decoders is not None else "id"

    @property
    def pattern(self) -> str:
        """The pattern that names its SAEs."""
        return str(self.path or self.decoders or self.sae_id)


@dataclass(frozen=True)
class TextSource:
    """The text over which statistics are computed: exactly one of path and dataset."""

    path: Path | None
    """A file, or a folder of files."""
    dataset: str | None
    """A Hugging Face dataset id, or a folder or file that `datasets.load_dataset` reads."""
    config: str | None
    split: str | None
    column: str | None
    """The column with the text; None for plain text files."""
    separator: str
    """The text between two documents in a file of plain text."""
    tokens: int
    """Most tokens to read."""
    context: int
    """Length of the longest token row that the model reads."""
    massive: float = MASSIVE
    """A token whose norm exceeds this many medians is left out at a site; 0: no token is."""


@dataclass(frozen=True)
class EdgePlan:
    """The searches for edges: the `[edges]` table of a recipe, with its defaults.

    Each search keeps its k best pairs of every source and of every target.
    """

    kinds: tuple[EdgeKind, ...] = EDGE_KINDS
    """Edge kinds to search; kinds whose sites the suite lacks are skipped."""
    top_k: int = 8
    """Candidates by cosine, per source and per target."""
    twera_k: int = 8
    """Candidates by `twera`, the predicted cause, per source and per target; 0 finds none."""
    min_support: int = 10
    """Tokens on which both features must be active before the search by `twera` proposes the pair."""
    effect_tokens: int = 0
    """Tokens at which every active feature is removed to measure `effect`; 0 measures none."""


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe file: a suite to ingest; relative paths start from the file's folder."""

    name: str
    title: str
    file: Path
    model: ModelSource
    layers: int
    declared: tuple[SaeSource, ...]
    """The SAEs of each site at every width, as in the file."""
    text: TextSource | None
    """None: data-free, so only geometry is measured."""
    edges: EdgePlan
    seed: int
    width: Width | None = None
    """The width in use, if the suite has several."""
    widths: tuple[Width, ...] = ()
    ladder: tuple[int, ...] = ()
    """For a suite whose layers are dictionary sizes (feature splitting): the features of each layer's SAE."""
    block: int | None = None
    """For such a suite: the one block that all its SAEs read."""
    dtype: str | None = None
    """The dtype in which its SAEs are published."""

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.file.parent

    @property
    def model_name(self) -> str:
        """The model's Hugging Face id, or its folder as written in the recipe."""
        return self.model.hf or self.as_written(self.model.path)

    def as_written(self, path: Path | None) -> str:
        """Return a path relative to the recipe, so that identities do not depend on the recipe's folder."""
        return str(path).removeprefix(f"{self.folder}/")

    @property
    def sources(self) -> tuple[SaeSource, ...]:
        """The sites' SAEs at the width in use, in the order a block computes them."""
        width = self.width.name if self.width else ""
        return tuple(source for source in self.declared if width in source.widths or not source.widths)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that have an SAE, in the order a block computes them."""
        present = {source.site for source in self.sources}
        return tuple(site for site in SITES if site in present)

    @property
    def places(self) -> list[tuple[int, SaeSource]]:
        """Every layer and source that has an SAE, by layer, then by site."""
        return [
            (layer, source)
            for layer in range(self.layers)
            for source in self.sources
            if layer in source.layers
        ]

    def features(self, layer: int) -> int | None:
        """Return the number of features of a layer's SAEs; None if only their files have it."""
        if self.ladder:
            return self.ladder[layer]
        return self.width.features if self.width else None

    def sae_name(self, source: SaeSource, layer: int) -> str:
        """Return the path, id or decoders file of one SAE; `{l0}` stays, for the registry to fill in."""
        return self.filled(dict(source.exceptions).get(layer, source.pattern), layer)

    def release_name(self, source: SaeSource) -> str:
        """Return the release of a source from the registry."""
        return self.filled(str(source.release), source.layers[0])

    def hook_name(self, source: SaeSource, layer: int) -> str | None:
        """Return the hook name that the recipe sets for an SAE; None if its files have it."""
        if source.hook is None:
            return HOOKS[source.site].format(layer=layer) if source.decoders is not None else None
        return self.filled(source.hook, layer)

    def words(self, layer: int) -> dict[str, str]:
        """Return the words that a pattern may use at a layer: word -> value."""
        words = {"layer": str(layer)}
        if self.ladder:
            words["width"] = str(self.ladder[layer])
        if self.block is not None:
            words["block"] = str(self.block)
        if self.width is not None:
            words |= {"width": self.width.name, **dict(self.width.words)}
        return words

    def filled(self, pattern: str, layer: int) -> str:
        """Return a pattern with the words that the recipe knows at this layer replaced."""
        words = self.words(layer)
        return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), pattern)

    def changed(
        self,
        *,
        width: str | None = None,
        text: str | None = None,
        tokens: int | None = None,
        data_free: bool = False,
    ) -> "Recipe":
        """Return a copy with another width, text or number of tokens, or without text; None changes nothing.

        Raises UsageError: there is no such width, text or number.
        """
        recipe = self.with_width(width) if width is not None else self
        recipe = recipe.with_text(text) if text is not None else recipe
        recipe = recipe.with_tokens(tokens) if tokens is not None else recipe
        return recipe.data_free() if data_free else recipe

    def data_free(self) -> "Recipe":
        """Return a copy without text, so that only geometry is measured."""
        return replace(self, text=None)

    def with_width(self, name: str) -> "Recipe":
        """Return a copy at another width of the suite; raise UsageError if it has no such width."""
        known = {width.name: width for width in self.widths}
        if name not in known:
            offered = f"it comes in {', '.join(known)}" if known else "it comes in one width only"
            hint = nearest(name, known) or ";"
            raise UsageError(f"recipe {self.name} has no width {name!r}{hint} {offered}")
        return replace(self, width=known[name])

    def with_tokens(self, tokens: int) -> "Recipe":
        """Return a copy that reads another number of tokens; raise UsageError if the recipe has no text."""
        return replace(self, text=replace(self._has_text("--tokens"), tokens=tokens))

    def with_text(self, place: str) -> "Recipe":
        """Return a copy that reads another text: a file, a folder or a Hugging Face dataset.

        Tokens, context, separator and column stay as the recipe has them. The split of a dataset is the
        recipe's, or `train`.

        Raises UsageError: the recipe reads no text, or no such path exists.
        """
        text = self._has_text("--text")
        path = Path(place)
        if path.exists():
            return replace(self, text=replace(text, path=path, dataset=None, config=None, split=None))
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./-]+)?", place) or path.suffix in _NO_DATASET:
            raise UsageError(
                f"there is no text at {place!r}; --text takes a file, a folder or a dataset's id"
            )
        from_dataset = replace(text, path=None, dataset=place, config=None, separator="")
        return replace(
            self, text=replace(from_dataset, split=text.split or "train", column=text.column or "text")
        )

    def _has_text(self, flag: str) -> TextSource:
        if self.text is None:
            raise UsageError(f"recipe {self.name} is data-free, so {flag} has no effect; add a [text] table")
        return self.text
