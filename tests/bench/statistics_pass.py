"""Time the statistics pass beside the bare model forward and `encode` at every site.

Bare is the plain loop, with the library's own threads; "bare, in groups" is the same work as the statistics
pass splits it, side by side and a few tokens at a time.

python tests/bench/statistics_pass.py [--demo] [--tokens N] [--layers N]

Runs on a random suite of pythia-70m's shape (`random_suite.py`), or on the demo. Both passes take turns,
shard by shard, in one process with the same threads; the counting of pairs, which needs all codes, follows.
Prints one row of the table in README.md, and the processor time that every part takes.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import random_suite
import scipy.sparse
import torch
from random_suite import N_FEATURES, random_model, random_saes, random_text

from featgraph.activations import Batch, TokenRows, Tokens, read_shards
from featgraph.activations.contexts import Contexts
from featgraph.activations.encoding import SELDOM, encode_rows, one_thread_per_task
from featgraph.activations.forward import Activations, Sites
from featgraph.activations.statistics import Moments
from featgraph.activations.top_tokens import TopTokens
from featgraph.core.arrays import Indices
from featgraph.core.keys import EDGE_KINDS, SaeRange, edge_plan
from featgraph.edges import coactivation
from featgraph.recipe import EdgePlan, read_recipe
from featgraph.suite import LanguageModel, LoadedSae, load_model, load_sae
from featgraph.suite.sae import tokens_at_once

SHARD, TOP_K = 8192, 8
DEMO = Path(__file__).parents[2] / "ingest" / "demo.toml"

T = TypeVar("T")


@dataclass
class Suite:
    """What is timed."""

    name: str
    model: LanguageModel
    saes: list[LoadedSae]
    shards: list[TokenRows]


@dataclass
class Statistics:
    """What the text says of one SAE, and its codes."""

    moments: Moments
    top_tokens: TopTokens
    contexts: Contexts
    codes: list[scipy.sparse.csr_matrix] = field(default_factory=list)


@dataclass
class Clock:
    """Wall time of what all threads do together, processor time of that and of what each does."""

    wall: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, call: Callable[[], T]) -> T:
        """Do something on all threads and add up its time."""
        began = time.perf_counter(), time.process_time()
        found = call()
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - began[0]
        self.processor[name] = self.processor.get(name, 0.0) + time.process_time() - began[1]
        return found

    def timed_alone(self, name: str, call: Callable[[], object]) -> None:
        """Do something on one thread beside others and add up its time."""
        began = time.thread_time()
        call()
        self.processor[name] = self.processor.get(name, 0.0) + time.thread_time() - began


def demo(n_tokens: int) -> Suite:
    """Return the demo suite and its text."""
    recipe = read_recipe(DEMO)
    assert recipe.text is not None
    model = load_model(recipe)
    shards, left = [], n_tokens
    for token_rows in read_shards(recipe.text, model.tokenizer):
        shards.append(token_rows)
        left -= token_rows.n_tokens
        if left <= 0:
            break
    saes = [load_sae(recipe, source, layer, model) for layer, source in recipe.places]
    return Suite("demo, 24 SAEs of 1,024", model, saes, shards)


def pythia(n_tokens: int) -> Suite:
    """Return a random suite of pythia-70m's shape and a random text."""
    model = random_model()
    shards = [random_text(SHARD, SHARD * number) for number in range(max(1, n_tokens // SHARD))]
    saes = random_saes(model)
    return Suite(f"random, {len(saes)} SAEs of {N_FEATURES:,}", model, saes, shards)


def bare(suite: Suite, token_rows: TokenRows) -> None:
    """Run the model and every SAE's `encode` batch by batch, and keep nothing."""
    sites = Sites(suite.model, [loaded.reading for loaded in suite.saes if loaded.reading is not None])
    with torch.inference_mode():
        for batch in token_rows.batches():
            activations = sites(batch)
            for loaded in suite.saes:
                assert loaded.sae is not None
                assert loaded.reading is not None
                loaded.sae.encode(activations[loaded.reading])


def bare_in_groups(suite: Suite, token_rows: TokenRows) -> None:
    """Do the same in small groups, one thread per SAE; the model reads the next batch meanwhile."""
    sites = Sites(suite.model, [loaded.reading for loaded in suite.saes if loaded.reading is not None])

    def encode(loaded: LoadedSae, activations: Activations) -> None:
        assert loaded.sae is not None
        assert loaded.reading is not None
        with torch.inference_mode():
            for part in activations[loaded.reading].split(tokens_at_once(loaded.sae.cfg.d_sae)):
                loaded.sae.encode(part)

    batches: list[Batch] = list(token_rows.batches())
    with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = pool.submit(sites, batches[0])
        for following in [*batches[1:], None]:
            activations = ahead.result()
            if following is not None:
                ahead = pool.submit(sites, following)
            for job in [pool.submit(encode, loaded, activations) for loaded in suite.saes]:
                job.result()


def together(jobs: Iterable[Callable[[], None]]) -> None:
    """Do all, side by side, with one thread each."""
    with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()


def gather(clock: Clock, found: Statistics, codes: scipy.sparse.csr_matrix, tokens: Tokens) -> None:
    """Add the codes of one shard to everything that concerns one SAE alone."""
    clock.timed_alone("moments", lambda: found.moments.update(codes))
    clock.timed_alone("top tokens", lambda: found.top_tokens.update(codes, tokens))
    clock.timed_alone("contexts", lambda: found.contexts.update(codes.T.tocsr(), tokens))
    found.codes.append(codes)


def count(ends: Sequence[Statistics], n_tokens: int) -> None:
    """Count one pair of SAEs; as many random pairs are wanted as cosine would give."""
    rng, sides = np.random.default_rng(0), (ends[0].moments, ends[1].moments)
    n_wanted = TOP_K * sum(len(side.sum) for side in sides)
    wanted: list[Indices] = [rng.integers(0, len(side.sum), size=n_wanted) for side in sides]

    def shards() -> Iterator[tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]]:
        return zip(ends[0].codes, ends[1].codes, strict=True)

    plan = EdgePlan()
    weights = rng.standard_normal((len(sides[0].sum), len(sides[1].sum)), dtype=np.float32)
    finder = coactivation.finder("twera", plan.twera_k, *sides, n_tokens, lambda src, dst: weights[src, dst])
    pairs = wanted[0], wanted[1]
    coactivation.count(shards, sides[0], sides[1], n_tokens, pairs, [finder], plan.min_support)


def measure(suite: Suite) -> tuple[Clock, float]:
    """Return the times of both passes and the codes per token and SAE."""
    clock = Clock()
    widths = [loaded.sae.cfg.d_sae for loaded in suite.saes if loaded.sae is not None]
    found = [
        Statistics(Moments(width), TopTokens(suite.model.n_vocabulary, width), Contexts(width))
        for width in widths
    ]
    bare(suite, suite.shards[0])
    for number, token_rows in enumerate(suite.shards):
        turns = [
            partial(clock.timed, "bare", partial(bare, suite, token_rows)),
            partial(clock.timed, "bare, in groups", partial(bare_in_groups, suite, token_rows)),
            partial(full, clock, suite, found, token_rows),
        ]
        for turn in turns[:: -1 if number % 2 else 1]:
            turn()
    clock.timed("of each SAE", lambda: together(partial(rank, clock, one) for one in found))
    n_tokens = sum(token_rows.n_tokens for token_rows in suite.shards)
    sae_ranges = [SaeRange(n, one.layer, one.site, 0, widths[n]) for n, one in enumerate(suite.saes)]
    ends = [(found[u.number], found[d.number]) for u, d, _ in edge_plan(sae_ranges, EDGE_KINDS)]
    clock.timed("of pairs", lambda: together(partial(count, pair, n_tokens) for pair in ends))
    l0 = sum(int(one.moments.n_active.sum()) for one in found) / n_tokens / len(found)
    return clock, l0


def full(clock: Clock, suite: Suite, found: list[Statistics], token_rows: TokenRows) -> None:
    """Run the model and the SAEs and gather the statistics of one shard."""
    tokens = Tokens.joined(list(token_rows.batches()))
    encoded = clock.timed("to codes", lambda: encode_rows(suite.model, suite.saes, token_rows, SELDOM))
    jobs = [partial(gather, clock, one, part.codes, tokens) for one, part in zip(found, encoded, strict=True)]
    clock.timed("of each SAE", lambda: together(jobs))


def rank(clock: Clock, found: Statistics) -> None:
    """Choose the top tokens of one SAE."""
    clock.timed_alone("top tokens", lambda: found.top_tokens.best(10))


def main() -> None:
    """Measure one suite and print its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="the demo rather than the random suite")
    parser.add_argument("--tokens", type=int, help="default 200,000 of the demo, 32,768 of the random suite")
    parser.add_argument("--layers", type=int, default=random_suite.LAYERS, help="of the random suite")
    asked = parser.parse_args()
    random_suite.LAYERS = asked.layers
    suite = demo(asked.tokens or 200_000) if asked.demo else pythia(asked.tokens or 32_768)
    clock, l0 = measure(suite)
    n_tokens = sum(token_rows.n_tokens for token_rows in suite.shards)
    parts = ("bare", "bare, in groups", "to codes", "of each SAE", "of pairs")
    print(
        "| suite | tokens | L0 | time |",
        " | ".join(f"{part}, s" for part in parts),
        "| times bare | in groups |",
    )
    print("|---|--:|--:|---|" + "--:|" * (len(parts) + 2))
    for name, spent in (("wall", clock.wall), ("processor", clock.processor)):
        shown = " | ".join(f"{spent[part]:.1f}" for part in parts)
        whole = sum(spent[part] for part in parts[2:])
        ratios = f"{whole / spent[parts[0]]:.2f} | {whole / spent[parts[1]]:.2f}"
        print(f"| {suite.name} | {n_tokens:,} | {l0:.0f} | {name} | {shown} | {ratios} |")
    alone = ("moments", "top tokens", "contexts")
    print("\nof each SAE, processor s:", ", ".join(f"{name} {clock.processor[name]:.1f}" for name in alone))


if __name__ == "__main__":
    main()
