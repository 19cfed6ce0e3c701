"""Rows that hold edges or paths, and lineages, as graphs in other tools' formats.

networkx   rows or a lineage as a networkx graph
edges      finds the edges in rows: columns `src` and `dst`, or a path
layers     nodes layer by layer, for the formats that draw
dot        Graphviz
mermaid    Mermaid flowcharts
node_link  node-link JSON
xml        GraphML and GEXF
"""
