"""Runs the cases of a workload in turn, round by round, against servers that are there for it alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from . import data
from .contender import HERE, Job
from .environments import ROOT
from .measuring import Measured, measure
from .workloads import Case, Workload

DROPPED = ("PYTHON", "SYNCER_", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Run:
    """What came of one case in one round.

    `seconds` are from the first request that the server read to the end of the last process, `whole` from the start
    of the first process. `wrong` is empty where the run ended well and its output holds what it should.
    """

    case: Case
    round: int
    seconds: float
    whole: float
    cpu: float
    peak: int
    requests: int
    sent: int
    refused: int
    share: float
    server: float
    others: float
    output: str
    wrong: str

    @property
    def speed(self) -> float:
        """Records a second."""
        return self.case.records / self.seconds


_numbers = count(1)


@contextmanager
def serving(pages: data.Pages, latency: float, limit: int) -> Iterator[str]:
    """A server with these pages, until the block ends."""
    command = [sys.executable, "-m", "benchmarks.server", str(pages.path), str(latency), str(limit)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def counted(server: str, run: str) -> dict[str, Any]:
    """What the server has seen of a run."""
    with urllib.request.urlopen(f"{server}/{run}", timeout=30) as answer:
        return dict(json.load(answer))


def rounds(workload: Workload, cache: Path, number: int, limit: float, enough: float) -> Iterator[Run]:
    """Every case once a round, each round beginning with another one.

    A case whose contender took more than `enough` seconds with a tenth of the records is left out.
    """
    with ExitStack() as servers:
        pages, served = {}, {}
        for case in workload.cases:
            kind = (case.records, case.per_page, case.bad)
            if kind not in served:
                pages[kind] = data.pages(cache / "pages", *kind)
                served[kind] = servers.enter_context(serving(pages[kind], workload.latency, workload.limit))
        slow: set[str] = set()
        for turn in range(number):
            first = turn * max(1, len(workload.cases) // 3) % len(workload.cases)
            for case in workload.cases[first:] + workload.cases[:first]:
                if case.contender.name in slow:
                    continue
                kind = (case.records, case.per_page, case.bad)
                run = one(workload, case, turn, served[kind], pages[kind], cache, limit)
                yield run
                if workload.rounds == 1 and run.whole > enough:
                    slow.add(case.contender.name)


def one(workload: Workload, case: Case, turn: int, server: str, pages: data.Pages, cache: Path, limit: float) -> Run:
    """One case, in a directory of its own that is gone afterwards."""
    name = f"r{next(_numbers)}"
    out = cache / "runs" / f"{os.getpid()}-{name}"
    out.mkdir(parents=True)
    try:
        job = Job(server, name, workload.paging, workload.latency, workload.limit, out, cache / "environments")
        kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(DROPPED)}
        environment = {**kept, **dict(case.contender.environment), "HOME": str(out), "PYTHONPATH": str(ROOT)}
        if case.contender.name.startswith("syncer"):
            del environment["PYTHONPATH"]  # what is installed, not what lies here
        before = counted(server, "before")["cpu"]
        measured = measure(case.contender.start(job), out, environment, limit)
        seen = counted(server, name)
        output, wrong = checked(job, case, pages, seen) if not measured.failed else ("", measured.failed)
        if measured.failed:
            said = (out / "stderr").read_text(errors="replace").strip().splitlines() or [""]
            print(f"  {case.name}: {measured.failed}: {said[-1][:200]}", file=sys.stderr, flush=True)
        return Run(
            case,
            turn,
            measured.ended - (seen["first"] or measured.began),
            measured.ended - measured.began,
            measured.cpu,
            measured.peak,
            seen["requests"],
            seen["sent"],
            seen["refused"],
            share(seen["passed"], workload.limit),
            seen["cpu"] - before,
            others(measured, seen["cpu"] - before),
            output,
            wrong,
        )
    finally:
        shutil.rmtree(out)


def others(measured: Measured, server: float) -> float:
    """The share of the machine that was used by nobody of ours while a run was under way."""
    all_of_it = (measured.ended - measured.began) * (os.cpu_count() or 1)
    return max(0.0, measured.machine - measured.cpu - server) / all_of_it


def printed(script: str, cache: Path, limit: float, *arguments: str) -> str:
    """What one of our own scripts prints in syncer's environment."""
    out = cache / "runs" / f"{os.getpid()}-{script.partition('.')[0].replace('/', '-')}"
    out.mkdir(parents=True)
    try:
        python = str(cache / "environments" / "syncer" / "bin" / "python")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        measured = measure([[python, str(HERE / script), *arguments]], out, environment, limit)
        if measured.failed:
            lines = (out / "stderr").read_text(errors="replace").strip().splitlines() or [""]
            raise RuntimeError(f"{script}: {measured.failed}: {lines[-1]}")
        return (out / "stdout").read_text()
    finally:
        shutil.rmtree(out)


def share(passed: list[float], limit: int) -> float:
    """Of the allowed rate, in the whole seconds that begin one second after the first request."""
    if not limit or len(passed) < 2 * limit:
        return 0.0
    start = passed[0] + 1
    seconds = int(passed[-1] - start)
    return sum(start <= at < start + seconds for at in passed) / (limit * seconds) if seconds else 0.0


def checked(job: Job, case: Case, pages: data.Pages, seen: dict[str, Any]) -> tuple[str, str]:
    """What is in the output, and what is wrong with it."""
    if case.contender.ids is None:
        return ("every byte", "") if seen["sent"] == pages.size else ("", f"{seen['sent']:,} of {pages.size:,} bytes")
    times = bytearray(case.records + 1)
    for number in case.contender.ids(job):
        if not 1 <= number <= case.records:
            return "", f"an id that does not exist: {number}"
        times[number] = min(255, times[number] + 1)
    twice = sum(each > 1 for each in times)
    lost = sum(not each for each in times[1:])
    bad = [number for number in range(1, case.records + 1) if data.is_bad(number)] if case.bad else []
    if twice or (lost and (lost != len(bad) or any(times[number] for number in bad))):
        return "", f"{lost:,} ids are missing, {twice:,} are there more than once"
    if not case.bad:
        return "every id once", ""
    if not lost:
        return "bad ones kept as good", ""
    if case.contender.rejects is None:
        return "bad ones left out", ""
    kept = case.contender.rejects(job)
    return ("bad ones kept aside, with reasons", "") if kept == len(bad) else ("", f"{kept} of {len(bad)} rejects")
