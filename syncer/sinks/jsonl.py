"""JSON lines, the default: one file for records, one for rejects, and a small database that vouches for both.

    OUT/SOURCE/STREAM.jsonl            the records, one a line, in the order they came
    OUT/SOURCE/STREAM.rejects.jsonl    the rejects
    OUT/SOURCE/.syncer/state.db        the checkpoint, with the length of both files and a CRC of their last page

A page is committed by writing both files, fsyncing both, and then one row. Recovery cuts both files to the
lengths in the row. Both happen under the database's write lock, taken before the first byte: SQLite lets one
writer in, whatever became of the lock file. A full refresh writes STREAM.jsonl.g2, is renamed to STREAM.jsonl
when it is complete, and until then leaves the old file alone. The part of the row that is this sink's own:

    {"records": {"name": "orders.jsonl", "length": 1200, "page": 900, "crc": 123}, "rejects": {...}, "publish": false}

What `amend` leaves of the rejects goes to a new file, STREAM.rejects.jsonl.r8 where the row's seq becomes 8. The row
names it, and with `publish` the file takes its final name afterwards, or by the next open.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import orjson

from ..checkpoint import Checkpoint, load, save
from ..decode import exact
from ..errors import LockError, StateError
from ..page import JSON
from ..stream import Stream
from ..validate import Reason, Record, Reject
from . import disk
from .held import Held, Values, identity
from .mark import Mark, marks
from .vouched import Vouched

_TAIL = 2**20
_BESIDE = 1000
"""About what a line costs in memory beside its bytes: orjson's buffers are larger than what is in them."""


class JsonLines:
    """One stream in a directory of JSON lines."""

    def __init__(self, directory: Path, stream: Stream) -> None:
        self._directory, self._stream = directory, stream
        self._files = Vouched(directory, stream.name)
        self._state, self._finals = self._files.state, self._files.finals
        self._lock = disk.Lock(directory / ".syncer" / f"{stream.name}.jsonl.lock")
        self._marks: dict[str, Mark] = {}
        self._generation = self._seq = 0
        self._descriptors: dict[str, int] = {}
        self.notes: list[str] = []

    @property
    def steady(self) -> bool:
        """Always: nothing is refused."""
        return True

    def open(self) -> Checkpoint:
        """Lock, cut both files to what the checkpoint vouches for, and return it."""
        disk.directory(self._state.parent)
        self._lock.acquire(self._stream.name)
        self._connection = disk.database(self._state)
        self._identity = disk.identity(self._state)
        with disk.transaction(self._connection, self._state):
            row = load(self._connection, self._stream.name)
            if row is None:
                self._refuse_strangers()
                row = self._born()
            checkpoint, own = row
            self._generation, self._seq = checkpoint.generation, checkpoint.seq
            self._marks = marks(own)
            if own.get("publish"):
                self._publish(checkpoint)
            for kind, mark in self._marks.items():
                self._descriptors[kind] = self._recovered(mark)
            self._sweep()
        return checkpoint

    def refuses(self, values: Mapping[str, JSON]) -> Iterable[Reason]:
        """Nothing: a line of JSON holds whatever came as JSON."""
        return ()

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        """Write, fsync, then the one row that makes it count."""
        fresh = checkpoint.generation != self._generation
        lines = {"records": [record.line for record in records], "rejects": [reject.line for reject in rejects]}
        with self._turn(checkpoint.seq - 1):
            found = self._begin(checkpoint.generation) if fresh else self._marks
            self._untouched(found)
            found = {kind: self._append(kind, found[kind], lines[kind]) for kind in found}
            self._flush({kind: mark for kind, mark in found.items() if lines[kind]})
            self._untouched(found)
            publish = checkpoint.status == "complete" and self._beside(found)
            save(self._connection, self._stream.name, checkpoint, _own(found, publish))
        self._committed(found, checkpoint, publish=publish, sweep=fresh)

    def amend(self, settle: Callable[[bytes], Record | bytes | None], checkpoint: Callable[[], Checkpoint]) -> None:
        """Append what joins the records, write what stays to a new file, fsync both, then the row that names both."""
        before, old = self._marks, self._descriptors["rejects"]
        fresh = Mark(f"{self._finals['rejects']}.r{self._seq + 1}")
        with self._turn(self._seq):
            self._untouched(before)
            self._descriptors["rejects"] = self._emptied(fresh)
            try:
                found, changed = self._settled({**before, "rejects": fresh}, settle)
                if changed:
                    self._flush(found)
                    self._untouched(found)
                    after = checkpoint()
                    publish = after.status == "complete" or not self._beside(found)
                    save(self._connection, self._stream.name, after, _own(found, publish))
            except BaseException:
                self._undo(before, fresh, old)
                raise
            if not changed:
                self._undo(before, fresh, old)
                return
        os.close(old)
        self._committed(found, after, publish=publish, sweep=True)

    def rebuilt(
        self, pages: Iterable[tuple[Sequence[Record], Sequence[Reject]]], checkpoint: Callable[[], Checkpoint]
    ) -> None:
        """Write two new files, fsync both, then the row that names them; they take their final names afterwards."""
        before, old = self._marks, self._descriptors
        found = {kind: Mark(f"{name}.r{self._seq + 1}") for kind, name in self._finals.items()}
        with self._turn(self._seq):
            self._untouched(before)
            self._descriptors = {}
            try:
                for kind, mark in found.items():
                    self._descriptors[kind] = self._emptied(mark)
                for records, rejects in pages:
                    lines = {"records": [one.line for one in records], "rejects": [one.line for one in rejects]}
                    found = {kind: self._append(kind, mark, lines[kind]) for kind, mark in found.items()}
                self._flush(found)
                self._untouched(found)
                after = checkpoint()
                publish = after.status == "complete" or not self._beside(before)
                save(self._connection, self._stream.name, after, _own(found, publish))
            except BaseException:
                self._release()
                self._descriptors = old
                for mark in found.values():
                    with suppress(OSError):
                        (self._directory / mark.name).unlink(missing_ok=True)
                raise
        for descriptor in old.values():
            os.close(descriptor)
        self._committed(found, after, publish=publish, sweep=True)

    def held(self, records: Iterable[Values]) -> Held:
        """One pass over the records file; the last line of a key is the valid one."""
        key = identity(self._stream)
        wanted = {key(values) for values in records}
        versions: dict[bytes, JSON] = {}
        for line in self._files.records() if wanted else ():
            values = self._read(line)
            if (mine := key(values)) in wanted:
                versions[mine] = values.get(self._stream.replication_key or "")
        return Held(key, versions)

    def close(self) -> None:
        """Close the files and release the lock."""
        self._release()
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.release()

    def peek(self) -> Checkpoint | None:
        """The checkpoint, without a lock."""
        row = disk.peek(self._state, self._stream.name)
        return row[0] if row else None

    def look(self) -> None:
        """Whether both files begin with what is vouched for."""
        self._files.look()

    def rejects(self, *, newest: bool = False) -> Iterator[bytes]:
        """The lines of the rejects file as far as it is vouched for, and of an unfinished refresh."""
        return self._files.rejects(newest=newest)

    def places(self) -> Mapping[str, str]:
        """The two files."""
        return {kind: str(self._directory / name) for kind, name in self._finals.items()}

    def set_aside(self, stamp: str) -> Sequence[str]:
        """Rename the files, then forget the checkpoint. Where nothing is, nothing is made."""
        if disk.size(self._state) is None and not self._present():
            return []
        disk.directory(self._state.parent)
        self._lock.acquire(self._stream.name)
        try:
            with closing(disk.database(self._state)) as connection, disk.transaction(connection, self._state):
                names = self._renamed(stamp)
                connection.execute("DELETE FROM syncer_checkpoint WHERE stream = ?", (self._stream.name,))
            return names
        finally:
            self._lock.release()

    def _present(self) -> list[Path]:
        mine = [*(self._directory / name for name in self._finals.values()), *self._generations()]
        with disk.explained(self._directory, "look into"):
            return [path for path in mine if not path.is_symlink() and path.is_file()]

    def _renamed(self, stamp: str) -> list[str]:
        names = []
        for path in self._present():
            aside = disk.free(path.with_name(f"{path.name}.before-{stamp}"))
            with disk.explained(path, "rename"):
                path.rename(aside)
            names.append(str(aside))
        with disk.explained(self._directory, "flush"):
            disk.sync_directory(self._directory)
        return names

    @contextmanager
    def _turn(self, seq: int) -> Iterator[None]:
        """The database's write lock, held by the pull whose turn it still is (I9).

        A writer that wakes up after somebody deleted its lock file and a second pull moved on has to learn it
        before its first byte. Comparing `seq` in the last statement would be too late, and so would any look
        without the write lock: the other pull could come in between. Bytes are appended and not put at the
        length in the mark: if all of this failed, a tail can be cut, but what was overwritten is lost.
        """
        with disk.transaction(self._connection, self._state):
            if disk.identity(self._state) != self._identity:
                raise disk.moved(self._state)
            self._lock.check(self._stream.name)
            query = "SELECT seq FROM syncer_checkpoint WHERE stream = ?"
            if self._connection.execute(query, (self._stream.name,)).fetchone() != (seq,):
                raise LockError(
                    "another pull has moved this stream on since this one began, which writes nothing more",
                    hint="run the same command again: it goes on from the newer checkpoint",
                )
            yield

    def _untouched(self, marks: Mapping[str, Mark]) -> None:
        """StateError unless both names still stand for the open files, and these end where the marks say."""
        for kind, mark in marks.items():
            path = self._directory / mark.name
            if not disk.same(self._descriptors[kind], path):
                raise self._files.disagree(
                    path, "was deleted, moved or replaced while the pull ran; this page is not saved"
                )
            found = os.fstat(self._descriptors[kind]).st_size
            if found < mark.length:
                raise self._files.disagree(path, f"has {found:,} bytes, this pull has written {mark.length:,}")
            if found > mark.length:
                raise StateError(
                    f"{path} has {found:,} bytes, this pull has written {mark.length:,}: another program writes to it",
                    hint="stop that program and run the same command again: the pull cuts off what is not its own",
                )

    def _refuse_strangers(self) -> None:
        """Without a checkpoint nothing is cut and nothing is appended to."""
        for name in self._finals.values():
            path = self._directory / name
            disk.no_link(path)
            if (found := disk.size(path)) and path.is_file():
                raise StateError(
                    f"{path} has {found:,} bytes, but no checkpoint vouches for them",
                    hint=f"move it away, or set it aside: {self._files.reset_command()}",
                )

    def _born(self) -> tuple[Checkpoint, dict[str, JSON]]:
        """A row that vouches for two empty files, so that whatever a first page leaves behind can be cut."""
        checkpoint, own = Checkpoint(), _own({kind: Mark(name) for kind, name in self._finals.items()}, publish=False)
        save(self._connection, self._stream.name, checkpoint, own)
        return checkpoint, own

    def _recovered(self, mark: Mark) -> int:
        """A descriptor of a file that ends exactly where its mark says."""
        path = self._directory / mark.name
        disk.no_link(path)
        if mark.length and disk.size(path) is None:
            raise self._files.disagree(path, f"is missing, the checkpoint vouches for {mark.length:,} bytes of it")
        descriptor = disk.open_file(path)
        try:
            self._files.verify(mark, descriptor)
            found = os.fstat(descriptor).st_size
            if found > mark.length:
                self._cut(path, descriptor, mark, found)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _cut(self, path: Path, descriptor: int, mark: Mark, found: int) -> None:
        """Cut a tail that no checkpoint vouches for; one longer than an interrupted page is kept beside."""
        extra = found - mark.length
        if extra > _TAIL + 4 * (mark.length - mark.page):
            aside = disk.copy(descriptor, mark.length, found, path.with_name(f"{path.name}.tail-{mark.length}"))
            self.notes.append(
                f"{path} had {extra:,} bytes that no checkpoint vouches for; they are kept in {aside.name}"
            )
        with disk.explained(path, "cut"):
            os.ftruncate(descriptor, mark.length)
            os.fsync(descriptor)

    def _begin(self, generation: int) -> dict[str, Mark]:
        """Empty files for a new generation: the final ones if there is nothing yet, else files beside them."""
        self._release()
        suffix = f".g{generation}" if self._generation else ""
        marks = {kind: Mark(name + suffix) for kind, name in self._finals.items()}
        for kind, mark in marks.items():
            path = self._directory / mark.name
            if suffix:
                with disk.explained(path, "remove"):
                    path.unlink(missing_ok=True)  # a refresh that was killed before its first checkpoint
            self._descriptors[kind] = disk.open_file(path)
        return marks

    def _append(self, kind: str, mark: Mark, lines: Sequence[bytes]) -> Mark:
        if not lines:
            return mark
        data = b"\n".join([*lines, b""])
        descriptor = self._descriptors[kind]
        with disk.explained(self._directory / mark.name, f"write {len(data):,} bytes to"):
            try:
                disk.write(descriptor, data)
            except OSError:
                os.ftruncate(descriptor, mark.length)  # works on a full disk; else the next open does it
                raise
        return mark.after(data)

    def _flush(self, found: Mapping[str, Mark]) -> None:
        for kind, mark in found.items():
            with disk.explained(self._directory / mark.name, "flush"):
                os.fsync(self._descriptors[kind])

    def _beside(self, found: Mapping[str, Mark]) -> bool:
        """Whether these files are those of a refresh, which grow beside an older output."""
        return found["records"].name != self._finals["records"]

    def _committed(self, found: dict[str, Mark], checkpoint: Checkpoint, *, publish: bool, sweep: bool) -> None:
        """What is left to do once the row counts: names, and the files that it names no more."""
        self._marks, self._generation, self._seq = found, checkpoint.generation, checkpoint.seq
        if sweep or publish:
            with self._turn(checkpoint.seq):
                if publish:
                    self._publish(checkpoint)
                self._sweep()

    def _emptied(self, mark: Mark) -> int:
        """A descriptor of a new, empty file."""
        path = self._directory / mark.name
        with disk.explained(path, "remove"):
            path.unlink(missing_ok=True)  # of a process that was killed in the middle of the same
        return disk.open_file(path)

    def _settled(
        self, found: dict[str, Mark], settle: Callable[[bytes], Record | bytes | None]
    ) -> tuple[dict[str, Mark], bool]:
        """Write every reject where it belongs now; the marks, and whether any was not left as it was."""
        old, changed = self._marks["rejects"], False
        waiting: dict[str, list[bytes]] = {kind: [] for kind in found}
        size = 0
        with self._files.reading(old) as file:
            for line in self._files.lines(old, file):
                answer = settle(line)
                changed = changed or answer != line
                if answer is not None:
                    kind, kept = ("rejects", answer) if isinstance(answer, bytes) else ("records", answer.line)
                    waiting[kind].append(kept)
                    size += len(kept) + _BESIDE
                if size > disk.CHUNK:
                    found = {kind: self._append(kind, found[kind], waiting[kind]) for kind in found}
                    waiting, size = {kind: [] for kind in found}, 0
        return {kind: self._append(kind, found[kind], waiting[kind]) for kind in found}, changed

    def _undo(self, before: Mapping[str, Mark], fresh: Mark, old: int) -> None:
        """Take back what no row speaks of; what cannot be taken back, the next open removes."""
        made, self._descriptors["rejects"] = self._descriptors["rejects"], old
        with suppress(OSError):
            os.ftruncate(self._descriptors["records"], before["records"].length)
            os.close(made)
            (self._directory / fresh.name).unlink(missing_ok=True)

    def _read(self, line: bytes) -> dict[str, JSON]:
        """The values of a line; exact only as far as they tell records and versions apart."""
        stream = self._stream
        if stream.key:
            with suppress(orjson.JSONDecodeError):  # a number that only `exact` can hold
                values: dict[str, JSON] = orjson.loads(line)
                if all(
                    isinstance(values.get(name), str | int | None)
                    for name in (*stream.key, stream.replication_key or "")
                ):
                    return values
        whole: dict[str, JSON] = exact(line)
        return whole

    def _publish(self, checkpoint: Checkpoint) -> None:
        """Give the files of a complete refresh, or of an amend, their final names; safe to do again after a crash."""
        final = {kind: self._marks[kind].renamed(name) for kind, name in self._finals.items()}
        waiting = [kind for kind, mark in self._marks.items() if disk.size(self._directory / mark.name) is not None]
        for kind in self._marks:  # before either takes the place of an older one
            self._files.reading(self._marks[kind] if kind in waiting else final[kind]).close()
        with disk.explained(self._directory, "rename in"):
            for kind in waiting:
                (self._directory / self._marks[kind].name).replace(self._directory / final[kind].name)
            disk.sync_directory(self._directory)
        save(self._connection, self._stream.name, checkpoint, _own(final, publish=False), again=True)
        self._marks = final

    def _sweep(self) -> None:
        """Remove the files of refreshes and amends that were given up or are done: no checkpoint names them."""
        named = {mark.name for mark in self._marks.values()}
        for path in self._generations():
            if path.name not in named:
                with disk.explained(path, "remove"):
                    path.unlink()

    def _generations(self) -> list[Path]:
        with disk.explained(self._directory, "list"):
            return [
                path
                for name in self._finals.values()
                for path in sorted(self._directory.glob(f"{name}.[gr]*"))
                if path.name[len(name) + 2 :].isdecimal()
            ]

    def _release(self) -> None:
        for descriptor in self._descriptors.values():
            with suppress(OSError):  # what counts was fsynced
                os.close(descriptor)
        self._descriptors = {}


def _own(marks: Mapping[str, Mark], publish: bool) -> dict[str, JSON]:
    return {**{kind: asdict(mark) for kind, mark in marks.items()}, "publish": publish}
