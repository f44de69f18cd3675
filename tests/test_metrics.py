"""The metrics of a pull, read the way Prometheus reads them: by the parser of its own client library."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syncer import metrics
from tests.api import Api, Asked, Reply, connector, record
from tests.command import Project, lines
from tests.test_ledger import ROW
from tests.test_log import small_disk
from tests.test_terminal import HARMFUL, HOSTILE

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
REFERENCE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()
Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


def read(content: str) -> dict[Sample, float]:
    """Every sample as Prometheus reads it; a file with two of one name and one set of labels it refuses."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(content):
        assert ("gauge", metrics.METRICS[family.name]) == (family.type, family.documentation)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def of(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted({"source": "shop", **labels}.items()))]


def moment(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def test_every_number_of_the_report_is_in_the_file(project: Project, api: Api) -> None:
    def misbehave(asked: Asked) -> Reply | None:
        if asked.number == 2:
            return Reply(429, {"Retry-After": "1"})
        return Reply(headers={"X-RateLimit-Remaining": "41", "X-RateLimit-Reset": "60"})

    with Api([*RECORDS[:3], {"id": 4}], misbehave=misbehave, size=2) as api:
        project.write(connector(api.url, streams=("items", "others")))
        report = project.run("pull", "shop", "--json", "--metrics", "syncer.prom").json()
    (row,) = project.run("runs", "--json").json()
    found = read((project.path / "syncer.prom").read_text())
    expected: dict[Sample, float] = {}

    def put(name: str, value: float, **labels: str) -> None:
        expected[name, tuple(sorted({"source": "shop", **labels}.items()))] = value

    put("syncer_last_pull_timestamp_seconds", moment(row["ended"]))
    put("syncer_last_success_timestamp_seconds", moment(row["ended"]))
    put("syncer_last_pull_duration_seconds", row["seconds"])
    put("syncer_last_pull_exit_code", report["exit_code"])
    put("syncer_last_pull_requests", report["requests"])
    put("syncer_last_pull_retries", report["retries"])
    put("syncer_last_pull_received_bytes", report["received"])
    for reason, seconds in report["waited"].items():
        put("syncer_last_pull_waited_seconds", seconds, reason=reason)
    for limit, told in report["limits"].items():
        put("syncer_limit_remaining", told["remaining"], limit=limit)
    for stream in report["streams"]:
        put("syncer_stream_complete", int(stream["status"] == "complete"), stream=stream["stream"])
        put("syncer_stream_pages", stream["pulled"]["pages"], stream=stream["stream"])
        for kind in ("fetched", "written", "rejected", "repeated"):
            put(f"syncer_stream_records_{kind}", stream["pulled"][kind], stream=stream["stream"])
        put("syncer_stream_records_stored", stream["stored"]["written"], stream=stream["stream"])
    assert expected == found
    assert set(metrics.METRICS) == {name for name, _ in found}
    assert of(found, "syncer_last_pull_waited_seconds", reason="limit (429 Too Many Requests)") >= 1
    assert (5, 1, 3, 1) == (
        of(found, "syncer_last_pull_requests"),
        of(found, "syncer_last_pull_retries"),
        of(found, "syncer_stream_records_written", stream="items"),
        of(found, "syncer_stream_records_rejected", stream="others"),
    )


def test_the_reference_lists_exactly_the_metrics_there_are() -> None:
    section = REFERENCE.partition("## What `--metrics` writes")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(syncer_\w+)` \| (.*?) \|", section, re.MULTILINE))
    assert list(metrics.METRICS) == list(rows)
    (alert,) = re.findall(r"<!-- test: alert -->\n```text\n.*?(syncer_\w+)", REFERENCE)
    assert alert in metrics.METRICS
    for name, said in rows.items():
        text = metrics.text({**ROW, "streams": [{**ROW["streams"][0]}]}, ROW["ended"])
        labels = {label for sample, found in read(text) for label, _ in found if sample == name}
        assert labels - {"source"} == set(re.findall(r"`(\w+)`", said)), name


def test_a_failed_pull_is_told_and_the_last_success_carried_over(project: Project, api: Api) -> None:
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    token = {"SHOP_TOKEN": "t"}
    assert 0 == project.run("pull", "shop", "--max-pages", "1", env=token).code
    (good,) = project.run("runs", "--json").json()
    api.misbehave = lambda asked: Reply(500)
    for code, env in [(4, token), (5, {}), (2, token)]:
        options = ["--sink", "csv"] if code == 2 else []
        assert code == project.run("pull", "shop", "--metrics", "m.prom", *options, env=env).code
        found = read((project.path / "m.prom").read_text())
        assert (code, moment(good["ended"])) == (
            of(found, "syncer_last_pull_exit_code"),
            of(found, "syncer_last_success_timestamp_seconds"),
        )
        assert of(found, "syncer_last_pull_timestamp_seconds") > moment(good["ended"])
        assert (code == 4) == (("syncer_stream_complete", (("source", "shop"), ("stream", "items"))) in found)
    api.misbehave = None
    assert 0 == project.run("pull", "shop", "--metrics", "m.prom", env=token).code
    found = read((project.path / "m.prom").read_text())
    assert of(found, "syncer_last_success_timestamp_seconds") == of(found, "syncer_last_pull_timestamp_seconds")


def test_without_a_success_there_is_no_time_of_one(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(500)
    project.write(connector(api.url))
    assert 4 == project.run("pull", "shop", "--metrics", "m.prom").code
    found = read((project.path / "m.prom").read_text())
    assert "syncer_last_success_timestamp_seconds" not in {name for name, _ in found}
    assert 0 == of(found, "syncer_stream_complete", stream="items")


def test_hostile_names_are_escaped_and_read_back() -> None:
    """Quotes, backslashes, ends of lines and what could harm a terminal, in every label there is."""
    told = {"remaining": 1.5, "reset": None}
    row = {
        **ROW,
        "source": f'"{HOSTILE}"\\',
        "waited": {HOSTILE: 1.0, 'a "b" \\n c': 2.0},
        "limits": {HOSTILE: told, "": told},
        "streams": [{**ROW["streams"][0], "stream": HOSTILE}],
    }
    content = metrics.text(row, None)
    found = read(content)
    assert [] == HARMFUL.findall(content)
    assert {'a "b" \\n c'} < {dict(labels).get("reason") for _, labels in found}
    assert "" in {dict(labels).get("limit") for _, labels in found}
    assert all(dict(labels)["source"].startswith('"\\x1b]0;pwned') for _, labels in found)


def test_reasons_that_look_alike_are_one_line_and_a_server_cannot_make_many() -> None:
    row = {**ROW, "waited": {"a\tb": 1.0, "a b": 2.0, **{f"reason {n}": 1.0 for n in range(99)}}}
    row["limits"] = {f"limit {n}": {"remaining": n} for n in range(99)}
    found = read(metrics.text(row, None))
    assert 3.0 == of(found, "syncer_last_pull_waited_seconds", reason="a b")
    counts = [len([name for name, _ in found if name.endswith(end)]) for end in ("waited_seconds", "limit_remaining")]
    assert [metrics.MOST - 1, metrics.MOST] == counts


@pytest.mark.parametrize("value", [0, 1, 10**18, 0.1, 1e-9, 1e22, float("inf")])
def test_a_number_is_read_back_exactly(value: float) -> None:
    found = read(metrics.text({**ROW, "seconds": value}, None))
    assert value == of(found, "syncer_last_pull_duration_seconds")


# The file


def test_a_reader_sees_one_whole_file_or_the_other(tmp_path: Path) -> None:
    """Somebody reads all the time while two texts of different lengths take turns."""
    path, texts = tmp_path / "m.prom", ("a" * 100_000, "b" * 50_000)
    metrics.write(path, texts[0])
    over = threading.Event()
    seen: set[str] = set()

    def look() -> None:
        while not over.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(400):
        metrics.write(path, texts[turn % 2])
    over.set()
    reader.join()
    assert set(texts) == seen
    assert ["m.prom"] == [file.name for file in tmp_path.iterdir()]


@pytest.mark.parametrize(("before", "after"), [(None, 0o644), (0o640, 0o640), (0o600, 0o600)])
def test_the_collector_may_read_the_file_whatever_the_umask(
    project: Project, api: Api, before: int | None, after: int
) -> None:
    path = project.path / "m.prom"
    if before is not None:
        path.touch()
        path.chmod(before)
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--metrics", "m.prom", preexec_fn=lambda: os.umask(0o077))
    assert (0, after) == (done.code, path.stat().st_mode & 0o777)


def test_a_link_leads_to_the_file_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/m.prom")
    metrics.write(tmp_path / "link", "x\n")
    assert ("x\n", True) == ((tmp_path / "there" / "m.prom").read_text(), (tmp_path / "link").is_symlink())


def test_what_a_killed_pull_left_beside_the_file_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / f".m.prom.{os.getpid()}.tmp").symlink_to("elsewhere")
    metrics.write(tmp_path / "m.prom", "x\n")
    assert ("x\n", "precious") == ((tmp_path / "m.prom").read_text(), (tmp_path / "elsewhere").read_text())
    assert ["elsewhere", "m.prom"] == sorted(file.name for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere/m.prom", "the metrics cannot be written to nowhere/m.prom: there is no such directory"),
        (".", "the metrics cannot be written to .: it is not a file"),
        ("", "the metrics cannot be written to .: it is not a file"),
        ("fifo", "the metrics cannot be written to fifo: it is not a file"),
        ("x" * 300, "File name too long"),
        ("data/shop/items.jsonl", "data/shop/items.jsonl lies inside the output, data/shop"),
        ("link/items.jsonl", "link/items.jsonl lies inside the output, data/shop"),
    ],
    ids=lambda value: value[:25],
)
def test_what_never_can_be_the_file_is_refused_before_anything_is_asked(
    project: Project, api: Api, target: str, words: str
) -> None:
    """A pipe or a device would be replaced by a file, for everybody on the machine; so would the output."""
    (project.path / "link").symlink_to("data/shop")
    os.mkfifo(project.path / "fifo")
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--metrics", target)
    assert (2, "", []) == (done.code, done.stdout, api.seen)
    assert words in done.stderr
    assert "→ give --metrics a file" in done.stderr
    assert (project.path / "fifo").is_fifo()


def test_a_disk_that_is_full_is_said_and_the_earlier_file_stays(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    with small_disk(project.path / "disk", "64k") as disk:
        (disk / "m.prom").write_text("of an earlier pull\n")
        with suppress(OSError):
            (disk / "ballast").write_bytes(b"x" * 2**20)
        done = project.run("pull", "shop", "--metrics", "disk/m.prom")
        left = {file.name for file in disk.iterdir()}
        assert "of an earlier pull\n" == (disk / "m.prom").read_text()
    assert (0, EVERYTHING, {"m.prom", "ballast"}) == (done.code, project.output(), left)
    assert (
        "note: disk/m.prom was not written: No space left on device; it still tells of an earlier pull" in done.stderr
    )


def test_a_directory_that_goes_away_is_said(project: Project, api: Api) -> None:
    (project.path / "there").mkdir()
    api.misbehave = lambda asked: (project.path / "there").rmdir() if asked.number == 3 else None
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--metrics", "there/m.prom", "--log", "log.jsonl")
    assert (0, 1) == (done.code, done.stderr.count("there/m.prom was not written: No such file or directory"))
    assert "there/m.prom was not written" in (project.path / "log.jsonl").read_text()


def test_a_pull_without_the_option_writes_none(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    project.run("pull", "shop")
    assert {"connectors", "data"} == {path.name for path in project.path.iterdir()}


def test_runs_that_cannot_be_read_keep_no_metrics_from_being_written(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop").code
    folder = project.data / "shop" / ".syncer" / "runs"
    (folder / "9.jsonl").symlink_to("9.jsonl")
    (folder / "8.jsonl").write_text('{"id":"x","source":"shop","started":"2026","ended":"9999-99","streams":[]}')
    rows: list[Any] = project.run("runs", "--json").json()
    api.misbehave = lambda asked: Reply(500)
    assert 4 == project.run("pull", "shop", "--metrics", "m.prom").code
    found = read((project.path / "m.prom").read_text())
    assert moment(rows[0]["ended"]) == of(found, "syncer_last_success_timestamp_seconds")
