"""The command line: parse, call, print. What it prints is made elsewhere."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from . import __version__
from .clock import Clock, Stop
from .errors import ConfigError, SyncerError
from .terminal import one_line, say, say_json, writable

if TYPE_CHECKING:
    from .stream import Connector, Stream

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Pull paged records from HTTP APIs: validated, resumable, exactly once.",
)

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The connector: a name that `syncer list` shows.")]
Streams = Annotated[list[str] | None, typer.Argument(metavar="STREAM", help="Only these streams; all without it.")]
Out = Annotated[Path, typer.Option("--out", envvar="SYNCER_OUT", help="The directory that holds all output.")]
SinkKind = Annotated[str, typer.Option("--sink", envvar="SYNCER_SINK", help="jsonl or sqlite.")]
Folder = Annotated[
    Path | None,
    typer.Option("--connectors", envvar="SYNCER_CONNECTORS", help="A directory of connectors instead of ./connectors."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Fill a placeholder of the connector.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for machines.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
OUT = Path("data")


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
    restart: Annotated[bool, typer.Option("--restart", help="Pull everything anew; replaces the output.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on although the connector or its settings changed.")
    ] = False,
    yes: Yes = False,
    folder: Folder = None,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every request.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary, only errors.")] = False,
) -> None:
    """Pull a source: begin, or go on where the last pull stopped."""
    from . import overview
    from .progress import shown
    from .pull import Options
    from .pull import pull as run
    from .report import Budget

    connector, chosen = _chosen(source, streams, folder)
    Budget.parse(max_rejects)
    options = Options(
        out=out,
        sink=sink,
        settings=_settings(settings),
        restart=restart,
        accept_changes=accept_changes,
        max_pages=max_pages,
        max_rejects=max_rejects,
        patience=seconds(patience or "15m"),
        outage=seconds(patience or "0s"),
    )
    if restart and not yes:
        names = ", ".join(stream.name for stream in chosen)
        _confirm(f"Pull {names} of {source} anew? What is in {out / source} is replaced when the new pull is complete.")
    warning = overview.exposed(connector, chosen, options.settings or {}, _environment())
    if warning and not quiet:
        say(warning, error=True)
    if not quiet and not as_json:
        pace = f", at most {connector.rate}" if connector.rate else ""
        say(f"{source}: {', '.join(stream.name for stream in chosen)} → {out / source} ({sink}{pace})", error=True)
    clock = Clock(stop=_stopping())
    with shown(clock, quiet=quiet or as_json, verbose=verbose) as observe:
        report = run(connector, chosen, options, _environment(), clock, observe)
    report.flags = overview.flags(out, sink, folder)
    for error in (stream.error for stream in report.streams if stream.error):
        error.message, error.hint = _without_secrets(error.message), _without_secrets(error.hint)
    if as_json:
        _print_json(report.to_json())
    elif not quiet:
        say(report.text())
    for stream in report.streams:
        if stream.error and (quiet or as_json):
            _explain(stream.error)
    raise typer.Exit(report.exit_code)


@app.command("list")
def list_(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="Only this connector.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """List connectors and streams, what each needs, and whether it is set."""
    from . import overview
    from .config import catalogue, load
    from .config import connector as find

    environment = _environment()
    if source is not None:
        rows = [overview.connector(find(source, folder), environment)]
    else:
        rows = []
        for name, place in sorted(catalogue(folder).items()):
            try:
                rows.append(overview.connector(load(name, place), environment))
            except ConfigError as error:
                rows.append({"name": name, "error": str(error)})
    _print_json(rows) if as_json else say(overview.listing(rows))


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
    from . import overview
    from .sinks import sink as open_sink

    connector, chosen = _chosen(source, streams, folder)
    rows = [overview.stream(stream, open_sink(sink, out, source, stream)) for stream in chosen]
    _print_json(rows) if as_json else say(overview.standing(connector.name, rows))
    if hint := overview.elsewhere(_again("status", source, streams, folder), out, sink, source, chosen):
        say(hint, error=as_json)


@app.command()
def rejects(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    every: Annotated[bool, typer.Option("--all", help="Every reject instead of one sample per cause.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show the rejected records, grouped by cause."""
    from . import overview
    from .sinks import sink as open_sink

    _, chosen = _chosen(source, streams, folder)
    command = _again("rejects", source, streams, folder)
    nothing = overview.elsewhere(command, out, sink, source, chosen)
    found = overview.rejects((stream.name, open_sink(sink, out, source, stream)) for stream in chosen)
    if every:
        for name, line, reject in found:
            say_json(overview.reject_line(name, line)) if as_json else say(overview.reject_text(name, reject))
    else:
        groups, each = overview.causes(found), f"{command}{overview.flags(out, sink, None)} --all"
        _print_json(groups) if as_json else say(nothing or overview.grouped(source, groups, each))
    if nothing and (every or as_json):
        say(nothing, error=True)


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
    from .sinks import sink as open_sink

    _, chosen = _chosen(source, streams, folder)
    if not yes:
        names = ", ".join(stream.name for stream in chosen)
        _confirm(f"Set {names} in {out / source} aside and forget how far they were?")
    stamp = Clock().now().strftime("%Y%m%dT%H%M%SZ")
    for stream in chosen:
        moved = open_sink(sink, out, source, stream).set_aside(stamp) if (out / source).is_dir() else []
        say(f"{stream.name}: " + (", ".join(moved) if moved else "nothing was there") + "; the next pull begins anew")


@app.command()
def check(
    source: Source,
    streams: Streams = None,
    settings: Settings = None,
    max_patience: Annotated[str, typer.Option("--patience", metavar="TIME", help="How long to wait.")] = "30s",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Check credentials, reach the API and validate one page of each stream; nothing is written."""
    from . import overview
    from .check import check as run

    connector, chosen = _chosen(source, streams, folder)
    given, environment = _settings(settings), _environment()
    if warning := overview.exposed(connector, chosen, given, environment):
        say(warning, error=True)
    clock = Clock(stop=_stopping())
    rows = run(connector, chosen, given, environment, clock, seconds(max_patience))
    for row in rows:
        row |= {name: _without_secrets(row[name]) for name in ("error", "hint", "answer") if name in row}
    _print_json(rows) if as_json else say(overview.checked(connector.name, rows))
    raise typer.Exit(
        next((row["exit_code"] for row in rows if row["exit_code"]), 128 + clock.stop.signal if clock.stop else 0)
    )


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        say(f"syncer {__version__}")
        raise typer.Exit
    del context


def main() -> NoReturn:
    """Run the command; every SyncerError becomes its message and its exit code."""
    _stand_in()
    try:
        _adopt()
        app(prog_name="syncer", standalone_mode=True)
    except SyncerError as error:
        if "--json" in sys.argv:
            _print_json({"exit_code": error.exit_code, "error": error.message, "hint": error.hint})
        _explain(error)
        _leave(error.exit_code)
    except BrokenPipeError:
        _leave(0)
    except MemoryError:
        say("error: out of memory\n  → nothing committed was lost: run the same command again", error=True)
        _leave(6)
    except SystemExit as done:
        _leave(done.code if isinstance(done.code, int) else 1)
    except Exception:  # a bug of ours: the only traceback a user may see
        import traceback

        say(_without_secrets(traceback.format_exc()), error=True)
        say("error: this is a bug in syncer, please report it; nothing committed was lost", error=True)
        _leave(1)
    _leave(0)


def seconds(text: str) -> float:
    """`30s`, `15m`, `6h`, `2d` or plain seconds as seconds. ConfigError for anything else."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not number.isascii() or not number.replace(".", "", 1).isdecimal() or len(number) > 9:
        raise ConfigError(f"{text!r} is no length of time", hint="write 30s, 15m or 6h")
    if float(number) * unit > 366 * 86400:
        raise ConfigError(f"{text!r} is longer than a year", hint="write 30s, 15m or 6h")
    return float(number) * unit


def _stand_in() -> None:
    """Open what the caller closed: else an output file becomes descriptor 1 and the summary goes into it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 it lives as long as we do


def _leave(code: int) -> NoReturn:
    """Exit without the interpreter complaining that stdout has gone away."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            from .terminal import silence

            silence(stream)
    sys.exit(code)


def _chosen(source: str, names: list[str] | None, folder: Path | None) -> tuple[Connector, list[Stream]]:
    from .config import connector as find

    found = find(source, folder)
    return found, [found.stream(name) for name in dict.fromkeys(names)] if names else list(found.streams)


def _environment() -> Mapping[str, str]:
    from .config import environment

    return environment(Path())


def _adopt() -> None:
    """Let `.env` fill in for the environment where options read it; the help is about neither."""
    from .config import adopt

    if "--help" not in sys.argv:
        adopt(Path())


def _again(command: str, source: str, streams: list[str] | None, folder: Path | None) -> str:
    """The command that was given, but for where its output is."""
    given = f" --connectors {quote(str(folder))}" if folder else ""
    return " ".join([f"syncer {command} {source}", *(streams or [])]) + given


def _settings(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {text!r} is not NAME=VALUE", hint="example: --set repo=owner/name")
        pairs[name.strip()] = value
    return pairs


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("this replaces or moves output and nobody is there to ask", hint="add --yes")
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    answer = sys.stdin.buffer.readline()
    if not answer:  # Ctrl-D
        say("", error=True)
    if answer.strip().lower() not in (b"y", b"yes"):
        raise ConfigError("nothing was done")


def _stopping() -> Stop:
    """A flag that the first SIGINT or SIGTERM sets; the second ends the process at once."""
    stop = Stop()

    def handle(number: int, frame: Any) -> None:
        if stop:
            os._exit(128 + number)
        stop.signal = number
        with suppress(OSError):
            os.write(2, b"\nstopping after this page; once more to stop at once\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop


def _explain(error: SyncerError) -> None:
    hint = f"\n  → {one_line(error.hint)}" if error.hint else ""
    say(_without_secrets(f"error: {one_line(str(error))}{hint}"), error=True)


def _without_secrets(text: str) -> str:
    """The text without the value of any variable, of `.env` too, that is named like a secret; short ones are words."""
    known: Mapping[str, str] = os.environ
    with suppress(SyncerError):
        known = _environment()
    for name, value in known.items():
        if len(value.strip()) >= 8 and any(word in name.upper() for word in ("TOKEN", "KEY", "SECRET", "PASSWORD")):
            text = text.replace(value.strip(), "***")
    return text


def _print_json(value: Any) -> None:
    from .decode import encode

    say_json(encode(writable(value)))
