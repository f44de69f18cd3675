"""What was to be reached, as ratios within rounds, and whether it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .running import Run
from .table import Results, per_record, rows, within
from .workloads import (
    AIRBYTE,
    DLT_ARROW,
    DLT_DUCKDB,
    DLT_LINES,
    DLT_MODEL,
    RAW,
    SCRIPT,
    SINGER,
    SINGER_RELEASED,
    SYNCER,
    SYNCER_SQLITE,
)


@dataclass(frozen=True)
class Target:
    """A line of the list of what is to be reached: the ratio in each round, and the least or most it may be."""

    text: str
    against: str
    found: list[float]
    bound: float
    most: bool = False
    more: str = ""

    def line(self) -> list[str]:
        sign = "≤" if self.most else "≥"
        if not self.found:
            return [self.text, self.against, f"{sign} {self.bound}", "–", "–", "not measured"]
        middle = median(self.found)
        reached = middle <= self.bound if self.most else middle >= self.bound
        spread = f"{min(self.found):.3g} to {max(self.found):.3g}"
        verdict = "reached" if reached and not self.more else "**not reached**"
        return [self.text, self.against, f"{sign} {self.bound}", f"{middle:.3g}", spread, verdict + self.more]


def fastest(runs: Sequence[Run], names: Sequence[str], of: str) -> list[float]:
    """The ratio to whichever of them was the fastest in each round."""
    turns = {run.round for run in runs}
    found = []
    for turn in sorted(turns):
        good = {run.case.name: run.speed for run in runs if run.round == turn and not run.wrong}
        best = [good[name] for name in names if name in good]
        if best and of in good:
            found.append(good[of] / max(best))
    return found


def targets(results: Results) -> str:
    """What was to be reached, and whether it was."""
    many, sizes, bad = results.get("many", []), results.get("sizes", []), results.get("bad", [])
    limit = [run for run in results.get("limit", []) if run.case.contender is SYNCER and not run.wrong]
    pages, cursor = results.get("pages", []), results.get("cursor", [])
    counts = sorted({run.case.records for run in sizes})
    least, most = (f", {counts[0]:,}", f", {counts[-1]:,}") if counts else ("", "")
    peaks = within(sizes, SYNCER.name + most, SYNCER.name + least, lambda run: run.peak)
    refused = sum(run.refused for run in limit)
    found = (
        Target("no latency, JSONL", "the plain script", within(many, SYNCER.name, SCRIPT.name, _speed), 2.0),
        Target(
            "no latency, JSONL",
            "dlt's fastest to jsonl",
            fastest(many, [DLT_LINES.name, DLT_MODEL.name], SYNCER.name),
            7,
        ),
        Target("no latency, JSONL", "Airbyte CDK", within(many, SYNCER.name, AIRBYTE.name, _speed), 10),
        Target(
            "no latency, JSONL",
            "Singer's fastest to jsonl",
            fastest(many, [SINGER.name, SINGER_RELEASED.name], SYNCER.name),
            15,
        ),
        Target(
            "no latency, JSONL", "Singer's released target", within(many, SYNCER.name, SINGER_RELEASED.name, _speed), 15
        ),
        Target(
            "no latency, JSONL",
            "dlt's fastest of any kind",
            fastest(many, [DLT_LINES.name, DLT_MODEL.name, DLT_DUCKDB.name, DLT_ARROW.name], SYNCER.name),
            2.5,
        ),
        Target(
            "no latency, SQLite",
            "the plain script to JSONL",
            within(many, SYNCER_SQLITE.name, SCRIPT.name, _speed),
            0.9,
        ),
        Target("20 ms, page numbers", "the plain script", within(pages, SYNCER.name, SCRIPT.name, _speed), 5),
        Target("20 ms, cursor", "one page a round trip", within(cursor, SYNCER.name, RAW.name, _speed), 0.95),
        Target(
            "50 requests/s allowed",
            "the allowed rate, no 429",
            [run.share for run in limit],
            0.97,
            more=f", {refused} 429s" if refused else "",
        ),
        Target(
            "1 % bad records",
            "our own speed without",
            within(bad, SYNCER.name, f"{SYNCER.name}, none of them bad", _speed),
            0.9,
        ),
        Target(f"resident size{most or ', many'} records", f"our own{least or ', few'}", peaks, 1.1, most=True),
        Target(
            "CPU a record, no latency",
            "the plain script",
            within(many, SYNCER.name, SCRIPT.name, lambda run: per_record(results, run)),
            0.65,
            most=True,
        ),
    )
    head = ["workload", "against", "to reach", "ratio", "rounds", ""]
    return f"## To reach\n\n{rows([head, *(target.line() for target in found)])}\n"


def _speed(run: Run) -> float:
    return run.speed
