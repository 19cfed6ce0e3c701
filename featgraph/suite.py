"""Recipe -> the language model and its SAEs, each with its decoder directions in the residual basis.

Owns where an SAE reads in the model (`module_path`) and what its decoder rows mean there. A suite whose
directions cannot be compared in the residual basis is refused with the reason.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featgraph.arrays import Matrix
from featgraph.errors import SourceError
from featgraph.model import Site, Slab
from featgraph.recipe import Recipe, SaeSource

if TYPE_CHECKING:
    from sae_lens import SAE

BLOCKS = ("model.layers", "model.language_model.layers", "transformer.h", "gpt_neox.layers")
"""Where the families keep their blocks: Llama, Gemma and Qwen; multimodal Gemma 3; GPT-2; GPT-NeoX."""

_TL_HOOKS: dict[str, Site] = {"hook_resid_post": "res", "hook_mlp_out": "mlp", "hook_attn_out": "att"}
_MODULES: dict[Site, tuple[str, ...]] = {
    "res": ("",),
    "mlp": (".mlp",),
    "att": (".self_attn", ".attn", ".attention"),
}
"""The module whose output a block adds to the residual, as the families name it."""

_NORMED: dict[Site, tuple[str, ...]] = {
    "res": ("",),
    "mlp": (".post_feedforward_layernorm",),
    "att": (".post_attention_layernorm",),
}
"""The same for blocks that norm what they add (Gemma-2 and 3, known by `post_feedforward_layernorm`)."""


@dataclass(frozen=True)
class LoadedSae:
    """One SAE in its place."""

    slab: Slab
    sae: "SAE[Any]"
    module: str
    """Path of the module whose output it reads."""
    release: str
    sae_id: str
    digest: str
    """sha256 of its weights."""
    directions: Matrix
    """Unit decoder directions in the residual basis, (n_features, d_model)."""
    norms: Matrix
    """Length of each decoder row before scaling to unit length, (n_features,)."""

    @property
    def hook_name(self) -> str:
        """Where the SAE reads, as its own metadata says."""
        return str(self.sae.cfg.metadata.hook_name)


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer and what identifies it."""

    model: Any
    tokenizer: Any
    name: str
    digest: str

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def n_vocabulary(self) -> int:
        """Rows of the unembedding."""
        return int(self.unembedding.shape[0])

    @property
    def unembedding(self) -> Matrix:
        """Output embedding rows, (n_vocabulary, d_model)."""
        found: Matrix = self.model.get_output_embeddings().weight.detach().numpy()
        return found

    @property
    def parallel_residual(self) -> dict[str, bool]:
        """Whether attention and mlp read the same residual, for the families that can be set either way."""
        known = getattr(self.model.config, "use_parallel_residual", None)
        return {} if known is None else {"parallel_residual": bool(known)}

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers, such as llama."""
        return str(self.model.config.model_type)


def load_model(recipe: Recipe) -> LanguageModel:
    """Load the recipe's language model in float32, ready for inference.

    Raises SourceError: there is no model there, or transformers cannot read it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = recipe.model
    if source.path is not None and not (source.path / "config.json").is_file():
        raise SourceError(f"{recipe.file}: no model at {source.path} (it has no config.json)")
    name = str(source.path or source.hf)
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot load model {recipe.model_name}: {str(error).splitlines()[0]}") from error
    return LanguageModel(model, tokenizer, recipe.model_name, _state_digest(model))


def load_sae(
    recipe: Recipe, source: SaeSource, layer: int, number: int, first_id: int, language_model: LanguageModel
) -> LoadedSae:
    """Load one SAE in float32 and take its decoder directions.

    number, first_id: its place among the slabs and the id of its feature 0.

    Raises SourceError: it cannot be read, is damaged, reads elsewhere than the recipe says, or does not fit
    the model.
    """
    sae, release, sae_id, digest = _read_sae(recipe, source, layer)
    label = f"SAE {sae_id}"
    slab = Slab(number, layer, source.site, first_id, int(sae.cfg.d_sae))
    module = module_path(language_model.model, str(sae.cfg.metadata.hook_name), slab, label)
    if sae.cfg.d_in != language_model.d_model:
        raise SourceError(
            f"{label} reads {sae.cfg.d_in} dimensions, but {module} of {language_model.name} gives "
            f"{language_model.d_model}; the recipe pairs the wrong model and SAEs"
        )
    decoder: Matrix = sae.W_dec.detach().numpy().astype(np.float32)
    norms = np.linalg.norm(decoder, axis=1)
    if not np.isfinite(norms).all():
        raise SourceError(f"{label} has NaN or infinite decoder weights; its file is damaged")
    directions = decoder / np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
    return LoadedSae(slab, sae, module, release, sae_id, digest, directions, norms)


def module_path(model: Any, hook_name: str, slab: Slab, label: str) -> str:
    """Return the path of the module whose output an SAE reads, from its TransformerLens or module name.

    Raises SourceError: the hook is another layer or site than `slab`, or one whose decoder does not write
    the residual basis.
    """
    blocks = block_list(model)
    modules = _added_modules(model, blocks)
    found = re.fullmatch(r"blocks\.(\d+)\.(hook_\w+)", hook_name)
    named = re.fullmatch(rf"{re.escape(blocks)}\.(\d+)(\.\w+)?", hook_name)
    if found and found[2] in _TL_HOOKS:
        layer, site = int(found[1]), _TL_HOOKS[found[2]]
    elif named and (sites := [site for site, names in modules.items() if (named[2] or "") in names]):
        layer, site = int(named[1]), sites[0]
    else:
        raise SourceError(
            f"{label} reads {hook_name!r}, whose decoder does not write the residual stream directly; hooks "
            "that can be compared: hook_resid_post, hook_mlp_out, hook_attn_out, or the module whose output "
            "the block adds"
        )
    if (layer, site) != (slab.layer, slab.site):
        raise SourceError(
            f"{label} reads {hook_name} ({layer}/{site}), but the recipe puts it at {slab.layer}/{slab.site}"
        )
    for suffix in modules[site]:
        path = f"{blocks}.{layer}{suffix}"
        if _has(model, path):
            return path
    raise SourceError(f"{label}: the model has no layer {layer} with {site} output under {blocks}")


def block_list(model: Any) -> str:
    """Return the path of the module list that holds a causal language model's blocks.

    Raises SourceError: the model is of a family whose blocks are not known.
    """
    for path in BLOCKS:
        if _has(model, path):
            return path
    raise SourceError(
        f"cannot find the blocks of a {type(model).__name__}; known places: {', '.join(BLOCKS)}"
    )


def _added_modules(model: Any, blocks: str) -> dict[Site, tuple[str, ...]]:
    return _NORMED if _has(model, f"{blocks}.0.post_feedforward_layernorm") else _MODULES


def _has(model: Any, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _read_sae(recipe: Recipe, source: SaeSource, layer: int) -> tuple["SAE[Any]", str, str, str]:
    """Return the SAE, its release, its id within it, and the sha256 of its weights."""
    from sae_lens import SAE
    from safetensors import SafetensorError

    if source.path is not None:
        folder = recipe.folder / source.path.format(layer=layer)
        weights = folder / "sae_weights.safetensors"
        if not weights.is_file():
            raise SourceError(f"{recipe.file}: no SAE at {folder} (it has no {weights.name})")
        try:
            sae = SAE.load_from_disk(folder, dtype="float32")
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise SourceError(f"cannot load SAE {folder}: {str(error).splitlines()[0]}") from error
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        return sae.eval(), recipe.name, source.path.format(layer=layer), digest
    sae_id = str(source.sae_id).format(layer=layer)
    try:
        sae = SAE.from_pretrained(str(source.release), sae_id)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"cannot load SAE {source.release} {sae_id}: {str(error).splitlines()[0]}"
        ) from error
    return sae.eval(), str(source.release), sae_id, _state_digest(sae)


def _state_digest(module: Any) -> str:
    """sha256 over the names and values of a module's tensors, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
