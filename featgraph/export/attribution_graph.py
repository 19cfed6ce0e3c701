"""A lineage as attribution-graph JSON, for circuit-tracer's and Neuronpedia's graph pages.

These pages show the features active on a prompt, token by token. A lineage has no prompt: its columns are the
three sites, and the weight of a link is a cosine, not an attribution.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.core.keys import SITES, FeatureKey
from featgraph.errors import UsageError
from featgraph.export.files import OutputFiles, beside, stem
from featgraph.export.sae_ids import ids_of_graph

if TYPE_CHECKING:
    from featgraph.lineage.lineage import Edge, Lineage, Member
    from featgraph.store import Store

MAX_NODES = 7_500
"""Source: circuit-tracer, issue 12 (pages stay usable with about 8,000 nodes)."""

CLT = "cross layer transcoder"
"""The node type that both pages draw as a feature."""


def attribution_graph(lineage: "Lineage", store: "Store", out: Path) -> OutputFiles:
    """Return one graph of `schema_version` 1, with the `MAX_NODES` strongest members at most.

    Raises UsageError: the whole lineage is in layer 0, which the pages read as no layer.
    Source: Neuronpedia, app/api/graph/graph-schema.json and app/[modelId]/graph/utils.ts; circuit-tracer,
    frontend/graph_models.py.
    """
    kept, edges, notes = _kept(lineage)
    if max(member.layer for member in kept) == 0:
        raise UsageError(
            f"the lineage of {lineage.seed!r} lies in layer 0 alone, and pages of attribution graphs "
            "need a higher layer; lower --min"
        )
    name = stem(out, ".json")
    ids = {member.key: _node_id(member) for member in kept}
    content = {
        "metadata": _metadata(lineage, store, name.name, notes),
        "qParams": _state(lineage, edges, ids),
        "nodes": [_node(member) for member in kept],
        "links": [
            {"source": ids[edge.src], "target": ids[edge.dst], "weight": edge.cosine} for edge in edges
        ],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return OutputFiles({beside(name, ".json"): f"{text}\n".encode()}, notes)


def cantor(layer: int, idx: int) -> int:
    """Return the Cantor pairing of layer and index, the value of `feature` in `schema_version` 1.

    >>> cantor(1, 57794)
    1670217704
    """
    return (layer + idx) * (layer + idx + 1) // 2 + idx


def _kept(lineage: "Lineage") -> tuple[list["Member"], list["Edge"], tuple[str, ...]]:
    """Return the members and edges to show (the seed always), and a note if some are left out."""
    if len(lineage.members) <= MAX_NODES:
        return list(lineage.members), list(lineage.edges), ()
    order = sorted(lineage.members, key=lambda member: (member.distance > 0, -member.weight, member.id))
    kept = sorted(order[:MAX_NODES], key=lambda member: member.id)
    keys = {member.key for member in kept}
    edges = [edge for edge in lineage.edges if edge.src in keys and edge.dst in keys]
    n_members = len(lineage.members)
    return kept, edges, (f"the {MAX_NODES:,} strongest of {n_members:,} features; raise --min for fewer",)


def _column(member: "Member") -> int:
    return [*SITES].index(FeatureKey.parse(member.key).site)


def _node_id(member: "Member") -> str:
    return f"{member.layer}_{member.idx}_{_column(member)}"


def _node(member: "Member") -> dict[str, object]:
    """Return a node; its ids end in the site, because features of three sites share layer and index."""
    return {
        "node_id": _node_id(member),
        "feature": cantor(member.layer, member.idx),
        "layer": str(member.layer),
        "ctx_idx": _column(member),
        "feature_type": "lorsa" if member.site == "att" else CLT,
        "jsNodeId": f"{member.layer}_{member.idx}-{_column(member)}",
        "clerp": f"{member.key} {member.label or ''}".strip(),
        "influence": None,
        "activation": None,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
    }


def _metadata(lineage: "Lineage", store: "Store", slug: str, notes: tuple[str, ...]) -> dict[str, object]:
    """Return the graph's metadata, with the set of dashboards if all SAEs of the site belong to one."""
    known = ids_of_graph(store)
    ids = [sae.neuronpedia_id for sae in known.values() if sae.neuronpedia_id is not None]
    site = FeatureKey.parse(lineage.seed).site
    sets = {
        (known[sae_range.number].neuronpedia_id or "").partition("/")[2].partition("-")[2]
        for sae_range in store.saes
        if sae_range.site == site
    }
    model = str(store.manifest["model"]["name"])
    [dashboards] = sets if len(sets) == 1 else {""}
    description = f"lineage of {lineage.seed}, links are cosines of decoder directions"
    return {
        "slug": slug,
        "scan": ids[0].partition("/")[0] if ids else model.rstrip("/").split("/")[-1],
        "transcoder_list": sorted({release for (release,) in store.rows("select distinct release from sae")}),
        "prompt_tokens": [*_TOKENS, f" {lineage.seed}"],
        "prompt": f"{''.join(_TOKENS)} {lineage.seed}",
        "schema_version": 1,
        **({"feature_details": {"neuronpedia_source_set": dashboards}} if dashboards else {}),
        "info": {
            "description": "; ".join((description, *notes)),
            "generator": {"name": "featgraph", "version": version("featgraph")},
        },
    }


_TOKENS = (*SITES[:1], *(f" {site}" for site in SITES[1:]), " of")
"""The tokens shown as the prompt, one per site. With five tokens, seed included, a feature at all three sites
stays below the limit of two thirds, above which pages hide a feature as too frequent.

Source: Neuronpedia, app/[modelId]/graph/utils.ts, earlier versions of formatCLTGraphData."""


def _state(lineage: "Lineage", edges: list["Edge"], ids: dict[str, str]) -> dict[str, object]:
    """Return the initial view: the main line pinned as one supernode, with its writers."""
    line = [step.key for step in lineage.span if step.key in ids] or [lineage.seed]
    writers = [edge.src for edge in edges if edge.kind != "res_res" and edge.dst in line]
    return {
        "pinnedIds": [ids[key] for key in dict.fromkeys([*line, *writers])],
        "supernodes": [[f"span of {lineage.seed}", *(ids[key] for key in line)]],
        "linkType": "both",
        "clickedId": ids[lineage.seed],
        "sg_pos": "",
    }
