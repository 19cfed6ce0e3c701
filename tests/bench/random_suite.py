"""A random model and random SAEs of pythia-70m's shape, made in memory, with a text of random tokens.

Nothing is learned, so codes of different features meet by chance alone; what is kept of real suites is the
shape, the number of features that fire on a token, and how unequal their densities are.
"""

import numpy as np
import scipy.special
import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from featgraph.activations import TokenRows
from featgraph.activations.forward import Sites
from featgraph.core.keys import SITES, Site
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.hooks import find_hook
from featgraph.suite.residual import Writer

LAYERS, D_MODEL, N_FEATURES, CONTEXT, VOCABULARY = 6, 512, 32_768, 128, 50_304
"""Source: EleutherAI/pythia-70m-deduped and the SAEs of arXiv 2403.19647."""

L0 = 50
"""Features that fire on a token, on average."""

SPREAD = 1.6
"""Standard deviation of the logarithm of densities: the busiest feature fires on about half of the tokens."""

SHARPEN = 5.0
"""Factor on the weights of queries, keys and values: unscaled, every head would attend to all tokens alike,
and the first tokens, which average over few, would light half of an attention SAE."""

HOOKS: dict[Site, str] = {"att": "hook_attn_out", "mlp": "hook_mlp_out", "res": "hook_resid_post"}


def random_model() -> LanguageModel:
    """Return a model of pythia-70m's shape with random weights."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=D_MODEL,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        intermediate_size=2048,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.gpt_neox.layers:
            layer.attention.query_key_value.weight.mul_(SHARPEN)
    return LanguageModel(model, None, "random")


def random_text(n_tokens: int, first: int) -> TokenRows:
    """Return pieces of random tokens, as unequally frequent as words. Source: Zipf's law, exponent 1."""
    rng = np.random.default_rng([0, first])
    frequency = 1 / np.arange(1, VOCABULARY)
    tokens = (
        rng.choice(VOCABULARY - 1, size=(n_tokens // CONTEXT, CONTEXT), p=frequency / frequency.sum()) + 1
    )
    return TokenRows(list(tokens.astype(np.int32)), frozenset({0}), first)


def random_saes(model: LanguageModel) -> list[LoadedSae]:
    """Return a JumpReLU SAE at every site, its thresholds set for L0 features per token."""
    places = [(layer, site) for layer in range(LAYERS) for site in SITES]
    saes = [_placed(model, layer, site) for layer, site in places]
    batch = next(random_text(2048, 1_000_000).batches())
    activations = Sites(model, [sae.reading for sae in saes if sae.reading])(batch)
    for number, loaded in enumerate(saes):
        assert loaded.sae is not None
        assert loaded.reading is not None
        _set_thresholds(loaded.sae, activations[loaded.reading], np.random.default_rng(number))
    return saes


def _placed(model: LanguageModel, layer: int, site: Site) -> LoadedSae:
    hook_name = f"blocks.{layer}.{HOOKS[site]}"
    hook = find_hook(hook_name, model.blocks)
    assert hook is not None
    metadata = SAEMetadata(hook_name=hook_name, model_name="random", sae_lens_version="6.0.0")
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=D_MODEL, d_sae=N_FEATURES, metadata=metadata)).eval()
    with torch.no_grad():
        for parameter in (sae.W_enc, sae.W_dec):
            parameter.normal_(std=D_MODEL**-0.5)
    nothing = np.zeros((0, D_MODEL), dtype=np.float32)
    return LoadedSae(
        layer=layer,
        site=site,
        block=layer,
        sae=sae,
        reading=model.blocks.reading(model.model, hook, hook_name),
        writer=Writer(),
        release="random",
        sae_id=hook_name,
        digest="",
        hook_name=hook_name,
        architecture="jumprelu",
        d_in=D_MODEL,
        neuronpedia_id=None,
        directions=nothing,
        norms=nothing[:, 0],
        encoder=None,
        encoder_alignment=None,
        no_virtual_weight=None,
    )


def _set_thresholds(sae: JumpReLUSAE, activations: torch.Tensor, rng: np.random.Generator) -> None:
    """Put thresholds where a normal distribution leaves random densities, then move all until L0 is met."""
    density = np.exp(SPREAD * rng.standard_normal(N_FEATURES))
    density = np.minimum(density * L0 / density.sum(), 0.5)
    with torch.no_grad():
        hidden = activations @ sae.W_enc + sae.b_enc
        hidden = (hidden - hidden.mean(0)) / hidden.std(0)
        above = torch.from_numpy(scipy.special.ndtri(1 - density)).float()
        low, high = -2.0, 8.0
        for _ in range(12):
            middle = (low + high) / 2
            too_many = float((hidden > above + middle).sum()) > L0 * len(hidden)
            low, high = (middle, high) if too_many else (low, middle)
        hidden = activations @ sae.W_enc + sae.b_enc
        sae.threshold.copy_((hidden.mean(0) + (above + high) * hidden.std(0)).clamp(min=1e-6))
