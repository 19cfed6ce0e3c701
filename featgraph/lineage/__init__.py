"""Lineages: a feature with its ancestors and descendants, spans, best paths.

lineage      a lineage and its span as Python objects
adjacency    lineages, best paths, components and neighbourhoods over edges in memory
in_memory    decides when to read a graph's edges into memory
edge_arrays  edges as CSR arrays, outgoing or incoming
view         the picture of a lineage
best_paths   the k best paths between two features
"""
