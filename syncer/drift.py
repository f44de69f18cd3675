"""Drift: what of a stream is no longer as it was, whether or not a record was rejected for it.

A run is compared with what the complete runs before it saw. The first one has nothing to be compared with: its
drift is what the model does not expect, fields that it does not name and kinds that it refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from .choices import news
from .expected import EACH, ITEMS, Expected, Place, Step, label, shown
from .page import JSON
from .seen import ABSENT, LIST, NOTHING, NULL, OBJECT, SOME, UNNAMED, VALUE, VALUES, Count, Seen, word
from .tally import Refusal

What = Literal["new", "vanished", "type", "null", "absent", "value"]

REASONS = 1000
"""Of a record with more faults only so many are looked at."""
CHANGES = 200
"""So many changes are told of a stream, those that cost records first."""

Fault = tuple[tuple[str | int, ...], str]
"""Why a record was refused: the way to the place as pydantic names it, and the type of the fault."""

_UNLIKELY = 0.001
"""A field counts as gone where it would stay away by chance as rarely as this."""
_ORDER: tuple[What, ...] = ("value", "type", "null", "absent", "vanished", "new")
_CHOICES = ("literal_error", "enum")
_STRANGERS = ("extra_forbidden", "unknown_field")
_FORM = re.compile(
    r".*_type|.*_parsing(_size)?|(int|date|datetime)_from_(float|date.*)|timezone_.*|none_required|is_.*_of"
)
"""The types of faults that say: this is not the kind of value that the model takes, or not the form of one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was.

    `seen` is the kind of value that is new, or the value itself as JSON; `count` of `of` records show it, the first
    at `first`; `before` is the same over the runs before, None where there were none. `refused` of them were
    rejected for it. `model` is the type that the model gives to the place, empty if it does not name it. `form`: not
    the kind is new, but what the model refuses of it.
    """

    place: Place
    what: What
    seen: str
    count: int
    of: int
    first: str
    before: tuple[int, int] | None
    refused: int
    model: str
    form: bool = False

    @property
    def path(self) -> str:
        """Where, in words."""
        return shown(self.place)

    @property
    def text(self) -> str:
        """What happened, in a few words."""
        match self.what:
            case "new":
                return f"{self.path} is new: {self.seen}"
            case "vanished":
                return f"{self.path} is gone"
            case _:
                return f"{self.path} is {self.seen}" + (" of another form" if self.form else "")

    def to_json(self) -> dict[str, JSON]:
        """The same for machines; the keys are documented in docs/reference.md."""
        return {
            "path": self.path,
            "change": self.what,
            "seen": json.loads(self.seen) if self.what == "value" else self.seen,
            "count": self.count,
            "of": self.of,
            "first_seen": self.first,
            "before": {"count": self.before[0], "of": self.before[1]} if self.before else None,
            "rejected": self.refused,
            "model": self.model or None,
            "form": self.form,
            "text": self.text,
        }


def refusals(raw: Any, faults: Iterable[Fault], model: Expected, safe: Callable[[str], str] = str) -> list[Refusal]:
    """What the faults of a record say about kinds and choices; those that say something else are left out.

    A value in which `safe` finds a secret is not kept, nor such a part of a name.
    """
    few = islice(faults, REASONS)
    found = dict.fromkeys(one for fault in few if (one := _refusal(raw, *fault, model, safe)))
    chosen = {place for place, _, value in found if value}
    return [one for one in found if one[2] or one[0] not in chosen or one[1] in (NULL, ABSENT)]


def _refusal(
    raw: Any, location: Sequence[str | int], kind: str, model: Expected, safe: Callable[[str], str]
) -> Refusal | None:
    place: list[str | Step] = []
    here: Expected | None = model
    value = raw
    if location and location[-1] == "[key]":
        return None
    for number, step in enumerate(location):
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            place.append(ITEMS)
            value, here = value[step], here and here.items
        elif isinstance(value, dict) and isinstance(step, str):
            missing = step not in value and kind == "missing" and number == len(location) - 1
            if step not in value and not missing:
                continue  # the name of one of several types that the model takes here
            if here and len(here.models) > 1:
                return None  # nobody can say which of the models was meant
            each = here and here.each
            place.append(EACH if each else label(safe(step)))
            if missing:
                return tuple(place), ABSENT, False
            value, here = value[step], each or (here and here.fields.get(label(step)))
    return (tuple(place), *found) if place and (found := _reason(value, kind, here, safe)) else None


def _reason(value: Any, kind: str, here: Expected | None, safe: Callable[[str], str]) -> tuple[str, bool] | None:
    if kind in _STRANGERS:
        return UNNAMED, False
    found = word(type(value))
    if found == NULL and kind != "missing_key":
        return NULL, False
    kept = isinstance(value, int) or (isinstance(value, str) and safe(value) == value)
    if kind in _CHOICES and kept and len(text := json.dumps(value)) <= VALUE:
        return text, True
    if kind not in _CHOICES and not _FORM.fullmatch(kind):
        return None
    inside = here and ((found == OBJECT and (here.models or here.each)) or (found == LIST and here.items))
    return None if inside else (found, False)


def changes(run: Seen, before: Seen, model: Expected, *, whole: bool | None) -> list[Change]:
    """What a run saw that the complete runs before it did not, the most important first, and not without end.

    `whole`: the run has seen everything there is, so what is not there is gone; None: it is not over yet.
    """
    found = sorted(
        _Comparison(whole, known=bool(before.kinds), full=before.full).record(run, before, model),
        key=lambda one: (-one.refused, _ORDER.index(one.what), -one.count, one.path),
    )
    return found[:CHANGES]


def strangers(seen: Seen, model: Expected, after: str, place: Place = ()) -> Iterator[tuple[Place, Expected, Seen]]:
    """Fields first seen after a moment that the model around them does not name: the place, that model, the field."""
    for step, one in seen.below():
        if inner := model.at(step):
            yield from strangers(one, inner, after, (*place, step))
        elif model.closed and isinstance(step, str) and one.first > after:
            yield (*place, step), model, one


@dataclass(frozen=True)
class _Comparison:
    """A run beside those before it. `known`: there were some; `full`: not all of their places were followed."""

    whole: bool | None
    known: bool
    full: bool

    def record(self, now: Seen, was: Seen, model: Expected) -> Iterator[Change]:
        """The changes of whole records, and of what is in them."""
        for kind, count in now.kinds.items():
            if kind != OBJECT and kind not in was.kinds:
                before = self._before(0, was.there)
                yield Change((), "type", kind, count.records, now.there, count.first, before, count.records, "")
        yield from self._below((), now, was, model)

    def _below(self, place: Place, now: Seen, was: Seen, model: Expected) -> Iterator[Change]:
        if OBJECT in now.kinds:
            for name in dict.fromkeys((*now.fields, *was.fields)):
                inner = model.fields.get(name)
                told = bool(was.fields) and not self.full if self.known else inner is None and model.closed
                yield from self._field((*place, name), now, was, inner, told)
        for step, one in now.below():
            if isinstance(step, Step) and (inner := model.at(step)):
                other = was.at(step) or NOTHING
                yield from self._kinds((*place, step), one, other, inner, one.there, other.there)
                yield from self._below((*place, step), one, other, inner)

    def _field(self, place: Place, around: Seen, before: Seen, model: Expected | None, told: bool) -> Iterator[Change]:
        """The changes of one field of the objects seen around it, now and before; `told`: also that it is new."""
        name = str(place[-1])
        now, was = around.fields.get(name, NOTHING), before.fields.get(name, NOTHING)
        of, once = around.records(OBJECT), before.records(OBJECT)
        if now.there and told and (not was.there or self._gone(was, once, was.away)):
            text, refused = _alternatives(now), now.refused.get(UNNAMED, _NONE).records
            yield Change(
                place, "new", text, now.there, of, now.first, self._before(was.there, once), refused, _text(model)
            )
        elif was.there and not now.there and self._vanishes(was, once, of):
            first = around.kinds[OBJECT].first
            yield Change(place, "vanished", ABSENT, of, of, first, (was.there, once), 0, _text(model))
            return
        yield from self._kinds(place, now, was, model, of, once)
        if model:
            yield from self._below(place, now, was, model)

    def _kinds(
        self, place: Place, now: Seen, was: Seen, model: Expected | None, of: int, once: int
    ) -> Iterator[Change]:
        """What kinds of values are new at a place, and for which the model now refuses records."""
        told = {kind for kind in now.kinds if was.there and kind not in was.kinds and kind != SOME}
        if told <= _NUMBERS and was.present.keys() & _NUMBERS and (model or not told - was.kinds.keys()):
            told -= _NUMBERS  # 5 and 5.0 are one thing to many servers; what the model refuses is told all the same
        told |= now.refused.keys() - was.refused.keys() - {UNNAMED}
        for kind in sorted(told):
            what: What = "null" if kind == NULL else "absent" if kind == ABSENT else "type"
            count = refused = now.refused.get(kind, _NONE)
            form = self._form(kind, now, was)
            if not form and kind in now.kinds:
                count = now.kinds[kind]
            before = self._before(was.refused.get(kind, _NONE).records if form else was.records(kind), once)
            yield Change(place, what, kind, count.records, of, count.first, before, refused.records, _text(model), form)
        none = self._before(0, once)
        for value, count in now.values.items():
            if value not in was.values and len(was.values) < VALUES:
                yield Change(place, "value", value, count.records, of, count.first, none, count.records, _text(model))
        for value, count in news(now, was, model):
            if value not in now.values:
                yield Change(place, "value", value, count.records, of, count.first, none, 0, _text(model))

    def _form(self, kind: str, now: Seen, was: Seen) -> bool:
        """Whether the kind is no news, but only the form in which the model refuses it."""
        refused = now.refused.get(kind, _NONE).records
        return bool(refused) and (kind in was.kinds or (not self.known and refused < now.records(kind)))

    def _before(self, count: int, of: int) -> tuple[int, int] | None:
        return (count, of) if self.known else None

    def _vanishes(self, was: Seen, once: int, of: int) -> bool:
        """Whether this run is the one to say that a field of earlier runs is gone."""
        return self.whole is not None and not self._gone(was, once, was.away) and self._gone(was, once, was.away + of)

    def _gone(self, was: Seen, once: int, away: int) -> bool:
        """Whether a field that was away for so many records counts as gone, and not as rare."""
        share = was.there / (once - was.away + 1)
        return bool(away) and (bool(self.whole) or (1 - share) ** away < _UNLIKELY)


_NONE = Count(0, "")
_NUMBERS = {"integer", "number"}


def _text(model: Expected | None) -> str:
    return model.text if model else ""


def _alternatives(seen: Seen) -> str:
    """The kinds of values at a place: `text or null`."""
    return " or ".join(sorted(seen.present, key=lambda kind: (kind == NULL, kind)))
