"""A page's records, counted by shape, as what was seen at each place.

What costs something is done once for each shape, not for each record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from .expected import EACH, ITEMS, Expected, Place, Step, label
from .seen import ABSENT, LIST, NOTHING, OBJECT, PLACES, SOME, VALUES, Count, Room, Seen, joined, word
from .shapes import Kind, Shape

Refusal = tuple[Place, str, bool]
"""Where a record was refused and for what: a kind, or if the last is true a value as JSON."""
Naming = Callable[[str], str]
SHAPES = 64
"""So many shapes are remembered together; a page of more is counted place by place."""
_BITS = 8


class Tally:
    """Counts the pages of one stream. What each shape says of every place is worked out when it is met first.

    A count of records is a sum over shapes, so it is found out once which shapes are in which sum: each counts as
    one in bits of its own.
    """

    def __init__(self, model: Expected, naming: Naming = label) -> None:
        self._model, self._naming = model, naming
        self._known: dict[Kind, int] = {}
        self._form: _Form | None = None

    def __call__(self, shapes: Mapping[Kind, int], refusals: Mapping[Refusal, int], stamp: str) -> Seen:
        """What a page showed; see `tally`."""
        seen = self._counted(shapes, stamp)
        return joined(seen, tally({}, refusals, self._model, stamp, self._naming)) if refusals else seen

    def _counted(self, shapes: Mapping[Kind, int], stamp: str) -> Seen:
        if not shapes.keys() <= self._known.keys() and len(shapes) <= SHAPES:
            known = {**self._known, **shapes}
            known = known if len(known) <= SHAPES else dict(shapes)
            self._known = {kind: number for number, kind in enumerate(known)}
            ones = {kind: 1 << _BITS * number for kind, number in self._known.items()}
            self._form = _form(tally(ones, {}, self._model, "", self._naming), self._model, len(ones))
        if self._form is None or len(shapes) > SHAPES:
            return tally(shapes, {}, self._model, stamp, self._naming)
        counts = [shapes.get(kind, 0) for kind in self._known]
        return _filled(self._form, counts, stamp) or NOTHING


class _Form(NamedTuple):
    """A place: for each kind the numbers of the shapes that count, and whether it is there in every record's model."""

    kinds: tuple[tuple[str, tuple[int, ...]], ...]
    named: bool
    below: tuple[tuple[str | Step, _Form], ...]


def _form(seen: Seen, model: Expected, width: int) -> _Form | None:
    """The form of a tree that was counted with shapes in bits; None if it is more than sums of them."""
    if seen.full:
        return None
    try:
        return _formed(seen, model, width, named=True)
    except ValueError:
        return None


def _formed(seen: Seen, model: Expected | None, width: int, *, named: bool) -> _Form:
    kinds = []
    for kind, count in seen.kinds.items():
        digits = [count.records >> _BITS * number & (1 << _BITS) - 1 for number in range(width)]
        if count.records < 0 or not {0, 1}.issuperset(digits):
            raise ValueError(kind)
        kinds.append((kind, tuple(number for number, digit in enumerate(digits) if digit)))
    below = [
        (step, _formed(one, model and model.at(step), width, named=not model or model.at(step) is not None))
        for step, one in seen.below()
    ]
    return _Form(tuple(kinds), named, tuple(below))


def _filled(form: _Form, counts: Sequence[int], stamp: str) -> Seen | None:
    """The tree of a page with so many records of each shape; None for a place that it does not have."""
    kinds = {}
    for kind, numbers in form.kinds:
        records = 0
        for number in numbers:
            records += counts[number]
        if records:
            kinds[kind] = Count(records, stamp)
    if not kinds or (not form.named and kinds.keys() == {ABSENT}):
        return None
    if not form.below:
        return Seen(kinds)
    fields: dict[str, Seen] = {}
    steps: dict[Step, Seen] = {}
    for step, inner in form.below:
        if one := _filled(inner, counts, stamp):
            if isinstance(step, str):
                fields[step] = one
            else:
                steps[step] = one
    return Seen(kinds, fields=fields, items=steps.get(ITEMS), each=steps.get(EACH))


def tally(
    shapes: Mapping[Kind, int],
    refusals: Mapping[Refusal, int],
    model: Expected,
    stamp: str,
    naming: Naming = label,
) -> Seen:
    """What a page showed: its records by shape, and the reasons for which some were refused.

    What is no object stands among the shapes as its type. `naming` makes of a name from data what may be kept.
    """
    made = _Made(Room(PLACES), naming, shapes)
    for (place, what, value), count in refusals.items():
        made.refuse(place, what, value, count)
    made.expand(model)
    return made.seen(stamp)._replace(full=made.room.full)


class _Absent:
    """The kind of what is not there."""


class _Made:
    """A place while a page is counted.

    `alone` counts the records that have one value here, by its kind; `several` those with a set of kinds, because
    a list was on the way.
    """

    def __init__(self, room: Room, naming: Naming, alone: Mapping[Kind, int] | None = None) -> None:
        self.room, self._naming = room, naming
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
            _stamped(dict(sorted(kinds.items())), stamp),
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
            found = self._below[step] = _Made(self.room, self._naming)
        return found

    def _open(self, model: Expected) -> None:
        """Count the fields of the objects here. Those that the model names have a place whether they come or not."""
        rows: dict[tuple[str, ...], list[tuple[tuple[Kind, ...], int]]] = {}
        for kind, count in self._alone.items():
            if type(kind) is Shape:
                rows.setdefault(kind.names, []).append((kind.kinds, count))
        named = self._naming
        groups = [
            ([dict(zip(map(named, one.names), one.kinds, strict=True)) for one in group if type(one) is Shape], count)
            for group, count in self._several.items()
        ]
        groups = [(objects, count) for objects, count in groups if objects]
        if not rows and not groups:
            return
        met = chain(model.fields, map(named, chain(*rows)), *(one for objects, _ in groups for one in objects))
        places = {name: place for name in dict.fromkeys(met) if (place := self._step(name))}
        for names, found in rows.items():
            counts = [count for _, count in found]
            for name, column in zip(names, zip(*(kinds for kinds, _ in found), strict=True), strict=False):
                if place := places.get(named(name)):
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
