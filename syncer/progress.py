"""Shows a pull while it runs: a live line per stream on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from .clock import Clock
from .events import Committed, Ended, Event, Noticed, Observer, Requested, Retrying, Started, Waiting
from .terminal import counted, one_line, say, silence

EVERY = 5.0
"""Seconds between two plain lines of one stream."""
MOST = 2**53
"""A declared total beyond this is no total: bars count in floats."""


@contextmanager
def shown(clock: Clock, *, quiet: bool, verbose: bool) -> Iterator[Observer]:
    """An observer for a pull, showing on stderr in the way that fits where it goes."""
    if quiet:
        yield lambda event: None
    elif sys.stderr.isatty() and not verbose:
        yield from _live(clock)
    else:
        yield _plain(clock, verbose)


def _plain(clock: Clock, verbose: bool) -> Observer:
    told = -EVERY
    rate = _Speed(clock)

    def observe(event: Event) -> None:
        nonlocal told
        now = clock.monotonic()
        if isinstance(event, Committed):
            rate.add(event.fetched)
            if now - told < EVERY:
                return
            told = now
        elif isinstance(event, Started):
            rate.start(event.fetched)
        if line := _line(event, rate, verbose):
            say(line, error=True)

    return observe


def _line(event: Event, rate: _Speed, verbose: bool) -> str:
    match event:
        case Started(stream, True, pages, fetched):
            return f"{stream}: going on after page {pages:,} ({counted(fetched, 'record')})"
        case Started(stream):
            return f"{stream}: " + (f"what is new since {event.since}" if event.since else "from the beginning")
        case Committed():
            return f"{event.stream}: {_state(event)}, {rate.text()}"
        case Waiting():
            return _wait(event)
        case Retrying(reason, attempt):
            return f"{one_line(reason)}; attempt {attempt} follows"
        case Requested(method, url, status, seconds) if verbose:
            return f"{method} {one_line(url)} {status} {seconds:.3f} s"
        case Noticed(text):
            return f"note: {one_line(text)}"
        case Ended(stream, status):
            return f"{stream}: {status}"
        case _:
            return ""


def _live(clock: Clock) -> Iterator[Observer]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    bars = Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    rate = _Speed(clock)
    current: list[Any] = []

    state = ""

    def observe(event: Event) -> None:
        nonlocal state
        match event:
            case Started(stream, resumed, pages, fetched):
                rate.start(fetched)
                state = f"going on after page {pages:,}" if resumed else ""
                current[:] = [bars.add_task(stream, total=None, completed=fetched, state=state)]
            case Committed():
                rate.add(event.fetched)
                state = f"{_state(event)}, {rate.text()}"
                bars.update(current[0], completed=event.fetched, total=_total(event), state=state)
            case Waiting() if current:
                bars.update(current[0], state=f"[yellow]{escape(_wait(event))}[/yellow]")
            case Retrying(reason) if current:
                console.print(f"[dim]{escape(one_line(reason))}; trying again[/dim]")
            case Noticed(text):
                console.print(f"note: {escape(one_line(text))}")
            case Ended(_, status) if current:
                task = current.pop()
                bars.update(task, state=f"{state}, {status}" if state else status)
                bars.stop_task(task)
            case _:
                pass

    try:
        bars.start()
    except (OSError, ValueError):
        yield lambda event: None
        return
    try:
        yield _never_fatal(observe)
    finally:
        try:
            bars.stop()
        except (OSError, ValueError):
            silence(sys.stderr)


def _never_fatal(observe: Observer) -> Observer:
    """A terminal that goes away must not take the pull with it."""

    def guarded(event: Event) -> None:
        try:
            observe(event)
        except (OSError, ValueError):
            return

    return guarded


class _Speed:
    """Records per second since the stream began in this process."""

    def __init__(self, clock: Clock) -> None:
        self._now: Callable[[], float] = clock.monotonic
        self.start(0)

    def start(self, fetched: int) -> None:
        self._began, self._first, self._latest = self._now(), fetched, fetched

    def add(self, fetched: int) -> None:
        self._latest = fetched

    def text(self) -> str:
        took = self._now() - self._began
        return f"{(self._latest - self._first) / took:,.0f}/s" if took > 0.5 else "…"


def _state(event: Committed) -> str:
    total = _total(event)
    records = counted(event.fetched, "record") if total is None else f"{event.fetched:,} of {counted(total, 'record')}"
    return f"page {event.pages:,}, {records}" + (f", {event.rejected:,} rejected" if event.rejected else "")


def _total(event: Committed) -> int | None:
    return None if event.total is None or event.total > MOST else event.total


def _wait(event: Waiting) -> str:
    until = event.until.astimezone() if isinstance(event.until, datetime) else event.until
    return f"waiting {event.seconds:.1f} s, until {until:%H:%M:%S}: {one_line(event.reason)}"
