"""The ledger of runs: what every pull leaves behind, however it ends, and what `syncer runs` makes of it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from syncer import history, ledger
from syncer.cli.given import print_json
from syncer.errors import ConfigError
from syncer.events import Began, Committed, Ended, Noticed, Requested, Started, Waited
from syncer.ledger import EVERY, KEPT, LARGEST, Ledger
from syncer.report import Report, StreamReport
from tests.api import Api, Asked, Reply, connector, record
from tests.command import Project, ended, lines, until
from tests.scripted import Time
from tests.test_log import HOSTILE, small_disk
from tests.test_terminal import HARMFUL

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
LONG = 3600.0
REFERENCE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


def files(project: Project, source: str = "shop") -> list[Path]:
    """The files of the runs, the oldest first."""
    return sorted((project.data / source / ".syncer" / "runs").iterdir())


def last(path: Path) -> Any:
    """The last line of a run's file."""
    return json.loads(path.read_text().rstrip("\n").rpartition("\n")[2])


def recording(place: Path, time: Time | None = None, name: str = "4f2a9c1e") -> tuple[Ledger, list[str]]:
    """A ledger of one run, and what it says of itself."""
    said: list[str] = []
    clock = (time or Time()).clock
    row = {"id": name, "source": "shop", "started": clock.stamp(), "sink": "jsonl", "command": "syncer pull shop"}
    return Ledger(place / "shop", row, (), clock, said.append), said


def page(number: int) -> Committed:
    return Committed("items", number, 4 * number, 4 * number - 1, 1, 0, None)


ROW: dict[str, Any] = {
    "id": "4f2a9c1e",
    "source": "shop",
    "sink": "jsonl",
    "started": "2026-11-24T18:20:13.250Z",
    "ended": "2026-11-24T18:21:13.250Z",
    "status": "failed",
    "exit_code": 4,
    "seconds": 60.0,
    "version": "0.1.0",
    "process": 4711,
    "command": "syncer pull shop",
    "asked": ["items"],
    "requests": 7,
    "not_modified": 1,
    "retries": 2,
    "received": 1234,
    "waited": {"limit (429 Too Many Requests)": 3.5},
    "limits": {"x-ratelimit": {"remaining": 41.0, "reset": 60.0}},
    "streams": [
        {
            "stream": "items",
            "status": "failed",
            "pulled": {"pages": 2, "fetched": 8, "written": 7, "rejected": 1, "repeated": 0, "purged": 0},
            "run": {"pages": 2, "fetched": 8, "written": 7, "rejected": 1, "repeated": 0, "purged": 0},
            "stored": {"pages": 2, "fetched": 8, "written": 7, "rejected": 1, "repeated": 0, "purged": 0},
            "bookmark": "2026-01-01",
            "error": {"type": "UnavailableError", "message": "it is away", "hint": "come back", "exit_code": 4},
        }
    ],
    "notes": ["a note"],
    "resume": "syncer pull shop items",
    "error": None,
}


def written(out: Path, *rows: Any, source: str = "shop") -> list[Path]:
    """Files of runs as they might be found, one for each row."""
    folder = out / source / ".syncer" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"2026112{number}T000000.000Z-{number:08x}.jsonl" for number in range(len(rows))]
    for path, row in zip(paths, rows, strict=True):
        path.write_bytes(row if isinstance(row, bytes) else b"\n" + json.dumps(row).encode() + b"\n")
    return paths


# What a run leaves behind


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_a_run_is_one_file_that_says_what_the_report_says(project: Project, api: Api, sink: str) -> None:
    def misbehave(asked: Asked) -> Reply | None:
        if asked.number == 2:
            return Reply(429, {"Retry-After": "1"})
        return Reply(headers={"X-RateLimit-Remaining": "41", "X-RateLimit-Reset": "60"})

    api.misbehave = misbehave
    project.write(connector(api.url))
    report = project.run("pull", "shop", "--json", "--sink", sink, "--max-pages", "3").json()
    (path,) = files(project)
    row = last(path)
    own = {
        name: row.pop(name) for name in ("id", "version", "process", "command", "asked", "ended", "status", "resume")
    }
    assert [] == row.pop("notes")
    flag = "" if sink == "jsonl" else " --sink sqlite"
    assert ("capped", f"syncer pull shop{flag}") == (own["status"], own["command"])
    assert (["items"], f"syncer pull shop items{flag}") == (own["asked"], own["resume"])
    assert 0o600 == path.stat().st_mode & 0o777
    assert path.stem.endswith(own["id"])
    for name in ("started", "seconds"):
        report.pop(name), row.pop(name)
    assert report == row
    assert (4, 1) == (row["requests"], row["retries"])
    assert {"limit (429 Too Many Requests)"} == set(row["waited"])
    (shown,) = project.run("runs", "shop", "--json").json()
    assert {**row, **own} == {name: shown[name] for name in (*row, *own)}


def test_every_run_is_listed_the_newest_first_with_what_to_type_next(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop").code
    api.misbehave = lambda asked: Reply(404)
    assert 2 == project.run("pull", "shop").code
    api.misbehave = lambda asked: Reply(500) if "cursor" in asked.query else None
    assert 4 == project.run("pull", "shop").code
    name, head, *rows = project.run("runs").stdout.splitlines()
    assert ("shop", 3) == (name, len(files(project)))
    assert ["run", "started", "(UTC)", "took", "outcome", "records", "rejects"] == head.split()
    outcomes = [re.sub(r"^\w{8}  \S+ \S+  \S+ \S+ +", "", row).split("  ")[0] for row in rows if row[:1].strip()]
    assert ["failed, exit 4", "failed, exit 2", "complete"] == outcomes[:3]
    whys = [row for row in rows if row.startswith("  items: ")]
    assert ["500", "404"] == [re.findall(r"\d{3}", why)[0] for why in whys]
    tail = rows[-3:]
    assert tail[0].startswith("  → run the same command again later")
    assert "next     syncer pull shop items" == tail[1]
    assert f"details  syncer runs show {last(files(project)[-1])['id']}" == tail[2]


def test_one_run_is_shown_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    written(tmp_path, ROW)
    (row,) = ledger.runs(tmp_path)
    assert [
        "run       4f2a9c1e of shop",
        "started   2026-11-24 18:20:13 UTC",
        "ended     2026-11-24 18:21:13 UTC, after 1m 0s",
        "outcome   failed, exit 4",
        "requests  7 requests, 1.2 kB received, 2 retried, 1 not modified",
        "waited    3.5 s for limit (429 Too Many Requests)",
        "limit     x-ratelimit: 41 left when last heard of",
        "command   syncer pull shop",
        "",
        "stream  status  pages  fetched  written  rejected  repeated",
        "items   failed      2        8        7         1         0",
        "",
        "items: bookmark 2026-01-01",
        "note: a note",
        "",
        "items: it is away",
        "  → come back",
        "next     syncer pull shop items",
    ] == history.showing(row).splitlines()


def test_the_reference_lists_exactly_the_keys_of_a_run(project: Project, api: Api) -> None:
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    project.run("pull", "shop", env={"SHOP_TOKEN": "t"})
    project.run("pull", "shop")
    section = REFERENCE.partition("## What `runs --json` prints")[2].partition("\n## ")[0]
    documented = [
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    found = {name for path in files(project) for name in last(path)}
    assert (sorted(found), len(documented)) == (sorted(documented), len(set(documented)))


@pytest.mark.parametrize(
    ("reply", "options", "status", "code"),
    [
        (None, [], "complete", 0),
        (None, ["--max-pages", "1"], "capped", 0),
        (Reply(500), [], "failed", 4),
        (Reply(401), [], "failed", 5),
        (Reply(body={"items": [record(1)], "total": 9, "next": None}), [], "short", 9),
        (Reply(body={"items": [{}] * 10, "total": 10, "next": None}), [], "failed", 3),
        (None, ["--sink", "csv"], "failed", 2),
    ],
    ids=["complete", "capped", "away", "refused", "short", "rejects", "usage"],
)
def test_a_run_is_recorded_however_it_ends(
    project: Project, api: Api, reply: Reply | None, options: list[str], status: str, code: int
) -> None:
    project.write(connector(api.url, stream='total="total"'))
    assert 0 == project.run("pull", "shop").code
    api.misbehave = lambda asked: reply
    assert code == project.run("pull", "shop", *options).code
    row = ledger.runs(project.data)[0]
    assert (status, code) == (row["status"], row["exit_code"])
    if code:
        fault = row["error"] or row["streams"][0]["error"]
        assert fault["message"] in history.showing(row).replace("items: ", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_a_signal_stopped_is_recorded_as_stopped(project: Project, api: Api, number: signal.Signals) -> None:
    api.misbehave = lambda asked: Reply(429, {"Retry-After": str(LONG)}) if asked.number == 3 else None
    project.write(connector(api.url))
    process = project.start("pull", "shop", "--patience", "2h")
    until(lambda: len(api.seen) == 3, process)
    process.send_signal(number)
    ended(process)
    assert f"stopped, exit {128 + number}" in project.run("runs").stdout
    assert "next     syncer pull shop items" in project.run("runs").stdout


def test_a_run_is_running_until_it_is_killed(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(delay=LONG) if asked.number == 3 else None
    project.write(connector(api.url))
    process = project.start("pull", "shop", "--out", "else where", "--concurrency", "1")
    until(lambda: len(api.seen) == 3, process)
    (row,) = project.run("runs", "--out", "else where", "--json").json()
    assert ("running", None, None) == (row["status"], row["ended"], row["exit_code"])
    assert row["process"] == process.pid
    assert "–  running" in re.sub(" +", "  ", project.run("runs", "--out", "else where").stdout)
    process.kill()
    process.wait()
    (row,) = project.run("runs", "--out", "else where", "--json").json()
    assert ("killed", 1, 4) == (row["status"], row["streams"][0]["run"]["pages"], row["streams"][0]["run"]["written"])
    said = project.run("runs", "--out", "else where").stdout
    assert "killed: it did not end by itself; nothing committed is lost" in said
    assert "next     syncer pull shop --out 'else where'" in said
    assert f"details  syncer runs show {row['id']} --out 'else where'" in said


def test_two_pulls_at_once_are_two_runs(project: Project, api: Api) -> None:
    gate = threading.Event()
    api.misbehave = lambda asked: gate.wait(30) and None if asked.number == 3 else None
    project.write(connector(api.url))
    first = project.start("pull", "shop")
    until(lambda: len(api.seen) == 3, first)
    assert 7 == project.run("pull", "shop").code
    during = project.run("runs", "--json").json()
    gate.set()
    assert 0 == ended(first).code
    after = project.run("runs", "--json").json()
    assert [("failed", 7), ("running", None)] == [(row["status"], row["exit_code"]) for row in during]
    assert [("failed", 7), ("complete", 0)] == [(row["status"], row["exit_code"]) for row in after]


def test_what_may_not_even_begin_is_recorded_where_there_is_a_ledger_and_makes_none(project: Project, api: Api) -> None:
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    assert 5 == project.run("pull", "shop").code
    assert not project.data.exists()
    assert 0 == project.run("pull", "shop", env={"SHOP_TOKEN": "t"}).code
    done = project.run("pull", "shop")
    assert (5, 1) == (done.code, done.stderr.count("SHOP_TOKEN is not set"))
    row, _ = project.run("runs", "--json").json()
    assert ("failed", 5, []) == (row["status"], row["exit_code"], row["streams"])
    assert "the environment variable SHOP_TOKEN is not set" == row["error"]["message"]
    assert "→ export SHOP_TOKEN=" in project.run("runs", "show", row["id"]).stdout


def test_the_log_names_the_run_as_the_ledger_does(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    project.run("pull", "shop", "--log", "log.jsonl")
    (row,) = project.run("runs", "--json").json()
    assert {row["id"]} == {json.loads(line)["run"] for line in (project.path / "log.jsonl").read_text().splitlines()}


# What a file may hold


def test_wherever_a_crash_cuts_a_file_its_last_whole_line_counts(tmp_path: Path) -> None:
    time = Time()
    book, _ = recording(tmp_path, time)
    for event in (Began(("items",), "data", "jsonl"), Started("items", False, 0, 0), page(1)):
        book(event)
    time.seconds += EVERY
    book(page(2))
    (path,) = (tmp_path / "shop" / ".syncer" / "runs").iterdir()
    content = path.read_bytes()
    rows = content.split(b"\n")
    assert 3 == len([row for row in rows if row])
    ends = [
        content.index(b'"status":"open"'),
        *(place for place in range(len(content)) if content[place : place + 1] == b"\n"),
    ]
    seen = set()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        found = ledger.runs(tmp_path)
        whole = [json.loads(row) for row in content[:cut].split(b"\n") if row.endswith(b"}") and row in rows]
        counts = [stream.get("run", {}).get("pages") for row in found for stream in row["streams"]]
        assert ([whole[-1]["streams"][0].get("run", {}).get("pages")] if whole else []) == counts
        seen.add(tuple(counts))
    assert {(), (None,), (1,), (2,)} == seen
    assert ends


def test_a_line_that_was_cut_off_takes_none_of_the_next_along(tmp_path: Path) -> None:
    book, _ = recording(tmp_path)
    book(Started("items", False, 0, 0))
    (path,) = (tmp_path / "shop" / ".syncer" / "runs").iterdir()
    with path.open("ab") as file:
        file.write(b'\n{"id":"4f2a9c1e","sour')
    book.end(None, 1, None)
    (row,) = ledger.runs(tmp_path)
    assert ("failed", 1) == (row["status"], row["exit_code"])


def nested(depth: int) -> bytes:
    return json.dumps(ROW)[:-1].encode() + b',"x":' + b"[" * depth + b"]" * depth + b"}"


FOREIGN: dict[str, bytes] = {
    "empty": b"",
    "zeros": b"\0" * 100_000,
    "no JSON": b"\xff\xfe not JSON\n",
    "a list": b"[1]\n",
    "a number of too many digits": b'{"id":' + b"9" * 5000 + b"}\n",
    "nested beyond all bounds": b"[" * 100_000,
    "nested in a row": nested(100_000),
    "beyond a double": json.dumps(ROW)[:-1].encode() + b',"x":1e999}',
    "not a number": json.dumps(ROW)[:-1].encode() + b',"x":NaN}',
    "another's": b'{"id":1,"source":[],"started":null,"ended":0,"streams":{}}\n',
    "a time that is none": json.dumps({**ROW, "started": "yesterday"}).encode(),
}
"""What is no run, whatever its name."""


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_run_hides_none(tmp_path: Path, name: str) -> None:
    written(tmp_path, FOREIGN[name], ROW)
    assert ["4f2a9c1e"] == [row["id"] for row in ledger.runs(tmp_path)]


def test_what_is_no_file_hides_none_and_holds_nobody_up(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop").code
    (run,) = files(project)
    folder = run.parent
    os.mkfifo(folder / "1.jsonl")
    (folder / "2.jsonl").mkdir()
    (folder / "3.jsonl").symlink_to("3.jsonl")
    (folder / "4.jsonl").symlink_to("nowhere")
    (folder / "5.jsonl").symlink_to("/dev/zero")
    with (folder / "6.jsonl").open("wb") as huge:
        huge.truncate(2**40)
    (folder / "7.txt").write_text("a note of somebody")
    done = project.run("runs", "--json")
    assert [("complete", 0)] == [(row["status"], row["exit_code"]) for row in done.json()]
    assert ["note: data/shop/.syncer/runs/3.jsonl cannot be read: Too many levels of symbolic links"] == (
        done.stderr.splitlines()
    )
    assert (0, EVERYTHING) == (project.run("pull", "shop").code, project.output())
    assert 2 == len(project.run("runs", "--json").json())


def test_a_row_at_the_end_of_a_very_large_file_is_found(tmp_path: Path) -> None:
    (path,) = written(tmp_path, ROW)
    content = path.read_bytes()
    with path.open("wb") as file:
        file.truncate(2**33)
    with path.open("ab") as file:
        file.write(content)
    assert ["4f2a9c1e"] == [row["id"] for row in ledger.runs(tmp_path)]


KINDS: list[Any] = [
    None,
    True,
    0,
    -1,
    10**400,
    0.5,
    "",
    "text",
    "\ud800\n\x1b",
    [],
    [1],
    ["a"],
    [{}],
    [[]],
    {},
    {"a": 1},
]
KINDS += [{"a": {}}, {"a": {"remaining": "x"}}, {"a": {"remaining": 10**400}}, [{"stream": 1, "pulled": 1, "error": 1}]]
KINDS += [[{"stream": None, "status": {}, "run": {"pages": "x"}, "error": {"message": 1}, "bookmark": {"a": [1]}}]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*path, name)
        yield from places(inner, (*path, name))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], Any]) -> Any:
    """A copy of a JSON value with a change at one place."""
    made = json.loads(json.dumps(value))
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    change(inner, path[-1])
    return made


PLACES = list(places(ROW))


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_run_of_another_version_is_shown_whatever_it_lacks_or_says_otherwise(
    tmp_path: Path, path: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """With this one place missing, and with any kind of value there; a row that names no run is no row."""

    def put(kind: Any) -> Callable[[Any, Any], None]:
        return lambda inner, step: inner.__setitem__(step, kind)

    rows = [changed(ROW, path, lambda inner, step: inner.__delitem__(step) if isinstance(inner, dict) else None)]
    rows += [changed(ROW, path, put(kind)) for kind in KINDS]
    shown = 0
    for row in rows:
        (file,) = written(tmp_path, {**row, "of a later version": {"x": [1]}})
        found = ledger.runs(tmp_path)
        assert history.listing(found, 20, tmp_path)
        assert all(history.showing(one) for one in found)
        print_json(found)
        shown += len(found)
        assert not found or {"x": [1]} == found[0]["of a later version"]
        file.unlink()
    assert capsys.readouterr().out.count('"x":[1]') == shown
    assert shown == len(rows) or path[0] in ("id", "source", "started", "ended", "streams")
    assert shown >= 1 or path[0] in ("started",)


def test_a_run_that_cannot_be_read_is_named_and_hides_none(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    project.run("pull", "shop")
    (run,) = files(project)
    (run.parent / "1.jsonl").symlink_to("1.jsonl")
    done = project.run("runs")
    assert (0, 1) == (done.code, done.stdout.count("complete"))
    assert "note: data/shop/.syncer/runs/1.jsonl cannot be read" in done.stderr


# How many, and where


def test_the_latest_are_kept_and_of_the_others_those_that_are_at_work(project: Project, api: Api) -> None:
    written(project.data, *[{**ROW, "id": f"{number:08x}"} for number in range(9)])
    paths = files(project)
    for number in range(9, KEPT + 5):
        shutil.copy(paths[0], paths[0].with_name(f"20261125T{number:06}.000Z-{number:08x}.jsonl"))
    before = files(project)
    (before[0].parent / "20261124T000000.000Z-aaaaaaaa.new").write_bytes(b"half made")
    project.write(connector(api.url))
    with before[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert 0 == project.run("pull", "shop").code
    after = files(project)
    assert before[1] in after
    assert [before[1], *before[6:]] == [path for path in after if path in before]
    assert (KEPT + 1, ".jsonl") == (len(after), after[-1].suffix)


def test_what_cannot_be_deleted_keeps_no_run_from_being_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / ".syncer" / "runs"
    for number in range(KEPT + 5):
        (folder / f"{number}.jsonl").mkdir(parents=True)
    book, said = recording(tmp_path)
    book(Started("items", False, 0, 0))
    book.end(None, 1, None)
    assert ([], 1) == (said, len(ledger.runs(tmp_path)))


def test_a_run_that_lasts_for_days_is_a_small_file(tmp_path: Path) -> None:
    time = Time()
    book, said = recording(tmp_path, time)
    book(Started("items", False, 0, 0))
    (path,) = (tmp_path / "shop" / ".syncer" / "runs").iterdir()
    largest = 0
    for number in range(1, 5 * 24 * 60):
        time.seconds += EVERY
        book(page(number))
        largest = max(largest, path.stat().st_size)
        if number % 1000 == 0:
            (row,) = ledger.runs(tmp_path)
            assert ("running", number) == (row["status"], row["streams"][0]["run"]["pages"])
    book.end(None, 1, None)
    assert ([], [path]) == (said, list(path.parent.iterdir()))
    assert LARGEST < largest < LARGEST + 10_000
    assert ["failed"] == [row["status"] for row in ledger.runs(tmp_path)]


def test_a_line_is_written_at_the_first_page_and_then_once_a_minute(tmp_path: Path) -> None:
    time = Time()
    book, _ = recording(tmp_path, time)
    book(Started("items", False, 0, 0))
    (path,) = (tmp_path / "shop" / ".syncer" / "runs").iterdir()
    known = []
    for number in range(1, 8):
        book(page(number))
        known.append(last(path)["streams"][0]["run"]["pages"])
        time.seconds += EVERY / 3
    assert [1, 1, 1, 4, 4, 4, 7] == known


def test_causes_and_reasons_without_end_do_not_make_a_row_large(tmp_path: Path) -> None:
    """A server may make up any number of names: the commonest are kept."""
    book, _ = recording(tmp_path)
    report = Report("shop", "jsonl", Time().clock.stamp())
    book(Started("items", False, 0, 0))
    for number in range(50_000):
        waited = Waited(1.0, f"quota spent ({number})")
        book(waited)
        report.watch(waited)
        book(Noticed(f"note {number}"))
    done = StreamReport("items")
    done.causes.update({f"tags.{number}: int_type": number for number in range(50_000)})
    done.unknown = {f"field {number}": number for number in range(50_000)}
    report.streams.append(done)
    book.end(report, 0, None)
    (path,) = (tmp_path / "shop" / ".syncer" / "runs").iterdir()
    row = last(path)
    assert path.stat().st_size < 50_000
    assert {"tags.49999: int_type", "tags.49980: int_type"} < set(row["streams"][0]["rejected_by_cause"])
    assert 20 == len(row["streams"][0]["unknown_fields"]) == len(row["notes"])
    assert 50_000 == sum(row["waited"].values())


def test_a_run_that_is_read_at_any_moment_is_running_or_over(project: Project, api: Api) -> None:
    """Never killed, never without its lock, never half there."""
    api.misbehave = lambda asked: Reply(delay=0.05)
    project.write(connector(api.url, streams=("items", "others")))
    process = project.start("pull", "shop")
    seen = []
    while process.poll() is None:
        seen += [row["status"] for row in ledger.runs(project.data)] if project.data.is_dir() else []
    ended(process)
    assert {"running", "complete"} >= set(seen) >= {"running"}
    assert ["complete"] == [row["status"] for row in ledger.runs(project.data)]


# What happens to the files while the run is on


def test_a_file_that_is_deleted_while_the_run_is_on_is_made_anew(project: Project, api: Api) -> None:
    def misbehave(asked: Asked) -> None:
        if asked.number == 3:
            for path in files(project):
                path.unlink()

    api.misbehave = misbehave
    project.write(connector(api.url))
    done = project.run("pull", "shop")
    assert (0, EVERYTHING) == (done.code, project.output())
    assert [("complete", 5)] == [(row["status"], row["requests"]) for row in ledger.runs(project.data)]
    assert "note" not in done.said


def test_a_directory_that_is_deleted_while_the_run_is_on_is_said_once(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: shutil.rmtree(files(project)[0].parent) if asked.number == 3 else None
    project.write(connector(api.url))
    done = project.run("pull", "shop")
    assert (0, EVERYTHING) == (done.code, project.output())
    assert 1 == done.stderr.count("`syncer runs` will not tell all of this run: No such file or directory")


@pytest.mark.parametrize("what", ["a file", "a link to nowhere"])
def test_a_ledger_that_cannot_be_kept_stops_no_pull(project: Project, api: Api, what: str) -> None:
    project.write(connector(api.url))
    place = project.data / "shop" / ".syncer" / "runs"
    place.parent.mkdir(parents=True)
    place.write_text("") if what == "a file" else place.symlink_to("nowhere/at all")
    done = project.run("pull", "shop")
    assert (0, EVERYTHING, 1) == (done.code, project.output(), done.stderr.count("`syncer runs` will not tell all"))
    assert "no runs are recorded in data" in project.run("runs").stdout


def test_a_full_disk_is_said_once_and_a_disk_with_room_again_gets_the_end(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "ballast").write_bytes(b"x" * 65_536)
        book, said = recording(disk)
        for event in (Started("items", False, 0, 0), page(1), Ended("items", "complete")):
            book(event)
        assert [] == ledger.runs(disk)
        (disk / "ballast").unlink()
        book.end(None, 0, None)
        assert ["complete"] == [row["status"] for row in ledger.runs(disk)]
    assert 1 == len(said)
    assert said[0].startswith("`syncer runs` will not tell all of this run: ")
    assert said[0].endswith("; the pull goes on")


def test_a_disk_that_fills_up_while_a_run_is_on_leaves_what_was_known(project: Project, api: Api) -> None:
    def misbehave(asked: Asked) -> None:
        if asked.number == 3:
            with suppress(OSError):
                (project.data / "ballast").write_bytes(b"x" * 2**20)

    api.misbehave = misbehave
    project.write(connector(api.url))
    with small_disk(project.data, "256k"):
        process = project.start("pull", "shop", "--concurrency", "1")
        until(lambda: len(api.seen) >= 3, process)
        done = ended(process)
        rows = project.run("runs", "--json").json()
    assert (6, 1) == (done.code, len(rows))
    assert rows[0]["status"] in ("failed", "killed")
    assert 1 <= rows[0]["streams"][0]["run"]["pages"] <= 2


# What is asked of the command


def test_a_run_is_shown_by_the_beginning_of_its_name(project: Project) -> None:
    written(project.data, *[{**ROW, "id": name} for name in ("abcd1234", "abcd9999", "ffff0000")])
    assert "run       ffff0000 of shop" in project.run("runs", "show", "f").stdout
    assert "abcd9999" == project.run("runs", "show", "abcd9", "--json").json()["id"]
    for name, words in [
        ("abcd", "2 runs begin with 'abcd'"),
        ("", "3 runs begin with ''"),
        ("0", "there is no run '0'"),
        ("\x1b[2J", r"there is no run '\x1b[2J'"),
    ]:
        done = project.run("runs", "show", name)
        assert (2, "") == (done.code, done.stdout)
        assert f"error: {words}\n  → `syncer runs` lists them" in done.stderr


def test_a_source_may_be_called_show(project: Project, api: Api) -> None:
    assert 2 == project.run("runs", "show").code
    project.write(connector(api.url, name="show"), "show")
    assert 0 == project.run("pull", "show").code
    done = project.run("runs", "show")
    (row,) = project.run("runs", "show", "--json").json()
    assert (0, "show") == (done.code, done.stdout.splitlines()[0])
    assert f"run       {row['id']} of show" in project.run("runs", "show", row["id"]).stdout


@pytest.mark.parametrize("words", [["one", "two"], ["show", "one", "two"], ["show"]])
def test_what_is_neither_a_source_nor_a_run_is_explained(project: Project, words: list[str]) -> None:
    done = project.run("runs", *words)
    assert (2, "") == (done.code, done.stdout)
    assert "→ type `syncer runs SOURCE` or `syncer runs show ID`" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([], "data"),
        (["demo"], "data/demo"),
        (["--out", "file"], "file"),
    ],
    ids=["nothing", "a source", "a file"],
)
def test_where_nothing_is_recorded_that_is_said_and_nothing_made(
    project: Project, arguments: list[str], place: str
) -> None:
    (project.path / "file").write_text("")
    done = project.run("runs", *arguments)
    assert (0, f"no runs are recorded in {place}\n", "") == (done.code, done.stdout, done.stderr)
    assert [] == project.run("runs", *arguments, "--json").json()
    assert ["file"] == [path.name for path in project.path.iterdir()]


@pytest.mark.parametrize("name", ["shop", "x" * 300, "../.."], ids=["no connector", "too long", "above"])
def test_a_name_that_nothing_is_known_of_is_a_mistake(project: Project, name: str) -> None:
    done = project.run("runs", name)
    assert (2, "", True) == (done.code, done.stdout, f"nothing is known of {name!r}" in done.stderr)
    assert [] == list(project.path.iterdir())


def test_looking_changes_nothing(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    project.run("pull", "shop")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in project.path.rglob("*")}
    for arguments in (["runs"], ["runs", "--json"], ["runs", "shop", "--all"], ["runs", "show", "x"]):
        project.run(*arguments)
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in project.path.rglob("*")}


def test_twenty_runs_of_each_source_are_listed_and_the_others_counted(project: Project) -> None:
    for source in ("shop", "other"):
        written(project.data, *[{**ROW, "id": f"{n:08x}", "source": source} for n in range(9)], source=source)
    paths = files(project)
    for number in range(9, 25):
        row = {**ROW, "id": f"{number:08x}", "started": f"2026-11-25T00:{number:02}:00.000Z"}
        paths[0].with_name(f"{number}.jsonl").write_text(json.dumps(row))
    done = project.run("runs")
    assert (20 + 9) == done.stdout.count("failed, exit 4")
    assert "5 older runs: syncer runs shop --all" in done.stdout
    assert 25 == project.run("runs", "shop", "--all").stdout.count("failed, exit 4")
    assert 25 + 9 == len(project.run("runs", "--json").json())


def test_hostile_text_of_a_server_is_shown_harmless_and_given_exactly(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(body={HOSTILE: 1})
    project.write(connector(api.url))
    project.run("pull", "shop")
    (row,) = project.run("runs", "--json").json()
    said = [project.run("runs"), project.run("runs", "show", row["id"]), project.run("runs", "--json")]
    assert [] == [found for done in said for found in HARMFUL.findall(done.said)]
    assert HOSTILE[:20] in row["streams"][0]["error"]["message"]


def test_hostile_rows_are_shown_harmless(project: Project) -> None:
    """Every text in a row, and every name."""

    def hostile(value: Any) -> Any:
        if isinstance(value, dict):
            fixed = {"remaining", "reset", *ROW, *ROW["streams"][0], *ROW["streams"][0]["run"], "message", "hint"}
            return {name if name in fixed else HOSTILE: hostile(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [hostile(inner) for inner in value]
        return HOSTILE if isinstance(value, str) else value

    written(project.data, {**hostile(ROW), "started": ROW["started"], "ended": ROW["ended"]})
    for arguments in (["runs"], ["runs", "show", ""], ["runs", "--json"]):
        done = project.run(*arguments)
        assert 0 == done.code
        assert [] == HARMFUL.findall(done.said)


def test_a_list_of_runs_fits_into_80_columns(tmp_path: Path) -> None:
    counts = {"pages": 10**4, "fetched": 10**8, "written": 999_999_999, "rejected": 99_999, "repeated": 0}
    error = {"message": "it is away, " * 40, "hint": ""}
    stream = {"stream": "items", "status": "failed", "pulled": counts, "error": error}
    long = {**ROW, "exit_code": 143, "status": "stopped", "seconds": 359_999, "streams": [stream]}
    written(tmp_path, ROW, long)
    listed = history.listing(ledger.runs(tmp_path), 20, tmp_path).splitlines()
    assert max(map(len, listed)) <= 80
    assert any(line.endswith("…") and len(line) == 80 for line in listed)


def test_an_id_is_new_each_time() -> None:
    assert 100 == len({ledger.identity() for _ in range(100)})
    assert all(re.fullmatch("[0-9a-f]{8}", ledger.identity()) for _ in range(10))


def test_a_run_without_a_name_is_none(tmp_path: Path) -> None:
    written(tmp_path, ROW)
    with pytest.raises(ConfigError, match="no run 'x'"):
        ledger.run(ledger.runs(tmp_path), "x")


def test_requests_are_counted_while_a_run_is_on(tmp_path: Path) -> None:
    book, _ = recording(tmp_path)
    for event in (
        Started("items", False, 0, 0),
        Requested("GET", "http://h", 200, 0.1),
        Waited(2.0, "limit"),
        page(1),
    ):
        book(event)
    (row,) = ledger.runs(tmp_path)
    assert ("running", 1, {"limit": 2.0}) == (row["status"], row["requests"], row["waited"])
    assert "1 request, 0 B received, 0 retried" in history.showing(row)


def test_of_a_killed_run_the_errors_are_known_that_it_had_before(tmp_path: Path) -> None:
    book, _ = recording(tmp_path)
    for event in (Started("items", False, 0, 0), Ended("items", "failed", "it is away", "come back", 4)):
        book(event)
    book(Started("others", False, 0, 0))
    os.close(book._descriptor)
    (row,) = ledger.runs(tmp_path)
    assert "killed" == row["status"]
    assert "items: it is away\n  → come back\nkilled: " in history.showing(row)
