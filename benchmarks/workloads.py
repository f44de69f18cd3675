"""What is measured: which records, how the server answers, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass

from .contender import Contender, Paging
from .contenders import raw, script, wire, with_airbyte, with_dlt, with_singer, with_syncer

LATENCY = 0.02
LIMIT = 50

ALL: tuple[Contender, ...] = (
    *wire.CONTENDERS,
    *raw.CONTENDERS,
    *script.CONTENDERS,
    *with_syncer.CONTENDERS,
    *with_dlt.CONTENDERS,
    *with_singer.CONTENDERS,
    *with_airbyte.CONTENDERS,
)
(WIRE,) = wire.CONTENDERS
(RAW,) = raw.CONTENDERS
(SCRIPT,) = script.CONTENDERS
SYNCER, SYNCER_SQLITE = with_syncer.CONTENDERS
DLT_LINES, DLT_MODEL, DLT_DUCKDB, DLT_ARROW = with_dlt.CONTENDERS
SINGER, SINGER_RELEASED, SINGER_SQLITE = with_singer.CONTENDERS
(AIRBYTE,) = with_airbyte.CONTENDERS


@dataclass(frozen=True)
class Case:
    """One row of a table: who, and with which records."""

    contender: Contender
    records: int
    per_page: int
    bad: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.contender.name}{self.label}"


@dataclass(frozen=True)
class Workload:
    """A table. `rounds` is how often at most, where once says enough."""

    name: str
    title: str
    cases: tuple[Case, ...]
    paging: Paging = "page"
    latency: float = 0.0
    limit: int = 0
    rounds: int = 99


def workloads(quick: bool) -> tuple[Workload, ...]:
    """All of them; `quick` has fewer records and leaves out who says little new."""
    many, behind, asked = (10_000, 3_000, 250) if quick else (50_000, 20_000, 600)
    sizes = (10_000, 50_000) if quick else (10_000, 100_000, 1_000_000)
    others = (SCRIPT, SYNCER, SYNCER_SQLITE, DLT_LINES, DLT_ARROW, SINGER, AIRBYTE)
    bounded = (WIRE, RAW, SCRIPT, SYNCER, DLT_LINES, DLT_ARROW, SINGER, AIRBYTE)
    limited = (SYNCER,) if quick else (SCRIPT, SYNCER, DLT_LINES, SINGER, AIRBYTE)
    return (
        Workload(
            "start",
            "One record: what starting and ending cost",
            tuple(Case(contender, 1, 1) for contender in ALL if contender not in (WIRE, RAW)),
            rounds=1 if quick else 99,
        ),
        Workload(
            "many",
            f"No latency, {many:,} records, 1,000 a page, page numbers",
            tuple(Case(contender, many, 1_000) for contender in ALL),
        ),
        Workload(
            "pages",
            f"20 ms of latency, page numbers, {behind:,} records, 100 a page",
            tuple(Case(contender, behind, 100) for contender in bounded),
            latency=LATENCY,
        ),
        Workload(
            "cursor",
            f"20 ms of latency, each page names the next, {behind:,} records, 100 a page",
            tuple(Case(contender, behind, 100) for contender in bounded),
            paging="cursor",
            latency=LATENCY,
        ),
        Workload(
            "limit",
            f"{LIMIT} requests a second allowed, {asked} pages of 10 records, each page names the next",
            tuple(Case(contender, asked * 10, 10) for contender in limited),
            paging="cursor",
            limit=LIMIT,
            rounds=1,
        ),
        Workload(
            "bad",
            f"One record of a hundred is bad, no latency, {many:,} records, 1,000 a page",
            (
                Case(SYNCER, many, 1_000, label=", none of them bad"),
                Case(SYNCER, many, 1_000, bad=True),
                Case(SCRIPT, many, 1_000, bad=True),
                *(
                    Case(contender, many, 1_000, bad=True)
                    for contender in (DLT_LINES, DLT_MODEL, DLT_ARROW, SINGER, SINGER_RELEASED, AIRBYTE)
                    if not quick
                ),
            ),
        ),
        Workload(
            "sizes",
            "Growing numbers of records, no latency, 1,000 a page",
            tuple(
                Case(contender, size, 1_000, label=f", {size:,}")
                for size in sizes
                for contender in ((SYNCER, SYNCER_SQLITE, SCRIPT) if quick else others)
            ),
            rounds=1,
        ),
        Workload(
            "page",
            "One page of 30,000 records, 30 MB",
            tuple(Case(contender, 30_000, 30_000) for contender in ((SCRIPT, SYNCER) if quick else others)),
            rounds=2,
        ),
    )
