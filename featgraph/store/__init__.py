"""The graph directory.

store      a graph, open for reading
layout     where things lie in it, its manifest, what may be replaced
target     where a graph may be written
catalogue  what a database holds, held against a fresh one
database   the DuckDB file: opened in a lock-down, or made (`sql/`: tables, verbs and search as macros)
publish    the lock, the build directory, the swap
update     a change to a graph that is there already
vectors    FAISS indexes of decoder directions
features   feature keys, ids and labels, looked up
health     how well the SAEs fit the model and the text
"""

from featgraph.store.database import STORAGE_VERSION, connect, create_database, finish_database
from featgraph.store.layout import FORMAT_VERSION, MANIFEST, check_replaceable, vectors_file, write_manifest
from featgraph.store.publish import building, empty_build, new_graph, publish_graph
from featgraph.store.store import Store, open_store
from featgraph.store.target import check_target

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "STORAGE_VERSION",
    "Store",
    "building",
    "check_replaceable",
    "check_target",
    "connect",
    "create_database",
    "empty_build",
    "finish_database",
    "new_graph",
    "open_store",
    "publish_graph",
    "vectors_file",
    "write_manifest",
]
