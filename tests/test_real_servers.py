"""Pulls from servers that nobody here wrote, compared row by row with what stands in their own databases.

The connectors are files a user would write, the command is the installed one, and the truth is read
from the SQLite file behind the server, never through the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.servers import datasette_server, django_server

WEATHER = '''\
"""The weather stations' readings, published with Datasette."""

from pydantic import AwareDatetime, BaseModel

from syncer import Connector, NextLink, Stream


class Reading(BaseModel):
    id: int
    station: str
    serial: int
    temperature: float | None
    count: int | None
    note: str | None
    taken: AwareDatetime


class Place(BaseModel):
    name: str
    height: int | None


connector = Connector(
    name="weather",
    base_url="{url}/weather",
    settings={"url": "where Datasette runs, for instance http://127.0.0.1:8001"},
    streams=(
        Stream(
            name="readings",
            path="/readings.json",
            params={"_shape": "objects", "_size": 1000},
            records="rows",
            total="filtered_table_rows_count",
            pagination=NextLink("next_url", cursor="stable"),
            model=Reading,
            primary_key="id",
        ),
        Stream(
            name="readings_by_count",
            path="/readings.json",
            params={"_shape": "objects", "_size": 100, "_sort_desc": "count", "id__lt": 10000},
            records="rows",
            pagination=NextLink("next_url", cursor="stable"),
            model=Reading,
            primary_key="id",
        ),
        Stream(
            name="places",
            path="/places.json",
            params={"_shape": "objects", "_size": 50},
            records="rows",
            pagination=NextLink("next_url", cursor="stable"),
            model=Place,
            primary_key="name",
        ),
        Stream(
            name="places_with_ampersand",
            path="/places.json",
            params={"_shape": "objects", "_size": 10, "name__contains": "&"},
            records="rows",
            pagination=NextLink("next_url", cursor="stable"),
            model=Place,
            primary_key="name",
        ),
    ),
)
'''

MEASUREMENTS = '''\
"""Measurements from a site made with Django REST framework, once for each of its paginators."""

from decimal import Decimal

from pydantic import AwareDatetime, BaseModel

from syncer import Connector, NextLink, Offset, PageNumber, Stream


class Measurement(BaseModel):
    id: int
    station: str
    serial: int
    value: Decimal | None
    ratio: float | None
    valid: bool
    labels: list[str]
    note: str | None
    created: AwareDatetime
    updated: AwareDatetime


connector = Connector(
    name="measurements",
    base_url="http://127.0.0.1:{port}",
    settings={"port": "the port that the site listens on"},
    streams=(
        Stream(
            name="by_page",
            path="/by-page/",
            params={"page_size": 240},
            records="results",
            total="count",
            pagination=PageNumber(total="count", size="page_size"),
            model=Measurement,
            primary_key="id",
            replication_key="updated",
            since="updated_since",
        ),
        Stream(
            name="by_offset",
            path="/by-offset/",
            params={"limit": 240},
            records="results",
            total="count",
            pagination=Offset(param="offset", total="count"),
            model=Measurement,
            primary_key="id",
        ),
        Stream(
            name="by_cursor",
            path="/by-cursor/",
            records="results",
            pagination=NextLink("next"),
            model=Measurement,
            primary_key="id",
        ),
    ),
)
'''

PRIVATE = '''\
"""The measurements that only an account may read."""

from decimal import Decimal

from pydantic import AwareDatetime, BaseModel

from syncer import Basic, Bearer, Connector, NextLink, Stream


class Measurement(BaseModel):
    id: int
    station: str
    serial: int
    value: Decimal | None
    ratio: float | None
    valid: bool
    labels: list[str]
    note: str | None
    created: AwareDatetime
    updated: AwareDatetime


connector = Connector(
    name="private",
    base_url="http://127.0.0.1:{port}",
    auth=AUTH,
    streams=(
        Stream(
            name="measurements",
            path="/private/",
            params={"limit": 500},
            records="results",
            total="count",
            pagination=NextLink("next"),
            model=Measurement,
            primary_key="id",
        ),
    ),
)
'''
BY_TOKEN = PRIVATE.replace("AUTH", 'Bearer(env="SITE_TOKEN", scheme="Token")')
BY_PASSWORD = PRIVATE.replace("AUTH", 'Basic(username="SITE_USER", password="SITE_PASSWORD")')

STREAMS = ("by_page", "by_offset", "by_cursor")
SINKS = ("jsonl", "sqlite")
PULLED = {"jsonl": STREAMS, "sqlite": ("by_cursor",)}
"""What each sink is tried with: how a paginator works does not depend on the sink."""
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with datasette_server.serving(tmp_path_factory.mktemp("datasette")) as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[django_server.Site]:
    """A site whose rows stay as they are."""
    found = django_server.site(tmp_path_factory.mktemp("site"))
    with found.server:
        yield found


@pytest.fixture
def own_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[django_server.Site]:
    """A site that the test may change and kill."""
    found = django_server.site(tmp_path_factory.mktemp("own-site"))
    with found.server:
        yield found


@pytest.fixture(scope="module")
def undisturbed(site: django_server.Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By sink, what one pull of all measurements without any interruption leaves behind."""
    kept = {}
    for sink in SINKS:
        kept[sink] = tmp_path_factory.mktemp("undisturbed")
        write(kept[sink], "measurements", MEASUREMENTS)
        done = pull(kept[sink], "measurements", *PULLED[sink], "--set", f"port={site.port}", "--sink", sink)
        assert 0 == done.returncode, done.stderr
    return kept


@pytest.mark.parametrize("sink", SINKS)
def test_every_row_of_a_datasette_table_arrives_exactly_once(
    weather: tuple[str, Path], tmp_path: Path, sink: str
) -> None:
    url, file = weather
    write(tmp_path, "weather", WEATHER)
    done = pull(tmp_path, "weather", "readings", "--set", f"url={url}", "--sink", sink)
    assert 0 == done.returncode, done.stderr
    expect(datasette_server.rows(file, "readings"), read(tmp_path, "weather", "readings", sink), "id")


def test_datasette_links_full_of_what_urls_must_escape_lead_to_every_row(
    weather: tuple[str, Path], tmp_path: Path
) -> None:
    url, file = weather
    write(tmp_path, "weather", WEATHER)
    done = pull(tmp_path, "weather", "places", "places_with_ampersand", "--set", f"url={url}")
    assert 0 == done.returncode, done.stderr
    truth = datasette_server.rows(file, "places")
    expect(truth, read(tmp_path, "weather", "places"), "name")
    filtered = [row for row in truth if "&" in row["name"]]
    expect(filtered, read(tmp_path, "weather", "places_with_ampersand"), "name")


def test_datasette_sorted_by_a_column_full_of_nulls_and_ties_gives_every_row(
    weather: tuple[str, Path], tmp_path: Path
) -> None:
    url, file = weather
    write(tmp_path, "weather", WEATHER)
    done = pull(tmp_path, "weather", "readings_by_count", "--set", f"url={url}")
    assert 0 == done.returncode, done.stderr
    truth = [row for row in datasette_server.rows(file, "readings") if row["id"] < 10_000]
    expect(truth, read(tmp_path, "weather", "readings_by_count"), "id")


@pytest.mark.parametrize(("sink", "stream"), [(sink, stream) for sink in SINKS for stream in PULLED[sink]])
def test_every_row_behind_each_paginator_of_django_rest_framework_arrives_exactly_once(
    site: django_server.Site, undisturbed: Mapping[str, Path], stream: str, sink: str
) -> None:
    expect(site.rows(), read(undisturbed[sink], "measurements", stream, sink), "id")


@pytest.mark.parametrize("sink", SINKS)
def test_a_pull_that_is_capped_again_and_again_ends_in_the_same_rows_in_the_same_order(
    site: django_server.Site, undisturbed: Mapping[str, Path], tmp_path: Path, sink: str
) -> None:
    write(tmp_path, "measurements", MEASUREMENTS)
    command = ("measurements", *PULLED[sink], "--set", f"port={site.port}", "--sink", sink)
    records = []
    for pages in ("1", "9"):
        capped = pull(tmp_path, *command, "--max-pages", pages)
        assert {"capped"} == {stream["status"] for stream in json.loads(capped.stdout)["streams"]}, capped.stderr
        records.append(len(read(tmp_path, "measurements", "by_cursor", sink)))
    assert [1 * 230, 10 * 230] == records
    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    for stream in PULLED[sink]:
        assert content(undisturbed[sink], stream, sink) == content(tmp_path, stream, sink)


def test_a_second_pull_brings_exactly_the_rows_that_changed(own_site: django_server.Site, tmp_path: Path) -> None:
    write(tmp_path, "measurements", MEASUREMENTS)
    command = ("measurements", "by_page", "--set", f"port={own_site.port}")
    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    first = read(tmp_path, "measurements", "by_page")
    newest = max(datetime.fromisoformat(row["updated"]) for row in first)

    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    assert [] == read(tmp_path, "measurements", "by_page")[len(first) :]

    # One changes in the very moment the bookmark stands at, where what was there before is known already.
    own_site.change([17], "the same moment", newest)
    own_site.change(range(100, 700), "later", newest + timedelta(microseconds=1))
    own_site.change([1, 5003], "much later", newest + timedelta(days=40))
    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    news = read(tmp_path, "measurements", "by_page")[len(first) :]
    expect(own_site.rows("id IN (1, 17, 5003) OR id BETWEEN 100 AND 699"), news, "id")

    own_site.change([2], "later still", newest + timedelta(days=41))
    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    expect(own_site.rows("id = 2"), read(tmp_path, "measurements", "by_page")[len(first) + len(news) :], "id")


def test_a_database_that_is_pulled_again_holds_the_newest_state_of_every_row(
    own_site: django_server.Site, tmp_path: Path
) -> None:
    write(tmp_path, "measurements", MEASUREMENTS)
    command = ("measurements", "by_page", "--set", f"port={own_site.port}", "--sink", "sqlite")
    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    newest = max(datetime.fromisoformat(row["updated"]) for row in own_site.rows())
    own_site.change(range(1000, 1600), "moved", newest + timedelta(seconds=1))
    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    (report,) = json.loads(done.stdout)["streams"]
    assert 600 == report["pulled"]["written"]
    expect(own_site.rows(), read(tmp_path, "measurements", "by_page", "sqlite"), "id")


@pytest.mark.parametrize(
    ("connector", "environment"),
    [
        pytest.param(BY_TOKEN, {"SITE_TOKEN": django_server.TOKEN}, id="token"),
        pytest.param(
            BY_PASSWORD, {"SITE_USER": django_server.USER, "SITE_PASSWORD": django_server.PASSWORD}, id="password"
        ),
    ],
)
def test_with_the_right_credentials_every_row_arrives_and_they_are_written_nowhere(
    site: django_server.Site, tmp_path: Path, connector: str, environment: dict[str, str]
) -> None:
    write(tmp_path, "private", connector)
    done = pull(tmp_path, "private", "--set", f"port={site.port}", "-v", environment=environment)
    assert 0 == done.returncode, done.stderr
    expect(site.rows(), read(tmp_path, "private", "measurements"), "id")
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for secret in (django_server.TOKEN, django_server.PASSWORD):
        assert [] == [path.name for path in left if secret.encode() in path.read_bytes()]
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("connector", "environment"),
    [
        pytest.param(BY_TOKEN, {"SITE_TOKEN": "wrong-token-0815"}, id="wrong token"),
        pytest.param(BY_TOKEN, {}, id="no token"),
        pytest.param(
            BY_PASSWORD, {"SITE_USER": django_server.USER, "SITE_PASSWORD": "wrong-4711"}, id="wrong password"
        ),
    ],
)
def test_credentials_that_are_wrong_or_missing_are_exit_code_5_and_no_traceback(
    site: django_server.Site, tmp_path: Path, connector: str, environment: dict[str, str]
) -> None:
    write(tmp_path, "private", connector)
    done = pull(tmp_path, "private", "--set", f"port={site.port}", environment=environment)
    assert 5 == done.returncode, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "SITE_" in done.stderr, "the message names the variable to mend"
    for name in ("SITE_TOKEN", "SITE_PASSWORD"):
        assert name not in environment or environment[name] not in done.stdout + done.stderr


def test_a_server_that_dies_halfway_is_exit_code_4_and_once_it_is_back_the_pull_goes_on_to_the_same_end(
    own_site: django_server.Site, undisturbed: Mapping[str, Path], tmp_path: Path
) -> None:
    write(tmp_path, "measurements", MEASUREMENTS)
    command = ("measurements", "by_cursor", "--set", f"port={own_site.port}")
    pull(tmp_path, *command, "--max-pages", "9")
    own_site.server.kill()
    before = read(tmp_path, "measurements", "by_cursor")
    assert 9 * 230 == len(before)

    dead = pull(tmp_path, *command)
    assert 4 == dead.returncode, dead.stderr
    assert "Traceback" not in dead.stdout + dead.stderr
    assert before == read(tmp_path, "measurements", "by_cursor")

    own_site.server.start()
    done = pull(tmp_path, *command)
    assert 0 == done.returncode, done.stderr
    expect(own_site.rows(), read(tmp_path, "measurements", "by_cursor"), "id")
    assert content(undisturbed["jsonl"], "by_cursor", "jsonl") == content(tmp_path, "by_cursor", "jsonl")


@pytest.mark.parametrize(("table", "key"), [("readings", "id"), ("places", "name")])
def test_the_connector_for_datasette_brings_every_row_of_a_table(
    weather: tuple[str, Path], tmp_path: Path, table: str, key: str
) -> None:
    url, file = weather
    settings = {"url": url, "database": datasette_server.DATABASE, "table": table}
    done = pull(tmp_path, "datasette", *(word for item in settings.items() for word in ("--set", "=".join(item))))
    assert 0 == done.returncode, done.stderr
    (stream,) = {path.name.split(".")[0] for path in (tmp_path / "out" / "datasette").glob("*.jsonl")}
    expect(datasette_server.rows(file, table), read(tmp_path, "datasette", stream), key)


def write(directory: Path, name: str, text: str) -> None:
    """Put a connector where a user keeps their own."""
    folder = directory / "connectors"
    folder.mkdir()
    (folder / f"{name}.py").write_text(text, encoding="utf-8")


def pull(
    directory: Path, *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`syncer pull` in the directory, with nothing in its environment but what is given."""
    clean = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-m", "syncer", "pull", *words, "--out", "out", "--json"],
        cwd=directory,
        env=clean | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def read(directory: Path, connector: str, stream: str, sink: str = "jsonl") -> Rows:
    """What a pull has written, in its order."""
    folder = directory / "out" / connector
    if sink == "jsonl":
        text = (folder / f"{stream}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n")[:-1]]
    with closing(sqlite3.connect(f"file:{folder / connector}.db?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute(f'SELECT * FROM "{stream}" ORDER BY rowid')]
    kinds: dict[str, Callable[[Any], Any]] = {"labels": json.loads, "valid": bool}  # what SQLite has no type for
    return [{name: kinds[name](value) if name in kinds else value for name, value in row.items()} for row in rows]


def content(directory: Path, stream: str, sink: str) -> bytes:
    """The bytes of a stream of measurements, which for a database are those of its rows in their order."""
    if sink == "jsonl":
        return (directory / "out" / "measurements" / f"{stream}.jsonl").read_bytes()
    return "\n".join(map(repr, read(directory, "measurements", stream, sink))).encode()


def expect(truth: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], key: str) -> None:
    """Every row of the truth is there once, and nothing else; a few of the rows are named if not."""
    if checksum(truth, key) == checksum(found, key):
        return
    wanted, came = Counter(row[key] for row in truth), Counter(row[key] for row in found)
    assert [] == sorted(wanted - came)[:5], "rows are missing"
    assert [] == sorted(came - wanted)[:5], "rows came twice, or from nowhere"
    there = {row[key]: line(row) for row in found}
    changed = [(line(row), there[row[key]]) for row in truth if line(row) != there[row[key]]]
    assert [] == changed[:1], f"{len(changed)} rows have changed"
    raise AssertionError("the checksums differ")


def checksum(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """One fingerprint of all rows with all their fields, whatever their order."""
    total = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row[key]):
        total.update(line(row).encode() + b"\n")
    return total.hexdigest()


def line(row: Mapping[str, Any]) -> str:
    """A row as text, in which 1, 1.0 and true are not the same."""
    return json.dumps(row, sort_keys=True, ensure_ascii=False)
