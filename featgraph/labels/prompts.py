"""The prompt that asks a language model for a feature's label, and the label read from its answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featgraph.store import Store

EXAMPLES = 10
"""Number of contexts shown per feature, strongest first."""

LONGEST = 150
"""Most characters of a label; a longer answer is an explanation, not a name. Our choice."""

_CHUNK = 100
"""Features read from the graph at once."""

_SYSTEM = """\
You name features of a sparse autoencoder inside a language model. You are shown texts on which one feature is
active. Active tokens stand as <<token|strength>>, with strengths from 1 to 10. You are also told the tokens
on which it is strongest, and the tokens that it makes the model predict; either may be the better clue. Find
the most specific thing that explains when it is active. Answer with a label alone: one line of at most ten
words, no quotation marks, no full stop, nothing before or after it."""

_READ = """
    select f.id, f.key, f.top_tokens, f.logit_tokens,
        list(struct_pack(tokens := e.tokens, activations := e.activations) order by e.rank)
    from feature f
    join example e on e.feature = f.id
    where f.id in (select unnest($ids)) and e.rank <= $most
    group by all
    order by f.id
"""


@dataclass(frozen=True)
class Prompt:
    """One feature and the conversation that asks for its label."""

    feature: int
    key: str
    messages: list[dict[str, str]]


def prompts(store: Store, ids: Sequence[int]) -> Iterator[Prompt]:
    """Yield a prompt for each feature that has examples."""
    for first in range(0, len(ids), _CHUNK):
        chunk = list(ids[first : first + _CHUNK])
        for feature, key, top, promoted, examples in store.rows(_READ, {"ids": chunk, "most": EXAMPLES}):
            question = _question(top or [], promoted or [], examples)
            yield Prompt(
                feature, key, [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]
            )


def read_label(answer: str) -> str | None:
    """Return the label in an answer, or None if there is none.

    >>> [read_label(text) for text in (' "Words for rain." ', "<think>Hm.</think> Label: rain", "a\\nb")]
    ['Words for rain', 'rain', None]
    """
    text = answer.rpartition("</think>")[2].strip()
    if len(text.splitlines()) != 1:
        return None
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    text = text[6:].strip() if text.lower().startswith("label:") else text
    text = text.strip("\"'`*“”").strip().removesuffix(".")
    return text if 0 < len(text) <= LONGEST else None


def _question(top: list[str], promoted: list[str], examples: list[dict[str, list[object]]]) -> str:
    """Return the text about a feature: its contexts with active tokens marked, and its top and promoted
    tokens.

    Source: the marks are those of arXiv 2410.13928, the scale of strengths that of Bills et al. 2023,
    "Language models can explain neurons in language models".
    """
    strengths = [[_number(value) for value in example["activations"]] for example in examples]
    largest = max((value for row in strengths for value in row), default=0.0)
    lines = ["Texts:"]
    for number, (example, row) in enumerate(zip(examples, strengths, strict=True), start=1):
        marked = [
            f"<<{token}|{max(1, round(10 * value / largest))}>>" if value > 0 else str(token)
            for token, value in zip(example["tokens"], row, strict=False)
        ]
        lines.append(f"{number}. {''.join(marked)}")
    lines.append(f"Strongest on the tokens: {_listed(top)}")
    lines.append(f"Makes the model predict: {_listed(promoted)}")
    return "\n".join(lines)


def _number(value: object) -> float:
    return abs(float(value)) if isinstance(value, int | float) else 0.0


def _listed(tokens: list[str]) -> str:
    return ", ".join(repr(token) for token in tokens) or "none"
