"""Pictures from plain values: lineages, events per layer, features active on a prompt, small charts.

graph       the features and links of a lineage picture
lineage     draws a lineage: layers to the right, features as cards, links as ribbons
layout      the positions of cards and ribbons
order       the order of the items in each column, with few crossings
place       the heights of the items in each column
cards       a feature as a card, a line or a bar
marks       the marks for writers, births and deaths
legend      the legend of a lineage picture
alluvial    draws how features persist, split and merge from layer to layer
lens        draws the strongest features of each layer on each token of a prompt
multiples   draws the same small chart for each layer
colours     the colours of every picture
svg         SVG elements as text
text        text that fits a width
widths      the widths of letters
page        a picture as one HTML file
png         a picture as PNG

Nothing of featgraph is imported here, and nothing beside the standard library; `png` loads resvg when called.
"""

from featgraph.drawing.alluvial import Passage, draw_alluvial
from featgraph.drawing.colours import Theme, dark_rules
from featgraph.drawing.graph import DOUBTFUL, LineageGraph, Link, Node, Writer
from featgraph.drawing.lens import Activation, PromptLens, draw_prompt_lens
from featgraph.drawing.lineage import Detail, Options, Picture, arrange, draw_lineage
from featgraph.drawing.multiples import Panel, Series, draw_small_multiples
from featgraph.drawing.page import html_page
from featgraph.drawing.png import PngUnavailable, png
from featgraph.drawing.text import visible, word

__all__ = [
    "DOUBTFUL",
    "Activation",
    "Detail",
    "LineageGraph",
    "Link",
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
