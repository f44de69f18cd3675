"""What counting the shape of a record costs: `python benchmarks/shapes.py`, a few seconds."""

from __future__ import annotations

import time
import timeit
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from syncer.shapes import shape

PLAIN: dict[str, Any] = {
    f"field_{number}": value
    for number, value in enumerate([1, "text", None, True, "x", Decimal("1.5"), "2026-01-01", 3] * 3)
}
RECORDS = {
    "24 plain fields": PLAIN,
    "and an object of 4": PLAIN | {"address": {"street": "s", "city": "c", "postcode": "p", "country": None}},
    "and a list of text": PLAIN | {"tags": ["a", "b"]},
    "and a list of 3 objects": PLAIN | {"lines": [{"sku": "a", "quantity": 1, "price": Decimal(2)}] * 3},
}


def best(work: Callable[[], object]) -> float:
    """Microseconds of the processor, the least of many."""
    return min(timeit.repeat(work, timer=time.process_time, number=5000, repeat=25)) / 5000 * 1e6


def counted(record: dict[str, Any]) -> Callable[[], object]:
    found: Counter[Any] = Counter()

    def work() -> None:
        found[shape(record)] += 1

    return work


if __name__ == "__main__":
    floor = best(lambda: hash((tuple(PLAIN), tuple(map(type, PLAIN.values())))))
    print(f"{floor:6.2f} µs  for the names and types of 24 plain fields, whatever is done with them")
    for name, record in RECORDS.items():
        print(f"{best(counted(record)):6.2f} µs  {name}")
