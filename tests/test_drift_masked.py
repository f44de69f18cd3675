"""Drift of a stream that masks: it is told and mended like any other, and no masked value is in what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api import Api, connector, record
from tests.command import Project

MODEL = """class Item(BaseModel):
    id: int
    name: Annotated[str, Masked()]
    price: Decimal
    updated_at: AwareDatetime
"""


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_the_drift_of_a_stream_that_masks_is_told_and_mended(tmp_path: Path, sink: str) -> None:
    project = Project(tmp_path)
    rows = [record(number, name=f"canary-{number}") for number in range(1, 21)]
    with Api(rows) as api:
        text = connector(api.url, model=MODEL, stream='max_rejects="100%"')
        project.write(f"from typing import Annotated\n\nfrom syncer import Masked\n{text}")
        assert 0 == project.run("pull", "shop", "--sink", sink).code
        calm = project.run("drift", "shop", "--sink", sink)
        assert 0 == calm.code, calm.said
        api.records = [{**row, **({"price": None} if row["id"] > 15 else {})} for row in rows]
        assert 0 == project.run("pull", "shop", "--sink", sink).code
        told = project.run("drift", "shop", "--sink", sink, "--apply", "--yes")
        replayed = project.run("rejects", "replay", "shop", "--sink", sink)
    assert (0, 0) == (told.code, replayed.code), told.said
    assert "+    price: Decimal | None\n" in told.stdout
    assert "Annotated[str, Masked()]" in (project.path / "connectors" / "shop.py").read_text()
    assert "canary" not in told.said + calm.said + replayed.said
    assert [] == project.run("rejects", "shop", "--sink", sink, "--json").json()


def test_what_goes_on_keeps_the_pages_as_the_pull_before_it_did(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with Api([record(number) for number in range(1, 21)]) as api:
        project.write(connector(api.url))
        capped = project.run("pull", "shop", "--keep-pages", "--max-pages", "2")
        (run,) = project.run("runs", "shop", "--json").json()
    assert "resume   syncer pull shop items --keep-pages\n" in capped.stdout
    assert "syncer pull shop --keep-pages" == run["command"]
