"""Over real sockets, with and without TLS: what is cut, contradicts itself or is not by the letter is never data."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncer import Bearer, Stream
from syncer.errors import FetchError, ProtocolError, SyncerError, UnavailableError
from syncer.events import Retrying
from syncer.page import Request
from syncer.wire import Limits
from tests.scripted import Answer, Talk, response, scripted
from tests.secure import HOST, STRANGER, bundle, over_tls, selfmade, server
from tests.test_client import Asker, Item, headers_of

ITEMS = Stream(name="items", path="/items", model=Item, records="items")
BODY = b'{"items": [{"id": 1, "name": "caf\xc3\xa9"}, {"id": 2}], "next": null}'
ODD = b'{"items": [{"id": 1, "price": NaN}, {"id": 2, "price": 1e999}, {"id": 3}], "more": {"of": [1]}}'
"""A page that can be read only record by record: whoever cuts it up must not take half of it for the whole."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: b\r\n"
SECURE = server()
MOMENT = datetime(2026, 1, 31, tzinfo=UTC)


def length(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:30], body[30:]))
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def until_the_end(body: bytes) -> bytes:
    return HEAD + b"\r\n" + body


def zipped(framing: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def frame(body: bytes) -> bytes:
        return framing(gzip.compress(body, mtime=0)).replace(b"X-A: b", b"Content-Encoding: gzip")

    return frame


FRAMINGS = {
    "length": length,
    "chunked": chunked,
    "gzip": zipped(length),
    "gzip chunked": zipped(chunked),
    "until the end": until_the_end,
    "gzip until the end": zipped(until_the_end),
}
TRANSPORTS: dict[str, Callable[[bytes], Answer]] = {
    "plain": lambda data: data,
    "TLS": lambda data: over_tls(SECURE, data, goodbye=False),
    "TLS with a goodbye": lambda data: over_tls(SECURE, data),
}


class Safe(Asker):
    """A client that trusts the authority of the tests."""

    def __init__(self, base: str, directory: Path, **options: Any) -> None:
        environment = {"API_TOKEN": "t0ken-of-the-tests", "SYNCER_CA_BUNDLE": bundle(directory)}
        super().__init__(base, **{"environment": environment, **options})


def address(port: int, transport: str) -> str:
    return f"{'http' if transport == 'plain' else 'https'}://{HOST}:{port}"


LONG = json.dumps(
    {"items": [{"id": number, "name": f"n° {number}" * 8} for number in range(30)], "next": None}
).encode()
CUTS = [(framing, transport, BODY) for framing in FRAMINGS for transport in TRANSPORTS]
CUTS += [(framing, transport, ODD) for framing in FRAMINGS if "end" in framing for transport in TRANSPORTS]
LONG_CUTS = [pytest.param(framing, transport, LONG, marks=pytest.mark.long) for framing, transport, _ in CUTS[:18]]


@pytest.mark.parametrize(("framing", "transport", "body"), [*CUTS, *LONG_CUTS], ids=lambda value: str(value)[:19])
def test_an_answer_that_is_cut_at_any_byte_is_no_page(
    tmp_path: Path, framing: str, transport: str, body: bytes
) -> None:
    """Every cut is refused, and the whole answer is taken; without a length, over TLS, only with a goodbye."""
    whole = FRAMINGS[framing](body)
    ends = framing.endswith("until the end") and transport == "TLS"
    cuts = [*range(len(whole) + ends)]
    taken = []
    with scripted(*(TRANSPORTS[transport](whole[:end]) for end in cuts), then=TRANSPORTS[transport](whole)) as api:
        asker = Safe(address(api.port, transport), tmp_path, attempts=1)
        for end in cuts:
            try:
                asker.fetch(stream=ITEMS)
                taken.append(end)
            except (UnavailableError, ProtocolError):
                pass
        assert len(cuts) == api.connections
        if not ends:
            assert len(json.loads(body.replace(b"NaN", b"0"))["items"]) == len(asker.fetch(stream=ITEMS)[1])
        asker.client.close()
    assert [] == taken


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_that_is_cut_is_asked_for_again(tmp_path: Path, framing: str, transport: str) -> None:
    whole = FRAMINGS[framing](BODY)
    head = whole.index(b"\r\n\r\n")
    serve = TRANSPORTS[transport]
    well = over_tls(SECURE, whole) if transport != "plain" else whole
    for end in (0, 12, head, head + 4, head + 30, len(whole) - 1):
        with scripted(serve(whole[:end]), well) as api:
            asker = Safe(address(api.port, transport), tmp_path)
            assert [1, 2] == [record["id"] for record in asker.fetch(stream=ITEMS)[1]]
            assert (2, 1) == (api.connections, len(asker.watcher.of(Retrying)))
            asker.client.close()


# --- the letter ---


@pytest.mark.parametrize(
    "line",
    [
        b"X-A: b\rLink: </2>; rel=next",
        b"X-A: b\rContent-Length: 2",
        b"X-A: b\0c",
        b"X-A\0: b",
        b"Content-Length: 2, 2",
        b"Content-Length: 2\r\n 0",
        b"Content-Encoding: gz\r\n ip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
        b"Transfer-Encoding: xchunked",
    ],
    ids=repr,
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(line: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + line + b"\r\n\r\n"
    with scripted(head + b'{"items": []}', response(BODY)) as api:
        asker = Asker(api.url)
        assert 2 == len(asker.fetch()[1])
        assert 1 == len(asker.watcher.of(Retrying))
        asker.client.close()


def test_a_body_in_chunks_that_also_has_a_length_is_refused_though_both_agree() -> None:
    coded = chunked(BODY)
    said = b"Content-Length: %d\r\nTransfer" % (len(coded) - coded.index(b"\r\n\r\n") - 4)
    with scripted(coded.replace(b"Transfer", said), response(BODY)) as api:
        asker = Asker(api.url)
        assert 2 == len(asker.fetch()[1])
        assert "in two ways" in asker.watcher.of(Retrying)[0].reason
        asker.client.close()


def test_trailers_are_passed_over_and_those_without_end_are_not_waited_for() -> None:
    start = chunked(BODY)[:-2]
    with scripted(start + b"X-Sum: 1\r\nX-More: 2\r\n\r\n") as api:
        assert 2 == len(Asker(api.url).fetch()[1])
    said: list[int] = []

    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(start)
        try:
            for _ in range(3000):
                talk.say(b"X-Filler: %s\r\n" % (b"x" * 50_000))
        finally:
            said.append(talk.sent)

    with scripted(answer) as api, pytest.raises(ProtocolError, match="larger than"):
        Asker(api.url, limits=Limits(wire=100_000)).fetch()
    assert said[0] < 20_000_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_has_none_whatever_it_says_of_its_coding(line: str) -> None:
    """The connection stays open: whoever waited for chunks would wait for as long as a read may take."""

    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(f"HTTP/1.1 {line}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        talk.hear()

    with scripted(answer) as api, pytest.raises(FetchError, match=line[:3]):
        Asker(api.url, limits=Limits(read=600.0, whole=600.0)).fetch()


def keeping(*bodies: bytes) -> Callable[[Talk], None]:
    """Answers one request after another on one connection, then gives it up without a word."""

    def answer(talk: Talk) -> None:
        for one in bodies:
            talk.hear()
            talk.say(length(one))

    return answer


def test_a_connection_that_the_server_gave_up_costs_no_attempt_and_no_wait() -> None:
    given_up = threading.Event()

    def answer(talk: Talk) -> None:
        keeping(BODY)(talk)
        talk.connection.shutdown(socket.SHUT_RDWR)
        given_up.set()

    late = threading.Event()

    def slow(talk: Talk) -> None:
        talk.hear()
        talk.say(length(BODY))
        late.wait(10)  # until the second request was sent on this connection
        talk.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    for first in (answer, slow):
        with scripted(first, length(BODY)) as api:
            asker = Asker(api.url, attempts=1)
            asker.fetch()
            if first is answer:
                assert given_up.wait(10)
            else:
                threading.Timer(0.2, late.set).start()
            assert 2 == len(asker.fetch()[1])
            assert ([], 0.0) == (asker.watcher.of(Retrying), asker.time.slept)
            asker.client.close()


def test_a_connection_of_its_own_that_ends_without_an_answer_is_a_failure() -> None:
    with scripted(keeping(BODY), keeping(), keeping()) as api:
        asker = Asker(api.url, attempts=1)
        asker.fetch()
        with pytest.raises(UnavailableError):
            asker.fetch()
        asker.client.close()


def test_closing_a_client_closes_its_connections_at_once() -> None:
    """Also where an error, which the garbage collector has not come to yet, still holds them."""
    gone = threading.Event()

    def stays(talk: Talk) -> None:
        keeping(BODY)(talk)
        assert b"" == talk.hear()
        gone.set()

    with scripted(b"", stays) as api:
        asker = Asker(api.url)
        gc.disable()
        try:
            asker.fetch()
            asker.client.close()
            assert gone.wait(10)
        finally:
            gc.enable()


# --- the deadline, where bytes are sent ---


@pytest.mark.timeout(60)
@pytest.mark.parametrize("transport", ["plain", "TLS"])
def test_a_server_that_does_not_read_what_it_is_sent_is_beaten_by_the_deadline(tmp_path: Path, transport: str) -> None:
    over = threading.Event()

    def deaf(talk: Talk) -> None:
        over.wait(50)

    answer = over_tls(SECURE, deaf) if transport == "TLS" else deaf
    with scripted(answer) as api:
        base = address(api.port, transport)
        asker = Safe(base, tmp_path, attempts=1, limits=Limits(connect=600.0, read=0.5, whole=600.0))
        big = Request(f"{base}/items", "POST", body={"of": "x" * 30_000_000})
        with pytest.raises(UnavailableError, match="in time"):
            asker.fetch(big)
        over.set()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("opening", [b"HTTP/1.1 200 OK\r\nX: ", HEAD + b"\r\n[", HEAD + b"Content-Length: 99\r\n\r\n["])
def test_a_drip_over_tls_is_beaten_by_the_deadline_too(tmp_path: Path, opening: bytes) -> None:
    over = threading.Event()

    def drip(talk: Talk) -> None:
        talk.hear()
        talk.say(opening)
        while not over.wait(0.05):
            talk.say(b"1")

    with scripted(over_tls(SECURE, drip)) as api:
        asker = Safe(address(api.port, "TLS"), tmp_path, attempts=1, limits=Limits(read=5.0, whole=0.7))
        with pytest.raises(UnavailableError, match="in time"):
            asker.fetch()
        over.set()


@pytest.mark.timeout(30)
def test_a_handshake_without_end_is_beaten_by_the_time_for_connecting(tmp_path: Path) -> None:
    over = threading.Event()
    with scripted(lambda talk: bool(over.wait(25)) and None) as api:
        asker = Safe(address(api.port, "TLS"), tmp_path, attempts=1, limits=Limits(connect=0.5))
        with pytest.raises(UnavailableError, match="in time"):
            asker.fetch()
        over.set()


# --- whose certificate ---


def refusal(directory: Path, context: ssl.SSLContext, host: str = HOST, **environment: str) -> SyncerError:
    """The error for a server with this certificate, which hears not a word and is not asked twice."""
    with scripted(then=over_tls(context, response(BODY))) as api:
        asker = Safe(
            f"https://{host}:{api.port}",
            directory,
            auth=Bearer("API_TOKEN"),
            environment={"API_TOKEN": "t0ken-of-the-tests", "SYNCER_CA_BUNDLE": bundle(directory), **environment},
        )
        with pytest.raises(SyncerError) as caught:
            asker.fetch()
        asker.client.close()
        assert (1, []) == (api.connections, api.requests)
    return caught.value


def test_a_server_with_a_certificate_of_the_users_authority_is_heard(tmp_path: Path) -> None:
    for host in (HOST, "localhost"):
        with scripted(over_tls(server(host), response(BODY))) as api:
            asker = Safe(f"https://{host}:{api.port}", tmp_path, auth=Bearer("API_TOKEN"))
            assert 2 == len(asker.fetch()[1])
            assert "Bearer t0ken-of-the-tests" == headers_of(api)["authorization"]
            asker.client.close()


@pytest.mark.parametrize(
    ("words", "context", "host"),
    [
        ("has expired", lambda: server(until=MOMENT - timedelta(days=1), since=MOMENT - timedelta(days=9)), HOST),
        ("is not valid yet", lambda: server(since=MOMENT + timedelta(days=9999)), HOST),
        ("is for another host", lambda: server("api.shop.example"), HOST),
        ("is for another host", lambda: server("api.shop.example", HOST), "localhost"),
        ("is signed by itself", selfmade, HOST),
        ("is signed by nobody that is trusted here", lambda: server(by=STRANGER), HOST),
    ],
    ids=["expired", "not yet valid", "another address", "another name", "self-signed", "a strange authority"],
)
def test_a_certificate_that_proves_nothing_ends_the_pull_with_the_reason(
    tmp_path: Path, words: str, context: Callable[[], ssl.SSLContext], host: str
) -> None:
    error = refusal(tmp_path, context(), host)
    assert FetchError is type(error)
    assert f"the certificate of {host}:" in str(error)
    assert str(error).endswith(words)
    assert "clock" in error.hint


def test_an_authority_of_the_user_counts_instead_of_those_that_everybody_trusts(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert "nobody" in str(refusal(tmp_path, SECURE, SYNCER_CA_BUNDLE=bundle(other, STRANGER)))


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_no_other_variable_adds_an_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv(name, bundle(tmp_path))
    assert "nobody" in str(refusal(tmp_path, SECURE, SYNCER_CA_BUNDLE="", **{name: bundle(tmp_path)}))


def test_a_server_without_tls_is_said_to_have_none(tmp_path: Path) -> None:
    def plain(talk: Talk) -> None:
        talk.connection.recv(65536)
        talk.say(response(b"what?", "400 Bad Request"))
        talk.end()

    with scripted(plain) as api:
        with pytest.raises(FetchError, match="does not answer in TLS") as caught:
            Safe(address(api.port, "TLS"), tmp_path).fetch()
        assert "http://" in caught.value.hint


def test_a_handshake_that_is_cut_is_tried_again(tmp_path: Path) -> None:
    def cut(talk: Talk) -> None:
        talk.connection.recv(65536)
        talk.connection.shutdown(socket.SHUT_RDWR)

    with scripted(cut, cut, over_tls(SECURE, response(BODY))) as api:
        asker = Safe(address(api.port, "TLS"), tmp_path)
        assert 2 == len(asker.fetch()[1])
        assert "before it was safe" in asker.watcher.of(Retrying)[0].reason
        asker.client.close()


def test_a_connection_that_is_kept_stays_kept_over_tls(tmp_path: Path) -> None:
    with scripted(over_tls(SECURE, keeping(BODY, BODY, BODY))) as api:
        asker = Safe(address(api.port, "TLS"), tmp_path)
        assert [2, 2, 2] == [len(asker.fetch()[1]) for _ in range(3)]
        assert 1 == api.connections
        asker.client.close()
