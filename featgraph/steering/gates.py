"""Steering by what SAEs find: features' activations are changed, token by token, where the SAE reads.

The tensor moves by what the SAE decodes from the changed codes less what it decodes from the found ones, so
its error stays. Every feature of one SAE is changed at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from featgraph.errors import SourceError
from featgraph.steering.positions import Passes
from featgraph.steering.vector import SteeredFeature, SteeringVector

if TYPE_CHECKING:
    import torch

    from featgraph.suite import LoadedSae
    from featgraph.suite.hooks import End

Change = Callable[["torch.Tensor"], "torch.Tensor"]


def gates(vector: SteeringVector, model: Any, passes: Passes) -> Iterator[tuple[str, "End", Change]]:
    """Yield, for each SAE, the module and its end at which it reads, and what changes there.

    Raises SourceError: the vector has no SAEs to look with, or they cannot be loaded.
    """
    from featgraph.suite import LanguageModel

    if vector.sources is None:
        raise SourceError(
            f"mode {vector.settings.mode} looks at activations, so it needs the SAEs of a graph, and this "
            "vector came without; make it from a graph, or read its plan where the graph is"
        )
    language_model = LanguageModel(model, None, vector.model.name)
    by_slab: dict[int, list[SteeredFeature]] = defaultdict(list)
    for member in vector.members:
        by_slab[member.slab].append(member)
    for slab, members in sorted(by_slab.items()):
        loaded = vector.sources.sae(vector.sources.slabs[slab], language_model, keep=True)
        gate = Gate(loaded, language_model, members, vector, passes)
        assert loaded.reading is not None
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
        model: Any,
        members: Sequence[SteeredFeature],
        vector: SteeringVector,
        passes: Passes,
    ) -> None:
        self.loaded, self.model, self.passes, self.members = loaded, model, passes, members
        self.settings = vector.settings
        self._delta: torch.Tensor | None = None

    def through(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that the SAE reads and rebuilds, steered."""
        return hidden + self._found(hidden)

    def look(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Read what a transcoder reads, and change nothing yet."""
        self._delta = self._found(hidden)
        return hidden

    def move(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that a transcoder rebuilds, steered by what was read before."""
        assert self._delta is not None, "a transcoder reads before it writes"
        return hidden + self._delta.to(hidden.dtype)

    def _found(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return what is added, (..., n_tokens, width of the tensor that the SAE rebuilds)."""
        import torch

        from featgraph.activations.sites import formed

        assert self.loaded.reading is not None
        assert self.loaded.sae is not None
        with torch.inference_mode(False), torch.no_grad():
            read = formed(hidden.float().flatten(0, -2), self.loaded.reading, self.model.model)
            codes = self.loaded.sae.encode(read)
            before = self.loaded.decode(codes, read)
            changed = self._changed(codes, self.passes.chosen(hidden), hidden.shape)
            delta = self.loaded.decode(changed, read) - before
            if self.loaded.writer.centred:
                delta = delta - delta.mean(dim=-1, keepdim=True)
        return delta.reshape(*hidden.shape[:-1], delta.shape[-1]).to(hidden.dtype)

    def _changed(
        self, codes: "torch.Tensor", chosen: "torch.Tensor | None", shape: Sequence[int]
    ) -> "torch.Tensor":
        """Return codes, (n, n_features), with the members' activations as the mode wants them."""
        import torch

        changed = codes.clone()
        for member in self.members:
            idx = int(member.key.split("/")[2])
            now = changed[:, idx]
            wanted = self._wanted(member, now)
            if self.settings.positions == "firing":
                wanted = torch.where(codes[:, idx] != 0, wanted, now)
            if chosen is not None:
                wanted = torch.where(chosen[:, 0].expand(shape[:-1]).reshape(-1), wanted, now)
            changed[:, idx] = wanted
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
