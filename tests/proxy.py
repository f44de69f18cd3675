"""A proxy on loopback: it opens tunnels and passes requests on, whatever the host is called, or answers for itself."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """Where it listens, and what it was told."""

    port: int
    heads: list[bytes] = field(default_factory=list)
    """The head of every request to it, raw."""

    @property
    def lines(self) -> list[str]:
        """The first line of each."""
        return [head.partition(b"\r\n")[0].decode("latin-1") for head in self.heads]

    def url(self, user: str = "", scheme: str = "http") -> str:
        return f"{scheme}://{user}{'@' if user else ''}127.0.0.1:{self.port}"


Says = bytes | Callable[[socket.socket], None]


@contextmanager
def proxy(*, user: str = "", says: Says | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Listen; every host is taken for this machine, its port for the port. `user` is whom it knows, as name:password;
    `says` is what it answers instead of passing anything on.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    found = Proxy(listener.getsockname()[1])
    expected = f"Basic {base64.b64encode(user.encode()).decode()}".encode()
    live: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        connection.settimeout(20)
        with connection, suppress(OSError):
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
                live.append(connection)
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            head, _, rest = head.partition(b"\r\n\r\n")
            found.heads.append(head)
            if says is not None:
                connection.sendall(says) if isinstance(says, bytes) else says(connection)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65536)
                return
            lines = head.split(b"\r\n")
            if user and b"Proxy-Authorization: " + expected not in lines:
                connection.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwho?"
                )
                return
            method, target, _ = lines[0].decode("latin-1").split(" ", 2)
            parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
            with socket.create_connection(("127.0.0.1", parts.port or 80), timeout=20) as far:
                live.append(far)
                if method == "CONNECT":
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-By: proxy\r\n\r\n")
                    back = threading.Thread(target=pump, args=(far, connection), daemon=True)
                    back.start()
                    pump(connection, far)
                    back.join(20)
                    return
                length = sum(
                    int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:")
                )
                while len(rest) < length:
                    rest += connection.recv(65536)
                path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
                own = [line for line in lines[1:] if not line.lower().startswith((b"proxy-", b"connection:"))]
                far.sendall(b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *own, b"Connection: close", b"", rest]))
                pump(far, connection)

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            live.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for one in live:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes, and its end."""
    with suppress(OSError):
        while piece := one.recv(65536):
            other.sendall(piece)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
