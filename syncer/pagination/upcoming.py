"""Pages that are certain to follow, where an API counts and says how far: they can be asked for at once."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ProtocolError
from ..page import Request, Response
from .counts import Offset, PageNumber
from .partitions import Values
from .places import Pagination, get, integer, page_size, put


def upcoming(style: Pagination, request: Request, response: Response, came: int) -> Iterator[Request]:
    """The next request and those behind it, up to the end that the answer before it declares.

    `came` is how many records that answer held. Nothing where a style must see a page to name the one behind it,
    or where the end is not known: a request for a page that is not there costs the API as much as any other.
    """
    try:
        if isinstance(style, PageNumber) and style.window is None:
            yield from _numbered(style, request, response)
        elif isinstance(style, Offset) and style.window is None and style.total is not None and came:
            target = None if style.body else style.param, style.body
            first, total = (
                integer(get(request, *target, style.start), "the offset"),
                integer(response.at(style.total), "the total"),
            )
            for offset in range(first, total + style.start, came):
                yield put(request, offset, *target)
        elif isinstance(style, Values) and style.pages is None:
            places = [str(one) for one in style.values]
            value = str(get(request, style.param, style.body, ""))
            for one in style.values[places.index(value) if value in places else len(places) :]:
                yield put(request, one, style.param, style.body)
    except ProtocolError:
        return


def _numbered(style: PageNumber, request: Request, response: Response) -> Iterator[Request]:
    target = None if style.body else style.param, style.body
    first = integer(get(request, *target, style.start), "the page number")
    if style.pages is not None:
        pages = integer(response.at(style.pages), "the number of pages")
    elif style.total is not None:
        pages = -(-integer(response.at(style.total), "the total") // page_size(request, style.size))
    else:
        return
    for number in range(first, pages + style.start):
        yield put(request, number, *target)
