"""One shard of text -> the codes of several SAEs on it, from one run of the model."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import scipy.sparse

from featgraph.activations import Pieces, decoded, encode, one_thread_per_task
from featgraph.sites import Activations, Sites
from featgraph.statistics import Reconstruction
from featgraph.suite import LanguageModel, LoadedSae

Encoded = tuple[scipy.sparse.csr_matrix, Reconstruction]
"""Codes of one SAE, (n_tokens, n_features), and how well they rebuild what it reads."""


def encode_pieces(model: LanguageModel, saes: Sequence[LoadedSae], pieces: Pieces) -> list[Encoded]:
    """Return, per SAE, its codes on all batches of some text, one after the other.

    The model reads the next batch while the SAEs encode this one; every task has one thread.
    """
    sites = Sites(model, [loaded.reading for loaded in saes if loaded.reading is not None])
    batches = list(pieces.batches())
    found: list[list[Encoded]] = [[] for _ in saes]
    with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = pool.submit(sites, batches[0])
        for following in [*batches[1:], None]:
            activations = ahead.result()
            if following is not None:
                ahead = pool.submit(sites, following)
            jobs = [pool.submit(_encode, loaded, activations) for loaded in saes]
            for parts, job in zip(found, jobs, strict=True):
                parts.append(job.result())
    return [_joined(parts) for parts in found]


def _encode(loaded: LoadedSae, activations: Activations) -> Encoded:
    assert loaded.reading is not None
    codes, rebuilt = encode(loaded, activations[loaded.reading])
    reconstruction = Reconstruction(rebuilt.shape[1])
    reconstruction.update(decoded(activations[loaded.reading.rebuilt]), rebuilt)
    return codes, reconstruction


def _joined(parts: list[Encoded]) -> Encoded:
    codes = scipy.sparse.vstack([found for found, _ in parts], format="csr")
    total = parts[0][1]
    for _, part in parts[1:]:
        total = total.merge(part)
    return codes, total
