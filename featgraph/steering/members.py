"""One feature -> the features that steer for it: itself, or members of its lineage; and where each writes."""

from dataclasses import dataclass

from featgraph.core.keys import SITES, FeatureKey
from featgraph.errors import UsageError
from featgraph.lineage.lineage import Step, span
from featgraph.steering.settings import Point, Settings
from featgraph.store import Store
from featgraph.store.features import find_feature

PARALLEL = ("cohere", "gpt_neox", "gptj", "phi")
"""Model types whose attention and mlp read the same residual, so that both write out(b) exactly.

GPT-NeoX can be configured otherwise; `parallel_residual` in the manifest's `model` overrules this list.
Source: the blocks of these models in transformers 5."""


@dataclass(frozen=True)
class Placed:
    """One feature and where its direction is added."""

    key: str
    layer: int
    cosine: float | None
    write_layer: int
    point: Point


def placed(store: Store, key: str, settings: Settings) -> list[Placed]:
    """Return the members that steer one feature, in the order in which the model computes them.

    Raises UsageError: no such feature, it has no span or none at the layer asked for, or it reads before the
    first block.
    """
    steps = _steps(store, key, settings)
    return [_placed(store, step, settings) for step in sorted(steps, key=_order)]


def _steps(store: Store, key: str, settings: Settings) -> list[Step]:
    seed = find_feature(store.saes, key)[0]
    if settings.where == "single":
        return [Step(str(seed), seed.layer, None)]
    if settings.at is not None:
        _check_layer(store, settings.at)
    line = span(store, str(seed), min=settings.min)
    if not line:
        raise UsageError(f"{str(seed)!r} writes no residual feature, so has no span; steer with where single")
    steps = [*line, *(_writers(store, line, settings.writers) if settings.writers is not None else [])]
    if settings.at is None:
        return steps
    if settings.where == "per-layer":
        kept = [step for step in steps if step.layer == settings.at]
    else:
        kept = [step for step in steps if step.layer <= settings.at]
    if not kept:
        raise UsageError(
            f"the span of {str(seed)!r} goes from layer {line[0].layer} to {line[-1].layer}, so has nothing "
            f"{'at' if settings.where == 'per-layer' else 'up to'} layer {settings.at}"
        )
    return kept


def _check_layer(store: Store, at: int) -> None:
    layers = [sae.layer for sae in store.saes if sae.site == "res"]
    if layers and not min(layers) <= at <= max(layers):
        raise UsageError(f"no layer {at}: residual SAEs are at layers {min(layers)} to {max(layers)}")


def _writers(store: Store, line: tuple[Step, ...], least: float) -> list[Step]:
    rows = store.rows(_WRITERS, {"keys": [step.key for step in line], "least": least})
    return [Step(*row) for row in rows]


def _order(step: Step) -> tuple[int, int]:
    return step.layer, [*SITES].index(FeatureKey.parse(step.key).site)


def _placed(store: Store, step: Step, settings: Settings) -> Placed:
    key, sae = find_feature(store.saes, step.key)
    block = sae.block
    between = key.site == "att" and not parallel_residual(store)
    if block < 0 and not settings.gated:
        raise UsageError(
            f"{step.key!r} reads the residual stream before the first block, which is the output of no "
            "block; steer with features of later layers"
        )
    return Placed(step.key, step.layer, step.cosine, block, "mid" if between else "out")


def parallel_residual(store: Store) -> bool:
    """Return whether attention and mlp of the graph's model read the same residual stream (parallel
    blocks)."""
    model = store.manifest["model"]
    return bool(model.get("parallel_residual", model.get("model_type") in PARALLEL))


_WRITERS = """
    select w.key, w.layer, max(e.cosine) as cosine
    from edge e join feature m on m.id = e.dst join feature w on w.id = e.src
    where m.key in (select unnest($keys)) and e.kind in ('mlp_res', 'att_res') and e.cosine >= $least::float
    group by w.id, w.key, w.layer order by w.id
"""
