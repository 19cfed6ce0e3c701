"""Sites, feature keys, edge kinds and ranges of ids, and the dimension names that docstrings use.

`d_model` is the width of the residual stream, `n_features` the features of one SAE, `n_tokens` the tokens
that count in the statistics, `k` the candidates kept per feature. Nothing here imports numpy or torch.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from featgraph.errors import UsageError, nearest

Site = Literal["att", "mlp", "res"]
SITES: tuple[Site, ...] = ("att", "mlp", "res")
"""The sites of a block in the order in which the block writes them; also the order of saes in a layer."""

EdgeKind = Literal["res_res", "mlp_res", "att_res"]
EDGE_KINDS: tuple[EdgeKind, ...] = ("res_res", "mlp_res", "att_res")

Score = Literal["product", "sum", "min"]
SCORES: tuple[Score, ...] = get_args(Score)
"""Criteria of a best path, computed from a number on its edges."""

MODULE_THRESHOLD = 0.25
"""Smallest cosine at which a module feature counts as writer of a residual one.

Source: arXiv 2502.03032 v3, Table 5 (module threshold of the illustrative flow graph)."""

SAME_FEATURE = 0.5
"""Published threshold for "the same feature" in the next layer. Source: arXiv 2502.03032 v3, section 3.3."""

_KEY = re.compile(r"([0-9]{1,9})/([a-z]+)/([0-9]{1,9})")


class FeatureKey(NamedTuple):
    """The name of one feature: layer (0 = first block), site, index within its SAE.

    >>> FeatureKey.parse("12/res/3456")
    FeatureKey(layer=12, site='res', idx=3456)
    >>> str(FeatureKey(12, "res", 3456))
    '12/res/3456'
    """

    layer: int
    site: Site
    idx: int

    def __str__(self) -> str:
        return f"{self.layer}/{self.site}/{self.idx}"

    @classmethod
    def parse(cls, text: str) -> "FeatureKey":
        """Read `layer/site/index`; raise UsageError with the expected form otherwise."""
        match = _KEY.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"{text!r} is not a feature key; write layer/site/index, such as 12/res/3456")
        layer, site, idx = match.groups()
        for known in SITES:
            if site == known:
                return cls(int(layer), known, int(idx))
        hint = nearest(site, SITES)
        raise UsageError(
            f"no site {site!r} in feature key {text!r}{hint or ';'} sites are {', '.join(SITES)}"
        )


@dataclass(frozen=True)
class SaeRange:
    """The features of one SAE as a contiguous range of ids; SAEs are ordered by block, site (`SITES`) and
    layer."""

    number: int
    layer: int
    site: Site
    first_id: int
    n_features: int
    shift: int = 0
    """Number of the SAE's block minus its layer number, see `block_of`."""

    @property
    def block(self) -> int:
        """The block after which the SAE reads (res) or in which it does (mlp, att); -1 is the embedding."""
        return self.layer + self.shift

    @property
    def name(self) -> str:
        """`layer.site`, the stem of file names that belong to this SAE."""
        return f"{self.layer}.{self.site}"

    def key(self, idx: int) -> FeatureKey:
        """Return the key of the feature at `idx` within this SAE."""
        return FeatureKey(self.layer, self.site, idx)


def block_of(layer: int, hook_name: str) -> int:
    """Return the block after which an SAE reads (res) or in which it does (mlp, att).

    Layers keep their published numbers, which may be off by one or number something else; the hook gives the
    position in the model. The input of block L is the output of block L - 1; of block 0, the embedding, -1.

    >>> block_of(5, "blocks.5.hook_resid_pre"), block_of(12, "blocks.11.hook_resid_post")
    (4, 11)
    >>> block_of(3, "model.layers.3.self_attn.o_proj.input"), block_of(5, "model.layers.5.input")
    (3, 4)
    """
    named = re.search(r"\.(\d+)(\.hook_resid_pre|\.input)?(\.|$)", hook_name)
    if named is None:
        return layer
    return int(named[1]) - (named[2] is not None)


def edge_plan(saes: list[SaeRange], kinds: tuple[EdgeKind, ...]) -> list[tuple[SaeRange, SaeRange, EdgeKind]]:
    """Return the (upstream, downstream, kind) pairs of SAEs that get edges, in order of the downstream sae.

    saes: in their order. `res_res` joins a residual SAE to the next one; `mlp_res` and `att_res` join module
    SAEs to the residual SAE after their block.
    """
    residuals = [sae for sae in saes if sae.site == "res"]
    pairs: list[tuple[SaeRange, SaeRange, EdgeKind]] = []
    for place, downstream in enumerate(residuals):
        if "res_res" in kinds and place > 0:
            pairs.append((residuals[place - 1], downstream, "res_res"))
        for writer in saes:
            if writer.block != downstream.block or writer.site == "res":
                continue
            kind: EdgeKind = "mlp_res" if writer.site == "mlp" else "att_res"
            if kind in kinds:
                pairs.append((writer, downstream, kind))
    return pairs
