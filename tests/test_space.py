"""A warning where there is little room for what a pull will write, before it begins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.space import LEAST, PLENTY, low, short, size
from tests.api import Api, Reply, connector, record
from tests.command import Project, lines
from tests.test_ledger import ROW, written
from tests.test_log import small_disk

RECORDS = [record(number) for number in range(1, 21)]
ENDS = "; a full disk stops a pull, and nothing committed is lost"
GB = 10**9


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


@pytest.mark.parametrize(
    ("free", "total", "needed", "why"),
    [
        (GB, 4 * GB, 0, ""),
        (GB, 4 * GB, GB, ""),
        (GB, 4 * GB, GB + 1, ", and the last complete pull received 1.0 GB"),
        (40 * GB, 4000 * GB, 50 * GB, ", and the last complete pull received 50.0 GB"),
        (LEAST, LEAST, 0, ""),
        (LEAST - 1, LEAST, 0, ", which is not much"),
        (0, 4000 * GB, 0, ", which is not much"),
        (GB, 20 * GB, 0, ""),
        (GB - 1, 20 * GB, 0, ", which is 5.0% of its file system"),
        (PLENTY, 4000 * GB, 0, ""),
        (PLENTY - 1, 4000 * GB, 0, ", which is 0.1% of its file system"),
        (0, 0, 10, ""),
    ],
)
def test_so_much_room_is_little(free: int, total: int, needed: int, why: str) -> None:
    """The last is a file system that has no size of its own."""
    assert why == low(free, total, needed)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.5e6, "1.5 MB"), (2e9, "2.0 GB"), (3e15, "3000.0 TB")],
)
def test_bytes_are_shown_for_people(count: float, shown: str) -> None:
    assert shown == size(count)


def test_a_directory_that_is_not_there_has_the_room_of_where_it_will_be(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    out = tmp_path / "not" / "yet"
    assert f"{out} has " in short(out, free * 2)
    assert "" == short(out, 0) or free < PLENTY
    assert not out.parent.exists()


@pytest.mark.parametrize(("name", "warned"), [("x" * 300, False), ("file/below", True), ("loop", True)])
def test_what_is_no_directory_has_the_room_of_where_it_is_and_what_cannot_be_looked_at_none(
    tmp_path: Path, name: str, warned: bool
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    assert warned == bool(short(tmp_path / name, 4 * shutil.disk_usage(tmp_path).total))


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_a_pull_and_a_check_warn_once_of_a_small_disk_and_go_on(project: Project, api: Api, sink: str) -> None:
    project.write(connector(api.url, streams=("items", "others")))
    with small_disk(project.data, "2m"):
        checked = project.run("check", "shop", "--sink", sink)
        assert [] == list(project.data.iterdir())
        pulled = project.run("pull", "shop", "--sink", sink, "--log", "log.jsonl")
        quiet = project.run("pull", "shop", "--sink", sink, "--quiet")
        notes = project.run("runs", "--json").json()[-1]["notes"]
    for done in (checked, pulled):
        (note,) = [line for line in done.stderr.splitlines() if "has" in line and "left" in line]
        assert note.startswith("note: data has ")
        assert note.endswith(f" left, which is not much{ENDS}")
        assert 0 == done.code
    assert [pulled.stderr.splitlines()[1].removeprefix("note: ")] == notes
    assert f"left, which is not much{ENDS}" in (project.path / "log.jsonl").read_text()
    assert (0, "") == (quiet.code, quiet.said)


def test_the_last_complete_pull_says_how_much_is_needed(project: Project, api: Api) -> None:
    """A later one that failed says nothing, and neither does one of another source."""
    free = shutil.disk_usage(project.path).free
    if free < PLENTY:
        pytest.skip("the disk of the tests has so little room that there is a warning in any case")
    project.write(connector(api.url))
    assert "left" not in project.run("check", "shop").stderr
    rows = [{**ROW, "status": "complete", "exit_code": 0, "received": 2 * free}, {**ROW, "received": 1}]
    written(project.data, {**rows[0], "source": "other"}, source="other")
    assert "left" not in project.run("check", "shop").stderr
    rows[1]["started"] = "2026-11-25T00:00:00.000Z"
    written(project.data, *rows)
    for command in ("check", "pull"):
        done = project.run(command, "shop")
        assert (0, 1) == (done.code, done.stderr.count(f"left, and the last complete pull received {size(2 * free)}"))
    assert "left" not in project.run("pull", "shop").stderr  # which is complete by now, and received little


def test_a_pull_into_a_full_disk_is_warned_of_what_then_happens(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(body={"items": [record(1, name="x" * 400_000)], "total": 1, "next": None})
    project.write(connector(api.url))
    with small_disk(project.data, "300k"):
        done = project.run("pull", "shop")
    assert 6 == done.code
    assert done.stderr.index("left, which is not much") < done.stderr.index("items: from the beginning")
    assert lines([]) == project.output()


def test_a_directory_that_may_not_be_looked_into_is_no_reason_to_stop(tmp_path: Path) -> None:
    if not os.geteuid():
        pytest.skip("nothing is forbidden to root")
    (tmp_path / "closed").mkdir(mode=0)
    assert "" == short(tmp_path / "closed" / "data", 0)
