"""Files that something else touches: late writers, files taken away, full and broken disks."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from syncer.checkpoint import Checkpoint, Counts
from syncer.errors import LockError, SinkError, StateError
from syncer.sinks import KINDS, Sink, disk, sink
from syncer.sinks.jsonl import JsonLines
from syncer.validate import Record
from tests.command import Project
from tests.test_sinks import ORDERS, after, record, reject

NAMES = {"records": "orders.jsonl", "rejects": "orders.rejects.jsonl"}


def opened(out: Path) -> tuple[JsonLines, Checkpoint]:
    made = JsonLines(out / "shop", ORDERS)
    return made, made.open()


def begun(out: Path, *, last: bool = False) -> tuple[JsonLines, Checkpoint]:
    """An open output with one page of two records and one reject in it, and its checkpoint."""
    made, checkpoint = opened(out)
    checkpoint = after(checkpoint, 2, 1, last=last)
    made.commit([record(1), record(2)], [reject(3)], checkpoint)
    return made, checkpoint


def more(made: JsonLines, checkpoint: Checkpoint) -> None:
    """Commit a page more."""
    made.commit([record(4)], [reject(5)], after(checkpoint, 1, 1))


def output(out: Path) -> dict[str, bytes]:
    """Every byte a person would look at."""
    return {path.name: path.read_bytes() for path in sorted((out / "shop").iterdir()) if path.is_file()}


def lock(out: Path) -> Path:
    return out / "shop" / ".syncer" / "orders.jsonl.lock"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk does to every write past so many bytes of a file (EFBIG in place of ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# A writer that woke up late


def test_a_late_writer_whose_lock_file_was_deleted_writes_not_one_byte(tmp_path: Path) -> None:
    late, checkpoint = begun(tmp_path)
    lock(tmp_path).unlink()
    other, found = opened(tmp_path)
    more(other, found)
    other.close()
    expected = output(tmp_path)

    with pytest.raises(LockError, match="was deleted or replaced, so another pull may have moved orders on"):
        more(late, checkpoint)
    late.close()

    assert expected == output(tmp_path)


def test_a_late_writer_leaves_the_refresh_of_another_pull_alone(tmp_path: Path) -> None:
    late, checkpoint = begun(tmp_path, last=True)
    lock(tmp_path).unlink()
    other, found = opened(tmp_path)
    other.commit([record(6)], [], after(found, 1, anew=True))
    other.close()
    expected = output(tmp_path)

    with pytest.raises(LockError):
        late.commit([record(4)], [], after(checkpoint, 1, anew=True))
    late.close()

    assert "orders.jsonl.g2" in expected
    assert expected == output(tmp_path)


def test_a_writer_out_of_turn_writes_not_one_byte_though_it_has_the_lock(tmp_path: Path) -> None:
    """As on a file system whose locks do not hold."""
    late, checkpoint = begun(tmp_path)
    lock(tmp_path).rename(tmp_path / "lock")
    other, found = opened(tmp_path)
    more(other, found)
    other.close()
    (tmp_path / "lock").replace(lock(tmp_path))
    expected = output(tmp_path)

    with pytest.raises(LockError, match="another pull has moved this stream on"):
        more(late, checkpoint)
    late.close()

    assert expected == output(tmp_path)


@pytest.mark.parametrize("step", ["write", "fsync", "ftruncate", "unlink"])
def test_while_a_pull_touches_the_files_no_other_can_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    """Not between the look at `seq` and the bytes, and not while a tail is being cut."""
    made, checkpoint = begun(tmp_path, last=True)
    given_up = after(checkpoint, 1, anew=True)
    made.commit([record(4)], [], given_up)
    made.close()
    with (tmp_path / "shop" / "orders.jsonl.g2").open("ab") as file:
        file.write(b"a tail")
    state = tmp_path / "shop" / ".syncer" / "state.db"
    real: Callable[..., object] = getattr(os, step)
    refused = []

    def tried(*arguments: object, **options: object) -> object:
        """The step; if it is on an output file, another writer tries its luck first."""
        which = arguments[0]
        path = Path(f"/proc/self/fd/{which}").readlink() if isinstance(which, int) else Path(str(which))
        if path.is_file() and path.parent == tmp_path / "shop":
            with closing(sqlite3.connect(state, timeout=0, isolation_level=None)) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                    refused.append("no")
                except sqlite3.OperationalError as error:
                    refused.append(str(error))
        return real(*arguments, **options)

    made = JsonLines(tmp_path / "shop", ORDERS)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, tried)
        checkpoint = made.open()
        made.commit([record(6)], [], after(replace(checkpoint, cursor=None), 1, anew=True))
    made.close()

    assert {"database is locked"} == set(refused)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_nothing_is_written_to_a_file_that_does_not_end_where_the_last_page_did(
    tmp_path: Path, kind: str, change: str
) -> None:
    made, checkpoint = begun(tmp_path)
    path = tmp_path / "shop" / NAMES[kind]
    content = path.read_bytes()
    path.write_bytes(content + b"x" if change == "longer" else content[:-1])
    expected = output(tmp_path)
    wrong = len(content) + (1 if change == "longer" else -1)

    with pytest.raises(StateError, match=f"{path} has {wrong:,} bytes, this pull has written {len(content):,}"):
        more(made, checkpoint)
    made.close()

    assert expected == output(tmp_path)
    assert checkpoint == made.peek()


def test_opening_a_database_again_does_not_drop_the_lock_of_a_commit_in_this_process(tmp_path: Path) -> None:
    """POSIX: to close any descriptor of a file drops all locks that the process has on it."""
    path = tmp_path / "state.db"
    with closing(disk.database(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        disk.database(path).close()
        code = (
            "import sqlite3, sys\n"
            "connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
            "try: connection.execute('BEGIN IMMEDIATE'); print('got it')\n"
            "except sqlite3.OperationalError as error: print(error)"
        )
        said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)

    assert said.stdout == "database is locked\n"


# Files taken away while the pull runs


def _replaced(path: Path) -> None:
    content = path.read_bytes()
    path.rename(path.with_name("away"))
    path.write_bytes(content)


def _linked(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.symlink_to("away")


TAKEN = {
    "deleted": Path.unlink,
    "moved": lambda path: path.rename(path.with_name("away")),
    "replaced": _replaced,
    "replaced by a link": _linked,
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("how", TAKEN)
def test_an_output_file_taken_away_while_the_pull_runs_stops_it(tmp_path: Path, kind: str, how: str) -> None:
    made, checkpoint = begun(tmp_path)
    path = tmp_path / "shop" / NAMES[kind]
    TAKEN[how](path)
    expected = output(tmp_path)

    with pytest.raises(StateError, match=f"{path} was deleted, moved or replaced") as error:
        more(made, checkpoint)
    made.close()

    assert error.value.exit_code == 8
    assert "reset shop orders" in error.value.hint
    assert expected == output(tmp_path)
    assert checkpoint == made.peek()


@pytest.mark.parametrize("kind", NAMES)
def test_an_output_file_taken_away_while_a_page_is_written_is_noticed_before_the_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    made, checkpoint = begun(tmp_path)
    path = tmp_path / "shop" / NAMES[kind]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path.unlink(missing_ok=True)
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StateError, match=f"{path} was deleted"):
            more(made, checkpoint)
    made.close()

    assert checkpoint == made.peek()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_database_taken_away_while_the_pull_runs_stops_it(tmp_path: Path, kind: str, how: str) -> None:
    made = sink(kind, tmp_path, "shop", ORDERS)
    checkpoint = after(made.open(), 1)
    made.commit([record(1)], [], checkpoint)
    path = tmp_path / "shop" / (".syncer/state.db" if kind == "jsonl" else "shop.db")
    TAKEN[how](path)
    expected = output(tmp_path)

    with pytest.raises(StateError, match=f"{path} was deleted, moved or replaced") as error:
        made.commit([record(2)], [], after(checkpoint, 1))
    made.close()

    assert error.value.exit_code == 8
    assert expected == output(tmp_path)


def refreshed(monkeypatch: pytest.MonkeyPatch, out: Path) -> dict[str, bytes]:
    """A refresh that was killed after its last row and before its files got their final names."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    made, checkpoint = begun(out, last=True)
    last = after(checkpoint, 1, 1, last=True, anew=True)
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "_publish", kill)
        with pytest.raises(KeyboardInterrupt):
            made.commit([record(6)], [reject(7)], last)
    made.close()
    return output(out)


def test_a_refresh_killed_before_its_names_gets_them_at_the_next_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = refreshed(monkeypatch, tmp_path)
    (tmp_path / "shop" / "orders.jsonl.g2").rename(tmp_path / "shop" / "orders.jsonl")  # as if killed between the two

    made, _ = opened(tmp_path)
    made.close()

    assert {name: before[f"{name}.g2"] for name in NAMES.values()} == output(tmp_path)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("harm", ["missing", "shorter", "changed"])
def test_a_complete_refresh_that_was_harmed_does_not_take_the_place_of_the_old_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, harm: str
) -> None:
    before = refreshed(monkeypatch, tmp_path)
    path = tmp_path / "shop" / f"{NAMES[kind]}.g2"
    good = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(good[:-1] if harm == "shorter" else b"[" + good[1:])
    made = JsonLines(tmp_path / "shop", ORDERS)

    with pytest.raises(StateError, match=NAMES[kind]):
        made.open()
    made.close()

    left = output(tmp_path)
    assert {name: before[name] for name in NAMES.values()} == {name: left[name] for name in NAMES.values()}


# Setting aside


def test_two_resets_in_one_second_keep_both_outputs(tmp_path: Path) -> None:
    kept = []
    for number in (1, 2, 3):
        made, checkpoint = opened(tmp_path)
        made.commit([record(number)], [reject(number)], after(checkpoint, 1, 1))
        made.close()
        content = (tmp_path / "shop" / "orders.jsonl").read_bytes()
        names = made.set_aside("20260131T120000Z")
        kept.append((names[0], content))

    stamped = str(tmp_path / "shop" / "orders.jsonl.before-20260131T120000Z")
    assert [stamped, f"{stamped}-2", f"{stamped}-3"] == [name for name, _ in kept]
    assert [content for _, content in kept] == [Path(name).read_bytes() for name, _ in kept]


def test_a_second_long_tail_does_not_overwrite_the_first(tmp_path: Path) -> None:
    made, _ = begun(tmp_path)
    made.close()
    path = tmp_path / "shop" / "orders.jsonl"
    expected = path.read_bytes()
    tails = [b"x" * 3_000_000, b"y" * 3_000_000]
    for tail in tails:
        path.write_bytes(expected + tail)
        made, _ = opened(tmp_path)
        made.close()

    kept = path.with_name(f"orders.jsonl.tail-{len(expected)}")
    assert expected == path.read_bytes()
    assert tails == [kept.read_bytes(), kept.with_name(f"{kept.name}-2").read_bytes()]
    assert f"{kept.name}-2" in made.notes[0]


def test_to_set_aside_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    nowhere = JsonLines(tmp_path / "mistyped" / "shop", ORDERS)

    assert [] == list(nowhere.set_aside("20260131T120000Z"))
    assert [] == list(tmp_path.iterdir())


# Reading the rejects


def test_rejects_are_read_beside_a_pull_that_is_appending(tmp_path: Path) -> None:
    made, _ = begun(tmp_path)
    with (tmp_path / "shop" / "orders.rejects.jsonl").open("ab") as file:
        file.write(b'{"a page": "half writ')

    assert [reject(3).line] == list(made.rejects())
    made.close()


@pytest.mark.parametrize("harm", ["shorter", "gone", "no newline", "changed"])
def test_rejects_that_are_not_what_was_committed_are_an_error_that_says_where(tmp_path: Path, harm: str) -> None:
    made, _ = begun(tmp_path)
    made.close()
    path = tmp_path / "shop" / "orders.rejects.jsonl"
    good = path.read_bytes()
    size = len(good)
    said = {
        "shorter": (good[:-1], f"has {size - 1} bytes, the checkpoint vouches for {size}"),
        "gone": (b"", f"is missing, {size} bytes of it are vouched for"),
        "no newline": (good[:-1] + b"x", f"has no end of line at byte {size}"),
        "changed": (b"[" + good[1:], f"differs from what was written in bytes 0 to {size}"),
    }
    path.write_bytes(said[harm][0])
    if harm == "gone":
        path.unlink()

    with pytest.raises(StateError, match=f"{path} {said[harm][1]}"):
        list(made.rejects())


def test_rejects_cut_while_they_are_read_are_an_error_that_says_where(tmp_path: Path) -> None:
    made, checkpoint = opened(tmp_path)
    many = [replace(reject(number), line=b"x" * 9_999) for number in range(40)]
    made.commit([], many, after(checkpoint, 0, 40))
    made.close()
    path = tmp_path / "shop" / "orders.rejects.jsonl"
    lines = made.rejects()
    next(lines)
    os.truncate(path, 305_000)

    with pytest.raises(StateError, match=f"{path} was changed while it was read: no end of line after byte 300,000"):
        list(lines)


def test_rejects_of_the_last_complete_output_must_end_with_a_line(tmp_path: Path) -> None:
    """While a refresh is under way no row says how long this file is; that it has whole lines is known."""
    made, checkpoint = begun(tmp_path, last=True)
    made.commit([], [reject(7)], after(checkpoint, 0, 1, anew=True))
    made.close()
    assert [reject(3).line, reject(7).line] == list(made.rejects())
    path = tmp_path / "shop" / "orders.rejects.jsonl"
    os.truncate(path, path.stat().st_size - 1)

    with pytest.raises(StateError, match=f"{path} has no end of line at byte"):
        list(made.rejects())


def test_rejects_of_a_refresh_that_ends_between_the_look_and_the_reading_are_read_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, checkpoint = begun(tmp_path, last=True)
    open_page = after(checkpoint, 0, 1, anew=True)
    made.commit([], [reject(7)], open_page)
    stale = disk.peek(tmp_path / "shop" / ".syncer" / "state.db", "orders")
    made.commit([], [reject(8)], after(open_page, 0, 1, last=True))
    made.close()
    rows = iter([stale])
    real = disk.peek

    monkeypatch.setattr(disk, "peek", lambda path, stream: next(rows, None) or real(path, stream))

    assert [reject(7).line, reject(8).line] == list(made.rejects())


@pytest.mark.parametrize("renamed", [[], ["records"], ["records", "rejects"]])
def test_rejects_of_a_refresh_killed_while_its_files_were_renamed_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, renamed: list[str]
) -> None:
    refreshed(monkeypatch, tmp_path)
    for kind in renamed:
        path = tmp_path / "shop" / NAMES[kind]
        path.with_name(f"{path.name}.g2").replace(path)

    assert [reject(7).line] == list(JsonLines(tmp_path / "shop", ORDERS).rejects())


def test_rejects_of_a_refresh_whose_file_is_renamed_between_the_look_and_the_reading_are_read_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refreshed(monkeypatch, tmp_path)
    path = tmp_path / "shop" / NAMES["rejects"]
    made = JsonLines(tmp_path / "shop", ORDERS)
    looked = disk.size

    def size(of: Path) -> int | None:
        found = looked(of)
        if of.name.endswith(".g2") and found is not None:
            of.replace(path)
        return found

    monkeypatch.setattr(disk, "size", size)

    assert [reject(7).line] == list(made.rejects())


# Full, broken and forbidden


def test_a_lock_on_a_full_disk_is_a_lock_all_the_same(tmp_path: Path) -> None:
    made = disk.Lock(tmp_path / "lock")
    with files_of_at_most(0):
        made.acquire("orders")

    with pytest.raises(LockError, match=r"another pull of orders is at work$"):
        disk.Lock(tmp_path / "lock").acquire("orders")
    made.release()


def test_a_page_that_does_not_fit_on_the_disk_is_a_sink_error_and_leaves_no_trace(tmp_path: Path) -> None:
    made, checkpoint = begun(tmp_path)
    expected = output(tmp_path)
    with files_of_at_most(1000), pytest.raises(SinkError) as error:
        made.commit([record(number) for number in range(20)], [], after(checkpoint, 20))
    made.close()

    assert error.value.exit_code == 6
    assert "orders.jsonl: File too large" in error.value.message
    assert "bytes free" in error.value.message
    assert expected == output(tmp_path)
    again, found = opened(tmp_path)
    more(again, found)
    again.close()


@pytest.mark.parametrize("where", ["records", "rejects"])
def test_a_replay_that_does_not_fit_on_the_disk_is_a_sink_error_and_leaves_no_trace(tmp_path: Path, where: str) -> None:
    made, checkpoint = begun(tmp_path)
    expected = output(tmp_path)
    moved = Counts(written=1, rejected=-1)
    long: Record | bytes = record(9, title="x" * 5000) if where == "records" else b'{"v":1,"x":"' + b"x" * 5000 + b'"}'
    with files_of_at_most(2000), pytest.raises(SinkError) as error:
        made.amend(lambda line: long, lambda: checkpoint.settled(moved, moved, {}, {}, ""))
    made.close()

    assert error.value.exit_code == 6
    assert "File too large" in error.value.message
    assert expected == output(tmp_path)
    again, found = opened(tmp_path)
    assert [] == again.notes
    more(again, found)
    again.close()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a file that always fails")
def test_an_input_output_error_is_a_sink_error() -> None:
    """A real one: address 0 of a process cannot be read."""
    path = Path("/proc/self/mem")
    descriptor = os.open(path, os.O_RDONLY)
    with (
        pytest.raises(SinkError, match=f"cannot read {path}: Input/output error") as error,
        disk.explained(path, "read"),
    ):
        os.pread(descriptor, 1, 0)
    os.close(descriptor)

    assert error.value.exit_code == 6


def immutable(path: Path) -> Callable[[], object] | None:
    """Forbid changes to a directory, also to root; what allows them again, or None where that cannot be done."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        if subprocess.run(["chattr", "+i", str(path)], capture_output=True, check=False).returncode == 0:
            return lambda: subprocess.run(["chattr", "-i", str(path)], check=True)
    except FileNotFoundError:
        pass
    if os.geteuid():
        path.chmod(0o500)
        return lambda: path.chmod(0o700)
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", [".", "shop", "shop/.syncer"])
def test_a_directory_that_cannot_be_changed_is_a_sink_error(tmp_path: Path, kind: str, where: str) -> None:
    out = tmp_path / "out"
    allow = immutable(out / where)
    if allow is None:
        pytest.skip("nothing binds this user here")
    made = sink(kind, out, "shop", ORDERS)
    try:
        with pytest.raises(SinkError) as error:
            made.open()
    finally:
        made.close()
        allow()

    assert error.value.exit_code == 6
    assert str(out) in error.value.message
    assert any(words in error.value.message for words in ("not permitted", "Permission denied", "unable to open"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["out", "out/shop", "out/shop/.syncer"])
def test_a_file_where_a_directory_should_be_is_a_sink_error_that_names_it(tmp_path: Path, kind: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("a file")
    made = sink(kind, tmp_path / "out", "shop", ORDERS)

    with pytest.raises(SinkError, match=f"cannot make the directory {tmp_path / file}: File exists") as error:
        made.open()

    assert error.value.exit_code == 6


@pytest.mark.parametrize("name", ["orders.jsonl", "orders.rejects.jsonl", ".syncer/orders.jsonl.lock"])
def test_a_directory_where_a_file_should_be_is_a_sink_error_that_names_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shop" / name
    path.mkdir(parents=True)
    made = JsonLines(tmp_path / "shop", ORDERS)

    with pytest.raises(SinkError, match=f"{path}: Is a directory") as error:
        made.open()
    made.close()

    assert error.value.exit_code == 6


def test_a_name_that_is_too_long_is_said_and_not_a_traceback(tmp_path: Path) -> None:
    out = "x" * 300

    done = Project(tmp_path).run("pull", "demo", "--quiet", "--out", out)

    assert done.code == 6
    assert os.strerror(errno.ENAMETOOLONG) in done.said
    assert out in done.said


def test_the_name_of_a_file_that_a_killed_pull_made_is_made_durable_by_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The killed one may not have come to it, and a power cut would take the name after a row vouched for it."""
    (tmp_path / "orders.jsonl").touch()
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    os.close(disk.open_file(tmp_path / "orders.jsonl"))

    assert [tmp_path.stat().st_ino] == synced


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "asking",
    [
        lambda made: made.open(),
        lambda made: made.peek(),
        lambda made: list(made.rejects()),
        lambda made: made.set_aside("20260131T120000Z"),
    ],
)
def test_whatever_is_asked_of_an_output_whose_name_is_too_long_is_a_sink_error(
    tmp_path: Path, kind: str, asking: Callable[[Sink], object]
) -> None:
    made = sink(kind, tmp_path / ("x" * 300), "shop", ORDERS)

    with pytest.raises(SinkError, match=os.strerror(errno.ENAMETOOLONG)):
        asking(made)


# Evidence


@pytest.mark.parametrize("before", [65_536 - 5, 65_536 - 3, 10])
def test_evidence_holds_no_part_of_a_secret_that_lies_across_its_end(tmp_path: Path, before: int) -> None:
    secret = "hunter2-hunter2"
    content = b"x" * before + secret.encode() + b"y" * 100_000

    kept = Path(disk.evidence(tmp_path, "orders", content, [secret])).read_bytes()

    assert (content.replace(secret.encode(), b"***"))[:65_536] == kept
