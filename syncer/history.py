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


def listing(found: Sequence[Row], limit: int, place: Path) -> str:
    """The runs found in a place as text, source by source; of each the latest `limit`."""
    blocks = [
        _source(source, [row for row in found if row["source"] == source], limit)
        for source in sorted({str(row["source"]) for row in found})
    ]
    return "\n\n".join(blocks) or f"no runs are recorded in {place}"


def showing(row: Row) -> str:
    """One run as text, with everything that is known of it."""
    head = [
        ("run", f"{row['id']} of {one_line(row['source'])}"),
        ("started", _moment(row["started"]) + " UTC"),
        ("ended", f"{_moment(row['ended'])} UTC, after {_took(row['seconds'])}" if row["ended"] else "–"),
        ("outcome", _outcome(row)),
        ("requests", _requests(row)),
    ]
    head += [("waited", f"{_took(seconds)} for {one_line(reason)}") for reason, seconds in row["waited"].items()]
    head += [
        ("limit", f"{one_line(name)}: {told['remaining']:,.15g} left when last heard of")
        for name, told in row["limits"].items()
    ]
    head += [("command", one_line(row["command"]))]
    table = [("stream", "status", "pages", "fetched", "written", "rejected", "repeated")]
    table += [
        (stream["stream"], stream["status"], *(f"{number:,}" for number in _counts(stream)))
        for stream in row["streams"]
    ]
    widths = [max(len(line[column]) for line in table) for column in range(7)]
    streams = aligned(
        [(*line[:2], *(cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True))) for line in table]
    )
    marks = [
        f"{stream['stream']}: bookmark {one_line(str(stream['bookmark']))}"
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
    parts = [aligned(head), streams, changed, "\n".join([*marks, *notes]), "\n".join([*_why(row), *_next(row)])]
    return "\n\n".join(part for part in parts if part)


def _source(source: str, rows: Sequence[Row], limit: int) -> str:
    table: list[tuple[str, ...]] = [("run", "started (UTC)", "took", "outcome", "records", "rejects")]
    for row in rows[:limit]:
        counts = [_counts(stream) for stream in row["streams"]]
        written, rejected = (sum(count[place] for count in counts) for place in (2, 3))
        took = _took(row["seconds"]) if row["ended"] else "–"
        table.append((row["id"], _moment(row["started"]), took, _outcome(row), f"{written:,}", f"{rejected:,}"))
    widths = [max(len(line[column]) for line in table) for column in (4, 5)]
    shown, *lines = aligned([(*line[:4], line[4].rjust(widths[0]), line[5].rjust(widths[1])) for line in table]).split(
        "\n"
    )
    for line, row in zip(lines, rows, strict=False):
        shown += "\n" + line + "".join(f"\n  {shortened(why, WIDTH - 3)}" for why in _why(row))
    older = [f"{counted(len(rows) - limit, 'older run')}: syncer runs {source} --all"] if len(rows) > limit else []
    return "\n".join([one_line(source), shown, *older, *_next(rows[0])])


def _why(row: Row) -> list[str]:
    """A line for everything that went wrong."""
    found = [stream["error"]["message"] for stream in row["streams"] if stream.get("error")]
    names = [stream["stream"] for stream in row["streams"] if stream.get("error")]
    lines = [f"{name}: {one_line(message)}" for name, message in zip(names, found, strict=True)]
    return lines + ([one_line(row["error"]["message"])] if row.get("error") else [])


def _next(row: Row) -> Iterator[str]:
    """What to type next, after this run."""
    errors = [stream["error"] for stream in row["streams"] if stream.get("error")]
    errors += [row["error"]] if row.get("error") else []
    yield from (f"  → {one_line(hint)}" for hint in dict.fromkeys(error["hint"] for error in errors) if hint)
    if row["status"] == "killed":
        yield "killed: it did not end by itself; nothing committed is lost"
    resume = row["command"] if row["status"] == "killed" else row.get("resume")
    if resume:
        yield f"next     {one_line(resume)}"
    yield f"details  syncer runs show {row['id']}{one_line(row.get('out', ''))}"


def _outcome(row: Row) -> str:
    code = f", exit {row['exit_code']}" if row["exit_code"] else ""
    return f"{row['status']}{code}"


def _requests(row: Row) -> str:
    unchanged = row.get("not_modified")
    parts = [counted(row["requests"], "request"), f"{size(row['received'])} received", f"{row['retries']:,} retried"]
    return ", ".join(parts + ([f"{unchanged:,} not modified"] if unchanged else []))


def _counts(stream: dict[str, Any]) -> tuple[int, ...]:
    """What the run did to a stream; of one that never ended, what the stream's whole run had when last heard of."""
    counts = stream.get("pulled") or stream.get("run") or {}
    return tuple(counts.get(name, 0) for name in ("pages", "fetched", "written", "rejected", "repeated"))


def _moment(stamp: str) -> str:
    return one_line(stamp[:19].replace("T", " "))


def _took(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3m 20s`, `2h 5m`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60}m"
