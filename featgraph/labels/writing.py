"""Labels written to an existing graph: staged in a database of their own, then written at once.

`store.update.updating` keeps the graph whole at every moment; between its two renames the graph has its
labels, and only the note of their origin is missing. A label replaces those of the same source
and feature.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from featgraph.store.update import GraphUpdate, updating

_WORK = ".labelling"

_STAGED = "create table staged (feature integer, source varchar, text varchar)"

_SAES = "create table sae (layer integer, site varchar, first_id integer, n_features integer, place varchar)"

_RELABEL = """
    create table graph.relabelled as
    select feature, source, text
    from (
        from graph.label l
        where not coalesce(list_contains($remade, l.source), false)
            and not exists (select 1 from staged s where s.feature = l.feature and s.source = l.source)
        union all
        select distinct feature, source, text from staged
    )
    order by feature, source = 'tokens', source, text
"""

_ADDED = """
    select source, count(distinct (feature, text)), count(distinct feature)
    from staged
    group by source
    order by source
"""


@dataclass(frozen=True)
class Added:
    """A source, and the number of its labels written to a graph."""

    source: str
    n: int
    n_features: int


@dataclass(frozen=True)
class Labelled:
    """The result of labelling: labels written per source, and a sentence per kind of skipped input."""

    added: list[Added]
    left_out: list[str]


@dataclass(frozen=True)
class Labelling(GraphUpdate):
    """A graph locked for writing, with the labels staged for it.

    Its connection holds `staged`, as the table `label`, and `sae` with its `neuronpedia_id` as `place`.
    """

    def stage(self, ids: list[int], source: str, texts: list[str]) -> None:
        """Add labels of one source."""
        rows = pa.table({"feature": pa.array(ids, pa.int32()), "source": [source] * len(ids), "text": texts})
        self.connection.register("rows", rows)
        self.connection.execute("insert into staged from rows")
        self.connection.unregister("rows")

    def commit(self, origin: str, *, remade: tuple[str, ...] = ()) -> list[Added]:
        """Write the staged labels to the graph, and their origin to its manifest.

        remade: sources whose old labels are all deleted, even of features without a new one.

        Raises StoreError: the graph cannot be written; it is unchanged.
        """
        added = [Added(*row) for row in self.connection.execute(_ADDED).fetchall()]
        if not added and not remade:
            return []
        self.replace_database(
            [
                (_RELABEL, {"remade": list(remade)}),
                ("drop table graph.label", None),
                ("alter table graph.relabelled rename to label", None),
            ]
        )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        new = [{"source": each.source, "n": each.n, "from": origin, "at": now} for each in added]
        replaced = {(entry["source"], entry["from"]) for entry in new}
        before = [
            entry
            for entry in self.store.manifest.get("labels", [])
            if (entry["source"], entry["from"]) not in replaced and entry["source"] not in remade
        ]
        self.replace_manifest({**self.store.manifest, "labels": before + new})
        self.connection.execute("truncate staged")
        return added


@contextmanager
def labelling(path: str | Path) -> Iterator[Labelling]:
    """Open a graph for labelling; open readers keep the old version.

    Raises StoreError: no such graph, it cannot be read or written, or another process is writing it.
    """
    with updating(path, _WORK) as work:
        work.connection.execute(_STAGED)
        work.connection.execute(_SAES)
        for row in work.store.rows("select layer, site, first_id, n_features, neuronpedia_id from sae"):
            work.connection.execute("insert into sae values (?, ?, ?, ?, ?)", row)
        yield Labelling(work.store, work.folder, work.connection)
