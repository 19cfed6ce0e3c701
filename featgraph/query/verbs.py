"""The verbs of `verbs.sql` as calls: which arguments each takes, and running one by name.

What a verb means is written once, as a table macro in the graph; nothing is computed here.
"""

from collections.abc import Mapping

from featgraph.errors import UsageError, nearest
from featgraph.flow import find
from featgraph.query.result import Result
from featgraph.query.run import TIMEOUT, run
from featgraph.store import Store

VERBS: dict[str, tuple[str, ...]] = {
    "lineage": ("f", "min", "hops", "writers", "writer_min"),
    "ancestors": ("f", "min", "hops"),
    "descendants": ("f", "min", "hops"),
    "subgraph": ("f", "min", "hops", "writers", "writer_min"),
    "splits": ("min", "layer"),
    "merges": ("min", "layer"),
    "births": ("min", "layer"),
    "deaths": ("min", "layer"),
}
"""Each verb's arguments, in the macro's order; `f` is a feature key."""


def run_verb(
    store: Store, verb: str, arguments: Mapping[str, object], *, timeout: float | None = TIMEOUT
) -> Result:
    """Run one verb with arguments by name; those left out take the macro's default.

    Raises UsageError: no such verb, argument or feature.
    """
    if verb not in VERBS:
        raise UsageError(f"no verb {verb!r}{nearest(verb, VERBS)}; verbs are {', '.join(VERBS)}")
    values = dict(arguments)
    for name in values:
        if name not in VERBS[verb]:
            raise UsageError(f"{verb} takes no {name!r}{nearest(name, VERBS[verb])}")
    if "f" in VERBS[verb]:
        values["f"] = str(find(store, str(values.get("f", "")))[0])
    passed = [f"${name}" if name == "f" else f"{name} := ${name}" for name in VERBS[verb] if name in values]
    return run(store, f"from {verb}({', '.join(passed)})", values, timeout=timeout)
