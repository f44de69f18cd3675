"""The quick way through validation gives what the careful way gives, or nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from syncer import EpochSeconds, Stream
from syncer.decode import Rows, UnfitError, decode, encode, exact
from syncer.page import JSON, Page, Request
from syncer.quick import Quick
from syncer.validate import Record, Validator, Verdict, _plainly
from tests.scripted import BEGINNING


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    a: int
    at: date | None = None


class Flat(BaseModel):
    id: int | None = None
    name: Annotated[str, Field(max_length=5)] = ""
    at: AwareDatetime | None = None
    day: date | None = None
    share: float = 0.0
    price: Decimal = Decimal(0)
    kind: Literal["a", "b"] | None = None
    colour: Colour | None = None
    key: UUID | None = None
    tags: list[str] = []
    more: dict[str, int] = {}


class Nested(Flat):
    inner: Inner | None = None
    inners: list[Inner] = []


class Coded(Flat):
    checked: Annotated[int, AfterValidator(lambda value: value)] = 1
    seconds: EpochSeconds | None = None

    @model_validator(mode="after")
    def small(self) -> Coded:
        if self.id == 7:
            raise ValueError("seven")
        return self


class Open(Flat):
    model_config = ConfigDict(extra="allow")


class Closed(Flat):
    model_config = ConfigDict(extra="forbid")


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    id: int = Field(alias="ID", default=0)
    anything: Any = None


class Either(BaseModel):
    either: Inner | Flat | None = None


MODELS = [Flat, Nested, Coded, Open, Closed, Aliased, Either]


def verdict(rows: Sequence[JSON], model: type[BaseModel], **more: Any) -> tuple[Verdict, list[Any]]:
    stream = Stream(name="items", path="/items", model=model, **more)
    page = Page(1, Request("/items"), "GET /items", rows, None, None, BEGINNING, "")
    found = Validator(stream, lambda values: ()).judge(page, 1, "now")
    return found, [(record.line, record.order, record.digest) for record in found.records]


def both(content: bytes, model: type[BaseModel], **more: Any) -> tuple[Verdict, Verdict]:
    """The page judged the quick way where that is possible, and the careful way throughout."""
    _, rows = decode(b'{"items": ' + content + b"}", "items")
    quick, lines = verdict(rows, model, **more)
    careful, expected = verdict(list(rows), model, **more)
    assert expected == lines
    assert careful.rejects == quick.rejects
    assert dict(careful.unknown) == dict(quick.unknown)
    return quick, careful


ODD = [
    '{"id": 1, "name": "x", "at": "2026-01-02T03:04:05Z"}',
    '{"id":1,"id":2}',
    '{"id":1,"at":"1700000000","day":"20240101"}',
    '{"id":1,"day":"-5"}',
    '{"id":1,"inner":{"a":1,"at":"1700000000"}}',
    '{"id":1,"inners":[{"a":1,"b":2},{"a":2,"at":"2026-01-01"}],"tags":["a","b"]}',
    '{"id":1,"share":1.10}',
    '{"id":1,"share":19.90,"price":100.00}',
    '{"id":1,"share":0.0000000,"price":-0.0000000}',
    '{"id":1,"share":0.00,"price":1200.0500,"name":"1.50,"}',
    '{"id":1,"share":1.50e3,"price":1.5E10,"more":[1e10,10.0,0.00000,0.0000010]}',
    '{"id":1,"tags":["10.00,","00]","\\u003000,","x"],"price":1.10,"id":10}',
    '{"id":1,"tags":["10.00,","00]","\\u003000,","x"],"price":1.10}',
    '{"id":1,"share":1e400}',
    '{"id":1,"share":NaN}',
    '{"id":1,"share":1e5,"price":"1.50"}',
    '{"id":1,"price":0.1234567890123456789012345}',
    '{"id":1,"share":-0,"price":-0.0}',
    '{"id":123456789012345678901234567890}',
    '{"id":18446744073709551616}',
    '{"id":1.0}',
    '{"id":"1"}',
    '{"id":true}',
    '{"id":7}',
    '{"id":null,"name":"\\u00e9","tags":["\\ud800"]}',
    '{"id":null,"name":"é\\n"}',
    '{"id":1,"name":"far too long"}',
    '{"id":1,"new":{"x":1},"newer":[1.50]}',
    '{"id":1,"kind":"c","colour":"red"}',
    '{"id":1,"colour":"blue","key":"00000000-0000-0000-0000-000000000001"}',
    '{"id":1,"seconds":5,"checked":2}',
    '{"ID":3,"anything":{"at":1e16}}',
    '{"id":3,"ID":4}',
    '{"either":{"a":1}}',
    '{"either":{"a":1,"id":2}}',
    '{"id":1,"more":{"a":1}}',
    "{}",
    "[]",
    "null",
    '"text"',
    "[" * 300 + "]" * 300,
    '{"tags":' + "[" * 250 + "]" * 250 + "}",
    "{x}",
]


@pytest.mark.parametrize("unknown", ["drop", "keep", "reject"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("form", ["alone", "together", "spaced"])
def test_odd_records_end_the_same_either_way(model: type[BaseModel], unknown: str, form: str) -> None:
    if form == "alone":
        for text in ODD:
            both(f"[{text}]".encode(), model, unknown=unknown)
    else:
        gap = ",\n  " if form == "spaced" else ","
        both(f"[{gap.join(ODD)}]".encode(), model, unknown=unknown)


def test_keys_and_bookmarks_are_the_same_either_way() -> None:
    more = {"primary_key": "id", "replication_key": "at", "since": "since"}
    content = ",".join(text for text in ODD if text.startswith('{"id"'))
    quick, careful = both(f"[{content}]".encode(), Flat, **more)
    assert [record.wire for record in careful.records] == [record.wire for record in quick.records]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["2026-01-02", "2026-01-02T03:04:05Z", "1700000000", "red", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "at", "id", "z"]), inner),
    max_leaves=5,
)
names = [*Nested.model_fields, "ID", "anything", "either", "checked", "seconds", "z"]


@settings(deadline=None, database=None, max_examples=300)
@given(
    records=st.lists(st.dictionaries(st.sampled_from(names), values, max_size=5), max_size=4),
    model=st.sampled_from(MODELS),
    spaced=st.booleans(),
    plain=st.booleans(),
)
def test_any_record_ends_the_same_either_way(
    records: list[Any], model: type[BaseModel], spaced: bool, plain: bool
) -> None:
    both(json.dumps(records, ensure_ascii=plain, separators=None if spaced else (",", ":")).encode(), model)


@settings(deadline=None, database=None, max_examples=300)
@given(
    numbers=st.lists(
        st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,9}0{0,9})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    ),
    model=st.sampled_from([Aliased, Open, Flat]),
    spaced=st.booleans(),
)
def test_any_way_to_write_a_number_ends_the_same_either_way(
    numbers: list[str], model: type[BaseModel], spaced: bool
) -> None:
    gap = " , " if spaced else ","
    rows = [f'{{"id":1,"share":{number},"price":{number},"anything":[{gap.join(numbers)}]}}' for number in numbers]
    both(f"[{gap.join(rows)}]".encode(), model, unknown="keep")


@settings(deadline=None, database=None, max_examples=200)
@given(value=values, records=st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=3))
def test_what_a_record_says_is_what_its_line_says(value: Any, records: list[Any]) -> None:
    for content in ({"a": value}, *records):
        try:
            line = encode(exact(json.dumps(content).encode()))
        except UnfitError:
            continue
        assert json.loads(line, parse_float=Decimal) == Record(line, None, None).values


def test_plain_records_are_taken_quickly_and_their_line_is_what_came() -> None:
    raw = '{"id":1,"name":"é","at":"2026-01-02T03:04:05Z","share":1.5,"tags":["a"],"more":{"b":2}}'.encode()
    found = Quick(Flat, _plainly, "drop")(raw)
    assert found is not None
    assert (raw, json.loads(raw), ()) == (found[0], found[1], found[3])


def test_a_model_that_names_a_part_is_quick_too() -> None:
    quick = Quick(Inner, _plainly, "drop")
    for raw, line in (b'{"a":1,"z":1.5}', b'{"a":1}'), (b'{"z":{},"a":2}', b'{"a":2}'):
        found = quick(raw)
        assert found is not None
        assert (line, ["z"]) == (found[0], found[3])


def test_what_a_sink_refuses_is_refused_either_way() -> None:
    from syncer.validate import Reason

    _, rows = decode(b'[{"id":1},{"id":2}]', "")
    stream = Stream(name="items", path="/items", model=Flat)
    page = Page(1, Request("/items"), "GET /items", rows, None, None, BEGINNING, "")

    def refuses(found: Any) -> list[Reason]:
        return [Reason("id", "sink", "no")] if found["id"] == 2 else []

    for one in (page, replace(page, records=list(rows))):
        found = Validator(stream, refuses).judge(one, 1, "now")
        assert (1, ["id: sink"]) == (len(found.records), [reject.cause for reject in found.rejects])


def test_rows_are_a_list_to_whoever_asks() -> None:
    rows = Rows([b'{"a": 1.10}', b"[2]"])
    assert [{"a": Decimal("1.10")}, [2]] == rows
    assert [[2]] == rows[1:]
    assert [2] == rows[-1]
