"""The output score S_out: whether an amplified feature makes the model predict the tokens it promotes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featgraph.core.arrays import Matrix
from featgraph.core.keys import SaeRange
from featgraph.core.progress import Progress, Silent
from featgraph.errors import SourceError
from featgraph.steering.members import parallel_residual
from featgraph.store import Store
from featgraph.suite.graph_suite import GraphSuite

if TYPE_CHECKING:
    import torch

    from featgraph.suite import LanguageModel, LoadedSae

PROMPT = "From my experience,"
AMPLIFICATION = 10.0
LENS_TOKENS = 20
"""The neutral prompt, the amplification and the number of logit-lens tokens.

Source: Arad, Mueller and Belinkov, arXiv 2505.20063; technion-cs-nlp/saes-are-good-for-steering,
src/output_score.py."""

FINAL_NORMS = ("norm", "ln_f", "final_layer_norm")
"""Names of the norm before the unembedding in the families; it is next to the list of blocks."""

LOGITS = 2**24
"""Most logits in memory at once, 64 MB in float32. Our choice."""

ROWS = 256
"""Most copies of the prompt in one batch. Our choice."""


def output_scores(
    store: Store, features: Sequence[int], progress: Progress | None = None
) -> dict[int, float | None]:
    """Return S_out of some features, by id.

        S_out = (1 - min_rank / |V|) * max_prob

    over the LENS_TOKENS tokens that the feature's decoder row promotes most through the final norm and the
    unembedding: of those, max_prob is the largest probability that one has as the next token after `PROMPT`,
    and min_rank the place, from 0, that this gives it among the |V| tokens of the vocabulary. Meanwhile
    AMPLIFICATION * a * decoder row is added at the prompt's last token, where the feature writes into the
    residual stream; a is the largest activation of any feature of its SAE on that token.

    None where that says nothing: no feature of the SAE is active there, or it reads before the first block.
    From 0 to 1.

    Source: Arad, Mueller and Belinkov, arXiv 2505.20063; the last token and the scale by a as in
    technion-cs-nlp/saes-are-good-for-steering, src/sae_utils.py.

    Raises SourceError: the model or an SAE is not there, or not the one that the graph was made of.
    """
    suite = GraphSuite(store)
    by_sae = {
        sae: [id - sae.first_id for id in features if 0 <= id - sae.first_id < sae.n_features]
        for sae in store.saes
    }
    scores: dict[int, float | None] = {}
    with (progress or Silent()).step("screen", len(features), "features") as advance:
        for sae, idxs in by_sae.items():
            if not idxs:
                continue
            scores_of_sae = _scores(
                suite, sae, idxs, between=sae.site == "att" and not parallel_residual(store)
            )
            scores.update(zip([sae.first_id + idx for idx in idxs], scores_of_sae, strict=True))
            advance(len(idxs))
    return scores


def _scores(suite: GraphSuite, sae: SaeRange, idxs: list[int], *, between: bool) -> list[float | None]:
    if sae.block < 0:
        return [None] * len(idxs)
    import torch

    model, loaded = suite.model, suite.sae(sae)
    ids = _prompt(model)
    with torch.inference_mode():
        amount = AMPLIFICATION * _largest(model, loaded, ids)
        if not amount > 0:
            return [None] * len(idxs)
        rows = loaded.directions[idxs] * loaded.norms[idxs, None]
        lens = lens_tokens(model, rows)
        n = max(1, min(ROWS, LOGITS // model.n_vocabulary))
        probabilities = [
            _after(model, ids, rows[start : start + n] * np.float32(amount), sae.block, between=between)
            for start in range(0, len(rows), n)
        ]
        return [
            score
            for start, part in zip(range(0, len(rows), n), probabilities, strict=True)
            for score in scored(part, lens[start : start + n])
        ]


def scored(probabilities: "torch.Tensor", lens: "torch.Tensor") -> list[float]:
    """Return S_out of each row of next-token probabilities, (n, n_vocabulary), for its lens tokens, (n, k).

    >>> import torch
    >>> [score] = scored(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.tensor([[0, 1]]))
    >>> round(score, 6)
    0.1
    """
    best = probabilities.gather(1, lens).max(dim=1).values
    above = (probabilities > best[:, None]).sum(dim=1)
    values: list[float] = ((1 - above / probabilities.shape[1]) * best).tolist()
    return values


def lens_tokens(model: "LanguageModel", rows: Matrix) -> "torch.Tensor":
    """Return the tokens that decoder rows, (n, d_model), promote most, (n, LENS_TOKENS).

    Raises SourceError: the model's final norm has none of the known names.
    """
    import torch

    held = torch.from_numpy(rows).to(model.device)
    logits = model.model.get_output_embeddings()(_final_norm(model)(held))
    tokens: torch.Tensor = logits.topk(min(LENS_TOKENS, logits.shape[1]), dim=1).indices
    return tokens


def _final_norm(model: "LanguageModel") -> Any:
    parent = model.model.get_submodule(model.blocks.path.rpartition(".")[0])
    for name in FINAL_NORMS:
        if hasattr(parent, name):
            return getattr(parent, name)
    raise SourceError(
        f"cannot find the final norm of a {type(model.model).__name__}, which the output score needs; "
        f"known names: {', '.join(FINAL_NORMS)}"
    )


def _prompt(model: "LanguageModel") -> "torch.Tensor":
    """Return BOS and the tokens of PROMPT, (1, n_tokens)."""
    import torch

    return torch.tensor([model.ids(PROMPT)], device=model.device)


def _largest(model: "LanguageModel", loaded: "LoadedSae", ids: "torch.Tensor") -> float:
    """Return the largest activation of any feature of an SAE on the last token."""
    from featgraph.activations import Batch, TokenRows
    from featgraph.activations.forward import Sites

    assert loaded.reading is not None
    assert loaded.sae is not None
    pieces = TokenRows([ids[0].cpu().numpy().astype(np.int32)], frozenset())
    batch = Batch.of(pieces, np.zeros(1, dtype=np.int64), ids.shape[1])
    read = Sites(model, [loaded.reading])(batch)[loaded.reading]
    return float(loaded.sae.encode(read)[-1].max())


def _after(
    model: "LanguageModel", ids: "torch.Tensor", added: Matrix, block: int, *, between: bool
) -> "torch.Tensor":
    """Return next-token probabilities, (n, n_vocabulary), with each of n vectors added at the last token."""
    import torch

    from featgraph.suite.hooks import Hook, Reading, on_tensor

    addend = torch.from_numpy(added).to(model.device)

    def change(hidden: "torch.Tensor") -> "torch.Tensor":
        changed = hidden.clone()
        changed[:, -1] += addend.to(hidden.dtype)
        return changed

    place = Reading(f"{model.blocks.path}.{block}", "output")
    if between:
        place = model.blocks.reading(model.model, Hook("attn_out", block), "the output score")
        addend = addend / model.blocks.residual_multiplier
    handle = on_tensor(model.model.get_submodule(place.module), place.end, change)
    try:
        repeated = ids.expand(len(added), -1)
        logits = model.model(repeated, use_cache=False, logits_to_keep=1).logits[:, -1]
    finally:
        handle.remove()
    probabilities: torch.Tensor = logits.float().softmax(dim=-1)
    return probabilities
