"""What `list`, `status` and `check` say: values for machines, and the same as text for people."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from .auth import Environment, given, is_set
from .check import credentials
from .config import OUT, SINK
from .errors import ConfigError, CredentialsError, SinkError, SyncerError
from .pull import OUT as USUAL
from .pull import ready, refreshing, unchanged, variable
from .report import aligned, failure
from .sinks import KINDS, Sink, sink
from .stream import Connector, Stream, base_url, fingerprint
from .terminal import counted, one_line

Row = dict[str, Any]


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
        "variables": {name: given(name, environment) for name in (found.auth.variables() if found.auth else ())},
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


def stream(found: Stream, target: Sink, fault: SyncerError | None = None) -> Row:
    """How far one stream is, and what keeps it from going on."""
    row = _stream(found, target)
    return row if fault is None else {**row, "error": failure(fault), "next": "stops before its first request"}


def _stream(found: Stream, target: Sink) -> Row:
    checkpoint = target.peek()
    row: Row = {"stream": found.name, "places": dict(target.places())}
    if checkpoint is None or not checkpoint.run:
        return {**row, "status": "never pulled", "next": "begins at the beginning"}
    if checkpoint.open:
        coming = f"goes on after page {checkpoint.counts.pages:,}"
        coming += "; the last complete output stays until then" if refreshing(found, checkpoint) else ""
    elif found.incremental and checkpoint.bookmark is not None:
        coming = f"asks for what is new since {checkpoint.bookmark}"
    elif found.incremental:
        coming = "asks for everything: there is no bookmark yet"
    else:
        coming = "fetches everything anew, then replaces the output"
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
        "purged": checkpoint.stored.purged,
        "bookmark": checkpoint.bookmark,
        "cursor": checkpoint.cursor.to_json() if checkpoint.cursor else None,
        "next": coming,
    }


def trouble(
    out: Path, found: Connector, stream: Stream, target: Sink, given: Mapping[str, str], environment: Environment
) -> SyncerError | None:
    """Why the next pull could write nothing here, or would not go on; None if nothing is in its way.

    What it takes settings to tell is left out where they are missing.
    """
    try:
        place = next(path for path in (out / found.name, *(out / found.name).absolute().parents) if path.exists())
        if not place.is_dir():
            raise SinkError(f"{place} is not a directory", hint="choose another --out")
        if not os.access(place, os.W_OK | os.X_OK):
            raise SinkError(f"nothing can be written in {place}", hint="choose another --out, or change who may write")
        checkpoint = target.peek()
        target.look()
        with suppress(ConfigError, CredentialsError):
            now = fingerprint(found, stream, ready(found, [stream], given, environment))
            if checkpoint is not None:
                unchanged(checkpoint, now)
    except SyncerError as error:
        return error
    return None


def standing(source: str, rows: Sequence[Row]) -> str:
    """How far the streams are, as text."""
    counts = {"pages": "pages (run)", "records": "records stored", "rejects": "rejects stored"}
    table: list[tuple[str, ...]] = [("stream", "last saved (UTC)", *counts.values())]
    for row in rows:
        saved = row["saved"][:19].replace("T", " ") if "run" in row else "–"
        numbers = [(f"{row[name]:,}" if "run" in row else "–").rjust(len(title)) for name, title in counts.items()]
        table.append((row["stream"], saved, *numbers))
    shown, *lines = aligned(table).split("\n")
    for line, row in zip(lines, rows, strict=True):
        coming = row["next"] if row["status"] in ("open", "never pulled") else f"the next pull {row['next']}"
        shown += f"\n{line}\n  {row['status']}: {one_line(coming)}"
        shown += f"\n  {counted(row['purged'], 'reject')} purged" if row.get("purged") else ""
        shown += _fault(row.get("error"))
    places = dict.fromkeys(place for row in rows for place in row["places"].values())
    return f"{source}\n{shown}\n\n" + "\n".join(places)


def _fault(error: Row | None) -> str:
    if not error:
        return ""
    return f"\n  {one_line(error['message'])}" + (f"\n  → {one_line(error['hint'])}" if error["hint"] else "")


def flags(out: Path, kind: str, folder: Path | None) -> str:
    """The options that a later command about this output has to repeat."""
    given = [
        ("--out", str(out), out != USUAL or os.environ.get(OUT)),
        ("--sink", kind, kind != KINDS[0] or os.environ.get(SINK)),
        ("--connectors", str(folder), folder),
    ]
    return "".join(f" {name} {quote(value)}" for name, value, needed in given if needed)


def filters(cause: str, since: str | None, run: int | None) -> str:
    """The options that choose among rejects, as a command has to repeat them."""
    given = [("--cause", cause), ("--since", since), ("--run", run)]
    return "".join(f" {name} {quote(str(value))}" for name, value in given if value)


def place(out: Path) -> str:
    """The option that says where the output is, if a later command has to repeat it."""
    return flags(out, KINDS[0], None).partition(" --sink ")[0]


def elsewhere(command: str, out: Path, kind: str, source: str, streams: Sequence[Stream]) -> str:
    """What to say where none of the streams was pulled into this sink: the other one has them, or nothing is there."""
    here = out / source
    if not here.is_dir():
        return f"never pulled: there is no {here}"
    used = [one for one in KINDS if any(_pulled(sink(one, out, source, stream)) for stream in streams)]
    if kind in used or not used:
        return ""
    again = f"{command} --sink {used[0]}" + place(out)
    return f"nothing was pulled with --sink {kind}, but {here} has what --sink {used[0]} wrote: {again}"


def _pulled(target: Sink) -> bool:
    with suppress(SyncerError):  # what is wrong with a sink that nobody asked for is not said here
        found = target.peek()
        return found is not None and found.run > 0
    return False


def exposed(found: Connector, streams: Sequence[Stream], given: Mapping[str, str], environment: Environment) -> str:
    """A warning where a secret would travel readable for everybody on the way; empty where none does.

    ConfigError or CredentialsError if something is missing.
    """
    settings = ready(found, streams, given, environment)
    parts = urlsplit(base_url(found, settings))
    if found.server or not found.auth or not is_set(found.auth, environment) or parts.scheme == "https":
        return ""
    host = parts.hostname or ""
    with suppress(ValueError):
        if ip_address(host).is_loopback:
            return ""
    if host == "localhost" or host.endswith(".localhost"):
        return ""
    names = " and ".join(found.auth.secrets())
    return f"warning: {names} goes to {host} over http, readable for everybody on the way; is there an https address?"


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
            fetched, total = row["fetched"], row["declared_total"]
            records = counted(fetched, "record") if total is None else f"{fetched:,} of {counted(total, 'record')}"
            more = "there are more pages" if row["more"] else "this is all"
            lines.append(f"  reachable; {records} on the first page, {more}")
            lines.append(f"  {row['accepted']:,} accepted, {row['fetched'] - row['accepted']:,} would be rejected")
            lines += [f"    {count:,}  {one_line(cause)}" for cause, count in row["rejected_by_cause"].items()]
            lines += [f"  note: {row['note']}"] if row["note"] else []
            unknown = ", ".join(f"{one_line(name)} ({count:,})" for name, count in row["unknown_fields"].items())
            lines += [f"  fields the model does not name: {unknown}"] if unknown else []
        lines += [f"  a pull stops before its first request:{_fault(row['destination'])}"] if row["destination"] else []
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, "nothing was written"])
