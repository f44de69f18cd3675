"""How much of a limit is used, and how often it is passed: `python benchmarks/pacing.py`, about two minutes.

A server on loopback, a process of its own, allows 50 requests in any second, exactly, and answers 429 to
each one more. Real `syncer pull` processes ask it for a stream that does not end, until they are stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, deque
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = 50
CONNECTOR = """
from pydantic import BaseModel
from syncer import *

class Item(BaseModel):
    id: int

connector = Connector(
    name="bench",
    base_url="{url}",
    rate={rate},
    settings={{"who": "the number of the process"}},
    streams=(
        Stream(
            name="items", path="/items/{{who}}", model=Item, records="items", primary_key="id",
            pagination=NextToken("next", param="at", cursor="stable"),
        ),
    ),
)
"""


class Server(asyncio.Protocol):
    """Counts every request at the moment its last byte is read."""

    passed: ClassVar[deque[float]] = deque()
    seen: ClassVar[list[tuple[float, str, int]]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport, self.left = transport, b""

    def data_received(self, data: bytes) -> None:
        self.left += data
        while b"\r\n\r\n" in self.left:
            head, _, self.left = self.left.partition(b"\r\n\r\n")
            self.answer(head.split(b" ", 2)[1].decode())

    def answer(self, target: str) -> None:
        if target == "/seen":
            self.say(200, json.dumps(self.seen).encode())
            return
        now, passed = time.monotonic(), self.passed
        while passed and passed[0] + 1.0 <= now:
            passed.popleft()
        status = 429 if len(passed) >= ALLOWED else 200
        if status == 200:
            passed.append(now)
        place, _, at = target.partition("?at=")
        number = int(at or 0)
        self.seen.append((now, place, status))
        self.say(status, b'{"items": [{"id": %d}], "next": "%d"}' % (number, number + 1))

    def say(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def measure(directory: Path, rate: str, processes: int, seconds: float) -> list[tuple[float, str, int]]:
    """Every request that the server saw, in seconds since the last process had begun."""
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    pulls = []
    try:
        assert server.stdout
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        (directory / "connectors").mkdir(parents=True)
        (directory / "connectors" / "bench.py").write_text(CONNECTOR.format(url=url, rate=rate))
        environment = {**os.environ, "SYNCER_STATE": str(directory / "state"), "PYTHONPATH": str(ROOT)}
        for number in range(processes):
            command = [sys.executable, "-m", "syncer", "pull", "bench", "--set", f"who={number}", "--out", f"{number}"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            pulls.append(subprocess.Popen(command, cwd=directory, env=environment, **quiet))  # type: ignore[call-overload]
        seen: list[tuple[float, str, int]] = []
        while len({place for _, place, _ in seen}) < processes:
            time.sleep(0.2)
            assert all(pull.poll() is None for pull in pulls), "a pull ended"
            with urllib.request.urlopen(f"{url}/seen") as answer:
                seen = json.load(answer)
        began = max(min(at for at, place, _ in seen if place == mine) for mine in {place for _, place, _ in seen})
        time.sleep(seconds + 0.5)
        assert all(pull.poll() is None for pull in pulls), "a pull ended"
        with urllib.request.urlopen(f"{url}/seen") as answer:
            return [(at - began, place, status) for at, place, status in json.load(answer)]
    finally:
        for pull in pulls:
            pull.send_signal(signal.SIGTERM)
        for pull in pulls:
            pull.wait(10)
        server.kill()
        server.wait()


def row(name: str, seen: list[tuple[float, str, int]], start: float, end: float) -> None:
    """One line of the table: from `start` to `end`, in seconds since all processes were at work."""
    statuses = Counter(status for at, _, status in seen if start <= at < end)
    asked = statuses.total()
    used, refused = statuses[200] / (ALLOWED * (end - start)), statuses[429]
    print(f"| {name} | {end - start:.0f} s | {asked:,} | {used:.1%} | {refused} | {refused / asked:.2%} |", flush=True)


def main() -> None:
    print("| | measured | requests | of the allowed rate | 429s | share |\n|---|---|---|---|---|---|", flush=True)
    declared = [("alone", "Rate(50)", 1), ("four processes", "Rate(50)", 4)]
    declared += [(f"{name}, spread", "Rate(50, spread=True)", count) for name, _, count in declared]
    with tempfile.TemporaryDirectory() as directory:
        for name, rate, processes in declared:
            row(name, measure(Path(directory) / name, rate, processes, 12), 1, 11)
        for name, processes in (("alone", 1), ("four processes", 4)):
            # The pace settles within a quarter of a minute where the first limit met is the real one.
            seen = measure(Path(directory) / f"{name}, found", "None", processes, 30)
            first = min(at for at, _, _ in seen)
            row(f"{name}, undeclared: finding it", seen, first, 20)
            row(f"{name}, undeclared: then", seen, 20, 30)


if __name__ == "__main__":
    asyncio.run(serve()) if sys.argv[1:] == ["serve"] else main()
