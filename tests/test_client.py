"""One page over the wire: which answers are taken, waited out, asked for again or refused. And no secret is told."""

from __future__ import annotations

import gzip
import random
import socket
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import BaseModel

from syncer import (
    ApiKey,
    Basic,
    Bearer,
    Header,
    LastRecord,
    LinkHeader,
    NextLink,
    NextToken,
    Offset,
    PageNumber,
    Rate,
    Stream,
)
from syncer.auth import Auth
from syncer.client import Client
from syncer.errors import (
    ConfigError,
    CredentialsError,
    FetchError,
    ProtocolError,
    StateError,
    StoppedError,
    SyncerError,
    UnavailableError,
)
from syncer.events import Requested, Retrying, Waiting
from syncer.fetch import pages
from syncer.pacer import Pacer
from syncer.page import JSON, Page, Request, Response
from syncer.pagination import Pagination
from syncer.wire import Limits
from tests.scripted import BEGINNING, Answer, Server, Talk, Time, Watcher, response, scripted

CANARY = "canary-7f3a9c41"
SECRET = {"API_TOKEN": CANARY}


class Item(BaseModel):
    id: int


STREAM = Stream(name="items", path="/items", model=Item, records="items")
LIST = Stream(name="items", path="/items", model=Item)
GOOD = response(b'{"items": [{"id": 1}]}')
BUSY = "429 Too Many Requests"


class Asker:
    """A client of a scripted server, with its own time and somebody who watches."""

    def __init__(
        self,
        base: str,
        *,
        auth: Auth | None = None,
        environment: Mapping[str, str] | None = None,
        rate: Rate | None = None,
        **options: Any,
    ) -> None:
        self.time, self.watcher = Time(), Watcher()
        self.base = base
        self.sent: list[float] = []
        headers = options.pop("headers", {})

        def observe(event: Any) -> None:
            self.watcher(event)
            if isinstance(event, Requested):
                self.sent.append(self.time.slept)

        pacer = Pacer(rate, self.time.clock, observe)
        limits = options.pop("limits", Limits(connect=2.0, read=2.0, whole=10.0))
        self.client = Client(
            base, auth, headers, environment or SECRET, pacer, self.time.clock, limits=limits, **options
        )

    def fetch(
        self, target: str | Request = "/items", stream: Stream = STREAM, *, resumed: bool = False
    ) -> tuple[Response, list[JSON]]:
        request = Request(self.base + target) if isinstance(target, str) else target
        return self.client.fetch(request, stream, resumed=resumed)


def refused(expected: type[SyncerError], *answers: Answer, then: Answer | None = None, **options: Any) -> SyncerError:
    """The error that these answers end in; it is of exactly the class, after exactly as many requests as answers."""
    target, stream = options.pop("target", "/items"), options.pop("stream", STREAM)
    resumed, count = options.pop("resumed", False), options.pop("count", len(answers))
    with scripted(*answers, then=then) as server:
        asker = Asker(server.url, **options)
        with pytest.raises(expected) as caught:
            asker.fetch(target, stream, resumed=resumed)
        asker.client.close()
    assert expected is type(caught.value)
    assert count == len(server.requests)
    assert 0 == server.surplus
    return caught.value


def headers_of(server: Server, number: int = 0) -> dict[str, str]:
    """The headers of a request that a server has seen, in lower case."""
    lines = server.requests[number].split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def status(line: str, *headers: str, body: bytes = b'{"message": "no"}') -> bytes:
    return response(body, line, *headers)


# --- a good answer ---


def test_a_good_answer_gives_its_records_and_all_that_paging_needs() -> None:
    body = b'{"items": [{"id": 1, "price": 1.50}, {"id": 18446744073709551617}], "next": "t2"}'
    with scripted(response(body, "200 OK", "X-Next: 7", "Date: Sat, 31 Jan 2026 10:00:00 GMT")) as server:
        found, records = Asker(server.url).fetch(Request(f"{server.url}/items", params={"page": 2}))
    assert ["1.50", str(2**64 + 1)] == [str(records[0]["price"]), str(records[1]["id"])]
    assert "t2" == found.at("next")
    assert "7" == found.at(Header("x-NEXT"))
    assert 200 == found.status
    assert Request(f"{server.url}/items", params={"page": 2}) == found.request
    assert f"{server.url}/items?page=2" == found.url
    assert BEGINNING - timedelta(hours=2, seconds=1) == found.date


def test_without_a_date_the_answers_moment_is_our_own_less_a_second() -> None:
    with scripted(GOOD) as server:
        found, _ = Asker(server.url).fetch()
    assert BEGINNING - timedelta(seconds=1) == found.date


def test_a_request_carries_what_is_declared_and_nothing_that_is_not() -> None:
    with scripted(GOOD, GOOD) as server:
        asker = Asker(server.url, auth=Bearer("API_TOKEN"), headers={"X-Version": "2", "X-Both": "connector"})
        asker.fetch(Request(f"{server.url}/items", headers={"X-Both": "stream"}))
        asker.fetch(Request(f"{server.url}/items", "POST", body={"n": 2**64, "d": "ä"}))
    expected = {
        "host": f"127.0.0.1:{server.port}",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "user-agent": "syncer",
        "authorization": f"Bearer {CANARY}",
        "x-version": "2",
        "x-both": "stream",
    }
    assert expected == headers_of(server)
    posted = '{"n":18446744073709551616,"d":"ä"}'.encode()
    assert posted == server.requests[1].partition(b"\r\n\r\n")[2]
    assert server.requests[1].startswith(b"POST /items HTTP/1.1\r\n")
    assert "application/json" == headers_of(server, 1)["content-type"]


@pytest.mark.parametrize(
    ("url", "params", "expected"),
    [
        ("http://h/x", {}, "http://h/x"),
        ("http://h/x", {"a": 1, "b": "two words"}, "http://h/x?a=1&b=two+words"),
        ("http://h/x?z=0", {"a": 1}, "http://h/x?z=0&a=1"),
        ("http://h/x", {"a": True, "b": False}, "http://h/x?a=true&b=false"),
        ("http://h/x", {"a": None, "b": ""}, "http://h/x?b="),
        ("http://h/x", {"a": [1, "2", True]}, "http://h/x?a=1&a=2&a=true"),
        ("http://h/x", {"a": (1, 2), "b": []}, "http://h/x?a=1&a=2"),
        ("http://h/x", {"a[b]": "é&=#?/+"}, "http://h/x?a%5Bb%5D=%C3%A9%26%3D%23%3F%2F%2B"),
        ("http://h/x", {"n": 2**70}, f"http://h/x?n={2**70}"),
    ],
)
def test_parameters_are_written_into_the_url(url: str, params: dict[str, Any], expected: str) -> None:
    assert expected == Request(url, params=params).whole


def test_a_url_is_shown_without_its_query() -> None:
    assert "http://h/x" == Request("http://h/x?key=secret", params={"a": 1}).shown


# --- attempts ---


@pytest.mark.parametrize("code", [408, 425, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529])
def test_a_server_in_trouble_is_asked_three_times_and_not_once_more(code: int) -> None:
    error = refused(UnavailableError, *[status(f"{code} Trouble")] * 3)
    assert str(code) in str(error)
    assert "3 attempts" in str(error)


def test_an_attempt_that_succeeds_ends_the_trouble() -> None:
    with scripted(status("500 Oops"), status("503 Oops"), GOOD) as server:
        asker = Asker(server.url)
        _, records = asker.fetch()
    assert [{"id": 1}] == records
    assert 3 == len(server.requests)
    assert [2, 3] == [event.attempt for event in asker.watcher.of(Retrying)]
    assert [500, 503, 200] == [event.status for event in asker.watcher.of(Requested)]


def test_every_page_has_attempts_of_its_own() -> None:
    bad = status("500 Oops")
    with scripted(bad, bad, GOOD, bad, bad, GOOD) as server:
        asker = Asker(server.url)
        assert [[{"id": 1}], [{"id": 1}]] == [asker.fetch()[1] for _ in range(2)]


def test_the_same_request_is_asked_again() -> None:
    with scripted(status("500 Oops"), GOOD) as server:
        Asker(server.url, auth=ApiKey("API_TOKEN", param="key")).fetch(
            Request(f"{server.url}/items", "POST", params={"a": 1}, body={"b": 2})
        )
    assert server.requests[0] == server.requests[1]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_number_of_attempts_can_be_chosen(attempts: int) -> None:
    refused(UnavailableError, *[status("500 Oops")] * attempts, attempts=attempts)


def test_the_wait_between_attempts_is_random_and_below_its_doubling_bound() -> None:
    random.seed(20260131)
    waits: list[list[float]] = [[] for _ in range(8)]
    for _ in range(12):
        with scripted(then=status("500 Oops")) as server:
            asker = Asker(server.url, attempts=9)
            with pytest.raises(UnavailableError):
                asker.fetch()
        for number, (before, after) in enumerate(zip(asker.sent, asker.sent[1:], strict=False)):
            waits[number].append(after - before)
    bounds = [0.5 * 2**number for number in range(8)]
    bounds = [min(60.0, bound) for bound in bounds]
    assert all(0.0 <= wait <= bound + 1e-6 for bound, found in zip(bounds, waits, strict=True) for wait in found)
    assert all(max(found) > bound / 2 for bound, found in zip(bounds, waits, strict=True))
    assert all(min(found) < bound / 2 for bound, found in zip(bounds, waits, strict=True))


def hang_up(talk: Talk) -> None:
    talk.hear()


def reset(talk: Talk) -> None:
    talk.hear()
    talk.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


BROKEN: list[tuple[str, Answer]] = [
    ("connection broke", hang_up),
    ("connection broke", reset),
    ("inside the answer's head", b"HTTP/1.1 200 OK\r\nContent-"),
    ("cut short", response(b'{"items": [', length=1000)),
    ("cut short", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n["),
    ("Content-Length", response(b"{}", "200 OK", "Content-Length: many")),
    ("compressed", response(gzip.compress(b"{}")[:-9], "200 OK", "Content-Encoding: gzip")),
    ("malformed", b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\n{}"),
    ("broke", b"SSH-2.0-OpenSSH_9.9\r\n"),
    ("", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n[]\r\n0\r\n\r\n"),
]


@pytest.mark.parametrize(("reason", "answer"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_answer_is_asked_for_again_and_then_named(reason: str, answer: Answer) -> None:
    with scripted(answer, GOOD) as server:
        assert [{"id": 1}] == Asker(server.url).fetch()[1]
    assert reason in str(refused(UnavailableError, answer, answer, answer))


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    asker = Asker(f"http://127.0.0.1:{port}")
    with pytest.raises(UnavailableError, match=r"refused.*3 attempts"):
        asker.fetch()
    assert 2 == len(asker.watcher.of(Retrying))


def test_a_host_without_an_address_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="cannot be resolved"):
        Asker("http://no-such-host.invalid").fetch()


def test_a_silent_server_is_unavailable() -> None:
    def silent(talk: Talk) -> None:
        talk.hear()
        talk.hear()

    error = refused(UnavailableError, silent, attempts=1, limits=Limits(read=0.3, whole=5.0))
    assert "in time" in str(error)


# --- limits ---


def test_the_servers_wait_in_seconds_is_a_floor() -> None:
    with scripted(status(BUSY, "Retry-After: 77"), GOOD) as server:
        asker = Asker(server.url)
        asker.fetch()
    assert pytest.approx(77.0) == asker.time.slept
    assert ["limit (429 Too Many Requests)"] == [event.reason for event in asker.watcher.of(Waiting)]


def test_the_servers_wait_until_a_moment_is_taken_on_the_servers_clock() -> None:
    theirs = BEGINNING - timedelta(days=4000)
    headers = [f"Date: {format_datetime(theirs, usegmt=True)}"]
    headers += [f"Retry-After: {format_datetime(theirs + timedelta(seconds=77), usegmt=True)}"]
    with scripted(status(BUSY, *headers), GOOD) as server:
        asker = Asker(server.url)
        asker.fetch()
    assert pytest.approx(77.0) == asker.time.slept


LIMITED = [
    (status(BUSY, "Retry-After: 30"), 30.0),
    (status("420 Enhance Your Calm", "Retry-After: 30"), 30.0),
    (status("503 Service Unavailable", "Retry-After: 30"), 30.0),
    (status("403 Forbidden", "Retry-After: 30"), 30.0),
    (status("403 Forbidden", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 30"), 30.0),
    (status(BUSY, "X-RateLimit-Remaining: 0", f"X-RateLimit-Reset: {int(BEGINNING.timestamp()) + 30}"), 30.0),
    (status(BUSY, "RateLimit-Remaining: 0", "RateLimit-Reset: 30", "Retry-After: 5"), 30.0),
    (status(BUSY, "RateLimit-Remaining: 0", "RateLimit-Reset: 5", "Retry-After: 30"), 30.0),
    (status("403 Forbidden", body=b'{"message": "You have exceeded a secondary Rate Limit"}'), 60.0),
    (status("403 Forbidden", body=b'{"errors": [{"reason": "rateLimitExceeded"}]}'), 1.0),
    (status("403 Forbidden", "Content-Encoding: gzip", body=gzip.compress(b"too many requests")), 1.0),
    (status(BUSY), 1.0),
    (status(BUSY, "Retry-After: 0"), 1.0),
    (status(BUSY, "Retry-After: soon"), 1.0),
]


@pytest.mark.parametrize(("answer", "least"), LIMITED, ids=range(len(LIMITED)))
def test_a_limit_is_waited_for_however_it_is_said(answer: bytes, least: float) -> None:
    random.seed(1)
    with scripted(answer, GOOD) as server:
        asker = Asker(server.url, auth=Bearer("API_TOKEN"))
        assert [{"id": 1}] == asker.fetch()[1]
    assert pytest.approx(least) == asker.time.slept


def test_limits_are_not_counted_as_failures() -> None:
    busy, bad = status(BUSY, "Retry-After: 2"), status("500 Oops")
    with scripted(busy, bad, busy, busy, bad, busy, GOOD) as server:
        assert [{"id": 1}] == Asker(server.url).fetch()[1]
    assert 7 == len(server.requests)


def test_a_wait_beyond_patience_is_not_begun_and_the_hint_says_when_to_come_back() -> None:
    with scripted(status(BUSY, "Retry-After: 7200")) as server:
        asker = Asker(server.url, patience=900.0)
        with pytest.raises(UnavailableError) as caught:
            asker.fetch()
    assert 0.0 == asker.time.slept
    assert 1 == len(server.requests)
    back = (BEGINNING + timedelta(seconds=7200)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert back in caught.value.hint
    assert "429" in str(caught.value)
    assert 4 == caught.value.exit_code


@pytest.mark.parametrize("line", ["500 Internal Server Error", "502 Bad Gateway", "504 Gateway Timeout"])
def test_a_server_in_trouble_that_asks_for_more_than_patience_says_when_to_come_back(line: str) -> None:
    error = refused(UnavailableError, status(line, "Retry-After: 7200"))
    back = (BEGINNING + timedelta(seconds=7200)).astimezone().strftime("%Y-%m-%d %H:%M")
    assert back in error.hint


def test_patience_counts_all_waits_for_one_page() -> None:
    busy = status(BUSY, "Retry-After: 400")
    with scripted(busy, busy, busy) as server:
        asker = Asker(server.url, patience=900.0)
        with pytest.raises(UnavailableError):
            asker.fetch()
    assert 3 == len(server.requests)
    assert pytest.approx(800.0) == asker.time.slept


def test_patience_begins_anew_with_every_page() -> None:
    busy = status(BUSY, "Retry-After: 600")
    with scripted(busy, GOOD, busy, GOOD) as server:
        asker = Asker(server.url, patience=900.0)
        asker.fetch()
        asker.fetch()
    assert pytest.approx(1200.0) == asker.time.slept


@pytest.mark.parametrize("header", ["X-A: b", "Retry-After: 0"])
def test_a_limit_without_end_and_without_a_time_is_asked_ever_more_rarely(header: str) -> None:
    random.seed(2)
    with scripted(then=status(BUSY, header)) as server:
        asker = Asker(server.url, patience=900.0)
        with pytest.raises(UnavailableError, match="patience"):
            asker.fetch()
    assert len(server.requests) < 30
    assert 600.0 < asker.time.slept <= 900.0
    gaps = [after - before for before, after in zip(asker.sent, asker.sent[1:], strict=False)]
    assert all(gap >= min(60.0, 2.0**number) - 1e-6 for number, gap in enumerate(gaps))


@pytest.mark.timeout(60)
def test_endless_patience_with_an_endless_limit_ends_in_an_error_of_ours() -> None:
    def busy(talk: Talk) -> None:
        while talk.hear():
            talk.say(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")

    with scripted(then=busy) as server:
        asker = Asker(server.url, patience=1100 * 60.0)
        with pytest.raises(UnavailableError):
            asker.fetch()
    assert len(server.requests) > 1030


FAR = [
    ("X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 999999999"),
    ("Date: Thu, 01 Jan 1970 00:00:00 GMT", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"),
    ("Date: Fri, 31 Dec 9999 23:59:59 -0100", "Retry-After: 99999"),
    ("Retry-After: Sat, 31 Jan 99999999999 12:00:00 GMT", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 99999"),
]


@pytest.mark.parametrize("headers", FAR, ids=str)
def test_a_moment_beyond_all_calendars_is_only_a_long_wait(headers: tuple[str, ...]) -> None:
    error = refused(UnavailableError, status(BUSY, *headers))
    assert "patience" in str(error)


def test_a_quota_spent_with_a_good_answer_holds_back_the_next_request() -> None:
    spent = response(b'{"items": []}', "200 OK", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 42")
    with scripted(spent, GOOD) as server:
        asker = Asker(server.url)
        asker.fetch()
        assert 0.0 == asker.time.slept
        asker.fetch()
    assert pytest.approx(42.0) == asker.time.slept


def test_a_quota_spent_for_longer_than_patience_ends_before_the_next_request() -> None:
    spent = response(b'{"items": []}', "200 OK", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 4200")
    with scripted(spent) as server:
        asker = Asker(server.url, patience=900.0)
        asker.fetch()
        with pytest.raises(UnavailableError, match="patience"):
            asker.fetch()
    assert 1 == len(server.requests)
    assert 0.0 == asker.time.slept


def test_the_declared_rate_holds_over_pages_attempts_and_redirects() -> None:
    moved = status("302 Found", "Location: /items?moved")
    with scripted(moved, GOOD, status("500 Oops"), GOOD, GOOD) as server:
        asker = Asker(server.url, rate=Rate(1, per=10.0))
        for _ in range(3):
            asker.fetch()
    assert 5 == len(asker.sent)
    gaps = [after - before for before, after in zip(asker.sent, asker.sent[1:], strict=False)]
    assert all(gap >= 10.0 - 1e-6 for gap in gaps)


def test_a_stop_during_a_wait_ends_it_without_another_request() -> None:
    with scripted(status(BUSY, "Retry-After: 600")) as server:
        asker = Asker(server.url)
        asker.time.stop_after = 5.0
        with pytest.raises(StoppedError):
            asker.fetch()
    assert 1 == len(server.requests)
    assert asker.time.slept < 5.2


# --- refusals ---


@pytest.mark.parametrize("line", ["401 Unauthorized", "403 Forbidden", "407 Proxy Authentication Required"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_refused_secret_is_yours_to_mend_and_names_its_variable(line: str, resumed: bool) -> None:
    error = refused(CredentialsError, status(line), auth=Bearer("API_TOKEN"), resumed=resumed)
    assert "API_TOKEN" in error.hint
    assert 5 == error.exit_code


def test_a_refusal_without_a_secret_says_that_there_was_none() -> None:
    assert "credentials" in refused(CredentialsError, status("401 Unauthorized")).hint
    optional = Bearer("API_TOKEN", optional=True)
    error = refused(CredentialsError, status("401 Unauthorized"), auth=optional, environment={"X": "y"})
    assert "without credentials" in str(error)
    assert "API_TOKEN" in error.hint


def test_a_403_with_quota_left_is_a_refusal() -> None:
    left = status("403 Forbidden", "X-RateLimit-Remaining: 4000", "X-RateLimit-Reset: 30")
    refused(CredentialsError, left, auth=Bearer("API_TOKEN"))


def test_a_missing_secret_sends_nothing() -> None:
    refused(CredentialsError, auth=Bearer("API_TOKEN"), environment={"OTHER": "x"})


@pytest.mark.parametrize("line", ["400 Bad Request", "404 Not Found", "410 Gone", "422 Unprocessable Entity"])
def test_the_same_refusal_means_settings_at_the_beginning_and_state_later(line: str) -> None:
    assert "/items" in str(refused(ConfigError, status(line)))
    error = refused(StateError, status(line), resumed=True)
    assert "--restart" in error.hint
    assert (2, 8) == (ConfigError.exit_code, error.exit_code)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("405 Method Not Allowed", ConfigError),
        ("414 URI Too Long", ConfigError),
        ("418 I'm a teapot", FetchError),
        ("451 Unavailable For Legal Reasons", FetchError),
        ("501 Not Implemented", FetchError),
        ("304 Not Modified", FetchError),
        ("201 Created", ProtocolError),
        ("202 Accepted", ProtocolError),
        ("204 No Content", ProtocolError),
        ("206 Partial Content", ProtocolError),
    ],
)
def test_any_other_status_is_no_page_and_is_not_asked_for_again(line: str, expected: type[SyncerError]) -> None:
    assert line[:3] in str(refused(expected, status(line, body=b"")))


# --- what is no page of records ---


def test_json_that_stays_cut_is_asked_for_three_times_and_kept_as_evidence() -> None:
    body = b'{"items": [{"id": 1}, {"id":'
    error = refused(ProtocolError, *[response(body)] * 3)
    assert "not JSON" in str(error)
    assert body == error.evidence
    assert 9 == error.exit_code


def test_json_that_was_cut_once_does_no_harm() -> None:
    with scripted(response(b'{"items": [{"id": 1}, {"id":'), GOOD) as server:
        assert [{"id": 1}] == Asker(server.url).fetch()[1]


@pytest.mark.parametrize("headers", [(), ("Content-Type: application/problem+json; charset=utf-8",)], ids=str)
def test_an_empty_answer_is_no_page(headers: tuple[str, ...]) -> None:
    error = refused(ProtocolError, *[response(b"", "200 OK", *headers)] * 3)
    assert "not JSON" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        response(b"<html><body>Sign in</body></html>", "200 OK", "Content-Type: text/html; charset=utf-8"),
        response(b"Sign in", "200 OK", "Content-Type: text/plain"),
        response(b"id,name\n1,a\n", "200 OK", "Content-Type: text/csv"),
    ],
    ids=["html", "text", "csv"],
)
def test_a_page_for_people_is_no_page_of_records(answer: bytes) -> None:
    error = refused(ProtocolError, answer)
    assert answer.partition(b"\r\n\r\n")[2] == error.evidence
    assert "text/" in str(error)


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"items": null}', b'{"items": {}}', b'{"items": "none"}', b'{"error": "no"}', b"[]", b"null", b"7"],
    ids=repr,
)
def test_an_answer_without_a_list_is_no_empty_page(body: bytes) -> None:
    error = refused(ProtocolError, response(body))
    assert "items" in str(error)
    assert body == error.evidence


@pytest.mark.parametrize("body", [b"{}", b"null", b'"[]"', b'{"items": []}'], ids=repr)
def test_an_answer_that_should_be_the_list_itself_is_no_empty_page(body: bytes) -> None:
    refused(ProtocolError, response(body), stream=LIST)


def test_an_empty_list_is_an_empty_page() -> None:
    with scripted(response(b'{"items": []}'), response(b"[]")) as server:
        asker = Asker(server.url)
        assert [] == asker.fetch()[1]
        assert [] == asker.fetch(stream=LIST)[1]


def test_json_under_another_name_is_json() -> None:
    with scripted(response(b'{"items": [{"id": 1}]}', "200 OK", "Content-Type: text/plain")) as server:
        assert [{"id": 1}] == Asker(server.url).fetch()[1]


@pytest.mark.parametrize("line", ["200 OK", "404 Not Found"])
def test_a_secret_on_the_edge_of_the_evidence_is_not_cut_in_half(line: str) -> None:
    body = b'"' + b"x" * (65536 - 7) + CANARY.encode() + b"y" * 100 + b'"'
    expected = ProtocolError if line.startswith("200") else ConfigError
    error = refused(expected, response(body, line), auth=Bearer("API_TOKEN"))
    assert b'"' + b"x" * (65536 - 7) + b"***yyy" == error.evidence


def test_evidence_is_only_the_beginning() -> None:
    body = b'{"items": {"x": "' + b"y" * 200_000 + b'"}}'
    assert body[:65536] == refused(ProtocolError, response(body)).evidence


def test_an_answer_that_is_too_large_is_not_asked_for_again() -> None:
    refused(ProtocolError, response(b"x" * 2000), limits=Limits(wire=1000))
    packed = response(gzip.compress(b"x" * 2000), "200 OK", "Content-Encoding: gzip")
    refused(ProtocolError, packed, limits=Limits(plain=1000))


@pytest.mark.parametrize("headers", [("Content-Encoding: br",), ()], ids=["named", "unnamed"])
def test_a_coding_that_was_not_asked_for_is_asked_about_again_and_then_the_servers_fault(
    headers: tuple[str, ...],
) -> None:
    coded = response(gzip.compress(b'{"items": []}'), "200 OK", *headers)
    refused(ProtocolError, coded, coded, coded)
    with scripted(coded, GOOD) as server:
        assert [{"id": 1}] == Asker(server.url).fetch()[1]


# --- redirects ---


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/v2/items?page=2", "{base}/v2/items?page=2", "//{host}/v2/items?page=2"])
def test_a_redirect_within_the_api_is_followed_with_the_secret(code: int, location: str) -> None:
    def moved(talk: Talk) -> None:
        talk.hear()
        here = f"127.0.0.1:{talk.connection.getsockname()[1]}"
        talk.say(status(f"{code} Moved", "Location: " + location.format(base=f"http://{here}", host=here)))
        talk.end()

    with scripted(moved, GOOD) as server:
        found, records = Asker(server.url, auth=Bearer("API_TOKEN")).fetch()
    assert [{"id": 1}] == records
    assert ["/items", "/v2/items?page=2"] == server.targets
    assert f"Bearer {CANARY}" == headers_of(server, 1)["authorization"]
    assert f"{server.url}/v2/items?page=2" == found.url


@pytest.mark.parametrize("code", [301, 302, 307, 308])
@pytest.mark.parametrize("place", ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "//127.0.0.1:{port}/x"])
@pytest.mark.parametrize(
    "auth", [Bearer("API_TOKEN"), ApiKey("API_TOKEN", header="X-Key"), ApiKey("API_TOKEN", param="key")]
)
def test_a_redirect_to_another_server_is_refused_and_the_other_never_hears_of_it(
    code: int, place: str, auth: Auth
) -> None:
    with scripted(then=GOOD) as other:
        moved = status(f"{code} Moved", f"Location: {place.format(port=other.port)}")
        error = refused(ProtocolError, moved, auth=auth)
        assert 0 == other.connections
    assert "another server" in str(error)


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "http://user:password@127.0.0.1/",
        "http://[::1",
        "http://[bad/",
        "http://*.example.org/",
        "http://a b/",
        "http://127.0.0.1:port/",
        "http://" + "a" * 300 + ".example.org/",
        "/caf\xe9",
        "",
    ],
)
def test_a_redirect_to_nowhere_is_the_servers_fault(location: str) -> None:
    with scripted(status("302 Found", f"Location: {location}"), then=GOOD) as server:
        asker = Asker(server.url)
        if location.startswith("/"):  # the byte as it stands, or refused: but not a fault of ours
            try:
                asker.fetch()
            except ProtocolError:
                return
            assert ["/items", "/caf%E9"] == server.targets or ["/items", "/caf%C3%A9"] == server.targets
        else:
            with pytest.raises(ProtocolError):
                asker.fetch()
            assert ["/items"] == server.targets


def test_a_redirect_without_a_place_is_refused() -> None:
    refused(ProtocolError, status("302 Found"))


def test_five_redirects_are_followed_and_a_sixth_is_not() -> None:
    hops = [status("302 Found", f"Location: /hop/{number}") for number in range(6)]
    with scripted(*hops[:5], GOOD) as server:
        assert [{"id": 1}] == Asker(server.url).fetch()[1]
    assert "redirects" in str(refused(ProtocolError, *hops))


@pytest.mark.parametrize("code", [301, 302, 303])
def test_a_post_is_not_turned_into_a_get(code: int) -> None:
    with scripted(status(f"{code} Moved", "Location: /other")) as server:
        with pytest.raises(ProtocolError, match="POST"):
            Asker(server.url).fetch(Request(f"{server.url}/items", "POST", body={}))
        assert 1 == len(server.requests)


@pytest.mark.parametrize("code", [307, 308])
def test_a_post_that_moves_as_a_post_moves_with_its_body(code: int) -> None:
    with scripted(status(f"{code} Moved", "Location: /other"), GOOD) as server:
        Asker(server.url).fetch(Request(f"{server.url}/items", "POST", body={"a": 1}))
    assert b"POST /other HTTP/1.1" == server.requests[1].split(b"\r\n")[0]
    assert b'{"a":1}' == server.requests[1].partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "headers", [b"", b"Content-Length: 99999999\r\n", b"Content-Encoding: gzip\r\n"], ids=["open", "length", "bomb"]
)
def test_the_body_of_a_redirect_is_not_read(headers: bytes) -> None:
    said: list[int] = []

    def moved(talk: Talk) -> None:
        talk.hear()
        talk.say(b"HTTP/1.1 302 Found\r\nLocation: /other\r\n" + headers + b"\r\n")
        filling = gzip.compress(bytes(2**24), 1)[:65_536] if b"gzip" in headers else bytes(65_536)
        try:
            for _ in range(500):
                talk.say(filling)
        finally:
            said.append(talk.sent)

    with scripted(moved, GOOD) as server:
        assert [{"id": 1}] == Asker(server.url).fetch()[1]
    assert said[0] < 20_000_000


MOVING: list[tuple[Pagination, str, int, str]] = [
    (PageNumber(), "page=3", 3, "page=4"),
    (PageNumber(size="size", short=True), "size=1&page=3", 3, "page=4"),
    (Offset(), "offset=20", 20, "offset=21"),
    (NextToken("next", param="after"), "after=old", 0, "after=new"),
    (LastRecord(param="after"), "after=old", 0, "after=1"),
]


@pytest.mark.parametrize(("style", "query", "value", "expected"), MOVING, ids=lambda value: str(value)[:24])
def test_a_page_that_has_moved_in_the_middle_of_a_run_goes_on_from_there(
    style: Pagination, query: str, value: int, expected: str
) -> None:
    params: dict[str, JSON] = dict(pair.split("=") for pair in query.split("&"))
    last = list(params)[-1]
    params[last] = value or params[last]
    good = response(b'{"items": [{"id": 1}], "next": "new"}')
    with scripted(status("301 Moved", f"Location: /v2/items?{query}"), good, good) as server:
        asker = Asker(server.url)
        found, records = asker.fetch(Request(f"{server.url}/items", params=params))
        following = style.after(found, records)
        assert following is not None
        asker.fetch(following)
    assert [f"/items?{query}", f"/v2/items?{query}"] == server.targets[:2]
    assert expected in server.targets[2]
    assert 1 == server.targets[2].count(f"{last}=")


# --- credentials stay with their API ---


@pytest.mark.parametrize("auth", [Bearer("API_TOKEN"), ApiKey("API_TOKEN", param="key")], ids=["header", "parameter"])
@pytest.mark.parametrize("place", ["http://127.0.0.1:{port}/items", "http://localhost:{port}/items"])
def test_a_request_to_another_server_is_refused_before_it_is_sent(auth: Auth, place: str) -> None:
    with scripted(then=GOOD) as other, scripted() as server:
        asker = Asker(server.url, auth=auth)
        target = Request(place.format(port=other.port))
        assert not asker.client.same_origin(target)
        with pytest.raises(ProtocolError, match="another server"):
            asker.fetch(target)
        assert 0 == other.connections
        assert 0 == server.connections


@pytest.mark.parametrize("style", [NextLink("next"), LinkHeader()], ids=["body", "header"])
def test_a_next_page_on_another_server_ends_the_run_before_the_other_hears_of_it(style: Pagination) -> None:
    with scripted(then=GOOD) as other:
        link = f"{other.url}/items?page=2"
        body = b'{"items": [{"id": 1}], "next": "%s"}' % link.encode()
        with scripted(response(body, "200 OK", f'Link: <{link}>; rel="next"')) as server:
            asker = Asker(server.url, auth=Bearer("API_TOKEN"))
            stream = Stream(name="items", path="/items", model=Item, records="items", pagination=style)
            with pytest.raises(ProtocolError, match="another server"):
                list(pages(stream, asker.client, Request(f"{server.url}/items")))
        assert 0 == other.connections


ELSEWHERE = [
    "http://evil.example/items",
    "https://api.example.org/items",
    "http://api.example.org:8080/items",
    "http://api.example.org.evil.example/items",
    "http://api.example.org@evil.example/items",
    "http://evil.example\\@api.example.org/items",
    "http://evil.example#@api.example.org/items",
    "http://evil.example?@api.example.org/items",
    "http:\\\\evil.example/items",
    "http://user:password@api.example.org/items",
    "ftp://api.example.org/items",
    "file:///etc/passwd",
    "mailto:somebody@api.example.org",
    "javascript:alert(1)",
    "http://",
    "http:///items",
    "http://[::1",
    "http://[bad]/",
    "http://a b/",
    "http://*.api.example.org/",
    "http://.example.org/",
    "http://api.example.org:port/",
    "http://" + "a" * 300 + ".example.org/",
    "http://\ud800.example/",
    "http://ex\u2100mple.org/",
]


@pytest.mark.parametrize("url", ELSEWHERE, ids=ascii)
def test_a_url_that_does_not_lead_to_the_api_is_elsewhere_whatever_tricks_it_plays(url: str) -> None:
    asker = Asker("http://api.example.org")
    with suppress(ProtocolError):  # what cannot even be read leads nowhere, and may say so
        assert not asker.client.same_origin(Request(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.org/items",
        "HTTP://API.EXAMPLE.ORG/items",
        "http://api.example.org:80/items",
        "http://api.example.org./items",
        "http://api.example.org\\@evil.example/items",
    ],
)
def test_the_same_place_spelled_otherwise_is_the_same_place(url: str) -> None:
    assert Asker("http://api.example.org").client.same_origin(Request(url))


def test_neither_netrc_nor_proxy_nor_cookies_reach_a_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login eve password mallory\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    first = response(b'{"items": []}', "200 OK", "Set-Cookie: a=b; Path=/")
    moved = status("302 Found", "Location: /items", "Set-Cookie: c=d; Path=/")
    with scripted(GOOD) as proxy, scripted(first, moved, GOOD, GOOD) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("all_proxy", proxy.url)
        asker = Asker(server.url, auth=Bearer("API_TOKEN"))
        asker.fetch()
        asker.fetch()
        Asker(server.url).fetch()
        assert 0 == proxy.connections
    assert [None] * 4 == [headers_of(server, number).get("cookie") for number in range(4)]
    expected = [f"Bearer {CANARY}"] * 3 + [None]
    assert expected == [headers_of(server, number).get("authorization") for number in range(4)]


# --- no secret is told ---

AUTHS: list[Auth] = [
    Bearer("API_TOKEN"),
    ApiKey("API_TOKEN", header="X-Api-Key"),
    ApiKey("API_TOKEN", param="api_key"),
    Basic("API_TOKEN"),
    Basic("API_USER", "API_TOKEN"),
]

ECHO = CANARY.encode()
FAILURES: list[Answer] = [
    hang_up,
    reset,
    b"HTTP/1.1 200 OK\r\nX-Echo: " + ECHO,
    b"HTTP/1.1 200 OK\r\n" + ECHO + b"\r\n\r\n{}",
    ECHO + b"\r\n\r\n",
    response(b"{}", "200 OK", f"Content-Length: {CANARY}"),
    response(b"{}", "200 OK", f"Content-Encoding: {CANARY}"),
    response(ECHO),
    response(b'{"' + ECHO + b'": 1}'),
    response(ECHO, f"200 {CANARY}", "Content-Type: text/html"),
    status(f"400 {CANARY}", body=ECHO),
    status(f"401 {CANARY}", body=ECHO),
    status(f"403 {CANARY}", body=ECHO),
    status(f"404 {CANARY}", body=ECHO),
    status(f"418 {CANARY}", body=ECHO),
    status(f"429 {CANARY}", "Retry-After: 7200"),
    status(f"500 {CANARY}", body=ECHO),
    status("302 Found", f"Location: http://elsewhere.example/?api_key={CANARY}"),
    status("302 Found", f"Location: http://{CANARY}/"),
    status("302 Found", f"Location: http://a:{CANARY}@127.0.0.1/"),
    status("302 Found", f"Location: /other?api_key={CANARY}&x={CANARY}"),
]


@pytest.mark.parametrize("auth", AUTHS, ids=["bearer", "header", "parameter", "name", "password"])
@pytest.mark.parametrize("answer", FAILURES, ids=range(len(FAILURES)))
def test_no_error_and_no_event_tells_the_secret_even_if_the_server_does(auth: Auth, answer: Answer) -> None:
    with scripted(then=answer) as server:
        asker = Asker(server.url, auth=auth, environment={**SECRET, "API_USER": "somebody"})
        with pytest.raises(SyncerError) as caught:
            asker.fetch(Request(f"{server.url}/items", params={"page": 1}))
        asker.client.close()
    assert any(CANARY.encode() in request for request in server.requests) or isinstance(auth, Basic)
    error = caught.value
    told = [str(error), repr(error), error.message, error.hint, error.where, *map(repr, asker.watcher.events)]
    told += traceback.format_exception(error)
    assert [] == [text for text in told if CANARY in text]


def test_an_unsendable_secret_is_named_by_its_variable_only() -> None:
    for value in ("canary\nX-Evil: 1", "canary\x00", "cänary"):
        error = refused(CredentialsError, auth=Bearer("API_TOKEN"), environment={"API_TOKEN": value})
        assert "API_TOKEN" in str(error)
        assert "nary" not in str(error) + error.hint


ECHOES = [
    "/items?page=2&api_key={canary}",
    "/items?api_key={canary}&page=2",
    "/items?page=2&api%5Fkey={canary}",
    "/items?page=2&api_key=old-{canary}",
    "/items?page=2&api_key=another",
    "/items?api%5Fkey=another&page=2",
    "/items?page=2&API_KEY={canary}",
    "/items?page=2&token={canary}",
    "/items?page=2&token=%63anary-7f3a9c41",
    "/items?page=2&api_key={canary}&api_key={canary}",
    "/items?page=2#api_key={canary}",
]


@pytest.mark.parametrize("link", ECHOES)
def test_a_link_that_repeats_the_key_is_kept_without_it_and_asked_with_it_once(link: str) -> None:
    body = b'{"items": [{"id": 1}], "next": "%s"}' % link.format(canary=CANARY).encode()
    with scripted(response(body), response(b'{"items": [{"id": 2}], "next": null}')) as server:
        asker = Asker(server.url, auth=ApiKey("API_TOKEN", param="api_key"))
        stream = Stream(name="items", path="/items", model=Item, records="items", pagination=NextLink("next"))
        first, second = pages(stream, asker.client, Request(f"{server.url}/items"))
    assert Request("/items?page=2") == first.next
    assert CANARY not in repr((first, second))
    assert [f"/items?api_key={CANARY}", f"/items?page=2&api_key={CANARY}"] == server.targets


def told(coming: Iterable[Page]) -> str:
    """All that a run would save or say: its pages, or the error it ends in."""
    try:
        return repr(list(coming))
    except SyncerError as error:
        return f"{error} {error.hint}"


HIDDEN = [
    "/items?page=2&return=%2Fitems%3Fapi_key%3D{canary}",
    "/items?page=2&filter=key:{canary}",
    "/items/{canary}?page=2",
    "/items?page=2;api_key={canary}",
    "/items?{canary}",
]


@pytest.mark.parametrize("link", HIDDEN)
def test_a_link_that_hides_the_key_in_something_else_never_reaches_a_cursor(link: str) -> None:
    body = b'{"items": [{"id": 1}], "next": "%s"}' % link.format(canary=CANARY).encode()
    with scripted(response(body), then=response(b'{"items": []}')) as server:
        asker = Asker(server.url, auth=ApiKey("API_TOKEN", param="api_key"))
        stream = Stream(name="items", path="/items", model=Item, records="items", pagination=NextLink("next"))
        assert CANARY not in told(pages(stream, asker.client, Request(f"{server.url}/items")))


@pytest.mark.parametrize("style", [NextToken("next", param="after"), NextToken("next", header="X-After")], ids=str)
def test_a_token_that_is_the_key_never_reaches_a_cursor(style: Pagination) -> None:
    body = b'{"items": [{"id": 1}], "next": "%s"}' % CANARY.encode()
    with scripted(response(body), then=response(b'{"items": []}')) as server:
        asker = Asker(server.url, auth=ApiKey("API_TOKEN", param="api_key"))
        stream = Stream(name="items", path="/items", model=Item, records="items", pagination=style)
        assert CANARY not in told(pages(stream, asker.client, Request(f"{server.url}/items")))


def test_a_link_without_secrets_is_kept_to_the_letter() -> None:
    asker = Asker("http://api.example.org", auth=ApiKey("API_TOKEN", param="api_key"))
    for query in ("", "?page=2", "?b=%20+%2B&&a=&c", "?filter=a%3Db;c", "?%C3%A9=\u00e9", "?key=1&api_keys=2"):
        request = Request(f"http://api.example.org/items{query}")
        assert request == asker.client.clean(request)


def test_a_short_secret_is_recognised_where_it_stands_alone_and_not_inside_a_word() -> None:
    asker = Asker("http://api.example.org", auth=ApiKey("API_TOKEN", param="api_key"), environment={"API_TOKEN": "k3y"})
    came = Request("http://api.example.org/items?token=k3y&name=k3yboard&token=k%33y")
    assert Request("http://api.example.org/items?name=k3yboard") == asker.client.clean(came)


def test_a_filter_that_names_the_user_is_not_taken_for_a_secret() -> None:
    auth = Basic("API_USER", "API_TOKEN")
    asker = Asker("http://api.example.org", auth=auth, environment={**SECRET, "API_USER": "octocat"})
    request = Request("http://api.example.org/items?creator=octocat&page=2")
    assert request == asker.client.clean(request)


# --- cursors that cannot be sent ---


@pytest.mark.parametrize("token", [r"\ud800", r"a\ud800b", r"\u2603", r"a\r\nX-Evil: 1", r"\u0000"])
@pytest.mark.parametrize("where", ["param", "header", "body"])
def test_a_cursor_that_can_not_be_sent_is_the_servers_fault(token: str, where: str) -> None:
    style = NextToken("next", **{where: "X-After"})
    method = "POST" if where == "body" else "GET"
    stream = Stream(name="items", path="/items", model=Item, records="items", method=method, pagination=style)
    answer = b'{"items": [{"id": 1}], "next": "%s"}' % token.encode()
    with scripted(response(answer), then=response(b'{"items": []}')) as server:
        coming = pages(stream, Asker(server.url).client, Request(f"{server.url}/items", method, body=None))
        try:
            sent = len(list(coming)) == 2
        except ProtocolError:
            sent = False
        assert (2 if sent else 1) == len(server.requests)
    assert b"X-Evil: 1" not in b"".join(server.requests).split(b"\r\n")


# --- records nested at every depth ---


def test_a_record_of_any_depth_makes_a_page_and_no_fault() -> None:
    depths = [*range(190, 260), *range(960, 1010), 5000, 100_000]
    answers = [response(b'{"items": [{"id": 1, "x": %s%s}]}' % (b"[" * depth, b"]" * depth)) for depth in depths]
    with scripted(*answers) as server:
        asker = Asker(server.url)
        for depth in depths:
            (page,) = pages(STREAM, asker.client, Request(f"{server.url}/items", params={"depth": depth}))
            assert 1 == len(page.records)
