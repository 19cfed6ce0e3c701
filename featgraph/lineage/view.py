"""A lineage, or any edges of a graph, as the picture of it that page, notebook and command line share.

The lineage says what belongs to it. What a card tells beside that, and the evidence of each link, is read
from the graph when the picture is made: of the features drawn alone.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from featgraph.core.keys import FeatureKey
from featgraph.core.text import pluralize
from featgraph.drawing import LineageGraph, Link, Node, Writer, word
from featgraph.drawing.graph import Line, Origin, Site
from featgraph.store import Store
from featgraph.store.features import Feature

if TYPE_CHECKING:
    from featgraph.lineage.lineage import Lineage, Member

LIMIT = 150
"""Features drawn of a lineage, unless the caller says otherwise: more are neither read nor quickly drawn."""

MOST = 500
"""Most features of any picture."""

WRITERS = 8
"""Writers told of each feature, the strongest; the rest are counted."""


@dataclass(frozen=True)
class Card:
    """What a picture tells of one feature."""

    lines: tuple[Line, ...]
    n_parents: int
    """Over residual edges that pass, in the whole graph."""
    n_children: int
    born: Origin | None
    dies: bool


def lineage_view(lineage: "Lineage", *, limit: int = LIMIT) -> LineageGraph:
    """Return the picture of a lineage: residual features as cards, mlp and att features as their marks.

    limit: most residual features drawn, those with the largest weight; the rest are counted.

    Raises StoreError: the graph was replaced since, or is damaged.
    """
    line = [member for member in lineage.members if member.site == "res" or member.key == lineage.seed]
    kept = sorted(line, key=lambda member: (member.key != lineage.seed, -member.weight, member.id))[:limit]
    drawn = {member.key: member for member in sorted(kept, key=lambda member: member.id)}
    cards = read_cards(lineage.store, {member.id for member in kept}, lineage.min) if lineage.store else {}
    joined = [edge for edge in lineage.edges if edge.src in drawn and edge.dst in drawn and edge.cosine > 0]
    pairs = [(drawn[edge.src].id, drawn[edge.dst].id) for edge in joined]
    evidence = read_evidence(lineage.store, pairs) if lineage.store else {}
    links = [
        Link(edge.src, edge.dst, edge.cosine, evidence[pair].pearson if pair in evidence else None)
        for edge, pair in zip(joined, pairs, strict=True)
    ]
    parents = Counter(link.dst for link in links if drawn[link.src].site == "res")
    children = Counter(link.src for link in links)
    writers = _writers(lineage, drawn)
    nodes = [
        _node(member, cards.get(member.id), writers[member.key], parents[member.key], children[member.key])
        for member in drawn.values()
    ]
    known = any(link.evidence is not None for link in links)
    return LineageGraph(
        nodes,
        links,
        lineage.seed,
        title=_title(lineage.seed, nodes),
        subtitle=_subtitle(lineage, len(line)),
        evidence="pearson" if known else None,
        n_left_out=len(line) - len(kept),
    )


def edges_view(
    store: Store,
    features: Iterable[Feature],
    pairs: Iterable[tuple[int, int]],
    *,
    min: float | None = None,
    title: str = "",
) -> LineageGraph:
    """Return the picture of some features and of pairs of them that are joined, upstream first.

    Ribbons are as wide as the cosines of the graph's edges; if one pair is no edge, all are of one width.

    Raises StoreError: the graph was replaced since, or is damaged.
    """
    shown = {feature.id: feature for feature in sorted(features, key=lambda feature: feature.id)}
    cards = read_cards(store, shown, min)
    joined = sorted(set(pairs))
    evidence = read_evidence(store, joined)
    measured = all(pair in evidence and evidence[pair].cosine > 0 for pair in joined)
    links = []
    for src, dst in joined:
        cosine, pearson = evidence.get((src, dst), (1.0, None))
        links.append(Link(str(shown[src].key), str(shown[dst].key), cosine if measured else 1.0, pearson))
    nodes = [
        Node(str(feature.key), feature.key.layer, feature.key.site, cards[feature.id].lines)
        for feature in shown.values()
    ]
    known = any(link.evidence is not None for link in links)
    return LineageGraph(
        nodes,
        links,
        title=title,
        subtitle=f"{store.path.name} · {pluralize(len(nodes), 'feature')}, {pluralize(len(links), 'link')}",
        measure="cosine" if measured else None,
        evidence="pearson" if known else None,
    )


def read_cards(store: Store, ids: Collection[int], min: float | None) -> dict[int, Card]:
    """Return what is told of features, by id.

    min: cosine threshold of parents, children and births; None holds each edge against its downstream SAE's
    `threshold_high`.

    Raises StoreError: the graph was replaced since, or is damaged.
    """
    asked = {"ids": sorted(ids), "min": min}
    parents = dict(store.rows(_PARENTS, asked))
    children = dict(store.rows(_CHILDREN, asked))
    layers = [sae.layer for sae in store.saes if sae.site == "res"]
    cards = {}
    for id, site, layer, tokens, promoted, of_mlp, of_att, label in store.rows(_FEATURES, asked):
        born: Origin | None = None
        if site == "res" and layer > layers[0] and not parents.get(id):
            origins = [name for name, passes in (("mlp", of_mlp), ("att", of_att)) if passes]
            born = cast(Origin, "+".join(origins) or "unexplained")
        dies = site == "res" and layer < layers[-1] and not children.get(id)
        lines = (label,) if label else (_words(tokens), _words(promoted))
        cards[id] = Card(lines, parents.get(id, 0), children.get(id, 0), born, dies)
    return cards


class Evidence(NamedTuple):
    """What a picture tells of one edge."""

    cosine: float
    pearson: float | None


def read_evidence(store: Store, edges: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Evidence]:
    """Return what is told of the edges that the graph has, by the ids of source and target.

    Raises StoreError: the graph was replaced since, or is damaged.
    """
    wanted = set(edges)
    rows = store.rows(_EVIDENCE, {"src": sorted({src for src, _ in wanted})}) if wanted else []
    return {
        (src, dst): Evidence(cosine, pearson) for src, dst, cosine, pearson in rows if (src, dst) in wanted
    }


def _node(
    member: "Member", card: Card | None, writers: list[Writer], n_parents: int, n_children: int
) -> Node:
    """Return one feature as it is drawn; n_parents, n_children: those joined to it in the picture."""
    writers = sorted(writers, key=lambda writer: (-writer.value, writer.key))
    label: tuple[Line, ...] = (member.label,) if member.label else ()
    node = Node(
        member.key,
        member.layer,
        cast(Site, member.site),
        card.lines if card else label,
        writers=tuple(writers[:WRITERS]),
        n_writers=len(writers),
        note=f"active on {member.density:.2%} of tokens" if member.density is not None else "",
    )
    if card is None or member.site != "res":
        return node
    return replace(
        node,
        born=card.born,
        dies=card.dies,
        n_parents_elsewhere=max(0, card.n_parents - n_parents),
        n_children_elsewhere=max(0, card.n_children - n_children),
    )


def _writers(lineage: "Lineage", drawn: Collection[str]) -> dict[str, list[Writer]]:
    """Return the writers of each feature that are not cards themselves."""
    found: dict[str, list[Writer]] = defaultdict(list)
    for edge in lineage.edges:
        if edge.kind != "res_res" and edge.dst in drawn and edge.src not in drawn:
            found[edge.dst].append(Writer(edge.src, FeatureKey.parse(edge.src).site, edge.cosine))
    return found


def _words(tokens: list[str] | None) -> tuple[str, ...]:
    return tuple(word(token) for token in tokens or ())


def _title(seed: str, nodes: Iterable[Node]) -> str:
    lines = next((node.lines for node in nodes if node.key == seed), ())
    line = next((line for line in lines if line), "")
    words = line if isinstance(line, str) else ", ".join(line[:3])
    return f"Lineage of {seed}: {words}" if words else f"Lineage of {seed}"


def _subtitle(lineage: "Lineage", n_features: int) -> str:
    parts = [lineage.store.path.name] if lineage.store else []
    parts.append(
        "cosine from each SAE's threshold on" if lineage.min is None else f"cosine ≥ {lineage.min:g}"
    )
    n_writers = len(lineage.members) - n_features
    parts.append(f"{pluralize(n_features, 'feature')}, {pluralize(n_writers, 'writer')}")
    return " · ".join(parts)


_PASSES = "e.kind = 'res_res' and e.cosine >= coalesce($min::float, s.threshold_high)"

_PARENTS = f"""
    select e.dst, count(*)
    from edge e join sae s on e.dst between s.first_id and s.first_id + s.n_features - 1
    where e.dst in (select unnest($ids::integer[])) and {_PASSES}
    group by e.dst
"""

_CHILDREN = f"""
    select e.src, count(*)
    from edge e join sae s on e.dst between s.first_id and s.first_id + s.n_features - 1
    where e.src in (select unnest($ids::integer[])) and {_PASSES}
    group by e.src
"""

_FEATURES = """
    with written as (
        select feature, arg_min(text, (source, text)) as label
        from label where source <> 'tokens' and feature in (select unnest($ids::integer[])) group by feature
    )
    select f.id, f.site, f.layer, f.top_tokens, f.logit_tokens,
        f.s_mlp >= coalesce($min::float, s.threshold_high),
        f.s_att >= coalesce($min::float, s.threshold_high), w.label
    from feature f
    join sae s on f.id between s.first_id and s.first_id + s.n_features - 1
    left join written w on w.feature = f.id
    where f.id in (select unnest($ids::integer[]))
    order by f.id
"""

_EVIDENCE = "select src, dst, cosine, pearson from edge where src in (select unnest($src::integer[]))"
