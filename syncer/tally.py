"""A page's records, counted by shape, as what was seen at each place.

What costs something is done once for each shape, not for each record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from .expected import EACH, ITEMS, Expected, Place, Step, label
from .seen import ABSENT, LIST, OBJECT, PLACES, SOME, VALUES, Count, Room, Seen, word
from .shapes import Kind, Shape

Refusal = tuple[Place, str, bool]
"""Where a record was refused and for what: a kind, or if the last is true a value as JSON."""


def tally(
    shapes: Mapping[Kind, int], refusals: Mapping[Refusal, int], model: Expected, stamp: str, room: int = PLACES
) -> Seen:
    """What a page showed, of so many places at most: its records by shape, and the reasons for which some were refused.

    What is no object stands among the shapes as its type.
    """
    made = _Made(Room(room), shapes)
    for (place, what, value), count in refusals.items():
        made.refuse(place, what, value, count)
    made.expand(model)
    return replace(made.seen(stamp), full=made.room.full)


class _Absent:
    """The kind of what is not there."""


class _Made:
    """A place while a page is counted.

    `alone` counts the records that have one value here, by its kind; `several` those with a set of kinds, because
    a list was on the way.
    """

    def __init__(self, room: Room, alone: Mapping[Kind, int] | None = None) -> None:
        self.room = room
        self._alone: Counter[Kind] = Counter(alone or {})
        self._several: Counter[frozenset[Kind]] = Counter()
        self._refused: Counter[str] = Counter()
        self._values: Counter[str] = Counter()
        self._below: dict[str | Step, _Made] = {}

    def refuse(self, place: Place, what: str, value: bool, count: int) -> None:
        """Count records that were refused for what stood at a place from here on."""
        if place:
            if below := self._step(place[0]):
                below.refuse(place[1:], what, value, count)
        elif not value:
            self._refused[what] += count
        elif what in self._values or len(self._values) < VALUES:
            self._values[what] += count

    def expand(self, model: Expected | None) -> None:
        """Count what is below this place: as far as the model takes it apart, and the elements of lists.

        Where the model is None, nothing is said of this place.
        """
        if model and model.models:
            self._open(model)
        if model and model.each:
            self._gather(EACH, Shape, model.each)
        if model is None or model.items:
            self._gather(ITEMS, frozenset, model and model.items)

    def seen(self, stamp: str) -> Seen:
        """What was counted, with the moment at which the page came."""
        kinds: Counter[str] = Counter()
        for kind, count in self._alone.items():
            kinds[_word(kind)] += count
        for group, count in self._several.items():
            kinds.update(dict.fromkeys({*map(_word, group), *([SOME] if group - {_Absent} else [])}, count))
        below = {step: one.seen(stamp) for step, one in self._below.items()}
        return Seen(
            _stamped(kinds, stamp),
            _stamped(self._refused, stamp),
            _stamped(self._values, stamp),
            {step: one for step, one in below.items() if isinstance(step, str)},
            below.get(ITEMS),
            below.get(EACH),
        )

    def _step(self, step: str | Step) -> _Made | None:
        """The place one step further in; None if there is no room for it."""
        found = self._below.get(step)
        if found is None and self.room.take():
            found = self._below[step] = _Made(self.room)
        return found

    def _open(self, model: Expected) -> None:
        """Count the fields of the objects here. Those that the model names have a place whether they come or not."""
        rows: dict[tuple[str, ...], list[tuple[tuple[Kind, ...], int]]] = {}
        for kind, count in self._alone.items():
            if type(kind) is Shape:
                rows.setdefault(kind.names, []).append((kind.kinds, count))
        groups = [
            ([dict(zip(map(label, one.names), one.kinds, strict=True)) for one in group if type(one) is Shape], count)
            for group, count in self._several.items()
        ]
        groups = [(objects, count) for objects, count in groups if objects]
        if not rows and not groups:
            return
        met = chain(model.fields, map(label, chain(*rows)), *(one for objects, _ in groups for one in objects))
        places = {name: place for name in dict.fromkeys(met) if (place := self._step(name))}
        for names, found in rows.items():
            counts = [count for _, count in found]
            for name, column in zip(names, zip(*(kinds for kinds, _ in found), strict=True), strict=False):
                if place := places.get(label(name)):
                    for kind, count in zip(column, counts, strict=True):
                        place._alone[kind] += count
        for objects, count in groups:
            for name in {name for one in objects for name in one} & places.keys():
                places[name]._several[frozenset(one.get(name, _Absent) for one in objects)] += count
        total = sum(count for found in rows.values() for _, count in found) + sum(count for _, count in groups)
        for name, place in places.items():
            if lacking := total - place._alone.total() - place._several.total():
                place._alone[_Absent] += lacking
            place.expand(model.fields.get(name))

    def _gather(self, step: Step, kind: Any, model: Expected | None) -> None:
        """Count what is within the objects, or the lists, that are here."""
        found: Counter[frozenset[Kind]] = Counter()
        alone = ((frozenset([one]), count) for one, count in self._alone.items())
        for group, count in chain(alone, self._several.items()):
            inner = [one.kinds if kind is Shape else one for one in group if type(one) is kind]
            found[frozenset(chain.from_iterable(inner))] += count
        del found[frozenset()]
        if found and (place := self._step(step)):
            place._several.update(found)
            place.expand(model)


def _stamped(counts: Mapping[str, int], stamp: str) -> Mapping[str, Count]:
    return {key: Count(count, stamp) for key, count in counts.items()}


def _word(kind: Kind) -> str:
    if type(kind) is Shape:
        return OBJECT
    if type(kind) is frozenset:
        return LIST
    return ABSENT if kind is _Absent else word(kind)
