"""OAuth2 (RFC 6749) for programs: client credentials, and a refresh token that somebody got by logging in."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import quote

from ..errors import ConfigError, CredentialsError, SinkError
from ..page import digest
from . import store
from .secrets import secret, variable
from .style import Context, Signable
from .tokens import Fetched, Token, ask, checked, seconds, usable

Place = Literal["header", "form"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """OAuth2 client credentials: the program's own id and secret get a token, and another when it expires.

    `send` says where the two go: the Authorization header of the token request, or its form. `extra` are
    further fields of that form. `scheme` and `header` say how the API wants the token.
    """

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""
    audience: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    send: Place = "header"
    scheme: str = "Bearer"
    header: str = "Authorization"
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable, and an address that a secret must not go to."""
        _declared(self.token_url, self.send, self.variables())

    def variables(self) -> tuple[str, ...]:
        """The variables that hold the id and the secret."""
        return (self.client_id, self.client_secret)

    def secrets(self) -> tuple[str, ...]:
        """The secret's."""
        return (self.client_secret,)

    def query(self) -> tuple[str, ...]:
        """None: the token travels in a header."""
        return ()

    def open(self, context: Context) -> Fetched:
        """Tokens for one run."""
        own, password = (secret(name, context.environment) for name in self.variables())

        def fetch(refused: str) -> Token:
            wanted = {"scope": self.scope, "audience": self.audience, **self.extra}
            form, headers = identified(own, password, self.send)
            form |= {"grant_type": "client_credentials", **{name: value for name, value in wanted.items() if value}}
            return ask(context, self.token_url, form, headers, self.variables())

        return Fetched(context, fetch, bearer(self.header, self.scheme), coded(own, password))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """OAuth2 with a refresh token. One that the API replaces whenever it is used is kept in a private file.

    `refresh_token` is the variable of the first one; `client_secret` may be absent for a public client.
    """

    token_url: str
    client_id: str
    refresh_token: str
    client_secret: str | None = None
    scope: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    send: Place = "header"
    scheme: str = "Bearer"
    header: str = "Authorization"
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable, and an address that a secret must not go to."""
        _declared(self.token_url, self.send, self.variables())

    def variables(self) -> tuple[str, ...]:
        """The variables that hold the id, the secret and the first refresh token."""
        return (self.client_id, *self.secrets())

    def secrets(self) -> tuple[str, ...]:
        """The secret's and the refresh token's."""
        return (self.client_secret, self.refresh_token) if self.client_secret else (self.refresh_token,)

    def query(self) -> tuple[str, ...]:
        """None: the token travels in a header."""
        return ()

    def open(self, context: Context) -> Fetched:
        """Tokens for one run, and for those after it."""
        own, first = secret(self.client_id, context.environment), secret(self.refresh_token, context.environment)
        password = secret(self.client_secret, context.environment) if self.client_secret else ""
        # A refresh token from a new login is another file: what an older one led to has no say any more.
        again = f"log in again and set {self.refresh_token} to the new one"
        name = digest(repr(("refresh token", self.token_url, own, first)).encode(), 16)

        def asked(refresh: str) -> Token:
            form, headers = identified(own, password, self.send) if password else ({"client_id": own}, {})
            form |= {"grant_type": "refresh_token", "refresh_token": refresh, **self.extra}
            form |= {"scope": self.scope} if self.scope else {}
            try:
                return ask(context, self.token_url, form, headers, self.variables())
            except CredentialsError as error:
                error.hint += f" if the refresh token is used up, {again}"
                raise

        def fetch(refused: str) -> Token:
            with store.turn(context.store, name, context.clock) as kept, store.unbroken():
                found = kept.read(again)
                if found and (known := _fresh(found, refused, context)):
                    return known
                latest = found["refresh_token"] if found else first
                kept.reserve()
                token = asked(latest)
                if not token.refresh or token.refresh == latest:
                    return replace(token, refresh=latest)
                until = context.clock.now() + timedelta(seconds=token.lasts) if token.lasts else None
                saved = {"refresh_token": token.refresh, "access_token": token.value}
                try:
                    kept.write(saved | ({"expires": until.timestamp(), "lasts": token.lasts} if until else {}))
                except OSError as error:
                    raise SinkError(
                        f"the new refresh token could not be saved in {kept.path}: {error.strerror}",
                        hint=f"the old one is used up: {again}",
                    ) from None
                return token

        return Fetched(context, fetch, bearer(self.header, self.scheme), (*coded(own, password), first))


def bearer(header: str, scheme: str) -> Callable[[Signable, str], None]:
    """What puts a token into a header."""

    def put(request: Signable, value: str) -> None:
        request.headers[header] = f"{scheme} {value}".lstrip()

    return put


def identified(own: str, password: str, place: Place) -> tuple[dict[str, str], dict[str, str]]:
    """The form and the headers that say who the client is (RFC 6749, section 2.3.1)."""
    if place == "form":
        return {"client_id": own, "client_secret": password}, {}
    return {}, {"Authorization": f"Basic {_pair(own, password)}"}


def coded(own: str, password: str) -> tuple[str, ...]:
    """A client's secret, and the form it takes in a header."""
    return (password, _pair(own, password)) if password else ()


def _pair(own: str, password: str) -> str:
    return base64.b64encode(f"{quote(own, safe='')}:{quote(password, safe='')}".encode()).decode()


def _fresh(found: Mapping[str, Any], refused: str, context: Context) -> Token | None:
    """The access token that is saved, if it is another than the refused one and has most of a minute left."""
    value, lasts = found.get("access_token"), seconds(found.get("lasts"))
    expires = found.get("expires")
    if not isinstance(value, str) or not usable(value) or value == refused:
        return None
    if lasts is None or not isinstance(expires, int | float):
        return Token(value, None, found["refresh_token"])
    left = min(max(expires, 0) - int(context.clock.now().timestamp()), lasts)
    return Token(value, left, found["refresh_token"]) if left > min(60.0, lasts / 10) else None


def _declared(url: str, place: str, names: tuple[str, ...]) -> None:
    checked(url)
    for name in names:
        variable(name)
    if place not in ("header", "form"):
        raise ConfigError('send is either "header" or "form"')
