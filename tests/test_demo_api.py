"""The demo connector's shop, asked over real sockets and without the core: what a pull of it may rely on."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from pydantic import ValidationError

HERE = Path(__file__).resolve().parent
ELSEWHERE = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parent), str(HERE)))}
"""The environment of another process that imports this file."""

SPEC = importlib.util.spec_from_file_location("demo", HERE.parent / "connectors" / "demo.py")
assert SPEC
assert SPEC.loader
demo = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(demo)


class Visitor:
    """One kept connection to a shop."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def ask(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> tuple[int, Any, bytes]:
        """The status, headers and body of one answer, whatever it says."""
        self.connection.request("GET", f"{path}?{urlencode(query)}" if query else path, headers=headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def again(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> tuple[int, Any, bytes]:
        """The answer, asking once more where the shop is busy."""
        answer = self.ask(path, headers, **query)
        return self.ask(path, headers, **query) if answer[0] in (429, 503) else answer

    def get(self, path: str, **query: Any) -> bytes:
        """The body of a good answer."""
        status, _, body = self.again(path, **query)
        assert status == 200, body
        return body

    def customers(self, **query: Any) -> list[bytes]:
        """The bodies of all pages, following the tokens by hand."""
        bodies = [self.get("/customers", limit=100, **query)]
        while "paging" in (answer := json.loads(bodies[-1])):
            bodies.append(self.get("/customers", limit=100, after=answer["paging"]["next"]["after"], **query))
        return bodies

    def orders(self) -> list[bytes]:
        """The bodies of all pages, counted by hand."""
        bodies = [self.get("/orders", page=1, per_page=100)]
        pages = json.loads(bodies[0])["meta"]["total_pages"]
        return bodies + [self.get("/orders", page=page, per_page=100) for page in range(2, pages + 1)]


def unhurried() -> Any:
    """A clock on which every request comes a second after the last, so that no limit is met."""
    return count(step=1.0).__next__


@pytest.fixture(scope="module")
def regular() -> Iterator[Visitor]:
    """A connection to a shop that stays open; some of its busy answers may be given already."""
    with demo.shop(unhurried()) as url, Visitor(url) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def bodies() -> dict[str, list[bytes]]:
    """All pages of both streams, from one start."""
    with demo.shop(unhurried()) as url, Visitor(url) as visitor:
        return {"customers": visitor.customers(), "orders": visitor.orders()}


def digest(bodies: dict[str, list[bytes]]) -> str:
    return hashlib.sha256(b"\n".join(bodies["customers"] + bodies["orders"])).hexdigest()


def digest_of_a_start() -> str:
    """What another process prints, to be compared with this one."""
    with demo.shop(unhurried()) as url, Visitor(url) as visitor:
        return digest({"customers": visitor.customers(), "orders": visitor.orders()})


def records(bodies: list[bytes], name: str) -> list[Any]:
    return [record for body in bodies for record in json.loads(body)[name]]


def refused(bodies: list[bytes], name: str, model: Any) -> dict[int, list[tuple[str, tuple[Any, ...]]]]:
    """The place of each record that the model refuses, and every reason."""
    found = {}
    for place, record in enumerate(records(bodies, name)):
        try:
            model.model_validate_json(json.dumps(record), strict=True)
        except ValidationError as error:
            found[place] = [(reason["type"], reason["loc"]) for reason in error.errors()]
    return found


BROKEN_CUSTOMERS = {
    37: [("int_type", ("id",))],
    212: [("missing", ("email",))],
    388: [("literal_error", ("status",))],
    561: [("datetime_parsing", ("created_at",))],
    640: [("decimal_type", ("balance",))],
    819: [("model_type", ())],
    1003: [("json_invalid", ())],
    1155: [("missing", ("address", "country"))],
    1390: [("string_type", ("email",))],
    1602: [("string_type", ("tags", 1))],
    1777: [("timezone_aware", ("created_at",))],
    2018: [("string_too_short", ("name",))],
}
BROKEN_ORDERS = {
    44: [("greater_than_equal", ("lines", 0, "quantity"))],
    160: [("int_type", ("order_id",))],
    305: [("missing", ("customer_id",))],
    498: [("literal_error", ("status",))],
    611: [("datetime_parsing", ("placed_at",))],
    790: [("decimal_parsing", ("lines", 1, "price"))],
    933: [("decimal_type", ("total",))],
    1102: [("model_type", ())],
    1287: [("too_short", ("lines",))],
    1450: [("int_type", ("lines", 0, "quantity"))],
    1666: [("literal_error", ("currency",))],
    1834: [("missing", ("lines", 0, "sku"))],
    2077: [("json_invalid", ())],
    2350: [("greater_than_equal", ("shipping",))],
    2718: [("int_type", ("lines", 0, "quantity"))],
}


def test_two_starts_serve_the_same_bytes_also_in_two_processes_with_different_hash_seeds(
    bodies: dict[str, list[bytes]],
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import test_demo_api; print(test_demo_api.digest_of_a_start())"],
        env={**ELSEWHERE, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()

    assert digest(bodies) == found


def test_following_the_tokens_meets_every_customer_exactly_once_in_the_promised_order(
    bodies: dict[str, list[bytes]],
) -> None:
    customers = records(bodies["customers"], "data")
    ids = [int(re.search("[0-9]+", str(it["id"] if isinstance(it, dict) else it)).group()) for it in customers]
    keys = [(it["updated_at"], int(it["id"])) for it in customers if isinstance(it, dict)]

    assert 24 == len(bodies["customers"])
    assert list(range(10001, 12401)) == sorted(ids)
    assert sorted(keys) == keys
    assert {2400} == {json.loads(body)["total"] for body in bodies["customers"]}


def test_customers_share_a_second_also_where_a_page_ends(bodies: dict[str, list[bytes]]) -> None:
    pages = [json.loads(body)["data"] for body in bodies["customers"]]

    assert [] != [1 for one, two in pairwise(pages) if one[-1]["updated_at"] == two[0]["updated_at"]]


def test_counting_the_pages_meets_every_order_exactly_once(bodies: dict[str, list[bytes]]) -> None:
    orders = records(bodies["orders"], "orders")
    ids = [int(re.search("[0-9]+", str(it["order_id"] if isinstance(it, dict) else it)).group()) for it in orders]

    assert 30 == len(bodies["orders"])
    assert list(range(500001, 503001)) == ids
    assert {"page": 30, "total_pages": 30, "total": 3000} == json.loads(bodies["orders"][-1])["meta"]


def test_the_models_refuse_exactly_the_malformed_records_each_for_one_reason(bodies: dict[str, list[bytes]]) -> None:
    customers = refused(bodies["customers"], "data", demo.Customer)
    orders = refused(bodies["orders"], "orders", demo.Order)

    assert BROKEN_CUSTOMERS == customers
    assert BROKEN_ORDERS == orders
    assert len({kind for [(kind, _)] in [*customers.values(), *orders.values()]}) >= 6


def test_half_a_surrogate_pair_is_sent_as_an_escape_and_everything_else_as_utf_8(
    bodies: dict[str, list[bytes]],
) -> None:
    escapes = [re.findall(rb"\\u[0-9a-f]{4}", b"".join(bodies[name])) for name in ("customers", "orders")]

    assert [[rb"\ud83e"], [rb"\ud83d"]] == escapes


def test_the_only_field_that_no_model_names_is_loyalty_tier(bodies: dict[str, list[bytes]]) -> None:
    customers = [it for it in records(bodies["customers"], "data") if isinstance(it, dict)]
    orders = [it for it in records(bodies["orders"], "orders") if isinstance(it, dict)]
    tiers = [it["updated_at"] for it in customers if "loyalty_tier" in it]

    assert {"loyalty_tier"} == set().union(*customers) - set(demo.Customer.model_fields)
    assert set() == set().union(*orders) - set(demo.Order.model_fields)
    assert 0 < len(tiers) < len(customers)
    assert min(tiers) >= "2026-04-01"


def test_money_is_a_number_with_two_digits(bodies: dict[str, list[bytes]]) -> None:
    found = re.findall(
        rb'"(?:balance|shipping|total|price)": (?!(?:2400|3000)\})([^,}]+)', b"".join(chain(*bodies.values()))
    )

    odd = [value for value in found if not re.fullmatch(rb"-?[0-9]+\.[0-9]{2}", value)]

    assert [b"null", b'"12', b"null"] == odd
    assert len(found) > 8400


def test_foreign_ids_are_too_big_for_a_float_and_fit_a_database_integer(bodies: dict[str, list[bytes]]) -> None:
    everything = records(bodies["customers"], "data") + records(bodies["orders"], "orders")
    ids = [it.get("crm_id") or it.get("payment_id") or 0 for it in everything if isinstance(it, dict)]

    assert len([number for number in ids if number > 2**53]) > 3000
    assert max(ids) < 2**63


def test_all_moments_lie_in_the_first_half_of_2026(bodies: dict[str, list[bytes]]) -> None:
    moments = [it["updated_at"] for it in records(bodies["customers"], "data") if isinstance(it, dict)]

    assert min(moments) >= "2026-01-01T00:00:00Z"
    assert max(moments) < "2026-07-01T00:00:00Z"


def test_updated_since_is_inclusive_and_narrows_the_total(regular: Visitor, bodies: dict[str, list[bytes]]) -> None:
    customers = records(bodies["customers"], "data")
    since = customers[2100]["updated_at"]
    first = next(i for i, it in enumerate(customers) if isinstance(it, dict) and it["updated_at"] == since)

    pages = regular.customers(updated_since=since)

    assert first < 2100  # it shares its second with others, on the page before
    assert customers[first:] == records(pages, "data")
    assert {len(customers) - first} == {json.loads(body)["total"] for body in pages}


def test_updated_since_is_a_moment_however_its_zone_is_written(
    regular: Visitor, bodies: dict[str, list[bytes]]
) -> None:
    customers = records(bodies["customers"], "data")
    since = customers[2350]["updated_at"]
    moment = datetime.fromisoformat(since)
    later = [it for it in customers[2300:] if it["updated_at"] > since]

    plain = regular.get("/customers", updated_since=since)
    offset = regular.get("/customers", updated_since=moment.isoformat().replace("+00:00", "-00:00"))
    east = (moment + timedelta(hours=2)).replace(tzinfo=None).isoformat() + "+02:00"
    after = regular.get("/customers", updated_since=(moment + timedelta(microseconds=1)).astimezone(UTC).isoformat())

    assert plain == offset
    assert plain == regular.get("/customers", updated_since=east)
    assert later == json.loads(after)["data"]


def test_a_parameter_that_means_nothing_is_a_400_in_json(regular: Visitor) -> None:
    targets = (
        "/customers?after=bm90IGEgdG9rZW4=",
        "/customers?limit=0",
        "/customers?limit=101",
        "/customers?updated_since=yesterday",
        "/orders?page=0",
        "/orders?per_page=ten",
    )

    answers = [regular.again(target) for target in targets]

    assert [400] * 6 == [status for status, _, _ in answers]
    assert {b'{"error": {"code": "bad_parameter"}}'} == {body for _, _, body in answers}
    assert {"application/json; charset=utf-8"} == {headers["Content-Type"] for _, headers, _ in answers}


def test_another_path_is_a_404_in_json(regular: Visitor) -> None:
    status, headers, body = regular.ask("/invoices?page=1")

    assert (404, {"error": {"code": "not_found"}}) == (status, json.loads(body))
    assert "application/json; charset=utf-8" == headers["Content-Type"]


def test_orders_are_compressed_for_those_who_ask_and_customers_never(regular: Visitor) -> None:
    _, plain_headers, plain = regular.again("/orders")
    _, headers, packed = regular.again("/orders", {"Accept-Encoding": "deflate, gzip"})
    _, refused_headers, _ = regular.again("/orders", {"Accept-Encoding": "gzip;q=0"})
    _, customer_headers, _ = regular.again("/customers", {"Accept-Encoding": "gzip"})

    assert [None, "gzip", None, None] == [
        found["Content-Encoding"] for found in (plain_headers, headers, refused_headers, customer_headers)
    ]
    assert str(len(packed)) == headers["Content-Length"]
    assert len(packed) < len(plain)
    assert plain == gzip.decompress(packed)


def test_the_shop_is_busy_at_its_fixed_requests_and_only_once() -> None:
    with demo.shop(unhurried()) as url, Visitor(url) as visitor:
        customers = [visitor.ask("/customers", limit=1)[:2] for _ in range(40)]
        orders = [visitor.ask("/orders", per_page=1)[:2] for _ in range(40)]

    assert [(9, 429, "2"), (17, 503, None)] == [
        (i, status, headers["Retry-After"]) for i, (status, headers) in enumerate(customers, 1) if status != 200
    ]
    assert [(7, 503, None), (22, 429, "2")] == [
        (i, status, headers["Retry-After"]) for i, (status, headers) in enumerate(orders, 1) if status != 200
    ]


def test_the_limit_is_kept_to_the_request_and_says_when_it_opens_again() -> None:
    now = [1000.0]
    with demo.shop(lambda: now[0]) as url, Visitor(url) as visitor:
        within = [visitor.ask("/nowhere") for _ in range(demo.LIMIT)]
        status, headers, body = visitor.ask("/nowhere")
        now[0] += demo.WINDOW - 0.5
        still = visitor.ask("/nowhere")
        now[0] += 0.5
        again = visitor.ask("/nowhere")

    assert {404} == {answer[0] for answer in within}
    assert [str(left) for left in range(49, -1, -1)] == [answer[1]["X-RateLimit-Remaining"] for answer in within]
    assert (429, {"error": {"code": "rate_limited"}}) == (status, json.loads(body))
    assert ("5", "5", "50", "0") == tuple(
        headers[name] for name in ("Retry-After", "X-RateLimit-Reset", "X-RateLimit-Limit", "X-RateLimit-Remaining")
    )
    assert (429, "1") == (still[0], still[1]["Retry-After"])
    assert (404, "49", None) == (again[0], again[1]["X-RateLimit-Remaining"], again[1]["Retry-After"])


def test_a_refused_request_does_not_use_up_the_busy_answers() -> None:
    now = [0.0]
    with demo.shop(lambda: now[0]) as url, Visitor(url) as visitor:
        first = [visitor.ask("/nowhere")[0] for _ in range(demo.LIMIT)]
        refused = [visitor.ask("/orders")[0] for _ in range(30)]
        now[0] += demo.WINDOW
        statuses = [visitor.ask("/orders", per_page=1)[0] for _ in range(8)]

    assert [404] * demo.LIMIT + [429] * 30 == first + refused
    assert [200] * 6 + [503, 200] == statuses


def test_the_declared_rate_never_spends_the_shops_whole_limit() -> None:
    rate = demo.connector.rate
    most = rate.limit * (int(demo.WINDOW / rate.per) + 1)  # as many as fit when both ends of the window are met

    assert most < demo.LIMIT


def test_every_answer_is_dated_sized_and_on_the_same_connection(regular: Visitor) -> None:
    first = regular.again("/customers")
    socket = regular.connection.sock
    others = [regular.again(path) for path in ("/orders", "/invoices", "/customers?limit=x")]

    assert socket is not None
    assert socket is regular.connection.sock
    for _, headers, body in (first, *others):
        assert str(len(body)) == headers["Content-Length"]
        assert headers["Date"].endswith(" GMT")


def test_a_closed_shop_answers_nobody_not_even_on_a_kept_connection() -> None:
    with demo.shop() as url:
        kept = Visitor(url)
        assert 200 == kept.ask("/customers")[0]

    with kept:
        assert b"" == kept.connection.sock.recv(1)
    with pytest.raises(ConnectionRefusedError), Visitor(url) as late:
        late.ask("/customers")


def test_a_shop_closes_also_when_the_visit_fails() -> None:
    with pytest.raises(RuntimeError, match="halfway"), demo.shop() as url:
        raise RuntimeError("halfway")

    with pytest.raises(ConnectionRefusedError), Visitor(url) as late:
        late.ask("/customers")


def test_a_process_with_an_open_shop_ends_at_once_and_prints_nothing() -> None:
    code = "import test_demo_api as t; s = t.demo.shop(); v = t.Visitor(s.__enter__()); v.ask('/customers')"

    done = subprocess.run(
        [sys.executable, "-c", code], env=ELSEWHERE, capture_output=True, text=True, timeout=30, check=False
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
