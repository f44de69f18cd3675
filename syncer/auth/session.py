"""Session login: a user and a password get a token or a cookie, and get another after a 401."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode

from ..errors import ConfigError, CredentialsError
from ..page import JSON, MISSING, Header, Path, bury, dig
from .oauth import bearer
from .secrets import secret, variable
from .style import Context, Signable, Told
from .tokens import REFUSED, Fetched, Token, accepted, answer, checked, shown, token, whole

_REFUSED = (*REFUSED, 422)


@dataclass(frozen=True, slots=True)
class Cookie:
    """The place of a session: the cookie of this name. It is kept by syncer, and goes to the API's own origin only."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login that gives a session.

    `url` is where: an address, or a path of the API's host. `fields` maps each field of what is sent to the
    variable of its value, and `more` are fields with fixed values. `token` is where the session is in the answer:
    a place in its body, a Header or a Cookie. `header` and `scheme` say how it comes back; `stale` are the
    statuses that mean it has ended, `lasts` the seconds after which it does if the API says 200 to everyone.
    """

    url: str
    fields: Mapping[str, str]
    token: Path | Header | Cookie = "token"  # noqa: S105 a place
    more: Mapping[str, JSON] = field(default_factory=dict)
    send: Literal["json", "form"] = "json"
    header: str = "Authorization"
    scheme: str = "Bearer"
    stale: tuple[int, ...] = (401,)
    lasts: float | None = None
    public: tuple[str, ...] = ()
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable, and an address that a secret must not go to."""
        checked(self.url)
        if not self.fields or self.send not in ("json", "form"):
            raise ConfigError('Login needs fields=, and send is either "json" or "form"')
        if isinstance(self.token, Cookie) and not self.url.startswith("/"):
            raise ConfigError("a session in a cookie needs the url as a path of the base URL, as in /login")
        for name in self.fields.values():
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables that are sent."""
        return tuple(dict.fromkeys(self.fields.values()))

    def secrets(self) -> tuple[str, ...]:
        """All of them but those that are declared `public`."""
        return tuple(name for name in self.variables() if name not in self.public)

    def query(self) -> tuple[str, ...]:
        """None: the session travels in a header."""
        return ()

    def open(self, context: Context) -> Fetched:
        """Sessions for one run."""
        sent = {place: secret(name, context.environment) for place, name in self.fields.items()}
        secrets = [value for place, value in sent.items() if self.fields[place] in self.secrets()]
        url = whole(context, self.url)

        def fetch(refused: str) -> Token:
            kind = {"json": "application/json", "form": "application/x-www-form-urlencoded"}[self.send]
            told = context.send("POST", url, {"Content-Type": kind, "Accept": "application/json"}, self._body(sent))
            found = self._found(told, url)
            if found in (MISSING, None, ""):
                raise CredentialsError(
                    f"{shown(url)} answered {told.status} and gives no session",
                    hint=f"check {', '.join(self.variables())}, and where the connector says that the session is",
                )
            if isinstance(found, int) and not isinstance(found, bool):
                found = str(found)
            return Token(token(found, url, "session"), self.lasts)

        return Fetched(context, fetch, self._put(), secrets, self.stale)

    def _found(self, told: Told, url: str) -> JSON:
        """What is at the place of the session, whatever it is."""
        who = self.variables()
        if isinstance(self.token, str | tuple):
            return dig(answer(told, url, who, _REFUSED), self.token)
        accepted(told, url, who, _REFUSED, redirects=True)  # many a login ends in one; it is not followed
        if isinstance(self.token, Cookie):
            return told.cookies.get(self.token.name)
        return told.headers.get(self.token.name.lower())

    def _body(self, sent: Mapping[str, str]) -> bytes:
        if self.send == "form":
            return urlencode({**self.more, **sent}).encode()
        document: JSON = dict(self.more)
        for place, value in sent.items():
            document = bury(document, place, value)
        return json.dumps(document).encode()

    def _put(self) -> Callable[[Signable, str], None]:
        if not isinstance(self.token, Cookie):
            return bearer(self.header, self.scheme)
        name = self.token.name

        def put(request: Signable, value: str) -> None:
            request.headers["Cookie"] = f"{name}={value}"

        return put
