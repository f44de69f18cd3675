"""How fast one may ask: the declared Rate, the limit headers of an answer, and how to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from .clock import Clock
from .errors import ConfigError, StoppedError
from .events import Observer, Waited, Waiting

SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

SHOWN = 1.0
"""A wait shorter than this many seconds is pacing, not news."""

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z", re.ASCII)
_EPOCH = 10**9
_EPOCH_MS = 10**12


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` requests in any `per` seconds: as soon as they may go, or with `spread` at even intervals."""

    limit: int
    per: float = SECOND
    spread: bool = False

    def __post_init__(self) -> None:
        """Refuse a rate that allows nothing."""
        if self.limit < 1 or not self.per > 0:
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


def retry_after(headers: Mapping[str, str], date: datetime) -> float | None:
    """Seconds to wait by the Retry-After header (RFC 9110, section 10.2.3), or None without a usable one.

    Both forms: seconds (a fraction is accepted, Shopify sends `2.0`), and a date, which is taken
    against the response's own Date so that our clock need not be right. Of several the longest
    counts; whatever else stands there is ignored.
    """
    value = headers.get("retry-after", "").strip()
    if (moment := http_date(value)) is not None:
        return max(0.0, (moment - date).total_seconds())
    waits = [float(part) for text in value.split(",") if _SECONDS.match(part := text.strip())]
    return max(waits, default=None)


def exhausted(headers: Mapping[str, str], date: datetime) -> float | None:
    """Seconds until a spent quota refills, by the X-RateLimit and RateLimit headers; None if it is not spent.

    `Reset` above 10^12 is milliseconds since 1970, above 10^9 seconds since 1970 (GitHub), otherwise
    seconds from now (the IETF drafts); a moment is taken against the response's own Date.
    """
    for prefix in ("x-ratelimit-", "x-rate-limit-", "ratelimit-"):
        remaining, reset = headers.get(prefix + "remaining", "").strip(), headers.get(prefix + "reset", "").strip()
        if not _SECONDS.match(remaining) or float(remaining) >= 1 or not re.match(r"[0-9]{1,13}(\.[0-9]+)?\Z", reset):
            continue
        value = float(reset)
        if value >= _EPOCH:
            value = value / 1000 if value >= _EPOCH_MS else value
            value -= date.timestamp()
        return max(0.0, value)
    return None


def limited(status: int, headers: Mapping[str, str], content: bytes, date: datetime) -> bool:
    """Whether an answer that is no page speaks of a limit: a 503 that names a time, a 403 that is one.

    GitHub's secondary limit and Google's rateLimitExceeded are 403s that say so only in their body.
    """
    named = retry_after(headers, date) is not None
    if status != 403:
        return status == 503 and named
    text = content[:65536].lower()
    words = (b"rate limit", b"ratelimit", b"too many requests")
    return named or exhausted(headers, date) is not None or any(word in text for word in words)


def http_date(value: str) -> datetime | None:
    """The moment an HTTP date names (RFC 9110, section 5.6.7), or None if it is not one."""
    if not re.match(r"[A-Z][a-z]+,? ", value):
        return None
    try:
        moment = parsedate_to_datetime(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
