"""Answers kept with their validators, so that an unchanged page costs the API next to nothing.

A stream that says `conditional=True` has the pages that came with an ETag or Last-Modified kept in

    OUT/SOURCE/.syncer/cache/cache.db

and asks for them with If-None-Match or If-Modified-Since. A 304 is then read as the page that is kept, with the
headers of both (RFC 9111, section 4.3.4). Whatever is wrong with the cache means that it is not used: nothing
here is raised, nothing that is found is executed, and the pull goes on as if there were none.

diskcache unpickles what it finds (CVE-2025-69872), lets a file choose PRAGMAs and attributes, and deletes the
files that its rows name. This is the only place that opens it: after a look at the file (`_looked_at`), through a
Disk that does none of that, with every setting given. Each entry is sealed with a key made from the credentials,
so that another account cannot read it as its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from hmac import compare_digest
from pathlib import Path
from shlex import quote
from typing import Any

from .auth import Auth, Environment, is_set, secret
from .page import Request
from .validators import ENTRY, Kept, keepable, lasting, telling, validators

ROOM = 512 * 2**20
"""How large the database may become; what does not fit is not kept."""

AGE = timedelta(days=35)
"""How long an answer is kept that was not asked for again: a monthly pull still finds its pages."""

TIMEOUT = 5.0
"""For how long another pull that writes is waited for, in seconds."""

_FORM = b"syncer cache 1\n"
_SEAL = 32
_SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "none",  # pages are asked for in order: dropping the oldest would drop the next one needed
    "size_limit": 2**62,  # ROOM is looked at before writing
    "cull_limit": 100,  # of those too old
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**11,
    "sqlite_journal_mode": "truncate",  # not wal: D10
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**62,
    "disk_pickle_protocol": 0,
}
_COUNTERS = {"count", "size", "hits", "misses"}
_SCHEMA = "874ea3ad57f4369b4980aaa901a2be9c"
"""A digest of what diskcache makes; a database with one trigger more is not opened."""


class Cache:
    """The answers kept for one stream of one output, under one credential. Opened when it is first asked for."""

    def __init__(
        self,
        directory: Path,
        stream: str,
        auth: Auth | None,
        environment: Environment,
        notice: Callable[[str], None],
    ) -> None:
        self._directory, self._stream, self._notice = directory, stream, notice
        self._auth, self._environment = auth, environment
        self._inner: Any = None
        self._over = False
        self._seal = b""
        self._wrong: set[str] = set()

    def find(self, request: Request, headers: Mapping[str, str]) -> Kept | None:
        """What is kept of the answer to this request, sent with these headers of the connector; None if nothing is."""
        with _Harmless(self):
            key = self._key(request, headers)
            if key and key not in self._wrong and (entry := self._opened().get(key)) is not None:
                return self._unsealed(key, entry)
        return None

    def keep(
        self,
        request: Request,
        headers: Mapping[str, str],
        answered: Mapping[str, str],
        body: bytes,
        secrets: Iterable[str],
    ) -> None:
        """Keep a page, if its headers allow it and no secret is in it; else drop what was kept of it before."""
        with _Harmless(self):
            if not (key := self._key(request, headers)):
                return
            inner = self._opened()
            kept = lasting(answered)
            if not keepable(answered, body) or telling(kept, body, secrets):
                inner.delete(key)
                return
            entry = self._sealed(key, kept, body)
            if inner.volume() + len(entry) > ROOM:
                inner.expire()
                if inner.volume() + len(entry) > ROOM:
                    self._end(f"{self._directory} is full: answers are not kept for the next pull")
                    return
            inner.set(key, entry, expire=AGE.total_seconds(), tag=self._stream)
            self._wrong.discard(key)

    def forget(self, request: Request, headers: Mapping[str, str]) -> None:
        """Use what is kept of this answer no more."""
        with _Harmless(self):
            if key := self._key(request, headers):
                self._wrong.add(key)

    def clear(self) -> None:
        """Drop all that is kept for the stream, whoever it was kept for."""
        with _Harmless(self):
            if os.path.lexists(self._directory):
                self._opened().evict(self._stream)

    def close(self) -> None:
        """Close the database."""
        with suppress(Exception):
            if self._inner is not None:
                self._inner.close()
        self._inner, self._over = None, True

    def _end(self, notice: str) -> None:
        self.close()
        self._notice(notice)

    def _key(self, request: Request, headers: Mapping[str, str]) -> str | None:
        """A name that says nothing of what it stands for; None for what cannot be asked for conditionally."""
        own = {**headers, **request.headers}
        names = {name.lower() for name in own}
        if self._over or request.method != "GET" or request.body is not None:
            return None
        if "range" in names or any(name.startswith("if-") for name in names):
            return None
        if not self._seal:
            if (who := _owner(self._auth, self._environment)) is None:
                self._over = True
                return None
            # Slow on purpose: what is on the disk must not help to guess the secret.
            self._seal = hashlib.scrypt(who, salt=_FORM, n=2**14, r=8, p=1, dklen=_SEAL)
        what = json.dumps([self._stream, request.whole, sorted((name.lower(), own[name]) for name in own)])
        return hashlib.blake2b(what.encode(), digest_size=24, key=self._seal, person=b"name").hexdigest()

    def _opened(self) -> Any:
        if self._inner is None:
            self._inner = opened(self._directory)
        return self._inner

    def _sign(self, key: str, rest: bytes) -> bytes:
        return hashlib.blake2b(key.encode() + rest, digest_size=_SEAL, key=self._seal, person=b"entry").digest()

    def _sealed(self, key: str, headers: Mapping[str, str], body: bytes) -> bytes:
        head = json.dumps([dict(headers), len(body)]).encode()
        rest = len(head).to_bytes(4) + head + zlib.compress(body, 1)
        return _FORM + self._sign(key, rest) + rest

    def _unsealed(self, key: str, entry: bytes) -> Kept | None:
        """The page in an entry; None if a single bit of it is not as we wrote it."""
        if not entry.startswith(_FORM):
            return None
        seal, rest = entry[len(_FORM) :][:_SEAL], entry[len(_FORM) + _SEAL :]
        if not compare_digest(seal, self._sign(key, rest)):
            return None
        end = 4 + int.from_bytes(rest[:4])
        headers, size = json.loads(rest[4:end])
        packed = zlib.decompressobj()
        body = packed.decompress(rest[end:], ENTRY + 1)
        fits = packed.eof and not packed.unused_data and len(body) == size
        return Kept(validators(headers), headers, body) if fits else None


class _Harmless:
    """Whatever goes wrong inside ends the use of the cache for this pull, with one note."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        why = str(error) if isinstance(error, _UnusableError) else type(error).__name__
        where = self._cache._directory
        self._cache._end(f"the cache is not used ({why}); it may be deleted at any time: rm -r {quote(str(where))}")
        return True


class _UnusableError(Exception):
    """What is there is not a cache that syncer made."""


def _owner(auth: Auth | None, environment: Environment) -> bytes | None:
    """Who asks, as bytes that another account does not have; None if that cannot be told."""
    if auth is None or (auth.optional and not is_set(auth, environment)):
        return b"anonymous"
    values = [secret(name, environment, lines=True) for name in auth.variables()]
    return json.dumps([repr(auth), values]).encode() if values else None


def opened(directory: Path) -> Any:
    """The database in a directory, made if it is not there, behind diskcache. Raises whatever is wrong."""
    import diskcache  # type: ignore[import-untyped]

    class Disk(diskcache.Disk):  # type: ignore[misc]
        """Text to bytes, inside the database: no pickle is read or written, no file of a row's choice touched."""

        def put(self, key: Any) -> tuple[str, bool]:
            if type(key) is not str:
                raise _UnusableError("a foreign key")
            return key, True

        def get(self, key: Any, raw: Any) -> str:
            if not raw or type(key) is not str:
                raise _UnusableError("a foreign key")
            return key

        def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, None, Any]:
            del key
            if read or type(value) is not bytes:
                raise _UnusableError("a foreign value")
            return 0, diskcache.core.MODE_RAW, None, sqlite3.Binary(value)

        def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes:
            if mode != diskcache.core.MODE_RAW or filename is not None or read or type(value) is not bytes:
                return b""
            return value

        def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
            raise _UnusableError("a foreign file")

        def remove(self, file_path: Any) -> None:
            """Nothing: we have no files, and a row may name any."""

    directory = directory.absolute()
    if os.path.expandvars(directory) != str(directory):
        raise _UnusableError("its path holds the name of a variable")
    for path in (directory.parent, directory):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        _ours(path, stat.S_ISDIR)
    database = directory / "cache.db"
    if not os.path.lexists(database):
        made = Path(tempfile.mkdtemp(dir=directory))
        try:
            os.close(os.open(made / "cache.db", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            diskcache.Cache(str(made), disk=Disk, **_SETTINGS).close()
            with suppress(FileExistsError):  # another pull was first
                os.link(made / "cache.db", database)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    _looked_at(database)
    return diskcache.Cache(str(directory), timeout=TIMEOUT, disk=Disk, **_SETTINGS)


def _ours(path: Path, kind: Callable[[int], bool]) -> None:
    found = path.lstat()
    if not kind(found.st_mode):
        raise _UnusableError(f"{path.name} is something else")
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise _UnusableError(f"{path.name} can be changed by others")


def _looked_at(database: Path) -> None:
    """Raise unless a database is as diskcache made it for us: its settings are obeyed and its triggers run."""
    _ours(database, stat.S_ISREG)
    for beside in ("-journal", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            _ours(database.with_name(database.name + beside), stat.S_ISREG)
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=TIMEOUT)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        if hashlib.blake2b(repr(rows).encode(), digest_size=16).hexdigest() != _SCHEMA:
            raise _UnusableError("it holds what syncer did not put there")
        settings = dict(connection.execute("SELECT key, value FROM Settings LIMIT 100"))
        counters = {settings.pop(name, None) for name in _COUNTERS}
        if settings != _SETTINGS or not all(type(value) is int for value in counters):
            raise _UnusableError("it holds settings that syncer did not put there")
