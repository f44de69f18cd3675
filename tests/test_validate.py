"""From records to accepted lines and rejects: strict, with every reason, digit for digit, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    create_model,
    field_validator,
    model_validator,
)

from syncer import EpochSeconds, Stream
from syncer.decode import Unparsable, decode, encode
from syncer.errors import ConfigError
from syncer.page import JSON, Page, Request
from syncer.stream import model_fingerprint
from syncer.validate import (
    REASONS,
    Reason,
    Record,
    Refuses,
    Reject,
    Validator,
    Verdict,
    cause,
    comparable,
    ordering,
    place,
    signature,
)
from tests.scripted import BEGINNING

steady = settings(derandomize=True, deadline=None, database=None, max_examples=150)

STAMP = "2026-01-31T12:00:00.000Z"
ASKED = Request("/items", params={"page": 3, "since": Decimal("1.50")})


def nothing(values: Mapping[str, JSON]) -> Iterable[Reason]:
    return ()


def stream(model: type[BaseModel], **options: Any) -> Stream:
    return Stream(name="items", path="/items", model=model, **options)


def judged(model: type[BaseModel], *records: Any, refuses: Refuses = nothing, **options: Any) -> Verdict:
    """The verdict on a page of records: text of JSON, or values as decode makes them."""
    values = [decode(f"[{one}]".encode(), "")[1][0] if isinstance(one, str) else one for one in records]
    page = Page(
        number=3,
        request=ASKED,
        asked="GET https://api.example.org/items?page=3",
        records=values,
        next=None,
        total=None,
        date=BEGINNING,
        digest="",
    )
    verdict = Validator(stream(model, **options), refuses).judge(page, 2, STAMP)
    assert len(records) == len(verdict.records) + len(verdict.rejects)
    return verdict


def accepted(model: type[BaseModel], record: Any, **options: Any) -> str:
    """The line of a record that is accepted."""
    verdict = judged(model, record, **options)
    assert () == verdict.rejects
    (found,) = verdict.records
    assert isinstance(found, Record)
    return found.line.decode()


def rejected(model: type[BaseModel], record: Any, **options: Any) -> dict[str, Any]:
    """What the rejects file says of a record that is refused."""
    verdict = judged(model, record, **options)
    assert () == verdict.records
    (found,) = verdict.rejects
    assert isinstance(found, Reject)
    assert b"\n" not in found.line
    saved = json.loads(found.line, parse_float=Decimal)
    assert isinstance(saved, dict)
    return saved


def faults(model: type[BaseModel], record: Any, **options: Any) -> list[tuple[str, str]]:
    """Where and of what kind the faults of a record are."""
    return [(reason["path"], reason["type"]) for reason in rejected(model, record, **options)["reasons"]]


# --- strict ---


def of(kind: Any) -> type[BaseModel]:
    """A model with one field of a type."""
    return create_model("Made", x=(kind, ...))


TAKEN = [
    (int, "12"),
    (int, "-0"),
    (int, "18446744073709551617"),
    (int, "9" * 4000),
    (float, "1.5"),
    (float, "1"),
    (float, "1e5"),
    (Decimal, "0.1234567890123456789012345678901234567891"),
    (Decimal, "12"),
    (Decimal, '"12.50"'),
    (str, '"12"'),
    (str, '""'),
    (bool, "true"),
    (datetime, '"2026-01-31T12:00:00Z"'),
    (datetime, '"2026-01-31T12:00:00"'),
    (AwareDatetime, '"2026-01-31T12:00:00+02:00"'),
    (AwareDatetime, '"9999-12-31T23:59:59-01:00"'),
    (date, '"2026-01-31"'),
    (EpochSeconds, "1769860800"),
    (EpochSeconds, "0"),
    (EpochSeconds, "-1"),
    (int | None, "null"),
    (int | str, '"12"'),
    (Literal["a", "b"], '"a"'),
    (list[int], "[1, 2]"),
    (dict[str, int], '{"a": 1}'),
    (Any, '{"a": [1.10, null]}'),
]

REFUSED = [
    (int, '"12"'),
    (int, "true"),
    (int, "1.0"),
    (int, "1.5"),
    (int, "1e2"),
    (int, "null"),
    (int, "[]"),
    (float, '"1.5"'),
    (float, "true"),
    (float, '"nan"'),
    (Decimal, '"twelve"'),
    (Decimal, "true"),
    (Decimal, '"NaN"'),
    (Decimal, '"Infinity"'),
    (str, "12"),
    (str, "null"),
    (str, "true"),
    (bool, "1"),
    (bool, "0"),
    (bool, '"true"'),
    (bool, '"yes"'),
    (datetime, "1769860800"),
    (datetime, "1769860800.5"),
    (datetime, '"31.01.2026"'),
    (datetime, '"2026-02-30T12:00:00Z"'),
    (datetime, '"2026-01-31T24:00:00Z"'),
    (datetime, '"2026-01-31T23:59:60Z"'),
    (AwareDatetime, '"2026-01-31T12:00:00"'),
    (date, "20260131"),
    (date, '"2026-01-31T12:00:00Z"'),
    (EpochSeconds, '"1769860800"'),
    (EpochSeconds, "1769860800.0"),
    (EpochSeconds, "true"),
    (EpochSeconds, "null"),
    (EpochSeconds, "1769860800000000"),
    (EpochSeconds, "9" * 400),
    (EpochSeconds, '"2026-01-31T12:00:00Z"'),
    (Literal["a", "b"], '"c"'),
    (list[int], '{"0": 1}'),
    (list[int], "[1, null]"),
    (dict[str, int], "[]"),
]


@pytest.mark.parametrize(("kind", "text"), TAKEN, ids=lambda value: str(value)[:40])
def test_a_value_of_the_right_type_is_taken(kind: Any, text: str) -> None:
    line = accepted(of(kind), f'{{"x": {text}}}')
    assert json.loads(text, parse_float=Decimal) == json.loads(line, parse_float=Decimal)["x"]


@pytest.mark.parametrize(("kind", "text"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_value_that_would_have_to_be_bent_is_refused(kind: Any, text: str) -> None:
    saved = rejected(of(kind), f'{{"x": {text}}}')
    assert {"x"} == {reason["path"].partition("[")[0].partition(".")[0] for reason in saved["reasons"]}
    assert json.loads(text, parse_float=Decimal) == saved["record"]["x"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [(datetime, '"1769860800"'), (AwareDatetime, '"20240101"'), (AwareDatetime, '"1769860800000"'), (date, '"86400"')],
)
def test_a_number_in_quotes_is_no_moment(kind: Any, text: str) -> None:
    rejected(of(kind), f'{{"x": {text}}}')


# --- digit for digit ---


class Wide(BaseModel):
    i: int
    d: Decimal
    f: float
    s: str
    t: AwareDatetime
    n: int | None
    e: EpochSeconds
    rest: Any


def test_what_is_accepted_is_written_as_it_came() -> None:
    line = (
        '{"i":18446744073709551617,"d":0.1234567890123456789012345678901,"f":1.50,"s":"é \\" ☃",'
        '"t":"2026-01-31T12:00:00.123456789+02:00","n":null,"e":1769860800,"rest":{"z":[1.10,-0.0,1,true],"a":{}}}'
    )
    assert line == accepted(Wide, line)


def test_the_values_of_a_record_are_those_of_its_line() -> None:
    (record,) = judged(of(Decimal), '{"x": 1.50}').records
    assert {"x": Decimal("1.50")} == record.values
    assert encode(record.values) == record.line


def test_fields_are_written_in_the_order_in_which_they_came() -> None:
    class Two(BaseModel):
        a: int
        b: int

    assert '{"b":1,"a":2}' == accepted(Two, '{"b": 1, "a": 2}')


def test_what_a_default_would_fill_in_is_not_written() -> None:
    class Filled(BaseModel):
        a: int
        b: int = 7

    assert '{"a":1}' == accepted(Filled, '{"a": 1}')


def test_what_a_validator_makes_of_a_value_is_not_written() -> None:
    class Shouting(BaseModel):
        a: Annotated[str, AfterValidator(str.upper)]

    assert '{"a":"x"}' == accepted(Shouting, '{"a": "x"}')


# --- reasons ---


class Line(BaseModel):
    price: Decimal
    tags: list[str] = []


class Order(BaseModel):
    id: int
    lines: list[Line]
    prices: dict[str, Decimal] = {}
    ship: Line | None = None


def test_every_fault_is_named_with_its_place_and_kind() -> None:
    record = (
        '{"id": "7", "lines": [{"price": 1}, {"tags": []}, {"price": "x", "tags": ["a", 2]}],'
        ' "prices": {"EUR": true}, "ship": {"price": null}}'
    )
    expected = [
        ("id", "int_type"),
        ("lines[1].price", "missing"),
        ("lines[2].price", "decimal_parsing"),
        ("lines[2].tags[1]", "string_type"),
        ("prices.EUR", "decimal_type"),
        ("ship.price", "decimal_type"),
    ]
    assert expected == faults(Order, record)


def test_a_reason_says_what_would_be_right_and_not_what_was_there() -> None:
    saved = rejected(of(int), '{"x": "canary"}')
    assert [{"path": "x", "type": "int_type", "message": "Input should be a valid integer"}] == saved["reasons"]
    assert "canary" not in json.dumps(saved["reasons"])


@pytest.mark.parametrize("record", [None, True, 7, Decimal("1.5"), "text", [], [{"x": 1}]], ids=repr)
def test_what_is_no_object_is_no_record(record: Any) -> None:
    value = record if record != "text" else '"text"'
    saved = rejected(of(int), value)
    assert [("", "not_an_object")] == [(reason["path"], reason["type"]) for reason in saved["reasons"]]
    assert record == saved["record"]


def test_what_is_no_json_is_kept_as_text() -> None:
    saved = rejected(of(int), Unparsable('{"x": NaN}', "NaN is not JSON"))
    assert [("", "not_json")] == [(reason["path"], reason["type"]) for reason in saved["reasons"]]
    assert "NaN" in saved["reasons"][0]["message"]
    assert '{"x": NaN}' == saved["text"]
    assert "record" not in saved


@pytest.mark.parametrize(
    ("record", "path", "kind"),
    [
        ('{"x": {"y": ["\\ud800"]}}', "x.y[0]", "lone_surrogate"),
        ('{"x": [1, 1e400]}', "x[1]", "number_out_of_range"),
        ('{"\\udcff": 1}', "", "lone_surrogate"),
    ],
)
def test_what_has_no_line_of_json_is_kept_as_text_with_its_place(record: str, path: str, kind: str) -> None:
    saved = rejected(of(Any), record)
    assert [(path, kind)] == [(reason["path"], reason["type"]) for reason in saved["reasons"]]
    assert "record" not in saved
    assert saved["text"].isascii()
    assert json.loads(record, parse_float=Decimal) == json.loads(saved["text"], parse_float=Decimal)


def test_the_first_twenty_reasons_are_kept_and_the_others_counted() -> None:
    saved = rejected(of(list[int]), json.dumps({"x": ["bad"] * 50}))
    assert REASONS == 20 == len(saved["reasons"])
    assert "x[19]" == saved["reasons"][-1]["path"]
    assert 30 == saved["more"]


@pytest.mark.parametrize("count", [1, 19, 20])
def test_up_to_twenty_reasons_nothing_more_is_counted(count: int) -> None:
    saved = rejected(of(list[int]), json.dumps({"x": ["bad"] * count}))
    assert count == len(saved["reasons"])
    assert "more" not in saved


def test_a_hundred_thousand_faults_in_one_record_are_one_reject() -> None:
    saved = rejected(of(list[int]), {"x": ["bad"] * 100_000})
    assert 99_980 == saved["more"]


def test_unknown_fields_beyond_twenty_are_counted_too() -> None:
    record = {"x": 1, **{f"y{number}": 1 for number in range(25)}}
    saved = rejected(of(int), record, unknown="reject")
    assert 20 == len(saved["reasons"])
    assert 5 == saved["more"]


@pytest.mark.parametrize("depth", [1, 100, 190, *range(195, 205), 220, *range(248, 262), 300, 500])
@pytest.mark.parametrize("inside", ["1", "18446744073709551617"])
def test_a_record_of_any_depth_is_accepted_or_rejected(depth: int, inside: str) -> None:
    text = '{"x": ' + "[" * depth + inside + "]" * depth + "}"
    verdict = judged(of(Any), text)
    assert (depth < 195, depth > 202) == (bool(verdict.records), bool(verdict.rejects)) or 195 <= depth <= 202


def test_a_record_as_deep_as_the_reader_goes_is_rejected_and_no_fault() -> None:
    def read(text: str, frames: int) -> JSON:
        """The record, read as far down the stack as the client does it."""
        return read(text, frames - 1) if frames else decode(f"[{text}]".encode(), "")[1][0]

    for depth in [*range(900, 1010), 5000]:
        text = '{"x": ' + "[" * depth + "]" * depth + "}"
        assert 1 == len(judged(of(Any), read(text, 16)).rejects)


# --- the reject line ---


def test_a_reject_is_written_as_documented() -> None:
    record = '{"id": 7, "lines": [{"price": "x"}], "extra": 18446744073709551617, "d": 1.10}'
    (reject,) = judged(Order, {}, record).rejects[1:]
    expected = (
        '{"v":1,'
        '"reasons":[{"path":"lines[0].price","type":"decimal_parsing","message":"Input should be a valid decimal"}],'
        '"record":{"id":7,"lines":[{"price":"x"}],"extra":18446744073709551617,"d":1.10},'
        '"page":3,"index":1,"run":2,'
        '"request":"GET https://api.example.org/items?page=3",'
        '"cursor":{"url":"/items","params":{"page":3,"since":1.50}},'
        f'"model":"Order {model_fingerprint(Order)}",'
        f'"at":"{STAMP}"}}'
    )
    assert expected == reject.line.decode()


def test_a_reject_of_text_and_with_more_reasons_is_written_as_documented() -> None:
    first = rejected(of(Any), Unparsable("{", "cut"))
    assert ["v", "reasons", "text", "page", "index", "run", "request", "cursor", "model", "at"] == list(first)
    second = rejected(of(list[int]), {"x": [None] * 21})
    order = ["v", "reasons", "more", "record", "page", "index", "run", "request", "cursor", "model", "at"]
    assert order == list(second)
    assert ASKED == Request.from_json(second["cursor"])


def test_the_index_of_a_reject_counts_all_records_of_its_page() -> None:
    verdict = judged(of(int), '{"x": 1}', '{"x": "a"}', "7", '{"x": 2}', Unparsable("{", "cut"))
    assert [1, 2, 4] == [json.loads(reject.line)["index"] for reject in verdict.rejects]
    assert [b'{"x":1}', b'{"x":2}'] == [record.line for record in verdict.records]


def test_the_same_record_has_the_same_digest_wherever_it_stands() -> None:
    verdict = judged(of(int), '{"x": "a"}', '{"x":  "a"}', '{"x": "b"}')
    one, two, three = [reject.digest for reject in verdict.rejects]
    assert one == two
    assert one != three
    taken = judged(of(int), '{"x": 1}', '{"x":  1}', '{"x": 2}').records
    assert taken[0].digest == taken[1].digest != taken[2].digest


# --- fields the model does not name ---


class Inner(BaseModel):
    a: int


class Other(BaseModel):
    kind: Literal["other"]
    b: int


class Outer(BaseModel):
    one: Inner | None = None
    many: list[Inner] = []
    pair: tuple[Inner, Inner] | None = None
    by: dict[str, Inner] = {}
    either: Inner | Other | None = None
    deep: dict[str, list[Inner | None]] = {}
    loose: dict[str, Any] = {}
    free: Any = None


PROJECTED = [
    # what came, what is written, what is counted
    ('{"x": 1}', "{}", {"x": 1}),
    ('{"one": {"a": 1, "x": 2}}', '{"one":{"a":1}}', {"one.x": 1}),
    ('{"one": null, "x": null}', '{"one":null}', {"x": 1}),
    ('{"many": [{"a": 1, "x": 1}, {"a": 2}, {"x": 3, "a": 3}]}', '{"many":[{"a":1},{"a":2},{"a":3}]}', {"many[].x": 2}),
    ('{"pair": [{"a": 1}, {"a": 2, "x": 1}]}', '{"pair":[{"a":1},{"a":2}]}', {"pair[].x": 1}),
    ('{"by": {"k": {"a": 1, "x": 2}, "l": {"a": 2}}}', '{"by":{"k":{"a":1},"l":{"a":2}}}', {"by.*.x": 1}),
    ('{"either": {"a": 1, "b": 2}}', '{"either":{"a":1}}', {"either.b": 1}),
    ('{"either": {"kind": "other", "b": 1, "x": 2}}', '{"either":{"kind":"other","b":1}}', {"either.x": 1}),
    ('{"deep": {"k": [null, {"a": 1, "x": 2}]}}', '{"deep":{"k":[null,{"a":1}]}}', {"deep.*[].x": 1}),
    ('{"loose": {"x": {"y": 1.10}}}', '{"loose":{"x":{"y":1.10}}}', {}),
    ('{"free": {"x": [1, {"y": 2}]}}', '{"free":{"x":[1,{"y":2}]}}', {}),
    ('{"x": 1, "y": {"z": 1}, "one": {"a": 1}}', '{"one":{"a":1}}', {"x": 1, "y": 1}),
    ('{"one": {"a": 1}, "many": [], "by": {}}', '{"one":{"a":1},"many":[],"by":{}}', {}),
]


@pytest.mark.parametrize(("came", "written", "counted"), PROJECTED)
def test_unknown_fields_are_dropped_at_every_depth_and_counted(
    came: str, written: str, counted: dict[str, int]
) -> None:
    assert written == accepted(Outer, came)
    assert counted == judged(Outer, came).unknown


@pytest.mark.parametrize(("came", "written", "counted"), PROJECTED)
def test_unknown_fields_are_kept_where_that_is_declared_and_counted_all_the_same(
    came: str, written: str, counted: dict[str, int]
) -> None:
    assert encode(decode(f"[{came}]".encode(), "")[1][0]).decode() == accepted(Outer, came, unknown="keep")
    assert counted == judged(Outer, came, unknown="keep").unknown


@pytest.mark.parametrize(("came", "written", "counted"), PROJECTED)
def test_unknown_fields_reject_the_record_where_that_is_declared(
    came: str, written: str, counted: dict[str, int]
) -> None:
    if counted:
        expected = sorted((path, "unknown_field") for path, count in counted.items() for _ in range(count))
        assert expected == sorted(faults(Outer, came, unknown="reject"))
        assert {} == judged(Outer, came, unknown="reject").unknown
    else:
        assert written == accepted(Outer, came, unknown="reject")


def test_unknown_fields_are_counted_over_the_page_but_not_in_rejects() -> None:
    verdict = judged(Inner, '{"a": 1, "x": 1}', '{"a": 2, "x": 1, "y": 1}', '{"a": "no", "z": 1}', '{"a": 3}')
    assert {"x": 2, "y": 1} == verdict.unknown


def test_a_model_that_allows_more_keeps_more() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int

    class Around(BaseModel):
        inner: Loose

    assert '{"a":1,"x":1.10}' == accepted(Loose, '{"a": 1, "x": 1.10}')
    assert '{"inner":{"a":1,"x":2}}' == accepted(Around, '{"inner": {"a": 1, "x": 2}, "y": 3}')


def test_a_model_that_forbids_more_rejects_more() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int

    assert [("x", "extra_forbidden")] == faults(Strict, '{"a": 1, "x": 1}')


def test_a_model_without_fields_takes_records_whole() -> None:
    class Anything(BaseModel):
        pass

    assert '{"a":1.10,"b":[{"c":null}]}' == accepted(Anything, '{"a": 1.10, "b": [{"c": null}]}')
    assert [("", "not_an_object")] == faults(Anything, "7")


def test_a_root_model_inside_a_record_keeps_what_is_in_it() -> None:
    class Prices(RootModel[dict[str, Decimal]]):
        pass

    class Tags(RootModel[list[Inner]]):
        pass

    class Priced(BaseModel):
        prices: Prices
        tags: Tags

    line = '{"prices":{"EUR":1.50,"CHF":2},"tags":[{"a":1}]}'
    assert line == accepted(Priced, line)


def test_a_root_model_of_alternatives_keeps_what_is_in_it() -> None:
    class Event(RootModel[Inner | Other]):
        pass

    assert '{"a":1}' == accepted(Event, '{"a": 1, "x": 2}')
    assert '{"kind":"other","b":1}' == accepted(Event, '{"kind": "other", "b": 1}')


def test_a_list_that_a_validator_reorders_keeps_what_each_item_names() -> None:
    class Sorted(BaseModel):
        items: list[Inner | Other]

        @field_validator("items")
        @classmethod
        def last_first(cls, items: list[Any]) -> list[Any]:
            return items[::-1]

    line = '{"items":[{"a":1},{"kind":"other","b":2}]}'
    assert line == accepted(Sorted, line)


@steady
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "one": st.none() | st.fixed_dictionaries({"a": st.integers()}, optional={"x": st.text()}),
            "many": st.lists(st.fixed_dictionaries({"a": st.integers()}, optional={"y": st.none()}), max_size=3),
            "by": st.dictionaries(
                st.text(), st.fixed_dictionaries({"a": st.integers()}, optional={"z": st.booleans()}), max_size=3
            ),
            "unknown": st.lists(st.text()),
        },
    )
)
def test_whatever_comes_the_named_fields_are_written_unchanged_and_all_others_counted(record: dict[str, Any]) -> None:
    def named(value: Any) -> Any:
        return {key: item for key, item in value.items() if key == "a"} if value is not None else None

    expected: dict[str, Any] = {}
    for key, value in record.items():
        if key == "one":
            expected[key] = named(value)
        elif key == "many":
            expected[key] = [named(item) for item in value]
        elif key == "by":
            expected[key] = {name: named(item) for name, item in value.items()}
    assert expected == json.loads(accepted(Outer, encode(record).decode()))
    counted = {
        "one.x": int("x" in (record.get("one") or {})),
        "many[].y": sum("y" in item for item in record.get("many", [])),
        "by.*.z": sum("z" in item for item in record.get("by", {}).values()),
        "unknown": int("unknown" in record),
    }
    assert {name: count for name, count in counted.items() if count} == judged(Outer, record).unknown
    assert encode(record).decode() == accepted(Outer, record, unknown="keep")


# --- aliases ---


class Aliased(BaseModel):
    ident: int = Field(alias="@id")
    kind: str = Field(alias="type")
    changed: AwareDatetime | None = Field(default=None, alias="lastModified")


def test_a_field_is_known_by_its_name_in_the_api() -> None:
    line = '{"@id":1,"type":"x","lastModified":"2026-01-31T12:00:00Z"}'
    verdict = judged(
        Aliased, line, primary_key=("@id", "type"), replication_key="lastModified", since="since", unknown="reject"
    )
    (record,) = verdict.records
    assert line.encode() == record.line
    assert BEGINNING == record.order
    assert "2026-01-31T12:00:00Z" == record.wire


def test_a_fault_is_told_with_the_name_in_the_api() -> None:
    assert [("@id", "int_type"), ("type", "missing")] == faults(Aliased, '{"@id": "1", "kind": "x"}')


def test_an_attribute_is_no_name_of_the_api() -> None:
    verdict = judged(Aliased, '{"@id": 1, "type": "x", "ident": 2}')
    assert (b'{"@id":1,"type":"x"}', {"ident": 1}) == (verdict.records[0].line, verdict.unknown)


def test_a_field_that_may_come_under_both_names_is_written_under_either() -> None:
    class Both(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        ident: int = Field(alias="@id")

    assert '{"@id":1}' == accepted(Both, '{"@id": 1}')
    assert '{"ident":1}' == accepted(Both, '{"ident": 1}')


# --- keys ---


class Keyed(BaseModel):
    id: int | None = None
    part: str | None = None
    at: AwareDatetime | None = None


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        ('{"id": 1, "part": "a"}', []),
        ('{"id": 0, "part": ""}', []),
        ('{"id": null, "part": "a"}', ["id"]),
        ('{"part": "a"}', ["id"]),
        ('{"id": null}', ["id", "part"]),
        ("{}", ["id", "part"]),
    ],
)
def test_a_record_without_a_value_in_its_primary_key_is_rejected(record: str, missing: list[str]) -> None:
    if missing:
        expected = [(name, "missing_key") for name in missing]
        assert expected == faults(Keyed, record, primary_key=("id", "part"))
        assert expected == faults(Keyed, record, primary_key=("id", "part"), unknown="keep")
    else:
        accepted(Keyed, record, primary_key=("id", "part"))


def test_without_a_primary_key_nothing_is_missing() -> None:
    assert "{}" == accepted(Keyed, "{}")


def test_a_sink_says_what_it_cannot_hold() -> None:
    def refuses(values: Mapping[str, JSON]) -> Iterable[Reason]:
        assert "x" not in values  # it is asked about what would be written
        return [Reason("part", "nul", "The table cannot hold it")] if values.get("part") == "no" else []

    assert '{"id":1}' == accepted(Keyed, '{"id": 1, "x": 1}', refuses=refuses)
    saved = rejected(Keyed, '{"id": null, "part": "no", "x": 1}', refuses=refuses, primary_key="id")
    assert [("id", "missing_key"), ("part", "nul")] == [(one["path"], one["type"]) for one in saved["reasons"]]
    assert {"id": None, "part": "no", "x": 1} == saved["record"]


# --- the order of records ---

INCREMENTAL: dict[str, Any] = {"replication_key": "at", "since": "since"}


@pytest.mark.parametrize(
    ("kind", "earlier", "later"),
    [
        (AwareDatetime, "2026-01-31T12:00:00+02:00", "2026-01-31T11:00:00Z"),
        (datetime, "2026-01-31T11:00:00", "2026-01-31T12:00:01+01:00"),
        (date, "2026-01-30", "2026-01-31"),
        (EpochSeconds, 999_999_999, 1_000_000_000),
        (int, 9, 10),
        (int, 2**64 + 1, 2**64 + 2),
        (str, "10", "9"),
        (Decimal, Decimal("1.10"), Decimal("1.2")),
    ],
)
def test_replication_values_are_compared_by_what_they_mean(kind: Any, earlier: Any, later: Any) -> None:
    model = create_model("Made", at=(kind, ...))
    order = ordering(stream(model, **INCREMENTAL))
    assert order(earlier) < order(later)
    verdict = judged(model, {"at": earlier}, {"at": later}, **INCREMENTAL)
    first, second = verdict.records
    assert first.order < second.order
    assert [earlier, later] == [first.wire, second.wire]
    assert [order(earlier), order(later)] == [first.order, second.order]


def test_a_moment_without_a_zone_is_taken_for_utc_and_a_day_for_its_beginning() -> None:
    assert datetime(2026, 1, 31, 12, tzinfo=UTC) == comparable(datetime(2026, 1, 31, 12))
    assert datetime(2026, 1, 31, tzinfo=UTC) == comparable(date(2026, 1, 31))
    assert "x" == comparable("x")


def test_a_moment_beyond_the_calendar_has_no_order() -> None:
    (record,) = judged(Keyed, '{"at": "9999-12-31T23:59:59-01:00"}', **INCREMENTAL).records
    assert record.order is None


@pytest.mark.parametrize("value", [None, "soon", 7, [], {"a": 1}, True], ids=repr)
def test_a_value_of_another_type_has_no_order(value: Any) -> None:
    assert ordering(stream(Keyed, **INCREMENTAL))(value) is None


def test_a_stream_without_a_replication_key_has_no_order() -> None:
    (record,) = judged(Keyed, '{"at": "2026-01-31T12:00:00Z"}').records
    assert (None, None) == (record.order, record.wire)
    assert ordering(stream(Keyed))("2026-01-31T12:00:00Z") is None


def test_a_reject_has_an_order_where_its_replication_value_is_sound() -> None:
    verdict = judged(Keyed, '{"id": "x", "at": "2026-01-31T12:00:00Z"}', '{"at": "soon"}', "7", **INCREMENTAL)
    assert [BEGINNING, None, None] == [reject.order for reject in verdict.rejects]
    assert ["2026-01-31T12:00:00Z", None, None] == [reject.wire for reject in verdict.rejects]


@pytest.mark.parametrize("at", ['"\\ud800"', "1e400", '{"a": "\\udfff"}', "[" * 300 + "]" * 300], ids=lambda at: at[:8])
def test_whatever_a_rejects_replication_value_is_a_checkpoint_can_save_it(at: str) -> None:
    (reject,) = judged(Keyed, f'{{"id": 1, "at": {at}}}', **INCREMENTAL).rejects
    encode({"pending": {reject.digest: reject.wire}})


# --- models with code of their own ---


def test_a_validator_that_objects_rejects_the_record_with_its_words() -> None:
    class Picky(BaseModel):
        a: int
        b: int

        @model_validator(mode="after")
        def ordered(self) -> Picky:
            if self.a > self.b:
                raise ValueError("a is above b")
            return self

    assert '{"a":1,"b":2}' == accepted(Picky, '{"a": 1, "b": 2}')
    saved = rejected(Picky, '{"a": 2, "b": 1}')
    assert [{"path": "", "type": "value_error", "message": "Value error, a is above b"}] == saved["reasons"]


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ZeroDivisionError, RecursionError, TypeError])
@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_validator_that_fails_rejects_the_record_and_keeps_its_secrets(error: type[Exception], mode: Any) -> None:
    def fail(value: Any) -> Any:
        raise error("canary")

    fragile = create_model("Fragile", __validators__={"fail": model_validator(mode=mode)(fail)}, a=(int, ...))
    saved = rejected(fragile, '{"a": 1}')
    assert ["model_error"] == [reason["type"] for reason in saved["reasons"]]
    assert error.__name__ in saved["reasons"][0]["message"]
    assert "canary" not in json.dumps(saved, default=str)
    assert {"a": 1} == saved["record"]


def test_a_validator_that_forgets_to_return_rejects_the_record() -> None:
    class Forgetful(BaseModel):
        a: int

        @model_validator(mode="after")
        def forget(self) -> None:  # type: ignore[misc]
            pass

    assert [("", "model_error")] == faults(Forgetful, '{"a": 1}')


def test_a_validator_that_returns_something_else_rejects_the_record() -> None:
    class Changeling(BaseModel):
        at: int

        @model_validator(mode="wrap")
        @classmethod
        def change(cls, value: Any, handler: Any) -> Any:
            return {"at": handler(value).at}

    assert [("", "model_error")] == faults(Changeling, '{"at": 7}', **INCREMENTAL)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, ZeroDivisionError])
def test_a_validator_of_the_replication_key_that_fails_rejects_the_record(error: type[Exception]) -> None:
    def fail(value: Any) -> Any:
        raise error("canary")

    fragile = create_model("Fragile", at=(Annotated[AwareDatetime, AfterValidator(fail)], ...))
    verdict = judged(fragile, '{"at": "2026-01-31T12:00:00Z"}', **INCREMENTAL)
    assert [None] == [reject.order for reject in verdict.rejects]


def test_a_nested_model_with_an_alias_that_is_no_plain_name_is_refused_at_once_or_kept_whole() -> None:
    class Choosy(BaseModel):
        a: int = Field(validation_alias=AliasChoices("a", "b"))

    class Around(BaseModel):
        inner: Choosy

    try:
        stream(Around)
    except ConfigError:
        return
    assert '{"inner":{"b":1}}' == accepted(Around, '{"inner": {"b": 1}}')


def test_one_bad_record_does_not_touch_its_neighbours() -> None:
    class Fragile(BaseModel):
        a: int

        @model_validator(mode="after")
        def fail(self) -> Fragile:
            if self.a == 2:
                raise RuntimeError
            return self

    verdict = judged(Fragile, '{"a": 1}', '{"a": 2}', '{"a": 3}', '{"a": "4"}', '{"a": 5}')
    assert [b'{"a":1}', b'{"a":3}', b'{"a":5}'] == [record.line for record in verdict.records]
    assert 2 == len(verdict.rejects)


# --- places and causes ---


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ((), ""),
        (("a",), "a"),
        (("lines", 2, "price"), "lines[2].price"),
        (("a", 0, 1, "b", "c"), "a[0][1].b.c"),
        ((0, "a"), "[0].a"),
        (("a.b", "c d"), "a.b.c d"),
    ],
)
def test_a_place_is_written_as_people_write_it(location: tuple[str | int, ...], expected: str) -> None:
    assert expected == place(location)


def test_causes_fold_indices_and_repetitions() -> None:
    found = [
        Reason("lines[2].price", "decimal_parsing", "x"),
        Reason("lines[13].price", "decimal_parsing", "y"),
        Reason("id", "int_type", "z"),
        Reason("", "not_json", "w"),
        Reason("a[0][1].b[2]", "missing", "v"),
    ]
    expected = "(record): not_json; a[][].b[]: missing; id: int_type; lines[].price: decimal_parsing"
    assert expected == cause(found)
    assert "lines[].price: decimal_parsing" == signature("lines[2].price", "decimal_parsing")


def test_rejects_with_the_same_faults_have_the_same_cause() -> None:
    verdict = judged(
        Order,
        '{"id": 1, "lines": [{"price": "x"}]}',
        '{"id": 2, "lines": [{"price": 1}, {"price": "y"}, {"price": "z"}]}',
        '{"id": "3", "lines": []}',
    )
    first, second, third = [reject.cause for reject in verdict.rejects]
    assert "lines[].price: decimal_parsing" == first == second
    assert "id: int_type" == third


# --- what an author's model may do ---


def test_a_model_that_gives_up_costs_the_record_and_not_the_run() -> None:
    class Quits(BaseModel):
        id: int

        @model_validator(mode="after")
        def quit(self) -> Quits:
            raise SystemExit(3)

    (reject,) = judged(Quits, {"id": 1}).rejects
    assert "(record): model_error" == reject.cause


def test_fields_that_a_validator_fills_do_not_let_unknown_ones_through() -> None:
    class Filled(BaseModel):
        id: int
        label: str = ""

        @model_validator(mode="after")
        def fill(self) -> Filled:
            self.label = f"n° {self.id}"
            return self

    verdict = judged(Filled, {"id": 1, "secret": "x"})
    assert (b'{"id":1}', {"secret": 1}) == (verdict.records[0].line, dict(verdict.unknown))


def test_fields_that_a_validator_takes_from_elsewhere_are_not_lost() -> None:
    class Unwrapped(BaseModel):
        id: int

        @model_validator(mode="before")
        @classmethod
        def unwrap(cls, data: Any) -> Any:
            return data["data"]

    assert b'{"data":{"id":1}}' == judged(Unwrapped, {"data": {"id": 1}}).records[0].line
