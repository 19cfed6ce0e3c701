"""Causal evidence for edges: remove an upstream feature at a token and read the downstream one again.

choosing     a statement -> the edges to ablate
sessions     the model, the text and the SAEs of one ablation
firing       a sample of the tokens on which both ends of an edge fire
copies       copies of tokens at the end of a row, each of which can be changed alone
removing     the downstream activation without an upstream feature, token by token
exhaustive   every active upstream feature removed, every active downstream one read
text_pass    one forward pass over text, kept for blocks that run on copies
columns      activations from the encoder columns that are needed
token_sample  tokens at random, more of them for rare features
effects      sparse sums over removals, and the effects that they give
sampled      exhaustive removal on a sample of tokens, into the graph
measuring    ablation_change of the edges asked for
recording    the numbers into an existing graph
gradients    gradient times activation: what features of any earlier SAE carry of a feature
logits       how a feature changes the logits of the next token
attributing  the features and logits that are linked to a feature over any distance
far_edges    these links as edges of kind `far` of an existing graph
targets      activations drawn at random from a text
baselines    rules for choosing the cause of a target, compared on the same targets
predicting   how well the measures of an edge predict its ablation
"""

from featgraph.ablation.attributing import ATTRIBUTED_TOKENS, TOP, attribute, attribute_logits
from featgraph.ablation.baselines import TARGETS, baselines
from featgraph.ablation.measuring import SAMPLE, TOKENS, ablate
from featgraph.ablation.predicting import predictions
from featgraph.ablation.sampled import SAMPLED_TOKENS, ablate_exhaustively

__all__ = [
    "ATTRIBUTED_TOKENS",
    "SAMPLE",
    "SAMPLED_TOKENS",
    "TARGETS",
    "TOKENS",
    "TOP",
    "ablate",
    "ablate_exhaustively",
    "attribute",
    "attribute_logits",
    "baselines",
    "predictions",
]
