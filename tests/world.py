"""A small world for a pull: an API behind requests' own seam, a stopped clock, and one run of the loop.

The API has four pages of three records in five pagination styles; one record of two pages must be
rejected. `run` is one `syncer pull` in this process, and `tree` is what it left behind.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
import urllib3
from pydantic import AwareDatetime, BaseModel
from requests.adapters import BaseAdapter

from syncer import Connector, LastRecord, LinkHeader, NextLink, NextToken, Offset, PageNumber, Rate, Stream
from syncer.clock import Clock, Stop
from syncer.pull import Options, pull
from syncer.report import Report

BASE = "https://api.example.org/v1"
BEGAN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SIZE = 3
COUNT = 11


class Item(BaseModel):
    id: int
    name: str
    price: float
    changed: AwareDatetime


def item(number: int) -> dict[str, Any]:
    """Record `number` of the API; 2 and 8 must be rejected."""
    return {
        "id": number,
        "name": f"n° {number}" if number not in (2, 8) else number,
        "price": number + 0.25,
        "changed": (BEGAN - timedelta(days=COUNT - number)).isoformat(),
        "extra": number,
    }


PAGINATION = {
    "token": NextToken("next", param="after", cursor="stable"),
    "page": PageNumber(pages="pages"),
    "offset": Offset(total="total"),
    "link": LinkHeader(),
    "keyset": LastRecord(param="after_id", more="more"),
    "body": NextLink("next_url"),
}


def stream(style: str, *, incremental: bool = False, key: bool = True) -> Stream:
    return Stream(
        name="items",
        path="/items",
        model=Item,
        records="items",
        pagination=PAGINATION[style],
        primary_key="id" if key else None,
        replication_key="changed" if incremental else None,
        since="since" if incremental else None,
        total="total",
        max_rejects="100%",
    )


class Api(BaseAdapter):
    """Answers from its records; counts the requests."""

    def __init__(
        self, records: list[dict[str, Any]] | None = None, date: datetime = BEGAN + timedelta(seconds=1)
    ) -> None:
        super().__init__()
        self.records = [item(number) for number in range(1, COUNT + 1)] if records is None else records
        self.date, self.requests = date, 0

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.requests += 1
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.url or "").query).items()}
        since = query.get("since")
        records = [r for r in self.records if since is None or at(r["changed"]) >= at(since)]
        start = int(query.get("offset", 0)) or int(query.get("after", 0)) or (int(query.get("page", 1)) - 1) * SIZE
        if "after_id" in query:
            start = next(i for i, r in enumerate(records) if str(r["id"]) == query["after_id"]) + 1
        end = start + SIZE
        more = end < len(records)
        body = {
            "items": records[start:end],
            "total": len(records),
            "pages": -(-len(records) // SIZE),
            "more": more,
            "next": str(end) if more else None,
            "next_url": f"/v1/items?after={end}" + (f"&since={since}" if since else "") if more else None,
        }
        headers = {"Content-Type": "application/json", "Date": self.date.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        if more:
            headers["Link"] = f'<{BASE}/items?after={end}>; rel="next"'
        return answer(request, json.dumps(body).encode(), headers=headers)

    def close(self) -> None:
        pass


def answer(
    request: requests.PreparedRequest, content: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> requests.Response:
    """A response as requests' own adapter would make it."""
    raw = urllib3.HTTPResponse(io.BytesIO(content), headers=headers or {}, status=status, preload_content=False)
    made = requests.Response()
    made.status_code, made.raw, made.request, made.url = status, raw, request, request.url or ""
    made.headers.update(headers or {})
    return made


def _folded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row without what counts runs: the number in a reject's line, its row id and its generation."""
    if isinstance(row[-1], str) and row[-1].startswith('{"v":1'):
        return (row[1], re.sub(r'"run":\d+', '"run":0', row[-1]))
    return row


def at(text: str) -> datetime:
    return datetime.fromisoformat(text.replace(" ", "+"))


def stopped_clock(stop: Stop | None = None) -> Clock:
    """A wall that stands still and sleep that costs nothing, so that two runs write the same bytes."""
    elapsed = [0.0]

    def sleep(seconds: float) -> None:
        elapsed[0] += seconds

    return Clock(now=lambda: BEGAN, monotonic=lambda: elapsed[0], sleep=sleep, stop=Stop() if stop is None else stop)


def run(out: Path, source: Stream, sink: str, api: BaseAdapter | None = None, **options: Any) -> Report:
    """One pull of one stream."""
    session = requests.Session()
    session.mount("https://", api or Api())
    connector = Connector(name="shop", base_url=BASE, streams=(source,), rate=Rate(1000))
    clock = options.pop("clock", None) or stopped_clock()
    observe = options.pop("observe", None) or (lambda event: None)
    return pull(connector, [source], Options(out, sink, **options), {}, clock, observe, session)


def tree(out: Path, sink: str) -> dict[str, Any]:
    """What a pull left: every byte of the files, every row of the tables, whatever run number the rejects carry.

    A pull that is killed after its last commit is complete; the next one is another run with the same output.
    """
    home = out / "shop"
    if sink == "jsonl":
        files = {path.name: path.read_bytes() for path in sorted(home.iterdir()) if path.is_file()}
        return {name: re.sub(rb'"run":\d+', b'"run":0', content) for name, content in files.items()}
    with closing(sqlite3.connect(home / "shop.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: (
                connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0],
                [_folded(row) for row in connection.execute(f'SELECT * FROM "{name}"')],
            )
            for name in names
            if name != "syncer_checkpoint"
        }


def content(response: requests.Response) -> bytes:
    """The body of a response as it was made."""
    whole: bytes = response.raw.read()
    return whole
