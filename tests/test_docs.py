"""What the documents say is what the program does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

import syncer
from syncer import errors
from syncer.config import catalogue, connector, load
from syncer.pull import variable
from tests.fixtures_store import ROOT

README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
AUTHORS = (ROOT / "docs" / "connectors.md").read_text()
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "tests/*.md", "fixtures/*.md", "syncer/*.md")
    for path in ROOT.glob(pattern)
)
COMMANDS = ("pull", "list", "status", "rejects", "check", "reset")


def block(text: str, name: str) -> str:
    """The fenced block behind `<!-- test: name -->`."""
    found = re.search(rf"<!-- test: {re.escape(name)} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert found, f"no block called {name}"
    return found.group(1)


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "dumb"}
    return subprocess.run(
        [sys.executable, "-m", "syncer", *arguments], cwd=cwd, env=plain | environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_in_the_reference_is_the_commands_own(tmp_path: Path, name: str) -> None:
    assert block(REFERENCE, f"help {name}").rstrip() == command(name, "--help", cwd=tmp_path).stdout.rstrip()


def test_every_command_is_in_the_reference_and_in_the_readme(tmp_path: Path) -> None:
    shown = command("--help", cwd=tmp_path).stdout.partition("Commands:")[2]
    found = {line.split()[0] for line in shown.splitlines() if re.match(r"  \w", line)}

    assert set(COMMANDS) == found
    assert all(f"syncer {name}" in README for name in COMMANDS)


def test_the_first_connector_of_the_readme_pulls_a_page_number_api_as_it_stands(tmp_path: Path) -> None:
    """25 lines of code at most, copied to connectors/shop.py, checked and pulled; only the address is another."""
    code = block(README, "first connector")
    with Shop() as address:
        folder = tmp_path / "connectors"
        folder.mkdir()
        (folder / "shop.py").write_text(code.replace("https://shop.example/api", address))
        checked = command("check", "shop", cwd=tmp_path)
        pulled = command("pull", "shop", cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "data/shop/orders.jsonl").read_text().split("\n")[:-1]]

    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    assert (0, 0) == (checked.returncode, pulled.returncode)
    assert [1, 2, 3, 4, 6] == [line["order_id"] for line in lines]
    assert "status: literal_error" in pulled.stdout


class Shop:
    """A page-number API as the README's connector expects it: three pages, one order with a new status."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
                orders = [
                    {
                        "order_id": n,
                        "status": "lost" if n == 5 else "paid",
                        "total": 9.5,
                        "placed_at": "2026-01-01T00:00:00Z",
                    }
                    for n in (2 * page - 1, 2 * page)
                ]
                data = json.dumps({"orders": orders, "meta": {"total_pages": 3}}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever)
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *arguments: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def test_the_demo_ends_as_the_readme_shows(tmp_path: Path) -> None:
    """Every line of the block is a line of the real summary, in order, but for the seconds."""
    pulled = command("pull", "demo", cwd=tmp_path)
    real = [_timeless(line) for line in pulled.stdout.splitlines()]
    expected = [_timeless(line) for line in block(README, "demo").splitlines() if line.strip() not in ("…", "")]

    assert pulled.returncode == 0
    assert expected == [line for line in real if line in expected]


def _timeless(line: str) -> str:
    return re.sub(r"\d+\.\d s", "n s", line).rstrip()


def test_the_incremental_stream_of_the_authors_guide_is_valid() -> None:
    names: dict[str, object] = {}
    exec(block(AUTHORS, "incremental stream"), names)

    assert isinstance(names["issues"], syncer.Stream)
    assert names["issues"].incremental


def test_every_declaration_in_the_authors_tables_is_valid() -> None:
    written = re.findall(r"\| `((?:Link|Next|Last|Page|Offset|Single|Bearer|Basic|Api)\w*\(.*?\))`", AUTHORS)
    names = {name: getattr(syncer, name) for name in syncer.__all__}

    assert len(written) >= 17
    for text in written:
        eval(text, names)


def test_every_public_name_is_shown_to_authors() -> None:
    missing = [name for name in syncer.__all__ if name not in AUTHORS + README]

    assert ["DAY", "MINUTE", "SECOND"] == missing


def test_the_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SyncerError)]
    documented = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in row.split(",")}

    assert {0, 130, 143} | {kind.exit_code for kind in kinds} == documented


def test_every_error_is_drawn_in_the_tree() -> None:
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert [] == [name for name in kinds if name not in (errors.__doc__ or "")]


def test_the_example_environment_names_exactly_what_the_connectors_read() -> None:
    written = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    needed = {"SYNCER_OUT", "SYNCER_SINK", "SYNCER_CONNECTORS"}
    for name, place in catalogue(ROOT / "connectors").items():
        found = load(name, place)
        needed |= {variable(found, setting) for setting in found.needs()}
        needed |= set(found.auth.variables()) if found.auth else set()

    assert needed == written


def test_every_variable_the_program_reads_is_in_the_readme() -> None:
    code = "".join(path.read_text() for path in (ROOT / "syncer").rglob("*.py"))
    read = set(re.findall(r'"(SYNCER_[A-Z]+)"', code))

    assert {"SYNCER_OUT", "SYNCER_SINK", "SYNCER_CONNECTORS"} == read
    assert all(f"`{name}`" in README for name in read)


def test_every_source_that_a_document_names_in_a_command_exists() -> None:
    named = set(re.findall(r"syncer (?:pull|check|status|rejects|reset) ([a-z]+)", README + AUTHORS))

    assert named - {"shop"} == {name for name in named - {"shop"} if connector(name, ROOT / "connectors")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_documents_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_line_of_prose_is_one_sentence(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "#", "-", "<", "*"))]
    double = [line for line in prose if re.search(r"[a-z`)]\. [A-Z]", line)]

    assert [] == double
