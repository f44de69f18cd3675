"""A server and a clock that do what a test tells them, byte by byte and second by second."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from syncer.clock import Clock, Stop

BEGINNING = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
"""What the scripted wall shows at first."""


def response(body: bytes = b"[]", status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """The bytes of a whole answer: JSON with its length, unless the headers say otherwise."""
    given = {line.partition(":")[0].lower() for line in headers}
    lines = [f"HTTP/1.1 {status}"]
    if "content-type" not in given:
        lines.append("Content-Type: application/json")
    if not {"content-length", "transfer-encoding"} & given:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [*headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Talk:
    """One connection, from the server's side."""

    def __init__(self, connection: socket.socket, requests: list[bytes]) -> None:
        self.connection = connection
        self.sent = 0
        self._requests = requests
        self._left = b""

    def hear(self) -> bytes:
        """The next whole request, which is also recorded; empty when the client has gone."""
        while b"\r\n\r\n" not in self._left:
            if not (piece := self.connection.recv(65536)):
                return b""
            self._left += piece
        head, _, rest = self._left.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].partition(b":")[2]) if lengths else 0
        while len(rest) < length:
            rest += self.connection.recv(65536)
        self._left = rest[length:]
        heard = head + b"\r\n\r\n" + rest[:length]
        self._requests.append(heard)
        return heard

    def say(self, data: bytes) -> None:
        """Send all of this; OSError when the client has gone."""
        self.connection.sendall(data)
        self.sent += len(data)

    def end(self) -> None:
        """Say no more, and wait until the client has read it all and gone."""
        self.connection.shutdown(socket.SHUT_WR)
        while self.connection.recv(65536):
            pass


Answer = bytes | Callable[[Talk], None]
"""What happens on a connection: bytes are said after one request was heard; a function does as it likes."""


@dataclass
class Server:
    """Where a scripted server listens, and what it has seen."""

    url: str
    port: int
    requests: list[bytes] = field(default_factory=list)
    """Every request heard, raw."""
    connections: int = 0
    surplus: int = 0
    """Connections that the script had no answer for."""

    @property
    def targets(self) -> list[str]:
        """The path and query of every request."""
        return [request.split(b" ", 2)[1].decode("latin-1") for request in self.requests]


@contextmanager
def scripted(*answers: Answer, then: Answer | None = None) -> Iterator[Server]:
    """Listen on loopback: the nth connection gets the nth answer, every later one gets `then`.

    Without `then` a later connection is closed unheard and counted as surplus. The server ends with
    the block, and so does whatever it was still saying.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", port)
    open_connections: list[socket.socket] = []
    threads: list[threading.Thread] = []
    faults: list[Exception] = []

    def serve(connection: socket.socket, answer: Answer) -> None:
        talk = Talk(connection, server.requests)
        try:
            if isinstance(answer, bytes):
                if talk.hear():
                    talk.say(answer)
                    talk.end()
            else:
                answer(talk)
        except OSError:
            pass  # the client hung up, or the block is over
        except Exception as fault:
            faults.append(fault)
        finally:
            connection.close()

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            answer = answers[server.connections] if server.connections < len(answers) else then
            server.connections += 1
            if answer is None:
                server.surplus += 1
                connection.close()
                continue
            open_connections.append(connection)
            thread = threading.Thread(target=serve, args=(connection, answer), daemon=True)
            threads.append(thread)
            thread.start()

    accepting = threading.Thread(target=listen, daemon=True)
    accepting.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        for connection in open_connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
    if faults:
        raise faults[0]


class Time:
    """Seconds that pass only when somebody sleeps them, or by `tick` with every look at the clock."""

    def __init__(self, tick: float = 0.0) -> None:
        self.seconds = 1000.0
        self.slept = 0.0
        self.tick = tick
        self.stop = Stop()
        self.stop_after: float | None = None
        self.clock = Clock(now=self.now, monotonic=self.monotonic, sleep=self.sleep, stop=self.stop)

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.seconds - 1000.0)

    def monotonic(self) -> float:
        self.seconds += self.tick
        return self.seconds

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds
        self.slept += seconds
        if self.stop_after is not None and self.slept >= self.stop_after:
            self.stop.signal = 2


class Watcher:
    """Remembers the events it is told of."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
