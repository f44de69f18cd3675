"""Every style against a server that repeats what it is shown wherever it can: nothing of it is written down or said.

What is looked for are the secrets themselves, all tokens that were given, and whatever was sent to prove something:
assertions, signatures, proofs, sessions. Only its records are free of them: they are what the user asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import pytest
from flask import Flask, Response, redirect, request

from tests.api import connector, record
from tests.command import Project
from tests.leaks import traces
from tests.servers.flask_server import Serving, serving
from tests.test_auth_jwt import pem

A, B, C = "One/c4n4ry+%2e&z=", "twO c4n4ry:\\7", "thr33-c4n4ry"
TWO = {"SHOP_ONE": A, "SHOP_TWO": B}
USER = {"SHOP_USER": "octocat", "SHOP_TWO": B}
LOGIN = 'fields={"user": "SHOP_USER", "password": "SHOP_TWO"}, public=("SHOP_USER",)'
HERE = 'token_url="/token"'

STYLES: dict[str, tuple[str, dict[str, str]]] = {
    "bearer": ('Bearer(env="SHOP_ONE", header="X-Auth", scheme="Token")', TWO),
    "basic": ('Basic(username="SHOP_USER", password="SHOP_TWO")', USER),
    "header": ('ApiKey(env="SHOP_ONE", header="X-Api-Key")', TWO),
    "query": ('ApiKey(env="SHOP_ONE", param="api_key")', TWO),
    "keys": ('ApiKeys(headers={"X-One": "SHOP_ONE"}, params={"two": "SHOP_TWO"})', TWO),
    "digest": ('Digest(username="SHOP_USER", password="SHOP_TWO")', USER),
    "client credentials": (f'ClientCredentials({HERE}, client_id="SHOP_USER", client_secret="SHOP_TWO")', USER),
    "in the form": (f'ClientCredentials({HERE}, client_id="SHOP_USER", client_secret="SHOP_TWO", send="form")', USER),
    "refresh token": (
        f'RefreshToken({HERE}, client_id="SHOP_USER", client_secret="SHOP_TWO", refresh_token="SHOP_ONE")',
        {**USER, "SHOP_ONE": C},
    ),
    "signed": ('SignedJWT(key="SHOP_KEY", issuer="SHOP_USER")', {**USER, "SHOP_KEY": "RS256"}),
    "assertion": (f'JWTBearer(key="SHOP_KEY", {HERE})', {"SHOP_KEY": "RS256"}),
    "service account": (f'ServiceAccount(env="SHOP_ONE", scope="x", {HERE})', {"SHOP_ONE": "account"}),
    "app": (
        'GitHubApp(app_id="SHOP_USER", key="SHOP_KEY", installation="SHOP_NUMBER", url="URL")',
        {**USER, "SHOP_KEY": "RS256", "SHOP_NUMBER": "1"},
    ),
    "session": (f'Login(url="/login", {LOGIN}, token="session")', USER),
    "session header": (f'Login(url="/login", {LOGIN}, token=Header("X-Session"))', USER),
    "session cookie": (f'Login(url="/login", {LOGIN}, token=Cookie("sid"))', USER),
    "hmac": (
        'Hmac(secret="SHOP_ONE", key="SHOP_USER", signs="{url}{nonce}", param="signature",'
        ' headers={"X-Nonce": "{nonce}", "X-Key": "{key}"})',
        {**USER, "SHOP_ONE": A},
    ),
    "aws": (
        'SigV4(service="es", region="r", access_key="SHOP_USER", secret_key="SHOP_ONE", session_token="SHOP_TWO")',
        {**USER, "SHOP_ONE": A, "SHOP_TWO": C},
    ),
    "pool": ('TokenPool((Bearer(env="SHOP_ONE"), ApiKey(env="SHOP_TWO", header="X-Two")))', TWO),
    "custom": (
        'Custom(lambda own: lambda request: request.headers.update({"X-Own": own["SHOP_ONE"][::-1]}),'
        ' env=("SHOP_ONE",))',
        TWO,
    ),
}
NAMES = ("authorization", "x-auth", "x-api-key", "x-one", "x-two", "x-own", "cookie", "x-amz-security-token")
STREAMS = ("good", "moved", "page", "listless", "gone", "within", "limited", "storm")


class Parrot:
    """Gives tokens of every kind, and repeats what it is shown."""

    def __init__(self, digest: bool) -> None:
        self.digest, self.given = digest, list[str]()

    def give(self, kind: str) -> str:
        self.given.append(f"{kind}-t0ken-c4n4ry/{len(self.given)}")
        return self.given[-1]

    @property
    def app(self) -> Flask:
        app = Flask("parrot")

        @app.post("/token")
        def token() -> Any:
            return {"access_token": self.give("access"), "refresh_token": self.give("refresh"), "expires_in": 3600}

        @app.post("/app/installations/1/access_tokens")
        def installation() -> Any:
            return {"token": self.give("app"), "expires_at": "2099-01-01T00:00:00Z"}, 201

        @app.post("/login")
        def login() -> Any:
            name = self.give("session")
            return Response(json.dumps({"session": name}), headers={"X-Session": name, "Set-Cookie": f"sid={name}"})

        @app.get("/<stream>")
        def answer(stream: str) -> Any:
            if self.digest and "Authorization" not in request.headers:
                return {}, 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
            return self.answer(stream)

        return app

    def answer(self, stream: str) -> Any:
        shown = [*proofs(dict(request.headers), request.environ["RAW_URI"], ""), request.environ["RAW_URI"]]
        shown += [value for name, value in request.headers.items() if name.lower() in NAMES]
        ways = [way for one in shown for way in (one, quote(one, safe=""), quote_plus(one), json.dumps(one))]
        codes = [quote(one, safe="") for one in shown if not one.startswith("/")]
        items = [record(1, name=None), record(2)]
        if stream in ("good", "within") and "at" not in request.args:
            whole = "&".join(f"t={code}&api_key={code}&signature={code}" for code in codes)
            within = "&".join(f"auth=Bearer%20{code}&back=http%3A%2F%2Fh%2F%3Fa%3D{code}" for code in codes)
            return {"items": items, "next": f"/{stream}?at=1&{whole if stream == 'good' else within}"}
        if stream == "moved" and "at" not in request.args:
            return redirect(f"/{stream}?at=1&" + "&".join(f"t={code}" for code in codes))
        if stream == "page":
            return Response(f"<html>{' '.join(ways)}</html>", mimetype="text/html")
        if stream == "listless":
            return {"items": {"you said": ways}}
        if stream == "limited":
            told = {"RateLimit": ", ".join(f'"{code}";r=50;t=30' for code in codes[:3])}
            return {"items": items, "next": None}, 200, told
        if stream in ("gone", "storm"):
            return Response(" ".join(ways), 404 if stream == "gone" else 500)
        return {"items": items, "next": None}


def proofs(headers: dict[str, str], target: str, body: str) -> list[str]:
    """What of a request proves who asks, as it was sent and as it is meant."""
    named = {name.lower(): value for name, value in headers.items()}
    found = [named[name] for name in NAMES if name in named]
    found += [value.rpartition(" ")[2] for value in found if not value.startswith("Digest ")]
    found += [value.partition("=")[2] for value in (named.get("cookie", ""),)]
    found += re.findall(r'(?:Signature=|response=")([0-9a-f]{32,})', named.get("authorization", ""))
    query = dict(parse_qsl(urlsplit(target).query)) | dict(parse_qsl(body))
    secret = ("api_key", "two", "signature", "assertion", "client_secret", "refresh_token")
    found += [query[name] for name in secret if name in query]
    return [value for value in dict.fromkeys(found) if len(value) >= 8]


@pytest.fixture
def parrot(request: pytest.FixtureRequest) -> Iterator[tuple[Parrot, Serving]]:
    made = Parrot("digest" in request.node.name)
    with serving(made.app) as found:
        yield made, found


@pytest.mark.parametrize("style", STYLES)
def test_nothing_that_proves_who_asks_is_written_down_or_said(
    parrot: tuple[Parrot, Serving], tmp_path: Path, style: str
) -> None:
    """Into one sink or the other, in turn."""
    repeating, served = parrot
    sink = ("jsonl", "sqlite")[list(STYLES).index(style) % 2]
    declared, values = STYLES[style]
    account = json.dumps({"private_key": pem("RS256"), "client_email": "a@b"})
    environment = {
        name: {"RS256": pem("RS256"), "account": account}.get(value, value) for name, value in values.items()
    }
    project = Project(tmp_path / "project")
    project.path.mkdir()
    more = f"auth={declared.replace('URL', served.url)}"
    project.write(connector(served.url, style="next", streams=STREAMS, more=more))
    options = ("--sink", sink, "--patience", "0.01s", "--max-rejects", "100%")
    half = project.run("pull", "shop", "-v", "--log", "log", "--max-pages", "1", *options, env=environment)
    rest = project.run("pull", "shop", "--json", "--log", "log", "--metrics", "log.prom", *options, env=environment)
    check = project.run("check", "shop", *STREAMS[:5], env=environment)
    runs = project.run("runs", "--json", env=environment)

    states = {one["stream"]: one["status"] for one in rest.json()["streams"]}
    assert ("complete", "complete") == (states["moved"], states["limited"]), rest.said
    assert "failed" == states["page"] == states["gone"]
    assert states["good"] in ("complete", "failed")
    assert "c4n4ry" not in " ".join(path.name for path in project.data.rglob("*"))
    evidence = [path for path in project.data.rglob("*") if path.is_file() and b"***" in path.read_bytes()]
    assert evidence

    sent = [value for one in served.requests for value in proofs(one.headers, one.target, one.body.decode())]
    assert sent
    lines = [
        line for value in environment.values() for line in value.splitlines() if "c4n4ry" in line or len(line) == 64
    ]
    needles = {unquote(value) for value in sent} | {*sent, *lines, *repeating.given}
    assert [] == traces(project, needles, half, rest, check, runs)


def test_a_style_for_every_kind_is_looked_at() -> None:
    import syncer

    text = " ".join(declared for declared, _ in STYLES.values())
    kinds = [name for name in syncer.__all__ if isinstance(getattr(syncer, name), type)]
    styles = [name for name in kinds if hasattr(getattr(syncer, name), "secrets")]
    assert 15 <= len(styles)
    assert ["ClientCertificate"] == [name for name in styles if f"{name}(" not in text]  # test_auth_tls.py
