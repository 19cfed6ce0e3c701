"""Which searches the largest causes of features need: candidates by each measure against exhaustive removal.

    python tests/bench/candidates.py [--tokens 1500]

On the demo. Measures come from one part of the text, effects from another: at sampled tokens every active
upstream feature is removed alone, and every active downstream feature is read again. Prints, per kind of
edge, the share of features whose largest cause is among the candidates of some searches, and the share of all
positive effect that these candidates hold.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from featgraph.activations import TokenRows, read_shards
from featgraph.activations.encoding import encode_rows
from featgraph.activations.statistics import Moments
from featgraph.core.arrays import Matrix
from featgraph.core.keys import EDGE_KINDS, Site
from featgraph.core.ranking import ranks
from featgraph.edges.coactivation import statistics
from featgraph.edges.evidence import FORMULAS
from featgraph.edges.top_pairs import Pairs
from featgraph.recipe import EdgePlan, read_recipe
from featgraph.suite import LanguageModel, LoadedSae, load_model, load_sae

DEMO = Path(__file__).parents[2] / "ingest" / "demo.toml"

LONGEST = 48
"""Tokens of a row up to which effects are measured: each removal runs again all that stands before."""

COACTIVE_K = 4
"""Candidates by pearson, and by jaccard, per feature."""

SUPPORT = 8
"""Tokens on which a downstream feature must be active to be counted."""

SEARCHES = (
    ("cosine",),
    ("cosine", "pearson", "jaccard"),
    ("twera",),
    ("cosine", "twera"),
    ("cosine", "twera", "pearson"),
    ("cosine", "twera", "jaccard"),
    ("cosine", "twera", "pearson", "jaccard"),
)

Place = tuple[int, Site]


def measures(upstream: LoadedSae, downstream: LoadedSae, codes: dict[Place, Any]) -> dict[str, Matrix]:
    """Return each measure of all pairs, (n_u, n_d), NaN where it proposes nothing."""
    u, d = (codes[end.layer, end.site] for end in (upstream, downstream))
    on = [scipy.sparse.csr_matrix((np.ones(len(c.data)), c.indices, c.indptr), c.shape) for c in (u, d)]
    n_both = (on[0].T @ on[1]).toarray().astype(np.int64)
    product = (u.astype(np.float64).T @ d.astype(np.float64)).toarray()
    ends = [Moments(c.shape[1]) for c in (u, d)]
    ends[0].update(u)
    ends[1].update(d)
    src, dst = (part.ravel() for part in np.indices(n_both.shape))
    pairs = Pairs(src, dst, n_both.ravel(), product.ravel(), np.ones(product.size))
    assert downstream.encoder is not None
    weight = ((upstream.directions * upstream.norms[:, None]) @ downstream.encoder.T).ravel()
    sums = statistics(ends[0], ends[1], u.shape[0], pairs, weight.astype(np.float32))
    plan, made = EdgePlan(), {"cosine": upstream.directions @ downstream.directions.T}
    for name in ("twera", "pearson", "jaccard"):
        values = FORMULAS[name](sums)
        assert values is not None
        usable = (sums.n_both >= plan.min_support) & (values > 0)
        made[name] = np.where(usable, values, np.nan).reshape(n_both.shape).astype(np.float32)
    return made


def proposed(value: Matrix, k: int) -> NDArray[np.bool_]:
    """Return the pairs among the k best of their row or of their column, (n_u, n_d)."""
    src, dst = np.nonzero(~np.isnan(value))
    strength = value[src, dst]
    kept = (ranks(src, strength, dst) <= k) | (ranks(dst, strength, src) <= k)
    mask = np.zeros(value.shape, dtype=np.bool_)
    mask[src[kept], dst[kept]] = True
    return mask


class Block:
    """One block of the model, run again from what entered it."""

    def __init__(self, model: LanguageModel, path: str, row: "torch.Tensor") -> None:
        module = model.model.get_submodule(path)
        self.module = module
        self.kept: dict[str, Any] = {}
        handles = [
            module.register_forward_pre_hook(self._entered, with_kwargs=True),
            module.mlp.register_forward_pre_hook(self._middle),
            module.register_forward_hook(self._left),
        ]
        with torch.inference_mode():
            model.model.base_model(row, use_cache=False)
        for handle in handles:
            handle.remove()

    def _entered(self, _module: Any, arguments: Any, named: Any) -> None:
        self.kept["entered"] = arguments[0] if arguments else named["hidden_states"]
        self.kept["named"] = {name: value for name, value in named.items() if name != "hidden_states"}

    def _middle(self, _module: Any, arguments: Any) -> None:
        self.kept["normed"] = arguments[0]

    def _left(self, _module: Any, _arguments: Any, output: Any) -> None:
        self.kept["left"] = output[0] if isinstance(output, tuple) else output

    def without(self, kind: str, token: int, writes: "torch.Tensor") -> "torch.Tensor":
        """Return what leaves the block at a token without each of some writes, (n, d_model)."""
        if kind == "mlp_res":
            left: torch.Tensor = self.kept["left"][0, token] - writes
            return left
        module = self.module
        if kind == "att_res":
            entered = self.kept["left"][0, token] - module.mlp(self.kept["normed"][:, token])[0]
            middle = entered - writes
            moved: torch.Tensor = middle + module.mlp(module.post_attention_layernorm(middle))
            return moved
        hidden = self.kept["entered"][:, : token + 1].repeat(len(writes), 1, 1)
        hidden[:, -1] -= writes
        named = dict(self.kept["named"])
        named["position_embeddings"] = tuple(part[:, : token + 1] for part in named["position_embeddings"])
        for name in ("attention_mask", "position_ids", "cache_position", "past_key_values", "past_key_value"):
            named.pop(name, None)
        output = module(hidden, attention_mask=None, **named)
        after: torch.Tensor = (output[0] if isinstance(output, tuple) else output)[:, -1]
        return after


def effects(
    model: LanguageModel, saes: dict[Place, LoadedSae], pairs: list[tuple[str, Place, Place]], rows: list[Any]
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Return, per pair of SAEs, the sums of effects (n_u, n_d) and the tokens that each target fires on."""
    sums = {
        number: (
            np.zeros((len(saes[up].norms), len(saes[down].norms))),
            np.zeros(len(saes[down].norms), dtype=np.int64),
        )
        for number, (_, up, down) in enumerate(pairs)
    }
    with torch.inference_mode():
        for row, tokens in rows:
            ids = torch.from_numpy(row[: max(tokens) + 1].astype(np.int64))[None]
            active = {place: _codes(model, loaded, ids) for place, loaded in saes.items()}
            for number, (kind, up, down) in enumerate(pairs):
                reading = saes[down].reading
                assert reading is not None
                block = Block(model, reading.module, ids)
                directions = saes[up].directions * saes[up].norms[:, None]
                for token in tokens:
                    u, before = active[up][token], active[down][token]
                    src, dst = np.flatnonzero(u), np.flatnonzero(before)
                    sums[number][1][dst] += 1
                    if not len(src) or not len(dst):
                        continue
                    writes = torch.from_numpy(u[src, None] * directions[src])
                    sae = saes[down].sae
                    assert sae is not None
                    after = sae.encode(block.without(kind, token, writes)).numpy()[:, dst]
                    sums[number][0][np.ix_(src, dst)] += (before[dst] - after) / before[dst]
    return sums


def _codes(model: LanguageModel, loaded: LoadedSae, ids: "torch.Tensor") -> Matrix:
    kept: dict[str, torch.Tensor] = {}
    assert loaded.reading is not None
    assert loaded.sae is not None

    def keep(_module: Any, _arguments: Any, output: Any) -> None:
        kept["out"] = output[0] if isinstance(output, tuple) else output

    handle = model.model.get_submodule(loaded.reading.module).register_forward_hook(keep)
    model.model.base_model(ids, use_cache=False)
    handle.remove()
    codes: Matrix = loaded.sae.encode(kept["out"][0].float()).numpy()
    return codes


def sampled(rows: TokenRows, n_tokens: int, rng: np.random.Generator) -> Iterator[tuple[Any, list[int]]]:
    """Yield rows with the places of sampled tokens, the first eight of a row left out."""
    left = n_tokens
    for row in rows.rows:
        most = min(len(row), LONGEST)
        if most <= 16 or left <= 0:
            continue
        tokens = sorted(rng.choice(np.arange(8, most), size=min(8, most - 8), replace=False).tolist())
        left -= len(tokens)
        yield row, tokens


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1500, help="sampled for effects")
    parser.add_argument("--text", type=int, default=100_000, help="tokens that measures are taken from")
    asked = parser.parse_args()
    recipe = read_recipe(DEMO).with_tokens(asked.text)
    model = load_model(recipe)
    saes = {(layer, source.site): load_sae(recipe, source, layer, model) for layer, source in recipe.places}
    assert recipe.text is not None
    shards = list(read_shards(recipe.text, model.tokenizer))
    held_out = shards.pop(len(shards) // 2)
    codes: dict[Place, list[Any]] = {place: [] for place in saes}
    for shard in shards:
        for place, (sparse, *_) in zip(saes, encode_rows(model, list(saes.values()), shard), strict=True):
            codes[place].append(sparse)
    stacked = {place: scipy.sparse.vstack(parts, format="csr") for place, parts in codes.items()}
    pairs: list[tuple[str, Place, Place]] = []
    for layer in range(recipe.layers):
        pairs += [("res_res", (layer - 1, "res"), (layer, "res"))] if layer else []
        pairs += [("mlp_res", (layer, "mlp"), (layer, "res")), ("att_res", (layer, "att"), (layer, "res"))]
    rows = list(sampled(held_out, asked.tokens, np.random.default_rng(0)))
    measured = effects(model, saes, pairs, rows)
    print(f"{sum(len(tokens) for _, tokens in rows):,} tokens, measures from {asked.text:,}\n")
    print("| kind | searches | edges | largest cause is one | effect held |\n|---|---|--:|--:|--:|")
    plan = EdgePlan()
    sizes = {"cosine": plan.top_k, "twera": plan.twera_k, "pearson": COACTIVE_K, "jaccard": COACTIVE_K}
    for kind in EDGE_KINDS:
        figures = {searches: np.zeros(5) for searches in SEARCHES}
        for number, (its_kind, up, down) in enumerate(pairs):
            if its_kind != kind:
                continue
            scores = measures(saes[up], saes[down], stacked)
            masks = {name: proposed(values, sizes[name]) for name, values in scores.items()}
            total, n_active = measured[number]
            targets = np.flatnonzero((n_active >= SUPPORT) & (total.max(axis=0) > 0))
            best, positive = total.argmax(axis=0), np.maximum(total, 0)
            for searches in SEARCHES:
                mask = np.logical_or.reduce([masks[name] for name in searches])
                figures[searches] += (
                    mask.sum(),
                    mask[best[targets], targets].sum(),
                    len(targets),
                    positive[:, targets][mask[:, targets]].sum(),
                    positive[:, targets].sum(),
                )
        for searches, (edges, hits, n_targets, held, whole) in figures.items():
            print(
                f"| {kind} | {', '.join(searches)} | {edges:,.0f} | {100 * hits / n_targets:.1f} % "
                f"of {n_targets:,.0f} | {100 * held / whole:.1f} % |"
            )


if __name__ == "__main__":
    main()
