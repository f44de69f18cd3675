"""What a pull did: gathered as it happens, shown as text, as JSON, and as an exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from .answers import UNCHANGED
from .checkpoint import Checkpoint, Counts
from .drift import Change
from .errors import ConfigError, SyncerError
from .events import Ended, Event, Received, Requested, Retrying, Told, Waited
from .terminal import counted, one_line, shortened

Status = Literal["complete", "short", "capped", "stopped", "failed"]


SHOWN = 10
CHANGED = 3
"""How many changes of a stream the end of a pull names; `syncer drift` shows them all."""
"""How many causes of a stream the summary lists."""
LIMITS = 20
"""How many limits, and reasons to wait, are remembered: a server may make up any number of names."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many rejects a run may have: a count, or a share of what was fetched.

    A share counts from 100 records on, so that the first page does not decide alone. Without a word
    from the user or the stream it is 5 %, from 50 rejects on.
    """

    count: int | None = None
    share: float | None = None
    least: int = 0

    @staticmethod
    def parse(text: str | None) -> Budget:
        """`"100"` or `"2%"`; None is the default budget. ConfigError for anything else."""
        if text is None:
            return Budget(share=0.05, least=50)
        number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
        try:
            value = float(number) if percent else int(number)
        except ValueError:
            value = -1
        if not 0 <= value < 10**12 or (percent and value > 100):
            raise ConfigError(f"{text!r} is no reject budget", hint="give a count or a share: --max-rejects 100, or 2%")
        return Budget(share=value / 100) if percent else Budget(count=int(value))

    def passed(
        self, counts: Counts, page_fetched: int, page_rejected: int, *, over: bool, whole: bool, replaces: bool
    ) -> str:
        """Why the run should stop, or an empty string.

        `counts` are of the run, the others of the last page; `over`: that was the last page of the run, `whole`: of
        a pull of everything, which `replaces` an older output.
        """
        without = self.share is not None and self.share >= 1
        if not counts.rejected or (without and not replaces):
            return ""
        if over and whole and counts.rejected == counts.fetched:
            return f"every one of the {counts.fetched:,} records was rejected"
        if without or not (page_rejected or over):
            return ""
        if page_rejected == page_fetched >= 10:
            return f"every one of the {page_fetched} records of page {counts.pages} was rejected"
        if self.count is not None and counts.rejected > self.count:
            return f"{counts.rejected:,} records are rejected, the budget is {self.count:,}"
        share = counts.rejected / counts.fetched if counts.fetched else 0
        if self.share is not None and counts.fetched >= 100 and counts.rejected > self.least and share > self.share:
            return f"{share:.1%} of {counts.fetched:,} records are rejected, the budget is {self.share:.1%}"
        return ""


@dataclass
class StreamReport:
    """What one pull did to one stream. `counts` are of this pull, `run` of the whole run it is part of."""

    stream: str
    places: Mapping[str, str] = field(default_factory=dict)
    status: Status = "failed"
    resumed: bool = False
    counts: Counts = field(default_factory=Counts)
    run: Counts = field(default_factory=Counts)
    stored: Counts = field(default_factory=Counts)
    causes: Counter[str] = field(default_factory=Counter)
    unknown: Mapping[str, int] = field(default_factory=dict)
    drift: Sequence[Change] = ()
    """What the run saw that the runs before it did not; found when the pull is over, from its last `checkpoint`."""
    checkpoint: Checkpoint | None = None
    total: int | None = None
    bookmark: Any = None
    notes: list[str] = field(default_factory=list)
    error: SyncerError | None = None

    def committed(self, before: Checkpoint, after: Checkpoint) -> None:
        """Count a page that is durable."""
        mine, yours = after.counts, before.counts
        self.counts += Counts(
            mine.pages - yours.pages,
            mine.fetched - yours.fetched,
            mine.written - yours.written,
            mine.rejected - yours.rejected,
            mine.repeated - yours.repeated,
        )
        self.run, self.stored, self.unknown, self.total = after.counts, after.stored, after.unknown, after.total
        self.bookmark, self.checkpoint = after.bookmark, after

    def ended(self) -> Ended:
        """How it ended, for whoever watches."""
        if self.error is None:
            return Ended(self.stream, self.status)
        return Ended(self.stream, self.status, str(self.error), self.error.hint, self.error.exit_code)

    @property
    def resumable(self) -> bool:
        """Whether the same command again would go on, rather than fail in the same way."""
        return self.status in ("capped", "stopped") or (
            self.error is not None and self.error.exit_code in (1, 3, 4, 6, 7) and self.status == "failed"
        )

    def to_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "stream": self.stream,
            "status": self.status,
            "resumed": self.resumed,
            "pulled": by_name(self.counts),
            "run": by_name(self.run),
            "stored": by_name(self.stored),
            "rejected_by_cause": dict(self.causes.most_common()),
            "unknown_fields": dict(self.unknown),
            "drift": [change.to_json() for change in self.drift],
            "declared_total": self.total,
            "bookmark": self.bookmark,
            "places": dict(self.places),
            "notes": list(self.notes),
            "error": failure(self.error),
        }


@dataclass
class Report:
    """What one `syncer pull` did. `flags` and `settings` are what the next command has to repeat."""

    source: str
    sink: str
    started: str
    flags: str = ""
    settings: str = ""
    streams: list[StreamReport] = field(default_factory=list)
    unbegun: list[str] = field(default_factory=list)
    seconds: float = 0.0
    requests: int = 0
    not_modified: int = 0
    retries: int = 0
    received: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    limits: dict[str, Told] = field(default_factory=dict)
    signal: int = 0

    def watch(self, event: Event) -> None:
        """Count what the client tells."""
        if isinstance(event, Requested):
            self.requests += 1
            self.not_modified += event.status == UNCHANGED
        elif isinstance(event, Retrying):
            self.retries += 1
        elif isinstance(event, Waited):
            known = event.reason in self.waits or len(self.waits) < LIMITS
            self.waits[event.reason if known else "other reasons"] += event.seconds  # type: ignore[assignment]
        elif isinstance(event, Received):
            self.received += event.size
        elif isinstance(event, Told) and (event.limit in self.limits or len(self.limits) < LIMITS):
            self.limits[event.limit] = event

    @property
    def exit_code(self) -> int:
        """0 if every stream did what was asked, else the code of the first that did not."""
        if self.signal:
            return 128 + self.signal
        return next((stream.error.exit_code for stream in self.streams if stream.error), 0)

    def to_json(self) -> dict[str, Any]:
        """The same for machines; the keys are documented in docs/reference.md."""
        return {
            "source": self.source,
            "sink": self.sink,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "requests": self.requests,
            "not_modified": self.not_modified,
            "retries": self.retries,
            "received": self.received,
            "waited": {reason: round(seconds, 3) for reason, seconds in self.waits.items()},
            "limits": {name: {"remaining": told.remaining, "reset": told.reset} for name, told in self.limits.items()},
            "exit_code": self.exit_code,
            "streams": [stream.to_json() for stream in self.streams],
        }

    def text(self) -> str:
        """A summary that can be pasted into a ticket."""
        parts = [self._head(), _columns(self.streams), self._causes(), self._drift(), self._unknown(), self._next()]
        return "\n\n".join(part for part in parts if part)

    def _head(self) -> str:
        waited = ", ".join(f"{seconds:.1f} s for {reason}" for reason, seconds in self.waits.items())
        line = f"{self.source}: {counted(self.requests, 'request')} in {self.seconds:.1f} s"
        line += f", {self.not_modified} not modified" if self.not_modified else ""
        line += f", {self.retries} retried" if self.retries else ""
        return line + (f", waited {waited}" if waited else "")

    def _causes(self) -> str:
        rows = []
        for stream in self.streams:
            rows += [(f"  {n:>7,}", stream.stream, one_line(cause)) for cause, n in stream.causes.most_common(SHOWN)]
            if others := stream.causes.most_common()[SHOWN:]:
                rows.append(
                    (f"  {sum(n for _, n in others):>7,}", stream.stream, f"… {counted(len(others), 'more cause')}")
                )
        return "rejected in this pull, by cause\n" + aligned(rows) if rows else ""

    def _drift(self) -> str:
        rows = []
        for stream in self.streams:
            # What is new in a first run is listed as an unknown field.
            told = [one for one in stream.drift if one.before or one.what != "new"]
            rows += [(f"  {one.count:>7,}", stream.stream, shortened(one.text, 60)) for one in told[:CHANGED]]
            if others := told[CHANGED:]:
                rows.append(("         ", stream.stream, f"… {counted(len(others), 'more change')}"))
        return "not as it was, or not as the models expect it\n" + aligned(rows) if rows else ""

    def _unknown(self) -> str:
        rows = [
            (f"  {count:>7,}", stream.stream, one_line(name))
            for stream in self.streams
            for name, count in sorted(stream.unknown.items(), key=lambda pair: -pair[1])[:10]
        ]
        return "fields the models do not name\n" + aligned(rows) if rows else ""

    def _next(self) -> str:
        lines = [f"{stream.stream}: note: {note}" for stream in self.streams for note in stream.notes]
        for stream in self.streams:
            if stream.error:
                lines.append(f"{stream.stream}: {one_line(stream.error.message)}")
                lines.extend([f"  → {stream.error.hint}"] if stream.error.hint else [])
        files = [("records", place) for s in self.streams if (place := s.places.get("records"))]
        files += [("rejects", s.places["rejects"]) for s in self.streams if s.stored.rejected and s.places]
        lines += [f"{kind}  {place}" for kind, place in dict.fromkeys(files)]
        if any(stream.causes or stream.stored.rejected for stream in self.streams):
            lines.append(f"next     syncer rejects {self.source}{self.flags}")
        if any(one.before or one.refused for stream in self.streams for one in stream.drift):
            lines.append(f"next     syncer drift {self.source}{self.flags}")
        if self.resume:
            lines.append(f"resume   {self.resume}")
        return "\n".join(lines)

    @property
    def resume(self) -> str:
        """The command that goes on where this pull stopped; empty if there is nothing to go on with."""
        names = " ".join([*(stream.stream for stream in self.streams if stream.resumable), *self.unbegun])
        return f"syncer pull {self.source} {names}{self.settings}{self.flags}" if names else ""


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of text with their columns aligned; the last is not padded."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _columns(streams: list[StreamReport]) -> str:
    rows: list[tuple[str, ...]] = [("stream", "status", "pages", "fetched", "written", "rejected", "repeated")]
    for stream in streams:
        counts = stream.counts
        numbers = (counts.pages, counts.fetched, counts.written, counts.rejected, counts.repeated)
        status = "resumed, complete" if stream.resumed and stream.status == "complete" else stream.status
        rows.append((stream.stream, status, *(f"{number:,}" for number in numbers)))
    widths = [max(len(row[column]) for row in rows) for column in range(2, 7)]
    return aligned(
        [(row[0], row[1], *(cell.rjust(width) for cell, width in zip(row[2:], widths, strict=True))) for row in rows]
    )


def by_name(counts: Counts) -> dict[str, int]:
    """Counts for machines."""
    return {item.name: getattr(counts, item.name) for item in fields(counts)}


def failure(error: SyncerError | None) -> dict[str, Any] | None:
    """An error for machines."""
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
