"""Tokens that a server gives: asked for at a declared URL, renewed before they expire and after a 401."""

from __future__ import annotations

import ipaddress
import json
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from ..errors import ConfigError, CredentialsError, ProtocolError, SyncerError, TransientError
from ..page import JSON
from .secrets import mask
from .style import Context, Signable, Told

LONGEST = 366 * 86400.0
_LARGEST = 16384
_LEEWAY = 60.0
_TELLING = 8
_KEPT = 64
REFUSED = (400, 401, 403)
_LATER = ("temporarily_unavailable", "server_error", "slow_down")


@dataclass(frozen=True, slots=True)
class Token:
    """A token, for how many seconds it is good if that is known, and what it can be renewed with."""

    value: str
    lasts: float | None = None
    refresh: str = ""


class Fetched:
    """The Signer of a style whose token comes from a server.

    `fetch` asks for one, and is told the one that is no longer good; `put` puts it into a request.
    """

    def __init__(
        self,
        context: Context,
        fetch: Callable[[str], Token],
        put: Callable[[Signable, str], None],
        secrets: Iterable[str] = (),
        stale: tuple[int, ...] = (401,),
    ) -> None:
        self._clock, self._fetch, self._put, self._stale = context.clock, fetch, put, stale
        self._secrets, self._given = tuple(secrets), dict[str, None]()
        self._lock = threading.RLock()
        self._token: Token | None = None
        self._due = self._good = math.inf
        self._used = threading.local()

    def ready(self, ahead: float) -> None:
        """Have a token that is still good when the request leaves, unless none is good for so long."""
        with self._lock:
            left = self._due - self._clock.monotonic()
            if self._token is None or left <= 0 or left <= ahead < self._good:
                self._take()

    def sign(self, request: Signable) -> None:
        """Put the token in; one that has expired meanwhile is renewed first."""
        with self._lock:
            self.ready(0.0)
            self._used.value = self._token.value if self._token else ""
            self._put(request, self._used.value)

    def secrets(self) -> Iterable[str]:
        """The secrets that get tokens, and the latest tokens."""
        return (*self._secrets, *self._given)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """Get another token for one that was refused, unless there is another one by now."""
        if status not in self._stale:
            return False
        with self._lock:
            if self._token and self._token.value == self._used.value:
                self._take()
        return True

    def _take(self) -> None:
        began = self._clock.monotonic()
        try:
            token = self._fetch(self._token.value if self._token else "")
        except SyncerError as error:
            error.message = self._safe(error.message)
            raise
        except TransientError as error:
            error.reason = self._safe(error.reason)
            raise
        self._given |= dict.fromkeys(filter(None, (token.value, token.refresh)))
        for old in list(self._given)[:-_KEPT]:
            del self._given[old]
        self._good = math.inf if token.lasts is None else token.lasts - min(_LEEWAY, token.lasts / 10)
        self._token, self._due = token, began + self._good

    def _safe(self, text: str) -> str:
        """A message without secrets: the name of an error in it is the server's."""
        return mask(text.encode(), [value for value in self.secrets() if len(value) >= _TELLING]).decode()


def checked(url: str) -> None:
    """Refuse an address that a secret must not be sent to. ConfigError."""
    if not (url.isascii() and url.isprintable() and _sound(url)):
        raise ConfigError(
            "the address that tokens come from is not an https address",
            hint='write it whole, as in "https://login.example.com/token", or as a path of the API\'s host: "/token"',
        )


def whole(context: Context, url: str) -> str:
    """The address that a declared one stands for; a path is one of the API's host, whatever the base URL's path."""
    return urljoin(context.base_url, url) if url.startswith("/") else url


def shown(url: str) -> str:
    """An address as a message may name it."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def ask(context: Context, url: str, form: Mapping[str, str], headers: Mapping[str, str], who: Iterable[str]) -> Token:
    """A token from an OAuth2 token endpoint (RFC 6749, section 5). `who` are the variables to blame."""
    url = whole(context, url)
    head = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **headers}
    told = context.send("POST", url, head, urlencode(form).encode())
    document = answer(told, url, who)
    return Token(text(document, "access_token", url), seconds(document.get("expires_in")), _refresh(document, url))


def answer(told: Told, url: str, who: Iterable[str], refused: tuple[int, ...] = REFUSED) -> dict[str, JSON]:
    """The JSON object in the answer of a token endpoint; what else it may be is raised."""
    if document := accepted(told, url, who, refused):
        return document
    raise ProtocolError(f"{shown(url)} answered something that is not a JSON object", hint="does it give tokens?")


def accepted(
    told: Told, url: str, who: Iterable[str], refused: tuple[int, ...] = REFUSED, *, redirects: bool = False
) -> dict[str, JSON]:
    """The JSON object in an answer that refuses nothing, empty if there is none; what else it may be is raised.

    `refused` are the statuses that blame the variables `who`. With `redirects` an answer may be one, which
    is not followed.
    """
    place = shown(url)
    try:
        document = json.loads(told.body)
    except (ValueError, RecursionError):
        document = None
    document = document if isinstance(document, dict) else {}
    code = document.get("error")
    code = code if isinstance(code, str) and re.fullmatch(r"[A-Za-z_.-]{1,60}", code) else ""
    said = f"{place} answered {told.status}" + (f" ({code})" if code else "")
    if code in _LATER:
        raise TransientError(said)
    if told.status in refused or (code and told.status < 300):
        raise CredentialsError(
            said, hint=f"check {', '.join(who)}: right, not expired, not revoked, and allowed to do this?"
        )
    if 300 <= told.status < 400 and not redirects:
        raise ProtocolError(f"{place} redirects; credentials do not follow", hint="declare where tokens come from")
    if told.status >= 400:
        raise ConfigError(f"{said} instead of a token", hint="check the address in the connector")
    return document


def text(document: Mapping[str, JSON], name: str, url: str) -> str:
    """A token in an answer, once it is sure that it can be sent. ProtocolError if not."""
    return token(document.get(name), url, name)


def token(value: Any, url: str, name: str) -> str:
    """A value, once it is sure that it is a token that can be sent. ProtocolError if not."""
    if usable(value):
        return str(value).strip()
    raise ProtocolError(f"the answer of {shown(url)} has no {name} that can be used", hint="does it give tokens?")


def usable(value: Any) -> bool:
    """Whether a value is a token that can be sent."""
    text = value if isinstance(value, str) and len(value) <= _LARGEST else ""
    return bool(text.strip()) and text.isascii() and text.isprintable()


def seconds(value: Any) -> float | None:
    """How long a token is good, by its `expires_in`; None if that is nothing to go by."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value):
        return None
    try:
        lasts = float(value)
    except OverflowError:
        return None
    return min(lasts, LONGEST) if lasts > 0 and math.isfinite(lasts) else None


def _sound(url: str) -> bool:
    """Whether an address is a path, https, or on this machine."""
    if url.startswith("/"):
        return not url.startswith(("//", "/\\"))
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost"
    return bool(host) and parts.username is None and (parts.scheme == "https" or (near and parts.scheme == "http"))


def _refresh(document: Mapping[str, JSON], url: str) -> str:
    return text(document, "refresh_token", url) if document.get("refresh_token") else ""
