"""What runs out: memory, descriptors, room on the disk, the right to write. It ends with a message and loses nothing.

However much a server sends, a pull takes no more memory than a page may hold; and where there is less than that, it
ends with exit code 6 and goes on exactly when there is more. The same for everything else that can run out.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.api import Api, Asked, Reply, connector, record
from tests.command import CLEAN, lines
from tests.forked import Ended, command
from tests.scripted import Talk, response, scripted

RECORDS = [record(number, name=None if number in (2, 9) else f"n° {number}") for number in range(1, 13)]
SINKS = ["jsonl", "sqlite"]


# --- memory ---

PEAK = """
import atexit, re, sys
from pathlib import Path

def told():
    Path("peak").write_text(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

atexit.register(told)
sys.argv[0] = "syncer"
from syncer.__main__ import main
main()
"""
"""The command, which leaves the most memory it ever had in kilobytes; rusage would begin with that of these tests."""

MANY = """
from pydantic import BaseModel
from syncer import *

class Item(BaseModel):
    id: int
    many: list[int] = []
    text: str = ""

items = Stream(name="items", path="/items", records="items", model=Item, pagination=SinglePage(), max_rejects="100%")
connector = Connector(name="shop", base_url="{url}", streams=(items,))
"""


def bomb(megabytes: int) -> bytes:
    """So many megabytes of zeros, compressed a thousandfold."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


def endless(head: bytes, piece: bytes) -> Callable[[Talk], None]:
    def answer(talk: Talk) -> None:
        talk.hear()
        talk.say(b"HTTP/1.1 200 OK\r\n" + head)
        while True:
            talk.say(piece)

    return answer


def page(records: bytes) -> bytes:
    return response(b'{"items": [' + records + b"]}")


def long(*case: Any, id: str) -> Any:  # noqa: A002 as pytest calls it
    return pytest.param(*case, id=id, marks=pytest.mark.long)


FLOODS = [
    pytest.param(response(bomb(1000), "200 OK", "Content-Encoding: gzip"), 700, 9, id="a bomb of a gigabyte"),
    pytest.param(endless(b"Content-Length: 1000000000000\r\n\r\n", b" " * 65536), 220, 9, id="a body without end"),
    pytest.param(endless(b"X: ", b"y" * 65536), 100, 9, id="a line without end"),
    pytest.param(page(b'{"id": 1, "x": ' + b"[" * 10**7 + b"]" * 10**7 + b"}"), 320, 9, id="ten million levels"),
    pytest.param(page(b'{"id": 1, "many": [' + b'"x",' * 99_990 + b"1]}"), 300, 0, id="100,000 errors"),
    pytest.param(page(b'{"id": 1, "many": [' + b"1," * 10**7 + b"1]}"), 500, 0, id="ten million values in a record"),
    pytest.param(page(b'{"id": 1},' * 249_999 + b'{"id": 2}'), 320, 0, id="250,000 tiny records"),
    pytest.param(page(b'{"id": "1", "text": "' + b"x" * 6 * 10**7 + b'"}'), 500, 0, id="a huge bad string"),
    long(endless(b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"z" * 65536 + b"\r\n"), 220, 9, id="chunks"),
    long(page(b'{"id": ""},' * 249_999 + b'{"id": 2}'), 1700, 0, id="250,000 tiny rejects"),
    long(page(b'{"id": 1},' * 10**6 + b'{"id": 2}'), 320, 9, id="a million tiny records"),
    long(page(b'{"id": 1, "text": "' + b"x" * 6 * 10**7 + b'"}'), 500, 0, id="a huge string"),
    long(page(b'{"id": NaN, "text": "' + b"x" * 6 * 10**7 + b'"}'), 600, 0, id="a huge string beside NaN"),
    long(page(b'{"id": 1,' + b",".join(b'"f%d":1' % n for n in range(2 * 10**6)) + b"}"), 600, 0, id="fields"),
    long(page(b'{"id": 1, "many": [' + b'"x",' * 999_990 + b"1]}"), 1400, 0, id="a million errors"),
    long(page(b'{"id": 1, "many": [' + b'"x",' * 19 * 10**6 + b"1]}"), 900, 0, id="nineteen million errors"),
]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the most memory of a process is read from /proc")
@pytest.mark.parametrize(("answer", "most", "code"), FLOODS)
def test_however_much_a_server_sends_memory_is_bounded_by_the_page(
    memory: Path, answer: Any, most: int, code: int
) -> None:
    (memory / "connectors").mkdir()
    with scripted(then=answer) as server:
        (memory / "connectors" / "shop.py").write_text(MANY.replace("{url}", server.url))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, "pull", "shop", "--quiet"],
            cwd=memory,
            env={**CLEAN, "HOME": str(memory), "SYNCER_STATE": str(memory / "state")},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    peak = int((memory / "peak").read_text()) // 1024
    assert 20 < peak < most


# --- a project in memory, whose pulls are forks ---


@pytest.fixture
def shop(memory: Path) -> Iterator[tuple[Api, Path]]:
    (memory / "connectors").mkdir()
    with Api(RECORDS) as api:
        (memory / "connectors" / "shop.py").write_text(connector(api.url, stream='max_rejects="100%"'))
        yield api, memory


def pull(project: Path, sink: str, *options: str, out: Path | None = None, run: int = 1, **how: Any) -> Ended:
    arguments = ["pull", "shop", "--out", out or project / "out", "--sink", sink, "--quiet", *options]
    return command(arguments, project, project, run=run, **how)


def outcome(out: Path, sink: str) -> dict[str, Any]:
    """What a user would look at."""
    home = out / "shop"
    if sink == "sqlite":
        with closing(sqlite3.connect(home / "shop.db")) as connection:
            rejects = connection.execute("SELECT line FROM syncer_rejects ORDER BY id").fetchall()
            rows = connection.execute("SELECT * FROM items").fetchall()
        return {"rows": rows, "rejects": [re.sub(r'"run":\d+', '"run":0', line) for (line,) in rejects]}
    files = {path.name: path.read_bytes() for path in sorted(home.iterdir()) if path.is_file()}
    return {name: re.sub(rb'"run":\d+', b'"run":0', content) for name, content in files.items()}


def explained(done: Ended) -> bool:
    return "Traceback" not in done.said and bool(re.search(r"^error: .+\n  → .+", done.said, re.MULTILINE))


def at_most(kind: int, count: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (count, count))


def room(size: int) -> Callable[[], None]:
    """So many bytes of memory more than there are in use."""

    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + size, used + size))

    return limit


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory in use is read from /proc")
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("how", ["compressed", "plain"])
def test_a_pull_that_runs_out_of_memory_says_so_and_goes_on_exactly(
    shop: tuple[Api, Path], sink: str, how: str
) -> None:
    api, project = shop
    calm = pull(project, sink, out=project / "calm")
    assert (0, "") == (calm.code, calm.said)
    body = bomb(250) if how == "compressed" else b" " * 60_000_000
    headers = {"Content-Encoding": "gzip"} if how == "compressed" else {}

    def flood(asked: Asked) -> Reply | None:
        return Reply(body=body, headers=headers) if asked.query.get("cursor") == "4" else None

    api.misbehave = flood
    done = pull(project, sink, before=room(60_000_000))
    assert (6, "error: out of memory") == (done.code, done.said.splitlines()[0])
    assert explained(done)

    api.misbehave = None
    api.seen.clear()
    assert 0 == pull(project, sink, run=2).code
    assert ["4", "8"] == [asked.query.get("cursor", "") for asked in api.seen]
    assert outcome(project / "calm", sink) == outcome(project / "out", sink)


ROOM = """
import resource, sys
from pathlib import Path
import syncer, syncer.pull, syncer.sinks.jsonl, syncer.sinks.sqlite
from syncer.cli import main
[getattr(syncer, name) for name in syncer.__all__]
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv.pop(1)),) * 2)
sys.argv[0] = "syncer"
main()
"""
"""The command with so many bytes more than it has when it begins; a fork would also have what its parent set free."""


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory in use is read from /proc")
@pytest.mark.parametrize("sink", ["jsonl", pytest.param("sqlite", marks=pytest.mark.long)])
def test_wherever_memory_runs_out_the_next_pull_ends_the_same(
    shop: tuple[Api, Path], sink: str, seed: int, long: bool
) -> None:
    """Also where a library written in C or Rust gives up with a signal, which is like kill -9.

    First it is halved again and again how much a pull wants; then it gets less than that.
    """
    api, project = shop
    api.records = [record(number, name="x" * 2_000_000) for number in range(1, 13)]
    assert 0 == pull(project, sink, out=project / "calm").code
    expected = outcome(project / "calm", sink)
    codes: Counter[int] = Counter()

    def live(size: int) -> bool:
        """Whether a pull succeeds with so much room; if not, the next one must."""
        out = project / "out"
        shutil.rmtree(out, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-c", ROOM, str(size), "pull", "shop", "--out", out, "--sink", sink, "--quiet"],
            cwd=project,
            env={**CLEAN, "HOME": str(project), "SYNCER_STATE": str(project / "state")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        how = f"{size} bytes, seed {seed}: {done.stderr}"
        codes[done.returncode] += 1
        assert "Traceback" not in done.stderr, how
        assert done.returncode in (0, 6, -signal.SIGSEGV, -signal.SIGABRT), how
        assert bool(re.search(r"^error: .+\n  → .+", done.stderr, re.MULTILINE)) == (done.returncode == 6), how
        if done.returncode:
            again = pull(project, sink, run=2)
            assert 0 == again.code, f"{how}\nand then: {again.said}"
        assert expected == outcome(out, sink), how
        return done.returncode == 0

    too_little, enough = 16_000_000, 300_000_000  # with less, Python itself waits for ever for a thread to begin
    assert not live(too_little)
    while enough - too_little > 32_000_000:
        middle = (too_little + enough) // 2
        if live(middle):
            enough = middle
        else:
            too_little = middle
    dice = random.Random(f"{seed} {sink}")
    for _ in range(100 if long else 2):
        live(dice.randrange(16_000_000, enough))
    assert not long or codes.total() - codes[0] > 20
    print(f"a pull wants {enough:,} bytes; ended with {dict(codes)}")


# --- descriptors ---


@pytest.mark.parametrize("sink", ["jsonl", pytest.param("sqlite", marks=pytest.mark.long)])
def test_however_few_files_may_be_open_a_pull_ends_well_or_says_so(shop: tuple[Api, Path], sink: str) -> None:
    _, project = shop
    assert 0 == pull(project, sink, out=project / "calm").code
    codes: list[int] = []
    while not codes or codes[-1]:
        shutil.rmtree(project / "out", ignore_errors=True)
        done = pull(project, sink, before=at_most(resource.RLIMIT_NOFILE, 3 + len(codes)))
        codes.append(done.code)
        assert done.code in (0, 4, 6), done.said
        assert explained(done) == (done.code != 0), done.said
        if done.code == 4:
            assert "too many open files" in done.said
        assert 0 == pull(project, sink, run=2).code
        assert outcome(project / "calm", sink) == outcome(project / "out", sink)
    assert 5 < len(codes) < 30
    assert codes.count(6) > 3


# --- threads ---


def threadless() -> None:
    """Every thread wants a stack that is larger than all the memory there may be."""
    resource.setrlimit(resource.RLIMIT_STACK, (2**32, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a thread's stack is that of the process on Linux only")
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("begun", [False, True], ids=["nothing there", "a run begun"])
def test_where_no_thread_can_be_started_a_pull_says_so_and_goes_on_exactly(
    shop: tuple[Api, Path], sink: str, begun: bool
) -> None:
    """In a process of its own, because a fork keeps the size."""
    _, project = shop
    assert 0 == pull(project, sink, out=project / "calm").code
    if begun:
        assert 0 == pull(project, sink, "--max-pages", "1").code
    done = subprocess.run(
        [sys.executable, "-m", "syncer", "pull", "shop", "--out", "out", "--sink", sink, "--quiet"],
        cwd=project,
        env={**CLEAN, "HOME": str(project), "SYNCER_STATE": str(project / "state")},
        preexec_fn=threadless,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (6, "error: can't start new thread") == (done.returncode, done.stderr.splitlines()[0]), done.stderr
    assert "Traceback" not in done.stderr
    assert 0 == pull(project, sink, run=2).code
    assert outcome(project / "calm", sink) == outcome(project / "out", sink)


# --- the disk ---


@pytest.mark.parametrize("sink", SINKS)
def test_however_long_a_file_may_be_a_pull_ends_well_or_says_so(
    shop: tuple[Api, Path], sink: str, seed: int, long: bool
) -> None:
    """RLIMIT_FSIZE: the write that goes beyond it takes a part of the bytes, the next one none."""
    _, project = shop
    assert 0 == pull(project, sink, out=project / "calm").code
    largest = max(path.stat().st_size for path in (project / "calm").rglob("*") if path.is_file())
    sizes = list(range(largest + 1))
    dice = random.Random(f"{seed} {sink}")
    codes: Counter[int] = Counter()
    for size in sizes[:: 1 if long and sink == "jsonl" else 37] if long else dice.sample(sizes, 10):
        shutil.rmtree(project / "out", ignore_errors=True)
        done = pull(project, sink, before=at_most(resource.RLIMIT_FSIZE, size))
        codes[done.code] += 1
        assert done.code in (0, 6), f"{size} bytes, seed {seed}: {done.said}"
        assert not done.code or explained(done), done.said
        assert 0 == pull(project, sink, run=2).code
        assert outcome(project / "calm", sink) == outcome(project / "out", sink), f"{size} bytes, seed {seed}"
    assert codes[6] > 0
    print(dict(codes))


def mounted(where: Path, *options: str) -> None:
    """A small disk in memory; the test is skipped where nothing can be mounted."""
    where.mkdir(exist_ok=True)
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("to mount a small disk takes root and `mount`; RLIMIT_FSIZE is tested everywhere")
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(where)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")


def remounted(where: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(where)], check=True)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("what", ["size", "nr_inodes"])
def test_however_small_the_disk_is_a_pull_ends_well_or_says_what_is_missing(
    shop: tuple[Api, Path], sink: str, what: str, seed: int, long: bool
) -> None:
    api, project = shop
    api.records = [record(number, name="x" * 1500) for number in range(1, 41)]
    assert 0 == pull(project, sink, out=project / "calm").code
    steps = range(2, 16) if what == "nr_inodes" else range(4096, 240 * 1024, 4096)
    dice = random.Random(f"{seed} {sink} {what}")
    codes: Counter[int] = Counter()
    for step in steps if long else (steps[0], *dice.sample(steps, 4)):
        small = project / "small"
        mounted(small, "-o", f"{what}={step}")
        try:
            done = pull(project, sink, out=small / "out")
            codes[done.code] += 1
            assert done.code in (0, 6), f"{what} {step}, seed {seed}: {done.said}"
            if done.code:
                assert explained(done), done.said
                assert str(small) in done.said
                remounted(small, "size=10m,nr_inodes=1000")
                assert 0 == pull(project, sink, out=small / "out", run=2).code
            assert outcome(project / "calm", sink) == outcome(small / "out", sink), f"{what} {step}, seed {seed}"
        finally:
            subprocess.run(["umount", str(small)], check=True)
    assert codes[6] > 0
    print(dict(codes))


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("begun", [False, True], ids=["nothing there", "a run begun"])
def test_a_disk_that_is_read_only_is_said_and_nothing_is_lost(shop: tuple[Api, Path], sink: str, begun: bool) -> None:
    api, project = shop
    assert 0 == pull(project, sink, out=project / "calm").code
    disk = project / "disk"
    mounted(disk)
    try:
        if begun:
            assert 0 == pull(project, sink, "--max-pages", "1", out=disk / "out").code
        remounted(disk, "ro")
        api.seen.clear()
        done = pull(project, sink, out=disk / "out", run=2)
        assert 6 == done.code
        assert "Read-only file system" in done.said or "readonly database" in done.said
        assert explained(done)
        assert not begun or not api.seen
        remounted(disk, "rw")
        assert 0 == pull(project, sink, out=disk / "out", run=3).code
        assert outcome(project / "calm", sink) == outcome(disk / "out", sink)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def unprivileged() -> None:
    """Give up what lets root write anywhere."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            libc.capget(header, data)
            for word in (0, 1, 2):
                data[word] &= ~(1 << capability)
            if libc.capset(header, data):
                raise OSError(ctypes.get_errno(), "capset")


@pytest.mark.parametrize("sink", SINKS)
def test_what_may_not_be_written_to_is_said_and_nothing_is_lost(shop: tuple[Api, Path], sink: str) -> None:
    """A directory, in which a file that is there can still be written to, and each of the files."""
    _, project = shop
    assert 0 == pull(project, sink, out=project / "calm").code
    home = project / "out" / "shop"
    assert 0 == pull(project, sink, "--max-pages", "1").code
    vital = [home / "shop.db"] if sink == "sqlite" else [home / "items.jsonl", home / ".syncer" / "state.db"]
    for path in (*vital, home, home / ".syncer"):
        shutil.rmtree(home)
        assert 0 == pull(project, sink, "--max-pages", "1").code
        path.chmod(0o500 if path.is_dir() else 0o400)
        done = pull(project, sink, run=2, before=unprivileged)
        path.chmod(0o700 if path.is_dir() else 0o600)
        assert done.code in ((6,) if path in vital else (0, 6)), f"{path}: {done.said}"
        assert explained(done) == (done.code == 6)
        assert 0 == pull(project, sink, run=3).code
        assert outcome(project / "calm", sink) == outcome(project / "out", sink)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("out", ["/dev/full", "/dev/null/out", "/proc/out"])
def test_an_output_where_none_can_be_is_said_before_anything_is_asked(
    shop: tuple[Api, Path], sink: str, out: str
) -> None:
    api, project = shop
    done = pull(project, sink, out=Path(out))
    assert 6 == done.code, done.said
    assert explained(done)
    assert [] == api.seen


def test_a_full_log_loses_lines_and_not_the_pull(shop: tuple[Api, Path]) -> None:
    _, project = shop
    assert 0 == pull(project, "jsonl", "--log", "/dev/full").code
    good = [one for one in RECORDS if one["name"]]
    assert lines(good) == (project / "out" / "shop" / "items.jsonl").read_bytes()
