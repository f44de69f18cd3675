"""What all processes on this machine know together about the limit of one host and credential: a file under a lock.

    line 1           `syncer pacer 1 <crc32> <json>`, less than 4096 bytes: the State
    from byte 4096   a ring of slots, 12 bytes each: when a request counts from, and a CRC of that and its number

A request is written before it is counted, into a slot that nobody reads yet, so a process that dies in
between leaves nothing wrong, and its lock is free. A file that fails its checks, or is none, is set aside
as `.damaged`, and nothing is sent for one whole window: what it would have said is not known, and the limit
must hold all the same (I7). Where the file cannot be had, each process paces itself alone and says so.

Times are counted in seconds of the machine's monotonic clock, so the wall may jump. That clock begins anew
with the machine; `offset` then joins the counts by the time the wall says has gone by, or none if it says
less: only a wall that is set forward between two starts is believed too much. It stands while the machine
sleeps: a limit may then take longer than it must, never shorter.
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .clock import Clock
from .events import Noticed, Observer

try:
    import fcntl
except ImportError:  # Windows has none: every process alone
    fcntl = None  # type: ignore[assignment]

Result = TypeVar("Result")

_MAGIC = b"syncer pacer 1 "
_RING = 4096
_SLOT = struct.Struct("<dI")
_LEAST = 4096
_TRIES = 3
_NAP = 0.001
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_STUCK = 5.0
_STALE = 100 * 86400.0


class DamagedError(Exception):
    """The file does not hold what was written into it."""


@dataclass
class Quota:
    """The server's word on one budget, less what was sent since. Without `remaining` it is a rate, `refill`.

    `since` we know of this window, when there were `first` left and `head` requests counted; `others` have
    used so many, as of when it was `seen`.
    """

    remaining: float | None
    reset: float
    refill: float = 0.0
    size: float = 0.0
    cost: float = 1.0
    seen: float = 0.0
    since: float = 0.0
    first: float = 0.0
    head: int = 0
    others: float = 0.0


@dataclass
class State:
    """`head` requests were counted in all, `size` is how many the ring has slots for; see above for moments.

    Nothing goes before `held`, and where requests are spread out nothing before `due`. `pace` a second were
    found to pass; it rises from `base`, until `until` only to `ceiling`, which is then asked to stand for
    four times its `life`. `refused` were refused since it `began`, and `fell` is when that last mattered.
    """

    size: int = _LEAST
    head: int = 0
    boot: str = ""
    offset: float = 0.0
    last: float = 0.0
    wall: float = 0.0
    held: float = 0.0
    reason: str = ""
    due: float = 0.0
    pace: float = 0.0
    base: float = 0.0
    ceiling: float = 0.0
    until: float = 0.0
    life: float = 0.0
    began: float = -1.0
    fell: float = -1.0
    refused: int = 0
    quotas: dict[str, Quota] = field(default_factory=dict)

    def text(self) -> str:
        """The State as it is saved."""
        return json.dumps({**vars(self), "quotas": {name: vars(quota) for name, quota in self.quotas.items()}})

    @classmethod
    def parse(cls, head: bytes) -> State:
        """The State in the beginning of a file. DamagedError if it is not one."""
        line = head.partition(b"\n")[0]
        check, _, text = line.removeprefix(_MAGIC).partition(b" ")
        if not line.startswith(_MAGIC) or check != b"%08x" % zlib.crc32(text):
            raise DamagedError
        try:
            values = json.loads(text)
            quotas = {name: Quota(**quota) for name, quota in values.pop("quotas").items()}
            state = cls(**values, quotas=quotas)
            numbers = [value for part in (state, *state.quotas.values()) for value in vars(part).values()]
            sound = all(math.isfinite(value) for value in numbers if isinstance(value, float))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DamagedError from None
        if not sound or not isinstance(state.size, int) or not isinstance(state.head, int) or state.size < 1:
            raise DamagedError
        return state


@dataclass
class Turn:
    """The State while nobody else has it, and the moment it is."""

    state: State
    now: float
    read: Callable[[int, int], bytes]
    write: Callable[[bytes, int], object]

    def time(self, number: int) -> float:
        """From when a request counts. DamagedError if its slot holds something else."""
        data = self.read(_SLOT.size, _RING + number % self.state.size * _SLOT.size)
        if len(data) != _SLOT.size or data != _slot(number, moment := float(_SLOT.unpack(data)[0])):
            raise DamagedError
        return moment

    def put(self, number: int, moment: float) -> None:
        """Say from when a request counts."""
        self.write(_slot(number, moment), _RING + number % self.state.size * _SLOT.size)

    def first(self) -> int:
        """The oldest request that the ring surely holds."""
        return max(0, self.state.head - self.state.size + 1)


class Shared:
    """Lets this process have the State of a file in turn with the others; without a path it is this process's own."""

    def __init__(self, path: Path | None, clock: Clock, observe: Observer, boot: str, limit: int, window: float):
        self._path = path if fcntl else None
        self._clock, self._observe, self._boot = clock, observe, boot
        self._size, self._window = max(_LEAST, limit + 1), window
        self._own, self._used = io.BytesIO(), False  # whether the file has been read, so that it is missed
        self._threads = threading.Lock()

    def turn(self, action: Callable[[Turn], Result]) -> Result:
        """Do something with the State while nobody else has it. An exception of the action saves nothing."""
        damages = 0
        with self._threads:
            while True:
                try:
                    with self._opened() as (read, write):
                        return self._done(action, read, write)
                except _MovedError:
                    continue
                except DamagedError:
                    damages += 1
                    self._anew() if self._path and damages <= _TRIES else self._alone("it is damaged again and again")
                except OSError as error:
                    self._alone(error.strerror or type(error).__name__)

    def _done(
        self, action: Callable[[Turn], Result], read: Callable[[int, int], bytes], write: Callable[[bytes, int], object]
    ) -> Result:
        head = read(_RING, 0)
        state = State.parse(head) if head or self._path else self._begun(0.0)
        moment = self._clock.monotonic()
        now, wall = moment + state.offset, self._clock.now().timestamp()
        if state.boot != self._boot or now < state.last:
            gone = max(0.0, wall - state.wall) if state.boot != self._boot else 0.0
            state.boot, now = self._boot, state.last + gone
            state.offset = now - moment
        turn = Turn(state, now, read, write)
        if state.size < self._size:
            self._grow(turn)
        done = action(turn)
        if not head.startswith(_line(state)):
            state.last, state.wall = now, wall
            write(_line(state), 0)
        self._used = True
        return done

    def _begun(self, seconds: float) -> State:
        """A State that knows of no request, and lets none out for so long."""
        now, wall = self._clock.monotonic(), self._clock.now().timestamp()
        held, reason = (now + seconds, "what was sent before is not known") if seconds else (0.0, "")
        return State(self._size, boot=self._boot, last=now, wall=wall, held=held, reason=reason)

    def _grow(self, turn: Turn) -> None:
        """Put a file with a larger ring in the place of this one: a higher limit counts more requests."""
        known = [(number, turn.time(number)) for number in range(turn.first(), turn.state.head)]
        turn.state.size = self._size
        self._publish(turn.state, known, replace=True)
        raise _MovedError

    @contextmanager
    def _opened(self) -> Iterator[tuple[Callable[[int, int], bytes], Callable[[bytes, int], object]]]:
        """How to read and write the file, locked, or this process's own memory."""
        if self._path is None:
            yield self._recall, self._remember
            return
        descriptor = self._open(self._path)
        try:
            self._lock(descriptor, self._path)
            yield (
                lambda count, place: os.pread(descriptor, count, place),
                lambda data, place: os.pwrite(descriptor, data, place),
            )
        finally:
            os.close(descriptor)

    def _open(self, path: Path) -> int:
        while True:
            try:
                return os.open(path, os.O_RDWR | _FLAGS)
            except FileNotFoundError:
                _private(path.parent)
                self._publish(self._begun(0.0), [], replace=False)
            except OSError:  # a link, a directory, a file that is not for us
                if not os.path.lexists(path):
                    raise
                raise DamagedError from None

    def _lock(self, descriptor: int, path: Path) -> None:
        """Wait for the others, who are quick, and see that this is still the file in its place."""
        waited = 0.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited > (0.1 if self._clock.stop else _STUCK):
                    raise OSError(0, "a process that is stopped holds its lock") from None
                self._clock.sleep(_NAP)
                waited += _NAP
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise DamagedError
        try:
            placed = path.stat(follow_symlinks=False)
        except FileNotFoundError:
            raise _MovedError from None
        if (found.st_dev, found.st_ino) != (placed.st_dev, placed.st_ino):
            raise _MovedError

    def _publish(self, state: State, known: list[tuple[int, float]], *, replace: bool) -> None:
        """Put a whole file in its place, at one stroke; one that came before stays unless it is to be replaced."""
        assert self._path  # noqa: S101
        made = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        with suppress(FileNotFoundError):
            made.unlink()
        descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            turn = Turn(state, 0.0, lambda count, place: b"", lambda data, place: os.pwrite(descriptor, data, place))
            turn.write(_line(state), 0)
            for number, moment in known:
                turn.put(number, moment)
            if replace:
                made.replace(self._path)
            else:
                with suppress(FileExistsError):
                    os.link(made, self._path)
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                made.unlink()

    def _anew(self) -> None:
        """Set aside what is in the file's place, and begin as if the limit had just been used up."""
        assert self._path  # noqa: S101
        aside = self._path.with_name(self._path.name + ".damaged")
        try:
            if self._path.is_dir() and not self._path.is_symlink():
                self._path.replace(aside)
            else:
                with suppress(OSError):
                    aside.unlink(missing_ok=True)
                    os.link(self._path, aside, follow_symlinks=False)
            self._publish(self._begun(self._window), [], replace=True)
        except OSError as error:
            self._alone(error.strerror or type(error).__name__)
            return
        self._observe(
            Noticed(
                f"what was known of the requests sent ({self._path}) is damaged and was set aside"
                + (f"; nothing is sent for {self._window:g} s, so that the limit holds" if self._window else "")
            )
        )

    def _alone(self, why: str) -> None:
        """Go on in memory. What a file knew until now is not known any more."""
        place, self._path = self._path, None
        self._own = io.BytesIO(_line(self._begun(self._window if self._used else 0.0)))
        if place:
            self._observe(
                Noticed(
                    f"the limit is not shared with other pulls: {place.parent} cannot be used ({why});"
                    " SYNCER_STATE names another directory"
                )
            )

    def _recall(self, count: int, place: int) -> bytes:
        self._own.seek(place)
        return self._own.read(count)

    def _remember(self, data: bytes, place: int) -> None:
        self._own.seek(place)
        self._own.write(data)


class _MovedError(Exception):
    """Another file is in the place of the one that was opened."""


def boot() -> str:
    """What is different after the machine was started anew, where it can be had: `offset` does without."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _private(directory: Path) -> None:
    """Make a directory that is this user's alone, and take out what nobody has used for long. OSError if it is not."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat(follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(1, "others may write there")
    for file in directory.iterdir():
        with suppress(OSError):
            if time.time() - file.lstat().st_mtime > _STALE:
                file.unlink()


def _slot(number: int, moment: float) -> bytes:
    return _SLOT.pack(moment, zlib.crc32(struct.pack("<dQ", moment, number)))


def _line(state: State) -> bytes:
    text = state.text().encode()
    return b"%s%08x %s\n" % (_MAGIC, zlib.crc32(text), text)
