"""demo: a small web shop that exists only while it is pulled, to try syncer on without an account.

The shop is a real HTTP server on 127.0.0.1. Its customers and orders are made up from a fixed seed, the same
bytes at every start. It is as difficult as real ones are: two ways of paging, a rate limit, an answer
now and then that asks to come back later, and a few records that are not what they should be.
"""

import json
import re
import time
from base64 import urlsafe_b64encode
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qs

from pydantic import AwareDatetime, BaseModel, Field

from syncer import Connector, NextToken, PageNumber, Rate, Stream

if TYPE_CHECKING:
    from random import Random

# --- what the records are -------------------------------------------------------------------------

Id = Annotated[int, Field(ge=1)]
Money = Annotated[Decimal, Field(decimal_places=2)]
Price = Annotated[Decimal, Field(ge=0, decimal_places=2)]


class Address(BaseModel):
    street: str
    city: str
    postcode: str
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class Customer(BaseModel):
    id: Id
    name: Annotated[str, Field(min_length=1)]
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    status: Literal["active", "dormant", "blocked"]
    address: Address | None
    tags: list[str]
    balance: Money
    crm_id: int | None
    birthday: date | None = None
    note: str | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class LineItem(BaseModel):
    sku: Annotated[str, Field(pattern=r"^[A-Z]{2}-[0-9]{4}$")]
    title: str
    quantity: Annotated[int, Field(ge=1)]
    price: Price


class Order(BaseModel):
    order_id: Id
    customer_id: Id
    status: Literal["open", "paid", "shipped", "delivered", "cancelled"]
    currency: Literal["CHF", "EUR", "GBP", "USD"]
    lines: Annotated[list[LineItem], Field(min_length=1)]
    shipping: Price
    total: Price
    payment_id: int | None
    gift_message: str | None = None
    placed_at: AwareDatetime
    shipped_at: AwareDatetime | None


# --- what they are made of ------------------------------------------------------------------------

SEED = 20260701
CUSTOMERS, FIRST_CUSTOMER = 2400, 10001
ORDERS, FIRST_ORDER = 3000, 500001
OPENED = datetime(2026, 1, 1, tzinfo=UTC)

# First names, family names, towns, streets, countries: words for plants, birds and weather, so that nobody is meant.
PEOPLE = tuple(
    tuple(words.split() for words in script)
    for script in (
        ("Amber Juniper Bramble Clover Saffron Tansy Bracken Sorrel", "Moonbrook O'Lantern Saltmarsh Fernwhistle"
         " Copperkettle Nightjar-Reed", "Quillhaven Mossbridge Larkspur-on-Sea", "Heron-Lane Tinker's-Row", "GB IE NZ"),
        ("Blümli Šípka Épinette Åsklöv Çınarlı Łąka Ñandubay", "Grünspecht Větrník Crépuscule Snöstjärna Ağaçkakan"
         " Świetlik", "Kälteberg Žabokřeky Saint-Écureuil", "Föhngasse Allée-des-Grêlons", "CH CZ FR SE"),
        ("Зимородок Ласточка Рябинка Журавлик Черёмуха", "Тихоречный Светлолес Снегопадный Ветродуй",
         "Малиногорск Синеозёрск", "Ежевичная Туманная", "BG KZ RS"),
        ("Αηδόνα Θυμάρι Κοχύλι Αμυγδαλιά", "Φεγγαρόπετρα Ανεμόμυλος Βροχοσταλίδα", "Μελισσοχώρι", "Ροδιάς", "GR CY"),
        ("若葉 朝露 夕凪 小春日", "霧ヶ浜 鈴虫谷 雪見橋 藤波川", "月影町 風鈴市", "蛍通り", "JP"),
        ("달빛 새벽이 이슬 노을", "은하수 솔바람 구름재", "별내리", "단풍길", "KR"),
        ("زنبقة غيمة لؤلؤة عصفور", "الفانوس المرجان البستان", "وادي_النجوم", "شارع_الزيتون", "JO MA"),
        ("गौरैया बादल चाँदनी कोयल", "नीलसागर मेघद्वीप वनतारा", "इंद्रधनुषपुर", "कदंब_मार्ग", "IN NP"),
    )
)  # fmt: skip
TAGS = ("wholesale", "press", "gift-buyer", "b2b, net 30", "élite", "常連", "новый", "🌵", "returns\\often")
NOTES = (
    'says "ring twice"', "first line\nsecond line", "moved\u2028see the old address", "☎ Tuesdays, not before 10:00",
    "<b>not bold</b> & not a tag", "C:\\imports\\2019.csv\ttab", "👩‍🚀 likes rockets", "e\u0301 is two characters", "",
)  # fmt: skip
GOODS = (
    ("TE-0117", "Tea whisk 茶筅", 1890), ("TE-0240", "Teapot, cast iron", 6450), ("BO-0033", "Crème brûlée bowl", 790),
    ("BO-0101", "Bowl Ø 24 cm", 1320), ("LA-0009", "“Comet” lamp 💡", 12900), ("BR-0500", "½-inch brush", 345),
    ("CA-0012", "Calendar 2026, daily", 2200), ("SO-0077", "Soap, oat & honey", 60), ("KN-0002", "Ножницы 18 см", 2715),
    ("PL-0301", "Plaid, wool, 130×200", 8999), ("GA-0018", "Garden twine\u00a0100 m", 480), ("ST-0004", "Sticker", 5),
)  # fmt: skip

GONE = object()
# Where a record is broken (its place in the stream, then the way into it), and what stands there instead. A function
# is given what stood there.
BROKEN_CUSTOMERS: Mapping[tuple[Any, ...], Any] = {
    (37, "id"): str,
    (212, "email"): GONE,
    (388, "status"): "vip",
    (561, "created_at"): "2025-02-30T09:15:00Z",
    (640, "balance"): None,
    (819,): lambda customer: f"customer {customer['id']} was merged",
    (1003, "name"): lambda name: name + " \ud83e",
    (1155, "address", "country"): GONE,
    (1390, "email"): None,
    (1602, "tags"): ["press", 7],
    (1777, "created_at"): lambda moment: moment.removesuffix("Z"),
    (2018, "name"): "",
}
BROKEN_ORDERS: Mapping[tuple[Any, ...], Any] = {
    (44, "lines", 0, "quantity"): -2,
    (160, "order_id"): str,
    (305, "customer_id"): GONE,
    (498, "status"): "teleported",
    (611, "placed_at"): "2026-04-31T12:00:00Z",
    (790, "lines", 1, "price"): "12,50",
    (933, "total"): None,
    (1102,): lambda order: f"order {order['order_id']} is in the archive",
    (1287, "lines"): [],
    (1450, "lines", 0, "quantity"): "3",
    (1666, "currency"): "BEANS",
    (1834, "lines", 0, "sku"): GONE,
    (2077, "gift_message"): "see you soon \ud83d",
    (2350, "shipping"): "@-4.90",
    (2718, "lines", 0, "quantity"): 1.5,
}


def _wired(records: list[Any], broken: Mapping[tuple[Any, ...], Any]) -> list[bytes]:
    for (*way, last), value in broken.items():
        place: Any = records
        for step in way:
            place = place[step]
        if value is GONE:
            del place[last]
        else:
            place[last] = value(place[last]) if callable(value) else value
    return [_wire(record) for record in records]


def _money(cents: int) -> str:
    return f"@{cents / 100:.2f}"


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _wire(value: Any) -> bytes:
    """JSON as a shop writes it: 19.90 with both digits, UTF-8 where it can be, and half a surrogate pair escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r'"@(-?[0-9]+\.[0-9]{2})"', r"\1", text).encode("utf-8", "backslashreplace")


def _customer(rng: "Random", number: int, updated: datetime) -> dict[str, Any]:
    given, family, town, street, country = (rng.choice(words).replace("_", " ") for words in rng.choice(PEOPLE))
    mailbox = f"{given}.{family}".lower() if f"{given}{family}".isascii() else "customer"
    home = {"street": f"{street} {rng.randrange(1, 180)}", "city": town, "postcode": f"{rng.randrange(10**5):05d}"}
    born = date(1940, 1, 1) + timedelta(days=rng.randrange(24000))
    customer = {
        "id": number,
        "name": f"{given} {family}",
        "email": f"{mailbox}+{number}@example.org",
        "status": rng.choice(("active", "active", "active", "dormant", "blocked")),
        "address": rng.choice((home | {"country": country},) * 11 + (None,)),
        "tags": [rng.choice(TAGS) for _ in range(rng.randrange(4))],
        "balance": _money(rng.choice((0, 0, rng.randrange(-5000, 90000)))),
        "crm_id": rng.choice((None, rng.getrandbits(63))),
        "birthday": rng.choice((born.isoformat(), GONE, GONE)),
        "note": rng.choice((*NOTES, None, *[GONE] * 30)),
        "loyalty_tier": rng.choice(("bronze", "silver", "gold", *[GONE] * 15)) if updated.month > 3 else GONE,
        "created_at": _stamp(OPENED - timedelta(minutes=rng.randrange(10**6))),
        "updated_at": _stamp(updated),
    }
    return {name: value for name, value in customer.items() if value is not GONE}


def _order(rng: "Random", number: int, placed: datetime) -> dict[str, Any]:
    basket = [(*rng.choice(GOODS), rng.choice((1, 1, 1, 2, 3, 12))) for _ in range(rng.randrange(1, 5))]
    shipping = rng.choice((0, 490, 990))
    status = rng.choice(("open", "paid", "shipped", "delivered", "delivered", "cancelled"))
    shipped = placed + timedelta(minutes=rng.randrange(90, 5000))
    message = {"gift_message": rng.choice(("С днём рождения!", "おめでとう 🎂", "Thank you\nfor everything", None))}
    return {
        "order_id": number,
        "customer_id": rng.randrange(FIRST_CUSTOMER, FIRST_CUSTOMER + CUSTOMERS),
        "status": status,
        "currency": rng.choice(("CHF", "EUR", "EUR", "GBP", "USD")),
        "lines": [{"sku": sku, "title": t, "quantity": n, "price": _money(cents)} for sku, t, cents, n in basket],
        "shipping": _money(shipping),
        "total": _money(shipping + sum(cents * n for _, _, cents, n in basket)),
        "payment_id": None if status in ("open", "cancelled") else rng.getrandbits(63),
        **(message if rng.randrange(8) == 0 else {}),
        "placed_at": _stamp(placed),
        "shipped_at": _stamp(shipped) if status in ("shipped", "delivered") else None,
    }


# --- the shop -------------------------------------------------------------------------------------

LIMIT, WINDOW = 50, 5.0
"""So many requests are answered in so many seconds."""

TROUBLE: Mapping[tuple[str, int], tuple[int, str, str]] = {
    ("/customers", 9): (429, "slow_down", "2"),
    ("/customers", 17): (503, "unavailable", ""),
    ("/orders", 7): (503, "unavailable", ""),
    ("/orders", 22): (429, "slow_down", "2"),
}
"""At which request of a path the shop is busy, once: the status, a word for it, and Retry-After unless empty."""


class _Shop:
    """The records, and what is answered to whom. It knows nothing of sockets."""

    def __init__(self, clock: Callable[[], float]) -> None:
        from random import Random
        from threading import Lock

        rng, seconds = Random(SEED), 180 * 86400
        # Fewer moments than customers: some change in the same second, also where a page ends.
        moments = [OPENED + timedelta(seconds=rng.randrange(seconds)) for _ in range(CUSTOMERS // 2)]
        keys = sorted((rng.choice(moments), FIRST_CUSTOMER + i) for i in range(CUSTOMERS))
        placed = sorted(OPENED + timedelta(seconds=rng.randrange(seconds)) for _ in range(ORDERS))
        self.updated = [updated for updated, _ in keys]
        self.tokens = [urlsafe_b64encode(f"{_stamp(at)}/{number}".encode()).decode() for at, number in keys]
        self.customers = _wired([_customer(rng, number, at) for at, number in keys], BROKEN_CUSTOMERS)
        self.orders = _wired([_order(rng, FIRST_ORDER + i, at) for i, at in enumerate(placed)], BROKEN_ORDERS)
        self.clock, self.lock = clock, Lock()
        self.opened, self.asked, self.seen = float("-inf"), 0, Counter[str]()

    def answer(self, target: str) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body for one GET."""
        path, _, text = target.partition("?")
        headers = {"Content-Type": "application/json; charset=utf-8"}
        refused = self._admit(path, headers)
        page = {"/customers": self._customers, "/orders": self._orders}.get(path)
        try:
            if page and not refused:
                return 200, headers, page({name: values[-1] for name, values in parse_qs(text).items()})
        except ValueError:
            refused = 400, "bad_parameter", ""
        status, code, wait = refused or (404, "not_found", "")
        return status, headers | ({"Retry-After": wait} if wait else {}), _wire({"error": {"code": code}})

    def _admit(self, path: str, headers: dict[str, str]) -> tuple[int, str, str] | None:
        with self.lock:
            now = self.clock()
            if now - self.opened >= WINDOW:
                self.opened, self.asked = now, 0
            self.asked += 1
            reset = str(ceil(self.opened + WINDOW - now))
            headers["X-RateLimit-Limit"], headers["X-RateLimit-Reset"] = str(LIMIT), reset
            headers["X-RateLimit-Remaining"] = str(max(0, LIMIT - self.asked))
            if self.asked > LIMIT:
                return 429, "rate_limited", reset
            self.seen[path] += 1
            return TROUBLE.get((path, self.seen[path]))

    def _customers(self, query: Mapping[str, str]) -> bytes:
        start, limit = 0, _number(query, "limit", 100)
        if since := query.get("updated_since"):
            moment = datetime.fromisoformat(since)
            start = bisect_left(self.updated, moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        total = len(self.customers) - start
        if token := query.get("after"):
            start = max(start, self.tokens.index(token) + 1)  # ValueError for a token that is none of ours
        end = start + limit
        more = {"paging": {"next": {"after": self.tokens[end - 1]}}} if end < len(self.customers) else {}
        return _envelope("data", self.customers[start:end], {**more, "total": total})

    def _orders(self, query: Mapping[str, str]) -> bytes:
        page, size = _number(query, "page", 1, most=1000), _number(query, "per_page", 100)
        meta = {"page": page, "total_pages": ceil(ORDERS / size), "total": ORDERS}
        return _envelope("orders", self.orders[(page - 1) * size : page * size], {"meta": meta})


def _envelope(name: str, records: list[bytes], rest: Mapping[str, Any]) -> bytes:
    return b'{"%s": [%s], %s' % (name.encode(), b", ".join(records), _wire(rest)[1:])


def _number(query: Mapping[str, str], name: str, default: int, most: int = 100) -> int:
    number = int(query.get(name, default))
    if not 1 <= number <= most:
        raise ValueError(name)
    return number


@contextmanager
def shop(clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """Keep the shop open on a free port of 127.0.0.1; yields its base URL."""
    import gzip
    import socket
    import sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from socketserver import TCPServer
    from threading import Thread
    from weakref import WeakSet

    counter = _Shop(clock)
    connections: WeakSet[socket.socket] = WeakSet()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "demo-shop", ""
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            status, headers, body = counter.answer(self.path)
            if self.path.startswith("/orders"):
                headers["Vary"] = "Accept-Encoding"
                if re.search(r"\bgzip\b(?!\s*;\s*q=0)", self.headers.get("Accept-Encoding", "")):
                    headers["Content-Encoding"], body = "gzip", gzip.compress(body, 6, mtime=0)
            self.send_response(status)
            for header in (*headers.items(), ("Content-Length", str(len(body)))):
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        server_bind = TCPServer.server_bind  # HTTPServer would ask the resolver for a name: seconds, offline

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, address = super().get_request()
            connections.add(connection)
            return connection, address

        def handle_error(self, *args: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a killed client hangs up in the middle
                super().handle_error(*args)

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), name="demo-shop", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            if not sys.is_finalizing():  # a process that ends has stopped the thread, and would wait for it forever
                server.shutdown()
                thread.join()
            for connection in list(connections):
                with suppress(OSError):  # it may be closed by now
                    connection.shutdown(socket.SHUT_RDWR)  # a kept connection would keep its thread


connector = Connector(
    name="demo",
    base_url="http://127.0.0.1",
    rate=Rate(6),
    server=shop,
    streams=(
        Stream(
            name="customers",
            path="/customers",
            params={"limit": 100},
            records="data",
            total="total",
            pagination=NextToken("paging.next.after", param="after", cursor="stable"),
            model=Customer,
            primary_key="id",
            replication_key="updated_at",
            since="updated_since",
        ),
        Stream(
            name="orders",
            path="/orders",
            params={"page": 1, "per_page": 100},
            records="orders",
            total="meta.total",
            pagination=PageNumber(pages="meta.total_pages"),
            model=Order,
            primary_key="order_id",
        ),
    ),
)
