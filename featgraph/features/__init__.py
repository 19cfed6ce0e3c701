"""Features to look at or to steer with, found by label, direction or prompts; and those active on a text.

find              features by label, by direction or by contrast, filtered and ranked
contrast          features more active on some prompts than on others
output_score      whether an amplified feature brings up the tokens that it should
active            the features active on a text, token by token
active_lineages   lineages among them
prompts           the language model and the SAEs over prompts, within a memory bound
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
