"""What both sinks need of a disk: private directories, files that are fsynced by name, a lock, a state database."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shlex import quote

from ..auth import mask
from ..checkpoint import TABLES, Checkpoint, load
from ..errors import LockError, SinkError, StateError
from ..page import JSON

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_EVIDENCE = 65_536
CHUNK = 2**20
_AGAIN = "run the same command again when that is mended: nothing committed was lost"


def reset_command(directory: Path, stream: str, kind: str) -> str:
    """What a person types to set this output aside."""
    out = "" if directory.parent == Path("data") else f" --out {quote(str(directory.parent))}"
    return f"`syncer reset {directory.name} {stream}{out}{'' if kind == 'jsonl' else f' --sink {kind}'}`"


def directory(path: Path) -> None:
    """Make a directory and its parents, for the owner only, durable by name. SinkError if that fails."""
    with explained(path, "make the directory"):
        missing = []
        while not path.is_dir():
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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SinkError(f"{path} is not a regular file", hint="choose another --out")
            sync_directory(path.parent)  # also of a file that is there: its maker may have been killed before this
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def no_link(path: Path) -> None:
    """Refuse a symbolic link: it could be turned to another file between two pages. SinkError."""
    with explained(path, "look at"):
        linked = path.is_symlink()
    if linked:
        raise SinkError(f"{path} is a symbolic link", hint="choose another --out, or replace the link by a file")


def write(descriptor: int, data: bytes) -> None:
    """All of the bytes, however many calls that takes. OSError also where a call takes none: it would spin."""
    view = memoryview(data)
    while view:
        if not (taken := os.write(descriptor, view)):
            raise OSError(errno.ENOSPC, "the disk takes no more bytes")
        view = view[taken:]


def size(path: Path) -> int | None:
    """How long a file is; None if there is none."""
    with explained(path, "look at"), suppress(FileNotFoundError):
        return path.lstat().st_size
    return None


def identity(path: Path) -> tuple[int, int] | None:
    """Which file a name stands for; None if for none. A link is itself, not what it points to."""
    with explained(path, "look at"), suppress(FileNotFoundError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return None


def same(descriptor: int, path: Path) -> bool:
    """Whether a name still stands for the file that was opened; a deleted file can be written to for ever."""
    with explained(path, "look at"):
        found = os.fstat(descriptor)
    return identity(path) == (found.st_dev, found.st_ino)


def moved(path: Path) -> StateError:
    """What to say when a database was taken away from under the pull."""
    return StateError(
        f"{path} was deleted, moved or replaced while the pull ran; nothing of this page counts",
        hint="put it back as it was, together with the output, and run the same command again",
    )


def copy(descriptor: int, start: int, end: int, path: Path) -> Path:
    """Write a part of a file to a new file beside it, durably; its name, which nothing had before."""
    path = free(path)
    with explained(path, "write"):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            for at in range(start, end, CHUNK):
                write(target, os.pread(descriptor, min(CHUNK, end - at), at))
            os.fsync(target)
        finally:
            os.close(target)
        sync_directory(path.parent)
    return path


def free(path: Path) -> Path:
    """The first of NAME, NAME-2, NAME-3 … that nothing has: what was set aside before must not be overwritten."""
    number, found = 1, path
    while identity(found) is not None:
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


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
                    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                        raise SinkError(f"{self._path} is not a regular file", hint="move it away")
                except BaseException:
                    os.close(descriptor)
                    raise
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
            if not same(descriptor, self._path):
                os.close(descriptor)  # the file was replaced between open and flock
                continue
            self._descriptor = descriptor
            with suppress(OSError):  # a full disk: the line only tells others who has the lock
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def check(self, what: str) -> None:
        """LockError unless the lock is still ours: who deletes its file lets a second pull have another one."""
        if self._descriptor < 0 or not same(self._descriptor, self._path):
            raise LockError(
                f"{self._path} was deleted or replaced, so another pull may have moved {what} on since this one began,"
                " which writes nothing more",
                hint="run the same command again: it goes on from the newest checkpoint; never delete a lock file",
            )

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            with suppress(OSError):  # it is given back all the same
                os.close(self._descriptor)
            self._descriptor = -1


def database(path: Path) -> sqlite3.Connection:
    """A SQLite database for the owner only, one fsync per commit, with the checkpoint table in it.

    A rollback journal, not WAL: SQLite before 3.51.3 can corrupt a WAL that two connections reset at once.
    """
    no_link(path)
    with explained(path, "open"):
        with suppress(FileExistsError):  # not opened if it is there: closing it would drop this process's SQLite locks
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA trusted_schema = OFF")
            for table in TABLES:
                connection.execute(table)
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
    with explained(path, "read"):
        address = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
            yield connection


def peek(path: Path, stream: str) -> tuple[Checkpoint, dict[str, JSON]] | None:
    """The checkpoint in a database that another process may be writing to; None if there is none."""
    if size(path) is None:
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
        at = error.filename if isinstance(error.filename, str) else path
        raise SinkError(f"cannot {doing} {at}: {error.strerror or error}{_room(path, error)}", hint=_AGAIN) from None


def _explain(error: sqlite3.Error, path: Path, doing: str) -> StateError | SinkError | LockError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LockError(
            f"{path} is being written by another program", hint="run the same command again when it is done"
        )
    if name == "SQLITE_READONLY_DBMOVED":
        return moved(path)
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


def evidence(directory_of: Path, stream: str, content: bytes, secrets: Sequence[str]) -> str:
    """Keep the beginning of an answer that could not be read, without secrets; the file, or "" if that fails.

    Masked whole and cut then: of a secret on the cut, the first part would stay.
    """
    path = directory_of / ".syncer" / f"{stream}.evidence"
    try:
        directory(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
        try:
            write(descriptor, mask(content, secrets)[:_EVIDENCE])
        finally:
            os.close(descriptor)
    except (OSError, SinkError):
        return ""
    return str(path)
