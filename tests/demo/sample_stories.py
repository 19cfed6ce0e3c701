"""Sample stories from a causal language model into a text file, `<|endoftext|>` between stories.

Used twice: on a small pretrained story model, for more training text than there is on disk, and on the
finished demo model, for the text that `ingest/demo.toml` reads.

    python tests/demo/sample_stories.py --model DIR --out FILE --characters 10000000 --seed 1
"""

import argparse
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

END = "<|endoftext|>"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--out", type=Path, required=True, help="the text file to write")
    parser.add_argument("--characters", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=256, help="stories sampled side by side")
    parser.add_argument("--tokens", type=int, default=400, help="the longest story, in tokens")
    parser.add_argument("--keep-unfinished", action="store_true", help="cut at the last full stop, not drop")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    ends = sorted({model.config.bos_token_id, model.config.eos_token_id})
    start = torch.full((arguments.batch, 1), model.config.bos_token_id)
    written, began = 0, time.monotonic()
    with arguments.out.open("w", encoding="utf-8") as out, torch.inference_mode():
        while written < arguments.characters:
            drawn = model.generate(
                start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                temperature=arguments.temperature,
                top_k=0,
                max_new_tokens=arguments.tokens,
                eos_token_id=ends,
                pad_token_id=model.config.eos_token_id,
            )
            for row in drawn[:, 1:].tolist():
                stop = next((place for place, token in enumerate(row) if token in ends), None)
                story = str(tokenizer.decode(row[:stop], skip_special_tokens=True)).strip()
                if stop is None:
                    story = story[: story.rfind(".") + 1] if arguments.keep_unfinished else ""
                if not story:
                    continue
                written += out.write(f"{story}\n{END}\n")
            out.flush()
            print(f"{written:,} characters, {written / (time.monotonic() - began):,.0f}/s", flush=True)


if __name__ == "__main__":
    main()
