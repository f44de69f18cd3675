"""How fast one may ask: the declared Rate, and how to wait."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .clock import Clock
from .errors import ConfigError, StoppedError
from .events import Observer, Waited, Waiting

SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

SHOWN = 1.0
"""A wait shorter than this many seconds is pacing, not news."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` requests in any `per` seconds: as soon as they may go, or with `spread` at even intervals."""

    limit: int
    per: float = SECOND
    spread: bool = False

    def __post_init__(self) -> None:
        """Refuse a rate that allows nothing."""
        if type(self.limit) is not int or type(self.per) not in (int, float) or self.limit < 1 or not self.per > 0:
            raise ConfigError("a Rate needs a limit of at least 1 and a positive time")

    def __str__(self) -> str:
        units = {SECOND: "s", MINUTE: "min", HOUR: "h", DAY: "day"}
        return f"{self.limit}/{units.get(self.per, f'{self.per:g}s')}"


def pause(clock: Clock, observe: Observer, seconds: float, reason: str) -> None:
    """Wait, telling the observer if it is long enough to be news. StoppedError if a signal ends it."""
    if seconds >= SHOWN:
        observe(Waiting(seconds, reason, later(clock, seconds)))
    began = clock.monotonic()
    stopped = clock.wait(seconds)
    if seconds >= SHOWN:
        observe(Waited(clock.monotonic() - began, reason))
    if stopped:
        raise StoppedError


def later(clock: Clock, seconds: float) -> datetime:
    """The wall time so many seconds from now; the end of time where it lies beyond."""
    try:
        return clock.now() + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
