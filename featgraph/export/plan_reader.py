"""A plan file read back: JSON -> the `SteeringVector` it was written from, or what is wrong and where."""

import json
import re
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

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
    """Return the steering vector of a plan file, to the bit.

    Its SAEs come from `graph`, else from the graph that it names, or from one of that name beside the plan;
    one whose numbers are all in the plan needs none.

    Raises UsageError: the file is no plan, damaged, or of another version. StoreError, SourceError: a plan
    that changes activations, and its graph is not there or not the one it was made of.
    """
    path = Path(path)
    reading = _Reading(path, _content(path))
    vector = SteeringVector(
        reading.vectors("layers"),
        reading.members(),
        reading.settings(),
        reading.model(),
        reading.vectors("middles"),
    )
    reading.check(vector)
    return SteeringVector(
        vector.layers,
        vector.members,
        vector.settings,
        vector.model,
        vector.middles,
        reading.suite(vector, graph),
    )


def read_extra(path: str | Path, name: str) -> object | None:
    """Return what was written into a plan file under a further key, None if nothing was.

    Raises UsageError: the file is no plan, damaged, or of another version.
    """
    return _content(Path(path)).get(name)


def _content(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {os_reason(error)}") from error
    try:
        content = json.loads(text.decode(errors="surrogatepass"), parse_constant=_not_finite)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no steering plan: {error}; write one with --format json") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), str):
        raise UsageError(f"{path} is no steering plan: it does not say its 'format'; expected {FORMAT!r}")
    if content["format"] != FORMAT:
        raise UsageError(
            f"{path} is of format {content['format']!r}, and this featgraph reads {FORMAT!r}; write the plan "
            "again"
        )
    return content


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, and a plan's numbers are finite")


class _Reading:
    """The content of one file, taken apart; every fault names file and key."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    def model(self) -> SteeredModel:
        found = {
            name: self._value(self.content, key, hint, key)
            for name, key, hint in (
                ("name", "model_id", str),
                ("type", "model_type", str),
                ("d_model", "d_model", int),
                ("n_layers", "n_layers", int),
                ("sha256", "model_sha256", str),
            )
        }
        return SteeredModel(**found)

    def settings(self) -> Settings:
        given = self._value(self.content, "settings", dict, "settings")
        hints = get_type_hints(Settings)
        known = [field.name for field in fields(Settings)]
        for name in given:
            if name not in known:
                self._fault(f"settings.{name}", f"is no setting{nearest(name, known)}")
        found = {name: self._value(given, name, hints[name], f"settings.{name}") for name in known}
        try:
            return checked(Settings(**found))
        except UsageError as error:
            self._fault("settings", f"cannot be: {error}")

    def members(self) -> tuple[SteeredFeature, ...]:
        given = self._value(self.content, "members", list, "members")
        hints = get_type_hints(SteeredFeature)
        found = []
        for number, one in enumerate(given):
            where = f"members[{number}]"
            if not isinstance(one, dict):
                self._fault(where, f"is {_shown(one)}, not an object")
            member = SteeredFeature(
                **{
                    field.name: self._value(one, field.name, hints[field.name], f"{where}.{field.name}")
                    for field in fields(SteeredFeature)
                }
            )
            try:
                FeatureKey.parse(member.key)
            except UsageError as error:
                self._fault(f"{where}.key", f"cannot be: {error}")
            found.append(member)
        return tuple(found)

    def vectors(self, name: str) -> "dict[int, Vector]":
        import numpy as np

        found: dict[int, Vector] = {}
        for key, values in self._value(self.content, name, dict, name).items():
            where = f"{name}.{key}"
            if not _BLOCK.fullmatch(key):
                self._fault(where, "is no block's number")
            if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
                self._fault(where, "is not a list of numbers")
            vector = np.array([value if abs(value) <= _LARGEST else np.inf for value in values], np.float32)
            if not np.isfinite(vector).all():
                self._fault(where, "holds a number too large for float32")
            found[int(key)] = vector
        return dict(sorted(found.items()))

    def check(self, vector: SteeringVector) -> None:
        """Raise UsageError: parts of the plan that are right alone do not go together."""
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
        """Return what the plan's graph was made of; None if it is not there and not needed."""
        from featgraph.suite.graph_suite import GraphSuite

        there = self._graph() if graph is None else Path(graph)
        if there is None:
            return None
        try:
            with open_store(there) as store:
                found = GraphSuite(store)
        except StoreError as error:
            if graph is not None:
                raise
            if not vector.gated:
                return None
            raise StoreError(f"{self.path} steers by the SAEs of its graph: {error}") from error
        if vector.gated:
            self._check_saes(vector, found)
        return found

    def _graph(self) -> Path | None:
        """Return where the graph is that the plan names."""
        named = self._value(self.content, "graph", str | None, "graph") if "graph" in self.content else None
        if named is None:
            return None
        places = [Path(named), self.path.parent / Path(named).name]
        return next((place for place in places if place.is_dir()), places[0])

    def _check_saes(self, vector: SteeringVector, found: "GraphSuite") -> None:
        saes = found.manifest["saes"]
        for number, member in enumerate(vector.members):
            try:
                sae = find_feature(found.saes, member.key)[1]
            except UsageError as error:
                self._fault(f"members[{number}].key", f"cannot be: {error}")
            if sae.number != member.sae_number:
                self._fault(
                    f"members[{number}].sae_number",
                    f"is {member.sae_number}, and {member.key} is in {sae.number}",
                )
            if saes[sae.number].get("sha256", "") != member.sae_sha256:
                raise SourceError(
                    f"{self.path} steers by the SAE {member.sae_id}, and {found.path} was made of another "
                    "one; write the plan again from this graph"
                )

    def _value(self, given: dict[str, Any], name: str, hint: Any, where: str) -> Any:
        """Return a value of a type: one of JSON's, a choice of words, or these or null."""
        if name not in given:
            self._fault(where, "is missing")
        value = given[name]
        for kind in get_args(hint) if isinstance(hint, UnionType) else (hint,):
            if get_origin(kind) is Literal and value in get_args(kind):
                return value
            if kind is float and type(value) in (int, float):
                if not abs(value) < float("inf"):
                    self._fault(where, "is too large a number")
                return value
            if isinstance(kind, type) and type(value) is kind:
                return value
        return self._fault(where, f"is {_shown(value)}, not {_named(hint)}")

    def _fault(self, where: str, what: str) -> NoReturn:
        raise UsageError(f"{self.path} is damaged: {where!r} {what}")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_BLOCK = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)

_LARGEST = 3.4028234663852886e38
"""Of float32."""

_LONGEST = 60
"""Characters of a damaged value that a message shows."""


def _named(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(_named(kind) for kind in get_args(hint))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    return _WORDS.get(hint, str(hint))


_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}
