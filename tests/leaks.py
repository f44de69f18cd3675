"""Looks for secrets in everything that a run leaves behind or says: in clear, percent-encoded, in JSON, in base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

from tests.command import Done, Project


def forms(text: str) -> set[bytes]:
    """The ways in which a text may be written down, also in the middle of something that is in base64."""
    escaped = json.dumps(text)[1:-1]
    ways = {text, quote(text), quote(text, safe=""), quote_plus(text), escaped, escaped.replace("/", "\\/")}
    found = {way.encode() for way in ways}
    data = text.encode()
    for before in range(3):
        coded = base64.b64encode(bytes(before) + data + bytes(2 - (before + len(data) + 2) % 3))
        found.add(coded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6])
    return found | {form.replace(b"+", b"-").replace(b"/", b"_") for form in found}


def traces(project: Project, needles: Iterable[str], *said: Done) -> list[tuple[str, str]]:
    """Where secrets are found: the output with its ledger and checkpoints, a file called log, and what was printed.

    What pulls share of limits is looked at too; a token that must outlive a run is kept beside it, on purpose.
    """
    state = Path(f"{project.path}-state")
    places = [*project.data.rglob("*"), *(state / "pacing").rglob("*"), *project.path.glob("log*")]
    contents = {str(path.relative_to(project.path.parent)): path.read_bytes() for path in places if path.is_file()}
    contents |= {f"said {number}": done.said.encode() for number, done in enumerate(said)}
    assert contents
    wanted = {needle: forms(needle) for needle in needles if len(needle) >= 8}
    assert wanted
    return [
        (name, needle)
        for name, content in contents.items()
        for needle, ways in wanted.items()
        if any(way in content for way in ways)
    ]
