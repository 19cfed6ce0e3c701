"""Layouts and SVG from plain values: lineages in layers, alluvial pictures, prompt lens, small multiples.

Nothing of featgraph is imported here, and nothing beside the standard library; `png` loads resvg when called.
"""

from featgraph.drawing.alluvial import Passage, draw_alluvial
from featgraph.drawing.colours import Theme, dark_rules
from featgraph.drawing.graph import DOUBTFUL, LineageGraph, Link, Node, Writer
from featgraph.drawing.lens import Lit, PromptLens, draw_prompt_lens
from featgraph.drawing.lineage import Detail, Options, Picture, arrange, draw_lineage
from featgraph.drawing.multiples import Panel, Series, draw_small_multiples
from featgraph.drawing.page import html_page
from featgraph.drawing.png import PngUnavailable, png
from featgraph.drawing.text import visible, word

__all__ = [
    "DOUBTFUL",
    "Detail",
    "LineageGraph",
    "Link",
    "Lit",
    "Node",
    "Options",
    "Panel",
    "Passage",
    "Picture",
    "PngUnavailable",
    "PromptLens",
    "Series",
    "Theme",
    "Writer",
    "arrange",
    "dark_rules",
    "draw_alluvial",
    "draw_lineage",
    "draw_prompt_lens",
    "draw_small_multiples",
    "html_page",
    "png",
    "visible",
    "word",
]
