"""Causal evidence: what becomes of a feature at a token when one upstream of it is removed there.

choosing     a statement -> the edges that are ablated
sessions     the model, the text and the SAEs that this takes
firing       on which tokens the ends of edges fire, and some of them
copies       tokens read once more within one pass, so that each can be changed alone
removing     what the downstream SAE finds without an upstream feature, token by token
measuring    all of it together, for the edges asked for
recording    the numbers into a graph that is there already
targets      activations drawn at random from a text
baselines    rules for choosing what a target depends on, each tried on the same targets
predicting   how well measures had without an intervention tell what it finds
resampling   ranks, and intervals by drawing the data again
"""

from featgraph.ablation.baselines import TARGETS, baselines
from featgraph.ablation.measuring import SAMPLE, TOKENS, ablate
from featgraph.ablation.predicting import predictions

__all__ = ["SAMPLE", "TARGETS", "TOKENS", "ablate", "baselines", "predictions"]
