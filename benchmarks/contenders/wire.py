"""The wire: every page asked for over plain sockets, its bytes thrown away. What the server and the loopback can do.

Over eight connections where any page can be asked for, over one where each page names the next. Nothing is parsed,
kept or checked but the number of bytes; there is no faster client in Python.
"""

from __future__ import annotations

import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from benchmarks.contender import Contender

CONNECTIONS = 8
TAIL = 200
LENGTH = re.compile(rb"Content-Length: (\d+)")
NEXT = re.compile(rb'"next":"([^"]+)"}$')
PAGES = re.compile(rb'"pages":(\d+)')


class Wire:
    """One connection."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.path = place.path
        self.socket = socket.create_connection((place.hostname, place.port))
        self.buffer = bytearray(1 << 20)

    def get(self, query: str) -> bytes:
        """The last bytes of the answer."""
        self.socket.sendall(f"GET {self.path}{query} HTTP/1.1\r\nHost: loopback\r\n\r\n".encode())
        start = b""
        while b"\r\n\r\n" not in start:
            start += self.socket.recv(65536)
        head, _, end = start.partition(b"\r\n\r\n")
        told = LENGTH.search(head)
        assert told
        left = int(told[1]) - len(end)
        while left:
            count = self.socket.recv_into(self.buffer, min(left, len(self.buffer)))
            if not count:
                raise ConnectionError("the answer was cut off")
            left -= count
            end = (end + self.buffer[max(0, count - TAIL) : count])[-TAIL:]
        return end[-TAIL:]


def several(url: str) -> None:
    told = PAGES.search(Wire(url).get("?page=1"))
    assert told
    numbers = iter(range(2, int(told[1]) + 1))

    def work(_: int) -> None:
        wire = Wire(url)
        for number in numbers:
            wire.get(f"?page={number}")

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(work, range(CONNECTIONS)))


def one(url: str) -> None:
    wire = Wire(url)
    following = NEXT.search(wire.get(""))
    while following:
        following = NEXT.search(wire.get(f"?cursor={following[1].decode()}"))


CONTENDERS = (
    Contender(
        name="the wire",
        does="raw bytes over 8 connections (1 where each page names the next), thrown away",
        start=lambda job: [job.script("syncer", "wire.py", job.url, job.paging)],
    ),
)

if __name__ == "__main__":
    (one if sys.argv[2] == "cursor" else several)(sys.argv[1])
