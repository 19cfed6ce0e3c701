"""Runs the unsteered model, and the steered one, over texts that are there already."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featgraph.activations.forward import Sites
from featgraph.activations.tokens import Batch
from featgraph.evaluation.measures import kl, theme_activation, theme_logprob, theme_share
from featgraph.evaluation.themes import Downstream, Theme
from featgraph.steering import SteeringVector
from featgraph.steering.generate import Generated
from featgraph.suite.graph_suite import GraphSuite
from featgraph.suite.sae import tokens_at_once

if TYPE_CHECKING:
    import torch

    from featgraph.suite import LanguageModel

LOGITS = 2**26
"""Most logits in memory at once: 256 MB in float32. Our choice."""

Floats = NDArray[np.float64]
"""One number per text."""


def presence(suite: GraphSuite, theme: Theme, texts: Sequence[Generated]) -> tuple[Floats, Floats]:
    """Return, per text, `theme_activation` and `theme_share` over the generated tokens.

    The unsteered model reads prompt and generated tokens; NaN for an empty text.
    """
    import torch

    measured = np.full((2, len(texts)), np.nan)
    full = [place for place, text in enumerate(texts) if text.tokens]
    if not full:
        return measured[0], measured[1]
    codes, owner = _codes(suite, theme.features, [texts[place] for place in full])
    largest = torch.tensor([feature.largest for feature in theme.features])
    weight = torch.tensor([feature.weight for feature in theme.features])
    for number, place in enumerate(full):
        own = codes[owner == number]
        measured[:, place] = theme_activation(own, largest, weight), theme_share(own)
    return measured[0], measured[1]


def _codes(
    suite: GraphSuite, features: Sequence[Downstream], texts: Sequence[Generated]
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return activations on the generated tokens, (n_tokens, n_features), and the text of each token."""
    import torch

    sae_ranges = sorted({feature.number for feature in features})
    saes = {sae: suite.sae(suite.saes[sae], keep=True) for sae in sae_ranges}
    readings = {sae: loaded.reading for sae, loaded in saes.items()}
    sites = Sites(suite.model, [reading for reading in readings.values() if reading is not None])
    batch = _batch(texts)
    activations = sites(batch)
    codes = torch.zeros(len(batch.token), len(features))
    with torch.inference_mode():
        for sae, loaded in saes.items():
            reading = readings[sae]
            assert reading is not None
            assert loaded.sae is not None
            columns = [place for place, feature in enumerate(features) if feature.number == sae]
            idxs = [features[place].idx for place in columns]
            parts = activations[reading].split(tokens_at_once(loaded.sae.cfg.d_sae))
            codes[:, columns] = torch.cat([loaded.sae.encode(part)[:, idxs].float().cpu() for part in parts])
    return codes, torch.from_numpy(batch.row)


def _batch(texts: Sequence[Generated]) -> Batch:
    """Return texts as one batch in which only the generated tokens count; rows are padded on the right."""
    rows = [[*text.prompt, *text.tokens] for text in texts]
    longest = max(map(len, rows))
    ids = np.array([row + row[:1] * (longest - len(row)) for row in rows], dtype=np.int64)
    place = np.arange(longest)
    begins = np.array([len(text.prompt) for text in texts])[:, None]
    ends = np.array([len(row) for row in rows])[:, None]
    counted = (place >= begins) & (place < ends)
    piece, position = np.nonzero(counted)
    return Batch(piece, position, ids[counted], ids, counted)


def likelihood(model: "LanguageModel", texts: Sequence[Generated]) -> Floats:
    """Return the mean negative log-likelihood, in nats, of each text's tokens; NaN for an empty one."""
    nlls = np.full(len(texts), np.nan)
    for places, logprobs, batch in _read(model, texts, None):
        tokens = logprobs.new_tensor(batch.token).long()
        nll = -logprobs.gather(1, tokens[:, None])[:, 0].double().cpu().numpy()
        _means(nlls, places, batch, nll)
    return nlls


def theme_logprobs(
    model: "LanguageModel", texts: Sequence[Generated], vector: SteeringVector | None, theme: Theme
) -> Floats:
    """Return the steered model's log probability of the theme's tokens, averaged over each text's positions.

    NaN for an empty text.
    """
    means = np.full(len(texts), np.nan)
    for places, logprobs, batch in _read(model, texts, vector):
        tokens = logprobs.new_tensor(theme.tokens).long()
        _means(means, places, batch, theme_logprob(logprobs, tokens).double().cpu().numpy())
    return means


def divergence(model: "LanguageModel", texts: Sequence[Generated], vector: SteeringVector | None) -> Floats:
    """Return the mean KL of steered from clean predictions of each text's tokens; NaN for an empty text."""
    divergences = np.full(len(texts), np.nan)
    steered = _read(model, texts, vector)
    for (places, clean, batch), (_, moved, _) in zip(_read(model, texts, None), steered, strict=True):
        _means(divergences, places, batch, kl(moved, clean).double().cpu().numpy())
    return divergences


def _means(means: Floats, places: Sequence[int], batch: Batch, values: Floats) -> None:
    for number, place in enumerate(places):
        means[place] = values[batch.row == number].mean()


def _read(
    model: "LanguageModel", texts: Sequence[Generated], vector: SteeringVector | None
) -> "Iterator[tuple[list[int], torch.Tensor, Batch]]":
    """Yield groups of texts: their indices, the log probabilities at their generated tokens, and these
    tokens.

    Texts of a group have prompts of one length, since steering may begin or end with the prompt.
    """
    import torch

    by_prompt: dict[int, list[int]] = {}
    for place, text in enumerate(texts):
        if text.tokens:
            by_prompt.setdefault(len(text.prompt), []).append(place)
    for prompt, together in by_prompt.items():
        longest = prompt + max(len(texts[place].tokens) for place in together)
        n = max(1, LOGITS // (longest * model.n_vocabulary))
        for first in range(0, len(together), n):
            places = together[first : first + n]
            batch = _batch([texts[place] for place in places])
            counted = torch.from_numpy(batch.counted).to(model.device)
            ids = torch.from_numpy(batch.ids).to(model.device)
            steering = nullcontext() if vector is None else vector.apply(model.model, prompt_tokens=prompt)
            with torch.inference_mode(), steering:
                logits = model.model(ids, use_cache=False).logits
            yield places, logits[:, :-1][counted[:, 1:]].float().log_softmax(dim=-1), batch
