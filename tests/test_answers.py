"""What an answer means where its API differs from the rest, and by its status everywhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from syncer import When
from syncer.answers import meaning
from syncer.errors import ConfigError
from tests.world import Api, answer, item, run, stream


@pytest.mark.parametrize(
    ("rule", "status", "headers", "body", "fits"),
    [
        (When(status=404, then="empty"), 404, {}, None, True),
        (When(status=404, then="empty"), 410, {}, None, False),
        (When(status=(404, 410), then="empty"), 410, {}, None, True),
        (When(headers={"Stripe-Should-Retry": "true"}, then="retry"), 400, {"stripe-should-retry": "True"}, None, True),
        (When(headers={"Stripe-Should-Retry": "true"}, then="retry"), 400, {"stripe-should-retry": "no"}, None, False),
        (When(headers={"X-Problem": None}, then="limit"), 400, {"x-problem": "day"}, None, True),
        (When(headers={"X-Problem": None}, then="limit"), 400, {}, None, False),
        (When(body={"error": "ratelimited"}, then="limit"), 200, {}, {"error": "ratelimited"}, True),
        (When(body={"error": "ratelimited"}, then="limit"), 200, {}, {"error": "other"}, False),
        (When(body={"error": "ratelimited"}, then="limit"), 200, {}, None, False),
        (When(body={"error": None}, then="failed"), 200, {}, {"error": {"code": 1}}, True),
        (When(body={"error": None}, then="failed"), 200, {}, {"items": []}, False),
        (When(body={"ok": False}, then="failed"), 200, {}, {"ok": False}, True),
        (When(body={"errors.0.code": 7}, status=400, then="retry"), 400, {}, {"errors": [{"code": 7}]}, True),
        (When(body={"errors.0.code": 7}, status=400, then="retry"), 401, {}, {"errors": [{"code": 7}]}, False),
    ],
)
def test_a_rule_fits_an_answer_that_has_all_it_names(
    rule: When, status: int, headers: dict[str, str], body: Any, fits: bool
) -> None:
    assert fits == rule.fits(status, headers, body)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "page"),
        (202, "failed"),
        (203, "failed"),
        (204, "failed"),
        (206, "failed"),
        (400, "failed"),
        (401, "refused"),
        (403, "refused"),
        (404, "failed"),
        (407, "refused"),
        (408, "retry"),
        (410, "failed"),
        (418, "failed"),
        (420, "limit"),
        (429, "limit"),
        (430, "limit"),
        (500, "retry"),
        (501, "failed"),
        (503, "retry"),
        (529, "retry"),
        (599, "failed"),
    ],
)
def test_without_a_rule_the_status_decides(status: int, expected: str) -> None:
    assert expected == meaning((), status, {}, None, limited=False, resumed=False)


@pytest.mark.parametrize("status", [400, 404, 410, 416, 422])
def test_a_saved_position_that_is_not_found_has_expired(status: int) -> None:
    assert "expired" == meaning((), status, {}, None, limited=False, resumed=True)


def test_the_first_rule_that_fits_counts() -> None:
    rules = (When(status=404, then="empty"), When(status=404, then="retry"))
    assert "empty" == meaning(rules, 404, {}, None, limited=True, resumed=True)


@pytest.mark.parametrize("wrong", [{"then": "page"}, {"then": "sleep", "status": 200}])
def test_a_rule_that_says_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        When(**wrong)


class Says(Api):
    """Answers request number `at` with a status and body of its own, once or always."""

    def __init__(self, at: int, status: int, body: bytes, *, always: bool = False) -> None:
        super().__init__()
        self.at, self.status, self.body, self.always = at, status, body, always

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        made = super().send(request, *args, **options)
        told = self.requests >= self.at if self.always else self.requests == self.at
        return answer(request, self.body, self.status) if told else made


@pytest.mark.parametrize(
    ("rule", "status", "body", "code", "requests_sent", "pages"),
    [
        (When(body={"error": "ratelimited"}, then="limit"), 200, {"ok": False, "error": "ratelimited"}, 0, 5, 4),
        (When(body={"ok": False}, then="retry"), 200, {"ok": False}, 0, 5, 4),
        (When(body={"ok": False}, then="expired"), 200, {"ok": False}, 8, 2, 1),
        (When(status=404, then="empty"), 404, {"message": "gone"}, 9, 2, 2),
        (When(status=500, then="failed"), 500, {}, 4, 2, 1),
        (When(status=400, then="refused"), 400, {}, 5, 2, 1),
        (When(status=206, then="page"), 206, {"items": [item(9)], "next": None, "total": 4}, 0, 2, 2),
    ],
    ids=["limit", "retry", "expired", "empty", "failed", "refused", "page"],
)
def test_what_a_stream_says_of_its_answers_is_done(
    tmp_path: Path, rule: When, status: int, body: Any, code: int, requests_sent: int, pages: int
) -> None:
    """`empty` ends the run after one of four pages, which the total that page one declared gives away."""
    api = Says(2, status, json.dumps(body).encode())
    report = run(tmp_path, replace(stream("token"), answers=(rule,)), "jsonl", api)
    assert (code, requests_sent, pages) == (report.exit_code, api.requests, report.streams[0].counts.pages)


def test_no_content_is_an_empty_page_where_that_is_said(tmp_path: Path) -> None:
    rule = When(status=204, then="empty")
    report = run(tmp_path, replace(stream("token"), answers=(rule,)), "jsonl", Says(1, 204, b""))
    assert (0, "complete", 0) == (report.exit_code, report.streams[0].status, report.streams[0].counts.fetched)
