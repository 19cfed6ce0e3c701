"""Formulas of the measures of steered text. A text without tokens or words has no measure: NaN."""

import math
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


MEASURES: dict[str, str] = {
    "theme_activation": "mean activation of the theme's downstream features, as a share of their largest",
    "theme_share": "share of tokens on which one of them fires",
    "theme_logprob": "logarithm of the probability of the theme's tokens, on the unsteered texts",
    "keyword_rate": "share of words that are keywords",
    "perplexity_ratio": "perplexity to the unsteered model, over that of the unsteered text",
    "kl": "nats per token by which steering moves the model's guesses on neutral text",
    "distinct_1": "different words over words",
    "distinct_2": "different pairs of neighbouring words over pairs",
}
"""Measures without a judge: name -> description."""

GEOMETRIC = ("perplexity_ratio",)
"""Measures stored and averaged as logarithms (geometric means), so that one ruined text does not dominate."""


def theme_activation(codes: "torch.Tensor", largest: "torch.Tensor", weight: "torch.Tensor") -> float:
    """Return the weighted mean over features of activation / largest activation, over all tokens.

    codes: (n_tokens, n_features). largest, weight: (n_features,).
    Source: ours; the activation of a theme's own features as its presence, after arXiv 2502.03032 v3,
    section 5.3, without a judge.
    """
    if not len(codes):
        return math.nan
    return float((codes / largest).mean(dim=0) @ (weight / weight.sum()))


def theme_share(codes: "torch.Tensor") -> float:
    """Return the share of tokens on which at least one of the features is active (not 0).

    Source: ours.
    """
    return float((codes != 0).any(dim=1).double().mean()) if len(codes) else math.nan


def theme_logprob(logprobs: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
    """Return ln of the probability that the next token is one of `tokens`, (n,).

    logprobs: (n, n_vocabulary). tokens: ids. The caller takes the mean over positions.
    Source: ours; ln of the sum of p(t).
    """
    return logprobs[:, tokens].logsumexp(dim=-1)


def keyword_rate(text: str, keywords: Collection[str]) -> float:
    """Return the share of a text's words that are keywords, ignoring case.

    Source: ours.

    >>> keyword_rate("Rain, rain and wind", {"rain"})
    0.5
    """
    words = words_of(text)
    return sum(word in keywords for word in words) / len(words) if words else math.nan


def kl(steered: "torch.Tensor", clean: "torch.Tensor") -> "torch.Tensor":
    """Return KL(steered || clean) in nats at each place, (n,), of log probabilities (n, n_vocabulary).

    Source: Kullback and Leibler, On information and sufficiency (1951): sum of p ln(p / q).
    """
    return (steered.exp() * (steered - clean)).sum(dim=-1)


def log_perplexity_ratio(steered_nll: float, baseline_nll: float) -> float:
    """Return ln of the perplexity of a steered text over that of the unsteered one, both to the clean model.

    Arguments are mean negative log-likelihoods per token; perplexity is exp of one.
    Source: normalised perplexity, arXiv 2608.05732.
    """
    return steered_nll - baseline_nll


def distinct(text: str, n: int) -> float:
    """Return the number of distinct n-grams of words divided by the number of n-grams.

    Source: Li et al., arXiv 1510.03055, section 5.1 (distinct-1 and distinct-2), per text.

    >>> distinct("a b a b", 2)
    0.6666666666666666
    """
    words = words_of(text)
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else math.nan


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case, without punctuation."""
    return re.findall(r"[^\W_]+(?:['\u2019][^\W_]+)*", text.lower())
