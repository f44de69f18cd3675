"""Every event of a pull as one line of JSON, for whoever collects logs.

    {"time":"2026-11-24T18:20:13.250Z","level":"info","event":"committed","run":"4f2a9c1e","source":"shop",
     "stream":"orders","pages":3,...}

`event` is the name of a class of events.py in lower case, and what follows `stream` are its fields. A pull
never waits for its log and never ends because of it: a line that cannot be written is lost, and that is said
once. A file that was renamed or removed by whoever rotates logs is made anew. Several pulls may write to one
file: each line is appended by one call.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from .auth import mask
from .clock import Clock
from .decode import encode
from .errors import ConfigError
from .events import Asking, Committed, Ended, Event, Finished, Noticed, Retrying, Started
from .terminal import harmless, writable

STDERR = "-"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_TYPED = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
"""What is wrong with a name, rather than with the disk or with who should be listening."""


class Log:
    """Writes the events of one run to a file, or to stderr. ConfigError if there can be no such file."""

    def __init__(
        self, target: str, run: str, source: str, secrets: Sequence[str], clock: Clock, notice: Callable[[str], None]
    ) -> None:
        self._target, self._run, self._source, self._secrets = target, run, source, secrets
        self._clock, self._notice = clock, notice
        self._stream: str | None = None
        self._own = threading.local()
        self._descriptor, self._torn, self._told = -1, False, False
        try:
            self._open()
        except OSError as error:
            if error.errno in _TYPED:
                raise ConfigError(
                    f"the log {target or repr(target)} cannot be opened: {error.strerror}",
                    hint="give --log a file that you may write, in a directory that is there",
                ) from None
            self._lost(error)

    def __call__(self, event: Event) -> None:
        """Write an event."""
        stream = self._at_hand(event)
        try:
            text = line(event, self._clock.stamp(), self._run, self._source, stream, self._secrets)
            self._current()
            self._write(b"\n" + text if self._torn else text)
        except (OSError, TypeError, ValueError) as error:
            self._lost(error)

    def _at_hand(self, event: Event) -> str | None:
        """The stream that an event is about: its own, else that of the page which its thread has asked for last."""
        match event:
            case Asking(stream):
                self._own.stream = stream
            case Started(stream) | Committed(stream):
                self._stream = stream
            case Ended(stream):
                self._stream = self._own.stream = None
            case _:
                return getattr(self._own, "stream", None) or self._stream
        return stream

    def close(self) -> None:
        """Close the file."""
        if self._target != STDERR and self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        self._descriptor = 2 if self._target == STDERR else os.open(self._target, _FLAGS, 0o600)
        self._torn = self._target != STDERR and _torn(self._target, self._descriptor)

    def _current(self) -> None:
        """Open the file, again if its name stands for another one by now, or for none."""
        if self._descriptor >= 0 and self._target != STDERR:
            mine = os.fstat(self._descriptor)
            try:
                named = os.stat(self._target)  # noqa: PTH116 beside fstat
                moved = (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino)
            except FileNotFoundError:
                moved = stat.S_ISREG(mine.st_mode)
            except OSError:  # nobody can say; what is open may still be written to
                moved = False
            if moved:
                self.close()
        if self._descriptor < 0:
            self._open()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                room = _room(self._descriptor, len(view)) if self._target == STDERR else len(view)
                view = view[os.write(self._descriptor, view[:room]) :]
        finally:
            if len(view) < len(data):
                self._torn = len(view) > 0

    def _lost(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            why = getattr(error, "strerror", None) or str(error)
            self._notice(f"the log {self._target} loses lines: {why}; the pull goes on")


def line(event: Event, at: str, run: str, source: str, stream: str | None, secrets: Sequence[str]) -> bytes:
    """An event as its line."""
    row: dict[str, Any] = {"time": at, "level": _level(event), "event": type(event).__name__.lower()}
    row |= {"run": run, "source": source, "stream": stream}
    row |= {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    return harmless(encode(redacted(writable(row), secrets))).encode() + b"\n"


def redacted(value: Any, secrets: Sequence[str]) -> Any:
    """A value for JSON in which every secret, in whatever way it is written, is `***`."""
    if isinstance(value, str):
        return mask(value.encode(), secrets).decode() if secrets else value
    if isinstance(value, dict):
        return {redacted(name, secrets): redacted(item, secrets) for name, item in value.items()}
    return [redacted(item, secrets) for item in value] if isinstance(value, list | tuple) else value


def _torn(path: str, descriptor: int) -> bool:
    """Whether a file ends inside a line: the disk was full when somebody wrote it."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    with suppress(OSError):  # a file that may be written need not be readable
        reader = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            size = os.fstat(reader).st_size
            return size > 0 and os.pread(reader, 1, size - 1) != b"\n"
        finally:
            os.close(reader)
    return False


def _room(descriptor: int, wanted: int) -> int:
    """How many bytes can be written without waiting for whoever reads them. BlockingIOError if none.

    Stderr belongs to others too, so it cannot be told not to block.
    """
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return wanted
    if not select.select([], [descriptor], [], 0)[1]:
        raise BlockingIOError(errno.EAGAIN, "nobody reads it")
    return min(wanted, select.PIPE_BUF)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, float):  # also of a kind of its own, which JSON does not know
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def _level(event: Event) -> str:
    if isinstance(event, Ended | Finished) and event.exit_code:
        return "error"
    return "warning" if isinstance(event, Retrying | Noticed) else "info"
