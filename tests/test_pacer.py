"""When a request may go out: in every window, in every process, after every restart, and as the server says."""

from __future__ import annotations

import os
import tempfile
import time as real
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer import HOUR, ApiKey, Basic, Bearer, Rate
from syncer.clock import Clock
from syncer.errors import StoppedError
from syncer.events import Noticed, Waiting
from syncer.pacer import Pacer, place
from tests.api import Api, connector
from tests.command import Project, ended
from tests.scripted import BEGINNING, Time, Watcher

steady = settings(derandomize=True, deadline=None, database=None, max_examples=150)


@dataclass(frozen=True)
class Limit:
    """What a server said of one limit."""

    name: str = "test"
    remaining: float | None = None
    quota: float | None = None
    reset: float | None = None
    refill: float | None = None
    cost: float = 1.0
    scope: str = ""


def go(pacer: Pacer) -> None:
    """One request whose answer comes at once."""
    pacer.acquire()
    pacer.arrived()


# --- the declared rate ---


def sends(pacer: Pacer, time: Time, pauses: list[float]) -> list[tuple[float, float]]:
    """When each request wanted to go, and when it went."""
    times = []
    for gap in pauses:
        time.seconds += gap
        wanted = time.seconds
        go(pacer)
        times.append((wanted, time.seconds))
    return times


@steady
@given(
    limit=st.integers(1, 6),
    per=st.sampled_from([0.05, 0.3, 1.0, 7.0, 60.0]),
    gaps=st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.1]) | st.floats(0, 90), min_size=1, max_size=40),
)
def test_no_window_of_time_ever_holds_more_requests_than_the_rate_allows(
    limit: int, per: float, gaps: list[float]
) -> None:
    time = Time()
    times = sends(Pacer(Rate(limit, per=per), time.clock, Watcher()), time, gaps)
    for (_, earlier), (_, later) in zip(times, times[limit:], strict=False):
        assert later - earlier >= per - 1e-9


@steady
@given(
    limit=st.integers(1, 6),
    per=st.sampled_from([0.05, 0.3, 1.0, 7.0]),
    gaps=st.lists(st.sampled_from([0.0, 0.001, 0.1]) | st.floats(0, 9), min_size=1, max_size=40),
)
def test_no_request_waits_longer_than_the_rate_makes_it(limit: int, per: float, gaps: list[float]) -> None:
    time = Time()
    times = sends(Pacer(Rate(limit, per=per), time.clock, Watcher()), time, gaps)
    for index, (wanted, went) in enumerate(times):
        free = times[index - limit][1] + per if index >= limit else wanted
        assert went == pytest.approx(max(wanted, free), abs=1e-6)


def test_a_burst_up_to_the_limit_goes_at_once_and_the_next_waits_for_the_window() -> None:
    time = Time()
    times = sends(Pacer(Rate(3, per=10.0), time.clock, Watcher()), time, [0.0] * 7)
    assert pytest.approx([0, 0, 0, 10, 10, 10, 20]) == [went - 1000.0 for _, went in times]


def test_without_a_rate_nothing_waits() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    sends(pacer, time, [0.0] * 1000)
    assert 0.0 == time.slept


def test_asking_for_the_delay_changes_nothing() -> None:
    time = Time()
    pacer = Pacer(Rate(1, per=10.0), time.clock, Watcher())
    assert pacer.delay() <= 0
    go(pacer)
    assert [pytest.approx(10.0)] * 3 == [pacer.delay() for _ in range(3)]


# --- the server's hold ---


def test_a_hold_keeps_the_next_request_back() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    pacer.hold(30.0, "quota spent")
    assert pytest.approx(30.0) == pacer.delay()
    go(pacer)
    assert pytest.approx(30.0) == time.slept
    go(pacer)
    assert pytest.approx(30.0) == time.slept


def test_a_shorter_hold_does_not_end_a_longer_one() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    pacer.hold(30.0, "first")
    pacer.hold(5.0, "second")
    assert pytest.approx(30.0) == pacer.delay()
    pacer.hold(40.0, "third")
    assert pytest.approx(40.0) == pacer.delay()


def test_of_hold_and_rate_the_longer_counts() -> None:
    time = Time()
    pacer = Pacer(Rate(1, per=10.0), time.clock, Watcher())
    go(pacer)
    pacer.hold(4.0, "short")
    assert pytest.approx(10.0) == pacer.delay()
    pacer.hold(25.0, "long")
    assert pytest.approx(25.0) == pacer.delay()


@pytest.mark.parametrize("tick", [0.0, 1e-6], ids=["a clock that stands", "a clock that runs"])
def test_a_wait_is_announced_with_its_length_its_reason_and_its_end(tick: float) -> None:
    time, watcher = Time(tick), Watcher()
    pacer = Pacer(Rate(1, per=20.0), time.clock, watcher)
    go(pacer)
    go(pacer)
    pacer.hold(30.0, "quota spent")
    go(pacer)
    announced = watcher.of(Waiting)
    assert ["rate 1/20s", "quota spent"] == [waiting.reason for waiting in announced]
    assert pytest.approx([20.0, 30.0], abs=1e-3) == [waiting.seconds for waiting in announced]
    ends = [BEGINNING + timedelta(seconds=20), BEGINNING + timedelta(seconds=50)]
    assert [pytest.approx(end.timestamp(), abs=1e-3) for end in ends] == [one.until.timestamp() for one in announced]


def test_waits_under_a_second_are_no_news() -> None:
    time, watcher = Time(), Watcher()
    pacer = Pacer(Rate(1, per=0.9), time.clock, watcher)
    go(pacer)
    go(pacer)
    assert pytest.approx(0.9) == time.slept
    assert [] == watcher.events


# --- stopping ---


def test_a_stop_during_a_wait_ends_it_within_a_tenth_of_a_second() -> None:
    time = Time()
    time.stop_after = 5.0
    pacer = Pacer(Rate(1, per=3600.0), time.clock, Watcher())
    go(pacer)
    with pytest.raises(StoppedError):
        pacer.acquire()
    assert 5.0 <= time.slept <= 5.1 + 1e-6


def test_after_a_stop_nothing_goes_out_and_nothing_is_counted() -> None:
    time = Time()
    pacer = Pacer(Rate(1, per=10.0), time.clock, Watcher())
    time.stop.signal = 15
    with pytest.raises(StoppedError):
        pacer.acquire()
    assert pacer.delay() <= 0
    assert 0.0 == time.slept


# --- evenly, where that is declared ---


def test_a_spread_rate_lets_the_first_go_at_once_and_the_others_at_even_intervals() -> None:
    time = Time()
    times = sends(Pacer(Rate(4, per=10.0, spread=True), time.clock, Watcher()), time, [0.0] * 6 + [60.0, 0.0])
    went = [went - 1000.0 for _, went in times]
    assert pytest.approx([0, 2.5, 5, 7.5, 10, 12.5, 72.5, 75], abs=1e-3) == went


def test_a_spread_rate_makes_up_for_a_late_request_and_still_keeps_the_rate() -> None:
    time = Time()
    times = sends(Pacer(Rate(10, per=10.0, spread=True), time.clock, Watcher()), time, [0.0, 1.6] + [0.0] * 30)
    went = [went - 1000.0 for _, went in times]
    assert pytest.approx([0, 1.6, 2.0, 3.0, 4.0], abs=1e-3) == went[:5]
    assert all(later - earlier >= 10.0 - 1e-6 for earlier, later in zip(went, went[10:], strict=False))


# --- from when a request counts ---


def test_a_request_counts_from_when_its_answer_came_because_that_is_the_latest_it_can_have_arrived() -> None:
    time = Time()
    pacer = Pacer(Rate(1, per=10.0), time.clock, Watcher())
    pacer.acquire()
    time.seconds += 0.1
    pacer.arrived()
    assert pytest.approx(10.0) == pacer.delay()


def test_a_request_whose_answer_is_not_there_yet_counts_from_later_than_it_went() -> None:
    time = Time()
    pacer = Pacer(Rate(1, per=10.0), time.clock, Watcher())
    pacer.acquire()
    assert pacer.delay() > 10.0


@pytest.mark.parametrize("late", [0.0, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("per", [1.0, 60.0])
def test_waiting_for_answers_costs_no_more_than_a_fiftieth_of_the_rate(late: float, per: float) -> None:
    time = Time()
    pacer = Pacer(Rate(20, per=per), time.clock, Watcher())
    began = time.seconds
    for _ in range(2000):
        pacer.acquire()
        if late <= per / 20:  # one after another, as long as that is no slower than the rate itself
            time.seconds += late
        else:
            time.seconds += per / 40
        pacer.arrived()
    used = 2000 / 20 * per / (time.seconds - began)
    assert used > 0.975


def test_an_answer_that_is_late_now_and_then_is_waited_for() -> None:
    time = Time()
    pacer = Pacer(Rate(1, per=1.0), time.clock, Watcher())
    for number in range(40):
        pacer.acquire()
        time.seconds += 0.15 if number % 20 == 19 else 0.0
        pacer.arrived()
        assert pytest.approx(1.0) == pacer.delay()


# --- together, and after a restart ---


@steady
@given(
    limits=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    per=st.sampled_from([0.3, 1.0, 60.0]),
    data=st.data(),
)
def test_no_window_holds_too_many_of_all_the_requests_of_all_processes(
    limits: list[int], per: float, data: st.DataObject
) -> None:
    wall, written = [0.0], 0.0
    time = Time()
    clock = Clock(
        now=lambda: time.now() + timedelta(seconds=wall[0]),
        monotonic=time.monotonic,
        sleep=time.sleep,
        stop=time.stop,
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pacing" / "shared"
        boot = "first"

        def pacer(limit: int) -> Pacer:
            return Pacer(Rate(limit, per=per), clock, Watcher(), path, boot)

        pacers = [pacer(limit) for limit in limits]
        sent: list[float] = []
        moves = ["go", "go", "go", "go", "restart", "jump", "damage", "boot"]
        for _ in range(data.draw(st.integers(5, 40))):
            which = data.draw(st.integers(0, len(limits) - 1))
            match data.draw(st.sampled_from(moves)):
                case "go":
                    time.seconds += data.draw(st.sampled_from([0.0, 0.0, 0.01, per / 3]))
                    pacers[which].acquire()
                    sent.append(time.seconds)
                    written = wall[0]
                    time.seconds += data.draw(st.sampled_from([0.0, 0.02]))
                    pacers[which].arrived()
                    recent = [at for at in sent if at > sent[-1] - per + 1e-6]
                    assert len(recent) <= limits[which]
                case "restart":
                    pacers[which] = pacer(limits[which])
                case "jump":
                    wall[0] = data.draw(st.sampled_from([-1e7, -60.0, 0.0, 60.0, 1e7]))
                case "damage" if path.exists():
                    content = bytearray(path.read_bytes())
                    match data.draw(st.sampled_from(["cut", "flip", "empty", "ring"])):
                        case "cut":
                            content = content[: data.draw(st.integers(0, len(content)))]
                        case "flip" if content:
                            content[data.draw(st.integers(0, max(0, content.find(b"\n"))))] ^= 1 << data.draw(
                                st.integers(0, 7)
                            )
                        case "empty":
                            content = bytearray()
                        case "ring" if len(content) > 4096:
                            content[4096:] = bytes(len(content) - 4096)
                    path.write_bytes(content)
                case "boot":  # the count begins again; the wall goes on, or is set back
                    boot = f"{boot}'"
                    shift = data.draw(st.sampled_from([0.0, 500.0]))
                    sent = [at - shift for at in sent]
                    time.seconds -= shift
                    wall[0] = min(wall[0], written) + shift
                    pacers = [pacer(limit) for limit in limits]
                    pacers[0].delay()


def test_a_restart_does_not_begin_with_a_burst(tmp_path: Path) -> None:
    time = Time()
    rate = Rate(5, per=HOUR)
    sends(Pacer(rate, time.clock, Watcher(), tmp_path / "known"), time, [0.0] * 5)
    assert pytest.approx(HOUR) == Pacer(rate, time.clock, Watcher(), tmp_path / "known").delay()


@pytest.mark.parametrize(("gone", "left"), [(1000.0, HOUR - 1000.0), (-1000.0, HOUR), (2 * HOUR, -HOUR)])
def test_after_the_machine_was_started_anew_the_wall_says_how_long_ago_it_was(
    tmp_path: Path, gone: float, left: float
) -> None:
    time, rate = Time(), Rate(1, per=HOUR)
    go(Pacer(rate, time.clock, Watcher(), tmp_path / "known", "first"))
    clock = Clock(now=lambda: BEGINNING + timedelta(seconds=gone), monotonic=lambda: 3.0)
    assert pytest.approx(left) == Pacer(rate, clock, Watcher(), tmp_path / "known", "second").delay()


def test_a_moment_that_is_still_to_come_is_taken_as_now(tmp_path: Path) -> None:
    time = Time()
    rate = Rate(1, per=60.0)
    go(Pacer(rate, time.clock, Watcher(), tmp_path / "known", "same"))
    time.seconds -= 900
    assert pytest.approx(60.0) == Pacer(rate, time.clock, Watcher(), tmp_path / "known", "same").delay()


def test_the_walls_jumps_change_nothing(tmp_path: Path) -> None:
    time, wall = Time(), [BEGINNING]
    clock = Clock(now=lambda: wall[0], monotonic=time.monotonic, sleep=time.sleep)
    pacer = Pacer(Rate(1, per=60.0), clock, Watcher(), tmp_path / "known")
    go(pacer)
    for days in (-4000, 4000, 0):
        wall[0] = BEGINNING + timedelta(days=days)
        assert pytest.approx(60.0) == pacer.delay()
        time.seconds += 1
        assert pytest.approx(59.0) == pacer.delay()
        time.seconds -= 1


def test_a_higher_limit_makes_room_and_forgets_nothing(tmp_path: Path) -> None:
    time = Time()
    sends(Pacer(Rate(3, per=HOUR), time.clock, Watcher(), tmp_path / "known"), time, [0.0] * 3)
    wide = Pacer(Rate(5000, per=HOUR), time.clock, Watcher(), tmp_path / "known")
    sends(wide, time, [0.0] * 4997)
    assert pytest.approx(HOUR) == wide.delay()
    assert pytest.approx(HOUR) == Pacer(Rate(3, per=HOUR), time.clock, Watcher(), tmp_path / "known").delay()


def test_a_hold_is_for_every_process_and_for_the_next_run(tmp_path: Path) -> None:
    time = Time()
    one, other = (Pacer(None, time.clock, Watcher(), tmp_path / "known") for _ in range(2))
    go(other)
    one.hold(30.0, "quota spent")
    assert pytest.approx(30.0) == other.delay()
    assert pytest.approx(30.0) == Pacer(Rate(5), time.clock, Watcher(), tmp_path / "known").delay()


def test_a_wait_says_that_others_use_the_limit_too(tmp_path: Path) -> None:
    time, watcher = Time(), Watcher()
    one, other = (Pacer(Rate(2, per=20.0), time.clock, watcher, tmp_path / "known") for _ in range(2))
    sends(one, time, [0.0, 0.0, 0.0])
    go(other)
    go(one)
    go(one)
    assert ["rate 2/20s", "rate 2/20s, shared"] == [waiting.reason for waiting in watcher.of(Waiting)][:2]


# --- a place to keep it, or none ---


@pytest.mark.parametrize("damage", ["text", "empty", "link", "directory", "pipe", "slot"])
def test_what_is_damaged_or_planted_is_set_aside_and_nothing_goes_for_one_window(tmp_path: Path, damage: str) -> None:
    time, watcher = Time(), Watcher()
    path, elsewhere = tmp_path / "known", tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    pacer = Pacer(Rate(2, per=60.0), time.clock, watcher, path)
    sends(pacer, time, [0.0, 0.0])
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "text":
            path.write_text("planted")
        case "empty":
            path.touch()
        case "link":
            path.symlink_to(elsewhere)
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "slot":
            path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    time.seconds += 30.0
    assert pytest.approx(60.0) == Pacer(Rate(2, per=60.0), time.clock, watcher, path).delay()
    assert pytest.approx(60.0) == pacer.delay()
    (notice,) = watcher.of(Noticed)
    assert "is damaged and was set aside; nothing is sent for 60 s" in notice.text
    assert (tmp_path / "known.damaged").exists()
    assert "mine" == elsewhere.read_text()


def test_a_file_that_is_missing_knows_of_nothing(tmp_path: Path) -> None:
    watcher = Watcher()
    assert Pacer(Rate(1, per=60.0), Time().clock, watcher, tmp_path / "deep" / "er" / "known").delay() <= 0
    assert [] == watcher.events
    assert ["known"] == [file.name for file in (tmp_path / "deep" / "er").iterdir()]
    assert 0o700 == (tmp_path / "deep" / "er").stat().st_mode & 0o777
    assert 0o600 == (tmp_path / "deep" / "er" / "known").stat().st_mode & 0o777


@pytest.mark.parametrize("hindrance", ["file", "open to others", "link"])
def test_where_nothing_can_be_kept_each_process_paces_itself_and_says_so(tmp_path: Path, hindrance: str) -> None:
    time, watcher = Time(), Watcher()
    home = tmp_path / "home"
    match hindrance:
        case "file":
            home.touch()
        case "open to others":
            home.mkdir()
            home.chmod(0o777)
        case "link":
            (tmp_path / "other").mkdir(mode=0o700)
            home.symlink_to(tmp_path / "other")
    pacer = Pacer(Rate(2, per=60.0), time.clock, watcher, home / "known")
    assert pytest.approx([0, 0, 60]) == [went - 1000.0 for _, went in sends(pacer, time, [0.0] * 3)]
    (notice,) = watcher.of(Noticed)
    assert "the limit is not shared with other pulls" in notice.text
    assert "SYNCER_STATE names another directory" in notice.text


def test_a_file_that_is_lost_on_the_way_costs_a_window_not_the_limit(tmp_path: Path) -> None:
    time, watcher = Time(), Watcher()
    pacer = Pacer(Rate(2, per=60.0), time.clock, watcher, tmp_path / "home" / "known")
    sends(pacer, time, [0.0, 0.0])
    for file in (tmp_path / "home").iterdir():
        file.unlink()
    (tmp_path / "home").rmdir()
    (tmp_path / "home").touch()
    assert pytest.approx(60.0) == pacer.delay()
    assert 1 == len(watcher.of(Noticed))


def test_a_process_that_is_stopped_with_the_lock_in_its_hand_does_not_stop_the_others(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    time, watcher = Time(), Watcher()
    path = tmp_path / "known"
    pacer = Pacer(Rate(1, per=60.0), time.clock, watcher, path)
    go(pacer)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert pytest.approx(60.0) == pacer.delay()
    assert 4.0 < time.slept < 6.0
    assert "a process that is stopped holds its lock" in watcher.of(Noticed)[0].text


def test_what_nobody_has_used_for_long_is_cleared_away(tmp_path: Path) -> None:
    for name, age in (("old", 200 * 86400), ("new", 86400)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (real.time() - age,) * 2)
    Pacer(None, Time().clock, Watcher(), tmp_path / "known").delay()
    assert ["known", "new"] == sorted(file.name for file in tmp_path.iterdir())


def test_the_name_depends_on_host_and_secret_and_shows_neither() -> None:
    origin = ("https", "api.example.org", 443)
    environment = {"SYNCER_STATE": "/state", "TOKEN": "hunter2", "USER": "hunter2", "EMPTY": ""}
    names = [
        place(origin, None, environment),
        place(("https", "api.example.org", 8443), None, environment),
        place(origin, Bearer("TOKEN"), environment),
        place(origin, Bearer("TOKEN"), {**environment, "TOKEN": "other"}),
        place(origin, Basic("USER", "TOKEN"), environment),
    ]
    assert 5 == len(set(names))
    assert names[2] == place(origin, ApiKey("TOKEN", header="X-Key"), {**environment, "TOKEN": "hunter2\n"})
    for name in names:
        assert name
        assert Path("/state/pacing") == name.parent
        assert set(name.name) <= set("0123456789abcdef")


def test_the_state_directory_is_the_users_own_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SYNCER_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [place("", None, {}), place("", None, {"XDG_STATE_HOME": "/x"}), place("", None, {"XDG_STATE_HOME": "x"})]
    local = tmp_path / ".local/state/syncer/pacing"
    assert [local, Path("/x/syncer/pacing"), local] == [path.parent if path else None for path in found]


# --- the server's word ---


def said(remaining: float | None, reset: float | None = None, **more: Any) -> list[Limit]:
    return [Limit(remaining=remaining, reset=reset, **more)]


def test_never_more_than_what_is_left_until_it_is_whole_again(tmp_path: Path) -> None:
    time = Time()
    one, other = (Pacer(None, time.clock, Watcher(), tmp_path / "known") for _ in range(2))
    go(one)
    one.learn(said(3, 60.0))
    for pacer in (one, other, one):
        assert pacer.delay() <= 0
        go(pacer)
    assert [pytest.approx(60.0)] * 2 == [one.delay(), other.delay()]
    go(one)
    assert pytest.approx(60.0, abs=1e-3) == time.slept
    assert other.delay() <= 0


def test_the_servers_word_is_obeyed_over_a_higher_declared_rate_and_never_lifts_a_lower_one() -> None:
    time = Time()
    pacer = Pacer(Rate(2, per=10.0), time.clock, Watcher())
    go(pacer)
    pacer.learn(said(0, 50.0))
    assert pytest.approx(50.0) == pacer.delay()
    go(pacer)
    pacer.learn(said(4000, 50.0))
    go(pacer)
    assert pytest.approx(10.0) == pacer.delay()


def test_a_request_that_cost_nothing_is_given_back() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    for _ in range(20):
        go(pacer)
        pacer.learn(said(5, 60.0))
    assert pacer.delay() <= 0


def test_of_answers_that_overtake_one_another_the_lower_figure_counts(tmp_path: Path) -> None:
    time = Time()
    one, other = (Pacer(None, time.clock, Watcher(), tmp_path / "known") for _ in range(2))
    go(one)
    one.learn(said(3, 60.0))
    one.acquire()
    other.acquire()
    other.learn(said(1, 60.0))
    one.learn(said(2, 60.0))  # was answered first, and comes last
    go(one)
    assert pytest.approx(60.0) == one.delay()


def test_a_leaky_bucket_fills_again_as_the_server_says() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    go(pacer)
    pacer.learn(said(2, refill=0.5, quota=40))
    times = sends(pacer, time, [0.0] * 4)
    assert pytest.approx([0, 0, 2, 4], abs=1e-3) == [went - 1000.0 for _, went in times]


def test_a_bucket_never_holds_more_than_its_size() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    go(pacer)
    pacer.learn(said(2, refill=0.5, quota=3))
    time.seconds += 3600
    assert pytest.approx([0, 0, 0, 2, 4], abs=1e-3) == [t - 4600.0 for _, t in sends(pacer, time, [0.0] * 5)]


def test_a_rate_that_the_server_names_without_a_quota_is_kept() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    go(pacer)
    pacer.learn(said(None, refill=0.5))
    assert pytest.approx([0, 2, 4], abs=1e-3) == [went - 1000.0 for _, went in sends(pacer, time, [0.0] * 3)]


def test_a_request_that_costs_more_takes_more() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    go(pacer)
    pacer.learn(said(25, 60.0, cost=10.0))
    go(pacer)
    go(pacer)
    assert pytest.approx(60.0) == pacer.delay()


def test_of_several_limits_the_tightest_counts() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    go(pacer)
    pacer.learn([Limit(name="day", remaining=0, reset=600.0), Limit(name="minute", remaining=0, reset=30.0)])
    assert pytest.approx(600.0) == pacer.delay()


def test_a_spread_rate_makes_what_is_left_last_until_it_is_whole_again() -> None:
    time = Time()
    pacer = Pacer(Rate(1000, per=10.0, spread=True), time.clock, Watcher())
    go(pacer)
    pacer.learn(said(6, 60.0))
    went = [went - 1000.0 for _, went in sends(pacer, time, [0.0] * 5)]
    assert pytest.approx(10.0, abs=1.5) == min(later - earlier for earlier, later in pairwise(went))


def test_when_others_use_the_limit_too_it_is_made_to_last() -> None:
    time = Time()
    alone, together = (Pacer(None, time.clock, Watcher()) for _ in range(2))
    left = 1000
    for number in range(1, 50):
        time.seconds += 0.1
        go(alone)
        alone.learn(said(1000 - number, 100.0 - 0.1 * number))
        go(together)
        left -= 3  # two for others
        together.learn(said(left, 100.0 - 0.1 * number))
    assert alone.delay() <= 0
    assert together.delay() > 0.1


def test_hostile_limits_do_no_harm(tmp_path: Path) -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher(), tmp_path / "known")
    for number in range(200):
        go(pacer)
        pacer.learn([Limit(name=f"{number}" * 50, remaining=1e15, reset=0.0, quota=0.0, cost=0.0, scope="ü" * 500)])
    assert (tmp_path / "known").read_bytes().index(b"\n") < 4096
    assert pacer.delay() <= 0


# --- a limit that nobody names ---


class Limiter:
    """A server that allows `limit` requests in any `per` seconds and says nothing of it."""

    def __init__(self, time: Time, limit: int, per: float = 1.0) -> None:
        self.time, self.limit, self.per = time, limit, per
        self.passed: list[float] = []
        self.refused: list[float] = []

    def ask(self, pacer: Pacer, took: float = 0.003) -> None:
        pacer.acquire()
        now = self.time.seconds
        recent = [at for at in self.passed[-self.limit :] if at > now - self.per]
        self.time.seconds += took
        pacer.arrived()
        (self.refused if len(recent) >= self.limit else self.passed).append(now)
        if len(recent) >= self.limit:
            pacer.limited()

    def until(self, pacer: Pacer, seconds: float) -> None:
        while self.time.seconds < seconds:
            self.ask(pacer)


@pytest.mark.parametrize(("limit", "per"), [(50, 1.0), (5, 1.0), (60, 60.0), (100, 10.0)])
def test_a_limit_that_nobody_names_is_found_with_few_refusals_and_then_kept(limit: int, per: float) -> None:
    time = Time()
    server, pacer = Limiter(time, limit, per), Pacer(None, time.clock, Watcher())
    server.until(pacer, 1000.0 + 4 * 60)
    finding, passed = len(server.refused), len(server.passed)
    server.until(pacer, 1000.0 + 10 * 60)
    assert finding < max(0.05 * passed, 10)
    assert finding == len(server.refused)
    assert len(server.passed) - passed > 0.8 * limit / per * 6 * 60


def test_what_was_found_out_is_remembered_by_the_next_run(tmp_path: Path) -> None:
    time = Time()
    server = Limiter(time, 50)
    server.until(Pacer(None, time.clock, Watcher(), tmp_path / "known"), 1060.0)
    refused, passed = len(server.refused), len(server.passed)
    assert refused
    time.seconds += 60
    server.until(Pacer(None, time.clock, Watcher(), tmp_path / "known"), 1180.0)
    assert refused == len(server.refused)
    assert len(server.passed) - passed > 0.9 * 50 * 60


def test_a_limit_is_tried_again_after_a_while_and_ever_more_seldom() -> None:
    time = Time()
    server, pacer = Limiter(time, 4), Pacer(None, time.clock, Watcher())
    server.until(pacer, 1000.0 + 2 * 3600)
    gaps = [later - earlier for earlier, later in pairwise(server.refused)]
    assert len(server.refused) <= 8
    assert gaps[-1] > 2000


def test_a_limit_that_has_gone_is_found_out_too() -> None:
    time = Time()
    server, pacer = Limiter(time, 5), Pacer(None, time.clock, Watcher())
    server.until(pacer, 1060.0)
    server.limit = 200
    server.until(pacer, 1000.0 + 1200)
    before = len(server.passed)
    server.until(pacer, 1000.0 + 1260)
    assert len(server.passed) - before > 10 * 60


def test_a_server_that_refuses_nothing_is_not_slowed_at_all() -> None:
    time = Time()
    server, pacer = Limiter(time, 10**9), Pacer(None, time.clock, Watcher())
    server.until(pacer, 1010.0)
    assert 0.0 == time.slept


def test_refusals_of_requests_that_were_under_way_together_count_as_one(tmp_path: Path) -> None:
    time = Time()
    server = Limiter(time, 50)
    pacers = [Pacer(None, time.clock, Watcher(), tmp_path / "known") for _ in range(4)]
    server.until(pacers[0], 1030.0)
    for pacer in pacers:
        pacer.acquire()
    for pacer in pacers:
        pacer.limited()
    began = time.seconds
    for _ in range(200):
        server.ask(pacers[0])
    assert 200 / (time.seconds - began) > 30


def test_a_refusal_holds_back_every_process_as_long_as_the_server_asks(tmp_path: Path) -> None:
    time = Time()
    one, other = (Pacer(None, time.clock, Watcher(), tmp_path / "known") for _ in range(2))
    go(one)
    one.limited(42.0, "limit (429 Too Many Requests)")
    assert pytest.approx(42.0) == other.delay()


def test_a_quota_is_waited_for_and_not_spread_over_its_hour() -> None:
    time = Time()
    pacer = Pacer(None, time.clock, Watcher())
    for _ in range(3):
        for _ in range(100):
            go(pacer)
        pacer.acquire()
        pacer.limited(HOUR)
    assert pytest.approx(2 * HOUR, rel=0.01) == time.slept


# --- real processes ---


def test_four_pulls_together_keep_one_limit(tmp_path: Path) -> None:
    arrived: list[float] = []
    with Api(records=4000, size=1) as api:
        api.misbehave = lambda asked: arrived.append(real.monotonic())
        project = Project(tmp_path)
        project.write(connector(api.url).replace('name="shop",', 'name="shop", rate=Rate(20),', 1))
        state = {"SYNCER_STATE": str(tmp_path / "state")}
        pulls = [
            project.start("pull", "shop", "--out", f"data{number}", "--max-pages", "20", env=state)
            for number in range(4)
        ]
        assert [0] * 4 == [ended(pull).code for pull in pulls]
    assert 80 == len(arrived)
    # A server that counts when a thread of it gets its turn counts a little late, now and then.
    assert all(later - earlier > 0.9 for earlier, later in zip(arrived, arrived[20:], strict=False))


def test_a_pull_that_is_killed_leaves_its_requests_counted(tmp_path: Path) -> None:
    with Api(records=4000, size=1) as api:
        project = Project(tmp_path)
        project.write(connector(api.url).replace('name="shop",', 'name="shop", rate=Rate(3, per=HOUR),', 1))
        state = {"SYNCER_STATE": str(tmp_path / "state")}
        first = project.start("pull", "shop", env=state)
        while len(api.seen) < 3:
            real.sleep(0.01)
        first.kill()
        first.wait()
        done = project.run("pull", "shop", "--patience", "1", env=state)
        assert 4 == done.code
        assert "the limit is spent" in done.said
        assert 3 == len(api.seen)
