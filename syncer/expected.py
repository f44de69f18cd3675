"""What a model expects at each place of a record, for comparing it with what was seen.

A place is a tuple of steps from the record inwards: the name of a field as the API writes it, ITEMS for the
elements of a list, EACH for the values of an object whose names are data (`dict[str, Price]`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, NewType, Union, get_args, get_origin

from pydantic import BaseModel, RootModel

from .page import digest
from .stream import wire_names

LABEL = 120
"""Longer names are cut."""


class Step:
    """A step of a place that is no name."""

    __slots__ = ("shown",)

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def __repr__(self) -> str:
        return self.shown


ITEMS, EACH = Step("[]"), Step(".*")
Place = tuple[str | Step, ...]


@dataclass(frozen=True)
class Home:
    """Where the type of a place is written: a field of a class, and the way into its type."""

    model: type[BaseModel]
    attribute: str
    inner: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Expected:
    """What stands at one place according to the model: the types that may, and what is expected below it.

    `home` is None where the type is not that of a field, or of more than one.
    """

    types: tuple[Any, ...] = ()
    home: Home | None = None

    @cached_property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models that may stand here."""
        return tuple(one for one in self.types if isinstance(one, type) and issubclass(one, BaseModel))

    @property
    def model(self) -> type[BaseModel] | None:
        """The one model that stands here; None if there is none, or there are several."""
        return self.models[0] if len(self.models) == 1 else None

    @cached_property
    def fields(self) -> Mapping[str, Expected]:
        """What the models here name, by the labels of the names under which they take it from JSON."""
        found: dict[str, Expected] = {}
        for model in self.models:
            for name, attribute in taken_names(model).items():
                home = Home(model, attribute) if self.model else None
                one = Expected(flat(model.model_fields[attribute].annotation), home)
                key = label(name)
                found[key] = Expected((*found[key].types, *one.types)) if key in found else one
        return found

    @cached_property
    def items(self) -> Expected | None:
        """The elements of a list here; None where the model does not say."""
        return self._inner(ITEMS, _LISTS)

    @cached_property
    def each(self) -> Expected | None:
        """The values of an object here whose names are data; None where the names are fields, or nothing is said."""
        return None if self.models else self._inner(EACH, _MAPPINGS)

    @cached_property
    def closed(self) -> bool:
        """Whether a name that no model here has is one that nobody expects."""
        return bool(self.models) and not any(
            model.model_config.get("extra") == "allow" or not model.model_fields or moves(model)
            for model in self.models
        )

    def at(self, step: str | Step) -> Expected | None:
        """What is expected one step further in; None where nothing is said."""
        if isinstance(step, Step):
            return self.items if step is ITEMS else self.each
        return self.fields.get(step)

    @property
    def text(self) -> str:
        """The types in the words of the model; empty if nothing is said."""
        return " | ".join(dict.fromkeys(map(_word, self.types)))

    def _inner(self, step: Step, origins: Collection[Any]) -> Expected | None:
        found: list[Any] = []
        for one in self.types:
            arguments = get_args(one)
            if get_origin(one) not in origins or not arguments or (get_origin(one) is tuple and not _alike(arguments)):
                continue
            found.extend(flat(arguments[-1] if step is EACH else arguments[0]))
        home = self.home and Home(self.home.model, self.home.attribute, (*self.home.inner, step))
        return Expected(tuple(found), home) if found else None


def expected(model: type[BaseModel]) -> Expected:
    """What a model expects of a record."""
    return Expected(flat(model))


def taken_names(model: type[BaseModel]) -> dict[str, str]:
    """The names under which a model takes its fields from JSON, and the attribute of each."""
    config = model.model_config
    both = config.get("populate_by_name") or config.get("validate_by_name")
    return {**({name: name for name in model.model_fields} if both else {}), **wire_names(model)}


def moves(model: type[BaseModel]) -> bool:
    """Whether the model's own code sees the object before its fields do, and so may take them from elsewhere."""
    return any(one.info.mode != "after" for one in model.__pydantic_decorators__.model_validators.values())


def flat(annotation: Any) -> tuple[Any, ...]:
    """A type as its alternatives, without what is wrapped around them; None for null."""
    if annotation is None or annotation is type(None):
        return (None,)
    if isinstance(annotation, NewType):
        return flat(annotation.__supertype__)
    if type(annotation).__name__ == "TypeAliasType":  # a class of Python 3.12
        return flat(annotation.__value__)
    if isinstance(annotation, type) and issubclass(annotation, RootModel) and "root" in annotation.model_fields:
        return flat(annotation.model_fields["root"].annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return flat(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return tuple(one for part in get_args(annotation) for one in flat(part))
    return (annotation,)


def shown(place: Sequence[str | Step]) -> str:
    """A place in words: `lines[].price`; names that could be taken for something else are quoted."""
    text = ""
    for step in place:
        if isinstance(step, Step):
            text += step.shown
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text or "(record)"


def label(name: str) -> str:
    """A name from data as it may be kept and shown: what is no Unicode spelt out, and not without end."""
    clean = name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= LABEL else f"{clean[:LABEL]}…{digest(clean.encode(), 4)}"


_PLAIN = re.compile(r"[^\W\d][\w-]*|\d+")
_LISTS = (list, tuple, set, frozenset, Sequence, Collection)
_MAPPINGS = (dict, Mapping)


def _alike(arguments: tuple[Any, ...]) -> bool:
    return len(arguments) == 2 and arguments[1] is Ellipsis


def _word(one: Any) -> str:
    if one is None:
        return "None"
    if isinstance(one, type) and not get_args(one):
        return one.__name__
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(one))
