"""The list of faults names every number once, and only tests and scenarios that there are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.command import CLEAN
from tests.faults import FAULTS
from tests.fixtures_store import ROOT

ROWS = re.findall(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", (ROOT / "tests" / "FAULTS.md").read_text(), re.MULTILINE)
PROOFS = {int(number): proof.strip() for number, _, _, proof in ROWS}
TEST = re.compile(r"`(tests/test_\w+\.py)::((?:\w+::)?test_\w+)(?:\[([^]`]+)\])?`")
SCENARIO = re.compile(r"scenario `([^`]+)`")
UNCOVERED = "not covered: "


@cache
def defined(file: str) -> set[str]:
    """The tests of a file, those of its classes with the name of the class."""
    found = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        above = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {above + one.name for one in inner if isinstance(one, ast.FunctionDef)}
    return found


@cache
def collected(files: tuple[str, ...]) -> set[str]:
    """Every test of these files as pytest names it, with its parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-n0", "-q", "-o", "addopts=", *files]
    done = subprocess.run(command, cwd=ROOT, env=CLEAN, capture_output=True, text=True, check=True, timeout=120)
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_every_number_of_the_catalogue_has_one_row() -> None:
    assert list(range(1, 141)) == [int(number) for number, *_ in ROWS]


def test_every_row_says_what_the_fault_is_and_what_is_done() -> None:
    assert [] == [number for number, fault, done, _ in ROWS if not (fault.strip() and done.strip())]


@pytest.mark.parametrize("number", PROOFS)
def test_every_row_names_tests_that_there_are_or_says_why_not(number: int) -> None:
    proof = PROOFS[number]
    if proof.startswith(UNCOVERED):
        assert len(proof.removeprefix(UNCOVERED).split()) > 4
        return
    named = TEST.findall(proof)
    scenarios = SCENARIO.findall(proof)
    assert "" == re.sub(r"[, ]", "", SCENARIO.sub("", TEST.sub("", proof)))
    assert named or scenarios
    assert [] == [f"{file}::{name}" for file, name, _ in named if name not in defined(file)]
    known = {fault.name: fault.numbers for fault in FAULTS}
    assert [] == [name for name in scenarios if name not in known]


def test_every_parameter_that_a_row_names_is_one() -> None:
    wanted = {
        f"{file}::{name}[{which}]" for proof in PROOFS.values() for file, name, which in TEST.findall(proof) if which
    }
    assert len(wanted) > 10
    files = tuple(sorted({one.partition("::")[0] for one in wanted}))
    assert set() == wanted - collected(files)


def test_every_number_that_a_scenario_stands_for_is_one() -> None:
    assert set() == {number for fault in FAULTS for number in fault.numbers} - set(PROOFS)


def test_a_test_that_is_not_there_would_be_noticed() -> None:
    file = f"tests/{Path(__file__).name}"
    assert "test_every_number_of_the_catalogue_has_one_row" in defined(file)
    assert "test_this_one_is_not_there" not in defined(file)
