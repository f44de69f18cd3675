"""From runs to tables: medians, and ratios only between runs of the same round."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from .running import Run
from .workloads import SCRIPT, SYNCER, WIRE, Workload

Results = dict[str, list[Run]]


def rows(lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head, columns of numbers stand to the right."""
    head, *body = [list(line) for line in lines]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    texts = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(head, widths, strict=True)) + " |"]
    right = [all(line[column][:1] in "0123456789–≥≤" for line in body) for column in range(len(head))]
    rule = ["-" * (width - 1) + (":" if to_right else "-") for width, to_right in zip(widths, right, strict=True)]
    texts.append("| " + " | ".join(rule) + " |")
    for line in body:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        texts.append("| " + " | ".join(cells) + " |")
    return "\n".join(texts)


def within(runs: Sequence[Run], of: str, to: str, value: Callable[[Run], float]) -> list[float]:
    """The ratio of one case to another in every round in which both ended well."""
    good = {(run.case.name, run.round): run for run in runs if not run.wrong}
    turns = sorted({run.round for run in runs})
    pairs = [(good.get((of, turn)), good.get((to, turn))) for turn in turns]
    return [value(one) / value(other) for one, other in pairs if one and other and value(other)]


def start_cpu(results: Results, name: str) -> float:
    """CPU seconds that a contender takes for one record."""
    took = [run.cpu for run in results.get("start", ()) if run.case.contender.name == name and not run.wrong]
    return median(took) if took else 0.0


def per_record(results: Results, run: Run) -> float:
    """CPU microseconds a record, without starting and ending."""
    return max(0.0, run.cpu - start_cpu(results, run.case.contender.name)) / run.case.records * 1e6


def ratio(found: Sequence[float]) -> str:
    return f"{median(found):.2f}" if found else "–"


def workload(results: Results, of: Workload) -> str:
    """The table of one workload."""
    runs = results[of.name]
    speeds = of.name not in ("start", "limit")
    head = ["", "records/s", "to the script", "syncer is", "CPU µs/record"] if speeds else [""]
    head += ["CPU s", "whole s", "peak MB"]
    head += ["requests", "429s", "of the rate"] if of.limit else []
    lines = [[*head, "output"]]
    for case in of.cases:
        mine = [run for run in runs if run.case == case]
        if not mine:
            lines.append([case.name, *["–"] * (len(head) - 1), "not run: a tenth took too long"])
            continue
        good = [run for run in mine if not run.wrong]
        if not good:
            lines.append([case.name, *["–"] * (len(head) - 1), mine[0].wrong])
            continue
        line = [case.name]
        if speeds:
            size = case.label if of.name == "sizes" else ""
            line += [
                f"{median(run.speed for run in good):,.0f}",
                ratio(within(runs, case.name, SCRIPT.name + size, lambda run: run.speed)),
                ratio(within(runs, SYNCER.name + size, case.name, lambda run: run.speed)),
                f"{median(per_record(results, run) for run in good):.1f}",
            ]
        line += [
            f"{median(run.cpu for run in good):.2f}",
            f"{median(run.whole for run in good):.2f}",
            f"{median(run.peak for run in good) / 1e6:,.0f}",
        ]
        if of.limit:
            line += [f"{good[0].requests:,}", f"{good[0].refused:,}", f"{good[0].share:.1%}"]
        failed = "" if len(good) == len(mine) else f"; {len(mine) - len(good)} of {len(mine)} runs failed"
        lines.append([*line, good[0].output + failed])
    title = f"{of.title}; others used {median(run.others for run in runs):.0%} of the machine"
    return f"## {title}\n\n{rows(lines)}\n"


def server(results: Results) -> str:
    """What the server could do, and what it cost."""
    runs = [run for run in results.get("many", []) if not run.wrong]
    wires = [run for run in runs if run.case.contender is WIRE]
    if not wires:
        return ""
    rate = median(run.sent / run.seconds for run in wires) / 1e6
    most = max(run.server / run.seconds for run in runs if run not in wires)
    return (
        f"The server gave {rate:,.0f} MB/s to the wire without latency, for {median(run.server for run in wires):.2f}"
        f" CPU seconds of its own; for nobody else was it busy for more than {most:.0%} of the time.\n"
    )


def machine() -> str:
    """Cores, processor and memory; nothing that says which machine it is."""
    model = platform.processor() or platform.machine()
    with_proc = Path("/proc/cpuinfo")
    if with_proc.exists():
        told = [line.partition(":")[2].strip() for line in with_proc.read_text().splitlines() if "model name" in line]
        model = told[0] if told else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    system = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {model}, {memory:.0f} GB of memory, {system}; load on it before: {load}"


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"
