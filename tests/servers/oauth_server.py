"""An OAuth2 server of authlib, with an API of three pages behind it. Nothing of the protocol is written here.

A refresh token is good once: it is used up the moment the next one has been saved, before the answer leaves.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc6750 import BearerTokenValidator
from flask import Flask, Response, jsonify, request

from tests.api import record

SCOPE = "read write"


@dataclass(eq=False)
class OneClient(ClientMixin):
    """A client as the server knows it."""

    name: str
    secret: str
    method: str = "client_secret_basic"

    def get_client_id(self) -> str:
        return self.name

    def check_client_secret(self, secret: str) -> bool:
        return secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method

    def check_grant_type(self, grant: str) -> bool:
        return True

    def get_allowed_scope(self, scope: str | None) -> str | None:
        return " ".join(word for word in (scope or "").split() if word in SCOPE.split())


@dataclass(eq=False)
class OneToken(TokenMixin):
    """A token that was given, and what has become of it."""

    client: OneClient
    access: str
    refresh: str | None
    scope: str
    until: float
    now: Callable[[], float]
    revoked: bool = False
    used: bool = False

    def check_client(self, client: OneClient) -> bool:
        return client is self.client

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return self.until <= self.now()

    def is_revoked(self) -> bool:
        return self.revoked


@dataclass
class Authority:
    """The server's memory, and what a test may change in it. `app` is to be served."""

    clients: list[OneClient]
    lasts: int = 3600
    rotates: bool = True
    now: Callable[[], float] = time.time
    before: Callable[[], Any] = lambda: None
    """Called with each token request; what it gives is the answer instead."""
    after: Callable[[], Any] = lambda: None
    """Called when the new token is saved and the old one used up, before the answer leaves."""
    page: Callable[[int], Any] = lambda number: None
    """Called before each page is answered, with how many were asked for by then."""
    tokens: list[OneToken] = field(default_factory=list)
    pages: int = 0

    def __post_init__(self) -> None:
        os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback
        self.lock = threading.Lock()
        self.app = _app(self)

    def give(self, refresh: str) -> None:
        """What a login of the first client has led to: a refresh token."""
        self.tokens.append(OneToken(self.clients[0], f"login-{refresh}", refresh, SCOPE, 0.0, self.now))

    def revoke(self) -> None:
        """Let no access token be good any more."""
        for token in self.tokens:
            token.revoked = True

    @property
    def good(self) -> list[str]:
        """The refresh tokens that would still be taken."""
        return [token.refresh for token in self.tokens if token.refresh and not token.used]


def _app(authority: Authority) -> Flask:
    app = Flask("authority")
    app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True

    def save(given: dict[str, Any], asked: Any) -> None:
        given["expires_in"] = authority.lasts
        until = authority.now() + authority.lasts
        refresh, scope = given.get("refresh_token"), given.get("scope", "")
        authority.tokens.append(OneToken(asked.client, given["access_token"], refresh, scope, until, authority.now))

    def client(name: str) -> OneClient | None:
        return next((one for one in authority.clients if one.name == name), None)

    class Credentials(grants.ClientCredentialsGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

    class Refresh(grants.RefreshTokenGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")

        @property
        def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:
            return authority.rotates

        def authenticate_refresh_token(self, text: str) -> OneToken | None:
            return next((one for one in authority.tokens if one.refresh == text and not one.used), None)

        def authenticate_user(self, token: OneToken) -> str:
            return "somebody"

        def revoke_old_credential(self, token: OneToken) -> None:
            token.used = authority.rotates

    class Validator(BearerTokenValidator):
        def authenticate_token(self, text: str) -> OneToken | None:
            return next((one for one in authority.tokens if one.access == text), None)

    server = AuthorizationServer(app, query_client=client, save_token=save)
    server.register_grant(Credentials)
    server.register_grant(Refresh)
    protected = ResourceProtector()
    protected.register_token_validator(Validator())

    @app.post("/token")
    def token() -> Any:
        if (instead := authority.before()) is not None:
            return instead
        with authority.lock:
            answer: Response = server.create_token_response()
        authority.after()
        return answer

    @app.get("/items")
    def items() -> Any:
        with authority.lock:
            authority.pages += 1
        authority.page(authority.pages)
        with protected.acquire("read"):
            at = int(request.args.get("cursor", 0))
            rows = [record(number) for number in range(at + 1, at + 3)]
            return jsonify({"items": rows, "next": str(at + 2) if at < 4 else None})

    return app
