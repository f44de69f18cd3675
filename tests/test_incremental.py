"""What an incremental stream must not lose, double or alter from one run to the next."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import AwareDatetime, BaseModel, field_validator, model_validator

from syncer import Stream
from syncer.checkpoint import PENDING
from syncer.clock import Clock

from .world import BEGAN, Api, item, run, stream

KEYS = stream("keyset", incremental=True)


def written(out: Path) -> list[Any]:
    return [json.loads(line)["id"] for line in (out / "shop" / "items.jsonl").read_bytes().split(b"\n")[:-1]]


def rejected(out: Path) -> int:
    return (out / "shop" / "items.rejects.jsonl").read_bytes().count(b"\n")


def with_model(model: type[BaseModel]) -> Stream:
    return replace(KEYS, model=model)


class Strict(BaseModel):
    id: int
    name: int
    changed: AwareDatetime


class Mended(BaseModel):
    id: int
    name: int | str
    changed: AwareDatetime


def test_a_record_rejected_on_the_boundary_is_written_once_its_model_is_mended(tmp_path: Path) -> None:
    records = [{"id": 1, "name": "text", "changed": item(1)["changed"]}]
    run(tmp_path, with_model(Strict), "jsonl", Api(records))
    assert ([], 1) == (written(tmp_path), rejected(tmp_path))
    again = run(tmp_path, with_model(Mended), "jsonl", Api(records), accept_changes=True)
    assert ([1], 0) == (written(tmp_path), again.streams[0].counts.repeated)


def test_a_boundary_record_that_comes_with_its_fields_in_another_order_is_not_written_twice(tmp_path: Path) -> None:
    run(tmp_path, KEYS, "jsonl")
    turned = Api([dict(reversed(record.items())) for record in Api().records])
    again = run(tmp_path, KEYS, "jsonl", turned)
    assert (1, 0) == (again.streams[0].counts.repeated, again.streams[0].counts.written)


class Slow(Api):
    """Dates an answer when it is done, half an hour after it began to read."""

    def __init__(self, clock: Clock, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.clock = clock

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.clock.sleep(1800)
        return super().send(request, *args, **options)


def ticking() -> Clock:
    elapsed = [0.0]

    def sleep(seconds: float) -> None:
        elapsed[0] += seconds

    return Clock(now=lambda: BEGAN, monotonic=lambda: elapsed[0], sleep=sleep)


def test_what_changed_while_the_first_answer_was_made_is_asked_for_again(tmp_path: Path) -> None:
    """Record 2 changes while the API reads record 1, whose change is younger: the bookmark must stay before both."""
    clock, during = ticking(), (BEGAN - timedelta(minutes=20)).isoformat()
    younger = {**item(1), "changed": (BEGAN - timedelta(minutes=10)).isoformat()}
    old = {**item(3), "changed": (BEGAN - timedelta(days=9)).isoformat()}
    first = run(tmp_path, KEYS, "jsonl", Slow(clock, [old, younger]), clock=clock)
    assert old["changed"] == first.streams[0].bookmark
    run(tmp_path, KEYS, "jsonl", Api([younger, {**old, "changed": during}]))
    assert [3, 1, 3] == written(tmp_path)


class Moving(BaseModel):
    """A model whose own code looks at the whole record."""

    id: int
    name: str
    changed: AwareDatetime

    @model_validator(mode="after")
    def named(self) -> Moving:
        assert self.name, "every record has a name"
        return self


class Slashes(BaseModel):
    id: int
    name: str
    changed: AwareDatetime

    @field_validator("changed", mode="before")
    @classmethod
    def dashes(cls, value: str) -> datetime:
        return datetime.fromisoformat(value.replace("/", "-"))


@pytest.mark.parametrize("model", [Moving, Slashes], ids=["a model's validator", "a field's validator"])
def test_the_bookmark_is_compared_in_the_next_run_as_it_was_in_this_one(tmp_path: Path, model: type[BaseModel]) -> None:
    slashes = model is Slashes

    def at(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "changed": record["changed"].replace("-", "/")} if slashes else record

    records = [at(item(number)) for number in (1, 3, 4)]
    first = run(tmp_path, with_model(model), "jsonl", Asked(records))
    again = run(tmp_path, with_model(model), "jsonl", Asked(records[2:]))
    assert records[2]["changed"] == first.streams[0].bookmark == again.streams[0].bookmark
    assert ([1, 3, 4], 1) == (written(tmp_path), again.streams[0].counts.repeated)


class Asked(Api):
    """Gives its records whatever is asked for."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        request.url = (request.url or "").partition("?")[0]
        return super().send(request, *args, **options)


class Mixed(BaseModel):
    id: int
    name: str
    changed: int | str


def test_values_that_cannot_be_compared_lose_nothing(tmp_path: Path) -> None:
    records = [{"id": 1, "name": "a", "changed": 5}, {"id": 3, "name": "b", "changed": "six"}]
    first = run(tmp_path, with_model(Mixed), "jsonl", Asked(records))
    again = run(tmp_path, with_model(Mixed), "jsonl", Asked(records))
    assert (0, 0) == (first.exit_code, again.exit_code)
    assert ([1, 3], 2) == (written(tmp_path), again.streams[0].counts.repeated)


class Nullable(BaseModel):
    id: int
    name: str
    changed: AwareDatetime | None


class Wide(Asked):
    """Everything on one page."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        from .world import answer

        return answer(request, json.dumps({"items": self.records, "more": False}).encode())


def test_records_without_a_replication_value_are_remembered_up_to_a_bound_and_never_lost(tmp_path: Path) -> None:
    records = [{"id": n, "name": "n", "changed": None} for n in range(PENDING + 5)]
    first = run(tmp_path, with_model(Nullable), "jsonl", Wide(records))
    again = run(tmp_path, with_model(Nullable), "jsonl", Wide(records))
    counts = again.streams[0].counts
    assert (PENDING + 5, PENDING, 5) == (first.streams[0].counts.written, counts.repeated, counts.written)
    assert any("may write some of them again" in note for note in first.streams[0].notes)


class Short(Api):
    """Declares one record more than it gives."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        from .world import answer, content

        made = super().send(request, *args, **options)
        body = json.loads(content(made))
        return answer(request, json.dumps({**body, "total": body["total"] + 1}).encode(), headers=dict(made.headers))


def test_a_run_that_comes_short_does_not_move_the_bookmark(tmp_path: Path) -> None:
    run(tmp_path, KEYS, "jsonl", Api(Api().records[:5]))
    short = run(tmp_path, KEYS, "jsonl", Short(Api().records[:9]))
    assert (9, "short", item(5)["changed"]) == (
        short.exit_code,
        short.streams[0].status,
        short.streams[0].bookmark,
    )
    run(tmp_path, KEYS, "jsonl")
    assert set(written(tmp_path)) == {1, 3, 4, 5, 6, 7, 9, 10, 11}


def test_a_first_run_that_comes_short_is_replaced_by_the_next(tmp_path: Path) -> None:
    assert 9 == run(tmp_path, KEYS, "jsonl", Short(Api().records[:6])).exit_code
    assert 0 == run(tmp_path, KEYS, "jsonl").exit_code
    assert [1, 3, 4, 5, 6, 7, 9, 10, 11] == written(tmp_path)
