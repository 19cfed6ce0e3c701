"""Lineages: a feature with its ancestors and descendants, spans, best paths.

lineage      a lineage and its span as Python objects
adjacency    lineages, best paths, components and neighbourhoods over edges in memory
in_memory    when edges are read into memory
edge_arrays  edges as arrays, one way
best_paths   the k best paths between two features
"""
