"""`syncer rebuild`: an output made anew from the pages that are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from ..clock import Clock
from ..errors import ConfigError, SinkError, StoppedError, SyncerError
from ..terminal import say
from .given import (
    OUT,
    AsJson,
    Folder,
    Out,
    SinkKind,
    Source,
    Streams,
    again,
    explain,
    looked_up,
    masked,
    print_json,
    stopping,
    variables,
)
from .recorded import secrets


def size(text: str) -> float:
    """`2GB`, `500MB` or plain bytes as bytes. ConfigError for anything else."""
    units = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
    unit = units.get(text[-2:].upper(), 1)
    number = text[:-2] if unit > 1 else text
    if not number.isascii() or not number.replace(".", "", 1).isdecimal() or len(number) > 15:
        raise ConfigError(f"{text!r} is no size", hint="write 500MB or 2GB")
    return float(number) * unit


def rebuild(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would come; change nothing.")] = False,
    max_rejects: Annotated[
        str | None, typer.Option(metavar="N|N%", help="Leave the output as it is if more would be rejected than this.")
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Make the output anew from the pages that `pull --keep-pages` kept, under today's model, offline."""
    from .. import overview
    from ..kept import Pages
    from ..rebuild import Rebuilt
    from ..rebuild import rebuild as run
    from ..report import Budget
    from ..sinks import sink as open_sink

    found, chosen = looked_up(source, streams, folder)
    Budget.parse(max_rejects)
    hide = secrets(found, variables())
    clock = Clock(stop=stopping())
    nothing = overview.elsewhere(again("rebuild", source, streams, folder), out, sink, source, chosen)
    home, rows = out / source, list[Rebuilt]()
    for stream in chosen:
        rows.append(done := Rebuilt(stream.name, dry_run=dry_run))
        target, pages = open_sink(sink, out, source, stream), Pages(home, sink, stream.name)
        try:
            run(stream, target, pages, clock, done, home, max_rejects, lambda text: masked(text, hide))
        except StoppedError:
            say("stopped: the stream at hand is as it was", error=True)
            raise typer.Exit(128 + clock.stop.signal) from None
        except SyncerError as error:
            done.error = error.at(f"{source}/{stream.name}")
        finally:
            pages.close()
            target.close()
        if isinstance(done.error, SinkError):
            break
    print_json([row.to_json() for row in rows]) if as_json else say(nothing or "\n\n".join(row.text() for row in rows))
    if nothing and as_json:
        say(nothing, error=True)
    for row in rows:
        if row.error and as_json:
            explain(row.error)
    raise typer.Exit(next((row.error.exit_code for row in rows if row.error), 0))
