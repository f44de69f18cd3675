"""The command in a fork of this process: as a user runs it, without an interpreter to start, and under strace if asked.

    done = command(["pull", "shop", "--out", out], project, tmp_path)                   # a whole pull in 50 ms
    done = command(..., strace=("-e", "inject=fsync:error=EIO:when=3"), paths=paths)    # the third fsync fails
    done = command(..., before=lambda: resource.setrlimit(...))                         # done in the fork

The wall stands still in the fork and run number n has the id n, so that two runs write the same bytes and open the
same files.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from typer.main import get_command

import syncer.check
import syncer.cli.commands
import syncer.cli.recorded
import syncer.history
import syncer.ledger
import syncer.overview
import syncer.progress
import syncer.pull
import syncer.sinks.jsonl
import syncer.sinks.sqlite
from syncer.cli import main
from syncer.clock import Clock
from tests.command import CLEAN
from tests.world import BEGAN

PATIENCE = 120
"""Seconds after which a command that does not end is killed by SIGALRM. Nothing is measured against it."""

for _name in syncer.__all__:  # what a connector would import in every fork anew
    getattr(syncer, _name)
get_command(syncer.cli.commands.app)

_ANY_TRACER = 0x59616D61, ctypes.c_ulong(-1).value  # PR_SET_PTRACER: where only parents may trace


@dataclass(frozen=True)
class Ended:
    """How the command ended (negative: the signal that killed it), what it said, and what strace saw of it."""

    code: int
    process: int
    said: str
    trace: tuple[str, ...] = ()


def command(
    arguments: Sequence[str | Path],
    project: Path,
    scratch: Path,
    *,
    run: int = 1,
    before: Callable[[], object] = lambda: None,
    strace: Sequence[str] | None = None,
    paths: Iterable[Path] = (),
    thread: str = "",
) -> Ended:
    """Run the command in a project; `scratch` is where its words and its trace are kept.

    Under strace only calls that touch one of the paths are seen, and counted by what `strace` injects: those of the
    first thread, or of the one that does the work of an object of this class, or with -f of all.
    """
    said, trace = scratch / "said", scratch / "trace"
    hold, go = os.pipe()
    heard, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(go)
            os.close(heard)
            ctypes.CDLL(None).prctl(*_ANY_TRACER, 0, 0, 0)
            os.read(hold, 1)
            if thread:
                threading.setprofile(partial(_held, thread, hold, tell))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            os._exit(_run([str(one) for one in arguments], project, scratch, said, run, before))
        finally:
            os._exit(99)
    os.close(hold)
    os.close(tell)
    tracer, whom = None, b"%d" % child
    try:
        if thread:
            os.write(go, b"x")
            whom = os.read(heard, 20)
        if strace is not None and whom:  # else it ended before there was such a thread
            asked = ["strace", "-y", "-s", "0", "-e", "signal=none", *strace, "-o", str(trace), "-p", whom.decode()]
            asked += [word for path in paths for word in ("-P", str(path))]
            tracer = subprocess.Popen(asked, stderr=subprocess.PIPE, encoding="utf-8")
            if "attached" not in (word := _told(tracer)):
                raise RuntimeError(f"strace says: {word}")
    finally:
        os.close(go)
        os.close(heard)
        _, status = os.waitpid(child, 0)
        if tracer:
            tracer.communicate()
    seen = tuple(trace.read_text("utf-8", "replace").splitlines()) if tracer else ()
    return Ended(os.waitstatus_to_exitcode(status), child, said.read_text("utf-8", "replace"), seen)


def _held(name: str, hold: int, tell: int, *event: object) -> None:
    """In a thread that has just begun: let the parent trace it, if it is the one that is meant."""
    sys.setprofile(None)
    work = getattr(threading.current_thread(), "_target", None)
    if type(getattr(work, "__self__", None)).__name__ == name:
        os.write(tell, b"%d" % threading.get_native_id())
        os.close(tell)
        os.read(hold, 1)


@cache
def untraceable() -> str:
    """Why nothing can be traced here; empty if it can."""
    if not shutil.which("strace"):
        return "strace is not installed"
    hold, go = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(*_ANY_TRACER, 0, 0, 0)
        os.close(go)
        os.read(hold, 1)
        os._exit(0)
    os.close(hold)
    tracer = subprocess.Popen(["strace", "-p", str(child)], stderr=subprocess.PIPE, encoding="utf-8")
    word = _told(tracer)
    os.close(go)
    os.waitpid(child, 0)
    tracer.communicate()
    return "" if "attached" in word else f"this machine lets nothing be traced: {word}"


def _told(tracer: subprocess.Popen[str]) -> str:
    assert tracer.stderr is not None
    return tracer.stderr.readline().strip()


def _run(arguments: list[str], project: Path, scratch: Path, said: Path, run: int, before: Callable[[], object]) -> int:
    os.chdir(project)
    words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in ((0, nothing), (1, words), (2, words)):
        os.dup2(stream, number)
    os.close(words)
    os.close(nothing)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update({**CLEAN, "HOME": str(project), "SYNCER_STATE": str(scratch / "state")})
    os.urandom = lambda size: run.to_bytes(size, "big")
    syncer.cli.commands.Clock = partial(Clock, now=lambda: BEGAN)  # type: ignore[misc, assignment]
    sys.argv = ["syncer", *arguments]
    before()
    try:
        main()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
