"""Print how good the demo suite is, as the Markdown that stands in `ingest/demo/README.md`.

    python tests/demo/report.py --valid valid.txt

Bits per character of the model on a validation text, and per SAE: explained variance, L0, share of dead
features, and the model's loss with the activation replaced by the SAE's reconstruction (BOS left as it is).
The SAE figures are measured on the demo text, with the SAEs as shipped, loaded with `SAE.load_from_disk`.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
from bits_per_character import bits_per_character
from sae_lens import SAE

from featgraph.activations import TokenRows, read_shards
from featgraph.activations.documents import documents
from featgraph.recipe import TextSource, find_recipe
from featgraph.suite import load_model


def mean_loss(model: Any, pieces: TokenRows) -> float:
    """Mean next-token loss over the counted tokens, in nats."""
    total, count = 0.0, 0
    for batch in pieces.batches():
        ids = torch.from_numpy(batch.ids)
        target = torch.from_numpy(batch.counted)[:, 1:]
        logits = model(ids, use_cache=False).logits[:, :-1]
        total += float(torch.nn.functional.cross_entropy(logits[target], ids[:, 1:][target], reduction="sum"))
        count += int(target.sum())
    return total / count


class Splice:
    """Replaces a module's output by an SAE's reconstruction, and measures it on the counted tokens."""

    def __init__(self, sae: Any, special: frozenset[int]) -> None:
        self.sae = sae
        self.special = torch.tensor(sorted(special))
        self.ids = torch.zeros(0)
        self.error = self.square = self.active = 0.0
        self.fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
        self.n = 0
        self.sum = torch.zeros(sae.cfg.d_in, dtype=torch.float64)

    def __call__(self, _module: Any, _inputs: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        codes = self.sae.encode(tensor)
        rebuilt = self.sae.decode(codes)
        keep = ~torch.isin(self.ids, self.special)
        x, y, active = tensor[keep].double(), rebuilt[keep].double(), codes[keep] != 0
        self.error += float((x - y).square().sum())
        self.square += float(x.square().sum())
        self.sum += x.sum(0)
        self.active += float(active.sum())
        self.fired |= active.any(0)
        self.n += len(x)
        replaced = torch.where(keep[..., None], rebuilt, tensor)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    @property
    def figures(self) -> tuple[float, float, float]:
        """Explained variance, L0, share of dead features."""
        variance = self.square - float((self.sum**2).sum()) / self.n
        return 1 - self.error / variance, self.active / self.n, 1 - float(self.fired.float().mean())


def spliced(model: Any, pieces: TokenRows, folder: Path, module: str) -> tuple[float, float, float, float]:
    splice = Splice(SAE.load_from_disk(folder, dtype="float32"), pieces.special)
    watch = model.register_forward_pre_hook(lambda _module, inputs: setattr(splice, "ids", inputs[0]))
    handle = model.get_submodule(module).register_forward_hook(splice)
    try:
        loss = mean_loss(model, pieces)
    finally:
        handle.remove()
        watch.remove()
    return (*splice.figures, loss)


def samples(text: TextSource) -> None:
    """Print the first ten stories of the demo text, as they are."""
    for number, story in enumerate(itertools.islice(documents(text), 10), 1):
        quoted = "\n".join(f"> {line}".rstrip() for line in story.splitlines())
        print(f"{number}.\n\n{quoted}\n")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--valid", type=Path, help="also print bits per character on this text")
    arguments = parser.parse_args()
    recipe = find_recipe("demo")
    loaded = load_model(recipe)
    if arguments.valid:
        bits = bits_per_character(loaded.model, loaded.tokenizer, arguments.valid.read_text(encoding="utf-8"))
        print(f"Bits per character on {arguments.valid.name}: {bits:.3f}\n")
    assert recipe.text is not None, "the demo has a text"
    shards = list(read_shards(recipe.text, loaded.tokenizer))
    pieces = TokenRows([row for shard in shards for row in shard.rows], shards[0].special)
    loss = mean_loss(loaded.model, pieces)
    print(f"Loss on {pieces.n_tokens:,} tokens of the demo text, nothing spliced: {loss:.3f}\n")
    samples(recipe.text)
    print("| SAE | explained variance | L0 | dead | loss spliced |\n|---|--:|--:|--:|--:|")
    for site in ("res", "mlp", "att"):
        source = next(source for source in recipe.sources if source.site == site)
        for layer in range(recipe.layers):
            folder = recipe.folder / str(source.path).format(layer=layer)
            module = SAE.load_from_disk(folder).cfg.metadata.hook_name
            variance, l0, dead, loss = spliced(loaded.model, pieces, folder, module)
            print(f"| {layer}.{site} | {variance:.3f} | {l0:.1f} | {dead:.1%} | {loss:.3f} |", flush=True)


if __name__ == "__main__":
    main()
