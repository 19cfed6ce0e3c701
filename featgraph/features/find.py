"""Features by label, by nearness to a direction or by contrast of prompts, best first.

Candidates pass one filter: site, layers, density, and the output score if asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import isnan
from typing import Any

from numpy.typing import NDArray

from featgraph.core.arguments import check_count
from featgraph.core.keys import SITES, FeatureKey, SaeRange
from featgraph.core.progress import Progress
from featgraph.core.result import Result
from featgraph.errors import UsageError, nearest
from featgraph.features.contrast import MIN_FIRING, contrasts
from featgraph.store import Store
from featgraph.store.features import known_features

K = 20
"""Default number of features returned: about a screen. Our choice."""

_CHUNK = 2000
"""Candidates whose density and label are looked up in one query."""


@dataclass(frozen=True)
class FeatureFilter:
    """Conditions on a feature: its site, layers and density."""

    site: str | None = None
    layers: tuple[int, int] | None = None
    """First and last layer."""
    min_density: float | None = None
    max_density: float | None = None

    def saes(self, store: Store) -> list[SaeRange]:
        """Return the SAEs with the site and layers of the filter.

        Raises UsageError: no such SAE, or a value is out of range.
        """
        for name in ("min_density", "max_density"):
            if (value := getattr(self, name)) is not None:
                share(name, value)
        if self.site is not None and self.site not in SITES:
            known = f"sites are {', '.join(SITES)}"
            raise UsageError(f"no site {self.site!r}{nearest(str(self.site), SITES) or ';'} {known}")
        of_site = [sae for sae in store.saes if self.site in (None, sae.site)]
        if not of_site:
            sites = ", ".join(sorted({sae.site for sae in store.saes}))
            raise UsageError(f"this graph has no {self.site} SAEs, only {sites}")
        first, last = self.layers or (of_site[0].layer, of_site[-1].layer)
        in_layers = [sae for sae in of_site if self.layers is None or first <= sae.layer <= last]
        if not in_layers:
            layers = [sae.layer for sae in of_site]
            raise UsageError(
                f"no SAEs in layers {first} to {last}; they are at {min(layers)} to {max(layers)}"
            )
        return in_layers


@dataclass(frozen=True)
class _Candidate:
    """A feature that may be returned, with its scores so far."""

    id: int
    score: float
    firing: tuple[float, float] | None = None
    label: str | None = None
    key: FeatureKey | None = None
    density: float | None = None
    s_out: float | None = None


def find(
    store: Store,
    *,
    label: str | None = None,
    near: str | None = None,
    vector: Sequence[float] | NDArray[Any] | None = None,
    positive: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
    k: int = K,
    feature_filter: FeatureFilter | None = None,
    min_firing: float = MIN_FIRING,
    screen: bool = False,
    min_s_out: float | None = None,
    progress: Progress | None = None,
) -> Result:
    """Return the k best features by label, direction or contrast, best first.

    label: words, as for `search`. near: a key, the feature itself left out; vector: d_model numbers in the
    residual stream; both by cosine. positive, negative: prompts, by `contrast.contrasts`; swap them for
    features more active on the negative ones. screen: run the k best through `output_score` and
    sort by it; min_s_out: keep only those from there on.
    Columns: id, key, layer, site, score, firing_positive, firing_negative (of a contrast), density, s_out (of
    a screen), label.

    Raises UsageError: not exactly one criterion is given, or a value is not one that exists. SourceError:
    prompts or a screen need the language model, and it is not there.
    """
    given = [name for name, value in _criteria(label, near, vector, positive, negative).items() if value]
    if len(given) != 1:
        raise UsageError(
            f"give exactly one of label, near, vector, or positive with negative, got {len(given)}"
        )
    feature_filter, k = feature_filter or FeatureFilter(), check_count("k", k, least=1)
    saes = feature_filter.saes(store)
    if positive is not None and negative is not None:
        share("min_firing", min_firing)
        candidates = list(
            islice(
                _filtered(
                    store, _contrasted(store, saes, positive, negative, min_firing, progress), feature_filter
                ),
                k,
            )
        )
    elif label is not None:
        candidates = list(islice(_filtered(store, _labelled(store, saes, label), feature_filter), k))
    else:
        candidates = _near(store, saes, near, vector, k, feature_filter)
    screened = screen or min_s_out is not None
    if screened:
        candidates = _screened(store, candidates, min_s_out, progress)
    return _result(candidates, contrast=positive is not None, screened=screened)


def share(name: str, value: float) -> float:
    """Return a share, a number from 0 to 1.

    Raises UsageError: it is out of range.
    """
    if not 0 <= value <= 1:
        raise UsageError(f"{name} = {value} is out of range: 0 to 1")
    return value


def _criteria(
    label: object, near: object, vector: object, positive: object, negative: object
) -> Mapping[str, bool]:
    for name, prompts in (("positive", positive), ("negative", negative)):
        if isinstance(prompts, str):
            raise UsageError(f"{name} is one text, {prompts!r}; give a list of prompts")
    if (positive is None) != (negative is None):
        raise UsageError("a contrast needs both positive and negative prompts")
    criteria = {"label": label, "near": near, "vector": vector, "positive": positive}
    return {name: value is not None for name, value in criteria.items()}


def _labelled(store: Store, saes: Sequence[SaeRange], words: str) -> list[_Candidate]:
    from featgraph.query import run_verb

    places = {(sae.layer, sae.site) for sae in saes}
    rows: list[dict[str, Any]] = run_verb(store, "search", {"words": words}).dicts()
    return [
        _Candidate(row["id"], row["score"], label=row["text"])
        for row in rows
        if (row["layer"], row["site"]) in places
    ]


def _contrasted(
    store: Store,
    saes: Sequence[SaeRange],
    positive: Sequence[str],
    negative: Sequence[str],
    min_firing: float,
    progress: Progress | None,
) -> list[_Candidate]:
    from featgraph.suite.graph_suite import GraphSuite

    candidates = []
    compared = contrasts(
        GraphSuite(store), saes, positive, negative, min_firing=min_firing, progress=progress
    )
    for sae, contrast in compared:
        columns = (contrast.score, contrast.firing_positive, contrast.firing_negative)
        for idx, (score, *firing) in enumerate(zip(*(one.tolist() for one in columns), strict=True)):
            if not isnan(score):
                candidates.append(_Candidate(sae.first_id + idx, score, (firing[0], firing[1])))
    return sorted(candidates, key=lambda one: (-one.score, one.id))


def _near(
    store: Store,
    saes: Sequence[SaeRange],
    near: str | None,
    vector: Any,
    k: int,
    feature_filter: FeatureFilter,
) -> list[_Candidate]:
    """Search each SAE for more neighbours until no better one can pass the filter."""
    from featgraph.query.similar import similar

    places, each = {(sae.layer, sae.site): sae for sae in saes}, k
    while True:
        candidates, lowest = [], {}
        rows: list[tuple[Any, ...]] = similar(store, near, k=each, vector=vector).rows
        for id, _, layer, site, cosine, _ in rows:
            if (layer, site) in places:
                candidates.append(_Candidate(id, cosine))
                lowest[layer, site] = cosine
        passing = list(islice(_filtered(store, candidates, feature_filter), k))
        open_ones = [lowest[place] for place, sae in places.items() if each < sae.n_features]
        if not open_ones or (len(passing) == k and passing[-1].score >= max(open_ones)):
            return passing
        each *= 8


def _filtered(
    store: Store, candidates: Iterable[_Candidate], feature_filter: FeatureFilter
) -> Iterator[_Candidate]:
    """Yield the candidates whose density passes the filter, in order, with key and label."""
    waiting = iter(candidates)
    bounds = {"least": feature_filter.min_density, "most": feature_filter.max_density}
    while chunk := list(islice(waiting, _CHUNK)):
        density = dict(store.rows(_PASSING, {"ids": [one.id for one in chunk], **bounds}))
        known = known_features(store, density)
        for one in chunk:
            if one.id in density:
                key, label = known[one.id].key, known[one.id].label
                yield replace(one, key=key, density=density[one.id], label=one.label or label)


def _screened(
    store: Store, candidates: list[_Candidate], least: float | None, progress: Progress | None
) -> list[_Candidate]:
    from featgraph.features.output_score import output_scores

    if least is not None:
        share("min_s_out", least)
    scores = output_scores(store, [one.id for one in candidates], progress)
    scored = [replace(one, s_out=scores[one.id]) for one in candidates]
    kept = [one for one in scored if least is None or (one.s_out is not None and one.s_out >= least)]
    return sorted(kept, key=lambda one: -1.0 if one.s_out is None else one.s_out, reverse=True)


def _result(candidates: list[_Candidate], *, contrast: bool, screened: bool) -> Result:
    columns = {"id": "INTEGER", "key": "VARCHAR", "layer": "INTEGER", "site": "VARCHAR", "score": "FLOAT"}
    columns |= {"firing_positive": "FLOAT", "firing_negative": "FLOAT"} if contrast else {}
    columns |= {"density": "FLOAT"} | ({"s_out": "FLOAT"} if screened else {}) | {"label": "VARCHAR"}
    rows: list[tuple[object, ...]] = []
    for one in candidates:
        assert one.key is not None
        rows.append(
            (
                *(one.id, str(one.key), one.key.layer, one.key.site, one.score),
                *((one.firing or ()) if contrast else ()),
                *(one.density, *((one.s_out,) if screened else ()), one.label),
            )
        )
    return Result.of(columns, rows)


_PASSING = """
    select id, density from feature
    where id in (select unnest($ids::integer[]))
        and ($least is null or density >= $least::float) and ($most is null or density <= $most::float)
"""
