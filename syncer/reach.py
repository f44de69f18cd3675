"""Where the requests of one API may go, and what must not go with them: links and redirects are the server's words.

A request goes to the API's own origin, with credentials, or to a host that its connector names, without. What
is decided is decided on the prepared URL, as it will be used; what is kept or shown holds no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import replace
from urllib.parse import quote, unquote_plus, urljoin, urlsplit, urlunsplit

from . import wire
from .auth import mask
from .decode import encode
from .errors import ProtocolError
from .network import Origin
from .page import Request

_TELLING = 8
_WIDEST = 6  # bytes that one character takes, written as \u0026
_DOWN = ("https", "http")
_SECOND = "a second host of the API is named in its connector: hosts=(…,)"
_ANYBODYS = {
    *("accept", "accept-encoding", "accept-language", "content-length", "content-type", "host"),
    *("if-modified-since", "if-none-match", "prefer", "range", "user-agent"),
}
"""The headers that a host beside the API is sent: they say what is wanted, and nothing of who wants it."""


_LONGEST = 2**18
"""How long a next page's request may be, body included."""


class Reach:
    """One API's origin, the other hosts of it, and its secrets.

    `parameters` are the query parameters that carry a secret, `secrets` says which are in force; `others` are
    those of the user that this API is not told, but a connector's own code may tell of.
    """

    def __init__(
        self,
        base_url: str,
        hosts: Iterable[str],
        parameters: Iterable[str],
        secrets: Callable[[], Sequence[str]],
        others: Sequence[str] = (),
    ) -> None:
        self.origin, self.hosts = wire.origin(base_url), frozenset(map(wire.origin, hosts))
        self._parameters, self._secrets, self._others = frozenset(parameters), secrets, others

    def known(self, place: Origin) -> bool:
        """Whether this is the API, or a host that its connector names: without TLS only if the API is so, too."""
        return place == self.origin or (place in self.hosts and (self.origin[0], place[0]) != _DOWN)

    def place(self, request: Request) -> Origin:
        """Where a request goes. ProtocolError if that cannot be said."""
        return wire.destination(request.url)

    def clean(self, request: Request) -> Request:
        """A request whose URL carries no secret: servers repeat an API key in the links they hand out.

        Nor a fragment, which is not sent, and behind which nothing could be added.
        """
        parts, own = urlsplit(request.url), self.place(request) == self.origin
        query = "&".join(pair for pair in parts.query.split("&") if not self._secretive(pair, own=own))
        if query == parts.query and not parts.fragment:
            return request
        return replace(request, url=urlunsplit(parts._replace(query=query, fragment="")))

    def handed(self, request: Request) -> Request:
        """A request that the API named for its next page, once it is safe to save and to follow.

        ProtocolError if it leads to another server, holds a secret beside the parameters that are
        taken out, or cannot be written down.
        """
        clean = self.clean(request)
        if not self.known(self.place(clean)):
            raise ProtocolError(
                f"the next page is on another server: {self.safe(clean.shown)}",
                hint=f"credentials do not go there; is the base URL the one the API uses for itself? {_SECOND}",
            )
        try:
            saved = encode(clean.to_json())
            "".join(clean.headers.values()).encode("latin-1")
        except ValueError:
            raise ProtocolError("the next page has a name that cannot be sent") from None
        if len(saved) > _LONGEST:
            raise ProtocolError(
                f"the name of the next page is {len(saved):,} bytes long, at most {_LONGEST:,} are followed",
                hint="it would be saved with every page; is the place right that the pagination takes it from?",
            )
        if self._tells(saved):
            raise ProtocolError(
                "the name of the next page holds a secret",
                hint="it would have to be saved, so syncer does not follow",
            )
        return clean

    def redirected(self, request: Request, url: str, status: int, location: str) -> Request:
        """The request that an answer from this URL redirects to. ProtocolError if it may not be followed."""
        try:
            target = request.at(urljoin(url, _ascii(location)))
        except ValueError:
            raise ProtocolError("the API redirects to something that is not a URL") from None
        if not location or not self.known(place := self.place(target)):
            raise ProtocolError("the API redirects to another server; credentials do not go there", hint=_SECOND)
        if (urlsplit(url).scheme, place[0]) == _DOWN:
            raise ProtocolError("the API redirects from https to http")
        if request.method != "GET" and status not in (307, 308):
            raise ProtocolError("the API redirects a POST in a way that would turn it into a GET")
        clean = self.clean(target)
        if place != self.origin and self._tells(clean.url.encode("utf-8", "surrogatepass")):
            raise ProtocolError("the API redirects to another host with a secret in the address")
        return clean

    def bared(self, headers: MutableMapping[str, str]) -> None:
        """Take out what a host beside the API is not to see."""
        for name in [name for name in headers if name.lower() not in _ANYBODYS]:
            del headers[name]

    def safe(self, text: str) -> str:
        """The words of a server or of a connector's own code, without secrets."""
        hidden = [*self._telling(), *self._others]
        return mask(text.encode("utf-8", "surrogatepass"), hidden).decode("utf-8", "replace")

    def evidence(self, content: bytes, size: int) -> bytes:
        """The beginning of an answer, without secrets: taken out before it is cut, or half of one would stay."""
        secrets = self._secrets()
        begin = mask(content[: 2 * size], secrets)
        if len(content) > 2 * size:  # what was cut here may have been one
            begin = begin[: max(0, len(begin) - _WIDEST * max(map(len, secrets), default=0))]
        return begin[:size]

    def _secretive(self, pair: str, *, own: bool) -> bool:
        """Whether a part of a query is where a secret goes, or holds one; what other hosts call theirs is not ours."""
        name, _, value = pair.partition("=")
        if own and unquote_plus(name) in self._parameters:
            return True
        if unquote_plus(value) in self._secrets():
            return True
        return any(self._tells(text.encode("utf-8", "surrogatepass")) for text in (value, unquote_plus(value)))

    def _tells(self, content: bytes) -> bool:
        return mask(content, self._telling()) != content

    def _telling(self) -> list[str]:
        """The secrets long enough to be recognised inside a longer text."""
        return [value for value in self._secrets() if len(value) >= _TELLING]


def _ascii(location: str) -> str:
    """A Location with what should have been percent-encoded in it encoded: http.client reads bytes as Latin-1."""
    return "".join(char if char.isascii() else quote(char, encoding="latin-1", errors="replace") for char in location)
