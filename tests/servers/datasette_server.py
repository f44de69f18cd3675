"""Datasette over a SQLite file of made-up readings, and what stands in that file."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .child import Server

DATABASE = "weather"
READINGS = 20_137
"""Rows of the table `readings`: no multiple of any sensible page size."""
PLACES = 1_203

_STATIONS = ("Zürich", "São Paulo", "札幌", "Ελλάδα", "Reykjavík", "القاهرة", 'O\'Brien "north"', "a\\b\tc", "🛰️ 7")
_FIRST = datetime(2005, 12, 31, tzinfo=UTC)
_NOTES = ("", "calibrated", "line one\nline two", "50 % & <b>wet</b>", "a separator \u2028 of lines", "٣٫٥")


@contextmanager
def serving(directory: Path) -> Iterator[tuple[str, Path]]:
    """Datasette on a fresh file in the directory: its base URL, and the path of the file."""
    file = make(directory / f"{DATABASE}.db")

    def program(port: int) -> list[str]:
        # The time limit is for public sites; on a machine that is busy it would make a page fail.
        return [
            *("datasette", "serve", str(file), "--host", "127.0.0.1", "--port", str(port)),
            *("--setting", "sql_time_limit_ms", "60000"),
        ]

    with Server(program, "/-/versions.json", directory) as server:
        yield server.url, file


def make(file: Path) -> Path:
    """The file with its two tables; the same content every time.

    `readings` has an integer key with gaps, `places` a text key full of what URLs must escape.
    """
    rng = random.Random(20_137)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "CREATE TABLE readings (id INTEGER PRIMARY KEY, station TEXT NOT NULL, serial INTEGER NOT NULL,"
            " temperature REAL, count INTEGER, note TEXT, taken TEXT NOT NULL)"
        )
        database.execute("CREATE TABLE places (name TEXT PRIMARY KEY, height INTEGER)")
        database.executemany("INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?)", _readings(rng))
        database.executemany("INSERT INTO places VALUES (?, ?)", _places(rng))
    return file


def rows(file: Path, table: str) -> list[dict[str, Any]]:
    """Every row of the table, read from the file and not through the server."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY 1")]


def _readings(rng: random.Random) -> Iterator[tuple[Any, ...]]:
    number = 0
    for _ in range(READINGS):
        number += rng.choice((1, 1, 1, 2, 17))
        yield (
            number,
            rng.choice(_STATIONS),
            rng.randrange(2**53 + 1, 2**63),
            None if rng.random() < 0.1 else rng.choice((rng.gauss(12, 9), rng.random() * 1e-7, rng.random() * 1e300)),
            None if rng.random() < 0.3 else rng.randrange(-1_000_000, 1_000_000),
            None if rng.random() < 0.5 else rng.choice(_NOTES),
            (_FIRST + timedelta(minutes=rng.randrange(10**7))).isoformat().replace("+00:00", "Z"),
        )


def _places(rng: random.Random) -> Iterator[tuple[Any, ...]]:
    marks = (*" /?&=#%+,;~:é札🛰\"'._-$", "%2F")
    for number in range(PLACES):
        name = "".join(rng.choice(marks) + rng.choice("abcxyz") for _ in range(rng.randrange(1, 6)))
        yield f"{name}{number}", rng.choice((None, rng.randrange(9_000)))
