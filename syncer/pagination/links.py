"""The next page as a URL, in a header or in the body; and the one page that has no next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import ProtocolError
from ..page import JSON, MISSING, Header, Place, Request, Response
from .places import Cursor, Declared, kind, more_to_come, one_stop, resolve


@dataclass(frozen=True, slots=True, repr=False)
class SinglePage(Declared):
    """The answer is the whole stream; there is no next page.

    GET /countries → [{"code": "AT"}, {"code": "CH"}]

    SinglePage()
    """

    cursor: Cursor = "stable"

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """Nothing."""
        return None


@dataclass(frozen=True, slots=True, repr=False)
class LinkHeader(Declared):
    """The next URL is in the Link header (RFC 8288). GitHub, GitLab, Okta, Sentry, Shopify's page_info.

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
                return response.request.at(resolve(response, target))
        return None


@dataclass(frozen=True, slots=True, repr=False)
class NextLink(Declared):
    """The next URL is in the body, absolute or relative; null, absent or empty at the end.

    Django REST, Datasette, Twilio's next_page_uri, JSON:API's links.next, HAL's _links.next.href:

        {"next": "https://api.example.org/items?page=2", "results": [...]}

        NextLink("next")

    Microsoft Graph and other OData, where the name itself holds a dot:

        NextLink(("@odata.nextLink",), cursor="expiring")

    Salesforce, whose flag decides and must agree with the link:

        {"done": false, "nextRecordsUrl": "/services/data/v60.0/query/01g-2000", "records": [...]}

        NextLink("nextRecordsUrl", done="done", cursor="expiring")
    """

    path: Place = "next"
    cursor: Cursor = "shifting"
    more: Place | None = None
    done: Place | None = None

    def __post_init__(self) -> None:
        """Refuse two flags."""
        one_stop("NextLink", more=self.more, done=self.done)

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """The URL in its place, resolved against the URL of this page."""
        more = more_to_come(response, self.more, self.done)
        link = response.at(self.path)
        if more is False:
            return None
        if link is MISSING or link is None or link is False or link == "":
            if more:
                raise ProtocolError("the answer says that there is more, but names no next page")
            return None
        if not isinstance(link, str):
            raise ProtocolError(f"the next link is {kind(link)}, not a string")
        return response.request.at(resolve(response, link))


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
