"""Signed requests: HMAC, verified by servers from the bytes they got, and AWS Signature Version 4 against botocore."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import pytest
import requests
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from flask import Flask, request
from hypothesis import given, settings
from hypothesis import strategies as some

from syncer import Hmac, NextLink, NextToken, SigV4, Stream
from syncer.auth import Auth, Context, opened
from syncer.errors import ConfigError, CredentialsError
from syncer.fetch import pages
from syncer.page import Request
from tests.api import connector, record
from tests.command import Project
from tests.leaks import traces
from tests.scripted import BEGINNING, Time, response, scripted
from tests.servers.flask_server import Heard, Serving, serving
from tests.test_client import GOOD, Asker, Item, headers_of

SECRET = "s3cret-c4n4ry/+="
SECRETS = {"SHOP_SECRET": SECRET, "SHOP_KEY": "the-public-name"}
STREAM = Stream(name="items", path="/items", model=Item, records="items", pagination=NextToken("next", param="after"))


def mac(text: bytes, key: bytes = SECRET.encode(), algorithm: str = "sha256") -> bytes:
    return hmac.new(key, text, algorithm).digest()


# --- HMAC: what four kinds of API want, and how each checks it ---


def trading(heard: Heard) -> bool:
    """The whole query as it stands before the signature, which is its last parameter (Binance)."""
    query = urlsplit(heard.target).query
    signed, _, signature = query.rpartition("&signature=")
    moment = dict(parse_qsl(signed))["timestamp"]
    return signature == mac(signed.encode()).hex() and "the-public-name" == heard.headers["x-key"] and len(moment) == 13


def exchange(heard: Heard) -> bool:
    """Timestamp, method, target and body, with a key that is given in base64 (Coinbase)."""
    text = heard.headers["cb-timestamp"] + heard.method + heard.target
    signature = base64.b64encode(mac(text.encode() + heard.body, b"binary \x00 key")).decode()
    return signature == heard.headers["cb-sign"] and abs(int(heard.headers["cb-timestamp"]) - now()) < 100


def header(heard: Heard) -> bool:
    """Lines with the hash of the body, in an Authorization header of its own kind (Azure, Escher)."""
    digest = base64.b64encode(hashlib.sha512(heard.body).digest()).decode()
    path, _, query = heard.target.partition("?")
    lines = [heard.method, heard.headers["host"], path, query, heard.headers["x-date"], digest]
    signature = base64.b64encode(mac("\n".join(lines).encode(), algorithm="sha512")).decode()
    moment = parsedate_to_datetime(heard.headers["x-date"])
    return (
        heard.headers["authorization"] == f"HMAC the-public-name:{signature}" and abs(moment.timestamp() - now()) < 100
    )


def counting(heard: Heard) -> bool:
    """A number that rises with each request, and a hash of the body in hexadecimal."""
    text = f"{heard.headers['nonce']}|{heard.target}|{hashlib.sha256(heard.body).hexdigest()}"
    return heard.headers["sign"] == mac(text.encode(), bytes.fromhex("00ff7f")).hex()


def now() -> float:
    return datetime.now(UTC).timestamp()


KINDS: dict[str, tuple[Auth, Callable[[Heard], bool], dict[str, str]]] = {
    "trading": (
        Hmac(
            secret="SHOP_SECRET",
            key="SHOP_KEY",
            signs="{query}",
            params={"timestamp": "{timestamp_ms}"},
            param="signature",
            headers={"X-Key": "{key}"},
        ),
        trading,
        SECRETS,
    ),
    "exchange": (
        Hmac(
            secret="SHOP_SECRET",
            signs="{timestamp}{method}{target}{body}",
            headers={"CB-Sign": "{signature}", "CB-Timestamp": "{timestamp}"},
            written="base64",
            encoding="base64",
        ),
        exchange,
        {"SHOP_SECRET": base64.b64encode(b"binary \x00 key").decode()},
    ),
    "header": (
        Hmac(
            secret="SHOP_SECRET",
            key="SHOP_KEY",
            signs="{method}\n{host}\n{path}\n{query}\n{date}\n{body_hash_base64}",
            headers={"Authorization": "HMAC {key}:{signature}", "X-Date": "{date}"},
            algorithm="sha512",
            encoding="base64",
        ),
        header,
        SECRETS,
    ),
    "counting": (
        Hmac(
            secret="SHOP_SECRET",
            signs="{nonce}|{target}|{body_hash}",
            headers={"Nonce": "{nonce}", "Sign": "{signature}"},
            written="hex",
        ),
        counting,
        {"SHOP_SECRET": "00ff7f"},
    ),
}


@dataclass
class Shop:
    """An API that answers only what is signed, judged by the bytes that came."""

    check: Callable[[Heard], bool] = lambda heard: True
    refusals: int = 0
    serving: Any = None

    @property
    def app(self) -> Flask:
        app = Flask("shop")

        @app.route("/<path:path>", methods=["GET", "POST"])
        def items(path: str) -> Any:
            if not self.check(self.serving.requests[-1]):
                self.refusals += 1
                return {"message": "the signature is wrong"}, 403
            place = request.get_json() if request.method == "POST" else request.args
            at = int(place.get("after", "") or 0)
            return {"items": [record(at + 1)], "next": str(at + 1) if at < 3 else None}

        return app


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def served(shop: Shop) -> Iterator[Serving]:
    with serving(shop.app) as found:
        shop.serving = found
        yield found


GET = 'pagination=NextToken("next", param="after"), params={"q": "ü &+~", "a": 1}'
POST = 'pagination=NextToken("next", body="after"), method="POST", body={"q": "ü"}'


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [GET, POST], ids=["GET", "POST"])
def test_every_page_of_a_pull_is_signed_as_the_server_checks_it(
    shop: Shop, served: Serving, tmp_path: Path, kind: str, asked: str
) -> None:
    auth, shop.check, environment = KINDS[kind]
    project = Project(tmp_path)
    project.write(written(served.url, auth, asked))
    done = project.run("pull", "shop", "--log", "log", "-v", env=environment)
    assert (0, 4, 0) == (done.code, len(project.output().splitlines()), shop.refusals), done.said
    proofs = [value for one in served.requests for value in kept(one)]
    assert [] == traces(project, [environment["SHOP_SECRET"], *proofs], done)


def kept(heard: Heard) -> list[str]:
    """The signature of a request, wherever it is."""
    query = dict(parse_qsl(urlsplit(heard.target).query))
    places = [heard.headers.get("cb-sign"), heard.headers.get("sign"), query.get("signature")]
    return [value for value in (*places, heard.headers.get("authorization", "").rpartition(":")[2]) if value]


def written(url: str, auth: Auth, asked: str) -> str:
    """A connector with this paging and style."""
    text = connector(url, style="single", more=f"auth={auth!r}")
    return text.replace("pagination=SinglePage()", asked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_secret_is_refused_once_and_named(shop: Shop, served: Serving, tmp_path: Path, kind: str) -> None:
    auth, shop.check, environment = KINDS[kind]
    project = Project(tmp_path)
    project.write(written(served.url, auth, GET))
    done = project.run("pull", "shop", env={**environment, "SHOP_SECRET": "00aa"})
    assert (5, 1, 1) == (done.code, shop.refusals, len(served.requests))
    assert "check SHOP_SECRET" in done.said


def test_all_values_of_one_request_are_of_one_moment_and_the_nonce_rises_while_time_stands_still() -> None:
    places = {
        "Timestamp": "{timestamp}",
        "Ms": "{timestamp_ms}",
        "Iso": "{timestamp_iso}",
        "Day": "{date}",
        "Nonce": "{nonce}",
    }
    auth = Hmac(secret="SHOP_SECRET", signs="{nonce}", headers={**places, "Sign": "{signature}"})
    with scripted(GOOD, GOOD, GOOD) as server:
        asker = Asker(server.url, auth=auth, environment=SECRETS)
        for _ in range(2):
            asker.fetch()
        asker.time.seconds += 1.5
        asker.fetch()
        sent = [headers_of(server, number) for number in range(3)]
    epoch = int(BEGINNING.timestamp())
    expected = [
        (str(epoch), f"{epoch}000", "2026-01-31T12:00:00.000Z", "Sat, 31 Jan 2026 12:00:00 GMT", f"{epoch}000000"),
        (str(epoch), f"{epoch}000", "2026-01-31T12:00:00.000Z", "Sat, 31 Jan 2026 12:00:00 GMT", f"{epoch}000001"),
        (
            *(str(epoch + 1), f"{epoch + 1}500", "2026-01-31T12:00:01.500Z", "Sat, 31 Jan 2026 12:00:01 GMT"),
            f"{epoch + 1}500000",
        ),
    ]
    assert expected == [tuple(one[name.lower()] for name in places) for one in sent]
    assert [mac(row[-1].encode()).hex() for row in expected] == [one["sign"] for one in sent]


def test_an_attempt_that_is_repeated_is_signed_anew() -> None:
    auth = KINDS["counting"][0]
    with scripted(response(b"{}", "500 Oops"), GOOD) as server:
        asker = Asker(server.url, auth=auth, environment={"SHOP_SECRET": "00ff7f"})
        asker.fetch()
        first, second = (int(headers_of(server, number)["nonce"]) for number in (0, 1))
    assert first < second


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512", "md5"])
def test_each_algorithm_is_the_one_of_the_standard_library(algorithm: str) -> None:
    auth = Hmac(secret="SHOP_SECRET", signs="{{{method}}}", headers={"Sign": "{signature}"}, algorithm=algorithm)
    with scripted(GOOD) as server:
        Asker(server.url, auth=auth, environment=SECRETS).fetch()
        assert mac(b"{GET}", algorithm=algorithm).hex() == headers_of(server)["sign"]


def test_a_link_that_repeats_a_signature_is_kept_without_it_and_signed_anew() -> None:
    """And one that names a moment is left as it is, whenever that was."""
    auth = KINDS["trading"][0]
    epoch = int(BEGINNING.timestamp())
    link = f"/items?after=7&until={epoch}000&timestamp={epoch}000&signature="
    stream = Stream(name="items", path="/items", model=Item, records="items", pagination=NextLink("next"))

    def answer(talk: Any) -> None:
        signature = talk.hear().split(b"signature=")[1].split(b" ")[0].decode()
        talk.say(response(b'{"items": [{"id": 1}], "next": "%s%s"}' % (link.encode(), signature.encode())))

    with scripted(answer, response(b'{"items": [], "next": null}')) as server:
        asker = Asker(server.url, auth=auth, environment=SECRETS)
        first, _ = pages(stream, asker.client, Request(f"{server.url}/items"))
        assert Request(f"/items?after=7&until={epoch}000") == first.next
        query = server.targets[1].partition("?")[2].rpartition("&signature=")
        assert mac(query[0].encode()).hex() == query[2]


def test_the_latest_signatures_are_known_as_secrets_and_the_public_name_is_not() -> None:
    auth = KINDS["header"][0]
    with scripted(then=GOOD) as server:
        asker = Asker(server.url, auth=auth, environment=SECRETS)
        for _ in range(70):
            asker.fetch()
        signatures = [headers_of(server, number)["authorization"].rpartition(":")[2] for number in (3, 69)]
    known = asker.client.secrets()
    assert (SECRET in known, signatures[1] in known) == (True, True)
    assert "the-public-name" not in known
    assert len(known) <= 65


@pytest.mark.parametrize(
    ("written", "value"), [("hex", "0xff"), ("hex", "abc"), ("base64", "abcde"), ("base64", "a b="), ("base64", "ab-_")]
)
def test_a_secret_that_is_not_written_as_declared_is_named_by_its_variable(written: Any, value: str) -> None:
    auth = Hmac(secret="SHOP_SECRET", signs="{url}", headers={"Sign": "{signature}"}, written=written)
    with pytest.raises(CredentialsError, match=f"SHOP_SECRET is not written in {written}") as caught:
        Asker("http://127.0.0.1:1", auth=auth, environment={"SHOP_SECRET": value}).fetch()
    assert value not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "options",
    [
        {"signs": "{path}"},
        {"signs": "{path}", "headers": {"Sign": "{key}"}},
        {"signs": "{password}", "param": "sign"},
        {"signs": "{signature}", "param": "sign"},
        {"signs": "{path.__class__}", "param": "sign"},
        {"signs": "{path", "param": "sign"},
        {"signs": "{}", "param": "sign"},
        {"signs": "{0}", "param": "sign"},
        {"signs": "päth", "param": "sign"},
        {"signs": "{path}", "param": "sign", "params": {"x": "{signature}"}},
        {"signs": "{path}", "param": "sign", "algorithm": "crc32"},
        {"signs": "{path}", "param": "sign", "encoding": "base32"},
    ],
    ids=str,
)
def test_a_template_that_means_nothing_is_refused_where_it_is_declared(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Hmac(secret="SHOP_SECRET", **options)


# --- AWS Signature Version 4 ---

NAME, KEY, SESSION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYc4n4ryKEY", "session+c4n4ry/=="
AWS = {"AWS_ACCESS_KEY_ID": NAME, "AWS_SECRET_ACCESS_KEY": KEY}


def signed(service: str, region: str, method: str, url: str, headers: dict[str, str], body: bytes) -> str:
    """The signature that botocore makes for a request, over the headers that it was signed with.

    The query is given to it in pairs, so that it writes and sorts them itself.
    """
    shown = {name.lower(): value for name, value in headers.items()}
    names = shown["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    parts = urlsplit(url)
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    params = [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]
    bare = f"{parts.scheme}://{parts.netloc}{parts.path}"
    kept = {name: shown[name] for name in names if name != "host"}
    made = AWSRequest(method=method, url=bare, headers=kept, data=body, params=params)
    made.context["timestamp"] = shown["x-amz-date"]
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(NAME, KEY), service, region)
    return str(signer.signature(signer.string_to_sign(made, signer.canonical_request(made)), made))


def signature(headers: dict[str, str]) -> str:
    return headers["authorization"].rpartition("Signature=")[2]


PATHS = [
    "",
    "/",
    "/items",
    "/items/",
    "/a%20b",
    "/ü/é",
    "/a%2Fb",
    "/a//b",
    "/~ada/-_.",
    "/a+b",
    "/a*(b)!'",
    "/a:b@c;d=e,$",
]
QUERIES = [
    *("", "?", "?a", "?a=", "?b=2&a=1", "?a=2&a=1&a=10", "?A=1&a=2", "?x-y=1&x=2&xz=3", "?&&a=1&", "?a=b=c"),
    *("?a=~b&c=%7Ed", "?a=b+c", "?a=b%20c", "?a=b%2Bc", "?q=ü&r=%C3%BC", "?a=%2f/:@!$'()*;,", "?a=100%", "?%20=%26&=1"),
]


@pytest.mark.parametrize("service", ["execute-api", "s3"])
@pytest.mark.parametrize("path", PATHS)
def test_what_arrives_is_signed_as_botocore_would_sign_it(shop: Shop, service: str, path: str) -> None:
    """The server sees only bytes; it lets botocore sign them again."""
    heads: list[tuple[str, str]] = []

    def check(heard: Heard) -> bool:
        url = f"http://{heard.headers['host']}{heard.target}"
        expected = signed(service, "eu-central-1", heard.method, url, heard.headers, heard.body)
        heads.append((expected, signature(heard.headers)))
        return True

    app = Flask("aws")

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @app.route("/<path:path>", methods=["GET", "POST"])
    def items(path: str) -> Any:
        check(served.requests[-1])
        return {"items": []}

    app.url_map.merge_slashes = False
    auth = SigV4(service=service, region="eu-central-1")
    with serving(app) as served:
        asker = Asker(served.url, auth=auth, environment={**AWS, "AWS_SESSION_TOKEN": SESSION})
        for query in QUERIES:
            asker.fetch(Request(f"{served.url}{path}{query}"))
            meant = sorted(parse_qsl(query[1:], keep_blank_values=True))
            assert meant == parse_qsl(urlsplit(served.requests[-1].target).query, keep_blank_values=True)
            asker.fetch(Request(f"{served.url}{path}{query}", method="POST", body={"ü": 1}))
            asker.fetch(Request(f"{served.url}{path}{query}", params={"p q": "~ +ü", "a": [1, 2]}))
    assert 3 * len(QUERIES) == len(heads)
    assert [] == [pair for pair in heads if pair[0] != pair[1]]


NAMES = some.text(alphabet=some.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@given(some.lists(NAMES, max_size=4), some.lists(some.tuples(NAMES, NAMES), max_size=5), some.binary(max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_address_and_body_are_signed_as_botocore_would_sign_them(
    path: list[str], params: list[tuple[str, str]], body: bytes
) -> None:
    names = [name for name in path if name.strip("./\\") and not name.startswith(("?", "#", "/"))]
    asked = requests.Request("POST", "https://host:8443/" + "/".join(names), params=params, data=body)
    prepared = asked.prepare()
    clock = Time().clock
    signer = opened(SigV4(service="es", region="r"), Context(AWS, clock, "https://host", None))
    signer.sign(prepared)
    headers = {name.lower(): value for name, value in prepared.headers.items()}
    assert signed("es", "r", "POST", prepared.url or "", headers, body) == signature(headers)


def test_a_signature_says_what_aws_reads_in_it() -> None:
    with scripted(GOOD, GOOD) as server:
        auth = SigV4(service="execute-api", region="eu-central-1")
        for environment in (AWS, {**AWS, "AWS_SESSION_TOKEN": SESSION}):
            asker = Asker(server.url, auth=auth, environment=environment, headers={"X-Own": "a   b "})
            asker.fetch()
        plain, session = headers_of(server, 0), headers_of(server, 1)
    for one in (plain, session):
        url = f"{server.url}/items"
        assert signed("execute-api", "eu-central-1", "GET", url, one, b"") == signature(one)
    begin = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260131/eu-central-1/execute-api/aws4_request, SignedHeaders="
    assert plain["authorization"].startswith(f"{begin}host;x-amz-date;x-own, Signature=")
    assert session["authorization"].startswith(f"{begin}host;x-amz-date;x-amz-security-token;x-own, Signature=")
    assert ("20260131T120000Z", SESSION) == (plain["x-amz-date"], session["x-amz-security-token"])
    assert "x-amz-security-token" not in plain
    assert {KEY, SESSION, signature(session)} == set(asker.client.secrets())


def test_a_pull_of_aws_writes_down_neither_the_key_nor_a_signature(shop: Shop, served: Serving, tmp_path: Path) -> None:
    """AWS tells, of a request it refuses, everything that was signed, the session token too."""
    project = Project(tmp_path)
    project.write(written(served.url, SigV4(service="es", region="r"), GET))
    environment = {**AWS, "AWS_SESSION_TOKEN": SESSION}
    done = project.run("pull", "shop", "--log", "log", "-v", env=environment)
    assert (0, 4) == (done.code, len(project.output().splitlines()))
    shop.check = lambda heard: False
    refused = project.run("pull", "shop", "--log", "log", "--json", env=environment)
    assert (5, True) == (refused.code, "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in refused.said)
    signatures = [signature(one.headers) for one in served.requests]
    assert [] == traces(project, [KEY, SESSION, *signatures], done, refused)


def test_a_refused_signature_is_not_made_again() -> None:
    with scripted(response(b"{}", "403 Forbidden")) as server, pytest.raises(CredentialsError):
        Asker(server.url, auth=SigV4(service="es", region="r"), environment=AWS).fetch()
    assert (1, 0) == (len(server.requests), server.surplus)
