"""Secrets that are sent as they are, and every place where a secret may be kept: variable, file, command, keyring."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from syncer import ApiKey, ApiKeys, Basic, Bearer, TokenPool
from syncer.auth import Auth, Context, opened, secret, secrets
from syncer.auth.style import Bare
from syncer.errors import ConfigError, CredentialsError
from syncer.pacer import place
from syncer.page import Request
from tests.api import Api, Asked, Reply, connector
from tests.command import CLEAN, Project
from tests.leaks import traces
from tests.scripted import Talk, Time, response, scripted
from tests.test_client import GOOD, Asker, headers_of, refused

TOKEN = "t0ken-c4n4ry/5+e=="
BEARER = 'auth=Bearer(env="SHOP_TOKEN")'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def api() -> Iterator[Api]:
    """An API that shows nothing to whoever does not bring the token."""
    with Api(8) as made:
        made.misbehave = lambda asked: None if asked.headers.get("authorization") == f"Bearer {TOKEN}" else Reply(401)
        yield made


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a command printed in one test is not known in the next."""
    secrets._OUTPUT.clear()
    yield
    secrets._OUTPUT.clear()


# --- where an API wants it ---

PLACES: list[tuple[Auth, str, dict[str, str]]] = [
    (Bearer(env="A"), "/items", {"authorization": "Bearer one"}),
    (Bearer(env="A", scheme="Token"), "/items", {"authorization": "Token one"}),
    (Bearer(env="A", scheme=""), "/items", {"authorization": "one"}),
    (Bearer(env="A", header="X-Auth", scheme="key"), "/items", {"x-auth": "key one"}),
    (Basic(username="A", password="B"), "/items", {"authorization": f"Basic {base64.b64encode(b'one:t/o').decode()}"}),
    (Basic(username="A"), "/items", {"authorization": f"Basic {base64.b64encode(b'one:').decode()}"}),
    (ApiKey(env="A", header="X-Api-Key"), "/items", {"x-api-key": "one"}),
    (ApiKey(env="B", param="api key"), "/items?api%20key=t%2Fo", {}),
    (ApiKeys(headers={"X-Key": "A", "X-App": "B"}), "/items", {"x-key": "one", "x-app": "t/o"}),
    (ApiKeys(headers={"X-Key": "A"}, params={"app": "B"}), "/items?app=t%2Fo", {"x-key": "one"}),
]


@pytest.mark.parametrize(("auth", "target", "headers"), PLACES, ids=[repr(auth) for auth, _, _ in PLACES])
def test_a_secret_is_put_where_the_api_wants_it(auth: Auth, target: str, headers: dict[str, str]) -> None:
    with scripted(GOOD) as server:
        asker = Asker(server.url, auth=auth, environment={"A": "one", "B": "t/o"})
        asker.fetch()
        sent = headers_of(server)
    assert [target] == server.targets
    assert headers == {name: sent[name] for name in sent if name.startswith("x-") or name == "authorization"}


def test_a_key_is_put_before_the_fragment_of_a_link_that_has_one() -> None:
    with scripted(GOOD) as server:
        asker = Asker(server.url, auth=ApiKey(env="A", param="key"), environment={"A": "one"})
        asker.fetch(Request(f"{server.url}/items?page=2#top"))
    assert ["/items?page=2&key=one"] == server.targets


def test_a_user_name_that_would_end_at_its_colon_is_refused() -> None:
    error = refused(CredentialsError, auth=Basic("A", "B"), environment={"A": "us:er", "B": "secret"})
    assert "A holds a colon, which no user name of HTTP Basic can" == str(error)
    assert "us:er" not in error.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bearer(env="sk_live_4eC39:Hq"),
        lambda: Basic("SHOP_USER", "p4ss word"),
        lambda: ApiKey(env="SHOP_KEY"),
        lambda: ApiKey(env="SHOP_KEY", header="X", param="y"),
        lambda: ApiKey(env="SHOP_KEY", header=""),
        lambda: ApiKeys(),
        lambda: ApiKeys(headers={"X-Key": "c4n4ry itself"}),
    ],
)
def test_a_declaration_that_cannot_mean_anything_is_refused_without_repeating_a_secret(
    make: Callable[[], Auth],
) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    told = f"{caught.value} {caught.value.hint}"
    assert [] == [text for text in ("sk_live", "p4ss", "c4n4ry") if text in told]


@pytest.mark.parametrize("header", ["X Key", "X-Key:", "X\r\nEvil", "", "Schlüssel"])
def test_a_header_that_http_does_not_know_is_an_error_and_no_request(header: str) -> None:
    error = refused(CredentialsError, auth=Bearer(env="A", header=header), environment={"A": TOKEN})
    assert "the auth style makes a header that cannot be sent" == str(error)


# --- where it comes from ---

KEYRING = '''\
"""A keyring in memory: one place, and nothing else."""

import keyring.backend
import keyring.credentials


class Memory(keyring.backend.KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        return {("shop", "ada"): "%s"}.get((service, username))

    def set_password(self, service, username, password):
        raise NotImplementedError

    def delete_password(self, service, username):
        raise NotImplementedError


class Broken(Memory):
    def get_password(self, service, username):
        raise RuntimeError("t0ken-c4n4ry and a bus that is not there")
'''


def kept(project: Project, how: str) -> dict[str, str]:
    """Put the token where `how` says; the environment that names the place."""
    here = project.path
    (here / "token").write_text(f"{TOKEN}\n")
    (here / "windows").write_bytes(f"{TOKEN}\r\n".encode())
    (here / "wrong").write_text("another")
    (here / "memory_keyring.py").write_text(KEYRING % TOKEN)
    ring = {
        "PYTHONPATH": f"{CLEAN['PYTHONPATH']}:{here}",
        "PYTHON_KEYRING_BACKEND": "memory_keyring.Memory",
        "SHOP_TOKEN_KEYRING": "shop/ada",
    }
    if how == "written":
        (here / ".env").write_text(f"SHOP_TOKEN='{TOKEN}'\n")
    if how == "file, written":
        (here / ".env").write_text("SHOP_TOKEN=\nSHOP_TOKEN_FILE=token\n")
    return {
        "variable": {"SHOP_TOKEN": TOKEN},
        "written": {},
        "file": {"SHOP_TOKEN_FILE": str(here / "token")},
        "file, written": {},
        "file at home": {"SHOP_TOKEN_FILE": "~/token"},
        "file of another system": {"SHOP_TOKEN_FILE": "windows"},
        "command": {"SHOP_TOKEN_COMMAND": "cat token"},
        "command with quotes": {"SHOP_TOKEN_COMMAND": f"printf %s '{TOKEN}'"},
        "keyring": ring,
        "variable before file": {"SHOP_TOKEN": TOKEN, "SHOP_TOKEN_FILE": "wrong"},
        "file before command": {"SHOP_TOKEN": " ", "SHOP_TOKEN_FILE": "token", "SHOP_TOKEN_COMMAND": "cat wrong"},
        "command before keyring": {**ring, "SHOP_TOKEN_COMMAND": "cat token", "SHOP_TOKEN_KEYRING": "no/body"},
    }[how]


KEPT = [
    *("variable", "written", "file", "file, written", "file at home", "file of another system"),
    *("command", "command with quotes", "keyring"),
    *("variable before file", "file before command", "command before keyring"),
]


@pytest.mark.parametrize("how", KEPT)
def test_a_token_is_found_where_it_is_kept_and_stays_out_of_what_is_said(project: Project, api: Api, how: str) -> None:
    project.write(connector(api.url, more=BEARER))
    environment = kept(project, how)
    listed = project.run("list", "shop", env=environment)
    assert (0, True) == (listed.code, "secret SHOP_TOKEN: set\n" in listed.stdout)
    assert [{"SHOP_TOKEN": True}] == [
        row["variables"] for row in project.run("list", "--json", "shop", env=environment).json()
    ]
    assert 0 == len(api.seen)
    checked = project.run("check", "shop", env=environment)
    assert (0, True) == (checked.code, "shop/items: credentials set\n" in checked.stdout)
    pulled = project.run("pull", "shop", "--log", "log", "--json", env=environment)
    assert (0, 8) == (pulled.code, pulled.json()["streams"][0]["run"]["written"])
    assert [] == traces(project, [TOKEN], listed, checked, pulled)


def test_what_is_needed_and_not_there_is_said_by_every_command(project: Project, api: Api) -> None:
    project.write(connector(api.url, more=BEARER))
    listed = project.run("list", "shop")
    assert (0, True) == (listed.code, "secret SHOP_TOKEN: not set\n" in listed.stdout)
    for command in ("check", "pull"):
        done = project.run(command, "shop")
        assert (5, True) == (done.code, "the environment variable SHOP_TOKEN is not set" in done.stderr)
        assert "SHOP_TOKEN_FILE, SHOP_TOKEN_COMMAND or SHOP_TOKEN_KEYRING" in done.stderr
    assert (0, False) == (len(api.seen), project.data.exists())


def fault(project: Project, how: str) -> tuple[dict[str, str], str]:
    """A place where no secret can be had, and what is said of it."""
    here = project.path
    (here / "folder").mkdir()
    (here / "empty").write_text("\n")
    (here / "large").write_text("x" * 70_000)
    (here / "bytes").write_bytes(b"\xff\xfe\x00")
    (here / "lines").write_text("one\ntwo\n")
    (here / "memory_keyring.py").write_text(KEYRING % TOKEN)
    os.mkfifo(here / "pipe")
    ring = {"PYTHONPATH": f"{CLEAN['PYTHONPATH']}:{here}", "SHOP_TOKEN_KEYRING": "shop/ada"}
    memory = {**ring, "PYTHON_KEYRING_BACKEND": "memory_keyring.Memory"}
    file, command, keyring = "SHOP_TOKEN_FILE", "SHOP_TOKEN_COMMAND", "SHOP_TOKEN_KEYRING"
    return {
        "no file": ({file: "nowhere"}, f"the file that {file} names cannot be read: No such file or directory"),
        "no way": ({file: "empty/token"}, f"the file that {file} names cannot be read: Not a directory"),
        "a directory": ({file: "folder"}, f"{file} names something that is not a file"),
        "a pipe": ({file: "pipe"}, f"{file} names something that is not a file"),
        "a device": ({file: "/dev/zero"}, f"{file} names something that is not a file"),
        "an empty file": ({file: "empty"}, f"the file that {file} names is empty"),
        "a large file": ({file: "large"}, f"what {file} leads to is too long for a secret"),
        "no text": ({file: "bytes"}, f"the file that {file} names cannot be read: it is not text"),
        "two lines": ({file: "lines"}, f"what {file} leads to holds a character that cannot be sent"),
        "a command that fails": ({command: "cat nowhere"}, f"the command in {command} failed with exit code 1"),
        "a command that is not there": (
            {command: "no-such-command"},
            f"the command in {command} cannot be run: No such",
        ),
        "a command without end": ({command: "yes"}, f"what {command} leads to is too long for a secret"),
        "a silent command": ({command: "true"}, f"the command in {command} printed nothing"),
        "half a quote": ({command: "echo 'a"}, f"the command in {command} cannot be run: its quotes do not match"),
        "shell": ({command: "cat empty | head"}, f"the command in {command} failed with exit code 1"),
        "half a place": ({keyring: "shop"}, f"{keyring} is not of the form service/user"),
        "an empty place": (
            {**memory, keyring: "shop/bob"},
            f"the keyring holds nothing at the place that {keyring} names",
        ),
        "no keyring": (
            {**ring, "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"},
            "this machine has no keyring that can be opened (NoKeyringError)",
        ),
        "a broken keyring": (
            {**ring, "PYTHON_KEYRING_BACKEND": "memory_keyring.Broken"},
            "this machine has no keyring that can be opened (RuntimeError)",
        ),
    }[how]


FAULTS = [
    *(
        "no file",
        "no way",
        "a directory",
        "a pipe",
        "a device",
        "an empty file",
        "a large file",
        "no text",
        "two lines",
    ),
    *("a command that fails", "a command that is not there", "a command without end", "a silent command"),
    *("half a quote", "shell", "half a place", "an empty place", "no keyring", "a broken keyring"),
]


@pytest.mark.parametrize("how", FAULTS)
def test_a_place_without_a_secret_ends_before_anything_is_asked(project: Project, api: Api, how: str) -> None:
    project.write(connector(api.url, more=BEARER))
    environment, expected = fault(project, how)
    done = project.run("pull", "shop", env=environment)
    assert (5, True) == (done.code, expected in done.stderr), done.stderr
    assert "SHOP_TOKEN" in done.stderr
    assert (0, False) == (len(api.seen), TOKEN in done.said)
    assert not (project.data / "shop" / "items.jsonl").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named_by_its_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0)
    with pytest.raises(CredentialsError, match="the file that A_FILE names cannot be read: Permission denied"):
        secret("A", {"A_FILE": str(tmp_path / "token")})


def test_a_command_that_hangs_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if what it started lives on and keeps its output open."""
    monkeypatch.setattr(secrets, "_LONGEST", 0.5)
    body = f"import subprocess; print(subprocess.Popen(['sleep', '60']).pid, file=open({str(tmp_path / 'pid')!r}, 'w'))"
    for tail in ("; import time; time.sleep(60)", ""):
        command = shlex.join([sys.executable, "-c", body + tail])
        with pytest.raises(CredentialsError, match=r"the command in A_COMMAND did not end within 0\.5 s"):
            secret("A", {"A_COMMAND": command})
        if pid := (tmp_path / "pid").read_text().strip() if (tmp_path / "pid").exists() else "":
            os.kill(int(pid), 9)


def test_a_command_that_says_nothing_more_and_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_LONGEST", 0.5)
    body = "import os, time; os.write(1, b'x'); os.close(1); time.sleep(60)"
    with pytest.raises(CredentialsError, match=r"did not end within 0\.5 s"):
        secret("A", {"A_COMMAND": shlex.join([sys.executable, "-c", body])})


def counting(path: Path) -> str:
    """A command that prints how often it was run."""
    body = f"p = {str(path)!r}; open(p, 'a').write('x'); print(f'token-{{len(open(p).read())}}')"
    return shlex.join([sys.executable, "-c", body])


def test_a_command_is_run_once_in_a_run_and_again_when_its_secret_is_refused(project: Project) -> None:
    with Api(8) as api:
        good = ["token-1"]

        def misbehave(asked: Asked) -> Reply | None:
            if asked.query.get("cursor") == "4":
                good[:] = ["token-2"]
            return None if asked.headers.get("authorization") == f"Bearer {good[0]}" else Reply(401)

        api.misbehave = misbehave
        project.write(connector(api.url, more=BEARER))
        done = project.run("pull", "shop", env={"SHOP_TOKEN_COMMAND": counting(project.path / "count")})
    assert (0, "xx") == (done.code, (project.path / "count").read_text())
    sent = [asked.headers["authorization"] for asked in api.seen]
    assert ["Bearer token-1", "Bearer token-1", "Bearer token-2"] == sent


def test_a_list_does_not_run_a_command(project: Project, api: Api) -> None:
    project.write(connector(api.url, more=BEARER))
    listed = project.run("list", env={"SHOP_TOKEN_COMMAND": counting(project.path / "count")})
    assert "secret SHOP_TOKEN: set\n" in listed.stdout
    assert not (project.path / "count").exists()


def test_what_a_command_says_on_stderr_is_not_repeated(project: Project, api: Api) -> None:
    project.write(connector(api.url, more=BEARER))
    (project.path / "say").write_text(f"#!/bin/sh\necho {TOKEN} >&2\nexit 3\n")
    (project.path / "say").chmod(0o700)
    done = project.run("pull", "shop", "-v", env={"SHOP_TOKEN_COMMAND": "./say"})
    assert (5, False) == (done.code, TOKEN in done.said)


def test_a_secret_that_was_replaced_in_its_file_is_read_again_after_a_401(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")

    def answer(talk: Talk) -> None:
        talk.hear()
        file.write_text("new\n")
        talk.say(response(b"{}", "401 Unauthorized"))

    with scripted(answer, GOOD) as server:
        asker = Asker(server.url, auth=Bearer(env="A"), environment={"A_FILE": str(file)})
        asker.fetch()
        assert ["Bearer old", "Bearer new"] == [headers_of(server, number)["authorization"] for number in (0, 1)]
        assert {"old", "new"} <= set(asker.client.secrets())


def test_a_secret_that_another_request_has_read_again_is_shown_by_this_one_too(tmp_path: Path) -> None:
    """Both showed the old one; the first to hear of it reads the file."""
    file = tmp_path / "token"
    file.write_text("old")
    signer = opened(Bearer(env="A"), Context({"A_FILE": str(file)}, Time().clock, "https://h", lambda *request: None))
    signer.sign(Bare())
    file.write_text("new")
    found: list[bool] = []
    thread = threading.Thread(target=lambda: (signer.sign(Bare()), found.append(signer.renew(401, {}))))
    thread.start()
    thread.join()
    last = Bare()
    found.append(signer.renew(401, {}))
    signer.sign(last)
    assert ([True, True, False], "Bearer new") == ([*found, signer.renew(401, {})], last.headers["Authorization"])


def test_a_refused_secret_that_stays_the_same_is_sent_once() -> None:
    error = refused(CredentialsError, response(b"{}", "401 Unauthorized"), auth=Bearer("A"), environment={"A": "one"})
    assert "the API answered 401 Unauthorized" == str(error)
    assert "check A: is it right, and does it allow this?" == error.hint


def test_a_keyring_without_the_extra_names_the_extra(project: Project, api: Api) -> None:
    project.write(connector(api.url, more=BEARER))
    code = "import sys; sys.modules['keyring'] = None; from syncer.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "pull", "shop"],
        cwd=project.path,
        env={**CLEAN, "SHOP_TOKEN_KEYRING": "shop/ada"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (2, 0) == (done.returncode, len(api.seen))
    assert "error: SHOP_TOKEN_KEYRING is set, but the keyring cannot be read here\n" in done.stderr
    assert "pip install 'syncer[keyring]'" in done.stderr


def test_accounts_whose_tokens_are_in_files_have_each_a_limit_of_its_own(tmp_path: Path) -> None:
    """What is known of a limit is kept by host and credential, wherever the credential is."""
    known = {"SYNCER_STATE": str(tmp_path), "A_FILE": "/run/one", "B_FILE": "/run/two", "C": "three"}
    pool = TokenPool(tuple(Bearer(env=name) for name in "ABC"))
    places = [place("origin", member, known) for member in pool.members]
    assert 3 == len(set(places))


@pytest.mark.parametrize("how", ["file", "command"])
def test_pages_are_asked_for_conditionally_with_a_secret_from_elsewhere_too_and_not_for_another_account(
    project: Project, how: str
) -> None:
    def misbehave(asked: Asked) -> Reply:
        same = asked.headers.get("if-none-match") == '"1"'
        return Reply(304, {"ETag": '"1"'}, b"") if same else Reply(headers={"ETag": '"1"'})

    with Api(3, style="single", misbehave=misbehave) as api:
        project.write(connector(api.url, style="single", stream="conditional=True", more=BEARER))
        environment = {"file": {"SHOP_TOKEN_FILE": "token"}, "command": {"SHOP_TOKEN_COMMAND": "cat token"}}[how]
        for token in ("one", "one", "two"):
            (project.path / "token").write_text(token)
            assert 0 == project.run("pull", "shop", env=environment).code
    assert [None, '"1"', None] == [asked.headers.get("if-none-match") for asked in api.seen]


def test_what_echo_and_editors_put_around_a_secret_is_no_part_of_it(tmp_path: Path) -> None:
    written: Mapping[str, bytes] = {"plain": b"one", "line": b"one\n", "dos": b"one\r\n", "spaces": b"  one \n\n"}
    for name, content in written.items():
        (tmp_path / name).write_bytes(content)
    assert ["one"] * 4 == [secret("A", {"A_FILE": str(tmp_path / name)}) for name in written]
    assert "one" == secret("A", {"A": " one\n"})
