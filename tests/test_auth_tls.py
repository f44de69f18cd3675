"""A client's own certificate, shown to a real TLS server that lets nobody in without one."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from flask import Flask, request

from syncer import ApiKey, Bearer, ClientCertificate, ClientCredentials, TokenPool
from syncer.auth import Auth
from syncer.errors import CredentialsError, FetchError, SyncerError
from tests.api import connector, record
from tests.command import Done, Project
from tests.leaks import traces
from tests.servers.flask_server import Serving, serving
from tests.test_client import Asker

PASSWORD = "pAss wörd c4n4ry"
NAMES = {"SHOP_CERTIFICATE": "client.pem", "SHOP_KEY": "client.key", "SHOP_CA": "ca.pem"}
STYLE = 'auth=ClientCertificate(certificate="SHOP_CERTIFICATE", key="SHOP_KEY", authority="SHOP_CA"{})'


@cache
def authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name)


@cache
def issued(name: str, ca: str = "ours", days: int = 1) -> trustme.LeafCert:
    """A certificate that is good for so many days from yesterday on; none if that is not positive."""
    return authority(ca).issue_cert(name, not_after=datetime.now(UTC) + timedelta(days=days))


def written(folder: Path, cert: trustme.LeafCert, password: str = "") -> None:
    """The three files of a client, and one with certificate and key together."""
    folder.mkdir(exist_ok=True)
    own = cert.cert_chain_pems[0].bytes()
    key = cert.private_key_pem.bytes()
    if password:
        form = PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
        key = load_pem_private_key(key, None).private_bytes(Encoding.PEM, *form)
    (folder / "client.pem").write_bytes(own)
    (folder / "client.key").write_bytes(key)
    (folder / "both.pem").write_bytes(key + own)
    (folder / "ca.pem").write_bytes(authority("ours").cert_pem.bytes())


@contextmanager
def shop(
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, host: str = "127.0.0.1", ca: str = "ours"
) -> Iterator[Serving]:
    """An API behind TLS of this version whose server asks for a certificate of our authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued(host, ca).configure_cert(context)
    authority("ours").configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    app = Flask("shop")

    @app.get("/items")
    def items() -> Any:
        at = int(request.args.get("cursor", 0))
        return {"items": [record(at + 1)], "next": str(at + 1) if at < 2 else None}

    @app.post("/token")
    def token() -> Any:
        return {"access_token": "t0ken-c4n4ry"}

    with serving(app, context) as found:
        yield found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    written(tmp_path, issued("client@example.com"))
    return Project(tmp_path)


def pulled(project: Project, url: str, environment: dict[str, str], style: str = STYLE.format("")) -> Done:
    project.write(connector(url, more=style))
    return project.run("pull", "shop", "--patience", "0.01s", env=environment)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_opens_the_door_for_the_whole_pull(project: Project, version: ssl.TLSVersion) -> None:
    with shop(version) as served:
        done = pulled(project, served.url, NAMES)
        listed = project.run("list", "shop", env=NAMES)
        checked = project.run("check", "shop", env=NAMES)
    assert (0, 3) == (done.code, len(project.output().splitlines())), done.said
    assert [f"  secret {name}: set" for name in NAMES] == [
        line for line in listed.stdout.splitlines() if "secret" in line
    ]
    assert (0, True) == (checked.code, "credentials set" in checked.stdout)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("bundled", [False, True], ids=["authority", "SYNCER_CA_BUNDLE"])
def test_key_and_certificate_may_share_a_file_and_the_authority_may_be_the_users(
    project: Project, version: ssl.TLSVersion, bundled: bool
) -> None:
    style = 'auth=ClientCertificate(certificate="SHOP_CERTIFICATE"{})'.format(
        "" if bundled else ', authority="SHOP_CA"'
    )
    place = {"SYNCER_CA_BUNDLE" if bundled else "SHOP_CA": "ca.pem"}
    with shop(version) as served:
        done = pulled(project, served.url, {"SHOP_CERTIFICATE": "both.pem", **place}, style)
    assert (0, 3) == (done.code, len(project.output().splitlines())), done.said


def test_an_encrypted_key_is_opened_by_its_password_which_is_written_nowhere(tmp_path: Path) -> None:
    project = Project(tmp_path)
    written(tmp_path, issued("client@example.com"), PASSWORD)
    environment = {**NAMES, "SHOP_KEY_PASSWORD": PASSWORD}
    with shop() as served:
        project.write(connector(served.url, more=STYLE.format(', password="SHOP_KEY_PASSWORD"')))
        done = project.run("pull", "shop", "--log", "log", "-v", env=environment)
    assert (0, 3) == (done.code, len(project.output().splitlines())), done.said
    assert [] == traces(project, [PASSWORD], done)


def test_a_path_may_have_any_letters_and_begin_at_home(tmp_path: Path) -> None:
    project = Project(tmp_path)
    written(tmp_path / "schlüssel von ada", issued("client@example.com"))
    places = {name: f"~/schlüssel von ada/{file}" for name, file in NAMES.items()}
    with shop() as served:
        done = pulled(project, served.url, places)
    assert (0, 3) == (done.code, len(project.output().splitlines())), done.said


# --- what the server does not take ---


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["of another authority", "expired", "none"])
def test_a_certificate_that_the_server_refuses_is_about_the_credentials(
    tmp_path: Path, version: ssl.TLSVersion, what: str
) -> None:
    certificate = {
        "of another authority": lambda: issued("client@example.com", "theirs"),
        "expired": lambda: issued("client@example.com", days=0),
        "none": lambda: issued("client@example.com"),
    }[what]()
    project = Project(tmp_path)
    written(tmp_path, certificate)
    with shop(version) as served:
        if what == "none":
            done = pulled(project, served.url, {"SYNCER_CA_BUNDLE": "ca.pem"}, "")
        else:
            done = pulled(project, served.url, NAMES)
    vague = what == "none" and version == ssl.TLSVersion.TLSv1_2  # whose server does not say what it misses
    assert (4 if vague else 5, 0) == (done.code, len(served.requests)), done.said
    words = "ends the TLS handshake" if vague else "refuses the client's certificate, or the lack of one"
    assert f"items: {served.url.removeprefix('https://')} {words}" in done.said
    hint = "auth=ClientCertificate(…)" if what == "none" else "check SHOP_CERTIFICATE, SHOP_KEY, SHOP_CA: "
    assert hint in done.said


@pytest.mark.parametrize("wrong", ["host", "authority"])
def test_a_server_that_is_not_the_apis_gets_neither_certificate_nor_request(project: Project, wrong: str) -> None:
    options = {"host": {"host": "elsewhere.example"}, "authority": {"ca": "theirs"}}[wrong]
    words = {"host": "is for another host", "authority": "is signed by nobody that is trusted here"}[wrong]
    with shop(**options) as served:
        done = pulled(project, served.url, NAMES)
    assert (4, 0) == (done.code, len(served.requests)), done.said
    assert f"the certificate of {served.url.removeprefix('https://')} {words}" in done.said


# --- files that are no certificate ---


def change(name: str, work: Callable[[Path], Any]) -> Callable[[Path], dict[str, str]]:
    def changed(folder: Path) -> dict[str, str]:
        work(folder / name)
        return NAMES

    return changed


FAULTS: dict[str, tuple[Callable[[Path], dict[str, str]], str, str]] = {
    "no file": (change("client.pem", Path.unlink), "No such file or directory", "SHOP_CERTIFICATE and SHOP_KEY"),
    "no key": (change("client.key", Path.unlink), "No such file or directory", "SHOP_CERTIFICATE and SHOP_KEY"),
    "no authority": (change("ca.pem", Path.unlink), "No such file or directory", "SHOP_CA"),
    "empty": (change("client.pem", lambda path: path.write_bytes(b"")), "do not hold PEM", "SHOP_CERTIFICATE"),
    "DER": (change("client.pem", lambda path: path.write_bytes(b"\x30\x82")), "do not hold PEM", "SHOP_CERTIFICATE"),
    "no CA": (change("ca.pem", lambda path: path.write_text("hello")), "do not hold PEM", "SHOP_CA"),
    "another key": (
        change("client.key", lambda path: path.write_bytes(issued("x@example.com").private_key_pem.bytes())),
        "the files do not hold PEM that fits together",
        "check SHOP_CERTIFICATE and SHOP_KEY",
    ),
    "a directory": (lambda folder: {**NAMES, "SHOP_KEY": "."}, "the certificate cannot be used: ", "SHOP_KEY"),
    "what is in it": (
        lambda folder: {**NAMES, "SHOP_CERTIFICATE": (folder / "client.pem").read_text()},
        "SHOP_CERTIFICATE leads to what is in a certificate's file, and should be its path",
        "set SHOP_CERTIFICATE=/path/to/file.pem",
    ),
    "its file named as a secret's": (
        lambda folder: {**NAMES, "SHOP_KEY": "", "SHOP_KEY_FILE": "client.key"},
        "SHOP_KEY leads to what is in a certificate's file, and should be its path",
        "set SHOP_KEY=/path/to/file.pem",
    ),
    "not set": (lambda folder: {**NAMES, "SHOP_KEY": ""}, "the environment variable SHOP_KEY is not set", ""),
}


@pytest.mark.parametrize("how", FAULTS)
def test_files_that_cannot_be_used_are_named_by_their_variables_before_anybody_is_asked(
    project: Project, how: str
) -> None:
    work, words, hint = FAULTS[how]
    environment = work(project.path)
    with shop() as served:
        done = pulled(project, served.url, environment)
        checked = project.run("check", "shop", env=environment)
    assert (5, 5, 0) == (done.code, checked.code, len(served.requests)), done.said
    assert (True, True) == (words in done.said, hint in done.said), done.said
    assert "PRIVATE KEY" not in done.said + checked.said


@pytest.mark.parametrize("given", ["", "wr0ng-c4n4ry"])
def test_an_encrypted_key_without_its_password_is_an_error_and_no_question_at_the_terminal(
    tmp_path: Path, given: str
) -> None:
    project = Project(tmp_path)
    written(tmp_path, issued("client@example.com"), PASSWORD)
    style = STYLE.format(', password="SHOP_KEY_PASSWORD"' if given else "")
    with shop() as served:
        done = pulled(project, served.url, {**NAMES, "SHOP_KEY_PASSWORD": given}, style)
    assert (5, 0) == (done.code, len(served.requests)), done.said
    assert "the files do not hold PEM that fits together" in done.said
    assert ("SHOP_KEY_PASSWORD" in done.said, "wr0ng" in done.said) == (bool(given), False)


# --- beside another style ---


def paths(folder: Path) -> dict[str, str]:
    return {name: str(folder / file) for name, file in NAMES.items()}


def certified(auth: Auth | None = None) -> ClientCertificate:
    return ClientCertificate(certificate="SHOP_CERTIFICATE", key="SHOP_KEY", authority="SHOP_CA", auth=auth)


def test_a_certificate_and_a_token_go_together(project: Project) -> None:
    with shop() as served:
        auth = certified(Bearer(env="SHOP_TOKEN"))
        Asker(served.url, auth=auth, environment={**paths(project.path), "SHOP_TOKEN": "one"}).fetch()
        keyed = certified(ApiKey(env="SHOP_TOKEN", param="key"))
        Asker(served.url, auth=keyed, environment={**paths(project.path), "SHOP_TOKEN": "one"}).fetch()
    assert ["Bearer one", None] == [one.headers.get("authorization") for one in served.requests]
    assert ["/items", "/items?key=one"] == [one.target for one in served.requests]
    assert ((*NAMES, "SHOP_TOKEN"), ("SHOP_TOKEN",), ("key",)) == (auth.variables(), auth.secrets(), keyed.query())


def test_the_server_of_tokens_sees_the_certificate_too(project: Project) -> None:
    """It may know its clients by it (RFC 8705)."""
    with shop() as served:
        auth = certified(ClientCredentials(token_url="/token", client_id="SHOP_ID", client_secret="SHOP_SECRET"))
        environment = {**paths(project.path), "SHOP_ID": "a", "SHOP_SECRET": "b"}
        Asker(served.url, auth=auth, environment=environment).fetch()
    assert ["/token", "/items"] == [one.path for one in served.requests]
    assert "Bearer t0ken-c4n4ry" == served.requests[1].headers["authorization"]


def test_a_server_of_tokens_that_refuses_the_certificate_is_about_the_credentials(tmp_path: Path) -> None:
    written(tmp_path, issued("client@example.com", "theirs"))
    auth = certified(ClientCredentials(token_url="/token", client_id="SHOP_ID", client_secret="SHOP_SECRET"))
    environment = {**paths(tmp_path), "SHOP_ID": "a", "SHOP_SECRET": "b"}
    with shop() as served, pytest.raises(SyncerError) as caught:
        Asker(served.url, auth=auth, environment=environment).fetch()
    assert (CredentialsError, []) == (type(caught.value), served.requests)


def test_an_optional_certificate_that_is_not_there_is_not_shown(project: Project) -> None:
    auth = ClientCertificate(certificate="SHOP_CERTIFICATE", key="SHOP_KEY", optional=True)
    with shop() as served, pytest.raises(FetchError):
        Asker(served.url, auth=auth, environment={"OTHER": "1"}).fetch()
    assert [] == served.requests


def test_behind_a_certificate_a_pool_still_goes_in_turn(project: Project) -> None:
    pool = TokenPool((Bearer(env="A"), Bearer(env="B")))
    with shop() as served:
        project.write(connector(served.url, more=f"auth={certified(pool)!r}"))
        done = project.run("pull", "shop", env={**NAMES, "A": "one", "B": "two"})
    assert 0 == done.code, done.said
    assert ["Bearer one", "Bearer two", "Bearer one"] == [one.headers["authorization"] for one in served.requests]
    assert (certified(),) == certified().members
