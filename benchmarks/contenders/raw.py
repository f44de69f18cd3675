"""One page a round trip: requests asks for a page, its bytes go to the file as they are, then the next is asked for.

This is what latency alone leaves to anyone who follows a cursor. Nothing is parsed but the name of the next page,
nothing validated, no checkpoint, no fsync.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contender import Contender, Job

RECORD = re.compile(rb'{"id":(\d+),"uuid"')
END = re.compile(rb'"page":(\d+),"pages":(\d+),"total":\d+,"next":(?:null|"([^"]+)")}$')


def main(url: str, paging: str, out: Path) -> None:
    import requests

    with requests.Session() as session, (out / "pages.json").open("wb") as file:
        query: dict[str, str] = {}
        while True:
            body = session.get(url, params=query).content
            file.write(body + b"\n")
            told = END.search(body[-200:])
            assert told
            if told[3] is None:
                return
            query = {"cursor": told[3].decode()} if paging == "cursor" else {"page": str(int(told[1]) + 1)}


def ids(job: Job) -> Iterator[int]:
    for page in (job.out / "pages.json").open("rb"):
        for found in RECORD.finditer(page):
            yield int(found[1])


CONTENDERS = (
    Contender(
        name="raw bytes, one page a round trip",
        does="requests, each answer into the file as it is, one after the other; nothing parsed, checked or fsynced",
        start=lambda job: [job.script("syncer", "raw.py", job.url, job.paging, job.out)],
        ids=ids,
    ),
)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
