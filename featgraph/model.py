"""The nouns: sites, feature keys, edge kinds and slabs, and the dimension names docstrings use.

`d_model` is the width of the residual stream, `n_features` the features of one SAE, `n_tokens` the tokens
that count in the statistics, `k` the candidates kept per feature. Nothing here imports numpy or torch.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from featgraph.errors import UsageError, nearest

Site = Literal["att", "mlp", "res"]
SITES: tuple[Site, ...] = ("att", "mlp", "res")
"""The sites of a block in the order in which the block writes them; also the order of slabs in a layer."""

EdgeKind = Literal["res_res", "mlp_res", "att_res"]
EDGE_KINDS: tuple[EdgeKind, ...] = ("res_res", "mlp_res", "att_res")

Score = Literal["product", "sum", "min"]
SCORES: tuple[Score, ...] = get_args(Score)
"""What a path may be the best by, over a number that its edges carry."""

MODULE_THRESHOLD = 0.25
"""Smallest cosine at which a module feature counts as writer of a residual one.

Source: arXiv 2502.03032 v3, Table 5 (module threshold of the illustrative flow graph)."""

SAME_FEATURE = 0.5
"""Published line for "the same feature" one layer on. Source: arXiv 2502.03032 v3, section 3.3."""

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
        found = _KEY.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"{text!r} is not a feature key; write layer/site/index, such as 12/res/3456")
        layer, site, idx = found.groups()
        for known in SITES:
            if site == known:
                return cls(int(layer), known, int(idx))
        hint = nearest(site, SITES)
        raise UsageError(
            f"no site {site!r} in feature key {text!r}{hint or ';'} sites are {', '.join(SITES)}"
        )


@dataclass(frozen=True)
class Slab:
    """The features of one SAE as one run of ids; slabs are in the order in which the model computes them."""

    slab: int
    layer: int
    site: Site
    first_id: int
    n_features: int

    @property
    def name(self) -> str:
        """`layer.site`, the stem of file names that belong to this SAE."""
        return f"{self.layer}.{self.site}"

    def key(self, idx: int) -> FeatureKey:
        """Return the key of the feature at `idx` within this SAE."""
        return FeatureKey(self.layer, self.site, idx)


def edge_plan(slabs: list[Slab], kinds: tuple[EdgeKind, ...]) -> list[tuple[Slab, Slab, EdgeKind]]:
    """Return the (upstream, downstream, kind) pairs of SAEs that get edges, in order of the downstream slab.

    `res_res` joins a layer to the next one present, `mlp_res` and `att_res` join writers to the residual
    of the same layer.
    """
    residuals = [slab for slab in slabs if slab.site == "res"]
    pairs: list[tuple[Slab, Slab, EdgeKind]] = []
    for place, downstream in enumerate(residuals):
        if "res_res" in kinds and place > 0:
            pairs.append((residuals[place - 1], downstream, "res_res"))
        for writer in slabs:
            if writer.layer != downstream.layer or writer.site == "res":
                continue
            kind: EdgeKind = "mlp_res" if writer.site == "mlp" else "att_res"
            if kind in kinds:
                pairs.append((writer, downstream, kind))
    return pairs
