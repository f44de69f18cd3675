"""The API on loopback: a process of its own that sends answers which lie ready in a file.

GET /RUN/records, with ?page=7 or with ?cursor=…, is a page; RUN is any name, under which the server counts, so that
one server serves many runs. GET /RUN says what was counted. With a latency each answer leaves so many seconds after
its request was read, whatever else is under way. With a limit, at most so many requests are answered in any second,
counted when they are read, and each one more gets a 429 with `Retry-After: 1`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import mmap
import os
import resource
import sys
import threading
import time
from collections import defaultdict, deque
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.data import cursor


@dataclass
class Counted:
    """What one run asked for. Times are of the monotonic clock, which all processes of a machine share."""

    requests: int = 0
    refused: int = 0
    sent: int = 0
    first: float = 0.0
    last: float = 0.0
    passed: list[float] = field(default_factory=list)


class Api:
    """The pages and what was asked for."""

    def __init__(self, path: Path, latency: float, limit: int) -> None:
        self.latency, self.limit = latency, limit
        lengths = json.loads(path.with_suffix(".json").read_text())
        with path.open("rb") as file:
            self.bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        ends = list(accumulate(lengths))
        self.places = list(zip([0, *ends], ends, strict=False))
        self.cursors = {cursor(page): page for page in range(1, len(lengths) + 1)}
        self.counted: defaultdict[str, Counted] = defaultdict(Counted)
        self.window: deque[float] = deque()
        sum(self.bytes[:: mmap.PAGESIZE])  # the file is in memory before anyone is timed

    def allowed(self, now: float) -> bool:
        while self.window and self.window[0] + 1.0 <= now:
            self.window.popleft()
        if self.limit and len(self.window) >= self.limit:
            return False
        if self.limit:
            self.window.append(now)
        return True

    def answer(self, target: str) -> tuple[bytes, memoryview | bytes, float]:
        """Head, body and how long to wait with them."""
        now = time.monotonic()
        url = urlsplit(target)
        run, _, rest = url.path.strip("/").partition("/")
        if rest != "records":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            said = json.dumps({**asdict(self.counted[run]), "cpu": usage.ru_utime + usage.ru_stime})
            return head(200, len(said)), said.encode(), 0
        counted = self.counted[run]
        counted.first = counted.first or now
        counted.last = now
        counted.requests += 1
        if not self.allowed(now):
            counted.refused += 1
            return head(429, 0, "Retry-After: 1\r\n"), b"", self.latency
        if self.limit:
            counted.passed.append(now)
        query = parse_qs(url.query)
        page = self.cursors[query["cursor"][0]] if "cursor" in query else int(query.get("page", ["1"])[0])
        if page > len(self.places):
            body: memoryview | bytes = b'{"records":[],"page":%d,"pages":%d,"next":null}' % (page, len(self.places))
        else:
            start, end = self.places[page - 1]
            body = self.bytes[start:end]
        counted.sent += len(body)
        return head(200, len(body)), body, self.latency


def head(status: int, length: int, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\n{more}Content-Length: {length}\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """One connection, kept open; its answers leave in the order of its requests."""

    def __init__(self, api: Api) -> None:
        self.api, self.left = api, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.left += data
        while b"\r\n\r\n" in self.left:
            request, _, self.left = self.left.partition(b"\r\n\r\n")
            start, body, wait = self.api.answer(request.split(b" ", 2)[1].decode())
            if wait:
                asyncio.get_running_loop().call_later(wait, self.say, start, body)
            else:
                self.say(start, body)

    def say(self, start: bytes, body: memoryview | bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"".join((start, body)))


async def serve(path: Path, latency: float, limit: int) -> None:
    api = Api(path, latency, limit)
    gc.freeze()
    threading.Thread(target=_until_left, daemon=True).start()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(api), "127.0.0.1", 0, backlog=64)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _until_left() -> None:
    """End with whoever started this: their end of the pipe closes, however they end."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
