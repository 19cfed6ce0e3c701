"""The features active on a text as a picture: tokens down, layers across, a letter for each lineage."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from featgraph.core.text import printable
from featgraph.features import ActiveFeatures, ActiveLineage
from featgraph.output.streams import opened
from featgraph.output.table import console

DRAWN = 20
"""Lineages drawn at most, the strongest of the text."""

OF_TOKEN = 2
"""Lineages drawn of one token."""

BLOCKS, PLAIN = "░▒▓█", ".-+#"
STEPS = (0.0, 0.4, 0.6, 0.8)
"""Share from which each shade is used."""

_COLOURS = ("red", "green", "yellow", "blue", "magenta", "cyan")
_TOKEN = 16
"""Columns of a token, at most."""

_SPACE = {" ": "␣", "\n": "⏎", "\t": "⇥"}


def write_picture(
    active: ActiveFeatures,
    lineages: Sequence[ActiveLineage],
    *,
    out: Path | None = None,
    width: int | None = None,
) -> None:
    """Write the picture with its legend, in bands of layers where the screen is narrow.

    A cell is shaded by the largest share of any feature active there, and bears the letter of the lineage
    that passes through it, of the strongest on its token. Blocks and colours are for terminals.

    width: columns; left out, those of the terminal, and as many as needed elsewhere.

    Raises UsageError: the file cannot be written.
    """
    with opened(out) as stream:
        screen = console(stream, width)
        drawn = _drawn(active, lineages)
        names = _names(drawn)
        _draw(screen, active, names, BLOCKS if _can_draw(stream) else PLAIN)
        seen = set(names.values())
        _tell(screen, [lineage for lineage in drawn if lineage.name in seen], len(lineages) - len(seen))


def _draw(screen: Console, active: ActiveFeatures, names: Mapping[tuple[int, int], str], shades: str) -> None:
    shown = [_shown(token, plain=shades == PLAIN) for token in active.tokens]
    margin = min(max(map(cell_len, shown)), _TOKEN, max(4, screen.width // 3))
    strongest = _strongest(active)
    letters = max(map(len, names.values()), default=1)
    cell = 2 + letters
    room = max(1, (screen.width - margin) // cell)
    for first in range(0, len(active.layers), room):
        layers = active.layers[first : first + room]
        _print(screen, Text(" " * margin + "".join(f"{layer:>{cell}}" for layer in layers)))
        for token, text in enumerate(shown):
            row = Text(set_cell_size(text, margin))
            for layer in layers:
                share, name = strongest.get((token, layer)), names.get((token, layer))
                if share is None:
                    row.append(" " * cell)
                    continue
                shade = shades[max(0, bisect_right(STEPS, share) - 1)]
                row.append(f" {shade}")
                row.append(shade * letters if name is None else f"{name:<{letters}}", _style(name))
            _print(screen, row)
        _print(screen, Text())
    steps = "  ".join(f"{shade} {step:g}" for shade, step in zip(shades, STEPS, strict=True))
    _print(screen, Text(f"share of the largest activation, from: {steps}"))


def _drawn(active: ActiveFeatures, lineages: Sequence[ActiveLineage]) -> list[ActiveLineage]:
    """Return the strongest lineages of each token, in their order."""
    chosen = set()
    for token in range(len(active.tokens)):
        here = sorted(lineages, key=lambda lineage: -lineage.strength(token))[:OF_TOKEN]
        chosen |= {lineage.name for lineage in here if token in lineage.by_token}
    return [lineage for lineage in lineages if lineage.name in chosen][:DRAWN]


def _tell(screen: Console, lineages: Sequence[ActiveLineage], n_left: int) -> None:
    """Write the legend: the lineage of each letter."""
    for lineage in lineages:
        first, last = lineage.layers
        line = Text()
        line.append(f"{lineage.name:<2}", _style(lineage.name))
        spanned = f"layers {first} to {last}" if first != last else f"layer {first}"
        label = printable(lineage.label) if lineage.label else ""
        line.append(f" {spanned}, mean share {lineage.mean_share:.2f}, {lineage.key}  {label}")
        _print(screen, line)
    if n_left:
        _print(screen, Text(f"{n_left} more, not drawn: --lineages lists the strongest of each token"))


def _strongest(active: ActiveFeatures) -> dict[tuple[int, int], float]:
    """Return the largest share at each token and layer."""
    largest: dict[tuple[int, int], float] = {}
    columns = (active.token, active.layer, active.share)
    for token, layer, share in zip(*(column.tolist() for column in columns), strict=True):
        if share == share:
            largest[token, layer] = max(share, largest.get((token, layer), share))
    return largest


def _names(lineages: Sequence[ActiveLineage]) -> dict[tuple[int, int], str]:
    """Return the name of the lineage at each token and layer; of several, the strongest on the token."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for number, lineage in enumerate(lineages):
        for token, members in lineage.by_token.items():
            here = (lineage.strength(token), -number)
            for _, _, layer in members:
                best[token, layer] = max(here, best.get((token, layer), here))
    return {place: lineages[-number].name for place, (_, number) in best.items()}


def _shown(token: str, *, plain: bool) -> str:
    """Return the heading of a token's row."""
    blank = repr(token) if plain else "".join(_SPACE.get(letter, letter) for letter in token)
    return printable(token.strip() or blank)


def _style(name: str | None) -> str:
    return "" if name is None else f"bold {_COLOURS[sum(map(ord, name)) % len(_COLOURS)]}"


def _print(screen: Console, line: Text) -> None:
    screen.print(line, no_wrap=True, overflow="ellipsis" if screen.is_terminal else "crop")


def _can_draw(stream: TextIO) -> bool:
    """Return whether a stream goes to a terminal that has block characters."""
    try:
        BLOCKS.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return stream.isatty()
