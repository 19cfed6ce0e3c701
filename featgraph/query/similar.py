"""The features nearest to a direction: a feature's own, a vector's, or the one that a text takes.

The search is FAISS over each SAE's unit directions. Only a text needs the language model and the SAEs, which
are found again by the recipe that the manifest holds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Matrix
from featgraph.core.bounded import json_value, read_text
from featgraph.core.files import os_reason
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.query.verbs import VERBS
from featgraph.store import Store, vectors
from featgraph.store.features import find_feature, known_features
from featgraph.suite.graph_suite import GraphSuite

if TYPE_CHECKING:
    from featgraph.activations import TokenRows
    from featgraph.suite import LanguageModel, LoadedSae


def similar(
    store: Store,
    key: str | None = None,
    *,
    k: int = 10,
    vector: Sequence[float] | NDArray[Any] | None = None,
    text: str | None = None,
) -> Result:
    """Return the k features of every SAE nearest to one direction, best first.

    key: a feature, which is left out itself. k: 1 or more. vector: d_model numbers in the basis of the
    residual stream, of any length but 0. text: see `text_directions`; each SAE is searched with
    the direction at its own site.
    Columns: id, key, layer, site, cosine, label (what somebody wrote before what was made from tokens).

    Raises UsageError: not one of the three is given, there is no such feature, or the vector has no direction
    or another width. SourceError: the text's language model or an SAE cannot be found again.
    """
    given = (key is not None) + (vector is not None) + (text is not None)
    if given != 1:
        raise UsageError(f"give exactly one of a feature key, a vector and a text, got {given}")
    seed = None
    if key is not None:
        idx, home = find_feature(store.saes, key)
        seed = home.first_id + idx.idx
        queries = [vectors.directions(store.vectors(home), [idx.idx])] * len(store.saes)
    elif vector is not None:
        queries = [_direction(vector, store.d_model)[None]] * len(store.saes)
    else:
        queries = [direction[None] for direction in text_directions(store, str(text))]
    return _nearest(store, queries, k, seed)


def _nearest(store: Store, queries: list[Matrix], k: int, seed: int | None) -> Result:
    """Search each SAE with its own query, (1, d_model); the feature `seed` is left out."""
    cosine_of: dict[int, float] = {}
    for sae, query in zip(store.saes, queries, strict=True):
        cosines, idxs = vectors.search(store.vectors(sae), query, k + (seed is not None))
        ids = (sae.first_id + idxs[0]).tolist()
        pairs = [pair for pair in zip(ids, cosines[0].tolist(), strict=True) if pair[0] != seed]
        cosine_of.update(pairs[:k])
    nearest = sorted(known_features(store, cosine_of).values(), key=lambda one: (-cosine_of[one.id], one.id))
    rows: list[tuple[object, ...]] = [
        (one.id, str(one.key), one.key.layer, one.key.site, cosine_of[one.id], one.label) for one in nearest
    ]
    return Result.of(VERBS["similar"].columns, rows)


def _direction(vector: Sequence[float] | NDArray[Any], d_model: int) -> Matrix:
    """Return a vector at length 1."""
    needed = f"a vector of {d_model} numbers is needed (the width of this graph's residual stream)"
    try:
        values = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the vector is not a list of numbers; {needed}") from error
    if values.shape != (d_model,):
        shape = f"{values.size} numbers" if values.ndim == 1 else f"the shape {values.shape}"
        raise UsageError(f"the vector has {shape}; {needed}")
    odd = np.flatnonzero(~np.isfinite(values))
    if len(odd):
        raise UsageError(f"number {odd[0]} of the {d_model} of the vector is {values[odd[0]]}; {needed}")
    largest = np.abs(values).max(initial=0.0)
    if largest == 0:
        raise UsageError(f"all {d_model} numbers of the vector are 0, so it has no direction; {needed}")
    values = values / largest
    unit: Matrix = (values / np.linalg.norm(values)).astype(np.float32)
    return unit


def text_directions(store: Store, text: str) -> list[Matrix]:
    """Return the unit direction, (d_model,), that a text takes at the site of each SAE.

    It is the mean over the text's tokens, BOS left out, of the activation less what the SAE decodes when no
    feature is active. An SAE writes an activation as that centre (its decoder bias) plus a sum of decoder
    directions, so only the rest without the centre compares with the directions;
    the mean activation itself would mostly point where all texts do. A short text is also the beginning of
    one, so features of first tokens are among the nearest.

    Raises UsageError: the text has no tokens. SourceError: the language model or an SAE is not there, or
    is not the one that the graph was made of.
    """
    sources = GraphSuite(store)
    from featgraph.activations.tokens import tokens_of_text

    pieces = tokens_of_text(sources, text)
    directions = []
    for sae in store.saes:
        loaded = sources.sae(sae)
        mean = loaded.writer.rows(_mean_without_centre(loaded, sources.model, pieces)[None], sources.model)
        directions.append(_direction(mean[0], sources.model.d_model))
    return directions


def _mean_without_centre(loaded: "LoadedSae", model: "LanguageModel", pieces: "TokenRows") -> Matrix:
    """Return the mean of what an SAE rebuilds, less what it decodes from nothing, (d_out,)."""
    import torch

    from featgraph.activations.forward import Sites

    assert loaded.sae is not None
    assert loaded.reading is not None
    sites = Sites(model, [loaded.reading])
    read = [sites(batch) for batch in pieces.batches()]
    activations = torch.cat([batch[loaded.reading] for batch in read])
    rebuilt = torch.cat([batch[loaded.reading.rebuilt] for batch in read])
    with torch.inference_mode():
        # Encoded first: some SAEs decode at the scale of what they encoded last.
        codes = loaded.sae.encode(activations)
        centre = loaded.decode(torch.zeros_like(codes), activations)
        mean: Matrix = (rebuilt - centre).mean(dim=0).cpu().numpy()
    return mean


def read_vector(path: Path) -> list[float]:
    """Read a vector from a .safetensors file (its only tensor, or the one named `vector`), .npy or .json.

    Raises UsageError: the file cannot be read, is of another kind, or holds something else.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        ".safetensors": _read_safetensors,
        ".npy": _read_npy,
        ".json": _read_json,
    }
    if path.suffix not in readers:
        raise UsageError(f"cannot tell what kind of file {path} is; give one of {', '.join(readers)}")
    if not path.is_file():
        raise UsageError(f"there is no file {path} to read a vector from")
    try:
        values = np.asarray(readers[path.suffix](path))
    except OSError as error:
        raise UsageError(f"cannot read the vector {path}: {os_reason(error)}") from error
    except ValueError as error:
        raise UsageError(f"cannot read the vector {path}: {os_reason(error)}") from error
    if values.dtype.kind not in "fiu" or max(values.shape, default=0) != values.size:
        raise UsageError(
            f"{path} holds {values.dtype} of shape {values.shape}; a vector is a list of real numbers"
        )
    flat: list[float] = values.astype(np.float64).ravel().tolist()
    return flat


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError("not an array of numbers as numpy.save writes it") from error
    return array


def _read_json(path: Path) -> Any:
    return json_value(read_text(path))


def _read_safetensors(path: Path) -> NDArray[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if "vector" not in names and len(names) != 1:
                raise ValueError(f"it has {len(names)} tensors and none is named 'vector'")
            tensor: NDArray[Any] = file.get_tensor("vector" if "vector" in names else names[0])
            return tensor
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    except TypeError as error:  # bfloat16 and the like
        raise ValueError(f"{error}; save it as float32") from error
