"""A stream that is asked for part by part, because the API gives no list of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..page import JSON, MISSING, Path, Request, Response
from .places import Cursor, Declared, Pagination, get, one_target, put


@dataclass(frozen=True, slots=True, repr=False)
class Values(Declared):
    """One request, or one list of pages, for each of these values.

    Days of the Federal Register; YouTube's playlists; ids in chunks:

        Values(("2026-01-02", "2026-01-05"), param="conditions[publication_date][is]")
        Values(("PLferns", "PLmosses"), param="playlistId", pages=NextToken("nextPageToken", param="pageToken"))
        Values(("1,2,3", "4,5"), param="ids", pages=PageNumber(total="total", size="limit"))

    The stream's own parameters hold the first value. `pages` reads within one value, by any style that puts
    a position into the request; a style that follows links leaves the request and cannot begin again.
    """

    values: tuple[str | int, ...]
    param: str | None = None
    body: Path | None = None
    pages: Pagination | None = None
    cursor: Cursor = "stable"

    def __post_init__(self) -> None:
        """Refuse values that come twice and pages that cannot begin again."""
        one_target(self.param, self.body)
        if not self.values or len(set(map(str, self.values))) < len(self.values):
            raise ConfigError("Values needs at least one value, and each only once")
        if self.pages is not None and not hasattr(self.pages, "home"):
            raise ConfigError(f"Values cannot begin {type(self.pages).__name__} again for each value")

    def after(self, response: Response, records: Sequence[JSON]) -> Request | None:
        """The next page of this value, or the first of the next value."""
        pages: Any = self.pages
        following: Request | None = pages.after(response, records) if pages is not None else None
        if following is not None:
            return following
        value = get(response.request, self.param, self.body, MISSING)
        places = [str(one) for one in self.values]
        if str(value) not in places:
            raise ConfigError(f"Values: the stream must ask for {self.values[0]!r} first, among its own parameters")
        at = places.index(str(value)) + 1
        if at == len(places):
            return None
        request = pages.home(response.request) if pages is not None else response.request
        return put(request, self.values[at], self.param, self.body)
