"""From a Page to records and rejects. The only place where a ValidationError is caught.

The model decides whether a record is accepted and which of its fields are written; how they are written
is the API's own JSON, no digit lost (D3). Validation is strict and happens on JSON bytes: `"12"` is
no integer, an ISO date is a date.

A reject is one line of JSON, enough to try again without the network:

    {"v": 1,
     "reasons": [{"path": "lines[2].price", "type": "decimal_parsing", "message": "Input should be ..."}],
     "record": {...},                        the record as it came; instead of it
     "text": "...",                          its text, if it is not JSON that readers can take
     "page": 3, "index": 17, "run": 1,       where it was: page of that run, place on that page (from 0)
     "request": "GET https://...",           what was asked, without secrets
     "cursor": {"url": ..., "params": ...},  the same as a Request in its saved form, below the base URL
     "model": "Order 4f1c...",               the model that refused it, with its fingerprint
     "at": "2026-01-31T12:00:00.000Z"}

`reasons` holds the first 20; `"more": n` counts the others. Of a stream that masks there is besides

     "masked": {"places": ["email"], "faults": 1}    where a mask stands for a value, and how many of the reasons only
                                                     the value itself could take back
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, cached_property
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, RootModel, ValidationError, create_model
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ErrorType

from .choices import Choices
from .decode import Rows, UnfitError, Unparsable, encode, exact, text_of
from .drift import refusals
from .errors import SyncerError
from .expected import LABEL, expected, label, moves, taken_names
from .fields import BRANCH, again
from .moulds import Mould
from .page import JSON, MISSING, Page, digest
from .quick import DIGITS, Quick
from .seen import NOTHING, Seen, joined
from .shapes import Kind, shape
from .stream import Stream, model_fingerprint, wire_names
from .tally import Refusal, Tally

REASONS = 20
LABELS = 4096
"""How many names from data are remembered as they may be kept."""
VALUES = 1_000_000
"""How many values a record may hold: each may be a fault, and pydantic keeps about a kilobyte of every one."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a record was refused: where in it, what kind of fault, and in words."""

    path: str
    type: str
    message: str
    hidden: bool = False
    """Whether a value that is masked had a part in it, so that nobody can tell from its mask what would be today."""
    location: tuple[str | int, ...] = ()
    """The way to the place as pydantic names it; empty for the whole record, and where the fault is not pydantic's."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What is known of a record besides its masked form, so that it can be judged again: see the module."""

    places: frozenset[str]
    faults: tuple[Reason, ...] = ()
    more: int = 0
    alone: bool = False
    """Whether the model was never asked about the rest of the record."""


class Record(NamedTuple):
    """An accepted record: its line of JSON, and where it stands in the stream's order.

    A page has a thousand of them, so what can be read from the line again is not kept beside it.
    """

    line: bytes
    order: Any
    wire: JSON
    """The replication value as the API sent it; `order` is the same, comparable."""

    @property
    def values(self) -> dict[str, JSON]:
        """What the line says, read anew each time."""
        return exact(self.line)  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """A fingerprint of what is written, in whatever order the API sends its fields."""
        return digest(encode(self.values, ordered=True))


@dataclass(frozen=True, slots=True)
class Reject:
    """A refused record: its line in the rejects file. The rest as in Record."""

    line: bytes
    digest: str
    order: Any
    wire: JSON
    cause: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a page. `unknown` counts fields that the model does not name; `seen` is what was in them."""

    records: tuple[Record, ...]
    rejects: tuple[Reject, ...]
    unknown: Mapping[str, int]
    kept: tuple[tuple[bytes, Mask], ...] = ()
    """Each record as it may be kept, where the stream masks and the Validator was told to."""
    seen: Seen = NOTHING


Refuses = Callable[[Mapping[str, JSON]], Iterable[Reason]]
"""What a sink cannot hold of a record, and why; see `Sink.refuses`."""


class Validator:
    """Judges the pages of one stream for one sink.

    `safe` takes secrets out of what the model's own code says, and out of the names of fields. `key` is that of the
    output's masks, which a stream that masks must have; SyncerError without. `keep` asks for `Verdict.kept`.
    """

    def __init__(
        self,
        stream: Stream,
        refuses: Refuses,
        safe: Callable[[str], str] = str,
        *,
        key: bytes = b"",
        keep: bool = False,
    ) -> None:
        self._stream, self._refuses, self._safe = stream, refuses, safe
        self._masks, self._mask_key, self._keep = stream.masks, key, keep
        if self._masks and not key:
            raise SyncerError("there is no key for what this stream masks")
        self._model = stream.model
        self._names = wire_names(stream.model)
        self._title = f"{stream.model.__name__} {model_fingerprint(stream.model)}"
        self._open = not self._names
        self._quick = Quick(self._model, _plainly, stream.unknown)
        self._keys, self._key = stream.key, stream.replication_key
        self._attribute = self._names.get(self._key or "", "") if self._quick.certain else ""
        self.order = ordering(stream)
        self.expected = expected(stream.model)
        self._mould = Mould(stream.model)
        self._tally = Tally(self.expected, self._named)
        self._choices = Choices(self.expected, safe, self._masks.touches if self._masks else None)
        self._labels: dict[str, str] = {}

    def judge(self, page: Page, run: int, stamp: str) -> Verdict:
        """Every record of the page, accepted or rejected; none is lost, none raises."""
        accepted: list[Record] = []
        rejected: list[Reject] = []
        unknown: Counter[str] = Counter()
        kept: list[tuple[bytes, Mask]] = []
        shapes: Counter[Kind] = Counter()
        against: Counter[Refusal] = Counter()
        quick = isinstance(page.records, Rows) and not self._open and not self._masks
        raws = page.records.raws if isinstance(page.records, Rows) and quick else ()
        for index in range(len(page.records)):
            record = self._quickly(raws[index], unknown, shapes) if raws else None
            if record is not None:
                accepted.append(record)
                continue
            raw = page.records[index]
            before: Mask | None = page.masked.get(index)
            outcome = self._again(raw, unknown, before) if before else self._one(raw, unknown)
            if self._masks and not isinstance(outcome, Record):
                outcome = self._sorted(outcome)
            if self._masks and self._keep:
                kept.append(self._hidden(raw, outcome, before))
            if isinstance(outcome, Record):
                accepted.append(outcome)
            else:
                rejected.append(self._reject(raw, outcome, page, index, run, stamp, before))
            if not before:
                self._look(raw, outcome, shapes, against)
        named: Counter[str] = Counter()
        for name, count in unknown.items():
            if not self._masks or self._masks.shown(name) == name:  # else it is a name within what is masked
                named[self._safe(name)] += count
        seen = joined(self._tally(shapes, against, stamp), self._choices.taken(stamp))
        return Verdict(tuple(accepted), tuple(rejected), dict(named), tuple(kept), seen)

    def _look(
        self, raw: JSON, outcome: Record | list[Reason], shapes: Counter[Kind], against: Counter[Refusal]
    ) -> None:
        """Count what a record that went the careful way shows; of what is masked no more than its type."""
        came = self._masks.blanked(raw) if self._masks else raw
        shapes[shape(came) if type(came) is dict else type(came)] += 1
        if isinstance(outcome, Record):
            self._choices.add(outcome.values)
            return
        faults = ((one.location, one.type) for one in outcome if not one.hidden)
        against.update(refusals(came, faults, self.expected, self._safe))
        if type(came) is dict:
            self._choices.add(came)

    def _named(self, name: str) -> str:
        """A name from data as it may be kept."""
        if name not in self._labels:
            if len(self._labels) >= LABELS:
                self._labels.clear()
            if len(name) > LABEL:
                return label(self._safe(name))
            self._labels[name] = label(self._safe(name))
        return self._labels[name]

    def _quickly(self, raw: bytes, unknown: Counter[str], shapes: Counter[Kind]) -> Record | None:
        """The record if there is nothing odd about it; None if that cannot be told quickly, or it is refused."""
        if len(raw) > VALUES and raw.count(b",") >= VALUES:
            return None
        try:
            found = self._quick(raw)
        except MemoryError:
            raise
        except (Exception, SystemExit):  # of the model's own code; the careful way says what
            return None
        if found is None:
            return None
        line, values, instance, extra, came = found
        for key in self._keys:
            if values.get(key) is None:
                return None
        for _ in self._refuses(values):
            return None
        if extra:
            unknown.update(extra)
        shapes[self._mould(values) if came is None else shape(came)] += 1
        self._choices.add(values)
        if self._key is None:
            return Record(line, None, None)
        wire = values.get(self._key)
        known = self._attribute and wire is not None
        return Record(line, comparable(getattr(instance, self._attribute)) if known else self.order(wire), wire)

    def _one(self, raw: JSON, unknown: Counter[str], before: Mask | None = None) -> Record | list[Reason]:
        if isinstance(raw, Unparsable):
            return [Reason("", "not_json", f"The record is not JSON: {raw.problem}")]
        if not isinstance(raw, dict):
            return [Reason("", "not_an_object", "A record should be an object")]
        try:
            line = encode(raw)
            if len(line) > VALUES and line.count(b",") >= VALUES and crowded(raw):
                return [Reason("", "too_many_values", f"A record should hold at most {VALUES:,} values")]
            instance = (self._lenient if before else self._model.__pydantic_validator__).validate_json(
                line, strict=True
            )
        except UnfitError as error:
            return [Reason(place(error.path), error.kind, str(error))]
        except ValidationError as error:
            if not self._masks:
                return reasons(error)
            return [self._discreet(fault, raw) for fault in faults_of(error) if BRANCH not in fault["loc"]]
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:  # a validator of the author's model raised something of its own
            return [Reason("", "model_error", f"The model's own code failed: {type(error).__name__}")]
        if not isinstance(instance, BaseModel):
            return [Reason("", "model_error", "The model's own code returned something that is no model")]
        return self._accepted(raw, line, instance, unknown, before)

    def _again(self, raw: JSON, unknown: Counter[str], before: Mask) -> Record | list[Reason]:
        """The same of a record that was masked: what was wrong with the values themselves is still wrong with them."""
        if before.alone:
            return list(before.faults)
        named: Counter[str] = Counter()
        outcome = self._one(raw, named, before)
        if isinstance(outcome, Record):
            if not before.faults:
                unknown.update(named)
            return list(before.faults) or outcome
        return [*before.faults, *(one for one in self._sorted(outcome) if not one.hidden)] or outcome

    @cached_property
    def _lenient(self) -> Any:
        return again(self._model)

    def _discreet(self, fault: Mapping[str, Any], raw: JSON) -> Reason:
        """A fault that pydantic found, without anything of a masked value that it or the model's code may repeat."""
        path, near = self._masks.seen(fault["loc"])
        kind, message = fault["type"], fault["msg"]
        if kind not in _KINDS or (near and message != _usual(kind)):
            message = "Not shown: the model's own code may repeat what is masked" if not near else "The value is masked"
        hidden = near and kind != "missing" and _found(raw, fault["loc"]) is not None
        return Reason(place(path), kind if kind in (*_KINDS, *_OWN) else "custom_error", message, hidden, path)

    def _sorted(self, faults: Sequence[Reason]) -> list[Reason]:
        """The faults, those first that only the masked values themselves could take back."""
        known = []
        for one in faults:
            path = self._masks.shown(one.path)
            near = one.hidden or (one.type in _OURS and self._masks.seen(stepped(path))[1])
            known.append(replace(one, path=path, hidden=near))
        return sorted(known, key=lambda one: not one.hidden)

    def _hidden(self, raw: JSON, outcome: Record | list[Reason], before: Mask | None) -> tuple[bytes, Mask]:
        """A record as it may be kept, and what must be known to judge it again."""
        found, places = self._masked(raw, before)
        line = text_of(found).encode()
        if isinstance(outcome, Record):
            return line, Mask(places)
        faults = [one for one in outcome if one.hidden]
        never = bool(faults) and all(one.type in _OURS and one.type != "datetime_from_digits" for one in outcome)
        alone = before.alone if before else never
        return line, Mask(places, tuple(faults[:REASONS]), max(0, len(faults) - REASONS), alone)

    def _masked(self, raw: JSON, before: Mask | None) -> tuple[JSON, frozenset[str]]:
        done = before.places if before else frozenset()
        found, places = self._masks.applied(raw, self._mask_key, done=done, kept=True)
        return found, frozenset(places)

    def _accepted(
        self,
        raw: dict[str, JSON],
        line: bytes,
        instance: BaseModel,
        unknown: Counter[str],
        before: Mask | None,
    ) -> Record | list[Reason]:
        extra: list[str] = []
        epochs: list[str] = []
        values = raw if self._open else _project_value(instance, raw, "", extra, epochs)
        if extra and self._stream.unknown == "reject":
            return [
                Reason(path, "unknown_field", "The model does not name this field", location=(path,)) for path in extra
            ]
        if self._stream.unknown == "keep":
            values = raw
        if self._masks:
            done = before.places if before else frozenset()
            values, _ = self._masks.applied(values, self._mask_key, done=done)
            line = b""
        faults = [Reason(path, "datetime_from_digits", "A time should be an ISO date and time") for path in epochs]
        faults += [
            Reason(key, "missing_key", "A primary key should have a value")
            for key in self._stream.key
            if values.get(key) is None
        ]
        faults += self._refuses(values)
        if faults:
            return faults
        unknown.update(extra)
        key = self._stream.replication_key
        return Record(
            line=line if values is raw and line else encode(values),
            order=self.order(values.get(key)) if key else None,
            wire=values.get(key) if key else None,
        )

    def _reject(
        self,
        raw: JSON,
        faults: Sequence[Reason],
        page: Page,
        index: int,
        run: int,
        stamp: str,
        before: Mask | None = None,
    ) -> Reject:
        body: dict[str, JSON]
        note: dict[str, JSON] = {}
        more = before.more if before else 0
        if self._masks:
            raw, places = self._masked(raw, before)
            undecided = sum(one.hidden for one in faults) + more
            note = {"masked": {"places": sorted(places), "faults": undecided}} if places else {}
        faults = [Reason(self._safe(one.path), one.type, self._safe(one.message)) for one in faults]
        try:
            if isinstance(raw, Unparsable):
                raise UnfitError("not_json", "", ())
            line = encode(raw, ordered=True)
            body = {"record": raw}
        except (ValueError, RecursionError):
            line = text_of(raw).encode()
            body = {"text": line.decode()}
        wire = raw.get(self._stream.replication_key) if isinstance(raw, dict) else None
        saved = {
            "v": 1,
            "reasons": [{"path": r.path, "type": r.type, "message": r.message} for r in faults[:REASONS]],
            **({"more": len(faults) + more - REASONS} if len(faults) + more > REASONS else {}),
            **body,
            **note,
            "page": page.number,
            "index": index,
            "run": run,
            "request": page.asked,
            "cursor": page.request.to_json(),
            "model": self._title,
            "at": stamp,
        }
        order = self.order(wire)
        return Reject(encode(saved), refused(line), order, None if order is None else wire, cause(faults))


def _plainly(instance: BaseModel, raw: dict[str, JSON], extra: list[str], epochs: list[str]) -> Mapping[str, JSON]:
    return _project_value(instance, raw, "", extra, epochs)  # type: ignore[no-any-return]


def project(
    instance: BaseModel, raw: Mapping[str, JSON], prefix: str, extra: list[str], epochs: list[str]
) -> Mapping[str, JSON]:
    """The raw object with only the fields its model names, at every depth; `extra` collects the others' paths.

    `epochs` collects the places of times that came as a string of digits, which pydantic takes for seconds
    since 1970, also in strict mode. The very same object comes back when the model names everything, and
    also when a validator may have moved things about so that instance and object no longer belong together.
    """
    names = _names_of(type(instance))
    if instance.model_config.get("extra") == "allow":
        return raw
    wanted = {names[key] for key in raw if key in names}
    found = instance.model_fields_set & set(names.values())
    if wanted != found and (prefix or not wanted < found or moves(type(instance))):
        return raw
    kept: dict[str, JSON] = {}
    changed = False
    for key, value in raw.items():
        attribute = names.get(key)
        if attribute is None:
            extra.append(prefix + key)
            changed = True
            continue
        inner = _project_value(getattr(instance, attribute), value, f"{prefix}{key}", extra, epochs)
        changed = changed or inner is not value
        kept[key] = inner
    return kept if changed else raw


def _project_value(value: Any, raw: JSON, path: str, extra: list[str], epochs: list[str]) -> JSON:
    if isinstance(value, RootModel):
        return _project_value(value.root, raw, path, extra, epochs)
    if isinstance(value, BaseModel) and isinstance(raw, dict):
        return project(value, raw, f"{path}." if path else "", extra, epochs)
    if isinstance(value, date) and isinstance(raw, str) and DIGITS.match(raw):
        epochs.append(path)
    if isinstance(value, list | tuple) and isinstance(raw, list) and len(value) == len(raw):
        pairs = zip(value, raw, strict=True)
        items = [_project_value(item, one, path + "[]", extra, epochs) for item, one in pairs]
        return items if any(item is not one for item, one in zip(items, raw, strict=True)) else raw
    if isinstance(value, dict) and isinstance(raw, dict) and len(value) == len(raw):
        belonging = dict(zip(raw, value.values(), strict=True))
        made = {key: _project_value(belonging[key], one, f"{path}.*", extra, epochs) for key, one in raw.items()}
        return made if any(made[key] is not one for key, one in raw.items()) else raw
    return raw


_NAMES: dict[type[BaseModel], dict[str, str]] = {}


def _names_of(model: type[BaseModel]) -> dict[str, str]:
    """The names under which the model takes its fields from JSON, remembered by class."""
    if model not in _NAMES:
        _NAMES[model] = taken_names(model)
    return _NAMES[model]


def faults_of(error: ValidationError) -> list[Any]:
    """Every fault pydantic found, without the values it found them in."""
    return list(error.errors(include_url=False, include_input=False, include_context=False))


def reasons(error: ValidationError) -> list[Reason]:
    """The same in our form."""
    return [
        Reason(place(fault["loc"]), fault["type"], fault["msg"], location=fault["loc"]) for fault in faults_of(error)
    ]


_OWN = ("value_error", "assertion_error")
"""The kinds whose words come from the model's own code."""
_KINDS = frozenset(get_args(ErrorType)) - {*_OWN}
"""The others that pydantic knows."""


@cache
def _usual(kind: Any) -> str | None:
    """What pydantic says of a kind of fault, whatever the value; None where it puts something in."""
    try:
        return PydanticKnownError(kind).message()
    except TypeError:
        return None


_OURS = (
    "not_json",
    "not_an_object",
    "too_many_values",
    "model_error",
    "datetime_from_digits",
    "lone_surrogate",
    "number_out_of_range",
    "too_deep",
)
"""The kinds that are found here and not by pydantic, as far as the value itself has a part in them."""


def stepped(path: str) -> list[str | int]:
    """`lines[2].price` as `("lines", 2, "price")`."""
    return [int(index) if index else name for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]


def _found(raw: JSON, location: Iterable[str | int]) -> JSON:
    """The value that a fault is about; names of alternatives, which are not in the record, are passed over."""
    for step in location:
        if isinstance(raw, list) and isinstance(step, int):
            raw = raw[step] if step < len(raw) else raw
        elif isinstance(raw, dict):
            raw = raw.get(step, raw)
    return raw


def crowded(value: JSON) -> bool:
    """Whether there are more than VALUES in it, at all depths."""
    waiting, count = [value], 0
    while waiting and count <= VALUES:
        inner = waiting.pop()
        if isinstance(inner, dict | list):
            count += len(inner)
            waiting.extend(inner.values() if isinstance(inner, dict) else inner)
    return count > VALUES


def place(location: Iterable[str | int]) -> str:
    """`("lines", 2, "price")` as `lines[2].price`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def refused(raw: bytes) -> str:
    """The digest of a rejected record, from its ordered line of JSON, or its text where it has none."""
    return digest(b"reject\0" + raw)


def cause(faults: Sequence[Reason]) -> str:
    """What groups rejects: the places of the faults with their indices folded, and the kinds."""
    return "; ".join(sorted({signature(fault.path, fault.type) for fault in faults}))


def signature(path: str, kind: str) -> str:
    """`lines[2].price` and its kind as `lines[].price: decimal_parsing`."""
    folded = re.sub(r"\[\d+\]", "[]", path)
    return f"{folded or '(record)'}: {kind}"


def ordering(stream: Stream) -> Callable[[JSON], Any]:
    """How to compare a replication value as the API sent it: by the type the model gives it; None if it has none."""
    key = stream.replication_key
    if key is None:
        return lambda value: None
    attribute = wire_names(stream.model)[key]
    info = copy(stream.model.model_fields[attribute])
    alone: dict[str, Any] = {attribute: (info.annotation, info)}
    others: dict[str, Any] = {name: (Any, None) for name in stream.model.model_fields if name != attribute}
    # The subclass has the field's own validators; the plain model stands in where the model's need the other fields.
    keys = [create_model("Key", __base__=stream.model, **others), create_model("Key", **alone)]

    def typed(value: JSON) -> Any:
        if value is None or value is MISSING:
            return None
        for one in keys:
            try:
                instance = one.__pydantic_validator__.validate_json(encode({key: value}), strict=True)
                return comparable(getattr(instance, attribute))
            except MemoryError:
                raise
            except (Exception, SystemExit):  # noqa: S112 whatever a validator raises, here is no place in the order
                continue
        return None

    return typed


def less(one: Any, other: Any) -> bool:
    """Whether one place in the order lies before another; False where the two cannot be compared."""
    try:
        return bool(one < other)
    except (TypeError, ArithmeticError):
        return False


def comparable(value: Any) -> Any:
    """Dates and times as moments in UTC, one without a zone taken for UTC; numbers and text as they are."""
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        except OverflowError:
            return None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value if isinstance(value, int | float | Decimal | str) else None
