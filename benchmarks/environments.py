"""One virtual environment for each of those that take part, made when it is missing.

What is asked for is the newest release that fits; which one that was is read back from the environment. The script,
the wire and the floors run in syncer's own environment, so that they have the same pydantic, requests and orjson.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WANTED = {
    "syncer": (str(ROOT),),
    "dlt": ("dlt[duckdb,parquet]", "pydantic"),
    "singer": ("singer-sdk[msgspec]",),
    "target-jsonl": ("target-jsonl",),
    "airbyte": ("airbyte-cdk",),
}
NAMED = {
    "syncer": ("syncer", "pydantic", "pydantic-core", "requests", "orjson"),
    "dlt": ("dlt", "duckdb", "pyarrow", "pydantic"),
    "singer": ("singer-sdk", "msgspec"),
    "target-jsonl": ("target-jsonl", "singer-python"),
    "airbyte": ("airbyte-cdk",),
}
VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


def make(directory: Path, names: list[str], anew: bool) -> None:
    """Make what is missing, and install this checkout's syncer in any case."""
    for name in names:
        place, done = directory / name, directory / name / "installed.json"
        wanted = WANTED[name]
        there = done.exists() and json.loads(done.read_text()) == [*wanted, sys.version]
        if there and not anew and name != "syncer":
            continue
        print(f"environment {name}: {'this checkout' if name == 'syncer' else ' '.join(wanted)}", flush=True)
        if not there or anew:
            venv.create(place, with_pip=True, clear=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        asked = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
        if asked.returncode:
            raise SystemExit(f"environment {name}: pip failed\n{asked.stdout}")
        done.write_text(json.dumps([*wanted, sys.version]))


def versions(directory: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Of the packages that matter, by environment."""
    told = {}
    for name in names:
        command = [str(directory / name / "bin" / "python"), "-c", VERSIONS, *NAMED[name]]
        told[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    return told
