"""What tests of labelling share: rows and files as Neuronpedia has them, and the labels of a graph."""

import gzip
import json
import shutil
from pathlib import Path

import duckdb

import featgraph
from featgraph.labels import RetryPolicy

Label = tuple[str, str, str]

QUICK = RetryPolicy(timeout=5, tries=3, first_wait=0.001)


def source_id(layer: int, site: str) -> str:
    return f"toy-2b/{layer}-toyscope-{site}-4"


def row(layer: int, site: str, idx: object, text: str | None, **more: object) -> dict[str, object]:
    """A row as Neuronpedia exports it; `index` is text there."""
    model, source = source_id(layer, site).split("/")
    return {
        **{"id": "c0ffee", "modelId": model, "layer": source, "index": str(idx), "description": text},
        **{"authorId": "a", "embedding": [0.25, -1.5], "typeName": "oai_token-act-pair"},
        **{"explanationModelName": "gpt-4o-mini", "umap_x": None, **more},
    }


def packed(*rows: dict[str, object]) -> bytes:
    return gzip.compress("".join(json.dumps(one) + "\n" for one in rows).encode())


def bulk(folder: Path, layer: int, site: str, *batches: list[dict[str, object]]) -> Path:
    """The files of one source, laid out as in Neuronpedia's bucket; return the folder above all sources."""
    source = folder / "v1" / source_id(layer, site)
    for kind in ("explanations", "features"):
        (source / kind).mkdir(parents=True)
    (source / "features" / "batch-0.jsonl.gz").write_bytes(packed({"modelId": "x", "index": "0"}))
    for number, rows in enumerate(batches):
        (source / "explanations" / f"batch-{number}.jsonl.gz").write_bytes(packed(*rows))
    return folder / "v1"


def toy_on_neuronpedia(toy: Path, path: Path) -> Path:
    """A copy of the toy graph whose SAEs are on Neuronpedia, all but those of layer 2."""
    shutil.copytree(toy, path)
    name = "'toy-2b/' || layer || '-toyscope-' || site || '-4'"
    with duckdb.connect(str(path / "graph.duckdb")) as connection:
        connection.execute(f"update sae set neuronpedia_id = {name} where layer < 2")
    return path


def labels(path: Path) -> list[Label]:
    """All labels but those of tokens, by feature."""
    with featgraph.open(path) as opened:
        statement = """
            select f.key, l.source, l.text from label l join feature f on f.id = l.feature
            where l.source <> 'tokens' order by f.id, l.source, l.text
        """
        return [(str(a), str(b), str(c)) for a, b, c in opened.sql(statement).rows]


def token_labels(path: Path) -> dict[str, str]:
    with featgraph.open(path) as opened:
        statement = (
            "select f.key, l.text from label l join feature f on f.id = l.feature where l.source = 'tokens'"
        )
        return {str(key): str(text) for key, text in opened.sql(statement).rows}


OAI = "neuronpedia:oai_token-act-pair"
