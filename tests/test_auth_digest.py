"""HTTP Digest, verified by Flask-HTTPAuth, by the examples of RFC 7616, and header by header by requests itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify, request
from flask_httpauth import HTTPDigestAuth
from requests.auth import HTTPDigestAuth as Oracle
from werkzeug.http import parse_dict_header

from syncer import Digest, NextToken, Rate, Stream
from syncer.auth import Context, Told, opened
from syncer.auth.digest import challenge, proof
from syncer.auth.style import Bare
from syncer.errors import CredentialsError
from syncer.fetch import pages
from syncer.page import Request
from tests.api import connector, record
from tests.command import Project
from tests.leaks import traces
from tests.scripted import Time, response, scripted
from tests.servers.flask_server import Serving, serving
from tests.test_client import GOOD, Asker, Item, headers_of

PASSWORD = 'pAss:w0rd "c4n4ry" \\ %'
SECRETS = {"SHOP_USER": "ada", "SHOP_PASSWORD": PASSWORD}
STREAM = Stream(name="items", path="/items", model=Item, records="items", pagination=NextToken("next", param="a b"))
AUTH = Digest(username="SHOP_USER", password="SHOP_PASSWORD")


def parts(header: str) -> dict[str, str]:
    """What a header of credentials says, by werkzeug."""
    scheme, _, rest = header.partition(" ")
    assert "Digest" == scheme
    return {name: value or "" for name, value in parse_dict_header(rest).items()}


@dataclass
class Shop:
    """An API behind Flask-HTTPAuth. A nonce is good for so many requests, each with the next number."""

    algorithm: str = "MD5"
    qop: Any = "auth"
    uses: int = 10**6
    user: str = "ada"
    realm: str = "The shop, est. 1999, a=b"
    nonces: dict[str, int] = field(default_factory=dict)
    counts: list[str] = field(default_factory=list)

    @property
    def app(self) -> Flask:
        app = Flask("shop")
        app.secret_key = "only for the test"
        auth = HTTPDigestAuth(realm=self.realm, algorithm=self.algorithm, qop=self.qop)

        @auth.generate_nonce
        def nonce() -> str:
            made = f"n0nce-{len(self.nonces) + 1}"
            self.nonces[made] = 0
            return made

        @auth.verify_nonce
        def verify(given: str) -> bool:
            self.nonces[given] += 1
            self.counts.append(request.authorization.nc or "") if request.authorization else None
            return self.nonces[given] <= self.uses

        @auth.generate_opaque
        def opaque() -> str:
            return "0paque"

        @auth.verify_opaque
        def same(given: str) -> bool:
            return given == "0paque"

        @auth.get_password
        def password(name: str) -> str | None:
            return PASSWORD if name == self.user else None

        @app.get("/items")
        @auth.login_required
        def items() -> Any:
            shown = parts(request.headers["Authorization"])
            assert request.environ["RAW_URI"] == shown["uri"]
            at = int(request.args.get("a b", 0))
            return jsonify({"items": [record(at + 1)], "next": str(at + 1) if at < 3 else None})

        return app


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def served(shop: Shop) -> Iterator[Serving]:
    with serving(shop.app) as found:
        yield found


def read(asker: Asker) -> list[int]:
    coming = pages(STREAM, asker.client, Request(f"{asker.base}/items"))
    return [one["id"] for page in coming for one in page.records]


# --- a server that verifies ---


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-Sess"])
@pytest.mark.parametrize("qop", ["auth", "auth,auth-int", None])
def test_one_challenge_is_enough_for_all_pages_and_its_count_rises(algorithm: str, qop: str | None) -> None:
    if algorithm == "MD5-Sess" and qop is None:
        pytest.skip("Flask-HTTPAuth does not say its algorithm without a qop")
    shop = Shop(algorithm, qop)
    with serving(shop.app) as served:
        asker = Asker(served.url, auth=AUTH, environment=SECRETS)
        assert [1, 2, 3, 4] == read(asker)
    assert [None, True, True, True, True] == ["authorization" in one.headers or None for one in served.of("/items")]
    expected = [f"{number:08x}" for number in range(1, 5)] if qop else [""] * 4
    assert (expected, {"n0nce-1": 4}) == (shop.counts, shop.nonces)


def test_a_stale_nonce_is_replaced_and_its_count_begins_anew(shop: Shop, served: Serving) -> None:
    shop.uses = 2
    asker = Asker(served.url, auth=AUTH, environment=SECRETS)
    assert [1, 2, 3, 4] == read(asker)
    assert ["00000001", "00000002", "00000003", "00000001", "00000002"] == shop.counts
    assert {"n0nce-1": 3, "n0nce-2": 2} == shop.nonces


def test_a_nonce_that_is_good_once_costs_a_challenge_for_each_page(shop: Shop, served: Serving) -> None:
    shop.uses = 1
    assert [1, 2, 3, 4] == read(Asker(served.url, auth=AUTH, environment=SECRETS))
    assert 8 == len(served.of("/items"))


def test_every_request_that_a_challenge_costs_is_one_that_the_rate_allows(shop: Shop, served: Serving) -> None:
    asker = Asker(served.url, auth=AUTH, environment=SECRETS, rate=Rate(1, per=10.0))
    assert [1, 2, 3, 4] == read(asker)
    assert (5, True) == (len(served.of("/items")), 40 <= asker.time.slept)


@pytest.mark.parametrize("wrong", [{"SHOP_PASSWORD": "another"}, {"SHOP_USER": "bob"}], ids=["password", "user"])
def test_a_wrong_password_is_shown_once_and_ends_with_5(
    shop: Shop, served: Serving, tmp_path: Path, wrong: dict[str, str]
) -> None:
    project = Project(tmp_path)
    project.write(connector(served.url, more=f"auth={AUTH!r}"))
    done = project.run("pull", "shop", env={**SECRETS, **wrong})
    assert (5, 2) == (done.code, len(served.of("/items")))
    assert "the API answered 401" in done.said
    assert "check SHOP_USER, SHOP_PASSWORD: is it right" in done.said


def test_a_pull_by_the_whole_command_writes_down_neither_the_password_nor_a_proof(
    shop: Shop, served: Serving, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    project.write(connector(served.url, more=f"auth={AUTH!r}").replace('param="cursor"', 'param="a b"'))
    done = project.run("pull", "shop", "--log", "log", "-v", env=SECRETS)
    assert (0, 4) == (done.code, len(project.output().splitlines()))
    proofs = [parts(one.headers["authorization"])["response"] for one in served.of("/items")[1:]]
    assert [] == traces(project, [PASSWORD, *proofs], done)


@pytest.mark.parametrize("user", ['o"hara', "back\\slash", "a,b=c", "ü"])
def test_a_name_with_quotes_is_one_name(user: str) -> None:
    found = challenge(r'Digest realm="say \"hi\", \\ ok",nonce="n",opaque="0paque",algorithm="MD5",qop="auth"')
    assert 'say "hi", \\ ok' == found["realm"]
    shown = parts(proof(found, user, PASSWORD, "GET", "/items", "own", 1))
    expected = {"username": user, "realm": 'say "hi", \\ ok', "uri": "/items", "nc": "00000001", "cnonce": "own"}
    assert expected == {name: shown[name] for name in expected}


# --- requests as the oracle ---


@pytest.mark.parametrize("algorithm", ["", ", algorithm=MD5", ", algorithm=MD5-sess", ', algorithm="SHA-256"'])
@pytest.mark.parametrize("qop", ["", ', qop="auth"', ', qop="auth-int,auth"'])
@pytest.mark.parametrize("target", ["/items", "/items?a=%20b&c=d%2Fe", "/", "/?x"])
def test_a_proof_is_the_one_that_requests_makes(algorithm: str, qop: str, target: str) -> None:
    if not qop and "sess" in algorithm:
        pytest.skip("requests does not tell its own nonce then")
    header = f'Digest realm="r, s", nonce="ABC=", opaque="o"{algorithm}{qop}'
    oracle = Oracle("ada", PASSWORD)
    oracle.init_per_thread_state()
    oracle._thread_local.chal = parts(header)
    expected = parts(oracle.build_digest_header("GET", f"http://h{target}"))
    made = parts(proof(challenge(header), "ada", PASSWORD, "GET", target, expected.get("cnonce", ""), 1))
    names = {"username", "realm", "nonce", "uri", "response", "opaque"} | ({"qop", "nc", "cnonce"} if qop else set())
    assert names == names & expected.keys()
    assert {name: expected[name] for name in names} == {name: made[name] for name in names}


# --- the examples of RFC 7616, section 3.9.1 ---

EXAMPLE = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_the_standard_are_answered_as_it_says(algorithm: str, expected: str) -> None:
    found, own = challenge(EXAMPLE.format(algorithm)), "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    shown = parts(proof(found, "Mufasa", "Circle of Life", "GET", "/dir/index.html", own, 1))
    assert (expected, "auth", algorithm) == (shown["response"], shown["qop"], shown["algorithm"])


# --- what a challenge may look like ---

CHALLENGES: list[tuple[str, str | None]] = [
    ('Digest realm="r", nonce="n"', "n"),
    ('DIGEST REALM="r", NONCE="n"', "n"),
    ('Digest realm="r",nonce="n",qop="auth-int,auth"', "n"),
    ("Digest realm=r, nonce=n, qop=auth", "n"),
    ('Basic realm="b", Digest realm="r", nonce="n"', "n"),
    ('Digest realm="r", nonce="n", Basic realm="nonce"', "n"),
    ('Negotiate, Digest realm="r", nonce="n"', "n"),
    ('Digest realm="Digest nonce=no, Digest nonce=no", nonce="n"', "n"),
    ('Digest realm="a\\", nonce=\\"x", nonce="n"', "n"),
    ('Digest realm="r", nonce="weak", algorithm=MD5, Digest realm="r", nonce="n", algorithm=SHA-256', "n"),
    ('Digest realm="r", nonce="n", algorithm=SHA-512-256, Digest realm="r", nonce="weak", algorithm=SHA-256', "n"),
    ('Digest realm="r", nonce="n", algorithm=SHA-256-sess', "n"),
    ('Digest realm="r", nonce="x", algorithm=SHA-1, Digest realm="r", nonce="n", algorithm=MD5', "n"),
    (',, Digest realm="r",, nonce="n",', "n"),
    ('Digest realm="r", nonce="n", qop="auth-int"', None),
    ('Digest realm="r", nonce="n", algorithm=TOKEN', None),
    ('Digest realm="r"', None),
    ('Digest realm="r", nonce=""', None),
    ('Digest realm="r", nonce="n\r\nX: y"', None),
    ('Digest realm="rü", nonce="n"', None),
    ('Basic realm="r", nonce="n"', None),
    ('Digestive realm="r", nonce="n"', None),
    ("Digest", None),
    ("Digest " + '"' * 5000, None),
    ("Digest " + '"\\' * 2000, None),
    ("", None),
]


@pytest.mark.parametrize(("header", "nonce"), CHALLENGES, ids=range(len(CHALLENGES)))
def test_the_strongest_challenge_that_can_be_answered_is_found_among_others(header: str, nonce: str | None) -> None:
    assert nonce == challenge(header).get("nonce")


@pytest.mark.parametrize(
    "header", ['Basic realm="r"', "Negotiate", 'Digest realm="r", nonce="n", qop="auth-int"', "Digest nonsense"]
)
def test_a_401_that_asks_for_something_else_is_a_refusal_after_one_request(header: str) -> None:
    with scripted(response(b"{}", "401 No", f"WWW-Authenticate: {header}")) as server:
        asker = Asker(server.url, auth=AUTH, environment=SECRETS)
        with pytest.raises(CredentialsError, match="the API answered 401"):
            asker.fetch()
    assert (1, 0) == (len(server.requests), server.surplus)


def test_a_server_that_sends_new_nonces_for_ever_is_asked_twice_for_a_page() -> None:
    refusals = [response(b"{}", "401 No", f'WWW-Authenticate: Digest realm="r", nonce="{n}"') for n in range(2)]
    with scripted(*refusals) as server, pytest.raises(CredentialsError):
        Asker(server.url, auth=AUTH, environment=SECRETS).fetch()
    assert (2, 0) == (len(server.requests), server.surplus)


def test_a_refusal_with_the_challenge_that_was_just_answered_is_one() -> None:
    refusal = response(b"{}", "401 No", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"')
    with scripted(refusal, GOOD, refusal) as server:
        asker = Asker(server.url, auth=AUTH, environment=SECRETS)
        asker.fetch()
        with pytest.raises(CredentialsError):
            asker.fetch()
    assert (3, 0) == (len(server.requests), server.surplus)


def test_requests_that_are_under_way_together_all_answer_the_one_challenge_they_get() -> None:
    """Each with the next number; and a nonce that another one has renewed meanwhile is no refusal."""
    context = Context(SECRETS, Time().clock, "https://h", lambda *request: Told(500, {}, b""))
    signer = opened(AUTH, context)
    shown: list[dict[str, str]] = []

    def ask() -> None:
        bare = Bare()
        signer.sign(bare)
        shown.append(parts(bare.headers["Authorization"]) if "Authorization" in bare.headers else {})

    def refused(nonce: str) -> bool:
        return signer.renew(401, {"www-authenticate": f'Digest realm="r", nonce="{nonce}", qop="auth"'})

    def other() -> None:
        ask()
        assert refused("one")
        ask()
        assert not refused("one")
        assert refused("two")
        ask()
        done.append(True)

    done: list[bool] = []
    ask()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert [True] == done
    assert refused("two")
    ask()
    assert [None, None, "one", "two", "two"] == [one.get("nonce") for one in shown]
    assert ["00000001", "00000001", "00000002"] == [one["nc"] for one in shown[2:]]


def test_several_challenges_in_lines_of_their_own_are_read() -> None:
    lines = ('WWW-Authenticate: Basic realm="r"', 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"')
    with scripted(response(b"{}", "401 No", *lines), GOOD) as server:
        Asker(server.url, auth=AUTH, environment=SECRETS).fetch()
        assert "n" == parts(headers_of(server, 1)["authorization"])["nonce"]


def test_the_password_itself_is_never_sent(shop: Shop, served: Serving) -> None:
    read(Asker(served.url, auth=AUTH, environment=SECRETS))
    assert [] == [one for one in served.requests if PASSWORD in repr(one)]
