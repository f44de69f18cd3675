"""`syncer rejects`: what was refused and why, and what may become of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ..clock import Clock
from ..errors import ConfigError, StoppedError
from ..terminal import say, say_json
from .given import (
    OUT,
    AsJson,
    Folder,
    Out,
    SinkKind,
    Source,
    Streams,
    Yes,
    again,
    confirm,
    explain,
    looked_up,
    masked,
    moment,
    print_json,
    stopping,
    variables,
)
from .recorded import secrets

if TYPE_CHECKING:
    from ..replay import Settled
    from ..review import Before
    from ..sinks import Sink
    from ..stream import Stream

Cause = Annotated[str, typer.Option("--cause", metavar="TEXT", help="Only causes that hold this text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]


class Either(TyperGroup):
    """`rejects SOURCE` shows them; where the first word is the name of a command, it is that command."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command that was meant."""
        named = self.commands.get(args[0]) if args else None
        if named is not None and not named.hidden:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands["review"].make_context(info_name, args, parent, **extra)


app = typer.Typer(cls=Either, rich_markup_mode=None, help="Show the rejected records, and try or purge them.")


@app.command(hidden=True, epilog="More: syncer rejects show, replay and purge, each with its own --help.")
def review(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    cause: Cause = "",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only since then: 2026-01-31, or 2d for two days ago.")
    ] = None,
    run: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only of this run.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many causes, or rejects.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every reject instead of one sample per cause.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Every reject as CSV, safe to open in a spreadsheet.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show the rejected records, grouped by cause."""
    from itertools import islice

    from .. import exhibit, overview, review

    if as_csv and as_json:
        raise ConfigError("--csv and --json are two forms of the same", hint="give one of them")
    _, chosen = looked_up(source, streams, folder)
    nothing = overview.elsewhere(again("rejects", source, streams, folder), out, sink, source, chosen)
    wanted = review.Wanted(cause, moment(since, Clock().now()) if since else None, run=run)
    found = filter(
        wanted,
        (each for stream, target in _targets(source, chosen, out, sink) for each in review.read(stream.name, target)),
    )
    if as_csv:
        for row in review.rows(islice(found, limit)):
            say(row)
    elif every:
        for each in islice(found, limit):
            say_json(review.line(each)) if as_json else say(exhibit.reject(each))
    else:
        groups = review.causes(found, _known(source, chosen, out, sink))
        if as_json:
            print_json([group.to_json() for group in groups[:limit]])
        else:
            flags = overview.flags(out, sink, None)
            filters = overview.filters(cause, since, run)
            commands = {
                "all": again("rejects", source, streams, folder) + flags + filters + " --all",
                "show": again("rejects show", source, None, folder) + flags,
                "drift": again("drift", source, streams, folder) + flags,
                "replay": again("rejects replay", source, streams, folder) + flags,
            }
            say(nothing or exhibit.grouped(source, groups, commands, limit))
    if nothing and (every or as_json or as_csv):
        say(nothing, error=True)


@app.command()
def show(
    source: Source,
    name: Annotated[str, typer.Argument(metavar="ID", help="The id of a reject, or its beginning.")],
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show one rejected record as a whole, with every reason beside its place in it."""
    from .. import exhibit, overview, review

    _, chosen = looked_up(source, None, folder)
    targets = _targets(source, chosen, out, sink)
    found = review.one((each for stream, target in targets for each in review.read(stream.name, target)), name)
    command = again("rejects replay", source, [found.stream], folder) + overview.flags(out, sink, None)
    say_json(review.line(found)) if as_json else say(exhibit.whole(found, f"{command} --dry-run"))


@app.command()
def replay(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    dry_run: DryRun = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Validate the rejects again under today's model, offline, and move those that pass to the records."""
    from .. import exhibit, overview
    from ..replay import each
    from ..replay import replay as run

    found, chosen = looked_up(source, streams, folder)
    hide = secrets(found, variables())
    clock = Clock(stop=stopping())
    nothing = overview.elsewhere(again("rejects replay", source, streams, folder), out, sink, source, chosen)
    targets = _targets(source, chosen, out, sink)

    def work(stream: Stream, target: Sink, done: Settled) -> None:
        run(stream, target, clock, done, lambda text: masked(text, hide), out / source)

    try:
        rows = each(source, targets, work, dry_run=dry_run)
    except StoppedError:
        _leave(clock)
    flags = overview.flags(out, sink, None)
    commands = {
        "left": again("rejects", source, streams, folder) + flags,
        "replay": again("rejects replay", source, streams, folder) + flags,
        "pull": again("pull", source, streams, folder) + flags,
    }
    _said(rows, nothing, exhibit.replayed(source, rows, commands), as_json)


@app.command()
def purge(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Refused before then: 2026-01-31, or 30d for a month ago.")
    ] = None,
    cause: Cause = "",
    yes: Yes = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Delete rejects by age or cause, or both; they are counted as purged."""
    from .. import exhibit, overview
    from ..replay import each
    from ..replay import purge as run
    from ..review import Wanted

    if not before and not cause:
        raise ConfigError("that would purge every reject", hint="say which: --before 30d, or --cause TEXT")
    _, chosen = looked_up(source, streams, folder)
    clock = Clock(stop=stopping())
    nothing = overview.elsewhere(again("rejects purge", source, streams, folder), out, sink, source, chosen)
    wanted = Wanted(cause, before=moment(before, clock.now()) if before else None)
    targets = _targets(source, chosen, out, sink)

    def work(stream: Stream, target: Sink, done: Settled) -> None:
        run(stream, target, clock, wanted, done)

    try:
        if not yes:
            planned = each(source, targets, work, dry_run=True)
            count = sum(done.gone for done in planned)
            if count or any(done.error for done in planned):
                names = ", ".join(done.stream for done in planned if done.gone)
                confirm(f"Purge {count:,} rejects of {names or source}? Nothing brings them back.")
        rows = each(source, targets, work)
    except StoppedError:
        _leave(clock)
    _said(rows, nothing, exhibit.purged(source, rows), as_json)


def _targets(source: str, streams: Sequence[Stream], out: Path, kind: str) -> list[tuple[Stream, Sink]]:
    from ..sinks import sink

    return [(stream, sink(kind, out, source, stream)) for stream in streams]


def _known(source: str, streams: Sequence[Stream], out: Path, kind: str) -> dict[str, Before]:
    """What was known of the streams before their last runs."""
    from ..review import before
    from .recorded import past

    runs = past(out, source) if (out / source).is_dir() else []
    return {stream.name: before(stream, target, kind, runs) for stream, target in _targets(source, streams, out, kind)}


def _said(rows: Sequence[Settled], nothing: str, text: str, as_json: bool) -> None:
    """Print what was done, and exit with the code of the first stream that failed."""
    print_json([row.to_json() for row in rows]) if as_json else say(nothing or text)
    if nothing and as_json:
        say(nothing, error=True)
    for row in rows:
        if row.error and as_json:
            explain(row.error)
    raise typer.Exit(next((row.error.exit_code for row in rows if row.error), 0))


def _leave(clock: Clock) -> NoReturn:
    say("stopped: the stream at hand is as it was", error=True)
    raise typer.Exit(128 + clock.stop.signal)
