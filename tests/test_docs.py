"""What the documents say is what the program does."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from pydantic import ValidationError

import syncer
from syncer import errors
from syncer.auth import Context, opened, signing
from syncer.config import catalogue, connector, load
from syncer.decode import decode, encode
from syncer.pull import variable
from tests.api import Api, Reply
from tests.api import connector as written
from tests.command import CLEAN, Project
from tests.fixtures_store import ROOT
from tests.scripted import Time

README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
AUTHORS = (ROOT / "docs" / "connectors.md").read_text()
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "tests/*.md", "fixtures/*.md", "syncer/*.md")
    for path in ROOT.glob(pattern)
)
COMMANDS = ("pull", "list", "status", "rejects", "rebuild", "drift", "check", "runs", "report", "reset")


def block(text: str, name: str) -> str:
    """The fenced block behind `<!-- test: name -->`."""
    found = re.search(rf"<!-- test: {re.escape(name)} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert found, f"no block called {name}"
    return found.group(1)


def ran(code: str) -> dict[str, Any]:
    """The names that a block of Python defines, run like a file of its own."""
    names: dict[str, Any] = {}
    exec(compile(code, "block", "exec", dont_inherit=True), names)
    return names


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "dumb"}
    return subprocess.run(
        [sys.executable, "-m", "syncer", *arguments], cwd=cwd, env=plain | environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", [*COMMANDS, "rejects show", "rejects replay", "rejects purge"])
def test_the_help_in_the_reference_is_the_commands_own(tmp_path: Path, name: str) -> None:
    assert block(REFERENCE, f"help {name}").rstrip() == command(*name.split(), "--help", cwd=tmp_path).stdout.rstrip()


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
    """Every line of the block is one of the real summary, in order, but for seconds and how often it was limited."""
    pulled = command("pull", "demo", cwd=tmp_path)
    real = [_timeless(line) for line in pulled.stdout.splitlines()]
    expected = [_timeless(line) for line in block(README, "demo").splitlines() if line.strip() not in ("…", "")]

    assert pulled.returncode == 0
    assert expected == [line for line in real if line in expected]


def _timeless(line: str) -> str:
    return re.sub(r"\d+(\.\d s| requests| retried)", r"n\1", re.sub(r"\d+\.\d s", "0.0 s", line)).rstrip()


def test_the_incremental_stream_of_the_authors_guide_is_valid() -> None:
    names = ran(block(AUTHORS, "incremental stream"))

    assert isinstance(names["issues"], syncer.Stream)
    assert names["issues"].incremental


def test_the_second_host_of_the_authors_guide_is_valid() -> None:
    assert ("https://files.shop.example",) == ran(block(AUTHORS, "second host"))["connector"].hosts


@pytest.mark.parametrize("unknown", ["keep", "drop", "reject"])
def test_unknown_fields_end_as_the_authors_guide_says(tmp_path: Path, unknown: str) -> None:
    project = Project(tmp_path)
    sent, kept, dropped, *rejected = re.findall(r"`([{]\"sku.*?})`|`(\w+: unknown_field)`", AUTHORS)
    with Api() as api:
        api.misbehave = lambda asked: Reply(body={"items": [json.loads(sent[0])]})
        code = block(AUTHORS, "unknown").replace('"keep"', f'"{unknown}"') + "\n\nfrom syncer import Connector\n"
        project.write(f'{code}connector = Connector(name="shop", base_url="{api.url}", streams=(products,))\n')
        done = project.run("pull", "shop", "--max-rejects", "1", "--json").json()["streams"][0]
    expected = {"keep": kept[0] + "\n", "drop": dropped[0] + "\n", "reject": ""}
    assert expected[unknown] == project.output("products").decode()
    causes = {"; ".join(cause for _, cause in rejected): 1} if unknown == "reject" else {}
    assert causes == done["rejected_by_cause"]


def test_a_validator_of_a_model_runs_after_its_fields_as_the_authors_guide_says() -> None:
    """The same validator before or around the fields refuses every date."""
    sent = '{"begins": "2026-01-01T10:00:00Z", "ends": "2026-01-01T11:00:00Z"}'
    booking = ran(block(AUTHORS, "validator"))["Booking"]
    booking.model_validate_json(sent, strict=True)
    with pytest.raises(ValidationError, match="should end after it begins"):
        booking.model_validate_json(sent.replace("11:", "09:"), strict=True)
    head = block(AUTHORS, "validator").partition("    @model_validator")[0]
    for mode, rest in [("before", "value): return value"), ("wrap", "value, inner): return inner(value)")]:
        booking = ran(f'{head}    @model_validator(mode="{mode}")\n    @classmethod\n    def same(cls, {rest}\n')[
            "Booking"
        ]
        with pytest.raises(ValidationError, match="valid datetime"):
            booking.model_validate_json(sent, strict=True)


def test_the_auth_styles_of_the_authors_guide_sign_as_it_says() -> None:
    signer = opened(
        ran(block(AUTHORS, "hmac"))["auth"],
        Context({"SHOP_SECRET": "c2VjcmV0", "SHOP_KEY": "public"}, Time().clock, "https://h", lambda *request: None),
    )
    request = requests.Request("GET", "https://h/items?page=2").prepare()
    signer.sign(request)
    text = f"{request.headers['X-Timestamp']}GET/items?page=2"
    expected = base64.b64encode(hmac.digest(b"secret", text.encode(), "sha256")).decode()
    assert ("public", expected) == (request.headers["X-Key"], request.headers["X-Signature"])
    own = opened(ran(block(AUTHORS, "custom"))["auth"], Context({"SHOP_KEY": "one"}, Time().clock, "https://h", print))
    own.sign(request)
    assert ("one", "one") == (request.headers["X-Key"], request.headers["X-Key-Again"])


def test_every_place_of_a_template_is_in_the_authors_guide() -> None:
    (line,) = [line for line in AUTHORS.splitlines() if line.startswith("The templates of `Hmac`")]
    assert {*signing._PLACES, "signature"} == set(re.findall(r"`\{(\w+)\}`", line))


def test_every_extra_of_a_style_is_in_the_authors_guide_and_in_the_message_that_misses_it() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    code = "".join(path.read_text() for path in (ROOT / "syncer" / "auth").rglob("*.py"))
    named = set(re.findall(r"pip install 'syncer\[(\w+)\]'", code))
    assert {"jwt", "keyring"} == named == named & declared.keys()
    assert [] == [name for name in named if f"pip install 'syncer[{name}]'" not in AUTHORS]


def test_the_eleventh_empty_page_is_the_one_that_ends_a_pull() -> None:
    names = ran(block(AUTHORS, "unknown"))
    assert "eleventh empty page" in AUTHORS
    assert f"`max_empty_pages={names['products'].max_empty_pages}`" in AUTHORS
    assert 10 == names["products"].max_empty_pages


def test_numbers_change_their_spelling_only_as_the_readme_says() -> None:
    (line,) = [line for line in README.splitlines() if line.startswith("- **What is written")]
    pairs = re.findall(r"`(\S+)` becomes `(\S+)`", line)
    assert ["-0", "1e5"] == [sent for sent, _ in pairs]
    for sent, expected in [
        *pairs,
        ("1.10", "1.10"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ]:
        (value,) = decode(f"[{sent}]".encode(), "")[1]
        assert expected == encode(value).decode()


def test_the_last_line_of_each_key_is_kept_as_the_reference_does_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "shop"
    folder.mkdir(parents=True)
    lines = [
        '{"order_id":1,"total":1.10}',
        '{"order_id":2,"total":0.1000000000000000055}',
        '{"order_id":1,"note":"\u2028"}',
    ]
    (folder / "orders.jsonl").write_bytes("".join(f"{line}\n" for line in lines).encode())
    code = block(REFERENCE, "last of each key")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert f"{lines[2]}\n{lines[1]}\n" == done.stdout.decode()


@pytest.mark.parametrize(
    ("reply", "mailed"),
    [
        (None, ""),
        (Reply(429, {"Retry-After": "90000"}), ""),
        (Reply(401), "error: shop/items: the API answered 401"),
    ],
    ids=["complete", "again later", "refused"],
)
def test_the_cron_line_of_the_readme_speaks_only_when_a_person_is_needed(
    tmp_path: Path, reply: Reply | None, mailed: str
) -> None:
    schedule, line = re.match(r"((?:\S+ ){5}) (.*)", block(README, "cron")).groups()  # type: ignore[union-attr]
    assert "7 * * * * " == schedule
    assert "%" not in line  # cron would make a new line of it
    (tmp_path / "bin").mkdir()
    (tmp_path / "shop").mkdir()
    program = tmp_path / "bin" / "syncer"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m syncer "$@"\n')
    program.chmod(0o700)
    with Api() as api:
        api.misbehave = lambda asked: reply
        Project(tmp_path / "shop").write(written(api.url))
        path = {"PATH": f"{program.parent}:{CLEAN['PATH']}"}
        done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, env=CLEAN | path, capture_output=True, text=True)
    assert (bool(mailed), "") == (bool(done.stdout), done.stderr)
    assert done.stdout.startswith(mailed)


def test_every_code_is_fine_mends_itself_was_stopped_or_needs_a_person() -> None:
    (line,) = [line for line in README.splitlines() if line.startswith("0 is fine")]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SyncerError)]
    assert {0, 130, 143} | {kind.exit_code for kind in kinds} == set(map(int, re.findall(r"\d+", line)))


def test_the_words_of_the_design_are_explained_in_the_reference() -> None:
    words = re.findall(r"^\| ([a-z ]+) \|", REFERENCE.partition("## Words")[2].partition("\n## ")[0], re.MULTILINE)
    wanted = {"run", "page", "generation", "checkpoint", "bookmark", "cursor", "reject budget"}
    assert set() == wanted - set(words)


def test_every_declaration_in_the_authors_tables_is_valid() -> None:
    declared = re.findall(r"\| `([A-Z]\w*\(.*?\))` \|", AUTHORS)
    names = {name: getattr(syncer, name) for name in syncer.__all__}

    assert len(declared) >= 20
    for text in declared:
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
    needed = {"SYNCER_OUT", "SYNCER_SINK", "SYNCER_CONNECTORS", "SYNCER_NOTIFY"}
    for name, place in catalogue(ROOT / "connectors").items():
        found = load(name, place)
        needed |= {variable(found, setting) for setting in found.needs()}
        needed |= set(found.auth.variables()) if found.auth else set()

    assert needed == written


def test_every_variable_the_program_reads_is_in_the_readme() -> None:
    code = "".join(path.read_text() for path in (ROOT / "syncer").rglob("*.py"))
    read = set(re.findall(r'"(SYNCER_[A-Z]+)"', code))

    assert {"SYNCER_OUT", "SYNCER_SINK", "SYNCER_CONNECTORS", "SYNCER_LOG"} <= read
    assert all(f"`{name}`" in README for name in read)


def test_every_source_that_a_document_names_in_a_command_exists() -> None:
    after = r"syncer (?:pull|check|status|reset|report|rejects(?: show| replay| purge)?) ([a-z]+)"
    named = set(re.findall(after, README + AUTHORS)) - {"shop", "show", "replay", "purge"}

    assert named == {name for name in named if connector(name, ROOT / "connectors")}


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
