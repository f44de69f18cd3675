"""AWS Signature Version 4, which other vendors' APIs use too."""

from __future__ import annotations

import hashlib
import hmac
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .secrets import given, secret, variable
from .signing import content, host
from .style import Context, Signable, Watched

_UNSIGNED = ("accept", "accept-encoding", "authorization", "connection", "content-length", "user-agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigV4:
    """AWS Signature Version 4 for a service in a region.

    The names of the variables are AWS's own; the session token counts where it is set.
    """

    service: str
    region: str
    access_key: str = "AWS_ACCESS_KEY_ID"
    secret_key: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 the name of a variable
    session_token: str = "AWS_SESSION_TOKEN"  # noqa: S105 the same
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable."""
        for name in (*self.variables(), self.session_token):
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables of the key's public name and the key."""
        return (self.access_key, self.secret_key)

    def secrets(self) -> tuple[str, ...]:
        """The key's, and the session token's."""
        return (self.secret_key, self.session_token)

    def query(self) -> tuple[str, ...]:
        """None: the signature travels in a header."""
        return ()

    def open(self, context: Context) -> _Signing:
        """What signs the requests of one run."""
        return _Signing(self, context)


class _Signing:
    """Signs with one key."""

    def __init__(self, style: SigV4, context: Context) -> None:
        self._style, self._clock, self._sent = style, context.clock, Watched()
        self._name, self._key = (secret(name, context.environment) for name in style.variables())
        here = given(style.session_token, context.environment)
        self._session = secret(style.session_token, context.environment) if here else ""

    def ready(self, ahead: float) -> None:
        """Nothing: a signature is made when the request leaves."""

    def sign(self, request: Signable) -> None:
        """Set the date and the signature; the query is rewritten as it is signed."""
        style, moment = self._style, self._clock.now().astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        body = hashlib.sha256(content(request)).hexdigest()
        request.url = _canonical(request.url or "")
        request.headers["X-Amz-Date"] = moment
        if self._session:
            request.headers["X-Amz-Security-Token"] = self._session
        if style.service == "s3":
            request.headers["X-Amz-Content-SHA256"] = body
        headers = {"host": host(request.url)}
        for name, value in request.headers.items():
            if name.lower() not in _UNSIGNED:
                headers[name.lower()] = re.sub(r"\s+", " ", str(value).strip())
        signed = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        parts = urlsplit(request.url)
        asked = "\n".join((request.method or "GET", _path(parts.path, style.service), parts.query, lines, signed, body))
        scope = f"{moment[:8]}/{style.region}/{style.service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        key = f"AWS4{self._key}".encode()
        for piece in scope.split("/"):
            key = hmac.digest(key, piece.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        self._sent.keep(signature)
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._name}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )

    def secrets(self) -> Iterable[str]:
        """The key, the session token, and the latest signatures."""
        return (*filter(None, (self._key, self._session)), *self._sent)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """No: another signature would be refused as well."""
        return False


def _canonical(url: str) -> str:
    """The URL with its query in AWS's one way of writing it, sorted: then there is no doubt about a plus or a tilde."""
    parts = urlsplit(url)
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    coded = sorted((_coded(name), _coded(value)) for name, _, value in pairs)
    return urlunsplit(parts._replace(query="&".join(f"{name}={value}" for name, value in coded)))


def _coded(text: str) -> str:
    return quote(unquote(text.replace("+", " ")), safe="-_.~")


def _path(path: str, service: str) -> str:
    """The path as it is signed: S3 takes it as it is sent, everybody else encodes it once more."""
    if service == "s3":
        return path or "/"
    whole = re.sub("/+", "/", posixpath.normpath(path or "/")) + ("/" if path.endswith(("/", "/.", "/..")) else "")
    return quote(re.sub("/+", "/", whole), safe="/-_.~")
