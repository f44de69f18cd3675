"""Every fault of the table, on the first, middle and last page, once and always: how the pull ends, and what is left.

Whatever happens: nothing but a report comes out of a pull, the pages before the broken one stay, no page is asked
for more than a few times, and once the server is well the same output stands there as after an undisturbed pull.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from syncer import Connector, Stream
from syncer.pull import Options, pull
from syncer.report import Report
from syncer.wire import Limits, session
from tests.faults import FAULTS, LIMITS, PAGES, RECORDS, SIZE, Fault, Served, misbehaving
from tests.world import PAGINATION, Item, stopped_clock

QUICK = Limits(connect=2.0, read=0.25, whole=0.6)
ATTEMPTS = 3
LIMITED = 60
"""How often a page is asked for while a limit lasts as long as the patience of 900 s."""
SCENARIOS = [
    pytest.param(fault, page, always, id=f"{fault.name}, page {page}, {'always' if always else 'once'}")
    for fault in FAULTS
    for page in fault.places
    for always in (False, True)
]


def attempt(served: Served, out: Path, **options: Any) -> Report:
    """One pull over real sockets, by a clock that costs nothing."""
    items = Stream(
        name="items",
        path="/items",
        model=Item,
        records="items",
        pagination=PAGINATION["token"],
        total="total",
        max_rejects="100%",
    )
    shop = Connector(name="shop", base_url=served.url, streams=(items,))
    strict = session(QUICK)
    try:
        return pull(shop, [items], Options(out, **options), {}, stopped_clock(), lambda event: None, strict)
    finally:
        strict.close()


def lines(out: Path, name: str = "items.jsonl") -> list[Any]:
    file = out / "shop" / name
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]] if file.exists() else []


EXPECTED = [{name: value for name, value in record.items() if name != "extra"} for record in RECORDS]


@pytest.mark.parametrize(("fault", "page", "always"), SCENARIOS)
def test_a_fault_ends_in_recovery_or_in_a_clear_report(memory: Path, fault: Fault, page: int, always: bool) -> None:
    code = fault.always if always else fault.once
    if page == 1 and fault.first is not None and code:
        code = fault.first
    with misbehaving(fault, page, always=always) as served:
        report = attempt(served, memory)
        (done,) = report.streams
        said = f"{done.error.message} {done.error.hint}" if done.error else ""
        assert code == report.exit_code, said
        assert (code != 0) == bool(said)
        assert done.run.balanced()
        assert served.asked.count(page) <= (LIMITED if fault in LIMITS else ATTEMPTS + 6 * ("redirect" in fault.name))
        assert max(served.asked, default=0) <= PAGES
        if code and always:
            assert fault.words in said, said
        if code:
            whole = done.run.fetched // SIZE
            assert EXPECTED[: whole * SIZE] == lines(memory)
            assert whole in (page - 1, page)
            served.well = True
            shutil.rmtree(os.environ.get("SYNCER_STATE", ""), ignore_errors=True)  # a limit of a year would be kept
            report = attempt(served, memory, restart=fault.out == "restart")
            assert 0 == report.exit_code, report.text()
            assert EXPECTED == lines(memory)
            return
    written, rejected = lines(memory), lines(memory, "items.rejects.jsonl")
    assert (len(RECORDS) - fault.rejects, fault.rejects) == (len(written), len(rejected))
    untouched = [record for at, record in enumerate(EXPECTED) if at != (page - 1) * SIZE + 1]
    assert untouched == [record for record in written if record in untouched]


def test_there_are_at_least_four_hundred_scenarios() -> None:
    assert len(SCENARIOS) >= 400
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
