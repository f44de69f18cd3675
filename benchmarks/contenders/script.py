"""The plain script: requests, pydantic over the whole page in one call, one dumped line a record.

It validates, and where a page has a bad record it validates that page again record by record and leaves the bad ones
out. It has no checkpoint, no fsync, no retry and no limit of its own but the pause that it is given: after a crash it
begins anew.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from benchmarks.contender import Contender, in_lines


def main(url: str, paging: str, out: Path, pause: float) -> None:
    import requests
    from pydantic import TypeAdapter, ValidationError

    from benchmarks.model import Item, Page

    pages, items = TypeAdapter(Page), TypeAdapter(Item)

    def good(body: bytes) -> Page:
        """What is good on a page that is not."""
        page = json.loads(body, parse_float=Decimal)
        records = []
        for record in page["records"]:
            with suppress(ValidationError):
                records.append(items.validate_python(record))
        return Page.model_construct(records=records, page=page["page"], next=page["next"])

    query: dict[str, str] = {}
    with requests.Session() as session, (out / "items.jsonl").open("wb") as file:
        while True:
            began = time.monotonic()
            answer = session.get(url, params=query)
            answer.raise_for_status()
            try:
                page = pages.validate_json(answer.content)
            except ValidationError:
                page = good(answer.content)
            for record in page.records:
                file.write(items.dump_json(record) + b"\n")
            if page.next is None:
                return
            query = {"cursor": page.next} if paging == "cursor" else {"page": str(page.page + 1)}
            if pause:
                time.sleep(max(0.0, began + pause - time.monotonic()))


CONTENDERS = (
    Contender(
        name="the plain script",
        does="requests, pydantic over a page in one call, one dumped line a record; no checkpoint, no fsync, no retry",
        start=lambda job: [
            job.script("syncer", "script.py", job.url, job.paging, job.out, 1 / job.limit if job.limit else 0)
        ],
        ids=lambda job: in_lines([job.out / "items.jsonl"]),
    ),
)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
