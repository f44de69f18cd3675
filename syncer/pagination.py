"""How an API names its next page. Each style is pure data with one pure method, `after`.

`after(response, records)` is the request for the page that follows, or None at the end. Because the
answer is a Request, the cursor that a checkpoint saves is the same for every style: that Request.

Each style says what its cursor is worth later: `stable` (names a place in the data), `shifting` (counts
from the start, so that inserts and deletes move it) or `expiring` (the server forgets it).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol
from urllib.parse import urldefrag, urljoin

from .errors import ConfigError, ProtocolError
from .page import JSON, MISSING, Header, Path, Place, Request, Response, dig

Cursor = Literal["stable", "shifting", "expiring"]


class Pagination(Protocol):
    """One way of naming the next page."""

    @property
    def cursor(self) -> Cursor:
        """What a saved cursor of this style is worth later."""

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """The request for the page after this one, or None if it was the last."""


@dataclass(frozen=True, slots=True)
class SinglePage:
    """The answer is the whole stream; there is no next page.

    GET /countries → [{"code": "AT"}, {"code": "CH"}]

    SinglePage()
    """

    cursor: Cursor = "stable"

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """Nothing."""
        return None


@dataclass(frozen=True, slots=True)
class LinkHeader:
    """The next URL is in the Link header (RFC 8288). GitHub, GitLab, Okta, Sentry.

    Link: <https://api.github.com/repositories/1/issues?after=Y3Vyc29y>; rel="next"

    LinkHeader()
    """

    rel: str = "next"
    cursor: Cursor = "shifting"

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """The first link with the relation, if there is one."""
        value = response.at(Header("Link"))
        if not value:
            return None
        for target, rels in links(value):
            if self.rel.lower() in rels:
                return response.request.at(_resolve(response, target))
        return None


@dataclass(frozen=True, slots=True)
class NextLink:
    """The next URL is in the body, absolute or relative; null, absent or empty at the end. Django REST, Datasette.

    {"next": "https://api.example.org/items?page=2", "results": [...]}

    NextLink("next")
    """

    path: Place = "next"
    cursor: Cursor = "shifting"

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """The URL in its place, resolved against the URL of this page."""
        link = response.at(self.path)
        if link is MISSING or link is None or link is False or link == "":
            return None
        if not isinstance(link, str):
            raise ProtocolError(f"the next link is {_kind(link)}, not a string")
        return response.request.at(_resolve(response, link))


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token in the body or a header goes into the next request's query, body or headers.

    HubSpot, in the body and back in the query:

        {"results": [...], "paging": {"next": {"after": "NTI1Cg"}}}

        NextToken("paging.next.after", param="after")

    Notion, from the body into the body of a POST, with a flag:

        {"results": [...], "has_more": true, "next_cursor": "33e19cb9"}

        NextToken("next_cursor", body="start_cursor", more="has_more")

    In a response header:

        X-Next-Cursor: 8b1f

        NextToken(Header("X-Next-Cursor"), param="cursor")

    The end is a token that is absent or null or empty, or a flag that is false. A flag that is true
    beside a token that is missing is an error.
    """

    token: Place
    param: str | None = None
    body: Path | None = None
    header: str | None = None
    more: Place | None = None
    cursor: Cursor = "expiring"

    def __post_init__(self) -> None:
        """Refuse a token that goes nowhere, or to two places."""
        _one_target(self.param, self.body, self.header)

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the token put in."""
        token = response.at(self.token)
        if self.more is not None and not _flag(response, self.more):
            return None
        if token is MISSING or token is None or token == "":
            if self.more is not None:
                raise ProtocolError("the answer says that there is more, but names no next page")
            return None
        return _put(response.request, _plain(token), self.param, self.body, self.header)


@dataclass(frozen=True, slots=True)
class LastRecord:
    """The next page starts after the last record of this one (keyset). Stripe, Shopify's since_id.

        {"data": [{"id": "ch_1"}, {"id": "ch_2"}], "has_more": true}

        LastRecord(param="starting_after", more="has_more")

    Without a flag the stream goes on until a page is empty. Where the last record is malformed and has no
    such field, the one before it is taken, and the malformed one comes again on the next page.
    """

    param: str | None = None
    body: Path | None = None
    field: Path = "id"
    more: Place | None = None
    cursor: Cursor = "stable"

    def __post_init__(self) -> None:
        """Refuse a key that goes nowhere, or to two places."""
        _one_target(self.param, self.body)

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the last record's field put in."""
        more = self.more is None or _flag(response, self.more)
        if not more:
            return None
        if not records:
            if self.more is not None:
                raise ProtocolError("the answer says that there is more, but holds no record to go on from")
            return None
        found = (dig(record, self.field) for record in reversed(records))
        last = next((value for value in found if value is not MISSING and value is not None), None)
        if last is None:
            raise ProtocolError(f"no record of the page has a {_name(self.field)}, so the next page has no name")
        return _put(response.request, _plain(last), self.param, self.body)


@dataclass(frozen=True, slots=True)
class PageNumber:
    """Pages are counted. WordPress, Harvest, page-number paginators everywhere.

        {"orders": [...], "meta": {"total_pages": 7}}       PageNumber(pages="meta.total_pages")
        X-WP-TotalPages: 7                                  PageNumber(pages=Header("X-WP-TotalPages"))
        {"orders": [...], "total": 612}                     PageNumber(total="total", size="per_page")
        [...], then [] at the end                           PageNumber()
        [...], then a page that is not full                 PageNumber(size="per_page", short=True)

    `size` names the parameter that asks for the page size. Without a count the stream goes on until a
    page is empty; `short=True` trusts a short page to be the last, which is only right for an API
    that never returns fewer records than asked for before its end.
    """

    param: str | None = "page"
    body: Path | None = None
    start: int = 1
    pages: Place | None = None
    total: Place | None = None
    size: str | None = None
    short: bool = False
    cursor: Cursor = "shifting"

    def __post_init__(self) -> None:
        """Refuse stop rules that contradict one another or lack the page size."""
        _one_target(None if self.body else self.param, self.body)
        if (self.pages is not None) + (self.total is not None) + self.short > 1:
            raise ConfigError("PageNumber takes one of pages=, total= and short=")
        if (self.total is not None or self.short) and self.size is None:
            raise ConfigError("PageNumber with total= or short= needs size=, the parameter that holds the page size")

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the number one higher."""
        request = response.request
        number = _integer(_get(request, self.param, self.body, self.start), "the page number")
        if self.pages is not None:
            over = number - self.start + 1 >= _count(response, self.pages, "the number of pages", min(1, len(records)))
        elif self.total is not None:
            size = _integer(_get(request, self.size, None, MISSING), f"the parameter {self.size}")
            over = (number - self.start + 1) * size >= _count(response, self.total, "the total", len(records))
        elif self.short:
            over = len(records) < _integer(_get(request, self.size, None, MISSING), f"the parameter {self.size}")
        else:
            over = not records
        return None if over else _put(request, number + 1, None if self.body else self.param, self.body)


@dataclass(frozen=True, slots=True)
class Offset:
    """Records are counted. Jira's startAt, Pipedrive's start, limit-offset paginators everywhere.

        {"startAt": 50, "maxResults": 50, "total": 612, "issues": [...]}

        Offset(param="startAt", total="total")

    The offset moves by the records that came, so a server that gives fewer than asked for loses none.
    Stops at the total, at a flag (`more`), or else at an empty page.
    """

    param: str | None = "offset"
    body: Path | None = None
    start: int = 0
    total: Place | None = None
    more: Place | None = None
    cursor: Cursor = "shifting"

    def __post_init__(self) -> None:
        """Refuse two stop rules."""
        _one_target(None if self.body else self.param, self.body)
        if self.total is not None and self.more is not None:
            raise ConfigError("Offset takes one of total= and more=")

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the offset moved past the records of this page."""
        request = response.request
        offset = _integer(_get(request, self.param, self.body, self.start), "the offset") + len(records)
        if self.total is not None:
            total = _count(response, self.total, "the total", len(records))
            if offset - self.start < total and not records:
                raise ProtocolError(f"the page is empty, but only {offset - self.start} of {total} records have come")
            over = offset - self.start >= total
        elif self.more is not None:
            over = not _flag(response, self.more)
            if not over and not records:
                raise ProtocolError("the answer says that there is more, but the page is empty")
        else:
            over = not records
        return None if over else _put(request, offset, None if self.body else self.param, self.body)


def missing(style: Pagination, response: Response) -> str:
    """Where a style looks for the next page, if the answer has nothing there, not even null; else nothing.

    On a page with a next one that is no end but, more likely, a misspelt name.
    """
    place = getattr(style, "token", None) or getattr(style, "path", None)
    if place is None or isinstance(place, Header) or response.at(place) is not MISSING:
        return ""
    return _name(place)


def links(value: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The targets and relations of a Link header (RFC 8288, section 3 and appendix B).

    Relations are lower-cased and split; only the first `rel` of a link counts; a link with an `anchor`
    speaks of another resource and is left out. What does not follow the grammar is passed over.
    """
    at = 0
    while (start := value.find("<", at)) >= 0 and (end := value.find(">", start)) >= 0:
        target, at = value[start + 1 : end].strip(), end + 1
        rels: tuple[str, ...] | None = None
        anchored = False
        while found := _PARAMETER.match(value, at):
            name, quoted, token = found.group("name").lower(), found.group("quoted"), found.group("token")
            text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token or ""
            if name == "rel" and rels is None:
                rels = tuple(text.lower().split())
            anchored = anchored or name == "anchor"
            at = found.end()
        comma = _SEPARATOR.match(value, at)
        at = comma.end() if comma else _skip_to_comma(value, at)
        if not anchored:
            yield target, rels or ()


_PARAMETER = re.compile(
    r"""(?:[ \t]*;)+[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)"""
    r"""(?:[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*+)(?:"|\Z)|(?P<token>[^;,"]*)))?"""
)
_SEPARATOR = re.compile(r"[ \t;]*(?:,[ \t]*)+|[ \t;]*$")


def _skip_to_comma(value: str, at: int) -> int:
    comma = value.find(",", at)
    return len(value) if comma < 0 else comma + 1


def _resolve(response: Response, link: str) -> str:
    try:
        return urldefrag(urljoin(response.url, link)).url
    except ValueError:
        raise ProtocolError("the next link is not a URL") from None


def _one_target(*targets: Any) -> None:
    if sum(target is not None for target in targets) != 1:
        raise ConfigError("a pagination style needs exactly one of param=, body= and header=")


def _put(
    request: Request, value: str | int, param: str | None, body: Path | None = None, header: str | None = None
) -> Request:
    if param is not None:
        return request.with_param(param, value)
    if body is not None:
        return request.with_body(body, value)
    return request.with_header(header or "", str(value))


def _get(request: Request, param: str | None, body: Path | None, default: Any) -> Any:
    value = dig(request.body, body) if body is not None else request.param(param or "")
    return default if value is MISSING else value


def _plain(token: JSON) -> str | int:
    """A token as something that can be sent back: strings and integers as they are, fractions by their own digits."""
    if isinstance(token, str) and not token.isascii() and any("\ud800" <= char <= "\udfff" for char in token):
        raise ProtocolError("the token for the next page is not valid text")
    if isinstance(token, str | int) and not isinstance(token, bool):
        return token
    if isinstance(token, Decimal):
        return str(token)
    raise ProtocolError(f"the token for the next page is {_kind(token)}, not a string or a number")


def _flag(response: Response, place: Place) -> bool:
    value = response.at(place)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ProtocolError(f"the answer should say at {_name(place)} whether there is more, but has {_kind(value)} there")


def _count(response: Response, place: Place, what: str, least: int) -> int:
    """A declared count; one that this page alone disproves would end the stream too early."""
    value = response.at(place)
    if value is MISSING:
        raise ProtocolError(f"the answer should give {what} at {_name(place)}, but has nothing there")
    count = _integer(value, what)
    if count < least:
        raise ProtocolError(f"{what} at {_name(place)} is {count}, which this page alone disproves")
    return count


def _integer(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    raise ProtocolError(f"{what} is {_kind(value)}, not a whole number")


def _name(place: Place) -> str:
    if isinstance(place, Header):
        return f"the header {place.name}"
    return ".".join(map(str, place)) if isinstance(place, tuple) else place or "its top"


def _kind(value: Any) -> str:
    names = {bool: "true or false", dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return "nothing" if value is MISSING else names.get(type(value), "a number")
