"""`python -m benchmarks`: sets up and runs everything, prints the tables. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import data, environments, table, targets
from .running import Run, printed, rounds
from .workloads import ALL, SCRIPT, SYNCER, Workload, workloads

NAMES = [of.name for of in workloads(quick=False)]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast a pull is, beside others.")
    parser.add_argument("--quick", action="store_true", help="fewer records, fewer rounds: about two minutes")
    parser.add_argument("--only", metavar="WORKLOAD", nargs="+", choices=[*NAMES, "pacing", "floors"], default=[])
    parser.add_argument("--against", metavar="WORD", nargs="+", help="only those whose name has one of these words")
    parser.add_argument("--rounds", type=int, help="how often each; 3, or 2 with --quick")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md; the whole run does so anyway")
    parser.add_argument("--fresh", action="store_true", help="make the environments anew, with the newest releases")
    parser.add_argument("--no-install", action="store_true", help="take the environments as they are")
    parser.add_argument("--clean", action="store_true", help="delete environments and records, and end")
    return parser.parse_args()


def chosen(of: Workload, words: list[str] | None) -> Workload:
    """With only those who were asked for; the script and syncer are always there, as ratios are to them."""
    if not words:
        return of
    wanted = ["script", "syncer", *(word.lower() for word in words)]
    cases = [case for case in of.cases if any(word in case.contender.name.lower() for word in wanted)]
    return Workload(of.name, of.title, tuple(cases), of.paging, of.latency, of.limit, of.rounds)


def floors(cache: Path) -> str:
    """What single steps of a pull do on the same pages."""
    pages = data.pages(cache / "pages", 10_000, 1_000)
    rates = json.loads(printed("contenders/floors.py", cache, 300, str(pages.path)))
    lines = [["step, alone in one process", "records/s"]]
    lines += [[step, f"{rate:,.0f}"] for step, rate in rates.items()]
    return f"## What bounds a pull: records per CPU second, of the last one per second\n\n{table.rows(lines)}\n"


def pacing(cache: Path) -> str:
    """The table of pacing.py, with the packages that syncer has here."""
    return f"## pacing.py: 50 requests in any second allowed\n\n{printed('pacing.py', cache, 600)}"


def measured(of: Workload, cache: Path, number: int, quick: bool) -> Iterator[Run]:
    """All rounds of a workload, each run told as it ends."""
    limit, enough = (120.0, 60.0) if quick else (600.0, 20.0)
    for run in rounds(of, cache, min(number, of.rounds), limit, enough):
        told = f"{run.speed:,.0f} records/s, {run.cpu:.2f} CPU s, {run.peak / 1e6:,.0f} MB"
        print(f"{of.name} {run.round + 1}: {run.case.name}: {run.wrong or told}", file=sys.stderr, flush=True)
        yield run


def head(command: str, number: int, machine: str, places: Path) -> str:
    """When, with what and on what."""
    versions = environments.versions(places, list(environments.WANTED))
    named = sorted({f"{name} {version}" for told in versions.values() for name, version in told.items()})
    return (
        f"# Results\n\nMeasured on {table.today()} by `{command}`, {number} rounds, on {machine}.\n"
        f"{', '.join(named)}.\n\nHow to read this stands in README.md.\n"
    )


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started here is ended
    asked = options()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncer-benchmarks"
    if asked.clean:
        shutil.rmtree(cache, ignore_errors=True)
        return 0
    machine, began = table.machine(), time.monotonic()
    if not asked.no_install:
        environments.make(cache / "environments", list(environments.WANTED), asked.fresh)
    whole = not (asked.only or asked.against or asked.quick)
    number = asked.rounds or (2 if asked.quick else 3)
    results: table.Results = {}
    parts: list[str] = []

    def tell(part: str) -> None:
        parts.append(part)
        print(f"\n{part}", flush=True)

    for of in workloads(asked.quick):
        if not asked.only or of.name in asked.only:
            those = chosen(of, asked.against)
            results[of.name] = list(measured(those, cache, number, asked.quick))
            tell(table.workload(results, those))
    if served := table.server(results):
        tell(served)
    for name, part in (("floors", floors), ("pacing", pacing)):
        if name in asked.only or whole or (name == "floors" and not asked.only):
            try:
                tell(part(cache))
            except RuntimeError as failed:
                tell(f"{failed}\n")
    reached = targets.targets(results)
    print(f"\n{reached}\n{time.monotonic() - began:.0f} seconds", flush=True)
    if whole or asked.write:
        command = "python -m benchmarks" + (" --quick" if asked.quick else "")
        does = "\n".join(f"- {contender.name}: {contender.does}." for contender in ALL)
        start = head(command, number, machine, cache / "environments")
        text = "\n".join([start, reached, *parts, f"## Who does what\n\n{does}\n"])
        (Path(__file__).parent / "RESULTS.md").write_text(text)
    return 1 if any(ours(run) for runs in results.values() for run in runs if run.wrong) else 0


def ours(run: Run) -> bool:
    """Whether a run that went wrong is our fault: others may end with an error at a bad record."""
    return not run.case.bad or run.case.contender in (SYNCER, SCRIPT)


if __name__ == "__main__":
    sys.exit(main())
