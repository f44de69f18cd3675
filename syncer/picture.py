"""The whole picture of a source: its runs, its streams, where every record went, and what was refused and why.

Values for `syncer report`, whose three forms, text, JSON and a page, all show this one thing. Nothing is read
here that `runs`, `status` and `rejects` do not read, nor in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import exhibit, history, ledger, overview, review
from .checkpoint import Counts
from .errors import SyncerError
from .log import redacted
from .pull import drifted
from .report import aligned, by_name
from .sinks import Sink, disk, sink
from .stream import Connector, Stream
from .terminal import one_line, writable

Row = dict[str, Any]

CAUSES = 5
"""How many causes the text shows."""
_PARTS = ("written", "rejected", "repeated", "purged")


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is known of a source.

    `runs` are rows of the ledger, the newest first; `streams` what `status` knows, each with its `balance`; `causes`
    what `rejects` knows; `drift` rows with `stream`, `text`, `count` and `first_seen`; `commands` what to type for
    more; `notes` what could not be read, or is not there.
    """

    source: str
    runs: Sequence[Row] = ()
    streams: Sequence[Row] = ()
    causes: Sequence[review.Group] = ()
    drift: Sequence[Row] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    fault: SyncerError | None = None

    def to_json(self) -> Row:
        """The same for machines: what `runs --json`, `status --json` and `rejects --json` print, in one object."""
        return {
            "source": self.source,
            "runs": list(self.runs),
            "streams": list(self.streams),
            "causes": [group.to_json() for group in self.causes],
            "drift": list(self.drift),
            "notes": list(self.notes),
        }


def sources(out: Path) -> list[str]:
    """The sources that have an output here. SinkError if the directory cannot be read."""
    with disk.explained(out, "list"):
        return sorted(home.name for home in out.iterdir() if (home / ".syncer").is_dir()) if out.is_dir() else []


def picture(
    connector: Connector,
    chosen: Sequence[Stream],
    out: Path,
    kind: str,
    secrets: Sequence[str],
    command: Callable[[str, bool], str],
    trouble: Callable[[Stream, Sink], SyncerError | None],
) -> Picture:
    """Look at a source. SinkError for what cannot be read, StateError for what is damaged.

    `command` makes of the name of a command what to type, with the streams or without; `trouble` says what keeps the
    next pull of a stream from going on. No secret comes through.
    """
    source, notes = connector.name, list[str]()
    runs = ledger.runs(out, source, notes.append)
    targets = [(stream, sink(kind, out, source, stream)) for stream in chosen]
    nothing = ""  # where there is no output at all, each form says so by itself
    if (out / source).is_dir():
        nothing = overview.elsewhere(command("report", True), out, kind, source, chosen)
    known = {stream.name: review.before(stream, target, kind, runs) for stream, target in targets}
    found = (each for stream, target in targets for each in review.read(stream.name, target))
    groups = review.causes(found, known)
    for group in groups:
        group.samples = [_hidden(sample, secrets) for sample in group.samples]
        group.values = redacted(group.values, secrets)
        group.cause = redacted(group.cause, secrets)
    rows = [
        {**overview.stream(stream, target, trouble(stream, target)), "balance": _balance(target.peek())}
        for stream, target in targets
    ]
    drift = [
        {"stream": stream.name, **change.to_json()}
        for stream, target in targets
        if (checkpoint := target.peek()) and checkpoint.run
        for change in drifted(checkpoint, stream)
    ]
    hide = [redacted(writable(part), secrets) for part in (runs, rows, drift, [*notes, *filter(None, [nothing])])]
    shown = {"all": "rejects", "show": "rejects show", "replay": "rejects replay", "drift": "drift"}
    commands = {name: command(words, name != "show") for name, words in shown.items()}
    return Picture(source, hide[0], hide[1], groups, hide[2], {**commands, "all": f"{commands['all']} --all"}, hide[3])


def unknown(source: str, out: Path, error: SyncerError, secrets: Sequence[str]) -> Picture:
    """What can be told of a source that has no connector any more, or whose output is damaged: its runs."""
    notes: list[str] = []
    runs: list[Row] = []
    with suppress(SyncerError):
        runs = ledger.runs(out, source, notes.append)
    notes.append(f"only its runs are shown: {error}")
    return Picture(source, redacted(writable(runs), secrets), notes=redacted(writable(notes), secrets), fault=error)


def text(seen: Picture, flags: str = "") -> str:
    """The picture in short, for a terminal and for a ticket."""
    parts = [history.showing(seen.runs[0])] if seen.runs else [f"{one_line(seen.source)}: no runs are recorded"]
    parts += [overview.standing(seen.source, seen.streams)] if seen.streams else []
    parts += [balances(seen.streams)] if any(row["balance"] for row in seen.streams) else []
    parts += [_drift(seen.drift)] if seen.drift else []
    parts += [exhibit.grouped(seen.source, seen.causes, seen.commands, CAUSES)] if seen.streams else []
    parts += ["\n".join(f"note: {one_line(note)}" for note in seen.notes)] if seen.notes else []
    parts += [f"all runs: syncer runs {one_line(seen.source)}{flags} --all"] if len(seen.runs) > 1 else []
    return "\n\n".join(parts)


def balances(rows: Sequence[Row]) -> str:
    """Where every record that was fetched is now, as text."""
    table: list[tuple[str, ...]] = []
    for row in rows:
        if balance := row["balance"]:
            parts = " + ".join(f"{balance['stored'][name]:,} {name}" for name in _PARTS)
            verdict = "" if balance["balanced"] else "  — this does not add up"
            table.append((f"  {row['stream']}", f"{balance['stored']['fetched']:,} fetched = {parts}{verdict}"))
    return "where the records went\n" + aligned(table)


def _balance(checkpoint: Any) -> Row | None:
    """What the checkpoint says of where the records went, of the run and of the whole output; None without one."""
    if checkpoint is None or not checkpoint.run:
        return None
    run: Counts = checkpoint.counts
    stored: Counts = checkpoint.stored
    return {"run": by_name(run), "stored": by_name(stored), "balanced": run.balanced() and stored.balanced()}


def _drift(rows: Sequence[Row]) -> str:
    return "what is not as it was\n" + aligned(
        [(f"  {row['count']:>7,}", str(row["stream"]), one_line(str(row["text"]))) for row in rows]
    )


def _hidden(found: review.Found, secrets: Sequence[str]) -> review.Found:
    """A sample without secrets, under the name that the reject itself has."""
    from .decode import encode

    row = redacted(found.row, secrets)
    if row == found.row:
        return found
    row |= {"cut": found.row.get("cut", False), "id": found.id}
    return review.Found(found.stream, encode(row), row)
