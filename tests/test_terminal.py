"""Text that a server made up for the terminal it ends on: spelt out where people read, exact where machines do.

The hostile text is in record values, in names of unknown fields, in keys that become part of a reject's path, in the
words of a model's own error, in a bookmark and in a next link; every command that shows any of these is looked at.
"""

from __future__ import annotations

import os
import pty
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.api import Api, Asked, Reply, connector, record
from tests.command import PATIENCE, Done, Project, ended, lines, until

HOSTILE = "\x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\u202eevil\u2066\u200f\u061c[red]x[/x][/]\\ é😀\u2028\r\nINJECTED"
SPELT = r"\x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\u202eevil\u2066\u200f\u061c[red]x[/x][/]"
"""How its beginning should look to a person."""
HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|^INJECTED", re.MULTILINE
)
MODEL_OF_ITS_OWN = """
from typing import Annotated
from pydantic import AfterValidator

def refuse(value: str) -> str:
    if "pwned" in value:
        raise ValueError(f"does not like {value}")
    return value

class Item(BaseModel):
    id: int
    name: Annotated[str, AfterValidator(refuse)] = ""
    tags: dict[str, int] = {}
    stamp: str = ""
"""
RECORDS: list[dict[str, Any]] = [
    {"id": HOSTILE},
    {"id": 2, "name": HOSTILE},
    {"id": 3, "tags": {HOSTILE: "none"}},
    {"id": 4, "tags": {HOSTILE: "none"}},
    {"id": 5, "stamp": HOSTILE, HOSTILE: "a name of its own", "inner": {HOSTILE: 1}},
]
COMMANDS = ["pull", "status", "rejects", "rejects --all", "check"]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What every command says of the hostile API, for people and with --json."""
    project = Project(tmp_path_factory.mktemp("hostile"))
    stream = 'replication_key="stamp", since="after"'

    def misbehave(asked: Asked) -> Reply | None:
        link = f"http://evil.example/{HOSTILE}"
        return Reply(body={"items": [], "next": link}) if asked.path == "/bent" else None

    with Api(RECORDS, size=10, misbehave=misbehave) as api:
        both = ("items", "bent")
        project.write(connector(api.url, style="next", streams=both, stream=stream, model=MODEL_OF_ITS_OWN))
        commands = [[*command.split(), "shop"] for command in COMMANDS]
        found = {" ".join(command[:-1]): project.run(*command) for command in commands}
        found |= {f"{' '.join(command[:-1])} --json": project.run(*command, "--json") for command in commands}
        found["rejects --json in ASCII"] = project.run("rejects", "shop", "--json", env={"PYTHONIOENCODING": "ascii"})
        found["pull over budget"] = project.run("pull", "shop", "--max-rejects", "1", "--out", "other")
    return found


@pytest.mark.parametrize("command", [*COMMANDS, "pull over budget"])
def test_a_command_spells_out_what_could_harm_a_terminal(said: dict[str, Done], command: str) -> None:
    done = said[command]
    assert SPELT in re.sub(r"\n *", "", done.said)
    assert [] == HARMFUL.findall(done.said)


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_valid_and_harmless(said: dict[str, Done], command: str) -> None:
    done = said[f"{command} --json"]
    assert done.lines()
    assert [] == HARMFUL.findall(done.stdout)
    assert "pwned" in done.stdout


def test_json_has_the_exact_text(said: dict[str, Done]) -> None:
    rejects = {one["index"]: one for one in said["rejects --all --json"].lines()}
    assert RECORDS[:4] == [rejects[index]["record"] for index in range(4)]
    assert [f"Value error, does not like {HOSTILE}"] == [reason["message"] for reason in rejects[1]["reasons"]]
    assert [f"tags.{HOSTILE}"] == [reason["path"] for reason in rejects[2]["reasons"]]
    items, _ = said["status --json"].json()
    assert HOSTILE == items["bookmark"]
    items, _ = said["check --json"].json()
    assert {HOSTILE: 1, "inner": 1} == items["unknown_fields"]
    items, bent = said["pull --json"].json()["streams"]
    assert {HOSTILE: 1, "inner": 1} == items["unknown_fields"]
    assert "another server" in bent["error"]["message"]


def test_json_is_the_same_where_the_terminal_has_no_unicode(said: dict[str, Done]) -> None:
    there = said["rejects --json in ASCII"]
    assert there.stdout.isascii()
    assert said["rejects --json"].json() == there.json()


def looked_at(project: Project, *arguments: str) -> tuple[int, str]:
    """How a command ends whose stdout and stderr are a terminal, and all that reached the terminal."""
    own, other = pty.openpty()
    process = project.start(*arguments, stdout=other, stderr=other)
    os.close(other)
    pieces = []
    with os.fdopen(own, "rb", buffering=0) as screen, suppress(OSError):  # the end of a terminal is an error
        while piece := screen.read(65536):
            pieces.append(piece)
    return ended(process).code, b"".join(pieces).decode()


@pytest.mark.parametrize("option", ["--max-rejects=100%", "-v"], ids=["live", "line by line"])
def test_a_terminal_shows_a_pull_with_its_waits_and_retries(tmp_path: Path, option: str) -> None:
    project = Project(tmp_path)

    def misbehave(asked: Asked) -> Reply | None:
        return {2: Reply(429, {"Retry-After": "1"}), 3: Reply(503)}.get(asked.number)

    with Api([*RECORDS, *RECORDS[::-1]], size=5, misbehave=misbehave) as api:
        project.write(connector(api.url, model=MODEL_OF_ITS_OWN))
        code, shown = looked_at(project, "pull", "shop", option)
    assert 0 == code
    assert "Traceback" not in shown
    assert "429 Too Many Requests" in shown
    assert "503 Service Unavailable" in shown
    assert SPELT in shown
    assert [] == [text for text in ("\x1b]0;", "\x9b", "\u202e", "\u2066", "\u2028") if text in shown]
    assert 2 == project.output().count(b"\n")


@pytest.mark.parametrize("total", [2**70, 10**400], ids=["2^70", "10^400"])
def test_a_declared_total_beyond_all_bounds_is_not_shown(tmp_path: Path, total: int) -> None:
    project = Project(tmp_path)
    with Api(8) as api:
        api.misbehave = lambda asked: Reply(body={**api.page(asked)[0], "total": total})
        project.write(connector(api.url, stream='total="total"'))
        code, shown = looked_at(project, "pull", "shop")
    assert (9, 8) == (code, project.output().count(b"\n"))
    assert "page 2, 8 records" in shown
    assert "Traceback" not in shown


def test_a_terminal_that_goes_away_does_not_take_the_pull_with_it(tmp_path: Path) -> None:
    project, gate = Project(tmp_path), threading.Event()
    records = [record(number) for number in range(1, 21)]

    def misbehave(asked: Asked) -> None:
        if asked.number == 3:
            gate.wait(PATIENCE)

    with Api(records, misbehave=misbehave) as api:
        project.write(connector(api.url))
        own, other = pty.openpty()
        process = project.start("pull", "shop", stderr=other)
        os.close(other)
        until(lambda: len(api.seen) == 3, process)
        os.close(own)
        gate.set()
        done = ended(process)
    assert (0, lines(records)) == (done.code, project.output())
    assert "complete" in done.stdout
