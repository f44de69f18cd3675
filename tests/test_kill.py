"""The installed command, killed with `kill -9` at random moments of real time, until it gets through."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CONNECTOR = '''
"""A shop behind a server of its own process."""

from pydantic import BaseModel

from syncer import Connector, NextToken, PageNumber, Stream


class Item(BaseModel):
    id: int
    name: str


connector = Connector(
    name="shop",
    base_url="http://127.0.0.1:{port}",
    streams=(
        Stream(name="items", path="/items", model=Item, records="items", primary_key="id", total="total",
               pagination=NextToken("next", param="after"), max_rejects="100%"),
        Stream(name="more", path="/items", model=Item, records="items", primary_key="id", total="total",
               pagination=PageNumber(pages="pages"), max_rejects="100%"),
    ),
)
'''

SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SIZE, COUNT = 50, 1000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        start = int(query.get("after", 0)) or (int(query.get("page", 1)) - 1) * SIZE
        end = start + SIZE
        items = [{"id": n, "name": n if n % 97 == 0 else f"item {n}"} for n in range(start, min(end, COUNT))]
        body = {"items": items, "total": COUNT, "pages": COUNT // SIZE, "next": end if end < COUNT else None}
        data = json.dumps(body).encode()
        time.sleep(0.005)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def outcome(out: Path, sink: str) -> dict[str, bytes]:
    """What a user would look at, whatever time and run the rejects carry."""
    if sink == "sqlite":
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(out / "shop" / "shop.db")) as connection:
            rows = connection.execute("SELECT 'items', * FROM items UNION ALL SELECT 'more', * FROM more").fetchall()
            lines = connection.execute("SELECT stream, line FROM syncer_rejects ORDER BY stream, id").fetchall()
        return {"rows": repr(rows).encode(), "rejects": _timeless(repr(lines).encode())}
    return {path.name: _timeless(path.read_bytes()) for path in sorted((out / "shop").glob("*.jsonl"))}


def _timeless(content: bytes) -> bytes:
    content = re.sub(rb'"run":\d+', b'"run":0', content)
    return re.sub(rb'"at":"[^"]+"', b'"at":""', content)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_the_command_killed_at_random_moments_ends_in_the_same_output(
    tmp_path: Path, sink: str, seed: int, long: bool
) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        folder = tmp_path / "connectors"
        folder.mkdir()
        (folder / "shop.py").write_text(CONNECTOR.replace("{port}", server.stdout.readline().decode().strip()))
        calm = command(tmp_path, "calm", sink)
        assert calm.wait(60) == 0
        expected = outcome(tmp_path / "calm", sink)
        dice = random.Random(f"{seed} {sink}")
        kills, life = 0, 0
        while kills < (120 if long else 5):
            life += 1
            while True:
                child = command(tmp_path, str(life), sink)
                try:
                    child.wait(dice.uniform(0.5, 2.2))
                    break
                except subprocess.TimeoutExpired:
                    os.kill(child.pid, signal.SIGKILL)
                    child.wait()
                    kills += 1

            assert child.returncode == 0
            assert expected == outcome(tmp_path / str(life), sink), f"life {life}, seed {seed}"
        print(f"{kills} kills over {life} pulls")
    finally:
        server.kill()
        server.wait()


def command(tmp_path: Path, out: str, sink: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "syncer", "pull", "shop", "--out", out, "--sink", sink, "--quiet"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(arguments, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
