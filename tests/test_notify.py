"""Who is told of a run, of which runs, and that nothing of it changes how a run ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from syncer import notify
from syncer.errors import ConfigError
from tests.api import Api, Reply, connector, record
from tests.command import Project
from tests.scripted import response, scripted

OK = response(b"ok")
ROW: dict[str, Any] = {"id": "1", "source": "shop", "sink": "jsonl", "exit_code": 0, "streams": []}


def bodies(requests: list[bytes]) -> list[Any]:
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests]


def of(causes: dict[str, int], code: int = 0, name: str = "2", **stream: Any) -> dict[str, Any]:
    return {
        **ROW,
        "id": name,
        "exit_code": code,
        "streams": [{"stream": "items", "rejected_by_cause": causes, **stream}],
    }


@pytest.mark.parametrize(
    ("expected", "row"),
    [
        ([], of({})),
        ([], of({"a": 2})),
        (["causes"], of({"a": 2, "b": 1})),
        (["failed"], of({"a": 2}, 4)),
        (["failed", "causes"], of({"b": 1}, 3)),
        (["drift"], of({}, drift=[{"before": {"count": 9, "of": 9}, "rejected": 0}])),
        (["drift"], of({}, drift=[{"before": None, "rejected": 2}])),
        ([], of({}, drift=[{"before": None, "rejected": 0}])),
        ([], of({"b": 1}, 143)),
        ([], of({"b": 1}, 130)),
    ],
)
def test_a_run_is_told_of_when_it_failed_met_new_causes_or_drifted(expected: list[str], row: dict[str, Any]) -> None:
    earlier = [row, of({"a": 9}, name="1"), {**of({"b": 1}, name="0"), "sink": "sqlite"}]
    assert expected == notify.because(row, earlier)


@pytest.mark.parametrize(
    "target",
    ["mail", "cmd:", "cmd:'x", "https://", "http://a b", "https://x:99999999/", "nosuchservice://canary-of-a-token"],
)
def test_what_nobody_can_be_told_by_is_refused_before_the_pull_and_not_shown(tmp_path: Path, target: str) -> None:
    project = Project(tmp_path)
    project.write(connector("http://127.0.0.1:9"))
    done = project.run("pull", "shop", "--notify", target)
    assert 2 == done.code
    assert "canary" not in done.said
    assert not project.data.exists()


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(ConfigError, match="not known"):
        notify.wanted("failed,success")


def test_a_webhook_hears_of_a_failure_and_not_of_a_success(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with Api(8) as api, scripted(OK, OK) as hook:
        project.write(connector(api.url))
        target = f"{hook.url}/services/c4nary-of-the-hook"
        assert 0 == project.run("pull", "shop", "--notify", target).code
        assert [] == hook.requests
        api.misbehave = lambda asked: Reply(status=401)
        done = project.run("pull", "shop", "--log", str(tmp_path / "log"), env={"SYNCER_NOTIFY": target})
    assert 5 == done.code
    (body,) = bodies(hook.requests)
    assert ("shop", 5, ["failed"], 0) == (body["source"], body["exit_code"], body["because"], hook.surplus)
    assert "shop failed with exit code 5" in body["text"]
    assert "401" in body["text"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [] == [str(path) for path in files if b"c4nary" in path.read_bytes()]
    assert "c4nary" not in done.said


def test_a_command_gets_the_report_and_is_told_of_new_causes_once(tmp_path: Path) -> None:
    project, heard = Project(tmp_path), tmp_path / "heard"
    script = tmp_path / "hear.py"
    script.write_text(f"import sys; open({str(heard)!r}, 'a').write(sys.stdin.read() + '\\n')")
    with Api([*(record(number) for number in range(1, 8)), record(8, name=8)]) as api:
        project.write(connector(api.url))
        target = f"cmd:{sys.executable} {script}"
        codes = [project.run("pull", "shop", "--notify", target).code for _ in range(2)]
        assert [0, 0] == codes
        project.run("pull", "shop", "--notify", target, "--max-rejects", "0", "--notify-on", "causes,drift")
    (body,) = [json.loads(line) for line in heard.read_text().splitlines()]
    assert (0, ["causes", "drift"]) == (body["exit_code"], body["because"])
    assert "name: string_type" in body["text"]


def test_a_pull_that_may_not_begin_is_told_of(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with scripted(OK) as hook:
        project.write(connector("https://127.0.0.1:9", more='auth=Bearer(env="SHOP_TOKEN"),'))
        assert 5 == project.run("pull", "shop", "--notify", hook.url).code
    (body,) = bodies(hook.requests)
    assert "SHOP_TOKEN" in body["text"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("cmd:/nowhere/at/all", "cannot be run"),
        (f"cmd:{sys.executable} -c 'raise SystemExit(3)'", "exit code 3"),
        ("http://127.0.0.1:9/c4nary-hook", "127.0.0.1"),
    ],
)
def test_a_notification_that_fails_is_a_note_and_changes_nothing(tmp_path: Path, target: str, why: str) -> None:
    project = Project(tmp_path)
    with Api(8) as api:
        project.write(connector(api.url))
        api.misbehave = lambda asked: Reply(status=404) if asked.number > 1 else None
        plain = project.run("pull", "shop")
        before = project.output()
        done = project.run("pull", "shop", "--notify", target)
    assert (plain.code, before) == (done.code, project.output())
    assert "the notification was not sent" in done.stderr
    assert why in done.stderr
    assert "c4nary" not in done.said


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "SECONDS", 0.2)
    notes: list[str] = []
    notify.send(f"cmd:{sys.executable} -c 'import time; time.sleep(600)'", {}, {}, notes.append)
    assert ["the notification was not sent: its command did not end within 0.2 s"] == notes


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    notes: list[str] = []
    with scripted(OK) as elsewhere:
        moved = response(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}/")
        with scripted(moved) as hook:
            notify.send(hook.url, {"text": "x"}, {}, notes.append)
        assert [] == elsewhere.requests
    assert ["the notification was not sent: 127.0.0.1 answered 307"] == notes


def test_apprise_sends_what_the_others_cannot(tmp_path: Path) -> None:
    pytest.importorskip("apprise")
    notes: list[str] = []
    with scripted(OK) as hook:
        body = notify.told(of({}, 4), ["failed"], [])
        notify.send(f"json://127.0.0.1:{hook.port}/", body, {}, notes.append)
    assert [] == notes
    assert "shop failed with exit code 4" in bodies(hook.requests)[0]["message"]


def test_secrets_that_are_in_a_report_are_not_sent() -> None:
    row = of({"the s3cret-value of it": 1}, 4)
    assert "s3cret" not in json.dumps(notify.told(row, ["failed", "causes"], ["s3cret-value"]))
