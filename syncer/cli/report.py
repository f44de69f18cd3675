"""`syncer report`: the whole picture of a source, for a ticket, for machines, or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..clock import Clock
from ..errors import ConfigError, SyncerError
from ..terminal import say
from .given import (
    OUT,
    AsJson,
    Folder,
    Out,
    SinkKind,
    Streams,
    again,
    explain,
    hidden,
    looked_up,
    print_json,
    variables,
)
from .recorded import apart, secrets

if TYPE_CHECKING:
    from ..picture import Picture
    from ..sinks import Sink
    from ..stream import Stream


def report(
    source: Annotated[
        str | None, typer.Argument(metavar="[SOURCE]", help="Only this source; all that have an output without it.")
    ] = None,
    streams: Streams = None,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write one page that needs nothing but itself; - is stdout.")
    ] = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show it all: the last run, where the records went, what was rejected and why; as a page with --html."""
    from .. import overview, picture, webpage

    if html == "-" and as_json:
        raise ConfigError("--html - and --json are two forms of the same", hint="give --html a file, or one of them")
    page = webpage.Page.ready() if html else None
    names = [source] if source else picture.sources(out)
    for name in names if html and html != "-" else ():
        apart("--html", Path(str(html)), out / name)
    seen = [_seen(name, streams, out, sink, folder, alone=source is not None) for name in names]
    if page and html == "-":
        say(page.html(seen, Clock().stamp()))
    elif page and html:
        webpage.write(Path(html), content := page.html(seen, Clock().stamp()))
        say(f"{html}: {len(content.encode()) / 1000:,.0f} kB, of {', '.join(names) or 'nothing'}", error=as_json)
    if as_json:
        print_json([one.to_json() for one in seen])
    elif not html:
        shown = "\n\n\n".join(picture.text(one, overview.place(out)) for one in seen)
        say(shown or f"nothing was pulled into {out} yet")
    faults = [one.fault for one in seen if one.fault]
    for fault in faults:
        explain(fault)
    raise typer.Exit(faults[0].exit_code if faults else 0)


def _seen(name: str, streams: list[str] | None, out: Path, sink: str, folder: Path | None, *, alone: bool) -> Picture:
    """What there is to tell of a source; of one among many, what is wrong with it is told too."""
    from .. import overview, picture

    try:
        connector, chosen = looked_up(name, streams, folder)
        flags = overview.flags(out, sink, None)

        def command(words: str, some: bool) -> str:
            return again(words, name, streams if some else None, folder) + flags

        def trouble(stream: Stream, target: Sink) -> SyncerError | None:
            return overview.trouble(out, connector, stream, target, {}, variables())

        return picture.picture(connector, chosen, out, sink, secrets(connector, variables()), command, trouble)
    except SyncerError as error:
        if alone:
            raise
        return picture.unknown(name, out, error, hidden())
