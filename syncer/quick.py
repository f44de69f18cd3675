"""The quick way through validation: a record with nothing odd about it, judged and written in a few calls.

What this gives is what the careful way in `validate` would give, or nothing; then that way is gone. A record that
orjson writes just as it read it has no name twice, no number that is larger, longer or otherwise spelt than a double
can hold, and no broken text: the bytes that came are the line that is written. Of another one the line is made anew,
every digit kept. Either is taken if the model takes it with every field named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    FutureDate,
    FutureDatetime,
    NaiveDatetime,
    PastDate,
    PastDatetime,
    ValidationError,
)

from .decode import DEPTH, encode, exact
from .page import JSON
from .stream import wire_names

DIGITS = re.compile(r"[+-]?[0-9.]+\Z")
"""Text that pydantic takes for seconds since 1970, also in strict mode."""

_SCALARS = (str, int, float, bool, NoneType, Decimal, UUID)
_TIMES = (datetime, date, AwareDatetime, NaiveDatetime, PastDatetime, FutureDatetime, PastDate, FutureDate)
_LISTS = (list, tuple, set, frozenset, dict)  # and what they hold

Plain = tuple[bytes, Mapping[str, JSON], BaseModel, Sequence[str], Mapping[str, JSON] | None]
"""The line of a record, its values, what the model made of it, the fields that the model does not name, and what came:
None where the values are just that and the model has seen to each.
"""

Project = Callable[[BaseModel, dict[str, JSON], list[str], list[str]], Mapping[str, JSON]]
"""Leaves the fields that the model names; collects the others, and times that came as digits."""


class Quick:
    """Takes the plain records of one stream. `times` are the fields whose text must not be digits alone."""

    def __init__(self, model: type[BaseModel], project: Project, unknown: Literal["drop", "keep", "reject"]) -> None:
        self._project, self._unknown = project, unknown
        self._model, self._validate = model, model.__pydantic_validator__.validate_json
        self.certain = _certain(model)
        self._times = [name for name, at in wire_names(model).items() if _timed(model.model_fields[at].annotation)]
        self._partial = False

    def __call__(self, raw: bytes) -> Plain | None:
        """What is to be written of the record and told of it; None if it takes the careful way to tell."""
        try:
            values = orjson.loads(raw)
            if orjson.dumps(values) != raw:
                raw = encode(values := exact(raw))
        except (ValueError, RecursionError):
            return None
        if type(values) is not dict:
            return None
        whole = None if self._partial else self._whole(raw)
        if whole and self.certain:
            for name in self._times:
                if type(text := values.get(name)) is str and text.rfind("-") < 1 and DIGITS.match(text):
                    return None
            return raw, values, whole, (), None
        if raw.count(b"[") + raw.count(b"{") > DEPTH:
            return None
        return self._projected(raw, values, whole or self._part(raw))

    def _whole(self, raw: bytes) -> BaseModel | None:
        """The record if the model names all there is in it."""
        try:
            return self._validate(raw, strict=True, extra="forbid")  # type: ignore[no-any-return]
        except ValidationError:
            return None

    def _part(self, raw: bytes) -> BaseModel | None:
        try:
            return self._validate(raw, strict=True)  # type: ignore[no-any-return]
        except ValidationError:
            return None

    def _projected(self, raw: bytes, values: dict[str, JSON], instance: BaseModel | None) -> Plain | None:
        if not isinstance(instance, self._model):
            return None
        extra: list[str] = []
        digits: list[str] = []
        kept = self._project(instance, values, extra, digits)
        self._partial = bool(extra)
        if digits or (extra and self._unknown == "reject"):
            return None
        if kept is values or self._unknown == "keep":
            return raw, values, instance, extra, values
        return encode(kept), kept, instance, extra, values


def _certain(model: type[BaseModel], seen: tuple[type[BaseModel], ...] = ()) -> bool:
    """Whether the model has no code of its own, so that what it says of a record is all there is to know.

    Dates may stand in it, but not below the first level; `seen` are the models around it, and it is none of them: then
    the model also says how deep a record is.
    """
    if model in seen:
        return False
    decorators = model.__pydantic_decorators__
    if any((decorators.validators, decorators.field_validators, decorators.root_validators)):
        return False
    if decorators.model_validators or model.__pydantic_root_model__ or model.model_config.get("extra") == "allow":
        return False
    if "__get_pydantic_core_schema__" in vars(model) or model.__pydantic_custom_init__:
        return False
    return all(
        _bounds(info.metadata) and _type(info.annotation, (*seen, model), times=not seen)
        for info in model.model_fields.values()
    )


def _bounds(metadata: Iterable[Any]) -> bool:
    """Whether a field is told apart by bounds only, not by code."""
    return all(type(one).__module__ == "annotated_types" for one in metadata)


def _type(annotation: Any, seen: tuple[type[BaseModel], ...], *, times: bool) -> bool:
    origin = get_origin(annotation)
    if annotation in _SCALARS or origin is Literal:
        return True
    if annotation in _TIMES:
        return times
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        return _bounds(metadata) and _type(inner, seen, times=times)
    if origin in (Union, UnionType):
        models = [one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
        return len(models) < 2 and all(_type(one, seen, times=times) for one in get_args(annotation))
    if origin in _LISTS:
        return all(one is Ellipsis or _type(one, seen, times=False) for one in get_args(annotation))
    if not isinstance(annotation, type):
        return False
    if issubclass(annotation, BaseModel):
        return _certain(annotation, seen)
    return issubclass(annotation, Enum)


def _timed(annotation: Any) -> bool:
    return annotation in _TIMES or any(_timed(one) for one in get_args(annotation))
