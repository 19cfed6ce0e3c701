"""Checks the configuration of an SAE; unknown settings are refused by name, never ignored.

An option that a loader leaves out silently changes what the SAE encodes, so each project's configuration is
held against what is known of it, whether it lies in a folder or came from the Hub. Reads JSON alone, so that
a dry run refuses what an ingest would.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featgraph.errors import SourceError, nearest
from featgraph.suite.layouts import Layout, read_config

_EVERY_SAE = {
    "architecture",
    "d_in",
    "d_sae",
    "dtype",
    "device",
    "apply_b_dec_to_input",
    "normalize_activations",
    "reshape_activations",
    "metadata",
}
_ABOUT_THE_MODEL = {
    "context_size",
    "dataset_path",
    "exclude_special_tokens",
    "hf_hook_name",
    "hf_hook_name_out",
    "hook_head_index",
    "hook_head_index_out",
    "hook_name",
    "hook_name_out",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "model_name",
    "neuronpedia_id",
    "prepend_bos",
    "sae_lens_training_version",
    "sae_lens_version",
    "seqpos_slice",
}
"""Keys of metadata that sae_lens's registry may add. Source: LLM_METADATA_KEYS of sae_lens 6.54."""

_TRANSCODER = {"d_out"}
ARCHITECTURES: dict[str, set[str]] = {
    "standard": set(),
    "gated": set(),
    "jumprelu": set(),
    "topk": {"k", "rescale_acts_by_decoder_norm"},
    "abstopk": {"k", "rescale_acts_by_decoder_norm"},
    "transcoder": _TRANSCODER,
    "skip_transcoder": _TRANSCODER,
    "jumprelu_transcoder": _TRANSCODER,
    "jumprelu_skip_transcoder": _TRANSCODER,
    "matching_pursuit": {"residual_threshold", "max_iterations", "stop_on_duplicate_support"},
    "temporal": {
        "n_heads",
        "n_attn_layers",
        "bottleneck_factor",
        "sae_diff_type",
        "kval_topk",
        "tied_weights",
        "activation_normalization_factor",
    },
}
"""Architecture of sae_lens 6 -> its configuration keys, besides those of every SAE."""

NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
"""Supported normalisations of the input: those that need no numbers besides the weights."""

_TRAINING = ("decoder_init_norm", "l1_coefficient", "l0_coefficient", "lr", "trainer_class")
_TRAINED_ONLY = ("batchtopk", "matryoshka_batchtopk")

DICTIONARIES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "AutoEncoderTopK",
    "GatedAutoEncoder",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
)
"""Supported classes of dictionary_learning. Source: dictionary_learning 0.1, dictionary.py."""

_SPARSIFY = {
    "activation": ("topk",),
    "transcode": (False,),
    "skip_connection": (False,),
    "signed": (False,),
    "expansion_factor": None,
    "normalize_decoder": None,
    "num_latents": None,
    "k": None,
    "d_in": None,
    "multi_topk": None,
}
"""Key of a sparsify configuration -> values that sae_lens can represent; None: any. `multi_topk` only changes
the
training loss."""


def check_folder(folder: Path, layout: Layout, hook: str | None, asked_by: str) -> None:
    """Check the configuration of an SAE in a folder.

    hook: hook name in the recipe, if any. asked_by: the recipe, for the error.

    Raises SourceError: it says something that is not known.
    """
    path = folder / layout.config
    config = read_config(path)
    if layout.name == "sparsify":
        _check_sparsify(config, path)
        if hook is None and bare_layer(folder.name) is None:
            raise SourceError(
                f"{asked_by}: the name of {folder} is not that of a block; "
                'name its hook: hook = "..." under its site'
            )
    elif layout.name == "dictionary_learning":
        _check_dictionary(config, path, hook)
    else:
        check_config(config, str(path))


def check_config(config: Mapping[str, Any], label: str) -> None:
    """Check a configuration of sae_lens, of version 6 or older.

    Raises SourceError: it says something that is not known.
    """
    architecture = config.get("architecture", "standard")
    training = next((key for key in _TRAINING if key in config), None)
    if training or architecture in _TRAINED_ONLY:
        state = f"has {training!r}" if training else f"is of architecture {architecture!r}"
        raise SourceError(
            f"{label} {state}, so this is a training checkpoint; convert it first, with sae_lens: "
            "TrainingSAE.load_from_disk(FOLDER).save_inference_model(NEW_FOLDER)"
        )
    if architecture not in ARCHITECTURES:
        hint = nearest(str(architecture), ARCHITECTURES) or f"; known: {', '.join(ARCHITECTURES)}"
        raise SourceError(f"{label} says architecture = {architecture!r}, which is not known{hint}")
    metadata = config.get("metadata")
    version = str((metadata or {}).get("sae_lens_version") or config.get("sae_lens_version") or "")
    if not re.match(r"[6-9]|\d\d", version):
        _check_old(config, label)
        return
    known = _EVERY_SAE | ARCHITECTURES[architecture] | _ABOUT_THE_MODEL
    for key, value in config.items():
        # sae_lens itself adds the first of these, false, to what it has read.
        if key not in known and not (key == "finetuning_scaling_factor" and not value):
            raise SourceError(
                f"{label} says {key} = {value!r}, an unknown key of a {architecture} SAE, which "
                "may change its codes"
            )


def check_loaded(config: Any, label: str) -> None:
    """Check the configuration of an SAE loaded by sae_lens; config: its `cfg`.

    Raises SourceError: it needs numbers that are not in its weights.
    """
    normalised, reshaped = config.normalize_activations, config.reshape_activations
    if normalised not in NORMALISATIONS:
        mend = (
            "fold them into its weights (sae_lens: fold_activation_norm_scaling_factor, then save_model)"
            if normalised == "expected_average_only_in"
            else "use an SAE that has them folded into its weights"
        )
        raise SourceError(
            f"{label} says normalize_activations = {normalised!r}: its input needs scaling by numbers "
            f"that its files do not have; {mend}"
        )
    if reshaped not in ("none", "hook_z"):
        raise SourceError(f"{label} says reshape_activations = {reshaped!r}, which is not known")


def check_scaling(names: Mapping[str, Any], label: str) -> None:
    """Check the tensors of an SAE of an older sae_lens; names: each with its values.

    Raises SourceError: activations have scaling factors, which sae_lens 6 ignores.
    """
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in names and not bool((names[name] == 1).all()):
            raise SourceError(
                f"{label} has a {name} that is not 1: decoding multiplies each activation by it, which "
                f"sae_lens 6 does not; multiply the rows of W_dec by it and take {name} out of the file"
            )


def _check_old(config: Mapping[str, Any], label: str) -> None:
    """Raise SourceError: an older configuration has a setting that sae_lens 6 ignores."""
    activation = config.get("activation_fn") or config.get("activation_fn_str") or "relu"
    if activation not in ("relu", "topk"):
        raise SourceError(
            f"{label} says activation_fn = {activation!r}, which sae_lens 6 does not have; known: relu, topk"
        )
    kept = config.get("activation_fn_kwargs") or {}
    for key, value in kept.items():
        if key not in ("k", "signed") or (key == "signed" and value):
            raise SourceError(f"{label} says activation_fn_kwargs.{key} = {value!r}, which is not known")


def _check_sparsify(config: Mapping[str, Any], path: Path) -> None:
    for key, value in config.items():
        if key not in _SPARSIFY:
            hint = nearest(key, _SPARSIFY) or f"; known: {', '.join(_SPARSIFY)}"
            raise SourceError(f"{path} says {key} = {value!r}, which is not known of sparsify{hint}")
        fine = _SPARSIFY[key]
        if fine is not None and value not in fine:
            raise SourceError(f"{path} says {key} = {value!r}; sae_lens has no such SAE in this layout")


def sparsify_width(config: Mapping[str, Any]) -> int:
    """Return the number of features of a sparsify SAE; if `num_latents` is 0, `expansion_factor` gives it.

    Source: EleutherAI/sparsify, sparse_coder.py.
    """
    return int(config.get("num_latents") or int(config["d_in"]) * int(config["expansion_factor"]))


def bare_layer(name: str) -> int | None:
    """Return the layer of a hook point that is a whole block, such as `layers.3` or `h.3`; else None.

    >>> bare_layer("layers.3"), bare_layer("h.11"), bare_layer("layers.3.mlp")
    (3, 11, None)
    """
    whole = re.fullmatch(r"(?:layers|h)[._](\d+)", name)
    return int(whole[1]) if whole else None


def _check_dictionary(config: Mapping[str, Any], path: Path, hook: str | None) -> None:
    trainer = config.get("trainer")
    if not isinstance(trainer, dict):
        raise SourceError(f"{path} has no 'trainer', which describes the dictionary")
    kind = trainer.get("dict_class")
    if kind not in DICTIONARIES:
        hint = nearest(str(kind), DICTIONARIES) or f"; known: {', '.join(DICTIONARIES)}"
        raise SourceError(f"{path} says dict_class = {kind!r}, which is not known{hint}")
    if hook is not None:
        return
    mend = 'say where it reads: hook = "..." under its site'
    buffer = config.get("buffer")
    io = (buffer if isinstance(buffer, dict) else {}).get("io") or trainer.get("io") or "out"
    if io != "out":
        raise SourceError(f"{path} says io = {io!r}: it does not read the output of its module; {mend}")
    module = trainer.get("submodule_name")
    if module and not re.search(r"resid_post|(?:^|\.)(?:layers|h)[._]\d+$", str(module)):
        raise SourceError(
            f"{path} says submodule_name = {module!r}, which is not the output of a block; {mend}"
        )
    if trainer.get("layer") is None:
        raise SourceError(f"{path} has no layer; {mend}")
