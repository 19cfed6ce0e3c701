"""PNG: the picture at its size, or a reason."""

import struct
import sys
import types

import pytest

from featgraph.drawing import LineageGraph, Node, Options, PngUnavailable, draw_lineage, png
from helpers.pictures import parsed

SVG = draw_lineage(LineageGraph([Node("0/res/0", 0, lines=(("looked",),))], []))


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_a_png_has_the_size_of_the_picture(times: float) -> None:
    data = png(SVG, times=times)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    root = parsed(SVG)
    assert struct.unpack(">II", data[16:24]) == tuple(
        round(float(root.get(side, "0")) * times) for side in ("width", "height")
    )
    assert png(SVG, times=times) == data


def test_words_are_in_it() -> None:
    other = draw_lineage(LineageGraph([Node("0/res/0", 0, lines=(("looker",),))], []))
    assert png(SVG) != png(other)


def test_a_picture_for_either_theme_is_light() -> None:
    graph = LineageGraph([Node("0/res/0", 0)], [])
    auto, light, dark = (
        png(draw_lineage(graph, Options(theme=theme))) for theme in ("auto", "light", "dark")
    )
    assert auto == light != dark


def test_without_resvg_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(PngUnavailable, match=r"pip install 'featgraph\[png\]'"):
        png(SVG)


def test_without_a_font_no_empty_picture_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As resvg answers on a machine without fonts: it leaves the words out."""
    blind = types.ModuleType("resvg_py")
    real = __import__("resvg_py").svg_to_bytes
    blind.svg_to_bytes = lambda **options: real(**options, skip_system_fonts=True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "resvg_py", blind)
    with pytest.raises(PngUnavailable, match="needs a font"):
        png(SVG)
