"""OAuth2 client credentials against a server of authlib, and token endpoints that misbehave in every way."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import redirect

from syncer import ClientCredentials, NextToken, Rate, RefreshToken, Stream
from syncer.auth.style import Bare, Context, Told
from syncer.auth.tokens import Fetched, Token, seconds
from syncer.errors import ConfigError, CredentialsError, ProtocolError, SyncerError, UnavailableError
from syncer.events import Retrying, Waiting
from syncer.fetch import pages
from syncer.page import Request
from syncer.wire import Limits
from tests.api import connector
from tests.command import Done, Project
from tests.scripted import Answer, Talk, Time, response, scripted
from tests.servers.flask_server import Serving, serving
from tests.servers.oauth_server import Authority, OneClient
from tests.test_client import GOOD, Asker, Item, headers_of, status

ODD = "p+w d%2F&=:~/"
"""A secret with every character that means something in a header, a form or a URL."""
SECRETS = {"SHOP_ID": "the shop: 1%2F+", "SHOP_SECRET": ODD}
STREAM = Stream(name="items", path="/items", model=Item, records="items", pagination=NextToken("next", param="cursor"))


def style(url: str, **options: Any) -> ClientCredentials:
    return ClientCredentials(
        token_url=f"{url}/token", client_id="SHOP_ID", client_secret="SHOP_SECRET", scope="read", **options
    )


@pytest.fixture
def authority() -> Authority:
    return Authority([OneClient(SECRETS["SHOP_ID"], ODD)])


@pytest.fixture
def served(authority: Authority) -> Iterator[Serving]:
    with serving(authority.app) as found:
        yield found


def asking(authority: Authority, served: Serving, **options: Any) -> Asker:
    """A client of the API behind the authority, whose clock is the authority's too."""
    auth = style(served.url, **options.pop("style", {}))
    asker = Asker(served.url, auth=auth, environment=SECRETS, **options)
    authority.now = lambda: asker.time.now().timestamp()
    return asker


def read(asker: Asker) -> list[int]:
    """The ids of all three pages."""
    coming = pages(STREAM, asker.client, Request(f"{asker.base}/items"))
    return [record["id"] for page in coming for record in page.records]


# --- the protocol ---


@pytest.mark.parametrize("send", ["header", "form"])
def test_client_credentials_get_one_token_for_all_pages(authority: Authority, served: Serving, send: str) -> None:
    authority.clients[0].method = {"header": "client_secret_basic", "form": "client_secret_post"}[send]
    asker = asking(authority, served, style={"send": send})
    assert [1, 2, 3, 4, 5, 6] == read(asker)
    (asked,) = served.of("/token")
    assert "client_credentials" == asked.form["grant_type"]
    assert {f"Bearer {authority.tokens[0].access}"} == {one.headers["authorization"] for one in served.of("/items")}
    assert {ODD, authority.tokens[0].access} <= set(asker.client.secrets())


def test_scope_audience_and_what_else_the_server_wants_are_in_the_form_and_nothing_else_is(
    authority: Authority, served: Serving
) -> None:
    read(asking(authority, served, style={"audience": "https://api", "extra": {"resource": "a&b", "empty": ""}}))
    (asked,) = served.of("/token")
    expected = {"grant_type": "client_credentials", "scope": "read", "audience": "https://api", "resource": "a&b"}
    assert expected == asked.form
    assert "application/x-www-form-urlencoded" == asked.headers["content-type"]


@pytest.mark.parametrize(("options", "expected"), [({}, "Bearer"), ({"scheme": "Token"}, "Token")])
def test_a_token_travels_in_the_scheme_that_the_api_wants(options: dict[str, str], expected: str) -> None:
    with scripted(response(b'{"access_token": "t1", "token_type": "bearer"}'), GOOD) as server:
        asker = Asker(server.url, auth=style(server.url, **options), environment=SECRETS)
        asker.fetch()
        assert f"{expected} t1" == headers_of(server, 1)["authorization"]


def test_a_token_travels_in_the_header_that_the_api_wants() -> None:
    with scripted(response(b'{"access_token": "t1"}'), GOOD) as server:
        auth = style(server.url, header="X-Token", scheme="")
        Asker(server.url, auth=auth, environment=SECRETS).fetch()
        sent = headers_of(server, 1)
        assert ("t1", False) == (sent["x-token"], "authorization" in sent)


def test_a_path_is_one_of_the_hosts_whatever_the_base_url(authority: Authority) -> None:
    with serving(authority.app) as served:
        auth = ClientCredentials(token_url="/token", client_id="SHOP_ID", client_secret="SHOP_SECRET", scope="read")
        asker = Asker(f"{served.url}/api/v1", auth=auth, environment=SECRETS)
        asker.fetch(Request(f"{served.url}/items"))
        assert ["/token", "/items"] == [one.path for one in served.requests]


# --- how long a token is good ---


def test_a_token_is_renewed_a_minute_before_it_expires(authority: Authority, served: Serving) -> None:
    asker = asking(authority, served)
    authority.lasts = 1000
    for moment, tokens in ((0.0, 1), (939.0, 1), (941.0, 2), (1800.0, 2), (1882.0, 3)):
        asker.time.seconds = 1000.0 + moment
        asker.fetch(stream=STREAM)
        assert tokens == len(served.of("/token"))


def test_a_short_token_is_renewed_when_a_tenth_of_it_is_left(authority: Authority, served: Serving) -> None:
    asker = asking(authority, served)
    authority.lasts = 10
    for moment, tokens in ((0.0, 1), (8.9, 1), (9.1, 2)):
        asker.time.seconds = 1000.0 + moment
        asker.fetch(stream=STREAM)
        assert tokens == len(served.of("/token"))


@pytest.mark.parametrize(("lasts", "tokens"), [(3600, 1), (1000, 3), (300, 3)])
def test_a_token_that_would_expire_during_a_wait_is_renewed_once_for_the_request_behind_it(
    authority: Authority, served: Serving, lasts: int, tokens: int
) -> None:
    """Whether it lasts as long as the wait, or not."""
    asker = asking(authority, served, rate=Rate(1, per=960.0), patience=2000.0)
    authority.lasts = lasts
    assert [1, 2, 3, 4, 5, 6] == read(asker)
    assert (tokens, 3) == (len(served.of("/token")), authority.pages)
    assert 1920 <= asker.time.slept


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        (0.5, 0.5),
        ("59.9", 59.9),
        (0, None),
        (-1, None),
        ("soon", None),
        ("1e3", None),
        ("", None),
        (None, None),
        (True, None),
        ([3600], None),
        (math.inf, None),
        (math.nan, None),
        (10**400, None),
        (10**12, 366 * 86400.0),
    ],
)
def test_how_long_a_token_is_good_is_only_believed_where_it_can_be(value: Any, expected: float | None) -> None:
    assert expected == seconds(value)


# --- a token that is refused ---


def test_a_token_that_is_refused_in_the_middle_is_renewed_and_the_pull_goes_on(
    authority: Authority, served: Serving, tmp_path: Path
) -> None:
    authority.page = lambda number: authority.revoke() if number == 2 else None
    done = pulled(served, Project(tmp_path))
    assert (0, 6) == (done.code, done.json()["streams"][0]["run"]["written"])
    assert 2 == len(served.of("/token"))
    assert ["/items", "/items?cursor=2", "/items?cursor=2", "/items?cursor=4"] == [
        one.target for one in served.of("/items")
    ]


def test_a_token_that_is_refused_again_ends_with_5_and_the_next_pull_goes_on_from_the_checkpoint(
    authority: Authority, served: Serving, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    authority.page = lambda number: authority.revoke() if number >= 2 else None
    done = pulled(served, project)
    assert (5, 2, 3) == (done.code, len(served.of("/token")), authority.pages)
    assert "error: shop/items: the API answered 401 Unauthorized\n" in done.stderr
    assert "check SHOP_ID, SHOP_SECRET: is it right, and does it allow this?" in done.stderr
    authority.page = lambda number: None
    done = pulled(served, project)
    assert (0, 6) == (done.code, done.json()["streams"][0]["run"]["written"])
    assert ["/items?cursor=2", "/items?cursor=4"] == [one.target for one in served.of("/items")[3:]]
    ids = [json.loads(line)["id"] for line in project.output().splitlines()]
    assert [1, 2, 3, 4, 5, 6] == ids


def pulled(served: Serving, project: Project, *options: str) -> Done:
    """One pull by the whole command."""
    project.write(connector(served.url, more=f"auth={style(served.url)!r}"))
    return project.run("pull", "shop", "--json", *options, env=SECRETS)


def test_a_wrong_secret_ends_with_5_and_names_its_variable_before_a_page_is_asked_for(
    authority: Authority, served: Serving, tmp_path: Path
) -> None:
    authority.clients[0].secret = "another"
    done = pulled(served, Project(tmp_path))
    assert (5, 0, 1) == (done.code, authority.pages, len(served.of("/token")))
    assert f"error: shop/items: {served.url}/token answered 401 (invalid_client)\n" in done.stderr
    assert "check SHOP_ID, SHOP_SECRET: right, not expired" in done.stderr
    assert ODD not in done.said


# --- a token endpoint that misbehaves ---

TOKEN = response(b'{"access_token": "t1", "expires_in": 3600}')
WORDS = b"<html>Sign in</html>"


def dripping(talk: Talk) -> None:
    """An answer that never ends and is never silent."""
    talk.hear()
    talk.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        talk.say(b" " * 1000)


def silent(talk: Talk) -> None:
    talk.hear()
    talk.hear()


def cut(talk: Talk) -> None:
    talk.hear()
    talk.say(response(b'{"access', length=100))
    talk.end()


def said(status: str, **body: Any) -> bytes:
    return response(json.dumps(body).encode(), status)


BAD: list[tuple[str, Answer, type[SyncerError], int, str]] = [
    ("500", status("500 Oops"), UnavailableError, 3, "127.0.0.1, asked for a token, answered 500 (3 attempts)"),
    ("503", status("503 Later"), UnavailableError, 3, "127.0.0.1, asked for a token, answered 503 (3 attempts)"),
    ("silence", silent, UnavailableError, 3, "127.0.0.1, asked for a token: the server did not answer in time"),
    ("cut", cut, UnavailableError, 3, "127.0.0.1, asked for a token: the answer was cut short"),
    ("garbage", b"SSH-2.0-OpenSSH\r\n", UnavailableError, 3, "127.0.0.1, asked for a token: the connection broke"),
    ("closed", b"", UnavailableError, 3, "127.0.0.1, asked for a token: the connection broke"),
    ("later", said("400 Bad", error="temporarily_unavailable"), UnavailableError, 3, "(temporarily_unavailable)"),
    ("slow down", said("400 Bad", error="slow_down"), UnavailableError, 3, "answered 400 (slow_down)"),
    ("drip", dripping, ProtocolError, 1, "127.0.0.1, asked for a token: the answer is larger than 1,048,576 bytes"),
    ("huge", response(b" " * (2**20 + 1)), ProtocolError, 1, "is larger than 1,048,576 bytes"),
    ("html", response(WORDS, "200 OK", "Content-Type: text/html"), ProtocolError, 1, "is not a JSON object"),
    ("empty", response(b""), ProtocolError, 1, "answered something that is not a JSON object"),
    ("list", response(b'[{"access_token": "t1"}]'), ProtocolError, 1, "answered something that is not a JSON object"),
    ("deep", response(b"[" * 100_000), ProtocolError, 1, "answered something that is not a JSON object"),
    ("no token", said("200 OK", token="t1"), ProtocolError, 1, "has no access_token that can be used"),
    ("null", said("200 OK", access_token=None), ProtocolError, 1, "has no access_token that can be used"),
    ("number", said("200 OK", access_token=7), ProtocolError, 1, "has no access_token that can be used"),
    ("lines", said("200 OK", access_token="a\r\nX-Evil: 1"), ProtocolError, 1, "has no access_token that can be used"),
    ("letters", said("200 OK", access_token="tökén"), ProtocolError, 1, "has no access_token that can be used"),
    ("long", said("200 OK", access_token="x" * 20_000), ProtocolError, 1, "has no access_token that can be used"),
    ("400", said("400 Bad", error="invalid_scope"), CredentialsError, 1, "/token answered 400 (invalid_scope)"),
    ("401", response(WORDS, "401 No"), CredentialsError, 1, "/token answered 401"),
    ("403", said("403 No", error={"code": 3}), CredentialsError, 1, "/token answered 403"),
    ("200", said("200 OK", error="bad_verification_code"), CredentialsError, 1, "answered 200 (bad_verification_code)"),
    ("404", response(WORDS, "404 Not Found"), ConfigError, 1, "/token answered 404 instead of a token"),
    ("405", response(WORDS, "405 No"), ConfigError, 1, "/token answered 405 instead of a token"),
    (
        "coded",
        response(b"\x0b", "200 OK", "Content-Encoding: br"),
        UnavailableError,
        3,
        "coding that was not asked",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "count", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_token_endpoint_that_misbehaves_ends_in_the_error_of_who_has_to_act(
    answer: Answer, kind: type[SyncerError], count: int, words: str
) -> None:
    with scripted(then=answer) as tokens, scripted() as api:
        limits = Limits(connect=2.0, read=0.4, whole=5.0)
        asker = Asker(api.url, auth=style(tokens.url), environment=SECRETS, limits=limits)
        with pytest.raises(SyncerError) as caught:
            asker.fetch()
        asker.client.close()
    assert (kind, count, 0) == (type(caught.value), len(tokens.requests), api.connections)
    assert words in str(caught.value)
    assert [] == [text for text in (ODD, "X-Evil") if text in f"{caught.value} {caught.value.hint}"]


def test_an_answer_of_a_token_endpoint_that_drips_ends_with_its_time() -> None:
    def drip(talk: Talk) -> None:
        talk.hear()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while talk.sent < 10**6:
            talk.say(b" ")
            waiting.wait(0.05)

    waiting = threading.Event()
    with scripted(then=drip) as tokens:
        limits = Limits(connect=2.0, read=2.0, whole=0.3)
        asker = Asker(tokens.url, auth=style(tokens.url), environment=SECRETS, limits=limits)
        with pytest.raises(UnavailableError, match="asked for a token: the server did not answer in time"):
            asker.fetch()
        waiting.set()


def test_a_token_endpoint_that_is_not_there_is_unavailable() -> None:
    with scripted() as gone:
        pass
    asker = Asker("http://127.0.0.1:1", auth=style(gone.url), environment=SECRETS)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1, asked for a token: the connection was refused"):
        asker.fetch()


def test_a_token_endpoint_in_trouble_is_asked_again_and_its_limit_waited_for() -> None:
    limited = status("429 Too Many Requests", "Retry-After: 30")
    with scripted(status("502 Bad Gateway"), limited, TOKEN, GOOD) as server:
        asker = Asker(server.url, auth=style(server.url), environment=SECRETS)
        asker.fetch()
    assert ["/token", "/token", "/token", "/items"] == server.targets
    reasons = [event.reason for event in asker.watcher.of(Retrying)]
    assert ["127.0.0.1, asked for a token, answered 502", "127.0.0.1, asked for a token, answered 429"] == reasons
    assert 30 <= asker.time.slept
    assert asker.watcher.of(Waiting)


def test_a_limit_of_the_token_endpoint_beyond_patience_says_when_to_come_back() -> None:
    with scripted(status("429 Too Many Requests", "Retry-After: 7200")) as server:
        asker = Asker(server.url, auth=style(server.url), environment=SECRETS)
        with pytest.raises(UnavailableError, match="lasts longer than the patience of 900 s") as caught:
            asker.fetch()
    assert "2026-01-31 14:00" in caught.value.hint


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["elsewhere", "same"])
def test_a_token_request_is_never_redirected(authority: Authority, served: Serving, code: int, place: str) -> None:
    with scripted(then=TOKEN) as other:
        target = {"elsewhere": f"{other.url}/token", "same": f"{served.url}/token?again=1"}[place]
        authority.before = lambda: redirect(target, code)
        asker = asking(authority, served)
        with pytest.raises(ProtocolError, match="/token redirects; credentials do not follow"):
            asker.fetch(stream=STREAM)
    assert (0, ["/token"]) == (other.connections, [one.target for one in served.requests])


def test_what_a_token_endpoint_calls_an_error_is_not_shown_if_it_is_the_secret() -> None:
    """The name of an error is the only word of the server that a message takes over."""
    environment = {"SHOP_ID": "shop", "SHOP_SECRET": "canary_of_letters"}
    for answer in (said("400 Bad", error="canary_of_letters"), said("400 No", error="see_canary_of_letters")):
        with scripted(answer) as server:
            asker = Asker(server.url, auth=style(server.url), environment=environment)
            with pytest.raises(CredentialsError) as caught:
                asker.fetch()
        assert "canary" not in f"{caught.value} {caught.value.hint}"


def test_an_error_of_the_token_endpoint_may_hold_only_a_name() -> None:
    for word in ("no such\nthing", "<b>", "x" * 61, "", 7, None, ["a"]):
        with scripted(said("400 Bad", error=word)) as server:
            asker = Asker(server.url, auth=style(f"{server.url}"), environment=SECRETS)
            with pytest.raises(CredentialsError) as caught:
                asker.fetch()
        assert f"{server.url}/token answered 400" == str(caught.value)


def test_nothing_of_the_address_but_its_place_is_in_a_message() -> None:
    with scripted(response(WORDS, "404 No")) as server:
        auth = ClientCredentials(
            token_url=f"{server.url}/token?k=canary", client_id="SHOP_ID", client_secret="SHOP_SECRET"
        )
        asker = Asker(server.url, auth=auth, environment=SECRETS)
        with pytest.raises(ConfigError) as caught:
            asker.fetch()
    assert f"{server.url}/token answered 404 instead of a token" == str(caught.value)
    assert ["/token?k=canary"] == server.targets


def test_a_renewal_that_fails_for_a_moment_is_tried_again_with_the_page() -> None:
    refused, again = status("401 Unauthorized"), response(b'{"access_token": "t2"}')
    with scripted(TOKEN, refused, status("500 Oops"), refused, again, GOOD) as server:
        asker = Asker(server.url, auth=style(server.url), environment=SECRETS)
        asker.fetch()
        sent = [headers_of(server, number)["authorization"] for number in (1, 3, 5)]
    assert ["Bearer t1", "Bearer t1", "Bearer t2"] == sent
    assert ["/token", "/items", "/token", "/items", "/token", "/items"] == server.targets


@pytest.mark.parametrize("lengths", [("t1", "t1"), ("t1", "t2")])
def test_a_401_costs_one_renewal_and_one_request_whatever_the_server_gives(lengths: tuple[str, str]) -> None:
    tokens = [response(json.dumps({"access_token": value}).encode()) for value in lengths]
    refused = status("401 Unauthorized")
    with scripted(tokens[0], refused, tokens[1], refused) as server:
        asker = Asker(server.url, auth=style(server.url), environment=SECRETS)
        with pytest.raises(CredentialsError, match="the API answered 401 Unauthorized"):
            asker.fetch()
    assert (4, 0) == (len(server.requests), server.surplus)


def test_a_long_run_remembers_the_latest_tokens_and_always_its_own_secrets() -> None:
    numbers = iter(range(1000))
    time = Time()
    context = Context({}, time.clock, "https://api.example.org", lambda *request: Told(500, {}, b""))
    signer = Fetched(context, lambda refused: Token(f"t{next(numbers)}", 10.0), lambda request, value: None, ["own"])
    for _ in range(200):
        signer.sign(Bare())
        time.seconds += 10
    assert ["own", *(f"t{number}" for number in range(136, 200))] == list(signer.secrets())


CODES = [
    (lambda: ("{}", 500), 4, "asked for a token, answered 500"),
    (lambda: ("{}", 429, {"Retry-After": "7200"}), 4, "asked for a token, answered 429"),
    (lambda: ("<html>Sign in</html>", 200), 9, "answered something that is not a JSON object"),
    (lambda: (" " * (2**20 + 1), 200), 9, "asked for a token: the answer is larger than"),
    (lambda: redirect("https://login.example.com/"), 9, "redirects; credentials do not follow"),
    (lambda: ("{}", 404), 2, "answered 404 instead of a token"),
    (lambda: ({"error": "invalid_scope"}, 400), 5, "answered 400 (invalid_scope)"),
]


@pytest.mark.parametrize(("answer", "code", "words"), CODES, ids=[str(code) for _, code, _ in CODES])
def test_a_pull_that_gets_no_token_ends_with_the_code_of_who_has_to_act(
    authority: Authority, served: Serving, tmp_path: Path, answer: Any, code: int, words: str
) -> None:
    """And goes on once there is one."""
    project = Project(tmp_path)
    authority.before = answer
    failed = pulled(served, project, "--patience", "0.01s")
    assert (code, True, 0) == (failed.code, words in failed.said, authority.pages), failed.said
    authority.before = lambda: None
    assert 0 == pulled(served, project).code
    assert 6 == len(project.output().splitlines())


def test_a_token_that_another_thread_has_renewed_meanwhile_is_not_renewed_again() -> None:
    given = iter(["t1", "t2", "t3"])
    sent: list[str] = []
    context = Context({}, Time().clock, "https://api.example.org", lambda *request: Told(500, {}, b""))
    signer = Fetched(context, lambda refused: Token(next(given)), lambda request, value: sent.append(value))
    signer.sign(Bare())
    other = threading.Thread(target=lambda: (signer.sign(Bare()), signer.renew(401, {})))
    other.start()
    other.join()
    assert signer.renew(401, {})
    signer.sign(Bare())
    assert ["t1", "t1", "t2"] == sent


# --- what cannot be declared ---


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com/token",
        "http://127.0.0.1.example.com/token",
        "http://10.0.0.1/token",
        "ftp://login.example.com/token",
        "https:///token",
        "https://user:pass@login.example.com/token",
        "//login.example.com/token",
        "/\\login.example.com/token",
        "login.example.com/token",
        "https://login.example.com:99999/token",
        "https://[::1/token",
        "https://login.example.com/\ntoken",
        "https://lögin.example.com/token",
        "",
    ],
)
@pytest.mark.parametrize("make", [ClientCredentials, RefreshToken])
def test_an_address_that_a_secret_must_not_go_to_is_refused(url: str, make: Any) -> None:
    last = {"client_secret": "B"} if make is ClientCredentials else {"refresh_token": "B"}
    with pytest.raises(ConfigError, match="the address that tokens come from is not an https address"):
        make(token_url=url, client_id="A", **last)


def test_a_client_that_is_sent_nowhere_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="send is either"):
        style("https://login.example.com", send="query")


def test_a_declared_address_on_this_machine_may_be_http() -> None:
    for url in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"):
        assert style(url).token_url.startswith("http://")
