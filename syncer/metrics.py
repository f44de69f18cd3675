"""What the last pull did, for Prometheus: a text file that node_exporter's textfile collector reads.

Every number is of the last pull, so all are gauges. The names are the keys of METRICS, and what each means stands
beside it; labels are `source`, and where they are needed `stream`, `reason` or `limit`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from .terminal import one_line

METRICS = {
    "syncer_last_pull_timestamp_seconds": "When the last pull ended.",
    "syncer_last_success_timestamp_seconds": "When the last pull that ended with exit code 0 did.",
    "syncer_last_pull_duration_seconds": "How long the last pull took.",
    "syncer_last_pull_exit_code": "The exit code of the last pull; 0 is complete.",
    "syncer_last_pull_requests": "Requests sent by the last pull.",
    "syncer_last_pull_retries": "Attempts that the last pull repeated.",
    "syncer_last_pull_received_bytes": "Bytes that the last pull received, decompressed.",
    "syncer_last_pull_waited_seconds": "Seconds that the last pull waited, by reason.",
    "syncer_limit_remaining": "Requests left of a limit, as the server last said.",
    "syncer_stream_complete": "1 if the last pull reached the last page of the stream, else 0.",
    "syncer_stream_pages": "Pages that the last pull saved.",
    "syncer_stream_records_fetched": "Records that the last pull fetched.",
    "syncer_stream_records_written": "Records that the last pull wrote.",
    "syncer_stream_records_rejected": "Records that the last pull rejected.",
    "syncer_stream_records_repeated": "Records that the last pull had already.",
    "syncer_stream_records_stored": "Records in the whole output.",
}
MOST = 20
"""How many reasons and limits have a line of their own: a server may make up any number."""
_WAITED = "syncer_last_pull_waited_seconds"
Value = tuple[str, dict[str, str], float]


def text(row: Mapping[str, Any], succeeded: str | None) -> str:
    """A run of the ledger in Prometheus' text format; `succeeded` is when the last good one ended."""
    values: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for name, labels, value in _values(row, succeeded):
        shown = _labels(labels)  # one line for what looks alike: Prometheus refuses a file with two
        values[name][shown] = value + (values[name].get(shown, 0) if name == _WAITED else 0)
    lines = []
    for name, about in METRICS.items():
        if values[name]:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
            lines += [f"{name}{{{labels}}} {_number(value)}" for labels, value in values[name].items()]
    return "\n".join(lines) + "\n"


def write(path: Path, content: str) -> None:
    """Put the text in the file's place at once: no reader ever sees half of it. OSError if that fails.

    Whoever collects it is another user: a new file may be read by everybody, one that is there keeps its mode.
    """
    place = Path(os.path.realpath(path))
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(descriptor, stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o644)
        beside.replace(place)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def _values(row: Mapping[str, Any], succeeded: str | None) -> Iterator[Value]:
    own = {"source": str(row["source"])}
    yield "syncer_last_pull_timestamp_seconds", own, _moment(row["ended"])
    if succeeded:
        yield "syncer_last_success_timestamp_seconds", own, _moment(succeeded)
    yield "syncer_last_pull_duration_seconds", own, row["seconds"]
    yield "syncer_last_pull_exit_code", own, row["exit_code"]
    yield "syncer_last_pull_requests", own, row["requests"]
    yield "syncer_last_pull_retries", own, row["retries"]
    yield "syncer_last_pull_received_bytes", own, row["received"]
    for reason, seconds in list(row["waited"].items())[:MOST]:
        yield _WAITED, {**own, "reason": reason}, seconds
    for limit, told in list(row["limits"].items())[:MOST]:
        yield "syncer_limit_remaining", {**own, "limit": limit}, told["remaining"]
    for stream in row["streams"]:
        labels = {**own, "stream": stream["stream"]}
        yield "syncer_stream_complete", labels, int(stream["status"] == "complete")
        if pulled := stream.get("pulled"):
            yield "syncer_stream_pages", labels, pulled["pages"]
            for kind in ("fetched", "written", "rejected", "repeated"):
                yield f"syncer_stream_records_{kind}", labels, pulled[kind]
            yield "syncer_stream_records_stored", labels, stream["stored"]["written"]


def _moment(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return one_line(value).replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(value)
