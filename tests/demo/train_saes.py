"""Train one BatchTopK SAE per layer and site of the demo model, all from one forward pass of the model.

    python tests/demo/train_saes.py --model ingest/demo/model --text train.txt sampled.txt \\
        --out ingest/demo/saes

Uses sae_lens's MultiSAETrainingRunner; what it saves is a JumpReLU SAE per folder, in sae_lens's layout, with
16-bit weights here. The one piece of our own is the selection inside BatchTopK: the k-th largest value comes
from numpy's partition instead of a `torch.topk` of the whole batch, which is the same selection.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sae_lens import BatchTopKTrainingSAEConfig, LoggingConfig
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunner, MultiSAETrainingRunnerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE
from safetensors.torch import load_file, save_file
from train_model import stories
from transformers import AutoConfig

MODULES = {"res": "model.layers.{}", "mlp": "model.layers.{}.mlp", "att": "model.layers.{}.self_attn"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=800_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--k", type=float, nargs=3, default=[18, 20, 18], metavar=("RES", "MLP", "ATT"))
    parser.add_argument("--only", nargs="*", default=[], metavar="LAYER.SITE", help="train these alone")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=1024, help="tokens per step")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class PartitionBatchTopK(torch.nn.Module):
    """Keep the k * n_tokens largest activations of a batch, as sae_lens's BatchTopK does."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k
        self.smallest = 0.0
        """The smallest activation kept last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = int(self.k * x.shape[:-1].numel())
        flat = x.detach().flatten().numpy()
        threshold = float(np.partition(flat, flat.size - kept)[flat.size - kept])
        self.smallest = max(threshold, torch.finfo(x.dtype).tiny)
        return torch.where(x >= self.smallest, x, 0.0)


class DemoSae(BatchTopKTrainingSAE):  # type: ignore[misc]
    """sae_lens's SAE with that selection, and its threshold update without a search for the minimum."""

    def __init__(self, config: BatchTopKTrainingSAEConfig) -> None:
        super().__init__(config)
        self.activation_fn = PartitionBatchTopK(config.k)

    @torch.no_grad()
    def update_topk_threshold(self, acts_topk: torch.Tensor) -> None:
        rate = self.cfg.topk_threshold_lr
        self.topk_threshold *= 1 - rate
        self.topk_threshold += rate * self.activation_fn.smallest


def build_sae(width: int, features: int, k: float) -> DemoSae:
    config = BatchTopKTrainingSAEConfig(
        d_in=width,
        d_sae=features,
        k=k,
        decoder_init_norm=0.1,
        normalize_activations="expected_average_only_in",
        aux_loss_coefficient=1 / 4,
        topk_threshold_lr=0.02,
    )
    return DemoSae(config)


@torch.no_grad()
def start_from_data(runner: Any, saes: dict[str, DemoSae], hooks: dict[str, str]) -> None:
    """Set each decoder bias to the mean activation and each feature to the direction of one token from there.

    From random directions, and a bias that has to find the mean first, many features of the attention sites
    never fire. Activations are scaled as the trainer will scale them.
    """
    loader = runner.activations_store.get_multi_hook_data_loader()
    batches = [next(loader) for _ in range(8)]
    for name, sae in saes.items():
        found = torch.cat([batch[hooks[name]] for batch in batches]).float()
        scaled = found * sae.cfg.d_in**0.5 / found.norm(dim=-1).mean()
        sae.b_dec.copy_(scaled.mean(0))
        chosen = scaled[torch.randperm(len(scaled))[: sae.cfg.d_sae]] - sae.b_dec
        chosen += 0.05 * chosen.norm(dim=-1, keepdim=True) * torch.randn_like(chosen)
        unit = chosen / chosen.norm(dim=-1, keepdim=True)
        sae.W_dec.copy_(unit * sae.cfg.decoder_init_norm)
        sae.W_enc.copy_(unit.T * sae.cfg.decoder_init_norm)


def train(arguments: argparse.Namespace) -> None:
    model = AutoConfig.from_pretrained(arguments.model)
    places = [(layer, site) for layer in range(model.num_hidden_layers) for site in MODULES]
    if arguments.only:
        places = [(layer, site) for layer, site in places if f"{layer}.{site}" in arguments.only]
    k = dict(zip(MODULES, arguments.k, strict=True))
    saes = {
        f"{layer}.{site}": build_sae(model.hidden_size, arguments.features, k[site]) for layer, site in places
    }
    hooks = {f"{layer}.{site}": MODULES[site].format(layer) for layer, site in places}
    steps = arguments.tokens // arguments.batch
    config = MultiSAETrainingRunnerConfig(
        saes={name: sae.cfg for name, sae in saes.items()},
        hook_names=hooks,
        model_name=str(arguments.model),
        model_class_name="AutoModelForCausalLM",
        context_size=256,
        n_batches_in_buffer=16,
        store_batch_size_prompts=16,
        training_tokens=arguments.tokens,
        train_batch_size_tokens=arguments.batch,
        lr=arguments.rate,
        lr_warm_up_steps=20,
        lr_decay_steps=steps // 3,
        lr_end=arguments.rate / 50,
        dead_feature_window=100,
        n_batches_for_norm_estimate=16,
        exclude_special_tokens=True,
        seed=arguments.seed,
        n_checkpoints=0,
        checkpoint_path=None,
        output_path=str(arguments.out),
        logger=LoggingConfig(log_to_wandb=False),
    )
    texts = [story for path in arguments.text for story in stories(path)]
    dataset = Dataset.from_dict({"text": texts}).shuffle(seed=arguments.seed)
    runner = MultiSAETrainingRunner(config, override_dataset=dataset, override_saes=saes)
    start_from_data(runner, saes, hooks)
    runner.run()
    for name in saes:
        shrink(arguments.out / name)
    (arguments.out / "runner_cfg.json").unlink()


def shrink(folder: Path) -> None:
    """Store the weights of one SAE in 16 bits, and drop what only training needs."""
    weights = folder / "sae_weights.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
    (folder / "sparsity.safetensors").unlink()
    config: dict[str, Any] = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    train(arguments)


if __name__ == "__main__":
    main()
