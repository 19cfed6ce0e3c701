"""What massive activations do to a graph: the same suite ingested with and without them.

    python tests/bench/massive.py FOLDER                       FOLDER: model/, saes/L.res, text/ingest.txt
    python tests/bench/massive.py --graphs BEFORE AFTER        compare two graphs that are there already

Prints, for one layer with both graphs side by side, what three tokens of a hundred thousand change: the mean
Pearson correlation of mutual best matches, how far the largest activation is from the mean, how many features
have the same strongest example, and the explained variance.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import featgraph
from featgraph.graph import Graph
from featgraph.ingestion import ingest
from featgraph.recipe import read_recipe

RECIPE = """\
title = "around one layer"
seed = 0
[model]
path = "{folder}/model"
[suite]
layers = {count}
[suite.sites.res]
path = "{folder}/saes/{{layer}}.res"
layers = {layers}
[text]
path = "{folder}/text/ingest.txt"
separator = "<|endoftext|>"
tokens = {tokens}
context = 256
massive = {massive}
[edges]
kinds = ["res_res"]
top_k = 8
coactive_k = 4
min_support = 10
"""

FIGURES = {
    "tokens left out": "select n_massive from sae where layer = {layer} and site = 'res'",
    "explained variance": "select explained_variance from sae where layer = {layer} and site = 'res'",
    "its standard error": "select explained_variance_se from sae where layer = {layer} and site = 'res'",
    "mean pearson, mutual best matches": """
        select avg(e.pearson) from edge e join feature f on f.id = e.dst
        where f.layer = {layer} and e.kind = 'res_res' and e.rank_out = 1 and e.rank_in = 1
    """,
    "largest / mean activation, median": """
        select median(max_activation / mean_activation) from feature
        where layer = {layer} and site = 'res' and density > 0
    """,
    "features with the same strongest example": """
        select max(n) from (
            select count(*) as n from example e join feature f on f.id = e.feature
            where f.layer = {layer} and e.rank = 1 group by e.tokens, e.token_index
        )
    """,
    "births": "select count(*) from births() where layer = {layer}",
}


def figures(graph: Graph, layer: int) -> dict[str, object]:
    """Return one number per figure; None where the graph has no such column."""
    found: dict[str, object] = {}
    for name, statement in FIGURES.items():
        try:
            [(value,)] = graph.sql(statement.format(layer=layer)).rows
        except featgraph.QueryError:
            value = None
        found[name] = value
    return found


def built(folder: Path, out: Path, layer: int, count: int, tokens: int, massive: float) -> Path:
    """Ingest three layers around one; return the graph."""
    recipe = out / f"massive-{massive:g}.toml"
    layers = [one for one in (layer - 1, layer, layer + 1) if 0 <= one < count]
    values = {"folder": folder, "count": count, "layers": layers, "tokens": tokens, "massive": massive}
    recipe.write_text(RECIPE.format(**values), encoding="utf-8")
    graph = out / f"massive-{massive:g}.featgraph"
    ingest(read_recipe(recipe), graph)
    return graph


def main() -> int:
    """Compare from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="with model/, saes/ and text/ingest.txt")
    parser.add_argument("--graphs", nargs=2, type=Path, help="graphs to compare instead")
    parser.add_argument("--layer", type=int, default=11)
    parser.add_argument("--layers", type=int, default=30, help="of the model")
    parser.add_argument("--tokens", type=int, default=100_000)
    given = parser.parse_args()
    if (given.folder is None) == (given.graphs is None):
        parser.error("give a folder, or --graphs")
    with tempfile.TemporaryDirectory() as temporary:
        paths = given.graphs or [
            built(given.folder.resolve(), Path(temporary), given.layer, given.layers, given.tokens, massive)
            for massive in (0, 10)
        ]
        columns = []
        for path in paths:
            with featgraph.open(path) as graph:
                columns.append(figures(graph, given.layer))
    for name in FIGURES:
        cells = ["-" if one[name] is None else f"{one[name]:.4g}" for one in columns]
        sys.stdout.write(f"{name:<42} {cells[0]:>10} {cells[1]:>10}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
