"""What would have to change in the models of a connector, field by field, for them to take what was seen."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from .drift import strangers
from .expected import LABEL, Expected, Step, expected
from .seen import ABSENT, LIST, NOTHING, NULL, UNNAMED, VALUES, Seen, word
from .sinks import Sink
from .stream import Stream

FIELDS = 50
"""So many new fields are proposed for one model: more are hardly names that somebody gave."""
TYPES: Mapping[str, str] = {
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "text": "str",
    "object": "dict[str, object]",
    "list": "list[object]",
}
"""The type that takes every value of a kind, by names that need no import."""


@dataclass(frozen=True)
class Pulled:
    """A stream and what it showed; fields first seen after `since` are news.

    `sink` opens its output for a model; `safe` takes secrets out of a text.
    """

    stream: Stream
    seen: Seen
    since: str
    sink: Callable[[Stream], Sink]
    safe: Callable[[str], str] = str


@dataclass
class Judged:
    """The rejects of a stream under one model: what was in them, how many pass, and why the others do not."""

    stream: Stream
    seen: Seen = NOTHING
    passing: int = 0
    left: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Loosen:
    """Let a field, or what is within its type, take more: kinds of values, null and absent among them, and choices."""

    model: type[BaseModel]
    attribute: str
    inner: tuple[Step, ...] = ()
    kinds: tuple[str, ...] = ()
    values: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Add:
    """Let a model name one more field, which may be absent."""

    model: type[BaseModel]
    name: str
    type: str


Edit = Loosen | Add


def wanted(
    pulled: Sequence[Pulled], judged: Sequence[Judged], module: str | None, notes: dict[str, None]
) -> list[Edit]:
    """What has to change in the models under which the rejects were judged; only in this module, if one is named."""
    looser: list[Loosen] = []
    more: dict[Any, Add] = {}
    for one, result in zip(pulled, judged, strict=True):
        model = expected(result.stream.model)
        for home, kinds, values in _refused((), result.seen, model, result.stream.key):
            if found := _declaring(home.model, home.attribute, module, notes):
                looser.append(Loosen(found, home.attribute, home.inner, tuple(kinds), tuple(values)))
        fields = {place: (around, seen) for place, around, seen in strangers(one.seen, model, one.since)}
        for place, around, seen in strangers(result.seen, model, ""):
            if UNNAMED in seen.refused:
                fields.setdefault(place, (around, seen))
        for place, (around, seen) in fields.items():
            name = str(place[-1])
            if around.model is None or len(name) > LABEL or "***" in name or not _own(around.model, module, notes):
                continue
            add = Add(around.model, name, _type(seen))
            more.setdefault(key(add), add)
    return merged([*looser, *more.values()])


def _refused(
    place: tuple[Any, ...], seen: Seen, model: Expected, key: Sequence[str]
) -> Iterator[tuple[Any, list[str], list[str | int]]]:
    """Where records were refused for a kind of value or a choice: the field, the kinds, and the values."""
    for step, one in seen.below():
        if (here := model.at(step)) is None:
            continue
        values = [json.loads(value) for value in one.values]
        kinds = [kind for kind in one.refused if kind != UNNAMED]
        if not place and step in key:
            kinds = [kind for kind in kinds if kind not in (NULL, ABSENT)]  # a record without its key has no place
        if len(values) >= VALUES:  # so many are no choices
            kinds, values = [*kinds, *dict.fromkeys(word(type(value)) for value in values)], []
        if here.home and (kinds or values):
            yield here.home, kinds, values
        yield from _refused((*place, step), one, here, key)


def _declaring(
    model: type[BaseModel], attribute: str, module: str | None, notes: dict[str, None]
) -> type[BaseModel] | None:
    """The class, of a model and those it inherits from, that says what a field is; None if that is elsewhere."""
    for one in model.__mro__:
        if issubclass(one, BaseModel) and attribute in inspect.get_annotations(one):
            return one if _own(one, module, notes) else None
    return None


def _own(model: type[BaseModel], module: str | None, notes: dict[str, None]) -> bool:
    if module is None or model.__module__ == module:
        return True
    notes[f"{model.__name__} is declared in {model.__module__}: change it there, by hand"] = None
    return False


def _type(seen: Seen) -> str:
    """A type that takes what was seen of a field, null aside."""
    kinds = [kind for kind in TYPES if kind in seen.kinds and not (kind == "integer" and "number" in seen.kinds)]
    items = _type(seen.items) if LIST in kinds and seen.items and NULL not in seen.items.kinds else "object"
    names = [f"list[{items}]" if kind == LIST else TYPES[kind] for kind in kinds]
    return " | ".join(names) or "object"


def limited(edits: Sequence[Edit], done: Sequence[Edit], notes: dict[str, None]) -> list[Edit]:
    """The edits that can follow those that are done without a model having new fields without end."""
    fields = Counter(edit.model.__qualname__ for edit in done if isinstance(edit, Add))
    kept = []
    for edit in edits:
        if isinstance(edit, Add):
            fields[edit.model.__qualname__] += 1
            if fields[edit.model.__qualname__] > FIELDS:
                notes[f"{edit.model.__name__} has more than {FIELDS} new fields; are their names data?"] = None
                continue
        kept.append(edit)
    return kept


def atoms(edit: Edit) -> list[Edit]:
    """The edit as those that do one thing each."""
    if isinstance(edit, Add):
        return [edit]
    kinds = [replace(edit, kinds=(kind,), values=()) for kind in edit.kinds]
    return [*kinds, *(replace(edit, kinds=(), values=(value,)) for value in edit.values)]


def merged(edits: Sequence[Edit]) -> list[Edit]:
    """The edits with those of one field made one."""
    found: dict[Any, Edit] = {}
    for edit in edits:
        old = found.get(key(edit), edit)
        if isinstance(edit, Loosen) and isinstance(old, Loosen):
            kinds, values = dict.fromkeys((*old.kinds, *edit.kinds)), dict.fromkeys((*old.values, *edit.values))
            old = replace(old, kinds=tuple(kinds), values=tuple(values))
        found[key(edit)] = old
    return list(found.values())


def key(edit: Edit) -> tuple[Any, ...]:
    """What an edit is about, by name: the class, then the field."""
    return (edit.model.__qualname__, *((edit.name,) if isinstance(edit, Add) else (edit.attribute, edit.inner)))


def where(edit: Edit) -> str:
    """The same for people."""
    return f"{edit.model.__name__}.{edit.name if isinstance(edit, Add) else edit.attribute}"
