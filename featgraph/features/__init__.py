"""Which features to look at or to steer with, by words, directions or prompts; and what a text lights up.

chosen          the four ways of looking, and which of the found ones pass
contrast        what fires more on some prompts than on others
output_score    whether a feature, amplified, brings up the tokens that it should
active        the features that are active on a text, token by token
lit             those of them that are of one lineage
running         the language model and the SAEs over prompts, within bounds
"""

from featgraph.features.active import ActiveFeatures, active_features
from featgraph.features.active_lineages import ActiveLineage, find_active_lineages, lineage_rows
from featgraph.features.find import FeatureFilter, find
from featgraph.features.prompts import read_prompts

__all__ = [
    "ActiveFeatures",
    "ActiveLineage",
    "FeatureFilter",
    "active_features",
    "find",
    "find_active_lineages",
    "lineage_rows",
    "read_prompts",
]
