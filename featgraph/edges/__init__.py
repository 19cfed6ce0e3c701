"""Two SAEs -> candidate edges between their features, and the evidence for each.

candidates       the nearest directions of every source and every target, ranked, exactly
tiles            pairs that may be among the nearest, from fast products; none is missed
products         those products: device, dtype and error bound
calibration      the cosines from which a match means something
coactivation     sums over tokens for pairs of features, and the candidates that they propose
pair_sums        those sums, block by block of upstream features
virtual_weights  how strongly features of one SAE write into those of another
top_pairs        the k best pairs of every source and every target
crowding         pairs as close as edges that are none
cause_nulls      default thresholds of measures of causes
evidence         formulas of the evidence; `core/measures.py` names and defines every column
"""

from featgraph.edges.candidates import Candidates, best_cosine, candidates, cosines, null_best_cosine

__all__ = ["Candidates", "best_cosine", "candidates", "cosines", "null_best_cosine"]
