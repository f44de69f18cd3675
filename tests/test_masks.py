"""What a stream masks is nowhere in what is left behind or said; equal values stay equal, and rejects can be tried."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AwareDatetime, BaseModel, Field, field_validator, model_validator

from syncer import LastRecord, Masked, NextToken, Stream
from syncer.errors import ConfigError, StateError, SyncerError
from syncer.fields import REMOVED, is_mask
from syncer.masks import KEY, hashed, masks
from syncer.page import Page, Request
from syncer.replay import Settled, replay
from syncer.sinks import KINDS
from syncer.sinks import sink as make
from syncer.validate import Validator
from tests.api import Api, Reply, connector, record
from tests.command import Done, Project
from tests.world import BEGAN, item, run, stopped_clock, stream
from tests.world import Api as World

NAME, CITY, AGE, PHONE = "Ada.Canary@x.example", "Canaryville-77", 918273645, "+49-canary-555"
CANARIES = [text.encode() for text in (NAME, CITY, str(AGE), PHONE)]
MODEL = """from typing import Annotated

from pydantic import Field, field_validator, model_validator


class Home(BaseModel):
    city: Annotated[str, Masked()]
    zip: str


class Item(BaseModel):
    id: int
    name: Annotated[str, Field(max_length=24), Masked()]
    age: Annotated[int, Masked("remove")]
    home: Home | None
    price: Decimal
    updated_at: AwareDatetime

    @model_validator(mode="after")
    def telling(self):
        if self.id == 9:
            raise ValueError(f"{self.name} of {self.home.city} is {self.age}")
        return self

    @field_validator("price")
    @classmethod
    def dear(cls, value, info):
        if value > 1000:
            raise ValueError(f"too dear for {info.data.get('name')}")
        return value
"""


def person(number: int, **fields: Any) -> dict[str, Any]:
    known = {"name": NAME, "age": AGE, "home": {"city": CITY, "zip": "1"}, "meta": {"phone": PHONE, "x": 1}}
    return record(number, **{**known, **fields})


BAD: list[Any] = [
    person(9),
    person(10, name=[NAME]),
    person(11, name=NAME * 2),
    person(12, age=str(AGE)),
    person(13, home=[CITY]),
    person(14, home=f"{CITY}, {PHONE}"),
    person(15, home={"city": {CITY: CITY}, "zip": "1"}),
    person(16, price=2000),
    person(17, price="x", meta=[PHONE]),
    {**person(18), "home": {"zip": CITY.lower() and "1"}},
    person(19, name=None),
    person(20, name=NAME + "\ud800"),
]


def found(content: bytes) -> list[bytes]:
    return [canary for canary in CANARIES if canary.lower() in content.lower()]


def files(project: Project) -> Iterator[Path]:
    places = [project.data, Path(f"{project.path}-state"), *project.path.glob("log*"), project.path / "metrics"]
    for place in places:
        yield from ([place] if place.is_file() else (path for path in place.rglob("*") if path.is_file()))


def left(project: Project) -> dict[str, list[bytes]]:
    """The canaries in every file that is not the user's own."""
    hits = {str(path): found(path.read_bytes()) for path in files(project)}
    return {path: canaries for path, canaries in hits.items() if canaries}


def said(done: Done) -> list[bytes]:
    return found(done.said.encode("utf-8", "surrogatepass"))


def raw_page(rows: list[Any]) -> bytes:
    return json.dumps({"items": rows, "total": len(rows), "next": None}).encode()


@pytest.mark.parametrize(
    ("sink", "unknown"),
    [
        ("sqlite", "keep"),
        *(
            pytest.param(sink, unknown, marks=pytest.mark.long)
            for sink, unknown in (
                ("jsonl", "drop"),
                ("jsonl", "keep"),
                ("jsonl", "reject"),
                ("sqlite", "drop"),
                ("sqlite", "reject"),
            )
        ),
    ],
)
def test_what_is_masked_is_in_no_file_and_in_nothing_that_any_command_says(
    tmp_path: Path, sink: str, unknown: str
) -> None:
    project = Project(tmp_path)
    good = [person(number) for number in range(1, 9)]
    broken = raw_page(BAD)[:-60] + f',{{"id": 21, "name": "{NAME}", "age": NaN}}, "{CITY}"'.encode() + b"]}"
    with Api([*good, *BAD], size=40) as api:
        text = connector(
            api.url,
            model=MODEL,
            stream=f'mask=("meta.phone",), unknown="{unknown}", max_rejects="100%", primary_key="id"',
        )
        project.write(text)
        options = ("--sink", sink)
        api.misbehave = lambda asked: Reply(body=broken)
        pulls = [project.run("pull", "shop", *options, "-v", "--log", str(tmp_path / "log"))]
        api.misbehave = None
        pulls += [
            project.run(
                "pull", "shop", *options, "-v", "--log", str(tmp_path / "log2"), "--metrics", "metrics", "--keep-pages"
            )
        ]
        api.misbehave = lambda asked: Reply(status=400, body={"error": f"{NAME} {CITY} {AGE} {PHONE}"})
        pulls += [project.run("pull", "shop", *options, "--restart", "--yes")]
        pulls += [project.run("check", "shop", *options)]
        api.misbehave = lambda asked: Reply(body=f"{NAME} {CITY} {AGE} {PHONE}".encode())
        pulls += [project.run("pull", "shop", *options, "--restart", "--yes")]
        pulls += [project.run("check", "shop", *options, "--json")]
        api.misbehave = None
        pulls += [project.run("check", "shop", *options)]
    rejects = project.run("rejects", "shop", *options, "--all", "--json").lines()
    everything = [
        *pulls,
        project.run("rejects", "shop", *options),
        project.run("rejects", "shop", *options, "--json"),
        project.run("rejects", "shop", *options, "--all"),
        project.run("rejects", "shop", *options, "--csv"),
        *(project.run("rejects", "show", "shop", row["id"], *options) for row in rejects),
        project.run("rejects", "replay", "shop", *options, "--dry-run"),
        project.run("rejects", "replay", "shop", *options, "--json"),
        project.run("report", "shop", *options),
        project.run("report", "shop", *options, "--json"),
        project.run("report", "shop", *options, "--html", "-"),
        project.run("rebuild", "shop", *options),
        project.run("status", "shop", *options),
        project.run("status", "shop", *options, "--json"),
        project.run("runs", "--json"),
        project.run("rejects", "purge", "shop", *options, "--cause", "price", "--yes"),
    ]
    assert len(BAD) <= len(rejects)
    assert [[]] * len(everything) == [said(done) for done in everything]
    assert {} == left(project)


def test_without_masks_the_same_pull_leaves_the_canaries(tmp_path: Path) -> None:
    project = Project(tmp_path)
    plain = re.sub(r"Masked\([^)]*\)", "Field()", MODEL)
    with Api([person(number) for number in range(1, 9)] + BAD, size=40) as api:
        project.write(connector(api.url, model=plain, stream='unknown="keep", max_rejects="100%"'))
        project.run("pull", "shop")
    assert set(CANARIES) == {hit for hits in left(project).values() for hit in hits}


# In process


class Adr(BaseModel):
    city: Annotated[str, Masked()]
    zip: str


class Person(BaseModel):
    id: int
    name: Annotated[str, Masked]
    age: Annotated[int, Masked("remove")] | None = None
    home: Adr | str | None = None
    others: list[Adr] = []
    by: dict[str, Adr] = {}
    friends: list[Person] = []
    price: float = 0
    changed: AwareDatetime | None = None


def test_equal_values_stay_equal_within_an_output_and_not_between_two() -> None:
    one, other = b"1" * KEY, b"2" * KEY
    assert hashed("a", one) == hashed("a", one)
    assert 5 == len({hashed("a", one), hashed("b", one), hashed("a", other), hashed(5, one), hashed("5", one)})
    assert hashed({"a": 1, "b": 2}, one) == hashed({"b": 2, "a": 1}, one)


def test_what_has_not_the_shape_that_leads_to_a_mask_is_masked_as_a_whole() -> None:
    key = b"k" * KEY
    raw = {
        "id": 1,
        "home": [{"city": "c"}],
        "others": [{"city": "c", "zip": "1"}, "c", None],
        "by": {"x": {"city": "c", "zip": "1"}},
        "friends": [{"id": 2, "name": "f", "friends": [{"name": {"first": "g"}}]}],
        "age": 7,
        "name": None,
    }

    def mask(value: Any) -> str:
        return hashed(value, key)

    assert {
        "id": 1,
        "home": mask([{"city": "c"}]),
        "others": [{"city": mask("c"), "zip": "1"}, mask("c"), None],
        "by": {"x": {"city": mask("c"), "zip": "1"}},
        "friends": [{"id": 2, "name": mask("f"), "friends": [{"name": mask({"first": "g"})}]}],
        "name": None,
    } == masks(Person).applied(raw, key)[0]
    assert REMOVED == masks(Person).applied("a whole record", key)[0]


def test_a_union_that_may_be_plain_text_is_left_as_it_is() -> None:
    assert {"home": "plain"} == masks(Person).applied({"home": "plain"}, b"k" * KEY)[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conditional": True}, "conditional"),
        ({"replication_key": "name", "since": "since"}, "replication_key"),
        ({"primary_key": "age"}, "primary key"),
        ({"pagination": LastRecord(param="after", field="name")}, "next page"),
        ({"pagination": LastRecord(param="after", field="home.city")}, "next page"),
        ({"pagination": NextToken("items.0.name", param="after"), "records": "items"}, "next page"),
        ({"mask": ("id",)}, "names itself"),
        ({"mask": ("others[].zip",)}, "names itself"),
        ({"mask": ("a..b",)}, "not a path"),
        ({"mask": "phone"}, "mask"),
    ],
)
def test_what_is_kept_whole_elsewhere_cannot_be_masked(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Stream(**{"name": "people", "path": "/p", "model": Person, **fields})


def test_a_masked_primary_key_and_a_cursor_beside_the_masks_are_allowed() -> None:
    Stream(
        name="people", path="/p", model=Person, primary_key="name", pagination=LastRecord(param="after", field="uuid")
    )
    Stream(name="people", path="/p", model=Person, mask=("meta.phone", "tags[]"))


def test_names_within_objects_cannot_be_masked() -> None:
    class Odd(BaseModel):
        by: dict[Annotated[str, Masked()], int]

    with pytest.raises(ConfigError, match="cannot be masked"):
        Stream(name="odd", path="/o", model=Odd)


def test_a_bound_behind_a_mask_is_refused() -> None:
    class Odd(BaseModel):
        name: Annotated[str, Masked(), Field(max_length=20)]

    with pytest.raises(ConfigError, match="last word"):
        Stream(name="odd", path="/o", model=Odd)


def test_a_validator_without_a_key_judges_nothing_that_is_masked() -> None:
    with pytest.raises(SyncerError, match="no key"):
        Validator(Stream(name="people", path="/p", model=Person), lambda values: ())


class Item(BaseModel):
    id: int
    name: Annotated[str, Field(max_length=20), Masked()]
    price: float
    changed: AwareDatetime


class Loose(Item):
    name: Annotated[str | int, Masked()]  # type: ignore[assignment]
    price: float | str  # type: ignore[assignment]


def world(*rows: dict[str, Any]) -> World:
    return World([item(1), item(3), *rows])


def source(model: type[BaseModel] = Item, **fields: Any) -> Stream:
    return replace(stream("token"), model=model, **fields)


def replayed(out: Path, of: Stream, sink: str, *, dry_run: bool = False) -> Settled:
    target, done = make(sink, out, "shop", of), Settled(of.name, dry_run=dry_run)
    try:
        replay(of, target, stopped_clock(), done, home=out / "shop")
    finally:
        target.close()
    return done


def rows(out: Path, sink: str, of: Stream) -> list[dict[str, Any]]:
    if sink == "jsonl":
        return [json.loads(line) for line in (out / "shop" / "items.jsonl").read_bytes().splitlines()]
    with closing(sqlite3.connect(out / "shop" / "shop.db")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM items ORDER BY rowid")]


def rejects(out: Path, sink: str, of: Stream) -> list[dict[str, Any]]:
    return [json.loads(line) for line in make(sink, out, "shop", of).rejects()]


@pytest.mark.parametrize("sink", KINDS)
def test_a_reject_passes_with_the_mask_in_place_of_its_value(tmp_path: Path, sink: str) -> None:
    run(tmp_path, source(), sink, world({**item(4), "price": "4"}))
    (kept,) = rejects(tmp_path, sink, source())
    assert (["name"], 0) == (kept["masked"]["places"], kept["masked"]["faults"])
    assert is_mask(kept["record"]["name"])
    assert (0, 1) == ((done := replayed(tmp_path, source(), sink)).gone, done.failed.total())
    loose = source(create_price())
    assert (1, 0) == ((done := replayed(tmp_path, loose, sink)).gone, done.failed.total())
    assert kept["record"]["name"] == rows(tmp_path, sink, loose)[-1]["name"]


def create_price() -> type[BaseModel]:
    class Item(BaseModel):
        id: int
        name: Annotated[str, Field(max_length=20), Masked()]
        price: float | str
        changed: AwareDatetime

    return Item


def test_masks_of_every_kind_of_field_pass_when_a_reject_is_tried_again(tmp_path: Path) -> None:
    class Inner(BaseModel):
        at: Annotated[AwareDatetime, Masked()]
        home: Annotated[Adr, Masked()]

    class Item(BaseModel):
        id: int
        name: str
        inner: Inner | None
        several: Annotated[list[Inner], Masked()]
        each: list[Annotated[int, Masked()]]
        whole: Annotated[Inner, Masked("remove")]
        price: float
        changed: Annotated[AwareDatetime, Masked()]

    class Loose(Item):
        price: float | str  # type: ignore[assignment]

    home = {"city": "c", "zip": "1"}
    inner = {"at": "2026-01-31T12:00:00Z", "home": home}
    row = {**item(4), "inner": inner, "several": [inner], "each": [1, 2], "whole": inner}
    run(tmp_path, source(Item), "jsonl", World([row, {**row, "id": 5, "price": "5"}]))
    assert (1, 0) == ((done := replayed(tmp_path, source(Loose), "jsonl")).gone, done.failed.total())
    first, second = rows(tmp_path, "jsonl", source())
    assert {**first, "id": 5, "price": "5"} == second
    assert "whole" not in first


@pytest.mark.parametrize("sink", KINDS)
def test_a_reject_that_only_its_masked_value_could_make_good_stays(tmp_path: Path, sink: str) -> None:
    run(tmp_path, source(), sink, world({**item(4), "name": 4}, {**item(5), "name": "x" * 21}))
    before = rejects(tmp_path, sink, source())
    assert [1, 1] == [row["masked"]["faults"] for row in before]
    for model in (Item, Loose):
        done = replayed(tmp_path, source(model), sink)
        assert (0, 2, None) == (done.gone, done.failed.total(), done.error)
    assert before == rejects(tmp_path, sink, source())


@pytest.mark.parametrize("sink", KINDS)
def test_a_null_and_a_missing_field_can_be_judged_again(tmp_path: Path, sink: str) -> None:
    nameless = {name: value for name, value in item(5).items() if name != "name"}
    run(tmp_path, source(), sink, world({**item(4), "name": None}, nameless))

    class Item(BaseModel):
        id: int
        name: Annotated[str | None, Masked()] = None
        price: float
        changed: AwareDatetime

    assert (2, 0) == ((done := replayed(tmp_path, source(Item), sink)).gone, done.failed.total())


def test_what_the_models_code_says_is_not_shown_and_pydantics_own_words_are() -> None:
    class Telling(BaseModel):
        id: Annotated[int, Field(gt=5)]
        name: Annotated[str, Field(max_length=2), Masked()]
        price: float

        @field_validator("price")
        @classmethod
        def dear(cls, value: float, info: Any) -> float:
            raise ValueError(f"too dear for {info.data}")

        @model_validator(mode="before")
        @classmethod
        def first(cls, data: Any) -> Any:
            return data

    of = Stream(name="t", path="/t", model=Telling)
    raw = [{"id": 1, "name": "Canary", "price": 1.0}, {"id": 9, "name": 5, "price": 1.0}]
    page = Page(1, Request("/t"), "GET /t", raw, None, None, BEGAN, "")
    verdict = Validator(of, lambda values: (), key=b"k" * KEY).judge(page, 1, "2026-01-31T12:00:00.000Z")
    said = [[(r["path"], r["message"]) for r in json.loads(one.line)["reasons"]] for one in verdict.rejects]
    assert [
        [
            ("name", "The value is masked"),
            ("id", "Input should be greater than 5"),
            ("price", "Not shown: the model's own code may repeat what is masked"),
        ],
        [
            ("name", "Input should be a valid string"),
            ("price", "Not shown: the model's own code may repeat what is masked"),
        ],
    ] == said


@pytest.mark.parametrize("sink", KINDS)
def test_a_lost_key_is_named_and_only_a_restart_makes_another(tmp_path: Path, sink: str) -> None:
    of = source(primary_key="name")
    rows_ = [item(n) for n in (1, 3, 4)]
    run(tmp_path, of, sink, World(rows_))
    key = tmp_path / "shop" / ".syncer" / "mask.key"
    assert (KEY, 0o600) == (key.stat().st_size, key.stat().st_mode & 0o777)
    before = [row["name"] for row in rows(tmp_path, sink, of)]
    run(tmp_path, of, sink, World(rows_))
    assert before == [row["name"] for row in rows(tmp_path, sink, of)]
    content = key.read_bytes()
    key.unlink()
    for accept in (False, True):
        (done,) = run(tmp_path, of, sink, World(rows_), accept_changes=accept).streams
        assert isinstance(done.error, StateError)
        assert "mask.key is gone" in done.error.message
        assert not key.exists()
    with pytest.raises(StateError, match=r"mask\.key is gone"):
        replayed(tmp_path, of, sink)
    key.write_bytes(b"x" * KEY)
    (done,) = run(tmp_path, of, sink, World(rows_)).streams
    assert "another one" in str(done.error)
    key.write_bytes(content)
    assert 0 == run(tmp_path, of, sink, World(rows_)).exit_code
    key.unlink()
    assert 0 == run(tmp_path, of, sink, World(rows_), restart=True).exit_code
    assert not {*before} & {row["name"] for row in rows(tmp_path, sink, of)}


@pytest.mark.parametrize("sink", KINDS)
def test_a_stream_that_comes_to_mask_asks_first_and_masks_its_old_rejects_when_they_are_replayed(
    tmp_path: Path, sink: str
) -> None:
    class Plain(BaseModel):
        id: int
        name: str
        price: float
        changed: AwareDatetime

    of = source(Plain)
    run(tmp_path, of, sink, world({**item(4), "price": "4", "name": "Canary"}))
    now = source(Item)
    (done,) = run(tmp_path, now, sink, world()).streams
    assert "masked fields" in str(done.error)
    assert (0, 1) == ((settled := replayed(tmp_path, now, sink)).gone, settled.failed.total())
    (kept,) = rejects(tmp_path, sink, now)
    assert is_mask(kept["record"]["name"])


def test_fingerprints_of_records_are_made_with_the_key_of_the_output(tmp_path: Path) -> None:
    of = replace(stream("offset"), model=Item)
    marks = []
    for name in ("a", "b"):
        run(tmp_path / name, of, "jsonl", max_pages=1)
        found = make("jsonl", tmp_path / name, "shop", of).peek()
        assert found is not None
        marks.append({found.last, *found.tail})
    assert marks[0]
    assert set() == marks[0] & marks[1]


def test_the_masked_column_of_a_number_is_text(tmp_path: Path) -> None:
    class Item(BaseModel):
        id: int
        name: str
        price: Annotated[float, Masked()]
        changed: Annotated[AwareDatetime, Masked("remove")]

    run(tmp_path, source(Item), "sqlite", world())
    with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
        kinds = {name: kind for _, name, kind, *_ in connection.execute("PRAGMA table_info(items)")}
    assert ("TEXT", "TEXT") == (kinds["price"], kinds["changed"])
    assert [True] * 2 == [
        is_mask(row["price"]) and row["changed"] is None for row in rows(tmp_path, "sqlite", source())
    ]
