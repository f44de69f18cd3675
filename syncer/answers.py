"""What an answer means: a page, a limit, a failure that may pass, or the end. Data, with a sound default.

    meaning     what syncer does
    page        reads the records in it
    empty       takes it for an empty page, the last one
    limit       waits as long as the server asks, up to the user's patience, and asks again
    retry       asks again, a few times, with growing waits
    too large   asks for a smaller page, where the stream names the parameter with the page size
    expired     reports that the saved position is worth nothing any more, and the choices
    refused     reports the credentials
    failed      reports the answer

The default, where no rule of the stream or its connector fits, is what the statuses mean by RFC 9110 and
what servers of the field have made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from .errors import ConfigError, FetchError, ProtocolError, StateError, SyncerError, TooLargeError
from .page import JSON, MISSING, Path, Request, dig

Meaning = Literal["page", "empty", "limit", "retry", "too large", "expired", "refused", "failed"]

PAGE = 200
UNCHANGED = 304
LIMITS = (420, 429, 430)
REDIRECTS = (301, 302, 303, 307, 308)
RETRYABLE = (408, 425, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529)
REFUSED = (401, 403, 407)
TOO_LARGE = 413
EXPIRED = (400, 404, 410, 416, 422)
_YOURS = (400, 404, 405, 410, 414, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """A rule of one API: an answer with all of these means that.

    Slack says 200 to what it limits, Stripe says in a header whether a failure is worth another attempt, and
    some have no content rather than an empty list:

        When(status=200, body={"error": "ratelimited"}, then="limit")
        When(headers={"Stripe-Should-Retry": "true"}, then="retry")
        When(status=204, then="empty")

    `status` is one status or several; `headers` and `body` give places and the value each must have, where
    None stands for any value at all.
    """

    then: Meaning
    status: int | tuple[int, ...] | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: Mapping[Path, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a rule that fits everything, or means nothing."""
        if self.then not in get_args(Meaning):
            raise ConfigError(f"an answer cannot mean {self.then!r}", hint=f"one of {', '.join(get_args(Meaning))}")
        if self.status is None and not self.headers and not self.body:
            raise ConfigError("a rule for answers needs status=, headers= or body=")

    def fits(self, status: int, headers: Mapping[str, str], body: JSON) -> bool:
        """Whether the answer is such a one; the names of `headers` are in lower case."""
        statuses = (self.status,) if isinstance(self.status, int) else self.status
        if statuses is not None and status not in statuses:
            return False
        sent = ((headers.get(name.lower()), value) for name, value in self.headers.items())
        if any(found is None or (value is not None and found.lower() != value.lower()) for found, value in sent):
            return False
        there = ((dig(body, path), value) for path, value in self.body.items())
        return all(found is not MISSING and (value is None or found == value) for found, value in there)


def meaning(
    rules: Iterable[When], status: int, headers: Mapping[str, str], body: JSON, *, limited: bool, resumed: bool
) -> Meaning:
    """What an answer means: by the first rule that fits, else by its status.

    `limited` says that its limit headers or its text speak of a limit; `resumed` that what was asked for is a
    saved position rather than the beginning.
    """
    for rule in rules:
        if rule.fits(status, headers, body):
            return rule.then
    if limited or status in LIMITS:
        return "limit"
    if status == PAGE:
        return "page"
    if status in RETRYABLE:
        return "retry"
    if status in REFUSED:
        return "refused"
    if status == TOO_LARGE:
        return "too large"
    return "expired" if resumed and status in EXPIRED else "failed"


def unwelcome(request: Request, name: str, meaning: Meaning) -> SyncerError:
    """The error for an answer that is no page and will be none: `name` is its status in words."""
    place = request.shown
    if meaning == "too large":
        return TooLargeError(
            f"the API answered {name} for {place}: the page is too large",
            hint='ask for less in params=, and name the parameter with the page size: Stream(size="per_page")',
        )
    if meaning == "expired":
        return StateError(
            f"the API answered {name} to the saved position: it has expired, or the stream has changed",
            hint="to begin this stream anew, add --restart",
        )
    if int(name[:3]) in _YOURS:
        return ConfigError(
            f"the API answered {name} for {place}", hint="check the path and the settings given by --set"
        )
    if int(name[:3]) < 300:
        return ProtocolError(f"the API answered {name}, which is not a page")
    return FetchError(f"the API answered {name} for {place}", hint="run the same command again later")


def unreadable(message: str, evidence: bytes) -> ProtocolError:
    """The error for an answer that says it is a page and is none."""
    return ProtocolError(message, hint="is this the API, and is `records` right?", evidence=evidence)
