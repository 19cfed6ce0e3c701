"""An overview of a graph: its contents, how it was made, its health; as a list of titled results."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from featgraph.core.keys import SaeRange
from featgraph.core.result import Result
from featgraph.errors import StoreError
from featgraph.query.run import run
from featgraph.store import Store
from featgraph.store.health import unpredicted, warnings


@dataclass(frozen=True)
class Section:
    """One titled part of an overview."""

    title: str
    result: Result


_FACTS = {"name": "VARCHAR", "value": "VARCHAR"}

_SAES = """
    select s.layer, s.site, s.n_features, s.n_dead, s.n_massive, s.l0, s.expected_l0,
        s.explained_variance, s.explained_variance_se, s.expected_variance, f.encoder_alignment,
        f.encoder_alignment_p05, s.threshold_low, s.threshold_high,
        s.architecture, s.hook_name
    from sae s
    left join (
        select layer, site, median(encoder_alignment) as encoder_alignment,
            quantile_cont(encoder_alignment, 0.05)::float as encoder_alignment_p05
        from feature
        group by layer, site
    ) f on f.layer = s.layer and f.site = s.site
    order by s.number
"""

_EDGES = """
    select e.kind, count(*) as n, count(*) filter (e.cosine >= s.threshold_low) as n_above_low,
        count(*) filter (e.cosine >= s.threshold_high) as n_above_high,
        count(e.jaccard) as n_coactivation, count(e.twera) as n_predicted, count(e.effect) as n_effect,
        count(e.ablation_change) as n_ablation
    from edge e
    join sae s on e.dst between s.first_id and s.first_id + s.n_features - 1
    group by e.kind
    order by e.kind
"""

_CHECKS = """
    select 'features' as "check", n = wanted as ok, n || ' rows for ' || wanted || ' features' as detail
    from (select count(*) as n from feature), (select sum(n_features) as wanted from sae)
    union all
    select 'order', n = 0, n || ' edges that do not go downstream'
    from (select count(*) as n from edge where src >= dst)
    union all
    select 'ends', n = 0, n || ' edges that end outside the features'
    from (
        select count(*) as n
        from edge
        where src < 0 or dst >= (select sum(n_features) from sae)
    )
    union all
    select 'dead', coalesce(worst, 0) <= 0.5,
        coalesce(round(100 * worst)::integer || ' % dead in the worst SAE', 'not measured: no text was read')
    from (select max(n_dead / n_features) as worst from sae)
    union all
    select 'massive', coalesce(worst, 0) <= $most * coalesce(n_tokens, 0), case
            when worst is null then 'not measured: no text was read'
            when worst = 0 then 'no token is left out for its length'
            else worst || ' of ' || n_tokens || ' tokens left out at ' || place || ', and some at ' || n_saes
                || ' of ' || of_saes || ' SAEs: their length there is many times the usual one'
        end
    from (
        select max(n_massive) as worst, arg_max(layer || '/' || site, n_massive) as place,
            count(*) filter (n_massive > 0) as n_saes, count(*) as of_saes
        from sae
    ), (select max(value::bigint) as n_tokens from meta where key = 'n_tokens')
"""

MOST_MASSIVE = 0.01
"""Share of tokens left out from which health asks for a look: they should be single ones. Our choice."""


def overview(store: Store) -> list[Section]:
    """Return the sections `graph`, `made`, `saes`, `edges` and `health`, each a small table.

    Raises StoreError: the database cannot be read.
    """
    return [
        Section("graph", _facts(store)),
        Section("made", Result.of(_FACTS, _flat(store.manifest))),
        Section("saes", run(store, _SAES, timeout=None)),
        Section("edges", run(store, _EDGES, timeout=None)),
        Section("health", _health(store)),
    ]


def joined(sections: list[Section]) -> Result:
    """Return all sections as one result: a `section` column, then every column that any section has."""
    columns: dict[str, str] = {}
    for section in sections:
        for name, kind in zip(section.result.columns, section.result.types, strict=True):
            columns.setdefault(name, kind)
    rows = [
        (section.title, *(row.get(name) for name in columns))
        for section in sections
        for row in section.result.dicts()
    ]
    return Result.of({"section": "VARCHAR", **columns}, rows)


def _facts(store: Store) -> Result:
    layers = sorted({sae.layer for sae in store.saes})
    sites = list(dict.fromkeys(sae.site for sae in store.saes))
    bytes_on_disk = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    facts: list[tuple[object, ...]] = [
        ("path", str(store.path)),
        ("layers", f"{layers[0]} to {layers[-1]}" if layers else "none"),
        ("sites", ", ".join(sites)),
        ("features", str(sum(sae.n_features for sae in store.saes))),
        ("size", f"{bytes_on_disk / 1e6:.1f} MB"),
    ]
    facts += [(key, value) for key, value in run(store, "select key, value from meta").rows]
    return Result.of(_FACTS, facts)


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[object, ...]]:
    """Yield (dotted name, text) for every leaf of the manifest; a list counts as one leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            yield f"{prefix}{name}", f"{len(value)} entries"
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(str(item) for item in value)
        elif value is not None:
            yield f"{prefix}{name}", str(value)


def _health(store: Store) -> Result:
    checks = run(store, _CHECKS, {"most": MOST_MASSIVE}, timeout=None)
    wrong = warnings(store)
    fit: list[tuple[object, ...]] = [("fit", False, warning) for warning in wrong]
    fit = fit or [("fit", True, "no SAE explains far less, or fires far more or less, than it should")]
    broken = [sae.name for sae in store.saes if not _holds_directions(store, sae)]
    detail = f"absent or damaged: {', '.join(broken)}" if broken else f"{len(store.saes)} indexes"
    causes = ("causes", True, unpredicted(store) or "every edge has its predicted cause")
    rows = [*checks.rows, ("vectors", not broken, detail), *fit, causes]
    return Result(checks.columns, rows, checks.types)


def _holds_directions(store: Store, sae: SaeRange) -> bool:
    from featgraph.store import vectors

    try:
        return vectors.shape(store.vectors(sae))[0] == sae.n_features
    except StoreError:
        return False
