"""Every state a disk may be in after the power fails, for one pull into JSON lines.

While the pull runs, each step on its files is recorded. Before each step the disk may hold, for every
file on its own: what was fsynced, or half of what was written since, or all of it; and for every name:
what the directory held at its last fsync, or what it holds now. SQLite's database is taken as it is at
that moment, for SQLite syncs it itself. Each distinct state is built in a directory of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Disk:
    """What is surely on the disk, beside what the system shows."""

    home: Path
    durable: dict[int, bytes] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    states: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def snapshot(self) -> None:
        """Note every state that a power cut could leave now."""
        current = {path.name: path for path in self._files()}
        shown = {name: path.stat().st_ino for name, path in current.items()}
        contents = {path.stat().st_ino: path.read_bytes() for path in current.values()}
        database = {
            f".syncer/{path.name}": path.read_bytes()
            for path in sorted((self.home / ".syncer").glob("state.db*"))
            if path.is_file()
        }
        for names in (self.names, shown):
            inodes = sorted(set(names.values()))
            for choice in itertools.product((0, 1, 2), repeat=len(inodes)):
                kept = {inode: self._kept(inode, contents, how) for inode, how in zip(inodes, choice, strict=True)}
                state = {name: kept[inode] for name, inode in names.items()} | database
                self.states.setdefault(_hash(state), state)

    def synced(self, descriptor: int) -> None:
        """An fsync: the file, or the names in the directory, are on the disk."""
        found = os.fstat(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            if self.home.is_dir() and found.st_ino == self.home.stat().st_ino:
                self.names = {path.name: path.stat().st_ino for path in self._files()}
        else:
            self.durable[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _files(self) -> list[Path]:
        return [path for path in sorted(self.home.glob("*")) if path.is_file()] if self.home.is_dir() else []

    def _kept(self, inode: int, contents: dict[int, bytes], how: int) -> bytes:
        sure = self.durable.get(inode, b"")
        shown = contents.get(inode, sure)
        half = (min(len(sure), len(shown)) + max(len(sure), len(shown))) // 2
        longer = shown if len(shown) > len(sure) else sure
        return (sure, longer[:half], shown)[how]


def states(monkeypatch: pytest.MonkeyPatch, home: Path, work: Callable[[], object]) -> Iterator[dict[str, bytes]]:
    """The distinct states that a power cut during the work may leave below its directory."""
    disk = Disk(home)
    for path in disk._files():  # what is there before has long been on the disk
        disk.durable[path.stat().st_ino] = path.read_bytes()
        disk.names[path.name] = path.stat().st_ino
    with monkeypatch.context() as patch:
        for name in ("write", "ftruncate", "replace", "rename", "unlink", "open"):
            patch.setattr(os, name, _before(disk, getattr(os, name)))
        real = os.fsync

        def fsync(descriptor: int) -> None:
            disk.snapshot()
            real(descriptor)
            disk.synced(descriptor)

        patch.setattr(os, "fsync", fsync)
        work()
    disk.snapshot()
    yield from disk.states.values()


def build(home: Path, state: dict[str, bytes]) -> None:
    """Lay a state out as a directory."""
    (home / ".syncer").mkdir(parents=True, mode=0o700)
    for name, content in state.items():
        (home / name).write_bytes(content)


def _before(disk: Disk, function: Callable[..., Any]) -> Callable[..., Any]:
    def stepped(*args: Any, **options: Any) -> Any:
        disk.snapshot()
        return function(*args, **options)

    return stepped


def _hash(state: dict[str, bytes]) -> str:
    text = b"".join(name.encode() + b"\0" + content + b"\0" for name, content in sorted(state.items()))
    return hashlib.sha256(text).hexdigest()
