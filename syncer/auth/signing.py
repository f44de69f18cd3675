"""A signature for each request, made with a secret that itself is never sent: HMAC by a declared template."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import string
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal
from urllib.parse import urlsplit

from ..errors import ConfigError, CredentialsError
from .keys import add
from .secrets import secret, variable
from .style import Context, Signable, Watched

Encoding = Literal["hex", "base64"]

_CODERS: dict[str, Callable[[bytes], str]] = {
    "hex": lambda data: data.hex(),
    "base64": lambda data: base64.b64encode(data).decode(),
}
_ALGORITHMS = ("sha1", "sha256", "sha384", "sha512", "md5")
_PLACES = (
    *("method", "host", "path", "query", "target", "url", "body", "body_hash", "body_hash_base64"),
    *("timestamp", "timestamp_ms", "timestamp_iso", "date", "nonce", "key"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hmac:
    """HMAC over what the template `signs` says, put into headers or a query parameter.

    `secret` is the variable of the signing secret, `key` of the public name it goes by. `signs`, `headers` and
    `params` are templates of {method}, {host}, {path}, {query}, {target} (path and query), {url}, {body},
    {body_hash}, {body_hash_base64}, {timestamp}, {timestamp_ms}, {timestamp_iso}, {date}, {nonce} and {key};
    `headers` also of {signature}. `params` are added before anything is signed; `param` is the one that
    takes the signature. All values of one request are of one moment; {nonce} rises with each.
    """

    secret: str
    signs: str
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    param: str | None = None
    algorithm: str = "sha256"
    encoding: Encoding = "hex"
    written: Literal["text", "hex", "base64"] = "text"
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse names that are none, templates with unknown places, and a signature that goes nowhere."""
        for name in self.variables():
            variable(name)
        if self.algorithm not in _ALGORITHMS or self.encoding not in _CODERS:
            raise ConfigError(f"Hmac knows the algorithms {', '.join(_ALGORITHMS)} and the encodings hex and base64")
        _known([self.signs, *self.params.values()], _PLACES)
        if "signature" not in _known(self.headers.values(), (*_PLACES, "signature")) and not self.param:
            raise ConfigError(
                "the signature goes nowhere", hint='add headers={"X-Signature": "{signature}"}, or param='
            )

    def variables(self) -> tuple[str, ...]:
        """The variables of the secret and of its public name."""
        return (self.secret, self.key) if self.key else (self.secret,)

    def secrets(self) -> tuple[str, ...]:
        """The secret's."""
        return (self.secret,)

    def query(self) -> tuple[str, ...]:
        """The parameters that are added to each request."""
        return (*self.params, self.param) if self.param else tuple(self.params)

    def open(self, context: Context) -> _Signing:
        """What signs the requests of one run."""
        return _Signing(self, context)


class _Signing:
    """Remembers the last nonce."""

    def __init__(self, style: Hmac, context: Context) -> None:
        self._style, self._clock = style, context.clock
        self._value = secret(style.secret, context.environment)
        self._key = secret(style.key, context.environment) if style.key else ""
        self._bytes = _decoded(self._value, style)
        self._lock, self._nonce, self._sent = threading.Lock(), 0, Watched()

    def ready(self, ahead: float) -> None:
        """Nothing: a signature is made when the request leaves."""

    def sign(self, request: Signable) -> None:
        """Add the parameters, sign, and set the headers."""
        style, places = self._style, self._moment()
        for param, template in style.params.items():
            add(request, param, template.format_map({**places, **_parts(request, style.algorithm)}))
        places |= _parts(request, style.algorithm)
        # Percent-encoded as sent; a body may be any bytes, which latin-1 carries through the template and back.
        text = style.signs.format_map(places).encode("latin-1")
        signature = _CODERS[style.encoding](hmac.new(self._bytes, text, style.algorithm).digest())
        for header, template in style.headers.items():
            request.headers[header] = template.format_map({**places, "signature": signature})
        if style.param:
            add(request, style.param, signature)
        self._sent.keep(signature)

    def secrets(self) -> Iterable[str]:
        """The secret, and the latest signatures."""
        return (self._value, *self._sent)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """No: another signature would be refused as well."""
        return False

    def _moment(self) -> dict[str, str]:
        now = self._clock.now().astimezone(UTC)
        micros = (now - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
        with self._lock:
            self._nonce = max(self._nonce + 1, micros)
            nonce = self._nonce
        return {
            "timestamp": str(micros // 10**6),
            "timestamp_ms": str(micros // 1000),
            "timestamp_iso": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "date": format_datetime(now, usegmt=True),
            "nonce": str(nonce),
            "key": self._key,
        }


_MICROSECOND = datetime.resolution


def content(request: Signable) -> bytes:
    """The body of a request as it will be sent."""
    body = request.body or b""
    return body.encode() if isinstance(body, str) else bytes(body)


def host(url: str) -> str:
    """The Host header of a URL: the port only where it is not the scheme's own."""
    parts = urlsplit(url)
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return name if parts.port in (None, usual) else f"{name}:{parts.port}"


def _parts(request: Signable, algorithm: str) -> dict[str, str]:
    url, body = request.url or "", content(request)
    parts = urlsplit(url)
    hashed = hashlib.new(algorithm, body, usedforsecurity=False).digest()
    return {
        "method": request.method or "GET",
        "host": host(url),
        "path": parts.path or "/",
        "query": parts.query,
        "target": (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        "url": url,
        "body": body.decode("latin-1"),
        "body_hash": hashed.hex(),
        "body_hash_base64": base64.b64encode(hashed).decode(),
    }


def _decoded(value: str, style: Hmac) -> bytes:
    try:
        if style.written == "base64":
            return base64.b64decode(value, validate=True)
        return bytes.fromhex(value) if style.written == "hex" else value.encode()
    except (ValueError, binascii.Error):
        raise CredentialsError(
            f"{style.secret} is not written in {style.written}", hint=f"set {style.secret} as you got it"
        ) from None


def _known(templates: Iterable[str], places: tuple[str, ...]) -> set[str]:
    """The places in templates; ConfigError for one that means nothing."""
    found: set[str] = set()
    for template in templates:
        try:
            named = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        except ValueError:
            raise ConfigError("a template's braces do not match", hint="a brace itself is written {{ or }}") from None
        if not template.isascii():
            raise ConfigError("a template holds a character that cannot be sent", hint="only ASCII can")
        if strange := named - set(places):
            raise ConfigError(f"a template cannot hold {{{min(strange)}}}", hint=f"there are {', '.join(places)}")
        found |= named
    return found
