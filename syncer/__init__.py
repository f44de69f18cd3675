"""syncer pulls paged records from HTTP APIs, validates each, and never repeats or loses one.

The modules, in the order a record travels, which is also the order they may import one another in:
errors, clock, events, page, answers, auth, rate, shared, pacer, pagination, stream, fields — what a
connector is made of; decode, wire, retry, validators, cache, client, fetch, validate, checkpoint, sinks,
terminal, report, pull, check, config, progress, overview, cli — what happens to it. The names below are all
that a connector's author needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers import When
    from .auth import ApiKey, Basic, Bearer
    from .fields import EpochSeconds
    from .page import Header
    from .pagination import (
        ContentRange,
        Continuation,
        LastRecord,
        LinkHeader,
        NextLink,
        NextToken,
        Offset,
        PageNumber,
        SinglePage,
        Values,
        Window,
    )
    from .rate import DAY, HOUR, MINUTE, SECOND, Rate
    from .stream import Connector, Stream

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
    "ContentRange",
    "Continuation",
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
    "Values",
    "When",
    "Window",
]


_HOMES = {
    "answers": ("When",),
    "auth": ("ApiKey", "Basic", "Bearer"),
    "fields": ("EpochSeconds",),
    "page": ("Header",),
    "pagination": (
        "ContentRange",
        "Continuation",
        "LastRecord",
        "LinkHeader",
        "NextLink",
        "NextToken",
        "Offset",
        "PageNumber",
        "SinglePage",
        "Values",
        "Window",
    ),
    "rate": ("DAY", "HOUR", "MINUTE", "SECOND", "Rate"),
    "stream": ("Connector", "Stream"),
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for: the command should be there at once."""
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
