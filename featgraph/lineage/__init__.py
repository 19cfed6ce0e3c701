"""Lineages: a feature with its ancestors and descendants, spans, best paths.

lineage      a lineage and its span as Python objects
adjacency    lineages and best paths over edges in memory
edge_arrays  edges as arrays, one way
best_paths   the k best paths between two features
"""
