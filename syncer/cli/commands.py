"""The commands: parse, call, print. What they print is made elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from ..clock import Clock
from ..errors import ConfigError, SyncerError
from ..terminal import say
from .drift import drift
from .given import (
    OUT,
    AsJson,
    Folder,
    Log,
    Metrics,
    Notify,
    NotifyOn,
    Out,
    Settings,
    SinkKind,
    Source,
    Streams,
    Traces,
    Yes,
    again,
    confirm,
    explain,
    filled,
    looked_up,
    print_json,
    seconds,
    stopping,
    variables,
    without_secrets,
)
from .rebuilding import rebuild, size
from .rejects import app as rejects
from .report import report

if TYPE_CHECKING:
    from ..events import Observer
    from ..report import Report

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Pull paged records from HTTP APIs: validated, resumable, exactly once.",
)


app.add_typer(rejects, name="rejects")


@app.command()
def pull(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    settings: Settings = None,
    max_pages: Annotated[int | None, typer.Option(min=1, help="Stop after so many pages of each stream.")] = None,
    max_rejects: Annotated[
        str | None, typer.Option(metavar="N|N%", help="Stop when a run has more rejects than this.")
    ] = None,
    patience: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long to wait for a limit, and for an API that is away: 30s, 6h. Without it 15m, and not at all.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Requests under way at once; 1 is one after another. Without it up to 8."),
    ] = None,
    keep_pages: Annotated[
        bool, typer.Option("--keep-pages", help="Keep every page as it came, for `syncer rebuild`.")
    ] = False,
    keep_size: Annotated[
        str, typer.Option("--keep-pages-size", metavar="SIZE", help="At most so much of them: 500MB, 2GB.")
    ] = "2GB",
    keep_age: Annotated[
        str, typer.Option("--keep-pages-age", metavar="TIME", help="Each for at most so long: 30d.")
    ] = "365d",
    restart: Annotated[bool, typer.Option("--restart", help="Pull everything anew; replaces the output.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on although the connector or its settings changed.")
    ] = False,
    yes: Yes = False,
    folder: Folder = None,
    log: Log = None,
    metrics: Metrics = None,
    traces: Traces = False,
    notify: Notify = None,
    notify_on: NotifyOn = None,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every request.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary, only errors.")] = False,
) -> None:
    """Pull a source: begin, or go on where the last pull stopped."""
    from .. import overview
    from ..progress import shown
    from ..pull import Options
    from ..pull import pull as run
    from ..report import Budget
    from .recorded import Run, recorded, refused

    connector, chosen = looked_up(source, streams, folder)
    Budget.parse(max_rejects)
    options = Options(
        out=out,
        sink=sink,
        settings=filled(settings),
        restart=restart,
        accept_changes=accept_changes,
        max_pages=max_pages,
        max_rejects=max_rejects,
        patience=seconds(patience or "15m"),
        outage=seconds(patience or "0s"),
        concurrency=concurrency,
        keep_pages=keep_pages,
        keep_size=size(keep_size),
        keep_age=seconds(keep_age),
    )
    if restart and not yes:
        names = ", ".join(stream.name for stream in chosen)
        confirm(f"Pull {names} of {source} anew? What is in {out / source} is replaced when the new pull is complete.")
    plain = log != "-"  # else stderr is the log
    clock = Clock(stop=stopping(silent=not plain))
    flags = overview.flags(out, sink, folder)
    about = Run(
        connector,
        tuple(stream.name for stream in chosen),
        out,
        sink,
        f"syncer pull {source} {' '.join(streams or [])}".rstrip() + options.given + flags,
        log,
        metrics,
        traces,
        notify or "",
        notify_on,
    )
    try:
        warning = overview.exposed(connector, chosen, options.settings or {}, variables())
    except SyncerError as error:
        refused(about, clock, variables(), error)
        raise
    if warning and plain and not quiet:
        say(warning, error=True)
    if plain and not quiet and not as_json:
        pace = f", at most {connector.rate}" if connector.rate else ""
        say(f"{source}: {', '.join(about.streams)} → {out / source} ({sink}{pace})", error=True)

    def work(observe: Observer) -> Report:
        report = run(connector, chosen, options, variables(), clock, observe)
        report.flags = flags
        for error in (stream.error for stream in report.streams if stream.error):
            error.message, error.hint = without_secrets(error.message), without_secrets(error.hint)
        return report

    with shown(clock, quiet=quiet or as_json or not plain, verbose=verbose) as observe:
        report = recorded(about, clock, variables(), observe, work, warning)
    if as_json:
        print_json(report.to_json())
    elif not quiet:
        say(report.text())
    for stream in report.streams:
        if stream.error and (quiet or as_json) and plain:
            explain(stream.error)
    raise typer.Exit(report.exit_code)


@app.command("list")
def list_(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="Only this connector.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """List connectors and streams, what each needs, and whether it is set."""
    from .. import overview
    from ..config import catalogue, load
    from ..config import connector as find

    environment = variables()
    if source is not None:
        rows = [overview.connector(find(source, folder), environment)]
    else:
        rows = []
        for name, place in sorted(catalogue(folder).items()):
            try:
                rows.append(overview.connector(load(name, place), environment))
            except ConfigError as error:
                rows.append({"name": name, "error": without_secrets(str(error))})
    print_json(rows) if as_json else say(overview.listing(rows))


@app.command()
def status(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show each stream: last run, how far it is, and what the next pull will do."""
    from .. import overview
    from ..sinks import sink as open_sink

    connector, chosen = looked_up(source, streams, folder)
    rows, code, environment = [], 0, variables()
    for stream in chosen:
        target = open_sink(sink, out, source, stream)
        fault = overview.trouble(out, connector, stream, target, {}, environment)
        rows.append(overview.stream(stream, target, fault))
        code = code or (fault.exit_code if fault else 0)
    print_json(rows) if as_json else say(overview.standing(connector.name, rows))
    if hint := overview.elsewhere(again("status", source, streams, folder), out, sink, source, chosen):
        say(hint, error=as_json)
    raise typer.Exit(code)


app.command()(drift)


@app.command()
def reset(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    yes: Yes = False,
    folder: Folder = None,
) -> None:
    """Set a source's output aside under new names and forget its position; nothing is deleted."""
    from ..sinks import sink as open_sink

    _, chosen = looked_up(source, streams, folder)
    if not yes:
        names = ", ".join(stream.name for stream in chosen)
        confirm(f"Set {names} in {out / source} aside and forget how far they were?")
    stamp = Clock().now().strftime("%Y%m%dT%H%M%SZ")
    for stream in chosen:
        moved = open_sink(sink, out, source, stream).set_aside(stamp) if (out / source).is_dir() else []
        say(f"{stream.name}: " + (", ".join(moved) if moved else "nothing was there") + "; the next pull begins anew")


@app.command()
def check(
    source: Source,
    streams: Streams = None,
    settings: Settings = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    max_patience: Annotated[str, typer.Option("--patience", metavar="TIME", help="How long to wait.")] = "30s",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Check credentials and space, reach the API and validate one page of each stream; nothing is written."""
    from .. import overview
    from ..check import check as run
    from ..report import failure
    from ..sinks import sink as open_sink
    from .recorded import room

    connector, chosen = looked_up(source, streams, folder)
    targets = [open_sink(sink, out, source, stream) for stream in chosen]
    given, environment = filled(settings), variables()
    if warning := overview.exposed(connector, chosen, given, environment):
        say(warning, error=True)
    if warning := room(out, source):
        say(f"note: {warning}", error=True)
    clock = Clock(stop=stopping())
    rows = run(connector, chosen, given, environment, clock, seconds(max_patience))
    for row, stream, target in zip(rows, chosen, targets, strict=False):
        fault = overview.trouble(out, connector, stream, target, given, environment)
        row["destination"] = failure(fault)
        row["exit_code"] = row["exit_code"] or (fault.exit_code if fault else 0)
        row |= {name: without_secrets(row[name]) for name in ("error", "hint", "answer") if name in row}
    print_json(rows) if as_json else say(overview.checked(connector.name, rows))
    raise typer.Exit(
        next((row["exit_code"] for row in rows if row["exit_code"]), 128 + clock.stop.signal if clock.stop else 0)
    )


app.command()(rebuild)


@app.command()
def runs(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE | show ID]", help="Only this source; or one run, by the beginning of its id."),
    ] = None,
    out: Out = OUT,
    every: Annotated[bool, typer.Option("--all", help="Every run that is remembered, not only the latest 20.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show past pulls: when, how long, how each ended, why, and what to type next."""
    from .. import history, ledger, overview
    from ..config import catalogue

    one = words[1] if words and len(words) == 2 and words[0] == "show" else None
    source = words[0] if words and len(words) == 1 else None
    found = ledger.runs(out, source, lambda text: say(f"note: {text}", error=True))
    if words and one is None and (source is None or (source == "show" and not found)):
        raise ConfigError(
            "that is neither a source nor a run", hint="type `syncer runs SOURCE` or `syncer runs show ID`"
        )
    if source and not found and not (out / source).is_dir() and source not in catalogue(None):
        raise ConfigError(f"nothing is known of {source!r}: no pull into {out}, and no connector", hint="`syncer list`")
    if one is not None:
        row = ledger.run(found, one)
        print_json(row) if as_json else say(history.showing(row))
    elif as_json:
        print_json(found)
    else:
        limit = len(found) if every else 20
        say(history.listing(found, limit, out / (source or ""), overview.place(out)))


app.command()(report)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        say(f"syncer {__version__}")
        raise typer.Exit
    del context
