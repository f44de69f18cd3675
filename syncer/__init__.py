"""syncer pulls paged records from HTTP APIs, validates each, and never repeats or loses one.

The modules, in the order a record travels, which is also the order they may import one another in: errors,
clock, events, page, answers, auth, moments, quotas, limits, rate, shared, pacer, rota, pagination, decode, fields,
masks, stream — what a connector is made of; ahead, peers, network, strict, wire, reach, retry, validators, cache,
client, fetch, quick, shapes, expected, moulds, seen, choices, tally, drift, validate, checkpoint, kept, sinks,
terminal, report, space, log, ledger, history, metrics, telemetry, notify, pull, review, replay, rebuild, exhibit,
check, config, progress, overview, picture, charts, webpage, edits, rewrite, patch, account, cli — what happens to it.
The names below are all that a connector's author needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers import When
    from .auth import (
        ApiKey,
        ApiKeys,
        Basic,
        Bearer,
        ClientCertificate,
        ClientCredentials,
        Cookie,
        Custom,
        Digest,
        GitHubApp,
        Hmac,
        JWTBearer,
        Login,
        RefreshToken,
        ServiceAccount,
        SignedJWT,
        SigV4,
        TokenPool,
    )
    from .fields import EpochSeconds, Masked
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
    "ApiKeys",
    "Basic",
    "Bearer",
    "ClientCertificate",
    "ClientCredentials",
    "Connector",
    "ContentRange",
    "Continuation",
    "Cookie",
    "Custom",
    "Digest",
    "EpochSeconds",
    "GitHubApp",
    "Header",
    "Hmac",
    "JWTBearer",
    "LastRecord",
    "LinkHeader",
    "Login",
    "Masked",
    "NextLink",
    "NextToken",
    "Offset",
    "PageNumber",
    "Rate",
    "RefreshToken",
    "ServiceAccount",
    "SigV4",
    "SignedJWT",
    "SinglePage",
    "Stream",
    "TokenPool",
    "Values",
    "When",
    "Window",
]


_HOMES = {
    "answers": ("When",),
    "auth": (
        "ApiKey",
        "ApiKeys",
        "Basic",
        "Bearer",
        "ClientCertificate",
        "ClientCredentials",
        "Cookie",
        "Custom",
        "Digest",
        "GitHubApp",
        "Hmac",
        "JWTBearer",
        "Login",
        "RefreshToken",
        "ServiceAccount",
        "SigV4",
        "SignedJWT",
        "TokenPool",
    ),
    "fields": ("EpochSeconds", "Masked"),
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
