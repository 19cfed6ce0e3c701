"""Exhaustive removal beside one hooked forward pass per removal, and how its cost grows.

python tests/bench/exhaustive.py [--recipe demo] [--tokens 2000] [--passes 200] [--grow]

Prints Markdown. --grow: also a random suite of pythia-70m's shape, by tokens, L0 and width.
"""

import argparse
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from featgraph.ablation.exhaustive import TokenSample, removal_sums
from featgraph.activations import Batch, TokenRows, Tokens, read_shards
from featgraph.activations.encoding import encode_rows
from featgraph.core.keys import SITES
from featgraph.core.shipped import shipped
from featgraph.recipe import read_recipe
from featgraph.suite import LanguageModel, LoadedSae, load_model, load_sae
from featgraph.suite.hooks import on_tensor, sae_input

Suite = tuple[LanguageModel, dict[int, LoadedSae], list[tuple[int, int]]]


def suite_of(name: str) -> tuple[Suite, TokenRows]:
    """Return the model, SAEs and pairs of a recipe, and its first shard of text."""
    recipe = read_recipe(shipped("ingest") / f"{name}.toml")
    model = load_model(recipe)
    places = sorted(recipe.places, key=lambda place: (place[0], SITES.index(place[1].site)))
    saes = {number: load_sae(recipe, source, layer, model) for number, (layer, source) in enumerate(places)}
    assert recipe.text is not None
    return (model, saes, pairs_of(saes)), next(iter(read_shards(recipe.text, model.tokenizer)))


def pairs_of(saes: Mapping[int, LoadedSae]) -> list[tuple[int, int]]:
    """Return residual SAEs with the one before, and with the mlp and att SAEs of their layer."""
    found = []
    residual = [number for number, sae in saes.items() if sae.site == "res"]
    for place, down in enumerate(residual):
        if place:
            found.append((residual[place - 1], down))
        found += [(n, down) for n, sae in saes.items() if sae.site != "res" and sae.layer == saes[down].layer]
    return found


def sample_of(text: TokenRows, n: int) -> TokenSample:
    """Return n tokens that count, drawn at random."""
    row, position = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (np.full(int(counted.sum()), number), np.flatnonzero(counted))
                for number, counted in enumerate(map(text.counted, text.rows))
            ),
            strict=True,
        )
    )
    chosen = np.sort(np.random.default_rng(0).permutation(len(row))[:n])
    return TokenSample(row[chosen], position[chosen])


def removals_per_second(suite: Suite, text: TokenRows, sample: TokenSample) -> tuple[int, float]:
    """Return the removals made, and the seconds that they took."""
    model, saes, pairs = suite
    started = time.perf_counter()
    removal_sums(model, saes, text.rows, sample, pairs)
    seconds = time.perf_counter() - started
    counts = active_features(model, saes, text, sample)
    return sum(counts[up] for up, _ in pairs), seconds


@torch.inference_mode()
def active_features(
    model: LanguageModel, saes: Mapping[int, LoadedSae], text: TokenRows, sample: TokenSample
) -> dict[int, int]:
    """Return, by SAE, its active features on all tokens of the sample."""
    codes = dict(zip(saes, encode_rows(model, list(saes.values()), text), strict=True))
    tokens = Tokens.joined(list[Batch](text.batches()))
    chosen = set(zip(sample.row.tolist(), sample.position.tolist(), strict=True))
    places = [
        n
        for n, at in enumerate(zip(tokens.row.tolist(), tokens.position.tolist(), strict=True))
        if at in chosen
    ]
    return {number: encoded.codes[places].nnz for number, encoded in codes.items()}


@torch.inference_mode()
def hooked_passes(suite: Suite, text: TokenRows, sample: TokenSample, n: int) -> float:
    """Return seconds per hooked pass: the text up to a token, one feature removed there, one SAE read."""
    model, saes, pairs = suite
    rng = np.random.default_rng(1)
    started, made = time.perf_counter(), 0
    while made < n:
        up, down = (saes[number] for number in pairs[rng.integers(len(pairs))])
        place = rng.integers(len(sample))
        ids = torch.from_numpy(text.rows[sample.row[place]][: sample.position[place] + 1].astype(np.int64))[
            None
        ]
        made += hooked_pass(model, up, down, ids)
    return (time.perf_counter() - started) / made


def hooked_pass(model: LanguageModel, up: LoadedSae, down: LoadedSae, ids: torch.Tensor) -> int:
    """Remove the strongest feature at the last token in one pass."""
    assert up.reading is not None
    assert down.reading is not None
    assert up.sae is not None
    assert down.sae is not None
    left: list[torch.Tensor] = []

    def remove(hidden: torch.Tensor) -> torch.Tensor:
        assert up.sae is not None
        assert up.reading is not None
        codes = up.sae.encode(sae_input(hidden[:, -1], up.reading, model.model))
        strongest = codes.argmax(dim=-1)
        hidden = hidden.clone()
        hidden[:, -1] -= codes.gather(1, strongest[:, None]) * up.sae.W_dec[strongest]
        return hidden

    place = up.reading.rebuilt
    hooks = [
        on_tensor(model.model.get_submodule(place.module), place.end, remove),
        on_tensor(model.model.get_submodule(down.reading.module), down.reading.end, left.append),
    ]
    model.model.base_model(ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    down.sae.encode(left[0][:, -1])
    return 1


def row(cells: Sequence[object]) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def growth() -> None:
    """Print the cost on a random suite by tokens, L0 and width."""
    import random_suite

    row(["suite of pythia-70m's shape", "tokens", "removals", "seconds", "removals/s"])
    row(["---", "--:", "--:", "--:", "--:"])
    for features, l0, tokens in ((8192, 50, 64), (8192, 50, 128), (8192, 100, 64), (32_768, 50, 64)):
        random_suite.N_FEATURES, random_suite.L0 = features, l0
        model = random_suite.random_model()
        saes = dict(enumerate(random_suite.random_saes(model)))
        text = random_suite.random_text(4096, 0)
        suite = (model, saes, pairs_of(saes))
        n, seconds = removals_per_second(suite, text, sample_of(text, tokens))
        row([f"width {features:,}, L0 {l0}", tokens, f"{n:,}", f"{seconds:.1f}", f"{n / seconds:,.0f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--passes", type=int, default=200)
    parser.add_argument("--grow", action="store_true")
    given = parser.parse_args()
    suite, text = suite_of(given.recipe)
    sample = sample_of(text, given.tokens)
    one_by_one = hooked_passes(suite, text, sample, given.passes)
    n, seconds = removals_per_second(suite, text, sample)
    row(["", "removals", "seconds", "removals/s", "times"])
    row(["---", "--:", "--:", "--:", "--:"])
    row(
        [
            "one hooked pass each",
            given.passes,
            f"{one_by_one * given.passes:.1f}",
            f"{1 / one_by_one:,.0f}",
            "1",
        ]
    )
    row(["exhaustive", f"{n:,}", f"{seconds:.1f}", f"{n / seconds:,.0f}", f"{n / seconds * one_by_one:,.0f}"])
    if given.grow:
        print()
        growth()


if __name__ == "__main__":
    main()
