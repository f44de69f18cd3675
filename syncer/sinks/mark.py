"""A mark: how far a file is vouched for. Pure but for reading the file it speaks of."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import StateError
from ..page import JSON
from . import disk


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file is vouched for: its length, and where in it the last page begins with what CRC."""

    name: str
    length: int = 0
    page: int = 0
    crc: int = 0

    def sound(self) -> bool:
        """Whether it speaks of a file beside the others and of a page in it; a row may be anybody's."""
        plain = isinstance(self.name, str) and self.name not in ("", "..") and not {"/", "\0"} & {*self.name}
        numbers = (self.length, self.page, self.crc)
        return plain and all(type(number) is int for number in numbers) and 0 <= self.page <= self.length

    def renamed(self, name: str) -> Mark:
        """The same of the file under its new name."""
        return replace(self, name=name)

    def after(self, data: bytes) -> Mark:
        """The mark once a page more is in the file."""
        return Mark(self.name, self.length + len(data), self.length, zlib.crc32(data))

    def broken(self, descriptor: int) -> str:
        """What of the open file is not as it was vouched for, in words; "" if nothing. More may follow the end."""
        found = os.fstat(descriptor).st_size
        if found < self.length:
            return f"has {found:,} bytes, the checkpoint vouches for {self.length:,}"
        if self.length and os.pread(descriptor, 1, self.length - 1) != b"\n":
            return f"has no end of line at byte {self.length:,}"
        if _crc(descriptor, self.page, self.length) != self.crc:
            return f"differs from what was written in bytes {self.page:,} to {self.length:,}"
        return ""


def marks(own: Mapping[str, JSON]) -> dict[str, Mark]:
    """The marks of records and rejects in a sink's part of a checkpoint. StateError if it has none."""
    try:
        found = {kind: Mark(**own[kind]) for kind in ("records", "rejects")}
        if not all(mark.sound() for mark in found.values()):
            raise TypeError
        return found
    except (KeyError, TypeError):
        raise StateError(
            "the checkpoint does not say how long the files are", hint="restore it from a backup"
        ) from None


def _crc(descriptor: int, start: int, end: int) -> int:
    value = 0
    while start < end:
        piece = os.pread(descriptor, min(disk.CHUNK, end - start), start)
        if not piece:
            break
        value = zlib.crc32(piece, value)
        start += len(piece)
    return value
