"""What a user put into a graph, taken over into the one that an ingest puts in its place.

Labels that did not come from the features' tokens, ablations, and the answers of a labelling that was cut
off. A label goes along with its feature where the SAE is the same one (its sha256), an ablation where both
SAEs and the model are, and the edge is among the new candidates. What cannot go along is named, and only
dropped when the user says so.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from featgraph.core.bounded import json_value, read_text
from featgraph.errors import StoreError
from featgraph.store.database import connect, plain_place
from featgraph.store.layout import DATABASE, MANIFEST, work_folders

if TYPE_CHECKING:
    import pyarrow as pa

MEASURED = ("ablation_change", "ablation_n", "effect", "effect_n", "effect_se", "silenced")
"""Columns of `edge` that only an ablation fills."""

_LABELS = "select feature, source, text from label where source <> 'tokens'"

_SAES = "select layer || '/' || site as place, first_id, n_features from sae"


@dataclass(frozen=True)
class SaeIdentity:
    """One SAE of a graph, and what makes it the same as one of another graph."""

    place: str
    """Layer and site, as in a key."""
    first_id: int
    n_features: int
    sha256: str


@dataclass(frozen=True)
class UserData:
    """What a user put into a graph."""

    path: Path
    manifest: Mapping[str, Any]
    saes: Sequence[SaeIdentity]
    labels: "pa.Table"
    """Columns feature, source, text."""
    ablations: "pa.Table"
    """Columns src, dst and those of `MEASURED` that the graph has."""
    journals: Sequence[Path]
    """Answers that are not yet in the graph."""
    n_far: int = 0
    """Edges of kind far, which never go along: they say what the features of that text carried."""

    def __bool__(self) -> bool:
        return bool(self.labels.num_rows or self.ablations.num_rows or self.journals or self.n_far)

    def lost(self, saes: Sequence[SaeIdentity], model: str | None) -> list[str]:
        """Return a phrase for all that does not go along to a graph with these SAEs and this model.

        model: its sha256, None where the graph knows none.
        """
        kept = _moved(self.saes, saes)
        lost = Counter[tuple[str, str]]()
        features, sources = (self.labels[name].to_pylist() for name in ("feature", "source"))
        for feature, source in zip(features, sources, strict=True):
            if _new_id(kept, feature) is None:
                lost[source, self._place(feature)] += 1
        phrases = [
            f"{n} label{'s' * (n > 1)} {source!r} of {place}, which is another SAE now"
            for (source, place), n in sorted(lost.items())
        ]
        if self.n_far:
            some = f"{self.n_far} edge{'s' * (self.n_far > 1)} of kind far"
            phrases.append(f"{some}, which `featgraph attribute` adds again")
        same_model = _model(self.manifest) == model
        ends = zip(*(self.ablations[name].to_pylist() for name in ("src", "dst")), strict=True)
        n = sum(not same_model or None in (_new_id(kept, src), _new_id(kept, dst)) for src, dst in ends)
        if n:
            why = "whose SAEs are others now" if same_model else "of another language model"
            phrases.append(f"{n} ablated edge{'s' * (n > 1)} {why}")
        return phrases

    def _place(self, feature: int) -> str:
        homes = (sae.place for sae in self.saes if 0 <= feature - sae.first_id < sae.n_features)
        return next(homes, "no SAE")


def check_carried(path: Path, saes: Sequence[SaeIdentity], model: str | None, *, force: bool) -> list[str]:
    """Return what of the graph at `path` is dropped where one with these SAEs takes its place.

    model: sha256 of the language model, None where there is none.

    Raises StoreError: something would be, and `force` is not given; or answers of a labelling that was cut
    off would be, which are never dropped.
    """
    data = user_data(path, force=force)
    if data is None:
        return []
    if data.journals and sorted(data.saes, key=_first) != sorted(saes, key=_first):
        raise StoreError(
            f"{path} has answers of a labelling that was cut off ({data.journals[0]}), and its features are "
            "others now; finish it with `featgraph label --from llm`, or move the file away"
        )
    return _dropped(path, data.lost(saes, model), force)


def carry_over(path: Path, graph: Path, *, force: bool) -> list[str]:
    """Put what a user put into the graph at `path` into the one that takes its place; return what is dropped.

    graph: the new graph's directory, complete.

    Raises StoreError: as `check_carried`, or an ablated edge is no candidate any more; the new graph is
    not to be used then.
    """
    data = user_data(path, force=force)
    if not data:
        return []
    manifest = json_value(read_text(graph / MANIFEST))
    with _new_database(graph / DATABASE) as connection:
        saes = _identities(connection.execute(_SAES).fetchall(), manifest)
        dropped = check_carried(path, saes, _model(manifest), force=force)
        kept = _moved(data.saes, saes)
        sources = _put_labels(connection, data, kept)
        n_gone = 0
        if _model(data.manifest) == _model(manifest):
            n_gone = _put_ablations(connection, data, kept)
        if n_gone:
            edges = f"{n_gone} ablated edge{'s' * (n_gone > 1)}"
            dropped += _dropped(path, [f"{edges} no longer among the candidates"], force)
    manifest["labels"] = [
        *(entry for entry in data.manifest.get("labels", []) if entry.get("source") in sources),
        *manifest.get("labels", []),
    ]
    if data.ablations.num_rows:
        manifest["ablations"] = [*data.manifest.get("ablations", []), *manifest.get("ablations", [])]
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (graph / MANIFEST).write_text(text, encoding="utf-8")
    for journal in data.journals:
        (graph / journal.parent.name).mkdir(exist_ok=True)
        shutil.copy2(journal, graph / journal.parent.name / journal.name)
    return dropped


def user_data(path: Path, *, force: bool = False) -> UserData | None:
    """Return what a user put into the graph at `path`; None where there is no graph.

    force: it may be lost, so that a graph that cannot be read holds nothing.

    Raises StoreError: it cannot be read.
    """
    if not (path / DATABASE).is_file():
        return None
    journals = [file for folder in work_folders(path) for file in sorted(folder.glob("*.jsonl"))]
    try:
        manifest = json_value(read_text(path / MANIFEST))
        connection = connect(path / DATABASE)
        try:
            columns = {str(row[0]) for row in connection.execute("describe edge").fetchall()}
            measured = [name for name in MEASURED if name in columns]
            asked = ", ".join(["src", "dst", *measured])
            some = " or ".join(f"{name} is not null" for name in measured) or "false"
            if not manifest.get("ablations"):  # what is measured, the ingest measured itself
                some = "false"
            return UserData(
                path,
                manifest,
                _identities(connection.execute(_SAES).fetchall(), manifest),
                connection.sql(_LABELS).to_arrow_table(),
                connection.sql(f"select {asked} from edge where {some}").to_arrow_table(),
                journals,
                int(connection.execute("select count(*) from edge where kind = 'far'").fetchall()[0][0]),
            )
        finally:
            connection.close()
    except (duckdb.Error, OSError, ValueError, KeyError, TypeError, AttributeError, StoreError) as error:
        if force and not journals:
            return None
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"cannot tell which labels and ablations {path} holds ({reason}); --force drops what is in it, "
            "or choose another name with -o"
        ) from error


def _first(sae: SaeIdentity) -> int:
    return sae.first_id


def _dropped(path: Path, lost: list[str], force: bool) -> list[str]:
    if lost and not force:
        raise StoreError(
            f"{path} holds what the new graph cannot take over: {'; '.join(lost)}; --force drops it, or "
            "choose another name with -o"
        )
    return lost


def _identities(rows: Sequence[tuple[Any, ...]], manifest: Mapping[str, Any]) -> list[SaeIdentity]:
    named = {f"{one.get('layer')}/{one.get('site')}": str(one.get("sha256")) for one in manifest["saes"]}
    return [SaeIdentity(place, first, n, named.get(place, "")) for place, first, n in sorted(rows)]


def _model(manifest: Mapping[str, Any]) -> str | None:
    found = manifest["model"].get("sha256")
    return None if found is None else str(found)


def _moved(old: Sequence[SaeIdentity], new: Sequence[SaeIdentity]) -> list[tuple[int, int, int]]:
    """Return (old first id, features, new first id) of every SAE that is in both graphs."""
    there = {(sae.place, sae.sha256, sae.n_features): sae.first_id for sae in new if sae.sha256}
    return [
        (sae.first_id, sae.n_features, there[key])
        for sae in old
        if (key := (sae.place, sae.sha256, sae.n_features)) in there
    ]


def _new_id(kept: Sequence[tuple[int, int, int]], feature: int) -> int | None:
    for first, n, new in kept:
        if 0 <= feature - first < n:
            return feature - first + new
    return None


@contextmanager
def _new_database(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with plain_place(database) as place, duckdb.connect(str(place)) as connection:
        yield connection
        connection.execute("checkpoint")


def _register_moves(connection: duckdb.DuckDBPyConnection, kept: Sequence[tuple[int, int, int]]) -> None:
    connection.execute("create or replace temp table moved (old integer, n integer, new integer)")
    if kept:
        connection.executemany("insert into moved values (?, ?, ?)", kept)


def _put_labels(
    connection: duckdb.DuckDBPyConnection, data: UserData, kept: Sequence[tuple[int, int, int]]
) -> set[str]:
    """Add the labels of features that are still there, in the order of the table; return their sources."""
    _register_moves(connection, kept)
    connection.register("old_label", data.labels)
    connection.execute("""
        create table relabelled as
        select feature, source, text
        from (
            from label
            union all
            select l.feature - m.old + m.new, l.source, l.text
            from old_label l join moved m on l.feature >= m.old and l.feature < m.old + m.n
        )
        order by feature, source = 'tokens', source, text
    """)
    connection.execute("drop table label")
    connection.execute("alter table relabelled rename to label")
    connection.unregister("old_label")
    return {str(row[0]) for row in connection.execute("select distinct source from label").fetchall()}


def _put_ablations(
    connection: duckdb.DuckDBPyConnection, data: UserData, kept: Sequence[tuple[int, int, int]]
) -> int:
    """Fill in what ablations measured of edges that are still there; return how many are not."""
    there = {str(row[0]) for row in connection.execute("describe edge").fetchall()}
    names = [name for name in data.ablations.column_names if name in MEASURED and name in there]
    if not data.ablations.num_rows or not names:
        return 0
    _register_moves(connection, kept)
    connection.register("old_edge", data.ablations)
    connection.execute(f"""
        create temp table ablated as
        select o.src - up.old + up.new as src, o.dst - down.old + down.new as dst, {", ".join(names)}
        from old_edge o
        join moved up on o.src >= up.old and o.src < up.old + up.n
        join moved down on o.dst >= down.old and o.dst < down.old + down.n
    """)
    connection.unregister("old_edge")
    values = ", ".join(f"{name} = coalesce(edge.{name}, a.{name})" for name in names)
    connection.execute(f"update edge set {values} from ablated a where edge.src = a.src and edge.dst = a.dst")
    gone = "select count(*) from ablated a anti join edge e on e.src = a.src and e.dst = a.dst"
    ((n_gone,),) = connection.execute(gone).fetchall()
    return int(n_gone)
