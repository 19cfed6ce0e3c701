"""Steering by SAE codes: features' activations are changed, token by token, where their SAE reads.

An SAE reads the tensor as earlier changes have left it; all its own features change at once.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from featgraph.core.keys import FeatureKey
from featgraph.errors import SourceError
from featgraph.steering.positions import Passes
from featgraph.steering.settings import Settings, SteeredFeature

if TYPE_CHECKING:
    import torch

    from featgraph.suite import LanguageModel
    from featgraph.suite.graph_suite import GraphSuite
    from featgraph.suite.hooks import Change, End


def code_changes(
    members: Sequence[SteeredFeature],
    settings: Settings,
    suite: "GraphSuite | None",
    model: "LanguageModel",
    passes: Passes,
) -> Iterator[tuple[str, "End", "Change"]]:
    """Yield, for each SAE, the module and its end at which it reads, and what changes there.

    Raises SourceError: there are no SAEs to encode with, or they cannot be loaded.
    """
    from featgraph.suite.intervention import Intervention

    if suite is None:
        setting = "positions firing" if settings.mode == "add" else f"mode {settings.mode}"
        raise SourceError(
            f"{setting} looks at activations, so it needs the SAEs of a graph, and this vector came without; "
            "make it from a graph, or read its plan where the graph is"
        )
    by_sae: dict[int, list[SteeredFeature]] = defaultdict(list)
    for member in members:
        by_sae[member.sae_number].append(member)
    for sae, features in sorted(by_sae.items()):
        loaded = suite.sae(suite.saes[sae], model, keep=True)
        change = _SteeredCodes(features, settings)
        yield from Intervention(loaded, model.model, change, passes.index).hooks()


class _SteeredCodes:
    """The change of one SAE's codes, by the mode and the positions of a vector."""

    def __init__(self, members: Sequence[SteeredFeature], settings: Settings) -> None:
        self.settings = settings
        self.members = [(FeatureKey.parse(member.key).idx, member) for member in members]

    def __call__(self, codes: "torch.Tensor", _tokens: slice) -> "torch.Tensor":
        """Return what is added to codes, (n, n_features)."""
        import torch

        changed = codes.clone()
        for idx, member in self.members:
            now = changed[:, idx]
            wanted = self._wanted(member, now)
            firing = self.settings.positions == "firing"
            changed[:, idx] = torch.where(codes[:, idx] != 0, wanted, now) if firing else wanted
        return changed - codes

    def _wanted(self, member: SteeredFeature, now: "torch.Tensor") -> "torch.Tensor":
        import torch

        mode, target = self.settings.mode, member.target
        if mode == "ablate":
            return torch.zeros_like(now)
        if mode == "rescale":
            return now * member.coefficient
        assert target is not None, "the other modes have one"
        if mode == "clamp":
            return torch.full_like(now, target)
        return now.clamp(min=target) if mode == "min-clamp" else now + target
