"""syncer pulls paged records from HTTP APIs, validates each, and never repeats or loses one.

The modules, in the order a record travels, which is also the order they may import one another in:
errors, clock, events, page, auth, rate, pagination, stream, fields — what a connector is made of;
decode, wire, client, fetch, validate, checkpoint, sinks, terminal, report, pull, check, config,
progress, overview, cli — what happens to it. The names below are all that a connector's author needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .auth import ApiKey, Basic, Bearer
from .page import Header
from .pagination import LastRecord, LinkHeader, NextLink, NextToken, Offset, PageNumber, SinglePage
from .rate import DAY, HOUR, MINUTE, SECOND, Rate
from .stream import Connector, Stream

if TYPE_CHECKING:
    from .fields import EpochSeconds

__version__ = "0.1.0"

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "ApiKey",
    "Basic",
    "Bearer",
    "Connector",
    "EpochSeconds",
    "Header",
    "LastRecord",
    "LinkHeader",
    "NextLink",
    "NextToken",
    "Offset",
    "PageNumber",
    "Rate",
    "SinglePage",
    "Stream",
]


def __getattr__(name: str) -> Any:
    if name == "EpochSeconds":  # it needs pydantic, which `syncer --help` should not wait for
        from .fields import EpochSeconds

        return EpochSeconds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
