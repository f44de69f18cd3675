"""How fast one may ask: the declared rate in every window of time, and the server's own word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer import DAY, HOUR, MINUTE, SECOND, Rate
from syncer.errors import ConfigError, StoppedError
from syncer.rate import exhausted, http_date, pause, retry_after
from tests.scripted import Time, Watcher

steady = settings(derandomize=True, deadline=None, database=None, max_examples=150)

DATE = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
EPOCH = int(DATE.timestamp())


# --- the declared rate ---


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/s", Rate(5)),
        ("100/min", Rate(100, per=MINUTE)),
        ("5000/h", Rate(5000, per=HOUR)),
        ("1/day", Rate(1, per=DAY)),
        ("3/10s", Rate(3, per=10 * SECOND)),
        ("3/0.5s", Rate(3, per=0.5)),
    ],
)
def test_a_rate_is_shown_as_people_write_it(text: str, rate: Rate) -> None:
    assert text == str(rate)


@pytest.mark.parametrize(("limit", "per"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_a_rate_that_allows_nothing_is_refused(limit: int, per: float) -> None:
    with pytest.raises(ConfigError):
        Rate(limit, per=per)


# --- waiting ---


def test_a_pause_ends_at_a_stop_too() -> None:
    time = Time()
    time.stop_after = 1.0
    with pytest.raises(StoppedError):
        pause(time.clock, Watcher(), 60.0, "retry")
    assert time.slept <= 1.1 + 1e-6


def test_a_pause_lasts_exactly_as_long_as_it_should() -> None:
    time = Time()
    pause(time.clock, Watcher(), 12.34, "retry")
    assert pytest.approx(12.34) == time.slept


# --- Retry-After ---


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("2.0", 2.0),
        ("3.5", 3.5),
        ("31536000", 31536000.0),
        ("999999999", 999999999.0),
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
    ],
    ids=lambda value: str(value)[:40],
)
def test_retry_after_is_read_in_both_forms_and_nothing_else_is_believed(value: str, seconds: float | None) -> None:
    assert seconds == retry_after({"retry-after": value}, DATE)


def test_without_the_header_there_is_no_wait() -> None:
    assert retry_after({}, DATE) is None


@steady
@given(
    st.text(max_size=30) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,12} [A-Z][a-z]{2} [0-9]{1,12} [0-9:]+ [-+A-Z0-9]+")
)
def test_whatever_a_server_sends_as_a_wait_is_seconds_or_nothing(value: str) -> None:
    quota = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": value}
    for found in (retry_after({"retry-after": value}, DATE), exhausted(quota, DATE)):
        assert found is None or 0.0 <= found < float("inf")


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


# --- spent quotas ---


@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [
        # seconds from now, seconds since 1970, milliseconds since 1970
        ("0", "30", 30.0),
        ("0", "0", 0.0),
        ("0", "2.5", 2.5),
        ("0", "999999999", 999999999.0),
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
def test_a_spent_quota_says_when_it_refills(prefix: str, remaining: str, reset: str, seconds: float | None) -> None:
    found = exhausted({f"{prefix}remaining": remaining, f"{prefix}reset": reset}, DATE)
    assert (pytest.approx(seconds) if seconds is not None else None) == found


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
    assert exhausted(headers, DATE) is None


def test_of_two_quotas_the_spent_one_counts() -> None:
    headers = {
        "x-ratelimit-remaining": "10",
        "x-ratelimit-reset": "5",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "30",
    }
    assert 30.0 == exhausted(headers, DATE)


def test_the_refill_is_measured_on_the_servers_clock() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{EPOCH + 60}"}
    waits = [exhausted(headers, DATE + timedelta(seconds=late)) for late in (0, 10, 59, 61)]
    assert [60.0, 50.0, 1.0, 0.0] == waits
