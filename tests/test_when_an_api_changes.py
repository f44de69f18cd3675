"""The walk-through in docs/ is walked: the connector is the one it shows, the commands and their lines are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.api import Api
from tests.command import Project
from tests.test_docs import ROOT, block

PAGE = (ROOT / "docs" / "when-an-api-changes.md").read_text(encoding="utf-8")


def order(number: int, *, changed: bool) -> dict[str, Any]:
    """An order; from the 116th on as the API sends it since last night."""
    new = changed and number > 115
    return {
        "id": number,
        "status": "returned" if new and number % 5 == 0 else ("open", "paid", "sent")[number % 3],
        "customer": None if new and number % 2 else f"customer {number}",
        "total": number * 1.25,
        "created_at": f"2026-11-{1 + number % 28:02d}T08:{number % 60:02d}:00Z",
        "updated_at": "",
        **({"channel": "web"} if new else {}),
    }


def walk() -> list[tuple[str, list[str]]]:
    """The commands of the page, each with the lines it shows of its output."""
    steps: list[tuple[str, list[str]]] = []
    for line in block(PAGE, "changed walk").splitlines():
        if line.startswith("$ syncer "):
            steps.append((line.removeprefix("$ syncer "), []))
        elif line.strip():
            steps[-1][1].append(line)
    return steps


def test_five_commands_lead_from_the_alert_to_no_rejects_and_each_names_the_next(tmp_path: Path) -> None:
    project = Project(tmp_path)
    steps = walk()
    with Api([order(number, changed=False) for number in range(1, 201)], size=50, style="offset") as api:
        project.write(block(PAGE, "changed connector").replace("https://api.shop.example", api.url))
        assert 0 == project.run("pull", "shop").code
        api.records = [order(number, changed=True) for number in range(1, 201)]
        said, named = "", [steps[0][0]]
        for command, lines in steps[:-1]:
            assert command in named or f"syncer {command}" in said
            asked = len(api.seen)
            done = project.run(*command.split(), *(["--yes"] if command.endswith("--apply") else []))
            assert 3 * (command == "pull shop") == done.code, done.said
            assert command == "pull shop" or asked == len(api.seen)
            shown = iter(done.stdout.splitlines())
            missing = [line for line in lines if line not in shown]
            assert not missing, done.stdout
            said += done.stdout
        command, lines = steps[-1]
        assert f"syncer {command}" in said
        api.records = [order(number, changed=number <= 150) for number in range(1, 201)]
        done = project.run(*command.split())
    assert (0, True) == (done.code, set(lines) <= set(done.stdout.splitlines())), done.stdout
    assert 7 == len(steps)
    assert 200 == len(project.output("orders").splitlines())
