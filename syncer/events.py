"""What a pull tells whoever watches it, as it happens. Values only; showing them is progress's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Began:
    """A pull begins, of these streams, into this directory."""

    streams: tuple[str, ...]
    out: str
    sink: str


@dataclass(frozen=True, slots=True)
class Started:
    """A stream begins or resumes; `since` is the bookmark it asks from, if it asks for news only."""

    stream: str
    resumed: bool
    pages: int
    fetched: int
    since: object = None


@dataclass(frozen=True, slots=True)
class Asking:
    """A page is about to be asked for; `request` is a fingerprint of what is asked.

    Pages may be asked for ahead: what is told in the same thread from here on, until it asks again, is about this one.
    """

    stream: str
    request: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A page is durable, the one that was asked for by this `request`. The counts are of the whole run."""

    stream: str
    pages: int
    fetched: int
    written: int
    rejected: int
    repeated: int
    total: int | None
    request: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """No request goes out for `seconds`, because of `reason`; `until` is the wall time it ends."""

    seconds: float
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Waited:
    """A wait is over, after so many seconds."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed; the next is number `attempt`, after the wait that is announced beside it."""

    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Requested:
    """A request went out; `url` carries no secrets."""

    method: str
    url: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Received:
    """The body of an answer was read; `size` is its length in bytes, decompressed."""

    size: int


@dataclass(frozen=True, slots=True)
class Told:
    """The server said how many requests are left of a limit, and in how many seconds it is whole again."""

    limit: str
    remaining: float
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something a person should know that stops nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream is over for this pull; `error` says why, and `exit_code` what kind of error it is."""

    stream: str
    status: str
    error: str = ""
    hint: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The pull is over; `error` says why, if that is about none of its streams."""

    exit_code: int
    seconds: float
    error: str = ""
    hint: str = ""


Event = (
    Began
    | Started
    | Asking
    | Committed
    | Waiting
    | Waited
    | Retrying
    | Requested
    | Received
    | Told
    | Noticed
    | Ended
    | Finished
)
Observer = Callable[[Event], None]
