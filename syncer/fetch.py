"""From a first Request to Pages: follow the cursor until it ends, and notice when it never would."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from itertools import islice

from .ahead import Several
from .client import Client
from .decode import Rows, Unparsable, encode, text_of
from .errors import ProtocolError, StateError, TooLargeError
from .page import JSON, MISSING, Header, Page, Place, Request, Response, digest
from .pagination import anew, missing, smaller, taken, upcoming
from .stream import Stream


def pages(
    stream: Stream,
    client: Client,
    request: Request | None,
    *,
    number: int = 0,
    seen: Iterable[str] = (),
    last: str = "",
    empty: int = 0,
    back: Request | None = None,
    tail: Sequence[str] = (),
    limit: int | None = None,
    several: Several | None = None,
    key: bytes = b"",
) -> Generator[Page, None, None]:
    """Yield the pages from this request to the end of the stream.

    Requests may be in their saved form, and those of the pages are. `number` pages of this run are
    committed already; `seen` are the digests of requests made before, `last` that of the last page
    with records, `empty` how many empty pages have come in a row; `back` and `tail` are the request for that
    page and its records. Where the cursor counts from the start of a list, a resumed run reads that page
    again, and what has moved across the place is taken with the next page. After `limit` pages it is over. `several`
    asks for pages before their turn. A page that the API calls too large is asked for in a smaller one. `key`
    makes fingerprints of records that tell nothing of what is masked in them.

    ProtocolError for a cursor that was followed before, a page that repeats the one before it, a next
    page on another server, or more empty pages than the stream allows. Nothing of such a page is
    yielded, so the checkpoint before it holds.
    """
    asked = set(seen)
    resumed = number > 0
    once = stream.pagination.cursor == "single-use"
    moved: Sequence[JSON] | None = None
    before: Sequence[JSON] = ()
    if resumed and back is not None and stream.pagination.cursor == "shifting":
        _, again = client.fetch(back.under(client.base_url), stream, resumed=True)
        moved = again if _content(again, key) != last else None
    while request is not None:
        saved = request.below(client.base_url)
        request = saved.under(client.base_url)
        if (mark := saved.digest()) in asked and not once:
            raise ProtocolError(
                f"page {number} names a next page that was read before: {request.shown}",
                hint="the API sends this stream in circles; if it has changed since, add --restart",
            )
        asked.add(mark)
        ask = several.fetch if several and resumed else partial(client.fetch, stream=stream, resumed=resumed)
        request, response, records = _fetched(ask, stream, request)
        wanted, saved = saved, request.below(client.base_url)
        asked.add(saved.digest())
        number, resumed = number + 1, True
        try:
            following = None if response.over else stream.pagination.after(response, records)
            if following is not None:
                following = client.handed(following)
        except ProtocolError as error:
            error.message = f"page {number}: {error.message}"
            raise
        content = _content(records, key)
        same = content == last or _alike(before, records)
        if records and same and not stream.may_repeat and not anew(stream.pagination, request):
            raise ProtocolError(
                f"page {number} repeats the records of the page before it",
                hint="the API ignores its own cursor; a stream that may do so says may_repeat=True",
            )
        if once and records and content in asked and not stream.may_repeat:
            raise ProtocolError(f"page {number} holds the records of an earlier page")
        asked.add(content)
        news = bool(stream.since) and request.param(stream.since or "") is not MISSING  # few, and often on one page
        total = _total(stream, response)
        note = _note(stream, response) if number == 1 and following is None and records and not news else ""
        if number == 1 and records and stream.total is not None and total is None:
            note = (
                f"the answer has no number at {_named(stream.total)}, which total= names, so a list that ends too early"
                " cannot be told; is that name right?"
            )
        marks = [_mark([record], key) for record in records[-TAIL:]] if stream.pagination.cursor == "shifting" else []
        if saved != wanted:
            note = f"page {number} was too large for the API and came as a smaller one, like those behind it"
        if moved is not None:
            records, moved = _unread([*moved, *records], tail, key), None
            note = "the list has moved since the last pull stopped; what slid past that place is taken with this page"
        last, before, empty = (content, records, 0) if records else (last, before, empty + 1)
        if empty > stream.max_empty_pages and following is not None:
            raise ProtocolError(
                f"page {number} is the {empty}th empty one in a row, and the API still names a next one",
                hint="a stream that may have longer gaps says max_empty_pages=…",
            )
        limit = None if limit is None else limit - 1
        if several and following is not None:
            coming = upcoming(stream.pagination, following, response, len(records))
            several.expect(islice(coming, limit))
        yield Page(
            number=number,
            request=saved,
            asked=f"{request.method} {request.whole}",
            records=records,
            next=following.below(client.base_url) if following else None,
            total=total,
            date=response.date,
            digest=content,
            tail=tuple(marks),
            note=note,
        )
        request = following if limit is None or limit > 0 else None


TAIL = 20
"""How many records of a page are marked: enough to find its end again where a few of them have gone."""


def _unread(both: list[JSON], tail: Sequence[str], key: bytes) -> list[JSON]:
    """Of the last page, read again, and the one behind it: what stands behind the records taken before."""
    read = taken(frozenset(tail), [_mark([record], key) for record in both])
    if not read:
        raise StateError(
            "the list has moved by more than a page since the last pull stopped, so records may have slipped past it",
            hint="to begin this stream anew, add --restart",
        )
    return both[read:]


def _note(stream: Stream, response: Response) -> str:
    place = missing(stream.pagination, response)
    return f"there is no second page: the answer has nothing at {place}; is that name right?" if place else ""


def _fetched(
    ask: Callable[[Request], tuple[Response, Sequence[JSON]]], stream: Stream, request: Request
) -> tuple[Request, Response, Sequence[JSON]]:
    """The answer to a request, or to one for a smaller page that begins at the same place; and which of them."""
    size = stream.size or getattr(stream.pagination, "size", None)
    while True:
        try:
            return request, *ask(request)
        except TooLargeError:
            less = smaller(stream.pagination, request, size if isinstance(size, str) else None, stream.size_body)
            if less is None:
                raise
            request = less


def _named(place: Place) -> str:
    return f"the header {place.name}" if isinstance(place, Header) else repr(place)


def _content(records: Sequence[JSON], key: bytes) -> str:
    """A fingerprint of a page's records as they came, whatever is in them."""
    if isinstance(records, Rows):
        return digest(b"\n".join(records.raws), key=key) if records else ""
    return _mark(records, key)


def _alike(before: Sequence[JSON], records: Sequence[JSON]) -> bool:
    """Whether two pages have the same records, whose fields may come in another order."""
    if not isinstance(before, Rows) or not isinstance(records, Rows):
        return False
    lengths = sum(map(len, before.raws)), sum(map(len, records.raws))
    return len(before) == len(records) and lengths[0] == lengths[1] and _mark(before) == _mark(records)


def _mark(records: Sequence[JSON], key: bytes = b"") -> str:
    """A fingerprint of records in whatever order their fields come."""
    lines = []
    for record in records:
        try:
            lines.append(encode(record, ordered=True) if not isinstance(record, Unparsable) else record.text.encode())
        except (ValueError, RecursionError):
            lines.append(repr(record)[:1000].encode("utf-8", "backslashreplace") or text_of(record).encode())
    return digest(b"\n".join(lines), key=key) if lines else ""


def _total(stream: Stream, response: Response) -> int | None:
    place = stream.total if stream.total is not None else getattr(stream.pagination, "total", None)
    value = response.at(place) if place is not None else MISSING
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
