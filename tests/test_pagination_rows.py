"""Every way of paging that is known, each with an exchange of a real API: asked, taken and ended as on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from pydantic import BaseModel, ConfigDict
from requests.adapters import BaseAdapter

import syncer
from syncer import Connector, Rate, Stream
from syncer.page import Request, Response, dig
from syncer.pagination import Pagination
from syncer.pull import Options, pull
from tests.fixtures_store import FIXTURES, ROOT
from tests.scripted import BEGINNING
from tests.world import answer, stopped_clock

BASE = "https://api.example.org"
FILES = sorted((FIXTURES / "pagination").glob("*.json"))
NAMES = {name: getattr(syncer, name) for name in syncer.__all__}
RECORDED = [json.loads(file.read_text(encoding="utf-8")) for file in FILES]
recorded = pytest.mark.parametrize("one", RECORDED, ids=[file.stem for file in FILES])

ROWS = {
    1: "Link header",
    2: "next URL in the body",
    3: "OData",
    4: "HAL and JSON:API",
    5: "page number",
    6: "offset and limit",
    7: "opaque cursor to the query",
    8: "cursor nested in the body",
    9: "cursor to the body of a POST",
    10: "last id",
    11: "time keyset with an export cursor",
    12: "time window",
    13: "token with a flag for the last page",
    14: "offset that the server paces",
    15: "iterator named offset",
    16: "page token",
    17: "marker and continuation token",
    18: "GraphQL connection",
    19: "search_after with a point in time",
    20: "scroll",
    21: "SCIM index",
    22: "SCIM cursor",
    23: "range headers",
    24: "cursor in a header",
    25: "Meta's cursors",
    26: "next page URI",
    27: "sync endpoint with three lists",
    28: "asynchronous export",
    29: "feed, newest first",
    30: "known range of partitions",
    31: "offset in the body with a total",
    32: "XML continuation",
    33: "single page",
}
"""The catalogue of styles, numbered."""

UNCOVERED = {
    28: "no paging: a job is submitted, polled and downloaded in parts",
    32: "the records are XML, which is not decoded",
}
"""The rows that no style reads, each with its reason."""


def style(one: dict[str, Any]) -> Pagination:
    found: Pagination = eval(one["pagination"], NAMES)
    return found


def whole(request: dict[str, Any]) -> Request:
    return Request.from_json(request).under(BASE)


def test_every_row_is_on_record_or_says_why_not() -> None:
    covered = {row for one in RECORDED for row in one["rows"]}
    assert set(ROWS) == covered | set(UNCOVERED)
    assert set() == covered & set(UNCOVERED)
    assert len(covered) == 31


def test_every_style_and_every_cursor_class_is_on_record() -> None:
    styles = {type(style(one)).__name__ for one in RECORDED}
    assert {name for name, kind in NAMES.items() if hasattr(kind, "after")} == styles
    assert {"stable", "shifting", "expiring", "single-use"} == {one["cursor"] for one in RECORDED}


@recorded
def test_the_style_asks_for_the_pages_on_record_and_for_none_after_the_last(one: dict[str, Any]) -> None:
    request: Request | None = whole(one["exchanges"][0]["request"])
    for exchange in one["exchanges"]:
        assert whole(exchange["request"]) == request
        assert request is not None
        told = exchange["response"]
        records = dig(told["body"], one["records"])
        headers = {name.lower(): value for name, value in told["headers"].items()}
        assert exchange["taken"] == [record["id"] for record in records]
        request = style(one).after(
            Response(request, request.whole, told["status"], headers, told["body"], BEGINNING), records
        )
    assert request is None
    assert len(one["exchanges"]) == 1 + (one["pagination"] != "SinglePage()") + ("pages=N" in one["pagination"])


@recorded
def test_the_class_of_the_cursor_the_rule_for_the_end_and_the_source_are_written_down(one: dict[str, Any]) -> None:
    assert one["cursor"] == style(one).cursor
    assert one["stop"]
    assert one["source"]


def test_the_guide_says_for_each_api_on_record_what_to_write() -> None:
    guide = (ROOT / "docs" / "connectors.md").read_text(encoding="utf-8").splitlines()
    expected = [f"| {one['api']} | `{one['pagination']}` | {one['stop']} | {one['cursor']} |" for one in RECORDED]
    assert sorted(expected) == sorted(line for line in guide if line.count("|") == 5 and line in expected)


class Thing(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int | str


class Replay(BaseAdapter):
    """Answers the requests on record, in their order, and no others."""

    def __init__(self, one: dict[str, Any]) -> None:
        super().__init__()
        self.left, self.wrong = list(one["exchanges"]), list[str]()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        exchange = self.left.pop(0)
        expected = whole(exchange["request"])
        sent = json.loads(request.body) if request.body else None
        prepared = requests.Request(expected.method, expected.whole).prepare().url
        if (request.method, request.url, sent) != (expected.method, prepared, expected.body):
            self.wrong.append(f"{request.method} {request.url} {sent}")
        if set(expected.headers.items()) - set(request.headers.items()):
            self.wrong.append(str(request.headers))
        told = exchange["response"]
        headers = {"Content-Type": "application/json", **told["headers"]}
        return answer(request, json.dumps(told["body"]).encode(), told["status"], headers)

    def close(self) -> None:
        pass


def stream(one: dict[str, Any]) -> Stream:
    first = one["exchanges"][0]["request"]
    return Stream(
        name="things",
        path=urlsplit(first["url"]).path,
        method=first.get("method", "GET"),
        params=first.get("params", {}),
        body=first.get("body"),
        headers=first.get("headers", {}),
        records=one["records"],
        model=Thing,
        pagination=style(one),
        answers=tuple(eval(rule, NAMES) for rule in one.get("answers", ())),
    )


@recorded
def test_a_whole_pull_makes_the_requests_on_record_and_writes_what_came(one: dict[str, Any], tmp_path: Path) -> None:
    source, replay = stream(one), Replay(one)
    session = requests.Session()
    session.mount("https://", replay)
    connector = Connector(name="api", base_url=BASE, streams=(source,), rate=Rate(1000))
    report = pull(connector, [source], Options(tmp_path), {}, stopped_clock(), lambda event: None, session)

    (done,) = report.streams
    assert ("complete", None, [], []) == (done.status, done.error, replay.wrong, replay.left)
    lines = (tmp_path / "api" / "things.jsonl").read_text(encoding="utf-8").splitlines()
    assert [taken for exchange in one["exchanges"] for taken in exchange["taken"]] == [
        json.loads(line)["id"] for line in lines
    ]


def test_a_change_in_the_middle_of_plaids_list_is_reported_with_the_way_to_begin_anew(tmp_path: Path) -> None:
    one = next(one for one in RECORDED if one["api"] == "Plaid")
    changed = {"error_code": "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION", "error_type": "TRANSACTIONS_ERROR"}
    second = {**one["exchanges"][1], "response": {"status": 400, "headers": {}, "body": changed}}
    replay = Replay({"exchanges": [one["exchanges"][0], second]})
    session = requests.Session()
    session.mount("https://", replay)
    source = stream(one)
    connector = Connector(name="api", base_url=BASE, streams=(source,), rate=Rate(1000))
    report = pull(connector, [source], Options(tmp_path), {}, stopped_clock(), lambda event: None, session)

    (done,) = report.streams
    assert done.error is not None
    assert 8 == done.error.exit_code
    assert "--restart" in done.error.hint
