"""The ledger: what every pull of a source did, kept beside the output it made.

    OUT/SOURCE/.syncer/runs/20261124T182013.250Z-4f2a9c1e.jsonl

One small file for each run. A line of it is all that was known of the run when it was written: at its start, with
the first page, then once a minute, when a stream ends, and at the end; the last whole line counts. The process
holds a `flock` on its file for as long as it lives, so a run that has no end and whose file is free was killed.
No two processes ever write to one file, whatever a crash leaves behind hides no other run, and the oldest are
deleted beyond KEPT. Nothing here may stop a pull: what cannot be recorded is said once. And whatever a file
holds, of another version or of nobody's, what is read of it is a Row with all that is shown of a run.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from . import __version__
from .clock import Clock
from .decode import encode
from .errors import ConfigError, SyncerError
from .events import Began, Committed, Ended, Event, Noticed, Started
from .log import redacted
from .report import Report
from .sinks import disk
from .terminal import writable

KEPT = 200
"""How many runs of a source are remembered."""
EVERY = 60.0
"""Seconds between two lines of a run that goes on."""
NOTES = 20
"""How many notes of a run are kept, and of a stream how many causes and unknown fields, the commonest."""
LARGEST = 2**20
"""Bytes from which on the file of a run that goes on is begun anew, with its last line only."""
_TAIL = 4 * LARGEST
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
Row = dict[str, Any]


def identity() -> str:
    """The name of a run: short enough to be typed."""
    return os.urandom(4).hex()


class Ledger:
    """Records one run. Nothing is made before its first stream has been opened, or could not be."""

    def __init__(
        self, home: Path, row: Mapping[str, Any], secrets: Sequence[str], clock: Clock, notice: Callable[[str], None]
    ) -> None:
        self._state, self._secrets, self._clock, self._notice = home / ".syncer", secrets, clock, notice
        self._tally = Report(row["source"], row["sink"], row["started"])
        self._row: Row = {**row, "version": __version__, "process": os.getpid(), "ended": None, "exit_code": None}
        stamp = row["started"].replace("-", "").replace(":", "")
        self._path = self._state / "runs" / f"{stamp}-{row['id']}.jsonl"
        self._streams: dict[str, Row] = {}
        self._notes: list[str] = []
        self._descriptor, self._began, self._told, self._written = -1, clock.monotonic(), False, float("-inf")

    def __call__(self, event: Event) -> None:
        """Count an event, and write a line where one is due."""
        self._tally.watch(event)
        match event:
            case Began(streams):
                self._row["asked"] = list(streams)
            case Started(stream, resumed):
                self._streams[stream] = {"stream": stream, "status": "open", "resumed": resumed}
                self._write(self._so_far())
                self._written = float("-inf")
            case Committed(stream, pages, fetched, written, rejected, repeated):
                counts = {"pages": pages, "fetched": fetched, "written": written}
                self._streams[stream]["run"] = {**counts, "rejected": rejected, "repeated": repeated}
                if self._clock.monotonic() - self._written >= EVERY:
                    self._write(self._so_far())
            case Ended(stream, status, error, hint, exit_code):
                known = self._streams.get(stream, {"stream": stream})
                fault = {"message": error, "hint": hint, "exit_code": exit_code} if error else None
                self._streams[stream] = {**known, "status": status, "error": fault}
                self._write(self._so_far())
            case Noticed(text) if len(self._notes) < NOTES:
                self._notes.append(text)
            case _:
                pass

    def end(self, report: Report | None, exit_code: int, error: SyncerError | None) -> Row:
        """Record how the run ended; the row. `report` is None where something worse than an error ended it."""
        found = self._so_far() if report is None else {**_told(report), **self._row, "resume": report.resume}
        found |= {"ended": self._clock.stamp(), "exit_code": exit_code, "status": _status(report, exit_code)}
        found |= {"seconds": round(self._clock.monotonic() - self._began, 3), "notes": self._notes}
        if error:
            found["error"] = {"message": str(error), "hint": error.hint, "exit_code": error.exit_code}
        if self._streams or self._state.is_dir():
            self._write(found)
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
        return found

    def _so_far(self) -> Row:
        known = self._tally.to_json()
        known |= {"streams": list(self._streams.values()), "notes": self._notes}
        return {**known, **self._row, "seconds": round(self._clock.monotonic() - self._began, 3)}

    def _write(self, row: Row) -> None:
        self._written = self._clock.monotonic()
        try:
            # A line that was cut off before this one must not take it along.
            line = b"\n" + encode(redacted(writable(row), self._secrets)) + b"\n"
            if self._descriptor < 0:
                disk.directory(self._path.parent)
                _forget(self._path.parent)
                self._begin(line)
            elif (file := os.fstat(self._descriptor)).st_nlink == 0 or file.st_size > LARGEST:
                self._begin(line)
            else:
                disk.write(self._descriptor, line)
        except (OSError, SyncerError, ValueError, ImportError) as error:
            self._lost(error)

    def _begin(self, line: bytes) -> None:
        """Make the file, in the place of an older one if need be: nobody meets it empty, or without its lock."""
        import fcntl

        coming = self._path.with_suffix(_COMING)
        descriptor = os.open(coming, _FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            disk.write(descriptor, line)
            coming.replace(self._path)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                coming.unlink()
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _lost(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            why = getattr(error, "strerror", None) or str(error)
            self._notice(f"`syncer runs` will not tell all of this run: {why}; the pull goes on")


def runs(out: Path, source: str | None = None, notice: Callable[[str], None] | None = None) -> list[Row]:
    """The runs of a source, or of all, the newest first. SyncerError if the directory cannot be read.

    `notice` is told of every file that cannot.
    """
    with disk.explained(out, "list"):
        homes = [out / source] if source else sorted(out.iterdir()) if out.is_dir() else []
    found = []
    for path in [path for home in homes for path in _files(home / ".syncer" / "runs")]:
        try:
            row = _read(path)
        except OSError as error:
            (notice or (lambda text: None))(f"{path} cannot be read: {error.strerror}")
        else:
            found += [row] if row else []
    return sorted(found, key=lambda row: str(row["started"]), reverse=True)


def run(found: Sequence[Row], name: str) -> Row:
    """The run whose id begins so. ConfigError if there is none, or more than one."""
    match = [row for row in found if row["id"].startswith(name)]
    if len(match) != 1:
        what = f"{len(match)} runs begin with {name!r}" if match else f"there is no run {name!r}"
        raise ConfigError(what, hint="`syncer runs` lists them; the oldest are forgotten")
    return match[0]


def _files(directory: Path) -> list[Path]:
    """The files of the runs, the oldest first."""
    with disk.explained(directory, "list"):
        return sorted(directory.glob("*.jsonl")) if directory.is_dir() else []


def _forget(directory: Path) -> None:
    """Delete the oldest files beyond KEPT, with room for one more, and what a crash left half made."""
    for path in [*_files(directory)[: -KEPT + 1], *directory.glob(f"*{_COMING}")]:
        with suppress(OSError):
            if not _held(path):
                path.unlink()


def _read(path: Path) -> Row | None:
    """What a file says of its run; None if it says nothing whole, or somebody deleted it meanwhile. OSError."""
    try:
        held = _held(path)  # first: who ends in between has written how
        descriptor = os.open(path, os.O_RDONLY | _PATIENT)
    except FileNotFoundError:
        return None
    try:
        file = os.fstat(descriptor)
        if not stat.S_ISREG(file.st_mode):
            return None
        content = os.pread(descriptor, _TAIL, max(0, file.st_size - _TAIL))
    finally:
        os.close(descriptor)
    row = next(_rows(content), None)
    if row and not row["ended"]:
        row["status"] = "running" if held else "killed"
    return row


def _held(path: Path) -> bool:
    """Whether the process that records into this file is alive. OSError if the file cannot be opened."""
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | _PATIENT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody can hold a lock here
        return False
    finally:
        os.close(descriptor)
    return False


def _rows(content: bytes) -> Iterator[Row]:
    """The rows in a file, the latest first."""
    for text in reversed(content.split(b"\n")):
        with suppress(ValueError, RecursionError):
            row = json.loads(text, parse_float=_finite, parse_constant=_finite)
            if isinstance(row, dict) and (shaped := _shaped(row)):
                yield shaped


def _shaped(row: Row) -> Row | None:
    """The row with all that is read of it there and of its kind; None if it does not say which run it is of."""
    ended = row.get("ended")
    moments = [row.get("started"), ended or row.get("started")]
    named = isinstance(row.get("id"), str) and isinstance(row.get("source"), str)
    if not named or not all(isinstance(moment, str) and _is_moment(moment) for moment in moments):
        return None
    code = row.get("exit_code") if isinstance(row.get("exit_code"), int) else None
    usual = {"status": ("complete" if code == 0 else "failed") if ended else "", "exit_code": code}
    found = {**row, **usual, **_of_kind(row, {**_KNOWN, "status": usual["status"]}), "ended": ended or None}
    found["waited"] = {why: took for why, took in found["waited"].items() if _is_number(took)}
    found["limits"] = {
        name: told
        for name, told in found["limits"].items()
        if isinstance(told, dict) and _is_number(told.get("remaining"))
    }
    found["notes"] = [str(note) for note in found["notes"]]
    found["error"] = _error(row)
    found["streams"] = [
        {
            **{name: value for name, value in stream.items() if name not in _PARTS},
            **_of_kind(stream, {"stream": "", "status": ""}),
            "error": _error(stream),
            **{
                part: {**told, **_of_kind(told, _COUNTS)}
                for part in _PARTS
                if isinstance(told := stream.get(part), dict)
            },
        }
        for stream in found["streams"]
        if isinstance(stream, dict)
    ]
    return found


_COMING = ".new"
_PATIENT = getattr(os, "O_NONBLOCK", 0)  # nobody may be writing to what is no file
_LARGEST_NUMBER = 1e300
_PARTS = ("pulled", "run", "stored")
_COUNTS: Row = {"pages": 0, "fetched": 0, "written": 0, "rejected": 0, "repeated": 0, "purged": 0}
_KNOWN: Row = {
    **dict.fromkeys(("id", "source", "started", "sink", "command", "resume"), ""),
    **dict.fromkeys(("requests", "not_modified", "retries", "received", "seconds"), 0),
    "waited": {},
    "limits": {},
    "streams": [],
    "notes": [],
}


def _of_kind(row: Row, known: Row) -> Row:
    """Of each of these keys the value, if it is of the kind that is expected, else what stands here for it."""
    return {
        name: row[name]
        if (_is_number(row.get(name)) if isinstance(usual, int) else isinstance(row.get(name), type(usual)))
        else usual
        for name, usual in known.items()
    }


def _error(row: Row) -> Row | None:
    error = row.get("error")
    return {**error, **_of_kind(error, {"message": "", "hint": ""})} if isinstance(error, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).year > 1
    except ValueError:
        return False


def _finite(text: str) -> float:
    """A number that is one. ValueError for what no double can hold."""
    if not isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _told(report: Report) -> Row:
    """The report, without the rare ones of what a server can make very many of."""
    found = report.to_json()
    for stream in found["streams"]:
        stream |= {name: _most(stream[name]) for name in ("rejected_by_cause", "unknown_fields")}
    return found


def _most(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: -pair[1])[:NOTES])


def _status(report: Report | None, exit_code: int) -> str:
    if exit_code >= 128:
        return "stopped"
    found = [stream.status for stream in report.streams] if report else []
    if exit_code:
        return "short" if found and set(found) <= {"short", "complete"} else "failed"
    return "capped" if "capped" in found else "complete"
