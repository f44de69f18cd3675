"""How an API names its next page. Each style is pure data with one pure method, `after`.

`after(response, records)` is the request for the page that follows, or None at the end. Because the
answer is a Request, the cursor that a checkpoint saves is the same for every style: that Request.

Each style says what its cursor is worth later: `stable` (names a place in the data), `shifting` (counts
from the start, so that inserts and deletes move it), `expiring` (the server forgets it) or `single-use`
(the server moves on when it is asked, so that the same question has another answer the second time).
"""

from __future__ import annotations

from .counts import ContentRange, Offset, PageNumber
from .links import LinkHeader, NextLink, SinglePage, links
from .partitions import Values
from .places import Cursor, Pagination
from .recovery import anew, missing, smaller, taken
from .tokens import Continuation, LastRecord, NextToken
from .upcoming import upcoming
from .windows import Window

__all__ = [
    "ContentRange",
    "Continuation",
    "Cursor",
    "LastRecord",
    "LinkHeader",
    "NextLink",
    "NextToken",
    "Offset",
    "PageNumber",
    "Pagination",
    "SinglePage",
    "Values",
    "Window",
    "anew",
    "links",
    "missing",
    "smaller",
    "taken",
    "upcoming",
]
