"""Signed JSON Web Tokens, RS256 or ES256: sent as they are, or given to a server for a token (RFC 7523).

Needs the extra `jwt` (PyJWT with cryptography). A private key is PEM, in a variable or, better, in the file
that NAME_FILE names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from ..errors import ConfigError, CredentialsError
from .oauth import bearer
from .secrets import Environment, secret, variable
from .style import Context
from .tokens import REFUSED, Fetched, Token, answer, ask, checked, text, whole

_EARLIER = 60
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedJWT:
    """A JWT that the API itself takes as a bearer token (App Store Connect).

    `key` is the variable of the private key; `issuer`, `subject` and `key_id` are variables too. `claims` are
    further claims, `lasts` how many seconds each token is good.
    """

    key: str
    issuer: str = ""
    subject: str = ""
    audience: str = ""
    key_id: str = ""
    algorithm: str = "RS256"
    lasts: int = 600
    claims: Mapping[str, Any] = field(default_factory=dict)
    header: str = "Authorization"
    scheme: str = "Bearer"
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable, an algorithm without a private key, and a token that is never good."""
        _declared(self.variables(), self.algorithm, self.lasts)

    def variables(self) -> tuple[str, ...]:
        """The variables that hold the key and who it speaks for."""
        return tuple(filter(None, (self.key, self.issuer, self.subject, self.key_id)))

    def secrets(self) -> tuple[str, ...]:
        """The key's."""
        return (self.key,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The variables that may have several lines."""
        return (self.key,)

    def query(self) -> tuple[str, ...]:
        """None: the token travels in a header."""
        return ()

    def open(self, context: Context) -> Fetched:
        """Tokens for one run; no server is asked."""
        key = _key(self.key, context.environment)

        def fetch(refused: str) -> Token:
            return Token(_signed(self, key, self.audience, context), self.lasts - _earlier(self.lasts))

        return Fetched(context, fetch, bearer(self.header, self.scheme), (key,))


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTBearer(SignedJWT):
    """A JWT that a token endpoint takes for an access token (RFC 7523): Salesforce, DocuSign."""

    token_url: str
    scope: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an address that a secret must not go to, too."""
        checked(self.token_url)
        _declared(self.variables(), self.algorithm, self.lasts)

    def open(self, context: Context) -> Fetched:
        """Tokens for one run."""
        key = _key(self.key, context.environment)

        def fetch(refused: str) -> Token:
            signed = _signed(self, key, self.audience or whole(context, self.token_url), context)
            return _granted(context, self.token_url, signed, self.scope, self.extra, self.variables())

        return Fetched(context, fetch, bearer(self.header, self.scheme), (key,))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A Google service account: `env` is the variable of the JSON that Google hands out.

    With `GOOGLE_ACCOUNT_FILE=/path/key.json` for `env="GOOGLE_ACCOUNT"` it stays a file. `subject` is the
    variable of the user to act for, where the account may.
    """

    env: str
    scope: str
    subject: str = ""
    token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 an address
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable, and an address that a secret must not go to."""
        checked(self.token_url)
        for name in self.variables():
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variable of the account, and of the user."""
        return (self.env, self.subject) if self.subject else (self.env,)

    def secrets(self) -> tuple[str, ...]:
        """The account's."""
        return (self.env,)

    keys = property(secrets)

    def query(self) -> tuple[str, ...]:
        """None: the token travels in a header."""
        return ()

    def open(self, context: Context) -> Fetched:
        """Tokens for one run."""
        content = secret(self.env, context.environment, lines=True)
        try:
            account = json.loads(content)
            key, mail = str(account["private_key"]), str(account["client_email"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CredentialsError(
                f"{self.env} is not the JSON of a service account",
                hint=f"set {self.env}_FILE to the file with private_key and client_email",
            ) from None

        def fetch(refused: str) -> Token:
            now = int(context.clock.now().timestamp())
            claims = {"iss": mail, "scope": self.scope, "aud": whole(context, self.token_url), "iat": now}
            claims |= {"exp": now + 3600} | ({"sub": secret(self.subject, context.environment)} if self.subject else {})
            key_id = {"kid": str(account["private_key_id"])} if account.get("private_key_id") else {}
            signed = _encode(claims, key, "RS256", key_id, self.env)
            return _granted(context, self.token_url, signed, "", {}, self.variables())

        return Fetched(context, fetch, bearer("Authorization", "Bearer"), (content, key))


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubApp:
    """A GitHub App: its private key gets a token for one installation, good for an hour, and then the next.

    All three are variables. `url` is another for GitHub Enterprise.
    """

    app_id: str
    key: str
    installation: str
    url: str = "https://api.github.com"
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable, and an address that a secret must not go to."""
        checked(self.url)
        for name in self.variables():
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables of the app's id, its key, and the installation's id."""
        return (self.app_id, self.key, self.installation)

    def secrets(self) -> tuple[str, ...]:
        """The key's."""
        return (self.key,)

    keys = property(secrets)

    def query(self) -> tuple[str, ...]:
        """None: the token travels in a header."""
        return ()

    def open(self, context: Context) -> Fetched:
        """Tokens for one run."""
        app, installed = (secret(name, context.environment) for name in (self.app_id, self.installation))
        key = _key(self.key, context.environment)
        url = whole(context, f"{self.url.rstrip('/')}/app/installations/{quote(installed, safe='')}/access_tokens")

        def fetch(refused: str) -> Token:
            now = int(context.clock.now().timestamp())
            signed = _encode({"iss": app, "iat": now - _EARLIER, "exp": now + 540}, key, "RS256", {}, self.key)
            headers = {"Authorization": f"Bearer {signed}", "Accept": "application/vnd.github+json"}
            document = answer(context.send("POST", url, headers, b""), url, self.variables(), (*REFUSED, 404))
            return Token(text(document, "token", url), _left(document.get("expires_at"), context))

        return Fetched(context, fetch, bearer("Authorization", "Bearer"), (key,))


def _left(value: Any, context: Context) -> float | None:
    """Seconds until a moment in ISO 8601, at most the hour there is; None if it is none, or has been."""
    try:
        left = (datetime.fromisoformat(value) - context.clock.now()).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(left, 3600.0) if left > 0 else None


def _granted(
    context: Context, url: str, signed: str, scope: str, extra: Mapping[str, str], who: tuple[str, ...]
) -> Token:
    form = {"grant_type": _GRANT, "assertion": signed, **({"scope": scope} if scope else {}), **extra}
    return ask(context, url, form, {}, who)


def _signed(style: SignedJWT, key: str, audience: str, context: Context) -> str:
    now = int(context.clock.now().timestamp())
    named = {"iss": style.issuer, "sub": style.subject}
    claims = {claim: secret(name, context.environment) for claim, name in named.items() if name}
    claims |= {"aud": audience} if audience else {}
    headers = {"kid": secret(style.key_id, context.environment)} if style.key_id else {}
    began = now - _earlier(style.lasts)
    moments = {"iat": began, "exp": began + style.lasts}
    return _encode({**claims, **moments, **style.claims}, key, style.algorithm, headers, style.key)


def _earlier(lasts: int) -> int:
    """How much earlier than now a token says that it was made, for a server whose clock is slow."""
    return min(_EARLIER, lasts // 10)


def _encode(claims: Mapping[str, Any], key: str, algorithm: str, headers: Mapping[str, str], name: str) -> str:
    try:
        import cryptography  # noqa: F401  PyJWT does without, and then knows no algorithm with a private key
        import jwt
    except ImportError as error:
        missing = "PyJWT" if error.name == "jwt" else "cryptography"
        raise ConfigError(
            f"tokens cannot be signed here: {missing} is missing", hint="pip install 'syncer[jwt]'"
        ) from None
    try:
        return jwt.encode(dict(claims), key, algorithm=algorithm, headers=dict(headers) or None)
    except Exception:  # a public key is an AttributeError, and some of their messages hold the key
        raise CredentialsError(
            f"{name} does not hold a private key that {algorithm} can sign with",
            hint=f"it should be PEM without a password, beginning with -----BEGIN; set {name}_FILE to the file",
        ) from None


def _key(name: str, environment: Environment) -> str:
    """A private key; in .env files its line ends are often written as backslash and n."""
    return secret(name, environment, lines=True).replace("\\n", "\n")


def _declared(names: tuple[str, ...], algorithm: str, lasts: int) -> None:
    for name in names:
        variable(name)
    if algorithm not in _ALGORITHMS:
        raise ConfigError(f"{algorithm} is not one of the algorithms with a private key: {', '.join(_ALGORITHMS)}")
    if lasts < 1:
        raise ConfigError("a token has to last a second at least", hint="lasts=600 is what most APIs take")
