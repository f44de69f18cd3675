"""What a server says of its limits, in any convention of the field: what is left, and how long to wait.

Everything here is a pure function of an answer: its status, its headers (names in lower case), its body (the
decoded JSON, else the bytes) and its date, which is the server's own Date.

    limits        every quota the answer speaks of
    limited       whether the answer is a limit, whatever its status
    retry_after   the server's explicit word
    wait          how long nothing may be sent, and why
    unread        the limit headers that nobody could make sense of

No wait is longer than a YEAR, and no value, however odd, is an error. How a moment or a length of time is read
stands in `moments`, how quotas are read from headers in `quotas`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime

from .moments import YEAR, again_in, http_date, number, seconds
from .page import JSON, dig
from .quotas import LONGEST, Limit, read

_DAY = 86400.0
_MINUTE = 60.0
_NODES = 1000

_IN_SECONDS = ("x-ratelimit-retry-after", "x-rate-limit-retry-after")
_IN_MILLISECONDS = ("x-amz-retry-after", "retry-after-ms", "x-ms-retry-after-ms")
_AGAIN = {"retryafter": 1.0, "retryafterseconds": 1.0, "retryinseconds": 1.0, "retrydelay": 1.0, "retryafterms": 0.001}
_CODED = ("code", "errorcode", "error", "errorname", "errortype", "reason", "status", "type")
_CODES = re.compile(
    "(?:(?:(?:user)?rate|daily|request)limit(?:ed|exceeded|reached)?|quotaexceeded|resourceexhausted|slowdown|"
    "(?:request)?throttl(?:ed|ing)|throttleviolation|toomanyrequests|provisionedthroughputexceeded)(?:exception|error)?|"
    "complexity(?:budgetexhausted|exception)"
)
_META_CODES = (4, 17, 32, 341, 613, *range(80000, 80015))
_WORDS = ("rate limit", "ratelimit", "rate_limit", "too many requests", "slow down", "slowdown", "throttled")


def limits(headers: Mapping[str, str], body: JSON, date: datetime) -> tuple[Limit, ...]:
    """Every quota that the answer speaks of."""
    return (*read(headers, date)[0], *_in_body(body, date))


def unread(headers: Mapping[str, str], date: datetime) -> tuple[str, ...]:
    """The names of the limit headers whose value nobody could make sense of."""
    strange = read(headers, date)[1]
    if headers.get("retry-after", "").strip() and _retry_header(headers["retry-after"], date) is None:
        strange.append("retry-after")
    return tuple(strange)


def retry_after(headers: Mapping[str, str], body: JSON, date: datetime) -> float | None:
    """Seconds to wait by the server's explicit word, the longest of all; None without one.

    Retry-After (RFC 9110, section 10.2.3) in both forms, as fractions, several at once; what cloud vendors
    send in milliseconds; and what a body that tells of a limit says, in a field or in words. The body of a
    good page should not be given: its records may speak of waiting.
    """
    waits = [_retry_header(headers.get("retry-after", ""), date)]
    waits += [seconds(headers.get(name), date) for name in _IN_SECONDS]
    waits += [seconds(headers.get(name), date, 0.001) for name in _IN_MILLISECONDS]
    waits += _said(body, date)
    return max((wait for wait in waits if wait is not None), default=None)


def limited(status: int, headers: Mapping[str, str], body: JSON, date: datetime) -> bool:
    """Whether an answer is a limit: by its status, or by what a 200, 400, 403 or 503 says."""
    if status in (420, 429, 430):
        return True
    if status < 400:
        return _throttled(body)
    code = headers.get("x-amzn-errortype", "").partition(":")[0]
    if status < 500 and (_is_code(code) or _names_limit(body)):
        return True
    named = retry_after(headers, None, date) is not None
    if status == 403:
        quotas = limits(headers, body, date)
        spent = any(limit.spent and (limit.back, limit.window) != (None, None) for limit in quotas)
        return named or spent or _tells_of_limit(body)
    return (status in (503, 509) and named) or (status == 503 and (_names_limit(body) or _tells_of_limit(body)))


def wait(status: int, headers: Mapping[str, str], body: JSON, date: datetime) -> tuple[float, str] | None:
    """How many seconds nothing may be sent, and why; None if the server does not say.

    The longest of its explicit word and of what its spent quotas take to come back. A window counts only
    where neither says how long: it is the longest that it can take.
    """
    over = limited(status, headers, body, date)
    asked = retry_after(headers, body if over or status >= 400 else None, date)
    said = [(asked, "the server asks for it")] if asked is not None else []
    quotas = limits(headers, body, date)
    for limit in quotas:
        back = limit.window if limit.back is None and asked is None else limit.back
        if limit.spent and back is not None:
            said.append((back, f"{limit.name} is spent"))
    if over and not said:
        said = [(limit.reset, limit.name) for limit in quotas if limit.remaining is None and limit.reset is not None]
    if over and not said and "secondary rate limit" in _text(body):
        said = [(_MINUTE, "the secondary limit asks for a minute")]
    return max(said, default=None)


# --- what it says ---


def _retry_header(value: str, date: datetime) -> float | None:
    """The longest wait in a Retry-After header; the comma within a date parts nothing."""
    parts = re.split(r",(?! [0-9]{2}[ -][A-Z])", value) if len(value) <= LONGEST else []
    return max((wait for part in parts if (wait := _plain(part, date)) is not None), default=None)


def _plain(text: str, date: datetime) -> float | None:
    """Seconds or a date, which is all that Retry-After may be: no `6m0s`, no `2026-01-31T12:00Z`."""
    return seconds(text, date) if number(text) is not None or http_date(text.strip()) else None


def _in_body(body: JSON, date: datetime) -> Iterator[Limit]:
    """The quotas that an answer tells of in its body: what GraphQL queries cost, and Stack Exchange."""
    if not isinstance(body, Mapping):
        return
    if isinstance(state := dig(body, "extensions.cost.throttleStatus"), Mapping):
        left, size = number(state.get("currentlyAvailable")), number(state.get("maximumAvailable"))
        rate = number(state.get("restoreRate")) or None
        reset = (
            min((size - left) / rate, YEAR) if rate and size is not None and left is not None and size > left else None
        )
        cost = number(dig(body, "extensions.cost.requestedQueryCost"))
        yield Limit(name="GraphQL cost", remaining=left, quota=size, reset=reset, refill=rate, cost=cost or 1.0)
    if isinstance(state := dig(body, "data.rateLimit"), Mapping):
        left, quota, cost = (number(state.get(key)) for key in ("remaining", "limit", "cost"))
        reset = seconds(state.get("resetAt"), date)
        yield Limit(name="GraphQL points", remaining=left, quota=quota, reset=reset, cost=cost or 1.0)
    if isinstance(state := dig(body, "data.complexity"), Mapping):
        left, cost = number(state.get("after")), number(state.get("query"))
        reset = seconds(state.get("reset_in_x_seconds"), date)
        yield Limit(name="GraphQL complexity", remaining=left, reset=reset, window=_MINUTE, cost=cost or 1.0)
    if (left := number(body.get("quota_remaining"))) is not None:
        yield Limit(name="Stack Exchange day", remaining=left, quota=number(body.get("quota_max")), window=_DAY)
        if (pause := number(body.get("backoff"))) is not None:
            yield Limit(name="Stack Exchange backoff", remaining=0.0, reset=min(pause, YEAR), scope="backoff")


def _said(body: JSON, date: datetime) -> Iterator[float | None]:
    """The waits that a body names: in the fields that do (gRPC's RetryInfo among them), and in words."""
    for name, value in _nodes(body):
        if (unit := _AGAIN.get(_code(name))) and not isinstance(value, Mapping | list):
            yield seconds(value, date, unit)
    yield again_in(_text(body))


def _throttled(body: JSON) -> bool:
    """Whether an answer that calls itself good is a limit: Slack, GraphQL, Etherscan."""
    if not isinstance(body, Mapping):
        return False
    if body.get("ok") is False or body.get("success") is False:
        return _is_code(body.get("error"))
    if body.get("status") == "0" and isinstance(result := body.get("result"), str):
        return "rate limit" in result[:1000].lower()
    errors = body.get("errors")
    return isinstance(errors, list) and any(
        isinstance(error, Mapping) and "message" in error and _names_limit(error) for error in errors[:_NODES]
    )


def _names_limit(body: JSON) -> bool:
    """Whether a field that holds an error's code holds that of a limit."""
    if isinstance(dig(body, "error.fbtrace_id"), str) and dig(body, "error.code") in _META_CODES:
        return True
    return any(_code(name) in _CODED and _is_code(value) for name, value in _nodes(body))


def _tells_of_limit(body: JSON) -> bool:
    """Whether the text of an answer speaks of a limit: GitHub's secondary limit is a 403 that says so in words."""
    text = _text(body)
    return any(word in text for word in _WORDS)


def _is_code(value: object) -> bool:
    return _CODES.fullmatch(_code(value)) is not None


def _code(value: object) -> str:
    """An error's code or a field's name by its letters: `RATE_LIMITED` and `rateLimited` are one."""
    return re.sub("[^a-z]", "", value[-64:].rpartition("#")[2].lower()) if isinstance(value, str) else ""


def _text(body: JSON) -> str:
    """The beginning of what a body says in words, in lower case; addresses are no words."""
    if isinstance(body, bytes | bytearray):
        return bytes(body[:65536]).decode("latin-1").lower()
    texts = (value[:2000] for _, value in _nodes(body) if isinstance(value, str) and not value.startswith("http"))
    return " | ".join(texts).lower()  # or the end of one would go on in the next


def _nodes(body: JSON) -> Iterator[tuple[str, JSON]]:
    """The names and values in a document, outermost first, not more than _NODES."""
    waiting: deque[tuple[str, JSON]] = deque([("", body)])
    for _ in range(_NODES):
        if not waiting:
            return
        name, value = waiting.popleft()
        yield name, value
        inner = (
            value.items()
            if isinstance(value, Mapping)
            else ((name, item) for item in value)
            if isinstance(value, list)
            else ()
        )
        waiting.extend(pair for pair, _ in zip(inner, range(_NODES - len(waiting)), strict=False))
