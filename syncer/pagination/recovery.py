"""When a page does not come as it should: a name that is not there, a page too large, a list that moved."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..page import MISSING, Header, Path, Request, Response
from .counts import ContentRange, PageNumber
from .links import LinkHeader, NextLink
from .places import Pagination, get, integer, name, put
from .tokens import Continuation


def missing(style: Pagination, response: Response) -> str:
    """Where a style looks for the next page, if the answer has nothing there, not even null; else nothing.

    On a page with a next one that is no end but, more likely, a misspelt name.
    """
    place = getattr(style, "token", None) or getattr(style, "path", None)
    if place is None or isinstance(place, Header) or response.at(place) is not MISSING:
        return ""
    return name(place)


def smaller(style: Pagination, request: Request, size: str | None = None, body: Path | None = None) -> Request | None:
    """The same place in the stream, asked for in a smaller page; None where there is no such request.

    `size` names the parameter with the page size (`body`: its place in the body). Where pages are counted,
    the number of the page grows so that it begins at the same record, and the size shrinks by its smallest
    factor, usually a half. A link that shifts holds a number of its own, so its page must stay as it is.
    """
    if isinstance(style, ContentRange | Continuation):
        return None
    if isinstance(style, LinkHeader | NextLink) and style.cursor != "stable" and "?" in request.url:
        return None
    held = get(request, size, body, MISSING)
    if held is MISSING:
        return None
    now = integer(held, "the page size")
    if now < 2:
        return None
    factor = next((prime for prime in range(2, min(now, _FACTOR) + 1) if now % prime == 0), now)
    less = now // factor
    if isinstance(style, PageNumber):
        if isinstance(style.size, int) or (style.size is not None and style.size != size):
            return None
        target = None if style.body else style.param, style.body
        number = integer(get(request, *target, style.start), "the page number")
        request = put(request, (number - style.start) * factor + style.start, *target)
    else:
        less = now // 2
    return put(request, less, None if body is not None else size, body)


def taken(before: Collection[str], again: Sequence[str]) -> int:
    """How many records of a page that is read again were taken before, by the fingerprints of those taken last.

    For a list whose positions shift: what stands behind the last of them has moved up onto a page that was read
    already, and would be lost. 0 if none of them is there, so that nothing can be said of this page.
    """
    return max((place for place, mark in enumerate(again, 1) if mark in before), default=0)


def anew(style: Pagination, request: Request) -> bool:
    """Whether a request is the first of a list, so that its page may repeat the end of the list before it."""
    home = getattr(style, "home", None)
    return home is not None and bool(home(request) == request)


_FACTOR = 10_000
