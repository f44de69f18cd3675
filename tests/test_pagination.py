"""How each API names its next page, and how each style knows the end. Every cursor here survives being saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer import Header, LastRecord, LinkHeader, NextLink, NextToken, Offset, PageNumber, SinglePage
from syncer.decode import encode
from syncer.errors import ConfigError, ProtocolError
from syncer.page import Request, Response
from syncer.pagination import Pagination, links
from tests.scripted import BEGINNING

steady = settings(derandomize=True, deadline=None, database=None, max_examples=150)

ITEMS = "https://api.example.org/v1/items"
GET = Request(ITEMS, params={"per_page": 2, "q": "a b"})
POST = Request(f"{ITEMS}/query", method="POST", body={"filter": {"x": 1}, "page": {"size": 2}}, headers={"X-V": "7"})
TWO = [{"id": "a"}, {"id": "b"}]


def after(
    style: Pagination,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    *,
    request: Request = GET,
    records: Sequence[Any] = TWO,
    url: str | None = None,
) -> Request | None:
    """What the style answers; checked to be the same after it has been saved and read back."""
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    following = style.after(Response(request, url or request.url, 200, lowered, body, BEGINNING), records)
    if following is not None:
        again = Request.from_json(orjson.loads(orjson.dumps(following.to_json())))
        assert following == again
        assert following.digest() == again.digest()
    return following


# --- single pages and links ---


def test_a_single_page_has_no_next_whatever_the_answer_says() -> None:
    assert after(SinglePage(), {"next": "/2"}, {"Link": '</2>; rel="next"'}) is None


def test_a_link_header_names_the_next_page_and_takes_the_parameters_with_it() -> None:
    expected = Request(f"{ITEMS}?after=Y3Vyc29y")
    assert expected == after(LinkHeader(), None, {"Link": f'<{ITEMS}?after=Y3Vyc29y>; rel="next"'})


def test_a_link_in_a_header_keeps_method_body_and_headers_of_a_post() -> None:
    expected = Request(f"{ITEMS}?p=2", method="POST", body=POST.body, headers=POST.headers)
    assert expected == after(LinkHeader(), None, {"Link": f'<{ITEMS}?p=2>; rel="next"'}, request=POST)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Link": ""}, {"Link": "</1>; rel=prev"}, {"Link": "</1>; rel=first, </9>; rel=last"}, {"Link": "garbage"}],
    ids=str,
)
def test_without_a_link_to_a_next_page_a_link_header_is_the_end(headers: dict[str, str]) -> None:
    assert after(LinkHeader(), None, headers) is None


def test_the_first_link_with_the_relation_counts() -> None:
    value = '</1>; rel="prev", </3>; rel="next last", </4>; rel="next"'
    assert Request("https://api.example.org/3") == after(LinkHeader(), None, {"Link": value})


def test_a_link_header_can_be_asked_for_another_relation() -> None:
    value = '</3>; rel="next", </1>; rel="older"'
    assert Request("https://api.example.org/1") == after(LinkHeader(rel="older"), None, {"Link": value})


def test_a_relation_is_declared_in_any_case() -> None:
    assert Request("https://api.example.org/3") == after(LinkHeader(rel="Next"), None, {"Link": '</3>; rel="next"'})


RESOLVED = [
    ("https://api.example.org/v1/items?page=2", "https://api.example.org/v1/items?page=2"),
    ("?page=2", "https://api.example.org/v1/items?page=2"),
    ("/other?page=2", "https://api.example.org/other?page=2"),
    ("more", "https://api.example.org/v1/more"),
    ("./more", "https://api.example.org/v1/more"),
    ("../more", "https://api.example.org/more"),
    ("../../../more", "https://api.example.org/more"),
    ("//elsewhere.example/items", "https://elsewhere.example/items"),
    ("http://elsewhere.example/items", "http://elsewhere.example/items"),
    ("?page=2#rows", "https://api.example.org/v1/items?page=2"),
    ("?a=1,2;b=3", "https://api.example.org/v1/items?a=1,2;b=3"),
    ("?name=%E2%98%83&n=1+2", "https://api.example.org/v1/items?name=%E2%98%83&n=1+2"),
]


@pytest.mark.parametrize(("link", "expected"), RESOLVED)
def test_a_link_is_resolved_against_the_url_of_its_page(link: str, expected: str) -> None:
    page = f"{ITEMS}?page=1&per_page=2"
    assert Request(expected) == after(NextLink("next"), {"next": link}, url=page)
    assert Request(expected) == after(LinkHeader(), None, {"Link": f"<{link}>; rel=next"}, url=page)


@pytest.mark.parametrize("link", ["http://[::1", "http://[bad/items", "//[/items"])
def test_a_link_that_is_no_url_is_the_servers_fault(link: str) -> None:
    with pytest.raises(ProtocolError):
        after(NextLink("next"), {"next": link})
    with pytest.raises(ProtocolError):
        after(LinkHeader(), None, {"Link": f"<{link}>; rel=next"})


@pytest.mark.parametrize(
    ("style", "body", "headers"),
    [
        (NextLink(), {"next": "?page=2"}, {}),
        (NextLink("links.next"), {"links": {"next": "?page=2"}}, {}),
        (NextLink(("links", "@next.url")), {"links": {"@next.url": "?page=2"}}, {}),
        (NextLink("links.1.href"), {"links": [{"href": "?page=0"}, {"href": "?page=2"}]}, {}),
        (NextLink(Header("X-Next")), None, {"x-next": "?page=2"}),
    ],
    ids=str,
)
def test_a_next_link_is_found_where_it_is_declared(style: NextLink, body: Any, headers: dict[str, str]) -> None:
    assert Request(f"{ITEMS}?page=2") == after(style, body, headers)


@pytest.mark.parametrize("body", [{"next": None}, {}, {"next": ""}, {"next": False}, None, [], "next"], ids=str)
def test_a_next_link_that_is_null_absent_empty_or_false_is_the_end(body: Any) -> None:
    assert after(NextLink("next"), body) is None


@pytest.mark.parametrize("link", [7, 0, True, Decimal("1.5"), Decimal("0.0"), [], ["/2"], {}, {"href": "/2"}], ids=str)
def test_a_next_link_that_is_no_string_is_the_servers_fault(link: Any) -> None:
    with pytest.raises(ProtocolError, match="not a string"):
        after(NextLink("next"), {"next": link})


# --- tokens ---


@pytest.mark.parametrize(
    ("style", "request_", "expected"),
    [
        (NextToken("next", param="after"), GET, GET.with_param("after", "t2")),
        (NextToken("next", param="per_page"), GET, Request(ITEMS, params={"per_page": "t2", "q": "a b"})),
        (NextToken("next", header="X-After"), GET, Request(ITEMS, params=GET.params, headers={"X-After": "t2"})),
        (NextToken("next", body="start"), POST, POST.with_body("start", "t2")),
        (
            NextToken("next", body="page.after"),
            POST,
            Request(
                POST.url, "POST", body={"filter": {"x": 1}, "page": {"size": 2, "after": "t2"}}, headers=POST.headers
            ),
        ),
        (NextToken("next", body="a.b"), Request(ITEMS, "POST"), Request(ITEMS, "POST", body={"a": {"b": "t2"}})),
        (NextToken("next", body=("a.b",)), Request(ITEMS, "POST"), Request(ITEMS, "POST", body={"a.b": "t2"})),
    ],
    ids=str,
)
def test_a_token_goes_where_it_is_declared_and_everything_else_stays(
    style: NextToken, request_: Request, expected: Request
) -> None:
    assert expected == after(style, {"next": "t2"}, request=request_)


def test_putting_a_token_into_a_body_leaves_the_declared_body_alone() -> None:
    after(NextToken("next", body="page.after"), {"next": "t2"}, request=POST)
    assert {"filter": {"x": 1}, "page": {"size": 2}} == POST.body


def test_the_second_token_takes_the_place_of_the_first() -> None:
    second = after(NextToken("next", param="after"), {"next": "t2"})
    assert second is not None
    assert GET.with_param("after", "t3") == after(NextToken("next", param="after"), {"next": "t3"}, request=second)


def test_a_token_can_stand_in_a_response_header() -> None:
    style = NextToken(Header("X-Next-Cursor"), param="cursor")
    assert GET.with_param("cursor", "8b1f") == after(style, None, {"x-next-cursor": "8b1f"})


@pytest.mark.parametrize(
    ("token", "sent"),
    [
        ("", None),
        (None, None),
        (0, 0),
        (12, 12),
        (-1, -1),
        (2**63 - 1, 2**63 - 1),
        (Decimal("1.50"), "1.50"),
        (" ", " "),
    ],
    ids=repr,
)
def test_a_token_is_sent_back_as_it_came_and_null_or_empty_is_the_end(token: Any, sent: Any) -> None:
    expected = GET.with_param("after", sent) if sent is not None else None
    assert expected == after(NextToken("next", param="after"), {"next": token})


def test_an_integer_token_of_any_size_survives_being_saved() -> None:
    big = 10**4000 + 7
    response = Response(GET, ITEMS, 200, {}, {"next": big}, BEGINNING)
    following = NextToken("next", param="after").after(response, TWO)
    assert GET.with_param("after", big) == following
    assert following == Request.from_json(json.loads(encode(following.to_json())))


def test_a_token_in_a_header_is_text() -> None:
    expected = Request(ITEMS, params=GET.params, headers={"X-After": "12"})
    assert expected == after(NextToken("next", header="X-After"), {"next": 12})


@pytest.mark.parametrize("token", [True, False, [], ["t2"], {}, {"t": 2}], ids=repr)
def test_a_token_of_another_type_is_the_servers_fault(token: Any) -> None:
    with pytest.raises(ProtocolError, match="not a string or a number"):
        after(NextToken("next", param="after"), {"next": token})


@pytest.mark.parametrize(
    "style", [NextToken("next", param="after"), NextToken("next", body="after"), LastRecord(param="after")], ids=str
)
def test_a_token_that_can_neither_be_sent_nor_saved_is_the_servers_fault(style: Pagination) -> None:
    token = json.loads(r'"\ud800"')
    with pytest.raises(ProtocolError):
        style.after(Response(POST, ITEMS, 200, {}, {"next": token}, BEGINNING), [{"id": token}])


FLAGS = [(True, True), (False, False), ("true", True), ("false", False), ("True", True), ("FALSE", False)]


@pytest.mark.parametrize(("flag", "goes_on"), FLAGS)
def test_a_flag_decides_even_beside_a_token(flag: Any, goes_on: bool) -> None:
    style = NextToken("next", param="after", more="has_more")
    expected = GET.with_param("after", "t2") if goes_on else None
    assert expected == after(style, {"next": "t2", "has_more": flag})


def test_a_flag_can_stand_in_a_header() -> None:
    style = NextToken("next", param="after", more=Header("X-More"))
    assert GET.with_param("after", "t2") == after(style, {"next": "t2"}, {"X-More": "true"})
    assert after(style, {"next": "t2"}, {"X-More": "false"}) is None


@pytest.mark.parametrize("token", [{"next": None}, {}, {"next": ""}], ids=str)
def test_a_flag_that_says_more_without_a_token_is_the_servers_fault(token: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="more"):
        after(NextToken("next", param="after", more="has_more"), {**token, "has_more": True})


def test_a_flag_that_says_the_end_needs_no_token() -> None:
    assert after(NextToken("next", param="after", more="has_more"), {"has_more": False}) is None


@pytest.mark.parametrize("flag", [None, 0, 1, "", "yes", "1", [], {}, Decimal("1.0")], ids=repr)
@pytest.mark.parametrize(
    "style",
    [
        NextToken("next", param="after", more="has_more"),
        LastRecord(param="after", more="has_more"),
        Offset(more="has_more"),
    ],
    ids=lambda style: type(style).__name__,
)
def test_a_flag_that_is_neither_true_nor_false_is_the_servers_fault(style: Pagination, flag: Any) -> None:
    with pytest.raises(ProtocolError, match="has_more"):
        after(style, {"next": "t2", "has_more": flag})


def test_a_flag_that_is_missing_is_the_servers_fault() -> None:
    with pytest.raises(ProtocolError, match="has_more"):
        after(NextToken("next", param="after", more="has_more"), {"next": "t2"})


# --- the last record ---


@pytest.mark.parametrize(
    ("style", "request_", "expected"),
    [
        (LastRecord(param="after"), GET, GET.with_param("after", "b")),
        (LastRecord(body="page.after"), POST, POST.with_body("page.after", "b")),
        (LastRecord(param="after", field="key.n"), GET, GET.with_param("after", 7)),
        (LastRecord(param="after", field=("a.b",)), GET, GET.with_param("after", "1.0")),
    ],
    ids=str,
)
def test_the_next_page_starts_after_the_last_record(style: LastRecord, request_: Request, expected: Request) -> None:
    records = [{"id": "z"}, {"id": "b", "key": {"n": 7}, "a.b": Decimal("1.0")}]
    assert expected == after(style, request=request_, records=records)


def test_without_a_flag_the_last_record_leads_on_until_a_page_is_empty() -> None:
    assert GET.with_param("after", "b") == after(LastRecord(param="after"), {"has_more": False})
    assert after(LastRecord(param="after"), {"has_more": True}, records=[]) is None


def test_with_a_flag_the_flag_ends_it() -> None:
    style = LastRecord(param="after", more="has_more")
    assert GET.with_param("after", "b") == after(style, {"has_more": True})
    assert after(style, {"has_more": False}) is None
    assert after(style, {"has_more": False}, records=[]) is None


def test_more_to_come_after_an_empty_page_is_the_servers_fault() -> None:
    with pytest.raises(ProtocolError, match="no record"):
        after(LastRecord(param="after", more="has_more"), {"has_more": True}, records=[])


MALFORMED = pytest.mark.parametrize("last", [{}, {"id": None}, {"ID": 1}, "b", 7, None, [], ["b"]], ids=repr)


@MALFORMED
def test_a_malformed_last_record_does_not_end_the_stream(last: Any) -> None:
    assert GET.with_param("after", "a") == after(LastRecord(param="after"), records=[{"id": "a"}, last])


@MALFORMED
def test_a_page_without_any_key_is_the_servers_fault(last: Any) -> None:
    with pytest.raises(ProtocolError, match="no record of the page has a id"):
        after(LastRecord(param="after"), records=[last, last])


@pytest.mark.parametrize("key", [True, [], {"n": 1}], ids=repr)
def test_a_last_record_with_a_key_of_another_type_is_the_servers_fault(key: Any) -> None:
    with pytest.raises(ProtocolError, match="not a string or a number"):
        after(LastRecord(param="after"), records=[{"id": key}])


# --- pages that are counted ---


@pytest.mark.parametrize(
    ("number", "pages", "following"),
    [(None, 3, 2), (None, 1, None), (2, 3, 3), (3, 3, None), (4, 3, None), ("2", "3", 3)],
)
def test_the_number_of_pages_ends_the_count(number: Any, pages: Any, following: int | None) -> None:
    request = GET if number is None else GET.with_param("page", number)
    expected = None if following is None else GET.with_param("page", following)
    assert expected == after(PageNumber(pages="meta.pages"), {"meta": {"pages": pages}}, request=request)
    header = PageNumber(pages=Header("X-WP-TotalPages"))
    assert expected == after(header, None, {"X-WP-TotalPages": str(pages)}, request=request)


@pytest.mark.parametrize(
    ("style", "count"),
    [
        (PageNumber(pages="n"), 0),
        (PageNumber(pages="n"), -1),
        (PageNumber(total="n", size="limit"), 1),
        (PageNumber(total="n", size="limit"), -5),
        (Offset(total="n"), 0),
        (Offset(total="n"), 1),
    ],
    ids=str,
)
def test_a_count_that_the_page_itself_disproves_is_no_end_but_the_servers_fault(style: Any, count: int) -> None:
    with pytest.raises(ProtocolError, match="which this page alone disproves"):
        after(style, {"n": count}, records=[{"id": 1}, {"id": 2}], request=GET.with_param("limit", 2))


@pytest.mark.parametrize("style", [PageNumber(pages="n"), PageNumber(total="n", size="limit"), Offset(total="n")])
def test_an_empty_stream_declares_nothing_and_ends(style: Any) -> None:
    assert after(style, {"n": 0}, records=[], request=GET.with_param("limit", 2)) is None


def test_an_empty_page_before_the_last_is_no_end_where_the_number_of_pages_is_known() -> None:
    assert GET.with_param("page", 2) == after(PageNumber(pages="pages"), {"pages": 3}, records=[])


def test_pages_can_be_counted_from_zero_and_in_the_body() -> None:
    style = PageNumber(body="page.number", start=0, pages="pages")
    first = after(style, {"pages": 3}, request=POST)
    assert POST.with_body("page.number", 1) == first
    assert first is not None
    assert POST.with_body("page.number", 2) == after(style, {"pages": 3}, request=first)
    assert after(style, {"pages": 3}, request=POST.with_body("page.number", 2)) is None
    assert after(style, {"pages": 1}, request=POST) is None


@pytest.mark.parametrize(("page", "total", "goes_on"), [(1, 2, False), (1, 3, True), (2, 4, False), (2, 5, True)])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_the_total_and_the_page_size_end_the_count(page: int, total: int, goes_on: bool, start: int) -> None:
    request = GET.with_param("page", page + start - 1)
    expected = GET.with_param("page", page + start) if goes_on else None
    assert expected == after(
        PageNumber(total="total", size="per_page", start=start), {"total": total}, request=request, records=TWO[:1]
    )


@pytest.mark.parametrize(("count", "goes_on"), [(3, True), (2, True), (1, False), (0, False)])
def test_a_short_page_is_the_last_only_where_that_is_declared(count: int, goes_on: bool) -> None:
    records = [{"id": str(index)} for index in range(count)]
    expected = GET.with_param("page", 2) if goes_on else None
    assert expected == after(PageNumber(size="per_page", short=True), records=records)
    assert (GET.with_param("page", 2) if count else None) == after(PageNumber(size="per_page"), records=records)


@pytest.mark.parametrize("value", [None, True, "", "7.0", "-1", "٣", "x", "9" * 19, Decimal("7.0"), [], {}], ids=repr)
@pytest.mark.parametrize(
    "style", [PageNumber(pages="n"), PageNumber(total="n", size="per_page"), Offset(total="n")], ids=str
)
def test_a_count_that_is_no_whole_number_is_the_servers_fault(style: Pagination, value: Any) -> None:
    with pytest.raises(ProtocolError, match="not a whole number"):
        after(style, {"n": value})


@pytest.mark.parametrize(
    "style",
    [PageNumber(pages="n"), PageNumber(total="n", size="per_page"), Offset(total="n"), Offset(total=Header("N"))],
    ids=str,
)
def test_a_count_that_is_missing_is_the_servers_fault(style: Pagination) -> None:
    with pytest.raises(ProtocolError, match="nothing there"):
        after(style, {"m": 3})


@pytest.mark.parametrize("style", [PageNumber(total="n", size="limit"), PageNumber(size="limit", short=True)], ids=str)
def test_a_page_size_that_is_not_among_the_parameters_is_named(style: Pagination) -> None:
    with pytest.raises(ProtocolError, match="limit"):
        after(style, {"n": 3})


# --- records that are counted ---


def test_the_offset_moves_by_the_records_that_came() -> None:
    style = Offset(param="startAt", total="total")
    second = after(style, {"total": 5})
    assert GET.with_param("startAt", 2) == second
    assert second is not None
    third = after(style, {"total": 5}, request=second, records=TWO[:1])
    assert GET.with_param("startAt", 3) == third
    assert third is not None
    assert after(style, {"total": 5}, request=third) is None


def test_an_offset_that_begins_at_one_counts_the_total_from_there() -> None:
    style = Offset(total="total", start=1)
    assert GET.with_param("offset", 3) == after(style, {"total": 3})
    assert after(style, {"total": 2}) is None
    assert after(style, {"total": 3}, request=GET.with_param("offset", 3), records=TWO[:1]) is None


def test_an_offset_can_stand_in_the_body() -> None:
    assert POST.with_body("page.from", 2) == after(Offset(body="page.from"), request=POST)


def test_without_a_stop_rule_an_empty_page_ends_the_offset() -> None:
    assert GET.with_param("offset", 1) == after(Offset(), records=TWO[:1])
    assert after(Offset(), records=[]) is None


def test_a_flag_ends_the_offset() -> None:
    assert GET.with_param("offset", 2) == after(Offset(more="more"), {"more": True})
    assert after(Offset(more="more"), {"more": False}) is None


def test_a_total_of_nothing_is_the_end() -> None:
    assert after(Offset(total="total"), {"total": 0}, records=[]) is None


@pytest.mark.parametrize(
    ("style", "body"), [(Offset(total="total"), {"total": 1}), (Offset(more="more"), {"more": True})], ids=str
)
def test_an_empty_page_before_the_end_is_the_servers_fault(style: Offset, body: Any) -> None:
    with pytest.raises(ProtocolError, match="empty"):
        after(style, body, records=[])


@pytest.mark.parametrize("value", ["x", None, True, -1.5, "1e3", []], ids=repr)
def test_a_counter_in_the_request_that_is_no_number_is_not_guessed_at(value: Any) -> None:
    for style, name in ((PageNumber(), "page"), (Offset(), "offset")):
        with pytest.raises(ProtocolError, match="not a whole number"):
            after(style, request=GET.with_param(name, value))


# --- what a declaration may not say ---


@pytest.mark.parametrize(
    "declare",
    [
        lambda: NextToken("next"),
        lambda: NextToken("next", param="a", body="b"),
        lambda: NextToken("next", param="a", header="b"),
        lambda: NextToken("next", body="a", header="b"),
        lambda: LastRecord(),
        lambda: LastRecord(param="a", body="b"),
        lambda: PageNumber(param=None),
        lambda: PageNumber(pages="p", total="t", size="s"),
        lambda: PageNumber(pages="p", short=True, size="s"),
        lambda: PageNumber(total="t", short=True, size="s"),
        lambda: PageNumber(total="t"),
        lambda: PageNumber(short=True),
        lambda: Offset(param=None),
        lambda: Offset(total="t", more="m"),
    ],
)
def test_contradictory_declarations_are_refused(declare: Callable[[], Pagination]) -> None:
    with pytest.raises(ConfigError):
        declare()


def test_each_style_says_what_its_cursor_is_worth_later() -> None:
    expected = {
        SinglePage(): "stable",
        LinkHeader(): "shifting",
        NextLink(): "shifting",
        NextLink(cursor="stable"): "stable",
        NextToken("next", param="after"): "expiring",
        LastRecord(param="after"): "stable",
        PageNumber(): "shifting",
        Offset(): "shifting",
    }
    assert expected == {style: style.cursor for style in expected}


# --- whole walks ---


def walked(
    style: Pagination, serve: Callable[[Request], tuple[Any, list[Any]]], limit: int, first: Request = GET
) -> list[Any]:
    """All records on the way from the first request to the end."""
    request: Request | None = first
    seen: list[Any] = []
    for _ in range(limit):
        assert request is not None
        body, records = serve(request)
        seen += records
        request = after(style, body, request=request, records=records)
        if request is None:
            return seen
    raise AssertionError("it does not end")


@steady
@given(count=st.integers(0, 30), sizes=st.lists(st.integers(1, 7), min_size=1, max_size=30))
def test_walking_by_offset_or_by_last_record_meets_every_record_once_whatever_the_server_gives(
    count: int, sizes: list[int]
) -> None:
    rows = [{"id": index + 1} for index in range(count)]

    def serve(request: Request) -> tuple[Any, list[Any]]:
        start = request.params.get("offset", request.params.get("after", 0))
        size = sizes[start % len(sizes)]
        return {"total": count, "more": start + size < count}, rows[start : start + size]

    styles: list[Pagination] = [Offset(), LastRecord(param="after"), LastRecord(param="after", more="more")]
    for style in [*styles, Offset(total="total"), Offset(more="more")]:
        assert rows == walked(style, serve, count + 2)


@steady
@given(count=st.integers(0, 30), size=st.integers(1, 7), start=st.integers(0, 2))
def test_walking_by_page_number_meets_every_record_once_by_every_stop_rule(count: int, size: int, start: int) -> None:
    rows = list(range(count))
    asked: list[int] = []

    def serve(request: Request) -> tuple[Any, list[Any]]:
        number = request.params.get("page", start) - start
        asked.append(number)
        body = {"total": count, "pages": -(-count // size)}
        return body, rows[number * size : (number + 1) * size]

    full = -(-count // size)
    for style, last in [
        (PageNumber(start=start), full),
        (PageNumber(start=start, pages="pages"), max(full - 1, 0)),
        (PageNumber(start=start, total="total", size="per_page"), max(full - 1, 0)),
        (PageNumber(start=start, short=True, size="per_page"), count // size),
    ]:
        asked.clear()
        assert rows == walked(style, serve, count + 2, Request(ITEMS, params={"per_page": size}))
        assert list(range(last + 1)) == asked


# --- RFC 8288 ---

LINKS = [
    # what a link says, and where
    ('</2>; rel="next"', [("/2", ("next",))]),
    ("</2>; rel=next", [("/2", ("next",))]),
    ('</2>;rel="next"', [("/2", ("next",))]),
    ('</2> ; rel = "next"', [("/2", ("next",))]),
    ('</2>\t;\trel\t=\t"next"\t', [("/2", ("next",))]),
    ('  </2>; rel="next"', [("/2", ("next",))]),
    ('< /2 >; rel="next"', [("/2", ("next",))]),
    ('<>; rel="next"', [("", ("next",))]),
    ("</2>", [("/2", ())]),
    ("</2>; rel", [("/2", ())]),
    ('</2>; rel=""', [("/2", ())]),
    # several relations, several links, several header lines joined into one
    ('</2>; rel="prev next"', [("/2", ("prev", "next"))]),
    ('</2>; rel=" prev \t next "', [("/2", ("prev", "next"))]),
    ('</1>; rel="prev", </3>; rel="next"', [("/1", ("prev",)), ("/3", ("next",))]),
    ("</1>;rel=prev,</3>;rel=next", [("/1", ("prev",)), ("/3", ("next",))]),
    ('</1>; rel="prev",, ,</3>; rel="next",', [("/1", ("prev",)), ("/3", ("next",))]),
    ('</3>; rel="next", </4>; rel="next"', [("/3", ("next",)), ("/4", ("next",))]),
    # case
    ("</2>; REL=NEXT", [("/2", ("next",))]),
    ('</2>; Rel="Prev Next"', [("/2", ("prev", "next"))]),
    # the first rel counts, also when it is empty or without a value
    ('</2>; rel="prev"; rel="next"', [("/2", ("prev",))]),
    ('</2>; rel=""; rel="next"', [("/2", ())]),
    # other parameters, and what quotes can hide
    ('</2>; title="page 2"; rel="next"', [("/2", ("next",))]),
    ('</2>; rel="next"; title="page 2"; type=text/html', [("/2", ("next",))]),
    ('</2>; title="a, b; c"; rel="next"', [("/2", ("next",))]),
    (r'</2>; title="say \"rel=\\\"next\\\"\""; rel="prev"', [("/2", ("prev",))]),
    (r'</2>; title="; rel=\"next\""; rel="prev"', [("/2", ("prev",))]),
    (r'</2>; title="\"; rel=\"next"; rel=prev', [("/2", ("prev",))]),
    (r'</2>; title="ends in \\"; rel="next"', [("/2", ("next",))]),
    (r'</2>; rel="\n\e\x\t"', [("/2", ("next",))]),
    ('</2>; title="</9>; rel=next, </8>"; rel="prev"', [("/2", ("prev",))]),
    ("</2>; title*=UTF-8''page%202; rel=\"next\"", [("/2", ("next",))]),
    ('</2>; relative="next"; xrel="next"; rel="prev"', [("/2", ("prev",))]),
    ('</2>; flag; rel="next"', [("/2", ("next",))]),
    ('</2>; flag=; rel="next"', [("/2", ("next",))]),
    ('</2>; rel="next";', [("/2", ("next",))]),
    ('</2>; rel="next"; , </3>; rel="last"', [("/2", ("next",)), ("/3", ("last",))]),
    ('</2>;; rel="next"', [("/2", ("next",))]),
    ('</2>; ; title="x";;rel="next"', [("/2", ("next",))]),
    # targets that hold what separates
    ('</2?a=1;b=2,3>; rel="next"', [("/2?a=1;b=2,3", ("next",))]),
    ('</2?q="x">; rel="next"', [('/2?q="x"', ("next",))]),
    # an anchor speaks of another resource
    ('</2>; rel="next"; anchor="#part"', []),
    ('</2>; anchor="/other"; rel="next", </3>; rel="next"', [("/3", ("next",))]),
    ('</2>; ANCHOR=""; rel="next"', []),
    # what does not follow the grammar
    ("", []),
    (",", []),
    (";", []),
    ('rel="next"', []),
    ("/2; rel=next", []),
    ('</2; rel="next"', []),
    ("<", []),
    (">", []),
    ('</1>; rel="prev" what is this, </3>; rel="next"', [("/1", ("prev",)), ("/3", ("next",))]),
    ('</1>; =x, </3>; rel="next"', [("/1", ()), ("/3", ("next",))]),
    ("</2>; rel='next'", [("/2", ("'next'",))]),
    ('</2>; rel="next', [("/2", ("next",))]),
    ("</2>; rel=prev next", [("/2", ("prev", "next"))]),
]


@pytest.mark.parametrize(("value", "expected"), LINKS)
def test_link_headers_are_read_as_rfc_8288_says(value: str, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert expected == list(links(value))


def test_parts_of_a_link_header_that_arrive_as_several_lines_are_one_list() -> None:
    joined = ", ".join(['</1>; rel="prev"', '</3>; rel="next"; title="a, b"', "</9>; rel=last"])
    assert [("/1", ("prev",)), ("/3", ("next",)), ("/9", ("last",))] == list(links(joined))


@steady
@given(
    st.lists(
        st.sampled_from(
            ["<", ">", "</2>", ";", ",", "=", '"', "\\", " ", "\t", "rel", "next", "anchor", "*", "é", "\n"]
        )
        | st.text(max_size=3),
        max_size=60,
    ).map("".join)
)
def test_no_link_header_raises_or_names_more_links_than_it_holds(value: str) -> None:
    found = list(links(value))
    assert len(found) <= value.count("<")
    assert all(rel == rel.lower() and rel.split() == [rel] for _, rels in found for rel in rels)


@steady
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=8))
def test_a_quoted_title_never_hides_or_makes_a_relation(pairs: list[tuple[str, str]]) -> None:
    def quoted(text: str) -> str:
        plain = "".join(char for char in text if char.isprintable())
        return plain.replace("\\", "\\\\").replace('"', '\\"')

    value = ", ".join(
        f'</{index}>; a="{quoted(one)}"; rel="r{index}"; b="{quoted(two)}"' for index, (one, two) in enumerate(pairs)
    )
    assert [(f"/{index}", (f"r{index}",)) for index in range(len(pairs))] == list(links(value))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "unit",
    ["<", ">", "<>", "<a>,", "<a>;", "<a>;a", '<a>;a="', '<a>;a="\\', '\\"', '"', ";", " ", "\t;", ",", "=", "a"],
)
@pytest.mark.parametrize("opening", ["", "<a>", "<a>; rel", '<a>; rel="', '<a>; rel="x"; b=', "<a> "])
def test_a_link_header_of_any_make_is_read_in_one_go(opening: str, unit: str) -> None:
    value = opening + unit * (100_000 // len(unit))
    assert sum(1 for _ in links(value)) <= value.count("<")
