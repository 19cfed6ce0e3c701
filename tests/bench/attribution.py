"""How well gradient times activation predicts removal, over one layer and over several.

For some features of a layer, all active features of the residual SAE d layers below are removed one at a time
at the same token (exhaustive removal), and the shares lost are ranked against the predicted shares of the
same tokens, and against the cosine.

    python tests/bench/attribution.py --graph demo.featgraph --tokens 1 --targets 400

Prints a table, one row per distance: Spearman over pairs of features, with a 95 % interval over targets; the
same without the pairs whose target falls silent, which no derivative can see; and the mean within a target.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from featgraph.ablation.attributing import targets_of
from featgraph.ablation.exhaustive import TokenSample, exhaustive_effects
from featgraph.ablation.gradients import carried
from featgraph.ablation.sessions import Session
from featgraph.core.progress import Silent
from featgraph.store import open_store, vectors

DISTANCES = (1, 2, 4, 6)


def main() -> None:
    """Print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--targets", type=int, default=40, help="features of the last layer, drawn at random")
    parser.add_argument("--tokens", type=int, default=16, help="tokens per feature")
    parser.add_argument("--read", type=int, default=100_000, help="tokens of the text")
    parser.add_argument("--layer", type=int, default=7)
    options = parser.parse_args()
    print("| layers | targets | pairs | gradient | not silenced | within a target | cosine |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    with open_store(options.graph) as store:
        session = Session(store, None, options.read)
        rows = store.rows(
            "select key from feature where layer = $layer and site = 'res' and density >= 0.001 "
            "order by hash(key) limit $n",
            {"layer": options.layer, "n": options.targets},
        )
        targets = targets_of(session, store, [key for (key,) in rows], options.tokens, 0, Silent())
        by_place = {(sae.layer, sae.site): sae for sae in store.saes}
        for distance in DISTANCES:
            up = by_place[options.layer - distance, "res"]
            down = by_place[options.layer, "res"]
            saes = session.saes([up.number, down.number])
            directions = vectors.directions(store.vectors(up), list(range(up.n_features)))
            of_target: list[tuple[NDArray[Any], ...]] = []
            for target in targets:
                numbers = {number: saes[number] for number in (up.number,)}
                predicted = carried(session.model, saes[down.number], target.idx, numbers, target.tokens)
                sample = TokenSample(np.arange(len(target.tokens.rows)), target.tokens.position)
                pair = (up.number, down.number)
                effects = exhaustive_effects(session.model, saes, target.tokens.rows, sample, [pair])[pair]
                chosen = effects.dst == target.idx
                src = effects.src[chosen]
                own = vectors.directions(store.vectors(down), [target.idx])[0]
                of_target.append(
                    (effects.effect[chosen], predicted[up.number].same_token[src], directions[src] @ own)
                )
            print(row_of(distance, of_target), flush=True)


def row_of(distance: int, of_target: list[tuple[NDArray[Any], ...]]) -> str:
    """Return one line of the table."""
    effect, predicted, cosine = (np.concatenate(part) for part in zip(*of_target, strict=True))
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(200):
        chosen = [of_target[n] for n in rng.integers(len(of_target), size=len(of_target))]
        measured, shares, _ = (np.concatenate(part) for part in zip(*chosen, strict=True))
        draws.append(spearmanr(measured, shares).statistic)
    low, high = np.percentile(draws, [2.5, 97.5])
    within = np.mean([spearmanr(measured, shares).statistic for measured, shares, _ in of_target])
    left = effect < 1
    return (
        f"| {distance} | {len(of_target)} | {len(effect):,} | {spearmanr(effect, predicted).statistic:.3f} "
        f"[{low:.3f}, {high:.3f}] | {spearmanr(effect[left], predicted[left]).statistic:.3f} | {within:.3f} "
        f"| {spearmanr(effect, cosine).statistic:.3f} |"
    )


if __name__ == "__main__":
    main()
