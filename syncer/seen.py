r"""What was seen of a stream, place by place: of which kinds, in how many records, and since when.

A page's shapes become a tree, see `tally`. Trees are added up page by page and run by run (`added`), and a tree is
saved in the checkpoint, in the commit that counts its pages. Everything in it counts records: a list in which two
prices are text is one record with a price of text. Saved, with only what is not empty:

    {"kinds": {"object": [2400, "2026-01-31T12:00:00.000Z"], ...},   records, and when the first one came;
                                  text, integer, number, boolean, null, object, list, absent, unparsable;
                                  within lists also some: one of these other than absent
     "refused": {"null": [12, "..."], "absent": ..., "unnamed": ...},  the kinds for which the model refused records
     "values": {"\"lost\"": [3, "..."]},   values that are none of the model's choices, as JSON
     "away": 2400,                records since the field was last seen, over the complete runs
     "fields": {"total": {...}},  below an object that the model takes apart, by name
     "items": {...}, "each": {...},   the elements of lists; the values of objects whose names are data
     "full": true,                at the top: there was no room for every place;
     "known": "2026-01-31T..."}   and when the first complete run ended that is part of this

A name in an object is absent from a record if one of the objects at its place lacks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple

from .expected import EACH, ITEMS, Step
from .page import JSON

PLACES = 500
"""How many places of a stream are followed: names may come from data."""
VALUES = 50
"""How many refused values of a field are told apart."""
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


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen at one place, and below it. See the module."""

    kinds: Counts = field(default_factory=dict)
    refused: Counts = field(default_factory=dict)
    values: Counts = field(default_factory=dict)
    fields: Mapping[str, Seen] = field(default_factory=dict)
    items: Seen | None = None
    each: Seen | None = None
    away: int = 0
    full: bool = False
    known: str = ""

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
        counted = {"kinds": self.kinds, "refused": self.refused, "values": self.values}
        saved: dict[str, JSON] = {
            name: {key: list(count) for key, count in counts.items()} for name, counts in counted.items() if counts
        }
        if self.fields:
            saved["fields"] = {name: one.to_json() for name, one in self.fields.items()}
        saved |= {name: one.to_json() for name, one in (("items", self.items), ("each", self.each)) if one}
        own = {"away": self.away, "full": self.full, "known": self.known}
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
    return replace(_all(before, run, runs=True), known=before.known or stamp)


def _all(before: Seen, after: Seen, *, runs: bool) -> Seen:
    room = Room(PLACES - before.places())
    found = _both(before, after, room, runs)
    return replace(found, full=before.full or after.full or room.full)


def _both(before: Seen, after: Seen, room: Room, runs: bool) -> Seen:
    fields: dict[str, Seen] = {}
    for name, one in before.fields.items():
        other = after.fields.get(name)
        both = _both(one, other, room, runs) if other else _lacking(one, after.kinds.get(OBJECT))
        away = 0 if other and other.present else one.away + after.records(OBJECT)
        fields[name] = replace(both, away=away) if runs else both
    for name, one in after.fields.items():
        if name not in fields and room.take(one):
            fields[name] = _lacking(one, before.kinds.get(OBJECT))
    return Seen(
        kinds=_sum(before.kinds, after.kinds),
        refused=_sum(before.refused, after.refused),
        values=_sum(before.values, after.values, VALUES),
        fields=fields,
        items=_either(before.items, after.items, room, runs),
        each=_either(before.each, after.each, room, runs),
    )


def _either(before: Seen | None, after: Seen | None, room: Room, runs: bool) -> Seen | None:
    if before is None:
        return after if after and room.take(after) else None
    return before if after is None else _both(before, after, room, runs)


def _lacking(one: Seen, objects: Count | None) -> Seen:
    """The same with the records counted whose objects all lack it."""
    if objects is None:
        return one
    return replace(one, kinds={**one.kinds, ABSENT: objects.plus(one.kinds.get(ABSENT))})


def _sum(before: Counts, after: Counts, most: int | None = None) -> Counts:
    found = {key: count.plus(after.get(key)) for key, count in before.items()}
    for key, count in after.items():
        if key not in found and (most is None or len(found) < most):
            found[key] = count
    return found


class Room:
    """How many places may still be added."""

    def __init__(self, left: int) -> None:
        self.left, self.full = left, False

    def take(self, one: Seen | None = None) -> bool:
        """Whether there is room for a place and what is below it, which is then taken."""
        needed = 1 + (one.places() if one else 0)
        if needed > self.left:
            self.full = True
            return False
        self.left -= needed
        return True
