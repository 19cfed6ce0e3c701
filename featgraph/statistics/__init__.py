"""Codes -> what is counted of features and of pairs of features.

running        moments, explained variance, top tokens and strongest contexts, as running sums
coactivation   pairs that fire together: sums for the candidates, and the pairs that this finds
pairsums       those sums, block by block
strongest      the strongest pairs of every source and target, from blocks
"""

from featgraph.statistics.running import AFTER, BEFORE, EXAMPLES, Contexts, Moments, Reconstruction, TopTokens

__all__ = ["AFTER", "BEFORE", "EXAMPLES", "Contexts", "Moments", "Reconstruction", "TopTokens"]
