"""Steering by what SAEs find: features' activations are changed, token by token, where the SAE reads.

The tensor moves by what the SAE decodes from the changed codes less what it decodes from the found ones, so
its error stays. An SAE finds what it reads as earlier ones have left it; all its own features change at once.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from featgraph.core.keys import FeatureKey
from featgraph.errors import SourceError
from featgraph.steering.positions import Passes
from featgraph.steering.vector import SteeredFeature, SteeringVector

if TYPE_CHECKING:
    import torch

    from featgraph.suite import LoadedSae
    from featgraph.suite.hooks import Change, End, Reading


def gates(vector: SteeringVector, model: Any, passes: Passes) -> Iterator[tuple[str, "End", "Change"]]:
    """Yield, for each SAE, the module and its end at which it reads, and what changes there.

    Raises SourceError: the vector has no SAEs to look with, or they cannot be loaded.
    """
    from featgraph.suite import LanguageModel

    if vector.sources is None:
        where = "positions firing" if vector.settings.mode == "add" else f"mode {vector.settings.mode}"
        raise SourceError(
            f"{where} looks at activations, so it needs the SAEs of a graph, and this vector came without; "
            "make it from a graph, or read its plan where the graph is"
        )
    language_model = LanguageModel(model, None, vector.model.name)
    by_sae: dict[int, list[SteeredFeature]] = defaultdict(list)
    for member in vector.members:
        by_sae[member.sae_number].append(member)
    for sae, members in sorted(by_sae.items()):
        loaded = vector.sources.sae(vector.sources.saes[sae], language_model, keep=True)
        assert loaded.reading is not None, "an SAE that is loaded with a model has its place in it"
        gate = Gate(loaded, loaded.reading, model, members, vector, passes)
        if loaded.reading.target is None:
            yield loaded.reading.module, loaded.reading.end, gate.through
        else:
            yield loaded.reading.module, loaded.reading.end, gate.look
            yield loaded.reading.target.module, loaded.reading.target.end, gate.move


class Gate:
    """What one SAE's features add to the tensor that it rebuilds."""

    def __init__(
        self,
        loaded: "LoadedSae",
        reading: "Reading",
        model: Any,
        members: Sequence[SteeredFeature],
        vector: SteeringVector,
        passes: Passes,
    ) -> None:
        self.loaded, self.reading, self.model = loaded, reading, model
        self.members = [(FeatureKey.parse(member.key).idx, member) for member in members]
        self.settings, self.passes = vector.settings, passes
        self._delta: torch.Tensor | None = None

    def through(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that the SAE reads and rebuilds, steered."""
        return hidden + self._found(hidden).to(hidden)

    def look(self, hidden: "torch.Tensor") -> None:
        """Read what a transcoder reads, and change nothing yet."""
        self._delta = self._found(hidden)

    def move(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that a transcoder rebuilds, steered by what was read before."""
        assert self._delta is not None, "a transcoder reads before it writes"
        return hidden + self._delta.to(hidden)

    def _found(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return what is added, (..., n_tokens, width of the tensor that the SAE rebuilds), float32."""
        import torch

        from featgraph.activations.encoding import group_size
        from featgraph.activations.forward import formed

        assert self.loaded.sae is not None, "an SAE that encodes"
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            read = hidden.to(self.loaded.sae.W_dec.device, torch.float32).flatten(0, -2)
            read = formed(read, self.reading, self.model)
            n = group_size(self.loaded.sae.cfg.d_sae)
            groups = zip(read.split(n), self._steered(hidden).split(n), strict=True)
            delta = torch.cat([self._moved(*group) for group in groups])
            if self.reading.rebuilt.form == "centred":
                delta = delta - delta.mean(dim=-1, keepdim=True)
        found: torch.Tensor = delta.reshape(*hidden.shape[:-1], delta.shape[-1])
        return found

    def _steered(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return which tokens are, flat."""
        import torch

        chosen = self.passes.chosen(hidden)
        if chosen is None:
            chosen = torch.ones(hidden.shape[-2], 1, dtype=torch.bool)
        return chosen[:, 0].expand(hidden.shape[:-1]).flatten()

    def _moved(self, read: "torch.Tensor", steered: "torch.Tensor") -> "torch.Tensor":
        """Return how much further what the SAE rebuilds is with the codes changed, (n, width).

        Both are decoded at once, because some SAEs remember the scale of what they encoded for one decoding.
        """
        import torch

        assert self.loaded.sae is not None, "an SAE that encodes"
        codes = self.loaded.sae.encode(read)
        change = self._changed(codes, steered.to(codes.device)) - codes
        further, nothing = self.loaded.decode(torch.stack([change, torch.zeros_like(change)]), read)
        moved: torch.Tensor = further - nothing
        return moved

    def _changed(self, codes: "torch.Tensor", steered: "torch.Tensor") -> "torch.Tensor":
        """Return codes, (n, n_features), with the members' activations as the mode wants them."""
        import torch

        changed = codes.clone()
        for idx, member in self.members:
            here = steered & (codes[:, idx] != 0) if self.settings.positions == "firing" else steered
            now = changed[:, idx]
            changed[:, idx] = torch.where(here, self._wanted(member, now), now)
        return changed

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
