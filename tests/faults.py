"""A server that misbehaves on one page, in every way that can be provoked on one machine, and the table of the ways.

The API has three pages of three records; `misbehaving` serves them over real sockets and breaks the one it is told
to, once or always. A Fault says what is sent instead, which numbers of the catalogue it stands for, and how a pull
must end: with which exit code, with which words, and what leads out of it.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.world import item

PAGES = 3
SIZE = 3
RECORDS = [item(number) for number in (1, 3, 4, 5, 6, 7, 9, 10, 11)]


@dataclass(frozen=True)
class Asked:
    """One request for a page: its number from 1, and the ordinary answer's body."""

    number: int
    body: dict[str, Any]
    url: str

    @property
    def content(self) -> bytes:
        """The ordinary body."""
        return json.dumps(self.body).encode()

    @property
    def good(self) -> bytes:
        """The ordinary answer."""
        return answer(self.content)

    def changed(self, **fields: Any) -> bytes:
        """The ordinary answer with some members of its body replaced."""
        return answer(json.dumps({**self.body, **fields}).encode())

    def record(self, text: str) -> bytes:
        """The ordinary answer whose second record is this text of JSON."""
        texts = [json.dumps(record) for record in self.body["items"]]
        texts[1] = text
        rest = json.dumps({**self.body, "items": []})
        return answer(rest.replace('"items": []', f'"items": [{", ".join(texts)}]').encode("utf-8", "surrogateescape"))


Sends = bytes | Callable[[socket.socket], None]


@dataclass(frozen=True)
class Fault:
    """One way to misbehave. `numbers` are those of the catalogue; codes are the exit codes once and always.

    `out` is what leads out of it once the server is well again: the same command, or `--restart`. `rejects` is how
    many records of the page are rejected; `words` stand in the error where the pull fails.
    """

    name: str
    numbers: tuple[int, ...]
    sends: Callable[[Asked], Sends]
    once: int = 0
    always: int = 4
    words: str = ""
    rejects: int = 0
    out: str = "pull"
    first: int | None = None
    """The exit code where the first page is the broken one, if that differs."""
    places: tuple[int, ...] = (1, 2, 3)


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """The bytes of an answer; a Content-Type and a Content-Length unless the headers say otherwise."""
    given = {line.partition(":")[0].lower() for line in headers}
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    if "content-type" not in given:
        lines.append("Content-Type: application/json")
    if not {"content-length", "transfer-encoding"} & given and length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def chunked(body: bytes, *headers: str, end: bytes = b"0\r\n\r\n", size: bytes | None = None) -> bytes:
    """The same in one chunk, with an end and a size of its own if told."""
    head = answer(b"", "Transfer-Encoding: chunked", *headers)
    return head + (size if size is not None else b"%x" % len(body)) + b"\r\n" + body + b"\r\n" + end


def zipped(content: bytes, *headers: str) -> bytes:
    """The same as gzip, whatever the content is."""
    return answer(content, "Content-Encoding: gzip", *headers)


def drips(data: bytes, every: float = 0.05) -> Callable[[socket.socket], None]:
    """Send a byte now and then."""

    def send(connection: socket.socket) -> None:
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(every)

    return send


def silent(connection: socket.socket) -> None:
    """Send nothing until the client has gone."""
    connection.settimeout(5)
    connection.recv(1)


def broken(data: bytes) -> Callable[[socket.socket], None]:
    """Send this, then a reset."""

    def send(connection: socket.socket) -> None:
        connection.sendall(data)
        time.sleep(0.02)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return send


def endless(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Send a head, then the same piece until the client has had enough."""

    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(3000):
            connection.sendall(piece)

    return send


@dataclass
class Served:
    """Where the API is, and how often each page was asked for."""

    url: str
    asked: list[int] = field(default_factory=list)
    well: bool = False


@contextmanager
def misbehaving(fault: Fault, page: int, *, always: bool) -> Iterator[Served]:
    """Serve the API on loopback, with the fault on this page; ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            heard = b""
            while b"\r\n\r\n" not in heard:
                piece = connection.recv(65536)
                if not piece:
                    return
                heard += piece
            target = urlsplit(heard.split(b" ", 2)[1].decode("latin-1"))
            place = parse_qs(target.query).get("after", ["0"])[0]
            if not place.isdecimal():
                connection.sendall(answer(b'{"message": "no such token"}', status="400 Bad Request"))
                return
            start = int(place)
            number, end = start // SIZE + 1, start + SIZE
            more = end < len(RECORDS)
            body = {"items": RECORDS[start:end], "total": len(RECORDS), "next": str(end) if more else None}
            asked = Asked(number, body, served.url)
            served.asked.append(number)
            hit = not served.well and number == page and (always or served.asked.count(page) == 1)
            sends = fault.sends(asked) if hit and target.path == "/items" else asked.good
            if callable(sends):
                sends(connection)
            else:
                connection.sendall(sends)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=listen, daemon=True)
    accepting.start()
    try:
        yield served
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)


def _gz(asked: Asked) -> bytes:
    return gzip.compress(asked.content)


def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(300)) + packer.flush()


def _redirect(target: str, status: str = "302 Found") -> Callable[[Asked], bytes]:
    return lambda asked: answer(b"", f"Location: {target.replace('URL', asked.url)}", status=status)


def _status(status: str, *headers: str, body: bytes = b'{"message": "no"}') -> Callable[[Asked], bytes]:
    return lambda asked: answer(body, *headers, status=status)


def _with(text: str) -> Callable[[Asked], bytes]:
    """A record whose name is this text of JSON."""
    return lambda asked: asked.record(json.dumps({**asked.body["items"][1], "name": "@"}).replace('"@"', text))


_DEEP = "[" * 300 + "]" * 300
_ABYSS = "[" * 100_000 + "]" * 100_000
_HOPS = "redirects"

NETWORK = [
    Fault("closed without a byte", (1, 13), lambda asked: b"", words="connection broke"),
    Fault("reset without a byte", (1, 8), lambda asked: broken(b""), words="connection broke"),
    Fault("silence", (5,), lambda asked: silent, words="did not answer in time"),
    Fault("a body that drips", (6,), lambda asked: drips(asked.good), words="did not"),
    Fault("a head that drips", (7,), lambda asked: drips(asked.good[:60]), words="in time"),
    Fault("a reset inside the body", (8,), lambda asked: broken(asked.good[:-20]), words="connection broke"),
    Fault("a body cut short of its length", (9,), lambda asked: asked.good[:-7], words="cut short"),
    Fault("chunks without an end", (10,), lambda asked: chunked(asked.content, end=b""), words="cut short"),
    Fault("a chunk cut short", (10,), lambda asked: chunked(asked.content)[:-40], words="cut short"),
    Fault("a chunk of no size", (10,), lambda asked: chunked(asked.content, size=b"zz"), words=""),
    Fault("a chunk of negative size", (10, 21), lambda asked: chunked(asked.content, size=b"-1"), words="malformed"),
    Fault("the end of the connection inside the head", (11,), lambda asked: asked.good[:40], words="head"),
    Fault("the end of the connection after one header", (11,), lambda asked: b"HTTP/1.1 200 OK\r\n", words="head"),
    Fault("a close-delimited body cut short", (12,), lambda asked: answer(asked.content[:-9], length=-1), 0, 9),
    Fault("a close-delimited body", (12,), lambda asked: answer(asked.content, length=-1), 0, 0),
    Fault("a second answer behind the first", (14,), lambda asked: asked.good + asked.good, 0, 0),
    Fault("early hints", (17,), lambda asked: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + asked.good, 0, 0),
    Fault("a continue unasked", (17, 18), lambda asked: b"HTTP/1.1 100 Continue\r\n\r\n" + asked.good, 0, 0),
    Fault(
        "interim answers without end", (18,), lambda asked: b"HTTP/1.1 102 Processing\r\n\r\n" * 40, words="without end"
    ),
    Fault("another protocol", (18,), _status("101 Switching Protocols", "Upgrade: h2c"), words="switches protocols"),
    Fault(
        "a malformed header line",
        (19,),
        lambda asked: asked.good.replace(b"Content-Type", b"oops this is no header\r\nContent-Type"),
        words="malformed",
    ),
    Fault(
        "two hundred headers",
        (20,),
        lambda asked: answer(asked.content, *[f"X-{n}: 1" for n in range(200)]),
        9,
        9,
        "too large",
    ),
    Fault(
        "a header of 70 KB", (20,), lambda asked: answer(asked.content, "X-Long: " + "x" * 70_000), 9, 9, "too large"
    ),
    Fault(
        "a head without end",
        (20, 7),
        lambda asked: endless(b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 60_000),
        9,
        9,
        "too large",
    ),
    Fault(
        "two lengths",
        (21,),
        lambda asked: answer(asked.content, "Content-Length: 5", f"Content-Length: {len(asked.content)}"),
    ),
    Fault(
        "a length that is no number", (21,), lambda asked: answer(asked.content, "Content-Length: abc"), words="Length"
    ),
    Fault("a negative length", (21,), lambda asked: answer(asked.content, "Content-Length: -1"), words="Length"),
    Fault(
        "a length in other digits", (21, 33), lambda asked: answer(asked.content, "Content-Length: 1_0"), words="Length"
    ),
    Fault("a length short of the body", (22,), lambda asked: answer(asked.content, length=20), 0, 9, "not JSON"),
    Fault("half a gzip stream", (23,), lambda asked: zipped(_gz(asked)[: len(_gz(asked)) // 2]), words="compressed"),
    Fault("gzip without its trailer", (23,), lambda asked: zipped(_gz(asked)[:-8]), words="compressed"),
    Fault("gzip with a wrong checksum", (24,), lambda asked: zipped(_gz(asked)[:-8] + bytes(8)), words="compressed"),
    Fault("plain text called gzip", (24,), lambda asked: zipped(asked.content), words="compressed"),
    Fault("gzip", (23, 24), lambda asked: zipped(_gz(asked)), 0, 0),
    Fault("gzip in chunks", (23, 24), lambda asked: chunked(_gz(asked), "Content-Encoding: gzip"), 0, 0),
    Fault("gzip that does not say so", (24,), lambda asked: answer(_gz(asked)), 0, 9),
    Fault("a coding not asked for", (24,), lambda asked: answer(asked.content, "Content-Encoding: br"), 0, 9, "coding"),
    Fault(
        "five codings",
        (24, 66),
        lambda asked: answer(asked.content, "Content-Encoding: gzip, gzip, gzip"),
        0,
        9,
        "coding",
    ),
]

MEANING = [
    Fault(
        "a page for people",
        (25,),
        lambda asked: answer(b"<html>down</html>", "Content-Type: text/html"),
        9,
        9,
        "text/html",
    ),
    Fault("an empty body", (25,), lambda asked: answer(b""), 0, 9, "not JSON"),
    Fault("an error that says 200", (25,), lambda asked: answer(b'{"error": "oops"}'), 9, 9, "no list of records"),
    Fault("no content", (26,), _status("204 No Content", body=b""), 9, 9, "204"),
    Fault("not modified, unasked", (26,), _status("304 Not Modified", body=b""), 4, 4, "304"),
    Fault("a part, unasked", (26,), _status("206 Partial Content"), 9, 9, "206"),
    Fault("not authorised", (27,), _status("401 Unauthorized"), 5, 5, "401"),
    Fault("forbidden", (27,), _status("403 Forbidden"), 5, 5, "403"),
    Fault("a proxy that wants a login", (15, 27), _status("407 Proxy Authentication Required"), 5, 5, "407"),
    Fault("not found", (28,), _status("404 Not Found"), 8, 8, "404", first=2),
    Fault("gone", (28, 47), _status("410 Gone"), 8, 8, "410", first=2),
    Fault("a bad request", (28,), _status("400 Bad Request"), 8, 8, "400", first=2),
    *[
        Fault(f"server error {status}", (29,), _status(f"{status} Oops"), words=str(status))
        for status in (500, 502, 503, 504, 507, 520, 522, 529)
    ],
    Fault("a status of another world", (29,), _status("599 Oops"), 4, 4, "599"),
    Fault("a request timeout", (29,), _status("408 Request Timeout"), words="408"),
    Fault("a redirect to itself", (30,), _redirect("/items?after=0"), 0, 9, _HOPS, places=(1,)),
    Fault("a redirect to another host", (30, 119), _redirect("http://example.com/"), 9, 9, "another server"),
    Fault("a redirect to another port", (30, 119), _redirect("http://127.0.0.1:1/items"), 9, 9, "another server"),
    Fault("a redirect to a file", (30,), _redirect("file:///etc/passwd"), 9, 9, ""),
    Fault("a redirect with a user name", (30, 121), _redirect("http://a:b@127.0.0.1/"), 9, 9, ""),
    Fault("a redirect to nowhere", (30,), _redirect(""), 9, 9, ""),
    Fault("a redirect to the same page elsewhere", (30,), lambda asked: _elsewhere(asked), 0, 0),
    Fault(
        "a redirect with an endless body",
        (30, 66),
        lambda asked: endless(
            answer(b"", "Location: http://example.com/", length=10**9, status="302 Found"), bytes(65536)
        ),
        9,
        9,
        "another server",
    ),
]


def _elsewhere(asked: Asked) -> bytes:
    start = (asked.number - 1) * SIZE
    return answer(b"", f"Location: /other?after={start}", status="307 Temporary Redirect")


LIMITS = [
    Fault("a limit with seconds", (31,), _status("429 Too Many Requests", "Retry-After: 3"), words="patience"),
    Fault("an overload with seconds", (31,), _status("503 Oops", "Retry-After: 3"), words="patience"),
    Fault(
        "a limit with a date",
        (32,),
        _status("429 Oops", "Date: Sat, 31 Jan 2026 12:00:00 GMT", "Retry-After: Sat, 31 Jan 2026 12:00:05 GMT"),
    ),
    *[
        Fault(f"a limit with {value[:12]!r}", (33, 34), _status("429 Oops", f"Retry-After: {value}"), words="limit")
        for value in ("1_000", "-5", "3.5", "inf", "nan", "9" * 5000, "5, 7", "0", "", "soon", "0x10")
    ],
    Fault(
        "a limit in Arabic digits",
        (33,),
        lambda asked: answer(b"", status="429 Oops").replace(b"\r\n\r\n", "\r\nRetry-After: ٣\r\n\r\n".encode()),
    ),
    Fault("a limit without a word", (34, 37), _status("429 Oops"), words="limit"),
    Fault("a limit of a year", (35,), _status("429 Oops", "Retry-After: 31536000"), 4, 4, "patience"),
    Fault(
        "a quota that is spent",
        (36, 37),
        lambda asked: answer(asked.content, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 9"),
        0,
        0,
    ),
    Fault("a limit that is forbidden", (36, 27), _status("403 Forbidden", "Retry-After: 2"), words="limit"),
    Fault(
        "a secondary limit",
        (36, 27),
        _status("403 Forbidden", body=b'{"message": "secondary rate limit"}'),
        words="limit",
    ),
]

PAGING = [
    Fault("a token that vanishes", (25, 50), lambda asked: asked.changed(next=None), 9, 9, "declared", places=(1, 2)),
    Fault("an object for a token", (53,), lambda asked: asked.changed(next={"a": 1}), 9, 9, "token"),
    Fault("a list for a token", (53,), lambda asked: asked.changed(next=[1]), 9, 9, "token"),
    Fault("true for a token", (53,), lambda asked: asked.changed(next=True), 9, 9, "token"),
    Fault("a number for a token", (53,), lambda asked: asked.changed(next=asked.number * SIZE), 0, 0, places=(1, 2)),
    Fault("half a surrogate for a token", (53, 58), lambda asked: asked.changed(next="\ud800"), 9, 9, "token"),
    Fault(
        "the token before",
        (41, 42),
        lambda asked: asked.changed(next=str((asked.number - 1) * SIZE)),
        9,
        9,
        "",
        out="restart",
        places=(2, 3),
    ),
    Fault("no text for a token", (53,), lambda asked: asked.changed(next=""), 9, 9, "declared", places=(1, 2)),
    Fault("a token of half a megabyte", (54,), lambda asked: asked.changed(next="3" * 500_000), 9, 9, "bytes long"),
    Fault(
        "a token that would ring the bell",
        (54, 130),
        lambda asked: asked.changed(next="\x1b]0;x\x07\r\n\0"),
        8,
        8,
        "400",
        out="restart",
    ),
    Fault("a total that grew", (50,), lambda asked: asked.changed(total=10_000), 0, 0),
    Fault("a total that is no number", (50,), lambda asked: asked.changed(total="many"), 0, 0),
    Fault("fewer records than asked for", (49,), lambda asked: asked.good, 0, 0),
]

PAYLOAD = [
    Fault("half a document", (55,), lambda asked: answer(asked.content[: len(asked.content) // 2]), 0, 9, "not JSON"),
    Fault("no document", (55,), lambda asked: answer(b"hello"), 0, 9, "not JSON"),
    Fault("a byte order mark", (56,), lambda asked: answer(b"\xef\xbb\xbf" + asked.content), 0, 0),
    Fault("UTF-16", (56,), lambda asked: answer(asked.content.decode().encode("utf-16")), 0, 9, "not JSON"),
    Fault(
        "Latin-1 in a name",
        (56, 57),
        lambda asked: asked.record(json.dumps({**asked.body["items"][1], "name": "@"}).replace("@", "\udce4")),
        0,
        0,
        rejects=1,
    ),
    Fault(
        "broken UTF-8 in a name",
        (57,),
        lambda asked: asked.record(json.dumps({**asked.body["items"][1], "name": "@"}).replace("@", "\udcff\udcfe")),
        0,
        0,
        rejects=1,
    ),
    Fault("half a surrogate in a name", (58,), _with('"\\ud800"'), 0, 0, rejects=1),
    *[
        Fault(f"{text[:9]} ({len(text)} digits) for a name", (59,), _with(text), 0, 0, rejects=1)
        for text in ("NaN", "Infinity", "-Infinity", "1e400", "7" * 400, "7" * 5000)
    ],
    Fault("an integer beyond 64 bits", (60, 61), _with(str(2**70)), 0, 0, rejects=1),
    Fault("a name twice", (64,), _with('"a", "name": "b"'), 0, 0),
    Fault("nested 300 deep", (65,), _with(_DEEP), 0, 0, rejects=1),
    Fault("nested 100,000 deep", (65,), _with(_ABYSS), 0, 0, rejects=1),
    Fault("a bomb", (66,), lambda asked: zipped(_BOMB), 9, 9, "larger than"),
    Fault(
        "a body without end",
        (66,),
        lambda asked: endless(answer(b"", length=10**12), b" " * 65536),
        9,
        9,
        "larger than",
    ),
    Fault("a record of the wrong type", (68,), _with("7"), 0, 0, rejects=1),
    Fault("a record that is null", (68,), lambda asked: asked.record("null"), 0, 0, rejects=1),
    Fault("a record that is a list", (68,), lambda asked: asked.record("[[[]]]"), 0, 0, rejects=1),
    Fault("a record without its fields", (68,), lambda asked: asked.record("{}"), 0, 0, rejects=1),
    Fault(
        "a number in quotes",
        (72,),
        lambda asked: asked.record(json.dumps({**asked.body["items"][1], "id": "1_0"})),
        0,
        0,
        rejects=1,
    ),
    Fault(
        "a day beyond the calendar",
        (73,),
        lambda asked: asked.record(json.dumps({**asked.body["items"][1], "changed": "9999-12-31T24:00:00Z"})),
        0,
        0,
        rejects=1,
    ),
    Fault(
        "a thousand fields more",
        (71,),
        lambda asked: asked.record(json.dumps({**asked.body["items"][1], **{f"x{n}": n for n in range(1000)}})),
        0,
        0,
    ),
    Fault("line ends and a NUL in a name", (76,), _with('"a\\u0000b\\u2028c\\u0085d\\ne"'), 0, 0),
    Fault("terminal escapes in a name", (130,), _with('"\\u001b]0;x\\u0007\\u009b31m"'), 0, 0),
    Fault("a path for a name", (133,), _with('"../../etc/passwd"'), 0, 0),
    Fault("a formula for a name", (132,), _with('"=cmd|x"'), 0, 0),
    Fault("a cookie", (126,), lambda asked: answer(asked.content, "Set-Cookie: a=b"), 0, 0),
]
_BOMB = _bomb()

FAULTS = [*NETWORK, *MEANING, *LIMITS, *PAGING, *PAYLOAD]
