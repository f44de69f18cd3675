"""The values that travel: a Request, the Response to it, and the Page read out of that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

JSON = Any
"""A decoded JSON value. Numbers with a fraction or exponent are Decimals, integers are exact."""

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING", "__bool__": lambda self: False})()
"""What `dig` answers where a document has nothing, which is not the same as null."""


@dataclass(frozen=True, slots=True)
class Header:
    """A place in an answer: the response header of this name, in any case."""

    name: str


Path = str | tuple[str | int, ...]
"""A place in a JSON document: names joined by dots, or a tuple where a name itself holds a dot."""

Place = Path | Header
"""A place in an answer: in its body, or one of its headers."""


def steps(path: Path) -> tuple[str | int, ...]:
    """The path as a tuple: `"meta.next"` is `("meta", "next")`, `""` is the document itself."""
    if isinstance(path, tuple):
        return path
    return tuple(path.split(".")) if path else ()


def dig(document: JSON, path: Path) -> JSON:
    """The value at a path, or MISSING."""
    for step in steps(path):
        if isinstance(document, Mapping) and step in document:
            document = document[step]
        elif _listed(document) and str(step).isdecimal() and int(step) < len(document):
            document = document[int(step)]
        else:
            return MISSING
    return document


def _listed(document: JSON) -> bool:
    return isinstance(document, Sequence) and not isinstance(document, str)


def bury(document: JSON, path: Path, value: JSON) -> JSON:
    """A copy of the document with the value at the path; objects on the way are made."""
    head, *rest = steps(path)
    inner = dict(document) if isinstance(document, Mapping) else {}
    inner[str(head)] = bury(inner.get(str(head)), tuple(rest), value) if rest else value
    return inner


def digest(data: bytes, size: int = 12, key: bytes = b"") -> str:
    """A short fingerprint (BLAKE2b) in hexadecimal, which nobody can guess from without the key if there is one."""
    return hashlib.blake2b(data, digest_size=size, key=key).hexdigest()


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for. Plain data without secrets: this is also the cursor that a checkpoint saves."""

    url: str
    method: str = "GET"
    params: Mapping[str, JSON] = field(default_factory=dict)
    body: JSON = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_param(self, name: str, value: JSON) -> Request:
        """The same request with one query parameter set, also where the URL itself holds it."""
        url, mark, query = self.url.partition("?")
        kept = "&".join(pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != name)
        return replace(
            self, url=f"{url}?{kept}" if kept else url if mark else self.url, params={**self.params, name: value}
        )

    def param(self, name: str) -> JSON:
        """A query parameter, from the parameters or from the URL itself; MISSING if there is none."""
        if name in self.params:
            return self.params[name]
        pairs = dict(parse_qsl(self.url.partition("?")[2], keep_blank_values=True))
        return pairs.get(name, MISSING)

    def with_body(self, path: Path, value: JSON) -> Request:
        """The same request with one place of its JSON body set."""
        return replace(self, body=bury(self.body, path, value))

    def with_header(self, name: str, value: str) -> Request:
        """The same request with one header set."""
        return replace(self, headers={**self.headers, name: value})

    def at(self, url: str) -> Request:
        """The same request to a URL that the API handed out: whole, so the parameters go."""
        return replace(self, url=url, params={})

    def below(self, base: str) -> Request:
        """The same request with its URL taken from a base URL on, if it lies below that: the saved form."""
        return replace(self, url=self.url[len(base) :]) if self.url.startswith(f"{base}/") else self

    def under(self, base: str) -> Request:
        """The reverse of `below`."""
        return replace(self, url=base + self.url) if self.url.startswith("/") else self

    def to_json(self) -> dict[str, JSON]:
        """The saved form: only what is not the default."""
        saved: dict[str, JSON] = {"url": self.url}
        if self.method != "GET":
            saved["method"] = self.method
        if self.params:
            saved["params"] = dict(self.params)
        if self.body is not None:
            saved["body"] = self.body
        if self.headers:
            saved["headers"] = dict(self.headers)
        return saved

    @staticmethod
    def from_json(saved: Mapping[str, JSON]) -> Request:
        """A request from its saved form; TypeError if it is not one."""
        made = Request(**saved)
        sound = isinstance(made.params, Mapping) and isinstance(made.headers, Mapping)
        if not sound or not all(isinstance(text, str) for text in (made.url, made.method, *made.headers.values())):
            raise TypeError("not a request")
        return made

    @property
    def shown(self) -> str:
        """The URL as a person may see it: without its query."""
        return self.url.partition("?")[0]

    @property
    def whole(self) -> str:
        """The URL as it is sent, parameters included, secrets not."""
        pairs = [(name, _text(item)) for name, value in self.params.items() for item in _items(value)]
        if not pairs:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}{urlencode(pairs)}"

    def digest(self) -> str:
        """A fingerprint by which a loop of requests is noticed."""
        return digest(repr(sorted(self.to_json().items(), key=str)).encode("utf-8", "surrogatepass"))


def _items(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, decoded; its records travel beside it, and may be missing from `body`."""

    request: Request
    url: str
    status: int
    headers: Mapping[str, str]
    body: JSON
    date: datetime
    """The latest moment at which the server may have begun to read the page, by its own clock if it tells the time."""
    over: bool = False
    """Whether no page follows, whatever the pagination finds."""

    def at(self, place: Place) -> JSON:
        """The value at a place in the body or headers, or MISSING."""
        if isinstance(place, Header):
            return self.headers.get(place.name.lower(), MISSING)
        return dig(self.body, place)


@dataclass(frozen=True, slots=True)
class Page:
    """One response's worth of records; the unit of commit. `next` is the cursor after it, None at the end.

    Both requests are in their saved form, below the base URL; `asked` is the whole line for people.
    """

    number: int
    request: Request
    asked: str
    records: Sequence[JSON]
    next: Request | None
    total: int | None
    date: datetime
    """The same as the Response's."""
    digest: str
    """A fingerprint of the records as they came, by which a repeated page is noticed."""
    tail: Sequence[str] = ()
    """Fingerprints of its records as they came, by which a list that has moved is found again."""
    note: str = ""
    """What a person should know of this page."""
    masked: Mapping[int, Any] = field(default_factory=dict)
    """Of records that were masked before: what `validate.Mask` says of each, by its place on the page."""
