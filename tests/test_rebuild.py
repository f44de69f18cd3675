"""An output made anew from kept pages: the same bytes where nothing changed, and never from half of the pages."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AwareDatetime, BaseModel

from syncer import Masked, Stream
from syncer.decode import Rows, Unparsable
from syncer.errors import RejectBudgetError, StateError
from syncer.kept import Kept, Pages, packed, unpacked
from syncer.page import Page, Request
from syncer.rebuild import Rebuilt, rebuild
from syncer.sinks import KINDS
from syncer.sinks import sink as make
from tests.api import Api as Server
from tests.api import connector
from tests.command import Project
from tests.test_replay_rejects import Loose, Tight, mended, peeked, purged, records, rejects, replayed
from tests.test_resume import killed
from tests.world import BEGAN, Api, item, run, stopped_clock, stream, tree


def rebuilt(out: Path, source: Stream, sink: str, *, dry_run: bool = False, **options: Any) -> Rebuilt:
    home, done = out / "shop", Rebuilt(source.name, dry_run=dry_run)
    target, pages = make(sink, out, "shop", source), Pages(home, sink, source.name)
    try:
        rebuild(source, target, pages, stopped_clock(), done, home, **options)
    finally:
        pages.close()
        target.close()
    return done


def kept(out: Path, source: Stream, sink: str, api: Api | None = None, **options: Any) -> None:
    run(out, source, sink, api, keep_pages=True, **options)


def dropped(out: Path, *numbers: int) -> None:
    with closing(sqlite3.connect(out / "shop" / ".syncer" / "pages" / "cache.db")) as connection, connection:
        for number in numbers:
            connection.execute("DELETE FROM Cache WHERE key LIKE ?", (f"%/{number}",))


def pulled(out: Path, source: Stream, sink: str) -> None:
    """Three runs of an incremental stream, or one of another; some records repeat, some are rejected."""
    rows = [item(number) for number in range(1, 12)]
    kept(out, source, sink, Api(rows))
    if source.incremental:
        rows += [{**item(12), "changed": rows[-1]["changed"]}, {**item(13), "name": 7}]
        kept(out, source, sink, Api(rows))
        kept(out, source, sink, Api([*rows, item(14)]))


@pytest.mark.parametrize("style", ["token", "offset", "keyset"])
@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("sink", KINDS)
def test_where_nothing_changed_the_same_bytes_come_out(
    tmp_path: Path, sink: str, incremental: bool, style: str
) -> None:
    source = stream(style, incremental=incremental)
    pulled(tmp_path, source, sink)
    before, state = tree(tmp_path, sink), peeked(tmp_path, source, sink)
    assert state.stored.rejected
    for _ in range(2):
        done = rebuilt(tmp_path, source, sink)
        assert (None, state.stored) == (done.error, done.stored)
        assert before == tree(tmp_path, sink)
    after = peeked(tmp_path, source, sink)
    assert replace(state, seq=after.seq, saved=after.saved) == after
    again = run(tmp_path, source, sink, Api([item(number) for number in (1, 3, 20)]))
    assert 0 == again.exit_code


@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize("incremental", [False, True])
def test_under_a_new_model_the_output_is_what_a_pull_with_it_would_have_made(
    tmp_path: Path, sink: str, incremental: bool
) -> None:
    source = stream("token", incremental=incremental)
    pulled(tmp_path / "old", source, sink)
    pulled(tmp_path / "new", mended(source), sink)
    dry = rebuilt(tmp_path / "old", mended(source), sink, dry_run=True)
    untouched = tree(tmp_path / "old", sink)
    done = rebuilt(tmp_path / "old", mended(source), sink)
    assert (dry.stored, peeked(tmp_path / "new", source, sink).stored) == (done.stored, done.stored)
    assert untouched != tree(tmp_path / "old", sink)
    assert records(tmp_path / "new", sink) == records(tmp_path / "old", sink)
    assert [] == rejects(tmp_path / "old", source, sink)
    assert peeked(tmp_path / "new", source, sink).bookmark == peeked(tmp_path / "old", source, sink).bookmark


@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ((2,), "1 of the 7 pages: run 1, page 2"),
        ((5,), "1 of the 7 pages: from run 1 to before run 3, of the output, page 5"),
        ((1, 2, 3, 4), "4 of the 7 pages: before run 2, of the output, pages 1 to 4"),
        ((3, 4, 6), "3 of the 7 pages: run 1, pages 3 to 4; run 3, page 1"),
        ((7,), "1 of the 7 pages: run 3, page 2"),
    ],
)
def test_a_page_that_is_not_held_is_named_and_nothing_happens(
    tmp_path: Path, sink: str, gone: tuple[int, ...], words: str
) -> None:
    source = stream("token", incremental=True)
    pulled(tmp_path, source, sink)
    assert 7 == peeked(tmp_path, source, sink).stored.pages
    before = tree(tmp_path, sink)
    dropped(tmp_path, *gone)
    for dry_run in (True, False):
        with pytest.raises(StateError, match=words) as caught:
            rebuilt(tmp_path, source, sink, dry_run=dry_run)
        assert "--restart" in caught.value.hint
    assert before == tree(tmp_path, sink)


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_page_of_another_life_or_changed_by_a_bit_is_named(tmp_path: Path, number: int) -> None:
    source = stream("token")
    kept(tmp_path / "a", source, "jsonl")
    kept(tmp_path / "b", source, "jsonl", Api([item(number) for number in range(21, 33)]))
    database = tmp_path / "a" / "shop" / ".syncer" / "pages" / "cache.db"
    with closing(sqlite3.connect(tmp_path / "b" / "shop" / ".syncer" / "pages" / "cache.db")) as other:
        foreign = dict(other.execute("SELECT key, value FROM Cache").fetchall())
    key = next(name for name in foreign if name.endswith(f"/{number}"))
    with closing(sqlite3.connect(database)) as connection:
        (own,) = connection.execute("SELECT value FROM Cache WHERE key = ?", (key,)).fetchone()
    for value in (foreign[key], own[:-1] + bytes([own[-1] ^ 1]), own[:40], b"", b"\x80\x04."):
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (value, key))
        with pytest.raises(StateError, match=rf"1 of the 4 pages: run 1, page ({number}|{number + 1})$"):
            rebuilt(tmp_path / "a", source, "jsonl")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (own, key))
    assert rebuilt(tmp_path / "a", source, "jsonl").error is None


def test_the_last_page_of_an_older_output_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    source = stream("token")
    kept(tmp_path, source, "jsonl")
    target = make("jsonl", tmp_path, "shop", source)
    target.set_aside("x")
    run(tmp_path, source, "jsonl", Api([item(number) for number in range(31, 43)]))
    with pytest.raises(StateError, match="4 of the 4 pages"):
        rebuilt(tmp_path, source, "jsonl")


@pytest.mark.parametrize("sink", KINDS)
def test_a_run_under_way_is_not_rebuilt(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    kept(tmp_path, source, sink, max_pages=2)
    with pytest.raises(StateError, match="under way"):
        rebuilt(tmp_path, source, sink)
    kept(tmp_path, source, sink)
    assert rebuilt(tmp_path, source, sink).error is None


@pytest.mark.parametrize("sink", KINDS)
def test_a_model_that_rejects_too_much_does_not_replace_the_output(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    kept(tmp_path, source, sink)
    before = tree(tmp_path, sink)
    with pytest.raises(RejectBudgetError):
        rebuilt(tmp_path, mended(source, Tight), sink)
    assert before == tree(tmp_path, sink)
    assert rebuilt(tmp_path, source, sink).error is None


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("sink", KINDS)
def test_a_rebuild_that_is_killed_anywhere_has_happened_or_not(
    tmp_path: Path, memory: Path, sink: str, incremental: bool, long: bool
) -> None:
    source = stream("token", incremental=incremental)
    pulled(memory / "start", source, sink)
    old = tree(memory / "start", sink)
    shutil.copytree(memory / "start", memory / "whole")
    rebuilt(memory / "whole", mended(source), sink)
    new = tree(memory / "whole", sink)
    assert old != new
    seen = set[bool]()
    for step in range(1, 10_000, 1 if long else 3):
        out = memory / f"cut-{step}"
        shutil.copytree(memory / "start", out)
        cut = killed(step, partial(rebuilt, out, mended(source), sink))
        target = make(sink, out, "shop", source)
        target.open()
        target.close()
        found = tree(out, sink)
        assert found in (old, new)
        seen.add(found == new)
        rebuilt(out, mended(source), sink)
        assert new == tree(out, sink)
        shutil.rmtree(out)
        if not cut:
            break
    assert {False, True} == seen


@pytest.mark.parametrize("sink", KINDS)
def test_any_sequence_of_pulls_rebuilds_replays_and_purges_adds_up(tmp_path: Path, sink: str, seed: int) -> None:
    chance = random.Random(seed)
    for trial in range(4):
        out, source = tmp_path / str(trial), stream("token", incremental=chance.random() < 0.7)
        rows = [item(number) for number in range(1, 9)]
        kept(out, source, sink, Api(rows))
        for step in range(8):
            now = mended(source, Loose) if chance.random() < 0.4 else source
            match chance.randrange(4):
                case 0:
                    rows.append(item(20 + step) if chance.random() < 0.7 else {**item(20 + step), "name": 5})
                    kept(out, now, sink, Api(list(rows)), accept_changes=True)
                case 1:
                    rebuilt(out, now, sink)
                case 2:
                    replayed(out, now, sink)
                case _:
                    purged(out, now, sink, "name")
            state = peeked(out, source, sink)
            assert state.stored.balanced()
            assert state.stored.rejected == len(rejects(out, source, sink))
            held = {row["id"] for row in records(out, sink)} | {
                row["record"]["id"] for row in rejects(out, source, sink)
            }
            if not state.stored.purged:
                assert {row["id"] for row in rows} >= held
                assert {1, 3} <= held


class Item(BaseModel):
    id: int
    name: Annotated[str, Masked()]
    price: float
    changed: AwareDatetime


@pytest.mark.parametrize("sink", KINDS)
def test_what_is_masked_is_in_no_kept_page_and_comes_out_as_it_was(tmp_path: Path, sink: str) -> None:
    source = replace(stream("token"), model=Item, unknown="keep", mask=("extra",))
    rows = [{**item(number), "name": f"canary {number}", "extra": "canary"} for number in (1, 3, 4)]
    rows += [{**item(5), "name": ["canary"]}, {**item(6), "name": "canary", "price": "canary?"[:0]}]
    rows += [{**item(7), "name": None}, {**item(9), "name": "canary\ud800"}]
    kept(tmp_path, source, sink, Api(rows))
    before = tree(tmp_path, sink)
    assert 4 == peeked(tmp_path, source, sink).stored.rejected
    assert None is rebuilt(tmp_path, source, sink).error
    assert before == tree(tmp_path, sink)
    for found in Pages(tmp_path / "shop", sink, "items").read(peeked(tmp_path, source, sink)):
        assert isinstance(found, Kept)
        assert "canary" not in repr(found.page)
        assert "canary" not in repr(list(found.page.records))


def test_a_page_comes_back_as_it_was_kept() -> None:
    given = [b'{"a": 1.50}', b"[1]", b'"x"']
    odd = [{"a": "\ud800"}, Unparsable('{"a": NaN}', "NaN is not JSON")]
    for rows in (Rows(given), Rows([]), odd):
        page = Page(3, Request("/x", params={"a": 1}), "GET x", rows, Request("/y"), 7, BEGAN, "d", ("t",), "n")
        found = unpacked(packed("before", 2, page, "now"))
        assert found is not None
        assert ("before", 2, "now", list(rows)) == (found[0], found[1].run, found[1].stamp, list(found[1].page.records))
        assert replace(page, records=()) == replace(found[1].page, records=())


def test_pages_are_kept_within_their_bounds_and_what_is_not_is_said(tmp_path: Path) -> None:
    source = stream("token")
    (done,) = run(tmp_path, source, "jsonl", keep_pages=True, keep_size=1).streams
    assert ["complete", True] == [done.status, any("is full: pages are not kept" in note for note in done.notes)]
    with pytest.raises(StateError, match="4 of the 4 pages"):
        rebuilt(tmp_path, source, "jsonl")


def test_a_refresh_forgets_the_pages_of_the_output_that_it_replaces(tmp_path: Path) -> None:
    source = replace(stream("token"), keep_pages=True)
    for _ in range(3):
        run(tmp_path, source, "jsonl")
    with closing(sqlite3.connect(tmp_path / "shop" / ".syncer" / "pages" / "cache.db")) as connection:
        assert ["jsonl/items/3"] == [tag for (tag,) in connection.execute("SELECT DISTINCT tag FROM Cache")]
    assert rebuilt(tmp_path, source, "jsonl").error is None


@pytest.mark.parametrize("sink", KINDS)
def test_the_command_rebuilds_without_a_request_and_keeps_no_page_with_a_secret(tmp_path: Path, sink: str) -> None:
    project, options = Project(tmp_path), ("--sink", sink)
    with Server(8) as api:
        project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN"),'))
        env = {"SHOP_TOKEN": "item 5 ✓".encode().decode("latin-1").encode("ascii", "ignore").decode() + "-c4nary"}
        project.run("pull", "shop", *options, "--keep-pages", env=env)
        asked = len(api.seen)
        done = project.run("rebuild", "shop", *options, "--json")
        assert (0, asked) == (done.code, len(api.seen))
        assert (8, 8) == (done.json()[0]["before"]["written"], done.json()[0]["stored"]["written"])
        assert "8 written, 8 before" in project.run("rebuild", "shop", *options, "--dry-run").stdout
        project.run("pull", "shop", *options, "--restart", "--yes", env=env)
        missing = project.run("rebuild", "shop", *options)
        assert 8 == missing.code
        assert "2 of the 2 pages: run 2, pages 1 to 2" in missing.stdout
        with_secret = {"SHOP_TOKEN": "2026-01-01T00"}
        told = project.run("pull", "shop", *options, "--restart", "--yes", "--keep-pages", env=with_secret)
        assert "repeats a secret and is not kept" in told.said
