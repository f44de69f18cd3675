"""What a resumed run does by what its cursor is worth: count from the start, be used once, or begin a list anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncer import NextToken, Offset, Window
from tests.world import Api, item, run, stream


def ids(out: Path) -> list[int]:
    return [json.loads(line)["id"] for line in (out / "shop" / "items.jsonl").read_bytes().split(b"\n")[:-1]]


def good(number: int) -> dict[str, Any]:
    return {**item(number), "name": f"n {number}"}


def records() -> list[dict[str, Any]]:
    return [good(number) for number in range(1, 12)]


CHANGES: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "nothing": lambda old: old,
    "one deleted": lambda old: [*old[:1], *old[2:]],
    "two deleted": lambda old: old[2:],
    "one inserted": lambda old: [good(100), *old],
    "two inserted": lambda old: [good(100), good(101), *old],
    "one of each": lambda old: [good(100), old[0], *old[2:]],
    "the last one read deleted": lambda old: [*old[:5], *old[6:]],
}


@pytest.mark.parametrize("style", ["page", "offset"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_list_that_moved_between_two_pulls_of_a_run_loses_and_doubles_nothing(
    tmp_path: Path, style: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    source = replace(stream(style), total=None)
    source = replace(source, pagination=Offset()) if style == "offset" else source
    api = Api(records())
    run(tmp_path, source, "jsonl", api, max_pages=2)
    api.records = change(api.records)
    report = run(tmp_path, source, "jsonl", api)
    assert ("complete", True) == (report.streams[0].status, report.streams[0].run.balanced())
    assert set(range(7, 12)) <= set(ids(tmp_path))
    assert len(ids(tmp_path)) == len(set(ids(tmp_path)))
    moved = any("the list has moved" in note for note in report.streams[0].notes)
    assert moved == (change not in (CHANGES["nothing"], CHANGES["one of each"]))  # those leave its last page as it was


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_a_list_that_moved_by_more_than_a_page_is_not_gone_on_with(tmp_path: Path, sink: str) -> None:
    source = replace(stream("page"), total=None)
    api = Api(records())
    run(tmp_path, source, sink, api, max_pages=2)
    del api.records[:4]
    report = run(tmp_path, source, sink, api)
    assert (8, "--restart" in (report.streams[0].error.hint if report.streams[0].error else "")) == (
        report.exit_code,
        True,
    )
    assert 0 == run(tmp_path, source, sink, api, restart=True).exit_code


def test_a_cursor_that_can_be_used_once_is_not_used_again(tmp_path: Path) -> None:
    once = replace(stream("token"), pagination=NextToken("next", param="after", cursor="single-use"))
    run(tmp_path, once, "jsonl", Api(records()), max_pages=2)
    api = Api(records())
    assert (8, 0) == (run(tmp_path, once, "jsonl", api).exit_code, api.requests)
    assert 0 == run(tmp_path, once, "jsonl", api, restart=True).exit_code
    assert list(range(1, 12)) == ids(tmp_path)


def test_a_list_cut_into_windows_is_written_once(tmp_path: Path) -> None:
    """The API gives no more than six records of any list; the second list begins on the last value of the first."""
    api = Api(records())
    for number in (3, 4, 5):
        api.records[number]["changed"] = api.records[3]["changed"]
    window = Offset(total="total", window=Window(6, field="changed", param="since"))
    report = run(tmp_path, replace(stream("offset", incremental=True), total=None, pagination=window), "jsonl", api)
    assert (0, list(range(1, 12))) == (report.exit_code, ids(tmp_path))
