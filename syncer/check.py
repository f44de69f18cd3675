"""`syncer check`: one page of each stream, fetched and validated, and nothing written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from .auth import Environment, is_set, mask
from .client import Client
from .clock import Clock
from .errors import RejectBudgetError, StoppedError, SyncerError
from .fetch import pages
from .masks import KEY
from .pull import ready
from .rota import paced
from .stream import Connector, Stream, base_url, first_request
from .validate import Validator
from .wire import origin


def check(
    connector: Connector,
    streams: Sequence[Stream],
    given: Mapping[str, str],
    environment: Environment,
    clock: Clock,
    patience: float,
) -> list[dict[str, Any]]:
    """What one page of each stream shows: reachable, accepted, rejected by cause. Errors are rows, not raised.

    ConfigError or CredentialsError if something is missing, before anything is asked.
    """
    settings = ready(connector, streams, given, environment)
    rows = []
    with connector.server() if connector.server else nullcontext(base_url(connector, settings)) as url:
        known = None if connector.server else origin(url)
        pacer = paced(connector.rate, connector.auth, known, environment, clock, lambda event: None)
        client = Client(
            url,
            connector.auth,
            connector.headers,
            environment,
            pacer,
            clock,
            patience=patience,
            answers=connector.answers,
            hosts=connector.hosts,
        )
        try:
            for stream in streams:
                row = {"stream": stream.name, "credentials": credentials(connector, environment), "exit_code": 0}
                rows.append(row)
                try:
                    row |= _page(stream, client, first_request(stream, url, settings, stream.start))
                except StoppedError:
                    rows.remove(row)
                    break
                except SyncerError as error:
                    row |= {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
                    evidence = b"" if stream.masks else error.evidence  # nobody can tell where in it a record is
                    row["answer"] = mask(evidence, client.secrets()).decode("utf-8", "replace")[:300]
        finally:
            client.close()
    return rows


def credentials(connector: Connector, environment: Environment) -> str:
    """Whether the secrets are there: `not needed`, `set`, `not set` or `not set (optional)`."""
    if connector.auth is None:
        return "not needed"
    if is_set(connector.auth, environment):
        return "set"
    return "not set (optional)" if connector.auth.optional else "not set"


def _page(stream: Stream, client: Client, request: Any) -> dict[str, Any]:
    page = next(pages(stream, client, request))
    key = os.urandom(KEY)  # of hashes that nobody will see
    verdict = Validator(stream, lambda values: (), client.safe, key=key).judge(page, 0, "")
    return {
        "exit_code": RejectBudgetError.exit_code if page.records and not verdict.records else 0,
        "fetched": len(page.records),
        "accepted": len(verdict.records),
        "rejected_by_cause": dict(Counter(reject.cause for reject in verdict.rejects).most_common()),
        "unknown_fields": dict(verdict.unknown),
        "declared_total": page.total,
        "more": page.next is not None,
        "note": page.note,
    }
