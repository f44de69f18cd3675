"""The Django REST framework site of `measurements.py` as a child process, and what stands in its database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from .child import Server

SITE = Path(__file__).with_name("measurements.py")
MEASUREMENTS = 5_003
"""Rows of the database: no multiple of any sensible page size."""

USER, PASSWORD, TOKEN = "reader", "correct-horse-battery", "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"

_COLUMNS = "id, station, serial, value, ratio, valid, labels, note, created, updated"


@dataclass(frozen=True)
class Site:
    """The running site, and the file that it serves."""

    server: Server
    file: Path

    @property
    def port(self) -> str:
        """The port, as `--set` wants it."""
        return str(self.server.port)

    def rows(self, where: str = "1") -> list[dict[str, Any]]:
        """The rows as the API should give them, by id; read from the file and not through the server."""
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=60)) as database:
            database.row_factory = sqlite3.Row
            found = database.execute(f"SELECT {_COLUMNS} FROM measurements_measurement WHERE {where} ORDER BY id")
            return [_as_json(dict(row)) for row in found]

    def change(self, ids: Iterable[int], station: str, updated: datetime) -> None:
        """Rename the station of these rows, behind the server's back, as of one moment."""
        moment = str(updated.astimezone(UTC).replace(tzinfo=None))
        with closing(sqlite3.connect(self.file, timeout=60)) as database, database:
            database.executemany(
                "UPDATE measurements_measurement SET station = ?, updated = ? WHERE id = ?",
                [(station, moment, number) for number in ids],
            )


def site(directory: Path) -> Site:
    """The site over a fresh database in the directory; start it with `with site.server:`."""
    file = directory / "measurements.db"

    def program(port: int) -> list[str]:
        return [
            *(str(SITE), "--port", str(port), "--db", str(file)),
            *("--rows", str(MEASUREMENTS), "--account", f"{USER}:{PASSWORD}:{TOKEN}"),
        ]

    return Site(Server(program, "/health/", directory), file)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table in the shape of the API: exact decimals as strings, moments as ISO strings in UTC."""
    value = row["value"]
    return row | {
        "value": None if value is None else str(Decimal(repr(value)).quantize(Decimal("0.0001"))),
        "valid": bool(row["valid"]),
        "labels": json.loads(row["labels"]),
        "created": row["created"].replace(" ", "T") + "Z",
        "updated": row["updated"].replace(" ", "T") + "Z",
    }
