"""What both sinks need of a disk: private directories, files that are fsynced by name, a lock, a state database."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from shlex import quote

from ..auth import mask
from ..checkpoint import TABLE, Checkpoint, load
from ..errors import LockError, SinkError, StateError
from ..page import JSON

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_AGAIN = "run the same command again when that is mended: nothing committed was lost"


def reset_command(directory: Path, stream: str, kind: str) -> str:
    """What a person types to set this output aside."""
    out = "" if directory.parent == Path("data") else f" --out {quote(str(directory.parent))}"
    return f"`syncer reset {directory.name} {stream}{out}{'' if kind == 'jsonl' else f' --sink {kind}'}`"


def directory(path: Path) -> None:
    """Make a directory and its parents, for the owner only, durable by name. SinkError if that fails."""
    with explained(path, "make the directory"):
        missing = []
        while not path.exists():
            missing.append(path)
            path = path.parent
        for made in reversed(missing):
            made.mkdir(mode=0o700, exist_ok=True)
            sync_directory(made.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_file(path: Path) -> int:
    """A descriptor that appends to a regular file, made for the owner only and durable by name. No links."""
    with explained(path, "open"):
        fresh = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SinkError(f"{path} is not a regular file", hint="choose another --out")
            if fresh:
                sync_directory(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def no_link(path: Path) -> None:
    """Refuse a symbolic link: it could be turned to another file between two pages. SinkError."""
    if path.is_symlink():
        raise SinkError(f"{path} is a symbolic link", hint="choose another --out, or replace the link by a file")


def write(descriptor: int, data: bytes) -> None:
    """All of the bytes, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Lock:
    """A `flock` on a file that is never deleted: free the moment its holder dies (I8)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, what: str) -> None:
        """Take the lock. LockError, naming the holder, if another process has it."""
        try:
            import fcntl
        except ImportError:  # Windows
            raise SinkError("this system has no flock", hint="run syncer on Linux or macOS, or inside WSL") from None

        while self._descriptor < 0:
            with explained(self._path, "open the lock"):
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                os.close(descriptor)
                raise LockError(
                    f"another pull of {what} is at work" + (f" ({holder})" if holder.isprintable() and holder else ""),
                    hint="wait for it to end; a lock never outlives its process, so there is nothing to remove",
                ) from None
            except OSError as error:
                os.close(descriptor)
                raise SinkError(
                    f"{self._path.parent} cannot be locked: {error.strerror}", hint="use a local disk"
                ) from None
            if os.fstat(descriptor).st_ino != _inode(self._path):
                os.close(descriptor)  # the file was replaced between open and flock
                continue
            self._descriptor = descriptor
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def database(path: Path) -> sqlite3.Connection:
    """A SQLite database for the owner only, one fsync per commit, with the checkpoint table in it.

    A rollback journal, not WAL: SQLite before 3.51.3 can corrupt a WAL that two connections reset at once.
    """
    with explained(path, "open"):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute(TABLE)
        except BaseException:
            connection.close()
            raise
        sync_directory(path.parent)
        return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All of what happens inside, or none of it."""
    with explained(path, "write"):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only asks, beside whoever may be writing.

    Not `mode=ro`: that could not roll back what a killed pull left half committed, and would fail instead.
    """
    address = f"{path.resolve().as_uri()}?mode=rw"
    with explained(path, "read"), closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
        yield connection


def peek(path: Path, stream: str) -> tuple[Checkpoint, dict[str, JSON]] | None:
    """The checkpoint in a database that another process may be writing to; None if there is none."""
    if not path.exists():
        return None
    with reader(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'syncer_checkpoint'").fetchone():
            return None
        return load(connection, stream)


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn what the system says into what a person can act on."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path, doing) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            no_link(path)
        raise SinkError(f"cannot {doing} {path}: {error.strerror}{_room(path, error)}", hint=_AGAIN) from None


def _explain(error: sqlite3.Error, path: Path, doing: str) -> StateError | SinkError | LockError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LockError(
            f"{path} is being written by another program", hint="run the same command again when it is done"
        )
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StateError(
            f"{path} is damaged ({error})", hint="restore it from a backup, or move it away and begin anew"
        )
    return SinkError(f"cannot {doing} {path}: {error}{_room(path, None)}", hint=_AGAIN)


def _room(path: Path, error: OSError | None) -> str:
    """How much space is left, where that may be what is missing."""
    if error is not None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ""
    try:
        return f" ({shutil.disk_usage(path.parent).free:,} bytes free)"
    except OSError:
        return ""


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -1


def evidence(directory_of: Path, stream: str, content: bytes, secrets: Sequence[str]) -> str:
    """Keep the beginning of an answer that could not be read, without secrets; the file, or "" if that fails."""
    path = directory_of / ".syncer" / f"{stream}.evidence"
    try:
        directory(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
        try:
            write(descriptor, mask(content, secrets))
        finally:
            os.close(descriptor)
    except (OSError, SinkError):
        return ""
    return str(path)
