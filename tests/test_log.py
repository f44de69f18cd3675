"""The log of a pull, as whoever collects it meets it: whole lines, no secrets, and a pull that does not care.

Most of it goes through the installed command and a real API. What happens to the file between two lines is done to
the real file, between two events given to the Log itself.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

from syncer import Connector, PageNumber, Stream, events
from syncer.clock import Clock, Worker
from syncer.errors import ConfigError
from syncer.events import Began, Committed, Ended, Event, Finished, Noticed, Requested, Told, Waiting
from syncer.log import Log, line
from syncer.pull import Options, pull
from tests.api import Api, Asked, Reply, connector, record
from tests.command import PATIENCE, Done, Project, ended, lines, until
from tests.scripted import Time, Watcher
from tests.test_secrets import AUTH, ENVIRONMENT, NEEDLES, STREAMS, TOKEN, carried, parrot
from tests.test_terminal import HARMFUL, HOSTILE
from tests.world import Item

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
KINDS = {kind.__name__.lower(): [field.name for field in fields(kind)] for kind in get_args(Event)}
HEAD = ["time", "level", "event", "run", "source", "stream"]
REFERENCE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()
SECRET = "s3cret-of-eight-and-more"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


def parsed(content: str | bytes) -> list[Any]:
    """Every line as JSON; the last one ends too."""
    text = content if isinstance(content, str) else content.decode()
    assert text.endswith("\n")
    return [json.loads(one) for one in text.removesuffix("\n").split("\n")]


def logged(path: Path) -> list[Any]:
    return parsed(path.read_bytes())


def kinds(rows: list[Any]) -> list[str]:
    return [row["event"] for row in rows]


def opened(target: Path | str, secrets: tuple[str, ...] = ()) -> tuple[Log, list[str]]:
    """A log on a stopped clock, and what it says of itself."""
    said: list[str] = []
    return Log(str(target), "4f2a9c1e", "shop", secrets, Time().clock, said.append), said


def page(number: int) -> Committed:
    return Committed("items", number, 4 * number, 4 * number, 0, 0, None)


# What a line says


def test_every_kind_of_event_is_a_line_with_its_fields_after_those_that_all_have(project: Project) -> None:
    """The second pull of a stream that is pulled anew each time has a note as well."""

    def misbehave(asked: Asked) -> Reply | None:
        if asked.number == 7:
            return Reply(429, {"Retry-After": "1"})
        return Reply(headers={"X-RateLimit-Remaining": "41", "X-RateLimit-Reset": "60"})

    with Api(RECORDS, misbehave=misbehave) as api:
        project.write(connector(api.url))
        project.run("pull", "shop")
        done = project.run("pull", "shop", "--log", "log.jsonl")
    rows = logged(project.path / "log.jsonl")
    assert (0, set(KINDS)) == (done.code, set(kinds(rows)))
    assert [] == [row for row in rows if list(dict.fromkeys([*HEAD, *KINDS[row["event"]]])) != list(row)]
    assert {(rows[0]["run"], "shop")} == {(row["run"], row["source"]) for row in rows}
    assert [None, "items"] == list(dict.fromkeys(row["stream"] for row in rows[:-1]))
    moments = [datetime.fromisoformat(row["time"]) for row in rows]
    assert (moments, {UTC}) == (sorted(moments), {moment.tzinfo for moment in moments})
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["time"]) for row in rows)


def test_the_log_tells_what_the_report_says(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(429, {"Retry-After": "1"}) if asked.number == 2 else None
    project.write(connector(api.url))
    report = project.run("pull", "shop", "--json", "--log", "log.jsonl").json()
    rows = logged(project.path / "log.jsonl")
    of = {kind: [row for row in rows if row["event"] == kind] for kind in KINDS}
    assert report["requests"] == len(of["requested"]) == 6
    assert report["retries"] == len(of["retrying"]) == 1
    assert report["received"] == sum(row["size"] for row in of["received"])
    assert report["waited"] == {row["reason"]: pytest.approx(row["seconds"], abs=0.001) for row in of["waited"]}
    pulled, last = report["streams"][0]["pulled"], of["committed"][-1]
    assert (20, {name: pulled[name] for name in pulled.keys() & last.keys()}) == (
        last["written"],
        {name: last[name] for name in pulled.keys() & last.keys()},
    )
    assert [("complete", 0)] == [(row["status"], row["exit_code"]) for row in of["ended"]]
    assert [0] == [row["exit_code"] for row in of["finished"]]


def test_the_reference_lists_exactly_the_events_there_are_and_their_fields() -> None:
    table = REFERENCE.partition("## What `--log` writes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`", said) for name, said in rows if name not in HEAD}
    assert HEAD == [name for name, _ in rows if name in HEAD]
    assert {name: [field for field in own if field != "stream"] for name, own in KINDS.items()} == documented
    assert list(KINDS) == list(documented)
    shown = json.loads(re.findall(r"<!-- test: log -->\n```json\n(.*)\n", REFERENCE)[0])
    assert [*HEAD, *(field for field in KINDS["committed"] if field != "stream")] == list(shown)


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (page(1), "info"),
        (Ended("items", "complete"), "info"),
        (Ended("items", "stopped"), "info"),
        (Finished(0, 1.0), "info"),
        (Noticed("n"), "warning"),
        (events.Retrying("r", 2), "warning"),
        (Ended("items", "failed", "why", "", 4), "error"),
        (Finished(143, 1.0), "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_line_has_the_level_that_a_collector_would_alert_on(event: Event, level: str) -> None:
    assert level == json.loads(line(event, "", "", "", None, ()))["level"]


@pytest.mark.parametrize(
    "value", [10**30, 0.1, None, datetime(2026, 1, 1, 12, tzinfo=UTC), "2026", float("inf"), "\ud800", ["a", 1]]
)
def test_whatever_value_an_event_carries_its_line_parses(value: Any) -> None:
    started = events.Started("items", True, 1, 2, value)
    parsed(line(started, "", "", "", None, (SECRET,)))


# What ends a pull before it begins is in the log too


def test_a_pull_that_ends_before_a_stream_begins_says_why_in_its_last_line(project: Project, api: Api) -> None:
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    done = project.run("pull", "shop", "--log", "log.jsonl")
    assert 5 == done.code
    (last,) = [row for row in logged(project.path / "log.jsonl") if row["event"] == "finished"]
    assert ("error", 5) == (last["level"], last["exit_code"])
    assert "the environment variable SHOP_TOKEN is not set" in last["error"]
    assert last["error"] in done.stderr
    assert last["hint"] in done.stderr


def test_a_warning_of_the_terminal_is_in_the_log(project: Project, api: Api) -> None:
    far = api.url.replace("127.0.0.1", "0.0.0.0")
    project.write(connector(far, more='auth=Bearer(env="SHOP_TOKEN")'))
    done = project.run("pull", "shop", "--log", "log.jsonl", env={"SHOP_TOKEN": "t0k"})
    notes = [row["text"] for row in logged(project.path / "log.jsonl") if row["event"] == "noticed"]
    assert (1, 1) == (done.stderr.count("over http"), sum("over http" in note for note in notes))


# No secrets, and nothing that could harm


@pytest.mark.parametrize("auth", AUTH)
def test_a_secret_that_the_server_repeats_is_in_no_log_ledger_or_metric(project: Project, auth: str) -> None:
    records = [record(number, name=None if number in (2, 6) else "fine") for number in range(1, 9)]
    with Api(dict.fromkeys(STREAMS, records), style="next") as api:
        api.misbehave = lambda asked: parrot(api, asked)
        project.write(connector(api.url, style="next", streams=STREAMS, more=f"auth={AUTH[auth]}"))
        options = ("--patience", "0.01s", "--log", "log.jsonl", "--metrics", "syncer.prom")
        done = project.run("pull", "shop", *options, env=ENVIRONMENT)
        assert (9, True) == (done.code, all(carried(asked) for asked in api.seen))
    written = [path for path in project.path.rglob("*") if path.suffix in (".jsonl", ".prom")]
    assert {"log.jsonl", "syncer.prom", "runs"} <= {name for path in written for name in (path.name, path.parent.name)}
    assert {} == {str(path): found for path in written if (found := [n for n in NEEDLES if n in path.read_bytes()])}
    assert set(STREAMS) == {row["stream"] for row in logged(project.path / "log.jsonl")} - {None}


def test_what_the_server_says_of_a_secret_shows_as_stars(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(body={f"you sent {TOKEN}": 1})
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    project.run("pull", "shop", "--log", "log.jsonl", env=ENVIRONMENT)
    (row,) = [row for row in logged(project.path / "log.jsonl") if row["event"] == "ended"]
    assert "you sent ***" in row["error"]


@pytest.mark.parametrize("place", [".env", "file", "command", "named like a secret", "proxy"])
def test_a_secret_is_kept_out_wherever_it_comes_from(project: Project, api: Api, place: str) -> None:
    """It stands in the connector's own base URL, the place from which the most of what is logged takes it."""
    (project.path / "secret").write_text(SECRET + "\n")
    given = {
        ".env": {},
        "file": {"SHOP_TOKEN_FILE": "secret"},
        "command": {"SHOP_TOKEN_COMMAND": "cat secret"},
        "named like a secret": {"SHOP_TOKEN": "an other one", "UNRELATED_PASSWORD": SECRET},
        "proxy": {"SHOP_TOKEN": "an other one", "SYNCER_PROXY": f"http://me:{SECRET}@proxy.example:1"},
    }[place]
    if place == ".env":
        (project.path / ".env").write_text(f"SHOP_TOKEN='{SECRET}'\n")
    api.misbehave = lambda asked: Reply(404)
    more = 'auth=Bearer(env="SHOP_TOKEN")'
    project.write(connector(f"{api.url}/{SECRET}", more=more))
    done = project.run("pull", "shop", "--log", "log.jsonl", env=given)
    rows = logged(project.path / "log.jsonl")
    assert (2, 1) == (done.code, len(api.seen))
    (url,) = [row["url"] for row in rows if row["event"] == "requested"]
    assert f"{api.url}/***/items" == url
    assert SECRET not in (project.path / "log.jsonl").read_text()


def test_hostile_text_of_a_server_stays_one_harmless_line(project: Project) -> None:
    """It is in the answer's names, in a link, in a limit's name and in a bookmark."""

    def misbehave(asked: Asked) -> Reply | None:
        if asked.path == "/names":
            return Reply(body={HOSTILE: 1})
        if asked.path == "/link":
            return Reply(body={"items": [], "next": f"http://evil.example/{HOSTILE}"})
        return Reply(headers={"RateLimit": '"\x1b[2J\x9b31m";r=41;t=60'})

    with Api([record(1, updated_at=HOSTILE)], style="next", misbehave=misbehave) as api:
        model = "class Item(BaseModel):\n    id: int\n    updated_at: str\n"
        own = 'replication_key="updated_at", since="after"'
        project.write(connector(api.url, style="next", streams=("items", "names", "link"), stream=own, model=model))
        for _ in range(2):
            project.run("pull", "shop", "--log", "log.jsonl")
    content = (project.path / "log.jsonl").read_bytes().decode()
    assert [] == HARMFUL.findall(content)
    assert 2 == len({row["run"] for row in parsed(content)})
    told = json.dumps(parsed(content), ensure_ascii=False)
    assert 3 <= len([row for row in parsed(content) if "pwned" in json.dumps(row)])
    assert json.dumps(HOSTILE, ensure_ascii=False)[1:-1] in told


# Where it goes


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere/log.jsonl", "the log nowhere/log.jsonl cannot be opened: No such file or directory"),
        (".", "the log . cannot be opened: Is a directory"),
        ("", "the log '' cannot be opened: No such file or directory"),
        ("connectors/shop.py/log", "the log connectors/shop.py/log cannot be opened: Not a directory"),
        ("data/shop/items.jsonl", "data/shop/items.jsonl lies inside the output, data/shop"),
        ("data/x/../shop/log", "data/x/../shop/log lies inside the output, data/shop"),
    ],
)
def test_a_log_that_never_can_be_one_is_refused_before_anything_is_asked(
    project: Project, api: Api, target: str, words: str
) -> None:
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--log", target)
    assert (2, "", []) == (done.code, done.stdout, api.seen)
    assert f"error: {words}" in done.stderr
    assert "→ give --log a file" in done.stderr


def test_the_variable_names_the_log_as_the_option_does(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    (project.path / ".env").write_text("SYNCER_LOG=of-dotenv.jsonl\n")
    assert 0 == project.run("pull", "shop").code
    assert 0 == project.run("pull", "shop", env={"SYNCER_LOG": "of-variable.jsonl"}).code
    assert ["finished"] * 2 == [
        logged(project.path / f"of-{place}.jsonl")[-1]["event"] for place in ("dotenv", "variable")
    ]


def test_a_log_is_added_to_and_readable_by_its_owner_only(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    runs = [project.run("pull", "shop", "--log", "log.jsonl", preexec_fn=lambda: os.umask(0)) for _ in range(2)]
    assert [0, 0] == [done.code for done in runs]
    assert ["finished", "finished"] == [
        kind for kind in kinds(logged(project.path / "log.jsonl")) if kind == "finished"
    ]
    assert 0o600 == (project.path / "log.jsonl").stat().st_mode & 0o777


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT])
def test_stderr_is_nothing_but_the_log_if_it_is_the_log(
    project: Project, api: Api, number: signal.Signals | None
) -> None:
    gate = threading.Event()
    api.misbehave = lambda asked: None if number is None or asked.number != 3 else gate.wait(PATIENCE) and None
    project.write(connector(api.url, streams=("items", "gone")))
    process = project.start("pull", "shop", "--log", "-", "-v")
    if number is not None:
        until(lambda: len(api.seen) == 3, process)
        process.send_signal(number)
        gate.set()
    done = ended(process)
    rows = parsed(done.stderr)
    assert (128 + number if number else 0) == done.code == rows[-1]["exit_code"]
    assert ("began", "finished") == (rows[0]["event"], rows[-1]["event"])
    assert "items" in done.stdout


def test_a_failing_stream_is_told_on_stderr_once_as_its_event(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(404)
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--log", "-", "--json")
    assert [("error", 2)] == [
        (row["level"], row["exit_code"]) for row in parsed(done.stderr) if row["event"] == "ended"
    ]
    assert 2 == done.json()["exit_code"]


# Nothing that happens to it ends a pull, or holds it up


def complete(done: Done, project: Project) -> None:
    assert (0, EVERYTHING) == (done.code, project.output()), done.stderr


def test_a_full_device_is_said_once_and_the_pull_is_complete(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--log", "/dev/full")
    complete(done, project)
    assert ["note: the log /dev/full loses lines: No space left on device; the pull goes on"] == [
        row for row in done.stderr.splitlines() if "note" in row
    ]
    assert "the log /dev/full loses lines" in project.run("runs", "show", "").stdout


@pytest.mark.parametrize("options", [{}, {"closed": True}, {"full": True}], ids=["open", "closed", "full"])
def test_a_stderr_that_takes_nothing_is_no_reason_to_stop(project: Project, api: Api, options: dict[str, bool]) -> None:
    project.write(connector(api.url))
    given: dict[str, Any] = {"preexec_fn": lambda: os.close(2)} if "closed" in options else {}
    with Path("/dev/full").open("w") as full:
        given |= {"stderr": full} if "full" in options else {}
        complete(project.run("pull", "shop", "--log", "-", **given), project)


@contextmanager
def unread(size: int) -> Iterator[tuple[int, int]]:
    """A pipe as small as pipes may be, that nobody reads."""
    import fcntl

    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def drained(reader: int) -> bytes:
    os.set_blocking(reader, False)
    pieces = []
    with suppress(BlockingIOError):
        while piece := os.read(reader, 65536):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.skipif(sys.platform != "linux", reason="a pipe's size can be set on Linux only")
def test_a_stderr_that_nobody_reads_does_not_hold_a_pull_up(project: Project) -> None:
    """The pipe holds a few of the lines; those beyond are lost and not waited for."""
    records = [record(number) for number in range(1, 401)]
    with Api(records) as api, unread(16384) as (reader, writer):
        project.write(connector(api.url))
        done = project.run("pull", "shop", "--log", "-", stderr=writer)
        assert (0, lines(records)) == (done.code, project.output())
        rows = drained(reader).split(b"\n")[:-1]
    assert 30 < len(rows) < 150
    assert ["began", "started"] == kinds([json.loads(row) for row in rows[:2]])


@pytest.mark.skipif(sys.platform != "linux", reason="a pipe's size can be set on Linux only")
def test_lines_after_those_that_nobody_read_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long line goes into a pipe in pieces: the rest of it may find no room, and the next line begins anew."""
    keep = os.dup(2)
    try:
        with unread(16384) as (reader, writer):
            os.dup2(writer, 2)
            log, said = opened("-")
            for _ in range(3):
                log(Noticed("x" * 10_000))
            first = drained(reader)
            log(page(1))
            rest = drained(reader)
    finally:
        os.dup2(keep, 2)
        os.close(keep)
    assert ["the log - loses lines: nobody reads it; the pull goes on"] == said
    assert 10_000 < len(first) <= 16384
    assert b"\n" == rest[:1]
    assert ["committed"] == kinds(parsed(rest[1:]))


def test_a_fifo_without_a_reader_loses_lines_and_one_with_a_reader_gets_them(project: Project, api: Api) -> None:
    fifo = project.path / "fifo"
    os.mkfifo(fifo)
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--log", "fifo")
    complete(done, project)
    assert 1 == done.stderr.count("the log fifo loses lines: No such device or address; the pull goes on")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = project.run("pull", "shop", "--log", "fifo")
        rows = kinds(parsed(drained(reader)))
        assert ("began", "finished") == (rows[0], rows[-1])
    finally:
        os.close(reader)
    assert "loses lines" not in done.said


def test_a_fifo_whose_reader_leaves_or_sleeps_does_not_hold_a_pull_up(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log, said = opened(fifo)
    for _ in range(300):  # more than any pipe holds
        log(Noticed("x" * 5000))
    asleep = drained(reader)
    os.close(reader)
    log(page(1))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log(page(2))
    again = drained(reader)
    os.close(reader)
    log.close()
    assert [f"the log {fifo} loses lines: Resource temporarily unavailable; the pull goes on"] == said
    assert 10 <= len(asleep.split(b"\n"))
    assert [2] == [row["pages"] for row in parsed(again.lstrip(b"\n"))]


@pytest.mark.parametrize("how", ["renamed", "removed", "replaced", "cut"])
def test_a_log_that_is_rotated_goes_on_in_the_new_file(project: Project, api: Api, how: str) -> None:
    """While the third page is asked for, as logrotate would; nothing of what is written is lost."""
    log, old = project.path / "log.jsonl", project.path / "log.jsonl.1"

    def rotate(asked: Asked) -> None:
        if asked.number == 3:
            if how == "cut":
                old.write_bytes(log.read_bytes())
                os.truncate(log, 0)
            else:
                os.link(log, old)
                log.unlink()
            if how == "replaced":
                log.touch(0o640)

    api.misbehave = rotate
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--log", "log.jsonl", "--concurrency", "1")
    complete(done, project)
    before, after = logged(old), logged(log)
    assert [1, 2, 3, 4, 5] == [row["pages"] for row in [*before, *after] if row["event"] == "committed"]
    assert ("began", "finished") == (before[0]["event"], after[-1]["event"])
    assert "loses lines" not in done.said
    assert "\0" not in log.read_text()


def test_a_log_whose_directory_is_gone_or_taken_is_said_once_and_found_again(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    log, said = opened(place / "log")
    log(page(1))
    place.rename(tmp_path / "moved")
    log(page(2))
    log(page(3))
    (place / "log").mkdir(parents=True)
    log(page(4))
    (place / "log").rmdir()
    log(page(5))
    log.close()
    assert [f"the log {place / 'log'} loses lines: No such file or directory; the pull goes on"] == said
    assert [1] == [row["pages"] for row in logged(tmp_path / "moved" / "log")]
    assert [5] == [row["pages"] for row in logged(place / "log")]


@contextmanager
def small_disk(place: Path, size: str = "64k") -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root on Linux can mount a small tmpfs")
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_was_full_for_a_while_costs_the_lines_of_that_while_only(tmp_path: Path) -> None:
    """What was written of the line that no longer fitted is closed, so that it takes none of the next ones along."""
    with small_disk(tmp_path / "disk") as disk:
        (disk / "ballast").write_bytes(b"x" * 40_000)
        log, said = opened(disk / "log")
        numbers = iter(range(1, 10_000))
        while not said:
            log(page(next(numbers)))
        log(page(next(numbers)))
        lost = len((disk / "log").read_bytes().split(b"\n")) - 1
        (disk / "ballast").unlink()
        last = next(numbers)
        log(page(last))
        log.close()
        *whole, torn, after = [row for row in (disk / "log").read_bytes().split(b"\n") if row]
    assert [f"the log {disk / 'log'} loses lines: No space left on device; the pull goes on"] == said
    assert list(range(1, lost + 1)) == [json.loads(row)["pages"] for row in whole]
    assert lost < last - 1
    with pytest.raises(ValueError, match="line 1"):
        json.loads(torn)
    assert last == json.loads(after)["pages"]


def test_a_line_that_another_pull_could_not_end_takes_none_of_this_one_along(tmp_path: Path) -> None:
    target = tmp_path / "log"
    target.write_bytes(b'{"time":"2026-01-01T00:00:00.000Z","ev')
    log, _ = opened(target)
    log(page(1))
    log(page(2))
    log.close()
    torn, *rows = target.read_bytes().split(b"\n")[:-1]
    assert (b'{"time":"2026-01-01T00:00:00.000Z","ev', [1, 2]) == (torn, [json.loads(row)["pages"] for row in rows])


def test_a_log_that_may_be_written_and_not_read_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = os.open

    def unreadable(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opens(path, flags, *rest)

    (tmp_path / "log").write_bytes(b"")
    monkeypatch.setattr(os, "open", unreadable)
    log, said = opened(tmp_path / "log")
    log(page(1))
    monkeypatch.undo()
    assert ([], 1) == (said, len(logged(tmp_path / "log")))


WRITER = """
import sys
from syncer.events import Noticed
from syncer.log import Log
from syncer.clock import Clock

log = Log(sys.argv[1], sys.argv[2], "shop", (), Clock(), print)
for number in range(400):
    log(Noticed(f"{number} " + sys.argv[2] * 3000))
"""


def test_lines_of_several_pulls_into_one_file_are_never_mixed(tmp_path: Path) -> None:
    from tests.command import CLEAN

    target = tmp_path / "log"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(target), name], env=CLEAN, stdout=-1) for name in "abcd"
    ]
    assert [(0, b"")] * 4 == [(writer.wait(PATIENCE * 2), writer.communicate()[0]) for writer in writers]
    rows = logged(target)
    assert {name: list(range(400)) for name in "abcd"} == {
        name: [int(row["text"].split()[0]) for row in rows if row["run"] == name] for name in "abcd"
    }
    assert {row["run"] * 3000 for row in rows} == {row["text"].split()[1] for row in rows}


def test_a_line_is_written_by_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    writes = os.write

    def counted(descriptor: int, data: Any) -> int:
        calls.append(bytes(data))
        return writes(descriptor, data)

    log, _ = opened(tmp_path / "log")
    monkeypatch.setattr(os, "write", counted)
    for event in (Began(("items",), "data", "jsonl"), Noticed("x" * 100_000), Finished(0, 1.0)):
        log(event)
    monkeypatch.undo()
    log.close()
    assert (tmp_path / "log").read_bytes().splitlines(keepends=True) == calls
    assert 3 == len(calls)


def test_a_name_of_a_log_that_is_too_long_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="File name too long"):
        opened(tmp_path / ("x" * 300))


def test_a_page_that_is_asked_for_ahead_is_about_its_own_stream(project: Project) -> None:
    """Also what comes of it when that stream is over, and nothing after the end of the pull."""
    gate, asked_for = threading.Event(), threading.Event()

    def misbehave(asked: Asked) -> Reply | None:
        if asked.path == "/items" and asked.query.get("page") == "2":
            asked_for.wait(PATIENCE)
            return Reply(404)
        if asked.path == "/items" and asked.query.get("page") in ("3", "4"):
            asked_for.set()
            gate.wait(PATIENCE)
        if asked.path == "/others" and asked.query.get("page") == "2":
            gate.set()
        return None

    with Api(40, misbehave=misbehave, style="page") as api:
        project.write(connector(api.url, style="page", streams=("items", "others")))
        done = project.run("pull", "shop", "--log", "log.jsonl")
    rows = logged(project.path / "log.jsonl")
    assert (8, "finished", 1) == (done.code, rows[-1]["event"], kinds(rows).count("finished"))
    told = [(row["stream"], urlsplit(row["url"]).path) for row in rows if row["event"] == "requested"]
    assert {("items", "/items"), ("others", "/others")} == set(told)
    ends = [place for place, row in enumerate(rows) if row["event"] == "ended"]
    assert [row for row in rows[ends[0] :] if row["event"] == "requested" and row["stream"] == "items"]


def test_nothing_is_told_once_a_pull_is_over(tmp_path: Path) -> None:
    """A request that nobody wants any more may be answered later than that."""
    gate, ahead = threading.Event(), threading.Event()

    def misbehave(asked: Asked) -> Reply | None:
        if asked.query.get("page") == "3":
            ahead.set()
            gate.wait(PATIENCE)
        if asked.query.get("page") == "2":
            ahead.wait(PATIENCE)
            return Reply(404)
        return None

    with Api(40, misbehave=misbehave, style="page") as api:
        pagination = PageNumber(pages="pages")
        stream = Stream(name="items", path="/items", records="items", model=Item, pagination=pagination)
        shop = Connector(name="shop", base_url=api.url, streams=(stream,))
        watcher = Watcher()
        report = pull(shop, [stream], Options(tmp_path), {}, Clock(), watcher)
        told, requests = list(watcher.events), report.requests
        working = [thread for thread in threading.enumerate() if isinstance(thread, Worker)]
        gate.set()
        for thread in working:
            thread.join(PATIENCE)
    assert ([8], True) == ([stream.error.exit_code for stream in report.streams if stream.error], len(working) > 0)
    assert (told, requests) == (watcher.events, report.requests)


def test_a_page_that_was_committed_is_one_that_was_asked_for(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    project.run("pull", "shop", "--log", "log.jsonl")
    rows = logged(project.path / "log.jsonl")
    of = {kind: [row["request"] for row in rows if row["event"] == kind] for kind in ("asking", "committed")}
    assert (of["committed"], 5, {24}) == (of["asking"], len(set(of["asking"])), set(map(len, of["asking"])))


def test_the_stream_of_a_line_is_the_one_at_hand(tmp_path: Path) -> None:
    log, _ = opened(tmp_path / "log")
    asked = Requested("GET", "http://h/items", 200, 0.1)
    until_then = Waiting(1.0, "limit", datetime(2026, 1, 1, tzinfo=UTC))
    for event in (
        asked,
        events.Started("items", False, 0, 0),
        events.Asking("items", "5d1f"),
        asked,
        Told("limit", 4),
        Ended("items", "complete"),
        asked,
    ):
        log(event)
    log(until_then)
    log.close()
    assert [None, "items", "items", "items", "items", "items", None, None] == [
        row["stream"] for row in logged(tmp_path / "log")
    ]
    assert "2026-01-01T00:00:00.000Z" == logged(tmp_path / "log")[-1]["until"]
