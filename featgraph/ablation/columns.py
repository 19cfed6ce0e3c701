"""Some activations of an SAE on each of many tensors, reading only the encoder columns that they need."""

from typing import TYPE_CHECKING, Any

from featgraph.suite import LoadedSae
from featgraph.suite.sae import tokens_at_once

if TYPE_CHECKING:
    import torch

PER_FEATURE = ("standard", "jumprelu", "gated")
"""Architectures in which a feature's activation depends on its own pre-activation alone.

Source: `encode` of each in sae_lens 6."""


class ColumnEncoder:
    """Encodes groups of tensors, each group with the columns that are asked for."""

    def __init__(self, loaded: LoadedSae) -> None:
        assert loaded.sae is not None, "an SAE that encodes"
        self.sae: Any = loaded.sae
        self.per_feature = self.sae.cfg.architecture() in PER_FEATURE
        if self.per_feature:
            self._rows = self.sae.W_enc.detach().T.contiguous()

    def __call__(
        self, read: "torch.Tensor", group: "torch.Tensor", columns: "torch.Tensor"
    ) -> "torch.Tensor":
        """Return activations, (n, k).

        read: what the SAE encodes, (n, d_in), float32. group: group of each row, (n,), ascending. columns:
        features to read in each group, (n_groups, k).
        """
        if self.per_feature:
            return self._activations(self._pre_activations(read, group, columns), columns[group])
        import torch

        parts = zip(
            *(tensor.split(tokens_at_once(self.sae.cfg.d_sae)) for tensor in (read, columns[group])),
            strict=True,
        )
        return torch.cat([self.sae.encode(part).gather(1, wanted) for part, wanted in parts])

    def _pre_activations(
        self, read: "torch.Tensor", group: "torch.Tensor", columns: "torch.Tensor"
    ) -> "torch.Tensor":
        """Return x W_enc of the columns of each group, (n, k): one small product per group."""
        import torch

        read = self.sae.process_sae_in(read)
        counts = torch.bincount(group, minlength=len(columns))
        slot = torch.arange(len(group), device=group.device) - (counts.cumsum(0) - counts)[group]
        padded = read.new_zeros(len(columns), int(counts.max()), read.shape[1])
        padded[group, slot] = read
        products = torch.bmm(padded, self._rows[columns].transpose(1, 2))
        return products[group, slot]

    def _activations(self, products: "torch.Tensor", columns: "torch.Tensor") -> "torch.Tensor":
        """Return the activations of products with encoder columns, both (n, k)."""
        sae = self.sae
        if sae.cfg.architecture() == "gated":
            magnitude = sae.activation_fn(products * sae.r_mag.exp()[columns] + sae.b_mag[columns])
            gated: torch.Tensor = magnitude * (products + sae.b_gate[columns] > 0)
            return gated
        before = products + sae.b_enc[columns]
        active: torch.Tensor = sae.activation_fn(before)
        return active * (before > sae.threshold[columns]) if hasattr(sae, "threshold") else active
