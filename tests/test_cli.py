"""The installed command, the way a user meets it: its words, its exit codes, its signals, where it prints.

Every run also asserts that no traceback is shown (see tests/command.py). The APIs are real servers on loopback:
five pages of four records, and what a complete pull must have written is computed from the records themselves.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import syncer
from tests.api import Api, Asked, Reply, connector, record
from tests.command import CLEAN, PATIENCE, Project, ended, lines, until

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
PAGE = 4
LONG_AGO = PATIENCE * 10
"""A delay that no test waits for: whatever ends before it was ended by something else."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(RECORDS) as running:
        yield running


def cursors(api: Api) -> list[str]:
    """The cursor of every request so far."""
    return [asked.query.get("cursor", "") for asked in api.seen]


def held(number: int, gate: threading.Event) -> Callable[[Asked], Reply | None]:
    """An API that keeps one of its answers until the gate is opened."""

    def misbehave(asked: Asked) -> None:
        if asked.number == number:
            gate.wait(PATIENCE)

    return misbehave


# What is asked of the command, and what it answers


def test_every_command_prints_json_that_parses(project: Project) -> None:
    bad = [*RECORDS[:5], record(6, id="six", extra=1), *RECORDS[6:]]
    with Api(bad) as api:
        project.write(connector(api.url, stream='total="total"'))
        pulled = project.run("pull", "shop", "--json").json()
        status = project.run("status", "shop", "--json").json()
        causes = project.run("rejects", "shop", "--json").json()
        (reject,) = project.run("rejects", "shop", "--json", "--all").lines()
        listed = project.run("list", "--json").json()
        checked = project.run("check", "shop", "--json").json()
    (stream,) = pulled["streams"]
    assert ("shop", 0, 5) == (pulled["source"], pulled["exit_code"], pulled["requests"])
    assert {"pages": 5, "fetched": 20, "written": 19, "rejected": 1, "repeated": 0, "purged": 0} == stream["run"]
    assert ("complete", {"id: int_type": 1}) == (stream["status"], stream["rejected_by_cause"])
    assert [("items", "complete", 19, 1, 20)] == [
        (row["stream"], row["status"], row["records"], row["rejects"], row["declared_total"]) for row in status
    ]
    assert [("id: int_type", 1, bad[5])] == [(row["cause"], row["count"], row["sample"]["record"]) for row in causes]
    assert ("items", bad[5], 2, 1) == (reject["stream"], reject["record"], reject["page"], reject["index"])
    assert "shop" in [row["name"] for row in listed]
    assert [("items", 4, 4, True)] == [(row["stream"], row["fetched"], row["accepted"], row["more"]) for row in checked]


def test_a_failing_pull_prints_json_and_says_why_on_stderr(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(status=404)
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--json")
    assert (2, 2, "ConfigError") == (done.code, done.json()["exit_code"], done.json()["streams"][0]["error"]["type"])
    assert "error: shop/items: the API answered 404" in done.stderr


def test_a_quiet_pull_says_nothing(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--quiet")
    assert (0, "", EVERYTHING) == (done.code, done.said, project.output())


def test_a_summary_names_a_command_that_resumes_this_very_pull(project: Project, api: Api) -> None:
    project.write(connector("{url}", more='settings={"url": "where it is"}'))
    own = ("shop", "--out", "else where", "--set", f"url={api.url}")
    done = project.run("pull", *own, "--max-pages", "2")
    (command,) = [line.removeprefix("resume") for line in done.stdout.splitlines() if line.startswith("resume")]
    again = f'"{sys.executable}" -m {command.strip()}'
    assert 0 == subprocess.run(["/bin/sh", "-c", again], cwd=project.path, env=CLEAN, check=False).returncode
    assert EVERYTHING == (project.path / "else where" / "shop" / "items.jsonl").read_bytes()


def test_list_shows_what_a_connector_needs(project: Project) -> None:
    needy = connector("{url}", name="needy", more='auth=Bearer(env="NEEDY_TOKEN"), settings={"url": "where it is"}')
    project.write(needy, "needy")
    done = project.run("list", "needy")
    assert 0 == done.code
    assert "needs url — where it is: --set url=… or SYNCER_NEEDY_URL" in done.stdout
    assert "secret NEEDY_TOKEN: not set" in done.stdout
    given = project.run("list", "needy", env={"SYNCER_NEEDY_URL": "http://h", "NEEDY_TOKEN": "t0ken"})
    assert "needs url — where it is: set" in given.stdout
    assert "secret NEEDY_TOKEN: set" in given.stdout
    assert "t0ken" not in given.said


BROKEN = {
    "leaves": ("import sys\nsys.exit(3)\n", "leaves.py, line 2"),
    "imports": ("import nothing_of_this_name\n", "imports.py, line 1: ModuleNotFoundError"),
    "no_python": ("\nthis is no Python\n", "no_python.py, line 2"),
    "misnamed": (connector("http://h", name="other"), "holds the connector 'other'"),
    "half": (connector("http://h", name="half").replace('"/items"', '"/items/{id"'), "/items/{id"),
    "empty": ("", "has no `connector = Connector(...)`"),
}
"""Connector files that no pull can use, and what must be said of them."""


@pytest.mark.parametrize("name", ["leaves", "no_python", "half"])
def test_a_broken_connector_is_refused_with_the_file_and_the_fault(project: Project, name: str) -> None:
    project.write(BROKEN[name][0], name)
    done = project.run("pull", name)
    assert (2, "") == (done.code, done.stdout)
    assert BROKEN[name][1] in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_a_connector_that_changes_within_a_second_is_read_anew(project: Project, api: Api) -> None:
    """Python takes a file of the same second and length for the one that it has compiled already."""
    project.write(connector(f"{api.url}/a"))
    assert 0 == project.run("check", "shop").code
    file = project.path / "connectors" / "shop.py"
    before = file.stat()
    file.write_text(connector(f"{api.url}/b"), encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert 0 == project.run("check", "shop").code
    assert ["/a/items", "/b/items"] == [asked.path for asked in api.seen]


def test_list_shows_the_others_beside_broken_connectors(project: Project) -> None:
    for name, (text, _) in BROKEN.items():
        project.write(text, name)
    done = project.run("list")
    assert 0 == done.code
    assert [] == [words for _, words in BROKEN.values() if words not in done.stdout]
    assert "demo  (at most" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("pull shpo", "did you mean shop?"),
        ("pull shop thing", "its streams are items"),
        ("pull shop --set repo", "--set 'repo' is not NAME=VALUE"),
        ("pull shop --set reop=a/b --set url=http://h", "no setting 'reop'"),
        ("pull shop", "SYNCER_SHOP_URL"),
        ("pull shop --set url=nowhere", "'nowhere' is not an http or https URL"),
        ("pull shop --set url=http://h --max-rejects many", "--max-rejects 100, or 2%"),
        ("pull shop --set url=http://h --max-rejects 101%", "--max-rejects 100, or 2%"),
        ("pull shop --set url=http://h --patience soon", "write 30s, 15m or 6h"),
        ("pull shop --set url=http://h --max-pages 0", "--max-pages"),
        ("pull shop --set url=http://h --sink parquet", "the sinks are jsonl, sqlite"),
        ("pull shop --connectors nowhere", "there is no directory nowhere"),
        ("pull", "SOURCE"),
        ("pull shop --frobnicate", "--frobnicate"),
    ],
)
def test_a_wrong_command_is_explained_and_touches_nothing(project: Project, arguments: str, words: str) -> None:
    project.write(connector("{url}", more='settings={"url": "where it is"}'))
    done = project.run(*arguments.split())
    assert (2, "") == (done.code, done.stdout)
    assert words in done.stderr
    assert not project.data.exists()


def test_a_setting_comes_from_the_command_or_the_environment(project: Project, api: Api) -> None:
    project.write(connector("{url}", more='settings={"url": "where it is"}'))
    assert 0 == project.run("pull", "shop", "--set", f"url={api.url}", "--max-pages", "2").code
    assert 0 == project.run("pull", "shop", env={"SYNCER_SHOP_URL": api.url}).code
    assert EVERYTHING == project.output()


def later(project: Project) -> dict[str, str]:
    """As if a limit were over: what an earlier pull was told of it is not found."""
    return {"SYNCER_STATE": f"{project.path}-later"}


def test_check_validates_one_page_of_each_stream_and_writes_nothing(project: Project, api: Api) -> None:
    project.write(connector(api.url, streams=("items", "others")))
    done = project.run("check", "shop")
    assert (0, ["/items", "/others"]) == (done.code, [asked.path for asked in api.seen])
    assert "4 accepted, 0 would be rejected" in done.stdout
    assert ["connectors"] == [path.name for path in project.path.iterdir()]


def test_check_says_that_the_credentials_are_refused(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(status=401)
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    done = project.run("check", "shop", env={"SHOP_TOKEN": "wrong-one"})
    assert 5 == done.code
    assert "check SHOP_TOKEN" in done.stdout


def test_check_shows_what_the_api_said_on_one_line_and_without_secrets(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(status=404, body=b"no such thing for\r\nown-t0ken and other-t0ken")
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    (project.path / ".env").write_text("SHOP_TOKEN=own-t0ken\nOTHER_TOKEN=other-t0ken\n")
    done = project.run("check", "shop")
    assert r"  the answer begins: no such thing for\x0d\n*** and ***" in done.stdout.splitlines()
    assert "t0ken" not in project.run("check", "shop", "--json").said


def test_a_name_in_an_answer_that_is_a_secret_is_not_shown(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(body={"some-t0ken": 1, "shop": 2})
    project.write(connector(api.url))
    secrets = {"A_TOKEN": "some-t0ken", "B_KEY": "shop"}
    for arguments in (["pull"], ["pull", "--json"], ["pull", "--quiet"], ["check"]):
        done = project.run(*arguments, "shop", env=secrets)
        assert (9, True) == (done.code, "it has *** (value), shop (value)" in done.said)
        assert "some-t0ken" not in done.said


@pytest.mark.parametrize("command", ["pull", "check"])
def test_a_secret_that_travels_readable_is_warned_about_once(project: Project, api: Api, command: str) -> None:
    """0.0.0.0 is this machine too, but nothing that a person would take for it."""
    far = api.url.replace("127.0.0.1", "0.0.0.0")
    for url, secrets, warnings in [(far, "t0k", 1), (api.url, "t0k", 0), (far, "", 0)]:
        project.write(connector(url, streams=("items", "others"), more='auth=Bearer(env="SHOP_TOKEN", optional=True)'))
        variables = {"SHOP_TOKEN": secrets, "SYNCER_OUT": f"out{secrets}{warnings}"}
        done = project.run(command, "shop", "--json", env=variables)
        assert (0, warnings) == (done.code, done.stderr.count("SHOP_TOKEN goes to 0.0.0.0 over http")), done.stderr


# What `.env` says


def test_the_options_with_a_variable_are_read_from_dotenv_too(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    (project.path / "connectors").rename(project.path / "mine")
    (project.path / ".env").write_text("SYNCER_OUT=there\nSYNCER_SINK=sqlite\nSYNCER_CONNECTORS=mine\n")
    assert 0 == project.run("pull", "shop").code
    assert (project.path / "there" / "shop" / "shop.db").is_file()
    assert "20" in project.run("status", "shop").stdout
    assert 0 == project.run("pull", "shop", "--sink", "jsonl", env={"SYNCER_OUT": "environment"}).code
    assert EVERYTHING == (project.path / "environment" / "shop" / "items.jsonl").read_bytes()


def test_the_help_does_not_show_what_dotenv_says(project: Project) -> None:
    plain = project.run("pull", "--help")
    (project.path / ".env").write_text("SYNCER_OUT=there\nSYNCER_SINK=sqlite\n")
    assert plain == project.run("pull", "--help")
    (project.path / ".env").write_bytes(b"SYNCER_OUT=\xff\n")
    assert plain == project.run("pull", "--help")
    done = project.run("status", "demo")
    assert (2, True) == (done.code, ".env cannot be read" in done.stderr)


def test_dotenv_is_not_loaded_where_there_is_none(project: Project) -> None:
    code = "import sys; from syncer.config import adopt, environment; from pathlib import Path; adopt(Path());"
    code += " environment(Path()); print('dotenv' in sys.modules)"
    for text, loaded in [("", "False\n"), ("A=1\n", "True\n")]:
        if text:
            (project.path / ".env").write_text(text)
        done = subprocess.run([sys.executable, "-c", code], cwd=project.path, env=CLEAN, capture_output=True, text=True)
        assert loaded == done.stdout


# What there is, and what is wrong with it


def test_a_path_that_is_not_unicode_is_spelt_out_in_json(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    where = {"records": r"\xff/shop/items.jsonl", "rejects": r"\xff/shop/items.rejects.jsonl"}
    done = project.run("pull", "shop", "--json", "--out", "\udcff")
    assert (0, where) == (done.code, done.json()["streams"][0]["places"])
    assert EVERYTHING == Path(os.fsdecode(os.fsencode(project.path) + b"/\xff/shop/items.jsonl")).read_bytes()
    assert [where] == [row["places"] for row in project.run("status", "shop", "--json", "--out", "\udcff").json()]
    assert r"\xff/shop/items.jsonl" in project.run("status", "shop", "--out", "\udcff").stdout


@pytest.mark.parametrize("option", ["--all", "--json", "--all --json", ""])
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("no JSON", "it is not JSON"),
        ("[]", "it lacks what a reject has"),
        ('{"v":1}', "it lacks what a reject has"),
        ('{"reasons":[1],"at":"","run":1,"page":1,"index":1,"text":""}', "it lacks what a reject has"),
    ],
)
def test_a_line_of_the_rejects_that_was_changed_by_hand_is_named(
    project: Project, option: str, line: str, fault: str
) -> None:
    with Api([record(1, id="one"), record(2, id="two"), *RECORDS[2:10], record(11, id="last"), *RECORDS[11:]]) as api:
        project.write(connector(api.url))
        assert 0 == project.run("pull", "shop").code
    file = project.data / "shop" / "items.rejects.jsonl"
    first, second, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + line.encode().ljust(len(second) - 1) + b"\n" + last)
    done = project.run("rejects", "shop", *option.split())
    assert 8 == done.code
    assert f"line 2 of the rejects of items cannot be read: {fault}" in done.stderr
    assert "data/shop/items.rejects.jsonl was changed by hand" in done.stderr


def test_the_rejects_name_a_command_that_shows_every_one_of_them(project: Project) -> None:
    with Api([record(1, id="one"), *RECORDS[1:]]) as api:
        project.write(connector(api.url, streams=("items", "others")))
        (project.path / "connectors").rename(project.path / "my own")
        own = ("shop", "items", "--connectors", "my own", "--out", "else where", "--sink", "sqlite")
        assert 0 == project.run("pull", *own).code
    shown = project.run("rejects", *own).stdout
    command = shown.partition("every one of them: syncer ")[2].partition(", or with --json")[0]
    again = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m syncer {command}'], cwd=project.path, env=CLEAN, capture_output=True
    )
    assert (0, project.run("rejects", *own, "--all").stdout) == (again.returncode, again.stdout.decode())
    assert "items, run 1, page 1, record 0" in again.stdout.decode()


def test_one_of_a_kind_is_no_plural(project: Project) -> None:
    with Api([record(1, id="one")]) as api:
        project.write(connector(api.url, stream='total="total"'))
        checked, pulled = project.run("check", "shop").stdout, project.run("pull", "shop", "--max-rejects", "1")
        rejects = project.run("rejects", "shop").stdout
    assert "1 of 1 record on the first page" in checked
    assert "shop: 1 request in" in pulled.stdout
    assert "page 1, 1 of 1 record, 1 rejected" in pulled.stderr
    assert rejects.startswith("shop: 1 reject, 1 cause\n")
    assert "on 1 page, " in rejects


def test_a_sample_of_the_rejects_is_three_lines_of_a_terminal_at_most(project: Project) -> None:
    with Api([record(1, id="one", **{f"field{number}": "long " * 9 for number in range(30)})]) as api:
        project.write(connector(api.url))
        assert 0 == project.run("pull", "shop", "--max-rejects", "100%").code
    shown = project.run("rejects", "shop").stdout.splitlines()
    (at,) = [at for at, line in enumerate(shown) if line.endswith("page 1, record 0:")]
    assert shown[at + 1].startswith('    {"id":>>>"one"<<<,')
    assert shown[at + 3].endswith("…")
    assert "" == shown[at + 4]
    assert all(len(line) <= 80 for line in shown)


@pytest.mark.parametrize("command", ["status", "rejects", "rejects --all", "reset --yes", "reset --yes --sink sqlite"])
def test_looking_at_what_was_never_pulled_says_so_and_makes_nothing(project: Project, command: str) -> None:
    project.write(connector("http://h"))
    done = project.run(*command.split(), "shop", "--out", "nowhere")
    words = "nothing was there" if "reset" in command else "never pulled: there is no nowhere/shop"
    assert (0, True) == (done.code, words in done.said)
    assert ["connectors"] == [path.name for path in project.path.iterdir()]


@pytest.mark.parametrize(("here", "other"), [("jsonl", "sqlite"), ("sqlite", "jsonl")])
def test_output_of_the_other_sink_is_pointed_at(project: Project, api: Api, here: str, other: str) -> None:
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop", "--sink", other, "--out", "there").code
    for command in ("status", "rejects"):
        own = (command, "shop", "items", "--out", "there")
        done = project.run(*own, "--sink", here)
        assert f": syncer {command} shop items --sink {other} --out there\n" in done.stdout
        assert "there/shop has what" not in project.run(*own, "--sink", other).said
        as_json = project.run(*own, "--sink", here, "--json")
        assert ("there/shop has what" in as_json.stderr, 1) == (True, len(as_json.lines()))


def test_the_status_says_what_its_columns_count_within_80_columns(project: Project) -> None:
    with Api([*RECORDS, *(record(number) for number in range(1000, 3000))], size=100) as api:
        project.write(connector(api.url, streams=("customers",), stream='primary_key="id"'))
        assert 0 == project.run("pull", "shop").code
        assert 0 == project.run("pull", "shop", "--max-pages", "4").code
        opened = project.run("status", "shop").stdout
        assert 0 == project.run("pull", "shop").code
    head, row, coming = opened.splitlines()[1:4]
    assert head.endswith("  pages (run)  records stored  rejects stored")
    assert ["4", "400", "0"] == row.split()[-3:]
    assert "  open: goes on after page 4; the last complete output stays until then" == coming
    complete = project.run("status", "shop").stdout
    assert "  complete: the next pull fetches everything anew, then replaces the output" in complete.splitlines()
    assert all(len(line) <= 80 for line in (opened + complete).splitlines())


# A pull that stops short, and the one after it


def test_a_capped_run_is_not_reported_complete_and_the_next_one_resumes(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    capped = project.run("pull", "shop", "--max-pages", "2", "--json")
    (stream,) = capped.json()["streams"]
    assert (0, "capped", 2) == (capped.code, stream["status"], stream["run"]["pages"])
    assert "goes on after page 2" in project.run("status", "shop").stdout
    resumed = project.run("pull", "shop")
    assert 0 == resumed.code
    assert "resumed, complete" in resumed.stdout
    assert ["", "4", "8", "12", "16"] == cursors(api)
    assert EVERYTHING == project.output()


def test_a_run_over_its_reject_budget_stops_with_everything_saved(project: Project) -> None:
    bad = [*RECORDS[:4], *(record(number, name=None) for number in range(5, 9)), *RECORDS[8:]]
    with Api(bad) as api:
        project.write(connector(api.url))
        done = project.run("pull", "shop", "--max-rejects", "3", "--concurrency", "1")
        assert 3 == done.code
        assert "4 records are rejected, the budget is 3" in done.stdout
        assert "name: string_type" in done.stdout
        assert lines(bad[:4]) == project.output()
        kept = [json.loads(line)["record"] for line in project.output("items.rejects").splitlines()]
        assert bad[4:8] == kept
        assert 0 == project.run("pull", "shop", "--max-rejects", "100%").code
        assert ["", "4", "8", "12", "16"] == cursors(api)
    assert lines([*bad[:4], *bad[8:]]) == project.output()


def test_a_storm_of_500s_ends_the_run_and_the_next_one_resumes_exactly(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(status=500, body=b"<h1>oops</h1>") if asked.number > 2 else None
    project.write(connector(api.url))
    done = project.run("pull", "shop")
    assert 4 == done.code
    assert "server answered 500 Internal Server Error (3 attempts)" in done.stdout
    assert lines(RECORDS[: 2 * PAGE]) == project.output()
    assert ["", "4", "8", "8", "8"] == cursors(api)
    api.misbehave = None
    assert 0 == project.run("pull", "shop").code
    assert ["8", "12", "16"] == cursors(api)[5:]
    assert EVERYTHING == project.output()


def test_a_limit_that_outlasts_the_patience_ends_the_run_and_says_when_to_come_back(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(429, {"Retry-After": "3600"}) if asked.number == 3 else None
    project.write(connector(api.url))
    done = project.run("pull", "shop", "--patience", "2s")
    assert (4, 3) == (done.code, len(api.seen))
    assert "run the same command again after 2" in done.stdout
    assert (4, 3) == (project.run("pull", "shop", "--patience", "2s").code, len(api.seen))
    assert 0 == project.run("pull", "shop", env=later(project)).code
    assert EVERYTHING == project.output()


# Two at once, and signals


def test_a_second_pull_at_the_same_time_is_turned_away(project: Project, api: Api) -> None:
    gate = threading.Event()
    api.misbehave = held(2, gate)
    project.write(connector(api.url))
    first = project.start("pull", "shop")
    until(lambda: len(api.seen) == 2, first)
    second = project.run("pull", "shop")
    asked = len(api.seen)
    gate.set()
    assert (0, EVERYTHING) == (ended(first).code, project.output())
    assert (7, 2) == (second.code, asked)
    assert f"process {first.pid} on " in second.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_pages_are_fetched_ahead_ends_at_a_whole_page(
    project: Project, api: Api, number: signal.Signals
) -> None:
    gate = threading.Event()
    api.misbehave = held(3, gate)
    project.write(connector(api.url))
    process = project.start("pull", "shop")
    until(lambda: len(api.seen) == 3, process)
    process.send_signal(number)
    gate.set()
    done = ended(process)
    assert 128 + number == done.code
    assert project.output() in [lines(RECORDS[: pages * PAGE]) for pages in (1, 2, 3)]
    assert 0 == project.run("pull", "shop").code
    assert EVERYTHING == project.output()


def test_a_budget_that_is_passed_ends_the_pages_that_are_fetched_ahead(project: Project) -> None:
    bad = [*RECORDS[:4], *(record(number, name=None) for number in range(5, 9)), *RECORDS[8:]]
    with Api(bad) as api:
        project.write(connector(api.url))
        assert 3 == project.run("pull", "shop", "--max-rejects", "3").code
        assert lines(bad[:4]) == project.output()
        assert 0 == project.run("pull", "shop", "--max-rejects", "100%").code
    assert lines([*bad[:4], *bad[8:]]) == project.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_page_ends_the_run_after_it(project: Project, api: Api, number: signal.Signals) -> None:
    gate = threading.Event()
    api.misbehave = held(3, gate)
    project.write(connector(api.url))
    process = project.start("pull", "shop", "--concurrency", "1")
    until(lambda: len(api.seen) == 3, process)
    process.send_signal(number)
    gate.set()
    done = ended(process)
    assert (128 + number, lines(RECORDS[: 3 * PAGE])) == (done.code, project.output())
    assert "stopped" in done.stdout
    assert 0 == project.run("pull", "shop").code
    assert ["", "4", "8", "12", "16"] == cursors(api)
    assert EVERYTHING == project.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_wait(project: Project, api: Api, number: signal.Signals) -> None:
    api.misbehave = lambda asked: Reply(429, {"Retry-After": str(LONG_AGO)}) if asked.number == 3 else None
    project.write(connector(api.url))
    process = project.start("pull", "shop")
    until(lambda: len(api.seen) == 3, process)
    process.send_signal(number)
    done = ended(process)
    assert (128 + number, 3, lines(RECORDS[: 2 * PAGE])) == (done.code, len(api.seen), project.output())
    assert 0 == project.run("pull", "shop", env=later(project)).code
    assert EVERYTHING == project.output()


def test_a_signal_ends_the_wait_of_a_check(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(429, {"Retry-After": "20"})
    project.write(connector(api.url))
    process = project.start("check", "shop")
    until(lambda: api.seen, process)
    process.send_signal(signal.SIGINT)
    assert 130 == ended(process).code


def test_the_second_signal_kills_and_the_next_pull_resumes_exactly(project: Project, api: Api) -> None:
    api.misbehave = lambda asked: Reply(delay=LONG_AGO) if asked.number == 3 else None
    project.write(connector(api.url))
    process = project.start("pull", "shop", "--concurrency", "1")
    until(lambda: len(api.seen) == 3, process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # the first one waits for the page in hand
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert 130 == process.wait(PATIENCE / 2)  # long before the client itself gives up on the answer
    assert 130 == ended(process).code
    assert 0 == project.run("pull", "shop").code
    assert ["", "4", "8", "8", "12", "16"] == cursors(api)
    assert EVERYTHING == project.output()


SELF = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""
"""A sitecustomize.py that sends the process SIGINT when it is about to import a module."""


@pytest.mark.parametrize("command", ["list", "status", "rejects", "reset", "check", "pull"])
@pytest.mark.parametrize("module", ["syncer.cli", "typer", "syncer.config", "pydantic"])
def test_a_signal_while_the_command_starts_ends_it_quietly(project: Project, command: str, module: str) -> None:
    project.write(connector("http://h"))
    site = project.path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SELF.format(module=module))
    path = {"PYTHONPATH": os.pathsep.join([str(site), CLEAN["PYTHONPATH"]])}
    done = project.run(command, "shop", env=path)
    assert (130, "") == (done.code, done.said)


def test_the_installed_command_begins_where_the_module_does(project: Project) -> None:
    root = Path(syncer.__file__).parents[1]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]["syncer"]
    module, _, function = declared.partition(":")
    code = f"import sys; from {module} import {function}; sys.argv[1:] = ['--version']; sys.exit({function}())"
    done = subprocess.run([sys.executable, "-c", code], cwd=project.path, env=CLEAN, capture_output=True, text=True)
    assert ("syncer.__main__", 0, f"syncer {syncer.__version__}\n") == (module, done.returncode, done.stdout)


def typed(project: Project, keys: bytes, *arguments: str) -> tuple[int, str]:
    """How a command ends that runs in a terminal of its own, once its question was answered with these keys."""
    own, other = pty.openpty()

    def take() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = project.start(*arguments, stdin=other, stdout=other, stderr=other, preexec_fn=take)
    os.close(other)
    shown = b""
    with os.fdopen(own, "r+b", buffering=0) as screen, suppress(OSError):  # the end of a terminal is an error
        while piece := screen.read(65536):
            if b"[y/N]" in shown + piece and b"[y/N]" not in shown:
                screen.write(keys)
            shown += piece
    return ended(process).code, shown.decode()


@pytest.mark.parametrize("command", ["reset", "pull --restart"])
@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [(b"\x03", 130, ""), (b"\x04", 2, "error: nothing was done"), (b"n\n", 2, "error: nothing was done")],
    ids=["Ctrl-C", "Ctrl-D", "no"],
)
def test_a_question_that_is_not_answered_with_yes_changes_nothing(
    project: Project, api: Api, command: str, keys: bytes, code: int, words: str
) -> None:
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop").code
    found, shown = typed(project, keys, *command.split(), "shop")
    assert (code, True, False, False) == (found, words in shown, "Abort" in shown, "Traceback" in shown)
    assert (5, EVERYTHING) == (len(api.seen), project.output())
    assert "complete" in project.run("status", "shop").stdout


def test_a_question_that_is_answered_with_yes_is_obeyed(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    assert 0 == project.run("pull", "shop").code
    code, shown = typed(project, b"y\n", "reset", "shop")
    assert (0, True, b"") == (code, "items.jsonl.before-" in shown, project.output())


# Where it prints


def test_a_pipe_that_closes_is_not_fatal(project: Project, api: Api) -> None:
    project.write(connector(api.url))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = project.run("pull", "shop", "--json", stdout=pipe)
    assert (0, "", EVERYTHING) == (done.code, done.stderr, project.output())


def test_a_reader_who_takes_one_line_gets_it_and_nobody_complains(project: Project) -> None:
    with Api([record(number, name=None) for number in range(1, 1001)], size=1000) as api:
        project.write(connector(api.url))
        assert 0 == project.run("pull", "shop", "--max-rejects", "100%").code
    piped = ["/bin/sh", "-c", f'"{sys.executable}" -m syncer rejects shop --all --json | head -n 1']
    done = ended(subprocess.Popen(piped, cwd=project.path, env=CLEAN, stdout=-1, stderr=-1, encoding="utf-8"))
    assert (0, "", 1) == (done.code, done.stderr, done.json()["record"]["id"])


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=["stdout", "stderr", "all three"])
def test_a_pull_with_nowhere_to_print_is_complete(project: Project, api: Api, closed: tuple[int, ...]) -> None:
    project.write(connector(api.url))
    done = project.run("pull", "shop", preexec_fn=lambda: [os.close(one) for one in closed])
    assert (0, EVERYTHING) == (done.code, project.output())


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_full_device_to_print_to_is_not_fatal(project: Project, api: Api, name: str) -> None:
    project.write(connector(api.url))
    with Path("/dev/full").open("w") as full:
        done = project.run("pull", "shop", "-v", **{name: full})
    assert (0, EVERYTHING) == (done.code, project.output())


# Secrets that are missing or odd


def test_a_missing_secret_is_named_before_anything_is_asked(project: Project, api: Api) -> None:
    project.write(connector(api.url, more='auth=Basic("SHOP_USER", "SHOP_PASSWORD")'))
    for command in ("pull", "check"):
        done = project.run(command, "shop", env={"SHOP_USER": "someone"})
        assert (5, "", []) == (done.code, done.stdout, api.seen)
        assert "SHOP_PASSWORD is not set" in done.stderr
    assert not project.data.exists()


def test_a_secret_with_a_line_break_inside_is_refused_without_showing_it(project: Project, api: Api) -> None:
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    done = project.run("pull", "shop", env={"SHOP_TOKEN": "first\r\nX-Evil: second"})
    assert (5, []) == (done.code, api.seen)
    assert "SHOP_TOKEN" in done.stderr
    assert "second" not in done.said


@pytest.mark.parametrize(
    ("file", "variable", "sent"),
    [
        ("SHOP_TOKEN=pa$$word$HOME${HOME}\n", None, "pa$$word$HOME${HOME}"),
        ("export SHOP_TOKEN='quoted # no comment'\n", None, "quoted # no comment"),
        ("SHOP_TOKEN=from-the-file\n", "  from-the-environment\r\n", "from-the-environment"),
    ],
    ids=["keeps its dollars", "loses its quotes", "is the environment's, without its newline"],
)
def test_a_secret(project: Project, api: Api, file: str, variable: str | None, sent: str) -> None:
    project.write(connector(api.url, more='auth=Bearer(env="SHOP_TOKEN")'))
    (project.path / ".env").write_text(file)
    assert 0 == project.run("pull", "shop", env={"SHOP_TOKEN": variable} if variable else {}).code
    assert [f"Bearer {sent}"] * 5 == [asked.headers.get("authorization") for asked in api.seen]
