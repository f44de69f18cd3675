"""Where records go. A sink owns the commit, because only it knows what is atomic for it.

One sink object is one stream in one output, opened by one process at a time. All sinks pass the same
conformance suite, tests/test_sinks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..checkpoint import Checkpoint
from ..errors import ConfigError
from ..page import JSON
from ..stream import Stream
from ..validate import Reason, Record, Reject
from .held import Held, Values

Batch = tuple[Sequence[Record], Sequence[Reject]]
"""The records and rejects of a page."""
KINDS = ("jsonl", "sqlite")


class Sink(Protocol):
    """A place for the records, rejects and checkpoint of one stream."""

    @property
    def notes(self) -> Sequence[str]:
        """What recovery did that a person should know."""

    @property
    def steady(self) -> bool:
        """Whether `refuses` says the same before and after a commit, so that a page may be judged during one."""

    def open(self) -> Checkpoint:
        """Lock, recover and return the checkpoint; a fresh one where there is none.

        Whatever no checkpoint vouches for is cut before this returns (I2). LockError if another
        process has the stream, StateError if state and destination disagree, SinkError if the
        destination cannot be used.
        """

    def refuses(self, values: Mapping[str, JSON]) -> Iterable[Reason]:
        """What of an otherwise good record this sink could not hold exactly."""

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        """Make records, rejects and checkpoint durable together: all or nothing (I1).

        A checkpoint of a new generation begins a new output beside the old one, which takes the old
        one's place when a checkpoint says that the run is complete. LockError if the stream has moved
        on since `open` (I9), SinkError if the destination refuses; after either, `commit` no more.
        """

    def amend(self, settle: Callable[[bytes], Record | bytes | None], checkpoint: Callable[[], Checkpoint]) -> None:
        """Give every reject a new place and count that in a checkpoint: all or nothing (I1).

        `settle` is called once for each line that `rejects(newest=True)` gives, in that order, and answers with
        a Record, which joins the records as those of a page do; with bytes, the line that stays; or with None,
        and it is gone. `checkpoint` is called when the last one is settled. Where every line stays as it is,
        it is not called and nothing is written. Neither the records nor the rejects are ever in memory as a whole.
        Killed at any point, all of it has happened or nothing; `open` removes what was begun. Errors as for
        `commit`; what `settle` and `checkpoint` raise comes out, and nothing has happened.
        """

    def rebuilt(self, pages: Iterable[Batch], checkpoint: Callable[[], Checkpoint]) -> None:
        """Put another output in the place of the one at hand: all or nothing (I1).

        `pages` gives its records and rejects one page after another, and `checkpoint` is called behind the last.
        Killed at any point, the old output stands or the new one does; `open` removes what was begun. Errors as for
        `commit`; what `pages` and `checkpoint` raise comes out, and nothing has happened.
        """

    def held(self, records: Iterable[Values]) -> Held:
        """Which of these records the output at hand holds already, in which version; without a lock.

        Takes one pass over the output or one look for each record; of the records only their keys are kept.
        """

    def close(self) -> None:
        """Release the lock. Nothing that was committed depends on this."""

    def peek(self) -> Checkpoint | None:
        """The checkpoint as it is, without a lock and without recovery; None if there is none."""

    def look(self) -> None:
        """StateError where the output is not what the checkpoint vouches for; changes nothing, and needs no lock."""

    def rejects(self, *, newest: bool = False) -> Iterator[bytes]:
        """The committed lines of the rejects, oldest first; those of an unfinished refresh after the others.

        `newest` leaves out those of an output that a refresh is about to replace: no checkpoint counts them any more.
        """

    def places(self) -> Mapping[str, str]:
        """Where a person finds the `records` and the `rejects`."""

    def set_aside(self, stamp: str) -> Sequence[str]:
        """Move the output out of the way under new names and forget the checkpoint; the names."""


def sink(kind: str, out: Path, source: str, stream: Stream) -> Sink:
    """The sink of a kind for one stream. ConfigError for a kind that does not exist."""
    if kind == "jsonl":
        from .jsonl import JsonLines

        return JsonLines(out / source, stream)
    if kind == "sqlite":
        from .sqlite import SQLite

        return SQLite(out / source, source, stream)
    raise ConfigError(f"there is no sink {kind!r}", hint=f"the sinks are {', '.join(KINDS)}")
