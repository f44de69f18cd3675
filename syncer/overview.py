"""What `list`, `status`, `rejects` and `check` say: values for machines, and the same as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from .auth import Environment
from .check import credentials
from .decode import encode
from .pull import variable
from .report import aligned
from .sinks import Sink
from .stream import Connector, Stream
from .terminal import one_line
from .validate import signature

Row = dict[str, Any]
SAMPLE = 300


def connector(found: Connector, environment: Environment) -> Row:
    """A connector, its streams, and what it needs."""
    return {
        "name": found.name,
        "base_url": found.base_url,
        "rate": str(found.rate) if found.rate else None,
        "streams": [
            {
                "name": stream.name,
                "incremental": stream.incremental,
                "primary_key": list(stream.key),
                "cursor": stream.pagination.cursor,
                "settings": list(found.needs([stream])),
            }
            for stream in found.streams
        ],
        "settings": {
            name: {
                "about": found.settings.get(name, ""),
                "variable": variable(found, name),
                "set": bool(environment.get(variable(found, name), "").strip()),
            }
            for name in found.needs()
        },
        "credentials": credentials(found, environment),
        "variables": {
            name: bool(environment.get(name, "").strip()) for name in (found.auth.variables() if found.auth else ())
        },
    }


def listing(rows: Sequence[Row]) -> str:
    """The connectors as text."""
    blocks = []
    for row in rows:
        if "error" in row:
            blocks.append(f"{row['name']}\n  {one_line(row['error'])}")
            continue
        lines = [row["name"] + (f"  (at most {row['rate']})" if row["rate"] else "")]
        for stream in row["streams"]:
            kind = "only what is new" if stream["incremental"] else "everything each time"
            key = f", key {', '.join(stream['primary_key'])}" if stream["primary_key"] else ""
            lines.append(f"  {stream['name']}: {kind}{key}")
        for name, setting in row["settings"].items():
            state = "set" if setting["set"] else f"--set {name}=… or {setting['variable']}"
            about = f" — {setting['about']}" if setting["about"] else ""
            lines.append(f"  needs {name}{about}: {state}")
        for name, present in row["variables"].items():
            optional = " (optional)" if "optional" in row["credentials"] else ""
            lines.append(f"  secret {name}: {'set' if present else 'not set' + optional}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def stream(found: Stream, target: Sink) -> Row:
    """How far one stream is."""
    checkpoint = target.peek()
    row: Row = {"stream": found.name, "places": dict(target.places())}
    if checkpoint is None or not checkpoint.run:
        return {**row, "status": "never pulled", "next": "begins from the beginning"}
    if checkpoint.open:
        coming = f"goes on after page {checkpoint.counts.pages:,}"
    elif found.incremental and checkpoint.bookmark is not None:
        coming = f"asks for what is new since {checkpoint.bookmark}"
    elif found.incremental:
        coming = "asks for everything: there is no bookmark yet"
    else:
        coming = "pulls everything anew and replaces the output when it is complete"
    return {
        **row,
        "status": checkpoint.status,
        "run": checkpoint.run,
        "started": checkpoint.started,
        "saved": checkpoint.saved,
        "pages": checkpoint.counts.pages,
        "fetched": checkpoint.counts.fetched,
        "declared_total": checkpoint.total,
        "records": checkpoint.stored.written,
        "rejects": checkpoint.stored.rejected,
        "bookmark": checkpoint.bookmark,
        "cursor": checkpoint.cursor.to_json() if checkpoint.cursor else None,
        "next": coming,
    }


def standing(source: str, rows: Sequence[Row]) -> str:
    """How far the streams are, as text."""
    lines: list[tuple[str, ...]] = [
        ("stream", "status", "last saved (UTC)", "pages", "records", "rejects", "the next pull")
    ]
    for row in rows:
        if "run" not in row:
            lines.append((row["stream"], row["status"], "–", "–", "–", "–", row["next"]))
            continue
        saved = row["saved"][:19].replace("T", " ")
        numbers = (f"{row['pages']:,}", f"{row['records']:,}", f"{row['rejects']:,}")
        lines.append((row["stream"], row["status"], saved, *numbers, one_line(row["next"])))
    places = dict.fromkeys(place for row in rows for place in row["places"].values())
    return f"{source}\n{aligned(lines)}\n\n" + "\n".join(places)


def causes(lines: Iterable[tuple[str, bytes]]) -> list[Row]:
    """Rejects grouped by stream and cause, the commonest first, with one sample each."""
    groups: dict[tuple[str, str], Row] = {}
    for name, line in lines:
        reject = _exact(line)
        cause = "; ".join(sorted({signature(reason["path"], reason["type"]) for reason in reject["reasons"]}))
        group = groups.setdefault(
            (name, cause),
            {"stream": name, "cause": cause, "count": 0, "first": reject["at"], "pages": set(), "sample": line},
        )
        group["count"] += 1
        group["last"] = reject["at"]
        group["pages"].add((reject["run"], reject["page"]))
    total = sum(group["count"] for group in groups.values())
    ordered = sorted(groups.values(), key=lambda group: -group["count"])
    return [
        {
            **group,
            "share": round(group["count"] / total, 4),
            "pages": len(group["pages"]),
            "sample": _exact(group["sample"]),
        }
        for group in ordered
    ]


def grouped(source: str, groups: Sequence[Row]) -> str:
    """The groups as text."""
    if not groups:
        return f"{source}: no rejects"
    blocks = [f"{source}: {sum(group['count'] for group in groups):,} rejects, {len(groups)} causes"]
    for group in groups:
        sample = group["sample"]
        reasons = "\n".join(
            f"    {one_line(reason['path'] or '(record)')}: {one_line(reason['message'])}"
            for reason in sample["reasons"][:3]
        )
        seen = f"{group['first'][:19]} to {group['last'][:19]}".replace("T", " ")
        blocks.append(
            f"{group['count']:>7,}  {group['stream']}  {one_line(group['cause'])}\n"
            f"    {group['share']:.1%} of all, on {group['pages']} pages, {seen}\n"
            f"{reasons}\n"
            f"    sample, run {sample['run']}, page {sample['page']}, record {sample['index']}: {_raw(sample)}"
        )
    blocks.append(f"every one of them: syncer rejects {source} --all, or with --json for machines")
    return "\n\n".join(blocks)


def reject_line(name: str, line: bytes) -> bytes:
    """One reject for machines: its line with the stream's name."""
    return b'{"stream":' + orjson.dumps(name) + b"," + line[1:]


def reject_text(name: str, line: bytes) -> str:
    """One reject for people."""
    reject = _exact(line)
    reasons = "; ".join(
        f"{one_line(reason['path'] or '(record)')}: {one_line(reason['message'])}" for reason in reject["reasons"]
    )
    return (
        f"{name}, run {reject['run']}, page {reject['page']}, record {reject['index']}, {reject['at']}\n"
        f"  {reasons}\n  {_raw(reject, 10_000)}"
    )


def checked(source: str, rows: Sequence[Row]) -> str:
    """What `check` found, as text."""
    blocks = []
    for row in rows:
        lines = [f"{source}/{row['stream']}: credentials {row['credentials']}"]
        if "error" in row:
            lines.append(f"  failed: {one_line(row['error'])}")
            lines += [f"  → {one_line(row['hint'])}"] if row["hint"] else []
            lines += [f"  the answer begins: {one_line(row['answer'])}"] if row["answer"] else []
        else:
            total = f" of {row['declared_total']:,}" if row["declared_total"] is not None else ""
            more = "there are more pages" if row["more"] else "this is all"
            lines.append(f"  reachable; {row['fetched']:,}{total} records on the first page, {more}")
            lines.append(f"  {row['accepted']:,} accepted, {row['fetched'] - row['accepted']:,} would be rejected")
            lines += [f"    {count:,}  {one_line(cause)}" for cause, count in row["rejected_by_cause"].items()]
            lines += [f"  note: {row['note']}"] if row["note"] else []
            unknown = ", ".join(f"{one_line(name)} ({count:,})" for name, count in row["unknown_fields"].items())
            lines += [f"  fields the model does not name: {unknown}"] if unknown else []
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, "nothing was written"])


def _exact(line: bytes) -> Row:
    import json
    from decimal import Decimal

    found: Row = json.loads(line, parse_float=Decimal)
    return found


def _raw(reject: Mapping[str, Any], limit: int = SAMPLE) -> str:
    text = encode(reject["record"]).decode() if "record" in reject else str(reject["text"])
    return one_line(text if len(text) <= limit else text[:limit] + "…")
