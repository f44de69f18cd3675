"""Lists that an API shows only the beginning of, and how to read on behind that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from ..errors import ConfigError, ProtocolError
from ..page import JSON, MISSING, Path, Request, dig
from .places import Declared, get, name, plain, put


@dataclass(frozen=True, slots=True, repr=False)
class Window(Declared):
    """How many records of one list an API shows, and how a new list begins where the last one was cut.

    GitHub's search shows 1,000, the searches of HubSpot and Elasticsearch 10,000, whatever their total says:

        PageNumber(total="total_count", size="per_page", window=Window(1000))

    ends the pull with an error instead of a part that looks whole. Where the list is sorted by a field and
    can be asked for from a value of it on, the page behind the cap is the first of a new list:

        Offset(total="total", window=Window(10_000, field="updated_at", param="since"))

    The records of that value come again. `descending` is for a list sorted so, where the parameter is an
    upper bound. The field should be the stream's replication key.
    """

    size: int
    field: Path | None = None
    param: str | None = None
    body: Path | None = None
    descending: bool = False

    def __post_init__(self) -> None:
        """Refuse a field without a parameter to put it in."""
        if self.size < 1:
            raise ConfigError("Window needs the number of records that the API shows")
        if (self.field is None) != (self.param is None and self.body is None) or (self.param and self.body):
            raise ConfigError("Window needs field= together with one of param= and body=, or neither")

    def within(self, home: Request, following: Request, reached: int, page: int, records: Sequence[JSON]) -> Request:
        """The following request if the API will answer it, else the first one of a new list.

        `home` is the request without a position, `reached` the number of records before the following
        page and `page` how many that one may hold.
        """
        if reached + page <= self.size:
            return following
        if self.field is None:
            raise ProtocolError(
                f"the API shows only the first {self.size:,} records of a list, and this one goes on",
                hint="sort by a field that only grows, and declare window=Window(…, field=…, param=…) to read on from"
                " its value; or ask for less at a time",
            )
        value = self._last(records)
        if plain(get(home, self.param, self.body, "")) == value:
            raise ProtocolError(
                f"more than {self.size:,} records have one {name(self.field)}, and the API shows no more of a list",
                hint="split by a finer field",
            )
        return put(home, value, self.param, self.body)

    def _last(self, records: Sequence[JSON]) -> str | int:
        """The value at the end of the page, which must be sorted, or what lies behind it cannot be known."""
        found = [plain(value) for record in records if (value := _at(record, self.field)) is not None]
        if not found:
            raise ProtocolError(f"no record of the page has a {name(self.field or '')} to begin a new list from")
        order = [_order(value) for value in found]
        try:
            wrong = any((left < right) if self.descending else (right < left) for left, right in pairwise(order))
        except TypeError:
            wrong = True
        if wrong:
            way = "descending" if self.descending else "ascending"
            raise ProtocolError(
                f"the list is cut at {self.size:,} records and not sorted by {name(self.field or '')}, {way}",
                hint="add the parameter that sorts it, or records would be lost",
            )
        return found[-1]


def _at(record: JSON, field: Path | None) -> JSON:
    value = dig(record, field or "")
    return None if value is MISSING else value


def _order(value: str | int) -> Any:
    """A value to compare by: a time as a time, digits as a number."""
    if isinstance(value, int):
        return Decimal(value)
    try:
        moment = datetime.fromisoformat(value)
        return moment.timestamp() if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return Decimal(value) if value.isdecimal() and value.isascii() else value
