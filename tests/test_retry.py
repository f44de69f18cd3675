"""How often an API that fails is asked again, and when it is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from syncer.clock import Clock, Stop
from syncer.events import Waiting
from tests.world import BEGAN, Api, answer, item, run, stream


class Away(Api):
    """Is away from the request `down` on, for so many seconds of its clock."""

    def __init__(self, clock: Clock, down: int, seconds: float, count: int = 11) -> None:
        super().__init__([item(number) for number in range(1, count + 1)])
        self.clock, self.down, self.seconds = clock, down, seconds
        self.until: float | None = None

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        made = super().send(request, *args, **options)
        if self.requests >= self.down and self.until is None:
            self.until = self.clock.monotonic() + self.seconds
        away = self.until is not None and self.clock.monotonic() < self.until
        return answer(request, b"", 503) if away else made


def ticking(stop: Stop | None = None) -> Clock:
    elapsed = [0.0]

    def sleep(seconds: float) -> None:
        elapsed[0] += seconds

    return Clock(now=lambda: BEGAN, monotonic=lambda: elapsed[0], sleep=sleep, stop=Stop() if stop is None else stop)


def test_an_outage_ends_a_pull_after_three_attempts_unless_the_user_waits_it_out(tmp_path: Path) -> None:
    clock = ticking()
    api = Away(clock, 3, 3600)
    report = run(tmp_path, stream("token"), "jsonl", api, clock=clock)
    assert (4, 5, 2) == (report.exit_code, api.requests, report.streams[0].counts.pages)
    error = report.streams[0].error
    assert error is not None
    assert ("--patience 6h" in error.hint, "3 attempts" in error.message) == (True, True)


def test_an_outage_of_an_hour_is_waited_out_with_few_probes_and_nothing_is_lost(tmp_path: Path) -> None:
    clock = ticking()
    api = Away(clock, 3, 3600)
    report = run(tmp_path, stream("token"), "jsonl", api, clock=clock, outage=6 * 3600.0)
    assert (0, "complete", 11) == (report.exit_code, report.streams[0].status, report.streams[0].counts.fetched)
    assert 3600 <= clock.monotonic() < 3600 + 330
    assert api.requests - 4 <= 3 + 30  # three attempts, then probes: five minutes apart once they are far apart


def test_an_outage_that_lasts_longer_ends_the_pull_and_the_next_one_goes_on(tmp_path: Path) -> None:
    clock = ticking()
    report = run(tmp_path, stream("token"), "jsonl", Away(clock, 3, 7 * 3600), clock=clock, outage=3600.0)
    assert (4, 2) == (report.exit_code, report.streams[0].counts.pages)
    assert clock.monotonic() <= 3600
    again = run(tmp_path, stream("token"), "jsonl")
    assert (0, 11) == (again.exit_code, again.streams[0].run.fetched)


def test_under_a_total_outage_requests_grow_by_less_than_a_tenth(tmp_path: Path) -> None:
    clock = ticking()
    api = Away(clock, 200, 86400, count=3000)
    assert 4 == run(tmp_path, stream("token"), "jsonl", api, clock=clock).exit_code
    assert api.requests <= 1.1 * 200


class Flaky(Api):
    """Every other request fails."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        made = super().send(request, *args, **options)
        return made if self.requests % 2 else answer(request, b"", 500)


def test_an_api_that_fails_half_the_time_is_not_asked_twice_for_ever(tmp_path: Path) -> None:
    api = Flaky([item(number) for number in range(1, 3001)])
    report = run(tmp_path, stream("token"), "jsonl", api)
    assert 4 == report.exit_code
    pages = report.streams[0].counts.pages
    assert 10 <= api.requests - pages <= 10 + api.requests / 10 + 1


@pytest.mark.parametrize("number", [2, 15])
def test_a_signal_ends_the_wait_for_an_api_that_is_away(tmp_path: Path, number: int) -> None:
    stop = Stop()
    clock = ticking(stop)
    seen: list[Any] = []

    class Signalled(Away):
        def send(self, *args: Any, **options: Any) -> requests.Response:
            if self.requests == 8:
                stop.signal = number
                seen.append(self.clock.monotonic())
            return super().send(*args, **options)

    report = run(tmp_path, stream("token"), "jsonl", Signalled(clock, 3, 86400), clock=clock, outage=86400.0)
    assert (128 + number, "stopped") == (report.exit_code, report.streams[0].status)
    assert clock.monotonic() == seen[0]


def test_the_wait_says_what_it_is_for(tmp_path: Path) -> None:
    clock, waits = ticking(), []
    api = Away(clock, 1, 60)
    run(tmp_path, stream("token"), "jsonl", api, clock=clock, outage=600.0, observe=waits.append)
    reasons = [event.reason for event in waits if isinstance(event, Waiting)]
    assert "server answered 503 Service Unavailable; one probe now and then until it answers" in reasons
