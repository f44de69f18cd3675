"""A strict layer under requests: what it accepts as an answer is whole, or it is no answer.

http.client and urllib3 take a head that ends early for a complete one, stop at half a gzip stream, hand
out `103 Early Hints` as the answer, and wait for ever on a server that drips. The classes here refuse
the first three and put one deadline over head and body together; `read` takes the body in bounded pieces.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, LocationParseError, NameResolutionError
from urllib3.exceptions import TimeoutError as PoolTimeout
from urllib3.response import HTTPResponse
from urllib3.util import parse_url

from .errors import FetchError, ProtocolError, TransientError

_CHUNK = 65536
_HEAD = 262144
_INTERIM = 5
_MEMBERS = 1000


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


def session(limits: Limits, monotonic: Callable[[], float] = time.monotonic) -> requests.Session:
    """A requests session that is strict, keeps no cookies and reads nothing from the environment."""
    made = requests.Session()
    made.trust_env = False
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(limits, monotonic)
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made


def read(response: requests.Response, limits: Limits) -> bytes:
    """The whole body, inflated. TransientError if it was damaged on the way, ProtocolError if it is too large."""
    length = response.headers.get("Content-Length")
    if length is not None and not re.fullmatch(r"\d{1,15}(\s*,\s*\d{1,15})*", length, re.ASCII):
        raise TransientError("the answer gives no usable Content-Length")
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise ProtocolError("the answer is in a coding that was not asked for")
    pieces: list[bytes] = []
    taken = 0
    try:
        for piece in response.raw.stream(_CHUNK, decode_content=False):
            taken += len(piece)
            if taken > limits.wire:
                raise ProtocolError(f"the answer is larger than {limits.wire:,} bytes on the wire")
            pieces.append(piece)
    except ValueError:  # urllib3 takes a negative chunk size for a number
        raise TransientError("the answer's chunks are malformed") from None
    data = b"".join(pieces)
    return _inflate(data, limits.plain) if coding.endswith("gzip") and data else data


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port as urllib3 will use them. ProtocolError if there is a user name or no host."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise ProtocolError("the URL cannot be parsed") from None
    scheme = (parts.scheme or "").lower()
    if scheme not in ("http", "https") or not parts.host:
        raise ProtocolError("the URL is not an http or https URL with a host")
    if parts.auth is not None:
        raise ProtocolError("the URL holds a user name")
    return scheme, parts.host.lower().rstrip("."), parts.port or (443 if scheme == "https" else 80)


def cause(error: Exception) -> str:
    """What a failed attempt ran into, in our own words: the libraries' messages hold URLs."""
    seen: BaseException | None = error
    chain: list[BaseException] = []
    while seen is not None and len(chain) < 10:
        chain.append(seen)
        inner = next((a for a in seen.args if isinstance(a, BaseException)), None)
        seen = getattr(seen, "reason", None) if isinstance(getattr(seen, "reason", None), BaseException) else inner
    for link in chain:
        if isinstance(link, BrokenAnswerError):
            return str(link)
        if isinstance(link, NameResolutionError):
            return "the host name cannot be resolved"
    if any(isinstance(link, ConnectionRefusedError) or "refused" in str(link) for link in chain):
        return "the connection was refused"
    if any(isinstance(link, requests.Timeout | TimeoutError | PoolTimeout) for link in chain):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "IncompleteRead" in repr(error):
        return "the answer was cut short"
    return "the connection broke"


def untrusted(error: Exception, host: str) -> FetchError:
    """The error for a server that cannot be spoken to in TLS."""
    if "CERTIFICATE" not in repr(error).upper():
        return FetchError(f"{host} does not answer in TLS", hint="is it http:// rather than https://?")
    return FetchError(
        f"the certificate of {host} cannot be trusted",
        hint="is the host right, and the clock of this machine? a wrong date makes every certificate invalid",
    )


def _inflate(data: bytes, limit: int) -> bytes:
    plain: list[bytes] = []
    room = limit
    for _ in range(_MEMBERS):
        if not data:
            return b"".join(plain)
        member = zlib.decompressobj(31)
        try:
            piece = member.decompress(data, room + 1)
        except zlib.error:
            raise TransientError("the compressed answer is damaged") from None
        room -= len(piece)
        if room < 0:
            raise ProtocolError(f"the answer is larger than {limit:,} bytes")
        if not member.eof:
            raise TransientError("the compressed answer was cut short")
        plain.append(piece)
        data = member.unused_data.lstrip(b"\0")
    raise ProtocolError(f"the compressed answer has more than {_MEMBERS} parts")


class _Clocked(io.RawIOBase):
    """A socket's bytes until a deadline: each receive waits for what is left, at most the read timeout."""

    def __init__(self, raw: Any, sock: socket.socket, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._raw, self._sock, self._limits, self._monotonic = raw, sock, limits, monotonic
        self._end = monotonic() + limits.whole

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - self._monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(min(left, self._limits.read))
        taken: int | None = self._raw.readinto(buffer)
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
        self._taken += len(line)
        if self._taken > _HEAD:
            raise BrokenAnswerError("the answer's head does not end")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Body(HTTPResponse):
    """urllib3's body, which reads to the end of the connection when a chunk has a negative size."""

    def _update_chunk_length(self) -> None:
        super()._update_chunk_length()
        if self.chunk_left is not None and self.chunk_left < 0:
            raise BrokenAnswerError("the answer's chunks are malformed")


class _Adapter(HTTPAdapter):
    """requests' adapter over connections whose answers are strict."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._classes = _pools(limits, monotonic)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._classes


def _pools(limits: Limits, monotonic: Callable[[], float]) -> dict[str, Any]:
    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Clocked(raw, sock, limits, monotonic))

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
                if self.msg is not None and self.msg.defects:
                    raise BrokenAnswerError("the answer's head is malformed")
            finally:
                if isinstance(self.fp, _Head):
                    self.fp = inner

    class Plain(HTTPConnection):
        response_class = Answer

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            answer = super().getresponse()
            answer.__class__ = _Body
            return answer

    class Secure(HTTPSConnection):
        response_class = Answer

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            answer = super().getresponse()
            answer.__class__ = _Body
            return answer

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
