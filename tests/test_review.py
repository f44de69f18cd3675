"""Looking at rejects: grouped by cause, chosen, shown whole, as JSON and as CSV, harmless and in little memory."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer import review
from syncer.checkpoint import Counts
from syncer.cli.given import moment
from syncer.config import connector as find
from syncer.decode import encode
from syncer.errors import ConfigError
from syncer.exhibit import grouped, whole
from syncer.page import Request, digest
from syncer.review import Before, Found, Wanted, before, causes, identity, locate, rows
from syncer.sinks import KINDS
from syncer.sinks import sink as make
from syncer.stream import judging
from syncer.terminal import _UNSAFE
from syncer.validate import Reject, place
from tests import world
from tests.api import Api, connector, record
from tests.command import CLEAN, Project, ended, until

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def found(
    path: str = "name",
    kind: str = "string_type",
    *,
    raw: Any = None,
    run: int = 1,
    page: int = 1,
    index: int = 0,
    at: str = "2026-01-31T12:00:00.000Z",
    message: str = "Input should be a valid string",
    stream: str = "items",
) -> Found:
    row = {
        "v": 1,
        "reasons": [{"path": path, "type": kind, "message": message}],
        "record": {"id": index, "name": index} if raw is None else raw,
        "page": page,
        "index": index,
        "run": run,
        "request": "GET https://api.example.org/v1/items",
        "cursor": {"url": "/items"},
        "model": "Item 1335fe5c5815dfaf",
        "at": at,
    }
    return Found(stream, encode(row), row)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# Where a fault is


RECORD = {"id": 1, "lines": [{"price": "x"}, {"a.b": {"c[0]": [None]}}], "a": {"b": 2}, "": {"": 3}}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("id", ("id", 1, "")),
        ("lines[0].price", ("lines[0].price", "x", "")),
        ("lines[1].a.b.c[0][0]", ("lines[1].a.b.c[0][0]", None, "")),
        ("a.b", ("a.b", 2, "")),
        ("id.int", ("id", 1, "int")),
        ("lines[0].sku", ("lines[0]", {"price": "x"}, "sku")),
        ("lines[7].price", ("lines", RECORD["lines"], "[7].price")),
        ("missing", ("", RECORD, "missing")),
        ("", ("", RECORD, "")),
    ],
)
def test_a_path_leads_to_its_place_and_says_what_of_it_leads_nowhere(path: str, expected: tuple[Any, ...]) -> None:
    assert expected == locate(RECORD, path)


keys = st.text(st.sampled_from("ab.[]0"), max_size=3)
trees = st.recursive(
    st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(one for key, item in inner for one in places(item, (*at, key)))]


@given(trees, st.data())
def test_no_name_in_a_record_stops_the_look_for_a_fault(record: Any, data: st.DataObject) -> None:
    """Whatever the names are, the answer is a part of the path, and what is left is the rest of it."""
    path = place(data.draw(st.sampled_from(places(record))))
    at, _, rest = locate(record, path)

    assert path.startswith(at)
    assert path.endswith(rest)


# Causes


def test_rejects_are_grouped_by_their_faults_without_the_indices() -> None:
    one = found("lines[0].price", "decimal_parsing", page=1)
    other = found("lines[12].price", "decimal_parsing", page=2, at="2026-01-31T13:00:00.000Z", run=2)
    groups = causes([one, found(page=1, index=3), found(page=1, index=4), other, found(page=2, index=5)], {})

    assert [("name: string_type", 3, 0.6, 2), ("lines[].price: decimal_parsing", 2, 0.4, 2)] == [
        (group.cause, group.count, group.share, group.pages) for group in groups
    ]
    assert ("2026-01-31T12:00:00.000Z", "2026-01-31T13:00:00.000Z", (1, 2)) == (
        groups[1].first,
        groups[1].last,
        groups[1].runs,
    )


def test_samples_are_chosen_by_the_value_at_the_fault_and_the_values_are_counted() -> None:
    values = ["lost", "lost", None, "gone", "lost", *range(20)]
    (group,) = causes([found(raw={"name": value}, index=index) for index, value in enumerate(values)], {})

    assert ["lost", None, "gone"] == [sample.row["record"]["name"] for sample in group.samples]
    assert {'"lost"': 3, "null": 1} == dict(list(group.values.items())[:2])
    assert ("…", 13) == list(group.values.items())[-1]
    assert len(group.values) == 11


def test_more_causes_than_anybody_reads_are_counted_together() -> None:
    groups = causes((found(f"extra.{number}") for number in range(2000)), {})

    assert len(groups) == 501
    assert (review.OTHERS, 1500) == (groups[0].cause, groups[0].count)


def test_a_sample_that_is_very_long_is_cut_and_says_so() -> None:
    long = found(raw={"name": 1, "text": "x" * 10**6})
    (group,) = causes([long], {})
    shown = json.loads(encode([group.to_json()]))[0]["sample"]

    assert (True, True, long.id) == (shown["cut"], shown["text"].startswith('{"name":1,"text":"xxx'), shown["id"])
    assert len(encode([group.to_json()])) < 300_000
    assert "record" not in shown


@pytest.mark.parametrize(
    ("known", "new"),
    [
        (Before(2, frozenset()), True),
        (Before(2, frozenset({"name: string_type"})), False),
        (Before(2, None), False),
        (Before(3, frozenset()), False),
        (Before(1, frozenset()), False),
    ],
)
def test_a_cause_is_new_if_the_last_run_has_it_and_nothing_before_it(known: Before, new: bool) -> None:
    run = min(known.run, 2)
    (group,) = causes([found(run=run)], {"items": known})

    assert new == group.new


@pytest.mark.parametrize("style", ["everything", "only what is new"])
def test_what_is_new_since_the_last_run_is_marked(project: Project, style: str) -> None:
    """Also where a refresh has replaced the older rejects: the ledger remembers."""
    more = 'replication_key="updated_at", since="since", ' if style != "everything" else ""
    with Api([record(1, id="x"), record(2), record(3)]) as api:
        project.write(connector(api.url, stream=more + 'max_rejects="100%"'))
        assert 0 == project.run("pull", "shop").code
        first = project.run("rejects", "shop", "--json").json()
        api.records = [record(1, id="x"), record(2), record(3), record(4, name=7), record(5, id="y")]
        assert 0 == project.run("pull", "shop").code
        second = {group["cause"]: group["new"] for group in project.run("rejects", "shop", "--json").json()}
        shown = project.run("rejects", "shop").stdout

    assert [False] == [group["new"] for group in first]
    assert {"id: int_type": False, "name: string_type": True} == second
    assert "2 causes, 1 of them new\n" in shown
    assert "    new: no pull before run 2 had it\n" in shown


@pytest.mark.parametrize("incremental", [True, False])
def test_what_was_known_before_the_last_run_is_what_earlier_pulls_into_this_sink_have_recorded(
    tmp_path: Path, incremental: bool
) -> None:
    source = world.stream("keyset", incremental=incremental)
    world.run(tmp_path, source, "jsonl")
    world.run(tmp_path, source, "jsonl")
    target = make("jsonl", tmp_path, "shop", source)

    def row(hour: int, cause: str, sink: str = "jsonl", stream: str = "items") -> dict[str, Any]:
        done = {"stream": stream, "rejected_by_cause": {cause: 1}}
        return {"started": f"2026-01-31T{hour:02d}:00:00.000Z", "sink": sink, "streams": [done]}

    resumed, began, earlier = row(13, "resumed"), row(12, "began"), row(11, "earlier")
    others = [row(10, "in the other sink", "sqlite"), row(9, "of another stream", stream="others")]

    assert Before(2, frozenset({"earlier"})) == before(source, target, "jsonl", [resumed, began, earlier, *others])
    nothing = frozenset[str]() if incremental else None
    assert Before(2, nothing) == before(source, target, "jsonl", [resumed, began, *others])
    assert Before(0, None) == before(source, make("jsonl", tmp_path / "nowhere", "shop", source), "jsonl", [])
    cut = {**earlier, "streams": [{"stream": "items", "rejected_by_cause": {str(n): 1 for n in range(20)}}]}
    assert incremental == (before(source, target, "jsonl", [began, cut]).causes is not None)


# Samples


def sampled(one: Found) -> str:
    """The lines of the sample in the list of causes, as one."""
    lines = grouped("shop", causes([one], {}), dict.fromkeys(("all", "show", "drift", "replay"), "syncer")).splitlines()
    (at,) = [at for at, line in enumerate(lines) if line.startswith("    sample ")]
    return "".join(line.removeprefix("    ") for line in lines[at + 1 : lines.index("", at)])


def test_the_value_at_the_fault_is_marked_in_the_sample() -> None:
    assert '{"id":0,"name":>>>0<<<}' == sampled(found())
    assert '{"id":0,"name":>>>0<<<}' == sampled(found("name.str"))
    assert '{"lines":[{"price":>>>"x"<<<}]}' == sampled(found("lines[0].price", raw={"lines": [{"price": "x"}]}))


def test_where_nothing_is_wrong_but_what_is_missing_nothing_is_marked() -> None:
    assert '{"id":0,"in":{"a":1}}' == sampled(found("in.b", "missing", raw={"id": 0, "in": {"a": 1}}))


def test_of_a_long_record_the_part_around_the_fault_is_shown() -> None:
    shown = sampled(found(raw={"text": "x" * 5000, "name": 7, "more": "y" * 5000}))

    assert shown.startswith("…xxx")
    assert ',"name":>>>7<<<,"more":"yyy' in shown
    assert shown.endswith("yyy…")
    assert len(shown) <= 3 * 75


# Names


def test_the_id_of_a_reject_follows_from_its_line_and_outlives_a_replay() -> None:
    one = found(index=7)
    again = {**one.row, "reasons": [], "model": "Other 1", "more": 3}

    assert identity("items", one.row) == identity("items", json.loads(encode(again), parse_float=Decimal))
    assert one.id != found(index=7, stream="others").id
    assert re.fullmatch("[0-9a-f]{10}", one.id)
    assert 4 == len({found(index=7, run=2).id, found(index=7, page=2).id, found(index=8).id, one.id})


def test_one_is_found_by_the_beginning_of_its_id() -> None:
    many = [found(index=index) for index in range(300)]
    ids = [one.id for one in many]

    assert many[42] is review.one(many, ids[42])
    assert many[42] is review.one(many, ids[42][:8])
    with pytest.raises(ConfigError, match="there is no reject 'zz'"):
        review.one(many, "zz")
    with pytest.raises(ConfigError, match="more than one reject begins with ''"):
        review.one(many, "")


# Choosing


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (Wanted(), [0, 1, 2]),
        (Wanted("STRING"), [0, 2]),
        (Wanted(run=2), [1]),
        (Wanted(since=datetime(2026, 1, 31, 13, tzinfo=UTC)), [1, 2]),
        (Wanted(before=datetime(2026, 1, 31, 13, tzinfo=UTC)), [0]),
        (Wanted("string", since=datetime(2026, 1, 31, 13, tzinfo=UTC), before=datetime(2026, 2, 1, tzinfo=UTC)), []),
    ],
)
def test_rejects_are_chosen_by_cause_run_and_time(wanted: Wanted, chosen: list[int]) -> None:
    many = [
        found(index=0),
        found("id", "int_type", index=1, run=2, at="2026-01-31T13:00:00.000Z"),
        found(index=2, run=3, at="2026-02-01T00:00:00.000Z"),
    ]

    assert chosen == [one.row["index"] for one in filter(wanted, many)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T10:30", datetime(2026, 1, 30, 10, 30, tzinfo=UTC)),
        ("2026-01-30 10:30:01Z", datetime(2026, 1, 30, 10, 30, 1, tzinfo=UTC)),
        ("2026-01-30T10:30+02:00", datetime(2026, 1, 30, 8, 30, tzinfo=UTC)),
        ("2d", datetime(2026, 1, 29, 12, tzinfo=UTC)),
        ("90m", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_a_time_or_so_long_ago(text: str, expected: datetime) -> None:
    assert expected == moment(text, NOW)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026", "20260130", "2026-13-01", "30", "d", "-1d", "2026-W05", "0001-01-01T00:00+23:59"]
)
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        moment(text, NOW)

    assert error.value.hint


# Shown whole


def test_every_reason_stands_beside_its_place_in_the_record() -> None:
    row = found().row
    record = {"id": 1, "name": 2, "lines": [{"sku": "a"}, {"price": "x", "sku": "b"}], "tags": {}, "deep": [[1]]}
    reasons = [
        ("name.str", "string_type", "Input should be a valid string"),
        ("lines[0].price", "missing", "Field required"),
        ("lines[1].price", "decimal_parsing", "Input should be a valid decimal"),
        ("email", "missing", "Field required"),
        ("tags", "too_short", "At least one"),
        ("gone[3].at", "missing", "Field required"),
    ]
    row |= {"record": record, "reasons": [dict(zip(("path", "type", "message"), one, strict=True)) for one in reasons]}

    shown = whole(Found("items", encode(row), row), "syncer rejects replay shop items --dry-run")

    _, body, after = shown.split("\n\n")
    assert (
        body
        == """\
> {
!   email: missing: Field required
!   gone[3].at: missing: Field required
    "id": 1,
>   "name": 2,
!     str: string_type: Input should be a valid string
    "lines": [
>     {
!       price: missing: Field required
        "sku": "a"
      },
      {
>       "price": "x",
!         decimal_parsing: Input should be a valid decimal
        "sku": "b"
      }
    ],
>   "tags": {},
!     too_short: At least one
    "deep": [
      [
        1
      ]
    ]
  }"""
    )
    assert "when the model is mended: syncer rejects replay shop items --dry-run" == after


def test_nothing_of_a_long_record_is_left_out_and_no_line_passes_column_80() -> None:
    deep: Any = 7
    for level in range(150):
        deep = {f"level{level}": deep} if level % 2 else [deep]
    text = "".join(chr(97 + number % 26) for number in range(3000))
    one = found(raw={"name": text, "deep": deep, "key" * 60: 1}, message="words " * 60)

    shown = whole(one, "syncer rejects replay shop")

    assert all(len(line) <= 80 for line in shown.splitlines())
    assert text in re.sub(r"\n[ !>] *", "", shown)
    assert '"' + "key" * 60 + '": 1' in re.sub(r"\n[ !>] *", "", shown)
    assert "level149" in shown


def test_a_reject_that_is_text_is_shown_as_text() -> None:
    row = {name: value for name, value in found("", "not_json").row.items() if name != "record"}
    row["text"] = '{"price": NaN, ' + "x" * 200

    shown = whole(Found("items", encode(row), row), "again")

    assert '! not_json: Input should be a valid string\n  {"price": NaN, xxx' in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_faults_that_were_not_written_down_are_counted() -> None:
    row = {**found().row, "more": 12}

    assert "and 12 more faults that were not written down" in whole(Found("items", encode(row), row), "again")


# CSV


def read(lines: list[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


@pytest.mark.parametrize("head", ["=", "+", "-", "@", "\t", "\r", "\t=", " =", "\n=", "＝", "＋", "－", "＠"])
def test_no_cell_can_be_taken_for_a_formula(head: str) -> None:
    formula = f"{head}cmd|' /C calc'!A0"
    row = {**found(formula, formula, message=formula).row, "request": formula, "model": formula, "at": "2026-01-31"}
    text = {name: value for name, value in row.items() if name != "record"} | {"text": formula}

    for one in (row, text):
        (line,) = read(list(rows([Found(formula, encode(one), one)])))
        assert all(cell[:1] not in tuple("=+-@\t\r\n＝＋－＠") for cell in line.values())
        assert all(cell.lstrip()[:1] not in tuple("=+-@") for cell in line.values())


def test_a_line_of_csv_holds_the_whole_reject() -> None:
    one = found(raw={"id": 1, "text": 'a "quoted", and\nbroken', "price": Decimal("1.10")}, index=3)
    lines = list(rows([one]))
    (line,) = read(lines)

    assert ["stream", "id", "at", "run", "page", "index", "cause", "reasons", "record", "request", "model"] == list(
        line
    )
    assert one.row["record"] == json.loads(line["record"], parse_float=Decimal)
    assert ("items", one.id, "3", "name: string_type", "name: Input should be a valid string") == (
        line["stream"],
        line["id"],
        line["index"],
        line["cause"],
        line["reasons"],
    )
    assert all("\n" not in text for text in lines)


# The command


BAD = [record(1), record(2, id="two"), record(3, name=3), record(4, id="four"), record(5), record(6, price=None)]


@pytest.fixture
def pulled(project: Project) -> Project:
    with Api(BAD) as api:
        project.write(connector(api.url, streams=("items", "others"), stream='max_rejects="100%"'))
        assert 0 == project.run("pull", "shop").code
    return project


def test_the_same_choice_counts_in_every_form(pulled: Project) -> None:
    choice = ("rejects", "shop", "items", "--cause", "ID:", "--run", "1", "--since", "1h")
    (group,) = pulled.run(*choice, "--json").json()
    every = pulled.run(*choice, "--all", "--json").lines()
    table = read(pulled.run(*choice, "--csv").stdout.splitlines())
    shown = pulled.run(*choice, "--all").stdout

    assert ("id: int_type", 2, ["two", "four"]) == (
        group["cause"],
        group["count"],
        [sample["record"]["id"] for sample in group["samples"]],
    )
    assert ["two", "four"] == [line["record"]["id"] for line in every]
    assert [line["id"] for line in every] == [line["id"] for line in table] == re.findall(r"Z, (\w{10})$", shown, re.M)
    assert 1 == len(pulled.run(*choice, "--all", "--json", "--limit", "1").lines())
    assert 2 == len(pulled.run(*choice, "--csv", "--limit", "1").stdout.splitlines())


def test_the_commonest_causes_come_first_and_the_rest_is_counted(pulled: Project) -> None:
    shown = pulled.run("rejects", "shop", "items", "--limit", "1").stdout
    assert "shop: 4 rejects, 3 causes\n" in shown
    assert "id: int_type" in shown
    assert "name: string_type" not in shown
    assert "and 2 more causes" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_what_is_typed_next_is_in_the_output_and_keeps_the_choice(pulled: Project) -> None:
    shown = pulled.run("rejects", "shop", "items", "--cause", "id: int").stdout
    commands = dict(
        re.findall(r"^(every one of them|one as a whole|when the model is mended): syncer (.*)$", shown, re.M)
    )
    every = shlex.split(commands["every one of them"].partition(", or with")[0])

    assert 2 == len(pulled.run(*every, "--json").lines())
    assert '>   "id": "two",' in pulled.run(*shlex.split(commands["one as a whole"])).stdout
    assert "nothing was changed" in pulled.run(*shlex.split(commands["when the model is mended"])).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("rejects shop --csv --json", "two forms of the same"),
        ("rejects shop --since soon", "no moment"),
        ("rejects shop --run 0", "Invalid value for '--run'"),
        ("rejects shop nothing", "no stream 'nothing'"),
        ("rejects show shop", "Missing argument 'ID'"),
        ("rejects show shop ffffffffffff", "there is no reject 'ffffffffffff'"),
        ("rejects purge shop", "--before 30d, or --cause TEXT"),
        ("rejects purge shop --cause id", "add --yes"),
        ("rejects purge shop --before soon --yes", "no moment"),
        ("rejects", "Missing argument 'SOURCE'"),
        ("rejects replay", "Missing argument 'SOURCE'"),
        ("rejects -- replay", "no connector 'replay'"),
    ],
)
def test_what_is_typed_wrong_is_a_usage_error_that_says_what_to_type(
    pulled: Project, arguments: str, words: str
) -> None:
    done = pulled.run(*arguments.split())

    assert 2 == done.code
    assert words in done.said


@pytest.mark.parametrize("sink", KINDS)
def test_from_the_alert_to_no_rejects_every_command_is_named_by_the_one_before(project: Project, sink: str) -> None:
    """Five commands: the pull that alerts, the look, the trial, the replay, and the pull that goes on."""
    with Api([record(number, name=number if number > 5 else f"n{number}") for number in range(1, 41)], size=10) as api:
        project.write(connector(api.url, stream='primary_key="id"'))
        said = project.run("pull", "shop", "--sink", sink)
        assert 3 == said.code
        look = re.search(r"see `syncer (rejects shop .*?)`", said.stdout)
        assert look
        seen = project.run(*shlex.split(look[1]))
        assert "name: string_type" in seen.stdout

        text = (project.path / "connectors" / "shop.py").read_text()
        project.write(text.replace("name: str", "name: str | int"))

        trial = re.search(r"^when the model is mended: syncer (.*)$", seen.stdout, re.M)
        assert trial
        tried = project.run(*shlex.split(trial[1]))
        move = re.search(r"^to move them +syncer (.*)$", tried.stdout, re.M)
        assert move
        moved = project.run(*shlex.split(move[1]))
        on = re.search(r"^to go on +syncer (.*)$", moved.stdout, re.M)
        assert on
        before = len(api.seen)
        done = project.run(*shlex.split(on[1]), "--json").json()

    assert [0, 0] == [tried.code, moved.code]
    (stream,) = done["streams"]
    assert ("complete", 40, 40, 0) == (
        stream["status"],
        *(stream["run"][name] for name in ("fetched", "written", "rejected")),
    )
    assert 2 == len(api.seen) - before, "no page that was saved is asked for again"
    assert "no rejects" in project.run("rejects", "shop", "--sink", sink).stdout


@pytest.mark.parametrize("sink", KINDS)
def test_a_replay_needs_neither_network_nor_settings_nor_credentials(project: Project, sink: str) -> None:
    with Api(BAD) as api:
        more = 'auth=Bearer(env="SHOP_TOKEN"), settings={"url": "where"}'
        text = connector("{url}", more=more, stream='max_rejects="100%"')
        project.write(text)
        env = {"SHOP_TOKEN": "a-long-secret-token"}
        assert 0 == project.run("pull", "shop", "--sink", sink, "--set", f"url={api.url}", env=env).code
    project.write(text.replace("id: int", "id: int | str"))

    done = project.run("rejects", "replay", "shop", "--sink", sink, "--json")

    (row,) = done.json()
    assert (0, 2, 2, {"id: int_type": 2}) == (done.code, row["passed"], row["failed"], row["passed_by_cause"])
    assert {"pages": 2, "fetched": 6, "written": 4, "rejected": 2, "repeated": 0, "purged": 0} == row["stored"]
    assert not row["dry_run"]


@pytest.mark.parametrize("command", ["replay", "purge --cause x --yes", "replay --dry-run"])
def test_what_was_never_pulled_has_nothing_to_replay_or_purge(project: Project, command: str) -> None:
    project.write(connector("http://h"))
    done = project.run("rejects", *command.split(), "shop", "--out", "nowhere")

    assert (0, True) == (done.code, "never pulled: there is no nowhere/shop" in done.said)
    assert ["connectors"] == [path.name for path in project.path.iterdir()]


@pytest.mark.parametrize("command", ["replay", "purge --cause x --yes"])
def test_an_output_that_is_being_written_is_exit_7_and_one_that_disagrees_is_8(pulled: Project, command: str) -> None:
    lock = make("jsonl", pulled.data, "shop", find("shop", pulled.path / "connectors").stream("items"))
    lock.open()
    busy = pulled.run("rejects", *command.split(), "shop", "items")
    lock.close()
    os.truncate(pulled.data / "shop" / "items.jsonl", 10)
    damaged = pulled.run("rejects", *command.split(), "shop", "items", "--json")

    assert (7, True) == (busy.code, "another pull of items is at work" in busy.said)
    assert (8, True) == (damaged.code, "syncer reset shop items" in damaged.stderr)
    assert 8 == damaged.json()[0]["error"]["exit_code"]


def test_an_error_of_one_stream_does_not_keep_the_others_from_their_turn(pulled: Project) -> None:
    os.truncate(pulled.data / "shop" / "items.jsonl", 10)
    text = (pulled.path / "connectors" / "shop.py").read_text()
    pulled.write(text.replace("name: str", "name: str | int"))
    done = pulled.run("rejects", "replay", "shop")

    assert 8 == done.code
    assert "      1  pass\n" in done.stdout
    assert "no rejects" not in pulled.run("rejects", "shop", "others").stdout
    assert 3 == len(pulled.run("rejects", "shop", "others", "--all", "--json").lines())


SLOW = (
    "    @field_validator('name')\n    @classmethod\n    def check(cls, value):\n"
    "        Path('begun').touch()\n        time.sleep(0.2)\n        return value\n"
)


@pytest.mark.parametrize("sink", KINDS)
def test_a_signal_ends_a_replay_at_once_with_everything_as_it_was(project: Project, sink: str) -> None:
    with Api([record(number, name=number) for number in range(1, 21)]) as api:
        text = connector(api.url, stream='max_rejects="100%", primary_key="id"')
        project.write(text)
        assert 0 == project.run("pull", "shop", "--sink", sink, "--max-rejects", "100%").code
    before = project.run("rejects", "shop", "--sink", sink, "--json", "--all").stdout
    slow = text.replace("name: str\n", "name: str | int\n").replace("\n\nconnector", SLOW + "\n\nconnector")
    project.write("import time\nfrom pathlib import Path\n\nfrom pydantic import field_validator\n\n" + slow)

    process = project.start("rejects", "replay", "shop", "--sink", sink)
    until((project.path / "begun").exists, process)
    process.send_signal(signal.SIGTERM)
    done = ended(process)

    assert (143, True) == (done.code, "stopped: the stream at hand is as it was" in done.stderr)
    project.write(text)
    assert before == project.run("rejects", "shop", "--sink", sink, "--json", "--all").stdout
    assert 0 == project.run("status", "shop", "--sink", sink, "--json").json()[0]["records"]


def test_a_purge_says_what_it_took_and_status_keeps_the_count(pulled: Project) -> None:
    done = pulled.run("rejects", "purge", "shop", "items", "--cause", "id", "--yes")
    later = pulled.run("rejects", "purge", "shop", "items", "--before", "1d", "--yes", "--json")
    (row,) = pulled.run("status", "shop", "items", "--json").json()

    assert "      2  go, counted as purged\n         2  id: int_type\n" in done.stdout
    assert (0, 2) == (later.json()[0]["purged"], later.json()[0]["failed"])
    assert (2, 2, 2) == (row["records"], row["rejects"], row["purged"])
    assert "2 rejects purged" in pulled.run("status", "shop").stdout


# Harm


HOSTILE = "=1+1\x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\u202eevil\u2066\u200f\u061c\ufeff[red]x[/x][/]<b>&\r\n\tend"


def test_hostile_text_is_harmless_in_every_output(project: Project) -> None:
    """Escapes, C1, bidirectional marks, markup and formulas, as names, values and messages."""
    own = (
        "from pydantic import BaseModel, field_validator\n\nfrom syncer import *\n\n\n"
        "class Item(BaseModel):\n    id: int\n    tags: dict[str, int]\n    name: str | None = None\n\n"
        "    @field_validator('name')\n    @classmethod\n    def check(cls, value):\n"
        "        raise ValueError(f'does not like {value}')\n"
    )
    bad = [
        {"id": HOSTILE, "tags": {}, "updated_at": ""},
        {"id": 1, "tags": {HOSTILE: HOSTILE}, "updated_at": ""},
        {"id": 2, "tags": {}, "name": HOSTILE, "updated_at": ""},
    ]
    with Api(bad) as api:
        text = connector(api.url, stream='max_rejects="100%"', model="").replace(
            "from pydantic import AwareDatetime, BaseModel\n\nfrom syncer import *\n", own
        )
        project.write(text)
        assert 0 == project.run("pull", "shop").code
    ids = [line["id"] for line in project.run("rejects", "shop", "--all", "--json").lines()]
    commands = [["rejects", "shop", *more] for more in ([], ["--all"], ["--csv"], ["--json"], ["--all", "--json"])]
    commands += [["rejects", "show", "shop", name, *more] for name in ids for more in ([], ["--json"])]
    commands += [["rejects", "replay", "shop", *more] for more in (["--dry-run"], ["--dry-run", "--json"], [])]
    commands += [["rejects", "purge", "shop", "--cause", "int", "--yes", *more] for more in ([], ["--json"])]

    for command in commands:
        done = project.run(*command)
        assert 0 == done.code, command
        assert [] == _UNSAFE.findall(done.said), command
        assert "pwned" in done.said or "purge" in command or "replay" in command, command
        if "--json" in command:
            assert done.lines()
        elif "--csv" in command:
            cells = [cell for line in csv.reader(io.StringIO(done.stdout)) for cell in line]
            assert all(cell.lstrip()[:1] not in tuple("=+-@") for cell in cells)
            assert 4 == len(done.stdout.splitlines())
        elif "--all" not in command:
            assert all(len(line) <= 80 for line in done.stdout.splitlines()), command
    assert [bad[2]["name"]] == [
        line["record"]["name"] for line in project.run("rejects", "shop", "--all", "--json").lines()
    ]


def test_a_reader_that_goes_away_is_no_error(pulled: Project) -> None:
    piped = ["/bin/sh", "-c", f'"{sys.executable}" -m syncer rejects shop --csv | head -n 1']
    done = subprocess.run(piped, cwd=pulled.path, env=CLEAN, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("stream,id,")


# A hundred thousand


def filled(project: Project, sink: str, count: int) -> None:
    """An output with so many rejects of about a kilobyte, as pulls would leave it."""
    stream = find("shop", project.path / "connectors").stream("items")
    made = make(sink, project.data, "shop", stream)
    checkpoint = made.open().begin(Request("/items"), judging(stream), "2026-01-31T12:00:00.000Z", anew=False)
    for page in range(count // 1000):
        lines = [
            found(raw={**record(1), "id": page * 1000 + n, "name": n, "text": "x" * 700}, page=page + 1, index=n).line
            for n in range(1000)
        ]
        added = Counts(1, 1000, 0, 1000)
        checkpoint = replace(
            checkpoint, seq=checkpoint.seq + 1, counts=checkpoint.counts + added, stored=checkpoint.stored + added
        )
        made.commit([], [Reject(line, digest(line), None, None, "") for line in lines], checkpoint)
    made.close()


WATCHED = """
import sys
from syncer.cli import main
try:
    main()
finally:
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    sys.stderr.write(line)
"""


def peak(project: Project, *arguments: str) -> int:
    """The most memory that the command held at once, in kilobytes; ru_maxrss would count that of its parent too."""
    command = [sys.executable, "-c", WATCHED, *arguments]
    done = subprocess.run(
        command, cwd=project.path, env=CLEAN, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
    )
    return int(done.stderr.split()[1])


linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@linux
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sink", ["jsonl", pytest.param("sqlite", marks=pytest.mark.long)])
def test_a_hundred_thousand_rejects_are_reviewed_in_the_memory_of_a_thousand(
    tmp_path: Path, sink: str, long: bool
) -> None:
    """100 MB of them, and 5 MB more memory at the most."""
    forms = ("", "--json", "--csv", "--all") if long else ("",)
    peaks: list[dict[str, int]] = []
    for count in (1000, 100_000):
        project = Project(tmp_path / str(count))
        project.path.mkdir()
        project.write(connector("http://127.0.0.1:9", stream='primary_key="id"'))
        filled(project, sink, count)
        peaks.append({form: peak(project, "rejects", "shop", "--sink", sink, *form.split()) for form in forms})
        (group,) = project.run("rejects", "shop", "--sink", sink, "--json").json()
        assert (count, count // 1000) == (group["count"], group["pages"])

    for form in forms:
        assert peaks[1][form] - peaks[0][form] < 5000, form


@linux
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sink", ["jsonl", pytest.param("sqlite", marks=pytest.mark.long)])
def test_a_replay_keeps_neither_the_records_nor_the_rejects_in_memory(tmp_path: Path, sink: str, long: bool) -> None:
    """Of each record that passes its key, some 200 bytes; a record or reject is about a kilobyte."""
    many = 100_000 if long else 20_000
    peaks = []
    for count in (1000, many):
        project = Project(tmp_path / str(count))
        project.path.mkdir()
        text = connector("http://127.0.0.1:9", stream='primary_key="id", unknown="keep"')
        project.write(text)
        filled(project, sink, count)
        project.write(text.replace("name: str", "name: str | int"))
        peaks.append(peak(project, "rejects", "replay", "shop", "--sink", sink))
        assert "no rejects" in project.run("rejects", "shop", "--sink", sink).stdout

    assert peaks[1] - peaks[0] < many * 0.25 + 5000
