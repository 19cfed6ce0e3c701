"""Labels from Neuronpedia's bulk files of explanations, joined on the SAE and the feature's index.

A row belongs to the SAE whose `neuronpedia_id` is its `modelId/layer`, and there to the feature `index`,
which is text in these files. All explanations of a feature are kept; their type is in the source's name.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from featgraph.core.http import RetryPolicy
from featgraph.core.keys import SaeRange
from featgraph.core.progress import Progress, Silent
from featgraph.core.text import pluralize
from featgraph.errors import SourceError, UsageError, nearest
from featgraph.labels.bulk import File, local, remote
from featgraph.labels.writing import Labelled, Labelling, labelling

SOURCE = "neuronpedia"
"""Prefix of label sources: `neuronpedia:TYPE`, with the `typeName` of the rows."""

_READ = """
    create or replace temp table batch as
    select coalesce("modelId", '') || '/' || coalesce(layer, '') as place, trim("index") as number,
        try_cast("index" as integer) as idx, nullif(trim(description), '') as text,
        concat_ws(':', $source, nullif("typeName", '')) as source
    from read_json($file, format := 'newline_delimited', maximum_object_size := 16777216, columns := {
        modelId: 'VARCHAR', layer: 'VARCHAR', index: 'VARCHAR', description: 'VARCHAR', typeName: 'VARCHAR'
    })
"""

_OUT_OF_RANGE = """
    select b.number, b.place, s.layer, s.site, s.n_features
    from batch b
    join sae s on s.place = b.place
    where b.idx is null or b.idx < 0 or b.idx >= s.n_features
    limit 1
"""

_STAGE = """
    insert into staged
    select s.first_id + b.idx, b.source, b.text
    from batch b
    join sae s on s.place = b.place
    where b.text is not null
"""

_STRANGERS = "select b.place, count(*) from batch b anti join sae s on s.place = b.place group by b.place"

_COUNT = "select count(*), count(*) filter (text is null) from batch"


@dataclass
class _Seen:
    """Counts of rows and files of all kinds."""

    rows: int = 0
    empty: int = 0
    absent: int = 0
    """Number of files that the server does not have."""
    strangers: Counter[str] = field(default_factory=Counter)
    """Source that is not an SAE of the graph -> number of rows."""

    def left_out(self) -> list[str]:
        """Return a sentence for each kind of skipped row or file."""
        counts = {
            f" of {place}, which is not an SAE of this graph": (n, "row")
            for place, n in sorted(self.strangers.items())
        }
        counts[" without a description"] = (self.empty, "row")
        counts[" that the server has not"] = (self.absent, "file")
        return [f"{pluralize(n, what)}{why}" for why, (n, what) in counts.items() if n]


def from_neuronpedia(
    path: str | Path,
    place: str | Path,
    *,
    layer: int | None = None,
    site: str | None = None,
    retry_policy: RetryPolicy | None = None,
    progress: Progress | None = None,
) -> Labelled:
    """Label a graph with Neuronpedia's explanations.

    place: a bulk file, a folder of them, a glob, or an address: of one file, of one source
    (`.../v1/gemma-2-2b/12-gemmascope-res-16k`), or above all of them (`.../v1`). layer, site: assign all rows
    to this SAE, whatever source they name.

    Raises SourceError: a file or address cannot be read, or its rows do not match the graph; nothing is
    written. UsageError: no such file or SAE. StoreError: the graph cannot be read or written.
    """
    seen = _Seen()
    with labelling(path) as work:
        given_sae = _choose(work, layer, site)
        for file in _files(work, str(place), given_sae, retry_policy or RetryPolicy(), progress or Silent()):
            if file is None:
                seen.absent += 1
            else:
                _stage(work, file, given_sae, seen)
        if not seen.rows:
            raise SourceError(f"there are no explanations at {place}")
        if seen.strangers.total() == seen.rows:
            raise SourceError(_none_fits(work, seen))
        added = work.commit(str(place))
    return Labelled(added, seen.left_out())


def _choose(work: Labelling, layer: int | None, site: str | None) -> SaeRange | None:
    """Return the SAE of --layer and --site, if given, and restrict rows to it.

    Raises UsageError: no SAE or several match, or none is given and no SAE has a Neuronpedia id.
    """
    if layer is None and site is None:
        if not work.connection.execute("from sae where place is not null limit 1").fetchall():
            raise UsageError(
                f"no SAE of {work.store.path} has a Neuronpedia id; choose the SAE of these explanations "
                "with --layer L --site res"
            )
        return None
    sae_ranges = work.store.saes
    fit = [sae for sae in sae_ranges if layer in (None, sae.layer) and site in (None, sae.site)]
    if len(fit) == 1:
        work.connection.execute("delete from sae where first_id <> ?", [fit[0].first_id])
        work.connection.execute("update sae set place = null")
        return fit[0]
    given = {"--layer": layer, "--site": site}
    asked = " ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    choices = ", ".join(f"{sae.layer}/{sae.site}" for sae in (fit or sae_ranges))
    raise UsageError(f"{asked} names {len(fit) or 'no'} SAEs of this graph; choose one of {choices}")


def _files(
    work: Labelling, place: str, given_sae: SaeRange | None, retry_policy: RetryPolicy, progress: Progress
) -> Iterator[File | None]:
    if "://" not in place:
        return local(place, progress)
    saes: list[tuple[str | None, int]] = work.connection.execute(
        "select place, n_features from sae where place is not null order by first_id"
    ).fetchall()
    if given_sae is not None:
        saes = [(None, given_sae.n_features)]
    return remote(place, saes, work.folder, progress, retry_policy)


def _stage(work: Labelling, file: File, given_sae: SaeRange | None, seen: _Seen) -> None:
    """Stage the rows of one file.

    Raises SourceError: it cannot be read, or has a feature outside its SAE.
    """
    run = work.connection.execute
    try:
        # DuckDB reads the name of an existing file literally, not as a glob pattern.
        run(_READ, {"file": str(file.path), "source": SOURCE})
    except duckdb.Error as error:
        reason = str(error).splitlines()[0].replace(str(file.path), file.shown)
        raise SourceError(f"cannot read {file.shown}: {reason}") from error
    if given_sae is not None:
        _check_one_source(work, file)
    outside = run(_OUT_OF_RANGE).fetchone()
    if outside:
        number, place, layer, site, n = outside
        raise SourceError(
            f"{file.shown}: index {number!r} of {place} is not a feature of {layer}/{site}, which has {n:,}; "
            "these explanations are of another SAE, perhaps of another width"
        )
    seen.strangers.update(dict(run(_STRANGERS).fetchall()))
    ((rows, empty),) = run(_COUNT).fetchall()
    seen.rows += rows
    seen.empty += empty
    run(_STAGE)


def _check_one_source(work: Labelling, file: File) -> None:
    """Assign the source named in the rows to the chosen SAE; raise SourceError if they name several."""
    sources = work.connection.execute(
        "select place from batch union select place from sae where place is not null order by 1"
    ).fetchall()
    if len(sources) > 1:
        names = ", ".join(str(row[0]) for row in sources[:3])
        raise SourceError(f"{file.shown}: rows of several SAEs ({names}), but --layer and --site name one")
    if sources:
        work.connection.execute("update sae set place = ?", sources[0])


def _none_fits(work: Labelling, seen: _Seen) -> str:
    theirs = [place for place, _ in seen.strangers.most_common(3)]
    sources = work.connection.execute("select place from sae where place is not null order by first_id")
    ours = [str(row[0]) for row in sources.fetchall()]
    hint = nearest(theirs[0], ours) or f"; its SAEs are {', '.join(ours[:3])}{', ...' * (len(ours) > 3)}"
    return (
        f"the explanations are of {', '.join(theirs)}, no SAE of {work.store.path}{hint}; or choose "
        "the SAE with --layer L --site res"
    )
