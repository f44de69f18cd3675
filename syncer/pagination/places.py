"""Reading an answer where a style says, and putting what was found into the next request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any, Literal, Protocol
from urllib.parse import urldefrag, urljoin

from ..errors import ConfigError, ProtocolError
from ..page import JSON, MISSING, Header, Path, Place, Request, Response, bury, dig, steps

Cursor = Literal["stable", "shifting", "expiring", "single-use"]
"""What a saved cursor is worth later; see the package."""

_DIGITS = 14_000
"""Bits of an integer that Python still writes down; the name of a page is shorter."""

_NESTED = 8
"""How deep a token may be that is no plain value."""


class Pagination(Protocol):
    """One way of naming the next page."""

    @property
    def cursor(self) -> Cursor:
        """What a saved cursor of this style is worth later."""

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """The request for the page after this one, or None if it was the last."""


class Declared:
    """Shown by what was declared only, so that an option that is added later changes no saved fingerprint."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = [
            f"{item.name}={getattr(self, item.name)!r}"
            for item in fields(self)  # type: ignore[arg-type]
            if getattr(self, item.name) != item.default
        ]
        return f"{type(self).__name__}({', '.join(told)})"


def one_target(*targets: Any) -> None:
    """Refuse a declaration whose token goes nowhere, or to two places."""
    if sum(target is not None for target in targets) != 1:
        raise ConfigError("a pagination style needs exactly one of param=, body= and header=")


def one_stop(style: str, **rules: Any) -> None:
    """Refuse stop rules that contradict one another."""
    if sum(rule not in (None, False) for rule in rules.values()) > 1:
        raise ConfigError(f"{style} takes one of {', '.join(f'{name}=' for name in rules)}")


def resolve(response: Response, link: str) -> str:
    """A link as a whole URL, as seen from the page it stands on."""
    try:
        url = urldefrag(urljoin(response.url, link)).url
        url.encode()
    except ValueError:
        raise ProtocolError("the next link is not a URL") from None
    return url


def put(
    request: Request, value: JSON, param: str | None, body: Path | None = None, header: str | None = None
) -> Request:
    """The request with a value at its one place."""
    if param is not None:
        return request.with_param(param, value)
    if body is not None:
        return request.with_body(body, value)
    text = str(value)
    if not text.isprintable() or any(char > "\xff" for char in text):
        raise ProtocolError("the token for the next page cannot stand in a header")
    return request.with_header(header or "", text)


def get(request: Request, param: str | None, body: Path | None, default: JSON) -> JSON:
    """What a request asks for at a place."""
    value = dig(request.body, body) if body is not None else request.param(param or "")
    return default if value is MISSING else value


def back(request: Request, start: JSON, param: str | None, body: Path | None, header: str | None = None) -> Request:
    """The request as it was before a position was put into it: with the first one, or with none."""
    if start is not None:
        return put(request, start, param, body, header)
    if param is not None:
        bare = request.with_param(param, None)
        return Request(
            bare.url,
            bare.method,
            {name: value for name, value in bare.params.items() if name != param},
            bare.body,
            bare.headers,
        )
    if body is not None:
        return Request(request.url, request.method, request.params, _without(request.body, body), request.headers)
    kept = {name: value for name, value in request.headers.items() if name.lower() != (header or "").lower()}
    return Request(request.url, request.method, request.params, request.body, kept)


def _without(document: JSON, path: Path) -> JSON:
    *way, last = steps(path)
    inner = dig(document, tuple(way))
    if not isinstance(inner, Mapping) or last not in inner:
        return document
    kept = {name: value for name, value in inner.items() if name != last}
    return bury(document, tuple(way), kept) if way else kept


def plain(token: JSON) -> str | int:
    """A token as something that can be sent back: strings and integers as they are, fractions by their own digits."""
    if isinstance(token, str):
        return _text(token)
    if isinstance(token, int) and not isinstance(token, bool) and token.bit_length() <= _DIGITS:
        return token
    if isinstance(token, Decimal):
        return str(token)
    raise ProtocolError(f"the token for the next page is {kind(token)}, not a string or a number")


def sendable(token: JSON, body: Path | None) -> JSON:
    """A token for its place: plain, or in a JSON body also a list or an object."""
    return _whole(token, 0) if body is not None and isinstance(token, list | dict) else plain(token)


def _whole(value: JSON, depth: int) -> JSON:
    """A list or an object that can be sent back as it came; ProtocolError for what JSON cannot carry."""
    if depth > _NESTED:
        raise ProtocolError("the token for the next page is nested too deep")
    if isinstance(value, list):
        return [_whole(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_text(name): _whole(item, depth + 1) for name, item in value.items()}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Decimal):
        number = float(value)
        if math.isinf(number) or (number == 0 and value):
            raise ProtocolError("the token for the next page holds a number out of range")
        return value
    return plain(value)


def _text(value: str) -> str:
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ProtocolError("the token for the next page is not valid text")
    return value


def more_to_come(response: Response, more: Place | None, done: Place | None) -> bool | None:
    """What the answer says about a page after this one; None where no flag is declared."""
    if more is not None:
        return _flag(response, more, "there is more")
    if done is not None:
        return not _flag(response, done, "this was the last page")
    return None


def _flag(response: Response, place: Place, what: str) -> bool:
    value = response.at(place)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ProtocolError(f"the answer should say at {name(place)} whether {what}, but has {kind(value)} there")


def count(response: Response, place: Place, what: str, least: int) -> int:
    """A declared count; one that this page alone disproves would end the stream too early."""
    value = response.at(place)
    if value is MISSING:
        raise ProtocolError(f"the answer should give {what} at {name(place)}, but has nothing there")
    number = integer(value, what)
    if number < least:
        raise ProtocolError(f"{what} at {name(place)} is {number}, which this page alone disproves")
    return number


def page_size(request: Request, size: str | int | None) -> int:
    """How many records a page was asked to hold: a fixed number, or that of a parameter."""
    if isinstance(size, int):
        return size
    return integer(get(request, size, None, MISSING), f"the parameter {size}")


def integer(value: Any, what: str) -> int:
    """A whole number that came as one, or as its digits."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _DIGITS:
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    raise ProtocolError(f"{what} is {kind(value)}, not a whole number")


def name(place: Place) -> str:
    """A place in the reader's words."""
    if isinstance(place, Header):
        return f"the header {place.name}"
    return ".".join(map(str, place)) if isinstance(place, tuple) else place or "its top"


def kind(value: Any) -> str:
    """What a value is, without the value."""
    names = {bool: "true or false", dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return "nothing" if value is MISSING else names.get(type(value), "a number")
