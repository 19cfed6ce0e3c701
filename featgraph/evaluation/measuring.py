"""All measures of a steering vector on some prompts and seeds, with a judge's grades where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from featgraph.core.bootstrap import Values
from featgraph.evaluation.judging import Judge
from featgraph.evaluation.measures import distinct, keyword_rate, log_perplexity_ratio
from featgraph.evaluation.prompts import NEUTRAL
from featgraph.evaluation.readings import Floats, divergence, likelihood, presence, theme_logprobs
from featgraph.evaluation.themes import Theme
from featgraph.steering import SteeringVector
from featgraph.steering.generate import Generated, Generation, generate
from featgraph.suite.graph_suite import GraphSuite

if TYPE_CHECKING:
    from featgraph.suite import LanguageModel

Measured = dict[str, Values]
"""Measure -> values, (n_prompts, n_seeds); for `kl`, which draws nothing, (n_texts, number of vectors)."""


@dataclass
class Evaluator:
    """Generates text with a steering vector and measures it."""

    suite: GraphSuite
    theme: Theme
    generation: Generation
    """Generation settings; each sample has its own seed."""
    judge: Judge | None = None
    neutral: Sequence[str] = NEUTRAL
    _baselines: dict[tuple[str, ...], tuple[list[Generated], Floats]] = field(
        default_factory=dict, repr=False
    )

    @property
    def model(self) -> "LanguageModel":
        """The language model, unsteered."""
        return self.suite.model

    def measure(
        self, vectors: "SteeringVector | Sequence[SteeringVector] | None", prompts: Sequence[str]
    ) -> Measured:
        """Return every measure of one vector, or of one per seed; None for no steering.

        Raises UsageError: a prompt has no tokens, or logits are not finite. SourceError: model or SAEs are
        gone, or the judge cannot be asked.
        """
        prompts, seeds = tuple(prompts), list(self.generation.seeds)
        if vectors is None or isinstance(vectors, SteeringVector):
            parts = [self._part(vectors, prompts, seeds)]
        else:
            parts = [self._part(vector, prompts, [seed]) for seed, vector in zip(seeds, vectors, strict=True)]
        return {name: np.hstack([part[name] for part in parts]) for name in parts[0]}

    def _baseline(self, prompts: tuple[str, ...], seeds: Sequence[int]) -> tuple[list[Generated], Floats]:
        """Return the unsteered text of each prompt and seed, and its likelihood."""
        every = list(self.generation.seeds)
        if prompts not in self._baselines:
            texts = self._texts(None, prompts, every)
            self._baselines[prompts] = texts, likelihood(self.model, texts)
        texts, likelihoods = self._baselines[prompts]
        places = [row * len(every) + every.index(seed) for row in range(len(prompts)) for seed in seeds]
        return [texts[place] for place in places], likelihoods[places]

    def _texts(
        self, vector: SteeringVector | None, prompts: tuple[str, ...], seeds: list[int]
    ) -> list[Generated]:
        """Return a text per prompt and seed, ordered by prompt, then seed."""
        rows = [prompt for prompt in prompts for _ in seeds]
        return generate(self.model, rows, seeds * len(prompts), self.generation, vector)

    def _part(self, vector: SteeringVector | None, prompts: tuple[str, ...], seeds: list[int]) -> Measured:
        baseline, before = self._baseline(prompts, seeds)
        texts = baseline if vector is None else self._texts(vector, prompts, seeds)
        activation, share = presence(self.suite, self.theme, texts)
        after = likelihood(self.model, texts)
        measured: dict[str, Floats] = {
            "theme_activation": activation,
            "theme_share": share,
            "theme_logprob": theme_logprobs(self.model, baseline, vector, self.theme),
            "keyword_rate": np.array([keyword_rate(text.text, self.theme.keywords) for text in texts]),
            "perplexity_ratio": np.array(
                [log_perplexity_ratio(*pair) for pair in zip(after, before, strict=True)]
            ),
            "distinct_1": np.array([distinct(text.text, 1) for text in texts]),
            "distinct_2": np.array([distinct(text.text, 2) for text in texts]),
        }
        if self.judge is not None:
            measured |= self.judge.scores([text.text for text in texts], rows_of(prompts, seeds), self.theme)
        shaped = {name: values.reshape(len(prompts), len(seeds)) for name, values in measured.items()}
        return {**shaped, "kl": divergence(self.model, self._neutral(), vector)[:, None]}

    def _neutral(self) -> list[Generated]:
        """Return the neutral texts in the form of texts generated after BOS."""
        tokenizer = self.model.tokenizer
        texts = []
        for text in self.neutral:
            ids = [
                int(token) for token in tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            ]
            bos = tokenizer.bos_token_id
            first = [ids.pop(0)] if bos is None else [int(bos)]
            texts.append(Generated(tuple(first), tuple(ids), text))
        return texts


def rows_of(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Return the prompt of each text."""
    return [prompt for prompt in prompts for _ in seeds]
