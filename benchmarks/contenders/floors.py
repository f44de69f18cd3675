"""What bounds a pull: single steps of it over the same pages, in one process, with nothing around them."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main(path: Path) -> None:
    """Print records a CPU second of each step, and a second for what waits for the disk."""
    import orjson
    from pydantic import TypeAdapter

    from benchmarks.model import Item, Page

    pages, items = TypeAdapter(Page), TypeAdapter(Item)
    whole = path.read_bytes()
    bodies, at = [], 0
    for length in json.loads(path.with_suffix(".json").read_text()):
        bodies.append(whole[at : at + length])
        at += length
    count = sum(len(orjson.loads(body)["records"]) for body in bodies)

    def paused(body: bytes) -> None:
        gc.disable()
        pages.validate_json(body)
        gc.enable()

    def dumped(body: bytes) -> None:
        for record in pages.validate_json(body).records:
            items.dump_json(record)

    def orjson_both(body: bytes) -> None:
        for record in orjson.loads(body)["records"]:
            orjson.dumps(record)

    def synced(body: bytes) -> None:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())

    steps: dict[str, Callable[[bytes], object]] = {
        "pydantic: validate a page": pages.validate_json,
        "the same, the collector paused": paused,
        "pydantic: validate a page, dump each record": dumped,
        "orjson: load a page": orjson.loads,
        "orjson: load a page, dump each record": orjson_both,
        "write a page and fsync": synced,
    }
    rates = {}
    with Path("synced").open("wb") as file:
        for name, step in steps.items():
            clock = time.perf_counter if step is synced else time.process_time
            began = clock()
            for body in bodies:
                step(body)
            rates[name] = count / (clock() - began)
    print(json.dumps(rates))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
