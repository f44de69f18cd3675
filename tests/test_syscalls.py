"""Every system call of a pull that touches its output fails, or is the last one before a kill -9.

strace counts the calls and lets the n-th fail, once or from then on, with each error a disk can give; or it kills
the process before it, or interrupts it. Whatever call it was: the pull ends with exit code 6 and a message (green
only where the call does not matter), never with a traceback, and the same command run again ends in the bytes, or
rows, of a pull that was never disturbed.

The short form takes a sample of the calls by the printed seed; --long takes them all.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.api import Api, connector, record
from tests.forked import Ended, command, untraceable

pytestmark = pytest.mark.skipif(bool(untraceable()), reason=untraceable() or "traceable")

RECORDS = [record(number, name=None if number in (2, 9) else f"n° {number}") for number in range(1, 13)]
READING = ("pread64", "read", "newfstatat", "getdents64", "fcntl", "flock")
WRITING = ("openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "mkdir", "rename", "unlink")
FAULTS = {
    "EIO": ("error=EIO", (*READING, *WRITING, "fchown", "close")),
    "ENOSPC": ("error=ENOSPC", WRITING),
    "EDQUOT": ("error=EDQUOT", WRITING),
    "EROFS": ("error=EROFS", ("openat", "ftruncate", "mkdir", "rename", "unlink")),
    "nothing is taken": ("retval=0", ("write", "pwrite64")),
    "bytes are lost": ("retval=4", ("write",)),
    "SIGKILL": ("signal=SIGKILL", (*READING, *WRITING, "fchown", "close")),
    "SIGINT": ("signal=SIGINT", (*READING, *WRITING, "fchown", "close")),
}
"""What strace does to a call, and to which."""
CASES = [
    (sink, kind, fault)
    for sink in ("jsonl", "sqlite")
    for kind in ("first", "refresh")
    for fault in FAULTS
    if (sink, fault) != ("sqlite", "bytes are lost")  # which no program could notice before it reads them again
]
COMMITS = "Beside"
"""The class in whose thread pages are committed."""
SAMPLE = 6
"""How many calls of each story, sink and kind the short form takes."""


@dataclass(frozen=True)
class Call:
    """One system call: which, the how many-th of its kind, and which file it was about."""

    name: str
    number: int
    path: str
    thread: str
    """Which thread makes it: the class whose work it does; empty for the first."""

    @property
    def vital(self) -> bool:
        """Whether a pull in which it failed cannot be complete."""
        if "/runs" in self.path or self.path.endswith(".lock"):
            return False  # the ledger and the name in a lock tell, they do not hold
        if self.name == "fdatasync":
            return ".db" in self.path  # SQLite does not insist on the directory of its journal
        if self.name == "fsync":
            return not self.path.endswith(".syncer")  # which the ledger's directory needs too
        return self.name in ("mkdir", "rename", "write", "pwrite64")

    def codes(self, fault: str) -> tuple[int, ...]:
        """How a pull may end in which it failed."""
        if fault == "SIGKILL":
            return (-signal.SIGKILL,)
        if fault == "SIGINT":
            return (0, 128 + signal.SIGINT)
        if fault == "bytes are lost":
            return (8,) if "items" in self.path else (0, 8)
        if ".db" in self.path and self.name in ("pread64", "newfstatat"):
            return (0, 6, 8)  # SQLite calls a database damaged, or moved, that it cannot read
        return (6,) if self.vital and fault != "nothing is taken" else (0, 6)


@dataclass
class Story:
    """A pull into a sink, over nothing or over an older output, that can be done again and again."""

    project: Path
    sink: str
    older: Path | None
    calls: dict[str, list[Call]]
    paths: tuple[Path, ...]
    expected: dict[str, Any]
    home: Path

    def prepared(self) -> None:
        """The output as it is before the pull."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        if self.older:
            shutil.copytree(self.older, self.home / "out")

    def pull(self, run: int, *strace: str, thread: str = "") -> Ended:
        """One pull; under strace if there is something for it to do."""
        arguments = ["pull", "shop", "--out", self.home / "out", "--sink", self.sink, "--quiet"]
        wanted = strace or None
        return command(arguments, self.project, self.project, run=run, strace=wanted, paths=self.paths, thread=thread)


def outcome(out: Path, sink: str) -> dict[str, Any]:
    """What a user would look at; a run that is killed behind its last commit is complete, so the next is another."""
    home = out / "shop"
    if sink == "sqlite":
        with closing(sqlite3.connect(home / "shop.db")) as connection:
            rows = connection.execute("SELECT * FROM items").fetchall()
            lines = [line for (line,) in connection.execute("SELECT line FROM syncer_rejects ORDER BY id")]
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        return {"rows": rows, "rejects": [re.sub(r'"run":\d+', '"run":0', line) for line in lines], "tables": names}
    files = {path.name: path.read_bytes() for path in sorted(home.iterdir()) if path.is_file()}
    return {name: re.sub(rb'"run":\d+', b'"run":0', content) for name, content in files.items()}


def touched(line: str, home: Path) -> str:
    """The path in the output that a line of the trace is about; empty if none."""
    found = re.findall(rf'[<"]({re.escape(str(home))}[^>"]*)[>"]', line)
    return found[-1] if found else ""


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Story]]:
    """Each story once without a fault: which calls it makes, and what it ends in."""
    memory = Path("/dev/shm")
    scratch = memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("syscalls")
    with Api(RECORDS) as api, TemporaryDirectory(dir=scratch) as name:
        project = Path(name)
        (project / "connectors").mkdir()
        (project / "connectors" / "shop.py").write_text(connector(api.url, stream='max_rejects="100%"'))
        made = {}
        for sink in ("jsonl", "sqlite"):
            for kind in ("first", "refresh"):
                home = project / f"{sink} {kind}"
                story = Story(project, sink, None, {}, (), {}, home)
                if kind == "refresh":
                    api.records = RECORDS[:7]
                    story.prepared()
                    assert 0 == story.pull(1).code
                    api.records = RECORDS
                    story.older = project / f"{sink} older"
                    shutil.copytree(home / "out", story.older)
                story.prepared()
                calm = story.pull(2, "-f", "-e", "trace=all")
                assert 0 == calm.code, calm.said
                story.paths = tuple({Path(path) for line in calm.trace if (path := touched(line, home))})
                numbers: Counter[tuple[str, str]] = Counter()
                for line in calm.trace:
                    found = re.match(r"(\d+) +(\w+)\(", line)
                    if found and (path := touched(line, home)):
                        thread, name = "" if int(found[1]) == calm.process else COMMITS, found[2]
                        numbers[thread, name] += 1
                        story.calls.setdefault(name, []).append(Call(name, numbers[thread, name], path, thread))
                assert {"", COMMITS} == {thread for thread, _ in numbers}
                story.expected = outcome(home / "out", sink)
                made[sink, kind] = story
        yield made


def broken(story: Story, call: Call, fault: str, when: str) -> tuple[int, list[str]]:
    """A pull in which a call fails, once or from then on: how it ended, and what is wrong about that."""
    what, _ = FAULTS[fault]
    story.prepared()
    inject = f"inject={call.name}:{what}:when={call.number}{when}"
    done = story.pull(2, "-e", f"trace={call.name}", "-e", inject, thread=call.thread)
    wrong = []
    if "Traceback" in done.said or done.code not in call.codes(fault):
        wrong.append(f"ended with {done.code}: {done.said}")
    reached = sum(line.startswith(f"{call.name}(") for line in done.trace) >= call.number
    if not (reached if fault == "SIGINT" else any(line.endswith(("(INJECTED)", "= ?")) for line in done.trace)):
        wrong.append("nothing was done to the call")
    if done.code in (6, 8) and not re.search(r"^error: shop/items: .+\n  → .+", done.said, re.MULTILINE):
        wrong.append(f"not explained: {done.said}")
    missing = r"cannot write [0-9,]+ bytes to .*/items.* \([0-9,]+ bytes free\)"
    if call.name == "write" and call.vital and fault in ("ENOSPC", "EDQUOT") and not re.search(missing, done.said):
        wrong.append(f"does not say what is missing: {done.said}")
    again = story.pull(3) if done.code else done
    if again.code:
        wrong.append(f"the next pull ended with {again.code}: {again.said}")
    elif story.expected != outcome(story.home / "out", story.sink):
        wrong.append("the output differs")
    return done.code, wrong


@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize(("sink", "kind", "fault"), CASES)
def test_whatever_call_fails_the_pull_says_so_and_the_next_one_ends_the_same(
    stories: dict[tuple[str, str], Story], sink: str, kind: str, fault: str, seed: int, long: bool
) -> None:
    story = stories[sink, kind]
    calls = [call for name in FAULTS[fault][1] for call in story.calls.get(name, ())]
    cases = [(call, when) for call in calls for when in ("", "+")[: 1 + (not fault.startswith("SIG"))]]
    assert len(cases) > SAMPLE
    if not long:
        cases = random.Random(f"{seed} {sink} {kind} {fault}").sample(cases, SAMPLE)
    ended: Counter[int] = Counter()
    bad = []

    for call, when in cases:
        code, wrong = broken(story, call, fault, when)
        ended[code] += 1
        bad += [f"{call} {fault} {'from then on' if when else 'once'}: {what}" for what in wrong]

    assert [] == bad, f"seed {seed}"
    print(f"{len(cases)} faults in {len(calls)} calls, ended with {dict(ended)}")
