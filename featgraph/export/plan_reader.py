"""A plan file read back: JSON -> the `SteeringVector` it was written from, or an error that names the key."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from featgraph.core.bounded import read_bytes
from featgraph.core.files import os_reason
from featgraph.core.keys import FeatureKey
from featgraph.errors import SourceError, StoreError, UsageError, nearest
from featgraph.export.compatibility import check
from featgraph.export.provenance import FORMAT
from featgraph.steering.checks import checked
from featgraph.steering.settings import Settings, SteeredFeature, SteeredModel
from featgraph.steering.vector import SteeringVector
from featgraph.store import open_store
from featgraph.store.features import find_feature

if TYPE_CHECKING:
    from featgraph.core.arrays import Vector
    from featgraph.suite.graph_suite import GraphSuite


def read_plan(path: str | Path, graph: str | Path | None = None) -> SteeringVector:
    """Return the steering vector of a plan file, exactly as it was written.

    Its SAEs come from `graph`, else from the graph that the plan names, else from a graph of that name beside
    the plan. Only plans that change SAE activations need a graph.

    Raises UsageError: the file is not a plan, is damaged, or has another version.
    StoreError, SourceError: the plan needs its graph, which is missing or was made from other SAEs.
    """
    path = Path(path)
    reading = _Reading(path, _content(path))
    vector = reading.vector()
    reading.check(vector)
    return replace(vector, suite=reading.suite(vector, graph))


def read_extra(path: str | Path, name: str) -> object | None:
    """Return the value of a further key of a plan file, None if it has none.

    Raises UsageError: the file is no plan, damaged, or of another version.
    """
    return _content(Path(path)).get(name)


def _content(path: Path) -> dict[str, Any]:
    try:
        text = read_bytes(path, 2**30)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {os_reason(error)}") from error
    try:
        content = json.loads(text.decode(errors="surrogatepass"), parse_constant=_not_finite)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a steering plan: {error}; write one with --format json") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), str):
        raise UsageError(f"{path} is not a steering plan: it has no 'format'; expected {FORMAT!r}")
    if content["format"] != FORMAT:
        raise UsageError(
            f"{path} is of format {content['format']!r}, and this featgraph reads {FORMAT!r}; write the plan "
            "again"
        )
    return content


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"it has {name}, but numbers in a plan are finite")


_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
"""Values are not converted: text is not a number, and true is not 1."""


def _fields_of(kind: type) -> Any:
    """Return the fields of a dataclass for a pydantic model, all required."""
    return {name: (hint, ...) for name, hint in get_type_hints(kind).items()}


_LARGEST = 3.4028234663852886e38
"""Largest number of float32."""

_Settings = create_model("Settings", __config__=ConfigDict(**_STRICT, extra="forbid"), **_fields_of(Settings))
_Member = create_model("Member", __config__=_STRICT, **_fields_of(SteeredFeature))
_Block = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8})$")]
_Vectors = dict[_Block, list[Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]]]


class _Plan(BaseModel):
    """The content of a plan file; further keys are allowed."""

    model_config = _STRICT

    model_id: str
    model_type: str
    model_sha256: str
    d_model: int
    n_layers: int
    settings: _Settings  # type: ignore[valid-type]
    members: list[_Member]  # type: ignore[valid-type]
    layers: _Vectors
    middles: _Vectors
    graph: str | None = None


class _Reading:
    """Checks and converts the content of one plan file; every error names file and key."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        try:
            self.plan = _Plan.model_validate(content)
        except ValidationError as error:
            self._fault(*_first_error(error))

    def vector(self) -> SteeringVector:
        """Return the vector without its SAEs."""
        plan = self.plan
        model = SteeredModel(plan.model_id, plan.model_type, plan.d_model, plan.n_layers, plan.model_sha256)
        try:
            settings = checked(Settings(**dict(plan.settings)))
        except UsageError as error:
            self._fault("settings", f"is not valid: {error}")
        members = tuple(SteeredFeature(**dict(member)) for member in plan.members)
        for number, member in enumerate(members):
            try:
                FeatureKey.parse(member.key)
            except UsageError as error:
                self._fault(f"members[{number}].key", f"is not valid: {error}")
        return SteeringVector(_arrays(plan.layers), members, settings, model, _arrays(plan.middles))

    def check(self, vector: SteeringVector) -> None:
        """Raise UsageError: parts of the plan contradict each other."""
        try:
            check(vector)
        except UsageError as error:
            raise UsageError(f"{self.path} is damaged: {error}") from error
        if not vector.gated:
            return
        if vector.layers or vector.middles:
            self._fault("layers", "has vectors, and the plan's settings steer by activations")
        for number, member in enumerate(vector.members):
            if member.target is None and vector.settings.mode not in ("rescale", "ablate"):
                self._fault(f"members[{number}].target", "is null, and the mode needs it")

    def suite(self, vector: SteeringVector, graph: str | Path | None) -> "GraphSuite | None":
        """Return the model and SAEs of the plan's graph; None if the graph is missing and not needed."""
        from featgraph.suite.graph_suite import GraphSuite

        graph_path = self._graph() if graph is None else Path(graph)
        if graph_path is None:
            return None
        try:
            with open_store(graph_path) as store:
                suite = GraphSuite(store)
        except StoreError as error:
            if graph is not None:
                raise
            if not vector.gated:
                return None
            raise StoreError(f"{self.path} steers by the SAEs of its graph: {error}") from error
        if vector.gated:
            self._check_saes(vector, suite)
        return suite

    def _graph(self) -> Path | None:
        """Return the path of the graph that the plan names."""
        if self.plan.graph is None:
            return None
        named = Path(self.plan.graph)
        places = [named, self.path.parent / named.name]
        return next((place for place in places if place.is_dir()), places[0])

    def _check_saes(self, vector: SteeringVector, suite: "GraphSuite") -> None:
        saes = suite.manifest["saes"]
        for number, member in enumerate(vector.members):
            try:
                sae = find_feature(suite.saes, member.key)[1]
            except UsageError as error:
                self._fault(f"members[{number}].key", f"is not valid: {error}")
            if sae.number != member.sae_number:
                self._fault(
                    f"members[{number}].sae_number",
                    f"is {member.sae_number}, and {member.key} is in {sae.number}",
                )
            if saes[sae.number].get("sha256", "") != member.sae_sha256:
                raise SourceError(
                    f"{self.path} steers by the SAE {member.sae_id}, and {suite.path} was made of another "
                    "one; write the plan again from this graph"
                )

    def _fault(self, where: str, what: str) -> NoReturn:
        raise UsageError(f"{self.path} is damaged: {where!r} {what}")


def _arrays(vectors: dict[str, list[float]]) -> "dict[int, Vector]":
    """Return block -> vector, ascending."""
    import numpy as np

    return {block: np.array(vectors[str(block)], np.float32) for block in sorted(map(int, vectors))}


def _first_error(error: ValidationError) -> tuple[str, str]:
    """Return the key of the first error, such as `members[0].key`, and its description."""
    first = error.errors(include_url=False)[0]
    kind, value, place = first["type"], first["input"], [part for part in first["loc"] if part != "[key]"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if kind == "missing":
        return where, "is missing"
    if kind == "extra_forbidden":
        name = str(place[-1])
        return where, f"is not a setting{nearest(name, _Settings.model_fields)}"
    if kind == "string_pattern_mismatch":
        return where, "is not the number of a block"
    if kind in ("greater_than_equal", "less_than_equal"):
        return where, f"is {_shown(value)}, too large for float32"
    if kind == "finite_number" or (kind == "float_type" and type(value) is int):
        return where, "is too large a number"
    if kind == "literal_error":
        words = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return where, f"is {_shown(value)}, not one of {words}"
    return where, f"is {_shown(value)}, not {_EXPECTED.get(kind, kind)}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 60
"""Characters of a damaged value that a message shows."""

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
}
"""Type of a pydantic error -> the expected kind of value."""
