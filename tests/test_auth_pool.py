"""Several tokens for one API, each with a limit of its own; and styles that somebody else wrote."""

from __future__ import annotations

import base64
import json
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from authlib.integrations.flask_oauth1 import ResourceProtector
from flask import Flask, request
from requests.auth import AuthBase, HTTPBasicAuth, HTTPDigestAuth

from syncer import (
    ApiKey,
    Bearer,
    ClientCertificate,
    ClientCredentials,
    Custom,
    NextLink,
    Rate,
    SignedJWT,
    Stream,
    TokenPool,
    pacer,
)
from syncer.auth import Auth
from syncer.client import Client
from syncer.errors import ConfigError, CredentialsError, SyncerError, UnavailableError
from syncer.events import Requested, Waiting
from syncer.fetch import pages
from syncer.page import Request
from syncer.quotas import Limit
from syncer.rota import Rota, paced
from syncer.wire import Limits
from tests.api import Api, Asked, Reply, connector, record
from tests.command import Project
from tests.leaks import traces
from tests.scripted import Time, Watcher, response, scripted
from tests.servers.flask_server import serving
from tests.test_client import GOOD, STREAM, Asker, Item, headers_of, status

NAMES = ("TOKEN_A", "TOKEN_B", "TOKEN_C")
SECRETS = {name: f"{name.lower()}-c4n4ry" for name in NAMES}
POOL = TokenPool(tuple(Bearer(env=name) for name in NAMES))


@dataclass
class Budget:
    """What a server allows one token: so many requests, and again so many after every so many seconds."""

    size: int
    per: float
    used: int = 0
    window: int = 0


@dataclass
class Limited:
    """An API that counts the requests of each token, says what is left, and refuses those that are too many."""

    budgets: dict[str, Budget]
    time: Time = field(default_factory=Time)
    says: bool = True
    """Whether it says what is left with each answer, or only that it is too much."""
    order: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> Reply:
        with self.lock:
            name = asked.headers["authorization"].removeprefix("Bearer ").removesuffix("-c4n4ry").upper()
            self.order.append(name[-1])
            if name not in self.budgets:
                return Reply(401)
            budget, elapsed = self.budgets[name], self.time.seconds - 1000.0
            if elapsed // budget.per != budget.window:
                budget.window, budget.used = int(elapsed // budget.per), 0
            budget.used += 1
            left, reset = max(0, budget.size - budget.used), budget.per - elapsed % budget.per
            headers = {"X-RateLimit-Limit": str(budget.size), "X-RateLimit-Remaining": str(left)}
            headers |= {"X-RateLimit-Reset": f"{int(reset) + 1}"}
            if budget.used > budget.size:
                self.refused[name] += 1
                return Reply(429, {**headers, "Retry-After": f"{int(reset) + 1}"})
            return Reply(200, headers if self.says else {}, {"items": []})


@dataclass
class Pooled:
    """A client with a pool, on the server's clock."""

    url: str
    limited: Limited
    rate: Rate | None = None
    auth: Auth = POOL
    patience: float = 900.0

    def __post_init__(self) -> None:
        self.watcher = Watcher()
        clock = self.limited.time.clock
        rota = paced(self.rate, self.auth, None, SECRETS, clock, self.watcher)
        limits = Limits(connect=2.0, read=2.0, whole=10.0)
        self.client = Client(self.url, self.auth, {}, SECRETS, rota, clock, limits=limits, patience=self.patience)

    def ask(self, times: int) -> str:
        """Ask so often; whose turn it was."""
        before = len(self.limited.order)
        for _ in range(times):
            self.client.fetch(Request(f"{self.url}/items"), STREAM, resumed=False)
        return "".join(self.limited.order[before:])


@pytest.fixture
def limited() -> Limited:
    return Limited({"TOKEN_A": Budget(10, 600.0), "TOKEN_B": Budget(5, 600.0), "TOKEN_C": Budget(1, 600.0)})


@pytest.fixture
def url(limited: Limited) -> Iterator[str]:
    with Api(0) as api:
        api.misbehave = limited.answer
        yield api.url


# --- whose turn it is ---


def test_the_token_with_most_left_goes_next_and_none_is_asked_for_more_than_it_has(limited: Limited, url: str) -> None:
    """Each is tried once; then the first has most, until the second has as much; the third has nothing left."""
    pooled = Pooled(url, limited)
    assert "ABC" == pooled.ask(3)
    assert "AAAAA" == pooled.ask(5)
    assert Counter("AAAABBBB") == Counter(pooled.ask(8))
    assert (0.0, {}) == (limited.time.slept, limited.refused)


def test_a_spent_token_waits_for_its_own_reset_while_the_others_go_on(limited: Limited, url: str) -> None:
    limited.budgets = {"TOKEN_A": Budget(2, 100.0), "TOKEN_B": Budget(2, 700.0), "TOKEN_C": Budget(2, 700.0)}
    pooled = Pooled(url, limited)
    assert Counter("AABBCC") == Counter(pooled.ask(6))
    assert 0.0 == limited.time.slept
    assert "AA" == pooled.ask(2)
    assert 100 <= limited.time.slept <= 102
    assert "AA" == pooled.ask(2)
    assert 200 <= limited.time.slept <= 203
    assert {} == limited.refused


def test_a_token_whose_time_has_come_counts_as_full_again(limited: Limited, url: str) -> None:
    limited.budgets = {"TOKEN_A": Budget(3, 60.0), "TOKEN_B": Budget(50, 6000.0), "TOKEN_C": Budget(50, 6000.0)}
    pooled = Pooled(url, limited)
    assert Counter("AAABBBBBCCCC") != Counter(pooled.ask(12))
    limited.time.seconds += 61
    assert "A" == pooled.ask(1)


def test_the_limit_of_one_is_no_reason_to_wait_for_the_others(limited: Limited, url: str) -> None:
    """It says nothing beforehand, and asks the second and the third for the better part of an hour."""
    limited.says = False
    limited.budgets = {"TOKEN_A": Budget(100, 3600.0), "TOKEN_B": Budget(1, 3600.0), "TOKEN_C": Budget(1, 3600.0)}
    pooled = Pooled(url, limited)
    assert Counter({"A": 18, "B": 2, "C": 2}) == Counter(pooled.ask(20))
    assert {"TOKEN_B": 1, "TOKEN_C": 1} == limited.refused
    assert limited.time.slept < 10


def test_when_all_are_spent_for_longer_than_patience_the_first_reset_is_named(limited: Limited, url: str) -> None:
    limited.budgets = {"TOKEN_A": Budget(1, 7200.0), "TOKEN_B": Budget(1, 3600.0), "TOKEN_C": Budget(1, 9000.0)}
    pooled = Pooled(url, limited)
    pooled.ask(3)
    with pytest.raises(UnavailableError, match="lasts longer than the patience of 900 s") as caught:
        pooled.ask(1)
    assert "again after 2026-01-31 13:00" in caught.value.hint
    assert 3 == len(limited.order)


def test_each_token_has_the_declared_rate_for_itself(limited: Limited, url: str) -> None:
    limited.budgets = {name: Budget(1000, 10**6) for name in NAMES}
    pooled = Pooled(url, limited, rate=Rate(1, per=60.0))
    assert Counter("ABC") == Counter(pooled.ask(3))
    assert 0.0 == limited.time.slept
    assert Counter("ABC") == Counter(pooled.ask(3))
    assert 60 <= limited.time.slept < 70


def test_a_server_that_never_says_what_is_left_is_asked_in_turn(limited: Limited, url: str) -> None:
    limited.says, limited.budgets = False, {name: Budget(1000, 10**6) for name in NAMES}
    assert "ABCABCABC" == Pooled(url, limited).ask(9)


def test_an_answer_that_says_nothing_does_not_make_a_spent_token_a_full_one(limited: Limited, url: str) -> None:
    limited.budgets = {"TOKEN_A": Budget(30, 6000.0), "TOKEN_B": Budget(50, 6000.0), "TOKEN_C": Budget(40, 6000.0)}
    pooled = Pooled(url, limited, rate=Rate(1, per=60.0))
    assert "ABCB" == pooled.ask(4)
    limited.says = False
    assert "C" == pooled.ask(1)
    limited.says = True
    assert "AB" == pooled.ask(2)


def test_two_requests_at_once_do_not_go_for_the_last_of_one_token_while_the_other_has_some_left() -> None:
    """One thread is held up where it could be overtaken: if it comes to a token's limit without the pool's lock."""
    time, over = Time(), threading.Event()
    rota = paced(None, TokenPool(POOL.members[:2]), None, SECRETS, time.clock, lambda event: None)
    assert isinstance(rota, Rota)
    for left in (1.5, 1.0):
        rota.acquire()
        rota.learn([Limit(name="limit", remaining=left, quota=50.0, reset=600.0)])
    turns: list[int] = []

    def held(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename == pacer.__file__ and not rota._lock.locked():
            over.wait(5)

    def work() -> None:
        sys.setprofile(held)
        rota.acquire()
        turns.append(rota.turn)

    first = threading.Thread(target=work)
    first.start()
    first.join(0.3)
    rota.acquire()
    turns.append(rota.turn)
    over.set()
    first.join()
    assert ([0, 1], 0.0) == (sorted(turns), time.slept)


def test_the_members_may_be_of_different_kinds(limited: Limited, url: str) -> None:
    """One of them asks a server for its token when its turn comes."""
    limited.budgets["T-2"] = Budget(9, 600.0)
    with scripted(response(b'{"access_token": "t-2-c4n4ry"}')) as tokens:
        other = ClientCredentials(token_url=f"{tokens.url}/token", client_id="TOKEN_B", client_secret="TOKEN_C")
        pooled = Pooled(url, limited, auth=TokenPool((Bearer(env="TOKEN_A"), other)))
        assert "A2A2" == pooled.ask(4)
    assert 1 == len(tokens.requests)
    assert {"token_a-c4n4ry", "token_c-c4n4ry", "t-2-c4n4ry"} <= set(pooled.client.secrets())


# --- one that is refused ---


@pytest.mark.parametrize("wrong", NAMES)
def test_the_token_that_is_refused_is_named_and_the_others_are_not(tmp_path: Path, wrong: str) -> None:
    project = Project(tmp_path)
    with Api(40) as api:
        api.misbehave = lambda asked: Reply(401) if SECRETS[wrong] in asked.headers["authorization"] else None
        project.write(connector(api.url, more=f"auth={POOL!r}"))
        done = project.run("pull", "shop", "--log", "log", env=SECRETS)
    assert 5 == done.code
    assert f"→ check {wrong}: is it right, and does it allow this?" in done.said
    assert [] == [name for name in NAMES if name != wrong and name in done.said]
    assert [] == traces(project, SECRETS.values(), done)


def test_a_token_that_is_missing_is_named_before_anything_is_asked(url: str, tmp_path: Path, limited: Limited) -> None:
    project = Project(tmp_path)
    project.write(connector(url, more=f"auth={POOL!r}"))
    some = {**SECRETS, "TOKEN_B": ""}
    done, listed = project.run("pull", "shop", env=some), project.run("list", "shop", env=some)
    assert (5, [], True) == (done.code, limited.order, "the environment variable TOKEN_B is not set" in done.stderr)
    states = [line.strip() for line in listed.stdout.splitlines() if "secret" in line]
    assert ["secret TOKEN_A: set", "secret TOKEN_B: not set", "secret TOKEN_C: set"] == states


def test_a_whole_pull_uses_every_token_and_ends_when_one_would_have_waited(tmp_path: Path) -> None:
    used: Counter[str] = Counter()

    def misbehave(asked: Asked) -> Reply:
        used[asked.headers["authorization"]] += 1
        left = 4 - used[asked.headers["authorization"]]
        assert left >= 0
        return Reply(headers={"X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": "3000"})

    project = Project(tmp_path)
    with Api(48, misbehave=misbehave) as api:
        project.write(connector(api.url, more=f"auth={POOL!r}"))
        done = project.run("pull", "shop", "--json", env=SECRETS)
    assert (0, 48) == (done.code, done.json()["streams"][0]["run"]["written"])
    assert {f"Bearer {value}": 4 for value in SECRETS.values()} == used


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenPool(()),
        lambda: TokenPool([Bearer(env="A")]),
        lambda: TokenPool(Bearer(env="A")),
        lambda: TokenPool((POOL, Bearer(env="A"))),
        lambda: TokenPool((ClientCertificate(certificate="A"),)),
    ],
)
def test_a_pool_that_would_not_work_is_refused_where_it_is_declared(make: Callable[[], Auth]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_a_pool_says_of_its_members_all_that_they_say() -> None:
    pool = TokenPool((ApiKey(env="A", param="key"), SignedJWT(key="B", issuer="C"), Bearer(env="A")))
    assert ("A", "B", "C") == pool.variables()
    assert (("A", "B"), ("B",), ("key",)) == (pool.secrets(), pool.keys, pool.query())


# --- whatever signs a request of requests ---

OWN = {"SHOP_ID": "ada", "SHOP_SECRET": "s3cret-c4n4ry"}


class Signing(AuthBase):
    """Does to a request what it is told."""

    def __init__(self, work: Callable[[requests.PreparedRequest], Any]) -> None:
        self.work = work

    def __call__(self, request: requests.PreparedRequest) -> Any:
        return self.work(request)


def custom(work: Callable[[requests.PreparedRequest], Any], **options: Any) -> Custom:
    """A style whose AuthBase knows no secret of its own: env only makes sure that it has one to leak."""
    return Custom(lambda own: Signing(work), env=("SHOP_SECRET",), **options)


def put(name: Any, value: Any) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def work(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[name] = value
        return request

    return work


CONNECTOR = """
from requests.auth import HTTPBasicAuth

made = []


def make(own):
    made.append(own)
    assert len(made) == 1
    return HTTPBasicAuth(own["SHOP_ID"], own["SHOP_SECRET"])
"""


def test_an_authbase_of_requests_signs_a_whole_pull_and_is_made_once(tmp_path: Path) -> None:
    pair = base64.b64encode(b"ada:s3cret-c4n4ry").decode()
    project = Project(tmp_path)
    with Api(12) as api:
        api.misbehave = lambda asked: None if asked.headers.get("authorization") == f"Basic {pair}" else Reply(401)
        text = connector(api.url, more='auth=Custom(make, env=("SHOP_ID", "SHOP_SECRET"))')
        project.write(text.replace("\n\n\nclass", f"{CONNECTOR}\n\nclass", 1))
        done = project.run("pull", "shop", "--log", "log", "-v", env=OWN)
        missing = project.run("pull", "shop", env={"SHOP_ID": "ada"})
    assert (0, 12) == (done.code, len(project.output().splitlines())), done.said
    assert (5, True) == (missing.code, "the environment variable SHOP_SECRET is not set" in missing.said)
    assert [] == traces(project, [OWN["SHOP_SECRET"], pair], done)


OAUTH1 = """
from authlib.integrations.requests_client import OAuth1Auth


def make(own):
    return OAuth1Auth(own["SHOP_ID"], own["SHOP_SECRET"], "token", own["SHOP_TOKEN_SECRET"])
"""


@dataclass(frozen=True)
class Party:
    """A client or a token of OAuth 1.0a, as authlib's server wants to see it."""

    secret: str

    def get_client_secret(self) -> str:
        return self.secret

    def get_oauth_token_secret(self) -> str:
        return self.secret


def test_oauth_1_is_signed_by_a_library_and_verified_by_a_server(tmp_path: Path) -> None:
    """Both are authlib's; a nonce is good once."""
    secrets = {"SHOP_ID": "shop", "SHOP_SECRET": "s3cret-c4n4ry", "SHOP_TOKEN_SECRET": "t0ken-c4n4ry"}
    app, seen = Flask("shop"), set()

    def known(nonce: str, *others: Any) -> bool:
        return nonce in seen or bool(seen.add(nonce))

    protected = ResourceProtector(
        app,
        query_client=lambda name: Party("s3cret-c4n4ry") if name == "shop" else None,
        query_token=lambda name, token: Party("t0ken-c4n4ry") if token == "token" else None,
        exists_nonce=known,
    )

    @app.get("/items")
    @protected()
    def items() -> Any:
        at = int(request.args.get("cursor", 0))
        return {"items": [record(at + 1)], "next": str(at + 1) if at < 2 else None}

    project = Project(tmp_path)
    with serving(app) as served:
        text = connector(served.url, more=f"auth=Custom(make, env={tuple(secrets)!r})", stream='params={"q": "a +~"}')
        project.write(text.replace("\n\n\nclass", f"{OAUTH1}\n\nclass", 1))
        done = project.run("pull", "shop", "--log", "log", "-v", env=secrets)
        wrong = project.run("pull", "shop", env={**secrets, "SHOP_TOKEN_SECRET": "another"})
    assert (0, 3) == (done.code, len(project.output().splitlines())), done.said
    assert (5, True) == (wrong.code, "check SHOP_ID, SHOP_SECRET, SHOP_TOKEN_SECRET" in wrong.said)
    signatures = [one.headers["authorization"].partition('oauth_signature="')[2][:20] for one in served.requests]
    assert [] == traces(project, [*list(secrets.values())[1:], *signatures], done, wrong)


def test_an_authbase_without_secrets_of_ours_is_taken_as_it_is() -> None:
    with scripted(GOOD) as server:
        Asker(server.url, auth=Custom(HTTPBasicAuth("ada", "pw")), environment={"X": "1"}).fetch()
        assert "Basic " + base64.b64encode(b"ada:pw").decode() == headers_of(server)["authorization"]


def test_a_request_that_is_given_back_counts_also_if_it_is_another_one() -> None:
    def work(request: requests.PreparedRequest) -> requests.PreparedRequest:
        other = request.copy()
        other.url = f"{request.url}?signed=1"
        other.headers["X-Own"] = "yes"
        return other

    with scripted(GOOD) as server:
        Asker(server.url, auth=custom(work), environment=OWN).fetch()
        assert (["/items?signed=1"], "yes") == (server.targets, headers_of(server)["x-own"])


def test_one_that_gives_nothing_back_has_changed_the_request_itself() -> None:
    with scripted(GOOD) as server:
        auth = custom(lambda request: request.headers.update({"X-Own": "yes"}))
        Asker(server.url, auth=auth, environment=OWN).fetch()
        assert "yes" == headers_of(server)["x-own"]


def test_a_header_of_bytes_is_a_header() -> None:
    with scripted(GOOD) as server:
        Asker(server.url, auth=custom(put("X-Own", b"y\xe9s")), environment=OWN).fetch()
        assert "y\xe9s" == headers_of(server)["x-own"]


def raising(error: Exception) -> Callable[[requests.PreparedRequest], Any]:
    def work(request: requests.PreparedRequest) -> Any:
        raise error

    return work


def moved(url: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def work(request: requests.PreparedRequest) -> requests.PreparedRequest:
        port = (request.url or "").split(":")[2].split("/")[0]
        request.url = url.replace("PORT", port)
        return request

    return work


FAILED = "the connector's own auth failed with "
HEADER = "the auth style makes a header that cannot be sent"
ELSEWHERE = "the auth style leads to another server"
BAD: dict[str, tuple[Callable[[requests.PreparedRequest], Any], str]] = {
    "raises": (raising(ValueError("s3cret-c4n4ry")), f"{FAILED}ValueError"),
    "raises with its own words": (raising(KeyError("s3cret-c4n4ry")), f"{FAILED}KeyError"),
    "finds no file": (raising(FileNotFoundError(2, "s3cret-c4n4ry")), f"{FAILED}FileNotFoundError"),
    "gives text": (lambda request: "s3cret-c4n4ry", f"{FAILED}AttributeError"),
    "gives a number": (put("X-Own", 7), f"{FAILED}TypeError"),
    "gives None": (put("X-Own", None), f"{FAILED}TypeError"),
    "adds a line": (put("X-Own", "a\r\nX-Evil: s3cret-c4n4ry"), HEADER),
    "adds a line in bytes": (put("X-Own", b"a\r\nX-Evil: s3cret-c4n4ry"), HEADER),
    "adds a line end": (put("X-Own", "s3cret-c4n4ry\n"), HEADER),
    "adds a NUL": (put("X-Own", "s3cret-c4n4ry\0"), HEADER),
    "adds a letter": (put("X-Own", "s3cret-c4n4ry→"), HEADER),
    "names a line": (put("X-Own\r\nX-Evil", "1"), HEADER),
    "names a space": (put("X Own", "1"), HEADER),
    "names nothing": (put("", "1"), HEADER),
    "another host": (moved("http://localhost:PORT/items"), ELSEWHERE),
    "another port": (moved("http://127.0.0.1:1/items"), ELSEWHERE),
    "another scheme": (moved("https://127.0.0.1:PORT/items"), ELSEWHERE),
    "a user": (moved("http://ada:s3cret-c4n4ry@127.0.0.1:PORT/items"), ELSEWHERE),
    "no address": (moved(""), ELSEWHERE),
    "no URL": (moved("http://[s3cret-c4n4ry/items"), ELSEWHERE),
}


@pytest.mark.parametrize("what", BAD)
def test_one_that_does_what_must_not_be_sends_nothing_and_tells_no_secret(what: str) -> None:
    work, words = BAD[what]
    with scripted() as server, pytest.raises(SyncerError) as caught:
        Asker(server.url, auth=custom(work), environment=OWN).fetch()
    assert (CredentialsError, words, 0) == (type(caught.value), str(caught.value), server.connections)
    assert "c4n4ry" not in "".join([*traceback.format_exception(caught.value), caught.value.hint])


@pytest.mark.parametrize("error", [requests.ConnectionError("s3cret-c4n4ry"), requests.Timeout(), TimeoutError()])
def test_one_whose_own_server_is_away_is_tried_again_like_any_other(error: Exception) -> None:
    with scripted() as server, pytest.raises(UnavailableError) as caught:
        Asker(server.url, auth=custom(raising(error)), environment=OWN).fetch()
    assert f"{FAILED}{type(error).__name__} (3 attempts)" == str(caught.value)
    assert 0 == server.connections


def test_one_that_recovers_goes_on() -> None:
    calls: list[int] = []

    def work(request: requests.PreparedRequest) -> requests.PreparedRequest:
        calls.append(1)
        if len(calls) == 1:
            raise requests.ConnectionError
        return request

    with scripted(GOOD) as server:
        Asker(server.url, auth=custom(work), environment=OWN).fetch()
    assert (2, 1) == (len(calls), len(server.requests))


MADE: dict[str, tuple[Callable[..., Any], type[SyncerError], str]] = {
    "raises": (lambda own: own["NO"], CredentialsError, f"{FAILED}KeyError"),
    "is a pair": (
        lambda own: ("ada", own["SHOP_SECRET"]),
        ConfigError,
        "the connector's own auth is made, but a tuple signs nothing",
    ),
    "is nothing": (lambda own: None, ConfigError, "the connector's own auth is made, but a NoneType signs nothing"),
    "takes nothing": (lambda: None, CredentialsError, f"{FAILED}TypeError"),
}


@pytest.mark.parametrize("what", MADE)
def test_one_that_cannot_be_made_is_an_error_before_anything_is_sent(what: str) -> None:
    make, kind, words = MADE[what]
    with scripted() as server, pytest.raises(SyncerError) as caught:
        Asker(server.url, auth=Custom(make, env=("SHOP_SECRET",)), environment=OWN).fetch()
    assert (kind, words, 0) == (type(caught.value), str(caught.value), server.connections)
    assert "c4n4ry" not in f"{caught.value} {caught.value.hint}"


def test_one_that_wants_to_answer_a_401_by_itself_does_not_get_to() -> None:
    """It would send on connections of its own, past the rate."""
    digest = status("401 No", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"')
    with scripted(digest) as server, pytest.raises(CredentialsError, match="the API answered 401"):
        Asker(server.url, auth=Custom(HTTPDigestAuth("ada", "pw")), environment={"X": "1"}).fetch()
    assert (1, 0) == (len(server.requests), server.surplus)


def test_what_it_put_into_a_header_is_kept_out_of_a_link_and_a_moment_is_not() -> None:
    def work(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update({"Authorization": "Own made-c4n4ry", "X-Time": "1769860800", "Date": "Sat, 31 Jan 2026"})
        return request

    link = "/items?page=2&until=1769860800&sig=made-c4n4ry&key=7"
    stream = Stream(name="items", path="/items", model=Item, records="items", pagination=NextLink("next"))
    body = json.dumps({"items": [{"id": 1}], "next": link}).encode()
    with scripted(response(body), response(b'{"items": [], "next": null}')) as server:
        asker = Asker(server.url, auth=custom(work, params=("key",)), environment=OWN)
        first, _ = pages(stream, asker.client, Request(f"{server.url}/items"))
    assert Request("/items?page=2&until=1769860800") == first.next
    assert {"s3cret-c4n4ry", "made-c4n4ry"} <= set(asker.client.secrets())
    assert "1769860800" not in asker.client.secrets()


def test_a_secret_of_several_lines_reaches_it_whole() -> None:
    seen: list[str] = []

    def make(own: dict[str, str]) -> AuthBase:
        seen.append(own["SHOP_SECRET"])
        return Signing(lambda request: request)

    with scripted(GOOD) as server:
        Asker(server.url, auth=Custom(make, env=("SHOP_SECRET",)), environment={"SHOP_SECRET": "a\nü\n"}).fetch()
    assert ["a\nü"] == seen


@pytest.mark.parametrize(
    "make",
    [
        lambda: Custom("SHOP_SECRET"),
        lambda: Custom(lambda own: own, env="SHOP_SECRET"),
        lambda: Custom(lambda own: own, env=("s3cret c4n4ry",)),
    ],
)
def test_a_custom_style_that_cannot_be_meant_is_refused(make: Callable[[], Auth]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert "c4n4ry" not in f"{caught.value} {caught.value.hint}"


def test_every_request_is_signed_as_late_as_can_be() -> None:
    """After the wait for the rate, so that a moment in a signature is the one at which it leaves."""
    moments: list[float] = []
    auth = custom(lambda request: moments.append(asker.time.seconds))
    with scripted(GOOD, GOOD) as server:
        asker = Asker(server.url, auth=auth, environment=OWN, rate=Rate(1, per=100.0))
        asker.fetch()
        asker.fetch()
    assert [1000.0] == moments[:1]
    assert moments[1] >= 1100.0
    assert 2 == len(asker.watcher.of(Requested))
    assert asker.watcher.of(Waiting)
