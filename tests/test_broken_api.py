"""Servers that break the protocol: exit code 9, the checkpoint kept, and words that say which page it was.

Through the installed command, against a real server on loopback that starts to misbehave at its third answer.
Once it behaves again the next pull must end as if nothing had happened.
"""

from __future__ import annotations

import gzip
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api import Api, Asked, Reply, connector, record
from tests.command import Project, lines

RECORDS = [record(number) for number in range(1, 21)]
EVERYTHING = lines(RECORDS)
PAGE = 4


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def repeat(body: dict[str, Any], number: int) -> dict[str, Any]:
    return {"items": RECORDS[4:8], "next": "12"}


def nothing(body: dict[str, Any], number: int) -> dict[str, Any]:
    return {"items": [], "next": f"{8:0{number}}"}


def foreign(body: dict[str, Any], number: int) -> dict[str, Any]:
    return {**body, "next": "http://api.example.org/items"}


def unsaveable(body: dict[str, Any], number: int) -> dict[str, Any]:
    return {**body, "next": "\ud800"}


@pytest.mark.parametrize(
    ("change", "style", "words"),
    [
        (repeat, "token", "page 3 repeats the records of the page before it"),
        (nothing, "token", "page 5"),
        (foreign, "next", "page 3: the next page is on another server: http://api.example.org/items"),
        (unsaveable, "token", "page 3"),
    ],
    ids=["a repeated page", "endless empty pages", "a foreign next page", "a token that is no text"],
)
def test_a_broken_protocol_keeps_the_checkpoint_and_names_the_page(
    project: Project, change: Callable[[dict[str, Any], int], Any], style: str, words: str
) -> None:
    with Api(RECORDS, style=style) as api:
        api.misbehave = lambda asked: (
            Reply(body=change(api.page(asked)[0], asked.number)) if asked.number >= 3 else None
        )
        project.write(connector(api.url, style=style, stream="max_empty_pages=2"))
        done = project.run("pull", "shop")
        assert (9, lines(RECORDS[: 2 * PAGE])) == (done.code, project.output())
        asked, api.misbehave = len(api.seen), None
        assert 0 == project.run("pull", "shop").code
        assert 3 + (style == "next") == len(api.seen) - asked  # where links shift, the last page is read again
    assert EVERYTHING == project.output()
    assert words in done.stdout


def test_a_loop_is_named_and_stays_an_error_until_a_restart(project: Project) -> None:
    with Api(RECORDS) as api:
        api.misbehave = lambda asked: Reply(body={**api.page(asked)[0], "next": "4"}) if asked.number == 3 else None
        project.write(connector(api.url))
        done, again = project.run("pull", "shop"), project.run("pull", "shop")
        assert (9, 9, 3) == (done.code, again.code, len(api.seen))
        assert lines(RECORDS[: 3 * PAGE]) == project.output()
        assert "--restart" in again.stdout
        assert 0 == project.run("pull", "shop", "--restart", "--yes").code
    assert EVERYTHING == project.output()
    assert "page 3 names a next page that was read before" in done.stdout


ANSWERS = {
    "elsewhere": (Reply(302, {"Location": "http://api.example.org/items"}), "redirects to another server"),
    "circles": (Reply(302, {"Location": "?cursor=8"}), "redirects more than"),
    "html": (Reply(headers={"Content-Type": "text/html"}, body=b"<html>maintenance"), "text/html"),
    "listless": (Reply(body={"items": {"1": RECORDS[8]}}), "no list of records at 'items'"),
    "partial": (Reply(206), "206"),
}
"""What is no page: the answer, and what must be said of it."""


def test_an_answer_that_is_no_page_ends_its_stream_and_is_kept_as_evidence(project: Project) -> None:
    """One stream for each answer, in one pull: an error of one does not keep the others from their turn."""

    def misbehave(asked: Asked) -> Reply | None:
        return ANSWERS[asked.path[1:]][0] if "8" in asked.query.values() else None

    with Api(dict.fromkeys(ANSWERS, RECORDS), misbehave=misbehave) as api:
        project.write(connector(api.url, streams=ANSWERS))
        done = project.run("pull", "shop", "--json")
        assert 9 == done.code
        for name, stream in zip(ANSWERS, done.json()["streams"], strict=True):
            assert "ProtocolError" == stream["error"]["type"]
            assert ANSWERS[name][1] in stream["error"]["message"]
            assert lines(RECORDS[: 2 * PAGE]) == project.output(name)
        folder = project.data / "shop" / ".syncer"
        assert b"<html>maintenance" == (folder / "html.evidence").read_bytes()
        assert {"items": {"1": RECORDS[8]}} == json.loads((folder / "listless.evidence").read_bytes())
        api.misbehave = None
        assert 0 == project.run("pull", "shop").code
    assert [EVERYTHING] * len(ANSWERS) == [project.output(name) for name in ANSWERS]


def test_the_body_of_a_redirect_is_not_read(project: Project) -> None:
    """It may be large, or become large: here 600 MB of zeros in less than one, for a process that may have 500."""
    bomb = gzip.compress(bytes(2**20)) * 600

    def misbehave(asked: Asked) -> Reply | None:
        return None if asked.query else Reply(302, {"Location": "?cursor=0", "Content-Encoding": "gzip"}, body=bomb)

    with Api(RECORDS, misbehave=misbehave) as api:
        project.write(connector(api.url))
        limit = 500 * 2**20
        done = project.run("pull", "shop", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert (0, EVERYTHING) == (done.code, project.output()), done.said


NO_URLS = [
    "http://[::1",
    "//[",
    "http://*bad/",
    "http://.example.com/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:http/",
    "http://127.0.0.1:-1/",
    "http://a b/",
    "http://%zz/",
    "http://user@/",
    "https://",
    "ftp://127.0.0.1/",
    "javascript:alert(1)",
    "mailto:someone@example.org",
    "http://127.0.0.1：80/",
    "http://\u200b/",
    "http://half\ud800/",
    "?at=\ud800",
]
"""What a server may hand out as a link and no client can follow."""


@pytest.mark.parametrize("place", ["next", "redirect"])
def test_a_link_that_is_no_url_is_the_servers_fault(project: Project, place: str) -> None:
    """One stream for each of the links, in one pull."""
    links = {f"s{number}": link for number, link in enumerate(NO_URLS) if place == "next" or link.isascii()}

    def misbehave(asked: Asked) -> Reply:
        link = links[asked.path[1:]]
        return Reply(302, {"Location": link}) if place == "redirect" else Reply(body={"items": [], "next": link})

    with Api(misbehave=misbehave) as api:
        project.write(connector(api.url, style="next", streams=links))
        done = project.run("pull", "shop", "--json", "--patience", "0.01s")
    found = {links[stream["stream"]]: stream["error"]["type"] for stream in done.json()["streams"]}
    assert (9, dict.fromkeys(links.values(), "ProtocolError")) == (done.code, found)


DEPTHS = [197, 201, 250, 251, 252, 253, 254, 255, 900]
DIGITS = [20, 309, 4000]


def test_a_record_nested_too_deep_or_a_number_too_long_costs_its_record_and_no_more(project: Project) -> None:
    """One stream for each depth and length, in one pull: the odd record stands between two good ones."""
    odd = {f"depth{depth}": b"[" * depth + b"]" * depth for depth in DEPTHS}
    odd |= {f"digits{digits}": b"9" * digits for digits in DIGITS}
    first, last = (json.dumps(one).encode() for one in RECORDS[:2])

    def misbehave(asked: Asked) -> Reply:
        return Reply(body=b'{"items": [%b, {"id": "x", "odd": %b}, %b]}' % (first, odd[asked.path[1:]], last))

    with Api(misbehave=misbehave) as api:
        project.write(connector(api.url, style="single", streams=odd))
        done = project.run("pull", "shop", "--json")
    assert (0, len(odd)) == (done.code, len(done.json()["streams"]))
    assert [lines(RECORDS[:2])] * len(odd) == [project.output(name) for name in odd]
    causes = project.run("rejects", "shop", "--json")
    assert dict.fromkeys(odd, 1) == {cause["stream"]: cause["count"] for cause in causes.json()}
    found = {cause["stream"]: cause["sample"].get("record", {}).get("odd") for cause in causes.json()}
    assert [int("9" * digits) for digits in DIGITS] == [found[f"digits{digits}"] for digits in DIGITS]
    assert 0 == project.run("rejects", "shop").code
