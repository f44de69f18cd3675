"""When a run is over, and when it only looks as if it were: totals, loops, refreshes that came to nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from syncer import Offset, PageNumber, Stream

from .world import Api, answer, content, item, run, stream

SINKS = pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
Change = Callable[[dict[str, Any], int], dict[str, Any]]


class Changed(Api):
    """Every body goes through a function of it and the number of the request."""

    def __init__(self, change: Change, records: list[dict[str, Any]] | None = None) -> None:
        super().__init__(records)
        self.change = change

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        made = super().send(request, *args, **options)
        body = self.change(json.loads(content(made)), self.requests)
        return answer(request, json.dumps(body).encode(), headers=dict(made.headers))


def written(out: Path, sink: str) -> list[int]:
    if sink == "jsonl":
        return [json.loads(line)["id"] for line in (out / "shop" / "items.jsonl").read_bytes().split(b"\n")[:-1]]
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(out / "shop" / "shop.db")) as connection:
        return [number for (number,) in connection.execute("SELECT id FROM items ORDER BY rowid")]


GOOD = [1, 3, 4, 5, 6, 7, 9, 10, 11]
EMPTY: Change = lambda body, number: {**body, "items": [], "more": False, "next": None, "total": 11}  # noqa: E731
BAD: Change = lambda body, number: {**body, "items": [{**r, "name": 0} for r in body["items"]]}  # noqa: E731


@SINKS
def test_a_refresh_that_comes_short_leaves_the_old_output(tmp_path: Path, sink: str) -> None:
    assert 0 == run(tmp_path, stream("token"), sink).exit_code
    short = run(tmp_path, stream("token"), sink, Changed(EMPTY))
    assert (9, "short", GOOD) == (short.exit_code, short.streams[0].status, written(tmp_path, sink))
    assert "stays in place" in (short.streams[0].error.hint if short.streams[0].error else "")
    fewer = Api([item(number) for number in (1, 3)])
    assert (0, [1, 3]) == (run(tmp_path, stream("token"), sink, fewer).exit_code, written(tmp_path, sink))


@SINKS
@pytest.mark.parametrize("count", [1, 11], ids=["one record", "all records"])
def test_a_refresh_in_which_every_record_is_rejected_leaves_the_old_output(
    tmp_path: Path, sink: str, count: int
) -> None:
    whole = replace(stream("token"), max_rejects=None)
    assert 0 == run(tmp_path, whole, sink).exit_code
    refused = run(tmp_path, whole, sink, Changed(BAD, Api().records[:count]))
    assert (3, GOOD) == (refused.exit_code, written(tmp_path, sink))
    assert 3 == run(tmp_path, whole, sink, Changed(BAD), max_rejects="100%").exit_code
    assert GOOD == written(tmp_path, sink)


@pytest.mark.parametrize("style", [Offset(total="total"), PageNumber(total="total", size="limit")], ids=str)
def test_the_total_that_ends_the_pages_is_also_the_one_a_short_run_is_noticed_by(tmp_path: Path, style: Any) -> None:
    """The server skips a record on page 2, and declares it all the same."""
    lacking = replace(stream("token"), pagination=style, total=None, params={"limit": 3})
    if isinstance(style, Offset):
        lacking = replace(lacking, pagination=PageNumber(total="total", size="limit"))
    report = run(
        tmp_path, lacking, "jsonl", Changed(lambda body, n: {**body, "items": body["items"][: 3 if n != 2 else 2]})
    )
    assert (9, "short") == (report.exit_code, report.streams[0].status)


def test_records_that_arrive_behind_a_stable_cursor_are_no_short_run(tmp_path: Path) -> None:
    growing = Changed(lambda body, number: {**body, "total": body["total"] + number - 1})
    assert 0 == run(tmp_path, stream("token"), "jsonl", growing).exit_code


@pytest.mark.parametrize("total", [None, -1, "many", 10**400], ids=str)
def test_a_total_that_vanishes_or_is_absurd_stops_nothing(tmp_path: Path, total: Any) -> None:
    odd = Changed(lambda body, number: {**body, "total": 11 if number == 1 else total})
    report = run(tmp_path, replace(stream("offset"), pagination=Offset(more="more")), "jsonl", odd)
    assert (GOOD, "complete") == (written(tmp_path, "jsonl"), report.streams[0].status)


class Circle(Api):
    """Page 200 leads back to page 1. Every page has records of its own."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.requests += 1
        page = int((request.url or "").partition("after=")[2] or 0)
        body = {"items": [item(10 + self.requests)], "next": str(page % 199 + 1)}
        return answer(request, json.dumps(body).encode())


@SINKS
def test_a_circle_longer_than_one_pull_is_noticed(tmp_path: Path, sink: str) -> None:
    """Stopped every 50 pages, no process sees the circle of 199 whole; and the error repeats without a request."""
    circling: Stream = replace(stream("token"), total=None, primary_key=None)
    api = Circle()
    codes = [run(tmp_path, circling, sink, api, max_pages=50).exit_code for _ in range(8)]
    assert [0, 0, 0, 0, 9, 9, 9, 9] == codes
    assert 200 == api.requests == len(written(tmp_path, sink))
    assert 0 == run(tmp_path, circling, sink, restart=True).exit_code


OPEN = {
    "another path": {"path": "/things"},
    "another parameter": {"params": {"state": "open"}},
    "another body": {"method": "POST", "body": {}},
    "another header": {"headers": {"X-Version": "2"}},
    "another pagination": {"pagination": Offset()},
}


@pytest.mark.parametrize("change", OPEN.values(), ids=OPEN)
def test_a_run_that_is_open_cannot_accept_another_request(tmp_path: Path, change: dict[str, Any]) -> None:
    run(tmp_path, stream("token"), "jsonl", max_pages=1)
    api, other = Api(), replace(stream("token"), **change)
    refused = run(tmp_path, other, "jsonl", api, accept_changes=True)
    assert (8, 0) == (refused.exit_code, api.requests)
    assert "--accept-changes cannot go on" in (refused.streams[0].error.hint if refused.streams[0].error else "")
    assert 0 == run(tmp_path, stream("token"), "jsonl").exit_code
    assert GOOD == written(tmp_path, "jsonl")


def test_a_run_that_is_complete_accepts_another_request(tmp_path: Path) -> None:
    run(tmp_path, stream("token", incremental=True), "jsonl")
    other = replace(stream("token", incremental=True), params={"state": "all"})
    assert 8 == run(tmp_path, other, "jsonl").exit_code
    assert 0 == run(tmp_path, other, "jsonl", accept_changes=True).exit_code
