"""What the commands share: their options, what was typed, the questions they ask, and how they print."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..clock import Stop
from ..errors import ConfigError, SyncerError
from ..terminal import one_line, say, say_json, writable

if TYPE_CHECKING:
    from ..stream import Connector, Stream

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The connector: a name that `syncer list` shows.")]
Streams = Annotated[list[str] | None, typer.Argument(metavar="STREAM", help="Only these streams; all without it.")]


def _directory(text: str) -> Path:
    """A path. ConfigError for an empty one, as a shell makes it of a variable that is not set: it would mean here."""
    if not str(text):
        raise ConfigError("--out is empty", hint="name a directory; --out . is this one")
    return Path(text)


Out = Annotated[
    Path,
    typer.Option(
        "--out", envvar="SYNCER_OUT", parser=_directory, metavar="<path>", help="The directory that holds all output."
    ),
]
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
Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        envvar="SYNCER_LOG",
        metavar="FILE",
        help="Add every event to this file, a line of JSON each; - is stderr.",
    ),
]
Metrics = Annotated[
    Path | None, typer.Option("--metrics", metavar="FILE", help="Write Prometheus metrics to this file at the end.")
]
Traces = Annotated[
    bool,
    typer.Option("--otel", help="Send a trace to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names."),
]
Notify = Annotated[
    str | None,
    typer.Option(
        "--notify",
        envvar="SYNCER_NOTIFY",
        metavar="cmd:…|URL",
        help="Tell somebody of a pull that failed or met something new: a command, a webhook, or an Apprise URL.",
        show_envvar=True,
    ),
]
NotifyOn = Annotated[
    str | None,
    typer.Option("--notify-on", metavar="WHAT", help="Only of these: failed,causes,drift. Without it of each."),
]
OUT = Path("data")


def seconds(text: str) -> float:
    """`30s`, `15m`, `6h`, `2d` or plain seconds as seconds. ConfigError for anything else."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not number.isascii() or not number.replace(".", "", 1).isdecimal() or len(number) > 9:
        raise ConfigError(f"{text!r} is no length of time", hint="write 30s, 15m or 6h")
    if float(number) * unit > 366 * 86400:
        raise ConfigError(f"{text!r} is longer than a year", hint="write 30s, 15m or 6h")
    return float(number) * unit


def moment(text: str, now: datetime) -> datetime:
    """`2026-01-31`, `2026-01-31T12:00`, in UTC where no zone is named, or `30d` before now. ConfigError if neither."""
    if text[-1:] in tuple("smhd"):
        return now - timedelta(seconds=seconds(text))
    try:
        if text[4:5] + text[7:8] != "--":
            raise ValueError
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is no moment", hint="write 2026-01-31, 2026-01-31T12:00, or 30d for so long ago"
        ) from None


def looked_up(source: str, names: list[str] | None, folder: Path | None) -> tuple[Connector, list[Stream]]:
    """The connector, and those of its streams that were named; all without a name."""
    from ..config import connector as find

    found = find(source, folder)
    return found, [found.stream(name) for name in dict.fromkeys(names)] if names else list(found.streams)


def variables() -> Mapping[str, str]:
    """The environment, and beneath it `.env`."""
    from ..config import environment

    return environment(Path())


def again(command: str, source: str, streams: list[str] | None, folder: Path | None) -> str:
    """The command that was given, but for where its output is."""
    given = f" --connectors {quote(str(folder))}" if folder else ""
    return " ".join([f"syncer {command} {source}", *(streams or [])]) + given


def filled(given: list[str] | None) -> dict[str, str]:
    """The placeholders that `--set` fills. ConfigError for what is not NAME=VALUE."""
    pairs = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {text!r} is not NAME=VALUE", hint="example: --set repo=owner/name")
        pairs[name.strip()] = value
    return pairs


def confirm(question: str, what: str = "this replaces or moves output") -> None:
    """Ask. ConfigError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{what} and nobody is there to ask", hint="add --yes")
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    answer = sys.stdin.buffer.readline()
    if not answer:  # Ctrl-D
        say("", error=True)
    if answer.strip().lower() not in (b"y", b"yes"):
        raise ConfigError("nothing was done")


def stopping(*, silent: bool = False) -> Stop:
    """A flag that the first SIGINT or SIGTERM sets, saying so; the second ends the process at once."""
    stop = Stop()

    def handle(number: int, frame: Any) -> None:
        if stop:
            os._exit(128 + number)
        stop.signal = number
        if not silent:
            with suppress(OSError):
                os.write(2, b"\nstopping after this page; once more to stop at once\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop


def explain(error: SyncerError) -> None:
    """Say on stderr what went wrong and what to type next."""
    hint = f"\n  → {one_line(error.hint)}" if error.hint else ""
    say(without_secrets(f"error: {one_line(str(error))}{hint}"), error=True)


def without_secrets(text: str) -> str:
    """The text without any of the hidden values."""
    return masked(text, hidden())


def masked(text: str, secrets: Sequence[str]) -> str:
    """The text without these values."""
    from ..auth import mask

    return mask(text.encode("utf-8", "surrogatepass"), secrets).decode("utf-8", "surrogatepass")


def hidden() -> list[str]:
    """What must not be shown: every variable, of `.env` too, that is named like a secret, and the proxies'."""
    from ..auth import named
    from ..network import secrets

    known: Mapping[str, str] = os.environ
    with suppress(SyncerError):
        known = variables()
    return [*named(known), *(value for value in secrets(known) if len(value) >= 8)]


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    from ..decode import encode

    say_json(encode(writable(value)))
