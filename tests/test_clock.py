"""A wall clock that is set while a pull runs: by NTP, for daylight saving, by a year, again and again.

Whatever the wall says, the pull makes the same requests at the same moments of the monotonic clock, waits as long and
ends in the same output; only the stamps tell. Where the server does not say what time it is, ours stands in for it:
then the bookmark may lie elsewhere, but still nothing is lost or written twice.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from syncer import Stream
from syncer.checkpoint import Checkpoint
from syncer.clock import Clock
from syncer.seen import Seen
from syncer.sinks import sink as make
from tests.world import BEGAN, Api, answer, run, stream, tree

JUMPS = [
    timedelta(0),
    *(sign * step for sign in (1, -1) for step in (
        timedelta(milliseconds=1),  # NTP slews
        timedelta(seconds=1),  # and steps
        timedelta(hours=1),  # daylight saving, done wrong
        timedelta(hours=8),  # a laptop that slept
        timedelta(days=365),
    )),
]  # fmt: skip
ZONES = [UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns"), timezone(timedelta(hours=14))]


@dataclass
class Hands:
    """A monotonic clock that moves only in waits, and a wall that `jump` moves with every look at it."""

    jump: Callable[[], timedelta] = timedelta
    zone: Callable[[], Any] = lambda: UTC
    seconds: float = 5000.0
    waits: list[float] = field(default_factory=list)
    looks: int = 0
    off: timedelta = timedelta(0)

    def now(self) -> datetime:
        self.looks += 1
        self.off += self.jump()
        if abs(self.off) > timedelta(days=20 * 365):
            self.off = timedelta(0)
        return (BEGAN + timedelta(seconds=self.seconds - 5000) + self.off).astimezone(self.zone())

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.waits.append(seconds)

    def clock(self) -> Clock:
        return Clock(now=self.now, monotonic=lambda: self.seconds, sleep=self.sleep)


class Busy(Api):
    """An API that limits, fails and is spent now and then, always at the same requests, by a clock of its own."""

    def __init__(self, hands: Hands, *, tells: bool, records: list[dict[str, Any]] | None = None) -> None:
        super().__init__(records)
        self.hands, self.tells = hands, tells
        self.asked: list[tuple[float, str]] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.date = BEGAN + timedelta(seconds=self.hands.seconds - 5000)
        self.asked.append((self.hands.seconds, request.url or ""))
        given = self._refused(request, len(self.asked))
        if given is None:  # not `or`: a refusal counts as false
            given = super().send(request, *args, **options)
        if not self.tells:
            del given.headers["Date"]
        if len(self.asked) % 4 == 0:
            given.headers["X-RateLimit-Remaining"] = "0"
            given.headers["X-RateLimit-Reset"] = str(int(self.date.timestamp()) + 11) if self.tells else "11"
        return given

    def _refused(self, request: requests.PreparedRequest, number: int) -> requests.Response | None:
        moment = "%a, %d %b %Y %H:%M:%S GMT"
        headers = {"Date": self.date.strftime(moment)}
        if number % 5 == 2:
            later = (self.date + timedelta(seconds=7)).strftime(moment)
            return answer(request, b"{}", 429, {**headers, "Retry-After": later if self.tells else "7"})
        return answer(request, b"{}", 503, headers) if number % 5 == 4 else None


@dataclass(frozen=True)
class Told:
    """Everything about some pulls but what only the wall knows."""

    asked: list[tuple[float, str]]
    waited: list[float]
    output: dict[str, Any]
    state: Checkpoint


def pulls(out: Path, source: Stream, sink: str, hands: Hands, *, tells: bool, dice: int) -> tuple[Told, set[str]]:
    """Two pulls one after the other, the second with news; what there is to tell, and the stamps in it."""
    api = Busy(hands, tells=tells)
    records = api.records
    api.records = records[:8]
    random.seed(dice)
    for records_now in (records[:8], records):
        api.records = records_now
        report = run(out, source, sink, api, clock=hands.clock(), concurrency=1)
        assert 0 == report.exit_code, report.text()
    left = make(sink, out, "shop", source).peek()
    assert left is not None
    assert left.counts.balanced()
    known = tree(out, sink)
    text = json.dumps(known, default=lambda value: value.decode())
    stamps = set(re.findall(r'\\*"at\\*":\\*"([^"\\]+)', text)) | {left.saved, left.started}
    output = json.loads(re.sub(r'(\\*"at\\*":\\*")[^"\\]+', r"\1", text))
    state = replace(
        left, saved="", started="", seen=unstamped(left.seen, stamps), baseline=unstamped(left.baseline, stamps)
    )
    return Told(api.asked, hands.waits, output, state), stamps


def unstamped(seen: Seen, stamps: set[str]) -> Seen:
    """The same without its stamps, which join the others."""
    text = json.dumps(seen.to_json())
    stamps |= set(re.findall(STAMP, text))
    return Seen.from_json(json.loads(re.sub(STAMP, '""', text)))


STAMP = r'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"'


@pytest.fixture
def fresh(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """An output directory that no pull has seen, on a machine that knows of no limit."""
    numbers = iter(range(1_000_000))

    def made() -> Path:
        out = memory / str(next(numbers))
        monkeypatch.setenv("SYNCER_STATE", str(out / "state"))
        return out / "out"

    yield made
    random.seed()


CASES = [(kind, style, sink) for kind, style in (("refresh", "token"), ("refresh", "page"), ("incremental", "keyset"))
         for sink in ("jsonl", "sqlite")]  # fmt: skip


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("tells", [True, False], ids=["a server with a clock", "a server without"])
@pytest.mark.parametrize(("kind", "style", "sink"), CASES)
def test_the_walls_jumps_change_nothing_but_stamps(
    fresh: Callable[[], Path], kind: str, style: str, sink: str, tells: bool, seed: int, long: bool
) -> None:
    source = stream(style, incremental=kind == "incremental")
    calm, stamps = pulls(fresh(), source, sink, Hands(), tells=tells, dice=seed)
    assert sum(calm.waited) > 20
    jumps = 0

    for life in range(300 if long else 6):
        dice = random.Random(f"{seed} {kind} {style} {sink} {tells} {life}")
        hands = Hands(lambda dice=dice: dice.choice(JUMPS), lambda dice=dice: dice.choice(ZONES))  # type: ignore[misc]
        found, others = pulls(fresh(), source, sink, hands, tells=tells, dice=seed)
        jumps += hands.looks

        assert others != stamps, "the wall did not jump"
        assert calm.output == found.output, f"seed {seed}, life {life}"
        if tells:
            assert calm == found, f"seed {seed}, life {life}"
        elif kind == "refresh":
            assert (calm.asked, calm.waited) == (found.asked, found.waited), f"seed {seed}, life {life}"

    assert jumps > 20 * life
    print(f"{jumps} jumps")
