"""The order that syncer/__init__.py documents is the order that modules import one another in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import syncer
from tests.command import CLEAN

PACKAGE = Path(syncer.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
CONNECTORS = sorted((ROOT / "connectors").glob("*.py"))
DOORS = {
    "requests": {"client", "strict", "wire"},
    "tenacity": {"client", "retry"},
    "typer": {"cli"},
    "rich": {"progress"},
    "dotenv": {"config"},
    "sqlite3": {"cache", "checkpoint", "sinks"},
    "diskcache": {"cache"},
    "http_sf": {"quotas"},
    "opentelemetry": {"telemetry"},
    "jinja2": {"webpage"},
    "markupsafe": {"webpage"},
    "pygal": {"charts"},
    "apprise": {"notify"},
    "libcst": {"rewrite"},
}
"""Which modules may import a library; nothing else is said about the others."""


def layer(file: Path) -> str:
    """The module's name in the documented order; all sinks are one layer, the package itself has none."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def order() -> list[str]:
    """The modules as the package's docstring names them, in its order."""
    _, _, after = (syncer.__doc__ or "").partition("one another in:")
    named, _, _ = after.partition("The names below")
    return [name.strip() for name in re.sub(r"—[^;.]*[;.]", ",", named).split(",") if name.strip()]


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """The line and the full name of every import in a file, also inside functions and under TYPE_CHECKING."""
    package = ("syncer", *file.relative_to(PACKAGE).parent.parts) if file.is_relative_to(PACKAGE) else ()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1])
            if node.module:
                yield node.lineno, f"{above}.{node.module}"
            else:
                yield from ((node.lineno, f"{above}.{alias.name}") for alias in node.names)


def own(name: str) -> str | None:
    """The layer that an imported name lies in; None if it is not ours, or the package itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == "syncer" and len(parts) > 1 and not parts[1].startswith("__") else None


def shell(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=CLEAN, capture_output=True, text=True, check=False, timeout=60
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_the_docstring_names_every_module_once() -> None:
    modules = {layer(file) for file in FILES} - {"", "__main__"}
    assert sorted(modules) == sorted(order())


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_modules_above_it(file: Path) -> None:
    places = {name: place for place, name in enumerate(order())}
    mine = places.get(layer(file), len(places))
    below = [
        f"line {line}: {name}"
        for line, name in imported(file)
        if (theirs := own(name)) and theirs != layer(file) and places.get(theirs, len(places)) >= mine
    ]
    assert [] == below


@pytest.mark.parametrize("library", DOORS)
def test_a_library_comes_in_through_its_own_door(library: str) -> None:
    users = {layer(file) for file in FILES for _, name in imported(file) if name.split(".")[0] == library}
    assert users
    assert set() == users - DOORS[library]


CODE = {"exec", "eval", "compile", "__import__"}
"""What turns text into code. A connector is a program, and `config` runs it; nothing else is."""


def test_nothing_but_a_connector_is_run_as_code() -> None:
    """No settings in a language that makes objects, no pickles, and no text that becomes code."""
    makers = {"pickle", "marshal", "shelve", "yaml", "dill", "cloudpickle", "jsonpickle", "runpy", "code", "codeop"}
    strange = [(layer(file), name) for file in FILES for _, name in imported(file) if name.split(".")[0] in makers]
    assert [] == strange
    calls = {
        layer(file)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CODE
    }
    assert {"config"} == calls


@pytest.mark.parametrize("file", CONNECTORS, ids=lambda file: file.stem)
def test_a_connector_imports_syncer_pydantic_and_the_standard_library_only(file: Path) -> None:
    allowed = sys.stdlib_module_names | {"syncer", "pydantic"}
    strange = [name for _, name in imported(file) if name.split(".")[0] not in allowed or name.startswith("syncer.")]
    assert [] == strange


def test_help_loads_no_heavy_library() -> None:
    loaded = shell(
        "import sys\n"
        "from syncer.cli import main\n"
        "sys.argv = ['syncer', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    assert "Usage: syncer" in loaded
    heavy = {
        "pydantic",
        "pydantic_core",
        "requests",
        "urllib3",
        "rich",
        "tenacity",
        "orjson",
        "sqlite3",
        "dotenv",
        "jinja2",
        "pygal",
    }
    assert set() == heavy & set(loaded.rpartition("loaded:")[2].split())


WATCH = """
import os, sys

seen = []


def watch(event, arguments):
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
        seen.append(f"opens {arguments[0]}")
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir"):
        seen.append(event)


class Watched(dict):
    def __getitem__(self, name):
        seen.append(f"reads {name}")
        return super().__getitem__(name)

    def get(self, name, default=None):
        seen.append(f"reads {name}")
        return super().get(name, default)

    def __contains__(self, name):
        seen.append(f"reads {name}")
        return super().__contains__(name)

    def __iter__(self):
        seen.append("reads all")
        return super().__iter__()


os.environ = Watched(os.environ)
sys.addaudithook(watch)
import syncer
[getattr(syncer, name) for name in syncer.__all__ if name not in ("EpochSeconds", "Masked")]
print(*seen, sep="; ")
"""


def test_importing_the_package_opens_no_file_and_reads_no_environment() -> None:
    assert "\n" == shell(WATCH)
