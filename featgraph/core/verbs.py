"""The registry of verbs: what each is called with, what it answers, and how its command introduces it.

The checks of arguments, the commands, their help, and the completion of the shell and of the prompt follow
from here. A new verb is one row, and:

    store/sql/verbs.sql    the table macro that answers it (or `computed`, see `query.verbs.compute`)
    graph.py               the method of `Graph`
    cli/verbs.py           only if it has an argument that no other verb has: how the command line takes it
"""

from dataclasses import dataclass, field
from typing import Literal

ArgumentType = Literal["key", "float", "int", "bool", "text", "vector", "measure", "score"]


@dataclass(frozen=True)
class Verb:
    """One verb: its arguments, columns and help."""

    name: str
    summary: str
    """One-line help."""
    example: str
    """Example arguments, after `featgraph VERB GRAPH`."""
    arguments: dict[str, ArgumentType]
    """Argument -> type, in the order of the macro's parameters."""
    required: tuple[str, ...] = ()
    details: str = ""
    """Help below the summary."""
    computed: bool = False
    """Whether `query.verbs.compute` computes it, instead of a macro."""
    columns: dict[str, str] = field(default_factory=dict)
    """Column -> type of a computed verb."""


_REACH: dict[str, ArgumentType] = {"f": "key", "min": "float", "hops": "int", "by": "measure"}
_LINEAGE: dict[str, ArgumentType] = {
    "f": "key",
    "min": "float",
    "hops": "int",
    "writers": "bool",
    "writer_min": "float",
    "by": "measure",
}
_EVENT: dict[str, ArgumentType] = {"min": "float", "layer": "int", "by": "measure"}

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "lineage",
            "Show the lineage of a feature: ancestors, descendants, writers.",
            "3/res/346 --min 0.6",
            _LINEAGE,
            ("f",),
            details="The tree is always whole; --limit applies to rows and to the features of a picture.",
        ),
        Verb(
            "ancestors",
            "List the features upstream of a feature, over residual edges.",
            "3/res/346 --hops 2",
            _REACH,
            ("f",),
        ),
        Verb(
            "descendants",
            "List the features downstream of a feature, over residual edges.",
            "3/res/346 --hops 2",
            _REACH,
            ("f",),
        ),
        Verb(
            "subgraph", "List the edges of a feature's lineage.", "3/res/346 --format json", _LINEAGE, ("f",)
        ),
        Verb(
            "paths",
            "List the best paths from one feature down to another.",
            "1/res/575 3/res/346 -k 3 --score min",
            {
                "a": "key",
                "b": "key",
                "k": "int",
                "min": "float",
                "score": "score",
                "writer_min": "float",
                "by": "measure",
            },
            ("a", "b"),
            details="A path from an mlp or att feature begins with an edge by which it writes.",
        ),
        Verb(
            "neighbors",
            "List every edge at a feature, with its evidence.",
            "3/res/346 --min 0.3",
            {"f": "key", "min": "float", "writer_min": "float", "by": "measure"},
            ("f",),
        ),
        Verb(
            "splits",
            "List splits: features with two or more children.",
            "--min 0.7",
            _EVENT,
            details="A child counts if its edge passes the threshold and the feature is its best parent.",
        ),
        Verb(
            "merges",
            "List merges: features with two or more parents.",
            "--min 0.7",
            _EVENT,
            details="A parent counts if its edge passes the threshold and the feature is its best child.",
        ),
        Verb("births", "List births: features without a parent, and their origin.", "--layer 4", _EVENT),
        Verb("deaths", "List deaths: features without a child.", "--layer 4", _EVENT),
        Verb(
            "chains",
            "List chains: features that persist from layer to layer.",
            "--min 0.8",
            {"min": "float", "by": "measure"},
            details="Each feature is the best parent of the next one, which is its best child.",
        ),
        Verb(
            "components",
            "List the connected components over residual edges.",
            "--min 0.8",
            {"min": "float", "by": "measure"},
            computed=True,
            columns={
                "id": "INTEGER",
                "key": "VARCHAR",
                "layer": "INTEGER",
                "component": "INTEGER",
                "n": "INTEGER",
            },
        ),
        Verb(
            "flow",
            "Count edges and events between neighboring residual layers.",
            "2 5",
            {"layer_a": "int", "layer_b": "int", "min": "float", "by": "measure"},
            details="As svg, png or html, it also tells where births come from.",
        ),
        Verb(
            "similar",
            "List the features nearest to a direction, in every SAE.",
            "3/res/346 -k 5",
            {"f": "key", "k": "int", "vector": "vector", "text": "text"},
            details="The direction is that of a feature, of a file (.npy, .json, .safetensors) or of a text.",
            computed=True,
            columns={
                "id": "INTEGER",
                "key": "VARCHAR",
                "layer": "INTEGER",
                "site": "VARCHAR",
                "cosine": "FLOAT",
                "label": "VARCHAR",
            },
        ),
        Verb(
            "search",
            "Search the labels for words, best match first.",
            "'mom dad'",
            {"words": "text", "source": "text"},
            ("words",),
            details="A label matches if it has all the words, whole or as the beginning of a longer one. "
            "Case and accents do not count.",
        ),
    )
}
