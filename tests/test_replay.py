"""Every connector pulled from its recorded exchanges, through the real client, into every sink; and the odd answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from syncer import Stream
from syncer.config import connector as find
from syncer.pull import Options, pull
from syncer.sinks import KINDS, sink
from tests.fixtures_store import FIXTURES, content, exchanges, odd, settings
from tests.world import Api, answer, item, run, stopped_clock, stream

STREAMS = [
    (connector.name, folder.name)
    for connector in sorted(FIXTURES.iterdir())
    if connector.is_dir() and connector.name != "odd"
    for folder in sorted(connector.iterdir())
    if folder.is_dir()
]


class Replay(BaseAdapter):
    """Answers each request with the exchange recorded for exactly that URL."""

    def __init__(self, recorded: list[dict[str, Any]]) -> None:
        super().__init__()
        self.recorded, self.unsigned = {one["request"]["url"]: one["response"] for one in recorded}, 0

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        recorded = self.recorded[request.url or ""]
        self.unsigned += "Authorization" not in request.headers
        return answer(request, content(recorded), recorded["status"], recorded["headers"])

    def close(self) -> None:
        pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "title"), STREAMS, ids=[f"{name}-{title}" for name, title in STREAMS])
def test_a_recorded_stream_is_pulled_whole(tmp_path: Path, name: str, title: str, kind: str) -> None:
    """Every record is written or rejected, and those that must be rejected are, for the reason on record."""
    recorded = exchanges(name, title)
    connector = find(name, None)
    chosen = connector.stream(title)
    replay = Replay(recorded)
    session = requests.Session()
    session.mount("https://", replay)
    secrets = dict.fromkeys(connector.auth.variables() if connector.auth else (), "not-a-real-secret")
    options = Options(tmp_path, kind, settings(name, title), max_rejects="100%")

    report = pull(connector, [chosen], options, secrets, stopped_clock(), lambda event: None, session)

    (done,) = report.streams
    fetched = sum(len(records(chosen, one)) for one in recorded)
    refused = [
        (page, one["index"], one["path"], one["type"])
        for page, exchange in enumerate(recorded, 1)
        for one in exchange.get("rejects", [])
    ]
    rejected = len({reason[:2] for reason in refused})
    assert report.exit_code == 0
    assert (fetched, fetched - rejected, rejected) == (
        done.run.fetched,
        done.run.written,
        done.run.rejected,
    )
    found = [json.loads(line) for line in sink(kind, tmp_path, name, chosen).rejects()]
    assert sorted(refused) == sorted(
        (one["page"], one["index"], reason["path"], reason["type"]) for one in found for reason in one["reasons"]
    )
    assert all(one["cursor"]["url"].startswith("/") for one in found)
    assert replay.unsigned == (0 if connector.auth else len(recorded))


def records(chosen: Stream, exchange: dict[str, Any]) -> list[Any]:
    body = exchange["response"]["body"]
    found: list[Any] = body[chosen.records] if chosen.records else body
    return found


class Odd(Api):
    """Answers page two with something odd."""

    def __init__(self, recorded: dict[str, Any]) -> None:
        super().__init__()
        self.recorded = recorded

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        if "after=3" in (request.url or ""):
            self.requests += 1
            return answer(request, content(self.recorded), self.recorded["status"], self.recorded["headers"])
        return super().send(request)


@pytest.mark.parametrize("name", sorted(odd()))
def test_an_odd_answer_ends_in_records_and_rejects_or_in_an_error_that_keeps_the_checkpoint(
    tmp_path: Path, name: str
) -> None:
    """Whatever the second page is: nothing raises, page one stays, and what is written is valid JSON."""
    report = run(tmp_path, stream("token"), "jsonl", Odd(odd()[name]))

    (done,) = report.streams
    lines = (tmp_path / "shop" / "items.jsonl").read_bytes().split(b"\n")[:-1]
    assert [1, 3] == [json.loads(line)["id"] for line in lines[:2]]
    assert done.run.balanced()
    assert report.exit_code in (0, 4, 8, 9)
    assert (report.exit_code == 0) == (done.error is None)
    if done.error:
        resumed = run(tmp_path, stream("token"), "jsonl")
        assert resumed.exit_code == 0
        assert resumed.streams[0].run.fetched == len(Api().records)


class TestIncremental:
    """A second run asks for what is new, writes the boundary once, and never moves the bookmark too far."""

    KEYS = stream("keyset", incremental=True)

    def lines(self, tmp_path: Path) -> list[int]:
        text = (tmp_path / "shop" / "items.jsonl").read_bytes()
        return [json.loads(line)["id"] for line in text.split(b"\n")[:-1]]

    def test_a_second_run_without_news_writes_nothing(self, tmp_path: Path) -> None:
        run(tmp_path, self.KEYS, "jsonl")
        before = self.lines(tmp_path)
        again = run(tmp_path, self.KEYS, "jsonl")

        assert before == self.lines(tmp_path)
        assert (1, 0, 0, 1) == _counts(again)

    def test_new_and_changed_records_come_once(self, tmp_path: Path) -> None:
        run(tmp_path, self.KEYS, "jsonl", Api(Api().records[:7]))
        run(tmp_path, self.KEYS, "jsonl")

        assert [1, 3, 4, 5, 6, 7, 9, 10, 11] == self.lines(tmp_path)

    def test_a_rejected_record_on_the_boundary_is_not_rejected_twice(self, tmp_path: Path) -> None:
        run(tmp_path, self.KEYS, "jsonl", Api(Api().records[:8]))
        again = run(tmp_path, self.KEYS, "jsonl", Api(Api().records[:8]))

        assert (2, 0, 0, 2) == _counts(again)
        assert 2 == (tmp_path / "shop" / "items.rejects.jsonl").read_bytes().count(b"\n")

    def test_a_record_that_changed_on_the_boundary_is_written_again(self, tmp_path: Path) -> None:
        run(tmp_path, self.KEYS, "jsonl")
        news = Api()
        news.records[-1]["name"] = "renamed at the same second"
        again = run(tmp_path, self.KEYS, "jsonl", news)

        assert (1, 1, 0, 0) == _counts(again)

    def test_the_bookmark_never_passes_the_moment_the_run_began(self, tmp_path: Path) -> None:
        """Two records carry times after the first answer; a third changes to before them and must not be missed."""
        from datetime import timedelta

        early = Api()
        early.date = early.date - timedelta(days=2, hours=12)
        first = run(tmp_path, self.KEYS, "jsonl", early)
        late = Api()
        late.records.insert(8, {**item(99), "changed": item(9)["changed"]})
        second = run(tmp_path, self.KEYS, "jsonl", late)

        assert item(8)["changed"] < str(first.streams[0].bookmark) or item(7)["changed"] == first.streams[0].bookmark
        assert str(first.streams[0].bookmark) <= early.date.isoformat()
        assert [1, 3, 4, 5, 6, 7, 9, 10, 11, 99] == self.lines(tmp_path)
        assert second.streams[0].bookmark == item(11)["changed"]

    def test_the_bookmark_moves_only_at_the_end_of_a_run(self, tmp_path: Path) -> None:
        capped = run(tmp_path, self.KEYS, "jsonl", max_pages=2)
        done = run(tmp_path, self.KEYS, "jsonl")

        assert capped.streams[0].bookmark is None
        assert capped.streams[0].status == "capped"
        assert done.streams[0].bookmark == item(11)["changed"]

    def test_values_are_compared_as_moments_and_kept_as_they_came(self, tmp_path: Path) -> None:
        """As text "2026-01-10T00:30:00+02:00" is larger than "2026-01-09T23:00:00Z"; as a moment it is not."""
        api = Api([{**item(1), "changed": "2026-01-10T00:30:00+02:00"}, {**item(3), "changed": "2026-01-09T23:00:00Z"}])
        report = run(tmp_path, self.KEYS, "jsonl", api)

        assert report.streams[0].bookmark == "2026-01-09T23:00:00Z"


def _counts(report: Any) -> tuple[int, int, int, int]:
    counts = report.streams[0].counts
    return counts.fetched, counts.written, counts.rejected, counts.repeated
