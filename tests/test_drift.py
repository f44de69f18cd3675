"""What is counted of a stream, what counts as drift, and where it is told."""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import count, pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from syncer import EpochSeconds, Stream, shapes
from syncer.checkpoint import Checkpoint, dump, parse
from syncer.choices import FEW, SHORT
from syncer.clock import Clock
from syncer.decode import decode
from syncer.drift import changes
from syncer.expected import ITEMS, expected, shown
from syncer.moulds import Mould
from syncer.page import Page, Request
from syncer.seen import NOTHING, PLACES, VALUES, Seen, joined, taken
from syncer.shapes import DEPTH, ELEMENTS, VARIANTS, Shape, shape
from syncer.sinks import sink as make
from syncer.tally import SHAPES, Tally, tally
from syncer.terminal import safe
from syncer.validate import Validator
from tests.api import MODEL, Api, connector, record
from tests.command import Project
from tests.scripted import BEGINNING
from tests.test_resume import SINKS, killed, story
from tests.world import Api as World
from tests.world import item, run, stopped_clock, stream


class Colour(StrEnum):
    RED = "red"


class Address(BaseModel):
    street: str
    country: str | None = None


class Line(BaseModel):
    sku: str
    price: Decimal = Decimal(0)


class Order(BaseModel):
    id: int
    status: Literal["open", "paid"] | None = None
    colour: Colour | None = None
    total: float | None = None
    count: int = 0
    note: str | None = None
    placed: AwareDatetime | None = None
    address: Address | None = None
    lines: list[Line] = []
    prices: dict[str, Decimal] = {}
    people: dict[str, Address] = {}
    anything: Any = None


def seen(records: Sequence[Any], model: type[BaseModel] = Order, stamp: str = "t1", **more: Any) -> Seen:
    """What a page of these records shows, by the quick way of validation and by the careful one."""
    source = Stream(name="items", path="/items", model=model, **more)
    _, rows = decode(json.dumps(records).encode(), "")
    page = Page(1, Request("/items"), "GET /items", rows, None, None, BEGINNING, "")
    validator = Validator(source, lambda values: ())
    quick, careful = (validator.judge(one, 1, stamp).seen for one in (page, replace(page, records=list(rows))))
    assert careful == quick
    return quick


def told(
    before: Sequence[Any], after: Sequence[Any], model: type[BaseModel] = Order, *, whole: bool | None = True
) -> list[tuple[Any, ...]]:
    """The changes between two runs: place, what, seen, count, of, before, rejected."""
    baseline = taken(NOTHING, seen(before, model), "t1") if before else NOTHING
    found = changes(seen(after, model, "t2"), baseline, expected(model), whole=whole)
    assert {"t2"} >= {one.first for one in found}
    return [(one.path, one.what, one.seen, one.count, one.of, one.before, one.refused) for one in found]


class TestShapes:
    def test_equal_records_have_one_shape_and_others_have_another(self) -> None:
        one = {"a": 1, "b": {"c": "x"}, "d": [1, "2"]}
        assert shape(one) is shape({"a": 7, "b": {"c": ""}, "d": ["", 5, 6]})
        assert shape(one) is not shape({**one, "b": {"c": None}})
        assert shape(one) is not shape({**one, "d": [1]})
        assert shape(one) is not shape({"b": {"c": "x"}, "a": 1, "d": [1, "2"]})

    def test_a_list_of_objects_is_the_set_of_their_shapes(self) -> None:
        found = shape({"lines": [{"a": 1}, {"a": 2}, {"a": "3"}, {}, None, [1]]})
        kinds = found.kinds[0]
        assert {(), (int,), (str,)} == {kind.kinds for kind in kinds if isinstance(kind, Shape)}
        assert {type(None), frozenset({int})} == {kind for kind in kinds if not isinstance(kind, Shape)}

    def test_what_is_nested_deeper_than_the_limit_is_an_object_or_a_list(self) -> None:
        deep: Any = {"end": 1}
        for _ in range(100):
            deep = {"a": deep}
        found, depth = shape(deep), 1
        while isinstance(found.kinds[0], Shape):
            found, depth = found.kinds[0], depth + 1
        assert (DEPTH, (dict,)) == (depth, found.kinds)

    def test_of_a_list_without_end_a_bounded_part_is_looked_at(self) -> None:
        many = shape({"a": [{str(number): 1} for number in range(2 * VARIANTS)]})
        late = shape({"a": [{"a": 1}] * ELEMENTS + [{"b": 1}]})
        assert (VARIANTS, 1) == (len(many.kinds[0]), len(late.kinds[0]))

    def test_shapes_without_end_are_forgotten_again(self) -> None:
        for number in range(1000):
            shape({f"{number} {field}": [] for field in range(100)})
        names = sum(len(plan.names) * (1 + len(plan.made)) for plan in shapes._plans.values())
        assert 0 < names <= shapes.HELD
        assert shapes._held <= shapes.HELD


class Open(BaseModel):
    a: int
    b: float | None
    c: Decimal
    d: Literal["x", "y"]
    e: list[str]
    f: Address | None
    g: datetime
    h: bool
    i: list[Address] = []


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    a: int = Field(alias="@a")


ADDRESSES = st.fixed_dictionaries({"street": st.just("s")}, optional={"country": st.none() | st.just("se")})
TAKEN = st.fixed_dictionaries(
    {
        "a": st.integers(-5, 5),
        "b": st.none() | st.just(1.5) | st.just(2),
        "c": st.just(1) | st.just(1.25) | st.just("7.5"),
        "d": st.sampled_from("xy"),
        "e": st.lists(st.just("t"), max_size=2),
        "f": st.none() | ADDRESSES,
        "g": st.just("2026-01-01T00:00:00Z"),
        "h": st.booleans(),
    },
    optional={"i": st.lists(ADDRESSES, max_size=2)},
)


def described(kind: Any) -> Any:
    """A kind by what it says, not by which object it is."""
    if isinstance(kind, Shape):
        return {name: described(one) for name, one in zip(kind.names, kind.kinds, strict=True)}
    if isinstance(kind, frozenset):
        return sorted(map(repr, map(described, kind)))
    return kind


class TestMoulds:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(TAKEN, max_size=6))
    def test_of_what_a_model_took_whole_the_shape_is_found_with_fewer_looks(self, records: list[Any]) -> None:
        quick, mould = Validator(Stream(name="i", path="/i", model=Open), lambda values: ())._quick, Mould(Open)
        for one in records:
            found = quick(json.dumps(one, separators=(",", ":")).encode())
            assert found is not None
            assert found[4] is None
            assert described(shape(one)) == described(mould(one))

    def test_a_field_that_may_come_under_two_names_is_looked_at(self) -> None:
        assert [{"a": int}, {"@a": int}] == [described(Mould(ByName)({name: 1})) for name in ("a", "@a")]


NAMES = st.sampled_from(["id", "status", "total", "lines", "address", "sku", "street", "x", "y.z", ""])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


class TestCounts:
    def test_a_page_is_counted_in_records_place_by_place(self) -> None:
        records: list[Any] = [
            {"id": 1, "total": 1.5, "extra": [1, "x"], "lines": [{"sku": "a"}, {"sku": "b", "price": 2}]},
            {"id": 2, "total": 2, "lines": [], "prices": {"EUR": 1, "USD": "2"}, "address": {"street": "s", "zip": 1}},
            {"id": "3", "total": None, "address": None},
            {"status": "lost", "id": 4},
            "text",
        ]
        found = seen(records).to_json()
        fields: Any = found["fields"]

        def kinds(place: Mapping[str, Any]) -> dict[str, int]:
            return {kind: number for kind, (number, stamp) in place["kinds"].items() if stamp == "t1"}

        assert {"object": 4, "text": 1} == kinds(found)
        assert {"integer": 3, "text": 1} == kinds(fields["id"])
        assert {"text": 1} == {kind: number for kind, (number, _) in fields["id"]["refused"].items()}
        assert {"number": 1, "integer": 1, "null": 1, "absent": 1} == kinds(fields["total"])
        assert {"text": 1, "absent": 3} == kinds(fields["status"])
        assert {'"lost"': [1, "t1"]} == fields["status"]["values"]
        assert {"list": 2, "absent": 2} == kinds(fields["lines"])
        assert {"object": 1, "some": 1} == kinds(fields["lines"]["items"])
        assert {"text": 1, "some": 1} == kinds(fields["lines"]["items"]["fields"]["sku"])
        assert {"integer": 1, "absent": 1, "some": 1} == kinds(fields["lines"]["items"]["fields"]["price"])
        assert {"integer": 1, "text": 1, "some": 1} == kinds(fields["prices"]["each"])
        assert {"object": 1, "null": 1, "absent": 2} == kinds(fields["address"])
        assert {"integer": 1} == kinds(fields["address"]["fields"]["zip"])
        assert {"absent": 1} == kinds(fields["address"]["fields"]["country"])
        assert {"list": 1, "absent": 3} == kinds(fields["extra"])
        assert {"integer": 1, "text": 1, "some": 1} == kinds(fields["extra"]["items"])
        assert {"absent": 4} == kinds(fields["note"])

    def test_the_saved_form_comes_back_as_it_was(self) -> None:
        found = taken(NOTHING, seen([{"id": None, "status": 1, "lines": [{"sku": [{}]}], "ö": {}}, 5, None]), "t1")
        assert found == Seen.from_json(json.loads(json.dumps(found.to_json())))
        assert NOTHING == Seen.from_json({})

    def test_pages_add_up_and_the_first_of_each_kind_is_remembered(self) -> None:
        pages = [
            seen([{"id": 1, "a": 1}], stamp="t1"),
            seen([{"id": 2}, {"id": 3, "a": "x"}], stamp="t2"),
            seen([{"id": "4", "a": 2, "b": 1}], stamp="t3"),
        ]
        both = joined(joined(pages[0], pages[1]), pages[2])
        assert {"integer": (2, "t1"), "absent": (1, "t2"), "text": (1, "t2")} == both.fields["a"].kinds
        assert {"absent": (3, "t1"), "integer": (1, "t3")} == both.fields["b"].kinds
        assert {"text": (1, "t3")} == both.fields["id"].refused

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.dictionaries(NAMES, ANYTHING, max_size=6) | ANYTHING, max_size=8), st.integers(0, 8))
    def test_however_records_are_cut_into_pages_the_counts_are_those_of_all_and_none_is_missing(
        self, records: list[Any], cut: int
    ) -> None:
        whole = seen(records)
        parts = joined(seen(records[:cut]), seen(records[cut:]))
        assert _plain(whole) == _plain(parts)
        assert len(records) == whole.there
        for one in whole.fields.values():
            assert whole.records("object") == one.there + one.records("absent")

    def test_a_field_is_found_by_alias_and_where_allowed_by_name(self) -> None:
        class Both(BaseModel):
            model_config = ConfigDict(populate_by_name=True)
            kind: int = Field(alias="@kind")

        assert [] == told([], [{"@kind": 1}, {"kind": 2}], Both)
        assert [("type_", "new", "integer", 1, 1, None, 0)] == told([], [{"@kind": 1, "type_": 2}], Both)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.dictionaries(NAMES, ANYTHING, max_size=6) | ANYTHING, max_size=4), max_size=5))
    def test_what_is_known_of_shapes_from_earlier_pages_changes_no_count(self, pages: list[list[Any]]) -> None:
        counted = Tally(expected(Order))
        for records in pages:
            found = Counter(shape(one) if type(one) is dict else type(one) for one in records)
            assert tally(found, {}, expected(Order), "t1") == counted(found, {}, "t1")

    def test_more_shapes_than_are_remembered_are_counted_all_the_same(self) -> None:
        counted = Tally(expected(Order))
        pages = [[{"id": 1, f"x{number}": 1} for number in range(most)] for most in (40, SHAPES + 5, 40, SHAPES)]
        for records in [*pages, [{"id": 1, f"y{number}": 1} for number in range(40)]]:
            found = Counter(map(shape, records))
            assert tally(found, {}, expected(Order), "t1") == counted(found, {}, "t1")


def _plain(one: Seen) -> Any:
    """The counts, without the places that a model has and nothing was seen of."""
    kinds = {kind: number.records for kind, number in one.kinds.items()}
    below = {shown((step,)): _plain(inner) for step, inner in one.below() if inner.present or inner.refused}
    rest = [{kind: number.records for kind, number in counts.items()} for counts in (one.refused, one.values)]
    return kinds, rest, below


OLD = [{"id": number, "total": 1.5, "note": "x"} for number in range(10)]


def but(**fields: Any) -> list[dict[str, Any]]:
    """The old records, the first of them with these fields."""
    return [{**OLD[0], **fields}, *OLD[1:]]


class TestChanges:
    @pytest.mark.parametrize(
        ("after", "change"),
        [
            (but(gift=True), ("gift", "new", "boolean", 1, 10, (0, 10), 0)),
            ([{**one, "gift": "x"} for one in OLD], ("gift", "new", "text", 10, 10, (0, 10), 0)),
            ([{"id": 1, "total": 1.5}] * 10, ("note", "vanished", "absent", 10, 10, (10, 10), 0)),
            (but(id="1"), ("id", "type", "text", 1, 10, (0, 10), 1)),
            (but(id=None), ("id", "null", "null", 1, 10, (0, 10), 1)),
            ([{"total": 1.5, "note": "x"}, *OLD[1:]], ("id", "absent", "absent", 1, 10, (0, 10), 1)),
            (but(total="1,5"), ("total", "type", "text", 1, 10, (0, 10), 1)),
            (but(total=None), ("total", "null", "null", 1, 10, (0, 10), 0)),
            ([{"id": 1, "note": "x"}, *OLD[1:]], ("total", "absent", "absent", 1, 10, (0, 10), 0)),
            (but(status="lost"), ("status", "value", '"lost"', 1, 10, (0, 10), 1)),
            (but(colour="blue"), ("colour", "value", '"blue"', 1, 10, (0, 10), 1)),
            (but(status=7), ("status", "value", "7", 1, 10, (0, 10), 1)),
            (but(count=1.5), ("count", "type", "number", 1, 10, (0, 10), 1)),
            ([*OLD, "gone"], ("(record)", "type", "text", 1, 11, (0, 10), 1)),
        ],
    )
    def test_each_kind_of_change_is_told_with_its_counts(self, after: list[Any], change: tuple[Any, ...]) -> None:
        assert change in told(OLD, after)

    def test_nothing_is_told_of_a_run_like_those_before(self) -> None:
        assert [] == told(OLD, OLD)

    def test_a_field_that_the_model_names_is_new_too_when_it_comes_for_the_first_time(self) -> None:
        assert [("status", "new", "text", 1, 10, (0, 10), 0)] == told(OLD, but(status="paid"))

    NESTED: ClassVar[Any] = {
        "id": 1,
        "address": {"street": "s"},
        "lines": [{"sku": "a"}, {"sku": "b"}],
        "prices": {"EUR": 1},
    }

    @pytest.mark.parametrize(
        ("fields", "change"),
        [
            ({"address": {"street": 5}}, ("address.street", "type", "integer", 1, 3, (0, 3), 1)),
            ({"address": {"street": "s", "zip": "1"}}, ("address.zip", "new", "text", 1, 3, (0, 3), 0)),
            ({"address": "s"}, ("address", "type", "text", 1, 3, (0, 3), 1)),
            ({"lines": [{"sku": "a"}, {"sku": None}]}, ("lines[].sku", "null", "null", 1, 3, (0, 3), 1)),
            ({"lines": [{"sku": "a"}, {}, {}]}, ("lines[].sku", "absent", "absent", 1, 3, (0, 3), 1)),
            ({"lines": [{"sku": "a", "x": 1}, {"sku": "", "x": 2}]}, ("lines[].x", "new", "integer", 1, 3, (0, 3), 0)),
            ({"lines": ["a", 7, {"sku": "a"}]}, ("lines[]", "type", "text", 1, 3, (0, 3), 1)),
            ({"prices": {"EUR": 1, "CHF": None}}, ("prices.*", "null", "null", 1, 3, (0, 3), 1)),
            ({"prices": {"EUR": "1"}}, ("prices.*", "type", "text", 1, 3, (0, 3), 0)),
        ],
    )
    def test_what_is_nested_is_told_by_its_place(self, fields: dict[str, Any], change: tuple[Any, ...]) -> None:
        assert change in told([self.NESTED] * 3, [{**self.NESTED, **fields}, self.NESTED, self.NESTED])

    def test_objects_whose_names_are_data_are_no_fields(self) -> None:
        before = [{"id": 1, "prices": {"EUR": 1}, "people": {"ann": {"street": "s"}}}]
        after = [{"id": 1, "prices": {"USD": 1}, "people": {"bob": {"street": "s", "zip": 1}}}]
        assert [("people.*.zip", "new", "integer", 1, 1, (0, 1), 0)] == told(before, after)

    def test_where_the_model_takes_anything_nothing_is_told(self) -> None:
        assert [] == told([{"id": 1, "anything": {"a": 1}}], [{"id": 1, "anything": {"b": [None]}}])

    def test_whole_numbers_among_others_are_no_drift_unless_they_are_refused(self) -> None:
        assert [] == told(but(total=1), but(total=2.5))
        assert [] == told(OLD, but(total=2))
        assert [] == told([{"id": 1, "total": 5}], [{"id": 1, "total": 5.5}])
        assert [("count", "type", "number", 1, 10, (0, 10), 1)] == told(
            [{**one, "count": 1} for one in OLD], [{**one, "count": 1} for one in OLD[1:]] + but(count=0.5)[:1]
        )

    def test_a_form_that_the_model_refuses_is_told_although_the_kind_is_known(self) -> None:
        good = {"id": 1, "placed": "2026-01-01T00:00:00Z"}
        found = changes(
            seen([good, {"id": 2, "placed": "tomorrow"}], stamp="t2"),
            taken(NOTHING, seen([good]), "t1"),
            expected(Order),
            whole=True,
        )
        assert [("placed is text of another form", 1, 2, (0, 1), 1, True)] == [
            (one.text, one.count, one.of, one.before, one.refused, one.form) for one in found
        ]

    def test_a_record_refused_for_a_bound_or_by_code_is_no_drift(self) -> None:
        class Bounded(BaseModel):
            id: Annotated[int, Field(gt=0)]
            at: EpochSeconds | None = None

            @model_validator(mode="after")
            def odd(self) -> Bounded:
                if self.id == 5:
                    raise ValueError("five")
                return self

        assert [] == told([{"id": 1, "at": 5}], [{"id": -1, "at": 5}, {"id": 5, "at": 5}], Bounded)

    def test_null_where_only_code_refuses_it_is_null_all_the_same(self) -> None:
        class Timed(BaseModel):
            at: EpochSeconds

        assert [("at", "null", "null", 1, 1, None, 1)] == told([], [{"at": None}], Timed)

    def test_one_of_several_models_is_not_blamed(self) -> None:
        class Either(BaseModel):
            who: Address | Line

        assert [("who.zip", "new", "integer", 1, 1, None, 0)] == told([], [{"who": {"zip": 1}}], Either)

    def test_alternatives_of_a_type_are_one_place(self) -> None:
        class Mixed(BaseModel):
            x: int | AwareDatetime | list[int]
            y: Address | str | None = None

        assert [("x", "type", "boolean", 1, 1, None, 1)] == told([], [{"x": True}], Mixed)
        assert [("x[]", "type", "text", 1, 1, None, 1)] == told([], [{"x": ["a"]}], Mixed)
        assert [("y.street", "null", "null", 1, 1, None, 1)] == told([], [{"x": 1, "y": {"street": None}}], Mixed)

    def test_those_that_cost_records_come_first(self) -> None:
        found = told(OLD, [{**one, "new": 1} for one in but(id="1", total=None)])
        assert ["type", "null", "new"] == [what for _, what, *_ in found]


class TestFirstRun:
    def test_only_what_the_model_does_not_expect_is_told(self) -> None:
        records = [
            {"id": 1, "note": None, "total": 5, "extra": {"a": 1}},
            {"id": 2, "note": "x", "status": "lost"},
            {"id": None, "total": "x"},
            {"note": "x"},
        ]
        assert [
            ("status", "value", '"lost"', 1, 4, None, 1),
            ("total", "type", "text", 1, 4, None, 1),
            ("id", "null", "null", 1, 4, None, 1),
            ("id", "absent", "absent", 1, 4, None, 1),
            ("extra", "new", "object", 1, 4, None, 0),
        ] == told([], records)

    def test_of_a_model_that_is_open_or_moves_things_no_field_is_unexpected(self) -> None:
        class Open(BaseModel):
            model_config = ConfigDict(extra="allow")
            id: int

        class Moves(BaseModel):
            id: int

            @model_validator(mode="before")
            @classmethod
            def lift(cls, value: Any) -> Any:
                return {"id": value["data"]["id"]}

        assert [] == told([], [{"id": 1, "x": 1}], Open)
        assert [] == told([], [{"data": {"id": 1}}], Moves)
        assert [("x", "new", "integer", 1, 1, (0, 1), 0)] == told([{"id": 1}], [{"id": 1, "x": 1}], Open)

    def test_a_field_refused_for_being_unknown_counts_as_rejected(self) -> None:
        class Closed(BaseModel):
            model_config = ConfigDict(extra="forbid")
            id: int

        assert [("x", "new", "integer", 1, 2, None, 1)] == told([], [{"id": 1, "x": 1}, {"id": 2}], Closed)
        strict = seen([{"id": 1, "x": 1}, {"id": 2}], unknown="reject")
        assert [("x", 1)] == [(c.path, c.refused) for c in changes(strict, NOTHING, expected(Order), whole=True)]


class Ticket(BaseModel):
    id: int
    state: str
    kind: Literal["bug", "wish", "task"] = "bug"
    colour: Colour | None = None
    home: Home | None = None
    tags: list[str] = []


class Home(BaseModel):
    street: str
    country: Literal["se", "dk"] | None = None


def tickets(**fields: Sequence[Any]) -> list[dict[str, Any]]:
    """Forty open or closed bugs; each field given has its values in turn."""
    plain = [{"id": number, "state": ["open", "closed"][number % 2], "kind": "bug"} for number in range(40)]
    return [{**one, **{name: values[one["id"] % len(values)] for name, values in fields.items()}} for one in plain]


class TestChoices:
    def test_a_new_value_of_a_text_that_has_few_is_told_although_it_is_accepted(self) -> None:
        after = [{**one, "state": "merged"} if one["id"] < 2 else one for one in tickets()]
        assert [("state", "value", '"merged"', 2, 40, (0, 40), 0)] == told(tickets(), after, Ticket)

    def test_a_choice_of_the_model_that_comes_for_the_first_time_is_told(self) -> None:
        assert [("kind", "value", '"wish"', 20, 40, (0, 40), 0)] == told(
            tickets(), tickets(kind=["bug", "wish"]), Ticket
        )
        assert [("kind", "value", '"wish"', 1, 1, (0, 2), 0)] == told(
            tickets()[:2], [{**tickets()[0], "kind": "wish"}], Ticket
        )

    def test_a_value_that_is_refused_is_told_once(self) -> None:
        assert [("kind", "value", '"odd"', 20, 40, (0, 40), 20)] == told(
            tickets(), tickets(kind=["bug", "odd"]), Ticket
        )

    def test_of_an_object_within_the_choices_are_followed_and_of_a_list_nothing(self) -> None:
        before = tickets(home=[{"street": "s", "country": "se"}], tags=[["a"]])
        after = tickets(home=[{"street": "t", "country": "dk"}], tags=[["b"]])
        assert [("home.country", "value", '"dk"', 40, 40, (0, 40), 0)] == told(before, after, Ticket)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (tickets(state=[f"text {number}" for number in range(5)]), tickets(state=["else"])),  # 8 records for each
            (tickets(state=[f"text {number}" for number in range(FEW + 1)]), tickets(state=["else"])),
            (tickets(), tickets(state=[f"text {number}" for number in range(FEW + 1)])),
            (tickets(state=["x" * (SHORT + 1)]), tickets(state=["else"])),
            (tickets(), tickets(state=["x" * (SHORT + 1)])),
        ],
    )
    def test_a_text_of_many_values_or_long_ones_has_no_news(self, before: list[Any], after: list[Any]) -> None:
        assert [] == told(before, after, Ticket)

    def test_of_a_text_that_is_no_choice_no_value_is_kept(self) -> None:
        for state in (["private " * 6], [f"private {number}" for number in range(FEW + 1)]):
            found = seen(tickets(state=state), Ticket)
            assert (True, {}) == (found.fields["state"].many, found.fields["state"].choices)
            assert "private" not in json.dumps(found.to_json())

    def test_values_are_counted_and_dated_and_pages_add_up_until_there_are_too_many(self) -> None:
        one, two = seen(tickets()[:3], Ticket, "t1"), seen(tickets(state=["open", "merged"])[:2], Ticket, "t2")
        both = joined(one, two).fields["state"].choices
        assert {'"open"': (3, "t1"), '"closed"': (1, "t1"), '"merged"': (1, "t2")} == both
        pages = [seen(tickets(state=[f"{page} {n}" for n in range(FEW)]), Ticket) for page in range(3)]
        found = joined(joined(pages[0], pages[1]), pages[2]).fields["state"]
        assert (True, {}) == (found.many, found.choices)

    def test_a_baseline_from_before_values_were_counted_makes_none_of_them_news(self) -> None:
        old = json.loads(json.dumps(taken(NOTHING, seen(tickets(), Ticket), "t1").to_json()))
        for one in old["fields"].values():
            one.pop("choices", None)
        assert [] == changes(seen(tickets(), Ticket, "t2"), Seen.from_json(old), expected(Ticket), whole=True)

    def test_a_model_within_itself_is_followed_to_some_depth(self) -> None:
        record = {"link": "a", "next": {"link": "b", "next": {"link": "a", "next": {"link": "b"}}}}
        places, here = [], seen([record], Chain)
        while here.fields:
            places.append(list(here.fields["link"].choices))
            here = here.fields["next"]
        assert [['"a"'], ['"b"'], ['"a"'], []] == places


class Chain(BaseModel):
    link: Literal["a", "b"]
    next: Chain | None = None


SECRET = "s3cr3t-value-of-a-key"


class TestSecrets:
    @pytest.mark.parametrize(
        ("record", "more"),
        [
            ({"id": 1, "state": SECRET}, {}),
            ({"id": 1, "state": "open", "kind": SECRET}, {}),
            ({"id": 1, "state": "open", SECRET: 1}, {}),
            ({"id": 1, "state": "open", SECRET: 1}, {"unknown": "reject"}),
            ({"id": 1, "state": "open", "home": {"street": 5, SECRET: {"a": 1}}}, {}),
            ({"id": 1, "state": "open", "tags": [1, {SECRET: SECRET}]}, {}),
        ],
    )
    def test_a_secret_that_comes_as_a_name_or_as_a_value_is_not_kept(
        self, record: dict[str, Any], more: dict[str, Any]
    ) -> None:
        source = Stream(name="items", path="/items", model=Ticket, **more)
        _, rows = decode(json.dumps([record, tickets()[0]]).encode(), "")
        page = Page(1, Request("/items"), "GET /items", rows, None, None, BEGINNING, "")
        validator = Validator(source, lambda values: (), lambda text: text.replace(SECRET, "***"))
        found = validator.judge(page, 1, "t1").seen
        assert 2 == found.there
        assert SECRET not in json.dumps(found.to_json())


class TestGone:
    def test_of_a_run_that_is_not_over_nothing_is_gone(self) -> None:
        assert [] == told(OLD, [{"id": 1, "total": 1.5}], whole=None)[1:]
        assert [("note", "absent", "absent", 1, 1, (0, 10), 0)] == told(OLD, [{"id": 1, "total": 1.5}], whole=None)

    def test_a_rare_field_is_gone_only_once_its_absence_is_no_chance(self) -> None:
        """Half of the records had it; so ten more have to lack it, and then it is told once."""
        baseline = taken(NOTHING, seen([{"id": 1, "rare": 1}, {"id": 2}] * 50), "t0")
        gone = []
        for number in range(20):
            found = seen([{"id": number}], stamp=f"t{number}")
            gone += [number for one in changes(found, baseline, expected(Order), whole=False) if one.what == "vanished"]
            baseline = taken(baseline, found, f"t{number}")
        assert [10] == gone

        back = changes(seen([{"id": 1, "rare": 1}]), baseline, expected(Order), whole=False)
        assert [("rare", "new", (50, 120))] == [(one.path, one.what, one.before) for one in back]

    def test_a_rare_field_that_comes_now_and_then_is_never_told(self) -> None:
        baseline = taken(NOTHING, seen([{"id": 1, "rare": 1}, {"id": 2}] * 50), "t0")
        for number in range(20):
            records: list[Any] = [{"id": number}] * 5 + ([{"id": number, "rare": 1}] if number % 2 else [])
            assert [] == changes(seen(records), baseline, expected(Order), whole=False)
            baseline = taken(baseline, seen(records), "t")

    def test_what_everything_lacks_is_gone_at_once_and_told_once(self) -> None:
        baseline = taken(NOTHING, seen([{"id": 1, "rare": 1}] + [{"id": 2}] * 99), "t0")
        found = seen([{"id": 1}])
        assert [("rare", "vanished")] == [
            (one.path, one.what) for one in changes(found, baseline, expected(Order), whole=True)
        ]
        assert [] == changes(found, taken(baseline, found, "t1"), expected(Order), whole=True)

    def test_with_the_object_around_it_a_field_is_not_told_apart(self) -> None:
        before = [{"id": 1, "address": {"street": "s", "zip": 1}}]
        assert [("address", "vanished", "absent", 1, 1, (1, 1), 0)] == told(before, [{"id": 1}])


class TestModelChanges:
    def test_the_fields_of_an_object_that_the_model_names_from_now_on_are_no_news(self) -> None:
        class Bare(BaseModel):
            id: int

        before = seen([{"id": 1, "address": {"street": "s"}}], Bare)
        after = seen([{"id": 1, "address": {"street": "s"}}])
        assert [] == changes(after, taken(NOTHING, before, "t1"), expected(Order), whole=True)


class TestBounds:
    def test_of_ten_thousand_new_fields_some_are_followed_and_those_of_the_model_all(self) -> None:
        wild = [{f"field {number}": 1 for number in range(10_000)} | {"id": 1, "address": {"street": "s"}}]
        found = seen(wild)
        assert (PLACES, True) == (found.places(), found.full)
        assert {"integer": (1, "t1")} == found.fields["id"].kinds
        assert {"object": (1, "t1")} == found.fields["address"].kinds
        assert len(json.dumps(found.to_json())) < 100_000

        other = seen([{f"other {number}": 1 for number in range(10_000)} | {"id": 1}], stamp="t2")
        both = joined(found, other)
        assert PLACES == both.places()
        baseline = taken(NOTHING, both, "t2")
        assert [] == [one for one in changes(other, baseline, expected(Order), whole=False) if one.what == "new"]

    def test_values_without_end_are_counted_up_to_a_limit(self) -> None:
        records = [{"id": 1, "status": f"s{number}"} for number in range(2 * VALUES)]
        found = joined(seen(records[:70]), seen(records[70:]))
        assert VALUES == len(found.fields["status"].values)

    def test_a_long_value_is_told_by_its_kind(self) -> None:
        assert [("status", "type", "text", 1, 1, None, 1)] == told([], [{"id": 1, "status": "x" * 101}])

    def test_long_names_are_cut_and_stay_apart(self) -> None:
        found = seen([{"id": 1, "x" * 5000 + "1": 1, "x" * 5000 + "2": "a"}, {"id": 1, "x" * 5000 + "1": 1}])
        names = [name for name in found.fields if name.startswith("x")]
        assert (2, True) == (len(names), all(len(name) < 140 for name in names))
        counts = [{kind: one.records for kind, one in found.fields[name].kinds.items()} for name in names]
        assert [{"integer": 2}, {"text": 1, "absent": 1}] == counts

    HOSTILE = (
        *('"', "'", "\\", "a\nb", "{x}", "__class__", "class", "a.b", "a[]", "[]", ".*", "", " ", "\x1b[31m", "\u202e"),
        *("\ud800", "ü", "名前", "0", "model_config", "%s", "</script>"),
    )

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_hostile_name_is_a_name_like_any_other(self, name: str) -> None:
        found = seen([{"id": 1, name: 1}, {"id": 2, name: {"a": 1}}, {"id": 3}])
        saved = dump(Checkpoint(seen=found, baseline=found), {})
        assert (found, found) == (parse(saved, 1)[0].seen, parse(saved, 1)[0].baseline)
        (change,) = changes(found, NOTHING, expected(Order), whole=True)
        assert ("new", 2, 3) == (change.what, change.count, change.of)
        assert change.text == safe(change.text) or name in ("\x1b[31m", "\u202e", "a\nb")
        json.dumps(change.to_json()).encode()

    def test_places_that_look_alike_are_shown_apart(self) -> None:
        places: list[Any] = [
            ("a", "b"),
            ("a.b",),
            ("a", ITEMS),
            ("a[]",),
            ("a", "[]"),
            ("",),
            (),
            ('"',),
            ("(record)",),
        ]
        assert len(places) == len({shown(place) for place in places})
        assert ["lines[].price", 'a["b.c"].d', "(record)"] == [
            shown(place) for place in (("lines", ITEMS, "price"), ("a", "b.c", "d"), ())
        ]


def checkpoint(out: Path, sink: str = "jsonl", source: Stream | None = None) -> Checkpoint:
    found = make(sink, out, "shop", source or stream("token")).peek()
    assert found is not None
    return found


def clock() -> Clock:
    """Every look at it is a second later, so that the pages have stamps of their own."""
    ticks = count()
    still = stopped_clock()
    return Clock(now=lambda: still.now() + timedelta(seconds=next(ticks)), monotonic=still.monotonic, sleep=still.sleep)


def changed(**fields: Any) -> World:
    """The API with these fields in its fifth record; `None` takes a field away from all."""
    records = [item(number) for number in range(1, 12)]
    for name, value in fields.items():
        if value is None:
            for one in records:
                del one[name]
        else:
            records[4][name] = value
    return World(records)


class TestPull:
    def test_the_first_run_tells_what_the_model_does_not_expect(self, tmp_path: Path) -> None:
        done = run(tmp_path, stream("token"), "jsonl")
        assert [("name is integer", 2, 11, None, 2), ("extra is new: integer", 11, 11, None, 0)] == [
            (one.text, one.count, one.of, one.before, one.refused) for one in done.streams[0].drift
        ]
        assert "        2  items  name is integer\n" in done.text()
        assert "next     syncer drift shop" in done.text()

    @pytest.mark.parametrize("sink", SINKS)
    def test_the_second_run_tells_what_has_changed_since_the_first(self, tmp_path: Path, sink: str) -> None:
        run(tmp_path, stream("token"), sink)
        done = run(tmp_path, stream("token"), sink, changed(gift="yes", price="free", extra=None))
        rows = done.to_json()["streams"][0]["drift"]
        assert [
            ("price", "type", "text", 1, 11, {"count": 0, "of": 11}, 1, "float", "price is text"),
            ("extra", "vanished", "absent", 11, 11, {"count": 11, "of": 11}, 0, None, "extra is gone"),
            ("gift", "new", "text", 1, 11, {"count": 0, "of": 11}, 0, None, "gift is new: text"),
        ] == [
            tuple(row[key] for key in ("path", "change", "seen", "count", "of", "before", "rejected", "model", "text"))
            for row in rows
        ]
        assert "not as it was" in done.text()

    def test_news_are_told_by_the_run_that_brings_them_and_no_longer_by_the_next(self, tmp_path: Path) -> None:
        run(tmp_path, stream("token"), "jsonl")
        run(tmp_path, stream("token"), "jsonl", changed(gift="yes"))
        assert [] == run(tmp_path, stream("token"), "jsonl", changed(gift="yes")).streams[0].drift

    def test_the_first_of_a_kind_is_dated_by_its_page(self, tmp_path: Path) -> None:
        run(tmp_path, stream("token"), "jsonl")
        done = run(tmp_path, stream("token"), "jsonl", changed(gift="yes"), clock=clock())
        (change,) = done.streams[0].drift
        saved = checkpoint(tmp_path)
        stamps = [saved.seen.kinds["object"].first, change.first, saved.saved]
        assert all(one < other for one, other in pairwise(stamps))

    def test_an_incremental_run_is_compared_with_all_those_before(self, tmp_path: Path) -> None:
        source = stream("keyset", incremental=True)
        late = [{**item(number), "changed": f"2026-02-01T00:{number}:00+00:00"} for number in range(20, 26)]
        run(tmp_path, source, "jsonl", World(World().records[:7]))
        run(tmp_path, source, "jsonl", World(World().records))
        done = run(tmp_path, source, "jsonl", World([*World().records, *late[:-1], {**late[-1], "price": None}]))
        saved = checkpoint(tmp_path)
        assert (12, 7) == (saved.baseline.there, saved.seen.there)
        assert [("price", "null", 1, 7, (0, 12), 1)] == [
            (one.path, one.what, one.count, one.of, one.before, one.refused) for one in done.streams[0].drift
        ]

    @pytest.mark.parametrize("sink", SINKS)
    def test_a_pull_in_pieces_counts_what_a_pull_in_one_does(self, tmp_path: Path, sink: str) -> None:
        run(tmp_path / "one", stream("token"), sink)
        for _ in range(4):
            done = run(tmp_path / "many", stream("token"), sink, max_pages=1)
        one, many = checkpoint(tmp_path / "one", sink), checkpoint(tmp_path / "many", sink)
        assert one.seen == many.seen
        assert one.counts.fetched == many.seen.there
        assert [2, 11] == [change.count for change in done.streams[0].drift]

    @pytest.mark.parametrize("sink", SINKS)
    @pytest.mark.parametrize("kind", ["first", "refresh", "incremental"])
    def test_a_pull_killed_before_any_step_counts_every_record_once(self, tmp_path: Path, kind: str, sink: str) -> None:
        style = "keyset" if kind == "incremental" else "token"
        story(kind, style, tmp_path / "calm", sink)()
        calm = checkpoint(tmp_path / "calm", sink, stream(style))
        resumed = 0
        for step in count(1, 3):
            out = tmp_path / str(step)
            work = story(kind, style, out, sink)
            if not killed(step, work):
                break
            left = make(sink, out, "shop", stream(style)).peek() or Checkpoint()
            assert left.counts.fetched == left.seen.there
            work()
            after = checkpoint(out, sink, stream(style))
            done = left if left.run == calm.run and not left.open else after
            assert (calm.seen, calm.baseline) == (done.seen, done.baseline), f"killed before step {step}"
            resumed += after.run == calm.run
        assert resumed > 5

    def test_a_run_that_is_given_up_leaves_no_trace_in_the_baseline(self, tmp_path: Path) -> None:
        run(tmp_path, stream("token"), "jsonl")
        run(tmp_path, stream("token"), "jsonl", changed(gift="yes"), max_pages=2)
        assert "gift" in checkpoint(tmp_path).seen.fields
        run(tmp_path, stream("token"), "jsonl", restart=True)
        saved = checkpoint(tmp_path)
        assert (11, False, False) == (
            saved.baseline.there,
            "gift" in saved.baseline.fields,
            "gift" in saved.seen.fields,
        )

    def test_a_run_that_came_short_or_over_its_budget_is_not_taken_for_what_is_usual(self, tmp_path: Path) -> None:
        source = replace(stream("token"), max_rejects="10%")
        run(tmp_path, source, "jsonl", World([item(1), item(3)]))
        for _ in range(2):
            done = run(tmp_path, source, "jsonl", World([{**item(1), "price": "x"}, {**item(3), "price": "x"}]))
            assert ["price is text"] == [one.text for one in done.streams[0].drift]
            assert 2 == checkpoint(tmp_path).baseline.there

    def test_a_checkpoint_of_an_earlier_version_loads_and_goes_on(self, tmp_path: Path) -> None:
        found, own = parse(json.dumps(BEFORE), 2)
        assert (NOTHING, NOTHING, 6) == (found.seen, found.baseline, found.counts.fetched)
        assert found == parse(dump(found, own), 2)[0]

        run(tmp_path, stream("token"), "jsonl", max_pages=2)
        with closing(sqlite3.connect(tmp_path / "shop" / ".syncer" / "state.db")) as state, state:
            ((body,),) = state.execute("SELECT body FROM syncer_checkpoint").fetchall()
            later = ("seen", "baseline", "kept")
            older = json.dumps({key: one for key, one in json.loads(body).items() if key not in later})
            assert BEFORE.keys() == json.loads(older).keys()
            state.execute("UPDATE syncer_checkpoint SET body = ?, crc = ?", (older, zlib.crc32(older.encode())))
        done = run(tmp_path, stream("token"), "jsonl").streams[0]
        assert ("complete", 11, 5) == (done.status, done.run.fetched, checkpoint(tmp_path).seen.there)


BEFORE: dict[str, Any] = {
    "version": 1,
    "run": 1,
    "generation": 1,
    "cursor": {"url": "/items", "params": {"after": "6"}},
    "fingerprint": {"base URL": "https://api.example.org/v1", "path": "/items", "model": "Item 3eb2fa3b59dd93df"},
    "bookmark": None,
    "highest": None,
    "began": "2026-01-31T12:00:00+00:00",
    "boundary": {},
    "pending": {},
    "counts": {"pages": 2, "fetched": 6, "written": 5, "rejected": 1, "repeated": 0},
    "stored": {"pages": 2, "fetched": 6, "written": 5, "rejected": 1, "repeated": 0},
    "mark": "1bde808c9fb5c219008ed470",
    "last": "692a015c0c6c5fd40772b83d",
    "back": {"url": "/items", "params": {"after": "3"}},
    "tail": [],
    "empty": 0,
    "unknown": {"extra": 5},
    "total": 11,
    "least": 11,
    "started": "2026-01-31T12:00:00.000Z",
    "saved": "2026-01-31T12:00:00.000Z",
    "status": "open",
    "sink": {
        "records": {"name": "items.jsonl", "length": 375, "page": 150, "crc": 307442973},
        "rejects": {"name": "items.rejects.jsonl", "length": 354, "page": 0, "crc": 1968607428},
        "publish": False,
    },
}
"""As a checkpoint was saved before anything was counted: a run of four pages, stopped after two."""

SHOP = connector(
    "{url}",
    model=MODEL.replace("    name: str\n", '    name: str\n    state: Literal["on", "off"] = "on"\n'),
    stream='primary_key="id", max_rejects="100%"',
).replace("from decimal", "from typing import Literal\nfrom decimal")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class TestCommand:
    def test_it_says_what_changed_and_what_to_type_next(self, project: Project) -> None:
        with Api(records=6, size=4) as api:
            project.write(SHOP.replace("{url}", api.url))
            assert 0 == project.run("pull", "shop").code
            calm = project.run("drift", "shop")
            api.records = [record(number, state="dim") if number == 5 else record(number) for number in range(1, 7)]
            pulled = project.run("pull", "shop")
            done = project.run("drift", "shop")

        assert (0, "shop/items: the first run, beside its model\n  nothing has changed\n") == (calm.code, calm.stdout)
        assert "next     syncer drift shop\n" in pulled.stdout
        assert done.code == 0
        assert [
            "shop/items: run 2 beside 6 records of the complete runs before",
            "  state is \"dim\"; the model takes Literal['on', 'off']",
            "      in 1 of 6 records since …, 1 rejected",
            "  state is new: text; the model takes Literal['on', 'off']",
            "      in 1 of 6 records since …",
        ] == [re.sub(r"\d{4}-[\d-]+ [\d:]+", "…", line) for line in done.stdout.splitlines()[:5]]
        assert '+    state: Literal["on", "off", "dim"] = "on"\n' in done.stdout
        assert done.stdout.endswith("next     syncer drift shop --apply\n")
        assert all(len(line) <= 80 for line in done.stdout.splitlines())

    def test_json_has_the_changes_and_the_patch(self, project: Project) -> None:
        with Api(records=[record(1), record(2, name=None)]) as api:
            project.write(SHOP.replace("{url}", api.url))
            project.run("pull", "shop")
        found = project.run("drift", "shop", "--json").json()
        (items,) = found["streams"]
        assert ("items", 1, "complete", 0, ["name is null"]) == (
            items["stream"],
            items["run"],
            items["status"],
            items["records_before"],
            [one["text"] for one in items["changes"]],
        )
        assert (1, 0, [], False, None) == (
            found["patch"]["rejects_passing"],
            found["patch"]["rejects_left"],
            found["patch"]["notes"],
            found["applied"],
            found["note"],
        )

    def test_the_runs_remember_it(self, project: Project) -> None:
        with Api(records=[record(1), record(2, name=None)]) as api:
            project.write(SHOP.replace("{url}", api.url))
            project.run("pull", "shop")
        (row,) = project.run("runs", "shop", "--json").json()
        assert ["name is null"] == [one["text"] for one in row["streams"][0]["drift"]]
        assert "  1 of 2  items  name is null\n" in project.run("runs", "show", row["id"]).stdout

    def test_before_the_first_pull_there_is_nothing_to_show(self, project: Project) -> None:
        project.write(SHOP.replace("{url}", "http://127.0.0.1:9"))
        done = project.run("drift", "shop")
        assert (0, "shop/items: never pulled") == (done.code, done.stdout.splitlines()[0])
        assert {"patch": None, "applied": False} == {
            key: value
            for key, value in project.run("drift", "shop", "--json").json().items()
            if key in ("patch", "applied")
        }

    def test_hostile_names_and_values_reach_no_terminal(self, project: Project) -> None:
        with Api(
            records=[record(1, **{"\x1b[31mred": 1, "\u202eright": 2}), record(2, state="\x1b]0;x\x07\nnext")]
        ) as api:
            project.write(SHOP.replace("{url}", api.url))
            project.run("pull", "shop")
        done = project.run("drift", "shop")
        assert done.code == 0
        assert not {"\x1b", "\x07", "\u202e"} & set(done.said)
