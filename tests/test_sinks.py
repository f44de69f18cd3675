"""The conformance suite: what every sink promises, whoever wrote it."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel

from syncer import EpochSeconds, SinglePage, Stream
from syncer.checkpoint import Checkpoint, Counts
from syncer.decode import encode
from syncer.errors import LockError, SinkError, StateError
from syncer.page import Request, digest
from syncer.sinks import KINDS, Sink, sink
from syncer.sinks.sqlite import columns
from syncer.validate import Record, Reject


class Order(BaseModel):
    id: int
    title: str
    price: Decimal
    weight: float | None
    paid: bool
    state: Literal["new", "done"]
    at: AwareDatetime
    created: EpochSeconds
    tags: list[str]
    extra: dict[str, int] | None = None


ORDERS = Stream(name="orders", path="/orders", model=Order, pagination=SinglePage(), primary_key="id")
LOOSE = Stream(name="orders", path="/orders", model=Order, pagination=SinglePage())
RAW = (
    b'{"id": %d, "title": "a\\u0000\\u2028\xc3\xa9", "price": 1.10, "weight": 0.1, "paid": true, "state": "new",'
    b' "at": "2026-01-01T00:00:00Z", "created": 1767225600, "tags": ["x"], "extra": {"n": 1}}'
)


def record(number: int, **changed: Any) -> Record:
    values = {**json.loads(RAW % number, parse_float=Decimal), **changed}
    return Record(encode(values), None, None)


def reject(number: int) -> Reject:
    line = encode({"v": 1, "reasons": [], "record": {"id": str(number)}, "page": 1, "index": 0})
    return Reject(line, digest(line), None, None, "id: int_type")


def after(before: Checkpoint, written: int, rejected: int = 0, *, last: bool = False, anew: bool = False) -> Checkpoint:
    """The checkpoint that would follow a page of so many records."""
    from dataclasses import replace

    if not before.open:
        before = before.begin(Request("/orders"), {"model": "Order"}, "2026-01-31T12:00:00.000Z", anew=anew)
    counts = Counts(1, written + rejected, written, rejected)
    made = replace(before, seq=before.seq + 1, cursor=Request("/orders", params={"n": before.seq}))
    made = replace(made, counts=made.counts + counts, stored=made.stored + counts)
    return made.ended("complete") if last else made


def contents(kind: str, out: Path) -> tuple[list[Any], int]:
    """The records in a sink, and how many rejects."""
    if kind == "jsonl":
        lines = (out / "shop" / "orders.jsonl").read_bytes().splitlines(keepends=True)
        rejects = (out / "shop" / "orders.rejects.jsonl").read_bytes().count(b"\n")
        return [json.loads(line)["id"] for line in b"".join(lines).split(b"\n")[:-1]], rejects
    with closing(sqlite3.connect(out / "shop" / "shop.db")) as connection:
        ids = [number for (number,) in connection.execute("SELECT id FROM orders ORDER BY rowid")]
        (rejects,) = connection.execute("SELECT count(*) FROM syncer_rejects WHERE stream = 'orders'").fetchone()
        return ids, rejects


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(kind: str, tmp_path: Path) -> Iterator[Sink]:
    made = sink(kind, tmp_path, "shop", ORDERS)
    made.open()
    yield made
    made.close()


def test_a_new_output_begins_with_a_fresh_checkpoint(kind: str, tmp_path: Path) -> None:
    made = sink(kind, tmp_path, "shop", ORDERS)

    assert made.open() == Checkpoint()
    made.close()


def test_what_was_committed_is_there_when_it_is_opened_again(kind: str, opened: Sink, tmp_path: Path) -> None:
    committed = after(Checkpoint(), 2, 1)
    opened.commit([record(1), record(2)], [reject(3)], committed)
    opened.close()

    again = sink(kind, tmp_path, "shop", ORDERS)

    assert committed == again.open()
    assert ([1, 2], 1) == contents(kind, tmp_path)
    assert [reject(3).line] == list(again.rejects())
    again.close()


def test_an_empty_page_still_moves_the_checkpoint(kind: str, opened: Sink, tmp_path: Path) -> None:
    committed = after(Checkpoint(), 0)
    opened.commit([], [], committed)

    assert committed == opened.peek()
    assert ([], 0) == contents(kind, tmp_path)


def test_a_full_refresh_leaves_the_old_output_alone_until_it_is_complete(
    kind: str, opened: Sink, tmp_path: Path
) -> None:
    first = after(Checkpoint(), 2, 1, last=True)
    opened.commit([record(1), record(2)], [reject(3)], first)
    second = after(first, 1, anew=True)
    opened.commit([record(4)], [], second)
    half, _ = contents(kind, tmp_path)
    opened.commit([record(5)], [], after(second, 1, last=True))

    assert [1, 2] == half
    assert ([4, 5], 0) == contents(kind, tmp_path)
    assert [] == list(opened.rejects())


def test_a_refresh_that_is_begun_anew_forgets_the_one_before(kind: str, opened: Sink, tmp_path: Path) -> None:
    first = after(Checkpoint(), 1, last=True)
    opened.commit([record(1)], [], first)
    given_up = after(first, 1, 1, anew=True)
    opened.commit([record(2)], [reject(9)], given_up)
    again = after(given_up.ended("complete"), 1, anew=True)
    opened.commit([record(3)], [], again)
    opened.commit([record(4)], [], after(again, 1, last=True))

    assert ([3, 4], 0) == contents(kind, tmp_path)
    leftovers = [path.name for path in (tmp_path / "shop").iterdir() if ".g" in path.name]
    assert [] == leftovers


def test_a_second_writer_is_refused_and_told_who_has_the_lock(kind: str, opened: Sink, tmp_path: Path) -> None:
    with pytest.raises(LockError, match=f"process {os.getpid()}"):
        sink(kind, tmp_path, "shop", ORDERS).open()


def test_the_lock_of_a_killed_process_is_free_at_once(kind: str, tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from tests.test_sinks import ORDERS; from syncer.sinks import sink\n"
        f"made = sink({kind!r}, Path({str(tmp_path)!r}), 'shop', ORDERS); made.open()\n"
        "print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    assert holder.stdout is not None
    assert b"locked\n" == holder.stdout.readline()
    made = sink(kind, tmp_path, "shop", ORDERS)
    with pytest.raises(LockError):
        made.open()
    holder.kill()
    holder.wait()

    assert made.open() == Checkpoint()
    made.close()


def test_a_commit_out_of_turn_changes_nothing(kind: str, opened: Sink, tmp_path: Path) -> None:
    from dataclasses import replace

    first = after(Checkpoint(), 1)
    opened.commit([record(1)], [], first)

    with pytest.raises(LockError):
        opened.commit([record(2)], [], replace(after(first, 1), seq=7))
    opened.close()
    again = sink(kind, tmp_path, "shop", ORDERS)
    again.open()
    again.close()

    assert ([1], 0) == contents(kind, tmp_path)


def test_output_without_a_checkpoint_is_left_alone(kind: str, opened: Sink, tmp_path: Path) -> None:
    opened.commit([record(1)], [], after(Checkpoint(), 1))
    opened.close()
    if kind == "jsonl":
        (tmp_path / "shop" / ".syncer" / "state.db").unlink()
    else:
        with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
            connection.execute("DELETE FROM syncer_checkpoint")
            connection.commit()

    with pytest.raises(StateError) as error:
        sink(kind, tmp_path, "shop", ORDERS).open()
    assert "reset shop orders" in error.value.hint
    assert ([1], 0) == contents(kind, tmp_path)


def test_a_checkpoint_whose_bytes_rotted_is_refused(kind: str, opened: Sink, tmp_path: Path) -> None:
    opened.commit([record(1)], [], after(Checkpoint(), 1))
    opened.close()
    state = tmp_path / "shop" / (".syncer/state.db" if kind == "jsonl" else "shop.db")
    with closing(sqlite3.connect(state)) as connection:
        connection.execute("UPDATE syncer_checkpoint SET body = replace(body, '\"run\":1', '\"run\":2')")
        connection.commit()

    with pytest.raises(StateError, match="checksum"):
        sink(kind, tmp_path, "shop", ORDERS).open()


def test_a_state_that_is_no_database_is_refused(kind: str, tmp_path: Path) -> None:
    state = tmp_path / "shop" / (".syncer/state.db" if kind == "jsonl" else "shop.db")
    state.parent.mkdir(parents=True)
    state.write_bytes(b"this is not a database, and it is long enough to be read as one" * 20)

    with pytest.raises(StateError):
        sink(kind, tmp_path, "shop", ORDERS).open()


def test_set_aside_keeps_everything_under_another_name(kind: str, opened: Sink, tmp_path: Path) -> None:
    opened.commit([record(1)], [reject(2)], after(Checkpoint(), 1, 1))
    opened.close()
    names = opened.set_aside("20260131T120000Z")

    made = sink(kind, tmp_path, "shop", ORDERS)

    assert made.open() == Checkpoint()
    assert [] == list(made.rejects())
    assert 2 == len([name for name in names if "before-20260131T120000Z" in name])
    made.close()


def test_everything_is_for_the_owner_only(kind: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = sink(kind, tmp_path / "out", "shop", ORDERS)
        made.open()
        first = after(Checkpoint(), 1, 2)
        made.commit([record(1)], [reject(2), reject(3)], first)
        made.amend(settling({2: None}), lambda: amended(first, purged=1))
        made.close()
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*")}

    assert {0o600, 0o700} == set(modes.values())
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())


def test_an_output_that_cannot_be_written_is_a_sink_error(kind: str, tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("a file where the directory should be")

    with pytest.raises(SinkError):
        sink(kind, tmp_path, "shop", ORDERS).open()


def test_peeking_needs_no_lock_and_makes_nothing(kind: str, tmp_path: Path) -> None:
    assert sink(kind, tmp_path, "shop", ORDERS).peek() is None
    assert [] == list(sink(kind, tmp_path, "shop", ORDERS).rejects())
    assert [] == list(tmp_path.iterdir())


# Giving rejects a new place


def amended(before: Checkpoint, written: int = 0, repeated: int = 0, purged: int = 0) -> Checkpoint:
    """The checkpoint once so many rejects have become something else."""
    moved = Counts(written=written, repeated=repeated, purged=purged, rejected=-written - repeated - purged)
    return before.settled(moved, moved, {}, {}, "2026-02-01T12:00:00.000Z")


def settling(lines: dict[int, Record | bytes | None]) -> Callable[[bytes], Record | bytes | None]:
    """Answers by the id of the rejected record; a line that is not named stays as it is."""
    return lambda line: lines.get(int(json.loads(line)["record"]["id"]), line)


def left(made: Sink) -> list[Any]:
    """The ids of the rejects, and whatever `settling` has put into their lines."""
    return [(line["record"]["id"], *line["reasons"]) for line in map(json.loads, made.rejects())]


def test_rejects_become_records_or_stay_or_go_in_one_commit(kind: str, opened: Sink, tmp_path: Path) -> None:
    first = after(Checkpoint(), 2, 4)
    opened.commit([record(1), record(2)], [reject(number) for number in (3, 4, 5, 6)], first)
    again = reject(5).line.replace(b'"reasons":[]', b'"reasons":["still"]')
    done = amended(first, 1, purged=1)
    opened.amend(settling({3: record(3), 4: None, 5: again}), lambda: done)
    opened.close()

    made = sink(kind, tmp_path, "shop", ORDERS)

    assert done == made.open()
    assert ([1, 2, 3], 2) == contents(kind, tmp_path)
    assert [("5", "still"), ("6",)] == left(made)
    assert done.stored.rejected == 2
    made.close()


def test_pages_go_on_behind_what_joined_the_records(kind: str, opened: Sink, tmp_path: Path) -> None:
    first = after(Checkpoint(), 1, 2)
    opened.commit([record(1)], [reject(2), reject(3)], first)
    done = amended(first, 1)
    opened.amend(settling({2: record(2)}), lambda: done)
    opened.commit([record(4)], [reject(5)], after(done, 1, 1))

    assert ([1, 2, 4], 2) == contents(kind, tmp_path)
    assert [("3",), ("5",)] == left(opened)


def test_where_every_reject_stays_nothing_is_written_and_no_checkpoint_is_asked_for(
    kind: str, opened: Sink, tmp_path: Path
) -> None:
    first = after(Checkpoint(), 1, 2)
    opened.commit([record(1)], [reject(2), reject(3)], first)

    opened.amend(settling({}), lambda: pytest.fail("there is nothing to count"))

    assert first == opened.peek()
    assert ([1], 2) == contents(kind, tmp_path)
    names = [path.name for path in (tmp_path / "shop").iterdir()]
    assert [] == [name for name in names if name.startswith("orders.rejects.jsonl.")]


@pytest.mark.parametrize("where", ["settle", "checkpoint"])
def test_what_goes_wrong_while_rejects_are_settled_leaves_everything_as_it_was(
    kind: str, opened: Sink, tmp_path: Path, where: str
) -> None:
    first = after(Checkpoint(), 1, 3)
    opened.commit([record(1)], [reject(2), reject(3), reject(4)], first)
    long = record(2, title="x" * 2**21)
    answers = settling({2: long, 3: None})

    def settle(line: bytes) -> Record | bytes | None:
        if where == "settle" and line == reject(4).line:
            raise ValueError("stop")
        return answers(line)

    def checkpoint() -> Checkpoint:
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        opened.amend(settle, checkpoint)
    opened.close()

    made = sink(kind, tmp_path, "shop", ORDERS)
    assert first == made.open()
    assert [] == list(made.notes)
    assert ([1], 3) == contents(kind, tmp_path)
    made.close()


def test_an_amend_out_of_turn_changes_nothing(kind: str, opened: Sink, tmp_path: Path) -> None:
    """The stream has moved on behind a sink that was opened before: its lock file was deleted (I9)."""
    first = after(Checkpoint(), 1, 1)
    opened.commit([record(1)], [reject(2)], first)
    (tmp_path / "shop" / ".syncer" / f"orders.{kind}.lock").unlink()
    other = sink(kind, tmp_path, "shop", ORDERS)
    second = after(other.open(), 1)
    other.commit([record(3)], [], second)
    other.close()

    with pytest.raises(LockError):
        opened.amend(settling({2: record(2)}), lambda: amended(first, 1))
    opened.close()

    made = sink(kind, tmp_path, "shop", ORDERS)
    assert second == made.open()
    assert ([1, 3], 1) == contents(kind, tmp_path)
    made.close()


def test_only_the_rejects_of_a_refresh_under_way_are_settled_and_the_old_output_is_left_alone(
    kind: str, opened: Sink, tmp_path: Path
) -> None:
    first = after(Checkpoint(), 1, 1, last=True)
    opened.commit([record(1)], [reject(2)], first)
    second = after(first, 1, 2, anew=True)
    opened.commit([record(3)], [reject(4), reject(5)], second)

    done = amended(second, 1)
    opened.amend(settling({2: None, 4: record(4)}), lambda: done)
    half, _ = contents(kind, tmp_path)
    during, newest = left(opened), [json.loads(line)["record"]["id"] for line in opened.rejects(newest=True)]
    opened.close()
    made = sink(kind, tmp_path, "shop", ORDERS)
    made.open()
    made.commit([record(6)], [], after(done, 1, last=True))
    made.close()

    assert [1] == half
    assert [("2",), ("5",)] == during
    assert ["5"] == newest
    assert ([3, 4, 6], 1) == contents(kind, tmp_path)
    assert [("5",)] == left(made)


def test_a_refresh_that_a_replay_completes_takes_the_old_outputs_place(kind: str, opened: Sink, tmp_path: Path) -> None:
    from dataclasses import replace

    first = after(Checkpoint(), 1, 1, last=True)
    opened.commit([record(1)], [reject(2)], first)
    second = after(first, 0, 1, anew=True).ended("over budget")
    opened.commit([], [reject(3)], second)

    opened.amend(settling({3: record(3)}), lambda: replace(amended(second, 1), status="complete"))

    assert ([3], 0) == contents(kind, tmp_path)
    assert [] == left(opened)
    names = {path.name for path in (tmp_path / "shop").iterdir()}
    assert names in ({"orders.jsonl", "orders.rejects.jsonl", ".syncer"}, {"shop.db", "shop.db-journal", ".syncer"})


def test_many_rejects_are_settled_in_pieces(kind: str, opened: Sink, tmp_path: Path) -> None:
    """More than a batch, and more bytes than are held at once."""
    first = after(Checkpoint(), 0, 1200)
    opened.commit([], [reject(number) for number in range(1200)], first)
    long = {number: record(number, title="x" * 4000) for number in range(0, 1200, 2)}
    opened.amend(settling(dict(long)), lambda: amended(first, 600))
    opened.close()

    made = sink(kind, tmp_path, "shop", ORDERS)
    made.open()
    assert (list(range(0, 1200, 2)), 600) == contents(kind, tmp_path)
    assert [(str(number),) for number in range(1, 1200, 2)] == left(made)
    made.close()


VERSIONS = Stream(
    name="orders", path="/", model=Order, primary_key=("id", "state"), replication_key="at", since="since"
)
WHOLE = Stream(name="orders", path="/", model=Order, replication_key="at", since="since")


def test_the_sink_says_which_version_of_a_record_it_holds(kind: str, tmp_path: Path) -> None:
    made = sink(kind, tmp_path, "shop", VERSIONS)
    made.open()
    later = record(1, at="2026-01-02T00:00:00Z")
    made.commit([record(1), record(2**62), later, record(4, state="done")], [], after(Checkpoint(), 4))

    asked = [record(1), record(2), record(2**62), record(4), record(4, state="done")]
    held = made.held(one.values for one in asked)
    made.close()

    found = [held.versions.get(held.key(one.values), "none") for one in asked]
    assert ["2026-01-02T00:00:00Z", "none", "2026-01-01T00:00:00Z", "none", "2026-01-01T00:00:00Z"] == found


def test_without_a_key_the_whole_record_tells_which_it_is(kind: str, tmp_path: Path) -> None:
    made = sink(kind, tmp_path, "shop", WHOLE)
    made.open()
    made.commit([record(1), record(2)], [], after(Checkpoint(), 2))

    asked = [record(1), record(1, weight=0.5), record(1, paid=False), record(2), record(3)]
    held = made.held(one.values for one in asked)
    made.close()

    found = [held.versions.get(held.key(one.values), "none") for one in asked]
    assert ["2026-01-01T00:00:00Z", "none", "none", "2026-01-01T00:00:00Z", "none"] == found


def test_the_version_that_counts_is_the_one_of_the_output_at_hand(kind: str, tmp_path: Path) -> None:
    """Also where it grows beside an older one."""
    made = sink(kind, tmp_path, "shop", ORDERS)
    made.open()
    first = after(Checkpoint(), 1, last=True)
    made.commit([record(1)], [], first)
    made.commit([record(2)], [], after(first, 1, anew=True))
    held = made.held(record(number).values for number in (1, 2))
    made.close()

    assert {held.key(record(2).values): None} == held.versions


def test_a_key_that_came_as_text_is_another_than_the_same_number(kind: str, tmp_path: Path) -> None:
    class Text(Order):
        id: int | str  # type: ignore[assignment]

    made = sink(kind, tmp_path, "shop", ORDERS)
    made.open()
    made.commit([record(12)], [], after(Checkpoint(), 1))
    made.close()
    made = sink(kind, tmp_path, "shop", Stream(name="orders", path="/", model=Text, primary_key="id"))
    made.open()
    held = made.held([record(12).values, {**record(12).values, "id": "12"}])
    made.close()

    assert [held.key(record(12).values)] == list(held.versions)


# SQLite's own promises


def test_columns_have_the_type_that_json_has_for_the_field() -> None:
    expected = {
        "id": "INTEGER",
        "title": "TEXT",
        "price": "TEXT",
        "weight": "REAL",
        "paid": "INTEGER",
        "state": "TEXT",
        "at": "TEXT",
        "created": "INTEGER",
        "tags": "JSON",
        "extra": "JSON",
    }

    assert expected == columns(ORDERS)


def test_values_are_bound_exactly(tmp_path: Path) -> None:
    made = sink("sqlite", tmp_path, "shop", ORDERS)
    made.open()
    made.commit([record(2**63 - 1)], [], after(Checkpoint(), 1))
    made.close()
    with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
        row = connection.execute("SELECT * FROM orders").fetchone()

    assert row == (
        2**63 - 1,
        "a\0\u2028é",
        "1.10",
        0.1,
        1,
        "new",
        "2026-01-01T00:00:00Z",
        1767225600,
        '["x"]',
        '{"n":1}',
    )


def test_a_record_that_comes_again_replaces_its_row(tmp_path: Path) -> None:
    made = sink("sqlite", tmp_path, "shop", ORDERS)
    made.open()
    first = after(Checkpoint(), 2)
    made.commit([record(1), record(2)], [], first)
    made.commit([record(1, title="new"), record(1, title="newest")], [], after(first, 2))
    made.close()
    with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
        rows = connection.execute("SELECT id, title FROM orders ORDER BY id").fetchall()

    assert [(1, "newest"), (2, "a\0\u2028é")] == rows


def test_without_a_key_every_record_is_a_row(tmp_path: Path) -> None:
    made = sink("sqlite", tmp_path, "shop", LOOSE)
    made.open()
    made.commit([record(1), record(1)], [], after(Checkpoint(), 2))
    made.close()

    assert ([1, 1], 0) == contents("sqlite", tmp_path)


def test_integers_that_sqlite_would_round_are_refused() -> None:
    made = sink("sqlite", Path("nowhere"), "shop", ORDERS)

    assert ["id"] == [reason.path for reason in made.refuses({"id": 2**63, "price": 2**70})]
    assert [] == list(made.refuses({"id": -(2**63)}))


def test_fields_that_the_model_does_not_name_get_columns_as_they_come(tmp_path: Path) -> None:
    kept = Stream(name="orders", path="/", model=Order, primary_key="id", unknown="keep")
    made = sink("sqlite", tmp_path, "shop", kept)
    made.open()
    first = after(Checkpoint(), 1)
    made.commit([record(1)], [], first)
    made.commit([record(2, colour="red", size=2**70)], [], after(first, 1))
    made.close()
    with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
        rows = connection.execute("SELECT id, colour, size, typeof(size) FROM orders").fetchall()

    assert [(1, None, None, "null"), (2, "red", str(2**70), "text")] == rows


def test_a_column_whose_type_would_change_what_a_replay_brings_loses_its_type(tmp_path: Path) -> None:
    """The rows that are there stay as they are, and so do the index, the trigger and the view that a user made."""

    class Wide(Order):
        weight: float | str | None  # type: ignore[assignment]

    made = sink("sqlite", tmp_path, "shop", ORDERS)
    made.open()
    first = after(Checkpoint(), 2, 2)
    made.commit([record(1), record(2, weight=None)], [reject(3), reject(4)], first)
    made.close()
    with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
        connection.execute("ALTER TABLE orders ADD COLUMN mine TEXT DEFAULT 'it''s'")
        connection.execute("CREATE INDEX by_title ON orders (title)")
        connection.execute("CREATE TABLE seen (id)")
        connection.execute("CREATE TRIGGER note AFTER INSERT ON orders BEGIN INSERT INTO seen VALUES (new.id); END")
        connection.execute("CREATE VIEW heavy AS SELECT id, weight FROM orders WHERE weight IS NOT NULL")
        connection.commit()

    wide = Stream(name="orders", path="/orders", model=Wide, pagination=SinglePage(), primary_key="id")
    made = sink("sqlite", tmp_path, "shop", wide)
    made.open()
    made.amend(settling({3: record(3, weight="12"), 4: record(4, weight=Decimal("0.5"))}), lambda: amended(first, 2))
    made.close()
    again = sink("sqlite", tmp_path, "shop", wide)
    again.commit([record(5, weight="heavy")], [], after(again.open(), 1))
    again.close()

    with closing(sqlite3.connect(tmp_path / "shop" / "shop.db")) as connection:
        rows = connection.execute("SELECT id, weight, mine FROM orders ORDER BY id").fetchall()
        seen = connection.execute("SELECT id FROM seen ORDER BY id").fetchall()
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL")]
        heavy = connection.execute("SELECT count(*) FROM heavy").fetchone()
    assert [(1, 0.1, "it's"), (2, None, "it's"), (3, "12", None), (4, 0.5, None), (5, "heavy", None)] == rows
    assert [(3,), (4,), (5,)] == seen
    assert (4,) == heavy
    assert {"orders", "by_title", "note", "heavy", "seen"} < set(names)
    assert [] == [name for name in names if "loose" in name]


# JSON lines' own promises


def test_a_long_tail_that_nothing_vouches_for_is_kept_beside(tmp_path: Path) -> None:
    made = sink("jsonl", tmp_path, "shop", ORDERS)
    made.open()
    made.commit([record(1)], [], after(Checkpoint(), 1))
    made.close()
    file = tmp_path / "shop" / "orders.jsonl"
    expected, foreign = file.read_bytes(), b"x" * 3_000_000
    file.write_bytes(expected + foreign)

    made.open()

    assert expected == file.read_bytes()
    assert foreign == (tmp_path / "shop" / f"orders.jsonl.tail-{len(expected)}").read_bytes()
    assert 1 == len(made.notes)
    made.close()


@pytest.mark.parametrize("harm", ["shorter", "flipped", "no newline", "gone"])
def test_a_file_that_is_not_what_was_committed_stops_the_pull(tmp_path: Path, harm: str) -> None:
    made = sink("jsonl", tmp_path, "shop", ORDERS)
    made.open()
    made.commit([record(1), record(2)], [], after(Checkpoint(), 2))
    made.close()
    file = tmp_path / "shop" / "orders.jsonl"
    good = file.read_bytes()
    harmed = {"shorter": good[:-1], "flipped": good.replace(b"new", b"nev", 1), "no newline": good[:-1] + b"x"}
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(harmed[harm])

    with pytest.raises(StateError) as error:
        made.open()
    made.close()
    assert "reset shop orders" in error.value.hint
    assert harm == "gone" or harmed[harm] == file.read_bytes()
