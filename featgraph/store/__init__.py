"""Opens, checks, publishes and updates a graph directory.

store      a graph, open for reading
layout     its files, the manifest, the path of the lock, and which directories may be replaced
manifest   checks the manifest
target     where a graph may be written
catalogue  compares a database's tables and macros with a new one's
verify     checks a graph: hashes, counts and rules
carry      copies a user's labels and ablations into a graph that is ingested again
database   opens the DuckDB file read-only, or creates it (`sql/`: tables, verbs and search)
publish    the lock against two writers, the build directory, the swap
update     changes an existing graph
vectors    FAISS indexes of decoder directions
features   looks up feature keys, ids and labels
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
