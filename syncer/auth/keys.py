"""Secrets that go into a request as they are: bearer tokens, passwords and keys."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from ..errors import ConfigError, CredentialsError
from .secrets import Environment, secret, variable
from .style import Signable


def add(request: Signable, param: str, value: str) -> None:
    """Put a parameter at the end of the query."""
    url, mark, fragment = (request.url or "").partition("#")
    request.url = f"{url}{'&' if '?' in url else '?'}{quote(param, safe='')}={quote(value, safe='')}{mark}{fragment}"


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
        request.headers[self.header] = f"{self.scheme} {secret(self.env, environment)}".lstrip()


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
        """Set the header. CredentialsError for a user name that would end too early."""
        user = secret(self.username, environment)
        if ":" in user and self.password:
            raise CredentialsError(
                f"{self.username} holds a colon, which no user name of HTTP Basic can",
                hint=f"set {self.username} to the name alone and {self.password} to the password",
            )
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
        if bool(self.header) == bool(self.param):
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
            add(request, self.param or "", value)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Several keys that go together: `headers` and `params` map each name to the variable of its secret."""

    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse keys without a key."""
        if not self.variables():
            raise ConfigError("ApiKeys needs headers= or params=")
        for name in self.variables():
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables that hold the keys."""
        return tuple(dict.fromkeys((*self.headers.values(), *self.params.values())))

    secrets = variables

    def query(self) -> tuple[str, ...]:
        """The parameters that carry one."""
        return tuple(self.params)

    def sign(self, request: Signable, environment: Environment) -> None:
        """Set the headers, and add the parameters."""
        for header, name in self.headers.items():
            request.headers[header] = secret(name, environment)
        for param, name in self.params.items():
            add(request, param, secret(name, environment))
