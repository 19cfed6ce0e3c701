"""What the small suite's SAEs find in a text, the long way: plain hooks, dense codes, one text at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from featgraph.ingestion import ingest
from featgraph.recipe import read_recipe
from helpers.small_suite import LAYERS, MODULES, build_small_suite

WIDTH = 11
"""Tokens of a piece beside BOS; the recipe's context is 12."""

Codes = NDArray[np.float32]


class Suite:
    """The small suite with its graph beside the recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.graph = folder, folder / "small.featgraph"
        ingest(read_recipe(build_small_suite(folder)), self.graph)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder / "small" / "model").eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder / "small" / "model")

    def sae(self, layer: int, site: str) -> Any:
        return SAE.load_from_disk(folder_of(self.folder, layer, site))

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def dense(self, text: str) -> dict[tuple[int, str], Codes]:
        """Codes of every SAE on the text's tokens, (n_tokens, n_features), by layer and site."""
        found: dict[tuple[int, str], list[Codes]] = {}
        ids = self.ids(text)
        for start in range(0, len(ids), WIDTH):
            row = torch.tensor([[self.tokenizer.bos_token_id, *ids[start : start + WIDTH]]])
            for place, tensor in self.read(row).items():
                with torch.no_grad():
                    codes = self.sae(*place).encode(tensor[0, 1:])
                found.setdefault(place, []).append(codes.numpy())
        return {place: np.concatenate(parts) for place, parts in found.items()}

    def read(self, row: torch.Tensor) -> dict[tuple[int, str], torch.Tensor]:
        kept: dict[tuple[int, str], torch.Tensor] = {}
        handles = []
        for layer in range(LAYERS):
            for site, path in MODULES.items():

                def keep(_module: Any, _read: Any, given: Any, place: Any = (layer, site)) -> None:
                    kept[place] = given[0] if isinstance(given, tuple) else given

                handles.append(self.model.get_submodule(path.format(layer)).register_forward_hook(keep))
        with torch.no_grad():
            self.model(row)
        for handle in handles:
            handle.remove()
        return kept


def folder_of(folder: Path, layer: int, site: str) -> str:
    return str(folder / "small" / "saes" / f"{layer}.{site}")
