"""lm-evaluation-harness: `--model steered` with `steer_path` a .pt or a .csv.

Two versions, since no one takes both files: from 0.4.9.2 on a csv that adds is refused, its SAE's bias being
in the way; 0.4.9.1 takes it, but of several hookpoints in one file each adds the last one's vector.
"""

import importlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from readers import Case, Logits, Reference, Row
from readers.measuring import measured

_REFUSAL = "Bias is not supported for the `add` action."
"""Source: lm_eval/models/hf_steered.py of 0.4.13, SteeredModel.__init__."""


def rows(reference: Reference) -> Iterator[Row]:
    """Yield the rows of single layers as .pt and as .csv, and of one .pt for several layers."""
    this = version("lm_eval")
    steered = _Steered(reference)
    single = [case for case in reference.cases if len(case.blocks) == 1]
    yield from measured("lm-eval, pt", this, reference, steered.by_pt, single)
    refusal = steered.refusal(single[0])
    if refusal is None:
        yield from measured("lm-eval, csv", this, reference, steered.by_csv, single)
    else:
        yield Row("lm-eval, csv", this, "refused by lm-eval itself", refusal, refusal == _REFUSAL)
    several = [case for case in reference.cases if case not in single and case.name.startswith("span")]
    if refusal is not None:
        joined = measured("lm-eval, files joined", this, reference, steered.by_joined_pt, several)
        yield from list(joined)[1:]


class _Steered:
    """`SteeredModel`, made anew for every file as a run of lm-eval makes it."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def by_pt(self, case: Case | None) -> list[Logits]:
        return self._plain() if case is None else self._logits(self._file(case, "pt"))

    def by_csv(self, case: Case | None) -> list[Logits]:
        return self._plain() if case is None else self._logits(self._file(case, "csv"))

    def by_joined_pt(self, case: Case | None) -> list[Logits]:
        """Steer with the .pt files of all blocks put into one."""
        import torch

        if case is None:
            return self._plain()
        joined: dict[str, Any] = {}
        for block in case.blocks:
            joined |= torch.load(self._folder(case) / f"layers.{block}.pt", weights_only=True)
        for steering in joined.values():
            steering["steering_coefficient"] *= case.strength
        path = self.reference.folder / "joined.pt"
        torch.save(joined, path)
        return self._logits(path)

    def refusal(self, case: Case) -> str | None:
        """Return what lm-eval says to a csv, None if it takes it."""
        try:
            self._model(self._file(case, "csv"))
        except AssertionError as error:
            return str(error)
        return None

    def _folder(self, case: Case) -> Path:
        return self.reference.file(case, "lm-eval")

    def _file(self, case: Case, ending: str) -> Path:
        [block] = case.blocks
        return self._folder(case) / f"layers.{block}.{ending}"

    def _model(self, path: Path) -> Any:
        steered: Any = importlib.import_module("lm_eval.models.hf_steered")
        return steered.SteeredModel(str(self.reference.model), str(path), **self._options())

    def _plain(self) -> list[Logits]:
        unsteered: Any = importlib.import_module("lm_eval.models.huggingface")
        return self._run(unsteered.HFLM(str(self.reference.model), **self._options()))

    def _options(self) -> dict[str, Any]:
        """Return what both take; transformers 4 does not know the class that the tokenizer's folder names."""
        from transformers import PreTrainedTokenizerFast

        end = "<|endoftext|>"
        file = str(self.reference.model / "tokenizer.json")
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, bos_token=end, eos_token=end, pad_token=end)
        return {"tokenizer": tokenizer, "device": "cpu", "dtype": "float32"}

    def _logits(self, path: Path) -> list[Logits]:
        return self._run(self._model(path))

    def _run(self, model: Any) -> list[Logits]:
        import torch

        with torch.no_grad():
            found = [model._model_call(torch.tensor([prompt.tokens])) for prompt in self.reference.prompts]
        return [logits[0].numpy() for logits in found]
