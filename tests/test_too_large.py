"""A page that the API calls too large comes in smaller ones, from the same place, and every record comes once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api import Api, Asked, Reply, connector, record
from tests.command import Project, lines

ROWS = [record(number) for number in range(1, 41)]
HEAVY = (13, 14, 31)
STYLES = {
    "PageNumber(pages='pages')": lambda query, size: (int(query.get("page", 1)) - 1) * size,
    "PageNumber(total='total', size='per_page')": lambda query, size: (int(query.get("page", 1)) - 1) * size,
    "Offset(total='total')": lambda query, size: int(query.get("offset", 0)),
    "NextToken('next', param='at')": lambda query, size: int(query.get("at", 0)),
    "LastRecord(param='after', more='more')": lambda query, size: int(query.get("after", 0)),
}


def serving(style: str, refusal: Reply, most: int = 3) -> Callable[[Asked], Reply]:
    """An API that refuses a page of more than `most` records if one of the heavy ones is among them."""

    def answer(asked: Asked) -> Reply:
        size = int(asked.query["per_page"])
        begin = STYLES[style](asked.query, size)
        shown = ROWS[begin : begin + size]
        if len(shown) > most and any(row["id"] in HEAVY for row in shown):
            return refusal
        more = begin + size < len(ROWS)
        body = {"items": shown, "total": len(ROWS), "pages": -(-len(ROWS) // size), "more": more}
        return Reply(body={**body, "next": str(begin + size) if more else None})

    return answer


def declared(url: str, style: str, size: str, *, more: str = "") -> str:
    text = connector(url, stream=f'params={{"per_page": 8}}, {size}', more=more)
    return text.replace('NextToken("next", param="cursor")', style)


@pytest.mark.parametrize("concurrency", ["1", "8"])
@pytest.mark.parametrize("style", STYLES)
def test_a_page_that_is_too_large_comes_in_smaller_ones(tmp_path: Path, style: str, concurrency: str) -> None:
    project = Project(tmp_path)
    size = "" if "size=" in style else 'size="per_page"'
    with Api(misbehave=serving(style, Reply(status=413))) as api:
        project.write(declared(api.url, style, size))
        first = project.run("pull", "shop", "--max-pages", "2", "--concurrency", concurrency)
        assert (0, True) == (first.code, "page 2 was too large for the API" in first.stdout), first.said
        last = project.run("pull", "shop", "--concurrency", concurrency)
    assert (0, lines(ROWS)) == (last.code, project.output()), last.said


def test_a_rule_says_what_too_large_looks_like(tmp_path: Path) -> None:
    project, style = Project(tmp_path), "Offset(total='total')"
    rule = 'answers=(When(status=400, body={"error": "too_much"}, then="too large"),)'
    with Api(misbehave=serving(style, Reply(status=400, body={"error": "too_much"}))) as api:
        project.write("from syncer.answers import When\n" + declared(api.url, style, 'size="per_page"', more=rule))
        done = project.run("pull", "shop")
    assert (0, lines(ROWS)) == (done.code, project.output()), done.said


@pytest.mark.parametrize(("size", "most"), [("", 3), ('size="per_page"', 0)], ids=["no name for it", "not even one"])
def test_a_page_that_cannot_be_made_smaller_ends_the_run_with_what_to_do(tmp_path: Path, size: str, most: int) -> None:
    project, style = Project(tmp_path), "Offset(total='total')"
    with Api(misbehave=serving(style, Reply(status=413), most)) as api:
        project.write(declared(api.url, style, size))
        done = project.run("pull", "shop")
        requests = len(api.seen)
    assert (4, lines(ROWS[:8] if not size else ROWS[:12])) == (done.code, project.output())
    assert "the API answered 413" in done.stdout
    assert 'Stream(size="per_page")' in done.stdout
    assert requests < 15
