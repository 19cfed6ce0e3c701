"""A language model as judge: how coherent a text is, and how much of the theme is in it, 0 to 5 each."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featgraph.core.bounded import json_value
from featgraph.core.chat import Endpoint
from featgraph.core.http import Refused, Unreachable
from featgraph.errors import SourceError
from featgraph.evaluation.themes import Theme

Goal = Literal["promote", "suppress"]
"""The goal of steering: more or less of the theme."""

HIGHEST = 5
"""Highest grade of both scales. Source: arXiv 2502.03032 v3, appendix B."""

_CONCURRENT = 4
"""Requests sent at the same time."""

_SYSTEM = """\
You grade texts that a language model wrote. You are given a theme, the words that a text had to begin with,
and how the model went on. Give two grades, whole numbers from 0 to 5.
coherence: 0 is noise; 1 hardly a sentence holds; 2 many faults, much said over and over; 3 readable with
clear faults; 4 nearly faultless; 5 faultless and connected throughout.
behaviour: 0 nothing of the theme; 1 a faint hint; 2 it comes up once; 3 it comes up again and again; 4 most
of the text is about it; 5 all of it is.
Grade each by itself: a text without sense can be full of the theme. The beginning was given, so grade only
what comes after it. Answer with JSON alone, such as {"coherence": 3, "behaviour": 1}."""


@dataclass(frozen=True)
class Judge:
    """A language model that grades texts, and the theme it looks for."""

    endpoint: Endpoint
    goal: Goal = "promote"
    about: str | None = None
    """The theme in words; None: the seeds' labels and the keywords."""

    def scores(
        self, texts: Sequence[str], prompts: Sequence[str], theme: Theme
    ) -> dict[str, NDArray[np.float64]]:
        """Return `coherence`, `behaviour` and `final` of each text, 0 to 1; NaN for an empty text or no
        answer.

        Raises SourceError: the judge cannot be reached, or refuses to answer.
        """
        about = self.about or _about(theme)
        pool = ThreadPoolExecutor(_CONCURRENT)
        try:
            pairs = zip(prompts, texts, strict=True)
            grades = np.array(list(pool.map(lambda pair: self._grades(about, *pair), pairs)))
        except BaseException:  # An interrupt should not wait for a server that hangs.
            self.endpoint.retry_policy.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        coherence, behaviour = (grades / HIGHEST).T
        return {
            "coherence": coherence,
            "behaviour": behaviour,
            "final": final(coherence, behaviour, self.goal),
        }

    def _grades(self, about: str, prompt: str, text: str) -> tuple[float, float]:
        if not text.strip():
            return math.nan, math.nan
        question = f"Theme: {about}\nBeginning: {prompt}\nText: {text.strip()}"
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]
        try:
            return read_grades(self.endpoint.answer(messages) or "")
        except (Refused, Unreachable) as error:
            raise SourceError(f"the judge {self.endpoint.model} at {self.endpoint.url}: {error}") from error


def final(coherence: NDArray[np.float64], behaviour: NDArray[np.float64], goal: Goal) -> NDArray[np.float64]:
    """Return behaviour x coherence, or (1 - behaviour) x coherence if the goal is to suppress; all 0 to 1.

    Source: arXiv 2502.03032 v3, appendix B; division by 5 brings each scale to 0 to 1.
    """
    return (behaviour if goal == "promote" else 1 - behaviour) * coherence


def read_grades(answer: str) -> tuple[float, float]:
    """Parse (coherence, behaviour) from a judge's answer; NaN if it has no valid grades.

    >>> read_grades('Sure: {"coherence": 4, "behaviour": 2}')
    (4.0, 2.0)
    >>> read_grades('{"coherence": 9, "behaviour": 2}')
    (nan, nan)
    """
    answer = answer.rpartition("</think>")[2]
    try:
        grades = json_value(answer[answer.index("{") : answer.rindex("}") + 1])
        pair = float(grades["coherence"]), float(grades["behaviour"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return math.nan, math.nan
    return pair if all(0 <= grade <= HIGHEST for grade in pair) else (math.nan, math.nan)


def _about(theme: Theme) -> str:
    return "; ".join([*theme.labels, f"words such as {', '.join(theme.keywords)}"])
