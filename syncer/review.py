"""The rejects as they are stored: read, chosen, and grouped by cause, as values, as JSON and as CSV.

Everything here looks at one reject at a time: 100,000 of them are reviewed in the memory of a few hundred samples.
What people see of them is made by `exhibit`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from .decode import encode, exact
from .errors import ConfigError, StateError
from .ledger import NOTES
from .page import JSON, digest
from .sinks import Sink
from .stream import Stream
from .terminal import harmless, one_line, shortened
from .validate import Mask, signature

Row = dict[str, Any]

GROUPS = 500
"""How many causes are told apart: names that come as data can make any number of them."""
OTHERS = "(other causes)"
_ZONED = datetime(2000, 1, 1, tzinfo=UTC)
SAMPLES = 3
VALUES = 10
"""How many offending values of a cause are told apart."""
LARGEST = 2**16
"""The longest line that is kept as a sample as it stands."""


@dataclass(frozen=True, slots=True)
class Found:
    """A reject: its stream, its line as stored, and what the line says."""

    stream: str
    line: bytes
    row: Row

    @property
    def cause(self) -> str:
        """What groups it: the places of its faults with their indices folded, and their kinds."""
        return cause(self.row)

    @property
    def id(self) -> str:
        """Its name; see `identity`. A sample that was cut has it written down."""
        return str(self.row["id"]) if "cut" in self.row else identity(self.stream, self.row)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rejects are meant: all that fit everything that is said."""

    cause: str = ""
    since: datetime | None = None
    before: datetime | None = None
    run: int | None = None

    def __call__(self, found: Found) -> bool:
        """Whether this one is meant."""
        if self.run is not None and found.row["run"] != self.run:
            return False
        if self.cause and self.cause.casefold() not in found.cause.casefold():
            return False
        if self.since is None and self.before is None:
            return True
        at = datetime.fromisoformat(found.row["at"])
        return (self.since is None or at >= self.since) and (self.before is None or at < self.before)


def cause(row: Mapping[str, Any]) -> str:
    """What groups a reject: the places of its faults with their indices folded, and their kinds."""
    return "; ".join(sorted({signature(reason["path"], reason["type"]) for reason in row["reasons"]}))


def identity(stream: str, row: Mapping[str, Any]) -> str:
    """The short name of a reject, of what does not change when it is refused again: its place and its record."""
    return digest(f"{stream} {row['run']} {row['page']} {row['index']} {raw(row)}".encode(), 5)


def read(name: str, target: Sink, *, newest: bool = False) -> Iterator[Found]:
    """The rejects of a stream, the oldest first. StateError for a line that is none."""
    for number, line in enumerate(target.rejects(newest=newest), 1):
        try:
            found = parsed(name, line)
        except ValueError as error:
            raise StateError(
                f"line {number:,} of the rejects of {name} cannot be read: {error}",
                hint=f"{target.places()['rejects']} was changed by hand: restore it, or take the line out",
            ) from None
        yield found


def parsed(name: str, line: bytes) -> Found:
    """A stored line. ValueError, saying what is wrong with it, if it is none."""
    try:
        row = exact(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    try:
        _ = row["run"] + row["page"] + row["index"], datetime.fromisoformat(row["at"]) - _ZONED, raw(row), masked(row)
        _ = [(reason["path"].strip, reason["type"].strip, reason["message"].strip) for reason in row["reasons"]]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"it lacks what a reject has ({error})") from None
    return Found(name, line, row)


def raw(row: Mapping[str, Any]) -> str:
    """The record as it came, as JSON; its text where it is none."""
    return encode(row["record"]).decode() if "record" in row else str(row["text"])


def masked(row: Mapping[str, Any]) -> Mask | None:
    """Where masks stand in the record of a reject; None if it was not masked."""
    if "masked" not in row:
        return None
    places, faults = row["masked"]["places"], row["masked"]["faults"]
    if not all(isinstance(place, str) for place in places) or type(faults) is not int:
        raise TypeError("masked")
    return Mask(frozenset(places), more=faults)


def locate(record: JSON, path: str) -> tuple[str, JSON, str]:
    """The place in a record that a reason's path speaks of, what is there, and what of the path leads nowhere.

    The last is the name of a field that is missing, or one of the types that the model would have taken.
    """
    at, rest = "", path
    while rest:
        if isinstance(record, list):
            index, bracket, after = rest.partition("]")
            if not bracket or not index[1:].isdecimal() or int(index[1:]) >= len(record):
                break
            record, step = record[int(index[1:])], f"{index}]"
        elif isinstance(record, dict):
            keys = [key for key in _heads(rest) if key in record] or [key for key in record if _begins(rest, key)]
            if not keys:
                break
            key = max(keys, key=len)
            record, step, after = record[key], f".{key}" if at else key, rest[len(key) :]
        else:
            break
        at, rest = at + step, after.removeprefix(".")
    return at, record, rest


def _heads(path: str) -> Iterator[str]:
    """The name that a path most likely begins with."""
    yield path.partition(".")[0].partition("[")[0]


def _begins(path: str, key: str) -> bool:
    """Whether a path begins with a name that itself may hold dots and brackets."""
    return path.startswith(key) and path[len(key) : len(key) + 1] in ("", ".", "[")


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a stream before its last run: that run's number, and the causes of the pulls before it."""

    run: int
    causes: frozenset[str] | None


def before(stream: Stream, target: Sink, kind: str, runs: Sequence[Row]) -> Before:
    """What was known before the last run, by the ledger; None for causes that nobody has recorded."""
    checkpoint = target.peek()
    if checkpoint is None:
        return Before(0, None)
    pulls = [
        done.get("rejected_by_cause", {})
        for row in runs
        if row.get("sink") == kind
        for done in row["streams"]
        if done.get("stream") == stream.name and str(row["started"]) <= checkpoint.started
    ]
    # The newest comes first: it is the one that began the last run.
    earlier = frozenset(name for causes in pulls[1:] for name in causes)
    whole = len(pulls) > 1 and all(len(causes) < NOTES for causes in pulls[1:])  # else the ledger left some out
    known = whole or stream.incremental  # whose older rejects are still there to be compared with
    return Before(checkpoint.run, earlier if known else None)


@dataclass(slots=True)
class Group:
    """Rejects of one stream with one cause."""

    stream: str
    cause: str
    count: int = 0
    share: float = 0.0
    new: bool = False
    """Whether no run before the last one had this cause, as far as anybody knows."""
    first: str = ""
    last: str = ""
    runs: tuple[int, int] = (0, 0)
    """The first and the last run that had it."""
    pages: int = 0
    values: dict[str, int] = field(default_factory=dict)
    """How often each value came at the place of the first fault, in short."""
    samples: list[Found] = field(default_factory=list)
    _page: tuple[int, int] = (0, 0)

    def add(self, found: Found) -> None:
        """Count one."""
        row = found.row
        self.count += 1
        self.first, self.last = self.first or row["at"], row["at"]
        self.runs = (min(self.runs[0] or row["run"], row["run"]), max(self.runs[1], row["run"]))
        page = row["run"], row["page"]
        self.pages += page != self._page  # those of a page stand together
        self._page = page
        value = offending(row)
        if not self.samples or (value not in self.values and len(self.samples) < SAMPLES):
            self.samples.append(_sample(found))
        name = value if value in self.values or len(self.values) < VALUES else "…"
        self.values[name] = self.values.get(name, 0) + 1

    def to_json(self) -> Row:
        """The same for machines; the samples are lines of the rejects, whose depth and digits nothing here limits."""
        samples = [orjson.Fragment(line(sample)) for sample in self.samples]
        return {
            "stream": self.stream,
            "cause": self.cause,
            "count": self.count,
            "share": self.share,
            "new": self.new,
            "first": self.first,
            "last": self.last,
            "runs": list(self.runs),
            "pages": self.pages,
            "values": self.values,
            "sample": samples[0],
            "samples": samples,
        }


def offending(row: Mapping[str, Any]) -> str:
    """The value at the first fault, short; empty where there is none, as for a field that is missing."""
    if "record" not in row or not row["reasons"]:
        return ""
    reason = row["reasons"][0]
    _, value, rest = locate(row["record"], reason["path"])
    if not reason["path"] or (rest and reason["type"] == "missing") or isinstance(value, dict | list):
        return ""
    return shortened(encode(value).decode(), 40)


def _sample(found: Found) -> Found:
    if len(found.line) <= LARGEST:
        return found
    row = {name: value for name, value in found.row.items() if name != "record"}
    row |= {"text": raw(found.row)[:LARGEST] + "…", "cut": True, "id": found.id}
    return Found(found.stream, encode(row), row)


def causes(found: Iterable[Found], known: Mapping[str, Before]) -> list[Group]:
    """Rejects grouped by stream and cause, the commonest first."""
    groups: dict[tuple[str, str], Group] = {}
    for each in found:
        name = each.stream, each.cause
        if name not in groups and len(groups) >= GROUPS:
            name = each.stream, OTHERS
        groups.setdefault(name, Group(*name)).add(each)
    total = sum(group.count for group in groups.values())
    for group in groups.values():
        group.share = round(group.count / total, 4)
        group.new = _new(group, known.get(group.stream, Before(0, None)))
        group.values = dict(sorted(group.values.items(), key=lambda pair: (pair[0] == "…", -pair[1])))
    return sorted(groups.values(), key=lambda group: -group.count)


def _new(group: Group, known: Before) -> bool:
    return known.run > 1 and group.runs[0] == known.run and known.causes is not None and group.cause not in known.causes


def one(found: Iterable[Found], name: str) -> Found:
    """The reject whose id begins so. ConfigError if there is none, or more than one."""
    match: list[Found] = []
    for each in found:
        if each.id.startswith(name):
            match.append(each)
            if len(match) > 1 and match[0].id != name:
                break
    exactly = [each for each in match if each.id == name] or match
    if len(exactly) != 1:
        what = f"more than one reject begins with {name!r}" if match else f"there is no reject {name!r}"
        raise ConfigError(what, hint="`syncer rejects SOURCE` shows an id beside each sample, --all those of all")
    return exactly[0]


def line(found: Found) -> bytes:
    """One reject for machines: its line with the stream's name and its own."""
    return b'{"stream":' + orjson.dumps(found.stream) + b',"id":"' + found.id.encode() + b'",' + found.line[1:]


COLUMNS = ("stream", "id", "at", "run", "page", "index", "cause", "reasons", "record", "request", "model")


def rows(found: Iterable[Found]) -> Iterator[str]:
    """The same as lines of CSV, the names of the columns first. No cell can be taken for a formula."""
    yield _csv(COLUMNS)
    for each in found:
        row = each.row
        faults = "; ".join(f"{reason['path'] or '(record)'}: {reason['message']}" for reason in row["reasons"])
        place = str(row["run"]), str(row["page"]), str(row["index"])
        record = harmless(raw(row).encode("utf-8", "surrogatepass"))
        asked = str(row.get("request", "")), str(row.get("model", ""))
        yield _csv((each.stream, each.id, row["at"], *place, each.cause, faults, record, *asked))


def _csv(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_cell(cell) for cell in cells])
    return text.getvalue()


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula, on one line."""
    danger = text[:1] in ("\t", "\r", "\n") or text.lstrip()[:1] in tuple("=+-@＝＋－＠")
    return ("'" if danger else "") + one_line(text)
