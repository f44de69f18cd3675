"""A pull with everybody who watches it: the terminal, the log, the ledger and the metrics file.

None of them can stop it. What they cannot write is said once, as a note.
"""

from __future__ import annotations

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
    flags: str
    log: str | None = None
    metrics: Path | None = None


def recorded(
    run: Run, clock: Clock, environment: Mapping[str, str], shown: Observer, pull: Callable[[Observer], Report]
) -> Report:
    """Pull, and tell everybody. ConfigError if the log or the metrics file can never be written."""
    from ..events import Began, Finished, Noticed
    from ..ledger import Ledger, identity
    from ..log import Log

    if run.metrics and (run.metrics.is_dir() or not run.metrics.absolute().parent.is_dir()):
        raise ConfigError(f"{run.metrics} cannot be written", hint="give --metrics a file in a directory that is there")
    watching: list[Observer] = [shown]

    def tell(event: Event) -> None:
        for watcher in tuple(watching):
            watcher(event)

    def notice(text: str) -> None:
        tell(Noticed(text))

    name, source, secrets = identity(), run.connector.name, _secrets(run.connector, environment)
    row = {"id": name, "source": source, "started": clock.stamp(), "sink": run.sink, "command": run.command}
    ledger = Ledger(run.out / source, {**row, "out": run.flags}, secrets, clock, notice)
    log = Log(run.log, name, source, secrets, clock, notice) if run.log else None
    watching += [log, ledger] if log else [ledger]
    tell(Began(run.streams, str(run.out), run.sink))
    if warning := room(run.out, source):
        notice(warning)
    report, fault, code = None, None, 1
    try:
        report = pull(tell)
        code = report.exit_code
    except SyncerError as error:
        fault, code = error, error.exit_code
        raise
    except MemoryError:
        code = 6
        raise
    finally:
        found = ledger.end(report, code, fault)
        if run.metrics and found:
            _measure(run, run.metrics, found, notice)
        tell(Finished(code, found["seconds"]))
        if log:
            log.close()
    return report


def room(out: Path, source: str) -> str:
    """A warning if there is little room for what the next pull will write, going by the last complete one."""
    from ..space import short

    last = next((row for row in past(out, source) if row.get("status") == "complete"), None)
    received = last.get("received") if last else 0
    return short(out, received if isinstance(received, int) else 0)


def _measure(run: Run, path: Path, found: Row, notice: Callable[[str], None]) -> None:
    from ..metrics import text, write

    good = [found] if found["exit_code"] == 0 else []
    good += [row for row in past(run.out, run.connector.name) if row["exit_code"] == 0 and row["ended"]]
    try:
        write(path, text(found, good[0]["ended"] if good else None))
    except OSError as error:
        notice(f"{path} was not written: {error.strerror}; it still tells of an earlier pull, if of any")


def past(out: Path, source: str) -> list[Row]:
    """The runs that are recorded; none if they cannot be read."""
    from ..ledger import runs

    with suppress(SyncerError, OSError):
        return runs(out, source)
    return []


def _secrets(connector: Connector, environment: Mapping[str, str]) -> list[str]:
    """All that must not be written down: what the connector shows its API, and what is named like a secret."""
    from ..auth import secret

    found = hidden()
    for name in connector.auth.secrets() if connector.auth else ():
        with suppress(SyncerError):
            found.append(secret(name, environment, lines=True).strip())
    return [value for value in dict.fromkeys(found) if len(value) >= 8]
