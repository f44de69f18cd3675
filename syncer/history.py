"""What `syncer runs` says: which run failed, why, and what to type next, at one look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .ledger import Row
from .report import SHOWN, aligned
from .space import size
from .terminal import counted, one_line, shortened

WIDTH = 80


def listing(found: Sequence[Row], limit: int, place: Path, flags: str = "") -> str:
    """The runs found in a place as text, source by source; of each the latest `limit`.

    `flags` are the options that a command about them has to repeat.
    """
    blocks = [
        _source(source, [row for row in found if row["source"] == source], limit, flags)
        for source in sorted({row["source"] for row in found})
    ]
    return "\n\n".join(blocks) or f"no runs are recorded in {one_line(str(place))}"


def showing(row: Row) -> str:
    """One run as text, with everything that is known of it."""
    head = [
        ("run", f"{one_line(row['id'])} of {one_line(row['source'])}"),
        ("started", moment(row["started"]) + " UTC"),
        ("ended", f"{moment(row['ended'])} UTC, after {took(row['seconds'])}" if row["ended"] else "–"),
        ("outcome", outcome(row)),
        ("requests", _requests(row)),
    ]
    head += [("waited", f"{took(seconds)} for {one_line(reason)}") for reason, seconds in row["waited"].items()]
    head += [
        ("limit", f"{one_line(name)}: {told['remaining']:,.15g} left when last heard of")
        for name, told in row["limits"].items()
    ]
    head += [("command", one_line(row["command"]))]
    table: list[tuple[str, ...]] = [("stream", "status", "pages", "fetched", "written", "rejected", "repeated")]
    table += [
        (one_line(stream["stream"]), one_line(stream["status"]), *(f"{number:,}" for number in counts(stream)))
        for stream in row["streams"]
    ]
    widths = [max(len(line[column]) for line in table) for column in range(7)]
    streams = aligned(
        [(*line[:2], *(cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True))) for line in table]
    )
    marks = [
        f"{one_line(stream['stream'])}: bookmark {one_line(str(stream['bookmark']))}"
        for stream in row["streams"]
        if stream.get("bookmark") is not None
    ]
    drift = [
        (f"{one['count']:,} of {one['of']:,}", stream["stream"], shortened(one["text"], 60))
        for stream in row["streams"]
        for one in stream.get("drift", ())[:SHOWN]
    ]
    notes = [f"note: {one_line(note)}" for note in row["notes"]]
    changed = "not as it was\n" + aligned([("  " + count, *rest) for count, *rest in drift]) if drift else ""
    parts = [aligned(head), streams, changed, "\n".join([*marks, *notes]), "\n".join([*why(row), *following(row)])]
    return "\n\n".join(part for part in parts if part)


def _source(source: str, rows: Sequence[Row], limit: int, flags: str) -> str:
    table: list[tuple[str, ...]] = [("run", "started (UTC)", "took", "outcome", "records", "rejects")]
    for row in rows[:limit]:
        written, rejected = (sum(counts(stream)[place] for stream in row["streams"]) for place in (2, 3))
        length = took(row["seconds"]) if row["ended"] else "–"
        table.append(
            (one_line(row["id"]), moment(row["started"]), length, outcome(row), f"{written:,}", f"{rejected:,}")
        )
    widths = [max(len(line[column]) for line in table) for column in (4, 5)]
    shown, *lines = aligned([(*line[:4], line[4].rjust(widths[0]), line[5].rjust(widths[1])) for line in table]).split(
        "\n"
    )
    for line, row in zip(lines, rows, strict=False):
        shown += "\n" + line + "".join(f"\n  {shortened(fault, WIDTH - 3)}" for fault in why(row))
    older = len(rows) - limit
    more = [f"{counted(older, 'older run')}: syncer runs {one_line(source)}{flags} --all"] if older > 0 else []
    details = f"details  syncer runs show {one_line(rows[0]['id'])}{flags}"
    return "\n".join([one_line(source), shown, *more, *following(rows[0]), details])


def why(row: Row) -> list[str]:
    """A line for everything that went wrong."""
    failed = [stream for stream in row["streams"] if stream["error"]]
    lines = [f"{one_line(stream['stream'])}: {one_line(stream['error']['message'])}" for stream in failed]
    return lines + ([one_line(row["error"]["message"])] if row["error"] else [])


def following(row: Row) -> Iterator[str]:
    """What to type next, after this run, a line each."""
    errors = [one["error"] for one in (*row["streams"], row) if one["error"]]
    yield from (f"  → {one_line(hint)}" for hint in dict.fromkeys(error["hint"] for error in errors) if hint)
    if row["status"] == "killed":
        yield "killed: it did not end by itself; nothing committed is lost"
    if resume := row["command"] if row["status"] == "killed" else row["resume"]:
        yield f"next     {one_line(resume)}"


def outcome(row: Row) -> str:
    """`complete`, `failed, exit 4`."""
    code = f", exit {row['exit_code']}" if row["exit_code"] else ""
    return f"{one_line(row['status'])}{code}"


def _requests(row: Row) -> str:
    unchanged = row["not_modified"]
    parts = [counted(row["requests"], "request"), f"{size(row['received'])} received", f"{row['retries']:,} retried"]
    return ", ".join(parts + ([f"{unchanged:,} not modified"] if unchanged else []))


def counts(stream: dict[str, Any]) -> tuple[int, ...]:
    """What the run did to a stream; of one that never ended, what the stream's whole run had when last heard of."""
    found = stream.get("pulled") or stream.get("run") or {}
    return tuple(found.get(name, 0) for name in ("pages", "fetched", "written", "rejected", "repeated"))


def moment(stamp: str) -> str:
    """A stamp of the ledger to the second, for people."""
    return one_line(stamp[:19].replace("T", " "))


def took(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3m 20s`, `2h 5m`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60}m"
