"""A small real HTTP API on loopback, for tests: pages of records in one of several styles, and a hook to misbehave.

    with Api(records=20, size=4, style="token") as api:          # port 0; stops by itself
        api.misbehave = lambda asked: Reply(status=500) if asked.number == 3 else None
        Path("connectors/shop.py").write_text(connector(api.url))
        ...
        assert ["", "4", "8"] == [asked.query.get("cursor", "") for asked in api.seen][:3]

Styles, each with the pagination that reads it in PAGINATION:

    token     {"items": [...], "total": 20, "next": "4"}           and back as ?cursor=4
    body      the same, asked by POST, and back as {"cursor": "4"}
    next      {"items": [...], "next": "http://.../items?at=4"}
    link      Link: <http://.../items?at=4>; rel="next"
    page      {"items": [...], "pages": 5}                         ?page=2
    offset    {"items": [...], "total": 20}                        ?offset=4
    keyset    {"items": [...], "more": true}                       ?after=<last id>
    single    {"items": [...]}                                     everything at once

Records are `record(1)`, `record(2)`, ... or a list of your own, or a mapping of the last part of the path to either.
`?since=` leaves only records whose `updated_at` is not before it, in every style.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

PAGINATION = {
    "token": 'NextToken("next", param="cursor")',
    "body": 'NextToken("next", body="cursor"), method="POST", body={"size": 4}',
    "next": 'NextLink("next")',
    "link": "LinkHeader()",
    "page": 'PageNumber(pages="pages")',
    "offset": 'Offset(total="total")',
    "keyset": 'LastRecord(param="after", more="more")',
    "single": "SinglePage()",
}

HEAD = "from decimal import Decimal\n\nfrom pydantic import AwareDatetime, BaseModel\n\nfrom syncer import *\n\n\n"
MODEL = "class Item(BaseModel):\n    id: int\n    name: str\n    price: Decimal\n    updated_at: AwareDatetime\n"


def record(number: int, **fields: Any) -> dict[str, Any]:
    """One record that the MODEL accepts, different from every other; `fields` replace or add."""
    stamp = f"2026-01-{1 + number // 1440:02d}T{number // 60 % 24:02d}:{number % 60:02d}:00Z"
    return {"id": number, "name": f"item {number} ✓", "price": number * 1.25, "updated_at": stamp, **fields}


def connector(
    url: str,
    *,
    style: str = "token",
    name: str = "shop",
    streams: Iterable[str] = ("items",),
    stream: str = "",
    more: str = "",
    model: str = MODEL,
) -> str:
    """The text of connectors/NAME.py for an API. `stream` and `more` are further arguments of Stream and Connector."""
    declared = "".join(
        f'Stream(name="{one}", path="/{one}", records="items", model=Item, pagination={PAGINATION[style]}, {stream}),'
        for one in streams
    )
    return f'{HEAD}{model}\n\nconnector = Connector(name="{name}", base_url="{url}", streams=({declared}), {more})\n'


@dataclass(frozen=True)
class Asked:
    """A request as it came. Header names are in lower case; `query` also holds the fields of a JSON body."""

    number: int
    """Counts the API's requests from 1."""
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    line: str
    """Path and query as they stood in the request."""


@dataclass(frozen=True)
class Reply:
    """How an answer differs from the ordinary one; what is not said stays ordinary.

    `body` is bytes to send as they are, or a value to send as JSON. `delay` are seconds before the answer (the end of
    the API ends them). `drop` closes the connection without an answer; `cut` sends only so many bytes of the body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0.0
    drop: bool = False
    cut: int | None = None


class Api:
    """The API, serving while the `with` lasts. `seen` holds every request; `misbehave` may be set at any time."""

    def __init__(
        self,
        records: int | Sequence[Any] | Mapping[str, int | Sequence[Any]] = 20,
        *,
        size: int = 4,
        style: str = "token",
        misbehave: Callable[[Asked], Reply | None] | None = None,
    ) -> None:
        self.records, self.size, self.style, self.misbehave = records, size, style, misbehave
        self.seen: list[Asked] = []
        self.closing = threading.Event()
        self.counting = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Api:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def page(self, asked: Asked) -> tuple[dict[str, Any], dict[str, str]]:
        """The ordinary answer: its body and its own headers. For hooks that change only a part of it."""
        rows, query = self._rows(asked), asked.query
        place = int(query.get("cursor") or query.get("at") or query.get("offset") or 0)
        place += (int(query.get("page") or 1) - 1) * self.size
        place += next((at for at, row in enumerate(rows, 1) if str(row["id"]) == query.get("after")), 0)
        end = len(rows) if self.style == "single" else place + self.size
        more = end < len(rows)
        target = f"{self.url}{asked.path}?{urlencode({**query, 'at': end})}"
        own = {
            "token": {"next": str(end) if more else None},
            "body": {"next": str(end) if more else None},
            "next": {"next": target if more else None},
            "page": {"pages": -(-len(rows) // self.size)},
            "keyset": {"more": more},
        }.get(self.style, {})
        link = {"Link": f'<{target}>; rel="next"'} if self.style == "link" and more else {}
        return {"items": rows[place:end], "total": len(rows), **own}, link

    def _rows(self, asked: Asked) -> list[Any]:
        mine = self.records
        rows = mine[asked.path.rpartition("/")[2]] if isinstance(mine, Mapping) else mine
        rows = [record(number) for number in range(1, rows + 1)] if isinstance(rows, int) else list(rows)
        return [row for row in rows if row["updated_at"] >= asked.query["since"]] if "since" in asked.query else rows


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            parts = urlsplit(self.path)
            query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **sent}
            headers = {name.lower(): value for name, value in self.headers.items()}
            with api.counting:
                asked = Asked(len(api.seen) + 1, self.command, parts.path, query, headers, self.path)
                api.seen.append(asked)
            reply = (api.misbehave(asked) if api.misbehave else None) or Reply()
            api.closing.wait(reply.delay)
            if reply.drop or api.closing.is_set():
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body, own = api.page(asked) if reply.body is None else (reply.body, {})
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(reply.status)
            plain = {"Content-Type": "application/json", "Content-Length": str(len(content))}
            for name, value in {**plain, **own, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: reply.cut])
            self.close_connection = self.close_connection or reply.cut is not None

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: Any) -> None:
            return

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the client went away, which is what some tests are about
                self.close_connection = True

    return Handler
