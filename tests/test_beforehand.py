"""What is said before a pull: by `status` and `check` of what is in its way, and of names and values that are odd."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.api import MODEL, Api, connector, record
from tests.command import Project, lines
from tests.test_log import small_disk

RECORDS = [record(number) for number in range(1, 21)]


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


@pytest.fixture
def half(tmp_path: Path, api: Api) -> Project:
    """Two of five pages pulled into files, and into a database."""
    project = Project(tmp_path)
    project.write(connector(api.url))
    for sink in ("jsonl", "sqlite"):
        assert 0 == project.run("pull", "shop", "--max-pages", "2", "--sink", sink).code
    api.seen.clear()
    return project


def shorten(project: Project) -> None:
    file = project.data / "shop" / "items.jsonl"
    file.write_bytes(file.read_bytes()[:-1])


def drop_table(project: Project) -> None:
    with closing(sqlite3.connect(project.data / "shop" / "shop.db")) as database:
        database.execute("DROP TABLE items")


IN_THE_WAY: dict[str, tuple[Callable[[Project], Any], str, str]] = {
    "a file that is gone": (lambda p: (p.data / "shop" / "items.jsonl").unlink(), "jsonl", "items.jsonl is missing"),
    "a shorter file": (shorten, "jsonl", "the checkpoint vouches for"),
    "a table that is gone": (drop_table, "sqlite", "table items is missing"),
}


@pytest.mark.parametrize("command", ["status", "check"])
@pytest.mark.parametrize("what", IN_THE_WAY)
def test_output_that_the_next_pull_will_not_go_on_from_is_named_beforehand(
    half: Project, command: str, what: str
) -> None:
    harm, sink, words = IN_THE_WAY[what]
    harm(half)
    done = half.run(command, "shop", "--sink", sink)
    row = half.run(command, "shop", "--sink", sink, "--json").json()[0]
    error = row["error" if command == "status" else "destination"]
    assert (8, 8) == (done.code, error["exit_code"])
    assert words in done.stdout
    assert words in error["message"]
    assert "syncer reset shop items" in done.stdout
    assert 8 == half.run("pull", "shop", "--sink", sink).code


@pytest.mark.parametrize("command", ["status", "check"])
def test_a_model_that_has_changed_is_named_field_by_field_beforehand(half: Project, api: Api, command: str) -> None:
    model = MODEL.replace("price: Decimal", "price: float").replace("    name: str\n", "    size: int | None = None\n")
    half.write(connector(api.url, model=model))
    told = "model: Item: name is gone, size is new, price has changed"
    assert (8, True) == ((done := half.run(command, "shop")).code, told in done.stdout), done.said
    pulled = half.run("pull", "shop")
    assert (8, True) == (pulled.code, told in pulled.stdout)


def test_a_type_within_a_type_is_a_change_of_the_field_that_holds_it(tmp_path: Path) -> None:
    order = (
        "class Line(BaseModel):\n    price: int\n\n\nclass Item(BaseModel):\n    id: int\n    lines: list[Line] = []\n"
    )
    project = Project(tmp_path)
    with Api(RECORDS) as api:
        project.write(connector(api.url, model=order))
        assert 0 == project.run("pull", "shop", "--max-pages", "1").code
        project.write(connector(api.url, model=order.replace("price: int", "price: int | None")))
        assert "model: Item: lines has changed" in project.run("pull", "shop").stdout


def test_nothing_is_in_the_way_of_a_pull_that_goes_on(half: Project) -> None:
    for command in ("status", "check"):
        done = half.run(command, "shop")
        assert (0, False) == (done.code, "stops before" in done.stdout), done.said


def test_a_destination_that_takes_nothing_is_named_by_check(half: Project) -> None:
    (half.path / "taken").write_text("a file")
    done = half.run("check", "shop", "--out", "taken")
    assert (6, True) == (done.code, "taken is not a directory" in done.stdout)


def test_a_disk_that_is_read_only_is_named_by_check(half: Project) -> None:
    with small_disk(half.path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = half.run("check", "shop", "--out", "disk/data")
        assert (6, True) == (done.code, f"nothing can be written in {disk}" in done.stdout), done.said


def test_a_refresh_under_way_says_that_the_last_output_stays_until_it_is_complete(half: Project, api: Api) -> None:
    stays = "the output of the last complete pull stays in place until this one is complete"
    assert 0 == half.run("pull", "shop").code
    assert "stays until then" not in half.run("status", "shop").stdout
    capped = half.run("pull", "shop", "--max-pages", "2")
    assert (0, True) == (capped.code, f"items: note: {stays}" in capped.stdout)
    assert "the last complete output stays until then" in half.run("status", "shop").stdout
    assert stays not in half.run("pull", "shop").stdout
    assert lines(RECORDS) == half.output()


def test_a_whole_refresh_ends_without_that_note(half: Project) -> None:
    for _ in range(2):
        done = half.run("pull", "shop")
    assert (0, False) == (done.code, "stays in place" in done.stdout)


# Odd names


def test_a_file_that_no_connector_can_be_called_after_is_nobody_elses_fault(half: Project) -> None:
    folder = half.path / "connectors"
    (folder / "shop copy.py").write_text("connector = 1")
    (folder / ".#shop.py").symlink_to("nobody@nowhere:1")
    (folder / "demo.py").write_text((folder / "shop.py").read_text())
    assert 0 == half.run("pull", "shop").code
    listed = half.run("list")
    assert (0, 1, 1) == (
        listed.code,
        listed.stdout.count("'shop copy' cannot be the name of a connector"),
        listed.stdout.count("there are two connectors called demo"),
    )
    assert ".#shop" not in listed.stdout
    done = half.run("pull", "demo")
    assert (2, True) == (done.code, "there are two connectors called demo" in done.stderr)


def test_a_line_of_dotenv_that_is_none_is_named_once(half: Project) -> None:
    (half.path / ".env").write_text("A=1\n\n# a comment\nexport B='x y'\nthis is nothing\nC=2\n")
    done = half.run("status", "shop")
    assert (2, "") == (done.code, done.stdout)
    assert "error: .env, line 5, is not NAME=VALUE\n  → mend it" in done.stderr
    assert 1 == done.stderr.count(".env")


@pytest.mark.parametrize("given", [("--out", ""), ("--out=",)])
def test_an_empty_name_is_not_this_directory(half: Project, given: tuple[str, ...]) -> None:
    done = half.run("pull", "shop", *given)
    assert (2, True) == (done.code, "error: --out is empty" in done.stderr)
    assert not (half.path / "shop").exists()


def test_a_typing_error_is_no_source_without_runs(half: Project) -> None:
    done = half.run("runs", "shpo")
    assert (2, "", True) == (done.code, done.stdout, "nothing is known of 'shpo'" in done.stderr)
    assert 0 == half.run("runs", "demo").code


def test_a_total_that_is_nowhere_is_noted_where_it_counts_and_beforehand(tmp_path: Path, api: Api) -> None:
    project = Project(tmp_path)
    note = "the answer has no number at 'totl', which total= names"
    project.write(connector(api.url, stream='total="totl"'))
    checked, pulled = project.run("check", "shop"), project.run("pull", "shop")
    assert (0, 0, True, True) == (checked.code, pulled.code, note in checked.stdout, note in pulled.stdout)
    project.write(connector(api.url, stream='total="total"'))
    assert "which total= names" not in project.run("check", "shop").stdout


@pytest.mark.parametrize("header", ['"X-A": " 1"', '"X-A": "1\\n2"', '"X A": "1"', '"X-A": 1', '"X-A": "€"'])
@pytest.mark.parametrize("where", ["stream", "more"])
def test_a_header_that_cannot_be_sent_is_named_before_anything_is(
    tmp_path: Path, api: Api, header: str, where: str
) -> None:
    project = Project(tmp_path)
    project.write(connector(api.url, **{where: f"headers={{{header}}}"}))  # type: ignore[arg-type]
    done = project.run("pull", "shop")
    assert (2, True, []) == (done.code, "cannot be sent" in done.stderr, api.seen), done.said
