"""syncer itself, as it is installed from this checkout, with its default settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.contender import HERE, Contender, Job, in_lines, in_sqlite

CONNECTOR = """

from syncer import Connector, NextToken, PageNumber, Rate, Stream

PAGINGS = {{"page": PageNumber(pages="pages"), "cursor": NextToken("next", param="cursor", cursor="stable")}}
items = Stream(
    name="items",
    path="/{run}/records",
    model=Item,
    records="records",
    primary_key="id",
    pagination=PAGINGS["{paging}"],
)
connector = Connector(name="bench", base_url="{server}", rate={rate}, streams=(items,))
"""


def prepare(job: Job) -> None:
    """The connector, in the directory of the run."""
    rate = f"Rate({job.limit})" if job.limit else None
    own = CONNECTOR.format(run=job.run, server=job.server, paging=job.paging, rate=rate)
    (job.out / "connectors").mkdir()
    (job.out / "connectors" / "bench.py").write_text((HERE / "model.py").read_text() + own)


def started(*options: str) -> Callable[[Job], Sequence[Sequence[str]]]:
    def start(job: Job) -> Sequence[Sequence[str]]:
        prepare(job)
        return [[job.program("syncer", "syncer"), "pull", "bench", "--quiet", *options]]

    return start


def lines(path: Path) -> int:
    """How many a file has; none if it is not there."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)


CONTENDERS = (
    Contender(
        name="syncer, jsonl",
        does="each record validated, bad ones kept with reasons; records, rejects and checkpoint fsynced per page",
        start=started(),
        ids=lambda job: in_lines([job.out / "data" / "bench" / "items.jsonl"]),
        rejects=lambda job: lines(job.out / "data" / "bench" / "items.rejects.jsonl"),
    ),
    Contender(
        name="syncer, SQLite",
        does="the same into a typed table: records, rejects and checkpoint in one transaction per page",
        start=started("--sink", "sqlite"),
        ids=lambda job: in_sqlite(job.out / "data" / "bench" / "bench.db"),
    ),
)
