r"""What was seen of a stream, place by place: of which kinds, in how many records, and since when.

A page's shapes become a tree, see `tally`. Trees are added up page by page and run by run (`added`), and a tree is
saved in the checkpoint, in the commit that counts its pages. Everything in it counts records: a list in which two
prices are text is one record with a price of text. Saved, with only what is not empty:

    {"kinds": {"object": [2400, "2026-01-31T12:00:00.000Z"], ...},   records, and when the first one came;
                                  text, integer, number, boolean, null, object, list, absent, unparsable;
                                  within lists also some: one of these other than absent
     "refused": {"null": [12, "..."], "absent": ..., "unnamed": ...},  the kinds for which the model refused records
     "values": {"\"lost\"": [3, "..."]},   values that are none of the model's choices, as JSON
     "choices": {"\"open\"": [9, "..."]}, "many": true,   the values of a text that has few; or it has not
     "away": 2400,                records since the field was last seen, over the complete runs
     "fields": {"total": {...}},  below an object that the model takes apart, by name
     "items": {...}, "each": {...},   the elements of lists; the values of objects whose names are data
     "full": true,                at the top: there was no room for every place;
     "known": "2026-01-31T..."}   and when the first complete run ended that is part of this

A name in an object is absent from a record if one of the objects at its place lacks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from .expected import EACH, ITEMS, Step
from .page import JSON

PLACES = 500
"""How many places of a stream are followed: names may come from data."""
VALUES = 50
"""How many refused values of a field are told apart."""
CHOICES = 50
"""How many values of a field are told apart."""
VALUE = 100
"""The longest value that is kept, as JSON."""

NULL, ABSENT, SOME, OBJECT, LIST, UNNAMED = "null", "absent", "some", "object", "list", "unnamed"
_KINDS: Mapping[Any, str] = {
    type(None): NULL,
    bool: "boolean",
    int: "integer",
    float: "number",
    Decimal: "number",
    str: "text",
    dict: OBJECT,
    list: LIST,
}


class Count(NamedTuple):
    """In how many records, and when the first of them came."""

    records: int
    first: str

    def plus(self, other: Count | None) -> Count:
        """Both together."""
        return self if other is None else Count(self.records + other.records, min(self.first, other.first))


Counts = Mapping[str, Count]


_NONE: Mapping[str, Any] = MappingProxyType({})


class Seen(NamedTuple):
    """What was seen at one place, and below it. See the module."""

    kinds: Counts = _NONE
    refused: Counts = _NONE
    values: Counts = _NONE
    fields: Mapping[str, Seen] = _NONE
    items: Seen | None = None
    each: Seen | None = None
    away: int = 0
    full: bool = False
    known: str = ""
    choices: Counts = _NONE
    many: bool = False

    def records(self, kind: str) -> int:
        """In how many records this kind was here."""
        return self.kinds[kind].records if kind in self.kinds else 0

    @property
    def present(self) -> Counts:
        """The kinds of values that were here, null being one."""
        return {kind: count for kind, count in self.kinds.items() if kind not in (ABSENT, SOME)}

    @property
    def there(self) -> int:
        """In how many records something was here."""
        return self.records(SOME) if SOME in self.kinds else sum(count.records for count in self.present.values())

    @property
    def first(self) -> str:
        """When something was here for the first time; empty if nothing ever was."""
        return min((count.first for count in self.present.values()), default="")

    def at(self, step: str | Step) -> Seen | None:
        """What was seen one step further in."""
        return self.fields.get(step) if isinstance(step, str) else self.items if step is ITEMS else self.each

    def below(self) -> Iterator[tuple[str | Step, Seen]]:
        """What was seen one step further in, by step."""
        yield from self.fields.items()
        if self.items:
            yield ITEMS, self.items
        if self.each:
            yield EACH, self.each

    def places(self) -> int:
        """How many places are below this one."""
        return sum(1 + one.places() for _, one in self.below())

    def to_json(self) -> dict[str, JSON]:
        """The saved form."""
        counted = {"kinds": self.kinds, "refused": self.refused, "values": self.values, "choices": self.choices}
        saved: dict[str, JSON] = {
            name: {key: list(count) for key, count in counts.items()} for name, counts in counted.items() if counts
        }
        if self.fields:
            saved["fields"] = {name: one.to_json() for name, one in self.fields.items()}
        saved |= {name: one.to_json() for name, one in (("items", self.items), ("each", self.each)) if one}
        own = {"away": self.away, "full": self.full, "known": self.known, "many": self.many}
        return saved | {name: value for name, value in own.items() if value}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Seen:
        """From the saved form. ValueError, TypeError, KeyError or AttributeError if it is none."""
        return Seen(
            _counts(saved, "kinds"),
            _counts(saved, "refused"),
            _counts(saved, "values"),
            {name: Seen.from_json(one) for name, one in saved.get("fields", {}).items()},
            Seen.from_json(saved["items"]) if "items" in saved else None,
            Seen.from_json(saved["each"]) if "each" in saved else None,
            int(saved.get("away", 0)),
            bool(saved.get("full")),
            str(saved.get("known", "")),
            _counts(saved, "choices"),
            bool(saved.get("many")),
        )


NOTHING = Seen()


def _counts(saved: Mapping[str, Any], name: str) -> Counts:
    return {key: Count(int(count[0]), str(count[1])) for key, count in saved.get(name, {}).items()}


def word(kind: type) -> str:
    """The kind of a value of this type, in a word."""
    return _KINDS.get(kind, "unparsable")


def joined(before: Seen, after: Seen) -> Seen:
    """What two pages or more of one run showed, `before` having come first."""
    return _all(before, after, runs=False)


def taken(before: Seen, run: Seen, stamp: str) -> Seen:
    """What the complete runs saw, with one more that ended at `stamp`: now fields may be away."""
    return _all(before, run, runs=True)._replace(known=before.known or stamp)


def _all(before: Seen, after: Seen, *, runs: bool) -> Seen:
    room = Room(PLACES, before)
    found = _both(before, after, room, runs)
    return found._replace(full=before.full or after.full or room.full)


def _both(before: Seen, after: Seen, room: Room, runs: bool) -> Seen:
    if not (runs or before.fields or after[1:] != NOTHING[1:]):  # the usual case of a page: only kinds are counted
        return Seen(_sum(before.kinds, after.kinds), *before[1:])
    choices = _sum(before.choices, after.choices)
    many = before.many or after.many or len(choices) > CHOICES
    return Seen(
        _sum(before.kinds, after.kinds),
        _sum(before.refused, after.refused),
        _sum(before.values, after.values, VALUES),
        _fields(before, after, room, runs) if before.fields or after.fields else _NONE,
        _either(before.items, after.items, room, runs),
        _either(before.each, after.each, room, runs),
        choices=_NONE if many else choices,
        many=many,
    )


def _fields(before: Seen, after: Seen, room: Room, runs: bool) -> Mapping[str, Seen]:
    fields: dict[str, Seen] = {}
    came = after.kinds.get(OBJECT)
    for name, one in before.fields.items():
        other = after.fields.get(name)
        fields[name] = both = _both(one, other, room, runs) if other else _lacking(one, came)
        if runs:
            away = 0 if other and other.present else one.away + after.records(OBJECT)
            fields[name] = both._replace(away=away)
    for name, one in after.fields.items():
        if name not in before.fields and room.take(one):
            fields[name] = _lacking(one, before.kinds.get(OBJECT))
    return fields


def _either(before: Seen | None, after: Seen | None, room: Room, runs: bool) -> Seen | None:
    if before is None:
        return after if after and room.take(after) else None
    return before if after is None else _both(before, after, room, runs)


def _lacking(one: Seen, objects: Count | None) -> Seen:
    """The same with the records counted whose objects all lack it."""
    if objects is None:
        return one
    return one._replace(kinds={**one.kinds, ABSENT: objects.plus(one.kinds.get(ABSENT))})


def _sum(before: Counts, after: Counts, most: int | None = None) -> Counts:
    if not after or not before:
        return before or after
    found = dict(before)
    for key, (records, first) in after.items():
        if (there := found.get(key)) is not None:
            found[key] = Count(there.records + records, min(there.first, first))
        elif most is None or len(found) < most:
            found[key] = Count(records, first)
    return found


class Room:
    """How many places may still be added to those that are there."""

    def __init__(self, most: int, there: Seen = NOTHING) -> None:
        self.full = False
        self._most, self._there, self._left = most, there, -1

    def take(self, one: Seen | None = None) -> bool:
        """Whether there is room for a place and what is below it, which is then taken."""
        if self._left < 0:
            self._left = max(0, self._most - self._there.places())
        needed = 1 + (one.places() if one else 0)
        if needed > self._left:
            self.full = True
            return False
        self._left -= needed
        return True
