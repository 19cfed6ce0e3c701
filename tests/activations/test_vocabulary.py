"""Labels and promoted tokens."""

import numpy as np
import pytest

from featgraph.activations.vocabulary import label, top_logit_tokens


def test_promoted_tokens_are_those_with_the_largest_logits_ties_to_the_smaller_id() -> None:
    unembedding = np.array([[1, 0], [0, 1], [1, 0], [0.5, 0.5]], dtype=np.float32)
    directions = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert top_logit_tokens(directions, unembedding, 3) == [[0, 2, 3], [1, 3, 0]]
    assert top_logit_tokens(directions, unembedding, 99) == [[0, 2, 3, 1], [1, 3, 0, 2]]


@pytest.mark.parametrize(
    ("top", "promotes", "expected"),
    [
        ([" cat", " cats"], [" purr"], "cat, cats → purr"),
        ([" Tim", "tim", " TIM", " Tom"], ["s"], "Tim, Tom → s"),
        (["\n\n", " "], ["\n"], "⏎⏎, ␣ → ⏎"),
        ([], ["x"], ""),
    ],
)
def test_a_label_is_short_and_shows_white_space(top: list[str], promotes: list[str], expected: str) -> None:
    assert label(top, promotes) == expected
