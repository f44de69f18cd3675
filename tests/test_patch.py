"""The change of a model's source that would take what was seen: what it is, and that nothing else is touched."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncer.clock import Clock
from syncer.config import load
from syncer.errors import ConfigError, SinkError
from syncer.page import Page, Request
from syncer.patch import Proposal, apply, propose, shown
from syncer.rewrite import quoted
from syncer.sinks import sink as make
from syncer.stream import Stream
from syncer.validate import Validator
from tests.api import Api, connector
from tests.command import CLEAN, Project
from tests.scripted import BEGINNING
from tests.world import Api as World
from tests.world import run, stopped_clock

HEAD = """\
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from syncer import Connector, EpochSeconds, NextToken, Stream


"""
TAIL = """

connector = Connector(
    name="shop",
    base_url="https://api.example.org/v1",
    streams=(
        Stream(
            name="items",
            path="/items",
            records="items",
            model=Item,
            pagination=NextToken("next", param="after", cursor="stable"),
            max_rejects="100%",
            MORE
        ),
    ),
)
"""


class Shop:
    """A connector of one's own, whose API has these records and was pulled once."""

    def __init__(self, path: Path, models: str, records: Sequence[Any], more: str = 'unknown="drop",') -> None:
        self.path, self.records = path, list(records)
        self.file = path / "connectors" / "shop.py"
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(HEAD + models + TAIL.replace("MORE", more), encoding="utf-8")
        self.pulls = 0
        self.pull()

    @property
    def stream(self) -> Stream:
        return load("shop", self.file).stream("items")

    @property
    def models(self) -> str:
        return self.file.read_text(encoding="utf-8").removeprefix(HEAD).partition("\n\nconnector = ")[0]

    def pull(self) -> None:
        """Once; every pull a second later."""
        self.pulls += 1
        still = stopped_clock()
        clock = Clock(
            now=lambda: still.now() + timedelta(seconds=self.pulls), monotonic=still.monotonic, sleep=still.sleep
        )
        run(self.path / "data", self.stream, "jsonl", World(self.records), clock=clock)

    def propose(self, sink: str = "jsonl") -> Proposal:
        stream = self.stream
        found = make(sink, self.path / "data", "shop", stream).peek()
        assert found is not None
        return propose(
            "shop", self.file, [shown(stream, found, lambda one: make(sink, self.path / "data", "shop", one))]
        )

    def rejected(self) -> list[Any]:
        """Which records the model as it stands refuses."""
        page = Page(1, Request(""), "", self.records, None, None, BEGINNING, "")
        found = Validator(self.stream, lambda values: ()).judge(page, 1, "now").rejects
        return [json.loads(one.line).get("record") for one in found]


def model(*lines: str, base: str = "BaseModel", name: str = "Item") -> str:
    return f"class {name}({base}):\n" + "".join(f"    {line}\n" for line in lines)


def item(**fields: Any) -> dict[str, Any]:
    return {"id": 1, **fields}


CASES = {
    "null": ("x: int", [item(x=None)], "x: int | None"),
    "absent": ("x: int", [item()], "x: int | None = None"),
    "null and absent": ("x: int", [item(), item(x=None)], "x: int | None = None"),
    "whole numbers no longer": ("x: int", [item(x=1.5)], "x: int | float"),
    "text": ("x: int", [item(x="a")], "x: int | str"),
    "all at once": (
        "x: int",
        [item(x=one) for one in (1.5, "a", True, None, [1], {"a": 1})] + [item()],
        "x: int | bool | float | str | dict[str, object] | list[object] | None = None",
    ),
    "None stays the last": ("x: int | None", [item(x="a")], "x: int | str | None"),
    "a default stays": ("x: int | None = 5", [item(x="a")], "x: int | str | None = 5"),
    "a comment stays": ("x: int  # pence", [item(x=None)], "x: int | None  # pence"),
    "Optional": ("x: Optional[int]", [item(x="a")], "x: Optional[int] | str"),
    "Union": ("x: Union[int, bool]", [item(x="a")], "x: Union[int, bool] | str"),
    "a name of its own": ("x: EpochSeconds", [item(x=None)], "x: EpochSeconds | None"),
    "a time in another form": (
        "x: AwareDatetime",
        [item(x="2026-01-01T00:00:00Z"), item(x="2026-01-01 00:00")],
        "x: AwareDatetime | str",
    ),
    "a day": ("x: date", [item(x="1.2.2026")], "x: date | str"),
    "a bound stays with its type": (
        "x: Annotated[int, Field(gt=0)]",
        [item(x="a")],
        "x: Annotated[int, Field(gt=0)] | str",
    ),
    "a bound and null": ("x: int = Field(gt=0)", [item(x=None)], "x: int | None = Field(gt=0)"),
    "Field and absent": ("x: int = Field(gt=0)", [item()], "x: int | None = Field(default=None, gt=0)"),
    "Field without arguments": ("x: int = Field()", [item()], "x: int | None = Field(default=None)"),
    "Field with dots": ('x: int = Field(..., title="X")', [item()], 'x: int | None = Field(None, title="X")'),
    "Field with a default of dots": (
        'x: int = Field(title="X", default=...)',
        [item()],
        'x: int | None = Field(title="X", default=None)',
    ),
    "an alias": (
        'x: int = Field(alias="@x")',
        [{"id": 1, "@x": None}, {"id": 2}],
        'x: int | None = Field(default=None, alias="@x")',
    ),
    "an alias within the type": (
        'x: Annotated[int, Field(alias="@x")]',
        [{"id": 1, "@x": "a"}, {"id": 2}],
        'x: Annotated[int | str | None, Field(alias="@x")] = None',
    ),
    "elements of a list": ("x: list[int]", [item(x=[1, "a"])], "x: list[int | str]"),
    "elements of lists of lists": ("x: list[list[int]]", [item(x=[[1, None]])], "x: list[list[int | None]]"),
    "elements of a list that may be null": (
        "x: list[int] | None",
        [item(x=["a"])],
        "x: list[int | str] | None",
    ),
    "elements of a list in Optional": ("x: Optional[list[int]]", [item(x=["a"])], "x: Optional[list[int | str]]"),
    "elements of a bounded list": (
        "x: Annotated[list[int], Field(min_length=1)]",
        [item(x=["a"])],
        "x: Annotated[list[int | str], Field(min_length=1)]",
    ),
    "a tuple": ("x: tuple[int, ...]", [item(x=["a"])], "x: tuple[int | str, ...]"),
    "no list": ("x: list[int]", [item(x={"a": 1})], "x: list[int] | dict[str, object]"),
    "values of an object": ("x: dict[str, int]", [item(x={"a": None})], "x: dict[str, int | None]"),
    "a choice": ('x: Literal["a", "b"]', [item(x="c"), item(x="d")], 'x: Literal["a", "b", "c", "d"]'),
    "a choice of numbers": ("x: Literal[1]", [item(x=-2), item(x="a")], 'x: Literal[1, -2, "a"]'),
    "a choice or null": ('x: Literal["a"] | None = None', [item(x="c")], 'x: Literal["a", "c"] | None = None'),
    "a choice that is null": ('x: Literal["a"]', [item(x=None)], 'x: Literal["a"] | None'),
    "a choice that is no choice": ('x: Literal["a"]', [item(x=[1])], 'x: Literal["a"] | list[object]'),
    "choices in a list": ('x: list[Literal["a"]]', [item(x=["a", "c"])], 'x: list[Literal["a", "c"]]'),
    "choices in quotes": ("x: \"Literal['a']\"", [item(x="c")], 'x: "Literal[\'a\', \\"c\\"]"'),
    "a type in quotes": ('x: "int"', [item(x=None)], 'x: "int | None"'),
    "elements in quotes": ('x: list["int"]', [item(x=[None])], 'x: list["int | None"]'),
    "a new field": ("x: int", [item(x=1, y="a")], "x: int\n    y: str | None = None"),
    "a new list": ("x: int", [item(x=1, y=["a", 1])], "x: int\n    y: list[int | str] | None = None"),
    "a new object": ("x: int", [item(x=1, y={"a": 1})], "x: int\n    y: dict[str, object] | None = None"),
    "a new field of two kinds": (
        "x: int",
        [item(x=1, y=1.5), item(x=1, y=2), item(x=1, y="a")],
        "x: int\n    y: float | str | None = None",
    ),
    "a new field that is always null": ("x: int", [item(x=1, y=None)], "x: int\n    y: object = None"),
    "a new list that is empty": ("x: int", [item(x=1, y=[])], "x: int\n    y: list[object] | None = None"),
    "a new field before code": (
        "x: int\n\n    def twice(self) -> int:\n        return 2 * self.x",
        [item(x=1, y=1)],
        "x: int\n    y: int | None = None\n\n    def twice(self) -> int:\n        return 2 * self.x",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_drift_has_its_change_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    before, records, after = CASES[name]
    shop = Shop(tmp_path, model("id: int", before), records)
    refused = shop.rejected()
    found = shop.propose()

    assert (len(refused), 0, []) == (found.passing, found.left.total(), found.notes)
    apply(found)
    assert model("id: int", after) == shop.models
    assert [] == shop.rejected()
    assert shop.propose().diff == ""
    _formatted(shop.file)


def _formatted(file: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("ruff"), "format", "--check", "--no-cache", file],
        cwd=file.parent,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout.decode()


NESTED = (
    model("street: str", "zip: int", name="Address")
    + "\n\n"
    + model("sku: str", name="Line")
    + "\n\n"
    + model("id: int", "address: Address | None = None", "lines: list[Line] = []", "people: dict[str, Address] = {}")
)


class TestPlaces:
    @pytest.mark.parametrize(
        ("fields", "old", "new"),
        [
            ({"address": {"street": None, "zip": 1}}, "street: str", "street: str | None"),
            ({"address": {"street": "s"}}, "zip: int", "zip: int | None = None"),
            ({"address": {"street": "s", "zip": 1, "x": 1}}, "zip: int", "zip: int\n    x: int | None = None"),
            ({"address": "s"}, "address: Address | None", "address: Address | str | None"),
            ({"lines": [{"sku": "a"}, {"sku": 1}]}, "sku: str", "sku: int | str"),
            ({"lines": [{"sku": "a"}, None]}, "lines: list[Line]", "lines: list[Line | None]"),
            ({"people": {"a": {"street": 1, "zip": 1}}}, "street: str", "street: str | int"),
            ({"people": {"a": None}}, "people: dict[str, Address]", "people: dict[str, Address | None]"),
        ],
    )
    def test_what_is_nested_is_changed_where_it_is_declared(
        self, tmp_path: Path, fields: dict[str, Any], old: str, new: str
    ) -> None:
        shop = Shop(tmp_path, NESTED, [item(**fields)])
        apply(shop.propose())
        new = new.replace("sku: int | str", "sku: str | int")
        assert NESTED.replace(f" {old}", f" {new}") == shop.models
        assert ([], "") == (shop.rejected(), shop.propose().diff)

    def test_the_choices_of_a_type_with_a_name_are_changed_where_it_has_it(self, tmp_path: Path) -> None:
        shop = Shop(
            tmp_path, 'State = Literal["a"]\n\n\n' + model("x: State", "y: State | None"), [{"x": "b", "y": "c"}]
        )
        apply(shop.propose())
        assert 'State = Literal["a", "b", "c"]\n\n\n' + model("x: State", "y: State | None") == shop.models

    @pytest.mark.parametrize(
        ("base", "member", "value", "added"),
        [
            ("StrEnum", 'RED = "red"', "dark blue", 'DARK_BLUE = "dark blue"'),
            ("str, Enum", 'red = "red"', "blue", 'blue = "blue"'),
            ("IntEnum", "ONE = 1", 2, "FIELD_2 = 2"),
            ("Enum", 'RED = "red"', "1st\n", 'FIELD_1ST = "1st\\n"'),
            ("Enum", 'RED = "red"', "red!", 'RED_2 = "red!"'),
        ],
    )
    def test_an_enum_gets_a_member(self, tmp_path: Path, base: str, member: str, value: Any, added: str) -> None:
        declared = f"class Colour({base}):\n    {member}\n\n\n"
        shop = Shop(tmp_path, declared + model("x: Colour"), [{"x": value}])
        apply(shop.propose())
        assert f"class Colour({base}):\n    {member}\n    {added}\n\n\n" + model("x: Colour") == shop.models
        assert ([], "") == (shop.rejected(), shop.propose().diff)

    def test_a_field_is_changed_in_the_class_that_says_what_it_is(self, tmp_path: Path) -> None:
        models = model("x: int", name="Base") + "\n\n" + model("y: int", base="Base")
        shop = Shop(tmp_path, models, [{"x": None, "y": 1, "z": True}])
        apply(shop.propose())
        expected = model("x: int | None", name="Base") + "\n\n" + model("y: int", "z: bool | None = None", base="Base")
        assert expected == shop.models

    def test_a_class_within_a_class_and_one_that_holds_itself(self, tmp_path: Path) -> None:
        models = "class Item(BaseModel):\n    class Inner(BaseModel):\n        x: int\n\n    inner: Inner\n"
        models += '    children: list["Item"] = []\n'
        records = [{"inner": {"x": None}, "children": [{"inner": {"x": 1}, "y": 1, "children": [{}]}]}]
        shop = Shop(tmp_path, models, records)
        apply(shop.propose())
        assert (
            models.replace("x: int", "x: int | None")
            .replace("inner: Inner", "inner: Inner | None = None")
            .replace('"Item"] = []', '"Item"] = []\n    y: int | None = None')
            == shop.models
        )
        assert ([], "") == (shop.rejected(), shop.propose().diff)

    def test_a_model_that_forbids_other_fields_gets_them(self, tmp_path: Path) -> None:
        models = model('model_config = ConfigDict(extra="forbid")', "id: int")
        shop = Shop(tmp_path, models, [item(x=1)])
        apply(shop.propose())
        assert models + "    x: int | None = None\n" == shop.models
        assert ([], "") == (shop.rejected(), shop.propose().diff)

    def test_a_stream_that_rejects_unknown_fields_is_told_of_them(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, model("id: int", "inner: Any = None"), [item(x=1), item()], 'unknown="reject",')
        apply(shop.propose())
        assert model("id: int", "inner: Any = None", "x: int | None = None") == shop.models

    def test_what_one_fault_hides_is_mended_too(self, tmp_path: Path) -> None:
        """A record without its key is not asked for its fields that nobody knows."""
        models = model("id: int", "x: int")
        shop = Shop(tmp_path, models, [item(x="a", y=1)], 'unknown="reject",')
        apply(shop.propose())
        assert model("id: int", "x: int | str", "y: int | None = None") == shop.models
        assert ([], "") == (shop.rejected(), shop.propose().diff)

    def test_a_run_that_was_compared_proposes_what_came_since_and_not_what_was_left_out_on_purpose(
        self, tmp_path: Path
    ) -> None:
        shop = Shop(tmp_path, model("id: int"), [item(left_out=1)])
        assert "+    left_out: int | None = None\n" in shop.propose().diff
        shop.pull()
        assert shop.propose().diff == ""
        shop.records = [item(left_out=1, gift="x")]
        shop.pull()
        for _ in range(2):
            found = shop.propose().diff
            assert (True, False) == ("+    gift: str | None = None\n" in found, "+    left_out" in found)
            shop.pull()

    def test_the_sink_has_its_say(self, tmp_path: Path) -> None:
        """SQLite cannot have two columns whose names differ by case only."""
        shop = Shop(tmp_path, model("id: int"), [item(ID=1, y=1)])
        run(tmp_path / "data", shop.stream, "sqlite", World(shop.records))
        assert "+    ID: int | None = None\n" in shop.propose().diff
        found = shop.propose("sqlite")
        assert "+    y: int | None = None\n" in found.diff
        assert "+    ID" not in found.diff
        assert ["Item.ID: that does not go with the rest of the model; change it by hand"] == found.notes


HOSTILE = (
    *('"', "'", "\\", "a\nb", "{x}", "__class__", "_private", "class", "None", "a.b", "a[]", " ", "\x1b[31m"),
    *("\u202e", "\0", "ü", "名前", "ﬁ", "0", "1st", "model_config", "model_dump", "json", "copy", "self", "int", "str"),
    *('"""', "''\"", "%s", "#", "pass", "match", "type", "x = 1", "Field", "Item", "date", "id_", "id", "None_"),
)


class TestHostile:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_new_field_of_any_name_is_one_that_python_can_spell(self, tmp_path: Path, name: str) -> None:
        shop = Shop(tmp_path, model("ID: int", "day: date | None = None"), [{"ID": 1, name: "a"}])
        found = shop.propose()
        apply(found)
        (field,) = [info for info in shop.stream.model.model_fields.items() if info[0] not in ("ID", "day")]
        assert name in (field[0] if field[1].alias is None else field[1].alias,)
        assert ([], "", []) == (shop.rejected(), shop.propose().diff, found.notes)
        assert {"ID", "day", field[0]} == set(shop.stream.model.model_fields)
        _formatted(shop.file)

    @pytest.mark.parametrize("value", HOSTILE)
    def test_a_new_choice_of_any_value_is_written_so_that_it_is_this_one(self, tmp_path: Path, value: str) -> None:
        shop = Shop(tmp_path, model('x: Literal["a"]'), [{"x": value}])
        apply(shop.propose())
        assert ([], "") == (shop.rejected(), shop.propose().diff)
        _formatted(shop.file)

    @pytest.mark.parametrize("value", HOSTILE)
    def test_and_so_is_a_member_of_an_enum(self, tmp_path: Path, value: str) -> None:
        shop = Shop(tmp_path, "class Kind(Enum):\n    A = 0\n    B = 'b'\n\n\n" + model("x: Kind"), [{"x": value}])
        apply(shop.propose())
        assert ([], "") == (shop.rejected(), shop.propose().diff)

    def test_of_ten_thousand_new_fields_so_many_are_proposed_and_the_rest_is_said(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, model("id: int"), [item(**{f"f{number}": 1 for number in range(10_000)})])
        found = shop.propose()
        assert (50, ["Item has more than 50 new fields; are their names data?"]) == (
            found.diff.count("\n+    f"),
            found.notes,
        )

    def test_so_many_new_choices_are_no_choices(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, model('x: Literal["a"]'), [{"x": f"v{number}"} for number in range(60)])
        apply(shop.propose())
        assert model('x: Literal["a"] | str') == shop.models

    @given(st.text())
    def test_any_text_is_quoted_as_itself(self, text: str) -> None:
        assert text == eval(quoted(text))  # what it is for
        assert quoted(text).isprintable()

    def test_two_new_fields_that_would_be_spelt_alike_have_two_names(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, model("id: int"), [item(**{"a-b": 1, "a b": 2, "a.b": 3})])
        apply(shop.propose())
        assert ["id", "a_b", "a_b_", "a_b_2"] == list(shop.stream.model.model_fields)


class TestByHand:
    """What is left to the author is said, and does not keep the rest from being proposed."""

    @pytest.mark.parametrize(
        ("models", "records", "note"),
        [
            (
                model("id: int", "x: int = Field(gt=0)"),
                [item(x="a"), item(x=None)],
                "Item.x: that does not go with the rest",
            ),
            ("class Item(BaseModel): id: int\n", [{"id": None}], "Item.id: the class Item stands on one line"),
            (model("x: date", "y: date"), [{"y": "2026-01-01"}], ""),
            (
                model("date: date", "y: date"),
                [{"y": "2026-01-01"}],
                "Item.date: a default of date would hide the type of that name",
            ),
            (
                'Tags = list[Literal["a"]]\n\n\n' + model("x: Tags"),
                [{"x": ["b"]}],
                "Item.x: what is in it is not written in the type Tags",
            ),
        ],
    )
    def test_it_is_said(self, tmp_path: Path, models: str, records: list[Any], note: str) -> None:
        shop = Shop(tmp_path, models, records)
        found = shop.propose()
        assert [bool(note)] * bool(note) == [one.startswith(note) for one in found.notes]

    def test_the_rest_is_proposed(self, tmp_path: Path) -> None:
        models = model("id: int", "x: int = Field(gt=0)", "y: int")
        shop = Shop(tmp_path, models, [item(x="a", y=1), item(x=None, y=None), item(x=-1, y=1)])
        found = shop.propose()
        apply(found)
        assert model("id: int", "x: int | None = Field(gt=0)", "y: int | None") == shop.models
        assert (1, {"x: int_type": 1, "x: greater_than": 1}) == (found.passing, dict(found.left))

    def test_what_is_refused_for_a_bound_or_a_missing_key_stays_refused(self, tmp_path: Path) -> None:
        records = [item(x=-1), {"x": 1}, {"id": None, "x": 1}, "text", item(x=None)]
        models = model("id: int", "x: Annotated[int, Field(gt=0)]")
        shop = Shop(tmp_path, models, records, 'primary_key="id",')
        found = shop.propose()
        assert (1, {"x: greater_than": 1, "id: missing": 1, "id: int_type": 1, "(record): not_an_object": 1}) == (
            found.passing,
            dict(found.left),
        )
        apply(found)
        assert models.replace("Field(gt=0)]", "Field(gt=0)] | None") == shop.models

    def test_a_model_of_another_module_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "shopmodels.py").write_text(HEAD + model("x: int", name="Inner"))
        monkeypatch.syspath_prepend(tmp_path)
        models = "from shopmodels import Inner\n\n\n" + model("id: int", "inner: Inner")
        shop = Shop(tmp_path, models, [{"id": None, "inner": {"x": None}}])
        found = shop.propose()
        assert ["Inner is declared in shopmodels: change it there, by hand"] == found.notes
        apply(found)
        assert models.replace("id: int", "id: int | None") == shop.models

    def test_code_that_means_something_else_by_a_name_is_left_alone(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, "str = bytes\n\n\n" + model("x: int"), [{"x": "a"}])
        found = shop.propose()
        assert ("", ["Item.x: str means something else in this file; change it by hand"]) == (found.diff, found.notes)

    def test_whoever_made_a_name_of_Field_of_their_own_adds_the_alias_by_hand(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, "Field = dict\n\n\n" + model("id: int"), [item(**{"a-b": 1, "c": 1})])
        found = shop.propose()
        assert ["Item.a-b: Field means something else in this file; change it by hand"] == found.notes
        assert "+    c: int | None = None\n" in found.diff


class TestImport:
    def test_Field_is_imported_where_it_is_not(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, model("id: int"), [item(**{"a-b": 1})])
        shop.file.write_text(shop.file.read_text().replace("ConfigDict, Field\n", "ConfigDict\n"))
        apply(shop.propose())
        assert "from pydantic import AwareDatetime, BaseModel, ConfigDict, Field\n" in shop.file.read_text()
        assert '    a_b: int | None = Field(default=None, alias="a-b")\n' in shop.models
        assert ([], "") == (shop.rejected(), shop.propose().diff)

    def test_a_model_that_makes_its_aliases_has_the_new_one_written_out(self, tmp_path: Path) -> None:
        models = model("model_config = ConfigDict(alias_generator=str.upper)", "id: int")
        shop = Shop(tmp_path, models, [{"ID": 1, "gift": 1}])
        apply(shop.propose())
        assert models + '    gift: int | None = Field(default=None, alias="gift")\n' == shop.models


class TestFile:
    def shop(self, path: Path) -> Shop:
        return Shop(path, model("id: int", "x: int"), [item(x=None)])

    def test_nothing_but_the_lines_of_the_change_is_touched(self, tmp_path: Path) -> None:
        shop = self.shop(tmp_path)
        odd = shop.file.read_text().replace("class Item", "# a  comment  \nodd   =  ( 1,2 )  # kept\n\n\nclass   Item")
        shop.file.write_bytes(odd.replace("\n", "\r\n").encode())
        apply(shop.propose())
        assert odd.replace("x: int", "x: int | None").replace("\n", "\r\n").encode() == shop.file.read_bytes()

    def test_a_long_line_is_wrapped_as_the_formatter_does(self, tmp_path: Path) -> None:
        values = [f"state number {number}" for number in range(4)]
        shop = Shop(tmp_path, model(f"x: Literal[{', '.join(map(quoted, values))}]"), [{"x": "one more state"}])
        apply(shop.propose())
        assert '        "one more state",\n    ]\n' in shop.models
        _formatted(shop.file)

    def test_without_the_formatter_the_change_is_the_same_but_for_its_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = self.shop(tmp_path)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        monkeypatch.setenv("PATH", "/nowhere")
        apply(shop.propose())
        assert model("id: int", "x: int | None") == shop.models

    def test_the_file_keeps_its_mode_and_a_link_stays_one(self, tmp_path: Path) -> None:
        shop = self.shop(tmp_path)
        shop.file.chmod(0o640)
        apply(shop.propose())
        assert 0o640 == stat.S_IMODE(shop.file.stat().st_mode)
        assert ["shop.py"] == [path.name for path in shop.file.parent.iterdir()]

    def test_a_file_that_changes_meanwhile_is_not_written(self, tmp_path: Path) -> None:
        shop = self.shop(tmp_path)
        found = shop.propose()
        shop.file.write_text(shop.file.read_text() + "# mine\n")
        with pytest.raises(ConfigError, match="has changed meanwhile; nothing was written"):
            apply(found)
        assert shop.file.read_text().endswith("# mine\n")

    def test_a_class_that_is_not_as_it_was_loaded_is_not_changed(self, tmp_path: Path) -> None:
        shop = self.shop(tmp_path)
        stream = shop.stream
        saved = make("jsonl", tmp_path / "data", "shop", stream).peek()
        assert saved is not None
        shop.file.write_text(shop.file.read_text().replace("x: int", "x: int | bool"))
        with pytest.raises(ConfigError, match="is not as it was when it was loaded"):
            propose(
                "shop", shop.file, [shown(stream, saved, lambda one: make("jsonl", tmp_path / "data", "shop", one))]
            )

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
    def test_a_directory_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        shop = self.shop(tmp_path)
        found = shop.propose()
        shop.file.parent.chmod(0o500)
        with pytest.raises(SinkError, match="cannot be written"):
            apply(found)
        shop.file.parent.chmod(0o700)

    def test_the_patch_is_one_that_the_command_of_that_name_takes(self, tmp_path: Path) -> None:
        shop = self.shop(tmp_path)
        shop.file.write_text(shop.file.read_text().rstrip("\n"))  # no newline at its end
        found = shop.propose()
        assert found.diff.startswith(f"--- {found.file}\n+++ {found.file}\n@@ ")
        assert found.after == _applied(found.before, found.diff)


def _applied(before: bytes, diff: str) -> bytes:
    """What git makes of a diff."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "file.py")
        file.write_bytes(before)
        text = re.sub(r"(?m)^(---|\+\+\+) .*$", r"\1 file.py", diff)
        subprocess.run(["git", "apply", "-p0", "-"], cwd=directory, input=text.encode(), check=True, env=CLEAN)
        return file.read_bytes()


FIELDS = ("a", "b-c", "class", "d")
PLAIN = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, -2.25, "a", "b", "lost", "2026-01-01", ""])
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "street", "sku"]), inner, max_size=2)
    ),
    max_leaves=4,
)
TYPES = st.sampled_from(
    [
        *("int", "str | None", "float", "bool", "date", "Decimal", 'Literal["a", "b"]', "State", "Kind", "list[int]"),
        *("list[Line]", "Line", "Line | None", "dict[str, int]", "dict[str, Line]", "list[list[str]]", "int | date"),
        *("Annotated[str, Field(min_length=1)]", "Any", "tuple[int, ...]", "Optional[Literal[1]]", "list[State]"),
    ]
)
SHAPES = """\
State = Literal["a", "b"]


class Kind(Enum):
    A = "a"


class Line(BaseModel):
    sku: str


"""


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    types=st.fixed_dictionaries({"a": TYPES, "d": TYPES}),
    default=st.booleans(),
    records=st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), min_size=1, max_size=6),
)
def test_a_patched_model_takes_every_record_that_was_seen_and_every_one_that_it_took_before(
    tmp_path_factory: pytest.TempPathFactory, types: dict[str, str], default: bool, records: list[Any]
) -> None:
    """But for those refused for a bound, which are for the author to decide. A second patch is empty."""
    lines = [f"a: {types['a']}", f"d: {types['d']}" + (" | None = None" if default else "")]
    shop = Shop(tmp_path_factory.mktemp("shop"), SHAPES + model(*lines), records)
    before = shop.rejected()
    found = shop.propose()
    apply(found)
    after = shop.rejected()

    assert all(record in before for record in after)
    assert all("too_short" in cause for cause in found.left), (found.left, found.diff)
    assert (len(before) - len(after), len(after), []) == (found.passing, found.left.total(), list(found.notes))
    again = shop.propose()
    assert "" == again.diff
    _formatted(shop.file)


class TestCommand:
    SHOP = connector("{url}", model="class Item(BaseModel):\n    id: int\n    name: str\n", stream='max_rejects="100%"')

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        project = Project(tmp_path)
        with Api(records=[{"id": 1, "name": "a"}, {"id": 2, "name": None}]) as api:
            project.write(self.SHOP.replace("{url}", api.url))
            assert 0 == project.run("pull", "shop").code
        return project

    def test_apply_writes_the_file_and_says_what_to_type_next(self, project: Project) -> None:
        file = project.path / "connectors" / "shop.py"
        before = file.read_text()
        done = project.run("drift", "shop", "--apply", "--yes")
        assert done.code == 0
        assert before.replace("name: str", "name: str | None") == file.read_text()
        assert done.stdout.endswith(f"{file} is written\nnext     syncer rejects replay shop\n")
        again = project.run("drift", "shop", "--apply", "--yes", "--json").json()
        assert ("", False, 1) == (again["patch"]["diff"], again["applied"], again["patch"]["rejects_passing"])

    def test_without_an_answer_nothing_is_written(self, project: Project) -> None:
        before = (project.path / "connectors" / "shop.py").read_text()
        done = project.run("drift", "shop", "--apply")
        assert (2, "error: this changes a file and nobody is there to ask\n  → add --yes\n") == (done.code, done.stderr)
        assert before == (project.path / "connectors" / "shop.py").read_text()

    def test_the_options_of_the_output_are_in_the_next_command(self, project: Project) -> None:
        (project.path / "connectors").rename(project.path / "mine")
        project.data.rename(project.path / "elsewhere")
        done = project.run("drift", "shop", "items", "--out", "elsewhere", "--connectors", "mine")
        assert done.stdout.endswith("next     syncer drift shop items --connectors mine --out elsewhere --apply\n")

    def test_a_connector_that_came_with_syncer_is_not_changed_but_how_to_copy_it_is_said(
        self, project: Project
    ) -> None:
        import syncer

        home = Path(syncer.__file__).parents[1] / "connectors" / "datasette.py"
        before = home.read_bytes()
        rows = {"ok": True, "next": None, "rows": [{"a": 1}, "odd"], "filtered_table_rows_count": 2}
        with Api(records=2) as api:
            api.misbehave = lambda asked: reply(rows)
            given = ["--set", f"url={api.url}", "--set", "database=d", "--set", "table=t"]
            pulled = project.run("pull", "datasette", *given, "--max-rejects", "100%")
        done = project.run("drift", "datasette", "--apply", "--yes")
        assert pulled.code in (0, 2, 4)
        assert before == home.read_bytes()
        assert "Traceback" not in done.said

    def test_without_libcst_the_drift_is_shown_and_applying_says_what_to_install(self, project: Project) -> None:
        (project.path / "libcst.py").write_text("raise ModuleNotFoundError('gone', name='libcst')\n")
        env = {"PYTHONPATH": f"{project.path}{os.pathsep}{CLEAN['PYTHONPATH']}"}
        looked = project.run("drift", "shop", env=env)
        wrote = project.run("drift", "shop", "--apply", "--yes", env=env)
        assert (0, 2) == (looked.code, wrote.code)
        assert "  name is null; the model takes str\n" in looked.stdout
        assert looked.stdout.endswith('syncer needs libcst\n  → pip install "syncer[patch]"\n')
        assert wrote.stderr.endswith('  → pip install "syncer[patch]"\n')

    def test_from_the_alert_to_no_rejects_every_command_names_the_next(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        with Api(records=[{"id": number, "name": None if number > 2 else "a"} for number in range(1, 6)]) as api:
            project.write(self.SHOP.replace("{url}", api.url).replace('max_rejects="100%"', 'max_rejects="2"'))
            pulled = project.run("pull", "shop")
        assert 3 == pulled.code
        assert "see `syncer rejects shop items`" in pulled.said
        assert "as `syncer drift shop items` proposes, and type `syncer rejects replay shop items`" in pulled.said
        assert "how to mend the model: syncer drift shop items\n" in project.run("rejects", "shop", "items").stdout
        drifted = project.run("drift", "shop", "items")
        assert (0, "next     syncer drift shop items --apply") == (drifted.code, drifted.stdout.splitlines()[-1])
        applied = project.run("drift", "shop", "items", "--apply", "--yes")
        assert "next     syncer rejects replay shop items" == applied.stdout.splitlines()[-1]
        assert 0 == project.run("rejects", "replay", "shop", "items").code
        assert [] == project.run("rejects", "shop", "--json").json()
        assert 5 == len(project.output().splitlines())
        calm = project.run("drift", "shop", "items")
        assert "--apply" not in calm.said

    def test_the_change_is_shown_before_it_is_asked_for_also_beside_json(self, project: Project) -> None:
        for more, where in (((), "stdout"), (("--json",), "stderr")):
            done = project.run("drift", "shop", "--apply", *more)
            assert 2 == done.code
            assert "+    name: str | None\n" in getattr(done, where)

    def test_a_connector_among_installed_packages_is_not_changed(self, project: Project) -> None:
        home = project.path / "site-packages" / "shops"
        home.parent.mkdir()
        (project.path / "connectors").rename(home)
        before = (home / "shop.py").read_bytes()
        done = project.run("drift", "shop", "--connectors", str(home), "--apply", "--yes")
        assert (2, before) == (done.code, (home / "shop.py").read_bytes())
        assert done.stderr.startswith("error: shop is not a connector of your own\n")

    def test_a_secret_is_in_no_diff(self, tmp_path: Path) -> None:
        secret, project = "s3cr3t-of-the-shop", Project(tmp_path)
        model = 'class Item(BaseModel):\n    id: int\n    name: Literal["a"]\n'
        text = connector("{url}", model=model, stream='max_rejects="100%"', more='auth=Bearer(env="SHOP_TOKEN")')
        with Api(records=[{"id": 1, "name": secret}, {"id": 2, "name": "b"}, {"id": 3, "name": "a", secret: 1}]) as api:
            project.write(f"from typing import Literal\n\nfrom syncer import Bearer\n{text}".replace("{url}", api.url))
            assert 0 == project.run("pull", "shop", env={"SHOP_TOKEN": secret}).code
        shown = [project.run("drift", "shop", *more, env={"SHOP_TOKEN": secret}) for more in ((), ("--json",))]
        assert [0, 0] == [done.code for done in shown]
        assert '+    name: Literal["a", "b"] | str\n' in shown[0].stdout
        assert secret not in "".join(done.said for done in shown)

    def test_damaged_rejects_are_named(self, project: Project) -> None:
        (project.data / "shop" / "items.rejects.jsonl").write_bytes(b"")
        done = project.run("drift", "shop")
        assert 8 == done.code


def reply(body: Any) -> Any:
    from tests.api import Reply

    return Reply(body=json.dumps(body).encode())
