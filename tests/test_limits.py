"""What a server says of its limits is read in every convention, and nothing that it says does harm."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer import Bearer
from syncer.errors import UnavailableError
from syncer.events import Waiting
from syncer.limits import limited, limits, retry_after, unread, wait
from syncer.moments import YEAR, again_in, http_date, number, seconds
from tests.scripted import response, scripted
from tests.test_client import CANARY, GOOD, Asker

steady = settings(derandomize=True, deadline=None, database=None, max_examples=300)

DATE = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
EPOCH = int(DATE.timestamp())
HOUR = 3600
DAY = 86400.0

TABLE = Path(__file__).parents[1] / "fixtures" / "limits" / "headers.jsonl"
ROWS = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]


def spent_for(headers: dict[str, str], body: Any = None, date: datetime = DATE) -> float | None:
    """How long a good answer with these headers holds back the next request."""
    found = wait(200, headers, body, date)
    return found[0] if found else None


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def as_read(body: Any) -> Any:
    """The body as the client has it: decoded if it is JSON, else the bytes."""
    return body.encode() if isinstance(body, str) else json.loads(json.dumps(body), parse_float=Decimal)


# --- the table ---


def test_the_table_holds_the_headers_of_sixty_apis_and_names_where_they_stand() -> None:
    assert len({row["name"] for row in ROWS}) == len(ROWS) >= 100
    with_headers = {json.dumps(row["headers"], sort_keys=True) for row in ROWS if row["headers"]}
    assert len(with_headers) >= 60
    assert len({row["source"].partition(",")[0] for row in ROWS}) >= 60
    assert all(", " in row["source"] or "docs" in row["source"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_what_an_api_says_is_read_as_its_documentation_means_it(row: dict[str, Any]) -> None:
    headers, body, date = lower(row["headers"]), as_read(row["body"]), http_date(row["date"])
    assert date is not None
    assert row["limited"] == limited(row["status"], headers, body, date)
    found = wait(row["status"], headers, body, date)
    assert (None if row["wait"] is None else pytest.approx(row["wait"], abs=1e-6)) == (found[0] if found else None)
    left = {limit.name: limit.remaining for limit in limits(headers, body, date)}
    assert row["left"] == {name: left.get(name, "no such limit") for name in row["left"]}
    assert () == unread(headers, date)


@pytest.mark.parametrize("hours", [-26, -5, 5, 26, 24 * 365 * 30])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_all_is_measured_on_the_servers_clock(row: dict[str, Any], hours: int) -> None:
    # A length of time stays what it is; a moment that lies hours off can only be more or less far away.
    headers, body, date = lower(row["headers"]), as_read(row["body"]), http_date(row["date"])
    assert date is not None
    shifted = wait(row["status"], headers, body, date + timedelta(hours=hours))
    text = json.dumps(row["headers"]).lower()
    if not any(sign in text for sign in ("-reset", "usage", "gmt")) and "resetAt" not in json.dumps(row["body"]):
        assert (row["wait"] is None) == (shifted is None)
        assert shifted is None or pytest.approx(row["wait"]) == shifted[0]
    assert shifted is None or 0.0 <= shifted[0] <= YEAR


def test_of_several_reasons_the_longest_is_named() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30", "x-ratelimit-resource": "core"}
    assert (30.0, "X-RateLimit (core) is spent") == wait(429, {**headers, "retry-after": "5"}, None, DATE)
    assert (77.0, "the server asks for it") == wait(429, {**headers, "retry-after": "77"}, None, DATE)


def test_a_window_is_waited_for_only_if_nothing_says_how_long() -> None:
    day = {"x-daylimit-remaining": "0"}
    assert DAY == spent_for(day)
    assert (900.0, "the server asks for it") == wait(429, {**day, "retry-after": "900"}, None, DATE)


def test_on_a_429_a_reset_counts_also_where_nobody_says_what_is_left() -> None:
    headers = {"x-ratelimit-limit": "100", "x-ratelimit-reset": "30"}
    assert (30.0, "X-RateLimit") == wait(429, headers, None, DATE)
    assert wait(200, headers, None, DATE) is None
    assert (30.0, "X-RateLimit") == wait(429, {"x-ratelimit-reset": "30"}, None, DATE)


def test_a_limit_says_what_a_pacer_needs() -> None:
    headers = {"ratelimit-policy": '"burst";q=100;w=60, "day";q=5000;w=86400', "ratelimit": '"burst";r=7;t=12'}
    burst, day = sorted(limits(headers, None, DATE), key=lambda limit: limit.name)
    assert ("RateLimit (burst)", 7, 100, 12, 60) == (
        burst.name,
        burst.remaining,
        burst.quota,
        burst.reset,
        burst.window,
    )
    assert ("day", None, 5000, None, DAY) == (day.scope, day.remaining, day.quota, day.reset, day.window)
    (bucket,) = limits({"x-shopify-shop-api-call-limit": "400/400"}, None, DATE)
    assert (20.0, 20.0, 0.05) == (bucket.refill, bucket.reset, bucket.back)
    (rate,) = limits({"x-amzn-ratelimit-limit": "0.5"}, None, DATE)
    assert (0.5, None, False) == (rate.refill, rate.remaining, rate.spent)


# --- what is a limit ---

SPENT = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (429, {}, None, True),
        (420, {}, None, True),
        (430, {}, None, True),
        (503, {"retry-after": "1"}, None, True),
        (503, {"retry-after": "soon"}, None, False),
        (503, {}, b"please slow down", True),
        (500, {"retry-after": "1"}, None, False),
        (509, {"retry-after": "1"}, None, True),
        (403, {}, None, False),
        (403, {"retry-after": "1"}, None, True),
        (403, SPENT, None, True),
        (403, {**SPENT, "x-ratelimit-remaining": "1"}, None, False),
        (403, {"x-ratelimit-remaining": "0"}, None, False),
        (403, {}, b"Too Many Requests", True),
        (403, {}, b"go away", False),
        (403, {}, {"message": "see", "url": "https://example.org/ratelimit"}, False),
        (401, SPENT, None, False),
        (404, {"retry-after": "1"}, b"rate limit", False),
        (200, {**SPENT, "retry-after": "1"}, {"items": []}, False),
        # a page of records may speak of anything
        (200, {}, [{"ok": False, "error": "ratelimited"}], False),
        (200, {}, {"items": [{"error": "ratelimited", "code": "THROTTLED"}]}, False),
        (200, {}, {"ok": True, "error": "ratelimited"}, False),
        (200, {}, {"ok": False, "error": "invalid_auth"}, False),
        (200, {}, {"message": "rate limit", "retry_after": 5}, False),
        (200, {}, {"errors": [{"code": "THROTTLED"}]}, False),
        (200, {}, {"errors": [{"message": "Field not found", "extensions": {"code": "INVALID"}}]}, False),
        (200, {}, {"errors": {"message": "Throttled"}}, False),
        (200, {}, {"status": "0", "result": "No transactions found"}, False),
        (200, {}, b"rate limit", False),
    ],
    ids=str,
)
def test_an_answer_is_a_limit_only_if_it_says_so_where_limits_are_said(
    status: int, headers: dict[str, str], body: Any, expected: bool
) -> None:
    assert expected == limited(status, headers, body, DATE)


def test_the_body_of_a_good_page_is_no_explicit_word() -> None:
    body = {"items": [{"text": "try again in 12s", "retry_after": 50}], "retry_after": 50}
    assert wait(200, {}, body, DATE) is None
    assert (50.0, "the server asks for it") == wait(429, {}, body, DATE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please try again in 12s.", 12.0),
        ("Please try again in 6m0s", 360.0),
        ("Please try again in 1h2m3.5s", 3723.5),
        ("try again in 120ms", 0.12),
        ("Too Many Requests: retry after 35", 35.0),
        ("Retry after: 35", 35.0),
        ("Expected available in 17 seconds.", 17.0),
        ("wait 5 minutes, or try\n again in 2 hours", 7200.0),
        ("please wait 1 day", DAY),
        ("try again in 999999999 days", YEAR),
        ("Please wait a few minutes before you try again", None),
        ("try again in 12 monkeys", None),
        ("retry after 2026-01-31", None),
        ("12s", None),
        ("try again in ٣s", None),
        ("", None),
    ],
)
def test_a_wait_in_words_is_understood(text: str, expected: float | None) -> None:
    assert expected == again_in(text)


# --- Retry-After ---


RETRY_AFTER: list[tuple[str, float | None]] = [
    ("0", 0.0),
    ("7", 7.0),
    (" 7 ", 7.0),
    ("007", 7.0),
    ("2.0", 2.0),
    ("3.5", 3.5),
    ("31536000", YEAR),
    ("999999999", YEAR),
    # several lines come as one, the longest counts
    ("5, 7", 7.0),
    ("7,5", 7.0),
    ("5, soon", 5.0),
    ("soon, 5", 5.0),
    # a moment, against the answer's own Date
    ("Sat, 31 Jan 2026 12:00:30 GMT", 30.0),
    ("Sat, 31 Jan 2026 13:00:00 GMT", 3600.0),
    ("Sat, 31 Jan 2026 12:00:00 GMT", 0.0),
    ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ("Sat, 31 Jan 2026 14:00:30 +0200", 30.0),
    ("Saturday, 31-Jan-26 12:00:30 GMT", 30.0),
    ("Sat Jan 31 12:00:30 2026", 30.0),
    # what nobody can use
    ("", None),
    (" ", None),
    ("-5", None),
    ("+5", None),
    ("1_000", None),
    ("٣", None),
    ("３", None),
    ("²", None),
    ("inf", None),
    ("-inf", None),
    ("nan", None),
    ("1e3", None),
    ("0x10", None),
    ("1.", None),
    (".5", None),
    ("1.5.5", None),
    ("5 seconds", None),
    ("5;7", None),
    ("5\n", 5.0),
    ("9" * 10, None),
    ("9" * 5000, None),
    ("0." + "9" * 5000, None),
    ("soon", None),
    ("Soon, Jan", None),
    ("Sat, 99 Jan 2026 12:00:00 GMT", None),
    ("Sat, 31 Jan 2026 99:00:00 GMT", None),
    ("Sat, 31 Foo 2026 12:00:00 GMT", None),
    ("2026-01-31T12:00:30Z", None),
    ("Sat, 31 Jan 99999999999 12:00:00 GMT", None),
    (f"Sat, {'9' * 400} Jan 2026 12:00:00 GMT", None),
    (f"Sat, {'9' * 5000} Jan 2026 12:00:00 GMT", None),
    ("Sat, 31 Jan 2026 12:00:00 +99999999999999999999", None),
    ("Fri, 31 Dec 9999 23:59:59 -0100", None),
    # the other way round, and as moments
    ("Sat, 31 Jan 2026 12:00:30 GMT, 10", 30.0),
    ("45, Sat, 31 Jan 2026 12:00:30 GMT", 45.0),
    ("Sat, 31 Jan 2026 12:00:30 GMT, Sat, 31 Jan 2026 12:01:00 GMT", 60.0),
    (f"{EPOCH + 60}", 60.0),
    (f"{(EPOCH + 60) * 1000}", 60.0),
    (f"{EPOCH - 60}", 0.0),
    (f"{EPOCH + int(YEAR) + 1}", None),
    ("6m0s", None),
    ("1e9", None),
    ("1" + "0" * 400, None),
    ("1, " * 30000 + "1", None),
]


@pytest.mark.parametrize(("value", "expected"), RETRY_AFTER, ids=lambda value: str(value)[:40])
def test_retry_after_is_read_in_both_forms_and_nothing_else_is_believed(value: str, expected: float | None) -> None:
    assert expected == retry_after({"retry-after": value}, None, DATE)
    unknown = ("retry-after",) if expected is None and value.strip() else ()
    assert unknown == unread({"retry-after": value}, DATE)


def test_without_the_header_there_is_no_wait() -> None:
    assert retry_after({}, None, DATE) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("", None),
        ("now", None),
        ("1994-11-06T08:49:37Z", None),
    ],
)
def test_the_three_forms_of_an_http_date_are_read(text: str, moment: datetime | None) -> None:
    assert moment == http_date(text)


# --- moments, lengths and counts ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # the borders between seconds from now, seconds and milliseconds since 1970
        ("0", 0.0),
        ("999999999", YEAR),
        (f"{int(YEAR) - 1}", YEAR - 1),
        ("1000000000", None),
        (f"{EPOCH + 1}", 1.0),
        (f"{EPOCH + int(YEAR)}", YEAR),
        (f"{EPOCH + int(YEAR) + 1}", None),
        (f"{EPOCH - int(YEAR)}", 0.0),
        (f"{EPOCH - int(YEAR) - 1}", None),
        ("999999999999", None),
        ("1000000000000", None),
        (f"{(EPOCH + 1) * 1000 + 500}", 1.5),
        ("9" * 15, None),
        ("9" * 16, None),
        ("2026-01-31T12:00:30Z", 30.0),
        ("2026-01-31T12:01Z", 60.0),
        ("2026-01-31T12:00:30", 30.0),
        ("2026-01-31 12:00:30", 30.0),
        ("2026-01-31T14:00:30+02:00", 30.0),
        ("2026-01-31T14:00:30+0200", 30.0),
        ("2026-01-31T12:00:30.250000Z", 30.25),
        ("2026-01-31T11:00Z", 0.0),
        ("9999-12-31T23:59:59-23:59", None),
        ("2026-13-31T12:00:30Z", None),
        ("2026-W05-6T12:00", None),
        ("٢٠٢٦-01-31T12:00:30Z", None),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("23ms", 0.023),
        ("1.5s", 1.5),
        ("1s1s1s1s1s1s", None),
        ("6 parsecs", None),
        ("-6s", None),
        (30, 30.0),
        (Decimal("2.5"), 2.5),
        (Decimal("1e400"), None),
        (Decimal("NaN"), None),
        (Decimal("sNaN"), None),
        (10**400, None),
        (-1, None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        (None, None),
        ([], None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_moment_and_a_length_of_time_are_told_apart_by_their_size(value: object, expected: float | None) -> None:
    assert (None if expected is None else pytest.approx(expected)) == seconds(value, DATE)


@pytest.mark.parametrize("skew", [timedelta(hours=-9), timedelta(0), timedelta(hours=9), timedelta(days=-3650)])
def test_the_refill_is_measured_on_the_servers_clock(skew: timedelta) -> None:
    # The server's clock is wrong by as much, its moments with it: the wait is the same.
    theirs = DATE + skew
    epoch = int(theirs.timestamp())
    for reset in (epoch + 60, (epoch + 60) * 1000, (theirs + timedelta(minutes=1)).isoformat()):
        assert 60.0 == spent_for({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}, date=theirs)


def test_without_a_date_of_the_servers_hours_of_skew_only_move_the_end() -> None:
    # The client then takes its own clock, which may be hours off; never more than that comes of it.
    quota = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{EPOCH + 60}"}
    waits = [spent_for(quota, date=DATE + timedelta(hours=hours)) for hours in (-3, 0, 3)]
    assert [60.0 + 3 * HOUR, 60.0, 0.0] == waits


# --- spent quotas ---


@pytest.mark.parametrize(
    ("remaining", "reset", "expected"),
    [
        # seconds from now, seconds since 1970, milliseconds since 1970
        ("0", "30", 30.0),
        ("0", "0", 0.0),
        ("0", "2.5", 2.5),
        ("0", "999999999", YEAR),
        ("0", f"{EPOCH + 60}", 60.0),
        ("0", f"{EPOCH}", 0.0),
        ("0", f"{EPOCH - 60}", 0.0),
        ("0", f"{(EPOCH + 60) * 1000}", 60.0),
        ("0", f"{(EPOCH + 60) * 1000 + 500}", 60.5),
        ("0", f"{EPOCH + 60}.25", 60.25),
        ("0", " 30 ", 30.0),
        ("0.0", "30", 30.0),
        ("0.4", "30", 30.0),
        ("00", "30", 30.0),
        # not spent
        ("1", "30", None),
        ("1.0", "30", None),
        ("4999", f"{EPOCH + 60}", None),
        # hostile
        ("-1", "30", None),
        ("", "30", None),
        ("none", "30", None),
        ("0_0", "30", None),
        ("٠", "30", None),
        ("0", "", None),
        ("0", "-30", None),
        ("0", "inf", None),
        ("0", "nan", None),
        ("0", "1e3", None),
        ("0", "1_000", None),
        ("0", "٣", None),
        ("0", "soon", None),
        ("0", "30, 60", None),
        ("0", "9" * 14, None),
        ("0", "9" * 5000, None),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("prefix", ["x-ratelimit-", "x-rate-limit-", "ratelimit-"])
def test_a_spent_quota_says_when_it_refills(prefix: str, remaining: str, reset: str, expected: float | None) -> None:
    found = spent_for({f"{prefix}remaining": remaining, f"{prefix}reset": reset})
    assert (None if expected is None else pytest.approx(expected)) == found


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining": "0"},
        {"x-ratelimit-reset": "30"},
        {"x-ratelimit-limit": "0", "x-ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "0", "ratelimit-reset": "30"},
    ],
    ids=str,
)
def test_half_a_quota_says_nothing(headers: dict[str, str]) -> None:
    assert spent_for(headers) is None


def test_of_two_quotas_the_spent_one_counts() -> None:
    plenty = {"x-ratelimit-remaining": "10", "x-ratelimit-reset": "5"}
    assert 30.0 == spent_for({**plenty, "ratelimit-remaining": "0", "ratelimit-reset": "30"})


def test_of_a_header_sent_twice_the_tightest_counts() -> None:
    assert 30.0 == spent_for({"x-ratelimit-remaining": "5, 0", "x-ratelimit-reset": "30"})


# --- harm ---

HOSTILE = [
    "1_000",
    "inf",
    "-inf",
    "nan",
    "٣",
    "３",
    "-5",
    "+5",
    "1e9",
    "0x10",
    "1" + "0" * 400,
    "9" * 5000,
    "",
    " ",
    "\x00",
    "🙂",
    "0;w=" + "9" * 9,
    "0;w=" + "9" * 5000,
    '"a";r=0;t=99999999999',
    '"a";r=-1;t=-1',
    '"a";r=0;t=1.5',
    '"a";r=?1;t=?1',
    '"\x1b[31m";r=0;t=5',
    '"a";r=0;t=5, ' * 2000,
    "[" * 8000,
    '{"a":' * 1500,
    '{"call_count": 1e999, "estimated_time_to_regain_access": 1e300}',
    '{"call_count": NaN, "total_time": Infinity}',
    '{"1": [{"call_count": 100, "estimated_time_to_regain_access": 99999999}]}',
    "x" * 65536,
    "0, " * 22000,
    "api-usage=" * 6000,
    "a=1;" * 16000,
    ";" * 65536,
    "try again in " * 5000,
    "Sat, " * 13000,
]
NAMES = [
    "retry-after",
    "x-amz-retry-after",
    "retry-after-ms",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-after",
    "x-ratelimit-limit",
    "x-ratelimit-usage",
    "x-ratelimit-resource",
    "x-hubspot-ratelimit-interval-milliseconds",
    "x-amzn-ratelimit-limit",
    "x-shopify-shop-api-call-limit",
    "sforce-limit-info",
    "x-app-usage",
    "x-business-use-case-usage",
    "x-daylimit-remaining",
    "x-ratelimit-" + "remaining-" * 9,
]


def harmless(status: int, headers: dict[str, str], body: Any) -> None:
    """Nothing is raised, and every number is one that can be waited for."""
    limited(status, headers, body, DATE)
    unread(headers, DATE)
    waits = [retry_after(headers, body, DATE), (wait(status, headers, body, DATE) or (None,))[0]]
    for limit in limits(headers, body, DATE):
        waits += [limit.reset, limit.window, limit.back]
        for count in (limit.remaining, limit.quota, limit.refill, limit.cost):
            assert count is None or 0.0 <= count < float("inf")
        assert limit.name.isprintable()
        assert limit.name.isascii()
        assert len(limit.name) < 200
    assert all(one is None or 0.0 <= one <= YEAR for one in waits)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_header_does_no_harm(name: str, value: str) -> None:
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30", "ratelimit": '"a";r=0;t=5'}
    for status in (200, 403, 429):
        harmless(status, {name: value}, None)
        harmless(status, {**spent, name: value}, None)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:30])
def test_a_hostile_body_does_no_harm(value: str) -> None:
    for status in (200, 400, 403, 429, 503):
        harmless(status, {}, value.encode())
        harmless(status, {}, {"retry_after": value, "errors": [{"message": value, "code": value}], "backoff": value})
        harmless(status, {}, {"extensions": {"cost": {"throttleStatus": {"currentlyAvailable": value}}}})


@pytest.mark.parametrize(
    "count", [0, -1, 1, 10**400, Decimal("1e400"), Decimal("NaN"), float("inf"), None, [], "0", True]
)
def test_a_hostile_number_in_a_body_does_no_harm(count: Any) -> None:
    state = dict.fromkeys(("currentlyAvailable", "maximumAvailable", "restoreRate"), count)
    cost = {"requestedQueryCost": count, "throttleStatus": state}
    points = dict.fromkeys(("limit", "cost", "remaining", "resetAt"), count)
    complexity = dict.fromkeys(("after", "query", "reset_in_x_seconds"), count)
    body = {"extensions": {"cost": cost}, "data": {"rateLimit": points, "complexity": complexity}}
    for status in (200, 400, 429):
        harmless(status, {}, {**body, "backoff": count, "quota_remaining": count, "retry_after": count})


def test_a_document_of_any_depth_and_width_is_looked_at_in_bounded_time() -> None:
    deep: Any = "rate limit"
    for _ in range(5000):
        deep = {"error": deep}
    wide = [{"code": "x"}] * 200_000
    for body in (deep, wide, {"errors": wide}, [wide] * 1000):
        harmless(403, {}, body)


def calls(work: Any) -> int:
    """How many functions are entered while it works: a measure of effort that no other process disturbs."""
    count = 0

    def entered(_frame: Any, _event: str, _argument: Any) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(entered)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", ["ratelimit", "ratelimit-policy", "x-ratelimit-remaining", "retry-after"])
def test_the_effort_for_a_long_header_has_a_bound(name: str) -> None:
    policies = ('"p";r=0;t=5;q=1;w=1, ' * 100_000)[:-2]
    assert calls(lambda: harmless(429, {name: policies}, None)) < 5000
    assert calls(lambda: harmless(429, {name: policies[:8000]}, None)) < 1_000_000


ODD = st.text(max_size=40) | st.sampled_from(HOSTILE) | st.from_regex(r"[0-9\"a-z;=,. :TZ-]{0,40}", fullmatch=True)
WORDS = st.sampled_from(
    ["x", "ratelimit", "rate-limit", "remaining", "reset", "after", "limit", "used", "usage", "policy", "ms", "minute"]
)
HEADERS = st.dictionaries(
    st.sampled_from(NAMES) | st.lists(WORDS, min_size=1, max_size=6).map("-".join), ODD, max_size=6
)
FIELDS = [
    "retry_after",
    "errors",
    "error",
    "code",
    "message",
    "data",
    "rateLimit",
    "extensions",
    "cost",
    "backoff",
    "ok",
]
BODIES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=20)
    | st.sampled_from(HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@steady
@given(st.sampled_from([200, 400, 403, 429, 500, 503]), HEADERS, BODIES | st.binary(max_size=60))
def test_whatever_a_server_sends_is_seconds_or_nothing(status: int, headers: dict[str, str], body: Any) -> None:
    harmless(status, headers, body)


@steady
@given(ODD | st.integers() | st.floats() | st.decimals(), st.datetimes(timezones=st.just(UTC)))
def test_whatever_is_taken_for_a_moment_is_seconds_or_nothing(value: object, date: datetime) -> None:
    found = seconds(value, date)
    assert found is None or 0.0 <= found <= YEAR
    count = number(value)
    assert count is None or 0.0 <= count <= 10**15


@steady
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["try again in ", "1h", "2 m", "9" * 9, "retry after "])).map("".join)
)
def test_whatever_a_text_says_is_seconds_or_nothing(text: str) -> None:
    found = again_in(text)
    assert found is None or 0.0 <= found <= YEAR


@pytest.mark.parametrize(
    "value", ['"a";r=0;t=5,', '"a;r=0;t=5', 'a=1;r=0"', '"a";r=0;t=5 "b"', '"a";R=0;t=5', "(", "ä"]
)
def test_a_malformed_structured_field_is_ignored_whole(value: str) -> None:
    assert () == limits({"ratelimit": value}, None, DATE)
    assert ("ratelimit",) == unread({"ratelimit": value}, DATE)


def test_what_nobody_can_read_is_told_by_name() -> None:
    headers = {"x-ratelimit-remaining": "few", "x-ratelimit-reset": "1e9", "x-ratelimit-limit": "5", "x-other": "?"}
    assert ("x-ratelimit-remaining", "x-ratelimit-reset") == unread(headers, DATE)


def test_a_name_that_cannot_be_shown_is_left_out() -> None:
    (limit,) = limits({"x-ratelimit-remaining": "1", "x-ratelimit-resource": "\x1b[31mred"}, None, DATE)
    assert ("X-RateLimit", "") == (limit.name, limit.scope)


# --- the client obeys ---


def test_a_limit_that_calls_itself_good_is_waited_for() -> None:
    slack = response(b'{"ok": false, "error": "ratelimited"}', "200 OK", "Retry-After: 30")
    cost = b'{"requestedQueryCost": 752, "throttleStatus": {"currentlyAvailable": 2, "restoreRate": 50}}'
    shopify = response(
        b'{"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}], "extensions": {"cost": %s}}'
        % cost
    )
    for answer, least in ((slack, 30.0), (shopify, 15.0)):
        with scripted(answer, GOOD) as server:
            asker = Asker(server.url)
            assert [{"id": 1}] == asker.fetch()[1]
        assert 2 == len(server.requests)
        assert pytest.approx(least, abs=1e-3) == asker.time.slept


@pytest.mark.parametrize("line", ["X-HubSpot-RateLimit-Daily-Remaining: 0", "Sforce-Limit-Info: api-usage=5000/5000"])
def test_a_spent_day_ends_the_run_before_the_next_request_instead_of_a_sleep(line: str) -> None:
    with scripted(response(b'{"items": [{"id": 1}]}', "200 OK", line)) as server:
        asker = Asker(server.url, patience=900.0)
        assert [{"id": 1}] == asker.fetch()[1]
        with pytest.raises(UnavailableError, match="patience"):
            asker.fetch()
    assert (1, 0.0) == (len(server.requests), asker.time.slept)


def test_a_secret_that_the_server_calls_a_bucket_by_is_not_shown() -> None:
    lines = (f"X-RateLimit-Resource: {CANARY}", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 42")
    with scripted(response(b'{"items": []}', "200 OK", *lines), GOOD) as server:
        asker = Asker(server.url, auth=Bearer("API_TOKEN"))
        asker.fetch()
        asker.fetch()
    assert pytest.approx(42.0) == asker.time.slept
    (waiting,) = asker.watcher.of(Waiting)
    assert "spent" in waiting.reason
    assert CANARY not in str(asker.watcher.events)
