"""An output made anew from the pages that are kept: the same loop over the same pages, without a request.

Every page of the output since its last full refresh is judged again, in its order and as it was numbered, dated and
asked for, so that where nothing has changed the same bytes come out. All of it is one commit (`Sink.rebuilt`): killed
anywhere, the old output stands, or the new one does. What replays and purges had done to the old one is undone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, Counts, changes
from .clock import Clock
from .errors import RejectBudgetError, StateError, StoppedError, SyncerError
from .kept import Kept, Pages
from .masks import MASK_KEY, key_mark, key_of
from .replay import within
from .report import Budget, by_name, failure
from .sinks import Batch, Sink
from .stream import Stream, judging
from .terminal import counted, one_line
from .validate import Validator


@dataclass
class Rebuilt:
    """What a rebuild did to one stream, or would do."""

    stream: str
    model: str = ""
    dry_run: bool = False
    before: Counts = field(default_factory=Counts)
    stored: Counts = field(default_factory=Counts)
    causes: Counter[str] = field(default_factory=Counter)
    status: str = ""
    notes: list[str] = field(default_factory=list)
    error: SyncerError | None = None

    def to_json(self) -> dict[str, Any]:
        """The same for machines; the keys are documented in docs/reference.md."""
        return {
            "stream": self.stream,
            "model": self.model,
            "dry_run": self.dry_run,
            "before": by_name(self.before),
            "stored": by_name(self.stored),
            "rejected_by_cause": dict(self.causes.most_common()),
            "status": self.status,
            "notes": list(self.notes),
            "error": failure(self.error),
        }

    def text(self) -> str:
        """The same in words."""
        if self.error:
            return f"{self.stream}: failed: {one_line(str(self.error))}\n  → {one_line(self.error.hint)}"
        if not self.before.pages:
            return f"{self.stream}: nothing was pulled yet"
        would, old, new = "would be " if self.dry_run else "", self.before, self.stored
        lines = [
            f"{self.stream}: {would}rebuilt from {counted(new.pages, 'page')} by {' '.join(self.model.split()[:2])}",
            f"  {new.written:,} written, {old.written:,} before",
            f"  {new.rejected:,} rejected, {old.rejected:,} before"
            + (f", and {old.purged:,} purged" if old.purged else ""),
            f"  {new.repeated:,} repeated, {old.repeated:,} before",
        ]
        lines += [f"  {count:>7,}  {one_line(cause)}" for cause, count in self.causes.most_common(10)]
        return "\n".join([*lines, *(f"  note: {one_line(note)}" for note in self.notes)])


def rebuild(
    stream: Stream,
    target: Sink,
    pages: Pages,
    clock: Clock,
    done: Rebuilt,
    home: Path,
    max_rejects: str | None = None,
    safe: Callable[[str], str] = str,
) -> None:
    """Make the output of one stream anew from its kept pages, unless `done.dry_run`.

    StateError if a run is under way, if a page is not there as it was kept, or if the replication key is another;
    RejectBudgetError if more is rejected than before and than the budget allows. Nothing has happened then.
    """
    done.model = judging(stream)["model"]
    before = target.peek()
    if before is None or not before.run:
        return
    if not done.dry_run:
        before = target.open()
        done.notes += target.notes
    done.before, done.status = before.stored, before.status
    _checked(stream, before, pages)
    mark = before.fingerprint.get(MASK_KEY, "")
    key = key_of(home, mark, make=not done.dry_run) if stream.masks else b""
    work = _Work(stream, before, pages, clock, done, Validator(stream, target.refuses, safe, key=key), key)
    if done.dry_run:
        for _ in work.pages():
            pass
        work.checkpoint(Budget(share=1))
        return
    target.rebuilt(work.pages(), lambda: work.checkpoint(Budget.parse(max_rejects or stream.max_rejects)))
    done.notes += [note for note in target.notes if note not in done.notes]


def _checked(stream: Stream, before: Checkpoint, pages: Pages) -> None:
    if before.open:
        raise StateError(
            "a run is under way, whose pages are not all there yet",
            hint="`syncer pull` completes it; rebuild then, or add --restart to the pull",
        )
    now = judging(stream)["replication_key"]
    if changed := changes({"replication_key": before.fingerprint.get("replication_key", "")}, {"replication_key": now}):
        raise StateError(
            "the pages were asked for by another key: " + "; ".join(changed),
            hint="`syncer pull` with --restart pulls everything anew",
        )
    if missing := pages.missing(before):
        raise StateError(
            f"not kept, or not as they were kept: {missing}",
            hint="`syncer pull` with --restart --keep-pages pulls everything anew and keeps it;"
            " `syncer rejects replay` judges the rejects alone; the output stays as it is",
        )


class _Work:
    """The pages of an output going through the loop again."""

    def __init__(
        self,
        stream: Stream,
        before: Checkpoint,
        pages: Pages,
        clock: Clock,
        done: Rebuilt,
        validator: Validator,
        key: bytes,
    ) -> None:
        self._stream, self._before, self._pages, self._clock, self._done = stream, before, pages, clock, done
        self._validator, self._key = validator, key
        self._state = Checkpoint()

    def pages(self) -> Iterator[Batch]:
        """The records and rejects of each page."""
        stream, validator, keyed = self._stream, self._validator, bool(self._stream.key)
        for found in self._pages.read(self._before):
            if self._clock.stop:
                raise StoppedError
            if not isinstance(found, Kept):
                raise StateError(f"kept page {found:,} is gone since it was looked at", hint="rebuild again")
            if found.run != self._state.run:
                begun = self._over().begin(found.page.request, {}, "", anew=False)
                self._state = replace(begun, run=found.run, generation=self._before.generation)
            verdict = validator.judge(found.page, found.run, found.stamp)
            records, rejects, _ = self._state.unseen(verdict, keyed=keyed)
            self._state = self._state.advance(
                found.page, verdict, validator.order, found.stamp, incremental=stream.incremental, keyed=keyed
            )
            self._done.causes.update(reject.cause for reject in rejects)
            yield records, rejects

    def checkpoint(self, budget: Budget) -> Checkpoint:
        """The state of the new output: what was asked stays as it was, what was made of it is new."""
        now, made, before = judging(self._stream), self._over(), self._before
        stored = made.stored
        passed = budget.passed(stored, stored.fetched, stored.rejected, over=True, whole=True, replaces=True)
        if passed and stored.rejected > before.stored.rejected + before.stored.purged:
            raise RejectBudgetError(
                f"{passed}; the output stays as it is",
                hint="see with --dry-run why; mend the model, or add --max-rejects",
            )
        kept = {part: text for part, text in before.fingerprint.items() if part not in ("masked fields", MASK_KEY)}
        fingerprint = {**kept, **now, **({MASK_KEY: key_mark(self._key)} if self._key else {})}
        after = replace(
            before,
            seq=before.seq + 1,
            counts=made.counts,
            stored=stored,
            bookmark=made.bookmark,
            highest=made.highest,
            boundary=made.boundary,
            unknown=made.unknown,
            fingerprint=fingerprint,
            saved=self._clock.stamp(),
        )
        after = within(self._stream, after)
        self._done.stored, self._done.status = after.stored, after.status
        return after

    def _over(self) -> Checkpoint:
        """The state at the end of the run at hand."""
        state = self._state
        return state.ended("short" if state.short else "complete") if state.run else state
