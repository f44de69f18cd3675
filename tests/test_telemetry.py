"""A pull as a trace, as a collector receives it: a real server on loopback that takes OTLP over HTTP apart."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import syncer
from syncer.events import Asking, Began, Committed, Ended, Finished, Noticed, Requested, Retrying, Started, Waited
from syncer.telemetry import Traces
from tests.api import Api, Asked, Reply, connector, record
from tests.command import PATIENCE, Project, ended, lines, until
from tests.scripted import Talk, Time, scripted
from tests.test_log import logged
from tests.test_secrets import AUTH, ENVIRONMENT, NEEDLES, STREAMS, TOKEN, carried, parrot
from tests.test_terminal import HARMFUL, HOSTILE

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
REFERENCE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()
INTERNAL, CLIENT = 1, 3
OK, ERROR = 0, 2
COUNTS = ("pages", "fetched", "written", "rejected", "repeated")


class Collector:
    """A collector, listening while the `with` lasts. `spans` are all that it got, in the order of their beginnings."""

    def __init__(self, answer: Callable[[int], tuple[int, dict[str, str]]] = lambda number: (200, {})) -> None:
        self.paths: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, answer))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def groups(self) -> list[Any]:
        """What was received, taken apart."""
        return [group for body in self.bodies for group in ExportTraceServiceRequest.FromString(body).resource_spans]

    @property
    def spans(self) -> list[Any]:
        found = [span for group in self.groups for scope in group.scope_spans for span in scope.spans]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


def _handler(collector: Collector, answer: Callable[[int], tuple[int, dict[str, str]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.append(self.path)
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, headers = answer(len(collector.paths))
            if status < 300:
                coded = self.headers.get("Content-Encoding") == "gzip"
                collector.bodies.append(gzip.decompress(body) if coded else body)
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    return Handler


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def to(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **more}


def values(pairs: Any) -> dict[str, Any]:
    """Attributes as a mapping."""

    def value(one: Any) -> Any:
        kind = one.WhichOneof("value")
        found = getattr(one, kind)
        return [value(inner) for inner in found.values] if kind == "array_value" else found

    return {pair.key: value(pair.value) for pair in pairs}


def told(span: Any) -> dict[str, Any]:
    return values(span.attributes)


def happened(span: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, values(event.attributes)) for event in span.events]


# The trace


def test_a_pull_is_one_trace_of_its_streams_and_their_pages(project: Project, api: Api, collector: Collector) -> None:
    def misbehave(asked: Asked) -> Reply | None:
        return {2: Reply(429, {"Retry-After": "1"}), 4: Reply(500)}.get(asked.number)

    api.misbehave = misbehave
    project.write(connector(api.url, streams=("items", "others")))
    done = project.run("pull", "shop", "--otel", "--json", env=to(collector))
    report = done.json()
    (row,) = project.run("runs", "--json").json()
    (root,), streams = (
        collector.named("pull shop"),
        [collector.named(f"stream {name}")[0] for name in ("items", "others")],
    )
    pages = [[page for page in collector.named("page") if page.parent_span_id == one.span_id] for one in streams]
    assert (0, "", [5, 5], 13) == (done.code, done.stderr, list(map(len, pages)), len(collector.spans))
    assert 1 == len({span.trace_id for span in collector.spans})
    assert (b"", [root.span_id] * 2) == (root.parent_span_id, [one.parent_span_id for one in streams])
    assert [INTERNAL] * 3 + [CLIENT] * 10 == [span.kind for span in (root, *streams, *pages[0], *pages[1])]
    assert {OK} == {span.status.code for span in collector.spans}
    assert {
        "syncer.source": "shop",
        "syncer.run": row["id"],
        "syncer.sink": "jsonl",
        "syncer.streams": ["items", "others"],
        "process.exit.code": 0,
    } == told(root)
    counts = {f"syncer.{name}": report["streams"][0]["run"][name] for name in COUNTS}
    known = {"syncer.stream": "items", "syncer.resumed": False, "syncer.status": "complete"}
    assert {**known, **counts} == told(streams[0])
    host = urlsplit(api.url)
    assert [
        {
            "http.request.method": "GET",
            "url.full": f"{api.url}/items{query}",
            "server.address": host.hostname,
            "server.port": host.port,
            "http.response.status_code": 200,
            "syncer.page": number,
            "syncer.fetched": 4 * number,
            "syncer.written": 4 * number,
            "syncer.rejected": 0,
            "syncer.repeated": 0,
            **({"http.request.resend_count": 1} if number in (2, 3) else {}),
        }
        for number, query in enumerate(["", "?cursor=4", "?cursor=8", "?cursor=12", "?cursor=16"], 1)
    ] == [told(page) for page in pages[0]]
    limit, away = "limit (429 Too Many Requests)", "server answered 500 Internal Server Error"
    assert [0, 2, 0, 0] == [len(pages[0][place].events) for place in (0, 1, 3, 4)]
    (retry, wait) = happened(pages[0][1])
    assert ("retry", {"syncer.reason": limit, "syncer.attempt": 2}) == retry
    assert ("wait", limit, True) == (wait[0], wait[1]["syncer.reason"], wait[1]["syncer.seconds"] >= 1)
    assert ("retry", {"syncer.reason": away, "syncer.attempt": 2}) == happened(pages[0][2])[0]


@pytest.mark.parametrize("style", ["token", "page"])
def test_spans_lie_within_one_another_and_one_lasts_until_its_page_is_saved(
    project: Project, api: Api, collector: Collector, style: str
) -> None:
    api.style = style
    project.write(connector(api.url, style=style))
    project.run("pull", "shop", "--otel", env=to(collector))
    (root,), (stream,), pages = (collector.named(name) for name in ("pull shop", "stream items", "page"))
    for outer, inner in [(root, stream), *((stream, page) for page in pages)]:
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano < inner.end_time_unix_nano
        assert inner.end_time_unix_nano <= outer.end_time_unix_nano
    saved = sorted(pages, key=lambda page: page.end_time_unix_nano)
    assert [1, 2, 3, 4, 5] == [told(page)["syncer.page"] for page in saved]


def test_a_span_is_about_its_own_page_however_many_are_asked_for_at_once(
    project: Project, collector: Collector
) -> None:
    """Every third page is limited first, every fourth is slow; the API takes what it gets at once."""
    limited: set[str] = set()

    def misbehave(asked: Asked) -> Reply | None:
        page = asked.query.get("page", "1")
        if int(page) % 3 == 0 and page not in limited:
            limited.add(page)
            return Reply(500)
        return Reply(delay=0.1) if int(page) % 4 == 0 else None

    with Api(100, misbehave=misbehave, style="page") as api:
        project.write(connector(api.url, style="page"))
        done = project.run("pull", "shop", "--otel", "--json", env=to(collector))
        asked_for = {asked.query.get("page") for asked in api.seen}
    pages = collector.named("page")
    assert (0, 25, 25) == (done.code, len(asked_for), len(pages))
    for page in pages:
        number = told(page)["syncer.page"]
        query = "" if number == 1 else f"?page={number}"
        assert (f"{api.url}/items{query}", 4 * number) == (told(page)["url.full"], told(page)["syncer.fetched"])
        retries = [attributes["syncer.reason"] for name, attributes in happened(page) if name == "retry"]
        assert (["server answered 500 Internal Server Error"] if number % 3 == 0 else []) == retries
        assert (1 if retries else None) == told(page).get("http.request.resend_count")


def test_pages_that_were_asked_for_in_vain_are_spans_that_were_not_saved(
    project: Project, collector: Collector
) -> None:
    ahead = threading.Event()

    def misbehave(asked: Asked) -> Reply | None:
        page = int(asked.query.get("page", "1"))
        if page == 3:
            ahead.wait(PATIENCE)
            return Reply(404)
        if page > 3:
            ahead.set()
        return None

    with Api(100, misbehave=misbehave, style="page") as api:
        project.write(connector(api.url, style="page"))
        done = project.run("pull", "shop", "--otel", env=to(collector))
    pages = collector.named("page")
    saved = [told(page)["syncer.page"] for page in pages if "syncer.page" in told(page)]
    failed = [told(page) for page in pages if page.status.code == ERROR]
    assert (8, [1, 2], 1) == (done.code, sorted(saved), len(failed))
    assert ("404", f"{api.url}/items?page=3") == (failed[0]["error.type"], failed[0]["url.full"])
    assert len(pages) > 3
    assert "did not reach" not in done.stderr


def test_the_last_answer_of_a_failed_page_is_its_error(project: Project, api: Api, collector: Collector) -> None:
    api.misbehave = lambda asked: Reply(404) if asked.number == 3 else None
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--otel", env=to(collector))
    (root,), (stream,), pages = (collector.named(name) for name in ("pull shop", "stream items", "page"))
    assert (8, 3) == (done.code, len(pages))
    assert [OK, OK, ERROR, ERROR, ERROR] == [span.status.code for span in (*pages, stream, root)]
    assert ("404", 404) == (told(pages[2])["error.type"], told(pages[2])["http.response.status_code"])
    assert ("exit 8", "exit 8", 8) == (
        told(stream)["error.type"],
        told(root)["error.type"],
        told(root)["process.exit.code"],
    )
    assert ("failed", 2) == (told(stream)["syncer.status"], told(stream)["syncer.pages"])
    assert 1 == len({span.status.message for span in (pages[2], stream, root)})
    assert "404" in root.status.message
    assert root.status.message.removeprefix("shop/items: ") in done.stdout


@pytest.mark.parametrize("reply", [Reply(drop=True), Reply(body={"nothing": 1})], ids=["no answer", "no list"])
def test_a_page_that_failed_without_a_bad_status_has_the_exit_code_for_its_kind(
    project: Project, api: Api, collector: Collector, reply: Reply
) -> None:
    """Also after a stream that had one."""
    api.misbehave = lambda asked: Reply(404) if asked.path == "/gone" else reply
    project.write(connector(api.url, streams=("gone", "items")))
    project.run("pull", "shop", "--otel", env=to(collector))
    gone, page = collector.named("page")
    code = 4 if reply.drop else 9
    assert ("404", f"exit {code}", ERROR) == (told(gone)["error.type"], told(page)["error.type"], page.status.code)
    assert ("url.full" in told(page)) == (reply.body is not None)


def test_a_pull_that_a_signal_stops_is_a_whole_trace(project: Project, api: Api, collector: Collector) -> None:
    gate = threading.Event()
    api.misbehave = lambda asked: gate.wait(PATIENCE) and None if asked.number == 3 else None
    project.write(connector(api.url))
    process = project.start("pull", "shop", "--otel", env=to(collector))
    until(lambda: len(api.seen) == 3, process)
    process.send_signal(signal.SIGTERM)
    gate.set()
    assert 143 == ended(process).code
    (root,), (stream,), pages = (collector.named(name) for name in ("pull shop", "stream items", "page"))
    assert (143, "stopped") == (told(root)["process.exit.code"], told(stream)["syncer.status"])
    saved = [told(page)["syncer.page"] for page in pages if "syncer.page" in told(page)]
    assert list(range(1, told(stream)["syncer.pages"] + 1)) == saved
    assert {OK} == {page.status.code for page in pages}
    assert (ERROR, "stopped by a signal", OK) == (root.status.code, root.status.message, stream.status.code)


def test_a_pull_that_may_not_begin_is_a_trace_too(project: Project, api: Api, collector: Collector) -> None:
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    assert 5 == project.run("pull", "shop", "--otel", env=to(collector)).code
    (root,) = collector.spans
    assert ("pull shop", 5, "exit 5") == (root.name, told(root)["process.exit.code"], told(root)["error.type"])
    assert "the environment variable SHOP_TOKEN is not set" == root.status.message


def test_a_resumed_stream_says_so_and_asks_from_its_bookmark(project: Project, collector: Collector) -> None:
    with Api(RECORDS) as api:
        project.write(connector(api.url, stream='replication_key="updated_at", since="since"'))
        project.run("pull", "shop", "--max-pages", "2")
        project.run("pull", "shop", "--otel", env=to(collector))
        project.run("pull", "shop", "--otel", env=to(collector))
    first, second = (told(span) for span in collector.named("stream items"))
    assert (True, False) == (first["syncer.resumed"], second["syncer.resumed"])
    assert ("syncer.since" in first, RECORDS[-1]["updated_at"]) == (False, second["syncer.since"])


def test_a_note_is_an_event_of_its_stream(project: Project, api: Api, collector: Collector) -> None:
    project.write(connector(api.url))
    project.run("pull", "shop")
    project.run("pull", "shop", "--otel", env=to(collector))
    (stream,) = collector.named("stream items")
    ((name, attributes),) = happened(stream)
    assert "note" == name
    assert attributes["syncer.text"].startswith("the output of the last complete pull stays in place")


def test_the_reference_lists_exactly_the_spans_events_and_attributes(
    project: Project, api: Api, collector: Collector
) -> None:
    """Of a stream that asks for news, one that is pulled anew each time, a limit and a failure."""

    def misbehave(asked: Asked) -> Reply | None:
        if asked.path == "/gone":
            return Reply(404)
        return Reply(429, {"Retry-After": "1"}) if asked.number == 7 else None

    news = connector(api.url, stream='replication_key="updated_at", since="x"')
    anew = connector(api.url, streams=("others", "gone"), name="plain")
    api.misbehave = misbehave
    project.write(news)
    project.write(anew, "plain")
    for source in ("shop", "shop", "plain", "plain"):
        project.run("pull", source, "--otel", env=to(collector))
    section = REFERENCE.partition("## What `--otel` sends")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z]+ )?`([a-z A-Z]+)` \| (.*?) \|$", section, re.MULTILINE)
    documented = {kind + name: set(re.findall(r"`([a-z_.]+\.[a-z_.]+)`", said)) for kind, name, said in rows}
    found: dict[str, set[str]] = {}
    for span in collector.spans:
        name = re.sub("shop|plain", "SOURCE", re.sub("items|others|gone", "STREAM", span.name))
        found.setdefault(f"span {name}", set()).update(told(span))
        for event, attributes in happened(span):
            found.setdefault(f"event {event}", set()).update(attributes)
    assert documented == found


# Who it is from, where it goes


def test_it_says_who_it_is_from(project: Project, api: Api, collector: Collector) -> None:
    project.write(connector(api.url))
    project.run("pull", "shop", "--otel", env=to(collector))
    own = values(collector.groups[0].resource.attributes)
    assert ("syncer", syncer.__version__) == (own["service.name"], own["service.version"])
    (scope,) = {(scope.scope.name, scope.scope.version) for group in collector.groups for scope in group.scope_spans}
    assert ("syncer", syncer.__version__) == scope
    assert ["/v1/traces"] == list(dict.fromkeys(collector.paths))
    assert "application/x-protobuf" == collector.headers[0]["content-type"]


def test_the_standard_variables_are_honoured_also_those_of_dotenv(
    project: Project, api: Api, collector: Collector
) -> None:
    (project.path / ".env").write_text(
        f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={collector.url}/of/my/own\nOTEL_EXPORTER_OTLP_HEADERS=x-key=of-dotenv\n"
    )
    project.write(connector(api.url))
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=s3cret-key,x-tenant=two",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "nightly",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod,service.version=9",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10",
    }
    done = project.run("pull", "shop", "--otel", env=given)
    assert ({"/of/my/own"}, 7) == (set(collector.paths), len(collector.spans))
    assert {("s3cret-key", "two", "gzip")} == {
        (head["x-key"], head["x-tenant"], head["content-encoding"]) for head in collector.headers
    }
    own = values(collector.groups[0].resource.attributes)
    assert ("nightly", "9", "prod") == tuple(
        own[name] for name in ("service.name", "service.version", "deployment.environment.name")
    )
    assert len(collector.bodies) >= 4
    assert {10} == {len(told(page)["url.full"]) for page in collector.named("page")}
    assert "s3cret-key" not in done.said


def test_it_is_a_part_of_the_trace_of_whoever_started_it(project: Project, api: Api, collector: Collector) -> None:
    project.write(connector(api.url))
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    project.run("pull", "shop", "--otel", env=to(collector, TRACEPARENT=f"00-{trace}-{parent}-01"))
    (root,) = collector.named("pull shop")
    assert (trace, parent) == (root.trace_id.hex(), root.parent_span_id.hex())
    project.run("pull", "shop", "--otel", env=to(collector, TRACEPARENT="nonsense"))
    assert [trace, b""] == [
        collector.named("pull shop")[0].trace_id.hex(),
        collector.named("pull shop")[1].parent_span_id,
    ]


@pytest.mark.parametrize(
    "variable",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
    ],
    ids=lambda variable: next(iter(variable)),
)
def test_a_trace_that_is_not_wanted_is_not_sent_and_not_missed(
    project: Project, api: Api, collector: Collector, variable: dict[str, str]
) -> None:
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--otel", env=to(collector, **variable))
    assert (0, 0, []) == (done.code, done.stderr.count("note: "), collector.paths)


SHADOW = "raise ModuleNotFoundError(\"No module named 'opentelemetry'\", name='opentelemetry')\n"


def test_nothing_is_sent_or_imported_unless_the_user_says_so(project: Project, api: Api, collector: Collector) -> None:
    """Without the extra a pull is what it was; with the option it is said what to install, before anything is asked."""
    (project.path / "shadow" / "opentelemetry").mkdir(parents=True)
    (project.path / "shadow" / "opentelemetry" / "__init__.py").write_text(SHADOW)
    own = str(Path(syncer.__file__).parents[1])
    shadowed = to(collector, PYTHONPATH=f"{project.path / 'shadow'}{os.pathsep}{own}")
    project.write(connector(api.url))
    assert (0, "") == (project.run("pull", "shop", "--json", env=to(collector)).code, "".join(collector.paths))
    done = project.run("pull", "shop", "--quiet", env=shadowed)
    assert (0, "", EVERYTHING) == (done.code, done.said, project.output())
    asked = len(api.seen)
    done = project.run("pull", "shop", "--otel", env=shadowed)
    assert (2, asked, []) == (done.code, len(api.seen), collector.paths)
    assert done.stderr.endswith(
        "error: traces cannot be sent: OpenTelemetry is missing\n  → pip install 'syncer[otel]'\n"
    )


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "/v1/traces"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not a URL"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL asks for 'grpc'"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL asks for 'http/json'",
        ),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER asks for 'zipkin'"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "an OTEL_ variable has a value that OpenTelemetry refuses"),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "an OTEL_ variable has a value that OpenTelemetry refuses"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_what_cannot_be_sent_that_way_is_refused_before_anything_is_asked(
    project: Project, api: Api, variables: dict[str, str], words: str
) -> None:
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--otel", env=variables)
    assert (2, "", []) == (done.code, done.stdout, api.seen)
    assert words in done.stderr
    assert "\n  → " in done.stderr


# What may not leave


@pytest.mark.parametrize("auth", AUTH)
def test_a_secret_that_the_server_repeats_is_in_no_span(project: Project, collector: Collector, auth: str) -> None:
    records = [record(number, name=None if number in (2, 6) else "fine") for number in range(1, 9)]
    with Api(dict.fromkeys(STREAMS, records), style="next") as api:
        api.misbehave = lambda asked: parrot(api, asked)
        project.write(connector(api.url, style="next", streams=STREAMS, more=f"auth={AUTH[auth]}"))
        options = ("--patience", "0.01s", "--otel")
        done = project.run("pull", "shop", *options, env={**ENVIRONMENT, **to(collector)})
        assert (9, True) == (done.code, all(carried(asked) for asked in api.seen))
    assert {f"stream {name}" for name in STREAMS} < {span.name for span in collector.spans}
    assert [] == [needle for needle in NEEDLES for body in collector.bodies if needle in body]


def test_a_secret_in_the_servers_words_or_in_a_url_shows_as_stars(
    project: Project, api: Api, collector: Collector
) -> None:
    api.misbehave = lambda asked: Reply(body={f"you sent {TOKEN}": 1})
    project.write(connector(f"{api.url}/s3cret-of-another", more='auth=Bearer(env="SHOP_TOKEN")'))
    given = {**ENVIRONMENT, "OTHER_KEY": "s3cret-of-another", **to(collector)}
    project.run("pull", "shop", "--otel", env=given)
    (page,) = collector.named("page")
    assert f"{api.url}/***/items" == told(page)["url.full"]
    assert "you sent ***" in page.status.message
    assert b"s3cret" not in b"".join(collector.bodies)


def test_a_key_of_the_collector_is_in_no_record_of_the_run(project: Project, api: Api, collector: Collector) -> None:
    """The API repeats it, as one may that stands behind the same gateway."""
    api.misbehave = lambda asked: Reply(body={"you sent key-of-the-collector": 1})
    project.write(connector(api.url))
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=key-of-the-collector"}
    project.run("pull", "shop", "--otel", "--log", "log.jsonl", env=to(collector, **headers))
    assert "key-of-the-collector" == collector.headers[0]["authorization"]
    kept = [project.path / "log.jsonl", *(project.data / "shop" / ".syncer" / "runs").iterdir()]
    held = [*(path.read_bytes() for path in kept), *collector.bodies]
    assert [3, 3, 0] == [len(held), *(sum(word in one for one in held) for word in (b"you sent ***", b"the-collector"))]


def test_hostile_text_arrives_harmless_and_costs_no_span(project: Project, collector: Collector) -> None:
    def misbehave(asked: Asked) -> Reply | None:
        return Reply(body=json.dumps({"\ud800" + HOSTILE: 1}).encode()) if asked.path == "/names" else None

    with Api([record(1, updated_at=HOSTILE)], style="next", misbehave=misbehave) as api:
        model = "class Item(BaseModel):\n    id: int\n    updated_at: str\n"
        own = 'replication_key="updated_at", since="after"'
        project.write(connector(api.url, style="next", streams=("items", "names"), stream=own, model=model))
        dones = [project.run("pull", "shop", "--otel", env=to(collector, OTHER_KEY=TOKEN)) for _ in range(2)]
    assert [9, 9] == [done.code for done in dones]
    assert "did not reach" not in "".join(done.stderr for done in dones)
    texts = [
        text for span in collector.spans for text in (span.name, span.status.message, *map(str, told(span).values()))
    ]
    assert [] == HARMFUL.findall("\n".join(texts))
    assert 4 <= len([text for text in texts if "pwned" in text])


def test_the_collector_gets_no_password_of_netrc_and_no_cookie_back(project: Project, api: Api) -> None:
    (project.path / ".netrc").write_text("machine 127.0.0.1 login someone password from-netrc\n")
    (project.path / ".netrc").chmod(0o600)
    project.write(connector(api.url))
    with Collector(lambda number: (200, {"Set-Cookie": "a=b"})) as collector:
        project.run("pull", "shop", "--otel", env=to(collector, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1"))
        assert len(collector.headers) >= 2
        assert [] == [head for head in collector.headers if {"authorization", "cookie"} & head.keys()]


# A collector that is away


def hang(talk: Talk) -> None:
    talk.hear()
    threading.Event().wait(PATIENCE * 3)


def drip(talk: Talk) -> None:
    talk.hear()
    talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    over = threading.Event()
    while not over.wait(0.05):
        talk.say(b"x")


@pytest.mark.parametrize("how", [hang, drip], ids=["says nothing", "drips"])
@pytest.mark.parametrize("soon", [True, False], ids=["from the first span", "at the end"])
def test_a_collector_that_never_answers_neither_holds_a_pull_up_nor_ends_it(
    project: Project, api: Api, how: Callable[[Talk], None], soon: bool
) -> None:
    """It may take ten minutes if the user says so: the pull does not wait for it, not even at its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    talk = Talk(listener.accept()[0], [])
                except OSError:
                    return
                threading.Thread(target=quietly, args=(how, talk), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        given = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
            **({"OTEL_BSP_SCHEDULE_DELAY": "1"} if soon else {}),
        }
        project.write(connector(api.url))
        done = project.run("pull", "shop", "--otel", "--log", "log.jsonl", env=given)
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
    assert (0, EVERYTHING, 1) == (done.code, project.output(), done.stderr.count("7 of 7 spans did not reach"))
    rows = logged(project.path / "log.jsonl")
    assert ["noticed", "finished"] == [row["event"] for row in rows[-2:]]
    assert rows[-2]["text"].endswith("; the pull is none the worse for it")


def quietly(how: Callable[[Talk], None], talk: Talk) -> None:
    try:
        how(talk)
    except OSError:
        return


def test_a_collector_that_is_not_there_is_said_once_in_our_own_words(project: Project, api: Api) -> None:
    """Nothing of what the SDK would log reaches the terminal, also where a connector has others log there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project.write(f"import logging\n\nlogging.basicConfig()\n{connector(api.url)}")
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "1"}
    done = project.run("pull", "shop", "--otel", env=given)
    assert (0, EVERYTHING) == (done.code, project.output())
    (last,) = [line for line in done.stderr.splitlines() if not line.startswith(("items: ", "shop: "))]
    assert (
        f"note: 7 of 7 spans did not reach the collector at 127.0.0.1:{port}, which did not answer;"
        " the pull is none the worse for it"
    ) == last


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_collector_that_refuses_is_said_with_its_answer(project: Project, api: Api, status: int) -> None:
    project.write(connector(api.url))
    with Collector(lambda number: (status, {})) as collector:
        done = project.run("pull", "shop", "--otel", env=to(collector))
    assert (0, EVERYTHING) == (done.code, project.output())
    assert f"7 of 7 spans did not reach the collector at 127.0.0.1:{collector.url[17:]}, which answered {status};" in (
        done.stderr
    )


def test_a_collector_that_sends_elsewhere_is_not_followed(project: Project, api: Api, collector: Collector) -> None:
    project.write(connector(api.url))
    with Collector(lambda number: (307, {"Location": f"{collector.url}/v1/traces"})) as lost:
        headers = {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=s3cret-key"}
        done = project.run("pull", "shop", "--otel", env=to(lost, **headers))
    assert (0, True, []) == (done.code, len(lost.paths) >= 1, collector.paths)
    assert "7 of 7 spans did not reach" in done.stderr
    assert "which answered 307" in done.stderr


def test_a_collector_that_comes_back_gets_what_is_left(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    with Collector(lambda number: (503, {"Retry-After": "0"}) if number == 1 else (200, {})) as collector:
        done = project.run("pull", "shop", "--otel", "--json", env=to(collector))
    assert (0, "", 7) == (done.code, done.stderr, len(collector.spans))


def test_a_collector_that_takes_only_some_is_told_of_with_how_many(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    with Collector(lambda number: (200, {}) if number == 1 else (400, {})) as collector:
        done = project.run("pull", "shop", "--otel", env=to(collector, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4"))
    assert 0 == done.code
    lost = 7 - len(collector.spans)
    assert f"note: {lost} of 7 spans did not reach the collector" in done.stderr
    assert 0 < lost < 7


# One more observer


def test_events_in_any_order_make_whole_spans(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits before a stream, a stream that never began, a note before everything."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    said: list[str] = []
    time = Time(tick=0.0)
    traces = Traces("4f2a9c1e", "shop", (), time.clock, os.environ, said.append)
    for event in (
        Noticed("too early for anybody"),
        Began(("items", "others"), "data", "jsonl"),
        Waited(2.5, "limit"),
        Ended("items", "failed", "it is locked", "", 7),
        Started("others", False, 0, 0),
        Committed("others", 1, 1, 1, 0, 0, None, "never asked for"),
        Asking("others", "5d1f"),
        Asking("others", "5d1f"),
        Retrying("it broke", 2),
        Requested("POST", "https://h/x?a=1", 200, 0.1),
        Committed("others", 2, 2, 2, 0, 0, None, "5d1f"),
        Retrying("too late", 2),
        Ended("others", "complete"),
        Finished(7, 1.0),
    ):
        time.seconds += 1
        traces(event)
    assert [] == said
    (root,), (items,), (others,), (again, page) = (
        collector.named(name) for name in ("pull shop", "stream items", "stream others", "page")
    )
    assert ({}, 1, 2) == (told(again), len(page.events), told(page)["syncer.page"])
    assert [("wait", {"syncer.reason": "limit", "syncer.seconds": 2.5})] == happened(root)
    assert (others.span_id, root.span_id, root.span_id) == (
        page.parent_span_id,
        items.parent_span_id,
        others.parent_span_id,
    )
    assert ("it is locked", "it is locked", "exit 7") == (
        items.status.message,
        root.status.message,
        told(items)["error.type"],
    )
    assert (1, 443, "POST") == tuple(
        told(page)[name] for name in ("http.request.resend_count", "server.port", "http.request.method")
    )
    assert 12 * 10**9 == root.end_time_unix_nano - root.start_time_unix_nano


def test_of_several_pages_the_one_with_a_bad_answer_is_blamed_else_the_first(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others end when they were last heard of."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    time = Time()
    traces = Traces("4f2a9c1e", "shop", (), time.clock, os.environ, print)
    traces(Began(("items", "others"), "data", "jsonl"))
    for stream, status in (("items", 404), ("others", 200)):
        asked = [(Asking(stream, f"{number}"), Requested("GET", f"http://h/{number}", 200, 0.1)) for number in (1, 2)]
        bad = Requested("GET", "http://h/2", status, 0.1)
        for event in (Started(stream, False, 0, 0), *asked[0], *asked[1], bad, Ended(stream, "failed", "why", "", 9)):
            time.seconds += 1
            traces(event)
    traces(Finished(9, 1.0))
    pages = collector.named("page")
    assert [OK, ERROR, ERROR, OK] == [page.status.code for page in pages]
    assert ["404", "exit 9"] == [told(page)["error.type"] for page in (pages[1], pages[2])]
    lasted = [(page.end_time_unix_nano - page.start_time_unix_nano) // 10**9 for page in pages]
    assert [1, 3, 5, 2] == lasted


def test_a_scripted_collector_hears_one_post(project: Project, api: Api) -> None:
    """Not through http.server: the bytes of the request."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    project.write(connector(api.url))
    with scripted(answer) as server:
        done = project.run("pull", "shop", "--otel", env={"OTEL_EXPORTER_OTLP_ENDPOINT": server.url})
    assert (0, ["/v1/traces"], 0) == (done.code, server.targets, server.surplus)
    assert server.requests[0].startswith(b"POST /v1/traces HTTP/1.1\r\n")
