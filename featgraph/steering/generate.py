"""Text from a language model, steered or not, sampled token by token.

A row's random numbers are drawn beforehand from its seed alone, so they are the same steered and unsteered,
and do not depend on which rows are generated together.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featgraph.errors import UsageError
from featgraph.steering.vector import SteeringVector

if TYPE_CHECKING:
    import torch

    from featgraph.suite import LanguageModel


@dataclass(frozen=True)
class Generation:
    """How text is generated."""

    samples: int = 2
    """Texts per prompt."""
    seed: int = 0
    """Of the first sample; the next one has the next number."""
    max_tokens: int = 48
    temperature: float = 0.8
    """0 takes the likeliest token each time."""
    top_p: float = 0.95
    """Share of the probability that the likeliest tokens make up, from which one is drawn."""

    def __post_init__(self) -> None:
        """Raise UsageError for a number out of range."""
        whole = {"samples": (self.samples, 1), "seed": (self.seed, 0), "max_tokens": (self.max_tokens, 1)}
        for name, (number, least) in whole.items():
            if isinstance(number, bool) or not isinstance(number, int) or not least <= number < 2**63:
                raise UsageError(f"{name} is {number!r}; it is a whole number, {least} or more")
        for name, real in (("temperature", self.temperature), ("top_p", self.top_p)):
            if isinstance(real, bool) or not isinstance(real, (int, float)):
                raise UsageError(f"{name} is {real!r}; it is a number")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}; it is a finite number, 0 or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}; it is above 0 and at most 1")

    @property
    def seeds(self) -> range:
        """The seed of each sample."""
        return range(self.seed, self.seed + self.samples)


@dataclass(frozen=True)
class Generated:
    """One text that a language model went on with."""

    prompt: tuple[int, ...]
    """Token ids, the BOS token first where the tokenizer has one."""
    tokens: tuple[int, ...]
    """Token ids of what came after it; a token that ends the text is left out."""
    text: str
    """What the tokens after the prompt say."""


def generate(
    model: "LanguageModel",
    prompts: Sequence[str],
    seeds: Sequence[int],
    generation: Generation,
    vector: SteeringVector | None = None,
) -> list[Generated]:
    """Return one text per prompt and seed, two lists of equal length; all are generated at once.

    Shorter prompts are padded on the left, so what a row says may differ in the last bit of a logit from what
    it says alone. `samples` and `seed` of the generation are the caller's to spread over rows.

    Raises UsageError: a prompt has no tokens, there is no room for the text, or logits are not finite.
    SourceError: the vector is for another model.
    """
    import torch

    rows = [_read(model, prompt) for prompt in prompts]
    longest = max(map(len, rows))
    _check_room(model, longest, generation.max_tokens)
    uniform = torch.stack([_uniform(seed, generation.max_tokens) for seed in seeds])
    steering = nullcontext() if vector is None else vector.apply(model.model, prompt_tokens=longest)
    with torch.inference_mode(), steering:
        continued = _continued(model, rows, uniform, generation)
    return [_generated(model, row, tokens) for row, tokens in zip(rows, continued, strict=True)]


def _read(model: "LanguageModel", prompt: str) -> list[int]:
    ids = model.ids(prompt)
    if not ids:
        raise UsageError(f"the prompt {prompt!r} has no tokens, and {model.name} has none to begin with")
    return ids


def _check_room(model: "LanguageModel", longest: int, max_tokens: int) -> None:
    most = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and longest + max_tokens > most:
        raise UsageError(
            f"a prompt of {longest} tokens and {max_tokens} more do not fit into {model.name}, which reads "
            f"{most}; shorten the prompt or write --max-tokens {max(1, most - longest)}"
        )


def _uniform(seed: int, n: int) -> "torch.Tensor":
    """Return the n random numbers in [0, 1) of one row."""
    import torch

    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _continued(
    model: "LanguageModel", rows: list[list[int]], uniform: "torch.Tensor", generation: Generation
) -> list[list[int]]:
    """Return the tokens that come after each row, with a key-value cache; a row stops at its end token."""
    import torch

    device, longest = model.device, max(map(len, rows))
    ends = _end_tokens(model)
    read = torch.tensor([[row[0]] * (longest - len(row)) + row for row in rows], device=device)
    seen = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    place = (seen.cumsum(1) - 1).clamp(min=0)
    found: list[list[int]] = [[] for _ in rows]
    running, cache = set(range(len(rows))), None
    for step in range(generation.max_tokens):
        answer = model.model(
            input_ids=read,
            attention_mask=seen,
            position_ids=place,
            past_key_values=cache,
            use_cache=True,
            **_last_logits(model),
        )
        cache = answer.past_key_values
        chosen = _chosen(answer.logits[:, -1], uniform[:, step], generation)
        for row in list(running):
            token = int(chosen[row])
            if token in ends:
                running.discard(row)
            else:
                found[row].append(token)
        if not running:
            break
        read, place = chosen[:, None].to(device), place[:, -1:] + 1
        seen = torch.cat([seen, seen.new_ones(len(rows), 1)], dim=1)
    return found


def _last_logits(model: "LanguageModel") -> dict[str, Any]:
    """Return what keeps a model from computing the logits of all tokens of a prompt, where it can."""
    import inspect

    known = inspect.signature(model.model.forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in known else {}


def _chosen(logits: "torch.Tensor", uniform: "torch.Tensor", generation: Generation) -> "torch.Tensor":
    """Return one token per row of logits, (n_rows, n_vocabulary).

    The likeliest tokens that together reach `top_p` stay, and a uniform number picks one of them by the
    inverse of their distribution function: with the same number, a small change of logits rarely changes
    the token.

    Source: nucleus sampling, arXiv 1904.09751, section 3.1.
    """
    import torch

    logits = logits.double().cpu()
    if not torch.isfinite(logits.max(dim=-1).values).all():
        raise UsageError("the steered model's logits are not finite; choose a smaller scale")
    if generation.temperature == 0:
        return logits.argmax(dim=-1)
    shares, order = (logits / generation.temperature).softmax(dim=-1).sort(descending=True, stable=True)
    upto = shares.cumsum(dim=-1)
    kept = shares * (upto - shares < generation.top_p)
    upto = kept.cumsum(dim=-1)
    place = (upto <= uniform[:, None] * upto[:, -1:]).sum(dim=-1, keepdim=True)
    last = (kept > 0).sum(dim=-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last))[:, 0]


def _end_tokens(model: "LanguageModel") -> frozenset[int]:
    """Return the tokens at which a text ends."""
    known = getattr(model.model.generation_config, "eos_token_id", None)
    ends = [model.tokenizer.eos_token_id if known is None else known]
    flat = ends[0] if isinstance(ends[0], list) else ends
    return frozenset(int(token) for token in flat if token is not None)


def _generated(model: "LanguageModel", row: list[int], tokens: list[int]) -> Generated:
    """Return a row and what came after it as text; decoded together, so that no blank between is lost."""

    def said(ids: list[int]) -> str:
        text: str = model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    return Generated(tuple(row), tuple(tokens), said([*row, *tokens])[len(said(row)) :])
