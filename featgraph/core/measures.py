"""The evidence of an edge: kind, unit, range and source of every column, defined here and nowhere else.

A new measure needs three things, and a test compares them: an entry in `MEASURES`, a column in
`store/sql/schema.sql`, and for measures of an ingest a formula in `edges/evidence.py`. The rows that an
ingest writes, shell completion and `ablate measures` follow from this table.
"""

from dataclasses import dataclass
from typing import Literal

Grade = Literal["geometric", "statistical", "attributed", "ablated"]
"""Kind of evidence: geometric (directions), statistical (co-activation), attributed (predicted effects),
causal
(effects measured by ablation)."""


@dataclass(frozen=True)
class Measure:
    """One column of `edge` that holds evidence. u is the upstream feature, d the downstream one."""

    name: str
    grade: Grade
    definition: str
    """Definition in one line; part of the column's comment in `schema.sql`."""
    unit: str
    """Unit; empty for a plain number, or a count whose unit is in the definition."""
    least: float | None
    """Lower bound; None if unbounded."""
    most: float | None
    source: str
    """Source of the definition; empty for a plain count."""
    counts: bool = False
    """Whether the column is a number of tokens, not a strength."""

    @property
    def sql_type(self) -> str:
        """Type of the column in DuckDB."""
        return "integer" if self.counts else "float"

    @property
    def range(self) -> str:
        """The range of values in words; empty if unbounded.

        >>> JACCARD.range, EFFECT.range, TWERA.range
        ('0 to 1', 'at most 1', '')
        """
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        if self.most is not None:
            return f"at most {self.most:g}"
        return "" if self.least is None else f"from {self.least:g}"

    @property
    def comment(self) -> str:
        """Definition, unit, range and source in one line.

        >>> JACCARD.comment
        'n_both / tokens on which either is active; 0 to 1; arXiv 2410.08869'
        """
        parts = (self.definition, self.unit, self.range, self.source)
        return self.definition if self.counts else "; ".join(part for part in parts if part)


_BALCELLS = "arXiv 2410.08869"
_TWERA = "Anthropic, Circuit Tracing (2025), global weights"
_SHARE = "share of d's activation"

JACCARD = Measure("jaccard", "statistical", "n_both / tokens on which either is active", "", 0, 1, _BALCELLS)
TWERA = Measure(
    "twera",
    "attributed",
    "virtual_weight * E[u d] / E[d], means over all tokens: predicted traffic",
    "d's pre-activation",
    None,
    None,
    _TWERA,
)
EFFECT = Measure(
    "effect",
    "ablated",
    "mean of 1 - d without u / d over tokens where d is active, 0 where u is silent",
    _SHARE,
    None,
    1,
    "ours",
)

MEASURES: tuple[Measure, ...] = (
    Measure(
        "cosine", "geometric", "of the two decoder directions; never NULL", "", -1, 1, "arXiv 2502.03032"
    ),
    Measure("n_both", "statistical", "tokens on which both are active", "tokens", 0, None, "", counts=True),
    JACCARD,
    Measure("necessity", "statistical", "P(u active | d active)", "", 0, 1, _BALCELLS),
    Measure("sufficiency", "statistical", "P(d active | u active)", "", 0, 1, _BALCELLS),
    Measure("pearson", "statistical", "correlation of activations over all tokens", "", -1, 1, _BALCELLS),
    Measure(
        "virtual_weight",
        "attributed",
        "d's pre-activation per unit of u's activation along the residual stream",
        "d / u",
        None,
        None,
        "arXiv 2406.11944 s4",
    ),
    Measure(
        "attribution",
        "attributed",
        "virtual_weight * mean of u / d over tokens where both are active: predicted loss",
        _SHARE,
        None,
        None,
        "arXiv 2406.11944 s4",
    ),
    TWERA,
    EFFECT,
    Measure("effect_n", "ablated", "tokens on which effect was measured", "tokens", 0, None, "", counts=True),
    Measure("effect_se", "ablated", "standard error of effect", _SHARE, 0, None, "ours"),
    Measure(
        "silenced", "ablated", "share of those tokens on which d falls silent without u", "", 0, 1, "ours"
    ),
    Measure(
        "ablation_change",
        "ablated",
        "mean of 1 - d without u / d over tokens where both are active",
        _SHARE,
        None,
        1,
        "arXiv 2502.03032 s5.2",
    ),
    Measure(
        "ablation_n",
        "ablated",
        "tokens on which ablation_change was measured",
        "tokens",
        0,
        None,
        "",
        counts=True,
    ),
)
"""Every column of evidence, in the order of the table."""

WALKABLE = (
    "cosine",
    "coactive",
    *(one.name for one in MEASURES if not one.counts and one.name not in ("cosine", "effect_se")),
)
"""What the verbs go `by`: the strengths of an edge, and `coactive`, the cosine of edges whose ends fire
together on a fifth of the tokens of one of them, with a correlation from 0.1 (see `weighed` in `verbs.sql`).

Source: docs/decisions/013."""

CALIBRATED = ("twera", "attribution", "effect")
"""Of these, the ones whose default threshold the table `threshold` holds; `sae` holds that of the cosine."""

FINDERS = ("cosine", "twera", "effect")
"""Searches that propose edges, in the order in which `found_by` lists them, joined by commas."""


def names(*grades: Grade) -> tuple[str, ...]:
    """Return the names of the measures of some grades, by default all; counts are left out.

    >>> names("attributed")
    ('virtual_weight', 'attribution', 'twera')
    """
    return tuple(one.name for one in MEASURES if not one.counts and (not grades or one.grade in grades))
