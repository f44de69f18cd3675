from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long forms: every kill point, thousands of crashes")
    parser.addoption("--seed", type=int, default=None, help="the seed of the random tests; printed at the start")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for every process of pytest-xdist, and for hypothesis too."""
    if config.getoption("--seed") is None:
        given = getattr(config, "workerinput", {}).get("seed")
        config.option.seed = random.SystemRandom().randrange(10**9) if given is None else given
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(config.option.seed)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["seed"] = node.config.getoption("--seed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """At the end, because -q prints no header."""
    terminalreporter.write_line(f"seed: {config.getoption('--seed')} (repeat with --seed)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long form: add --long"))


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests find out about limits is no business of the user who runs them."""
    monkeypatch.setenv("SYNCER_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one, for tests that do not ask whether fsync works."""
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=place) as name:
        yield Path(name)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))
