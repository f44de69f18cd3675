"""Every event of a pull as one line of JSON, for whoever collects logs.

    {"time":"2026-11-24T18:20:13.250Z","level":"info","event":"committed","run":"4f2a9c1e","source":"shop",
     "stream":"orders","pages":3,...}

`event` is the name of a class of events.py in lower case, and what follows `stream` are its fields. A pull
never waits for its log and never ends because of it: a line that cannot be written is lost, and that is said
once. A file that was renamed or removed by whoever rotates logs is made anew.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from .auth import mask
from .clock import Clock
from .decode import encode
from .errors import ConfigError
from .events import Ended, Event, Finished, Noticed, Retrying
from .terminal import harmless, writable

STDERR = "-"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_TYPED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)


class Log:
    """Writes the events of one run to a file, or to stderr. ConfigError if there can be no such file."""

    def __init__(
        self, target: str, run: str, source: str, secrets: Sequence[str], clock: Clock, notice: Callable[[str], None]
    ) -> None:
        self._target, self._run, self._source, self._secrets = target, run, source, secrets
        self._clock, self._notice = clock, notice
        self._stream: str | None = None
        self._descriptor, self._torn, self._told = -1, False, False
        try:
            self._open()
        except OSError as error:
            if error.errno in _TYPED:
                raise ConfigError(
                    f"the log {target} cannot be opened: {error.strerror}", hint="give --log a file that you may write"
                ) from None
            self._lost(error)

    def __call__(self, event: Event) -> None:
        """Write an event."""
        self._stream = getattr(event, "stream", self._stream)
        text = line(event, self._clock.stamp(), self._run, self._source, self._stream, self._secrets)
        try:
            self._current()
            self._write(b"\n" + text if self._torn else text)
        except OSError as error:
            self._lost(error)
        if isinstance(event, Ended):
            self._stream = None

    def close(self) -> None:
        """Close the file."""
        if self._target != STDERR and self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        self._descriptor = 2 if self._target == STDERR else os.open(self._target, _FLAGS, 0o600)

    def _current(self) -> None:
        """Open the file, again if its name stands for another one by now, or for none."""
        if self._descriptor >= 0 and self._target != STDERR:
            mine = os.fstat(self._descriptor)
            try:
                named = os.stat(self._target)  # noqa: PTH116 beside fstat
                same = (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)
            except FileNotFoundError:
                same = not stat.S_ISREG(mine.st_mode)
            if not same:
                self.close()
        if self._descriptor < 0:
            self._open()
            self._torn = False

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        finally:
            if len(view) < len(data):
                self._torn = len(view) > 0

    def _lost(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            self._notice(f"the log {self._target} loses lines: {error.strerror or error}; the pull goes on")


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


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value


def _level(event: Event) -> str:
    if isinstance(event, Ended | Finished) and event.exit_code:
        return "error"
    return "warning" if isinstance(event, Retrying | Noticed) else "info"
