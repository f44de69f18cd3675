"""Tokens that must outlive a run: each in a private file, replaced as a whole, one process at a time.

A rotating refresh token is worth nothing once it has been used, and the next one is only in the answer. So
the answer is on the disk (fsync of the file, rename, fsync of the directory) before anything in it is used,
room for it is taken before it is asked for, the lock is held from before the old token is read until the new
one is saved, and a process that is about to end waits for that. What remains is a crash after the server sent
its answer and before it is saved.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..errors import ConfigError, CredentialsError, SinkError, StoppedError, TransientError
from .secrets import Environment
from .tokens import usable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNBROKEN = threading.RLock()
_LONGEST = 300.0
_ROOM = 65536
_TURN = 90.0
_NAP = 0.05
_OPEN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def state(environment: Environment) -> Path | None:
    """Where this user's runs remember things: SYNCER_STATE, or syncer in XDG_STATE_HOME; None without a home."""
    known = {**os.environ, **environment}
    home = known.get("XDG_STATE_HOME", "")
    try:
        base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
        return Path(known["SYNCER_STATE"]) if known.get("SYNCER_STATE") else base / "syncer"
    except RuntimeError:
        return None


@dataclass(frozen=True, slots=True)
class Kept:
    """One file, for as long as this process holds its lock."""

    path: Path

    def read(self, hint: str) -> dict[str, Any] | None:
        """What is saved; None if nothing is. CredentialsError if it is damaged: an older token is no substitute.

        `hint` says how another refresh token is got.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | _OPEN)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(_ROOM + 1)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not usable(found.get("refresh_token")):
            raise CredentialsError(f"the saved refresh token in {self.path} is damaged", hint=hint)
        return found

    def reserve(self) -> None:
        """Take room on the disk, so that it is not missing once the old token is used up."""
        with self._fresh() as file:
            file.write(b" " * _ROOM)
            file.flush()
            os.fsync(file.fileno())

    def write(self, values: Mapping[str, Any]) -> None:
        """Save, and return when no crash can undo it."""
        content = json.dumps(values).encode()
        with self._fresh(os.O_WRONLY | os.O_CREAT) as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self._beside.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def release(self) -> None:
        """Give back the room that was not used."""
        with suppress(OSError):
            self._beside.unlink(missing_ok=True)

    @property
    def _beside(self) -> Path:
        return self.path.with_suffix(".new")

    def _fresh(self, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC) -> Any:
        return os.fdopen(os.open(self._beside, flags | _OPEN, 0o600), "wb")


@contextmanager
def unbroken() -> Iterator[None]:
    """What is begun inside is ended before the process is: pages are fetched by threads that nobody waits for."""
    _waits()
    with _UNBROKEN:
        yield


@cache
def _waits() -> None:
    atexit.register(_UNBROKEN.acquire, timeout=_LONGEST)


@contextmanager
def turn(directory: Path | None, name: str, clock: Clock) -> Iterator[Kept]:
    """The file of this name, while no other process or thread has it.

    SinkError if it cannot be had, TransientError if another keeps it for too long.
    """
    if directory is None or fcntl is None:
        raise ConfigError(
            "there is no place to keep the refresh token that the API hands out",
            hint="set SYNCER_STATE to a directory on a local disk",
        )
    path = directory / "tokens" / f"{name}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | _OPEN, 0o600)
        try:
            _wait(descriptor, clock)
            kept = Kept(path)
            try:
                yield kept
            finally:
                kept.release()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SinkError(
            f"the refresh token cannot be kept in {path.parent}: {error.strerror or type(error).__name__}",
            hint="make room there, or set SYNCER_STATE to another directory",
        ) from None


def _wait(descriptor: int, clock: Clock) -> None:
    end = clock.monotonic() + _TURN
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        if clock.monotonic() >= end:
            raise TransientError("another process has been renewing the token for too long")
        if clock.wait(_NAP):
            raise StoppedError
