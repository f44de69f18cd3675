"""Runs commands and says how long they took, how much CPU they used and how large they were.

CPU seconds are what the system counted for a process and all the children it waited for, user and system together.
The peak resident size is the largest sum over all processes of the run that was seen, looking twenty times a second,
or, if that is more, what the system counted for the largest of them. (Of one smaller than this process here the system
counts this one, which it was copied from; then only the former is taken.)
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

EVERY = 0.05
PAGE = resource.getpagesize()
KILO = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Measured:
    """One run. `began` and `ended` are of the monotonic clock, `machine` is what everybody used together."""

    began: float
    ended: float
    cpu: float
    machine: float
    peak: int
    failed: str


def measure(commands: Sequence[Sequence[str]], out: Path, environment: Mapping[str, str], limit: float) -> Measured:
    """Run commands as a pipeline, the output of the last into `out`/stdout, and wait for all."""
    with contextlib.ExitStack() as opened:
        said = opened.enter_context((out / "stdout").open("wb"))
        errors = opened.enter_context((out / "stderr").open("wb"))
        began, busy = time.monotonic(), _busy()
        processes: list[subprocess.Popen[bytes]] = []
        ended: dict[int, tuple[float, int, resource.struct_rusage]] = {}
        try:
            for number, command in enumerate(commands):
                given = processes[-1].stdout if processes else subprocess.DEVNULL
                to: BinaryIO | int = said if number == len(commands) - 1 else subprocess.PIPE
                processes.append(
                    subprocess.Popen(
                        command, cwd=out, env=environment, stdin=given, stdout=to, stderr=errors, start_new_session=True
                    )
                )
                if number:
                    before = processes[-2].stdout
                    assert before
                    before.close()  # theirs now; else the first would never notice that the second has ended
            waits = [threading.Thread(target=_wait, args=(process, ended)) for process in processes]
            for wait in waits:
                wait.start()
            peak, late = 0, ""
            while any(wait.is_alive() for wait in waits):
                peak = max(peak, sum(_resident(process.pid) for process in processes if process.pid not in ended))
                if not late and time.monotonic() > began + limit:
                    late = f"ended after {limit:.0f} s"
                    _end(processes, ended)
                for wait in waits:
                    wait.join(EVERY / len(waits))
        except BaseException:
            _end(processes, ended)
            raise
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failed = late or next((f"ends with exit code {status}" for _, status, _ in ended.values() if status), "")
    return Measured(
        began,
        max(at for at, _, _ in ended.values()),
        sum(usage.ru_utime + usage.ru_stime for _, _, usage in ended.values()),
        _busy() - busy,
        max(peak, *(usage.ru_maxrss * KILO for _, _, usage in ended.values() if usage.ru_maxrss > own), 0),
        failed,
    )


def _wait(process: subprocess.Popen[bytes], ended: dict[int, tuple[float, int, resource.struct_rusage]]) -> None:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended[process.pid] = (time.monotonic(), process.returncode, usage)


def _end(processes: list[subprocess.Popen[bytes]], ended: Mapping[int, object]) -> None:
    """Kill the groups that were started here."""
    for process in processes:
        if process.pid not in ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _busy() -> float:
    """CPU seconds that the machine has worked since it began; nothing where there is no /proc."""
    try:
        told = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    return (sum(map(int, told)) - int(told[3]) - int(told[4])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    """Bytes in memory of a process and all below it; nothing where there is no /proc."""
    try:
        size = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
        return size + sum(_resident(child) for child in _children(pid))
    except (OSError, IndexError):
        return 0


def _children(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (thread / "children").read_bytes().split())
