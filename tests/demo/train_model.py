"""Train the demo language model: an 8-layer Llama of width 128 over its own byte-level BPE vocabulary.

    python tests/demo/train_model.py --real train.txt --sampled sampled.txt --valid valid.txt \\
        --out ingest/demo/model

Prints the loss as it goes and, at the end, bits per character on the validation text. Writes the model in
Hugging Face format with 16-bit weights, so that the printed figure is measured on what is shipped.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from bits_per_character import bits_per_character
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
CONTEXT = 256
BATCH = 32


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, required=True, help="stories written by people or large models")
    parser.add_argument("--sampled", type=Path, nargs="*", default=[], help="stories from sample_stories.py")
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=14_000_000, help="the schedule spans these")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--real-share", type=float, default=0.6, help="share of windows from real text")
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="Muon's learning rate")
    parser.add_argument("--other-rate", type=float, default=0.004, help="AdamW's learning rate")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def stories(path: Path) -> list[str]:
    """Return the whole stories of a file, with one blank line between paragraphs as in the real text."""
    parts = path.read_text(encoding="utf-8", errors="ignore").split(END)[:-1]
    paragraphs = ([line.strip() for line in part.splitlines() if line.strip()] for part in parts)
    return ["\n\n".join(lines) for lines in paragraphs if lines]


def train_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Return every story's tokens in one row, each story opened by the end-of-text token."""
    rows = tokenizer(texts)["input_ids"]
    end = tokenizer.bos_token_id
    return torch.from_numpy(np.concatenate([np.array([end, *row], dtype=np.int64) for row in rows]))


def batches(real: torch.Tensor, sampled: torch.Tensor, real_share: float) -> Iterator[torch.Tensor]:
    """Yield (BATCH, CONTEXT + 1) windows; each source is walked in a fresh random tiling every epoch."""

    def windows(stream: torch.Tensor) -> Iterator[torch.Tensor]:
        while True:
            offset = int(torch.randint(CONTEXT, ()))
            count = (len(stream) - offset - 1) // CONTEXT
            for place in torch.randperm(count).tolist():
                yield stream[offset + place * CONTEXT :][: CONTEXT + 1]

    sources = windows(real), windows(sampled if len(sampled) else real)
    while True:
        chosen = (torch.rand(BATCH) >= real_share).long().tolist()
        yield torch.stack([next(sources[which]) for which in chosen])


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    end = tokenizer.bos_token_id
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
            initializer_range=0.02,
        )
    )


def optimizers(model: LlamaForCausalLM, arguments: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=arguments.matrix_rate, weight_decay=0.05),
        torch.optim.AdamW(others, lr=arguments.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(progress: float) -> float:
    """Warm up over 2 %, hold, then fall linearly to 2 % over the last 45 % of the run."""
    return min(1.0, progress / 0.02 + 0.05, 0.02 + 0.98 * (1.0 - progress) / 0.45)


def mean_loss(model: LlamaForCausalLM, window: torch.Tensor) -> torch.Tensor:
    logits = model(window[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), window[:, 1:].flatten())


def train(model: LlamaForCausalLM, source: Iterator[torch.Tensor], arguments: argparse.Namespace) -> None:
    chosen = optimizers(model, arguments)
    rates = [group["lr"] for optimizer in chosen for group in optimizer.param_groups]
    window_loss = torch.compile(mean_loss) if arguments.compile else mean_loss
    began, average = time.monotonic(), 0.0
    steps = arguments.tokens // (BATCH * CONTEXT)
    for step in range(1, steps + 1):
        for optimizer, rate in zip(chosen, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(step / steps)
        window = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = window_loss(model, window)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average = loss.item() if step == 1 else 0.98 * average + 0.02 * loss.item()
        if step % 20 == 0:
            tokens = step * BATCH * CONTEXT
            rate = tokens / (time.monotonic() - began)
            print(f"step {step}  {tokens:,} tokens  {rate:,.0f}/s  loss {average:.4f}", flush=True)


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    real = stories(arguments.real)
    sampled = [story for path in arguments.sampled for story in stories(path)]
    tokenizer = train_tokenizer(real, arguments.vocabulary)
    streams = [token_stream(tokenizer, texts) if texts else torch.empty(0) for texts in (real, sampled)]
    print("tokens:", *(f"{len(stream):,}" for stream in streams), flush=True)
    model = build_model(tokenizer)
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}", flush=True)
    train(model, batches(streams[0], streams[1], arguments.real_share), arguments)
    model.eval().to(torch.bfloat16).save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    valid = arguments.valid.read_text(encoding="utf-8")
    bits = bits_per_character(model.float(), tokenizer, valid)
    print(f"bits per character on {arguments.valid.name}: {bits:.4f} (perplexity/char {math.exp2(bits):.3f})")


if __name__ == "__main__":
    main()
