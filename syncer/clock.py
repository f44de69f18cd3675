"""Time, as something that is passed in: what the wall says, what has elapsed, and how to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

_SLICE = 0.1


class Worker(threading.Thread):
    """A thread that does one thing, and for which every wait is over once nobody wants what it does."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(target=work, daemon=True)
        self.unwanted = False


@dataclass
class Stop:
    """Raised by a signal handler, read by the loop. A plain attribute: see D7 for why not an Event."""

    signal: int = 0

    def __bool__(self) -> bool:
        return self.signal != 0 or getattr(threading.current_thread(), "unwanted", False)


def _wall() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """The wall for stamps, a monotonic count of seconds for everything that is measured or waited for."""

    now: Callable[[], datetime] = _wall
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    stop: Stop = field(default_factory=Stop)

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than a tenth of a second past a request to stop; True if it was asked."""
        end = self.monotonic() + seconds
        while not self.stop and (left := end - self.monotonic()) > 0:
            self.sleep(min(left, _SLICE))
        return bool(self.stop)

    def stamp(self) -> str:
        """The wall time as an RFC 3339 string in UTC, to the millisecond."""
        return self.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
