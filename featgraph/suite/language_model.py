"""A recipe's language model: all of it, ready to run, or a meta_model whose weights stay where they are."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from featgraph.core.arrays import Matrix
from featgraph.errors import SourceError
from featgraph.recipe import Recipe
from featgraph.suite.checkpoint import Checkpoint
from featgraph.suite.hooks import Blocks, blocks_of
from featgraph.suite.sae_files import state_digest
from featgraph.suite.untrusted import SAFE, refusing

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer and its identity."""

    model: Any
    tokenizer: Any
    name: str
    checkpoint: Checkpoint | None = None
    """The files of the model; None for a model made in memory."""

    @cached_property
    def digest(self) -> str:
        """The identity of the model, the same for a meta model."""
        return state_digest(self.model) if self.checkpoint is None else self.checkpoint.digest

    @cached_property
    def blocks(self) -> Blocks:
        """The modules of the blocks; raise SourceError if the family is unknown."""
        return blocks_of(self.model)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def n_vocabulary(self) -> int:
        """Rows of the unembedding."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    def ids(self, text: str) -> list[int]:
        """Return a text's token ids, the BOS token first where the tokenizer has one."""
        bos = [] if self.tokenizer.bos_token_id is None else [int(self.tokenizer.bos_token_id)]
        return [*bos, *self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]

    @property
    def unembedding(self) -> Matrix:
        """Output embedding rows, (n_vocabulary, d_model)."""
        rows: Matrix = self.parameter(self._unembedding_path).numpy()
        return rows

    @property
    def _unembedding_path(self) -> str:
        """Name of the output layer's weight in the files.

        The built model decides whether it is tied to the input embedding: in the configuration of a model
        with several parts, each part has its own flag.
        """
        output, embedding = self.model.get_output_embeddings(), self.model.get_input_embeddings()
        tied = output.weight is embedding.weight
        paths = {module: f"{name}.weight" for name, module in self.model.named_modules()}
        in_files = tied and output.weight.is_meta and self.checkpoint is not None
        if in_files and self.checkpoint is not None and not self.checkpoint.has(paths[embedding]):
            return paths[output]
        return paths[embedding if tied else output]

    @property
    def parallel_residual(self) -> dict[str, bool]:
        """Whether attention and mlp read the same residual stream, in families in which this is
        configurable."""
        known = getattr(self.model.config, "use_parallel_residual", None)
        return {} if known is None else {"parallel_residual": bool(known)}

    @property
    def model_type(self) -> str:
        """Name of the architecture in transformers, such as `llama`."""
        return str(self.model.config.model_type)

    @property
    def device(self) -> "torch.device":
        """Device of the weights; `meta` for a meta model, which cannot run."""
        device: torch.device = self.model.get_output_embeddings().weight.device
        return device

    def parameter(self, path: str) -> "torch.Tensor":
        """Return one weight in float32 on the CPU; of a meta model, from the files.

        Raises SourceError: it is not in the files, or they cannot be read.
        """
        weight: torch.Tensor = self.model.get_parameter(path).detach()
        if weight.is_meta:
            assert self.checkpoint is not None, "a meta_model is made from files"
            return self.checkpoint.tensor(path)
        return weight.float().cpu()


def load_model(recipe: Recipe) -> LanguageModel:
    """Load the recipe's language model in float32, ready for inference, on the GPU if there is one.

    Raises SourceError: no such model, or transformers cannot load it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    name = _where(recipe)
    with refusing(f"model {recipe.model_name}"):
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, **SAFE).eval()
        tokenizer = AutoTokenizer.from_pretrained(name, **SAFE)
    if torch.cuda.is_available():
        model = model.to("cuda")
    return LanguageModel(model, tokenizer, recipe.model_name, _checkpoint(name, model))


def load_meta_model(recipe: Recipe) -> LanguageModel:
    """Return the recipe's language model without weights; `parameter` reads single ones when needed.

    It has a tokenizer if the recipe has a text.

    Raises SourceError: no such model, or transformers cannot read its configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    name = _where(recipe)
    with refusing(f"model {recipe.model_name}"):
        config = AutoConfig.from_pretrained(name, **SAFE)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, **SAFE).eval()
        tokenizer = None if recipe.text is None else AutoTokenizer.from_pretrained(name, **SAFE)
    return LanguageModel(model, tokenizer, recipe.model_name, _checkpoint(name, model))


def _checkpoint(name: str, model: Any) -> Checkpoint:
    # transformers sets it if the configuration came from the Hub.
    return Checkpoint(name, getattr(model.config, "_commit_hash", None), model)


def _where(recipe: Recipe) -> str:
    source = recipe.model
    if source.path is not None and not (source.path / "config.json").is_file():
        raise SourceError(f"{recipe.file}: no model at {source.path} (it has no config.json)")
    return str(source.path or source.hf)
