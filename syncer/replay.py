"""Rejects with a second chance: the stored records are judged again under today's model, without the network.

A record that passes leaves the rejects and joins the records in the commit that counts it (`Sink.amend`), so that a
replay killed anywhere has happened as a whole or not at all. It does not take the place of a version that is as new
or newer: that is counted as repeated. What fails again stays, with its new reasons, and keeps where and when it was
first refused. Purging is the same commit, with rejects that go and are counted as purged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, Counts, changes
from .clock import Clock
from .decode import DecodeError, decode, encode, exact
from .errors import SinkError, StateError, StoppedError, SyncerError
from .masks import MASK_KEY, key_mark, key_of
from .page import JSON, MISSING, Page, Request
from .report import Budget, by_name, failure
from .review import Found, masked, parsed, raw, read
from .sinks import Sink
from .sinks.held import Held
from .stream import Stream, judging, model_fingerprint
from .validate import Record, Validator, less, refused

CAUSES = 500
"""How many causes are counted each for itself."""
OTHERS = "(other causes)"


@dataclass
class Settled:
    """What a replay or a purge did to the rejects of one stream, or would do."""

    stream: str
    model: str = ""
    dry_run: bool = False
    passed: Counter[str] = field(default_factory=Counter)
    """Rejects that became records, by the cause they had been refused for."""
    repeated: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Rejects that stay, by the cause they are refused for now."""
    purged: Counter[str] = field(default_factory=Counter)
    older: int = 0
    """Rejects of an output that an unfinished refresh is about to replace; they were not looked at."""
    stored: Counts = field(default_factory=Counts)
    status: str = ""
    notes: list[str] = field(default_factory=list)
    error: SyncerError | None = None

    @property
    def gone(self) -> int:
        """How many are no longer among the rejects."""
        return self.passed.total() + self.repeated + self.purged.total()

    def to_json(self) -> dict[str, Any]:
        """The same for machines; the keys are documented in docs/reference.md."""
        return {
            "stream": self.stream,
            "model": self.model,
            "dry_run": self.dry_run,
            "passed": self.passed.total(),
            "repeated": self.repeated,
            "failed": self.failed.total(),
            "purged": self.purged.total(),
            "passed_by_cause": dict(self.passed.most_common()),
            "failed_by_cause": dict(self.failed.most_common()),
            "purged_by_cause": dict(self.purged.most_common()),
            "of_older_output": self.older,
            "status": self.status,
            "stored": by_name(self.stored),
            "notes": list(self.notes),
            "error": failure(self.error),
        }


def each(
    source: str,
    targets: Iterable[tuple[Stream, Sink]],
    work: Callable[[Stream, Sink, Settled], None],
    *,
    dry_run: bool = False,
) -> list[Settled]:
    """Do the work for one stream after another; an error is kept, and only one of the disk keeps the next waiting.

    StoppedError after a signal: the stream at hand is as it was, and those before it are done.
    """
    rows = []
    for stream, target in targets:
        rows.append(done := Settled(stream.name, dry_run=dry_run))
        try:
            work(stream, target, done)
        except SyncerError as error:
            done.error = error.at(f"{source}/{stream.name}")
        finally:
            target.close()
        if isinstance(done.error, SinkError):
            break
    return rows


def replay(
    stream: Stream,
    target: Sink,
    clock: Clock,
    done: Settled,
    safe: Callable[[str], str] = str,
    home: Path = Path(),
) -> None:
    """Judge the rejects of one stream again, and unless `done.dry_run` move those that pass. `safe` as of Validator.

    `home` is where the key of what the stream masks is. Where a mask stands, nothing is asked of it; a reject that
    only its masked values could make good stays.
    StateError if the stream's keys are others than those the output was made with, StoppedError after a signal;
    both before anything has happened. Otherwise as `Sink.open` and `Sink.amend`.
    """
    done.model = f"{stream.model.__name__} {model_fingerprint(stream.model)}"
    before = _opened(target, done)
    if before is None:
        return
    _same_keys(before, stream)
    done.stored = before.stored
    mark = before.fingerprint.get(MASK_KEY, "")
    key = key_of(home, mark, make=not done.dry_run) if stream.masks else b""
    judge = _Judge(stream, target, before, clock, done, Validator(stream, target.refuses, safe, key=key), key)
    judge.look()
    if done.dry_run:
        for line in target.rejects(newest=True):
            judge(line)
        return
    target.amend(judge, lambda: judge.checkpoint(clock.stamp()))
    done.notes += [note for note in target.notes if note not in done.notes]


def purge(stream: Stream, target: Sink, clock: Clock, wanted: Callable[[Found], bool], done: Settled) -> None:
    """Take the rejects that are wanted out of the output, unless `done.dry_run`. Errors as of `replay`."""
    before = _opened(target, done)
    if before is None:
        return
    done.stored = before.stored
    moves = _Moves()

    def settle(line: bytes) -> bytes | None:
        _stopped(clock)
        found = _parsed(stream, line)
        if not wanted(found):
            count(done.failed, found.cause)
            return line
        count(done.purged, found.cause)
        moves.add(Counts(purged=1, rejected=-1), found.row["run"] == before.run)
        return None

    def checkpoint() -> Checkpoint:
        after = before.settled(moves.all, moves.mine, {}, {}, clock.stamp())
        done.stored = after.stored
        return after

    if done.dry_run:
        for line in target.rejects(newest=True):
            settle(line)
        return
    target.amend(settle, checkpoint)
    done.notes += [note for note in target.notes if note not in done.notes]


def count(causes: Counter[str], cause: str) -> None:
    """Count a cause, or among the others where there are too many: their names may come from data."""
    causes[cause if cause in causes or len(causes) < CAUSES else OTHERS] += 1


@dataclass
class _Moves:
    """What becomes of counts: of all that is stored, and of what the last run brought."""

    all: Counts = field(default_factory=Counts)
    mine: Counts = field(default_factory=Counts)

    def add(self, one: Counts, mine: bool) -> None:
        self.all += one
        self.mine += one if mine else Counts()


class _Judge:
    """Says what becomes of each reject. `look` comes first: it finds out which records are in the output already."""

    def __init__(
        self,
        stream: Stream,
        target: Sink,
        before: Checkpoint,
        clock: Clock,
        done: Settled,
        validator: Validator,
        key: bytes,
    ) -> None:
        self._stream, self._target, self._before, self._clock, self._done = stream, target, before, clock, done
        self._validator, self._key = validator, key
        self._order = self._validator.order
        self._apart = bool(stream.key or stream.incremental)
        self._held: Held | None = None
        self._passing = bytearray()
        self._number = 0
        self._written: dict[bytes, Any] = {}
        self._known: dict[str, tuple[str, JSON]] = {}
        self._moves = _Moves()

    def look(self) -> None:
        """Which of the records that pass are there already; of a stream whose records nothing tells apart, none."""
        if self._apart:
            self._held = self._target.held(record.values for record in self._records())

    def _records(self) -> Iterator[Record]:
        for found in read(self._stream.name, self._target, newest=True):
            _stopped(self._clock)
            outcome = self._again(found)
            self._passing.append(isinstance(outcome, Record))
            if isinstance(outcome, Record):
                yield outcome

    def __call__(self, line: bytes) -> Record | bytes | None:
        _stopped(self._clock)
        found = _parsed(self._stream, line)
        outcome = self._again(found)
        number, self._number = self._number, self._number + 1
        if isinstance(outcome, Record) and self._apart and not any(self._passing[number : number + 1]):
            # A model that changes its mind, or a reject that came during a dry run: nobody has looked for its versions.
            outcome = None
        if not isinstance(outcome, Record):
            kept = _refused_again(found, outcome, masks=bool(self._key))
            count(self._done.failed, kept.cause)
            return kept.line
        self._remember(found, outcome)
        mine = found.row["run"] == self._before.run
        if self._superseded(outcome):
            self._done.repeated += 1
            self._moves.add(Counts(repeated=1, rejected=-1), mine)
            return None
        count(self._done.passed, found.cause)
        self._moves.add(Counts(written=1, rejected=-1), mine)
        return outcome

    def checkpoint(self, stamp: str) -> Checkpoint:
        """The state with everything settled; once a record has passed, its model is the output's model."""
        now = judging(self._stream)
        adopted = {part: now[part] for part in _ADOPTED if part in now} if self._done.gone else {}
        adopted |= {MASK_KEY: key_mark(self._key)} if self._key else {}
        after = self._before.settled(self._moves.all, self._moves.mine, self._known, adopted, stamp)
        after = within(self._stream, after)
        self._done.stored, self._done.status = after.stored, after.status
        return after

    def _again(self, found: Found) -> Record | dict[str, JSON] | None:
        """The record, or what the line of a new reject would say; None if its text is still no JSON."""
        text = raw(found.row).encode("utf-8", "surrogatepass")
        try:
            _, records = decode(b"[" + text + b"]", "")
        except DecodeError:
            return None
        if len(records) != 1:
            return None
        if (mask := masked(found.row)) and mask.more and self._stream.masks:
            return None
        before = {0: mask} if mask else {}
        page = Page(0, Request(""), "", records, None, None, self._clock.now(), "", masked=before)
        verdict = self._validator.judge(page, found.row["run"], found.row["at"])
        if verdict.records:
            return verdict.records[0]
        again: dict[str, JSON] = exact(verdict.rejects[0].line)
        broken = "text" in found.row and again["reasons"][0]["type"] == "not_json"
        return None if broken and not self._key else again

    def _superseded(self, record: Record) -> bool:
        """Whether a version that is as new is in the output, or a newer one was among the rejects before it."""
        if self._held is None:
            return False
        key = self._held.key(record.values)
        there = self._held.versions.get(key, MISSING)
        if there is not MISSING and not less(self._order(there), record.order):
            return True
        if key in self._written and less(record.order, self._written[key]):
            return True
        self._written[key] = record.order
        return False

    def _remember(self, found: Found, record: Record) -> None:
        """If the next run will meet it again, by which digest: that of the record, no longer that of the reject."""
        row = found.row
        mark = refused(encode(row["record"], ordered=True) if "record" in row else str(row["text"]).encode())
        if mark in self._before.boundary or mark in self._before.pending:
            self._known[mark] = record.digest, record.wire


_ADOPTED = ("unknown fields", "model", "masked fields")
"""What a replay answers for: which records are accepted, and with which of their fields."""

_KEYS = ("primary_key", "replication_key")


def _opened(target: Sink, done: Settled) -> Checkpoint | None:
    """The checkpoint, recovered and under the lock unless nothing is to be changed; None if nothing was pulled."""
    before = target.peek()
    if before is None or not before.run:
        return None
    if not done.dry_run:
        before = target.open()
        done.notes += target.notes
    done.status = before.status
    done.older = sum(1 for _ in target.rejects()) - sum(1 for _ in target.rejects(newest=True))
    return before


def _same_keys(before: Checkpoint, stream: Stream) -> None:
    now = judging(stream)
    mine = {part: now[part] for part in _KEYS}
    if changed := changes({part: before.fingerprint.get(part, "") for part in _KEYS}, mine):
        raise StateError(
            "this is not what the output was made with: " + "; ".join(changed),
            hint="its records would mean something else: `syncer pull` with --restart pulls everything anew",
        )


def _parsed(stream: Stream, line: bytes) -> Found:
    try:
        return parsed(stream.name, line)
    except ValueError as error:
        raise StateError(
            f"a line of the rejects of {stream.name} cannot be read: {error}",
            hint="it was changed by hand: restore it, or take the line out",
        ) from None


def _refused_again(found: Found, again: dict[str, JSON] | None, *, masks: bool) -> Found:
    """The reject as it stays: with what is wrong with it now, but from where and when it was first refused.

    With `masks` its record too is what it is now: the stream may have come to mask what is in it.
    """
    if again is None:
        return found
    kept: dict[str, JSON] = {}
    for name, value in found.row.items():
        if name == "reasons":
            kept["reasons"] = again["reasons"]
            if "more" in again:
                kept["more"] = again["more"]
        elif masks and name in _RECORD:
            kept |= {part: again[part] for part in _RECORD if part in again and part not in kept}
        elif name != "more":
            kept[name] = value
    if "model" in kept:
        kept["model"] = again["model"]
    return found if kept == found.row else Found(found.stream, encode(kept), kept)


_RECORD = ("record", "text", "masked")


def within(stream: Stream, after: Checkpoint) -> Checkpoint:
    """A run that ended over its budget is complete once what of it is in rejects or was purged is within the budget."""
    if after.status != "over budget" or after.open or after.short:
        return after
    missing = after.counts.rejected + after.counts.purged
    counts = replace(after.counts, rejected=missing)
    passed = Budget.parse(stream.max_rejects).passed(
        counts, counts.fetched, missing, over=True, whole=not stream.incremental, replaces=after.generation > 1
    )
    return after if passed else replace(after, status="complete")


def _stopped(clock: Clock) -> None:
    if clock.stop:
        raise StoppedError
