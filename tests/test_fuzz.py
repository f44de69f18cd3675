"""Whatever comes from outside, nothing but declared errors comes out, and what is written says what came.

Five readers are given nonsense: of headers, of links, of pages, of records, and of checkpoints. First what hypothesis
thinks up, then masses of valid input that was changed a little: in its structure, its text or its bytes. Nothing here
is timed; input is long enough that an effort which grows faster than it would run into the time limit of the test.

The short form makes some thousands of examples by the printed seed, --long some millions.
"""

from __future__ import annotations

import json
import math
import random
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field, HttpUrl, RootModel

from syncer import Connector, Stream, overview
from syncer.checkpoint import Checkpoint, dump, parse
from syncer.decode import DecodeError, decode
from syncer.errors import ProtocolError, StateError
from syncer.limits import limited, limits, retry_after, unread, wait
from syncer.moments import YEAR, again_in, http_date, number, seconds
from syncer.page import Page, Request, Response
from syncer.pagination import LinkHeader, NextLink, NextToken
from syncer.pagination.links import links
from syncer.pull import Options, pull
from syncer.shared import DamagedError, Quota, State
from syncer.sinks import sink as make
from syncer.validate import Record, Reject, Validator, less
from tests.scripted import BEGINNING
from tests.test_decode import exact, same
from tests.world import BASE, Api, answer, run, stopped_clock, stream, tree

NOTHING = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)


def fuzz(examples: int, check: Callable[..., None], *given_to: st.SearchStrategy[Any]) -> None:
    """Check so many examples; other ones with every seed."""
    steps = settings(
        max_examples=examples,
        derandomize=False,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=NOTHING,
    )
    steps(given(*given_to)(check))()


# --- what hypothesis makes of ---

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["", "0", "1", "-1", "\ud800", "\u2028", "\0", "2026-01-31T12:00:00Z", "9999-12-31T23:59:59-01:00"]
    )
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
ODD_TOKENS = (
    "NaN", "Infinity", "-Infinity", "1e400", "-1e-400", "-0", "-0.0", "0.10", "1E+5", "1e5", "01", "+1", ".5", "0x1",
    str(2**63), str(2**64), str(-(2**63) - 1), "7" * 400, "7" * 5000, "0." + "1" * 60, "true", "nul",
    '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\u2028\x85"', '"\x01"', '"', "'a'", "[", "]", "{", "}", "},{", ",,",
    ":", "[" * 300 + "]" * 300, "[" * 1500 + "]" * 1500, '{"a":' * 250 + "1" + "}" * 250, "\ufeff", "//",
    '"2016-12-31T23:59:60Z"', "/* */",
    '"2026-01-31T24:00:00Z"', '"1_000"', '"١٢"', '"nan"', '"20240101"', "1738368000", "1738368000000", "[[]]", "{}",
)  # fmt: skip


# --- pages: valid ones, changed ---


def mangled(dice: random.Random, document: Any) -> bytes:
    """A document as JSON, changed in up to four ways."""
    for _ in range(dice.choice((0, 1, 1, 2))):
        document = restructured(dice, document)
    text = json.dumps(document, ensure_ascii=dice.random() < 0.5)
    for _ in range(dice.choice((0, 1, 1, 2))):
        at = dice.randrange(len(text) + 1)
        end = min(len(text), at + dice.choice((0, 0, 1, 3, 9)))
        text = text[:at] + dice.choice(ODD_TOKENS) + text[end:]
    if dice.random() < 0.3:
        keys = [at for at in range(len(text)) if text.startswith('": ', at)]
        if keys:  # a value becomes another
            at = dice.choice(keys) + 3
            end = min([found for mark in ",}]" if (found := text.find(mark, at)) >= 0] or [len(text)])
            text = text[:at] + dice.choice(ODD_TOKENS) + text[end:]
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(dice.choice((0, 0, 0, 1, 2, 5))):
        at = dice.randrange(len(content) + 1)
        match dice.randrange(6):
            case 0:
                content[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                content[at:at] = bytes([dice.choice(b'"\\[]{},:0-9e.\n\x00\xff\xc3\x80')])
            case 2:
                del content[at : at + dice.choice((1, 1, 2, 30))]
            case 3:
                content[at:at] = content[dice.randrange(len(content) + 1) :][:40]
            case 4:
                del content[at:]
            case _:
                content[:0] = dice.choice((b"\xef\xbb\xbf", b" ", b")]}'\n", b"\xff\xfe"))
    return bytes(content)


def restructured(dice: random.Random, value: Any) -> Any:
    """The same document with one node replaced, removed, wrapped, repeated or moved."""
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(list(value))
        match dice.randrange(8):
            case 0:
                return {name: item for name, item in value.items() if name != key}
            case 1:
                return {**value, dice.choice(("extra", "ID", "", "\0", "id ", "\ud800", key * 2)): value[key]}
            case _:
                return {**value, key: restructured(dice, value[key])}
    if isinstance(value, list) and value and dice.random() < 0.9:
        at = dice.randrange(len(value))
        match dice.randrange(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[:at], value[at], *value[at:]]
            case _:
                return [*value[:at], restructured(dice, value[at]), *value[at + 1 :]]
    odd: tuple[Any, ...] = (
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        "",
        "x",
        "12",
        [],
        {},
        [value],
        {"value": value},
        [[[value]]],
    )
    return dice.choice(odd)


# --- records: a model of many types ---


class Colour(Enum):
    RED, GREEN = "red", "green"


class Inner(BaseModel):
    a: int
    b: str | None = None


class Tags(RootModel[list[str]]):
    pass


class Everything(BaseModel):
    """A field of nearly every type that JSON can fill."""

    id: int
    text: str
    number: float
    money: Decimal
    flag: bool
    moment: AwareDatetime
    changed: datetime | None = None
    day: date | None = None
    hour: time | None = None
    length: timedelta | None = None
    uuid: UUID | None = None
    url: HttpUrl | None = None
    kind: Literal["a", "b", 3] = "a"
    colour: Colour = Colour.RED
    small: Annotated[int, Field(ge=0, le=9)] = 0
    short: Annotated[str, Field(max_length=5, pattern=r"^[a-z]*$")] = ""
    either: int | str | None = None
    several: list[int] = []
    pair: tuple[int, str] | None = None
    unique: set[str] | None = None
    by_name: dict[str, Decimal] = {}
    inner: Inner | None = None
    inners: list[Inner] = []
    tags: Tags | None = None
    bits: bytes | None = None
    anything: Any = None
    named: int = Field(default=0, alias="@named")


GOOD: dict[str, Any] = {
    "id": 1, "text": "grün ✓", "number": 1.5, "money": 0.1, "flag": True, "moment": "2026-01-31T12:00:00+01:00",
    "changed": "2026-01-31T12:00:00", "day": "2026-01-31", "hour": "12:00:00", "length": "PT1H", "bits": "Yg==",
    "uuid": "6f7e9c3e-0f4b-4b8e-9d1c-5f3b7c1f2a10", "url": "https://example.org/a?b=c", "kind": 3, "colour": "green",
    "small": 9, "short": "abc", "either": "x", "several": [1, 2], "pair": [1, "a"], "unique": ["a", "b"],
    "by_name": {"x": 1.10, "y": 2}, "inner": {"a": 1, "b": None}, "inners": [{"a": 1}, {"a": 2, "b": "c"}],
    "tags": ["t"], "anything": {"deep": [1, {"er": None}]}, "@named": 7,
}  # fmt: skip
PAGE = {"items": [GOOD, {**GOOD, "id": 2}, {**GOOD, "id": 3}], "next": "3", "total": 9}
STREAMS = {
    unknown: Stream(
        name="items",
        path="/items",
        model=Everything,
        records="items",
        primary_key="id",
        replication_key="moment",
        since="since",
        unknown=unknown,
    )
    for unknown in ("drop", "keep", "reject")
}
JUDGES = {unknown: Validator(declared, lambda values: ()) for unknown, declared in STREAMS.items()}


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last digit; 1.5e1 may be written as 15, which no reader tells apart."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if {type(one), type(other)} <= {int, float, Decimal} and bool not in (type(one), type(other)):
        return bool(_number(one) == _number(other))
    return bool(same(one, other))


def _number(value: float | Decimal) -> int | Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else value


def within(part: Any, whole: Any) -> bool:
    """Whether a value is the other one less some members of its objects."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and within(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(part) == len(whole)
            and all(within(one, other) for one, other in zip(part, whole, strict=True))
        )
    return equal(part, whole)


def judged(records: Sequence[Any], unknown: str, before: Checkpoint) -> Checkpoint:
    """Judge a page, look at every line that came of it, and move the checkpoint on."""
    declared, judge = STREAMS[unknown], JUDGES[unknown]
    page = Page(1, Request("/items"), "GET /items", records, None, None, BEGINNING, "")
    verdict = judge.judge(page, 1, "2026-01-31T12:00:00.000Z")
    if before.counts.pages % 3 == 0:  # the records decoded beforehand are judged the careful way
        careful = judge.judge(replace(page, records=list(records)), 1, "2026-01-31T12:00:00.000Z")
        assert [record.line for record in careful.records] == [record.line for record in verdict.records]
        assert [reject.line for reject in careful.rejects] == [reject.line for reject in verdict.rejects]
        assert careful.unknown == verdict.unknown
    assert len(records) == len(verdict.records) + len(verdict.rejects)
    refused = set()
    for reject in verdict.rejects:
        assert isinstance(reject, Reject)
        said = exact(reject.line)
        assert b"\n" not in reject.line
        assert said["reasons"]
        assert all({"path", "type", "message"} == reason.keys() for reason in said["reasons"])
        raw = records[said["index"]]
        refused.add(said["index"])
        assert equal(said["record"], raw) if "record" in said else isinstance(said["text"], str)
    taken = [raw for index, raw in enumerate(records) if index not in refused]
    for record, raw in zip(verdict.records, taken, strict=True):
        assert isinstance(record, Record)
        line = exact(record.line)
        assert b"\n" not in record.line
        assert equal(line, record.values)
        assert equal(line, raw) if unknown == "keep" else within(line, raw)
        assert isinstance(less(record.order, verdict.records[0].order), bool)
    after = before.advance(page, verdict, judge.order, "now", incremental=True, keyed=bool(declared.key))
    assert after.counts.balanced()
    saved, own = parse(dump(after, {"name": "x"}), after.seq)
    assert after == saved
    assert {"name": "x"} == own
    return after


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("unknown", STREAMS)
def test_a_page_that_was_changed_anyhow_is_accounted_for_and_its_lines_say_what_came(
    unknown: str, seed: int, long: bool
) -> None:
    dice = random.Random(f"{seed} {unknown}")
    ended: Counter[str] = Counter()
    checkpoint = Checkpoint()

    for life in range(340_000 if long else 1200):
        content = mangled(dice, PAGE)
        try:
            _, records = decode(content, "items")
        except DecodeError as error:
            ended["damaged" if error.damaged else "no list"] += 1
            continue
        try:
            after = judged(records, unknown, checkpoint)
        except BaseException:
            print(f"seed {seed}, life {life}: {content!r}")
            raise
        ended["whole" if after.counts.rejected == checkpoint.counts.rejected else "some rejected"] += 1
        checkpoint = replace(after, pending={}) if life % 50 == 0 else after

    assert min(ended[how] for how in ("damaged", "no list", "whole", "some rejected")) > life / 50
    print(dict(ended))


@pytest.mark.timeout(3600)
def test_whatever_documents_come_as_records_are_accounted_for(long: bool) -> None:
    def check(records: list[Any], fields_of: dict[str, Any], unknown: str) -> None:
        content = json.dumps({"items": [*records, {**GOOD, **fields_of}]}).encode("utf-8", "surrogatepass")
        _, found = decode(content, "items")
        judged(found, unknown, Checkpoint())

    fields_of = st.dictionaries(st.sampled_from(list(GOOD)) | st.text(max_size=5), DOCUMENTS, max_size=5)
    fuzz(20_000 if long else 150, check, st.lists(DOCUMENTS, max_size=4), fields_of, st.sampled_from(list(STREAMS)))


# --- a whole pull ---


class Strict(Api):
    """The small API, which answers 404 where a cursor names a place that it does not know."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        try:
            return super().send(request, *args, **options)
        except (StopIteration, ValueError):
            return answer(request, b"{}", 404, {"Content-Type": "application/json"})


class Mangling(Strict):
    """The small API, one of whose answers is changed."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice, self.victim = dice, dice.randrange(1, 5)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        given = super().send(request, *args, **options)
        if self.requests != self.victim:
            return given
        headers = dict(given.headers)
        for _ in range(self.dice.choice((0, 1, 3))):
            headers[self.dice.choice(("Date", "Link", "Retry-After", "X-RateLimit-Remaining", "RateLimit", "X"))] = (
                self.dice.choice(HEADER_VALUES)
            )
        if self.dice.random() < 0.2:
            headers.pop("Content-Type")
        status = self.dice.choice((200, 200, 200, 200, 204, 304, 400, 403, 404, 429, 500, 503))
        return answer(request, mangled(self.dice, json.loads(given.raw.read())), status, headers)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
@pytest.mark.parametrize("style", ["token", "link", "keyset", "body"])
def test_a_pull_with_a_mangled_answer_ends_in_a_report_and_what_it_wrote_can_be_read(
    memory: Path, monkeypatch: pytest.MonkeyPatch, style: str, sink: str, seed: int, long: bool
) -> None:
    dice = random.Random(f"{seed} {style} {sink}")
    codes: Counter[int] = Counter()
    for life in range(4000 if long else 40):
        out = memory / str(life)
        monkeypatch.setenv("SYNCER_STATE", str(out / "first"))
        report = run(out, stream(style), sink, Mangling(dice), patience=5.0)
        codes[report.exit_code] += 1
        (done,) = report.streams
        assert report.exit_code in (0, 2, 4, 5, 8, 9), f"seed {seed}, life {life}"
        assert done.run.balanced()
        monkeypatch.setenv("SYNCER_STATE", str(out / "again"))  # a limit of a year would be kept
        again = run(out, stream(style), sink, Api(), restart=True)
        assert 0 == again.exit_code, f"seed {seed}, life {life}: {again.text()}"
        left = tree(out, sink)
        for line in left["items.jsonl"].splitlines() if sink == "jsonl" else ():
            exact(line)
    assert len(codes) > 2
    print(dict(codes))


# --- headers ---

HEADER_VALUES = (
    "", "0", "1", "-1", "5, 7", "1_000", "٣", "inf", "nan", "1e9", "3.5", "9" * 30, "1738368000", "1738368000000",
    "Sat, 31 Jan 2026 12:00:07 GMT", "Sat, 31 Jan 9999 23:59:59 -2359", "Sat, 99 Foo 2026", "2026-01-31T12:00:00Z",
    "9999-12-31T23:59:59-23:59", '"a";r=0;t=5', '"a";r=0;t=5, "b";r=1', '"a', "limit=1, remaining=0, reset=1", "39/40",
    "api-usage=1/2", '{"call_count": 100, "estimated_time_to_regain_access": 9}', '{"x": [', "[" * 2000, "100;w=60",
    '<https://api.example.org/v1/items?after=3>; rel="next"', "<", '<a>; rel="next', "</x>;rel=next;rel=a", "ä", "\x00",
    "6m0s",
)  # fmt: skip
HEADER_WORDS = (
    "x", "ratelimit", "rate-limit", "remaining", "left", "reset", "resets", "after", "limit", "quota", "used", "usage",
    "policy", "ms", "minute", "day", "retry", "window", "interval", "concurrent", "amzn", "app", "app-usage", "shopify",
    "shop", "api", "call", "sforce", "info", "daylimit", "date", "time", "", "-",
)  # fmt: skip
HEADER_NAMES = st.sampled_from(
    [
        "retry-after", "retry-after-ms", "x-ms-retry-after-ms", "ratelimit", "ratelimit-policy", "x-ratelimit-reset",
        "x-ratelimit-remaining", "x-ratelimit-limit", "x-app-usage", "x-business-use-case-usage", "sforce-limit-info",
        "x-shopify-shop-api-call-limit", "x-daylimit-remaining", "x-amzn-errortype", "date",
    ]
) | st.lists(st.sampled_from(HEADER_WORDS), min_size=1, max_size=6).map("-".join)  # fmt: skip
VALUES = (
    st.sampled_from(HEADER_VALUES)
    | st.lists(st.sampled_from([*'0123456789.,;=:/"-+ TZ_%{}[]', "r", "t", "q", "w", "GMT", "Jan", "ä"]), max_size=40)
    .map("".join)
    | st.lists(st.sampled_from(HEADER_VALUES), max_size=4).map(", ".join)
    | st.text(max_size=30)
)  # fmt: skip
MOMENTS = st.datetimes(timezones=st.just(UTC))


def waitable(status: int, headers: Mapping[str, str], body: Any, moment: datetime) -> None:
    """Nothing is raised, and every number that comes out is one that can be counted or waited for."""
    assert isinstance(limited(status, headers, body, moment), bool)
    assert set(unread(headers, moment)) <= headers.keys()
    waits = [retry_after(headers, body, moment)]
    if found := wait(status, headers, body, moment):
        waits.append(found[0])
        assert found[1].isprintable()
    for limit in limits(headers, body, moment):
        waits += [limit.reset, limit.window, limit.back]
        counts = (limit.remaining, limit.quota, limit.refill, limit.cost)
        assert all(count is None or 0 <= count < math.inf for count in counts)
        assert limit.name.isprintable()
    assert all(one is None or 0 <= one <= YEAR for one in waits)


@pytest.mark.timeout(3600)
def test_whatever_the_headers_and_the_body_say_is_a_wait_or_nothing(long: bool) -> None:
    statuses = st.sampled_from([200, 204, 400, 403, 429, 500, 503])
    names = ["retry_after", "error", "errors", "code", "message", "status", "data", "rateLimit", "extensions", "cost"]
    bodies = st.recursive(
        SCALARS | st.decimals() | VALUES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=4),
    )
    headers = st.dictionaries(HEADER_NAMES, VALUES, max_size=6)
    fuzz(50_000 if long else 400, waitable, statuses, headers, bodies | st.binary(max_size=60), MOMENTS)


@pytest.mark.timeout(3600)
def test_whatever_is_read_as_a_moment_a_count_or_a_wait_is_one_or_nothing(long: bool) -> None:
    def check(value: Any, moment: datetime) -> None:
        left, count = seconds(value, moment), number(value)
        assert left is None or 0 <= left <= YEAR
        assert count is None or 0 <= count <= 10**15
        if isinstance(value, str):
            named, said = http_date(value), again_in(value)
            assert named is None or named.tzinfo is UTC
            assert said is None or 0 <= said <= YEAR

    dates = st.builds(
        "{}, {:02} {} {} {:02}:{:02}:{:02} {}".format,
        st.sampled_from(["Sat", "Saturday", "X", "Sat,"]),
        st.integers(-1, 99),
        st.sampled_from(["Jan", "Feb", "Foo", "1"]),
        st.integers(-1, 99999),
        st.integers(0, 99),
        st.integers(0, 99),
        st.integers(0, 99),
        st.sampled_from(["GMT", "+2359", "-2359", "+9999", "", "EST", "-0000"]),
    )
    texts = st.lists(st.sampled_from(["try again in ", "retry after ", "1h", "2 m", "5", "9" * 9, " ", "ms"])).map(
        "".join
    )
    fuzz(50_000 if long else 400, check, VALUES | dates | texts | SCALARS | st.decimals() | st.floats(), MOMENTS)


# --- links ---

LINK_PARTS = (
    "<",
    ">",
    "</2>",
    "<?a=1>",
    ";",
    ",",
    "=",
    '"',
    "\\",
    " ",
    "\t",
    "rel",
    "next",
    "REL",
    "anchor",
    "*",
    "é",
    "\n",
)


@pytest.mark.timeout(3600)
def test_whatever_a_link_header_holds_is_a_request_the_end_or_an_error_of_the_protocol(long: bool) -> None:
    def check(value: str) -> None:
        found = list(links(value))
        assert len(found) <= value.count("<")
        assert all(rel == rel.lower() and [rel] == rel.split() for _, rels in found for rel in rels)
        here = Request("https://api.example.org/v1/items")
        response = Response(here, here.url, 200, {"link": value}, None, BEGINNING)
        try:
            following = LinkHeader().after(response, [])
        except ProtocolError:
            return
        assert following is None or following.url.startswith(("http", "ftp", "file")) or ":" in following.url
        assert (following is None) <= (not any("next" in rels for _, rels in found))

    parts = st.lists(st.sampled_from(LINK_PARTS) | st.text(max_size=3), max_size=60).map("".join)
    fuzz(50_000 if long else 400, check, parts | st.sampled_from(HEADER_VALUES))


@pytest.mark.timeout(3600)
def test_whatever_a_body_names_as_its_next_page_is_a_request_the_end_or_an_error_of_the_protocol(long: bool) -> None:
    def check(body: Any, style: Any) -> None:
        here = Request("https://api.example.org/v1/items", params={"q": 1})
        try:
            following = style.after(Response(here, here.url, 200, {}, {"next": body}, BEGINNING), [])
        except ProtocolError:
            return
        assert following is None or isinstance(following.whole, str)

    styles = st.sampled_from([NextLink("next"), NextToken("next", param="after"), NextToken("next", body="after")])
    fuzz(20_000 if long else 200, check, DOCUMENTS | VALUES, styles)


# --- input of a megabyte: the effort must not grow faster than it ---


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "opening", ["", '"', "<a>;", '<a>; rel="', "try again in ", "Sat, 31 Jan ", "1", "{", '"a";r=']
)
def test_a_long_value_of_any_make_is_read_in_one_go(opening: str, seed: int) -> None:
    dice = random.Random(f"{seed} {opening}")
    for _ in range(12):
        unit = "".join(
            dice.choice([*LINK_PARTS, *HEADER_VALUES[:8], "0", "1 h ", ":", "a"]) for _ in range(dice.randint(1, 4))
        )
        if not unit:
            continue
        value = (opening + unit * (200_000 // len(unit)))[:200_000]
        assert sum(1 for _ in links(value)) <= value.count("<")
        for name in ("retry-after", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-app-usage"):
            waitable(429, {name: value}, {"message": value}, BEGINNING)
        waitable(403, {}, value.encode(), BEGINNING)


@pytest.mark.timeout(60)
def test_a_megabyte_of_broken_page_is_read_in_one_go(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(12):
        unit = "".join(dice.choice(ODD_TOKENS[:40]) for _ in range(dice.randint(1, 3)))
        content = ('{"items": [' + unit * (1_000_000 // len(unit)) + dice.choice(("", "]", "]}"))).encode()
        try:
            _, records = decode(content, "items")
        except DecodeError:
            continue
        assert records


# --- checkpoints ---


def saved(tmp_path: Path, sink: str = "jsonl", pages: int = 2) -> tuple[Path, str]:
    """An output with an open run, and the text of its checkpoint."""
    out = tmp_path / sink
    run(out, stream("keyset", incremental=True), sink, max_pages=pages)
    path = out / "shop" / (".syncer/state.db" if sink == "jsonl" else "shop.db")
    with closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute("SELECT body FROM syncer_checkpoint").fetchone()
    return path, body


@pytest.mark.timeout(3600)
def test_a_checkpoint_that_was_changed_is_refused_or_read_and_written_the_same(
    tmp_path: Path, seed: int, long: bool
) -> None:
    dice = random.Random(f"{seed} checkpoint")
    _, body = saved(tmp_path)
    taken = 0
    for life in range(200_000 if long else 3000):
        text = mangled(dice, json.loads(body)).decode("utf-8", "replace")
        try:
            checkpoint, own = parse(text, 7)
        except StateError:
            continue
        taken += 1
        again, sink = parse(dump(checkpoint, own), 7)
        assert (checkpoint, own) == (again, sink), f"seed {seed}, life {life}"
        assert isinstance(checkpoint.counts.balanced(), bool)
        assert checkpoint.cursor is None or checkpoint.cursor.whole
    assert taken > life / 100
    print(f"{taken} taken")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_a_planted_checkpoint_ends_in_a_report(tmp_path: Path, sink: str, seed: int, long: bool) -> None:
    """One whose checksum is right, as only somebody who means it can write it."""
    dice = random.Random(f"{seed} planted {sink}")
    path, body = saved(tmp_path, sink)
    before = {file: file.read_bytes() for file in (tmp_path / sink).rglob("*") if file.is_file()}
    beside = tmp_path / "beside.jsonl"
    beside.write_bytes(b"not ours\n")
    codes: Counter[int] = Counter()
    for life in range(10_000 if long else 100):
        for file, content in before.items():
            file.write_bytes(content)
        document = restructured(dice, json.loads(body))
        if life % 10 == 0 and sink == "jsonl":
            document = json.loads(body)
            document["sink"]["records"] |= {"name": "../../beside.jsonl", "length": 0, "page": 0, "crc": 0}
        text = json.dumps(document)
        with closing(sqlite3.connect(path)) as connection:
            planted = (text, zlib.crc32(text.encode()))
            connection.execute("UPDATE syncer_checkpoint SET body = ?, crc = ?", planted)
            connection.commit()
        with suppress(StateError):
            left = make(sink, tmp_path / sink, "shop", stream("keyset", incremental=True))
            overview.standing("shop", [overview.stream(stream("keyset", incremental=True), left)])
        report = run(tmp_path / sink, stream("keyset", incremental=True), sink, Strict())
        codes[report.exit_code] += 1
        assert report.exit_code in (0, 8, 9), f"seed {seed}, life {life}: {text}"
    assert codes[8] > life / 4
    assert b"not ours\n" == beside.read_bytes()
    print(dict(codes))


@pytest.mark.timeout(3600)
def test_what_processes_share_of_a_limit_is_read_or_damaged(seed: int, long: bool) -> None:
    dice = random.Random(f"{seed} shared")
    good = json.loads(State(quotas={"x": Quota(1.0, 2.0)}).text())
    taken = 0
    for _ in range(100_000 if long else 2000):
        text = mangled(dice, good)
        head = b"syncer pacer 1 %08x %s\n" % (zlib.crc32(text), text)
        try:
            state = State.parse(head if dice.random() < 0.9 else mangled(dice, head.decode("utf-8", "replace")))
        except DamagedError:
            continue
        taken += 1
        assert state == State.parse(
            b"syncer pacer 1 %08x %s" % (zlib.crc32(state.text().encode()), state.text().encode())
        )
    assert taken


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_a_checkpoint_that_cannot_be_read_does_not_hold_up_the_other_streams(tmp_path: Path, sink: str) -> None:
    """A cursor left open on the database would lock it for as long as the error is kept."""
    path, body = saved(tmp_path, sink)
    with closing(sqlite3.connect(path)) as connection:
        text = body.replace('"version":1', '"version":2')
        connection.execute("UPDATE syncer_checkpoint SET body = ?, crc = ?", (text, zlib.crc32(text.encode())))
        connection.commit()
    first = stream("keyset", incremental=True)
    shop = Connector(name="shop", base_url=BASE, streams=(first, replace(first, name="more")))
    session = requests.Session()
    session.mount("https://", Api())

    report = pull(shop, shop.streams, Options(tmp_path / sink, sink), {}, stopped_clock(), lambda event: None, session)

    assert ["failed", "complete"] == [done.status for done in report.streams]
    assert 8 == report.exit_code
