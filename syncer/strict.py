"""What may come over a connection, and for how long: answers by the letter, or none.

http.client and urllib3 take a head that ends early for a complete one, hand out `103 Early Hints` as the
answer, lose the lines after a malformed one, read odd sizes of chunks as numbers, and wait for ever on a server
that drips. The classes here refuse the first four and put one deadline over everything from the lookup of the
name to the last byte of the body.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.response import HTTPResponse

from . import network
from .errors import CredentialsError, ProtocolError
from .peers import Peers

_HEAD = 262144
_INTERIM = 5
_LINE = 8192
_MORE = "got more than"  # how http.client begins to say that there are too many headers, or too long ones
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\r\n]*)?\r?\n")
_FRAMING = ("Content-Length", "Transfer-Encoding", "Content-Encoding")
_ODD = re.compile(rb"\r(?!\n)|\0")  # for the email package, which reads the head, a bare CR ends a line


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one request may take, in seconds, and how large its answer may be, in bytes."""

    connect: float = 10.0
    read: float = 30.0
    whole: float = 120.0
    wire: int = 64 * 2**20
    plain: int = 256 * 2**20


class BrokenAnswerError(HTTPError):
    """The server's bytes are not an HTTP answer that can be trusted."""


class StaleConnectionError(HTTPError):
    """A kept connection ended before a byte of the answer: the server had given it up."""


class _SilentError(ConnectionResetError):
    """A connection ended before a byte of the answer."""


class _Deadline(threading.local):
    """When the request that this thread is making has to be over."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._limits, self.monotonic = limits, monotonic
        self.end = 0.0

    def start(self) -> None:
        self.end = self.monotonic() + self._limits.whole

    def left(self) -> float:
        if (left := self.end - self.monotonic()) <= 0:
            raise TimeoutError("the answer did not end in time")
        return left


class _Bounded(io.RawIOBase):
    """A socket's bytes until a deadline, and no more of them than an answer may have, its framing included.

    Each receive waits for what is left of the time, at most the read timeout.
    """

    def __init__(self, raw: Any, sock: socket.socket, limits: Limits, deadline: _Deadline) -> None:
        self._raw, self._sock, self._limits = raw, sock, limits
        self._end, self._monotonic = deadline.end, deadline.monotonic
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - self._monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(min(left, self._limits.read))
        try:
            taken: int | None = self._raw.readinto(buffer)
        except ssl.SSLEOFError:  # over TLS the end has to be said, or anybody on the way could bring it about
            if self.taken:
                raise BrokenAnswerError("the answer was cut short") from None
            return 0
        self.taken += taken or 0
        if self.taken > self._limits.wire + _HEAD:
            raise ProtocolError(f"the answer is larger than {self._limits.wire:,} bytes on the wire")
        return taken

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
            super().close()


class _Head:
    """The head's lines: an end of file inside it is an error, and so is a head without end."""

    def __init__(self, inner: io.BufferedReader) -> None:
        self.inner, self._taken = inner, 0

    def readline(self, limit: int = -1) -> bytes:
        line = self.inner.readline(limit)
        if not line.endswith(b"\n") and len(line) < 65537 and (line or self._taken):
            raise BrokenAnswerError("the connection closed inside the answer's head")
        if _ODD.search(line):
            raise BrokenAnswerError("the answer's head is malformed")
        self._taken += len(line)
        if self._taken > _HEAD:
            raise ProtocolError("the head of the answer is too large")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _whole(head: http.client.HTTPMessage) -> None:
    """Refuse a head that could be read in two ways: lines lost, or two opinions of where the answer ends."""
    if head.defects or any("\n" in value for name in _FRAMING for value in head.get_all(name, ())):
        raise BrokenAnswerError("the answer's head is malformed")
    lengths = head.get_all("Content-Length", ())
    if len(set(lengths)) > 1 or not all(re.fullmatch(r"\d{1,15}", length.strip(), re.ASCII) for length in lengths):
        raise BrokenAnswerError("the answer gives no usable Content-Length")
    coded = head.get_all("Transfer-Encoding")
    if coded and (len(coded) > 1 or coded[0].strip().lower() != "chunked"):
        raise BrokenAnswerError("the answer comes in a transfer coding that was not asked for")
    if coded and "Content-Length" in head:
        raise BrokenAnswerError("the answer says its length in two ways")


class _Body(HTTPResponse):
    """urllib3's body with chunks by the letter: it takes `-1` and `0x5` for sizes, and any end of a chunk, or none."""

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Generator[bytes, None, None]:
        """The chunks as they are, in pieces of at most `amt` bytes; BrokenAnswerError unless all of them came."""
        inner: Any = self._fp
        if self.status in (204, 304):  # may say that its body would be in chunks, but has none
            self.close()
            return
        with self._error_catcher():
            while left := self._size(inner.fp.readline(_LINE)):
                while left:
                    piece = inner._safe_read(min(left, amt or left))
                    left -= len(piece)
                    yield piece
                if inner._safe_read(2) != b"\r\n":
                    raise BrokenAnswerError("the answer's chunks are malformed")
            while (line := inner.fp.readline(_LINE)) not in (b"\r\n", b"\n"):  # trailers; how many, _Bounded says
                if not line:
                    raise BrokenAnswerError("the answer was cut short")
            inner.close()

    def _size(self, line: bytes) -> int:
        size = _SIZE.fullmatch(line)
        if not size:
            cut = not line.endswith(b"\n") and len(line) < _LINE
            raise BrokenAnswerError("the answer was cut short" if cut else "the answer's chunks are malformed")
        return int(size[1], 16)


class Adapter(HTTPAdapter):
    """requests' adapter over connections whose answers are strict."""

    def __init__(
        self, limits: Limits, monotonic: Callable[[], float], identity: ssl.SSLContext | None, peers: Peers
    ) -> None:
        self._deadline = _Deadline(limits, monotonic)
        self._classes, self._identity = _pools(limits, self._deadline, peers), identity
        super().__init__(max_retries=0)

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send a request; its time begins now."""
        self._deadline.start()
        return super().send(*args, **options)

    def close(self) -> None:
        """Close the connections now; requests leaves that to the garbage collector."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 it cannot be iterated over
                if pool := manager.pools.get(key):
                    pool.close()
        super().close()

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """The connections through a proxy, which are as strict as the others."""
        manager = super().proxy_manager_for(proxy, **{**options, **self._own()})
        manager.pool_classes_by_scheme = self._classes
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """What is shown to a proxy."""
        shown = network.authorization(proxy)
        return {"Proxy-Authorization": shown} if shown else {}

    def _own(self) -> dict[str, Any]:
        return {"ssl_context": self._identity} if self._identity else {}

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """The connections without one."""
        super().init_poolmanager(*args, **{**options, **self._own()})
        self.poolmanager.pool_classes_by_scheme = self._classes


def _pools(limits: Limits, deadline: _Deadline, peers: Peers) -> dict[str, Any]:
    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            if hasattr(sock, "suppress_ragged_eofs"):  # TLS
                sock.suppress_ragged_eofs = False
            self._bytes = _Bounded(self.fp.detach(), sock, limits, deadline)
            self.fp = io.BufferedReader(self._bytes)

        def begin(self) -> None:
            inner = self.fp
            self.fp = _Head(inner)  # type: ignore[assignment]
            try:
                for _ in range(_INTERIM + 1):  # http.client skips only 100
                    super().begin()
                    if self.status >= 200:
                        break
                    if self.status == 101:
                        raise BrokenAnswerError("the server switches protocols, unasked")
                    self.headers = self.msg = None  # type: ignore[assignment]
                else:
                    raise BrokenAnswerError("the server sends interim answers without end")
                _whole(self.msg)
            except ConnectionError:
                if self._bytes.taken:
                    raise
                raise _SilentError("the connection ended without an answer") from None
            except http.client.HTTPException as error:
                if str(error).startswith(_MORE):
                    raise ProtocolError("the head of the answer is too large") from None
                raise
            finally:
                if isinstance(self.fp, _Head):
                    self.fp = inner

    class Strict(HTTPConnection):
        response_class = Answer
        answers = 0

        def _new_conn(self) -> socket.socket:
            self.answers = 0
            options, proxy = self.socket_options or (), self.proxy is not None
            try:
                left = min(limits.connect, deadline.left())
                sock = peers.connect(self._dns_host, self.port, left, deadline.monotonic, options=options, proxy=proxy)
                sock.settimeout(min(limits.connect, deadline.left()))  # for TLS, which is still to come
            except UnicodeError:
                raise LocationParseError(self.host) from None
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            except TimeoutError as error:
                raise ConnectTimeoutError(self, "no connection in time") from error
            except OSError as error:
                raise NewConnectionError(self, str(error)) from error
            return sock

        def send(self, data: Any) -> None:
            if self.sock is not None:
                self.sock.settimeout(min(limits.read, deadline.left()))
            super().send(data)

        def _tunnel(self) -> None:
            try:
                super()._tunnel()
            except TimeoutError:
                raise BrokenAnswerError("the proxy did not answer in time") from None
            except (OSError, http.client.HTTPException) as error:
                said = re.search(r"Tunnel connection failed: (\d{3})", str(error))
                if said and said[1] == "407":
                    raise CredentialsError("the proxy wants other credentials", hint=network.WRONG) from None
                answered = f"answered {said[1]}" if said else "opened no tunnel"
                raise BrokenAnswerError(f"the proxy {answered}") from None

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            try:
                answer = super().getresponse()
            except _SilentError:
                if self.answers:
                    raise StaleConnectionError("a kept connection had been given up") from None
                raise
            answer.__class__ = _Body
            self.answers += 1
            return answer

    class Plain(Strict):
        pass

    class Secure(Strict, HTTPSConnection):
        def connect(self) -> None:
            try:
                super().connect()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                raise BrokenAnswerError("the connection ended before it was safe") from None

        def send(self, data: Any) -> None:
            try:
                super().send(data)
            except (ssl.SSLEOFError, ConnectionResetError):
                # TLS 1.3 says what it thinks of our certificate after the handshake, and hangs up: its word is here.
                self.sock.recv(1)
                raise

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
