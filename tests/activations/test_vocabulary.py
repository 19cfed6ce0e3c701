"""Labels and promoted tokens."""

import numpy as np
import pytest

from featgraph.activations.vocabulary import label, telling_tokens, top_logit_tokens


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
        ([" " * 40, "\t\t\t", "\n" * 4], [], "40␣, ⇥⇥⇥, 4⏎"),
        ([], ["x"], ""),
    ],
)
def test_a_label_is_short_and_shows_white_space(top: list[str], promotes: list[str], expected: str) -> None:
    assert label(top, promotes) == expected


def test_a_label_names_promoted_tokens_that_occur_and_stand_out_from_random_directions() -> None:
    rng = np.random.default_rng(1)
    unembedding = rng.normal(size=(50, 64)).astype(np.float32)
    strong = unembedding[7] / np.linalg.norm(unembedding[7])
    weak = rng.normal(size=64)
    # Only what no token reads is left of it, but for a little.
    basis = np.linalg.qr(unembedding.T)[0]
    weak = weak - 0.97 * basis @ (basis.T @ weak)
    weak /= np.linalg.norm(weak)
    directions = np.stack([strong, weak]).astype(np.float32)
    promoted = top_logit_tokens(directions, unembedding, 3)
    everywhere = np.ones(50, dtype=np.bool_)
    assert telling_tokens(directions, unembedding, promoted, everywhere) == [[7], []]
    nowhere = everywhere & (np.arange(50) != 7)
    assert telling_tokens(directions, unembedding, promoted, nowhere) == [[], []]
