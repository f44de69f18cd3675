"""What takes part: how it is started for one run, what it does with a record, and which ids it wrote."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Paging = Literal["page", "cursor"]
ID = re.compile(rb'"id": ?(\d+)')
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """One run: what to read, and where to."""

    server: str
    run: str
    paging: Paging
    latency: float
    limit: int
    out: Path
    environments: Path

    @property
    def url(self) -> str:
        return f"{self.server}/{self.run}/records"

    def program(self, environment: str, name: str) -> str:
        return str(self.environments / environment / "bin" / name)

    def script(self, environment: str, name: str, *arguments: object) -> list[str]:
        """The command that runs one of our own files in an environment."""
        return [self.program(environment, "python"), str(HERE / "contenders" / name), *map(str, arguments)]


@dataclass(frozen=True)
class Contender:
    """A way to bring the records here.

    `start` prepares the directory of the run and gives the commands, each reading what the one before it writes.
    `ids` are those that are in the output afterwards, `rejects` how many records were kept aside as bad.
    """

    name: str
    does: str
    start: Callable[[Job], Sequence[Sequence[str]]]
    ids: Callable[[Job], Iterable[int]] | None = None
    rejects: Callable[[Job], int] | None = None
    environment: tuple[tuple[str, str], ...] = ()


def in_lines(files: Iterable[Path], having: bytes = b"") -> Iterator[int]:
    """The first id of each line that has `having`."""
    for path in files:
        with path.open("rb") as file:
            for line in file:
                if having in line and (found := ID.search(line)):
                    yield int(found[1])


def in_sqlite(path: Path) -> Iterator[int]:
    """The ids of the table called items."""
    with closing(sqlite3.connect(path)) as database:
        for (number,) in database.execute("SELECT id FROM items"):
            yield int(number)
