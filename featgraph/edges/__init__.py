"""Decoder directions of two SAEs -> their nearest pairs, exactly, and what is near by chance.

candidates    the k nearest of every source and every target, ranked
tiles         which pairs may be among them, from fast products; none is missed
products      those products: where, in which dtype, and by how much they may be off
calibration   the cosines from which a match says something
"""

from featgraph.edges.candidates import Candidates, best_cosine, candidates, cosines, null_best_cosine

__all__ = ["Candidates", "best_cosine", "candidates", "cosines", "null_best_cosine"]
