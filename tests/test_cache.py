"""A page that has not changed is confirmed, not sent again; and whatever is wrong with the cache, the pull is right."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import diskcache
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from syncer import Bearer, Connector, LinkHeader, NextLink, NextToken, PageNumber, Rate, Stream
from syncer import cache as caching
from syncer.auth import Auth
from syncer.client import Client, Pacer
from syncer.clock import Clock
from syncer.errors import ConfigError
from syncer.moments import http_date
from syncer.page import Request, Response
from syncer.pull import Options, pull
from syncer.report import Report
from tests.api import Api, Asked, Reply, connector, record
from tests.command import Project, ended
from tests.world import stopped_clock

OLD = "Wed, 21 Oct 2015 07:28:00 GMT"


class Item(BaseModel):
    id: int
    name: str


def stream(pagination: Any = None, **more: Any) -> Stream:
    return Stream(
        **{
            "name": "items",
            "path": "/items",
            "records": "items",
            "model": Item,
            "pagination": pagination or NextToken("next", param="cursor"),
            "conditional": True,
            **more,
        }
    )


@dataclass
class Server:
    """Validators for the pages of an Api, as servers give them; `whole` are the cursors of pages that were sent."""

    api: Api
    kind: str = "strong"
    zipped: bool = False
    sent: dict[str, str] | None = None
    only: dict[str, str] | None = None
    """Further headers: of every 200, and of every 304."""

    def __post_init__(self) -> None:
        self.whole: list[str] = []
        self.unchanged: list[str] = []
        self.api.misbehave = self

    def __call__(self, asked: Asked) -> Reply:
        body, own = self.api.page(asked)
        content = json.dumps(body).encode()
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        by = {"strong": {"ETag": tag}, "weak": {"ETag": f"W/{tag}"}, "modified": {"Last-Modified": OLD}, "none": {}}
        headers: dict[str, str] = by[self.kind]
        cursor = asked.query.get("cursor") or asked.query.get("at") or asked.query.get("page") or ""
        named = asked.headers.get("if-none-match"), asked.headers.get("if-modified-since")
        known = self.kind == "modified" and named[1] == OLD
        known = known or (named[0] is not None and named[0].removeprefix("W/") == tag)
        if known:
            self.unchanged.append(cursor)
            return Reply(status=304, headers={**headers, **(self.only or {})}, body=b"")
        self.whole.append(cursor)
        if self.zipped:
            content, own = gzip.compress(content), {**own, "Content-Encoding": "gzip"}
        return Reply(headers={**headers, **own, **(self.sent or {})}, body=content)

    def counted(self) -> tuple[int, int]:
        """How many pages were sent and how many only confirmed, since the last time."""
        counts = len(self.whole), len(self.unchanged)
        self.whole, self.unchanged = [], []
        return counts


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(10, size=3) as made:
        yield made


def run(api: Api, out: Path, source: Stream | None = None, **options: Any) -> Report:
    """One pull of one stream, which must succeed unless its status is asked about."""
    auth: Auth | None = options.pop("auth", None)
    environment = options.pop("environment", {})
    clock: Clock = options.pop("clock", None) or stopped_clock()
    source = source or stream()
    made = Connector(name="shop", base_url=api.url, streams=(source,), auth=auth, rate=options.pop("rate", None))
    return pull(made, [source], Options(out, **options), environment, clock, lambda event: None)


def output(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shop").iterdir()) if path.is_file()}


def plain(api: Api, out: Path, source: Stream | None = None) -> dict[str, bytes]:
    """What the same pulls write without conditional requests: the output of two full refreshes."""
    off = replace(source or stream(), conditional=False)
    for _ in range(2):
        assert run(api, out, off).exit_code == 0
    return output(out)


def home(out: Path) -> Path:
    return out / "shop" / ".syncer" / "cache"


def database(out: Path) -> sqlite3.Connection:
    return sqlite3.connect(home(out) / "cache.db")


def dated(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    """Turn the clock of the servers."""
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda self, timestamp=None: date)


def notes(report: Report) -> list[str]:
    return [note for note in report.streams[0].notes if "cache" in note]


@pytest.mark.parametrize("kind", ["strong", "weak", "modified"])
@pytest.mark.parametrize(
    ("style", "pagination"),
    [
        ("token", NextToken("next", param="cursor")),
        ("next", NextLink("next")),
        ("link", LinkHeader()),
        ("page", PageNumber(pages="pages")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_unchanged_pages_are_confirmed_and_read_as_if_sent(
    tmp_path: Path, kind: str, style: str, pagination: Any, zipped: bool
) -> None:
    with Api(10, size=3, style=style) as api:
        server = Server(api, kind, zipped)
        source = stream(pagination, total="total")
        first = run(api, tmp_path / "on", source)
        assert ((4, 0), 0) == (server.counted(), first.not_modified)
        second = run(api, tmp_path / "on", source)
        assert ((0, 4), 4) == (server.counted(), second.not_modified)
        expected = plain(api, tmp_path / "off", source)

    assert expected == output(tmp_path / "on")
    assert (10, 10, 10) == (second.streams[0].run.fetched, second.streams[0].run.written, second.streams[0].total)
    assert second.to_json()["not_modified"] == 4
    assert "4 requests in 0.0 s, 4 not modified" in second.text()
    assert "not modified" not in first.text()


def test_a_stream_that_does_not_say_so_keeps_nothing(tmp_path: Path, api: Api) -> None:
    server = Server(api)
    plain(api, tmp_path)

    assert server.counted() == (8, 0)
    assert not home(tmp_path).exists()


def test_only_a_page_that_changed_is_sent_again(tmp_path: Path, api: Api) -> None:
    server = Server(api)
    run(api, tmp_path)
    server.counted()
    api.records = [record(n, **({"name": "new"} if n == 5 else {})) for n in range(1, 11)]
    run(api, tmp_path)

    assert (["3"], ["", "6", "9"]) == (server.whole, server.unchanged)
    names = [json.loads(line)["name"] for line in output(tmp_path)["items.jsonl"].splitlines()]
    assert [row["name"] for row in api.records] == names


def test_a_confirmed_page_waits_its_turn_like_any_other(tmp_path: Path, api: Api) -> None:
    """The Pacer cannot know before it asks what the answer will be, so the declared rate holds for all requests."""
    Server(api)
    run(api, tmp_path)
    clock = stopped_clock()
    again = run(api, tmp_path, rate=Rate(1, per=10), clock=clock)

    assert again.not_modified == 4
    assert clock.monotonic() >= 30


class TestPrivacy:
    """Whose answers they are, and what is never kept."""

    AUTH = Bearer(env="SHOP_TOKEN", optional=True)

    def test_another_account_is_never_given_this_ones_answer(self, tmp_path: Path, api: Api) -> None:
        """Not even where the server gives both the same ETag and would say 304."""
        server = Server(api)
        for token, expected in (("first-secret", 4), ("second-secret", 4), ("", 4)):
            run(api, tmp_path, auth=self.AUTH, environment={"SHOP_TOKEN": token})
            assert (expected, 0) == server.counted()
        for token in ("first-secret", "second-secret", ""):
            run(api, tmp_path, auth=self.AUTH, environment={"SHOP_TOKEN": token})
            assert (0, 4) == server.counted()

        stored = b"".join(path.read_bytes() for path in home(tmp_path).iterdir())
        assert b"secret" not in stored
        assert hashlib.sha256(b"first-secret").digest() not in stored

    def test_an_account_that_cannot_be_told_is_not_kept_for(self, tmp_path: Path, api: Api) -> None:
        class Hidden:
            optional = False

            def variables(self) -> tuple[str, ...]:
                return ()

            secrets = query = variables

            def sign(self, request: Any, environment: Any) -> None:
                request.headers["X-Key"] = "from somewhere else"

        server = Server(api)
        run(api, tmp_path, auth=Hidden())
        report = run(api, tmp_path, auth=Hidden())

        assert ((8, 0), []) == (server.counted(), notes(report))

    def test_other_headers_make_another_answer(self, tmp_path: Path, api: Api) -> None:
        server = Server(api)
        run(api, tmp_path, stream(headers={"Accept-Language": "en"}))
        run(api, tmp_path, stream(headers={"Accept-Language": "de"}), accept_changes=True, restart=False)

        assert server.counted() == (8, 0)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Cache-Control": "private, No-Store"},
            {"Vary": "Accept, *"},
            {"X-Echo": "long-secret-1"},
            {"ETag": 'not "sendable'},
            {"ETag": "\xff"},
        ],
        ids=["no-store", "vary", "secret", "blank", "not ASCII"],
    )
    def test_what_must_not_or_cannot_be_kept_is_not(self, tmp_path: Path, api: Api, headers: dict[str, str]) -> None:
        server = Server(api, sent=headers)
        for _ in range(2):
            report = run(api, tmp_path, auth=self.AUTH, environment={"SHOP_TOKEN": "long-secret-1"})

        assert ((8, 0), []) == (server.counted(), notes(report))

    def test_a_body_that_holds_the_secret_is_not_kept(self, tmp_path: Path, api: Api) -> None:
        api.records = [record(n, name="long/secret%1" if n == 5 else "x", echo="long/secret%1") for n in range(1, 4)]
        server = Server(api)
        for _ in range(2):
            run(api, tmp_path, auth=self.AUTH, environment={"SHOP_TOKEN": "long/secret%1"})

        assert server.counted() == (2, 0)

    def test_no_store_drops_what_was_kept_before(self, tmp_path: Path, api: Api) -> None:
        server = Server(api)
        run(api, tmp_path)
        server.only = {"Cache-Control": "no-store"}
        run(api, tmp_path)
        server.only = None
        server.counted()
        run(api, tmp_path)

        assert server.counted() == (4, 0)

    def test_last_modified_of_this_very_minute_is_no_validator(
        self, tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page that changes twice in a second has the same Last-Modified both times."""
        dated(monkeypatch, "Wed, 21 Oct 2015 07:28:59 GMT")
        server = Server(api, "modified")
        run(api, tmp_path)
        run(api, tmp_path)

        assert server.counted() == (8, 0)

    def test_files_are_for_the_owner_only(self, tmp_path: Path, api: Api) -> None:
        Server(api)
        before = os.umask(0)
        try:
            run(api, tmp_path)
        finally:
            os.umask(before)

        assert 0o700 == home(tmp_path).stat().st_mode & 0o777
        assert {0o600} == {path.stat().st_mode & 0o777 for path in home(tmp_path).iterdir()}

    def test_a_request_with_a_body_cannot_be_conditional(self) -> None:
        with pytest.raises(ConfigError, match="needs a GET"):
            stream(method="POST")


def asked(api: Api, out: Path) -> tuple[Response, Pacer]:
    """The first page, asked for by a client of its own, and how that left its Pacer."""
    clock = stopped_clock()
    pacer = Pacer(None, clock, lambda event: None)
    (out / ".syncer").mkdir(mode=0o700, exist_ok=True)
    kept = caching.Cache(out / ".syncer" / "cache", "items", None, {}, lambda note: None)
    client = Client(api.url, None, {}, {}, pacer, clock, cache=kept)
    response, records = client.fetch(Request(f"{api.url}/items"), stream(), resumed=False)
    client.close()
    kept.close()
    assert [1, 2, 3] == [one["id"] for one in records]
    return response, pacer


class TestAnswer:
    """What a 304 brings along, and what it does not."""

    def test_its_headers_are_newer_and_the_others_stay(self, tmp_path: Path, api: Api) -> None:
        """But for those of its content, which it has not."""
        server = Server(api, sent={"X-Total": "9", "X-Page": "1", "Set-Cookie": "a=b"})
        asked(api, tmp_path)
        server.only = {"Content-Type": "text/html", "Content-Encoding": "br", "X-Total": "10"}
        response, _ = asked(api, tmp_path)

        names = ("x-total", "x-page", "content-type", "content-encoding", "set-cookie")
        assert ["10", "1", "application/json", None, None] == [response.headers.get(name) for name in names]
        assert server.counted() == (1, 1)

    def test_limits_of_the_kept_answer_are_over(self, tmp_path: Path, api: Api) -> None:
        server = Server(api, sent={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "100"})
        held = [asked(api, tmp_path)[1].delay() > 0 for _ in range(2)]

        assert ((1, 1), [True, False]) == (server.counted(), held)

    def test_its_own_limits_count(self, tmp_path: Path, api: Api) -> None:
        server = Server(api, only={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "100"})
        held = [asked(api, tmp_path)[1].delay() > 0 for _ in range(2)]

        assert ((1, 1), [False, True]) == (server.counted(), held)

    def test_the_bookmark_goes_by_its_own_date(self, tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        server = Server(api)
        dated(monkeypatch, "Sat, 31 Jan 2026 12:00:00 GMT")
        asked(api, tmp_path)
        dated(monkeypatch, "Sun, 01 Feb 2026 12:00:00 GMT")
        response, _ = asked(api, tmp_path)

        newer = http_date("Sun, 01 Feb 2026 12:00:00 GMT")
        assert newer
        assert ((1, 1), 200) == (server.counted(), response.status)
        assert timedelta(0) <= newer - response.date < timedelta(minutes=1)

    def test_one_about_another_answer_is_not_believed(self, tmp_path: Path, api: Api) -> None:
        server = Server(api)
        expected = plain(api, tmp_path / "off")
        run(api, tmp_path / "on")
        server.only = {"ETag": '"another"'}
        server.counted()
        report = run(api, tmp_path / "on")

        assert (4, 4) == server.counted()
        assert (0, expected) == (report.exit_code, output(tmp_path / "on"))

    def test_one_that_nobody_asked_for_is_no_page(self, tmp_path: Path, api: Api) -> None:
        api.misbehave = lambda asked: Reply(status=304, headers={"ETag": '"x"'}, body=b"")
        report = run(api, tmp_path)

        assert report.streams[0].error
        assert "304" in report.streams[0].error.message

    def test_a_page_that_is_dropped_while_it_is_asked_about_is_read_all_the_same(
        self, tmp_path: Path, api: Api
    ) -> None:
        server = Server(api)
        expected = plain(api, tmp_path / "off")
        out = tmp_path / "on"
        run(api, out)

        def drop(asked: Asked) -> Reply:
            with closing(database(out)) as connection, connection:
                connection.execute("DELETE FROM Cache")
            return server(asked)

        server.counted()
        api.misbehave = drop
        report = run(api, out)

        assert (0, expected) == (report.exit_code, output(out))
        assert (3, 1) == server.counted()  # each asked for whole, once its page was gone: never a validator alone

    def test_a_retried_page_and_a_resumed_run_use_it_too(self, tmp_path: Path, api: Api) -> None:
        server = Server(api)
        expected = plain(api, tmp_path / "off")
        out = tmp_path / "on"
        run(api, out)
        failed: list[str] = []

        def shaky(asked: Asked) -> Reply:
            if asked.query.get("cursor") == "3" and not failed:
                failed.append("once")
                return Reply(status=503)
            return server(asked)

        server.counted()
        api.misbehave = shaky
        assert run(api, out, max_pages=2).streams[0].status == "capped"
        report = run(api, out)

        assert ((0, 4), 0) == (server.counted(), report.exit_code)
        assert expected == output(out)

    @pytest.mark.parametrize("anew", ["restart", "reset"])
    def test_to_begin_anew_is_to_ask_anew(self, tmp_path: Path, api: Api, anew: str) -> None:
        from syncer.sinks import sink

        server = Server(api)
        run(api, tmp_path)
        server.counted()
        if anew == "reset":
            sink("jsonl", tmp_path, "shop", stream()).set_aside("then")
        run(api, tmp_path, restart=anew == "restart")

        assert server.counted() == (4, 0)


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def planted_value(out: Path, marker: Path) -> None:
    with closing(database(out)) as connection, connection:
        connection.execute("UPDATE Cache SET mode = 4, value = ?", (pickle.dumps(Bomb(marker)),))


def planted_file(out: Path, marker: Path) -> None:
    (home(out) / "x.val").write_bytes(pickle.dumps(Bomb(marker)))
    with closing(database(out)) as connection, connection:
        connection.execute("UPDATE Cache SET mode = 4, value = NULL, filename = 'x.val'")


def planted_key(out: Path, marker: Path) -> None:
    with closing(database(out)) as connection, connection:
        connection.execute("UPDATE Cache SET raw = 0, key = ? WHERE rowid = 1", (pickle.dumps(Bomb(marker)),))


def setting(name: str, value: Any) -> Callable[[Path, Path], None]:
    def plant(out: Path, marker: Path) -> None:
        del marker
        with closing(database(out)) as connection, connection:
            connection.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (name, value))

    return plant


def sql(text: str) -> Callable[[Path, Path], None]:
    def plant(out: Path, marker: Path) -> None:
        del marker
        with closing(database(out)) as connection, connection:
            connection.executescript(text)

    return plant


def replaced(make: Callable[[Path], Any]) -> Callable[[Path, Path], None]:
    def plant(out: Path, marker: Path) -> None:
        del marker
        (home(out) / "cache.db").unlink()
        make(home(out) / "cache.db")

    return plant


def moved_entries(out: Path, marker: Path) -> None:
    """Every page under the name of another: each of them is one that we wrote."""
    del marker
    with closing(database(out)) as connection, connection:
        rows = connection.execute("SELECT rowid, value FROM Cache ORDER BY rowid").fetchall()
        values = [value for _, value in rows]
        for (rowid, _), value in zip(rows, values[1:] + values[:1], strict=True):
            connection.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (value, rowid))


def linked(out: Path, marker: Path) -> None:
    del marker
    home(out).rename(out / "elsewhere")
    home(out).symlink_to(out / "elsewhere")


def elsewhere(out: Path, marker: Path) -> None:
    del marker
    (home(out) / "cache.db").rename(out / "elsewhere.db")
    (home(out) / "cache.db").symlink_to(out / "elsewhere.db")


def mode(bits: int, name: str = "") -> Callable[[Path, Path], None]:
    def plant(out: Path, marker: Path) -> None:
        del marker
        (home(out) / name).chmod(bits)

    return plant


def strange_owner(out: Path, marker: Path) -> None:
    del marker
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    os.chown(home(out), 12345, 12345)


def no_directory(out: Path, marker: Path) -> None:
    del marker
    shutil.rmtree(home(out))
    home(out).write_bytes(b"a file")


ENTRIES = {
    "a pickle as value": planted_value,
    "a pickle in a file": planted_file,
    "pages under one another's names": moved_entries,
    "a page with a byte more": sql("UPDATE Cache SET value = CAST(value || x'00' AS BLOB)"),
    "a page cut short": sql("UPDATE Cache SET value = substr(value, 1, 60)"),
    "text": sql("UPDATE Cache SET value = 'text'"),
    "a number": sql("UPDATE Cache SET value = 7"),
    "nothing": sql("UPDATE Cache SET value = NULL"),
    "another version": sql("UPDATE Cache SET value = CAST(x'73796e636572206361636865203220' || value AS BLOB)"),
}
"""What is wrong with single pages: they are sent again, and kept again, without a word."""

STORES = {
    "a method replaced": setting("get", "hijacked"),
    "a PRAGMA": setting("sqlite_synchronous", 0),
    "a PRAGMA with more behind it": setting("sqlite_user_version = 7; --", "1"),
    "an attribute of the disk": setting("disk_put", "hijacked"),
    "pickling by another policy": setting("eviction_policy", "least-recently-used"),
    "a count that is none": setting("count", "many"),
    "a trigger": sql("CREATE TRIGGER t AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END"),
    "a view": sql("DROP TABLE Cache; CREATE VIEW Cache AS SELECT 1 AS key"),
    "no tables": sql("DROP TABLE Settings"),
    "not a database": replaced(lambda path: path.write_bytes(b"garbage" * 1000)),
    "an empty file": replaced(lambda path: path.touch(0o600)),
    "a FIFO": replaced(lambda path: os.mkfifo(path, 0o600)),
    "a directory": replaced(lambda path: path.mkdir(0o700)),
    "a link to the database": elsewhere,
    "a link to the directory": linked,
    "a directory that all may write to": mode(0o777),
    "a database that the group may write to": mode(0o660, "cache.db"),
    "a directory of somebody else": strange_owner,
    "a file for a directory": no_directory,
}
"""What is wrong with the whole of it: it is not used, which is said once."""


@pytest.mark.parametrize("name", [*ENTRIES, *STORES])
def test_what_is_planted_or_broken_is_not_used(tmp_path: Path, api: Api, name: str) -> None:
    server = Server(api)
    expected, out, marker = plain(api, tmp_path / "off"), tmp_path / "on", tmp_path / "executed"
    run(api, out)
    {**ENTRIES, **STORES}[name](out, marker)
    server.counted()
    report = run(api, out)

    assert not marker.exists()
    assert (0, expected) == (report.exit_code, output(out))
    assert (4, 0) == server.counted()
    assert (1 if name in STORES else 0) == len(notes(report))
    if name in ENTRIES:
        run(api, out)
        assert (0, 4) == server.counted()
    else:
        assert "it may be deleted at any time: rm -r " in notes(report)[0]


def test_a_pickle_as_a_key_is_not_used(tmp_path: Path, api: Api) -> None:
    server = Server(api)
    expected, out, marker = plain(api, tmp_path / "off"), tmp_path / "on", tmp_path / "executed"
    run(api, out)
    planted_key(out, marker)
    server.counted()
    report = run(api, out)

    assert (False, 0, expected, (1, 3)) == (marker.exists(), report.exit_code, output(out), server.counted())


@pytest.mark.parametrize("plant", [planted_value, planted_file, planted_key])
def test_what_is_planted_here_would_be_executed_by_diskcache_itself(
    tmp_path: Path, api: Api, plant: Callable[[Path, Path], None]
) -> None:
    Server(api)
    run(api, tmp_path)
    plant(tmp_path, tmp_path / "executed")
    with closing(database(tmp_path)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM Cache WHERE raw = 1")]
    with diskcache.Cache(str(home(tmp_path))) as theirs:
        for key in (*keys, *theirs):
            theirs.get(key)
            break

    assert (tmp_path / "executed").exists()


def test_a_file_that_a_row_names_is_not_deleted(tmp_path: Path, api: Api) -> None:
    """diskcache removes the file of a row that it replaces, drops or finds too old, wherever that is."""
    Server(api)
    run(api, tmp_path)
    treasure = tmp_path / "treasure"
    treasure.write_text("mine")
    with closing(database(tmp_path)) as connection, connection:
        connection.execute("UPDATE Cache SET filename = ?", (str(treasure),))
        connection.execute("UPDATE Cache SET expire_time = 1 WHERE rowid = 2")
    run(api, tmp_path)
    with closing(database(tmp_path)) as connection, connection:
        connection.execute("UPDATE Cache SET filename = ?", (str(treasure),))
    run(api, tmp_path, restart=True)

    assert treasure.read_text() == "mine"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=30),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
@example(damage=[(0.0, 0)], cut=None)
@example(damage=[(0.5, 0)], cut=0.5)
def test_output_is_the_same_with_the_cache_off_on_or_damaged_anywhere(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[float, int]], cut: float | None
) -> None:
    with Api(10, size=3) as api:
        Server(api)
        out, off = tmp_path_factory.mktemp("on"), tmp_path_factory.mktemp("off")
        run(api, out)
        file = home(out) / "cache.db"
        content = bytearray(file.read_bytes())
        for place, byte in damage:
            content[int(place * len(content))] = byte
        file.write_bytes(bytes(content[: None if cut is None else int(cut * len(content))]))
        report = run(api, out)

        assert (0, plain(api, off)) == (report.exit_code, output(out))
        assert len(notes(report)) <= 1


def test_what_is_full_takes_no_more_and_says_so_once(tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    Server(api)
    monkeypatch.setattr(caching, "ROOM", 30_000)
    api.records = [record(n, name=random.Random(n).randbytes(3000).hex()) for n in range(1, 11)]
    report = run(api, tmp_path)

    assert report.exit_code == 0
    assert ["is full" in note for note in notes(report)] == [True]
    assert (home(tmp_path) / "cache.db").stat().st_size < 60_000


def test_an_answer_grows_old(tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(api)
    monkeypatch.setattr(caching, "AGE", timedelta(seconds=-1))
    run(api, tmp_path)
    run(api, tmp_path)

    assert server.counted() == (8, 0)
    with closing(database(tmp_path)) as connection:
        assert connection.execute("SELECT count(*) FROM Cache").fetchone()[0] <= 1


def test_a_database_that_another_program_holds_is_not_waited_for(
    tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(api)
    expected = plain(api, tmp_path / "off")
    monkeypatch.setattr(caching, "TIMEOUT", 0.1)
    run(api, tmp_path / "on")
    server.counted()
    with closing(database(tmp_path / "on")) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        report = run(api, tmp_path / "on")

    assert ((4, 0), 1, expected) == (server.counted(), len(notes(report)), output(tmp_path / "on"))


def test_a_disk_that_takes_no_more_costs_only_the_cache(tmp_path: Path) -> None:
    """A real limit on the size of files, in a process of its own: the cache meets it, the output does not."""
    project = Project(tmp_path)
    records = [record(n, waste=random.Random(n).randbytes(20_000).hex()) for n in range(1, 11)]
    with Api(records, size=3) as api:
        Server(api)
        project.write(connector(api.url, stream="conditional=True"))
        limited = (
            "import resource, signal, sys\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "from syncer.cli import main\n"
            "sys.argv = ['syncer', 'pull', 'shop', '--json']\n"
            "main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", limited],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(caching.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
    (found,) = json.loads(done.stdout)["streams"]

    assert (0, "complete", 10) == (done.returncode, found["status"], found["pulled"]["written"])
    assert ["the cache is not used" in note for note in found["notes"]] == [True]


def test_two_pulls_at_once_share_it(tmp_path: Path, api: Api) -> None:
    server = Server(api)
    sources = [stream(name=name, path=f"/{name}") for name in ("one", "two")]
    reports: list[Report] = []
    for _ in range(2):
        server.counted()
        threads = [
            threading.Thread(target=lambda source=source: reports.append(run(api, tmp_path, source)))  # type: ignore[misc]
            for source in sources
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [(0, [])] * 4 == [(report.exit_code, notes(report)) for report in reports]
    assert server.counted() == (0, 8)


def test_a_killed_pull_leaves_a_cache_that_can_be_used(tmp_path: Path, api: Api) -> None:
    server = Server(api)
    project = Project(tmp_path)
    project.write(connector(api.url, stream="conditional=True"))
    assert project.run("pull", "shop").code == 0
    whole = project.output()

    def kill(asked: Asked) -> Reply:
        if asked.query.get("cursor") == "6":
            process.send_signal(signal.SIGKILL)
        return server(asked)

    api.misbehave = kill
    process = project.start("pull", "shop")
    assert ended(process).code == -signal.SIGKILL
    api.misbehave = server
    server.counted()
    done = project.run("pull", "shop", "--json").json()

    assert (0, 2) == server.counted()
    assert (0, 2, []) == (done["exit_code"], done["not_modified"], done["streams"][0]["notes"])
    assert whole == project.output()
