"""The next page by a value that goes back into the request: a token of the answer, or a key of its last record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import ConfigError, ProtocolError
from ..page import JSON, MISSING, Path, Place, Request, Response, dig
from .places import (
    Cursor,
    Declared,
    back,
    integer,
    more_to_come,
    name,
    one_stop,
    one_target,
    page_size,
    put,
    resolve,
    sendable,
)
from .windows import Window


@dataclass(frozen=True, slots=True, repr=False)
class NextToken(Declared):
    """A token in the body or a header goes into the next request's query, body or headers.

    HubSpot, in the body and back in the query; so do Slack, Airtable's offset, Google's pageToken, SCIM's cursor:

        {"results": [...], "paging": {"next": {"after": "NTI1Cg"}}}

        NextToken("paging.next.after", param="after")

    Notion, from the body into the body of a POST, with a flag; so do Plaid and GraphQL connections:

        {"results": [...], "has_more": true, "next_cursor": "33e19cb9"}

        NextToken("next_cursor", body="start_cursor", more="has_more")

    Jira and Zendesk, whose flag says the opposite:

        {"issues": [...], "isLast": false, "nextPageToken": "CAEaAggD"}

        NextToken("nextPageToken", param="nextPageToken", done="isLast")

    In a response header; Heroku's goes back in another one:

        Next-Range: id ]01234567..; max=200

        NextToken(Header("Next-Range"), header="Range", cursor="stable")

    The end is a token that is absent or null or empty, or what the flag says. A flag that says more
    beside a token that is missing is an error. In a body the token may be an object, as DynamoDB's is.
    `start` is the token that the first request holds, if it holds one: Crossref's `cursor=*`.
    """

    token: Place
    param: str | None = None
    body: Path | None = None
    header: str | None = None
    more: Place | None = None
    cursor: Cursor = "expiring"
    done: Place | None = None
    start: str | int | None = None
    window: Window | None = None

    def __post_init__(self) -> None:
        """Refuse a token that goes nowhere, or to two places."""
        one_target(self.param, self.body, self.header)
        one_stop("NextToken", more=self.more, done=self.done)

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the token put in."""
        token, more = response.at(self.token), more_to_come(response, self.more, self.done)
        if more is False:
            return None
        if token is MISSING or token is None or token == "" or (self.body is not None and token in ([], {})):
            if more:
                raise ProtocolError("the answer says that there is more, but names no next page")
            return None
        following = put(response.request, sendable(token, self.body), self.param, self.body, self.header)
        if self.window is None:
            return following
        reached = integer(token, "the token, which should count records,")
        return self.window.within(self.home(response.request), following, reached, len(records), records)

    def home(self, request: Request) -> Request:
        """The request without a position."""
        return back(request, self.start, self.param, self.body, self.header)


@dataclass(frozen=True, slots=True, repr=False)
class LastRecord(Declared):
    """The next page starts after the last record of this one (keyset). Stripe, Shopify's since_id.

        {"data": [{"id": "ch_1"}, {"id": "ch_2"}], "has_more": true}

        LastRecord(param="starting_after", more="has_more")

    From a time on, inclusive, so that the records of that moment come again; the end is a page that is not full:

        LastRecord(param="updated_since", field="updated_at", size="limit", short=True)

    Elasticsearch and OpenSearch, search_after with a point in time whose newest id goes back as well:

        {"pit_id": "46To", "hits": {"hits": [{"_source": {...}, "sort": [1769860800000, 7]}]}}

        LastRecord(body="search_after", field="sort", also=(("pit_id", "pit.id"),), cursor="expiring")

    Without a stop rule the stream goes on until a page is empty; `short=True` is only right for an API that
    never returns fewer records than asked for (`size`: the parameter, or a number) before its end. Where the
    last record is malformed and has no such field, the one before it is taken, and the malformed one comes
    again on the next page. `also` are other values of the answer, each with its place in the body.
    """

    param: str | None = None
    body: Path | None = None
    field: Path = "id"
    more: Place | None = None
    cursor: Cursor = "stable"
    done: Place | None = None
    size: str | int | None = None
    short: bool = False
    also: tuple[tuple[Place, Path], ...] = ()
    start: str | int | None = None

    def __post_init__(self) -> None:
        """Refuse a key that goes nowhere, or to two places."""
        one_target(self.param, self.body)
        one_stop("LastRecord", more=self.more, done=self.done, short=self.short)
        if self.short and self.size is None:
            raise ConfigError("LastRecord with short= needs size=, the page size or the parameter that holds it")

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """This request with the last record's field put in."""
        request, more = response.request, more_to_come(response, self.more, self.done)
        if more is False or (self.short and len(records) < page_size(request, self.size)):
            return None
        if not records:
            if more:
                raise ProtocolError("the answer says that there is more, but holds no record to go on from")
            return None
        found = (dig(record, self.field) for record in reversed(records))
        last = next((value for value in found if value is not MISSING and value is not None), None)
        if last is None:
            raise ProtocolError(f"no record of the page has a {name(self.field)}, so the next page has no name")
        following = put(request, sendable(last, self.body), self.param, self.body)
        if following == request:
            raise ProtocolError(f"a whole page has one {name(self.field)}, so the page after it has no name of its own")
        for place, path in self.also:
            value = response.at(place)
            if value is not MISSING and value is not None:
                following = following.with_body(path, sendable(value, path))
        return following

    def home(self, request: Request) -> Request:
        """The request without a position."""
        return back(request, self.start, self.param, self.body)


@dataclass(frozen=True, slots=True, repr=False)
class Continuation(Declared):
    """The first request opens a list, and a request of another shape goes on with it.

    Elasticsearch's scroll, which the server moves on with every request, so that each may be made once only:

        POST /items/_search?scroll=5m    → {"_scroll_id": "DXF1", "hits": {"hits": [...]}}
        POST /_search/scroll             ← {"scroll": "5m", "scroll_id": "DXF1"}

        Continuation("_scroll_id", url="/_search/scroll", body="scroll_id", send={"scroll": "5m"})

    Dropbox, with a flag and a cursor that lasts:

        Continuation("cursor", url="/2/files/list_folder/continue", more="has_more", cursor="stable")

    `url` counts from the root of the server; `send` is the rest of the body. The end is a token that is
    absent, what the flag says, or without a flag a page without records.
    """

    token: Place
    url: str
    body: Path = "cursor"
    send: Mapping[str, JSON] | None = None
    more: Place | None = None
    done: Place | None = None
    cursor: Cursor = "single-use"

    def __post_init__(self) -> None:
        """Refuse a path that would mean another place on the second page."""
        one_stop("Continuation", more=self.more, done=self.done)
        if not self.url.startswith("/") or self.url.startswith("//"):
            raise ConfigError("Continuation needs a url that begins with one slash, from the root of the server")

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """The request that goes on: its own URL and body, the same method and headers."""
        token, more = response.at(self.token), more_to_come(response, self.more, self.done)
        if more is False or (more is None and not records):
            return None
        if token is MISSING or token is None or token == "":
            if more:
                raise ProtocolError("the answer says that there is more, but names no next page")
            return None
        there = response.request.at(resolve(response, self.url))
        return replace(there, body=dict(self.send or {})).with_body(self.body, sendable(token, self.body))
