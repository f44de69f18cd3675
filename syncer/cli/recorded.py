"""A pull with everybody who watches it: the terminal, the log, the ledger, the metrics file and a collector of traces.

None of them can stop it. What they cannot write is said once, as a note.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, SyncerError
from .given import hidden

if TYPE_CHECKING:
    from ..clock import Clock
    from ..events import Event, Observer
    from ..ledger import Row
    from ..report import Report
    from ..stream import Connector


@dataclass(frozen=True)
class Run:
    """One `syncer pull`, as its records name it. `command` is what to type to do it again."""

    connector: Connector
    streams: tuple[str, ...]
    out: Path
    sink: str
    command: str
    log: str | None = None
    metrics: Path | None = None
    traces: bool = False
    notify: str = ""
    notify_on: str | None = None


def recorded(
    run: Run,
    clock: Clock,
    environment: Mapping[str, str],
    shown: Observer,
    pull: Callable[[Observer], Report],
    warning: str = "",
) -> Report:
    """Pull, and tell everybody. ConfigError if the log or the metrics can never be written, or no trace be sent.

    `warning` has been shown already, and is recorded.
    """
    from ..events import Began, Finished, Noticed
    from ..ledger import Ledger, identity
    from ..log import STDERR, Log
    from ..telemetry import Traces

    for option, path in (("--log", run.log), ("--metrics", run.metrics)):
        if path and path != STDERR:
            apart(option, Path(path), run.out / run.connector.name)
    if run.metrics:
        _writable(run.metrics)
    if run.notify:
        from .. import notify

        notify.checked(run.notify)
        notify.wanted(run.notify_on)
    watching: list[Observer] = []

    def tell(event: Event) -> None:
        for watcher in (shown, *watching):
            watcher(event)

    def notice(text: str) -> None:
        tell(Noticed(text))

    name, source, hide = identity(), run.connector.name, secrets(run.connector, environment)
    row = {"id": name, "source": source, "started": clock.stamp(), "sink": run.sink, "command": run.command}
    if run.traces:  # before the log, whose last line is that the pull is over
        watching.append(Traces(name, source, hide, clock, environment, notice))
    ledger = Ledger(run.out / source, row, hide, clock, notice)
    log = Log(run.log, name, source, hide, clock, notice) if run.log is not None else None
    watching += [log, ledger] if log else [ledger]
    tell(Began(run.streams, str(run.out), run.sink))
    for watcher in watching if warning else ():
        watcher(Noticed(warning))
    if short := room(run.out, source):
        notice(short)
    report, fault, code, said = None, None, 1, ("", "")
    try:
        report = pull(tell)
        code = report.exit_code
    except SyncerError as error:
        fault, code, said = error, error.exit_code, (str(error), error.hint)
        raise
    except MemoryError:
        code, said = 6, ("out of memory", "")
        raise
    except BaseException as error:
        said = (type(error).__name__, "")
        raise
    finally:
        found = ledger.end(report, code, fault)
        if run.metrics:
            _measure(run, run.metrics, found, notice)
        if run.notify:
            _notify(run, found, environment, hide, notice)
        tell(Finished(code, found["seconds"], *said))
        if log:
            log.close()
    return report


def refused(run: Run, clock: Clock, environment: Mapping[str, str], error: SyncerError) -> None:
    """Record a pull that may not even begin, and why."""

    def never(observe: Observer) -> Report:
        raise error

    with suppress(SyncerError):
        recorded(run, clock, environment, lambda event: None, never)


def room(out: Path, source: str) -> str:
    """A warning if there is little room for what the next pull will write, going by the last complete one."""
    from ..space import short

    return short(out, next((row["received"] for row in past(out, source) if row["status"] == "complete"), 0))


def _writable(path: Path) -> None:
    """Refuse what never can be the metrics file. ConfigError."""
    try:
        what = "it is not a file" if path.exists() and not path.is_file() else ""
        what = what or ("" if path.absolute().parent.is_dir() else "there is no such directory")
    except OSError as error:
        what = error.strerror or str(error)
    if what:
        raise ConfigError(
            f"the metrics cannot be written to {path}: {what}",
            hint="give --metrics a file in a directory that is there",
        )


def apart(option: str, path: Path, home: Path) -> None:
    """Refuse a file inside the output, which would be harmed. ConfigError."""
    if Path(os.path.realpath(home)) in Path(os.path.realpath(path)).parents:
        raise ConfigError(f"{path} lies inside the output, {home}", hint=f"give {option} a file outside of it")


def _measure(run: Run, path: Path, found: Row, notice: Callable[[str], None]) -> None:
    from ..metrics import text, write

    rows = [found, *past(run.out, run.connector.name)]
    good = [str(row["ended"]) for row in rows if row["exit_code"] == 0 and row["ended"]]
    try:
        write(path, text(found, max(good, default=None)))
    except OSError as error:
        notice(f"{path} was not written: {error.strerror}; it still tells of an earlier pull, if of any")


def _notify(
    run: Run, found: Row, environment: Mapping[str, str], hide: list[str], notice: Callable[[str], None]
) -> None:
    """Tell somebody of a run that needs them; never more than a note goes wrong."""
    from .. import notify

    reasons = notify.because(found, past(run.out, run.connector.name))
    if reasons := [one for one in reasons if one in notify.wanted(run.notify_on)]:
        body = notify.told(found, reasons, [*hide, *notify.secrets(run.notify)])
        notify.send(run.notify, body, environment, notice)


def past(out: Path, source: str) -> list[Row]:
    """The runs that are recorded; none if they cannot be read."""
    from ..ledger import runs

    with suppress(SyncerError, OSError):
        return runs(out, source)
    return []


def secrets(connector: Connector, environment: Mapping[str, str]) -> list[str]:
    """All that must not be written down: what the connector shows its API, and what is named like a secret."""
    from .. import telemetry
    from ..auth import secret

    found = hidden() + telemetry.secrets(environment)
    for name in connector.auth.secrets() if connector.auth else ():
        with suppress(SyncerError):
            found.append(secret(name, environment, lines=True).strip())
    return [value for value in dict.fromkeys(found) if len(value) >= 8]
