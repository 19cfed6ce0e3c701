"""Bits per character of a causal language model on a text file, every character counted once.

python tests/demo/bits_per_character.py --model ingest/demo/model --text valid.txt
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch

CONTEXT = 256
STRIDE = 128


@torch.inference_mode()
def bits_per_character(model: Any, tokenizer: Any, text: str) -> float:
    """Slide a window of CONTEXT tokens by STRIDE; each token is scored once, with all the context it has."""
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]])
    total = 0.0
    for start in range(0, len(ids) - 1, STRIDE):
        window = ids[start : start + CONTEXT + 1]
        logits = model(window[None, :-1], use_cache=False).logits[0].float()
        losses = torch.nn.functional.cross_entropy(logits, window[1:], reduction="none")
        fresh = 0 if start == 0 else CONTEXT - STRIDE
        total += float(losses[fresh:].sum())
    return total / math.log(2) / len(text)


def main() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    text = arguments.text.read_text(encoding="utf-8")
    print(f"{bits_per_character(model, tokenizer, text):.4f} bits per character")


if __name__ == "__main__":
    main()
