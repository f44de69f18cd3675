"""A Flask application on loopback, in a thread of the test, which can look at what it remembers.

app = Flask("shop")
with serving(app) as heard: ...
    heard.url, heard.requests
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, kind: str, message: str, *arguments: Any) -> None:
        pass


@dataclass(frozen=True)
class Heard:
    """A request as it came; header names in lower case."""

    method: str
    path: str
    target: str
    """Path and query as they stood in the request."""
    headers: dict[str, str]
    form: dict[str, str]
    body: bytes


@dataclass
class Serving:
    """Where the application is, and what it was asked."""

    url: str
    requests: list[Heard] = field(default_factory=list)

    def of(self, path: str) -> list[Heard]:
        """The requests for a path."""
        return [one for one in self.requests if one.path == path]


@contextmanager
def serving(app: Flask, tls: ssl.SSLContext | None = None) -> Iterator[Serving]:
    """Serve the application for as long as the `with` lasts; every request is recorded before it is answered."""
    app.json.sort_keys = False
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, ssl_context=tls)
    server.daemon_threads = True
    server.block_on_close = False
    found = Serving(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}")

    @app.before_request
    def hear() -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        target = request.environ["RAW_URI"]
        body = request.get_data(cache=True)
        found.requests.append(Heard(request.method, request.path, target, headers, request.form.to_dict(), body))

    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
