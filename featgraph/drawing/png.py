"""A picture as PNG, through resvg, which comes with the extra `featgraph[png]`."""

from functools import cache
from typing import Any


class PngUnavailable(Exception):
    """PNG needs a library or a font that is missing; the message says which, and how to install it."""


def png(svg: str, *, times: float = 2.0) -> bytes:
    """Return a picture as PNG; scale: pixels per unit of the SVG.

    A picture with theme `auto` becomes light; draw it with `theme="dark"` for a dark one.

    Raises PngUnavailable: resvg is not installed, or the machine has no font.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise PngUnavailable("PNG needs resvg: pip install 'featgraph[png]', or take SVG") from error
    if not _has_font(resvg_py):
        raise PngUnavailable(
            "PNG needs a font, and this machine has none: "
            "install Liberation Sans (package fonts-liberation), or take SVG"
        )
    return _render(resvg_py, svg, times)


_NOTHING = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"/>'
_WORD = _NOTHING.replace("/>", '><text y="15" font-family="Arial, sans-serif">w</text></svg>')


@cache
def _has_font(resvg: Any) -> bool:
    """Return whether resvg finds a font; without one it leaves out all text."""
    return _render(resvg, _WORD, 1.0) != _render(resvg, _NOTHING, 1.0)


def _render(resvg: Any, svg: str, times: float) -> bytes:
    return bytes(resvg.svg_to_bytes(svg_string=svg, zoom=times))
