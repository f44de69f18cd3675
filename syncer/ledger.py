"""The ledger: what every pull of a source did, kept beside the output it made.

    OUT/SOURCE/.syncer/runs/20261124T182013.250Z-4f2a9c1e.jsonl

One small file for each run. A line of it is all that was known of the run when it was written: at its start, with
the first page, then once a minute, when a stream ends, and at the end; the last whole line counts. The process
holds a `flock` on its file for as long as it lives, so a run that has no end and whose file is free was killed.
No two processes ever write to one file, whatever a crash leaves behind hides no other run, and the oldest are
deleted beyond KEPT. Nothing here may stop a pull: what cannot be recorded is said once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
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
Row = dict[str, Any]


def identity() -> str:
    """The name of a run: short enough to be typed."""
    return os.urandom(4).hex()


class Ledger:
    """Records one run. Nothing is written before its first stream has been opened, or could not be."""

    def __init__(
        self, home: Path, row: Mapping[str, Any], secrets: Sequence[str], clock: Clock, notice: Callable[[str], None]
    ) -> None:
        self._directory, self._secrets, self._clock, self._notice = home / ".syncer" / "runs", secrets, clock, notice
        self._tally = Report(row["source"], row["sink"], row["started"])
        self._row: Row = {**row, "version": __version__, "process": os.getpid(), "ended": None, "exit_code": None}
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
                self._write()
                self._written = float("-inf")
            case Committed(stream, pages, fetched, written, rejected, repeated):
                counts = {"pages": pages, "fetched": fetched, "written": written}
                self._streams[stream]["run"] = {**counts, "rejected": rejected, "repeated": repeated}
                if self._clock.monotonic() - self._written >= EVERY:
                    self._write()
            case Ended(stream, status):
                self._streams[stream] = {**self._streams.get(stream, {"stream": stream}), "status": status}
                self._write()
            case Noticed(text) if len(self._notes) < NOTES:
                self._notes.append(text)
            case _:
                pass

    def end(self, report: Report | None, exit_code: int, error: SyncerError | None) -> Row:
        """Record how the run ended; the row. `report` is None where something worse than an error ended it."""
        found = self._so_far() if report is None else {**self._row, **report.to_json(), "resume": report.resume}
        found |= {"ended": self._clock.stamp(), "exit_code": exit_code, "status": _status(report, exit_code)}
        found |= {"seconds": round(self._clock.monotonic() - self._began, 3), "notes": self._notes}
        if error:
            found["error"] = {"message": str(error), "hint": error.hint}
        if self._descriptor >= 0:
            self._append(found)
            with suppress(OSError):
                os.close(self._descriptor)
        return found

    def _so_far(self) -> Row:
        known = self._tally.to_json()
        known |= {"streams": list(self._streams.values()), "notes": self._notes}
        return {**known, **self._row, "seconds": round(self._clock.monotonic() - self._began, 3)}

    def _write(self) -> None:
        self._written = self._clock.monotonic()
        if self._descriptor < 0 and not self._told:
            try:
                self._open()
            except (OSError, SyncerError) as error:
                self._lost(error)
        if self._descriptor >= 0:
            self._append(self._so_far())

    def _open(self) -> None:
        import fcntl

        disk.directory(self._directory)
        for path in _files(self._directory)[: -KEPT + 1]:
            if not _held(path):
                path.unlink(missing_ok=True)
        stamp = self._row["started"].replace("-", "").replace(":", "")
        path = self._directory / f"{stamp}-{self._row['id']}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def _append(self, row: Row) -> None:
        try:  # a line that was cut off before this one must not take it along
            disk.write(self._descriptor, b"\n" + encode(redacted(writable(row), self._secrets)) + b"\n")
        except OSError as error:
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            why = getattr(error, "strerror", None) or str(error)
            self._notice(f"`syncer runs` will not tell all of this run: {why}; the pull goes on")


def runs(out: Path, source: str | None = None) -> list[Row]:
    """The runs of a source, or of all, the newest first. SyncerError if they cannot be read."""
    with disk.explained(out, "list"):
        homes = [out / source] if source else sorted(path for path in out.iterdir() if path.is_dir())
    found = [row for home in homes for path in _files(home / ".syncer" / "runs") if (row := _read(path))]
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


def _read(path: Path) -> Row | None:
    """What a file says of its run; None if nothing whole was written, or somebody deleted it meanwhile."""
    held = _held(path)  # first: who ends in between has written how
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check who may read it") from None
    row = next(_rows(content), None)
    if row and not row["ended"]:
        row["status"] = "running" if held else "killed"
    return row


def _rows(content: bytes) -> Iterator[Row]:
    for text in reversed(content.split(b"\n")):
        with suppress(ValueError, RecursionError):
            row = json.loads(text)
            if isinstance(row, dict) and {"id", "source", "started", "ended", "streams"} <= row.keys():
                yield row


def _held(path: Path) -> bool:
    """Whether the process that records into this file is alive."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _status(report: Report | None, exit_code: int) -> str:
    if exit_code >= 128:
        return "stopped"
    found = [stream.status for stream in report.streams] if report else []
    if exit_code:
        return "short" if found and set(found) <= {"short", "complete"} else "failed"
    return "capped" if "capped" in found else "complete"
