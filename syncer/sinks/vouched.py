"""Reading files of JSON lines as far as the checkpoint vouches for them, beside whoever may be appending to them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from ..checkpoint import Checkpoint
from ..errors import StateError
from ..page import JSON
from . import disk
from .mark import Mark, marks

Row = tuple[Checkpoint, dict[str, JSON]]


class Vouched:
    """The files of one stream in a directory; `finals` are their names once no refresh and no replay is under way."""

    def __init__(self, directory: Path, stream: str) -> None:
        self.state = directory / ".syncer" / "state.db"
        self.finals = {"records": f"{stream}.jsonl", "rejects": f"{stream}.rejects.jsonl"}
        self._directory, self._stream = directory, stream

    def rejects(self, *, newest: bool) -> Iterator[bytes]:
        """The lines of the rejects, and first those of an output that a refresh is about to replace."""
        return self._all(lambda: self._rejects(newest))

    def records(self) -> Iterator[bytes]:
        """The lines of the records; while a refresh is under way, of what it has written."""
        return self._all(lambda: self._placed("records", disk.peek(self.state, self._stream)))

    def look(self) -> None:
        """StateError unless both files begin with what their marks vouch for."""
        for _ in self._opened(self._both):
            pass

    def reading(self, mark: Mark) -> BinaryIO:
        """A file that holds what its mark vouches for, to be read beside a pull that may be appending."""
        path = self._directory / mark.name
        with disk.explained(path, "read"):
            try:
                file: BinaryIO = path.open("rb")
            except FileNotFoundError:
                if mark.length:
                    raise self.disagree(path, f"is missing, {mark.length:,} bytes of it are vouched for") from None
                return io.BytesIO()
        try:
            self.verify(mark, file.fileno())
        except BaseException:
            file.close()
            raise
        return file

    def lines(self, mark: Mark, file: BinaryIO) -> Iterator[bytes]:
        """The lines of an open file up to its mark. StateError if it shrinks meanwhile."""
        taken = 0
        while taken < mark.length:
            line = file.readline(mark.length - taken)
            if not line.endswith(b"\n"):
                path = self._directory / mark.name
                raise self.disagree(path, f"was changed while it was read: no end of line after byte {taken:,}")
            taken += len(line)
            yield line[:-1]

    def verify(self, mark: Mark, descriptor: int) -> None:
        """StateError unless the open file begins with what its mark vouches for."""
        path = self._directory / mark.name
        with disk.explained(path, "read"):
            if broken := mark.broken(descriptor):
                raise self.disagree(path, broken)

    def disagree(self, path: Path, what: str) -> StateError:
        """What to say of a file that is not what the checkpoint says."""
        return StateError(
            f"{path} {what}", hint=f"restore the file, or set it aside and begin anew: {self.reset_command()}"
        )

    def reset_command(self) -> str:
        """What a person types to set this output aside."""
        return disk.reset_command(self._directory, self._stream, "jsonl")

    def _all(self, look: Callable[[], list[Mark]]) -> Iterator[bytes]:
        for mark, file in self._opened(look):
            yield from self.lines(mark, file)

    def _opened(self, look: Callable[[], list[Mark]]) -> Iterator[tuple[Mark, BinaryIO]]:
        found = look()
        while True:
            with ExitStack() as opened:
                try:
                    files = [opened.enter_context(self.reading(mark)) for mark in found]
                except StateError:
                    before, found = found, look()
                    if found == before:
                        raise
                    continue  # a file was begun or renamed in between
                yield from zip(found, files, strict=True)
                return

    def _rejects(self, newest: bool) -> list[Mark]:
        """What of the rejects can be read: also all of the last complete output while a refresh is under way."""
        row = disk.peek(self.state, self._stream)
        found = self._placed("rejects", row)
        if newest or row is None or row[1].get("publish") or marks(row[1])["records"].name == self.finals["records"]:
            return found
        length = disk.size(self._directory / self.finals["rejects"]) or 0
        return [Mark(self.finals["rejects"], length, length), *found]

    def _both(self) -> list[Mark]:
        row = disk.peek(self.state, self._stream)
        return [mark for kind in self.finals for mark in self._placed(kind, row)]

    def _placed(self, kind: str, row: Row | None) -> list[Mark]:
        """The file of a kind that the row speaks of, by the name that it has now."""
        if row is None:
            return []
        mark = marks(row[1])[kind]
        if row[1].get("publish") and disk.size(self._directory / mark.name) is None:
            mark = mark.renamed(self.finals[kind])  # the row was saved, and the file renamed, but not in the row
        return [mark]
