"""A strict session of requests: what it accepts as an answer is whole, or it is no answer.

What comes over a connection is judged in `strict`; `read` takes the body in bounded pieces and inflates it
itself, because requests stops at half a gzip stream; `sender` asks for tokens.
"""

from __future__ import annotations

import os
import re
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import (
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.exceptions import TimeoutError as PoolTimeout
from urllib3.util import parse_url

from . import network
from .answers import LIMITS, RETRYABLE
from .auth import Send, Told
from .errors import CredentialsError, FetchError, ProtocolError, SyncerError, TransientError
from .limits import retry_after
from .moments import http_date
from .peers import Peers
from .strict import Adapter
from .strict import BrokenAnswerError as BrokenAnswerError
from .strict import Limits as Limits
from .strict import StaleConnectionError as StaleConnectionError

_CHUNK = 65536
_MEMBERS = 1000
_GZIP = b"\x1f\x8b"
_SMALL = 2**20
_PLAIN = {"User-Agent": "syncer", "Accept-Encoding": "identity"}


def session(
    limits: Limits,
    monotonic: Callable[[], float] = time.monotonic,
    identity: ssl.SSLContext | None = None,
    home: str | None = None,
) -> requests.Session:
    """A requests session that is strict, keeps no cookies and reads nothing from the environment.

    `identity` is a TLS context with a certificate of the client's own, `home` the API's host (see Peers).
    """
    made = requests.Session()
    made.trust_env = False
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = Adapter(limits, monotonic, identity, Peers(home))
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made


def read(response: requests.Response, limits: Limits) -> bytes:
    """The whole body, inflated. TransientError if it is not what was asked for, ProtocolError if it is too large."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise TransientError("the answer is in a coding that was not asked for", evidence=b"")
    pieces: list[bytes] = []
    taken = 0
    for piece in response.raw.stream(_CHUNK, decode_content=False):
        taken += len(piece)
        if taken > limits.wire:
            raise ProtocolError(f"the answer is larger than {limits.wire:,} bytes on the wire")
        pieces.append(piece)
    data = b"".join(pieces)
    if not coding and data.startswith(_GZIP):
        raise TransientError("the answer is compressed and does not say so", evidence=b"")
    return _inflate(data, limits.plain) if coding.endswith("gzip") and data else data


def destination(url: str) -> network.Origin:
    """The origin of a URL once it is prepared for sending. ProtocolError if it cannot be, or has none."""
    try:
        prepared = requests.Request("GET", url).prepare()
    except (requests.RequestException, ValueError):
        raise ProtocolError("the API hands out a URL that cannot be parsed") from None
    return origin(prepared.url or "")


def origin(url: str) -> network.Origin:
    """Scheme, host and port as they will be used. ProtocolError if there is a user name or no host.

    urllib3 asks by its own reading of a URL, and requests connects by that of the standard library; a URL that
    the two read differently is refused.
    """
    try:
        parts, other = parse_url(url), urlsplit(url)
        same = (parts.scheme, parts.port) == (other.scheme, other.port)
    except (LocationParseError, ValueError):
        raise ProtocolError("the URL cannot be parsed") from None
    scheme = (parts.scheme or "").lower()
    if scheme not in ("http", "https") or not parts.host:
        raise ProtocolError("the URL is not an http or https URL with a host")
    if parts.auth is not None or other.username is not None:
        raise ProtocolError("the URL holds a user name")
    host = parts.host.lower()
    if not same or host.strip("[]") != other.hostname:
        raise ProtocolError("the URL can be read in two ways")
    return scheme, host.removesuffix("."), parts.port or (443 if scheme == "https" else 80)


def sender(
    session: requests.Session, limits: Limits, now: Callable[[], datetime], environment: Mapping[str, str]
) -> Send:
    """What sends requests for tokens: to the address given and no other, for a small answer, at once."""
    small = replace(limits, wire=_SMALL, plain=_SMALL)

    def send(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Told:
        _, host, _ = place = origin(url)
        via, trusted = network.route(place, environment), network.bundle(environment)
        try:
            prepared = requests.Request(method, url, headers={**_PLAIN, **headers}, data=body).prepare()
            wait = (limits.connect, limits.read)
            sent = session.get_adapter(url).send(prepared, stream=True, timeout=wait, verify=trusted, proxies=via)
            with sent as answer:
                content = b"" if answer.is_redirect else read(answer, small)
        except TransientError as error:
            raise TransientError(f"{host}, asked for a token: {error.reason}") from None
        except ProtocolError as error:
            raise ProtocolError(f"{host}, asked for a token: {error.message}", hint=error.hint) from None
        except requests.exceptions.SSLError as error:
            raise untrusted(error, host) from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise TransientError(f"{host}, asked for a token: {cause(error)}") from None
        named = {name.lower(): value for name, value in answer.headers.items()}
        status = answer.status_code
        if status in RETRYABLE + LIMITS:
            asked = retry_after(named, None, http_date(named.get("date", "")) or now()) or 0.0
            raise TransientError(f"{host}, asked for a token, answered {status}", wait=asked, limited=status in LIMITS)
        cookies = [line.partition(";")[0].partition("=") for line in answer.raw.headers.getlist("set-cookie")]
        return Told(status, named, content, {name.strip(): value.strip() for name, _, value in cookies})

    return send


def cause(error: Exception) -> str:
    """What a failed attempt ran into, in our own words: the libraries' messages hold URLs."""
    chain = _chain(error)
    by = "the proxy: " if isinstance(error, requests.exceptions.ProxyError) else ""
    for link in chain:
        if isinstance(link, BrokenAnswerError):
            return str(link)
        if isinstance(link, NameResolutionError):
            return f"{by}the host name cannot be resolved"
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"{by}its certificate {_distrust(link)}"
    if any(isinstance(link, ConnectionRefusedError) or "refused" in str(link) for link in chain):
        return f"{by}the connection was refused"
    for link in chain:
        if isinstance(link, NewConnectionError) and isinstance(link.__cause__, OSError) and link.__cause__.errno:
            return f"{by}{os.strerror(link.__cause__.errno).lower()}"
    if any(isinstance(link, requests.Timeout | TimeoutError | PoolTimeout) for link in chain):
        return f"{by}the server did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "IncompleteRead" in repr(error):
        return "the answer was cut short"
    return f"{by}the connection broke"


def untrusted(error: Exception, host: str, variables: str = "") -> SyncerError:
    """The error for a server that cannot be spoken to in TLS; `variables` are those of our own certificate, if any."""
    said = repr(error).upper()
    if "ALERT_HANDSHAKE_FAILURE" in said and not variables:
        return FetchError(
            f"{host} ends the TLS handshake",
            hint="does it want a certificate of the client's (auth=ClientCertificate(…)), or another version of TLS?",
        )
    if re.search(r"ALERT_[A-Z_]*(CERT|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE)", said):
        return CredentialsError(
            f"{host} refuses the client's certificate, or the lack of one",
            hint=f"check {variables}: is it one that this server knows, and has it not expired?"
            if variables
            else "an API that wants one needs auth=ClientCertificate(…) in its connector",
        )
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return FetchError(
                f"the certificate of {host} {_distrust(link)}",
                hint="nothing was sent; is the host right, and the clock of this machine? an authority of your own"
                f" is named by {network.BUNDLE}",
            )
    return FetchError(f"{host} does not answer in TLS", hint="is it http:// rather than https://?")


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those it was made of."""
    chain: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < 10:
        chain.append(seen)
        inner = next((a for a in seen.args if isinstance(a, BaseException)), None)
        seen = getattr(seen, "reason", None) if isinstance(getattr(seen, "reason", None), BaseException) else inner
    return chain


_DISTRUST = {
    9: "is not valid yet",
    10: "has expired",
    18: "is signed by itself",
    62: "is for another host",
    64: "is for another host",
}
"""OpenSSL's numbers for what is wrong with a certificate."""


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    return _DISTRUST.get(getattr(error, "verify_code", 0), "is signed by nobody that is trusted here")


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
