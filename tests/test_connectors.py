"""The connectors in connectors/ against what was recorded of their APIs, without a network and without the client."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from syncer import Connector, Stream
from syncer.page import Request, Response, dig
from syncer.stream import base_url, first_request
from syncer.validate import place, project
from tests.fixtures_store import FIXTURES, ROOT, Exchange, content, exchanges, odd, settings

FILES = sorted((ROOT / "connectors").glob("*.py"))


def load(file: Path) -> Connector:
    spec = importlib.util.spec_from_file_location(f"connector_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    connector: Connector = module.connector
    return connector


CONNECTORS = {file.stem: load(file) for file in FILES}
STREAMS = {f"{name}-{stream.name}": (name, stream) for name, found in CONNECTORS.items() for stream in found.streams}
RECORDED = {key: pair for key, pair in STREAMS.items() if exchanges(pair[0], pair[1].name)}

TOTALLED = {key: pair for key, pair in RECORDED.items() if pair[1].total is not None}
KEYED = {key: pair for key, pair in RECORDED.items() if pair[1].key}
REMOTE = {key: pair for key, pair in STREAMS.items() if CONNECTORS[pair[0]].server is None}
"""Streams of an API that is not started with the pull, so that its answers must be kept."""

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
every_recorded_stream = pytest.mark.parametrize(("name", "stream"), RECORDED.values(), ids=RECORDED)


def records(stream: Stream, exchange: Exchange) -> list[Any]:
    found = dig(exchange["response"]["body"], stream.records)
    assert isinstance(found, list)
    return found


def faults(stream: Stream, record: Any) -> list[tuple[str, str]]:
    """Where and how a record fails, by the rules of the core: an object, and strictly what the model says."""
    if not isinstance(record, dict):
        return [("", "not_an_object")]
    try:
        stream.model.__pydantic_validator__.validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        return sorted((place(fault["loc"]), fault["type"]) for fault in error.errors())
    return []


def good(name: str, stream: Stream) -> list[dict[str, Any]]:
    return [
        record
        for exchange in exchanges(name, stream.name)
        for record in records(stream, exchange)
        if not faults(stream, record)
    ]


def response(request: Any, exchange: Exchange) -> Response:
    recorded = exchange["response"]
    headers = {header.lower(): value for header, value in recorded["headers"].items()}
    url = exchange["request"]["url"]
    return Response(request, url, recorded["status"], headers, recorded["body"], datetime.now(UTC))


# --- importing ------------------------------------------------------------------------------------

GUARDED = """
import importlib.util, os, sys
import pydantic, syncer
from syncer import EpochSeconds

class Warm(pydantic.BaseModel):
    moment: EpochSeconds

class Trap(dict):
    def __getitem__(self, name):
        if name == "PYDANTIC_DISABLE_PLUGINS":  # pydantic's own, read whenever a model is made
            raise KeyError(name)
        raise RuntimeError("importing touched the environment")
    def get(self, name, default=None):
        try:
            return self[name]
        except KeyError:
            return default
    def refuse(self, *args):
        raise RuntimeError("importing touched the environment")
    __contains__ = __iter__ = __len__ = __setitem__ = __delitem__ = refuse
    keys = values = items = pop = setdefault = update = copy = refuse

def watch(event, args):
    if event.startswith(("socket.", "os.putenv", "os.unsetenv")):
        raise RuntimeError(f"importing touched the network or the environment: {event}")

spec = importlib.util.spec_from_file_location("connector", sys.argv[1])
module = importlib.util.module_from_spec(spec)
os.environ = os.environb = Trap()
sys.addaudithook(watch)
spec.loader.exec_module(module)
print(module.connector.name)
"""


def guarded(file: Path) -> subprocess.CompletedProcess[str]:
    """A child that executes the file where every look at the environment and every socket raises."""
    command = [sys.executable, "-c", GUARDED, str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@every_file
def test_importing_a_connector_touches_neither_network_nor_environment(file: Path) -> None:
    done = guarded(file)
    assert ("", f"{file.stem}\n", 0) == (done.stderr, done.stdout, done.returncode)


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.environ['HOME']",
        "import os; os.getenv('HOME')",
        "from os import environ; environ.get('HOME', '')",
        "import os; 'HOME' in os.environ",
        "import os; os.environ['HOME'] = 'x'",
        "import socket; socket.socket()",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
    ],
)
def test_a_connector_that_looks_around_while_it_is_imported_would_be_noticed(tmp_path: Path, line: str) -> None:
    file = tmp_path / "curious.py"
    file.write_text(f"{line}\n{(ROOT / 'connectors' / 'datasette.py').read_text(encoding='utf-8')}", encoding="utf-8")
    done = guarded(file)
    assert done.returncode == 1
    assert "importing touched the " in done.stderr


# --- declarations and records ---------------------------------------------------------------------


@every_file
def test_a_file_is_called_what_its_connector_is_called(file: Path) -> None:
    assert file.stem == CONNECTORS[file.stem].name


@every_file
def test_every_setting_a_connector_needs_is_explained_and_no_other(file: Path) -> None:
    connector = CONNECTORS[file.stem]
    assert sorted(connector.needs()) == sorted(connector.settings)


@pytest.mark.parametrize(("name", "stream"), REMOTE.values(), ids=REMOTE)
def test_every_stream_of_a_remote_api_has_two_pages_on_record_and_the_last_holds_a_broken_record(
    name: str, stream: Stream
) -> None:
    kept = exchanges(name, stream.name)
    assert len(kept) >= 2
    assert kept[-1].get("rejects")
    assert all(3 <= len(records(stream, exchange)) <= 6 for exchange in kept)


@every_recorded_stream
def test_the_records_validate_and_exactly_the_listed_ones_fail_for_the_listed_reasons(
    name: str, stream: Stream
) -> None:
    listed, found = [], []
    for number, exchange in enumerate(exchanges(name, stream.name), 1):
        listed += [(number, fault["index"], fault["path"], fault["type"]) for fault in exchange.get("rejects", [])]
        for index, record in enumerate(records(stream, exchange)):
            found += [(number, index, path, kind) for path, kind in faults(stream, record)]
    assert sorted(listed) == sorted(found)


@every_recorded_stream
def test_the_pages_that_are_asked_for_are_those_on_record_and_there_is_none_after_the_last(
    name: str, stream: Stream
) -> None:
    given = settings(name, stream.name)
    request: Request | None = first_request(stream, base_url(CONNECTORS[name], given), given, None)
    for exchange in exchanges(name, stream.name):
        assert request is not None
        assert (exchange["request"]["method"], exchange["request"]["url"]) == (request.method, request.whole)
        request = stream.pagination.after(response(request, exchange), records(stream, exchange))
    assert None is request


@pytest.mark.parametrize(("name", "stream"), TOTALLED.values(), ids=TOTALLED)
def test_the_declared_total_is_the_number_of_records_on_record(name: str, stream: Stream) -> None:
    kept = exchanges(name, stream.name)
    assert stream.total is not None
    total = sum(len(records(stream, exchange)) for exchange in kept)
    assert [total] * len(kept) == [int(response(None, exchange).at(stream.total)) for exchange in kept]


@pytest.mark.parametrize(("name", "stream"), KEYED.values(), ids=KEYED)
def test_no_primary_key_is_on_record_twice(name: str, stream: Stream) -> None:
    keys = [tuple(record[field] for field in stream.key) for record in good(name, stream)]
    assert sorted(set(keys)) == sorted(keys)


@every_recorded_stream
def test_the_records_hold_fields_that_the_model_does_not_name(name: str, stream: Stream) -> None:
    unnamed: list[str] = []
    for record in good(name, stream):
        project(stream.model.model_validate_json(json.dumps(record), strict=True), record, "", unnamed, [])
    assert unnamed


@every_recorded_stream
def test_every_field_of_a_model_is_on_record_with_a_value(name: str, stream: Stream) -> None:
    named = {info.alias or field for field, info in stream.model.model_fields.items()}
    seen = {field for record in good(name, stream) for field, value in record.items() if value is not None}
    assert set() == named - seen


# --- what may lie in fixtures/ --------------------------------------------------------------------

SECRET = re.compile(
    r"gh[opsur]_[A-Za-z0-9]|github_pat_|sk_(live|test)_|rk_(live|test)_|whsec_|AKIA[0-9A-Z]|xox[abp]-"
    r"|\bBearer |\bBasic [A-Za-z0-9+/]{8}|\bAuthorization\b|PRIVATE KEY|Set-Cookie|client_secret"
    r"|password=|(?<!page|skip)token=",
    re.IGNORECASE,
)


def test_nothing_in_fixtures_looks_like_a_credential() -> None:
    files = [file for file in sorted(FIXTURES.rglob("*")) if file.is_file()]
    assert len(files) > 20
    found = {
        f"{file.relative_to(FIXTURES)}: {match.group()}"
        for file in files
        if (match := SECRET.search(file.read_text(encoding="utf-8")))
    }
    assert set() == found


@pytest.mark.parametrize(
    "text",
    [
        '"Authorization": "x"',
        "authorization: Bearer x",
        "ghp_a",
        "github_pat_11",
        "sk_live_5",
        "sk_test_5",
        "AKIAIOSF",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
        "?access_token=1",
        "Set-Cookie: a=b",
    ],
)
def test_what_looks_like_a_credential_would_be_found(text: str) -> None:
    assert SECRET.search(f"…{text}…")


@pytest.mark.parametrize(("name", "answer"), odd().items(), ids=odd())
def test_an_odd_answer_says_what_is_odd_about_it_and_has_one_body(name: str, answer: Exchange) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert len({"body", "text"} & set(answer)) == 1
    assert {"status", "headers", "why"} == set(answer) - {"body", "text"}
    assert answer["why"].endswith(".")
    assert isinstance(content(answer), bytes)
