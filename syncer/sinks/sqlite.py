"""One SQLite database per source: a table of typed columns for each stream, rejects and checkpoint beside it.

    OUT/SOURCE/SOURCE.db       tables: STREAM, syncer_rejects, syncer_checkpoint

Everything of a page is one transaction. With a primary key a record that comes again replaces its row. Columns
have the API's names and the type that JSON has for the field: INTEGER, REAL, TEXT; nested values are JSON
text, Decimals their digits as text, numbers of a float field the nearest double. A column has no type, and
so changes nothing, where values are of several types, where a validator of the model's own comes before the
type, and for fields that only `unknown="keep"` lets in, which get columns as they appear.

A full refresh fills "STREAM.g2" and takes the old table's place when it is complete; views go on working, and
indexes and triggers on the table are made again. So does a table in which a replay has to take the type from a column,
because the model has come to take other values.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from ..checkpoint import Checkpoint, load, save
from ..errors import StateError
from ..page import JSON
from ..stream import Stream
from ..validate import Reason, Record, Reject
from . import disk
from .columns import LIMIT, bound, columns, declared, fold, folded, quoted, unfit
from .held import Held, Values
from .tables import held, loosened, replaced

_BATCH = 500
"""How many rejects are settled between two looks at the database."""

_REJECTS = (
    "CREATE TABLE IF NOT EXISTS syncer_rejects"
    " (id INTEGER PRIMARY KEY, stream TEXT NOT NULL, generation INTEGER NOT NULL, line TEXT NOT NULL)"
)


class SQLite:
    """One stream in a SQLite database."""

    def __init__(self, directory: Path, source: str, stream: Stream) -> None:
        self._stream = stream
        self._path = directory / f"{source}.db"
        self._lock = disk.Lock(directory / ".syncer" / f"{stream.name}.sqlite.lock")
        self._wanted = columns(stream)
        self._columns: dict[str, str] = {}
        self._differs: dict[str, str] = {}
        self._taken = folded(self._wanted)
        self._limit = LIMIT
        self._table = stream.name
        self._generation = self._published = 0
        self.notes: list[str] = []

    @property
    def steady(self) -> bool:
        """Unless records bring columns of their own."""
        return bool(self._wanted) and self._stream.unknown != "keep"

    def open(self) -> Checkpoint:
        """Lock and return the checkpoint; SQLite itself has rolled back what was not committed."""
        disk.directory(self._path.parent / ".syncer")
        self._lock.acquire(self._stream.name)
        self._connection = self._connected()
        with disk.explained(self._path, "read"):
            self._connection.execute(_REJECTS)
            row = load(self._connection, self._stream.name)
            found = self._has(self._stream.name)
            if row is None:
                if found and self._connection.execute(f"SELECT 1 FROM {quoted(self._stream.name)}").fetchone():
                    raise self._disagree("has rows, but no checkpoint vouches for them")
                return Checkpoint()
            checkpoint, own = row
            self._generation, self._table = checkpoint.generation, str(own.get("table", self._stream.name))
            published, notes = own.get("published", 0), own.get("notes", [])
            if type(published) is not int or not isinstance(notes, list):
                raise self._disagree("is not what the checkpoint speaks of")
            self._published, self.notes = published, [str(note) for note in notes]
            if self._table not in self._tables():
                raise self._missing(checkpoint)
            self._compare()
        goes_on = checkpoint.open or self._stream.incremental  # else the next page begins a new table
        self._taken = folded((*self._columns, *self._wanted) if goes_on else self._wanted)
        return checkpoint

    def refuses(self, values: Mapping[str, JSON]) -> Iterable[Reason]:
        """Values that their column would change, and names that no further column can have.

        A new name is taken for the rest of the page by the first record that brings it; after the page only
        columns count, so that a pull that is killed and resumed judges as one that was not.
        """
        reasons: list[Reason] = []
        new: dict[bytes, str] = {}
        for name, value in values.items():
            kind = self._wanted.get(name)
            if kind is not None:
                if fault := unfit(value, kind):
                    reasons.append(Reason(name, *fault))
                continue
            key = fold(name)
            owner = self._taken.get(key, new.get(key))
            if owner == name:
                continue
            if owner is not None:
                fault = "sink_column_name", "SQLite has a column whose name differs only by case"
            elif "\0" in name:
                fault = "sink_column_name", "SQLite cannot have a NUL in the name of a column"
            elif len(self._taken) + len(new) >= self._limit:
                fault = "sink_column_limit", f"SQLite holds at most {self._limit:,} columns in a table"
            else:
                new[key] = name
                continue
            reasons.append(Reason(name, *fault))
        if not reasons:
            self._taken.update(new)
        return reasons

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        """Records, rejects and checkpoint in one transaction."""
        table, notes = self._table, list[str]()
        with disk.transaction(self._connection, self._path):
            if checkpoint.generation != self._generation:
                table = self._begin(checkpoint.generation)
            self._add(table, checkpoint.generation, records, rejects)
            self._save(table, checkpoint, notes)
        self._committed(checkpoint)

    def amend(self, settle: Callable[[bytes], Record | bytes | None], checkpoint: Callable[[], Checkpoint]) -> None:
        """Everything in one transaction, some hundred rejects at a time."""
        notes, changed = list[str](), False
        with disk.transaction(self._connection, self._path):
            for batch in self._batches():
                answers = [(number, line, settle(line)) for number, line in batch]
                rows = [answer.values for _, _, answer in answers if isinstance(answer, Record)]
                if rows:
                    notes += self._loosen(rows)
                    self._widen(self._table, rows)
                    self._insert(self._table, rows)
                gone = [(number,) for number, _, answer in answers if not isinstance(answer, bytes)]
                kept = [
                    (answer.decode(), number)
                    for number, line, answer in answers
                    if isinstance(answer, bytes) and answer != line
                ]
                self._connection.executemany("DELETE FROM syncer_rejects WHERE id = ?", gone)
                self._connection.executemany("UPDATE syncer_rejects SET line = ? WHERE id = ?", kept)
                changed = changed or bool(gone or kept)
            if changed:
                after = checkpoint()
                self._save(self._table, after, notes)
        self.notes = notes
        if changed:
            self._committed(after)

    def rebuilt(
        self, pages: Iterable[tuple[Sequence[Record], Sequence[Reject]]], checkpoint: Callable[[], Checkpoint]
    ) -> None:
        """Fill a new table and put it in the old one's place, in one transaction."""
        notes, old, table = list[str](), self._table, f"{self._stream.name}.g{self._generation + 1}"
        execute = self._connection.execute
        with disk.transaction(self._connection, self._path):
            execute(f"DROP TABLE IF EXISTS {quoted(table)}")
            self._create(table)
            self._taken = folded(self._wanted)
            gone = (self._stream.name, self._generation)
            execute("DELETE FROM syncer_rejects WHERE stream = ? AND generation = ?", gone)
            for records, rejects in pages:
                self._add(table, self._generation, records, rejects)
                self._taken = folded((*self._columns, *self._wanted))
            after = checkpoint()
            if old == self._stream.name:
                notes, table = replaced(self._connection, old, table), old
            else:
                execute(f"DROP TABLE {quoted(old)}")
            self._save(table, after, notes)
        self.notes = notes
        self._committed(after)

    def held(self, records: Iterable[Values]) -> Held:
        """By the primary key, or by one pass over the table where there is none."""
        row = disk.peek(self._path, self._stream.name)
        table = str(row[1].get("table", self._stream.name)) if row else self._stream.name
        with disk.reader(self._path) as connection:
            return held(connection, table, self._stream, self._wanted, records)

    def close(self) -> None:
        """Close the database and release the lock."""
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.release()

    def peek(self) -> Checkpoint | None:
        """The checkpoint, without a lock."""
        row = disk.peek(self._path, self._stream.name)
        return row[0] if row else None

    def look(self) -> None:
        """Whether the table is there."""
        if (row := disk.peek(self._path, self._stream.name)) is None or not row[0].run:
            return
        table = str(row[1].get("table", self._stream.name))
        with disk.reader(self._path) as connection:
            query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
            if not connection.execute(query, (table,)).fetchone():
                raise self._missing(row[0])

    def rejects(self, *, newest: bool = False) -> Iterator[bytes]:
        """The stored lines."""
        checkpoint = self.peek()
        if checkpoint is None:
            return
        with disk.reader(self._path) as connection:
            query = "SELECT line FROM syncer_rejects WHERE stream = ? AND generation >= ? ORDER BY id"
            since = checkpoint.generation if newest else 0
            for (line,) in connection.execute(query, (self._stream.name, since)):
                yield line.encode()

    def places(self) -> Mapping[str, str]:
        """The tables."""
        return {"records": f"{self._path} table {self._stream.name}", "rejects": f"{self._path} table syncer_rejects"}

    def set_aside(self, stamp: str) -> Sequence[str]:
        """Rename the tables and forget the checkpoint, in one transaction. Where nothing is, nothing is made."""
        if disk.size(self._path) is None:
            return []
        disk.directory(self._path.parent / ".syncer")
        self._lock.acquire(self._stream.name)
        try:
            self._connection = self._connected()
            with closing(self._connection), disk.transaction(self._connection, self._path):
                return self._renamed(stamp)
        finally:
            self._lock.release()

    def _renamed(self, stamp: str) -> list[str]:
        execute = self._connection.execute
        execute(_REJECTS)
        names = []
        taken = execute("SELECT name FROM sqlite_master UNION SELECT stream FROM syncer_rejects").fetchall()
        marks = itertools.chain([stamp], (f"{stamp}-{n}" for n in itertools.count(2)))
        stamp = next(mark for mark in marks if not any(name.endswith(f".before-{mark}") for (name,) in taken))
        for table in self._tables():
            aside = f"{table}.before-{stamp}"
            execute(f"ALTER TABLE {quoted(table)} RENAME TO {quoted(aside)}")
            names.append(f"{self._path} table {aside}")
        aside = f"{self._stream.name}.before-{stamp}"
        moved = execute("UPDATE syncer_rejects SET stream = ? WHERE stream = ?", (aside, self._stream.name))
        if moved.rowcount:
            names.append(f"{self._path} table syncer_rejects, stream {aside}")
        execute("DELETE FROM syncer_checkpoint WHERE stream = ?", (self._stream.name,))
        return names

    def _save(self, table: str, checkpoint: Checkpoint, notes: list[str]) -> None:
        """Put a complete refresh in its place, and save the checkpoint."""
        self._table = table
        if checkpoint.status == "complete" and table != self._stream.name:
            notes += self._publish(table, checkpoint.generation)
            self._table = self._stream.name
        if self._table == self._stream.name:
            self._published = checkpoint.generation
        own = {"table": self._table, "published": self._published, "notes": notes}
        save(self._connection, self._stream.name, checkpoint, own)

    def _add(self, table: str, generation: int, records: Sequence[Record], rejects: Sequence[Reject]) -> None:
        """Insert what came with a page."""
        if records:
            rows = [record.values for record in records]
            self._widen(table, rows)
            self._insert(table, rows)
        self._connection.executemany(
            "INSERT INTO syncer_rejects (stream, generation, line) VALUES (?, ?, ?)",
            [(self._stream.name, generation, reject.line.decode()) for reject in rejects],
        )

    def _committed(self, checkpoint: Checkpoint) -> None:
        self._generation = checkpoint.generation
        self._taken = folded((*self._columns, *self._wanted))

    def _batches(self) -> Iterator[list[tuple[int, bytes]]]:
        """The rejects of the output at hand with their ids, some hundred at a time; they may be changed meanwhile."""
        query = "SELECT id, line FROM syncer_rejects WHERE stream = ? AND generation = ? AND id > ? ORDER BY id LIMIT ?"
        last = -1
        while batch := self._connection.execute(query, (self._stream.name, self._generation, last, _BATCH)).fetchall():
            yield [(number, line.encode()) for number, line in batch]
            last = batch[-1][0]

    def _begin(self, generation: int) -> str:
        """The empty table of a new generation: the final one if there is none yet, else one beside it."""
        execute = self._connection.execute
        fresh = not self._generation
        table = self._stream.name if fresh else f"{self._stream.name}.g{generation}"
        for stale in self._tables():
            if stale != self._stream.name or fresh:
                execute(f"DROP TABLE {quoted(stale)}")
        if not fresh:
            execute(
                "DELETE FROM syncer_rejects WHERE stream = ? AND generation > ?",
                (self._stream.name, self._published),
            )
        self._create(table)
        return table

    def _create(self, table: str) -> None:
        self._columns, self._differs = dict(self._wanted) or {"_empty": ""}, {}
        shape = [f"{quoted(name)} {declared(kind)}".strip() for name, kind in self._columns.items()]
        if self._stream.key:
            shape.append(f"PRIMARY KEY ({', '.join(map(quoted, self._stream.key))})")
        self._connection.execute(f"CREATE TABLE {quoted(table)} ({', '.join(shape)})")

    def _publish(self, table: str, generation: int) -> list[str]:
        """Put a complete refresh in the old table's place; notes on what of the user's could not go along."""
        notes = replaced(self._connection, self._stream.name, table)
        self._connection.execute(
            "DELETE FROM syncer_rejects WHERE stream = ? AND generation < ?", (self._stream.name, generation)
        )
        return notes

    def _loosen(self, rows: Sequence[Values]) -> list[str]:
        """Take the type from the columns that would change these records' values; notes as of `_publish`."""
        tight = {name for values in rows for name in values if name in self._differs}
        if not tight:
            return []
        for name in tight:
            del self._differs[name]
            self._columns[name] = ""
        return loosened(self._connection, self._table, self._stream.key, tight)

    def _widen(self, table: str, rows: Sequence[Values]) -> None:
        """Add the columns that the model has gained, and those that these records bring. StateError for a misfit."""
        brought = dict.fromkeys(name for values in rows for name in values)
        for name in brought:
            if name in self._differs:
                raise self._misfit(table, self._differs[name])
        taken = folded(self._columns)
        for name in (*self._wanted, *brought):
            if name in self._columns:
                continue
            if other := taken.get(fold(name)):
                raise self._misfit(table, f"column {other} differs only by case from {name}, which is to be added")
            kind = self._wanted.get(name, "")
            self._connection.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {declared(kind)}")
            self._columns[name], taken[fold(name)] = kind, name

    def _insert(self, table: str, rows: Sequence[Values]) -> None:
        names = list(self._columns)
        statement = (
            f"INSERT INTO {quoted(table)} ({', '.join(map(quoted, names))}) VALUES ({', '.join('?' * len(names))})"
        )
        if self._stream.key:
            others = [name for name in names if name not in self._stream.key]
            update = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in others)
            keys = ", ".join(map(quoted, self._stream.key))
            statement += f" ON CONFLICT ({keys}) DO {f'UPDATE SET {update}' if others else 'NOTHING'}"
        kinds = list(self._columns.values())
        columns = list(zip(names, kinds, strict=True))
        self._connection.executemany(
            statement, ([bound(row.get(name), kind) for name, kind in columns] for row in rows)
        )

    def _compare(self) -> None:
        """The columns of a table that exists; one without a type takes every value as it comes.

        What no longer fits is only said when a record is to be written there: --restart makes a new table.
        """
        self._columns, self._differs = {}, {}
        for _, name, found, *_ in self._connection.execute(f"PRAGMA table_info({quoted(self._table)})"):
            kind = self._wanted.get(name, "")
            wanted = declared(kind)
            widened = (found, wanted) == ("INTEGER", "REAL") and name not in self._stream.key
            if found and found != wanted and not widened:
                self._differs[name] = f"column {name} is {found}, its field now needs {wanted or 'one of no type'}"
            self._columns[name] = kind if found else ""

    def _connected(self) -> sqlite3.Connection:
        connection = disk.database(self._path)
        # A rename is not to reach into the views and triggers that somebody made on the table's final name.
        connection.execute("PRAGMA legacy_alter_table = ON")
        limits = sqlite3.SQLITE_LIMIT_COLUMN, sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER
        self._limit = min(map(connection.getlimit, limits))
        return connection

    def _tables(self) -> list[str]:
        """The stream's tables: the final one and those of refreshes."""
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        prefix = f"{self._stream.name}.g"
        return [
            name
            for (name,) in self._connection.execute(query)
            if name == self._stream.name or (name.startswith(prefix) and name[len(prefix) :].isdecimal())
        ]

    def _has(self, table: str) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return self._connection.execute(query, (table,)).fetchone() is not None

    def _misfit(self, table: str, what: str) -> StateError:
        return StateError(
            f"{self._path}: table {table}: {what}",
            hint="pull with --restart: it fills a new table, which takes this one's place at the end",
        )

    def _missing(self, checkpoint: Checkpoint) -> StateError:
        return self._disagree(f"is missing, the checkpoint vouches for {checkpoint.stored.written:,} records in it")

    def _disagree(self, what: str) -> StateError:
        return StateError(
            f"{self._path}: table {self._stream.name} {what}",
            hint="restore the database, or set it aside and begin anew: "
            + disk.reset_command(self._path.parent, self._stream.name, "sqlite"),
        )
