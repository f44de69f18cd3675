"""Credentials: where a secret comes from and where it goes. Read when sending, never stored.

Each style is a value that names environment variables. `sign` puts the secrets into a request that
is about to leave; `query` names the parameters that carry one, so that they are taken out of every
link the API hands back. Nothing here ends up in a Request, a checkpoint, a reject or a message.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, quote_plus

from .errors import ConfigError, CredentialsError

Environment = Mapping[str, str]


class Signable(Protocol):
    """What a prepared request offers for signing."""

    url: str | None
    headers: MutableMapping[str, str]


class Auth(Protocol):
    """How one API wants to be shown who asks."""

    @property
    def optional(self) -> bool:
        """Whether the API also answers without."""

    def variables(self) -> tuple[str, ...]:
        """The environment variables it reads."""

    def secrets(self) -> tuple[str, ...]:
        """Those of them that hold a secret: a user name beside a password is none."""

    def query(self) -> tuple[str, ...]:
        """The query parameters that carry a secret."""

    def sign(self, request: Signable, environment: Environment) -> None:
        """Put the secrets into a request that is about to leave; CredentialsError without them."""


def secret(name: str, environment: Environment) -> str:
    """The secret in an environment variable, without the newline that `echo` and editors add.

    CredentialsError if it is missing, empty, or holds a character that no HTTP header can.
    """
    value = environment.get(name, "").strip()
    if not value:
        raise CredentialsError(
            f"the environment variable {name} is not set",
            hint=f"export {name}=… or write {name}=… into a file called .env here",
        )
    if not value.isascii() or not value.isprintable():
        raise CredentialsError(
            f"the environment variable {name} holds a character that cannot be sent",
            hint=f"set {name} again: it must be one line of printable ASCII",
        )
    return value


def variable(name: str) -> None:
    """Refuse what cannot be an environment variable, without showing it: it may be the secret itself. ConfigError."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigError(
            "what should be the name of an environment variable cannot be one",
            hint='name the variable that holds the secret, as in env="SHOP_TOKEN"; never the secret itself',
        )


def is_set(auth: Auth, environment: Environment) -> bool:
    """Whether every variable the style needs holds something."""
    return all(environment.get(name, "").strip() for name in auth.variables())


def mask(content: bytes, secrets: Iterable[str]) -> bytes:
    """The content with every secret as `***`, also where it is percent-encoded or escaped for JSON."""
    for value in secrets:
        escaped = json.dumps(value)[1:-1]
        forms = {value, quote(value), quote(value, safe=""), quote_plus(value), escaped, escaped.replace("/", "\\/")}
        forms |= {re.sub("%..", lambda match: match.group().lower(), form) for form in forms if "%" in form}
        longest = sorted(forms, key=len, reverse=True)
        content = re.sub("|".join(map(re.escape, longest)).encode(), b"***", content)
    return content


@dataclass(frozen=True, slots=True)
class Bearer:
    """`Authorization: Bearer <token>` (RFC 6750); another scheme or header where an API wants one."""

    env: str
    optional: bool = False
    scheme: str = "Bearer"
    header: str = "Authorization"

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable."""
        variable(self.env)

    def variables(self) -> tuple[str, ...]:
        """The variable that holds the token."""
        return (self.env,)

    secrets = variables

    def query(self) -> tuple[str, ...]:
        """None: the token travels in a header."""
        return ()

    def sign(self, request: Signable, environment: Environment) -> None:
        """Set the header."""
        request.headers[self.header] = f"{self.scheme} {secret(self.env, environment)}"


@dataclass(frozen=True, slots=True)
class Basic:
    """HTTP Basic (RFC 7617). `username` is an environment variable; without `password`, the password is empty."""

    username: str
    password: str | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable."""
        for name in self.variables():
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables that hold the user name and the password."""
        return (self.username, self.password) if self.password else (self.username,)

    def secrets(self) -> tuple[str, ...]:
        """The password's; without one the user name is the secret."""
        return (self.password or self.username,)

    def query(self) -> tuple[str, ...]:
        """None: the pair travels in a header."""
        return ()

    def sign(self, request: Signable, environment: Environment) -> None:
        """Set the header."""
        user = secret(self.username, environment)
        password = secret(self.password, environment) if self.password else ""
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.headers["Authorization"] = f"Basic {pair}"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key in a header or, where an API knows no better, in a query parameter. Exactly one of the two."""

    env: str
    header: str | None = None
    param: str | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse a key that goes nowhere, or to two places."""
        variable(self.env)
        if (self.header is None) == (self.param is None):
            raise ConfigError("ApiKey needs either header= or param=")

    def variables(self) -> tuple[str, ...]:
        """The variable that holds the key."""
        return (self.env,)

    secrets = variables

    def query(self) -> tuple[str, ...]:
        """The parameter that carries the key, if it is one."""
        return (self.param,) if self.param else ()

    def sign(self, request: Signable, environment: Environment) -> None:
        """Set the header, or add the parameter."""
        value = secret(self.env, environment)
        if self.header:
            request.headers[self.header] = value
        else:
            url = request.url or ""
            request.url = f"{url}{'&' if '?' in url else '?'}{quote(self.param or '')}={quote(value, safe='')}"
