"""Rejects that are replayed or purged: killed anywhere, none is lost and none is there twice, in every sink."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, create_model

from syncer import Stream
from syncer.checkpoint import Checkpoint, save
from syncer.clock import Stop
from syncer.errors import StateError, StoppedError
from syncer.replay import Settled, purge, replay
from syncer.review import Wanted
from syncer.sinks import KINDS, disk
from syncer.sinks import sink as make
from syncer.sinks.jsonl import JsonLines, _own
from syncer.validate import Record
from tests.powerloss import build, states
from tests.test_resume import killed
from tests.world import BEGAN, Api, item, run, stopped_clock, stream, tree


class Loose(BaseModel):
    """What the model of tests.world becomes when the API's names may be numbers."""

    id: int
    name: str | int
    price: float
    changed: AwareDatetime


class Looser(Loose):
    name: str | int | None  # type: ignore[assignment]


class Tight(Loose):
    """Accepts less than before: a model that was mended in the wrong way."""

    name: bool  # type: ignore[assignment]


def of_names(*names: str) -> type[BaseModel]:
    """A model that takes these names only; its columns are the same whatever the names."""
    return create_model("Item", __base__=Loose, name=(Literal[names], ...))  # type: ignore[valid-type,call-overload,no-any-return]


def mended(source: Stream, model: type[BaseModel] = Loose) -> Stream:
    return replace(source, model=model)


def replayed(out: Path, source: Stream, sink: str, *, dry_run: bool = False, stop: Stop | None = None) -> Settled:
    """One replay, as the command does it."""
    target, done = make(sink, out, "shop", source), Settled(source.name, dry_run=dry_run)
    try:
        replay(source, target, stopped_clock(stop), done)
    finally:
        target.close()
    return done


def purged(out: Path, source: Stream, sink: str, cause: str = "") -> Settled:
    target, done = make(sink, out, "shop", source), Settled(source.name)
    try:
        purge(source, target, stopped_clock(), Wanted(cause), done)
    finally:
        target.close()
    return done


def peeked(out: Path, source: Stream, sink: str) -> Checkpoint:
    found = make(sink, out, "shop", source).peek()
    assert found is not None
    return found


def rejects(out: Path, source: Stream, sink: str, *, newest: bool = False) -> list[dict[str, Any]]:
    return [json.loads(line) for line in make(sink, out, "shop", source).rejects(newest=newest)]


def records(out: Path, sink: str) -> list[dict[str, Any]]:
    """The records that the checkpoint speaks of, in their order, also those of a refresh under way."""
    home = out / "shop"
    state = home / (".syncer/state.db" if sink == "jsonl" else "shop.db")
    row = disk.peek(state, "items")
    assert row is not None
    if sink == "jsonl":
        mark = row[1]["records"]
        content = (home / mark["name"]).read_bytes()
        assert mark["length"] == len(content)
        return [json.loads(line) for line in content.split(b"\n")[:-1]]
    with closing(sqlite3.connect(state)) as connection:
        cursor = connection.execute(f'SELECT * FROM "{row[1]["table"]}" ORDER BY rowid')
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor]


# What a replay does


@pytest.mark.parametrize("sink", KINDS)
def test_records_that_pass_move_and_the_others_stay_with_their_new_reasons(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    bad = [*Api().records, {**item(20), "name": None}, {**item(21), "id": "x", "name": 9}]
    run(tmp_path, source, sink, Api(bad))
    before = rejects(tmp_path, source, sink)

    done = replayed(tmp_path, mended(source), sink)

    still = rejects(tmp_path, source, sink)
    assert [2, 8, 20, "x"] == [line["record"]["id"] for line in before]
    assert [20, "x"] == [line["record"]["id"] for line in still]
    assert [2, 8] == [record["id"] for record in records(tmp_path, sink) if record["name"] in (2, 8)]
    assert ["name.int", "name.str"] == sorted(reason["path"] for reason in still[0]["reasons"])
    assert [["id"], ["id", "name"]] == [
        [reason["path"] for reason in line["reasons"]] for line in (still[1], before[3])
    ]
    kept = ("page", "index", "run", "request", "cursor", "at", "record", "v")
    assert [{name: line[name] for name in kept} for line in before[2:]] == [
        {name: line[name] for name in kept} for line in still
    ]
    assert {"Loose"} == {line["model"].partition(" ")[0] for line in still}
    assert (2, 2, 0) == (done.passed.total(), done.failed.total(), done.repeated)
    assert {"name: string_type": 2} == done.passed
    assert {"name.int: int_type; name.str: string_type": 1, "id: int_type": 1} == done.failed
    stored = peeked(tmp_path, source, sink).stored
    assert (13, 11, 2, 0, 0) == (stored.fetched, stored.written, stored.rejected, stored.repeated, stored.purged)


@pytest.mark.parametrize("sink", KINDS)
def test_a_dry_run_says_the_same_and_changes_nothing(tmp_path: Path, sink: str) -> None:
    source = stream("keyset", incremental=True)
    run(tmp_path, source, sink, Api([*Api().records, {**item(12), "name": None}]))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    dry = replayed(tmp_path, mended(source), sink, dry_run=True)

    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = replayed(tmp_path, mended(source), sink)
    assert (2, 1) == (done.passed.total(), done.failed.total())
    assert (dry.passed, dry.failed, dry.repeated) == (done.passed, done.failed, done.repeated)


@pytest.mark.parametrize("sink", KINDS)
def test_a_replay_that_changes_nothing_leaves_every_byte_and_the_checkpoint(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    run(tmp_path, source, sink)
    expected, checkpoint = tree(tmp_path, sink), peeked(tmp_path, source, sink)

    done = replayed(tmp_path, source, sink)

    assert (0, 2) == (done.passed.total(), done.failed.total())
    assert expected == tree(tmp_path, sink)
    assert checkpoint == peeked(tmp_path, source, sink)


def test_what_was_never_pulled_has_nothing_to_replay_and_nothing_is_made(tmp_path: Path) -> None:
    done = replayed(tmp_path, stream("token"), "jsonl")

    assert 0 == done.gone + done.failed.total()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("sink", KINDS)
def test_a_model_that_accepts_less_takes_nothing_away(tmp_path: Path, sink: str) -> None:
    """Records are not judged again, and the rejects say what is wrong with them now."""
    source = stream("token")
    run(tmp_path, source, sink)
    expected = records(tmp_path, sink)

    replayed(tmp_path, mended(source, Tight), sink)

    assert expected == records(tmp_path, sink)
    assert ["name: bool_type"] * 2 == [
        f"{reason['path']}: {reason['type']}" for line in rejects(tmp_path, source, sink) for reason in line["reasons"]
    ]


@pytest.mark.parametrize("sink", KINDS)
def test_a_stream_whose_key_is_another_now_is_not_replayed(tmp_path: Path, sink: str) -> None:
    run(tmp_path, stream("token"), sink)
    expected = tree(tmp_path, sink)

    with pytest.raises(StateError, match="primary_key") as error:
        replayed(tmp_path, mended(stream("token", key=False)), sink)

    assert "--restart" in error.value.hint
    assert expected == tree(tmp_path, sink)


@pytest.mark.parametrize("sink", KINDS)
def test_a_signal_ends_a_replay_with_nothing_changed(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    run(tmp_path, source, sink)
    expected = tree(tmp_path, sink)

    with pytest.raises(StoppedError):
        replayed(tmp_path, mended(source), sink, stop=Stop(15))

    assert expected == tree(tmp_path, sink)


class Dropped(BaseModel):
    id: int
    name: str
    price: float
    changed: AwareDatetime
    extra: int


@pytest.mark.parametrize("sink", KINDS)
def test_a_stream_that_no_longer_minds_unknown_fields_gets_its_records_and_its_next_pull(
    tmp_path: Path, sink: str
) -> None:
    source = replace(stream("token"), unknown="reject")
    run(tmp_path, source, sink)

    done = replayed(tmp_path, replace(source, unknown="drop"), sink)

    assert (9, 2) == (done.passed.total(), done.failed.total())
    assert 0 == run(tmp_path, replace(source, unknown="drop"), sink).exit_code


@pytest.mark.parametrize("sink", KINDS)
def test_text_that_is_no_json_is_decoded_again_and_stays_as_it_is(tmp_path: Path, sink: str) -> None:
    """Its reasons are not the model's, so another model changes nothing about it."""
    source = stream("token")

    class Broken(Api):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            from tests.world import answer

            body = b'{"items": [{"id": 1, "name": "\xc3\xa9", "price": NaN}, {"id": 2, "name": "\\ud800"}], "total": 2}'
            return answer(request, body, headers={"Content-Type": "application/json"})

    run(tmp_path, source, sink, Broken())
    before = rejects(tmp_path, source, sink)

    done = replayed(tmp_path, mended(source, Looser), sink)

    assert (0, 2) == (done.passed.total(), done.failed.total())
    after = rejects(tmp_path, source, sink)
    assert ["not_json", "lone_surrogate"] == [line["reasons"][0]["type"] for line in after]
    assert before[0] == after[0]
    assert before[1]["text"] == after[1]["text"]


@pytest.mark.parametrize("sink", KINDS)
def test_text_that_a_newer_syncer_can_read_is_judged_by_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sink: str
) -> None:
    """An older one, which took no number with a fraction, stands in for a syncer that knows less than today's."""
    source = stream("token")
    run(tmp_path, source, sink)
    target = make(sink, tmp_path, "shop", source)
    target.open()
    older = {**json.loads(next(target.rejects())), "text": json.dumps(item(30)), "record": None}
    older["reasons"] = [{"path": "", "type": "not_json", "message": "The record is not JSON"}]
    del older["record"]
    target.amend(lambda line: json.dumps(older).encode(), lambda: peeked(tmp_path, source, sink).settled(*_nothing()))
    target.close()

    done = replayed(tmp_path, source, sink)

    assert 2 == done.passed.total()
    assert 30 in [record["id"] for record in records(tmp_path, sink)]


def _nothing() -> tuple[Any, ...]:
    from syncer.checkpoint import Counts

    return Counts(), Counts(), {}, {}, "2026-01-31T12:00:00.000Z"


@pytest.mark.parametrize("sink", KINDS)
def test_a_reject_counts_only_the_faults_that_it_has_now(tmp_path: Path, sink: str) -> None:
    class Tagged(Loose):
        name: list[int]  # type: ignore[assignment]

    source = mended(stream("token"), Tagged)
    run(tmp_path, source, sink, Api([{**item(1), "name": ["x"] * 30}]))
    assert 10 == rejects(tmp_path, source, sink)[0]["more"]

    replayed(tmp_path, mended(source, of_names("a")), sink)

    (line,) = rejects(tmp_path, source, sink)
    assert (1, False) == (len(line["reasons"]), "more" in line)


# Versions


@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize(("arrived", "stays"), [("older", False), ("same", True), ("newer", True)])
def test_a_version_that_is_as_new_or_newer_stays_the_valid_one(
    tmp_path: Path, sink: str, arrived: str, stays: bool
) -> None:
    """Record 5 was accepted once and refused once; its moments are the same in two zones, or an hour apart."""
    source = stream("keyset", incremental=True)
    moments = {"older": "2026-01-10T10:00:00Z", "same": "2026-01-10T11:00:00Z", "newer": "2026-01-10T12:00:00Z"}
    refused = {**item(5), "name": 5, "changed": "2026-01-10T13:00:00+02:00"}
    accepted = {**item(5), "name": "accepted", "changed": moments[arrived]}
    run(tmp_path, source, sink, Api([refused, accepted] if arrived != "older" else [accepted, refused]))

    done = replayed(tmp_path, mended(source), sink)

    names = [record["name"] for record in records(tmp_path, sink)]
    assert (0, 1) if stays else (1, 0) == (done.passed.total(), done.repeated)
    assert ("accepted" if stays else 5) == names[-1]
    assert [] == rejects(tmp_path, source, sink)
    stored = peeked(tmp_path, source, sink).stored
    assert (2, 2 - stays, 0, int(stays)) == (stored.fetched, stored.written, stored.rejected, stored.repeated)


@pytest.mark.parametrize("sink", KINDS)
def test_without_a_replication_key_a_row_that_is_there_stays(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    run(tmp_path, source, sink, Api([{**item(5), "name": "there"}, {**item(5), "name": 5}, item(2)]))

    done = replayed(tmp_path, mended(source), sink)

    assert [(2, 2), (5, "there")] == [(record["id"], record["name"]) for record in _by_id(records(tmp_path, sink))]
    assert (1, 1) == (done.passed.total(), done.repeated)


@pytest.mark.parametrize("sink", KINDS)
def test_of_several_rejects_of_a_record_the_newest_is_the_valid_one(tmp_path: Path, sink: str) -> None:
    """In whatever order they came: an older one is not put behind a newer one."""
    source = stream("keyset", incremental=True)
    days = [3, 1, 5, 4]
    versions = [{**item(5), "name": day, "changed": f"2026-01-{day:02d}T00:00:00Z"} for day in days]
    run(tmp_path, source, sink, Api(versions))

    done = replayed(tmp_path, mended(source), sink)

    assert (2, 2) == (done.passed.total(), done.repeated)
    assert ([3, 5] if sink == "jsonl" else [5]) == [int(record["name"]) for record in records(tmp_path, sink)]


@pytest.mark.parametrize("sink", KINDS)
def test_a_model_that_changes_its_mind_between_two_looks_moves_nothing_unlooked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sink: str
) -> None:
    from pydantic import field_validator

    class Moody(Loose):
        @field_validator("name")
        @classmethod
        def moody(cls, value: str | int) -> str | int:
            if next(looks) < 6:  # a record that fails is looked at three times: quickly, in part, with care
                raise ValueError("not now")
            return value

    looks = itertools.count()
    source = stream("token")
    run(tmp_path, source, sink)
    expected = records(tmp_path, sink)

    done = replayed(tmp_path, mended(source, Moody), sink)

    assert (0, 2) == (done.passed.total(), done.failed.total())
    assert expected == records(tmp_path, sink)


@pytest.mark.parametrize("sink", KINDS)
def test_a_dry_run_beside_a_pull_that_adds_rejects_counts_them_as_staying(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sink: str
) -> None:
    """It takes no lock, so between its two looks there may be more."""
    source = stream("keyset", incremental=True)
    run(tmp_path, source, sink, Api(Api().records[:7]))
    target, done = make(sink, tmp_path, "shop", mended(source)), Settled("items", dry_run=True)
    look = target.held

    def held(records: Any) -> Any:
        found = look(records)
        run(tmp_path, source, sink)
        return found

    monkeypatch.setattr(target, "held", held)
    replay(mended(source), target, stopped_clock(), done)

    assert (1, 1) == (done.passed.total(), done.failed.total())


# The pull after it


@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize("key", [True, False])
def test_a_record_on_the_bookmark_that_was_replayed_does_not_come_again(tmp_path: Path, sink: str, key: bool) -> None:
    """The last record is a reject; the next pull asks from its moment on and meets it under the new model."""
    source = stream("keyset", incremental=True, key=key)
    api = Api([*Api().records[:7], {**item(8), "changed": item(7)["changed"]}])
    run(tmp_path, source, sink, api)
    replayed(tmp_path, mended(source), sink)

    again = run(tmp_path, mended(source), sink, api)

    assert 0 == again.exit_code
    assert (2, 0, 0, 2) == _counts(again.streams[0].counts)
    assert sorted([*range(1, 9)]) == sorted(record["id"] for record in records(tmp_path, sink))


@pytest.mark.parametrize("sink", KINDS)
def test_a_record_replayed_in_the_middle_of_a_run_does_not_come_again_in_the_next(tmp_path: Path, sink: str) -> None:
    source = stream("keyset", incremental=True, key=False)
    late = {**item(4), "name": 4, "changed": item(11)["changed"]}
    api = Api([item(1), item(3), late, item(11)])
    run(tmp_path, source, sink, api, max_pages=1)
    replayed(tmp_path, mended(source), sink)

    resumed = run(tmp_path, mended(source), sink, api)
    again = run(tmp_path, mended(source), sink, api)

    assert (4, 4, 0, 0) == _counts(resumed.streams[0].run)
    assert (2, 0, 0, 2) == _counts(again.streams[0].counts)


@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize("key", [True, False])
def test_a_reject_that_came_again_and_was_accepted_before_the_replay_is_there_once(
    tmp_path: Path, sink: str, key: bool
) -> None:
    source = mended(stream("keyset", incremental=True, key=key), of_names("a"))
    wide = mended(source, of_names("a", "b"))
    every = [{**item(number), "name": "b" if number in (2, 8) else "a"} for number in range(1, 12)]
    api = Api([*every[:7], {**every[7], "changed": item(7)["changed"]}])
    run(tmp_path, source, sink, api)
    api.records += every[8:]
    assert 0 == run(tmp_path, wide, sink, api, accept_changes=True).exit_code

    done = replayed(tmp_path, wide, sink)

    assert (1, 1) == (done.passed.total(), done.repeated)
    assert sorted([*range(1, 12)]) == sorted(record["id"] for record in records(tmp_path, sink))
    assert peeked(tmp_path, source, sink).stored.balanced()


@pytest.mark.parametrize("sink", KINDS)
def test_the_next_pull_goes_on_under_a_model_by_which_a_record_was_moved(tmp_path: Path, sink: str) -> None:
    """Also where some still fail (D23); without a replay, or one that moved nothing, it says that the model changed."""
    source = stream("keyset", incremental=True)
    api = Api([*Api().records, {**item(12), "name": None}])
    run(tmp_path, source, sink, api)

    unasked = run(tmp_path, mended(source), sink, api).exit_code
    replayed(tmp_path, mended(source, Tight), sink)
    nothing_moved = run(tmp_path, mended(source, Tight), sink, api).exit_code
    replayed(tmp_path, mended(source), sink)
    some_moved = run(tmp_path, mended(source), sink, api).exit_code

    assert (8, 8, 0) == (unasked, nothing_moved, some_moved)
    assert 8 == run(tmp_path, replace(mended(source), version=2), sink, api).exit_code


@pytest.mark.parametrize("sink", KINDS)
def test_an_open_run_goes_on_where_it_was_after_a_replay(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    run(tmp_path / "calm", mended(source), sink)
    run(tmp_path / "out", source, sink, max_pages=3)
    replayed(tmp_path / "out", mended(source), sink)
    api = Api()

    resumed = run(tmp_path / "out", mended(source), sink, api)

    assert (0, 1) == (resumed.exit_code, api.requests)
    assert _by_id(records(tmp_path / "calm", sink)) == _by_id(records(tmp_path / "out", sink))
    assert [] == rejects(tmp_path / "out", source, sink)
    assert (11, 11, 0, 0) == _counts(resumed.streams[0].run)


@pytest.mark.parametrize("sink", KINDS)
def test_a_run_that_stopped_over_its_budget_goes_on_once_its_rejects_have_moved(tmp_path: Path, sink: str) -> None:
    """Its count of rejects follows the replay: else the next reject would stop it again."""
    source = replace(stream("token"), max_rejects="1")
    api = Api([*Api().records, {**item(12), "name": None}])
    assert 3 == run(tmp_path, source, sink, api).exit_code

    replayed(tmp_path, mended(source), sink)
    resumed = run(tmp_path, mended(source), sink, api)

    assert (0, "complete") == (resumed.exit_code, resumed.streams[0].status)
    assert (12, 11, 1, 0) == _counts(resumed.streams[0].run)


# A refresh under way, and one that came to nothing


@pytest.mark.parametrize("sink", KINDS)
def test_of_a_refresh_under_way_its_own_rejects_move_and_the_older_ones_are_named(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    run(tmp_path, source, sink, Api([item(1), {**item(2), "name": None}, item(8)]))
    run(tmp_path, source, sink, max_pages=3)

    done = replayed(tmp_path, mended(source), sink)

    assert (2, 2) == (done.passed.total(), done.older)
    assert [2, 8] == [line["record"]["id"] for line in rejects(tmp_path, source, sink)]
    assert [] == rejects(tmp_path, source, sink, newest=True)
    assert 0 == run(tmp_path, mended(source), sink).exit_code
    assert [] == rejects(tmp_path, source, sink)
    assert sorted([*range(1, 12)]) == sorted(record["id"] for record in records(tmp_path, sink))


@pytest.mark.parametrize("sink", KINDS)
def test_a_refresh_that_ended_over_its_budget_takes_its_place_once_its_rejects_have_moved(
    tmp_path: Path, sink: str
) -> None:
    """The API changed overnight: every record was refused, and the old output stayed."""
    source = replace(stream("token"), max_rejects=None)
    run(tmp_path, source, sink, Api(Api().records[:1]))
    changed = Api([{**item(number), "name": number} for number in range(1, 4)])
    assert 3 == run(tmp_path, source, sink, changed).exit_code
    assert [1] == [record["id"] for record in _published(tmp_path, sink)]

    done = replayed(tmp_path, mended(source), sink)

    assert ("complete", 3) == (done.status, done.passed.total())
    assert [(1, 1), (2, 2), (3, 3)] == [(row["id"], int(row["name"])) for row in _published(tmp_path, sink)]
    assert [] == rejects(tmp_path, source, sink)


@pytest.mark.parametrize("sink", KINDS)
def test_a_refresh_over_its_budget_does_not_become_complete_by_a_purge(tmp_path: Path, sink: str) -> None:
    source = replace(stream("token"), max_rejects=None)
    run(tmp_path, source, sink, Api(Api().records[:1]))
    run(tmp_path, source, sink, Api([{**item(number), "name": number} for number in range(1, 4)]))

    purged(tmp_path, source, sink, "name")

    assert "over budget" == peeked(tmp_path, source, sink).status
    assert [1] == [record["id"] for record in _published(tmp_path, sink)]


@pytest.mark.parametrize("sink", KINDS)
def test_what_was_purged_of_a_run_still_counts_for_its_budget(tmp_path: Path, sink: str) -> None:
    source = replace(stream("token"), max_rejects="1")
    run(tmp_path, source, sink, Api(Api().records[:1]))
    bad = [{**item(1), "name": 1}, {**item(3), "price": "x"}, {**item(4), "price": "y"}]
    assert 3 == run(tmp_path, source, sink, Api(bad)).exit_code

    purged(tmp_path, source, sink, "price")
    done = replayed(tmp_path, mended(source), sink)

    assert (1, []) == (done.passed.total(), rejects(tmp_path, source, sink, newest=True))
    assert "over budget" == peeked(tmp_path, source, sink).status
    assert [1] == [record["id"] for record in _published(tmp_path, sink)]


@pytest.mark.parametrize("sink", KINDS)
def test_a_replay_that_leaves_too_many_rejects_leaves_the_refresh_over_its_budget(tmp_path: Path, sink: str) -> None:
    source = replace(stream("token"), max_rejects="1")
    run(tmp_path, source, sink, Api(Api().records[:1]))
    bad = [{**item(number), "name": None if number > 1 else 1} for number in range(1, 4)]
    assert 3 == run(tmp_path, source, sink, Api(bad)).exit_code

    replayed(tmp_path, mended(source), sink)

    assert "over budget" == peeked(tmp_path, source, sink).status
    assert [1] == [record["id"] for record in _published(tmp_path, sink)]


def _published(out: Path, sink: str) -> list[dict[str, Any]]:
    """The records under the final name."""
    if sink == "jsonl":
        content = (out / "shop" / "items.jsonl").read_bytes()
        return [json.loads(line) for line in content.split(b"\n")[:-1]]
    with closing(sqlite3.connect(out / "shop" / "shop.db")) as connection:
        rows = connection.execute("SELECT id, name FROM items ORDER BY id").fetchall()
        return [{"id": number, "name": name} for number, name in rows]


def _by_id(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda record: int(record["id"]))


def _counts(counts: Any) -> tuple[int, int, int, int]:
    return counts.fetched, counts.written, counts.rejected, counts.repeated


# Purging


@pytest.mark.parametrize("sink", KINDS)
def test_what_is_purged_is_counted_and_nothing_else_goes(tmp_path: Path, sink: str) -> None:
    source = stream("token")
    run(tmp_path, source, sink, Api([*Api().records, {**item(12), "price": "x"}]))
    expected = records(tmp_path, sink)

    done = purged(tmp_path, source, sink, "PRICE")

    assert ({"price: float_type": 1}, {"name: string_type": 2}) == (done.purged, done.failed)
    assert [2, 8] == [line["record"]["id"] for line in rejects(tmp_path, source, sink)]
    assert expected == records(tmp_path, sink)
    stored = peeked(tmp_path, source, sink).stored
    assert (12, 9, 2, 0, 1) == (stored.fetched, stored.written, stored.rejected, stored.repeated, stored.purged)


@pytest.mark.parametrize("sink", KINDS)
def test_a_purged_reject_on_the_bookmark_does_not_come_back(tmp_path: Path, sink: str) -> None:
    source = stream("keyset", incremental=True)
    api = Api([*Api().records[:7], {**item(8), "changed": item(7)["changed"]}])
    run(tmp_path, source, sink, api)
    purged(tmp_path, source, sink)

    run(tmp_path, source, sink, api)

    assert [] == rejects(tmp_path, source, sink)
    assert 2 == peeked(tmp_path, source, sink).stored.purged


# Killed anywhere


def a_replay(out: Path, source: Stream, sink: str) -> None:
    replayed(out, mended(source), sink)


def a_purge(out: Path, source: Stream, sink: str) -> None:
    purged(out, source, sink, "name")


MOVES = [a_replay, a_purge]
CASES = ["complete", "open", "refresh", "over budget", "incremental"]


def left_by(kind: str, out: Path, sink: str) -> Stream:
    """What a run of this kind leaves, and the stream it was of."""
    source = stream("keyset", incremental=True) if kind == "incremental" else stream("token")
    source = replace(source, max_rejects=None) if kind == "over budget" else source
    if kind == "complete":
        run(out, source, sink, Api([*Api().records, {**item(12), "name": None}]))
    elif kind == "open":
        run(out, source, sink, max_pages=3)
    elif kind == "refresh":
        run(out, source, sink)
        run(out, source, sink, max_pages=3)
    elif kind == "over budget":
        run(out, source, sink, Api(Api().records[:1]))
        run(out, source, sink, Api([{**item(number), "name": number} for number in range(1, 4)]))
    else:
        versions = [item(2), {**item(2), "name": "newer", "changed": item(3)["changed"]}, item(8)]
        run(out, source, sink, Api(versions))
    return source


class Story:
    """A replay or a purge of what a run of a kind left, to be done again and again on copies."""

    def __init__(self, home: Path, kind: str, sink: str, move: Callable[[Path, Stream, str], None]) -> None:
        self.home, self.sink, self.move = home, sink, move
        self.source = left_by(kind, home / "before", sink)
        self.before = peeked(home / "before", self.source, sink).stored
        self.copied("calm")()
        self.expected, self.after = tree(home / "calm", sink), peeked(home / "calm", self.source, sink).stored
        assert self.before != self.after

    def copied(self, name: str) -> Callable[[], None]:
        """What is to be done to a copy of this name."""
        out = self.home / name
        shutil.copytree(self.home / "before", out)
        return lambda: self.move(out, self.source, self.sink)

    def ended(self, name: str) -> bool:
        """Whether a copy ended as one that was never disturbed."""
        out = self.home / name
        return self.expected == tree(out, self.sink) and self.after == peeked(out, self.source, self.sink).stored


@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("kind", CASES)
def test_killed_before_any_step_it_has_happened_or_not_and_done_again_it_ends_the_same(
    tmp_path: Path, kind: str, move: Callable[[Path, Stream, str], None], sink: str
) -> None:
    """A real SIGKILL before every write, fsync, rename and statement in turn."""
    story = Story(tmp_path, kind, sink, move)

    for step in itertools.count(1):
        work = story.copied(str(step))
        if not killed(step, work):
            break
        left = peeked(tmp_path / str(step), story.source, sink).stored
        assert left in (story.before, story.after)
        assert left.balanced()
        assert left.rejected == len(rejects(tmp_path / str(step), story.source, sink, newest=True))
        work()

        assert story.ended(str(step)), f"killed before step {step}"

    assert step > 15


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize("move", MOVES)
def test_killed_again_and_again_even_while_it_recovers_it_ends_the_same(
    tmp_path: Path, move: Callable[[Path, Stream, str], None], sink: str, seed: int, long: bool
) -> None:
    stories = [Story(tmp_path / kind, kind, sink, move) for kind in CASES]
    dice = random.Random(f"{seed} {move.__name__} {sink}")
    lives = itertools.count()
    kills = life = 0
    while life < (300 if long else 15) or kills < 7:
        life = next(lives)
        story = stories[life % len(stories)]
        work = story.copied(str(life))
        while killed(dice.randrange(1, 120), work):  # a whole replay has some 60 steps
            kills += 1

        assert story.ended(str(life)), f"life {life}, {story.home.name}, seed {seed}"


@pytest.mark.parametrize("kind", ["complete", "refresh", "over budget"])
def test_no_power_cut_leaves_a_state_from_which_a_replay_ends_differently(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    count, bad = damaged_by_power_cuts(monkeypatch, tmp_path, kind)

    assert 0 == bad
    assert count > 5


def damaged_by_power_cuts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> tuple[int, int]:
    """How many states a power cut may leave in the middle of a replay, and how many of them end in other output."""
    story = Story(tmp_path, kind, "jsonl", a_replay)
    work = story.copied("cut")
    found = list(states(monkeypatch, tmp_path / "cut" / "shop", work))
    for number, state in enumerate(found):
        build(tmp_path / str(number) / "shop", state)
    return len(found), sum(_differs(story, str(number)) for number in range(len(found)))


def damaged_by_kills(tmp_path: Path) -> int:
    """At how many steps of a replay a kill leaves other output in the end."""
    story = Story(tmp_path, "complete", "jsonl", a_replay)
    bad = 0
    for step in itertools.count(1):
        if not killed(step, story.copied(str(step))):
            return bad
        bad += _differs(story, str(step))
    raise AssertionError


def _differs(story: Story, name: str) -> bool:
    """Whether the replay, done on what is there, ends otherwise or not at all."""
    try:
        story.move(story.home / name, story.source, story.sink)
    except StateError:
        return True
    return not story.ended(name)


class TwoCommits(JsonLines):
    """Wrong: the records in one commit, what is left of the rejects in another."""

    def amend(self, settle: Callable[[bytes], Record | bytes | None], checkpoint: Callable[[], Checkpoint]) -> None:
        answers = [(line, settle(line)) for line in self.rejects(newest=True)]
        moved = [answer.line for _, answer in answers if isinstance(answer, Record)]
        after = checkpoint()
        half = {**self._marks, "records": self._append("records", self._marks["records"], moved)}
        os.fsync(self._descriptors["records"])
        with disk.transaction(self._connection, self._state):
            save(self._connection, self._stream.name, replace(after, seq=self._seq), _own(half, False), again=True)
        self._marks = half
        kept = dict(answers)
        super().amend(lambda line: None if isinstance(kept[line], Record) else line, lambda: after)


class RenamedFirst(JsonLines):
    """Wrong: what is left of the rejects takes its place before the row counts."""

    def _flush(self, found: Any) -> None:
        super()._flush(found)
        if found["rejects"].name != self._finals["rejects"]:
            (self._directory / found["rejects"].name).replace(self._directory / self._finals["rejects"])

    def _untouched(self, marks: Any) -> None:
        return


class NoSync(JsonLines):
    """Wrong: the row becomes durable before the bytes it vouches for."""

    def _flush(self, found: Any) -> None:
        return


def use(monkeypatch: pytest.MonkeyPatch, kind: type[JsonLines]) -> None:
    import tests.test_replay_rejects as here

    monkeypatch.setattr(here, "make", lambda _, out, source, stream: kind(out / source, stream))


@pytest.mark.parametrize("wrong", [TwoCommits, RenamedFirst], ids=lambda kind: kind.__name__)
def test_a_replay_in_the_wrong_order_is_caught_by_killing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: type[JsonLines]
) -> None:
    use(monkeypatch, wrong)

    assert damaged_by_kills(tmp_path) > 0


@pytest.mark.parametrize("wrong", [TwoCommits, NoSync], ids=lambda kind: kind.__name__)
def test_a_replay_that_trusts_the_disk_too_early_is_caught_by_cutting_the_power(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: type[JsonLines]
) -> None:
    use(monkeypatch, wrong)

    _, bad = damaged_by_power_cuts(monkeypatch, tmp_path, "complete")

    assert bad > 0


# Through any sequence


MODELS = [of_names("a"), of_names("a", "b"), of_names("b", "c"), of_names("a", "b", "c", "d")]


def version(number: int, name: Any) -> dict[str, Any]:
    """A version of one of seven records; two versions share each moment."""
    changed = (BEGAN - timedelta(days=300) + timedelta(hours=number // 2)).isoformat()
    return {"id": number % 7, "name": name, "price": number + 0.5, "changed": changed, "extra": number}


names = st.sampled_from(["a", "b", "c", "d"])
kills = st.one_of(st.none(), st.none(), st.integers(1, 40))
actions = st.one_of(
    st.tuples(st.just("grow"), st.lists(names, min_size=1, max_size=4)),
    st.tuples(st.just("pull"), st.sampled_from([None, None, 1, 2]), st.booleans(), kills),
    st.tuples(st.just("model"), st.integers(0, len(MODELS) - 1)),
    st.tuples(st.just("replay"), kills),
    st.tuples(st.just("replay"), kills),
    st.tuples(st.just("purge"), st.sampled_from(["name", "something else"]), kills),
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sink", KINDS)
@pytest.mark.parametrize("key", [True, False], ids=["keyed", "keyless"])
@pytest.mark.parametrize("incremental", [True, False], ids=["incremental", "refresh"])
def test_through_any_sequence_nothing_is_lost_and_nothing_is_there_twice(
    sink: str, key: bool, incremental: bool, long: bool
) -> None:
    """Pulls, kills, changes of the model, replays and purges: fetched = written + rejected + repeated + purged."""

    @settings(
        max_examples=400 if long else 20,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(names, min_size=1, max_size=9), st.lists(actions, min_size=3, max_size=12))
    def sequence(first: list[Any], steps: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            Sequence(Path(directory), sink, key=key, incremental=incremental).live(first, steps)

    sequence()


class Sequence:
    """One output, an API that grows, and what must hold after every step."""

    def __init__(self, out: Path, sink: str, *, key: bool, incremental: bool) -> None:
        self.out, self.sink, self.key, self.incremental = out, sink, key, incremental
        self.source = mended(stream("token", incremental=incremental, key=key), MODELS[0])
        self.api = Api([], date=BEGAN)
        self.gone: set[int] = set()

    def live(self, first: list[Any], steps: list[Any]) -> None:
        self.grow(first)
        for name, *arguments in steps:
            getattr(self, name)(*arguments)
            self.check(name)
        self.source = mended(self.source, MODELS[-1])
        self.pull(None, True, None)
        self.replay(None)
        self.pull(None, True, None)
        self.check("the end")
        self.complete()

    def grow(self, names: list[Any]) -> None:
        at = len(self.api.records)
        distinct = range(at, at + len(names))
        self.api.records += [
            version(number, name) if self.key and self.incremental else {**version(number, name), "id": number}
            for number, name in zip(distinct, names, strict=True)
        ]

    def model(self, number: int) -> None:
        self.source = mended(self.source, MODELS[number])

    def pull(self, pages: int | None, accept: bool, kill: int | None) -> None:
        def work() -> None:
            api = Api(self.api.records, date=BEGAN)
            report = run(self.out, self.source, self.sink, api, max_pages=pages, accept_changes=accept)
            assert report.exit_code in (0, 3, 8)  # 3: a refresh of rejects only

        self.done(work, kill)

    def replay(self, kill: int | None) -> None:
        self.done(lambda: replayed(self.out, self.source, self.sink), kill)

    def purge(self, cause: str, kill: int | None) -> None:
        before = self.rejected()
        self.done(lambda: purged(self.out, self.source, self.sink, cause), kill)
        self.gone |= before - self.rejected()

    def done(self, work: Callable[[], object], kill: int | None) -> None:
        if kill is None:
            work()
        elif killed(kill, work):
            target = make(self.sink, self.out, "shop", self.source)
            target.open()
            target.close()

    def rejected(self) -> set[int]:
        return {line["record"]["extra"] for line in rejects(self.out, self.source, self.sink, newest=True)}

    def check(self, step: str) -> None:
        checkpoint = make(self.sink, self.out, "shop", self.source).peek()
        if checkpoint is None or not checkpoint.run:
            return
        stored, found = checkpoint.stored, records(self.out, self.sink)
        assert stored.balanced(), step
        assert checkpoint.counts.balanced(), step
        assert stored.rejected == len(rejects(self.out, self.source, self.sink, newest=True)), step
        if self.sink == "jsonl" or not self.key:
            assert stored.written == len(found), step
        assert [] == [one for one, count in Counter(self.which(one) for one in found).items() if count > 1], step
        if self.incremental and self.key:
            for number in range(7):
                moments = [one["changed"] for one in found if one["id"] == number]
                assert moments == sorted(moments), f"{step}: an older version stands behind a newer one"

    def which(self, record: dict[str, Any]) -> tuple[Any, ...]:
        return record["id"], record["price"], record["changed"]

    def complete(self) -> None:
        """In the end the model takes everything: all is there that was not purged, in its newest version."""
        found = {self.which(one) for one in records(self.out, self.sink)}
        assert set() == self.rejected()
        wanted = [one for one in self.api.records if one["extra"] not in self.gone]
        if self.incremental and self.key:
            wanted = list({one["id"]: one for one in self.api.records}.values())
            wanted = [one for one in wanted if one["extra"] not in self.gone]
        missing = {self.which(one) for one in wanted} - found
        assert set() == missing
