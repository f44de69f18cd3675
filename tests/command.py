"""The installed command, run the way a user runs it: in a directory of their own, with a clean environment.

    project = Project(tmp_path)
    project.write(connector(api.url))                    # connectors/shop.py
    done = project.run("pull", "shop", "--json")         # waits; never a traceback
    assert (0, []) == (done.code, done.err)

`Project.run` itself asserts that no traceback reached stderr, for every case there is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import syncer

PATIENCE = 30.0
"""Seconds after which a test gives up on a process. Nothing is measured against it."""

CLEAN = {
    "PATH": os.environ.get("PATH", ""),
    "LANG": "C.UTF-8",
    "TERM": "xterm",
    # The package that the tests import is the one they run, wherever it is.
    "PYTHONPATH": str(Path(syncer.__file__).parents[1]),
}


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Its one line of JSON."""
        (value,) = self.lines()
        return value

    def lines(self) -> list[Any]:
        """Every line of stdout as JSON."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def said(self) -> str:
        """Everything a person could read."""
        return self.stdout + self.stderr


class Project:
    """A user's directory, and the command in it. `data` is where the output goes by default."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, path / "data"
        self._written = int(time.time())

    def write(self, text: str, name: str = "shop") -> None:
        """Put a connector where the command finds it, a second later than the last one.

        Python takes a file of the same second and the same length for the one that it has compiled already.
        """
        file = self.path / "connectors" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self._written += 1
        os.utime(file, (self._written, self._written))

    def output(self, stream: str = "items", source: str = "shop") -> bytes:
        """The records file of a stream; empty if there is none."""
        file = self.data / source / f"{stream}.jsonl"
        return file.read_bytes() if file.exists() else b""

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start the command and do not wait. `options` are subprocess.Popen's."""
        piped: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-m", "syncer", *arguments],
            cwd=self.path,
            env={**CLEAN, "HOME": str(self.path), "SYNCER_STATE": f"{self.path}-state", **(env or {})},
            encoding="utf-8",
            **{**piped, **options},
        )

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> Done:
        """Run the command to its end."""
        return ended(self.start(*arguments, env=env, **options))


def ended(process: subprocess.Popen[str]) -> Done:
    """What a started command said and how it ended; killed if it does not end."""
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    if any(words in (stderr or "") for words in ("Traceback", "bug in syncer")):
        pytest.fail("\n".join(["a traceback was shown, which ends in:", *stderr.splitlines()[-6:]]), pytrace=False)
    return Done(process.returncode, stdout or "", stderr or "")


def until(true: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something to become true, as long as the process that should bring it about is alive."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        assert process is None or process.poll() is None
        time.sleep(0.01)


def lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The output that these records should make: a line of JSON each, nothing changed."""
    return b"".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for one in records)
