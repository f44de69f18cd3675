"""The commit protocol against the wrong ones: each of them must be caught by what proves the right one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import syncer.pull
from syncer.checkpoint import Checkpoint, dump, save
from syncer.errors import LockError
from syncer.sinks import disk
from syncer.sinks.jsonl import JsonLines, _own
from syncer.validate import Record, Reject
from tests.powerloss import build, states
from tests.test_resume import killed, story
from tests.world import run, stream, tree


class CheckpointFirst(JsonLines):
    """Wrong: the row vouches for bytes that are not written yet."""

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        marks = self._begin(checkpoint.generation) if checkpoint.generation != self._generation else self._marks
        lines = {"records": [r.line for r in records], "rejects": [r.line for r in rejects]}
        before = {kind: os.fstat(descriptor).st_size for kind, descriptor in self._descriptors.items()}
        ahead = {}
        for kind, mark in marks.items():
            data = b"".join(line + b"\n" for line in lines[kind])
            ahead[kind] = (
                replace(mark, length=mark.length + len(data), page=mark.length, crc=disk_crc(data)) if data else mark
            )
        with disk.transaction(self._connection, self._state):
            save(self._connection, self._stream.name, checkpoint, _own(ahead, publish=False))
        assert before == {kind: mark.length for kind, mark in marks.items()}
        for kind, mark in marks.items():
            self._append(kind, mark, lines[kind])
            os.fsync(self._descriptors[kind])
        self._marks, self._generation = ahead, checkpoint.generation


class NoCut(JsonLines):
    """Wrong: appends after whatever an interrupted pull left behind."""

    def _cut(self, path: Path, descriptor: int, mark: Any, found: int) -> None:
        return


class TwoCommits(JsonLines):
    """Wrong: one commit for the records and the cursor, another for the rejects."""

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        marks = self._begin(checkpoint.generation) if checkpoint.generation != self._generation else self._marks
        half = {**marks, "records": self._append("records", marks["records"], [r.line for r in records])}
        os.fsync(self._descriptors["records"])
        with disk.transaction(self._connection, self._state):
            save(self._connection, self._stream.name, checkpoint, _own(half, publish=False))
        whole = {**half, "rejects": self._append("rejects", marks["rejects"], [r.line for r in rejects])}
        os.fsync(self._descriptors["rejects"])
        with disk.transaction(self._connection, self._state):
            save(self._connection, self._stream.name, checkpoint, _own(whole, publish=False), again=True)
        self._marks, self._generation = whole, checkpoint.generation


class NoSync(JsonLines):
    """Wrong: the row becomes durable before the bytes it vouches for."""

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: None)
            super().commit(records, rejects, checkpoint)


class NoSyncNormal(NoSync):
    """Wrong in the same way, with SQLite's synchronous=NORMAL."""

    def open(self) -> Checkpoint:
        checkpoint = super().open()
        self._connection.execute("PRAGMA synchronous = NORMAL")
        return checkpoint


class NoDirectorySync(JsonLines):
    """Wrong: the files' names are not made durable before a row speaks of them."""

    def open(self) -> Checkpoint:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "sync_directory", lambda path: None)
            return super().open()

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "sync_directory", lambda path: None)
            super().commit(records, rejects, checkpoint)


def disk_crc(data: bytes) -> int:
    import zlib

    return zlib.crc32(data)


def use(monkeypatch: pytest.MonkeyPatch, kind: type[JsonLines]) -> None:
    monkeypatch.setattr(syncer.pull, "sink", lambda _, out, source, stream: kind(out / source, stream))


def damaged_by_kills(tmp_path: Path, kind: str) -> tuple[int, int]:
    """How many kill points there are, and at how many the output differs in the end."""
    story(kind, "token", tmp_path / "calm", "jsonl")()
    expected = tree(tmp_path / "calm", "jsonl")
    bad, step = 0, 1
    while True:
        out = tmp_path / str(step)
        work = story(kind, "token", out, "jsonl")
        if not killed(step, work):
            return step - 1, bad
        work()
        bad += expected != tree(out, "jsonl")
        step += 1


def damaged_by_power_cuts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> tuple[int, int]:
    """How many states a power cut may leave, and how many of them end in other output."""
    calm = story(kind, "token", tmp_path / "calm", "jsonl")
    found = list(states(monkeypatch, tmp_path / "calm" / "shop", calm))
    expected = tree(tmp_path / "calm", "jsonl")
    bad = 0
    for number, state in enumerate(found):
        out = tmp_path / str(number)
        build(out / "shop", state)
        run(out, stream("token"), "jsonl")
        bad += expected != tree(out, "jsonl")
    return len(found), bad


@pytest.mark.parametrize("kind", ["first", "refresh"])
def test_no_power_cut_leaves_a_state_from_which_the_pull_ends_differently(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    count, bad = damaged_by_power_cuts(monkeypatch, tmp_path, kind)

    assert bad == 0
    assert count > 25


@pytest.mark.parametrize("wrong", [CheckpointFirst, NoCut, TwoCommits], ids=lambda kind: kind.__name__)
def test_a_protocol_in_the_wrong_order_is_caught_by_killing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: type[JsonLines]
) -> None:
    use(monkeypatch, wrong)

    _, bad = damaged_by_kills(tmp_path, "first")

    assert bad > 0


@pytest.mark.parametrize(
    "wrong",
    [CheckpointFirst, NoCut, TwoCommits, NoSync, NoSyncNormal, NoDirectorySync],
    ids=lambda kind: kind.__name__,
)
def test_a_protocol_that_trusts_the_disk_too_early_is_caught_by_cutting_the_power(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: type[JsonLines]
) -> None:
    use(monkeypatch, wrong)

    _, bad = damaged_by_power_cuts(monkeypatch, tmp_path, "first")

    assert bad > 0


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_a_writer_that_woke_up_late_changes_nothing(tmp_path: Path, sink: str) -> None:
    """Its lock is taken away from under it, another pull ends the stream, then it commits what it has (I9)."""
    from syncer.sinks import sink as make

    source = stream("token")
    run(tmp_path, source, sink, max_pages=1)
    late = make(sink, tmp_path, "shop", source)
    checkpoint = late.open()
    late._lock.release()
    run(tmp_path, source, sink)
    expected = tree(tmp_path, sink)
    stale = replace(checkpoint, seq=checkpoint.seq + 1)

    with pytest.raises(LockError):
        late.commit([Record(b'{"id":99}', None, None)], [], stale)
    late.close()
    run_again = make(sink, tmp_path, "shop", source)
    run_again.open()
    run_again.close()

    assert expected == tree(tmp_path, sink)


def test_a_checkpoint_survives_its_saved_form(tmp_path: Path) -> None:
    run(tmp_path, stream("keyset", incremental=True), "jsonl", max_pages=2)
    with suppress(sqlite3.Error), sqlite3.connect(tmp_path / "shop" / ".syncer" / "state.db") as connection:
        body, seq = connection.execute("SELECT body, seq FROM syncer_checkpoint").fetchone()
    from syncer.checkpoint import parse

    checkpoint, own = parse(body, seq)

    assert body == dump(checkpoint, own)
    assert checkpoint.open
    assert checkpoint.counts.balanced()


Work = Callable[[], object]
