"""The shape of a record that a model has taken whole, found out from what the model leaves open.

Where the model says `int`, strict validation has seen that it is one; only what may be null, of several types or
nested has to be looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, NaiveDatetime

from .expected import flat
from .page import JSON
from .shapes import DEPTH, Kind, Shape, kind, shape
from .stream import wire_names

_ROOM = 1024
_SURE = (str, int, bool, date, datetime, AwareDatetime, NaiveDatetime, UUID)
_BLURRING = {"strict", "coerce_numbers_to_str", "populate_by_name", "validate_by_name"}
"""Settings of a model under which a value may be of another type, or stand under another name, than declared."""


class Mould:
    """Finds the shape of objects that this model took as they came: with every name one that it names."""

    def __init__(self, model: type[BaseModel], depth: int = 1) -> None:
        self._depth = depth
        self._made: dict[Kind, Shape] = {}
        names = wire_names(model)
        self._size = -1 if model.model_config.keys() & _BLURRING else len(names)
        self._open: list[str] = []
        self._within: list[tuple[str, Mould]] = []
        for name, attribute in names.items():
            types = flat(model.model_fields[attribute].annotation)
            inner = [one for one in types if one is not None]
            if len(types) == 1 and (types[0] in _SURE or _words(types[0])):
                continue
            if depth < DEPTH and len(inner) == 1 and isinstance(inner[0], type) and issubclass(inner[0], BaseModel):
                self._within.append((name, Mould(inner[0], depth + 1)))
            else:
                self._open.append(name)

    def __call__(self, values: Mapping[str, Any]) -> Shape:
        """The shape; the same as `shapes.shape` would give, or an equal one."""
        if len(values) != self._size:
            return shape(values, self._depth)
        if not self._open and not self._within:
            return self._made.get(()) or self._make((), values)
        key: list[Kind] = [
            kind(value, self._depth) if (type_ := type(value := values[name])) is list or type_ is dict else type_
            for name in self._open
        ]
        for name, inner in self._within:
            value = values[name]
            key.append(inner(value) if type(value) is dict else type(value))
        found = tuple(key)
        return self._made.get(found) or self._make(found, values)

    def _make(self, key: Kind, values: Mapping[str, JSON]) -> Shape:
        if len(self._made) >= _ROOM:
            self._made.clear()
        made = self._made[key] = shape(values, self._depth)
        return made


def _words(one: Any) -> bool:
    """Whether a type is a choice between texts."""
    return get_origin(one) is Literal and all(isinstance(value, str) for value in get_args(one))
