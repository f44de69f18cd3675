"""What the newer styles do at their edges, and what no server can make any style do."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer import (
    ContentRange,
    Continuation,
    Header,
    LastRecord,
    LinkHeader,
    NextLink,
    NextToken,
    Offset,
    PageNumber,
    SinglePage,
    Values,
    Window,
)
from syncer.decode import encode
from syncer.errors import ConfigError, ProtocolError
from syncer.page import Request, Response, bury, dig
from syncer.pagination import Pagination, anew, smaller, taken
from syncer.sinks import KINDS
from tests.scripted import BEGINNING
from tests.world import Api, item, run, stream

steady = settings(derandomize=True, deadline=None, database=None, max_examples=300)

ITEMS = "https://api.example.org/v1/items"
GET = Request(ITEMS, params={"per_page": 2})
POST = Request(f"{ITEMS}/query", method="POST", params={"scroll": "1m"}, body={"size": 2}, headers={"X-V": "7"})
RANGED = Request(ITEMS, headers={"range": "0-1"})
TWO = [{"id": 1}, {"id": 2}]


def after(
    style: Pagination,
    body: Any = None,
    *,
    request: Request = GET,
    records: Sequence[Any] = TWO,
    headers: dict[str, str] | None = None,
    status: int = 200,
) -> Request | None:
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    return style.after(Response(request, request.whole, status, lowered, body, BEGINNING), records)


# --- flags ---

FLAGGED: list[tuple[Callable[..., Pagination], Request]] = [
    (lambda **flag: NextLink("next", **flag), Request(f"{ITEMS}?p=2")),
    (lambda **flag: NextToken("next", param="p", **flag), GET.with_param("p", "?p=2")),
    (lambda **flag: LastRecord(param="p", **flag), GET.with_param("p", 2)),
    (lambda **flag: Offset(param="p", **flag), GET.with_param("p", 2)),
    (lambda **flag: PageNumber(param="p", **flag), GET.with_param("p", 2)),
]


@pytest.mark.parametrize(("declare", "following"), FLAGGED)
def test_a_flag_says_that_there_is_more_or_that_this_was_the_last(
    declare: Callable[..., Pagination], following: Request
) -> None:
    for flag, value, expected in [
        ("more", True, following),
        ("more", "false", None),
        ("done", False, following),
        ("done", "True", None),
    ]:
        assert expected == after(declare(**{flag: "flag"}), {"next": "?p=2", "flag": value})
    with pytest.raises(ConfigError, match="takes one of"):
        declare(more="flag", done="flag")


@pytest.mark.parametrize("flag", [None, 0, "", "no", [], {}, "missing"], ids=repr)
@pytest.mark.parametrize(("declare", "following"), FLAGGED)
def test_a_last_page_that_cannot_be_told_is_the_servers_fault(
    declare: Callable[..., Pagination], following: Request, flag: Any
) -> None:
    body = {"next": "?p=2"} if flag == "missing" else {"next": "?p=2", "flag": flag}
    with pytest.raises(ProtocolError, match="at flag whether this was the last page"):
        after(declare(done="flag"), body)


@pytest.mark.parametrize("style", [NextLink("next", more="more"), NextToken("next", param="p", done="done")], ids=repr)
@pytest.mark.parametrize("body", [{}, {"next": None}, {"next": ""}], ids=str)
def test_more_to_come_without_a_name_for_it_is_the_servers_fault(style: Pagination, body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="names no next page"):
        after(style, {**body, "more": True, "done": False})


def test_a_page_with_a_flag_that_ends_it_may_be_empty() -> None:
    assert after(PageNumber(more="more"), {"more": False}, records=[]) is None
    assert GET.with_param("page", 2) == after(PageNumber(more="more"), {"more": True}, records=[])


# --- tokens that are lists and objects ---


def test_a_token_in_a_body_may_be_a_list_or_an_object_and_an_empty_one_is_the_end() -> None:
    style = NextToken("next", body="start")
    for token in ([1, "x", None], {"id": {"N": "7"}, "price": Decimal("1.50")}):
        assert POST.with_body("start", token) == after(style, {"next": token}, request=POST)
    for token in ([], {}, "", None):
        assert after(style, {"next": token}, request=POST) is None


@pytest.mark.parametrize(
    "token",
    [["\ud800"], {"\udfff": 1}, [Decimal("1e999")], [Decimal("1e-999")], json.loads("[" * 12 + "]" * 12), [10**5000]],
    ids=["text", "name", "large", "small", "deep", "digits"],
)
def test_a_list_or_an_object_that_cannot_be_sent_back_is_the_servers_fault(token: Any) -> None:
    with pytest.raises(ProtocolError):
        after(NextToken("next", body="start"), {"next": token}, request=POST)


def test_a_newer_value_beside_the_key_goes_back_and_one_that_is_missing_leaves_the_older() -> None:
    style = LastRecord(body="search_after", field="sort", also=(("pit_id", "pit.id"),))
    request = replace(POST, body={"pit": {"id": "one", "keep_alive": "5m"}})
    records = [{"sort": [1, 2]}, {"sort": [3, 4]}]
    followed = after(style, {"pit_id": "two"}, request=request, records=records)
    assert followed is not None
    assert {"pit": {"id": "two", "keep_alive": "5m"}, "search_after": [3, 4]} == followed.body
    kept = after(style, {}, request=request, records=records)
    assert kept is not None
    assert {"pit": {"id": "one", "keep_alive": "5m"}, "search_after": [3, 4]} == kept.body


@pytest.mark.parametrize("token", ["a\nb", "a\r\nX: 1", "\u2603", "\x00"], ids=repr)
def test_a_token_that_would_break_a_header_is_the_servers_fault(token: str) -> None:
    with pytest.raises(ProtocolError, match="cannot stand in a header"):
        after(NextToken("next", header="X-After"), {"next": token})


def test_a_key_that_a_whole_page_shares_is_an_error_and_no_circle() -> None:
    style = LastRecord(param="since", field="at", size="per_page", short=True)
    same = [{"at": "T1"}, {"at": "T1"}]
    assert GET.with_param("since", "T1") == after(style, records=same)
    with pytest.raises(ProtocolError, match="a whole page has one at"):
        after(style, records=same, request=GET.with_param("since", "T1"))
    assert after(style, records=same[:1], request=GET.with_param("since", "T1")) is None


def test_a_size_can_be_a_number_where_no_parameter_asks_for_it() -> None:
    style = LastRecord(param="since", size=3, short=True)
    assert after(style, request=Request(ITEMS)) is None
    assert after(replace(style, size=2), request=Request(ITEMS)) is not None
    with pytest.raises(ConfigError, match="size="):
        LastRecord(param="since", short=True)


# --- a list that goes on elsewhere ---

SCROLL = Continuation("_scroll_id", url="/_search/scroll", body="scroll_id", send={"scroll": "1m"})


def test_a_list_goes_on_at_another_place_with_another_body_and_the_same_method_and_headers() -> None:
    expected = Request(
        "https://api.example.org/_search/scroll", "POST", body={"scroll": "1m", "scroll_id": "D"}, headers=POST.headers
    )
    first = after(SCROLL, {"_scroll_id": "D"}, request=POST)
    assert expected == first
    assert first is not None
    assert expected == after(SCROLL, {"_scroll_id": "D"}, request=first)
    assert after(SCROLL, {"_scroll_id": "D"}, request=first, records=[]) is None
    assert after(SCROLL, {}, request=first) is None
    assert {"scroll": "1m"} == SCROLL.send


def test_a_continuation_with_a_flag_outlasts_an_empty_page_and_needs_its_token() -> None:
    style = Continuation("cursor", url="/more", more="has_more")
    assert after(style, {"cursor": "c", "has_more": True}, records=[]) is not None
    assert after(style, {"cursor": "c", "has_more": False}) is None
    with pytest.raises(ProtocolError, match="names no next page"):
        after(style, {"has_more": True})


@pytest.mark.parametrize("url", ["", "more", "//elsewhere.example/more", "https://elsewhere.example/more"])
def test_a_continuation_stays_with_its_server_and_means_one_place(url: str) -> None:
    with pytest.raises(ConfigError, match="one slash"):
        Continuation("cursor", url=url)


# --- ranges ---


@pytest.mark.parametrize(
    ("range_", "told", "count", "following"),
    [
        ("0-1", "0-1/3", 2, "2-3"),
        ("0-1", "0-0/3", 1, "1-2"),
        ("2-3", "2-2/3", 1, None),
        ("0-1", "0-1/2", 2, None),
        ("0-1", "0-1/*", 2, "2-3"),
        ("2-3", "*/*", 0, None),
        ("0-1", "*/0", 0, None),
        ("items=0-1", "items 0-1/3", 2, "items=2-3"),
        ("items=10-19", "items 10-19/*", 10, "items=20-29"),
    ],
)
def test_the_range_behind_the_one_that_came_is_asked_for(
    range_: str, told: str, count: int, following: str | None
) -> None:
    request = Request(ITEMS, headers={"range": range_, "Prefer": "count=exact"})
    expected = None if following is None else request.with_header("range", following)
    records = [{"id": number} for number in range(count)]
    assert expected == after(ContentRange(), request=request, records=records, headers={"Content-Range": told})


@pytest.mark.parametrize(
    ("range_", "headers", "status", "count"),
    [
        ("0-1", {}, 206, 2),  # a part that does not say which
        ("2-3", {}, 200, 2),  # the range was ignored: the beginning again
        ("2-3", {"Content-Range": "0-1/9"}, 206, 2),
        ("0-1", {"Content-Range": "0-1/9"}, 206, 1),
        ("0-1", {"Content-Range": "0-1/9"}, 206, 0),
        ("2-3", {"Content-Range": "*/9"}, 206, 0),
        ("0-1", {"Content-Range": "5-1/9"}, 206, 2),
        ("0-1", {"Content-Range": ""}, 206, 2),
        ("0-1", {"Content-Range": "all"}, 206, 2),
        ("0-1", {"Content-Range": "٠-١/٣"}, 206, 2),
        ("0-1", {"Content-Range": "0-1/" + "9" * 5000}, 206, 2),
        ("0-1", {"Content-Range": "0-1_000/9"}, 206, 2),
    ],
)
def test_a_range_that_does_not_fit_what_was_asked_or_came_is_the_servers_fault(
    range_: str, headers: dict[str, str], status: int, count: int
) -> None:
    request = Request(ITEMS, headers={"Range": range_})
    records = [{"id": number} for number in range(count)]
    with pytest.raises(ProtocolError):
        after(ContentRange(), request=request, records=records, headers=headers, status=status)


def test_a_whole_list_is_one_page_and_a_stream_without_a_range_is_told() -> None:
    assert after(ContentRange(), request=RANGED) is None
    for headers in ({}, {"Range": "0-"}, {"Range": "id ..; max=2"}):
        with pytest.raises(ConfigError, match="headers="):
            after(ContentRange(), request=Request(ITEMS, headers=headers), headers={"Content-Range": "0-1/3"})


# --- value by value ---


def test_each_value_is_asked_for_once_and_its_pages_begin_anew() -> None:
    style = Values(("a", "b", 7), param="day", pages=NextToken("next", param="after"))
    request = GET.with_param("day", "a")
    second = after(style, {"next": "t"}, request=request)
    assert request.with_param("after", "t") == second
    assert second is not None
    third = after(style, {}, request=second)
    assert GET.with_param("day", "b") == third
    assert third is not None
    fourth = after(style, {}, request=third)
    assert GET.with_param("day", 7) == fourth
    assert fourth is not None
    assert after(style, {}, request=fourth) is None


@pytest.mark.parametrize(
    ("pages", "moved", "home"),
    [
        (PageNumber(), GET.with_param("page", 3), GET.with_param("page", 1)),
        (PageNumber(body="n.page", start=0), POST.with_body("n.page", 3), POST.with_body("n.page", 0)),
        (Offset(start=1), GET.with_param("offset", 9), GET.with_param("offset", 1)),
        (NextToken("next", param="after"), GET.with_param("after", "t"), GET),
        (NextToken("next", param="after"), Request(f"{ITEMS}?after=t&x=1"), Request(f"{ITEMS}?x=1")),
        (NextToken("next", param="cursor", start="*"), GET.with_param("cursor", "t"), GET.with_param("cursor", "*")),
        (NextToken("next", body="v.after"), POST.with_body("v.after", "t"), POST.with_body("v", {})),
        (NextToken("next", body="after"), POST.with_body("after", "t"), POST),
        (NextToken("next", body="after"), POST, POST),
        (NextToken("next", header="X-After"), GET.with_header("x-after", "t"), GET),
        (LastRecord(param="since_id", start=0), GET.with_param("since_id", 8), GET.with_param("since_id", 0)),
    ],
    ids=repr,
)
def test_a_position_is_taken_out_of_a_request_and_everything_else_stays(
    pages: Any, moved: Request, home: Request
) -> None:
    assert home == pages.home(moved)


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Values(("a",)),
        lambda: Values(("a",), param="p", body="b"),
        lambda: Values((), param="p"),
        lambda: Values(("1", 1), param="p"),
        lambda: Values(("a",), param="p", pages=LinkHeader()),
        lambda: Values(("a",), param="p", pages=NextLink()),
        lambda: Window(0),
        lambda: Window(10, field="at"),
        lambda: Window(10, param="since"),
        lambda: Window(10, field="at", param="since", body="since"),
        lambda: PageNumber(window=Window(10)),
    ],
)
def test_declarations_that_cannot_work_are_refused(declare: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError):
        declare()


def test_a_stream_that_does_not_ask_for_the_first_value_is_told() -> None:
    with pytest.raises(ConfigError, match="'a' first"):
        after(Values(("a", "b"), param="day"))


# --- lists that are cut ---

CUT = Window(4, field="at", param="since")


@pytest.mark.parametrize(
    ("style", "inside", "outside", "home"),
    [
        (Offset(window=CUT), GET, GET.with_param("offset", 2), GET.with_param("offset", 0)),
        (PageNumber(size="per_page", window=CUT), GET, GET.with_param("page", 2), GET.with_param("page", 1)),
        (NextToken("next", param="after", window=CUT), GET, GET.with_param("after", "2"), GET),
    ],
    ids=repr,
)
def test_behind_the_cap_a_new_list_begins_from_the_last_value_or_the_pull_ends(
    style: Any, inside: Request, outside: Request, home: Request
) -> None:
    records = [{"at": "2026-01-01"}, {"at": "2026-01-02"}]
    following = after(style, {"next": "2"}, request=inside, records=records)
    assert following is not None
    assert "since" not in following.params
    split = after(style, {"next": "4"}, request=outside, records=records)
    assert home.with_param("since", "2026-01-02") == split
    with pytest.raises(ProtocolError, match="shows only the first 4 records") as told:
        after(replace(style, window=Window(4)), {"next": "4"}, request=outside, records=records)
    assert "field=" in told.value.hint


@pytest.mark.parametrize(
    ("values", "descending", "fits"),
    [
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"], False, True),  # sorted as times, not as texts
        (["2026-01-01T01:00:00+02:00", "2026-01-01T00:00:00Z"], False, True),
        (["2026-01-02", "2026-01-01"], False, False),
        (["2026-01-02", "2026-01-01"], True, True),
        (["2026-01-01", "2026-01-02"], True, False),
        ([9, 10], False, True),
        (["9", "10"], False, True),
        (["a", 1], False, False),
        (["2026-01-01", "2026-01-01T00:00:00Z"], False, False),
        ([None, 3], False, True),
        ([None, None], False, False),
        ([[], 3], False, False),
    ],
)
def test_a_list_is_only_split_where_it_is_sorted(values: list[Any], descending: bool, fits: bool) -> None:
    style = Offset(window=replace(CUT, size=2, descending=descending))
    records = [{"at": value} for value in values]
    if fits:
        following = after(style, records=records)
        assert following is not None
        assert values[-1] == following.param("since")
    else:
        with pytest.raises(ProtocolError):
            after(style, records=records)


def test_more_records_of_one_value_than_the_cap_are_an_error() -> None:
    request = GET.with_param("since", 7).with_param("offset", 2)
    with pytest.raises(ProtocolError, match="have one at"):
        after(Offset(window=CUT), request=request, records=[{"at": 7}, {"at": 7}])


@steady
@given(
    stamps=st.lists(st.integers(0, 12), max_size=40),
    cap=st.integers(4, 12),
    size=st.integers(1, 4),
    kind=st.sampled_from(["offset", "page", "token"]),
)
def test_walking_a_capped_list_meets_every_record_or_ends_with_an_error(
    stamps: list[int], cap: int, size: int, kind: str
) -> None:
    rows = [{"id": number, "at": stamp} for number, stamp in enumerate(sorted(stamps))]
    window = Window(cap, field="at", param="since")
    style: Any = {
        "offset": Offset(total="total", window=window),
        "page": PageNumber(total="total", size="size", window=window),
        "token": NextToken("next", param="after", window=window),
    }[kind]
    request: Request | None = Request(ITEMS, params={"size": size})
    met, asked = set[int](), set[str]()
    while request is not None:
        assert request.digest() not in asked
        asked.add(request.digest())
        listed = [row for row in rows if row["at"] >= request.params.get("since", 0)]
        page = int(request.params.get("page", 1)) - 1
        start = int(request.params.get("offset", 0)) or int(request.params.get("after", 0)) or page * size
        shown = listed[start : start + size]
        assert start + len(shown) <= cap
        met |= {row["id"] for row in shown}
        more = start + size < len(listed)
        body = {"total": len(listed), "next": str(start + size) if more else None}
        fault = ""
        try:
            request = after(style, body, request=request, records=shown)
        except ProtocolError as error:
            fault = error.message
        if fault:
            assert "have one at" in fault
            assert max(map(stamps.count, stamps)) > cap - 2 * size
            return
    assert {row["id"] for row in rows} == met


# --- a page that is too large, a list that moved ---


@steady
@given(count=st.integers(0, 60), size=st.integers(1, 36), start=st.integers(0, 1), shrink=st.sets(st.integers(1, 12)))
def test_a_page_that_shrinks_anywhere_loses_and_doubles_nothing(
    count: int, size: int, start: int, shrink: set[int]
) -> None:
    rows = list(range(count))
    for style, name in [(PageNumber(start=start), "page"), (Offset(), "offset"), (LastRecord(param="last"), "last")]:
        request: Request | None = Request(ITEMS, params={"size": size})
        met: list[int] = []
        for turn in range(1, 300):
            assert request is not None
            if turn in shrink and (less := smaller(style, request, "size")) is not None:
                assert less.params["size"] < request.params["size"]
                request = less
            held = request.params["size"]
            at = request.params.get(name)
            first = {"page": (at if at is not None else start) - start, "offset": at or 0}.get(name, 0)
            begin = first * held if name == "page" else first if name == "offset" else 0 if at is None else at + 1
            shown = rows[begin : begin + held]
            met += shown
            request = after(style, request=request, records=[{"id": row} for row in shown])
            if request is None:
                break
        assert rows == met


@pytest.mark.parametrize(
    ("style", "request_", "expected"),
    [
        (NextToken("n", param="after"), GET.with_param("per_page", 25), GET.with_param("per_page", 12)),
        (NextToken("n", param="after"), GET.with_param("per_page", "9"), GET.with_param("per_page", 4)),
        (NextToken("n", param="after"), GET.with_param("per_page", 1), None),
        (NextToken("n", param="after"), Request(ITEMS), None),
        (PageNumber(), Request(ITEMS, params={"per_page": 9, "page": 3}), {"per_page": 3, "page": 7}),
        (PageNumber(), Request(ITEMS, params={"per_page": 7, "page": 3}), {"per_page": 1, "page": 15}),
        (PageNumber(size=50, short=True), GET, None),
        (PageNumber(size="limit", short=True), GET, None),
        (LinkHeader(), GET, GET.with_param("per_page", 1)),
        (LinkHeader(), Request(f"{ITEMS}?page=3&per_page=100"), None),
        (LinkHeader(cursor="stable"), Request(f"{ITEMS}?per_page=100"), Request(ITEMS, params={"per_page": 50})),
        (ContentRange(), GET, None),
        (SCROLL, GET, None),
    ],
)
def test_a_smaller_page_begins_where_the_large_one_did(style: Any, request_: Request, expected: Any) -> None:
    if isinstance(expected, dict):
        expected = replace(request_, params=expected)
    assert expected == smaller(style, request_, "per_page")


def test_the_page_size_may_stand_in_the_body() -> None:
    assert POST.with_body("size", 1) == smaller(NextToken("n", body="after"), POST, body="size")


@pytest.mark.parametrize(
    ("again", "count"),
    [(["a", "b", "c"], 3), (["b", "c", "d"], 2), (["c", "d"], 1), (["b", "x", "d"], 1), (["d", "e"], 0), ([], 0)],
)
def test_of_a_page_that_is_read_again_only_what_stands_behind_the_records_taken_is_new(
    again: list[str], count: int
) -> None:
    assert count == taken(frozenset("abc"), again)


@pytest.mark.parametrize("style", [Offset(window=CUT), PageNumber(size="per_page", window=CUT)], ids=repr)
def test_the_first_page_of_a_new_list_is_told_from_one_in_its_middle(style: Any) -> None:
    records = [{"at": 1}, {"at": 2}]
    second = after(style, records=records)
    assert second is not None
    assert not anew(style, second)
    split = after(style, request=second, records=records)
    assert split is not None
    assert anew(style, split)
    assert not anew(LinkHeader(), split)


@pytest.mark.parametrize("link", ["\ud800", "?q=\udfff", "https://\ud800.example/"])
@pytest.mark.parametrize("style", [NextLink("next"), LinkHeader()], ids=repr)
def test_a_link_that_cannot_be_written_down_is_the_servers_fault(style: Pagination, link: str) -> None:
    with pytest.raises(ProtocolError, match="not a URL"):
        after(style, {"next": link}, headers={"Link": f"<{link}>; rel=next"})


# --- what no server can make any style do ---

deep = json.loads("[" * 50 + "]" * 50)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(4200, 5000).map(lambda digits: 10**digits)
    | st.sampled_from([-(10**20), Decimal("1e999999999"), Decimal("-0.0"), Decimal("1E-400"), "9" * 5000])
    | st.sampled_from(
        [
            "\ud800",
            "//elsewhere.example/x",
            "https://user:secret@elsewhere.example/x?token=abc&api_key=s3cret",
            "http://[::1",
            "javascript:alert(1)",
            "a\r\nHost: x",
            "\x00",
            "٣",
            "",
            "?page=2",
            "2026-01-01T00:00:00Z",
            "true",
            "FALSE",
        ]
    )
    | st.text(max_size=8)
)
values = st.recursive(
    scalars | st.just(deep), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)
STYLES: list[Any] = [
    SinglePage(),
    LinkHeader(),
    NextLink("a.next"),
    NextLink("a.next", more="flag"),
    NextToken("a.next", param="after"),
    NextToken("a.next", body="page.after", done="flag"),
    NextToken("a.next", header="X-After", more="flag"),
    NextToken(Header("X-Next"), param="after"),
    NextToken("a.next", param="after", window=Window(3)),
    NextToken("a.next", param="after", window=Window(3, field="id", param="since")),
    LastRecord(param="after"),
    LastRecord(body="after", field="id", also=(("a.next", "pit.id"),)),
    LastRecord(param="after", size="per_page", short=True),
    Continuation("a.next", url="/more", send={"x": 1}),
    PageNumber(pages="n"),
    PageNumber(total="n", size="per_page", window=Window(3, field="id", param="since")),
    PageNumber(done="flag"),
    Offset(total="n"),
    Offset(body="from", total=Header("X-Total"), window=Window(3, field="id", body="since")),
    ContentRange(),
    Values(("a", "b"), param="day", pages=NextToken("a.next", param="after")),
]
SENT = Request(ITEMS, params={"per_page": 2, "day": "a"}, body={"size": 2}, headers={"Range": "0-1"})


@settings(steady, max_examples=80)
@pytest.mark.parametrize("style", STYLES, ids=repr)
@given(token=values, flag=values, count=values, key=values, header=scalars, status=st.sampled_from([200, 206]))
def test_whatever_comes_there_is_a_request_that_can_be_saved_or_the_end_or_an_error_of_the_protocol(
    style: Any, token: Any, flag: Any, count: Any, key: Any, header: Any, status: int
) -> None:
    body: Any = bury({"flag": flag, "n": count}, "a.next", token)
    records = [{"id": 1}, {"id": key}]
    text = header if isinstance(header, str) else "1"
    headers = dict.fromkeys(("link", "x-next", "x-total", "content-range"), text)
    response = Response(SENT, SENT.whole, status, headers, body, BEGINNING)
    before = deepcopy((body, records, SENT.to_json()))
    outcomes: list[Any] = []
    for _ in range(2):
        try:
            outcomes.append(style.after(response, records))
        except ProtocolError as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]
    assert not isinstance(outcomes[0], str) or outcomes[0].isprintable()
    assert before == (body, records, SENT.to_json())
    if isinstance(outcomes[0], Request):
        saved = encode(outcomes[0].to_json())
        again = Request.from_json(json.loads(saved, parse_float=Decimal))
        assert outcomes[0] == again
        assert outcomes[0].digest() == again.digest()


def test_a_style_is_shown_by_what_was_declared_so_that_later_options_change_no_saved_fingerprint() -> None:
    assert "PageNumber()" == repr(PageNumber())
    assert "NextToken(token='next', param='after')" == repr(NextToken("next", param="after"))
    assert "Offset(window=Window(size=10))" == repr(Offset(window=Window(10)))
    assert repr(NextLink("a")) != repr(NextLink("b"))


# --- single use ---


@pytest.mark.parametrize("sink", KINDS)
def test_a_page_is_saved_before_the_next_one_is_asked_for(tmp_path: Path, sink: str) -> None:
    """What a cursor that can be used only once depends on: when a request leaves, all before it are durable."""
    found: list[int] = []

    class Watching(Api):
        def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
            for file in (tmp_path / "shop").rglob("*.db"):
                with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
                    for (body,) in connection.execute("SELECT body FROM syncer_checkpoint"):
                        found.append(dig(json.loads(body), "counts.pages"))
            return super().send(request, *args, **options)

    api = Watching([item(number) for number in range(1, 12)])
    source = replace(stream("token"), pagination=NextToken("next", param="after", cursor="single-use"))
    report = run(tmp_path, source, sink, api)
    assert "complete" == report.streams[0].status
    assert [1, 2, 3] == found[-3:]
    assert {0} >= set(found[:-3])
