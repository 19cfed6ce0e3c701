"""Which features to look at or to steer with, by words, directions or prompts; and what a text lights up.

chosen          the four ways of looking, and which of the found ones pass
contrast        what fires more on some prompts than on others
output_score    whether a feature, amplified, brings up the tokens that it should
lighting        the features that are active on a text, token by token
lit             those of them that are of one lineage
running         the language model and the SAEs over prompts, within bounds
"""

from featgraph.finding.chosen import Passing, find
from featgraph.finding.lighting import Lighting, light
from featgraph.finding.lit import LitLineage, lineage_rows, lit_lineages
from featgraph.finding.running import read_prompts

__all__ = [
    "Lighting",
    "LitLineage",
    "Passing",
    "find",
    "light",
    "lineage_rows",
    "lit_lineages",
    "read_prompts",
]
