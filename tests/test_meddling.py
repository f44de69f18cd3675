"""What happens to a pull from outside: stopped and woken, hung up, looked at, its files exchanged, its name taken.

Nothing is lost and nothing is there twice, whatever it is; where it cannot go on it says so and has not asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import syncer
from tests.api import Api, Asked, Reply, connector, record
from tests.command import PATIENCE, Project, ended, lines, until
from tests.test_endings import Changed, written
from tests.test_resume import killed
from tests.world import Api as Small
from tests.world import item, run, stream

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
SINKS = pytest.mark.parametrize("sink", ["jsonl", "sqlite"])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "home").mkdir()
    return Project(tmp_path / "home")


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


@pytest.fixture
def half(project: Project, api: Api) -> Project:
    """A project that has two pages of five, and an API that has forgotten who asked it."""
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop", "--max-pages", "2").code
    api.seen.clear()
    return project


def held(api: Api, number: int) -> threading.Event:
    """Hold the answer to a request back until the event is set."""
    gate = threading.Event()

    def wait(asked: Asked) -> Reply | None:
        if asked.number == number:
            gate.wait(PATIENCE)
        return None

    api.misbehave = wait
    return gate


# --- the process ---


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="whether a process is stopped is read from /proc")
def test_a_pull_that_slept_while_its_connection_was_dropped_goes_on_where_it_was(project: Project, api: Api) -> None:
    """SIGSTOP and SIGCONT, which is what a closed laptop is to a process."""
    project.write(connector(api.url))
    stopped = threading.Event()

    def sleep(asked: Asked) -> Reply | None:
        if asked.number == 3:
            process.send_signal(signal.SIGSTOP)
            until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
            stopped.set()
            return Reply(drop=True)
        return None

    api.misbehave = sleep
    process = project.start("pull", "shop", "--concurrency", "1")
    until(stopped.is_set)
    process.send_signal(signal.SIGCONT)
    done = ended(process)
    assert (0, EVERYTHING) == (done.code, project.output()), done.said
    assert ["", "4", "8", "8", "12", "16"] == [asked.query.get("cursor", "") for asked in api.seen]


@SINKS
def test_a_terminal_that_hangs_up_kills_and_the_next_pull_resumes_exactly(
    project: Project, api: Api, sink: str
) -> None:
    project.write(connector(api.url))
    gate = held(api, 3)
    process = project.start("pull", "shop", "--concurrency", "1", "--sink", sink)
    until(lambda: len(api.seen) == 3, process)
    process.send_signal(signal.SIGHUP)
    assert -signal.SIGHUP == process.wait(PATIENCE)
    gate.set()
    assert -signal.SIGHUP == ended(process).code
    done = project.run("pull", "shop", "--sink", sink, "--json")
    assert (0, 20) == (done.code, done.json()["streams"][0]["stored"]["written"])
    assert ["", "4", "8", "8", "12", "16"] == [asked.query.get("cursor", "") for asked in api.seen]


def test_under_nohup_a_pull_outlives_its_terminal(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    gate = held(api, 3)
    process = project.start("pull", "shop", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until(lambda: len(api.seen) >= 3, process)
    process.send_signal(signal.SIGHUP)
    gate.set()
    assert 0 == ended(process).code
    assert EVERYTHING == project.output()


@SINKS
def test_whoever_looks_while_a_page_is_fetched_sees_what_is_committed_and_holds_nothing_up(
    project: Project, api: Api, sink: str
) -> None:
    project.write(connector(api.url))
    gate = held(api, 3)
    process = project.start("pull", "shop", "--concurrency", "1", "--sink", sink)
    until(lambda: len(api.seen) == 3, process)
    status = project.run("status", "shop", "--sink", sink, "--json")
    rejects = project.run("rejects", "shop", "--sink", sink, "--json")
    runs = project.run("runs", "shop", "--json")
    assert (0, 0, 0) == (status.code, rejects.code, runs.code), status.said
    (row,), (work,) = status.json(), runs.json()
    assert (2, 8, "running") == (row["pages"], row["records"], work["status"])
    gate.set()
    assert 0 == ended(process).code


def test_the_process_in_a_lock_file_is_a_name_and_no_lock(half: Project) -> None:
    """Number 1 is always alive; whoever believed the number would wait for ever."""
    lock = half.data / "shop" / ".syncer" / "items.jsonl.lock"
    assert lock.exists()
    lock.write_text(f"process 1 on {socket.gethostname()}\n")
    assert 0 == half.run("pull", "shop").code
    assert EVERYTHING == half.output()


# --- the API, meanwhile ---


@SINKS
def test_a_page_that_comes_otherwise_after_a_kill_is_not_mixed_with_what_it_was(tmp_path: Path, sink: str) -> None:
    """Whatever was written of the page before the kill is gone; of what was committed nothing is asked for again."""
    source = stream("token", key=False)
    old = [{**item(number), "name": "old"} for number in range(1, 12)]
    new = [{**item(number), "name": "new"} for number in range(1, 12)]
    borders = set()
    for step in count(1, 3):
        out = tmp_path / str(step)
        if not killed(step, lambda out=out: run(out, source, sink, Small(old))):  # type: ignore[misc]
            break
        report = run(out, source, sink, Small(new))
        assert 0 == report.exit_code
        names = _names(out, sink)
        border = names.count("old")
        assert ["old"] * border + ["new"] * (11 - border) == names
        assert list(range(1, 12)) == written(out, sink)
        borders.add(border)
    assert {0, 3, 6, 9} <= borders <= {0, 3, 6, 9, 11}


def _names(out: Path, sink: str) -> list[str]:
    if sink == "jsonl":
        return [json.loads(line)["name"] for line in (out / "shop" / "items.jsonl").read_bytes().split(b"\n")[:-1]]
    with closing(sqlite3.connect(out / "shop" / "shop.db")) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM items ORDER BY rowid")]


@pytest.mark.parametrize(("sink", "key", "kept"), [("jsonl", True, 2), ("sqlite", True, 1), ("sqlite", False, 2)])
def test_a_record_that_stands_on_two_pages_is_kept_as_the_readme_says(
    tmp_path: Path, sink: str, key: bool, kept: int
) -> None:
    """Every one that came in files and in a table without a key; the last version in a table with one."""

    def overlap(body: dict[str, Any], number: int) -> dict[str, Any]:
        again = {**item(3), "name": "again"}
        return {**body, "items": [again, *body["items"]], "total": None} if number == 2 else {**body, "total": None}

    report = run(tmp_path, stream("token", key=key), sink, Changed(overlap))
    counts = report.streams[0].run
    assert (0, 12, True) == (report.exit_code, counts.fetched, counts.balanced())
    assert kept == written(tmp_path, sink).count(3)
    assert "again" in _names(tmp_path, sink)


# --- the files ---


def test_an_older_state_put_back_beside_a_newer_output_ends_in_the_same_output(half: Project, api: Api) -> None:
    state = half.data / "shop" / ".syncer" / "state.db"
    older = state.read_bytes()
    assert 0 == half.run("pull", "shop").code
    state.write_bytes(older)
    api.seen.clear()
    done = half.run("pull", "shop")
    assert (0, EVERYTHING) == (done.code, half.output()), done.said
    assert ["8", "12", "16"] == [asked.query.get("cursor", "") for asked in api.seen]


def test_an_empty_state_beside_an_output_vouches_for_nothing(half: Project, api: Api) -> None:
    before = half.output()
    (half.data / "shop" / ".syncer" / "state.db").write_bytes(b"")
    done = half.run("pull", "shop")
    assert (8, before, []) == (done.code, half.output(), api.seen)
    assert "no checkpoint vouches for them" in done.stdout


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(path.parent)  # its name must be short
        one.bind(path.name)


ODD: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a directory": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a socket": _socket,
}
PLACES = [
    *(("items.jsonl", odd) for odd in ODD),
    ("items.rejects.jsonl", "a FIFO"),
    *((".syncer/state.db", odd) for odd in ("a FIFO", "a directory", "a device")),
    *((".syncer/items.jsonl.lock", odd) for odd in ("a FIFO", "a socket")),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("file", "odd"), PLACES)
def test_what_is_no_file_in_a_files_place_is_said_and_nothing_is_asked(
    half: Project, api: Api, monkeypatch: pytest.MonkeyPatch, file: str, odd: str
) -> None:
    path = half.data / "shop" / file
    path.rename(path.with_name("kept"))
    monkeypatch.chdir(half.path)
    ODD[odd](path)
    done = half.run("pull", "shop")
    assert ([], True) == (api.seen, done.code in (6, 8)), done.said
    assert path.name in done.stdout
    path.rmdir() if odd == "a directory" else path.unlink()
    path.with_name("kept").rename(path)
    assert 0 == half.run("pull", "shop").code
    assert EVERYTHING == half.output()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("odd", ODD)
def test_neither_does_a_first_pull_write_into_what_is_no_file(
    project: Project, api: Api, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    project.write(connector(api.url))
    path = project.data / "shop" / "items.jsonl"
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(project.path)
    ODD[odd](path)
    done = project.run("pull", "shop")
    assert (6, []) == (done.code, api.seen), done.said
    assert path.name in done.stdout


def test_output_that_moves_takes_its_state_along_and_another_place_begins_anew(half: Project, api: Api) -> None:
    before = half.output()
    shutil.copytree(half.data, half.path / "moved")
    assert 0 == half.run("pull", "shop", "--out", "moved").code
    assert ["8", "12", "16"] == [asked.query.get("cursor", "") for asked in api.seen]
    api.seen.clear()
    assert 0 == half.run("pull", "shop", "--out", "other").code
    assert 5 == len(api.seen)
    for out in ("moved", "other"):
        assert EVERYTHING == (half.path / out / "shop" / "items.jsonl").read_bytes()
    assert before == half.output()


@SINKS
def test_a_state_that_a_newer_syncer_has_written_is_left_to_it(project: Project, api: Api, sink: str) -> None:
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop", "--max-pages", "2", "--sink", sink).code
    state = project.data / "shop" / (".syncer/state.db" if sink == "jsonl" else "shop.db")
    with closing(sqlite3.connect(state)) as connection, connection:
        (body,) = connection.execute("SELECT body FROM syncer_checkpoint").fetchone()
        newer = body.replace('"version":1', '"version":2', 1)
        connection.execute("UPDATE syncer_checkpoint SET body = ?, crc = ?", (newer, zlib.crc32(newer.encode())))
    before, asked = state.read_bytes(), len(api.seen)
    for arguments in (("pull", "shop"), ("status", "shop")):
        done = project.run(*arguments, "--sink", sink)
        assert (8, asked) == (done.code, len(api.seen)), done.said
        assert "format 2" in done.said
    assert before == state.read_bytes()


# --- the declaration ---


def test_a_cursor_of_another_make_is_told_by_the_version_of_its_stream(half: Project, api: Api) -> None:
    before = half.output()
    half.write(connector(api.url, stream="version=2"))
    done = half.run("pull", "shop")
    assert (8, before, []) == (done.code, half.output(), api.seen)
    assert "version: 1 → 2" in done.stdout


def test_two_connectors_of_one_name_are_refused_and_both_places_named(project: Project) -> None:
    project.write(connector("http://h", name="demo"), "demo")
    built_in = Path(syncer.__file__).parents[1] / "connectors" / "demo.py"
    for arguments in (("pull", "demo"), ("check", "demo"), ("list",)):
        done = project.run(*arguments)
        assert (0 if arguments == ("list",) else 2) == done.code
        assert "there are two connectors called demo" in done.said
        for place in (str(built_in), "home/connectors/demo.py"):
            assert place in re.sub(r"\n *", "", done.said)
    assert not project.data.exists()


@pytest.mark.parametrize("name", ["Shop", "shöp", "sho p", "-shop", "s" * 64, "shop."])
def test_a_name_that_files_may_confuse_is_no_connector(project: Project, api: Api, name: str) -> None:
    project.write(connector(api.url, name=name), name)
    done = project.run("pull", "--", name)
    assert (2, []) == (done.code, api.seen)
    assert f"{name!r} cannot be the name of a connector" in done.stderr
    assert not project.data.exists()


@pytest.mark.parametrize("value", ["..", "a/../b", "./a", "a//b", "a\nb", "a\r\nX-Evil: 1", "\x1b[31m", "/"])
def test_a_setting_that_would_lead_elsewhere_is_refused(project: Project, api: Api, value: str) -> None:
    project.write(connector(api.url, more='settings={"repo": "which"}').replace('"/items"', '"/{repo}/items"'))
    done = project.run("pull", "shop", "--set", f"repo={value}")
    assert (2, [], False) == (done.code, api.seen, project.data.exists()), done.said
    assert "cannot be part of a URL" in done.stderr


def test_a_setting_is_a_part_of_the_path_whatever_is_in_it(project: Project, api: Api) -> None:
    project.write(connector(api.url, more='settings={"repo": "which"}').replace('"/items"', '"/{repo}/items"'))
    assert 0 == project.run("pull", "shop", "--set", "repo=a b?c=d#e%2f..;é\\").code
    assert {"/a%20b%3Fc%3Dd%23e%252f..%3B%C3%A9%5C/items"} == {asked.path for asked in api.seen}
