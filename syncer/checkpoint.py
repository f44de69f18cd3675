"""The checkpoint: what one stream remembers, and its saved form.

Saved as one row of a SQLite table, in the same transaction or behind the same fsync as the page it covers:

    CREATE TABLE syncer_checkpoint (stream TEXT PRIMARY KEY, seq INTEGER, body TEXT, crc INTEGER)
    CREATE TABLE syncer_trail (stream TEXT, mark TEXT, PRIMARY KEY (stream, mark))

The trail holds a mark of every request of the open run, against loops longer than what one process sees.
`seq` counts commits and is compared before each one, so that a writer that woke up late changes nothing
(I9). `crc` is the CRC-32 of `body`, which SQLite itself would not notice to have rotted. `body`:

    {"version": 1,
     "run": 3,                    the number of this run, from 1
     "generation": 2,             a full refresh writes a new one beside the old until it is complete
     "cursor": {"url": ...} | null,   the next Request of an open run; null: the run is complete
     "fingerprint": {...},        what the position depends on: base URL, path, parameters, model, ...
     "bookmark": "2026-01-31T..." | null,   highest replication value of the last complete run
     "highest": ..., "began": "2026-01-31T...",   the same of this run, and the moment it began
     "boundary": {digest: value}, the records on the bookmark, which the next run will see again
     "pending": {digest: value},  the same being gathered for the run after this one
     "counts": {...}, "stored": {...},   of this run; of the whole output; both follow a replay and a purge
     "mark": "...", "last": "...", "empty": 0,   against loops: last request, last page, empty pages
     "back": {...}, "tail": [...],   the last page's request and records, to find a list that has moved again
     "unknown": {...},            fields the model does not name, this run, by name
     "seen": {...}, "baseline": {...},   what this run saw, what the complete runs before it saw; see `seen`
     "kept": "...",               vouches for the pages that are kept of this output: see kept.py
     "total": 2400 | null, "least": 2390 | null,   what the API last declared, and the least of this run
     "started": "...", "saved": "...", "status": "open" | "complete" | "short" | "over budget",
     "sink": {...}}               what the sink must find again, for files their names, lengths and CRCs

Only the sink writes rows; `load` and `save` are shared by those that keep them in SQLite.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from .decode import encode
from .errors import LockError, StateError, SyncerError
from .page import JSON, Page, Request
from .seen import NOTHING, Seen, joined, taken
from .validate import Record, Reject, Verdict, less

VERSION = 1
TABLES = (
    "CREATE TABLE IF NOT EXISTS syncer_checkpoint (stream TEXT PRIMARY KEY, seq INTEGER, body TEXT, crc INTEGER)",
    "CREATE TABLE IF NOT EXISTS syncer_trail (stream TEXT, mark TEXT, PRIMARY KEY (stream, mark)) WITHOUT ROWID",
)
STATUSES = ("open", "complete", "short", "over budget")
UNKNOWN = 200
TOLD = 5
"""How many fields of a changed model are named."""
PENDING = 10_000
"""How many records on the bookmark are remembered; the row that holds them is written with every page."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records went where. fetched = written + rejected + repeated + purged, always (I3)."""

    pages: int = 0
    fetched: int = 0
    written: int = 0
    rejected: int = 0
    repeated: int = 0
    purged: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + yours for mine, yours in zip(self.all(), other.all(), strict=True)))

    def all(self) -> tuple[int, ...]:
        """The numbers in their order."""
        return (self.pages, self.fetched, self.written, self.rejected, self.repeated, self.purged)

    def balanced(self) -> bool:
        """Whether every record fetched is accounted for."""
        return self.fetched == self.written + self.rejected + self.repeated + self.purged


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a stream remembers between pages and between runs. See the module for each field."""

    seq: int = 0
    run: int = 0
    generation: int = 0
    cursor: Request | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    bookmark: JSON = None
    highest: JSON = None
    began: str = ""
    boundary: Mapping[str, JSON] = field(default_factory=dict)
    pending: Mapping[str, JSON] = field(default_factory=dict)
    counts: Counts = Counts()
    stored: Counts = Counts()
    trail: frozenset[str] = frozenset()
    mark: str = ""
    last: str = ""
    back: Request | None = None
    tail: Sequence[str] = ()
    empty: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)
    seen: Seen = NOTHING
    baseline: Seen = NOTHING
    total: int | None = None
    least: int | None = None
    started: str = ""
    saved: str = ""
    status: str = "open"
    kept: str = ""

    def sound(self) -> bool:
        """Whether every part is what it must be, so that a row that anybody else wrote is not trusted to be."""
        numbers = [self.run, self.generation, self.empty, *self.counts.all(), *self.stored.all()]
        numbers += self.unknown.values()
        texts = [
            self.kept,
            self.began,
            self.mark,
            self.last,
            self.started,
            self.saved,
            *self.tail,
            *self.fingerprint.values(),
        ]
        return (
            all(type(number) is int and 0 <= number < 2**63 for number in numbers)
            and all(total is None or type(total) is int for total in (self.total, self.least))
            and all(isinstance(text, str) for text in texts)
            and isinstance(self.boundary, dict)
            and isinstance(self.pending, dict)
            and self.counts.balanced()
            and self.stored.balanced()
            and self.status in STATUSES
            and (not self.began or datetime.fromisoformat(self.began).tzinfo is not None)
        )

    @property
    def open(self) -> bool:
        """Whether a run is under way and can be resumed."""
        return self.cursor is not None

    def begin(self, first: Request, fingerprint: Mapping[str, str], stamp: str, *, anew: bool) -> Checkpoint:
        """The state before the first page of a new run; `anew`: of a new generation, without a bookmark."""
        return Checkpoint(
            seq=self.seq,
            run=self.run + 1,
            generation=self.generation + 1 if anew or not self.generation else self.generation,
            cursor=first,
            fingerprint=fingerprint,
            bookmark=None if anew else self.bookmark,
            highest=None if anew else self.bookmark,
            boundary={} if anew else self.boundary,
            pending={} if anew else self.boundary,
            stored=Counts() if anew else self.stored,
            baseline=taken(self.baseline, self.seen, self.saved) if self.status == "complete" else self.baseline,
            kept="" if anew else self.kept,
            started=stamp,
        )

    def unseen(self, verdict: Verdict, *, keyed: bool = False) -> tuple[tuple[Record, ...], tuple[Reject, ...], int]:
        """What of a page the last run has not written already, and how many it had."""
        known = {**self.boundary, **self.pending} if keyed else self.boundary
        if not known:
            return verdict.records, verdict.rejects, 0
        records = tuple(record for record in verdict.records if record.digest not in known)
        rejects = tuple(reject for reject in verdict.rejects if reject.digest not in known)
        return records, rejects, len(verdict.records) + len(verdict.rejects) - len(records) - len(rejects)

    def advance(
        self,
        page: Page,
        verdict: Verdict,
        order: Callable[[JSON], Any],
        stamp: str,
        *,
        incremental: bool,
        keyed: bool = False,
    ) -> Checkpoint:
        """The state after this page. Pure; nothing is saved yet."""
        records, rejects, repeated = self.unseen(verdict, keyed=keyed)
        added = Counts(1, len(page.records), len(records), len(rejects), repeated)
        if not added.balanced():
            raise SyncerError(f"page {page.number} does not add up: {added}")
        began = self.began or page.date.isoformat()
        moved = self._moved(verdict, order, datetime.fromisoformat(began)) if incremental else {}
        unknown = {name: self.unknown.get(name, 0) + verdict.unknown.get(name, 0) for name in self.unknown}
        unknown |= {name: count for name, count in verdict.unknown.items() if name not in unknown}
        return replace(
            self,
            seq=self.seq + 1,
            cursor=page.next,
            began=began,
            counts=self.counts + added,
            stored=self.stored + added,
            mark=page.request.digest(),
            last=page.digest or self.last,
            back=page.request if page.digest else self.back,
            tail=page.tail if page.digest else self.tail,
            empty=0 if page.records else self.empty + 1,
            unknown=dict(list(unknown.items())[:UNKNOWN]),
            seen=joined(self.seen, verdict.seen),
            total=page.total if page.total is not None else self.total,
            least=min((total for total in (page.total, self.least) if total is not None), default=None),
            saved=stamp,
            **moved,
        )

    def settled(
        self,
        moved: Counts,
        mine: Counts,
        known: Mapping[str, tuple[str, JSON]],
        fingerprint: Mapping[str, str],
        stamp: str,
    ) -> Checkpoint:
        """The state once rejects have found another place: `moved` of all that is stored, `mine` of this run's.

        `known` says of those on the bookmark by which digest the next run will know them. Pure; nothing is saved yet.
        """
        counts, stored = self.counts + mine, self.stored + moved
        if not counts.balanced() or not stored.balanced() or min(counts.rejected, stored.rejected) < 0:
            raise StateError(
                f"more rejects are there than the {self.stored.rejected:,} that the checkpoint counts", hint=RESET
            )
        return replace(
            self,
            seq=self.seq + 1,
            counts=counts,
            stored=stored,
            boundary=dict(known.get(mark, (mark, wire)) for mark, wire in self.boundary.items()),
            pending=dict(known.get(mark, (mark, wire)) for mark, wire in self.pending.items()),
            fingerprint={**self.fingerprint, **fingerprint},
            saved=stamp,
        )

    @property
    def short(self) -> int:
        """How many records fewer have come in this run than the API declared at the least."""
        return max(0, (self.least or 0) - self.counts.fetched)

    def ended(self, status: str) -> Checkpoint:
        """The state at the end of a run: only now does the bookmark move (I4), unless the run came short."""
        over = replace(self, cursor=None, status=status, pending={}, mark="", last="", back=None, tail=(), empty=0)
        return over if status == "short" else replace(over, bookmark=self.highest, boundary=self.pending)

    def _moved(self, verdict: Verdict, order: Callable[[JSON], Any], began: datetime) -> dict[str, Any]:
        """Where the bookmark would be, and which records sit on or above it.

        It never passes the moment the run began: what changes during the run may have been read
        before it changed. Records above it are remembered one by one instead.
        """
        before = top = order(self.highest)
        highest = self.highest
        judged: tuple[Record | Reject, ...] = (*verdict.records, *verdict.rejects)
        for item in judged:
            value = item.order
            if value is None or (isinstance(value, datetime) and value > began) or isinstance(item, Reject):
                continue
            if top is None or less(top, value):
                top, highest = value, item.wire
        pending = self.pending
        if top is not None and (before is None or less(before, top)):
            pending = {mark: wire for mark, wire in pending.items() if _on(order(wire), top)}
        pending = {**pending, **{item.digest: item.wire for item in judged if _on(item.order, top)}}
        return {"highest": highest, "pending": dict(list(pending.items())[-PENDING:])}


def _on(value: Any, bookmark: Any) -> bool:
    """Whether a value will be asked for again from this bookmark; one without an order may always be."""
    return value is None or bookmark is None or not less(value, bookmark)


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What a saved position depended on that is no longer the same, in words."""
    return [
        _change(part, was, is_)
        for part in dict.fromkeys((*before, *now))
        if (was := before.get(part, "nothing")) != (is_ := now.get(part, "nothing"))
    ]


def _change(part: str, was: str, now: str) -> str:
    """A change in words; of a model the fields that differ, as far as its saved form names them."""
    if part != "model":
        return f"{part}: {was} → {now}"
    (old, mark, *were), (new, other, *are) = (*was.split(" "), ""), (*now.split(" "), "")
    before, after = (dict(field.rpartition(":")[::2] for field in fields if field) for fields in (were, are))
    told = [f"{unquote(name)} is gone" for name in before if name not in after]
    told += [f"{unquote(name)} is new" for name in after if name not in before]
    told += [f"{unquote(name)} has changed" for name in before if after.get(name, before[name]) != before[name]]
    named = f"{part}: {old}" + (f" → {new}" if old != new else "")
    more = f", and {len(told) - TOLD} more" if len(told) > TOLD else ""
    return (
        f"{named}: {', '.join(told[:TOLD])}{more}"
        if before and after and told
        else f"{part}: {old} {mark} → {new} {other}"
    )


def load(connection: sqlite3.Connection, stream: str) -> tuple[Checkpoint, dict[str, JSON]] | None:
    """The checkpoint of a stream and the sink's own part; None if there is none. StateError if it is damaged."""
    row = connection.execute("SELECT seq, body, crc FROM syncer_checkpoint WHERE stream = ?", (stream,)).fetchone()
    if row is None:
        return None
    seq, body, crc = row
    if not isinstance(body, str) or zlib.crc32(body.encode("utf-8", "surrogatepass")) != crc:
        raise StateError("the checkpoint is damaged: its checksum does not match", hint=RESET)
    checkpoint, sink = parse(body, seq)
    marks = connection.execute("SELECT mark FROM syncer_trail WHERE stream = ?", (stream,))
    return replace(checkpoint, trail=frozenset(mark for (mark,) in marks)), sink


def parse(body: str, seq: int) -> tuple[Checkpoint, dict[str, JSON]]:
    """A checkpoint from its saved form. StateError for one that this version cannot read."""
    try:
        saved = json.loads(body, parse_float=Decimal, parse_constant=_refuse)
        version, sink = saved.pop("version"), saved.pop("sink")
        if version != VERSION:
            raise StateError(
                f"the checkpoint has format {version}, this syncer knows {VERSION}", hint="use a newer syncer"
            )
        cursor, back = saved.pop("cursor"), saved.pop("back", None)
        checkpoint = Checkpoint(
            seq=seq,
            cursor=Request.from_json(cursor) if cursor is not None else None,
            back=Request.from_json(back) if back is not None else None,
            tail=tuple(saved.pop("tail", ())),
            seen=Seen.from_json(saved.pop("seen", {})),
            baseline=Seen.from_json(saved.pop("baseline", {})),
            counts=Counts(**saved.pop("counts")),
            stored=Counts(**saved.pop("stored")),
            **saved,
        )
        if not checkpoint.sound():
            raise TypeError
        dump(checkpoint, dict(sink))  # what cannot be written again is no checkpoint of ours
        return checkpoint, dict(sink)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ArithmeticError) as error:
        raise StateError(f"the checkpoint cannot be read ({type(error).__name__})", hint=RESET) from None


def _refuse(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def dump(checkpoint: Checkpoint, sink: Mapping[str, JSON]) -> str:
    """The saved form of a checkpoint."""
    saved = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    del saved["seq"], saved["trail"]
    cursor = checkpoint.cursor.to_json() if checkpoint.cursor else None
    back = checkpoint.back.to_json() if checkpoint.back else None
    del saved["seen"], saved["baseline"]
    body = encode({"version": VERSION, **saved, "cursor": cursor, "back": back, "sink": dict(sink)})
    seen, baseline = encode(checkpoint.seen.to_json()), _encoded(checkpoint.baseline)
    return b"".join((body[:-1], b',"seen":', seen, b',"baseline":', baseline, b"}")).decode()


_last: tuple[Seen, bytes] = (NOTHING, b"{}")


def _encoded(baseline: Seen) -> bytes:
    """The baseline's line of JSON, which is the same for all pages of a run."""
    global _last
    known, line = _last
    if known is not baseline:
        line = encode(baseline.to_json())
        _last = (baseline, line)
    return line


def save(
    connection: sqlite3.Connection,
    stream: str,
    checkpoint: Checkpoint,
    sink: Mapping[str, JSON],
    *,
    again: bool = False,
) -> None:
    """Write the row inside the transaction at hand, if its seq is still the one before. LockError if not.

    `again` writes the sink's part of the very same checkpoint anew.
    """
    body = dump(checkpoint, sink)
    if checkpoint.seq <= 1 and not again:
        connection.execute("INSERT OR IGNORE INTO syncer_checkpoint VALUES (?, ?, '', 0)", (stream, checkpoint.seq - 1))
    if checkpoint.counts.pages <= 1 or not checkpoint.open:
        connection.execute("DELETE FROM syncer_trail WHERE stream = ?", (stream,))
    if checkpoint.open and checkpoint.mark:
        connection.execute("INSERT OR IGNORE INTO syncer_trail VALUES (?, ?)", (stream, checkpoint.mark))
    updated = connection.execute(
        "UPDATE syncer_checkpoint SET seq = ?, body = ?, crc = ? WHERE stream = ? AND seq = ?",
        (checkpoint.seq, body, zlib.crc32(body.encode()), stream, checkpoint.seq - (not again)),
    )
    if updated.rowcount != 1:
        raise LockError(
            "another pull has moved this stream on since this one began; nothing of this page was written",
            hint="run the same command again: it goes on from the newer checkpoint",
        )


def streams(connection: sqlite3.Connection) -> Sequence[str]:
    """The streams that have a checkpoint."""
    rows: Iterable[tuple[str]] = connection.execute("SELECT stream FROM syncer_checkpoint ORDER BY stream")
    return [name for (name,) in rows]


RESET = "look at the output; `syncer reset SOURCE STREAM` sets it aside and begins anew"
