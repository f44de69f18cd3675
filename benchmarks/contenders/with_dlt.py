"""dlt into JSON lines, with and without the pydantic model, into DuckDB, and as Arrow tables into DuckDB.

At its fastest of what was tried: no compression, nested values kept as JSON instead of child tables, and, where there
is latency and any page can be asked for, eight pages at once by `dlt.defer`. Two processes that normalize, larger
buffers and no ids of its own brought nothing; without latency more than one page at once made it slower.
It extracts everything into files of its own, then normalizes, then loads, and keeps its state after that: a run that
is killed while it extracts begins anew. Nothing is fsynced. Where it does not validate it infers types.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender, Job, in_lines

IDS = """
import sys, duckdb
for (number,) in duckdb.connect(sys.argv[1], read_only=True).execute("SELECT id FROM bench.items").fetchall():
    print(number)
"""
SETTINGS = (
    ("RUNTIME__DLTHUB_TELEMETRY", "false"),
    ("DATA_WRITER__DISABLE_COMPRESSION", "true"),
    ("EXTRACT__WORKERS", "8"),
)


def main(url: str, paging: str, out: Path, kind: str) -> None:
    import dlt
    import orjson
    from dlt.sources.helpers import requests

    client = requests.Client()
    session = client.session

    def get(query: dict[str, str]) -> dict[str, Any]:
        answer = session.get(url, params=query)
        answer.raise_for_status()
        page: dict[str, Any] = orjson.loads(answer.content)
        if kind == "arrow":
            import pyarrow

            page["records"] = pyarrow.Table.from_pylist(page["records"])
        return page

    @dlt.defer
    def deferred(number: int) -> Any:
        return get({"page": str(number)})["records"]

    def one_by_one() -> Iterator[Any]:
        query: dict[str, str] = {}
        while True:
            page = get(query)
            yield page["records"]
            if page["next"] is None:
                return
            query = {"cursor": page["next"]} if paging == "cursor" else {"page": str(page["page"] + 1)}

    def several() -> Iterator[Any]:
        page = get({})
        yield page["records"]
        for number in range(2, page["pages"] + 1):
            yield deferred(number)

    hints: dict[str, Any] = {"max_table_nesting": 0}
    if kind == "validated":
        from benchmarks.model import Item

        hints["columns"] = Item
        hints["schema_contract"] = {"data_type": "discard_row"}
    pages: Callable[[], Iterator[Any]] = several if paging == "several" else one_by_one
    items = dlt.resource(pages, name="items", write_disposition="append", **hints)
    if kind in ("duckdb", "arrow"):
        destination: Any = dlt.destinations.duckdb(str(out / "items.duckdb"))
        form = "parquet"
    else:
        destination = dlt.destinations.filesystem(bucket_url=(out / "files").as_uri())
        form = "jsonl"
    pipeline = dlt.pipeline("bench", destination=destination, dataset_name="bench", pipelines_dir=str(out / "work"))
    pipeline.run(items, loader_file_format=form)


def started(kind: str) -> Any:
    def start(job: Job) -> Sequence[Sequence[str]]:
        paging = "several" if job.latency and job.paging == "page" else job.paging
        return [job.script("dlt", "with_dlt.py", job.url, paging, job.out, kind)]

    return start


def in_files(job: Job) -> Iterator[int]:
    return in_lines((job.out / "files" / "bench" / "items").glob("*.jsonl"))


def in_duckdb(job: Job) -> Iterator[int]:
    command = [job.program("dlt", "python"), "-c", IDS, str(job.out / "items.duckdb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asked:
        assert asked.stdout
        yield from map(int, asked.stdout)


CONTENDERS = (
    Contender(
        name="dlt, jsonl",
        does="nothing validated, types inferred; state after the load, no fsync",
        start=started("jsonl"),
        ids=in_files,
        environment=SETTINGS,
    ),
    Contender(
        name="dlt, jsonl, with the model",
        does="each record validated by the pydantic model, bad ones discarded without a word",
        start=started("validated"),
        ids=in_files,
        environment=SETTINGS,
    ),
    Contender(
        name="dlt, DuckDB",
        does="nothing validated, types inferred, parquet loaded into a table",
        start=started("duckdb"),
        ids=in_duckdb,
        environment=SETTINGS,
    ),
    Contender(
        name="dlt, Arrow to DuckDB",
        does="each page made an Arrow table by pyarrow; nothing validated, times stay texts, decimals become floats",
        start=started("arrow"),
        ids=in_duckdb,
        environment=SETTINGS,
    ),
)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
