"""JSON lines, the default: one file for records, one for rejects, and a small database that vouches for both.

    OUT/SOURCE/STREAM.jsonl            the records, one a line, in the order they came
    OUT/SOURCE/STREAM.rejects.jsonl    the rejects
    OUT/SOURCE/.syncer/state.db        the checkpoint, with the length of both files and a CRC of their last page

A page is committed by writing both files, fsyncing both, and then one row. Recovery cuts both files to the
lengths in the row. Both happen under the database's write lock, taken before the first byte: SQLite lets one
writer in, whatever became of the lock file. A full refresh writes STREAM.jsonl.g2, is renamed to STREAM.jsonl
when it is complete, and until then leaves the old file alone. The part of the row that is this sink's own:

    {"records": {"name": "orders.jsonl", "length": 1200, "page": 900, "crc": 123}, "rejects": {...}, "publish": false}
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from ..checkpoint import Checkpoint, load, save
from ..errors import LockError, StateError
from ..page import JSON
from ..stream import Stream
from ..validate import Reason, Record, Reject
from . import disk
from .mark import Mark

_TAIL = 2**20


class JsonLines:
    """One stream in a directory of JSON lines."""

    def __init__(self, directory: Path, stream: Stream) -> None:
        self._directory, self._stream = directory, stream
        self._state = directory / ".syncer" / "state.db"
        self._lock = disk.Lock(directory / ".syncer" / f"{stream.name}.jsonl.lock")
        self._finals = {"records": f"{stream.name}.jsonl", "rejects": f"{stream.name}.rejects.jsonl"}
        self._marks: dict[str, Mark] = {}
        self._generation = 0
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
            self._generation = checkpoint.generation
            self._marks = _marks(own)
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
            marks = self._begin(checkpoint.generation) if fresh else self._marks
            self._untouched(marks)
            marks = {kind: self._append(kind, marks[kind], lines[kind]) for kind in marks}
            for kind, mark in marks.items():
                if lines[kind]:
                    with disk.explained(self._directory / mark.name, "flush"):
                        os.fsync(self._descriptors[kind])
            self._untouched(marks)
            refreshed = marks["records"].name != self._finals["records"]
            publish = checkpoint.status == "complete" and refreshed
            save(self._connection, self._stream.name, checkpoint, _own(marks, publish))
        self._marks, self._generation = marks, checkpoint.generation
        if fresh or publish:
            with self._turn(checkpoint.seq):
                if publish:
                    self._publish(checkpoint)
                self._sweep()

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

    def rejects(self) -> Iterator[bytes]:
        """The lines of the rejects file as far as it is vouched for, and of an unfinished refresh."""
        marks = self._vouched()
        while True:
            with ExitStack() as opened:
                try:
                    files = [opened.enter_context(self._reading(mark)) for mark in marks]
                except StateError:
                    before, marks = marks, self._vouched()
                    if marks == before:
                        raise
                    continue  # a pull has begun or renamed a file in between
                for mark, file in zip(marks, files, strict=True):
                    yield from self._lines(mark, file)
                return

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
                raise self._disagree(path, "was deleted, moved or replaced while the pull ran; this page is not saved")
            found = os.fstat(self._descriptors[kind]).st_size
            if found < mark.length:
                raise self._disagree(path, f"has {found:,} bytes, this pull has written {mark.length:,}")
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
                    hint=f"move it away, or set it aside: {self._reset()}",
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
            raise self._disagree(path, f"is missing, the checkpoint vouches for {mark.length:,} bytes of it")
        descriptor = disk.open_file(path)
        try:
            self._verify(mark, descriptor)
            found = os.fstat(descriptor).st_size
            if found > mark.length:
                self._cut(path, descriptor, mark, found)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _verify(self, mark: Mark, descriptor: int) -> None:
        path = self._directory / mark.name
        with disk.explained(path, "read"):
            if broken := mark.broken(descriptor):
                raise self._disagree(path, broken)

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
        data = b"".join(line + b"\n" for line in lines)
        descriptor = self._descriptors[kind]
        with disk.explained(self._directory / mark.name, f"write {len(data):,} bytes to"):
            try:
                disk.write(descriptor, data)
            except OSError:
                os.ftruncate(descriptor, mark.length)  # works on a full disk; else the next open does it
                raise
        return mark.after(data)

    def _publish(self, checkpoint: Checkpoint) -> None:
        """Give the files of a complete refresh their final names; safe to do again after a crash."""
        final = {kind: self._marks[kind].renamed(name) for kind, name in self._finals.items()}
        waiting = [kind for kind, mark in self._marks.items() if disk.size(self._directory / mark.name) is not None]
        for kind in self._marks:  # before either takes the place of an older one
            self._reading(self._marks[kind] if kind in waiting else final[kind]).close()
        with disk.explained(self._directory, "rename in"):
            for kind in waiting:
                (self._directory / self._marks[kind].name).replace(self._directory / final[kind].name)
            disk.sync_directory(self._directory)
        save(self._connection, self._stream.name, checkpoint, _own(final, publish=False), again=True)
        self._marks = final

    def _sweep(self) -> None:
        """Remove the files of refreshes that were given up: no checkpoint names them."""
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
                for path in sorted(self._directory.glob(f"{name}.g*"))
                if path.name[len(name) + 2 :].isdecimal()
            ]

    def _vouched(self) -> list[Mark]:
        """What of the rejects can be read: also all of the last complete output while a refresh is under way."""
        row = disk.peek(self._state, self._stream.name)
        if row is None:
            return []
        mark, name = _marks(row[1])["rejects"], self._finals["rejects"]
        if mark.name == name:
            return [mark]
        if row[1].get("publish"):  # a complete refresh, whose file may have its final name already
            return [mark if disk.size(self._directory / mark.name) is not None else mark.renamed(name)]
        length = disk.size(self._directory / name) or 0
        return [Mark(name, length, length), mark]

    def _reading(self, mark: Mark) -> BinaryIO:
        """A file that holds what its mark vouches for, to be read beside a pull that may be appending."""
        path = self._directory / mark.name
        with disk.explained(path, "read"):
            try:
                file: BinaryIO = path.open("rb")
            except FileNotFoundError:
                if mark.length:
                    raise self._disagree(path, f"is missing, {mark.length:,} bytes of it are vouched for") from None
                return io.BytesIO()
        try:
            self._verify(mark, file.fileno())
        except BaseException:
            file.close()
            raise
        return file

    def _lines(self, mark: Mark, file: BinaryIO) -> Iterator[bytes]:
        taken = 0
        while taken < mark.length:
            line = file.readline(mark.length - taken)
            if not line.endswith(b"\n"):
                path = self._directory / mark.name
                raise self._disagree(path, f"was changed while it was read: no end of line after byte {taken:,}")
            taken += len(line)
            yield line[:-1]

    def _disagree(self, path: Path, what: str) -> StateError:
        return StateError(
            f"{path} {what}",
            hint=f"restore the file, or set it aside and begin anew: {self._reset()}",
        )

    def _release(self) -> None:
        for descriptor in self._descriptors.values():
            with suppress(OSError):  # what counts was fsynced
                os.close(descriptor)
        self._descriptors = {}

    def _reset(self) -> str:
        return disk.reset_command(self._directory, self._stream.name, "jsonl")


def _marks(own: Mapping[str, JSON]) -> dict[str, Mark]:
    try:
        return {kind: Mark(**own[kind]) for kind in ("records", "rejects")}
    except (KeyError, TypeError):
        raise StateError(
            "the checkpoint does not say how long the files are", hint="restore it from a backup"
        ) from None


def _own(marks: Mapping[str, Mark], publish: bool) -> dict[str, JSON]:
    return {**{kind: asdict(mark) for kind, mark in marks.items()}, "publish": publish}
