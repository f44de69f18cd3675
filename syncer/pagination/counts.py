"""The next page by counting: pages, records, or ranges of rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigError, ProtocolError
from ..page import JSON, MISSING, Header, Path, Place, Request, Response
from .places import Cursor, Declared, count, get, integer, more_to_come, one_stop, one_target, page_size, put
from .windows import Window


@dataclass(frozen=True, slots=True, repr=False)
class PageNumber(Declared):
    """Pages are counted. WordPress, Harvest, Stack Exchange, GitHub's search, page-number paginators everywhere.

        {"orders": [...], "meta": {"total_pages": 7}}       PageNumber(pages="meta.total_pages")
        X-WP-TotalPages: 7                                  PageNumber(pages=Header("X-WP-TotalPages"))
        {"orders": [...], "total": 612}                     PageNumber(total="total", size="per_page")
        {"items": [...], "has_more": true}                  PageNumber(more="has_more")
        [...], then [] at the end                           PageNumber()
        [...], then a page that is not full                 PageNumber(size="per_page", short=True)

    `size` names the parameter that asks for the page size, or is that size. Without a count the stream goes on until a
    page is empty; `short=True` trusts a short page to be the last, which is only right for an API
    that never returns fewer records than asked for before its end.
    """

    param: str | None = "page"
    body: Path | None = None
    start: int = 1
    pages: Place | None = None
    total: Place | None = None
    size: str | int | None = None
    short: bool = False
    cursor: Cursor = "shifting"
    more: Place | None = None
    done: Place | None = None
    window: Window | None = None

    def __post_init__(self) -> None:
        """Refuse stop rules that contradict one another or lack the page size."""
        one_target(None if self.body else self.param, self.body)
        one_stop("PageNumber", pages=self.pages, total=self.total, short=self.short, more=self.more, done=self.done)
        if (self.total is not None or self.short or self.window) and self.size is None:
            raise ConfigError("PageNumber with total=, short= or window= needs size=, the parameter with the page size")

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the number one higher."""
        request = response.request
        number = integer(get(request, self.param, self.body, self.start), "the page number")
        if self.pages is not None:
            over = number - self.start + 1 >= count(response, self.pages, "the number of pages", min(1, len(records)))
        elif self.total is not None:
            size = page_size(request, self.size)
            over = (number - self.start + 1) * size >= count(response, self.total, "the total", len(records))
        elif (more := more_to_come(response, self.more, self.done)) is not None:
            over = not more
        elif self.short:
            over = len(records) < page_size(request, self.size)
        else:
            over = not records
        if over:
            return None
        following = put(request, number + 1, None if self.body else self.param, self.body)
        if self.window is None:
            return following
        size = page_size(request, self.size)
        return self.window.within(self.home(request), following, (number - self.start + 1) * size, size, records)

    def home(self, request: Request) -> Request:
        """The request for the first page."""
        return put(request, self.start, None if self.body else self.param, self.body)


@dataclass(frozen=True, slots=True, repr=False)
class Offset(Declared):
    """Records are counted. Jira's startAt, Pipedrive's start, limit-offset paginators everywhere.

        {"startAt": 50, "maxResults": 50, "total": 612, "issues": [...]}

        Offset(param="startAt", total="total")

    SCIM counts from one, Google Analytics in the body:

        Offset(param="startIndex", start=1, total="totalResults")
        Offset(body="offset", total="rowCount")

    The offset moves by the records that came, so a server that gives fewer than asked for loses none.
    Stops at the total, at a flag (`more`, or `done` if it says the opposite), or else at an empty page.
    """

    param: str | None = "offset"
    body: Path | None = None
    start: int = 0
    total: Place | None = None
    more: Place | None = None
    cursor: Cursor = "shifting"
    done: Place | None = None
    window: Window | None = None

    def __post_init__(self) -> None:
        """Refuse two stop rules."""
        one_target(None if self.body else self.param, self.body)
        one_stop("Offset", total=self.total, more=self.more, done=self.done)

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the offset moved past the records of this page."""
        request = response.request
        offset = integer(get(request, self.param, self.body, self.start), "the offset") + len(records)
        if self.total is not None:
            total = count(response, self.total, "the total", len(records))
            if offset - self.start < total and not records:
                raise ProtocolError(f"the page is empty, but only {offset - self.start} of {total} records have come")
            over = offset - self.start >= total
        elif (more := more_to_come(response, self.more, self.done)) is not None:
            over = not more
            if not over and not records:
                raise ProtocolError("the answer says that there is more, but the page is empty")
        else:
            over = not records
        if over:
            return None
        following = put(request, offset, None if self.body else self.param, self.body)
        if self.window is None:
            return following
        return self.window.within(self.home(request), following, offset - self.start, len(records), records)

    def home(self, request: Request) -> Request:
        """The request for the first page."""
        return put(request, self.start, None if self.body else self.param, self.body)


@dataclass(frozen=True, slots=True, repr=False)
class ContentRange(Declared):
    """Rows are asked for by range, in a header (RFC 9110, section 14). PostgREST, IBM QRadar.

        Range: 0-24                        Range: items=0-49
        Content-Range: 0-24/3573           Content-Range: items 0-49/3573

        ContentRange()

    The stream's own headers hold the first range, and with it the page size. Stops at the number behind
    the slash; where that is unknown (`*`), at an empty page. A whole list (200 without a Content-Range) is
    one page.
    """

    cursor: Cursor = "shifting"

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the range behind the one that came."""
        request = response.request
        header = next((name for name in request.headers if name.lower() == "range"), "")
        asked = _RANGE.fullmatch(request.headers.get(header, ""))
        if asked is None:
            raise ConfigError("ContentRange needs the first range in the stream: headers={'Range': '0-99'}")
        first, last = int(asked["first"]), int(asked["last"])
        told = response.at(Header("Content-Range"))
        if told is MISSING:
            if first or response.status == _PARTIAL:
                raise ProtocolError(f"the answer to the range from {first} on does not say which rows it holds")
            return None
        came = _CONTENT_RANGE.fullmatch(str(told))
        if came is None:
            raise ProtocolError("the header Content-Range says no range of rows")
        total = None if came["total"] == "*" else int(came["total"])
        after = int(came["last"]) + 1 if came["first"] else first
        if came["first"] and (int(came["first"]) != first or after - first != len(records)):
            raise ProtocolError(
                f"the answer says that it holds rows {came['first']} to {came['last']}, but rows from {first} on were"
                f" asked for and {len(records)} came"
            )
        if not records:
            if total is not None and after < total:
                raise ProtocolError(f"the page is empty, but only {after} of {total} records have come")
            return None
        if total is not None and after >= total:
            return None
        return request.with_header(header, f"{asked['unit'] or ''}{after}-{after + last - first}")


_PARTIAL = 206
_RANGE = re.compile(r"(?P<unit>[A-Za-z-]{1,20}=)?(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})")
_CONTENT_RANGE = re.compile(
    r"(?:[A-Za-z-]{1,20}[ =])?(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})|\*)/(?P<total>[0-9]{1,18}|\*)"
)
