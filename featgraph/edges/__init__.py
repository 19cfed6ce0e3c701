"""Two SAEs -> candidate edges between their features, and the evidence for each.

candidates       the nearest directions of every source and every target, ranked, exactly
tiles            finds all pairs that may be among the nearest, from fast low-precision products
products         chooses the device and dtype of these products, and bounds their error
calibration      the cosine thresholds of each SAE
coactivation     sums over tokens for pairs of features; proposes candidates by co-activation
pair_sums        computes these sums for one block of upstream features
virtual_weights  virtual weights between the features of two SAEs
top_pairs        the k best pairs of every source and every target
crowding         counts pairs that reach the threshold but are no candidates
cause_nulls      default thresholds of measures of causes
evidence         the formulas of the evidence; `core/measures.py` defines every column
"""

from featgraph.edges.candidates import Candidates, best_cosine, candidates, cosines, null_best_cosine

__all__ = ["Candidates", "best_cosine", "candidates", "cosines", "null_best_cosine"]
