"""Logging in with a user and a password: the session is used, renewed when it ends, and never asked for in a loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, jsonify, redirect, request, session

from syncer import Cookie, Header, Login, When
from syncer.auth import Auth
from syncer.errors import ConfigError, CredentialsError, FetchError, ProtocolError, SyncerError, UnavailableError
from tests.api import connector, record
from tests.command import Done, Project
from tests.scripted import response, scripted
from tests.servers.flask_server import Serving, serving
from tests.test_client import GOOD, Asker, headers_of, status

PASSWORD = "pAss wOrd/c4n4ry+%"
SECRETS = {"SHOP_USER": "ada", "SHOP_PASSWORD": PASSWORD}
FIELDS = {"user": "SHOP_USER", "password": "SHOP_PASSWORD"}


@dataclass
class Shop:
    """An API with a login of one kind: a token in the answer's body or header, or the signed cookie of Flask."""

    kind: str = "token"
    ended: int = 401
    """What it says to a session that has ended."""
    sessions: list[str] = field(default_factory=list)
    over: set[str] = field(default_factory=set)
    pages: int = 0
    short: int = 10**6
    """How many pages a session is good for."""

    @property
    def app(self) -> Flask:
        app = Flask("shop")
        app.secret_key = "only for the test"
        left: dict[str, int] = {}

        @app.post("/login")
        def login() -> Any:
            sent = request.get_json() if request.is_json else request.form.to_dict()
            asked = sent.get("auth", sent)
            if (asked.get("user"), asked.get("password")) != ("ada", PASSWORD):
                return {"message": "no"}, 401
            name = f"session-c4n4ry-{len(self.sessions) + 1}"
            self.sessions.append(name)
            left[name] = self.short
            if self.kind == "cookie":
                session["name"] = name
                return redirect("/welcome")
            if self.kind == "header":
                return Response("<html>welcome</html>", headers={"X-Session": name})
            if self.kind == "number":
                self.sessions[-1] = "12345678"
                left["12345678"] = self.short
                return jsonify({"session": {"token": 12345678}})
            return jsonify({"session": {"token": name}})

        @app.get("/welcome")
        def welcome() -> Any:
            return {"never": "asked for"}

        @app.get("/items")
        def items() -> Any:
            shown = request.headers.get("Authorization", "").removeprefix("Session ")
            name = session.get("name", "") if self.kind == "cookie" else shown
            if name not in self.sessions or name in self.over or left[name] < 1:
                return {"message": "log in"}, self.ended
            left[name] -= 1
            self.pages += 1
            at = int(request.args.get("cursor", 0))
            return jsonify({"items": [record(at + 1)], "next": str(at + 1) if at < 3 else None})

        return app


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def served(shop: Shop) -> Iterator[Serving]:
    with serving(shop.app) as found:
        yield found


def style(kind: str, **options: Any) -> Login:
    place = {"cookie": Cookie("session"), "header": Header("X-Session")}.get(kind, "session.token")
    scheme = {} if kind == "cookie" else {"scheme": "Session"}
    return Login(**{"url": "/login", "fields": FIELDS, "token": place, **scheme, **options})  # type: ignore[arg-type]


def pulled(served: Serving, path: Path, auth: Auth, *options: str, more: str = "") -> tuple[Project, Done]:
    project = Project(path)
    project.write(connector(served.url, more=f"auth={auth!r}, {more}"))
    return project, project.run("pull", "shop", "--json", *options, env=SECRETS)


# --- the session and its ways ---


@pytest.mark.parametrize("kind", ["token", "number", "header", "cookie"])
@pytest.mark.parametrize("send", ["json", "form"])
def test_one_login_gives_the_session_for_all_pages(
    shop: Shop, served: Serving, tmp_path: Path, kind: str, send: str
) -> None:
    shop.kind = kind
    _, done = pulled(served, tmp_path, style(kind, send=send))
    assert (0, 4) == (done.code, done.json()["streams"][0]["run"]["written"])
    assert ["/login", "/items", "/items", "/items", "/items"] == [one.path for one in served.requests]


def test_fields_may_lie_deep_and_have_fixed_values_beside_them(shop: Shop, served: Serving) -> None:
    fields = {"auth.user": "SHOP_USER", "auth.password": "SHOP_PASSWORD"}
    more = {"auth": {"domain": "shop"}, "version": 2}
    Asker(served.url, auth=style("token", fields=fields, more=more), environment=SECRETS).fetch()
    expected = {"auth": {"domain": "shop", "user": "ada", "password": PASSWORD}, "version": 2}
    assert expected == json.loads(served.of("/login")[0].body)
    assert "application/json" == served.of("/login")[0].headers["content-type"]


def test_a_cookie_goes_back_as_it_came_and_no_other_goes_with_it() -> None:
    given = response(b"", "204 No Content", "Set-Cookie: tracking=1; Path=/", 'Set-Cookie: sid="a=b"; HttpOnly; Path=/')
    with scripted(given, response(b'{"items": []}', "200 OK", "Set-Cookie: sid=other"), GOOD) as server:
        auth = Login(url="/login", fields=FIELDS, token=Cookie("sid"))
        asker = Asker(server.url, auth=auth, environment=SECRETS)
        asker.fetch()
        asker.fetch()
        sent = [headers_of(server, number).get("cookie") for number in range(3)]
    assert [None, 'sid="a=b"', 'sid="a=b"'] == sent


def test_a_session_travels_in_the_header_that_the_api_wants() -> None:
    with scripted(response(b'{"token": "t1"}'), GOOD) as server:
        auth = Login(url="/login", fields=FIELDS, header="X-Metabase-Session", scheme="")
        Asker(server.url, auth=auth, environment=SECRETS).fetch()
        sent = headers_of(server, 1)
    assert ("t1", False) == (sent["x-metabase-session"], "authorization" in sent)


# --- a session that ends ---


@pytest.mark.parametrize("kind", ["token", "header", "cookie"])
@pytest.mark.parametrize("ended", [401, 403, 419])
def test_a_session_that_ends_in_the_middle_is_followed_by_another(
    shop: Shop, served: Serving, tmp_path: Path, kind: str, ended: int
) -> None:
    shop.kind, shop.ended, shop.short = kind, ended, 2
    project, done = pulled(served, tmp_path, style(kind, stale=(401, ended)))
    assert (0, 4, 2) == (done.code, shop.pages, len(shop.sessions))
    assert [1, 2, 3, 4] == [json.loads(line)["id"] for line in project.output().splitlines()]
    targets = ["/items", "/items?cursor=1", "/items?cursor=2", "/items?cursor=2", "/items?cursor=3"]
    assert targets == [one.target for one in served.of("/items")]


@pytest.mark.parametrize("ended", [401, 403, 419])
def test_a_session_that_is_refused_at_once_is_no_reason_to_log_in_again_and_again(
    shop: Shop, served: Serving, tmp_path: Path, ended: int
) -> None:
    shop.ended, shop.short = ended, 0
    _, done = pulled(served, tmp_path, style("token", stale=(ended,)))
    assert (5, 2, 2) == (done.code, len(served.of("/login")), len(served.of("/items")))
    assert f"error: shop/items: the API answered {ended}" in done.stderr
    assert "check SHOP_USER, SHOP_PASSWORD: " in done.stderr


def test_a_status_that_is_not_declared_is_no_end_of_a_session(shop: Shop, served: Serving, tmp_path: Path) -> None:
    shop.ended, shop.short = 419, 2
    _, done = pulled(served, tmp_path, style("token"))
    assert (4, 1) == (done.code, len(served.of("/login")))


def test_what_is_refused_in_the_middle_leaves_the_checkpoint(shop: Shop, served: Serving, tmp_path: Path) -> None:
    shop.short = 2
    shop.over.update({"session-c4n4ry-2", "session-c4n4ry-3", "session-c4n4ry-4"})
    project, done = pulled(served, tmp_path, style("token"))
    assert (5, 2) == (done.code, len(project.output().splitlines()))
    project, done = pulled(served, tmp_path, style("token"))
    assert (5, 2) == (done.code, len(project.output().splitlines()))
    project, done = pulled(served, tmp_path, style("token"))
    assert (0, 4) == (done.code, len(project.output().splitlines()))
    assert ["/items?cursor=2", "/items?cursor=3"] == [one.target for one in served.of("/items")[-2:]]


def test_a_session_of_an_api_that_says_200_to_everyone_is_renewed_by_its_time(shop: Shop, served: Serving) -> None:
    asker = Asker(served.url, auth=style("token", lasts=1800), environment=SECRETS)
    for seconds, logins in ((0, 1), (1730, 1), (1741, 2), (3400, 2)):
        asker.time.seconds = 1000.0 + seconds
        asker.fetch()
        assert logins == len(served.of("/login"))


# --- a login that fails ---

NO = b'{"message": "no"}'
FAILED: list[tuple[str, bytes, type[SyncerError], int, str]] = [
    ("400", status("400 Bad"), CredentialsError, 1, "/login answered 400"),
    ("401", status("401 No"), CredentialsError, 1, "/login answered 401"),
    ("403", status("403 No"), CredentialsError, 1, "/login answered 403"),
    ("422", status("422 No"), CredentialsError, 1, "/login answered 422"),
    ("200 error", response(b'{"error": "bad_password"}'), CredentialsError, 1, "/login answered 200 (bad_password)"),
    ("404", status("404 No"), ConfigError, 1, "/login answered 404 instead of a token"),
    ("500", status("500 Oops"), UnavailableError, 3, "127.0.0.1, asked for a token, answered 500"),
]


@pytest.mark.parametrize("kind", ["token", "header", "cookie"])
@pytest.mark.parametrize(("answer", "error", "count", "words"), [row[1:] for row in FAILED], ids=[r[0] for r in FAILED])
def test_a_login_that_fails_is_tried_no_more_than_helps(
    kind: str, answer: bytes, error: type[SyncerError], count: int, words: str
) -> None:
    with scripted(then=answer) as server:
        asker = Asker(server.url, auth=style(kind), environment=SECRETS)
        with pytest.raises(SyncerError) as caught:
            asker.fetch()
    assert (error, ["/login"] * count) == (type(caught.value), server.targets)
    assert words in str(caught.value)
    assert PASSWORD not in f"{caught.value} {caught.value.hint}"
    if error is CredentialsError:
        assert "check SHOP_USER, SHOP_PASSWORD" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("token", response(b'{"session": {}}')),
        ("token", response(b'{"session": {"token": null}}')),
        ("token", response(b'{"session": {"token": ""}}')),
        ("token", response(b'{"ok": false}')),
        ("header", response(b"<html>wrong password</html>", "200 OK", "Content-Type: text/html")),
        ("cookie", response(b"<html>wrong password</html>", "200 OK", "Content-Type: text/html", "Set-Cookie: a=b")),
        ("cookie", response(b"", "302 Found", "Location: /login?again")),
        ("cookie", response(b"", "200 OK", "Set-Cookie: session=; Max-Age=0")),
    ],
    ids=range(8),
)
def test_a_login_that_says_yes_and_gives_nothing_is_about_the_credentials(kind: str, answer: bytes) -> None:
    with scripted(answer) as server:
        asker = Asker(server.url, auth=style(kind), environment=SECRETS)
        with pytest.raises(CredentialsError, match=r"/login answered \d+ and gives no session") as caught:
            asker.fetch()
    assert "check SHOP_USER, SHOP_PASSWORD, and where the connector says that the session is" == caught.value.hint


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("token", response(b"<html></html>")),
        ("token", response(b'{"session": {"token": ["a"]}}')),
        ("token", response(b'{"session": {"token": true}}')),
        ("token", response(b'{"session": {"token": "a\\r\\nX-Evil: 1"}}')),
        ("token", response(b"", "302 Found", "Location: /welcome")),
        ("cookie", response(b"", "200 OK", "Set-Cookie: session=" + "x" * 17_000)),
    ],
    ids=range(6),
)
def test_a_session_that_cannot_be_sent_is_the_servers_fault(kind: str, answer: bytes) -> None:
    with scripted(answer) as server:
        asker = Asker(server.url, auth=style(kind), environment=SECRETS)
        with pytest.raises(ProtocolError):
            asker.fetch()
    assert ["/login"] == server.targets


def test_a_wrong_password_ends_the_whole_command_with_5(shop: Shop, served: Serving, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(connector(served.url, more=f"auth={style('token')!r}"))
    done = project.run("pull", "shop", env={**SECRETS, "SHOP_PASSWORD": "wr0ng-c4n4ry"})
    assert (5, 0, 1) == (done.code, shop.pages, len(served.of("/login")))
    assert (True, False) == ("check SHOP_USER, SHOP_PASSWORD" in done.said, "wr0ng-c4n4ry" in done.said)
    checked = project.run("check", "shop", env={**SECRETS, "SHOP_PASSWORD": "wr0ng-c4n4ry"})
    assert (5, True) == (checked.code, f"failed: {served.url}/login answered 401" in checked.stdout)


def test_a_rule_of_the_connector_may_call_a_page_a_refusal(shop: Shop, served: Serving) -> None:
    """What an answer means is still the connector's to say; the session is not renewed for it."""
    shop.ended, shop.short = 418, 0
    rules = (When(status=418, then="refused"),)
    asker = Asker(served.url, auth=style("token"), environment=SECRETS, answers=rules)
    with pytest.raises(CredentialsError):
        asker.fetch()
    with pytest.raises(FetchError):
        Asker(served.url, auth=style("token"), environment=SECRETS).fetch()
    assert 2 == len(served.of("/login"))


# --- what cannot be declared ---


@pytest.mark.parametrize(
    "options",
    [
        {"fields": {}},
        {"send": "xml"},
        {"url": "http://login.example.com/login"},
        {"url": "https://login.example.com/login", "token": Cookie("sid")},
        {"fields": {"password": "p4ss word"}},
    ],
    ids=str,
)
def test_a_login_that_would_not_be_safe_or_never_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        style("token", **options)


def test_a_user_name_that_is_declared_public_is_no_secret() -> None:
    """An API may filter by it, and name it in its links."""
    auth = style("token", public=("SHOP_USER",))
    with scripted(response(b'{"session": {"token": "t1-c4n4ry"}}'), GOOD) as server:
        asker = Asker(server.url, auth=auth, environment=SECRETS)
        asker.fetch()
    assert {PASSWORD, "t1-c4n4ry"} == set(asker.client.secrets())
    assert "ada" in Asker(server.url, auth=style("token"), environment=SECRETS).client.secrets()
