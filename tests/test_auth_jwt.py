"""Signed tokens, verified by servers that know only the public key, and what they are exchanged for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from flask import Flask, jsonify, request

from syncer import GitHubApp, JWTBearer, ServiceAccount, SignedJWT
from syncer.auth import Auth
from syncer.errors import ConfigError, CredentialsError
from tests.api import connector, record
from tests.command import CLEAN, Done, Project
from tests.leaks import traces
from tests.scripted import BEGINNING
from tests.servers.flask_server import Serving, serving
from tests.test_client import Asker

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@cache
def key(kind: str) -> Any:
    """A private key of its kind; made once."""
    return {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "PS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[kind]()


def pem(kind: str, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b"") -> str:
    coded = BestAvailableEncryption(password) if password else NoEncryption()
    return str(key(kind).private_bytes(Encoding.PEM, form, coded).decode())


def public(kind: str) -> str:
    return str(key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@dataclass
class Verifier:
    """An API that takes JWTs by their public key, and a token endpoint that exchanges them; its clock can be set."""

    kind: str = "RS256"
    audience: str | None = None
    skew: float = 0.0
    """How far its clock is ahead of ours."""
    lasts: int = 3600
    now: datetime = BEGINNING
    claims: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, Any]] = field(default_factory=list)
    given: dict[str, datetime] = field(default_factory=dict)

    def verified(self, token: str) -> bool:
        """Whether a JWT is good at this moment, by PyJWT: signature, audience, and its times without any grace."""
        try:
            options = {"verify_exp": False, "verify_iat": False, "require": ["iat", "exp"]}
            found = jwt.decode(token, public(self.kind), [self.kind], options, audience=self.audience)
        except jwt.PyJWTError:
            return False
        self.claims.append(found)
        self.heads.append(jwt.get_unverified_header(token))
        moment = (self.now + timedelta(seconds=self.skew)).timestamp()
        return bool(found["iat"] <= moment < found["exp"])

    def gives(self) -> str:
        name = f"t0ken-{len(self.given) + 1}"
        self.given[name] = self.now + timedelta(seconds=self.lasts)
        return name

    def takes(self, token: str) -> bool:
        return token in self.given and self.now < self.given[token]

    @property
    def app(self) -> Flask:
        app = Flask("verifier")

        @app.get("/items")
        def items() -> Any:
            scheme, _, token = request.headers["Authorization"].partition(" ")
            if scheme != "Bearer" or not (self.takes(token) if self.given else self.verified(token)):
                return {"message": "no"}, 401
            at = int(request.args.get("cursor", 0))
            return jsonify({"items": [record(at + 1)], "next": str(at + 1) if at < 2 else None})

        @app.post("/token")
        def token() -> Any:
            if request.form.get("grant_type") != GRANT or not self.verified(request.form["assertion"]):
                return {"error": "invalid_grant"}, 400
            return {"access_token": self.gives(), "expires_in": self.lasts}

        @app.post("/app/installations/<number>/access_tokens")
        def installation(number: str) -> Any:
            if not self.verified(request.headers["Authorization"].removeprefix("Bearer ")):
                return {"message": "A JSON web token could not be decoded"}, 401
            if self.claims[-1]["exp"] - (self.now + timedelta(seconds=self.skew)).timestamp() > 600:
                return {"message": "'Expiration time' claim ('exp') is too far in the future"}, 401
            if number != "4711":
                return {"message": "Not Found"}, 404
            name = self.gives()
            return {"token": name, "expires_at": self.given[name].isoformat().replace("+00:00", "Z")}, 201

        return app


@pytest.fixture
def verifier() -> Verifier:
    return Verifier()


@pytest.fixture
def served(verifier: Verifier) -> Iterator[Serving]:
    with serving(verifier.app) as found:
        yield found


def asking(verifier: Verifier, served: Serving, auth: Auth, environment: dict[str, str]) -> Asker:
    return Asker(served.url, auth=auth, environment=environment)


def at(verifier: Verifier, asker: Asker, seconds: float) -> None:
    """Let so many seconds have passed since the beginning, here and there, and ask for a page."""
    asker.time.seconds = 1000.0 + seconds
    verifier.now = asker.time.now()
    asker.fetch()


# --- a JWT that the API itself takes ---


@pytest.mark.parametrize("kind", ["RS256", "ES256", "PS256", "ES384", "EdDSA"])
def test_a_token_signed_with_the_private_key_is_good_by_the_public_one(
    verifier: Verifier, served: Serving, kind: str
) -> None:
    verifier.kind, verifier.audience = kind, "store-v1"
    auth = SignedJWT(
        key="KEY",
        issuer="ISSUER",
        subject="USER",
        key_id="ID",
        audience="store-v1",
        algorithm=kind,
        claims={"bid": "x"},
    )
    environment = {"KEY": pem(kind), "ISSUER": "57246542", "USER": "ada", "ID": "2X9R4HXF34"}
    at(verifier, asking(verifier, served, auth, environment), 0)
    now = int(BEGINNING.timestamp())
    expected = {"iss": "57246542", "sub": "ada", "aud": "store-v1", "iat": now - 60, "exp": now + 540, "bid": "x"}
    assert [expected] == verifier.claims
    assert [{"alg": kind, "kid": "2X9R4HXF34", "typ": "JWT"}] == verifier.heads


def test_a_token_without_names_has_only_its_times(verifier: Verifier, served: Serving) -> None:
    at(verifier, asking(verifier, served, SignedJWT(key="KEY"), {"KEY": pem("RS256")}), 0)
    assert ({"iat", "exp"}, {"alg", "typ"}) == (set(verifier.claims[0]), set(verifier.heads[0]))


@pytest.mark.parametrize("lasts", [5, 60, 600, 1200])
def test_a_token_is_good_whenever_it_is_sent_to_a_server_whose_clock_is_slow(
    verifier: Verifier, served: Serving, lasts: int
) -> None:
    """By a tenth of what the token lasts, at most a minute."""
    verifier.skew = -min(60.0, lasts // 10)
    asker = asking(verifier, served, SignedJWT(key="KEY", lasts=lasts), {"KEY": pem("RS256")})
    for part in range(30):
        at(verifier, asker, part * lasts / 10)
    assert {lasts} == {one["exp"] - one["iat"] for one in verifier.claims}
    assert 30 == len(served.of("/items"))
    assert 4 == len({one["iat"] for one in verifier.claims})


def test_a_token_is_good_on_a_server_whose_clock_is_fast(verifier: Verifier, served: Serving) -> None:
    verifier.skew = 539.0
    at(verifier, asking(verifier, served, SignedJWT(key="KEY"), {"KEY": pem("RS256")}), 0)
    assert 1 == len(served.of("/items"))


def test_a_token_is_renewed_in_time_and_not_with_every_page(verifier: Verifier, served: Serving) -> None:
    asker = asking(verifier, served, SignedJWT(key="KEY"), {"KEY": pem("RS256")})
    moments = []
    for seconds in (0, 400, 480, 490, 900, 975):
        at(verifier, asker, seconds)
        moments.append(verifier.claims[-1]["iat"] - int(BEGINNING.timestamp()) + 60)
    assert [0, 0, 0, 490, 490, 490] == moments
    at(verifier, asker, 980)
    assert 980 == verifier.claims[-1]["iat"] - int(BEGINNING.timestamp()) + 60


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS8", "PKCS1"])
@pytest.mark.parametrize("kept", ["file", "one line", "lines in .env"])
def test_a_key_is_read_in_every_form_in_which_people_keep_it(
    verifier: Verifier, served: Serving, tmp_path: Path, form: PrivateFormat, kept: str
) -> None:
    project, text = Project(tmp_path), pem("RS256", form)
    verifier.now = datetime.now(UTC)
    (tmp_path / "key.pem").write_text(text)
    written = {
        "file": "KEY_FILE=key.pem\n",
        "one line": "KEY=" + text.strip().replace("\n", "\\n") + "\n",
        "lines in .env": f"KEY='{text}'\n",
    }
    (tmp_path / ".env").write_text(written[kept])
    auth = SignedJWT(key="KEY")
    project.write(connector(served.url, more=f"auth={auth!r}"))
    done = project.run("pull", "shop", "--log", "log", "-v")
    assert (0, 3) == (done.code, len(served.of("/items")))
    middle = text.splitlines()[3]
    assert [] == traces(project, [middle, *(one.headers["authorization"][7:] for one in served.of("/items"))], done)


WRONG = {
    "text": lambda: "hunter2",
    "another kind": lambda: pem("ES256"),
    "a public key": lambda: public("RS256"),
    "a key with a password": lambda: pem("RS256", password=b"pw"),
    "half a key": lambda: pem("RS256")[:400],
    "a certificate": lambda: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_sign_is_named_by_its_variable_and_not_shown(
    verifier: Verifier, served: Serving, tmp_path: Path, what: str
) -> None:
    project, text = Project(tmp_path), WRONG[what]()
    (tmp_path / "key.pem").write_text(text)
    project.write(connector(served.url, more=f"auth={SignedJWT(key='KEY')!r}"))
    done = project.run("pull", "shop", env={"KEY_FILE": "key.pem"})
    assert (5, 0) == (done.code, len(served.requests))
    assert "KEY does not hold a private key that RS256 can sign with" in done.said
    assert "set KEY_FILE to the file" in done.said
    assert [] == [line for line in text.splitlines() if not line.startswith("---") and line in done.said]


def test_a_key_of_another_curve_does_not_sign_for_this_one(verifier: Verifier, served: Serving) -> None:
    asker = asking(verifier, served, SignedJWT(key="KEY", algorithm="ES256"), {"KEY": pem("ES384")})
    with pytest.raises(CredentialsError, match="KEY does not hold a private key that ES256 can sign with"):
        asker.fetch()


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_extra_the_message_names_it(served: Serving, tmp_path: Path, missing: str) -> None:
    done = blocked(served, tmp_path, missing)
    name = {"jwt": "PyJWT"}.get(missing, missing)
    assert (2, 0) == (done.code, len(served.requests))
    assert f"tokens cannot be signed here: {name} is missing" in done.said
    assert "pip install 'syncer[jwt]'" in done.said


def blocked(served: Serving, path: Path, *missing: str, auth: str = "") -> Done:
    """A pull in a Python that does not have these modules."""
    project = Project(path)
    project.write(connector(served.url, more=f"auth={auth or repr(SignedJWT(key='KEY'))}"))
    lines = "".join(f"sys.modules[{name!r}] = None; " for name in missing)
    code = f"import sys; {lines}from syncer.__main__ import main; main()"
    environment = {**CLEAN, "SYNCER_STATE": f"{path}-state", "KEY": pem("RS256"), "SHOP_TOKEN": "x"}
    done = subprocess.run(
        [sys.executable, "-c", code, "pull", "shop"],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def test_no_style_but_these_needs_the_extras(served: Serving, tmp_path: Path) -> None:
    """A pull with a bearer token works where neither is installed, up to the API's own answer."""
    done = blocked(served, tmp_path, "jwt", "cryptography", "keyring", auth='Bearer(env="SHOP_TOKEN")')
    assert (5, 1) == (done.code, len(served.requests))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SignedJWT(key="KEY", algorithm="HS256"),
        lambda: SignedJWT(key="KEY", algorithm="none"),
        lambda: SignedJWT(key="KEY", lasts=0),
        lambda: SignedJWT(key="-----BEGIN PRIVATE KEY-----"),
        lambda: JWTBearer(key="KEY", token_url="http://login.example.com/token"),
        lambda: JWTBearer(key="KEY", token_url="https://login.example.com/token", lasts=-1),
        lambda: ServiceAccount(env="ACCOUNT", scope="x", token_url="http://login.example.com/token"),
        lambda: GitHubApp(app_id="ID", key="KEY", installation="4711 x"),
        lambda: GitHubApp(app_id="ID", key="KEY", installation="I", url="http://github.example.com"),
    ],
)
def test_a_declaration_that_would_not_be_safe_or_never_work_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


# --- a JWT for a token ---


@pytest.mark.parametrize(("audience", "expected"), [("", "{url}/token"), ("https://login.salesforce.com", None)])
def test_an_assertion_gets_a_token_and_another_before_that_expires(
    verifier: Verifier, served: Serving, audience: str, expected: str | None
) -> None:
    verifier.audience = expected.format(url=served.url) if expected else audience
    auth = JWTBearer(
        key="KEY", issuer="CLIENT", subject="USER", token_url=f"{served.url}/token", audience=audience, scope="api"
    )
    asker = asking(verifier, served, auth, {"KEY": pem("RS256"), "CLIENT": "3MVG9", "USER": "ada@example.com"})
    for seconds, count in ((0, 1), (3530, 1), (3541, 2)):
        at(verifier, asker, seconds)
        assert count == len(served.of("/token"))
    form = served.of("/token")[0].form
    assert ({"grant_type", "assertion", "scope"}, "api") == (set(form), form["scope"])
    assert ("3MVG9", "ada@example.com") == (verifier.claims[0]["iss"], verifier.claims[0]["sub"])
    assert ["Bearer t0ken-1", "Bearer t0ken-1", "Bearer t0ken-2"] == [
        one.headers["authorization"] for one in served.of("/items")
    ]


@pytest.mark.parametrize("skew", [-59.0, 0.0, 300.0])
def test_an_assertion_is_good_on_a_server_whose_clock_is_off(verifier: Verifier, served: Serving, skew: float) -> None:
    verifier.audience, verifier.skew = f"{served.url}/token", skew
    auth = JWTBearer(key="KEY", token_url="/token")
    at(verifier, asking(verifier, served, auth, {"KEY": pem("RS256")}), 0)
    assert 1 == len(served.of("/items"))


def test_an_assertion_that_is_refused_names_the_variables(verifier: Verifier, served: Serving) -> None:
    verifier.skew = 10_000.0
    auth = JWTBearer(key="KEY", issuer="CLIENT", token_url="/token")
    asker = asking(verifier, served, auth, {"KEY": pem("RS256"), "CLIENT": "me"})
    with pytest.raises(CredentialsError, match=r"/token answered 400 \(invalid_grant\)") as caught:
        asker.fetch()
    assert "check KEY, CLIENT: " in caught.value.hint
    assert 0 == len(served.of("/items"))


# --- a Google service account ---


def account(**changes: Any) -> str:
    made = {"type": "service_account", "private_key_id": "k1", "private_key": pem("RS256"), "client_email": "a@b.iam"}
    return json.dumps({**made, **changes})


@pytest.mark.parametrize("subject", ["", "USER"])
def test_a_service_account_speaks_as_itself_or_for_a_user(verifier: Verifier, served: Serving, subject: str) -> None:
    verifier.audience = f"{served.url}/token"
    auth = ServiceAccount(env="ACCOUNT", scope="drive.readonly", subject=subject, token_url="/token")
    asker = asking(verifier, served, auth, {"ACCOUNT": account(), "USER": "ada@example.com"})
    for seconds, count in ((0, 1), (3530, 1), (3541, 2)):
        at(verifier, asker, seconds)
        assert count == len(served.of("/token"))
    now = int(BEGINNING.timestamp())
    expected = {"iss": "a@b.iam", "scope": "drive.readonly", "aud": verifier.audience, "iat": now, "exp": now + 3600}
    assert expected | ({"sub": "ada@example.com"} if subject else {}) == verifier.claims[0]
    assert "k1" == verifier.heads[0]["kid"]
    assert pem("RS256") in asker.client.secrets()


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "null", "7", "hunter2", '{"private_key": "x"}', '{"client_email": "x"}', "[" * 50_000],
    ids=range(8),
)
def test_what_is_no_service_account_is_named_by_its_variable(verifier: Verifier, served: Serving, content: str) -> None:
    asker = asking(verifier, served, ServiceAccount(env="ACCOUNT", scope="x", token_url="/token"), {"ACCOUNT": content})
    with pytest.raises(CredentialsError, match="ACCOUNT is not the JSON of a service account") as caught:
        asker.fetch()
    assert "ACCOUNT_FILE" in caught.value.hint


def test_a_service_account_with_a_broken_key_names_its_variable(verifier: Verifier, served: Serving) -> None:
    environment = {"ACCOUNT": account(private_key="-----BEGIN PRIVATE KEY-----\nc4n4ry\n-----END PRIVATE KEY-----\n")}
    asker = asking(verifier, served, ServiceAccount(env="ACCOUNT", scope="x", token_url="/token"), environment)
    with pytest.raises(CredentialsError, match="ACCOUNT does not hold a private key") as caught:
        asker.fetch()
    assert "c4n4ry" not in f"{caught.value} {caught.value.hint}"


# --- a GitHub App ---

APP = {"APP_ID": "12345", "APP_KEY": "", "APP_INSTALLATION": "4711"}


def app(served: Serving) -> GitHubApp:
    return GitHubApp(app_id="APP_ID", key="APP_KEY", installation="APP_INSTALLATION", url=served.url)


@pytest.mark.parametrize("skew", [-59.0, 0.0, 500.0])
def test_an_app_gets_a_token_of_its_installation_and_the_next_before_the_hour_is_over(
    verifier: Verifier, served: Serving, skew: float
) -> None:
    verifier.skew = skew
    asker = asking(verifier, served, app(served), {**APP, "APP_KEY": pem("RS256")})
    place = "/app/installations/4711/access_tokens"
    for seconds, count in ((0, 1), (3530, 1), (3541, 2), (7080, 2), (7090, 3)):
        at(verifier, asker, seconds)
        assert count == len(served.of(place))
    asked = served.of(place)[0]
    assert ("application/vnd.github+json", b"") == (asked.headers["accept"], asked.body)
    assert {"iss", "iat", "exp"} == set(verifier.claims[0])
    assert "12345" == verifier.claims[0]["iss"]
    assert 3 == len({one.headers["authorization"] for one in served.of("/items")})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("APP_INSTALLATION", "1", "answered 404"),
        ("APP_INSTALLATION", "../../4711", "answered 404"),
        ("APP_KEY", "another", "answered 401"),
    ],
)
def test_an_app_that_is_refused_names_its_three_variables(
    verifier: Verifier, served: Serving, name: str, value: str, words: str
) -> None:
    value = pem("PS256") if value == "another" else value
    asker = asking(verifier, served, app(served), {**APP, "APP_KEY": pem("RS256"), name: value})
    with pytest.raises(CredentialsError) as caught:
        asker.fetch()
    assert words in str(caught.value)
    assert "check APP_ID, APP_KEY, APP_INSTALLATION: " in caught.value.hint
    assert 0 == len(served.of("/items"))


@pytest.mark.parametrize(
    "expires", [None, "soon", 7, "2026-01-31T13:00:00", "1999-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
)
def test_an_end_that_makes_no_sense_leaves_the_token_in_use_until_it_is_refused_or_an_hour_old(expires: Any) -> None:
    made = Flask("github")
    good = ["one"]

    @made.post("/app/installations/4711/access_tokens")
    def installation() -> Any:
        return {"token": good[0], "expires_at": expires}, 201

    @made.get("/items")
    def items() -> Any:
        return ({"items": []}, 200) if request.headers["Authorization"] == f"Bearer {good[0]}" else ({}, 401)

    with serving(made) as served:
        asker = Asker(served.url, auth=app(served), environment={**APP, "APP_KEY": pem("RS256")})
        asker.fetch()
        asker.time.seconds += 3000
        asker.fetch()
        assert 1 == len(served.of("/app/installations/4711/access_tokens"))
        good[0] = "two"
        asker.fetch()
        assert 2 == len(served.of("/app/installations/4711/access_tokens"))


def test_an_app_pulls_through_the_whole_command(verifier: Verifier, served: Serving, tmp_path: Path) -> None:
    project = Project(tmp_path)
    verifier.now = datetime.now(UTC)
    (tmp_path / "key.pem").write_text(pem("RS256"))
    project.write(connector(served.url, more=f"auth={app(served)!r}"))
    environment = {"APP_ID": "12345", "APP_KEY_FILE": "key.pem", "APP_INSTALLATION": "4711"}
    listed = project.run("list", "shop", env=environment)
    assert [f"  secret {name}: set" for name in APP] == [
        line for line in listed.stdout.splitlines() if "secret" in line
    ]
    done = project.run("pull", "shop", "--json", env=environment)
    assert (0, 3) == (done.code, done.json()["streams"][0]["run"]["written"])
    missing = project.run("pull", "shop", env={**environment, "APP_INSTALLATION": ""})
    assert (5, True) == (missing.code, "the environment variable APP_INSTALLATION is not set" in missing.stderr)
