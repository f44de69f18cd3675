"""Whole tables in SQLite: finding records in one, and putting one in the place of another."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..decode import exact
from ..page import JSON, digest
from ..stream import Stream
from .columns import bound, fold, quoted
from .held import Held, Values, identity


def held(
    connection: sqlite3.Connection, table: str, stream: Stream, wanted: Mapping[str, str], records: Iterable[Values]
) -> Held:
    """Which of these records the table has, and in which version; see `Sink.held`."""
    found = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    kinds = {name: wanted.get(name, "") if declared else "" for _, name, declared, *_ in found}
    return (
        _by_key(connection, table, stream, kinds, records)
        if stream.key
        else _whole(connection, table, stream, kinds, records)
    )


def replaced(connection: sqlite3.Connection, final: str, table: str) -> list[str]:
    """Put a table in the place of another, with its indexes and triggers; notes on those that could not go along."""
    execute, notes = connection.execute, []
    made = execute(
        "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('index', 'trigger')"
        " AND sql IS NOT NULL ORDER BY rowid",
        (final,),
    ).fetchall()
    execute(f"DROP TABLE IF EXISTS {quoted(final)}")
    execute(f"ALTER TABLE {quoted(table)} RENAME TO {quoted(final)}")
    for kind, name, statement in made:
        try:
            execute(statement)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
                raise
            notes.append(f"the {kind} {name} no longer fits table {final} and was left out: {error}")
    return notes


def loosened(connection: sqlite3.Connection, table: str, key: Collection[str], tight: Collection[str]) -> list[str]:
    """Put a table in this one's place in which the `tight` columns have no type, and so take any value as it comes.

    What is in them stays as it is; notes as of `replaced`.
    """
    execute, loose = connection.execute, f"{table}.loose"
    found = execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    shape = [
        f"{quoted(name)} {'' if name in tight else kind}"
        + (" NOT NULL" if required else "")
        + (f" DEFAULT ({default})" if default is not None else "")
        for _, name, kind, required, default, _ in found
    ]
    shape += [f"PRIMARY KEY ({', '.join(map(quoted, key))})"] if key else []
    names = ", ".join(quoted(name) for _, name, *_ in found)
    execute(f"CREATE TABLE {quoted(loose)} ({', '.join(shape)})")
    execute(f"INSERT INTO {quoted(loose)} ({names}) SELECT {names} FROM {quoted(table)} ORDER BY rowid")
    return replaced(connection, table, loose)


def _by_key(
    connection: sqlite3.Connection, table: str, stream: Stream, kinds: Mapping[str, str], records: Iterable[Values]
) -> Held:
    key, versions = identity(stream), dict[bytes, JSON]()
    keys = {key(values) for values in records}
    order = stream.replication_key
    columns = [*stream.key, order] if order and order in kinds else list(stream.key)
    where = " AND ".join(f"{quoted(name)} = ?" for name in stream.key)
    query = f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(table)} WHERE {where}"
    for mine in keys if all(name in kinds for name in stream.key) else ():
        values = [bound(value, kinds[name]) for name, value in zip(stream.key, exact(mine), strict=True)]
        row = connection.execute(query, values).fetchone()
        # SQLite looks for 12 in a column of numbers when it is asked for "12": another record.
        if row is not None and list(row[: len(values)]) == values:
            versions[mine] = row[len(values)] if len(columns) > len(values) else None
    return Held(key, versions)


def _whole(
    connection: sqlite3.Connection, table: str, stream: Stream, kinds: Mapping[str, str], records: Iterable[Values]
) -> Held:
    def key(values: Values) -> bytes:
        return _marked({name: bound(value, kinds.get(name, "")) for name, value in values.items()})

    keys, versions = {key(values) for values in records}, dict[bytes, JSON]()
    names = list(kinds)
    cursor = connection.execute(f"SELECT {', '.join(map(quoted, names))} FROM {quoted(table)}") if keys else ()
    for row in cursor:
        values = dict(zip(names, row, strict=True))
        if (mine := _marked(values)) in keys:
            versions[mine] = values.get(stream.replication_key or "")
    return Held(key, versions)


def _marked(values: Mapping[str, Any]) -> bytes:
    """A digest of a row, of its columns that are not null: others may have been added since."""
    parts = sorted(
        (fold(name), int(value) if isinstance(value, bool) else value)
        for name, value in values.items()
        if value is not None
    )
    return digest(repr(parts).encode("utf-8", "surrogatepass"), 16).encode()
