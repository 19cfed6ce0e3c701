"""One SAE of a recipe from wherever it lies: the hub by its registry name, a local folder, or bare decoders.

sae_lens's own loaders do the reading; here stand which of them, in float32 whatever was stored, and a refusal
that names the file where one is absent, damaged or holds something else. What the SAE means in a model is
left to `suite`.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featgraph.core.arrays import Matrix
from featgraph.core.files import file_sha256
from featgraph.errors import FeatgraphError, SourceError, nearest
from featgraph.recipe import Recipe, SaeSource
from featgraph.suite.converters import converter
from featgraph.suite.layouts import Layout, layout_of, read_config, tensor_shapes
from featgraph.suite.registry import releases, resolve_one
from featgraph.suite.sae_configs import check_config, check_folder, check_loaded, check_scaling
from featgraph.suite.untrusted import no_questions

if TYPE_CHECKING:
    from sae_lens import SAE
    from torch import Tensor


@dataclass(frozen=True)
class SaeFile:
    """One SAE as stored, independent of the model."""

    sae: "SAE[Any] | None"
    """The SAE in float32; None for a file of decoders."""
    decoder: Matrix | None
    """Decoder rows of a file of decoders, (n_features, d_model); else None."""
    release: str
    """The release; for local files, the recipe's name."""
    sae_id: str
    digest: str
    """sha256 of the weights."""
    d_in: int | None
    """Width of the input; None for a file of decoders."""
    hook_name: str
    """Hook name, from the recipe or else from its files."""


def read_sae(recipe: Recipe, source: SaeSource, layer: int) -> SaeFile:
    """Read one SAE, complete and with finite weights.

    Raises SourceError: it is missing, cannot be fetched, is damaged, or has weights that are not floats.
    RecipeError: the registry does not have it.
    """
    if source.decoders is not None:
        return _read_decoders(recipe, source, layer)
    hook = recipe.hook_name(source, layer)
    if source.path is None:
        _, _, release, sae_id = resolve_one(recipe, layer, source)
        sae = _from_hub(release, sae_id)
        label, digest = f"SAE {release} {sae_id}", state_digest(sae)
    else:
        release, sae_id = recipe.name, recipe.sae_name(source, layer)
        folder = recipe.folder / sae_id
        layout = layout_of(folder, str(recipe.file))
        check_folder(folder, layout, hook, str(recipe.file))
        sae = _from_folder(folder, layout)
        label, digest = f"SAE {folder / layout.weights}", file_sha256(folder / layout.weights)
    check_loaded(sae.cfg, label)
    _check_state(sae.state_dict(), label)
    metadata = sae.cfg.metadata
    if hook is not None:
        metadata.hook_name, metadata.hf_hook_name = hook, None
    if metadata.hook_name is None:
        raise SourceError(
            f'{label} has no hook name; add it to the recipe: hook = "..." in [suite.sites.{source.site}]'
        )
    return SaeFile(sae.eval(), None, release, sae_id, digest, int(sae.cfg.d_in), str(metadata.hook_name))


def source_digest(recipe: Recipe, source: SaeSource, layer: int) -> str:
    """Return the identity of an SAE without loading it: a sha256 that changes if other files would be loaded.

    For local files: of their contents. For a published SAE: of its release, id and place in the registry,
    fetched or not; `SaeFile.digest` identifies the fetched weights.

    Raises SourceError: a file is missing. RecipeError: the registry does not have the SAE.
    """
    name, hook = recipe.sae_name(source, layer), recipe.hook_name(source, layer)
    if source.decoders is not None:
        what = [file_sha256(_existing(recipe, recipe.folder / name)), _key(recipe, source, layer)]
    elif source.path is not None:
        folder = recipe.folder / name
        layout = layout_of(folder, str(recipe.file))
        what = [layout.name, file_sha256(folder / layout.config), file_sha256(folder / layout.weights)]
    else:
        _, _, release, sae_id = resolve_one(recipe, layer, source)
        known = releases().get(release)
        what = [release, sae_id, *((known.repo, known.layout, known.saes[sae_id].path) if known else ())]
    return hashlib.sha256(json.dumps([*what, hook]).encode()).hexdigest()


def state_digest(module: Any) -> str:
    """Return the sha256 over the names and values of a module's tensors, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _from_hub(release: str, sae_id: str) -> "SAE[Any]":
    from sae_lens import SAE
    from sae_lens.loading.pretrained_sae_loaders import (
        NAMED_PRETRAINED_SAE_LOADERS,
        get_conversion_loader_name,
    )

    label = f"SAE {release} {sae_id}"

    def checked(*arguments: Any, **named: Any) -> Any:
        config, state, sparsity = loader(*arguments, **named)
        check_config(config, label)
        check_scaling(state, label)
        return config, state, sparsity

    with _refusing(label):
        loader = NAMED_PRETRAINED_SAE_LOADERS[get_conversion_loader_name(release)]
        made, _, _ = SAE.from_pretrained_with_cfg_and_sparsity(
            release, sae_id, dtype="float32", converter=checked
        )
        return made


def _from_folder(folder: Path, layout: Layout) -> "SAE[Any]":
    from sae_lens import SAE

    weights = folder / layout.weights
    if layout.weights.endswith(".safetensors"):
        tensor_shapes(weights)
    read_config(folder / layout.config)
    if layout.name == "sae_lens":
        check_scaling(_scaling(weights), f"SAE {weights}")
    with _refusing(f"SAE {weights}", layout.config):
        return SAE.load_from_disk(folder, dtype="float32", converter=converter(layout.name))


def _scaling(weights: Path) -> "dict[str, Tensor]":
    """Return the scaling factors of activations that older versions stored with the weights."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if "scaling_factor" in name}  # noqa: SIM118


def _read_decoders(recipe: Recipe, source: SaeSource, layer: int) -> SaeFile:
    from safetensors import safe_open

    name, key = recipe.sae_name(source, layer), _key(recipe, source, layer)
    path = _existing(recipe, recipe.folder / name)
    shapes = tensor_shapes(path)
    if key not in shapes:
        held = ", ".join(sorted(shapes)) or "nothing"
        raise SourceError(f"{path} has no tensor {key!r}{nearest(key, shapes)}; it holds {held}")
    if len(shapes[key]) != 2 or 0 in shapes[key]:
        raise SourceError(f"{path}: {key!r} has shape {shapes[key]}; decoders have one row per feature")
    width = source.d_in or recipe.model.d_model
    if width is not None and shapes[key][1] != width:
        hint = "; its rows and columns are swapped" if shapes[key][0] == width else ""
        raise SourceError(
            f"{path}: {key!r} has shape {shapes[key]}, but the recipe expects rows of {width}{hint}"
        )
    with _refusing(f"decoders {path}"), safe_open(path, framework="pt") as file:
        tensor = file.get_tensor(key).float()
    _check_state({key: tensor}, str(path))
    decoder = np.ascontiguousarray(tensor.numpy())
    hook = str(recipe.hook_name(source, layer))
    return SaeFile(None, decoder, recipe.name, name, file_sha256(path), None, hook)


def _key(recipe: Recipe, source: SaeSource, layer: int) -> str:
    """Return the name of the tensor with a layer's decoders; one file may have those of all layers."""
    return recipe.filled(str(source.key), layer)


def _existing(recipe: Recipe, path: Path) -> Path:
    if not path.is_file():
        raise SourceError(f"{recipe.file}: no decoders at {path}")
    return path


def _check_state(state: "dict[str, Tensor]", label: str) -> None:
    """Raise SourceError: weights are not finite."""
    for name, tensor in state.items():
        bad = tensor.numel() - int(tensor.isfinite().sum())
        if bad:
            raise SourceError(
                f"{label} is damaged: {bad:,} of {tensor.numel():,} values of {name} are NaN or infinite; "
                "fetch or write it again"
            )


@contextmanager
def _refusing(label: str, config: str = "") -> Iterator[None]:
    """Turn exceptions of the loaders about bad files into SourceErrors of one line."""
    import pickle

    try:
        with warnings.catch_warnings():
            # The SAE needs a model loaded in another way; we centre its input if needed (`residual`).
            warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from_pretrained")
            # `sae_configs.check_loaded` refuses factors that are not folded in.
            warnings.filterwarnings("ignore", message="norm_scaling_factor not found")
            with no_questions():
                yield
    except FeatgraphError:
        raise
    except pickle.UnpicklingError as error:
        raise SourceError(f"cannot load {label}: its weights are not plain tensors, or truncated") from error
    except KeyError as error:
        what = f"it or its {config}" if config else "it"
        raise SourceError(f"cannot load {label}: {what} has no {error.args[0]!r}") from error
    except RecursionError as error:
        raise SourceError(f"cannot load {label}: it is nested too deep") from error
    except Exception as error:  # Files can have any content, so their readers can raise any exception.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # torch puts the module on the first line and the problem below.
        reason = lines[1] if lines[0].startswith("Error(s) in loading state_dict") and lines[1:] else lines[0]
        raise SourceError(f"cannot load {label}: {reason}") from error
