"""The colours of every picture, by what they mean, on light and on dark paper.

Text has a contrast of at least 4.5 to 1 on what it stands on, marks and ribbons that carry meaning 3 to 1
(`tests/drawing/test_colours.py`).
"""

from typing import Literal, NamedTuple

Theme = Literal["light", "dark", "auto"]
"""auto: light, or dark if the reader's system uses a dark theme."""


class Colour(NamedTuple):
    """One colour for light and for dark backgrounds, as hexadecimal RGB."""

    light: str
    dark: str


COLOURS = {
    "paper": Colour("#ffffff", "#12171f"),
    "band": Colour("#f5f7fa", "#171d26"),
    "rule": Colour("#dde3ea", "#2a3441"),
    "card": Colour("#ffffff", "#1d2530"),
    "edge": Colour("#c3ccd6", "#3c4959"),
    "ink": Colour("#17202b", "#eef2f7"),
    "quiet": Colour("#5a6776", "#9eabba"),
    "promotes": Colour("#0a6b4b", "#5fd0a3"),
    "seed": Colour("#c2185b", "#ff7eb0"),
    "seed-card": Colour("#fdeef4", "#3a1c2b"),
    "born": Colour("#dba05c", "#a9773a"),
    "both": Colour("#9c3d6e", "#e58fb5"),
    "mlp": Colour("#c04f00", "#ff9a4d"),
    "att": Colour("#7a35b8", "#c08bff"),
    "unexplained": Colour("#5a6776", "#9eabba"),
    "death": Colour("#3a4654", "#b7c3d0"),
    "persists": Colour("#2f6fb0", "#4d94d8"),
    "passes": Colour("#9cc3e6", "#2f5580"),
    "dies": Colour("#aab4c0", "#55616f"),
    "warning": Colour("#b3261e", "#ff8a80"),
    "first": Colour("#1c6fc4", "#6db3ff"),
    "second": Colour("#c04f00", "#ff9a4d"),
    "bar": Colour("#dfe4ea", "#323d4a"),
    # Evidence, weak to strong: equal steps of lightness in Oklch; stronger contrasts more with the
    # background.
    "e0": Colour("#7f909f", "#5c6b7a"),
    "e1": Colour("#658da9", "#597391"),
    "e2": Colour("#408baf", "#567ba9"),
    "e3": Colour("#247fad", "#558bbe"),
    "e4": Colour("#146fa8", "#529fd0"),
    "e5": Colour("#135fa1", "#54b3dd"),
    "e6": Colour("#1a4f95", "#60c7e4"),
    "e7": Colour("#1e4088", "#77dae9"),
    "e8": Colour("#203377", "#9cecef"),
    "e9": Colour("#1f2867", "#c1fcf7"),
    # Series and lineages. Source: Okabe and Ito (2008), darkened or lightened for the background.
    "s0": Colour("#0067a5", "#56b4e9"),
    "s1": Colour("#b84b00", "#ff9a4d"),
    "s2": Colour("#00785a", "#35c79a"),
    "s3": Colour("#a8327d", "#f08ac6"),
    "s4": Colour("#8a6a00", "#e8c22e"),
    "s5": Colour("#5b3fb5", "#a994ff"),
    "s6": Colour("#00798c", "#4fd3e0"),
    "s7": Colour("#8b4a3a", "#dba08c"),
}

STEPS = 10
"""Number of evidence colours, `e0` to `e9`."""

SERIES = 8
"""Number of colours for series and lineages, `s0` to `s7`."""


def evidence_colour(value: float | None) -> str:
    """Return the name of the colour for evidence between 0 and 1; None and negative values get the weakest.

    >>> evidence_colour(None), evidence_colour(0.35), evidence_colour(1.0)
    ('e0', 'e3', 'e9')
    """
    if value is None or not value > 0:
        return "e0"
    return f"e{min(STEPS - 1, int(value * STEPS))}"


def dark_rules(names: "list[str] | None" = None) -> str:
    """Return the CSS rules that replace light colours by dark ones.

    names: the classes in use, such as `fill-ink`; None: all classes.
    """
    if names is None:
        names = [f"{paint}-{name}" for paint in ("fill", "stroke", "stop") for name in COLOURS]
    properties = {"fill": "fill", "stroke": "stroke", "stop": "stop-color"}
    rules = []
    for name in sorted(names):
        paint, colour = name.split("-", 1)
        rules.append(f".{name}{{{properties[paint]}:{COLOURS[colour].dark}}}")
    return "".join(rules)
