"""Maps decoder and encoder rows of an SAE into the residual stream.

Directions can be compared in one basis only, that of the residual stream. The direction found here is exact:
adding the feature at its own hook moves the residual along it. Its length is not where a norm stands between,
which divides by what else passes through it at that token.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from featgraph.core.arrays import Matrix
from featgraph.suite.language_model import LanguageModel


@dataclass(frozen=True)
class Writer:
    """The linear path from the tensor that an SAE reconstructs to the residual stream."""

    modules: tuple[str, ...] = ()
    """Linear maps and norms on the path, in order, without their biases."""
    centred: bool = False
    """Whether the SAE's model has centred writing weights, see `centred_rows`."""
    multiplier: float = 1.0
    """Factor of the tensor when the block adds it, see `Blocks.residual_multiplier`."""

    def rows(self, rows: Matrix, model: LanguageModel | None) -> Matrix:
        """Map rows, (n, width of the tensor), into the residual basis, (n, d_model).

        The length of a row that passes a norm assumes that the norm's input has a root mean square of 1.
        """
        for path in self.modules:
            assert model is not None, "a writer with modules is made from a model"
            rows = _passed(rows, path, model)
        if self.multiplier != 1:
            rows = rows * np.float32(self.multiplier)
        return centred_rows(rows) if self.centred else rows

    def unknown_length(self, model: LanguageModel | None) -> str | None:
        """Return the reason why the length of a mapped row is unknown; None if it is known.

        A norm on the path divides by the length of its whole input at a token.
        """
        for path in self.modules:
            assert model is not None, "a writer with modules is made from a model"
            if any(parameter.ndim == 1 for parameter in model.model.get_submodule(path).parameters()):
                return f"{path}, a norm, scales what it writes by another factor at each token"
        return None


def centred_rows(rows: Matrix) -> Matrix:
    """Return rows without their mean over d_model.

    Some suites were trained on models whose weights write vectors of mean 0. LayerNorm takes the mean away
    from whatever reads the residual stream, so only the rest of a decoder row has an effect.

    Source: TransformerLens, `center_writing_weights`; needed for sae_lens's gpt2-small-res-jb.
    """
    centred: Matrix = rows - rows.mean(axis=1, keepdims=True)
    return centred


def unit_rows(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Return rows, (n, d_model), scaled to unit length, and their lengths, (n,), both float32.

    Lengths are taken in float64, since squares of small entries vanish in float32. A row whose length is not
    a normal float32 number becomes a zero row of length 0, because values computed from it would be wrong.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    norms[norms < np.finfo(np.float32).tiny] = 0.0
    directions = np.divide(rows, norms[:, None], out=np.zeros(rows.shape), where=norms[:, None] > 0)
    return directions.astype(np.float32), norms.astype(np.float32)


def decoder_rows(sae: Any) -> Matrix:
    """Return the change of an SAE's reconstruction per unit of each feature's activation, (n_features,
    d_out).

    SAEs that scale activations by the decoder's norms divide by them in decoding. Those that
    normalise what they read (layer_norm, constant_norm_rescale) undo it with a factor of each token, which
    is left out.
    """
    rows: Matrix = sae.W_dec.detach().cpu().numpy().astype(np.float32)
    return rows / _norms(rows) if _rescaled(sae) else rows


def encoder_rows(sae: Any, *, centred: bool) -> Matrix | None:
    """Return the rows by which pre-activations depend on the residual stream, (n_features, d_model).

    None if the SAE has no encoder. Biases and the factor of each token that
    normalising SAEs apply are left out.
    """
    if sae.cfg.architecture() == "matching_pursuit":
        return None
    rows: Matrix = np.ascontiguousarray(sae.W_enc.detach().cpu().numpy().T, dtype=np.float32)
    if _rescaled(sae):
        rows = rows * unit_rows(sae.W_dec.detach().cpu().numpy())[1][:, None]
    if sae.cfg.architecture() == "gated":
        rows = rows * np.exp(sae.r_mag.detach().cpu().numpy().astype(np.float32))[:, None]
    return centred_rows(rows) if centred or sae.cfg.normalize_activations == "layer_norm" else rows


_SCALED_BY = {
    "layer_norm": "standard deviation",
    "constant_norm_rescale": "length",
}
"""Per-token normalisation of sae_lens -> the divisor of the input before encoding."""


def unknown_reading(sae: Any) -> str | None:
    """Return the reason why pre-activations per unit of the residual stream are unknown; None if known.

    Neither the mean that LayerNorm removes nor a subtracted decoder bias matters: `encoder_rows` accounts for
    the mean, and the bias is the same with and without an upstream feature.
    """
    if sae is None:
        return "it is a file of decoders, which has no encoder"
    if sae.cfg.architecture() == "matching_pursuit":
        return "matching pursuit encodes without an encoder"
    divisor = _SCALED_BY.get(sae.cfg.normalize_activations)
    return divisor and f"it divides each activation by its own {divisor} before it encodes"


def encoder_alignment(sae: Any) -> Matrix | None:
    """Return the cosine of each feature's encoder and decoder rows, (n_features,).

    None if the encoder reads another space than the decoder writes (transcoders), or there is no encoder. Low
    ones are dead or unstable features.

    Source: arXiv 2605.18629, alignment of encoder and decoder.
    """
    architecture = sae.cfg.architecture()
    if "transcoder" in architecture or architecture == "matching_pursuit":
        return None
    encoder = sae.W_enc.detach().cpu().numpy().T.astype(np.float32)
    decoder = sae.W_dec.detach().cpu().numpy().astype(np.float32)
    products = np.einsum("ij,ij->i", encoder, decoder)
    alignment: Matrix = products / (_norms(encoder) * _norms(decoder))[:, 0]
    return alignment


def _passed(rows: Matrix, path: str, model: LanguageModel) -> Matrix:
    """Return rows after a linear map or the gain of a norm."""
    import torch
    from torch.func import functional_call

    module = model.model.get_submodule(path)
    weights = {name: model.parameter(f"{path}.{name}") for name, _ in module.named_parameters()}
    if "bias" in weights:
        weights["bias"] = torch.zeros_like(weights["bias"])
    with torch.inference_mode():
        if weights["weight"].ndim == 2:
            passed: Matrix = functional_call(module, weights, (torch.from_numpy(rows),)).numpy()
            return passed
        # The norm of a vector of ones is its gain, whether the family stores the gain or the gain minus 1.
        gain: Matrix = functional_call(module, weights, (torch.ones_like(weights["weight"]),)).numpy()
    scaled: Matrix = rows * gain
    return scaled


def _rescaled(sae: Any) -> bool:
    return bool(getattr(sae.cfg, "rescale_acts_by_decoder_norm", False))


def _norms(rows: Matrix) -> Matrix:
    """Return the divisors that scale rows to unit length, (n, 1); infinite for zero rows, which stay zero."""
    norms = unit_rows(rows)[1][:, None]
    lengths: Matrix = np.where(norms > 0, norms, np.inf).astype(np.float32)
    return lengths
