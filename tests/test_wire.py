"""What arrives over a real socket is a whole answer or it is an error, whatever the server does to its bytes."""

from __future__ import annotations

import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from urllib3.exceptions import HTTPError

from syncer import wire
from syncer.errors import ProtocolError, TransientError
from syncer.wire import Limits
from tests.scripted import Answer, Server, Talk, response, scripted

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'[{"id":1,"name":"caf\xc3\xa9"},{"id":2}]'
SOON = Limits(connect=2.0, read=2.0, whole=5.0)
BROKEN = (TransientError, HTTPError, requests.RequestException, OSError)
"""What the client takes for a broken attempt, which another may mend."""


def ask(session: requests.Session, url: str, limits: Limits = SOON, **headers: str) -> requests.Response:
    """One request, sent as the client sends it."""
    prepared = requests.Request("GET", url, headers={"Accept-Encoding": "gzip", **headers}).prepare()
    return session.send(prepared, stream=True, allow_redirects=False, timeout=(limits.connect, limits.read))


def body(session: requests.Session, url: str) -> bytes | None:
    """What a strict session takes for the body, or None if it takes the attempt for a broken one."""
    try:
        with ask(session, url) as answer:
            return wire.read(answer, SOON)
    except BROKEN:
        return None


def fetched(*answers: Answer, limits: Limits = SOON) -> bytes:
    """The body that a strict session reads from the first of these answers."""
    with scripted(*answers) as server:
        session = wire.session(limits)
        try:
            with ask(session, server.url, limits) as answer:
                return wire.read(answer, limits)
        finally:
            session.close()


def raw(data: bytes) -> Answer:
    """Says these bytes after one request, and hangs up."""
    return data


def zipped(data: bytes, *headers: str) -> bytes:
    return response(data, "200 OK", "Content-Encoding: gzip", *headers)


def pieces(*parts: bytes) -> Callable[[Talk], None]:
    """Says the parts after one request, each in a segment of its own, and hangs up."""

    def answer(talk: Talk) -> None:
        talk.hear()
        talk.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            talk.say(part)
        talk.end()

    return answer


def chunked(*chunks: bytes) -> bytes:
    """An answer in chunks, with its end."""
    coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


# --- whole answers ---


@pytest.mark.parametrize(
    "answer",
    [
        response(BODY),
        HEAD + b"\r\n" + BODY,
        HEAD.replace(b"1.1", b"1.0") + b"\r\n" + BODY,
        HEAD.replace(b"\r\n", b"\n") + b"Content-Length: %d\n\n" % len(BODY) + BODY,
        chunked(BODY),
        chunked(BODY[:1], BODY[1:20], BODY[20:]),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n%X;x=y\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY), BODY),
        response(BODY, "200 OK", "Content-Encoding: identity"),
        zipped(gzip.compress(BODY)),
        response(gzip.compress(BODY), "200 OK", "Content-Encoding: x-gzip"),
        response(gzip.compress(BODY), "200 OK", "content-encoding:  GZIP "),
        zipped(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
        zipped(gzip.compress(BODY) + b"\0" * 20),
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY),
        response(BODY, "200 OK", f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY)}"),
    ],
    ids=[
        "length",
        "until the end",
        "HTTP/1.0",
        "bare newlines",
        "one chunk",
        "three chunks",
        "chunk extension and trailer",
        "identity",
        "gzip",
        "x-gzip",
        "GZIP",
        "two members",
        "padded with zeros",
        "gzip until the end",
        "the same length twice",
    ],
)
def test_a_whole_answer_arrives_whole(answer: bytes) -> None:
    assert BODY == fetched(raw(answer))


def test_an_answer_in_segments_of_one_byte_arrives_whole() -> None:
    data = zipped(gzip.compress(BODY))
    assert BODY == fetched(pieces(*(data[at : at + 1] for at in range(len(data)))))


def test_an_empty_answer_is_empty() -> None:
    assert b"" == fetched(raw(response(b"")))
    assert b"" == fetched(raw(zipped(b"")))


# --- heads ---


def test_an_answer_that_is_cut_at_any_byte_is_never_taken_for_whole() -> None:
    whole = response(BODY, "200 OK", 'Link: </2>; rel="next"')
    cuts = [whole[:end] for end in range(len(whole))]
    with scripted(*cuts) as server:
        session = wire.session(SOON)
        assert [] == [cut for cut in cuts if body(session, server.url) is not None]
        assert len(cuts) == server.connections


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


def numbered(number: int, *, keep: bool = True) -> bytes:
    body = b"[%d]" % number
    return HEAD + b"Content-Length: %d\r\n%s\r\n" % (len(body), b"" if keep else b"Connection: close\r\n") + body


@pytest.mark.parametrize("together", [True, False], ids=["in one segment", "in two segments"])
@pytest.mark.parametrize("interim", [INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"])
def test_interim_answers_are_passed_over_and_later_answers_stay_in_their_order(interim: bytes, together: bool) -> None:
    def answer(talk: Talk) -> None:
        for number in range(4):
            talk.hear()
            for part in [interim + numbered(number)] if together else [interim, numbered(number)]:
                talk.say(part)
                time.sleep(0.02)
        talk.end()

    with scripted(answer) as server:
        session = wire.session(SOON)
        bodies = []
        for _ in range(4):
            with ask(session, server.url) as whole:
                bodies.append((whole.status_code, wire.read(whole, SOON)))
        assert [(200, b"[0]"), (200, b"[1]"), (200, b"[2]"), (200, b"[3]")] == bodies
        assert 1 == server.connections
        session.close()


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_interim_answers_without_end_are_an_error(status: bytes) -> None:
    def answer(talk: Talk) -> None:
        talk.hear()
        while True:
            talk.say(b"HTTP/1.1 %s\r\nX-Filler: %s\r\n\r\n" % (status, b"x" * 1000))

    with pytest.raises((ProtocolError, *BROKEN)):
        fetched(answer)


def test_a_server_that_switches_protocols_is_an_error() -> None:
    with pytest.raises(wire.BrokenAnswerError, match="switches"):
        fetched(raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + response(BODY)))


@pytest.mark.parametrize(
    "line",
    [b"this is no header", b"X bad: 1", b" folded: from nothing", b": nameless", b"X\xe9: 1", b"X-Space : 1"],
)
def test_a_malformed_line_does_not_swallow_the_headers_after_it(line: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + line + b'\r\nLink: </2>; rel="next"\r\nContent-Length: 2\r\n\r\n[]'
    with pytest.raises(BROKEN):
        fetched(raw(head))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 abc OK\r\n\r\n[]",
        b"HTTP/1.1 99 Low\r\n\r\n[]",
        b"ICY 200 OK\r\n\r\n[]",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"[]",
        b"\r\n\r\n",
        b"",
    ],
    ids=lambda answer: repr(answer[:24]),
)
def test_what_does_not_begin_like_an_answer_is_none(answer: bytes) -> None:
    with pytest.raises(BROKEN):
        fetched(raw(answer))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n[]",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n[]",
        b"HTTP/1.1 200 " + b"b" * 70_000 + b"\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n" + (b"X-A: " + b"b" * 60_000 + b"\r\n") * 6 + b"\r\n[]",
        b"HTTP/1.1 100 Continue\r\n" + b"X-A: b\r\n" * 200 + b"\r\nHTTP/1.1 200 OK\r\n\r\n[]",
    ],
    ids=["too many headers", "a long header", "a long status", "long headers", "too many before the answer"],
)
def test_a_head_that_is_too_large_is_the_servers_doing_and_not_asked_for_again(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="head of the answer is too large"):
        fetched(raw(answer))


def test_a_head_without_end_is_an_error_before_it_fills_the_memory() -> None:
    said: list[int] = []

    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(b"HTTP/1.1 200 OK\r\n")
        try:
            for _ in range(100):
                talk.say(b"X: y\r\n" * 20_000)
        finally:
            said.append(talk.sent)

    with pytest.raises(ProtocolError, match="head of the answer is too large"):
        fetched(answer)
    assert said[0] < 11_000_000


# --- lengths ---


@pytest.mark.parametrize("length", ["abc", "-1", "", "1e3", "0x10", "10.0", "9" * 16, "٣".encode().decode("latin-1")])
def test_a_content_length_that_is_no_number_is_an_error(length: str) -> None:
    with pytest.raises(BROKEN):
        fetched(raw(response(BODY, "200 OK", f"Content-Length: {length}")))


def test_two_content_lengths_that_differ_are_an_error() -> None:
    with pytest.raises(BROKEN):
        fetched(raw(response(BODY, "200 OK", f"Content-Length: {len(BODY)}", "Content-Length: 3")))


@pytest.mark.parametrize("more", [1, 1000, 10**14])
def test_a_content_length_that_is_not_reached_is_an_error(more: int) -> None:
    with pytest.raises(BROKEN):
        fetched(raw(response(BODY, length=len(BODY) + more)))


def test_what_comes_after_the_content_length_is_not_the_next_answer() -> None:
    def talkative(talk: Talk) -> None:
        talk.hear()
        talk.say(numbered(1) + numbered(666))
        if talk.hear():
            talk.say(numbered(2))
        talk.end()

    with scripted(talkative, numbered(2)) as server:
        session = wire.session(SOON)
        bodies = []
        for _ in range(2):
            with ask(session, server.url) as answer:
                bodies.append(wire.read(answer, SOON))
        assert [b"[1]", b"[2]"] == bodies
        session.close()


def test_a_body_in_chunks_that_is_cut_at_any_byte_is_an_error() -> None:
    whole = chunked(BODY[:20], BODY[20:])
    start = whole.index(b"\r\n\r\n") + 4
    cuts = [whole[:end] for end in range(start, len(whole) - len(b"0\r\n\r\n") + 1)]
    with scripted(*cuts) as server:
        session = wire.session(SOON)
        assert [] == [cut for cut in cuts if body(session, server.url) is not None]


@pytest.mark.parametrize("size", [b"xyz", b"", b"-1", b"-5", b"0x5", b"f" * 40], ids=repr)
def test_a_chunk_without_a_size_is_an_error(size: bytes) -> None:
    with pytest.raises(BROKEN):
        fetched(raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n[]\r\n0\r\n\r\n"))


@pytest.mark.parametrize("end", [b"xx", b"\n\n", b"", b"\r\r"], ids=repr)
def test_a_chunk_that_does_not_end_where_it_says_is_an_error(end: bytes) -> None:
    with pytest.raises(BROKEN):
        fetched(raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]" + end + b"0\r\n\r\n"))


# --- codings ---


def test_a_compressed_body_that_is_cut_at_any_byte_is_an_error_though_its_length_is_right() -> None:
    data = gzip.compress(BODY)
    cuts = [zipped(data[:end]) for end in range(1, len(data))]
    with scripted(*cuts) as server:
        session = wire.session(SOON)
        for _ in cuts:
            with ask(session, server.url) as answer, pytest.raises(TransientError):
                wire.read(answer, SOON)
        assert len(cuts) == server.connections


def test_a_compressed_body_with_any_byte_changed_is_an_error_or_the_same() -> None:
    data = gzip.compress(BODY, mtime=0)
    found = set()
    for at in range(len(data)):
        hurt = bytearray(data)
        hurt[at] ^= 0x55
        with suppress(TransientError):
            found.add(wire._inflate(bytes(hurt), 10_000))
    assert found <= {BODY}


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(BODY)[:-8] + b"\0\0\0\0" + gzip.compress(BODY)[-4:],
        gzip.compress(BODY)[:-4] + b"\0\0\0\0",
        BODY,
        b"\0",
        zlib.compress(BODY),
        gzip.compress(BODY) + b"garbage",
        gzip.compress(BODY) + gzip.compress(BODY)[:9],
    ],
    ids=["checksum", "size", "plain", "zero", "deflate", "garbage after it", "half a second member"],
)
def test_a_damaged_compressed_body_is_an_error(data: bytes) -> None:
    with pytest.raises(TransientError, match="compressed"):
        fetched(raw(zipped(data)))


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "compress", "x"])
def test_a_coding_that_was_not_asked_for_is_refused(coding: str) -> None:
    with pytest.raises(TransientError, match="coding"):
        fetched(raw(response(gzip.compress(BODY), "200 OK", f"Content-Encoding: {coding}")))


def test_a_coding_that_is_not_named_is_refused() -> None:
    with pytest.raises(TransientError, match="does not say so"):
        fetched(raw(response(gzip.compress(BODY))))


# --- limits ---


def test_an_answer_as_large_as_the_limits_is_taken_and_one_byte_more_is_not() -> None:
    body = bytes(range(256)) * 1000
    packed = gzip.compress(body)
    roomy = Limits(wire=len(packed), plain=len(body))
    assert body == fetched(raw(zipped(packed)), limits=roomy)
    for tight in (Limits(wire=len(packed) - 1, plain=len(body)), Limits(wire=len(packed), plain=len(body) - 1)):
        with pytest.raises(ProtocolError, match="larger than"):
            fetched(raw(zipped(packed)), limits=tight)


def test_a_plain_answer_is_bounded_too() -> None:
    assert b"x" * 1000 == fetched(raw(response(b"x" * 1000)), limits=Limits(wire=1000))
    with pytest.raises(ProtocolError, match="larger than"):
        fetched(raw(response(b"x" * 1001)), limits=Limits(wire=1000))


def test_the_limit_holds_over_all_members_of_a_compressed_body() -> None:
    packed = gzip.compress(b"x" * 600) * 2
    assert b"x" * 1200 == fetched(raw(zipped(packed)), limits=Limits(plain=1200))
    with pytest.raises(ProtocolError, match="larger than"):
        fetched(raw(zipped(packed)), limits=Limits(plain=1199))


def bomb(megabytes: int) -> bytes:
    """That many megabytes of zeros, compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(megabytes)), packer.flush()])


def test_a_compressed_bomb_goes_off_within_the_limit() -> None:
    packed = zipped(bomb(100))
    limits = Limits(plain=2 * 2**20)
    with scripted(raw(packed)) as server:
        session = wire.session(limits)
        tracemalloc.start()
        try:
            with ask(session, server.url, limits) as answer, pytest.raises(ProtocolError, match="larger than"):
                wire.read(answer, limits)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            session.close()
    assert peak < 10 * 2**20


@pytest.mark.timeout(5)
def test_a_body_of_very_many_compressed_members_does_not_stop_the_world() -> None:
    packed = gzip.compress(b"") * 200_000  # four megabytes that hold nothing
    with suppress(ProtocolError):
        assert b"" == wire._inflate(packed, 1000)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 99999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["open", "length", "chunk", "chunk of -1", "chunk size"],
)
def test_a_body_without_end_is_cut_off_at_the_limit(head: bytes) -> None:
    said: list[int] = []

    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(head)
        try:
            for _ in range(400):
                talk.say(b"0" * 65_536)
        finally:
            said.append(talk.sent)

    with pytest.raises((ProtocolError, *BROKEN)):
        fetched(answer, limits=Limits(wire=100_000))
    assert said[0] < 20_000_000


# --- time ---


def dripping(data: bytes) -> Callable[[Talk], None]:
    """Says this, and then a byte at a time as long as somebody listens: for half a minute at most."""

    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(data)
        for _ in range(600):
            time.sleep(0.05)
            talk.say(b"1")

    return answer


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        HEAD + b"\r\n[",
        HEAD + b"Content-Length: 100000\r\n\r\n[",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n[",
        INTERIM,
    ],
    ids=["status line", "head", "body", "body of known length", "chunk size", "chunk", "after an interim answer"],
)
def test_a_drip_is_beaten_by_the_deadline_for_the_whole(opening: bytes) -> None:
    with pytest.raises(BROKEN):
        fetched(dripping(opening), limits=Limits(read=5.0, whole=0.4))


@pytest.mark.parametrize(
    "opening", [b"", b"HTTP/1.1 200 OK\r\n", HEAD + b"\r\n[", HEAD + b"Content-Length: 9\r\n\r\n["]
)
def test_a_server_that_falls_silent_is_beaten_by_the_deadline_for_a_read(opening: bytes) -> None:
    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(opening)
        talk.hear()

    with pytest.raises(BROKEN):
        fetched(answer, limits=Limits(read=0.3, whole=60.0))


@pytest.mark.timeout(20)
def test_a_server_that_falls_silent_cannot_outlast_the_deadline_for_the_whole() -> None:
    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(HEAD + b"\r\n[")
        talk.hear()

    with pytest.raises(BROKEN):
        fetched(answer, limits=Limits(read=300.0, whole=0.3))


def test_every_answer_on_a_kept_connection_has_the_whole_time() -> None:
    def answer(talk: Talk) -> None:
        for number in range(6):
            talk.hear()
            talk.say(numbered(number))

    ticks = iter(range(0, 10_000, 3))
    limits = Limits(whole=20.0)
    with scripted(answer) as server:
        session = wire.session(limits, monotonic=lambda: float(next(ticks)))
        for number in range(6):
            with ask(session, server.url, limits) as whole:
                assert b"[%d]" % number == wire.read(whole, limits)
        assert 1 == server.connections
        session.close()


# --- nothing from the environment, nothing kept ---


def headers_of(server: Server, number: int = 0) -> dict[str, str]:
    """The headers of a request that a server has seen, in lower case."""
    lines = server.requests[number].split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_netrc_file_is_never_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login eve password mallory\ndefault login eve password mallory\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    with scripted(response(), response()) as server:
        assert ("eve", "mallory") == requests.utils.get_netrc_auth(server.url)  # the file itself would do
        session = wire.session(SOON)
        ask(session, server.url).close()
        ask(session, server.url, Authorization="Bearer mine").close()
        assert "authorization" not in headers_of(server)
        assert "Bearer mine" == headers_of(server, 1)["authorization"]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    with scripted(response(b"[1]")) as server, scripted(response(b"[2]")) as proxy:
        monkeypatch.setenv(name, proxy.url)
        with ask(wire.session(SOON), server.url) as answer:
            assert b"[1]" == wire.read(answer, SOON)
        assert 0 == proxy.connections


def test_cookies_are_never_sent_back() -> None:
    setting = response(b"[]", "200 OK", "Set-Cookie: session=tasty; Path=/", "Set-Cookie: b=c; Domain=127.0.0.1")
    with scripted(setting, response(), response()) as server:
        session = wire.session(SOON)
        for _ in range(3):
            ask(session, server.url).close()
        assert 3 == len(server.requests)
        assert all("cookie" not in headers_of(server, number) for number in range(3))
        assert 0 == len(session.cookies)


# --- origins ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example.org/v1?x=1", ("https", "api.example.org", 443)),
        ("HTTPS://API.Example.ORG", ("https", "api.example.org", 443)),
        ("https://api.example.org.:443/", ("https", "api.example.org", 443)),
        ("http://api.example.org", ("http", "api.example.org", 80)),
        ("http://api.example.org:8080/", ("http", "api.example.org", 8080)),
        ("http://127.0.0.1:1/", ("http", "127.0.0.1", 1)),
        ("http://[::1]:8080/", ("http", "[::1]", 8080)),
        ("http://evil.example#@good.example/", ("http", "evil.example", 80)),
        ("http://evil.example?@good.example/", ("http", "evil.example", 80)),
    ],
)
def test_an_origin_is_what_will_be_connected_to(url: str, expected: tuple[str, str, int]) -> None:
    assert expected == wire.origin(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/items",
        "//api.example.org/items",
        "api.example.org",
        "http://",
        "http:///items",
        "ftp://api.example.org/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://user@api.example.org/",
        "http://user:secret@api.example.org/",
        "http://good.example@evil.example/",
        "http://good.example\\@evil.example/",
        "http://evil.example\\@good.example/",
        "http://good.example\\.evil.example/",
        "http://good.example\\:80/",
        "http://api.example.org:port/",
        "http://api.example.org:99999/",
        "http://[::1/",
        "http://exa mple.org/",
    ],
)
def test_a_url_without_a_plain_origin_is_refused(url: str) -> None:
    with pytest.raises(ProtocolError):
        wire.origin(url)
