"""One SQLite database per source: a table of typed columns for each stream, rejects and checkpoint beside it.

    OUT/SOURCE/SOURCE.db       tables: STREAM, syncer_rejects, syncer_checkpoint

Everything of a page is one transaction. With a primary key a record that comes again replaces its row. Columns
have the API's names and the type that JSON has for the field: INTEGER, REAL, TEXT; nested values are JSON
text, Decimals their digits as text. Fields that only `unknown="keep"` lets in get columns of no type as they
appear. A full refresh fills "STREAM.g2" and takes the old table's place when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from ..checkpoint import Checkpoint, load, save
from ..decode import encode
from ..errors import ConfigError, StateError
from ..page import JSON
from ..stream import Stream, wire_names
from ..validate import Reason, Record, Reject
from . import disk

_INTEGERS = range(-(2**63), 2**63)
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
        self._columns = columns(stream)
        self._table = stream.name
        self._generation = self._published = 0
        self.notes: list[str] = []

    def open(self) -> Checkpoint:
        """Lock and return the checkpoint; SQLite itself has rolled back what was not committed."""
        disk.directory(self._path.parent / ".syncer")
        self._lock.acquire(self._stream.name)
        self._connection = disk.database(self._path)
        with disk.explained(self._path, "read"):
            self._connection.execute(_REJECTS)
            row = load(self._connection, self._stream.name)
            found = self._has(self._stream.name)
            if row is None:
                if found and self._connection.execute(f"SELECT 1 FROM {_quoted(self._stream.name)}").fetchone():
                    raise self._disagree("has rows, but no checkpoint vouches for them")
                return Checkpoint()
            checkpoint, own = row
            self._generation, self._table = checkpoint.generation, str(own.get("table", self._stream.name))
            self._published = int(own.get("published", 0))
            if not self._has(self._table):
                raise self._disagree(
                    f"is missing, the checkpoint vouches for {checkpoint.stored.written:,} records in it"
                )
            self._add_columns()
        return checkpoint

    def refuses(self, values: Mapping[str, JSON]) -> Iterable[Reason]:
        """Integers that SQLite's 64 bits cannot hold, and names that differ only by case."""
        for name, value in values.items():
            kind = self._columns.get(name)
            if kind == "INTEGER" and isinstance(value, int) and value not in _INTEGERS:
                yield Reason(name, "sink_integer_range", "SQLite holds integers from -2^63 to 2^63-1")
            if kind is None and any(name.lower() == other.lower() for other in self._columns):
                yield Reason(name, "sink_column_name", "SQLite has a column whose name differs only by case")

    def commit(self, records: Sequence[Record], rejects: Sequence[Reject], checkpoint: Checkpoint) -> None:
        """Records, rejects and checkpoint in one transaction."""
        known = dict(self._columns)
        table = self._table
        try:
            with disk.transaction(self._connection, self._path):
                if checkpoint.generation != self._generation:
                    table = self._begin(checkpoint.generation)
                self._insert(table, records)
                self._connection.executemany(
                    "INSERT INTO syncer_rejects (stream, generation, line) VALUES (?, ?, ?)",
                    [(self._stream.name, checkpoint.generation, reject.line.decode()) for reject in rejects],
                )
                if checkpoint.status == "complete" and table != self._stream.name:
                    table = self._publish(table, checkpoint.generation)
                published = checkpoint.generation if table == self._stream.name else self._published
                own = {"table": table, "published": published}
                save(self._connection, self._stream.name, checkpoint, own)
        except BaseException:
            self._columns = known
            raise
        self._table, self._generation, self._published = table, checkpoint.generation, published

    def close(self) -> None:
        """Close the database and release the lock."""
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.release()

    def peek(self) -> Checkpoint | None:
        """The checkpoint, without a lock."""
        row = disk.peek(self._path, self._stream.name)
        return row[0] if row else None

    def rejects(self) -> Iterator[bytes]:
        """The stored lines."""
        if self.peek() is None:
            return
        with disk.reader(self._path) as connection:
            query = "SELECT line FROM syncer_rejects WHERE stream = ? ORDER BY id"
            for (line,) in connection.execute(query, (self._stream.name,)):
                yield line.encode()

    def places(self) -> Mapping[str, str]:
        """The tables."""
        return {"records": f"{self._path} table {self._stream.name}", "rejects": f"{self._path} table syncer_rejects"}

    def set_aside(self, stamp: str) -> Sequence[str]:
        """Rename the tables and forget the checkpoint, in one transaction."""
        disk.directory(self._path.parent / ".syncer")
        self._lock.acquire(self._stream.name)
        try:
            self._connection = disk.database(self._path)
            with closing(self._connection), disk.transaction(self._connection, self._path):
                return self._renamed(stamp)
        finally:
            self._lock.release()

    def _renamed(self, stamp: str) -> list[str]:
        execute = self._connection.execute
        execute(_REJECTS)
        names = []
        for table in self._tables():
            aside = f"{table}.before-{stamp}"
            execute(f"ALTER TABLE {_quoted(table)} RENAME TO {_quoted(aside)}")
            names.append(f"{self._path} table {aside}")
        aside = f"{self._stream.name}.before-{stamp}"
        moved = execute("UPDATE syncer_rejects SET stream = ? WHERE stream = ?", (aside, self._stream.name))
        if moved.rowcount:
            names.append(f"{self._path} table syncer_rejects, stream {aside}")
        execute("DELETE FROM syncer_checkpoint WHERE stream = ?", (self._stream.name,))
        return names

    def _begin(self, generation: int) -> str:
        """The empty table of a new generation: the final one if there is none yet, else one beside it."""
        execute = self._connection.execute
        fresh = not self._generation
        table = self._stream.name if fresh else f"{self._stream.name}.g{generation}"
        for stale in self._tables():
            if stale != self._stream.name or fresh:
                execute(f"DROP TABLE {_quoted(stale)}")
        if not fresh:
            execute(
                "DELETE FROM syncer_rejects WHERE stream = ? AND generation > ?",
                (self._stream.name, self._published),
            )
        self._columns = columns(self._stream)
        shape = [f"{_quoted(name)} {_declared(kind)}".strip() for name, kind in self._columns.items()]
        if self._stream.key:
            shape.append(f"PRIMARY KEY ({', '.join(map(_quoted, self._stream.key))})")
        execute(f"CREATE TABLE {_quoted(table)} ({', '.join(shape) or '_empty'})")
        return table

    def _publish(self, table: str, generation: int) -> str:
        execute = self._connection.execute
        execute(f"DROP TABLE IF EXISTS {_quoted(self._stream.name)}")
        execute(f"ALTER TABLE {_quoted(table)} RENAME TO {_quoted(self._stream.name)}")
        execute("DELETE FROM syncer_rejects WHERE stream = ? AND generation < ?", (self._stream.name, generation))
        return self._stream.name

    def _insert(self, table: str, records: Sequence[Record]) -> None:
        if not records:
            return
        for name in dict.fromkeys(name for record in records for name in record.values):
            if name not in self._columns:
                self._connection.execute(f"ALTER TABLE {_quoted(table)} ADD COLUMN {_quoted(name)}")
                self._columns[name] = ""
        names = list(self._columns)
        statement = (
            f"INSERT INTO {_quoted(table)} ({', '.join(map(_quoted, names))}) VALUES ({', '.join('?' * len(names))})"
        )
        if self._stream.key:
            others = [name for name in names if name not in self._stream.key]
            update = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in others)
            keys = ", ".join(map(_quoted, self._stream.key))
            statement += f" ON CONFLICT ({keys}) DO {f'UPDATE SET {update}' if others else 'NOTHING'}"
        kinds = list(self._columns.values())
        rows = (
            [_bound(record.values.get(name), kind) for name, kind in zip(names, kinds, strict=True)]
            for record in records
        )
        self._connection.executemany(statement, rows)

    def _add_columns(self) -> None:
        """Columns that the model has gained since, and those that were added as unknown fields came."""
        found = [row[1] for row in self._connection.execute(f"PRAGMA table_info({_quoted(self._table)})")]
        for name, kind in list(self._columns.items()):
            if name.lower() not in (other.lower() for other in found):
                declared = f"{_quoted(name)} {_declared(kind)}"
                self._connection.execute(f"ALTER TABLE {_quoted(self._table)} ADD COLUMN {declared}")
        for name in found:
            if name != "_empty":
                self._columns.setdefault(name, "")

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

    def _disagree(self, what: str) -> StateError:
        return StateError(
            f"{self._path}: table {self._stream.name} {what}",
            hint="restore the database, or set it aside and begin anew: "
            + disk.reset_command(self._path.parent, self._stream.name, "sqlite"),
        )


def columns(stream: Stream) -> dict[str, str]:
    """The API's name of each field and the kind of its column: INTEGER, REAL, TEXT, JSON, or none for a mixture."""
    schema = stream.model.model_json_schema(by_alias=True)
    kinds = {}
    for name, attribute in wire_names(stream.model).items():
        if _mentions(stream.model.model_fields[attribute].annotation, Decimal):
            kinds[name] = "TEXT"
        else:
            kinds[name] = _kind(schema["properties"].get(name, {}), schema.get("$defs", {}))
    if len({name.lower() for name in kinds}) < len(kinds):
        raise ConfigError(f"stream {stream.name}: SQLite cannot hold two fields whose names differ only by case")
    return kinds


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _kind(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        kinds = {_kind(choice, definitions) for choice in choices if choice.get("type") != "null"}
        if len(kinds) == 1:
            return kinds.pop()
        return "JSON" if "JSON" in kinds else ""
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return "TEXT" if all(isinstance(value, str) for value in values) else ""
    named = {"integer": "INTEGER", "boolean": "INTEGER", "number": "REAL", "string": "TEXT"}
    return named.get(schema.get("type", ""), "JSON")


def _mentions(annotation: Any, wanted: type) -> bool:
    """Whether a type is this one, or this one or nothing."""
    choices = [choice for choice in get_args(annotation) if choice is not type(None)] or [annotation]
    return len(choices) == 1 and choices[0] is wanted


def _declared(kind: str) -> str:
    return "TEXT" if kind == "JSON" else kind


def _bound(value: JSON, kind: str) -> Any:
    """A JSON value as SQLite takes it, exactly."""
    if value is None:
        return None
    if kind == "JSON":
        return encode(value).decode()
    if isinstance(value, dict | list):
        return encode(value).decode()
    if isinstance(value, Decimal):
        return float(value) if kind == "REAL" or (not kind and Decimal(repr(float(value))) == value) else str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if kind == "REAL":
            return float(value)
        return value if kind != "TEXT" and value in _INTEGERS else str(value)
    return value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
