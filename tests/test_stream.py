"""What a declaration refuses before anything is fetched, and what its fingerprint depends on."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from syncer import Stream
from syncer.errors import ConfigError
from syncer.stream import model_fingerprint


class Item(BaseModel):
    id: int


@pytest.mark.parametrize("name", ["sqlite_master", "syncer_checkpoint", "syncer_trail", "../up", "a.b", "", "A"])
def test_a_name_that_files_or_tables_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a stream"):
        Stream(name=name, path="/items", model=Item)


def test_a_model_with_a_type_that_is_defined_nowhere_is_refused_when_it_is_declared() -> None:
    class Dangling(BaseModel):
        id: int
        other: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigError, match="model Dangling: the type Nowhere is not defined"):
        Stream(name="items", path="/items", model=Dangling)


SCHEMALESS = """
from pydantic import BaseModel, ConfigDict, BeforeValidator
from typing import Annotated
from syncer.stream import model_fingerprint

class Point:
    pass

class Odd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    id: int
    at: Annotated[Point, BeforeValidator(lambda value: Point())]

print(model_fingerprint(Odd))
"""


def test_a_model_without_a_json_schema_has_the_same_fingerprint_in_every_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", f"padding = [object() for _ in range({n})]\n{SCHEMALESS}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in (0, 50_000)
    ]
    assert runs[0] == runs[1] != ""


def test_the_fingerprint_of_a_model_changes_with_its_types_and_not_with_its_prose() -> None:
    def made(kind: Any, text: str) -> type[BaseModel]:
        return type(
            "Made", (BaseModel,), {"__annotations__": {"id": kind}, "__doc__": text, "model_config": ConfigDict()}
        )

    assert model_fingerprint(made(int, "one")) == model_fingerprint(made(int, "two"))
    assert model_fingerprint(made(int, "one")) != model_fingerprint(made(str, "one"))
