"""What an auth style is, and what one run makes of it.

A style is a frozen value that names variables. Most need no more than `sign`. One that has to ask a server
for a token, or has to remember something, offers `open` instead and gives a Signer that does. The client
only knows Signers: `opened` makes one of either.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..clock import Clock
from ..errors import CredentialsError
from .secrets import Environment, forget, given, secret

_TELLING = 8
_MOMENT = re.compile(r"[0-9TZ:.+-]+")
_PLAIN = {"accept", "content-length", "content-md5", "content-type", "date", "host", "user-agent"}
_KEPT = 64


class Signable(Protocol):
    """What a prepared request offers for signing."""

    method: str | None
    url: str | None
    headers: MutableMapping[str, str]
    body: Any


class Auth(Protocol):
    """How one API wants to be shown who asks. Beside this it has `sign` or `open`."""

    @property
    def optional(self) -> bool:
        """Whether the API also answers without."""

    def variables(self) -> tuple[str, ...]:
        """The environment variables it needs."""

    def secrets(self) -> tuple[str, ...]:
        """The variables that hold a secret: a user name beside a password is none."""

    def query(self) -> tuple[str, ...]:
        """The query parameters that carry a secret, or what changes with each request."""


@runtime_checkable
class Signs(Protocol):
    """A style that only puts secrets into a request."""

    def sign(self, request: Signable, environment: Environment) -> None:
        """Put the secrets into a request that is about to leave; CredentialsError without them."""


@runtime_checkable
class Opens(Protocol):
    """A style that asks a server for a token, or remembers something."""

    def open(self, context: Context) -> Signer:
        """What signs the requests of one run; nothing is sent yet."""


class Signer(Protocol):
    """Signs the requests of one run."""

    def ready(self, ahead: float) -> None:
        """Have what `sign` needs, for a request that leaves in so many seconds; may ask a server."""

    def sign(self, request: Signable) -> None:
        """Put the secrets into a request that is about to leave."""

    def secrets(self) -> Iterable[str]:
        """Everything secret that was in force in this run."""

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """Take note of an answer. True if the request is worth being signed and sent once more."""


@dataclass(frozen=True, slots=True)
class Told:
    """The answer of a token endpoint; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: Mapping[str, str] = field(default_factory=dict)


Send = Callable[[str, str, Mapping[str, str], bytes | None], Told]
"""Method, URL, headers and body of one request for a token: bounded, strict, never redirected. TransientError
if it failed in a way that may pass."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a style may use during one run."""

    environment: Environment
    clock: Clock
    base_url: str
    send: Send
    store: Path | None = None
    """The directory for what must outlive a run; None if this user has none."""
    turn: Callable[[], int] = lambda: 0
    """Which of several budgets the request goes on (see TokenPool)."""


@dataclass
class Bare:
    """A request with nothing in it, to see what a style puts there."""

    url: str | None = "https://host/"
    method: str | None = "GET"
    headers: MutableMapping[str, str] = field(default_factory=dict)
    body: Any = None


class Plain:
    """The Signer of a style that has `sign`: its secrets are read once, and again after a 401."""

    def __init__(self, auth: Any, environment: Environment) -> None:
        self._auth, self._environment = auth, environment
        self._lock, self._used = threading.Lock(), threading.local()
        self._seen: dict[str, None] = {}
        self._values = self._read()

    def ready(self, ahead: float) -> None:
        """Nothing: the secrets are there."""

    def sign(self, request: Signable) -> None:
        """As the style does it."""
        self._used.values = values = self._values
        self._auth.sign(request, values)

    def secrets(self) -> Iterable[str]:
        """The secrets, and the forms they take in a header."""
        return tuple(self._seen)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether there is another secret by now than the one shown: in its file, or printed by its command."""
        if status != 401:
            return False
        with self._lock:
            if self._used.values == self._values:
                for name in self._names():
                    forget(name, self._environment)
                self._values = self._read()
            return bool(self._used.values != self._values)

    def _names(self) -> list[str]:
        return list(dict.fromkeys((*self._auth.variables(), *self._auth.secrets())))

    def _read(self) -> dict[str, str]:
        needed = self._auth.variables()
        values = {
            name: secret(name, self._environment)
            for name in self._names()
            if name in needed or given(name, self._environment)
        }
        bare = Bare()
        self._auth.sign(bare, values)
        sent = [value.rpartition(" ")[2] for value in bare.headers.values()]
        self._seen |= dict.fromkeys([*(values[name] for name in self._auth.secrets() if name in values), *sent])
        return values


class Watched:
    """Keeps what a signer put into requests, for masking."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._seen))

    def note(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Remember what is new in the headers, but for what only tells the time: links may tell it too."""
        for name, value in after.items():
            if before.get(name) != value and name.lower() not in _PLAIN and not _MOMENT.fullmatch(value):
                self.keep(value, value.rpartition(" ")[2])

    def keep(self, *parts: str) -> None:
        """Remember these; of very much the latest."""
        self._seen |= dict.fromkeys(part for part in parts if len(part) >= _TELLING)
        for old in list(self._seen)[:-_KEPT]:
            self._seen.pop(old, None)


def opened(auth: Auth, context: Context) -> Signer:
    """The signer of a style for one run. CredentialsError if a secret is missing."""
    return auth.open(context) if isinstance(auth, Opens) else Plain(auth, context.environment)


def identity(auth: Auth | None, environment: Environment) -> ssl.SSLContext | None:
    """The TLS context with the client's own certificate, of a style that has one."""
    make = getattr(auth, "identity", None)
    made: ssl.SSLContext | None = make(environment) if make else None
    return made


def is_set(auth: Auth, environment: Environment) -> bool:
    """Whether every variable the style needs holds something, or says where it is."""
    return all(given(name, environment) for name in auth.variables())


def need(auth: Auth, environment: Environment) -> None:
    """CredentialsError for the first variable that is missing, cannot be read, or holds what cannot be sent."""
    for name in auth.variables():
        secret(name, environment, lines=name in getattr(auth, "keys", ()))


def values(names: Iterable[str], environment: Environment) -> list[str]:
    """The secrets of those variables that have one, whatever may be wrong with the others."""
    found = []
    for name in names:
        try:
            found.append(secret(name, environment, lines=True))
        except CredentialsError:
            continue
    return found
