"""The SAEs of a recipe in their places in the language model, with what each writes in the residual basis.

Owns where an SAE belongs and which are refused: a suite whose directions cannot be compared in the residual
basis is turned away with the reason.
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featgraph.core.arrays import Matrix
from featgraph.core.keys import Site
from featgraph.errors import SourceError
from featgraph.recipe import Recipe, SaeSource
from featgraph.suite.hooks import Blocks, Hook, Reading, find_hook
from featgraph.suite.language_model import LanguageModel
from featgraph.suite.residual import (
    Writer,
    decoder_rows,
    encoder_alignment,
    encoder_rows,
    unit_rows,
    unknown_reading,
)
from featgraph.suite.sae_files import SaeFile, read_sae

if TYPE_CHECKING:
    import torch
    from sae_lens import SAE


ENCODE_TOKENS = 256
"""Most tokens encoded at once; their dense codes should stay in the processor's cache. Our choice."""

ENCODE_CODES = 2**22
"""Most dense codes computed at once, 16 MB: the C library returns arrays of 32 MB and more to the system each
time, and has to map their pages again. Source: mallopt(3), M_MMAP_THRESHOLD."""


@dataclass(frozen=True)
class LoadedSae:
    """One SAE of a suite with its place in the model and its directions in the residual basis."""

    layer: int
    site: Site
    block: int
    """The block after which it reads (res) or in which it does (mlp, att); -1 is the embedding."""
    sae: "SAE[Any] | None"
    """The SAE of sae_lens; None for a file of decoders."""
    reading: Reading | None
    """The tensor that it encodes; None if it was loaded without a model."""
    writer: Writer
    release: str
    sae_id: str
    digest: str
    """The sha256 of the weights."""
    hook_name: str
    """The hook it reads, from its metadata or the recipe."""
    architecture: str | None
    d_in: int
    neuronpedia_id: str | None
    directions: Matrix
    """Unit decoder directions in the residual basis, (n_features, d_model)."""
    norms: Matrix
    """Norm of each decoder row in the residual basis before scaling, (n_features,)."""
    encoder: Matrix | None
    """Encoder rows of a residual SAE in the residual basis, (n_features, d_model)."""
    encoder_alignment: Matrix | None
    """Cosine of each feature's encoder and decoder rows, (n_features,); None if they are in different
    spaces."""
    no_virtual_weight: str | None
    """Reason why virtual weights of its edges are unknown; None if they are known."""
    massive_norm: float | None = None
    """A token is left out if its norm at the tensor the SAE writes exceeds this; None: no token is left
    out."""

    @property
    def name(self) -> str:
        """`layer.site`, the stem of file names that belong to this SAE."""
        return f"{self.layer}.{self.site}"

    def decode(self, codes: "torch.Tensor", activations: "torch.Tensor") -> "torch.Tensor":
        """Decode codes; activations: those the codes were computed from, for skip connections. (n_tokens,
        d_out)."""
        assert self.sae is not None, "a file of decoders encodes nothing"
        decoded: torch.Tensor = self.sae.decode(codes)
        if "skip" in str(self.architecture):
            decoded = decoded + activations @ self.sae.W_skip.T
        return decoded


def tokens_at_once(n_features: int) -> int:
    """Return the number of tokens that an SAE encodes at once.

    >>> tokens_at_once(16_384), tokens_at_once(131_072)
    (256, 32)
    """
    return max(1, min(ENCODE_TOKENS, ENCODE_CODES // n_features))


@dataclass(frozen=True)
class _Place:
    """The hooks that one SAE reads and writes, from its metadata or the recipe."""

    name: str
    reads: Hook
    writes: Hook


def load_sae(recipe: Recipe, source: SaeSource, layer: int, model: LanguageModel | None) -> LoadedSae:
    """Load one SAE in float32 on the model's device, and compute its directions.

    model: None for an SAE whose decoder rows are already in the residual basis; then it cannot be run.

    Raises SourceError: it cannot be read, is damaged, reads elsewhere than the recipe says, does not fit the
    model, or cannot be compared in the residual basis.
    """
    file = read_sae(recipe, source, layer)
    sae, label = file.sae, f"SAE {file.sae_id}"
    _refuse(file, label)
    place = _place(recipe.hook_name(source, layer), sae, model, label)
    _check_place(recipe, source, layer, place, label)
    centred = _centred(sae, model)
    rows = file.decoder if sae is None else decoder_rows(sae)
    assert rows is not None, "a file holds an SAE or decoders"
    d_in = rows.shape[1] if sae is None else int(sae.cfg.d_in)
    reading, writer = None, Writer((), centred)
    if model is not None:
        reading = _reading(place, model, centred, label)
        _check_width(d_in, place.reads, model, f"{label} reads {d_in} dimensions")
        _check_width(rows.shape[1], place.writes, model, f"{label} writes {rows.shape[1]} dimensions")
        multiplier = 1.0 if source.site == "res" else model.blocks.residual_multiplier
        writer = Writer(tuple(model.blocks.writing(place.writes)), centred, multiplier)
        sae = _ready(sae, model)
    elif place.writes.point == "z":
        raise SourceError(
            f"{label} reads {place.name!r}, so its directions depend on weights of the language model; "
            "give the recipe a [model]"
        )
    written = writer.rows(rows, model)
    directions, norms = unit_rows(written)
    metadata = None if sae is None else sae.cfg.metadata
    return LoadedSae(
        layer,
        source.site,
        place.writes.block,
        sae,
        reading,
        writer,
        file.release,
        file.sae_id,
        file.digest,
        place.name,
        None if sae is None else sae.cfg.architecture(),
        d_in,
        None if metadata is None else metadata.neuronpedia_id,
        directions,
        norms,
        None if sae is None or source.site != "res" else encoder_rows(sae, centred=centred),
        None if sae is None else encoder_alignment(sae),
        unknown_reading(sae) if source.site == "res" else writer.unknown_length(model),
    )


def _refuse(file: SaeFile, label: str) -> None:
    """Raise SourceError: the features of this kind of SAE do not write their decoder rows."""
    named = " ".join((file.release, file.sae_id))
    if re.search(r"(?<![a-z])clt(?![a-z])", named):
        raise SourceError(
            f"{label} of {file.release} is one layer of a cross-layer transcoder with its decoders for all "
            "later layers summed into one, which no layer writes, so it cannot be compared; use "
            "transcoders of single layers"
        )
    if file.sae is not None and file.sae.cfg.architecture() == "temporal":
        raise SourceError(
            f"{label} is a temporal SAE: the output of a feature depends on earlier tokens, not only on its "
            "decoder row, so it cannot be compared; use another SAE of this site"
        )


def _place(named: str | None, sae: Any, model: LanguageModel | None, label: str) -> _Place:
    """Return the hooks that an SAE reads and writes, from the recipe or else from its metadata."""
    blocks = None if model is None else model.blocks
    if sae is None or named is not None:
        name, reads = _first_known([named], blocks, label)
    else:
        metadata = sae.cfg.metadata
        names = [metadata.hook_name, metadata.hf_hook_name]
        if str(metadata.hook_name).endswith(".hook_mlp_in"):
            names.reverse()  # Prefer the name that tells whether the hook is before or after the norm.
        name, reads = _first_known(names, blocks, label)
    if sae is None or "transcoder" not in sae.cfg.architecture():
        return _Place(name, reads, reads)
    metadata = sae.cfg.metadata
    _, writes = _first_known([metadata.hook_name_out, metadata.hf_hook_name_out], blocks, label)
    if writes.number != reads.number:
        raise SourceError(
            f"{label} reads block {reads.number} and writes block {writes.number}; only transcoders within "
            "one block can be placed at a layer"
        )
    return _Place(name, reads, writes)


def _first_known(names: list[str | None], blocks: Blocks | None, label: str) -> tuple[str, Hook]:
    for name in names:
        hook = find_hook(name, blocks)
        if name is not None and hook is not None:
            return name, hook
    shown = next((name for name in names if name is not None), "")
    raise SourceError(_unknown(shown, label))


def _unknown(name: str, label: str) -> str:
    return (
        f"{label} reads {name!r}, whose decoder does not write the residual stream directly; hooks that can "
        "be compared: hook_resid_post, hook_resid_pre, hook_mlp_out, hook_attn_out, attn.hook_z, or the "
        "module whose output the block adds"
    )


def _check_place(recipe: Recipe, source: SaeSource, layer: int, place: _Place, label: str) -> None:
    """Raise SourceError: the SAE is at no site, or not where the recipe says."""
    writes = place.writes
    if writes.point == "resid_mid":
        raise SourceError(
            f"{label} reads {place.name!r}, the residual stream between attention and mlp, which is no site "
            "of a graph; use the suite's SAEs of hook_resid_post or hook_resid_pre"
        )
    if writes.site is None:
        raise SourceError(_unknown(place.name, label))
    expected = layer if recipe.block is None else recipe.block
    # A suite that reads before each block counts the output of the last block as one more layer.
    after_the_last = writes.point == "resid_post" and layer in dict(source.exceptions)
    if writes.site != source.site or expected - writes.number not in ((0, 1) if after_the_last else (0,)):
        raise SourceError(
            f"{label} reads {place.name} ({writes.number}/{writes.site}), but the recipe puts it at "
            f"{expected}/{source.site}"
        )


def _centred(sae: Any, model: LanguageModel | None) -> bool:
    """Return whether the SAE's model had centred writing weights, which only a LayerNorm model allows.

    Source: TransformerLens 3.9 centres if normalization_type is LN, whatever the caller asked for.
    """
    import torch

    asked = sae is not None and (sae.cfg.metadata.model_from_pretrained_kwargs or {})
    if not asked or not asked.get("center_writing_weights"):
        return False
    if model is None:
        return True
    norm = model.model.get_submodule(f"{model.blocks.path}.0{model.blocks.norm_before_mlp}")
    return isinstance(norm, torch.nn.LayerNorm)


def _reading(place: _Place, model: LanguageModel, centred: bool, label: str) -> Reading:
    """Return the tensor that the SAE encodes, with its target if it reconstructs another one."""

    def formed(hook: Hook) -> Reading:
        reading = model.blocks.reading(model.model, hook, label)
        written = hook.point not in ("z", "mlp_in", "normalized")
        return replace(reading, form="centred") if centred and written else reading

    target = None if place.writes == place.reads else formed(place.writes)
    return replace(formed(place.reads), target=target)


def _check_width(sae_width: int, hook: Hook, model: LanguageModel, what: str) -> None:
    """Raise SourceError: the model's tensor at a hook has another width than the SAE."""
    width, where = model.d_model, model.blocks.reading(model.model, hook, what).module
    if hook.point == "z":
        projection = model.model.get_submodule(where)
        width = int(projection.nx if hasattr(projection, "nx") else projection.in_features)
    if width != sae_width:
        raise SourceError(
            f"{what}, but {where} of {model.name} gives {width}; the recipe pairs the wrong model and SAEs"
        )


def _ready(sae: Any, model: LanguageModel) -> Any:
    """Return an SAE on the model's device, with attention heads flattened in its input."""
    if sae is None:
        return None
    if sae.cfg.reshape_activations == "hook_z":
        sae.turn_off_forward_pass_hook_z_reshaping()
    return sae if model.device.type == "meta" else sae.to(model.device)
