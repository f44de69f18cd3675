"""What stands on the disk, what the state says of it, and what the connector asks for: where they disagree.

Through the installed command. Wherever it must refuse, the test also sees that nothing was touched or asked for;
wherever it may go on, that the output ends as if nothing had happened.
"""

from __future__ import annotations

import os
import pty
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.api import MODEL, Api, Reply, connector, record
from tests.command import Project, ended, lines

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
LARGE = [record(number, name="x" * 3000) for number in range(1, 21)]
SINKS = ["jsonl", "sqlite"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A well-behaved API for all that follows."""
    with Api(RECORDS) as running:
        yield running


@pytest.fixture(scope="module")
def pulled(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has pulled two pages of five into both sinks. For copying."""
    made = Project(tmp_path_factory.mktemp("pulled"))
    made.write(connector(api.url))
    for sink in SINKS:
        assert 0 == made.run("pull", "shop", "--max-pages", "2", "--sink", sink).code
    return made.path


@pytest.fixture
def half(pulled: Path, tmp_path: Path, api: Api) -> Project:
    """A copy of that project, and an API that has forgotten who asked it what."""
    api.seen.clear()
    return Project(Path(shutil.copytree(pulled, tmp_path / "half")))


def table(project: Project) -> list[tuple[int, str]]:
    """The records in the SQLite sink."""
    with closing(sqlite3.connect(project.data / "shop" / "shop.db")) as connection:
        return connection.execute("SELECT id, name FROM items ORDER BY rowid").fetchall()


def holds(project: Project, sink: str, records: list[dict[str, Any]]) -> bool:
    """Whether the output is exactly these records, in their order."""
    if sink == "jsonl":
        return project.output() == lines(records)
    return table(project) == [(one["id"], one["name"]) for one in records]


def cursors(api: Api) -> list[str]:
    return [asked.query.get("cursor", "") for asked in api.seen]


# Beginning anew, and going on after a change


def test_a_restart_needs_a_yes_where_nobody_can_be_asked(half: Project, api: Api) -> None:
    before = half.output()
    done = half.run("pull", "shop", "--restart")
    assert (2, before, []) == (done.code, half.output(), api.seen)
    assert "add --yes" in done.stderr


@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("y", 0)])
def test_a_restart_asks_whoever_is_there(half: Project, answer: str, code: int) -> None:
    terminal, slave = pty.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keyboard, os.fdopen(slave, "rb", buffering=0) as tty:
        process = half.start("pull", "shop", "--restart", stdin=tty)
        keyboard.write(answer.encode() + b"\n")
        done = ended(process)
    assert code == done.code
    assert "is replaced when the new pull is complete" in done.stderr
    assert (lines(RECORDS[:8]) if code else EVERYTHING) == half.output()


def test_a_restart_replaces_the_output_only_when_it_is_complete(project: Project) -> None:
    newer = [record(number, name="newer") for number in range(1, 21)]
    with Api(RECORDS) as api:
        project.write(connector(api.url))
        assert 0 == project.run("pull", "shop").code
        api.records = newer
        assert 0 == project.run("pull", "shop", "--restart", "--yes", "--max-pages", "3").code
        assert EVERYTHING == project.output()
        assert 0 == project.run("pull", "shop").code
        assert ["", "4", "8", "12", "16"] == cursors(api)[5:]
    assert lines(newer) == project.output()
    left = sorted(path.name for path in (project.data / "shop").iterdir())
    assert [".syncer", "items.jsonl", "items.rejects.jsonl"] == left


CHANGES: dict[str, Callable[[str], str]] = {
    'parameters: {} → {"size": 9}': lambda url: connector(url, stream='params={"size": 9}'),
    "model: Item: price has changed": lambda url: connector(url, model=MODEL.replace("price: Decimal", "price: float")),
    "path: /items → /things": lambda url: connector(url).replace('"/items"', '"/things"'),
    "base URL: $url → http://localhost:": lambda url: connector(url.replace("127.0.0.1", "localhost")),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda words: words.partition(":")[0])
def test_a_changed_connector_is_refused_with_the_change_named(half: Project, api: Api, change: str) -> None:
    before = half.output()
    half.write(CHANGES[change](api.url))
    done = half.run("pull", "shop")
    assert (8, before, []) == (done.code, half.output(), api.seen)
    assert change.replace("$url", api.url) in done.stdout
    assert "--accept-changes" in done.stdout
    assert "--restart" in done.stdout


@pytest.mark.parametrize("sink", SINKS)
def test_an_accepted_change_goes_on_from_the_checkpoint(half: Project, api: Api, sink: str) -> None:
    half.write(connector(api.url, model=f"{MODEL}    size: int | None = None\n"))
    done = half.run("pull", "shop", "--accept-changes", "--sink", sink)
    assert (0, ["8", "12", "16"]) == (done.code, cursors(api)), done.said
    assert holds(half, sink, RECORDS)


def test_a_primary_key_that_came_later_is_accepted_or_refused_before_anything_is_asked(half: Project, api: Api) -> None:
    half.write(connector(api.url, stream='primary_key="id"'))
    done = half.run("pull", "shop", "--accept-changes", "--sink", "sqlite")
    if done.code:
        assert (8, [], RECORDS[:8]) == (done.code, api.seen, RECORDS[: len(table(half))])
        assert "primary_key" in done.stdout
    else:
        assert holds(half, "sqlite", RECORDS)


def test_a_changed_connector_can_begin_anew(half: Project, api: Api) -> None:
    half.write(connector(api.url, model=MODEL.replace("    name: str\n", "")))
    assert 0 == half.run("pull", "shop", "--restart", "--yes").code
    assert ["", "4", "8", "12", "16"] == cursors(api)
    assert lines({name: one[name] for name in one if name != "name"} for one in RECORDS) == half.output()


def test_reset_sets_the_output_aside_and_deletes_nothing(half: Project) -> None:
    before = half.output()
    assert 2 == half.run("reset", "shop").code
    assert before == half.output()
    done = half.run("reset", "shop", "--yes")
    (aside,) = (half.data / "shop").glob("items.jsonl.before-*")
    assert (0, before, b"") == (done.code, aside.read_bytes(), half.output())
    assert str(aside.relative_to(half.path)) in done.stdout
    assert "never pulled" in half.run("status", "shop").stdout


@pytest.mark.parametrize("sink", SINKS)
def test_a_pull_after_a_reset_begins_anew(half: Project, api: Api, sink: str) -> None:
    assert 0 == half.run("reset", "shop", "--yes", "--sink", sink).code
    assert 0 == half.run("pull", "shop", "--sink", sink).code
    assert ["", "4", "8", "12", "16"] == cursors(api)
    assert holds(half, sink, RECORDS)


# The disk


def limit(size: int) -> Callable[[], None]:
    """For a process about to start: no file of its may grow beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("sink", SINKS)
def test_a_file_that_may_not_grow_ends_the_run_and_the_next_one_resumes_exactly(project: Project, sink: str) -> None:
    with Api(LARGE) as api:
        project.write(connector(api.url))
        done = project.run("pull", "shop", "--json", "--sink", sink, preexec_fn=limit(60_000))
        (stream,) = done.json()["streams"]
        assert (6, 6, "SinkError") == (done.code, done.json()["exit_code"], stream["error"]["type"])
        assert 0 < stream["stored"]["written"] < 20
        assert holds(project, sink, LARGE[: stream["stored"]["written"]])
        assert 0 == project.run("pull", "shop", "--sink", sink).code
        assert 1 == cursors(api).count("")
    assert holds(project, sink, LARGE)


def test_a_state_that_cannot_be_written_at_all_is_a_problem_of_the_disk(project: Project) -> None:
    with Api(RECORDS) as api:
        project.write(connector(api.url))
        done = project.run("pull", "shop", preexec_fn=limit(1000))
        assert (6, [], b"") == (done.code, api.seen, project.output())
        assert "state.db" in done.stdout
        assert 0 == project.run("pull", "shop").code
    assert EVERYTHING == project.output()


@pytest.fixture
def small(project: Project) -> Iterator[Project]:
    """A project whose output goes to a disk of half a megabyte."""
    project.data.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("a tmpfs of one's own needs root and `mount`; RLIMIT_FSIZE is tested everywhere")
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(project.data)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield project
    subprocess.run(["umount", str(project.data)], check=True)


@pytest.mark.parametrize("sink", SINKS)
def test_a_full_disk_ends_the_run_and_the_next_one_resumes_exactly(small: Project, sink: str) -> None:
    with Api(LARGE) as api:
        small.write(connector(api.url))
        filler = small.data / "somebody-elses"
        filler.write_bytes(b"x" * (512 - 96) * 1024)
        done = small.run("pull", "shop", "--sink", sink)
        assert 6 == done.code
        assert "bytes free" in done.stdout
        filler.unlink()
        assert 0 == small.run("pull", "shop", "--sink", sink).code
        assert 1 == cursors(api).count("")
    assert holds(small, sink, LARGE)


@pytest.mark.parametrize(("mask", "sink"), [(0o000, "jsonl"), (0o000, "sqlite"), (0o077, "jsonl")])
def test_files_and_directories_are_for_their_owner_only(project: Project, mask: int, sink: str) -> None:
    """A run that leaves behind all there is: records, rejects, state, lock, and the evidence of a broken page."""
    with Api([record(1, id="one"), *RECORDS[1:]]) as api:
        api.misbehave = lambda asked: Reply(body={"items": 1}) if asked.number == 3 else None
        project.write(connector(api.url))
        done = project.run("pull", "shop", "--sink", sink, preexec_fn=lambda: [os.umask(mask)])
    made = {path: stat.S_IMODE(path.stat().st_mode) for path in (project.data, *project.data.rglob("*"))}
    assert 9 == done.code
    assert "items.evidence" in [path.name for path in made]
    assert {path: 0o700 if path.is_dir() else 0o600 for path in made} == made


# What others did to the output


def test_output_without_its_state_is_not_touched(half: Project, api: Api) -> None:
    before = half.output()
    shutil.rmtree(half.data / "shop" / ".syncer")
    done = half.run("pull", "shop")
    assert (8, before, []) == (done.code, half.output(), api.seen)
    assert f"has {len(before):,} bytes, but no checkpoint vouches for them" in done.stdout
    assert "syncer reset shop items" in done.stdout


def test_a_table_without_its_checkpoint_is_not_touched(half: Project, api: Api) -> None:
    before = table(half)
    with closing(sqlite3.connect(half.data / "shop" / "shop.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM syncer_checkpoint")
    done = half.run("pull", "shop", "--sink", "sqlite")
    assert (8, before, []) == (done.code, table(half), api.seen)
    assert "no checkpoint vouches for them" in done.stdout


def test_output_that_is_a_byte_shorter_is_not_touched(half: Project, api: Api) -> None:
    shorter = half.output()[:-1]
    (half.data / "shop" / "items.jsonl").write_bytes(shorter)
    done = half.run("pull", "shop")
    assert (8, shorter, []) == (done.code, half.output(), api.seen)
    assert f"has {len(shorter):,} bytes, the checkpoint vouches for {len(shorter) + 1:,}" in done.stdout


def test_output_with_a_flipped_byte_in_its_last_page_is_not_touched(half: Project, api: Api) -> None:
    flipped = bytearray(half.output())
    flipped[-20] ^= 1
    (half.data / "shop" / "items.jsonl").write_bytes(flipped)
    done = half.run("pull", "shop")
    assert (8, bytes(flipped), []) == (done.code, half.output(), api.seen)
    assert "differs from what was written in bytes" in done.stdout


def test_a_state_with_a_changed_count_is_not_believed(half: Project, api: Api) -> None:
    with closing(sqlite3.connect(half.data / "shop" / ".syncer" / "state.db", isolation_level=None)) as connection:
        changed = "replace(body, '\"fetched\":8', '\"fetched\":9')"
        assert 1 == connection.execute(f"UPDATE syncer_checkpoint SET body = {changed}").rowcount
    before = half.output()
    done = half.run("pull", "shop")
    assert (8, before, []) == (done.code, half.output(), api.seen)
    assert "its checksum does not match" in done.stdout
    assert 8 == half.run("status", "shop").code


def test_a_foreign_tail_of_ten_megabytes_is_kept_beside_the_output(half: Project) -> None:
    before, tail = half.output(), b"not ours\n" * 1_111_111 + b"!"
    with (half.data / "shop" / "items.jsonl").open("ab") as file:
        file.write(tail)
    done = half.run("pull", "shop")
    assert (0, EVERYTHING) == (done.code, half.output())
    kept = half.data / "shop" / f"items.jsonl.tail-{len(before)}"
    assert kept.read_bytes() == tail
    assert f"had 10,000,000 bytes that no checkpoint vouches for; they are kept in {kept.name}" in done.stderr


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = TRUNCATE")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE syncer_checkpoint SET seq = seq + 1, body = hex(zeroblob(300000))")
for number in range(20):
    connection.execute("INSERT INTO syncer_checkpoint VALUES (?, 1, hex(zeroblob(30000)), 0)", (str(number),))
os._exit(9)
"""
"""A writer that dies with half of its transaction in the database: the journal has the rest, and is hot."""


@pytest.mark.parametrize(("sink", "file"), [("jsonl", ".syncer/state.db"), ("sqlite", "shop.db")])
def test_status_and_rejects_can_be_read_after_a_kill_in_the_middle_of_a_commit(
    half: Project, sink: str, file: str
) -> None:
    state = half.data / "shop" / file
    assert 9 == subprocess.run([sys.executable, "-c", KILLED, str(state)], check=False).returncode
    assert state.with_name(f"{state.name}-journal").stat().st_size
    status, rejects = half.run("status", "shop", "--sink", sink), half.run("rejects", "shop", "--sink", sink)
    assert 0 == half.run("pull", "shop", "--sink", sink).code
    assert holds(half, sink, RECORDS)
    assert (0, 0) == (status.code, rejects.code), status.stderr
    assert "goes on after page 2" in status.stdout


@pytest.mark.parametrize("state", ["with a state", "without a state"])
def test_a_symbolic_link_as_output_is_refused(half: Project, api: Api, state: str) -> None:
    file, elsewhere, before = half.data / "shop" / "items.jsonl", half.path / "elsewhere", half.output()
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    if state == "without a state":
        shutil.rmtree(half.data / "shop" / ".syncer")
    done = half.run("pull", "shop")
    assert (before, []) == (elsewhere.read_bytes(), api.seen)
    assert 6 == done.code
    assert f"{file.relative_to(half.path)} is a symbolic link" in done.stdout


def test_a_symbolic_link_as_database_is_refused(half: Project, api: Api) -> None:
    file, elsewhere = half.data / "shop" / "shop.db", half.path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    done = half.run("pull", "shop", "--sink", "sqlite")
    assert (6, before, []) == (done.code, elsewhere.read_bytes(), api.seen)
    assert "is a symbolic link" in done.stdout
