"""The demo's language model in whatever transformers a reader's environment has."""

from typing import Any

from readers import Logits, Reference


def load(reference: Reference) -> Any:
    """Return the model in 32-bit floats, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(reference.model, local_files_only=True)
    return model.to(torch.float32).eval()


def logits(model: Any, reference: Reference) -> list[Logits]:
    """Return the logits of each prompt, one at a time: repeng takes no batches."""
    import torch

    with torch.no_grad():
        outputs = [model(torch.tensor([prompt.tokens])) for prompt in reference.prompts]
    return [output.logits[0].numpy() for output in outputs]
