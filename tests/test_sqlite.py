"""What the SQLite sink adds to the conformance suite: no value changed, no name it chokes on, the user's views kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    RootModel,
    WithJsonSchema,
    condecimal,
    create_model,
    field_validator,
    model_validator,
)
from requests.adapters import BaseAdapter

from syncer import EpochSeconds, Stream
from syncer.decode import text_of
from syncer.errors import ConfigError
from syncer.report import Report
from syncer.sinks import sink
from syncer.sinks.columns import columns
from tests import world
from tests.world import answer, run


class Pages(BaseAdapter):
    """An API of the given pages, every digit as it stands."""

    def __init__(self, *pages: Sequence[Any]) -> None:
        super().__init__()
        self.pages = pages

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        number = int((request.url or "").rpartition("after=")[2] or 0) if "after=" in (request.url or "") else 0
        more = number + 1 < len(self.pages)
        body = text_of({"items": list(self.pages[number]), "next": str(number + 1) if more else None})
        return answer(request, body.encode(), headers={"Content-Type": "application/json"})

    def close(self) -> None:
        pass


def stream(model: type[BaseModel], **changed: Any) -> Stream:
    from syncer import NextToken

    pagination = NextToken("next", param="after", cursor="stable")
    given = {"name": "items", "path": "/items", "records": "items", "pagination": pagination, "max_rejects": "100%"}
    return Stream(model=model, **{**given, **changed})


def growing(model: type[BaseModel], **changed: Any) -> Stream:
    """The same with a replication key, so that a second run goes on in the same table."""
    return stream(model, **{"replication_key": "id", "since": "since", **changed})


def pulled(out: Path, source: Stream, *pages: Sequence[Any], **options: Any) -> Report:
    return run(out, source, "sqlite", Pages(*pages), **options)


def query(out: Path, text: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(out / "shop" / "shop.db", isolation_level=None)) as connection:
        return connection.execute(text, values).fetchall()


def causes(report: Report) -> dict[str, int]:
    assert report.streams[0].error is None, report.streams[0].error
    return dict(report.streams[0].causes)


class Number(BaseModel):
    id: int
    code: int


class Text(BaseModel):
    id: int
    code: str


# A column that exists and a model that has changed


@pytest.mark.parametrize(
    ("before", "was", "after", "now", "value"),
    [
        (int, "INTEGER", str, "TEXT", "01234"),
        (float, "REAL", Decimal, "TEXT", Decimal("1.10")),
        (float, "REAL", int, "INTEGER", 2**53 + 1),
        (int, "INTEGER", int | str, "one of no type", "01234"),
        (str, "TEXT", int, "INTEGER", 5),
        (str, "TEXT", list[str], "JSON TEXT", ["a"]),
    ],
)
def test_a_column_that_would_change_the_values_of_a_changed_model_stops_the_pull(
    tmp_path: Path, before: Any, was: str, after: Any, now: str, value: Any
) -> None:
    first = {"id": 1, "code": "x" if before is str else 7}
    pulled(tmp_path, growing(create_model("Old", id=int, code=before)), [first])
    changed = growing(create_model("New", id=int, code=after))

    report = pulled(tmp_path, changed, [{"id": 2, "code": value}], accept_changes=True)

    error = report.streams[0].error
    assert 8 == report.exit_code
    assert error is not None
    assert f"shop.db: table items: column code is {was}, its field now needs {now}" in error.message
    assert "--restart" in error.hint
    assert [(1, first["code"])] == query(tmp_path, "SELECT * FROM items")


def test_restart_brings_a_table_that_fits_the_changed_model(tmp_path: Path) -> None:
    pulled(tmp_path, growing(Number), [{"id": 1, "code": 7}])
    page = [{"id": 1, "code": "007"}, {"id": 2, "code": "01234"}]

    assert 8 == pulled(tmp_path, growing(Text), page, accept_changes=True).exit_code
    assert 0 == pulled(tmp_path, growing(Text), page, restart=True).exit_code
    assert [(1, "007"), (2, "01234")] == query(tmp_path, "SELECT * FROM items")


def test_a_refused_model_has_not_touched_the_table(tmp_path: Path) -> None:
    pulled(tmp_path, growing(Number), [{"id": 1, "code": 7}])
    (shape,) = query(tmp_path, "SELECT sql FROM sqlite_master WHERE name = 'items'")
    wider = create_model("Number", __base__=Number, more=(str | None, None))

    assert 8 == pulled(tmp_path, growing(wider), [{"id": 2, "code": 8}]).exit_code
    assert [shape] == query(tmp_path, "SELECT sql FROM sqlite_master WHERE name = 'items'")


def test_integers_that_become_numbers_go_on_in_their_column(tmp_path: Path) -> None:
    pulled(tmp_path, growing(Number), [{"id": 1, "code": 7}])
    changed = growing(create_model("Number", id=int, code=float))
    page = [{"id": 2, "code": Decimal("1.5")}, {"id": 3, "code": 8}, {"id": 4, "code": Decimal("1e300")}]

    assert 0 == pulled(tmp_path, changed, page, accept_changes=True).exit_code
    assert [7, 1.5, 8, 1e300] == [value for (value,) in query(tmp_path, "SELECT code FROM items")]


def test_a_field_that_left_the_model_is_not_put_into_its_old_column(tmp_path: Path) -> None:
    pulled(tmp_path, growing(Number, unknown="keep"), [{"id": 1, "code": 7}])
    less = growing(create_model("Number", id=int), unknown="keep")

    without = pulled(tmp_path, less, [{"id": 2}], accept_changes=True)
    brought = pulled(tmp_path, less, [{"id": 3, "code": "01234"}], accept_changes=True)

    assert [0, 8] == [without.exit_code, brought.exit_code]
    assert [(1, 7), (2, None)] == query(tmp_path, "SELECT * FROM items")


def test_an_unknown_field_that_joins_the_model_stays_in_its_column_of_no_type(tmp_path: Path) -> None:
    pulled(tmp_path, growing(create_model("Text", id=int), unknown="keep"), [{"id": 1, "code": "7"}])

    assert (
        0 == pulled(tmp_path, growing(Text, unknown="keep"), [{"id": 2, "code": "01"}], accept_changes=True).exit_code
    )
    assert [(1, "7"), (2, "01")] == query(tmp_path, "SELECT * FROM items")


def test_a_field_renamed_only_by_case_stops_the_pull(tmp_path: Path) -> None:
    pulled(tmp_path, growing(Text), [{"id": 1, "code": "a"}])
    renamed = growing(create_model("Text", id=int, Code=str))
    page = [{"id": 2, "Code": "b"}]

    report = pulled(tmp_path, renamed, page, accept_changes=True)

    assert 8 == report.exit_code
    assert "column code differs only by case from Code" in str(report.streams[0].error)
    assert 0 == pulled(tmp_path, renamed, page, restart=True).exit_code
    assert [(2, "b")] == query(tmp_path, "SELECT id, Code FROM items")


# What somebody made on the table


def test_views_indexes_and_triggers_outlive_a_refresh(tmp_path: Path) -> None:
    source = stream(Text, primary_key="id")
    pulled(tmp_path, source, [{"id": 1, "code": "a"}])
    query(tmp_path, "CREATE TABLE log (id)")
    made = [
        "CREATE VIEW codes AS SELECT code FROM items",
        "CREATE INDEX by_code ON items (code)",
        "CREATE TRIGGER gone AFTER DELETE ON items BEGIN INSERT INTO log VALUES (old.id); END",
        "CREATE TRIGGER logged AFTER INSERT ON log BEGIN UPDATE items SET code = code; END",
    ]
    for statement in made:
        query(tmp_path, statement)

    report = pulled(tmp_path, source, [{"id": 2, "code": "b"}])

    assert 0 == report.exit_code
    assert [("b",)] == query(tmp_path, "SELECT * FROM codes")
    found = query(tmp_path, "SELECT sql FROM sqlite_master WHERE name IN ('codes', 'by_code', 'gone', 'logged')")
    assert sorted(made) == sorted(sql for (sql,) in found)
    query(tmp_path, "DELETE FROM items")
    assert [(2,)] == query(tmp_path, "SELECT * FROM log")


def test_an_index_that_no_longer_fits_is_left_out_and_the_next_pull_says_so(tmp_path: Path) -> None:
    source = stream(create_model("Text", id=int), unknown="keep")
    pulled(tmp_path, source, [{"id": 1, "colour": "red"}])
    query(tmp_path, "CREATE INDEX by_colour ON items (colour)")
    query(tmp_path, "CREATE UNIQUE INDEX by_id ON items (id)")

    assert 0 == pulled(tmp_path, source, [{"id": 2}, {"id": 2}]).exit_code
    told = pulled(tmp_path, source, [{"id": 2}]).streams[0].notes
    later = pulled(tmp_path, source, [{"id": 2}]).streams[0].notes

    assert ["by_colour", "by_id"] == [note.split()[2] for note in told if "no longer fits table items" in note]
    assert [] == [note for note in later if "no longer fits" in note]


def test_a_view_waits_for_the_new_table_when_the_old_one_is_set_aside(tmp_path: Path) -> None:
    source = stream(Text)
    pulled(tmp_path, source, [{"id": 1, "code": "a"}])
    query(tmp_path, "CREATE VIEW codes AS SELECT code FROM items")

    sink("sqlite", tmp_path, "shop", source).set_aside("20260131T120000Z")

    assert 0 == pulled(tmp_path, source, [{"id": 2, "code": "b"}]).exit_code
    assert [("b",)] == query(tmp_path, "SELECT * FROM codes")


def test_setting_aside_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    assert [] == sink("sqlite", tmp_path, "shop", stream(Text)).set_aside("20260131T120000Z")
    assert [] == list(tmp_path.iterdir())


# Names and numbers that SQLite cannot take


class Open(BaseModel):
    id: int
    Name: str | None = None


KEEP = stream(Open, unknown="keep", primary_key="id")


def test_new_fields_that_differ_only_by_case_are_rejected(tmp_path: Path) -> None:
    report = pulled(
        tmp_path,
        KEEP,
        [
            {"id": 1, "Colour": "a", "colour": "b"},
            {"id": 2, "colour": "c"},
            {"id": 3, "COLOUR": "d"},
            {"id": 4, "name": "e"},
            {"id": 5, "É": 1, "é": 2},
        ],
        [{"id": 6, "Colour": "f"}, {"id": 7, "colour": "g"}],
    )

    assert {"COLOUR": 1, "Colour": 1, "colour": 1, "name": 1} == {
        name: sum(count for cause, count in causes(report).items() if cause == f"{name}: sink_column_name")
        for name in ("COLOUR", "Colour", "colour", "name")
    }
    assert [(2, "c", None, None), (5, None, 1, 2), (7, "g", None, None)] == query(
        tmp_path, 'SELECT id, colour, "É", "é" FROM items'
    )


def test_a_name_taken_by_a_record_that_was_rejected_is_free_on_the_next_page(tmp_path: Path) -> None:
    """So it is after a crash between the pages, when nothing but columns is known."""
    pages = [{"id": None, "Colour": 1}], [{"id": 1, "colour": 2}]

    assert {"id: int_type": 1} == causes(pulled(tmp_path, KEEP, *pages))
    assert [(1, 2)] == query(tmp_path, "SELECT id, colour FROM items")


def test_a_refresh_is_not_bound_to_the_names_of_the_old_table(tmp_path: Path) -> None:
    pulled(tmp_path, KEEP, [{"id": 1, "Colour": 1}])

    assert {} == causes(pulled(tmp_path, KEEP, [{"id": 1, "colour": 2}]))
    assert [(1, None, 2)] == query(tmp_path, "SELECT * FROM items")


def test_a_name_with_a_nul_is_rejected_and_every_other_becomes_a_column(tmp_path: Path) -> None:
    odd = {'"': 1, "": 2, "rowid": 3, "_empty": 4, "a]b`c'--": 5, "é\n": 6, "select": 7}

    assert {"a\0b: sink_column_name": 1} == causes(pulled(tmp_path, KEEP, [{"id": 1, "a\0b": 1}, {"id": 2, **odd}]))
    assert [(2, None, *odd.values())] == query(tmp_path, "SELECT * FROM items")


def test_more_columns_than_sqlite_has_are_rejected(tmp_path: Path) -> None:
    def wide(number: int, names: range) -> dict[str, int]:
        return {"id": number, **{f"f{name}": name for name in names}}

    report = pulled(
        tmp_path,
        KEEP,
        [wide(1, range(1998)), wide(2, range(1000, 1999)), wide(3, range(5))],
        [wide(4, range(1998, 1999)), wide(5, range(7))],
    )

    assert {"f1998: sink_column_limit": 2} == causes(report)
    assert [(1,), (3,), (5,)] == query(tmp_path, "SELECT id FROM items ORDER BY id")


def test_a_model_with_more_fields_than_sqlite_has_columns_is_refused() -> None:
    fields: dict[str, Any] = {f"f{number}": (int, 0) for number in range(2001)}

    with pytest.raises(ConfigError, match="2,000 fields"):
        sink("sqlite", Path("nowhere"), "shop", stream(create_model("Wide", **fields)))


@pytest.mark.parametrize("name", ["sqlite_master", "sqlite_x", "syncer_rejects", "syncer_checkpoint", "syncer_x"])
def test_a_stream_cannot_have_the_name_of_a_table_of_ours_or_of_sqlites(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' cannot be the name of a stream"):
        pulled(tmp_path, stream(Text, name=name), [{"id": 1, "code": "a"}])
    assert [] == list(tmp_path.iterdir())


class Measure(BaseModel):
    size: float


def test_a_number_that_a_double_cannot_hold_is_rejected(tmp_path: Path) -> None:
    fits = [2**53, 1152921504606847000, 10**22, Decimal("0.1"), Decimal("0.10000000000000000555"), Decimal("-0.0")]
    report = pulled(tmp_path, stream(Measure), [{"size": one} for one in [10**400, -(10**309), 2**53 + 1, *fits]])

    assert {"size: sink_number_range": 3} == causes(report)
    assert [float(one) for one in fits] == [size for (size,) in query(tmp_path, "SELECT size FROM items")]


def test_decimals_out_of_range_are_refused() -> None:
    made = sink("sqlite", Path("nowhere"), "shop", stream(Measure))

    for size in (Decimal("1e400"), Decimal("-1e999999"), Decimal("1e-400")):
        assert ["sink_number_range"] == [reason.type for reason in made.refuses({"size": size})]


# Models of every shape


class Node(BaseModel):
    id: int
    name: str
    children: list[Node] = []


class Whole(RootModel[Node]):
    pass


class Anything(RootModel[dict[str, int]]):
    pass


class Either(RootModel[Number | Text]):
    pass


class Foreign:
    pass


class Arbitrary(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    id: int
    plain: Annotated[Foreign, PlainValidator(lambda value: Foreign())]
    inner: list[Annotated[Foreign, PlainValidator(lambda value: Foreign())]]
    asked: Foreign | None = None
    default: str = Field(default_factory=str)


class Exact(BaseModel):
    plain: Decimal
    annotated: Annotated[Decimal, Field(gt=0)] | None
    outer: Annotated[Decimal | None, Field(description="or nothing")]
    constrained: condecimal(max_digits=10) | None  # type: ignore[valid-type]
    made: Annotated[Decimal | None, BeforeValidator(Decimal)]
    mixture: Decimal | int
    many: list[Decimal]


class Converted(BaseModel):
    before: Annotated[int, BeforeValidator(int)]
    declared: Annotated[int, BeforeValidator(int, json_schema_input_type=str)]
    items: Annotated[list[int], BeforeValidator(list)]
    state: Literal["a", "b"] | None
    several: int | str
    either: list[str] | str
    created: EpochSeconds
    wrapped: float
    odd: Annotated[int, WithJsonSchema({"type": ["integer", "null"]})]

    @field_validator("wrapped", mode="wrap")
    @classmethod
    def _wrap(cls, value: Any, handler: Any) -> Any:
        return handler(value)


class Moved(BaseModel):
    id: int
    name: str

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, value: Any) -> Any:
        return {"id": int(value["id"]), "name": str(value["name"])}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Node, {"id": "INTEGER", "name": "TEXT", "children": "JSON"}),
        (Whole, {"id": "INTEGER", "name": "TEXT", "children": "JSON"}),
        (Anything, {}),
        (Either, {}),
        (Arbitrary, {"id": "INTEGER", "plain": "JSON", "inner": "JSON", "asked": "", "default": "TEXT"}),
        (
            Exact,
            {
                "plain": "TEXT",
                "annotated": "TEXT",
                "outer": "TEXT",
                "constrained": "TEXT",
                "made": "TEXT",
                "mixture": "",
                "many": "JSON",
            },
        ),
        (
            Converted,
            {
                "before": "",
                "declared": "TEXT",
                "items": "JSON",
                "state": "TEXT",
                "several": "",
                "either": "JSON",
                "created": "INTEGER",
                "wrapped": "",
                "odd": "JSON",
            },
        ),
        (Moved, {"id": "", "name": ""}),
    ],
)
def test_a_model_of_any_shape_has_columns(model: type[BaseModel], expected: dict[str, str]) -> None:
    assert expected == columns(stream(model))


@pytest.mark.parametrize(
    ("model", "record", "row"),
    [
        (Node, {"id": 1, "name": "a", "children": [{"id": 2, "name": "b"}]}, (1, "a", '[{"id":2,"name":"b"}]')),
        (Whole, {"id": 1, "name": "a", "children": []}, (1, "a", "[]")),
        (Anything, {"x": 1, "root": 2**70}, (None, 1, str(2**70))),
        (Moved, {"id": "01234", "name": 5}, ("01234", 5)),
        (Exact, json.loads('{"plain": 1.10, "annotated": 1.10, "outer": null, "constrained": 2.50, "made": "3.0",'
                           ' "mixture": 1.5, "many": [1.10]}', parse_float=Decimal),
         ("1.10", "1.10", None, "2.50", "3.0", 1.5, "[1.10]")),
    ],
)  # fmt: skip
def test_a_record_of_any_shape_is_stored(
    tmp_path: Path, model: type[BaseModel], record: dict[str, Any], row: tuple[Any, ...]
) -> None:
    assert {} == causes(pulled(tmp_path, stream(model), [record]))
    assert [row] == query(tmp_path, "SELECT * FROM items")


class Bare(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_an_empty_record_of_an_open_model_is_a_row(tmp_path: Path) -> None:
    """In a page of its own, on a table that has columns by then, and in a run that goes on."""
    pages = [{}], [{"a": 1}, {}], [{"_empty": 2}]

    assert {} == causes(pulled(tmp_path, stream(Bare), *pages, max_pages=1))
    assert {} == causes(pulled(tmp_path, stream(Bare), *pages))
    assert [(None, None), (None, 1), (None, None), (2, None)] == query(tmp_path, "SELECT _empty, a FROM items")


class Lying(BaseModel):
    id: Annotated[str, WithJsonSchema({"type": "integer"})]
    size: Annotated[Any, WithJsonSchema({"type": "number"})] = None


def test_what_a_column_of_numbers_would_change_is_rejected(tmp_path: Path) -> None:
    """A schema that is not the model's own may promise numbers where the model takes text."""
    report = pulled(tmp_path, stream(Lying, primary_key="id"), [{"id": "01234"}, {"id": "x", "size": True}])

    assert {"id: sink_column_type": 1, "id: sink_column_type; size: sink_column_type": 1} == causes(report)


# Every value comes back


class Every(BaseModel):
    id: int
    integer: int | None = None
    flag: bool | None = None
    real: float | None = None
    text: str | None = None
    decimal: Annotated[Decimal, Field(allow_inf_nan=False)] | None = None
    state: Literal["01", "1e3"] | None = None
    items: list[Any] | None = None
    nested: dict[str, Any] | None = None
    anything: Any = None
    either: list[int] | str | None = None
    several: int | str | float | bool | None = None
    before: Annotated[Any, BeforeValidator(lambda value: value)] = None
    loose: Annotated[int | None, BeforeValidator(lambda value: None)] = None


class Wider(Every):
    added: str | None = None
    price: Decimal | None = None


numeric = st.sampled_from(
    ["01234", "1e5", " 12 ", "+7", "1.0", "1.10", "0x10", "-0", "9223372036854775808", ".5", "5.", "1_000", "Infinity"]
)
texts = numeric | st.text(st.characters(codec="utf-8"), max_size=8) | st.just("a\0b")
integers = (
    st.integers() | st.integers(-(2**64), 2**64) | st.sampled_from([2**63, 2**63 - 1, -(2**63), 2**53 + 1, 10**400])
)
decimals = st.builds(
    lambda sign, digits, exponent: Decimal(f"{sign}{digits}e{exponent}"),
    st.sampled_from(["", "-"]),
    st.integers(0, 10**25),
    st.integers(-330, 300),
) | st.sampled_from(list(map(Decimal, ["1.10", "100.0", "0.000", "-0.0", "1E+5", "5e-324", "1.7976931348623157e308"])))
scalars = st.none() | st.booleans() | integers | decimals | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "integer": integers,
    "flag": st.booleans(),
    "real": decimals | integers,
    "text": texts,
    "decimal": decimals | integers | numeric,
    "state": st.sampled_from(["01", "1e3"]),
    "items": st.lists(values, max_size=3),
    "nested": st.dictionaries(texts, values, max_size=3),
    "anything": values,
    "either": st.lists(integers, max_size=3) | texts,
    "several": scalars,
    "before": values,
    "loose": values,
    "unknown": values,
    "01": values,
}


def records(extra: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Records of which most are accepted, and some with one value of any kind in any field."""
    every = {name: st.none() | each for name, each in {**fields, **extra}.items()}
    good = st.fixed_dictionaries({}, optional=every)
    odd = st.builds(lambda one, name, value: {**one, name: value}, good, st.sampled_from(list(every)), scalars)
    return st.lists(good | good | odd, min_size=1, max_size=5)


def stored(out: Path) -> dict[int, dict[str, Any]]:
    with closing(sqlite3.connect(out / "shop" / "shop.db")) as connection:
        connection.row_factory = sqlite3.Row
        return {row["id"]: dict(row) for row in connection.execute("SELECT * FROM items")}


def refused(out: Path) -> set[int]:
    lines = [json.loads(line) for (line,) in query(out, "SELECT line FROM syncer_rejects")]
    return {(line["record"] if "record" in line else json.loads(line["text"]))["id"] for line in lines}


def same(sent: Any, found: Any) -> bool:
    """Equal, and of one kind: true is not 1, and text is not a number."""
    if isinstance(sent, dict) and isinstance(found, dict):
        return list(sent) == list(found) and all(same(sent[name], found[name]) for name in sent)
    if isinstance(sent, list) and isinstance(found, list):
        return len(sent) == len(found) and all(map(same, sent, found))
    if isinstance(sent, bool | str) or sent is None or isinstance(found, bool | str):
        return type(sent) is type(found) and bool(sent == found)
    if isinstance(sent, Decimal) and isinstance(found, Decimal):
        return str(sent) == str(found)
    return bool(sent == found)


def comes_back(sent: Any, found: Any, kind: str) -> bool:
    """Whether a column of this kind gives back what was sent, by the rules of the sink's docstring."""
    if sent is None or found is None:
        return sent is None and found is None
    if kind == "JSON":
        return same(sent, json.loads(found, parse_float=Decimal))
    if kind == "TEXT":
        return bool(found == (sent if isinstance(sent, str) else str(sent).replace("E", "e")))
    if kind == "REAL":
        return isinstance(found, float) and found == float(sent)
    if isinstance(sent, dict | list):
        return same(sent, json.loads(found, parse_float=Decimal))
    if isinstance(sent, bool):
        return isinstance(found, int) and bool(found == sent)
    if isinstance(sent, str):
        return isinstance(found, str) and found == sent
    exact = Decimal(found) if isinstance(found, int | str) else Decimal(repr(found))
    return bool(exact == sent)


def check(out: Path, source: Stream, sent: Sequence[Mapping[str, Any]], lost: set[int]) -> None:
    """Every record is stored with each of its values, or is one of those that were refused."""
    kinds, rows = columns(source), stored(out)
    assert {record["id"] for record in sent} - lost == set(rows)
    for record in sent:
        if row := rows.get(record["id"]):
            assert {} == {
                name: (record.get(name), found)
                for name, found in row.items()
                if not comes_back(record.get(name), found, kinds.get(name, ""))
            }
            assert set(record) <= set(row)


def numbered(start: int, found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": start + index, **one} for index, one in enumerate(found)]


@settings(deadline=None, max_examples=60)
@given(records({}), records({}), records({"added": texts, "price": decimals}))
def test_every_value_that_is_accepted_comes_back(
    first: list[dict[str, Any]], second: list[dict[str, Any]], third: list[dict[str, Any]]
) -> None:
    """From a fresh pull, from a refresh, and from a run that goes on with two more columns."""
    one, two, three = numbered(1, first), numbered(100, second), numbered(200, third)
    with TemporaryDirectory() as folder:
        out = Path(folder)
        whole = stream(Every, unknown="keep")
        causes(pulled(out, whole, one, two))
        check(out, whole, [*one, *two], refused(out))
        causes(pulled(out, whole, two, one))
        check(out, whole, [*two, *one], refused(out))
    with TemporaryDirectory() as folder:
        out = Path(folder)
        causes(pulled(out, growing(Every, unknown="keep", primary_key="id"), one))
        wider = growing(Wider, unknown="keep", primary_key="id")
        causes(pulled(out, wider, two, three, accept_changes=True))
        check(out, wider, [*one, *two, *three], refused(out))


def test_a_sample_of_every_kind_is_accepted(tmp_path: Path) -> None:
    """So that the test above is not one of rejects only."""
    record = {
        "id": 1,
        "integer": 2**63 - 1,
        "flag": True,
        "real": Decimal("1.5"),
        "text": "01234",
        "decimal": Decimal("1.10"),
        "state": "1e3",
        "items": [Decimal("1.10"), 2**70, "1"],
        "nested": {"a": None},
        "anything": "5",
        "either": "5",
        "several": "01234",
        "before": Decimal("1e5"),
        "loose": "01234",
        "unknown": "01234",
        "01": 2**64,
    }
    source = stream(Every, unknown="keep")

    assert {} == causes(pulled(tmp_path, source, [record]))
    check(tmp_path, source, [record], set())


def test_moments_stay_the_text_they_came_as(tmp_path: Path) -> None:
    model = create_model("Moment", id=int, at=datetime)
    pulled(tmp_path, stream(model), [{"id": 1, "at": "2026-01-31T12:00:00.10+02:00"}])

    assert [("2026-01-31T12:00:00.10+02:00",)] == query(tmp_path, "SELECT at FROM items")


def test_two_resets_in_one_second_keep_both_outputs(tmp_path: Path) -> None:
    source, stamp = world.stream("token"), "20260131T120000Z"
    for _ in range(2):
        run(tmp_path, source, "sqlite")
        assert sink("sqlite", tmp_path, "shop", source).set_aside(stamp)
    with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'items%'")]
        rejects = connection.execute("SELECT stream, count(*) FROM syncer_rejects GROUP BY stream").fetchall()
    expected = [f"items.before-{stamp}", f"items.before-{stamp}-2"]
    assert (expected, [(name, 2) for name in expected]) == (sorted(names), rejects)
