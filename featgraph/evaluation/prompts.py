"""Texts on which steering is measured: their beginnings, and plain ones; which choose and which report."""

import random
from collections.abc import Sequence
from pathlib import Path

from featgraph import features
from featgraph.errors import UsageError

PROMPTS = (
    "One morning,",
    "Once upon a time",
    "The old man said",
    "She opened the door and",
    "After dinner, they",
    "My brother told me",
    "In a small house by the road,",
    "I think",
    "The children wanted to",
    "It was late when",
    "He looked at the table and",
    "Nobody knew why",
    "The next day,",
    "There is something that",
    "When the bell rang,",
    "We walked for a while and",
    "A woman came in and",
    "At first,",
    "They sat down and",
    "Every evening,",
    "The girl found",
    "On the way home,",
    "What happened then was",
    "People often say",
)
"""Openings without a theme, as prompts. Source: our choice."""

NEUTRAL = (
    "The man put the cup on the table. Then he sat down and looked out of the window for a long time.",
    "There were two chairs in the room. One was old and one was new. Nobody sat on the old one.",
    "She walked to the shop and bought some bread. On the way back she met a friend, and they talked.",
    "In the morning they packed their bags. The road was long, so they left before the others were up.",
    "He wrote a letter to his sister. He told her about his work, his house and the people next door.",
    "The box was full of small things. They took them out one by one and put them on the floor.",
    "It was a quiet day. The children played in the garden, and the door of the kitchen stood open.",
    "They had known each other for years. Every week they met at the same place and at the same time.",
)
"""Texts without a theme, on which steering should change little. Source: our choice."""


def read_prompts(path: Path) -> tuple[str, ...]:
    """Return the distinct prompts of a file, one per line, without empty lines.

    Raises UsageError: the file cannot be read, or has fewer than two.
    """
    prompts = tuple(dict.fromkeys(features.read_prompts(path)))
    if len(prompts) < 2:
        raise UsageError(
            f"{path} has {len(prompts)} prompts; one chooses the scale and one reports, so give two"
        )
    return prompts


def split(prompts: Sequence[str], seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split prompts at random into two halves: validation (chooses the scale) and test (is reported).

    >>> split(["a", "b", "c"], 0)
    (('a',), ('b', 'c'))
    """
    order = sorted(range(len(prompts)))
    random.Random(seed).shuffle(order)
    half = len(prompts) // 2
    validation, test = sorted(order[:half]), sorted(order[half:])
    return tuple(prompts[place] for place in validation), tuple(prompts[place] for place in test)
