"""Which values the fields of text have, where they are few: those of a Literal or an Enum, and what looks like one.

Values are data, so only short ones are kept, and of a field that has many none at all. A field is followed where
the model says that it is text and it stands in the record itself; in an object within it only a Literal or an Enum is,
and in a list nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from .expected import Expected
from .seen import CHOICES, NOTHING, Count, Seen

FEW = 20
"""A text of more different values in one run is no choice."""
SHORT = 40
"""A text that may be longer is no choice either."""
SHARE = 10
"""Of a text that is no Literal a value is news only where each before it came in so many records on average."""
_DEEP = 3
_MANY = Seen(many=True)


class Choices:
    """Counts the values of one stream's fields of text, page by page; one that has too many is left alone.

    A value in which `safe` finds a secret makes its field one of too many; what `masked` names is not followed.
    """

    def __init__(
        self,
        model: Expected,
        safe: Callable[[str], str] = str,
        masked: Callable[[Sequence[str]], bool] | None = None,
        at: tuple[str, ...] = (),
    ) -> None:
        self._safe = safe
        texts = {name: one for name, one in model.fields.items() if _text(one) and (not at or listed(one))}
        texts = {name: one for name, one in texts.items() if not (masked and masked((*at, name)))}
        self._most = {name: CHOICES if listed(one) else FEW for name, one in texts.items()}
        self._met: dict[str, dict[str, str]] = {name: {} for name in self._most}
        within = {name: one for name, one in model.fields.items() if one.model and len(at) + 1 < _DEEP}
        inner = {name: Choices(one, safe, masked, (*at, name)) for name, one in within.items()}
        self._within = {name: one for name, one in inner.items() if one.any}
        self._came: dict[str, dict[str, int]] = {name: {} for name in self._most}
        self._many: set[str] = set()

    @property
    def any(self) -> bool:
        """Whether there is a field to follow."""
        return bool(self._most or self._within)

    def add(self, values: Mapping[str, Any]) -> None:
        """Count the values in an object."""
        many = ""
        for name, came in self._came.items():
            value = values.get(name)
            if type(value) is not str:
                continue
            if value in came:
                came[value] += 1
            elif self._few(name, value):
                came[value] = 1
            else:
                many = name
        if many:
            self._many.add(many)
            del self._came[many]
        for name, within in self._within.items():
            if type(inner := values.get(name)) is dict:
                within.add(inner)

    def taken(self, stamp: str) -> Seen:
        """What was counted since this was called last, as a tree in which nothing else is."""
        found: dict[str, Seen] = dict.fromkeys(self._many, _MANY)
        for name, came in self._came.items():
            if came:
                met = self._met[name]
                found[name] = Seen(choices={met[value]: Count(records, stamp) for value, records in came.items()})
                self._came[name] = {}
        for name, within in self._within.items():
            if (inner := within.taken(stamp)).fields:
                found[name] = inner
        return Seen(fields=found) if found else NOTHING

    def _few(self, name: str, value: str) -> bool:
        """Whether what has come so far may be choices; what is new is remembered."""
        met = self._met[name]
        if value not in met:
            if len(value) > SHORT or len(met) >= self._most[name] or self._safe(value) != value:
                return False
            met[value] = json.dumps(value)
        return True


def news(now: Seen, was: Seen, model: Expected | None) -> Iterator[tuple[str, Count]]:
    """The values of a field that it did not have before, where it had few."""
    if now.many or was.many or not was.choices or model is None:
        return
    if not listed(model) and sum(count.records for count in was.choices.values()) < SHARE * len(was.choices):
        return
    for value, count in now.choices.items():
        if value not in was.choices and value not in was.values:
            yield value, count


def listed(model: Expected) -> bool:
    """Whether the model lists the values that a field may have."""
    return str not in model.types and any(get_origin(one) is Literal or _enum(one) for one in model.types)


def _text(model: Expected) -> bool:
    """Whether a field is text and nothing else, but for null."""
    return any(one is not None for one in model.types) and all(
        one is None
        or one is str
        or _enum(one)
        or (get_origin(one) is Literal and all(isinstance(value, str) for value in get_args(one)))
        for one in model.types
    )


def _enum(one: Any) -> bool:
    return isinstance(one, type) and issubclass(one, Enum)
