"""Random models with SAEs of every kind at every site, as a graph without an ingest, and their tensors."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

import featgraph
from featgraph import Graph, store
from featgraph.core.arrays import Matrix
from featgraph.core.keys import SaeRange, Site, block_of
from featgraph.recipe import read_recipe
from featgraph.steering import Settings, SteeredModel, SteeringVector
from featgraph.store import vectors
from featgraph.suite import LanguageModel, LoadedSae, load_sae
from featgraph.suite.hooks import Blocks, blocks_of
from helpers.new_graph import replacing
from helpers.one_sae import N_FEATURES, save_sae
from helpers.real_models import D_MODEL, D_Z, LAYERS, random_model

IDS = torch.tensor([[1, 5, 9, 3, 7, 12, 30], [1, 2, 16, 11, 4, 40, 8]])
PROMPT = 4
EVERYWHERE = [True] * IDS.shape[1]
TRANSCODER = {"hook_name_out": "blocks.{}.hook_mlp_out"}
SAES: dict[str, dict[str, Any]] = {
    "0/att": {"hook": "hook_attn_out", "kind": "standard"},
    "0/mlp": {"hook": "hook_mlp_out", "kind": "jumprelu"},
    "0/res": {"hook": "hook_resid_post", "kind": "topk", "k": 4},
    "1/att": {"hook": "attn.hook_z", "kind": "jumprelu"},
    "1/mlp": {"hook": "ln2.hook_normalized", "kind": "transcoder", **TRANSCODER},
    "1/res": {"hook": "hook_resid_post", "kind": "gated"},
    "2/att": {"hook": "attn.hook_z", "kind": "topk", "k": 4, "rescale_acts_by_decoder_norm": True},
    "2/mlp": {"hook": "mlp.hook_in", "kind": "jumprelu_skip_transcoder", **TRANSCODER},
    "2/res": {"hook": "hook_resid_post", "kind": "standard", "normalize_activations": "layer_norm"},
}
"""Where each SAE of the graph reads and what it is; between them, every way to encode and to decode."""

CENTRED: dict[str, dict[str, Any]] = {
    f"{layer}/{site}": {
        "hook": hook,
        "kind": "standard",
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    for layer in range(LAYERS)
    for site, hook in (("att", "attn.hook_z"), ("mlp", "hook_mlp_out"), ("res", "hook_resid_pre"))
}
"""A suite for a model whose writing weights are centred; residual SAEs read before each block."""

MIXED = {"0": 1.5, "1": -2.0, "3": 0.5, "4": -0.75}
"""Weights of the features of one SAE that are steered together."""

FINAL_NORMS = {"gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm"}

_RECIPE = """\
title = "random SAEs"
seed = 0
[model]
hf = "random"
[suite]
layers = 3
[suite.sites.res]
path = "{layer}.res"
[suite.sites.mlp]
path = "{layer}.mlp"
[suite.sites.att]
path = "{layer}.att"
[edges]
kinds = ["res_res"]
top_k = 1
twera_k = 0
min_support = 1
"""


@cache
def suite_of(family: str, *, centred: bool = False) -> tuple[Any, Graph]:
    """Return a random model in double precision and the graph of its SAEs; for reading."""
    model = random_model(family).double()
    return model, featgraph.open(write_graph(Path(mkdtemp()), model, CENTRED if centred else SAES))


def write_graph(folder: Path, model: Any, saes: dict[str, dict[str, Any]]) -> Path:
    """Write random SAEs of a model and their graph, which knows of its text only that all fired at 2."""
    recipe = folder / "random.toml"
    recipe.write_text(_RECIPE, encoding="utf-8")
    language_model = LanguageModel(model, None, "random")
    for place, options in saes.items():
        layer, site = place.split("/")
        given = dict(options)
        hook = f"blocks.{layer}.{given.pop('hook')}"
        if "hook_name_out" in given:
            given["hook_name_out"] = given["hook_name_out"].format(layer)
        grouped = not hasattr(model, "gpt_neox") and not hasattr(model, "transformer")
        save_sae(folder / f"{layer}.{site}", hook, D_Z if grouped and "hook_z" in hook else D_MODEL, **given)
    read = read_recipe(recipe)
    loaded = [load_sae(read, source, layer, language_model) for layer, source in read.places]
    order: list[Site] = ["att", "mlp", "res"]
    loaded.sort(key=lambda one: (one.block, order.index(one.site), one.layer))
    path = folder / "random.featgraph"
    with replacing(path) as build:
        connection = store.create_database(build)
        for number, one in enumerate(loaded):
            _write_sae(connection, build, number, one)
        connection.execute(_EDGES)
        store.finish_database(connection)
        shape = {
            "name": "random",
            "model_type": language_model.model_type,
            "d_model": D_MODEL,
            "n_layers": LAYERS,
            "sha256": language_model.digest,
            **language_model.parallel_residual,
        }
        manifest = {
            "recipe": {"name": "random", **tomllib.loads(_RECIPE)},
            "chosen": {},
            "model": shape,
            "saes": [{"sha256": one.digest} for one in loaded],
        }
        store.write_manifest(build, manifest)
    return path


def _write_sae(connection: Any, build: Path, number: int, one: LoadedSae) -> None:
    shift = block_of(one.layer, one.hook_name) - one.layer
    sae = SaeRange(number, one.layer, one.site, number * N_FEATURES, N_FEATURES, shift)
    vectors.save(store.vectors_file(build, sae), one.directions)
    connection.execute(
        "insert into sae (number, layer, site, first_id, n_features, hook_name, release, sae_id, "
        "architecture, "
        "d_in, rms_length, threshold_high) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 3.0, 0.5)",
        [
            *(number, one.layer, one.site, sae.first_id, N_FEATURES, one.hook_name, one.release, one.sae_id),
            *(one.architecture, one.d_in),
        ],
    )
    for idx, norm in enumerate(one.norms.tolist()):
        connection.execute(
            "insert into feature (id, key, layer, site, idx, density, max_activation, decoder_norm) "
            "values (?, ?, ?, ?, ?, 0.25, 2.0, ?)",
            [sae.first_id + idx, str(sae.key(idx)), one.layer, one.site, idx, norm],
        )


_EDGES = """
    insert into edge (src, dst, kind, cosine, rank_out, rank_in, found_by)
    select a.id, b.id, 'res_res', 0.8, 1, 1, 'cosine'
    from feature a join feature b on b.layer = a.layer + 1 and b.idx = a.idx
    where a.site = 'res' and b.site = 'res' order by a.id, b.id
"""
"""Residual features of one index are one lineage."""


def final_norm(model: Any) -> str:
    """Return the path of the norm that reads what the last block leaves."""
    path = blocks_of(model).path
    return FINAL_NORMS.get(
        path.partition(".")[0].replace("transformer", "gpt2"), path.replace("layers", "norm")
    )


def parallel(model: Any) -> bool:
    """Return whether attention and mlp read the same residual stream."""
    return bool(getattr(model.config, "use_parallel_residual", False))


def points(model: Any) -> dict[str, str]:
    """Return the module that reads the stream at each point, in the order of the model."""
    blocks: Blocks = blocks_of(model)
    found = {"out -1": f"{blocks.path}.0"}
    n_blocks = len(model.get_submodule(blocks.path))
    for layer in range(n_blocks):
        if not parallel(model):
            found[f"mid {layer}"] = f"{blocks.path}.{layer}{blocks.norm_before_mlp}"
        last = layer + 1 == n_blocks
        found[f"out {layer}"] = final_norm(model) if last else f"{blocks.path}.{layer + 1}"
    return found


@contextmanager
def kept(model: Any, places: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, torch.Tensor]]:
    """Keep what modules read or give, (path, end) by name, as it is where this block begins."""
    found: dict[str, torch.Tensor] = {}
    handles = []
    for name, (path, end) in places.items():

        def before(_module: Any, given: Any, named: Any, name: str = name) -> None:
            found[name] = (given[0] if given else named["hidden_states"]).clone()

        def after(_module: Any, _given: Any, output: Any, name: str = name) -> None:
            found[name] = (output[0] if isinstance(output, tuple) else output).clone()

        module = model.get_submodule(path)
        if end == "input":
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(after))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def stream(model: Any, ids: torch.Tensor = IDS) -> dict[str, torch.Tensor]:
    """Run a model and return the residual stream at each point, as the next module reads it."""
    with kept(model, {name: (path, "input") for name, path in points(model).items()}) as found:
        with torch.no_grad():
            model(ids)
        return found


def plain_vector(
    model: Any, layers: dict[int, Matrix], middles: dict[int, Matrix] | None = None, **settings: Any
) -> SteeringVector:
    """Return a vector of these numbers for a model, of no feature."""
    config = model.config.get_text_config()
    meant = SteeredModel("random", model.config.model_type, config.hidden_size, config.num_hidden_layers)
    return SteeringVector(layers, (), Settings(**settings), meant, middles or {})


def some_vector(seed: int) -> Matrix:
    return np.random.default_rng(seed).normal(size=D_MODEL).astype(np.float32)


def n_hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
