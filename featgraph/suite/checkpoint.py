"""A language model's weights on disk or on the Hub, read one tensor at a time from its safetensors."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featgraph.core.bounded import json_value, read_text
from featgraph.core.files import file_sha256
from featgraph.errors import SourceError

if TYPE_CHECKING:
    import torch

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""File names: a checkpoint is one file, or several with an index from tensor to file."""

FILES = (".json", ".safetensors", ".bin", ".model", ".txt")
"""Extensions of the files that define a model and its tokenizer; other files are ignored."""


def _weight_map(index: Path) -> dict[str, str]:
    """Return tensor -> file from an index.

    Raises SourceError: the index is malformed, or names a file in another folder.
    """
    try:
        listed = json_value(read_text(index))["weight_map"]
        named = {str(name): str(file) for name, file in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"cannot read {index}: {error or 'it has no weight_map'}") from error
    for file in named.values():
        if Path(file).name != file:
            raise SourceError(f"{index} names the file {file!r}, which is not beside it")
    return named


@dataclass(frozen=True)
class Checkpoint:
    """The files of one model, read and fetched on demand."""

    source: str
    """Folder or Hugging Face id."""
    commit: str | None
    """Commit of the Hub's repository; None for a folder."""
    model: Any
    """The model of the files, with or without weights in memory."""

    @cached_property
    def digest(self) -> str:
        """The sha256 of the files of model and tokenizer; on the Hub, of the commit."""
        if self.commit is not None:
            return hashlib.sha256(f"{self.source} {self.commit}".encode()).hexdigest()
        digest = hashlib.sha256()
        for file in sorted(Path(self.source).iterdir()):
            if file.suffix in FILES:
                digest.update(file.name.encode())
                digest.update(bytes.fromhex(file_sha256(file)))
        return digest.hexdigest()

    def has(self, parameter: str) -> bool:
        """Return whether the files have a parameter; of tied weights they have only one name."""
        return parameter in self._stored_names

    def tensor(self, parameter: str) -> "torch.Tensor":
        """Return one parameter of the model, float32.

        Raises SourceError: no tensor of that name, or it cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        stored = self._stored_names.get(parameter)
        if stored is None:
            raise SourceError(f"the weights of {self.source} have no tensor {parameter!r}")
        file = self._fetched(self._files[stored])
        try:
            with safe_open(str(file), framework="pt") as opened:
                tensor: torch.Tensor = opened.get_tensor(stored).float()
                return tensor
        except (SafetensorError, OSError) as error:
            raise SourceError(f"cannot read {file}: {str(error).splitlines()[0]}") from error

    @cached_property
    def _stored_names(self) -> dict[str, str]:
        """Parameter of the model -> its name in the checkpoint; transformers renames some on loading."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        mapping = get_model_conversion_mapping(self.model)
        renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
        converters = [one for one in mapping if isinstance(one, WeightConverter)]
        prefix, wanted = self.model.base_model_prefix, self.model.state_dict()
        names = {}
        for stored in self._files:
            name, converted = rename_source_key(stored, renamings, converters, prefix, wanted)
            if converted is None:
                names[name] = stored
        return names

    @cached_property
    def _files(self) -> dict[str, str]:
        """The file of each tensor."""
        from safetensors import SafetensorError, safe_open

        index = self._fetched(INDEX)
        if index is not None:
            return _weight_map(index)
        whole = self._fetched(WHOLE)
        if whole is None:
            raise SourceError(
                f"{self.source} has no {WHOLE}, from which single weights are read; save it "
                "again with save_pretrained, or ingest with a text, which loads the whole model"
            )
        try:
            with safe_open(str(whole), framework="pt") as opened:
                return dict.fromkeys(opened.keys(), WHOLE)
        except (SafetensorError, OSError) as error:
            raise SourceError(f"cannot read {whole}: {str(error).splitlines()[0]}") from error

    def _fetched(self, file: str) -> Path | None:
        """Return the path of a file of the checkpoint, fetched if needed; None if it has no such file."""
        from transformers.utils.hub import cached_file

        cached = cached_file(self.source, file, _raise_exceptions_for_missing_entries=False)
        return None if cached is None else Path(cached)
