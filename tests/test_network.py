"""The user's own network: proxies on the way out, hosts without one, and authorities of one's own."""

from __future__ import annotations

import base64
import socket
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncer import Bearer, ClientCredentials, network
from syncer.errors import ConfigError, CredentialsError, ProtocolError, SyncerError, UnavailableError
from syncer.events import Retrying
from syncer.page import Request
from syncer.wire import Limits
from tests.proxy import Says, proxy
from tests.scripted import Answer, Server, response, scripted
from tests.secure import bundle, over_tls, server
from tests.test_client import GOOD, Asker, headers_of, status

NAME = "api.shop.example"
SECURE = server(NAME, "files.shop.example", "127.0.0.1")
KEY, USER, PASSWORD = "k3y-0f-th3-us3r", "someone", "pr0xy-p4ssw0rd"
USUAL = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*USUAL, "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", network.PROXY):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> dict[str, str]:
    """An environment that trusts the authority of the tests, and holds a secret for the API."""
    return {"API_TOKEN": KEY, "API_USER": USER, network.BUNDLE: bundle(tmp_path)}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name of the tests is this machine, for whoever looks it up."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        return ask("127.0.0.1" if host.endswith(".example") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def asked(api: Server, environment: Mapping[str, str], scheme: str = "https", **options: Any) -> Asker:
    """A client of an API that has a name."""
    base = f"{scheme}://{NAME}:{api.port}"
    return Asker(base, auth=Bearer("API_TOKEN"), environment=environment, **{"attempts": 1, **options})


@contextmanager
def asking(api: Server, environment: Mapping[str, str], scheme: str = "https", **options: Any) -> Iterator[Asker]:
    """The same, closed at the end: for servers that wait for that."""
    asker = asked(api, environment, scheme, **options)
    yield asker
    asker.client.close()


def secure(*answers: bytes) -> list[Answer]:
    return [over_tls(SECURE, answer) for answer in answers]


# --- which way ---


@pytest.mark.parametrize("name", [*USUAL, network.PROXY])
def test_an_https_api_is_asked_through_the_proxy_that_sees_nothing_of_it(name: str, authority: dict[str, str]) -> None:
    with proxy() as way, scripted(*secure(GOOD, GOOD)) as api, asking(api, {**authority, name: way.url()}) as asker:
        assert [{"id": 1}] == asker.fetch(Request(f"{asker.base}/items", params={"q": "s3arch"}))[1]
        assert [{"id": 1}] == asker.fetch()[1]
        assert [f"CONNECT {NAME}:{api.port} "] * 2 == [line.partition("HTTP/")[0] for line in way.lines]
        assert f"Bearer {KEY}" == headers_of(api)["authorization"]
    assert [] == [word for word in (KEY, "s3arch", "items") if word.encode() in b"".join(way.heads)]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", *USUAL])
def test_an_http_api_is_never_asked_through_the_usual_proxies(name: str, authority: dict[str, str]) -> None:
    """They would see the secret."""
    with proxy() as way, scripted(GOOD) as api, asking(api, {**authority, name: way.url()}, "http") as asker:
        asker.fetch()
        assert 1 == api.connections
    assert [] == way.heads


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_for_http_says_nothing_about_https(name: str, authority: dict[str, str]) -> None:
    with proxy() as way, scripted(*secure(GOOD)) as api, asking(api, {**authority, name: way.url()}) as asker:
        asker.fetch()
    assert [] == way.heads


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nothing_is_taken_from_the_process_itself_but_what_the_client_is_given(
    monkeypatch: pytest.MonkeyPatch, authority: dict[str, str], scheme: str
) -> None:
    answers = secure(GOOD) if scheme == "https" else [GOOD]
    with proxy() as way, scripted(*answers) as api:
        for name in (*USUAL, "http_proxy", network.PROXY):
            monkeypatch.setenv(name, way.url())
        with asking(api, authority, scheme) as asker:
            asker.fetch()
    assert [] == way.heads


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_syncers_own_counts_for_both_and_before_the_others(scheme: str, authority: dict[str, str]) -> None:
    answers = secure(GOOD) if scheme == "https" else [GOOD]
    with proxy() as way, proxy() as other, scripted(*answers) as api:
        environment = {**authority, network.PROXY: way.url(), "HTTPS_PROXY": other.url()}
        with asking(api, environment, scheme) as asker:
            asker.fetch(Request(f"{asker.base}/items", params={"page": 2}))
        line = f"GET http://{NAME}:{api.port}/items?page=2" if scheme == "http" else f"CONNECT {NAME}:{api.port}"
        assert line == way.lines[0].rpartition(" ")[0]
        assert f"{NAME}:{api.port}" == headers_of(api)["host"]
    assert [] == other.heads


HERE = ["127.0.0.1", "localhost", "LocalHost.", "x.localhost", "127.1", "2130706433", "0x7f.1", "[::1]"]


@pytest.mark.parametrize("host", [*HERE, "[::ffff:127.0.0.1]", "127.9.9.9", "017700000001"])
def test_this_machine_is_asked_without_a_proxy(host: str) -> None:
    way = dict.fromkeys((*USUAL, network.PROXY), "http://proxy.example:3128")
    assert [{}, {}] == [network.route((scheme, host, 80), way) for scheme in ("http", "https")]


@pytest.mark.parametrize(
    ("spared", "expected"),
    [
        ("", {"api.shop.example", "shop.example", "10.1.2.3", "[fd00::1]"}),
        ("*", set()),
        ("shop.example", {"10.1.2.3", "[fd00::1]"}),
        (".shop.example", {"10.1.2.3", "[fd00::1]"}),
        (" api.shop.example , x", {"shop.example", "10.1.2.3", "[fd00::1]"}),
        ("SHOP.EXAMPLE", {"10.1.2.3", "[fd00::1]"}),
        ("p.example", {"api.shop.example", "shop.example", "10.1.2.3", "[fd00::1]"}),
        ("shop.example:443", {"10.1.2.3", "[fd00::1]"}),
        ("shop.example:444", {"api.shop.example", "shop.example", "10.1.2.3", "[fd00::1]"}),
        ("10.1.2.3", {"api.shop.example", "shop.example", "[fd00::1]"}),
        ("10.0.0.0/8", {"api.shop.example", "shop.example", "[fd00::1]"}),
        ("fd00::/8", {"api.shop.example", "shop.example", "10.1.2.3"}),
        ("10.0.0.0/99,/,10.2.0.0/16", {"api.shop.example", "shop.example", "10.1.2.3", "[fd00::1]"}),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_hosts_that_are_spared_the_proxy(name: str, spared: str, expected: set[str]) -> None:
    way = {"HTTPS_PROXY": "http://proxy.example:3128", name: spared}
    hosts = ("api.shop.example", "shop.example", "10.1.2.3", "[fd00::1]")
    assert expected == {host for host in hosts if network.route(("https", host, 443), way)}


@pytest.mark.usefixtures("here")
def test_a_host_that_is_spared_is_asked_directly(authority: dict[str, str]) -> None:
    with proxy() as way, scripted(*secure(GOOD)) as api:
        environment = {**authority, "HTTPS_PROXY": way.url(), "NO_PROXY": "shop.example"}
        with asking(api, environment) as asker:
            asker.fetch()
    assert [] == way.heads


@pytest.mark.usefixtures("here")
def test_a_declared_host_has_a_way_of_its_own(authority: dict[str, str]) -> None:
    with proxy() as way, scripted(*secure(GOOD)) as files:
        place = f"https://files.shop.example:{files.port}"
        with scripted(*secure(status("302 Found", f"Location: {place}/a"))) as api:
            environment = {**authority, "HTTPS_PROXY": way.url(), "NO_PROXY": NAME}
            with asking(api, environment, hosts=(place,)) as asker:
                assert [{"id": 1}] == asker.fetch()[1]
        assert "authorization" not in headers_of(files)
    assert [f"CONNECT files.shop.example:{files.port} "] == [line.partition("HTTP/")[0] for line in way.lines]


def test_tokens_are_asked_for_through_the_proxy_too(authority: dict[str, str]) -> None:
    token = response(b'{"access_token": "t0k3n-fr0m-th3r3", "expires_in": 3600}')
    with proxy() as way, scripted(*secure(token, GOOD)) as api:
        base = f"https://{NAME}:{api.port}"
        auth = ClientCredentials(token_url=f"{base}/token", client_id="API_USER", client_secret="API_TOKEN")
        asker = Asker(base, auth=auth, environment={**authority, "HTTPS_PROXY": way.url(f"{USER}:{PASSWORD}")})
        assert [{"id": 1}] == asker.fetch()[1]
        asker.client.close()
        assert ["/token", "/items"] == api.targets
        assert "Bearer t0k3n-fr0m-th3r3" == headers_of(api, 1)["authorization"]
        assert PASSWORD.encode() not in b"".join(api.requests)
    assert 2 == len(way.heads)


def test_a_proxy_that_is_itself_asked_over_tls_passes_tls_on(authority: dict[str, str]) -> None:
    with proxy(tls=server()) as way, scripted(*secure(GOOD, GOOD[:-4], GOOD)) as api:
        environment = {**authority, "HTTPS_PROXY": way.url(f"{USER}:{PASSWORD}", "https")}
        with asking(api, environment, attempts=3) as asker:
            assert [[{"id": 1}]] * 2 == [asker.fetch()[1] for _ in range(2)]
            assert 1 == len(asker.watcher.of(Retrying))
        assert PASSWORD.encode() not in b"".join(api.requests)
    assert 3 == len(way.heads)


# --- who asks the proxy ---

ODD = "pä ss:w€rd/@?#%"
"""A password that can be written into a URL in one way only."""
CODED = "p%C3%A4%20ss%3Aw%E2%82%ACrd%2F%40%3F%23%25"
CREDENTIALS = [
    (f"{USER}:{PASSWORD}", f"{USER}:{PASSWORD}"),
    (f"{USER}:{CODED}", f"{USER}:{ODD}"),
    ("s%40me:x", "s@me:x"),
    ("a-token-alone", "a-token-alone:"),
    (f"{USER}:", f"{USER}:"),
    (f"{USER}:a:b", f"{USER}:a:b"),
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("written", "meant"), CREDENTIALS, ids=range(len(CREDENTIALS)))
def test_a_proxy_is_told_who_asks_and_the_api_is_not(
    scheme: str, written: str, meant: str, authority: dict[str, str]
) -> None:
    answers = secure(GOOD) if scheme == "https" else [GOOD]
    with proxy(user=meant) as way, scripted(*answers) as api:
        with asking(api, {**authority, network.PROXY: way.url(written)}, scheme) as asker:
            assert [{"id": 1}] == asker.fetch()[1]
        coded = base64.b64encode(meant.encode())
        assert b"Proxy-Authorization: Basic " + coded in way.heads[0]
        assert "proxy-authorization" not in headers_of(api)
        assert coded not in b"".join(api.requests)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("written", ["", f"{USER}:wr0ng-p4ss", "somebody-else"])
def test_a_proxy_that_wants_other_credentials_says_so_and_is_not_asked_again(
    scheme: str, written: str, authority: dict[str, str]
) -> None:
    with proxy(user=f"{USER}:{PASSWORD}") as way, scripted(then=GOOD) as api:
        asker = asked(api, {**authority, network.PROXY: way.url(written)}, scheme, attempts=3)
        with pytest.raises(CredentialsError, match="the proxy wants other credentials") as caught:
            asker.fetch()
        assert (5, 0, 1) == (caught.value.exit_code, api.connections, len(way.heads))
    assert "HTTPS_PROXY" in caught.value.hint
    assert "API_TOKEN" not in caught.value.hint


def test_the_credentials_of_a_proxy_are_secrets() -> None:
    pair = base64.b64encode(f"{USER}:{ODD}".encode()).decode()
    assert [CODED, ODD, pair] == network.secrets({"HTTPS_PROXY": f"http://{USER}:{CODED}@proxy.example:3128"})
    assert ["t0k3n", "dDBrM246"] == network.secrets({network.PROXY: "t0k3n@proxy.example"})
    assert [] == network.secrets({"HTTPS_PROXY": "http://proxy.example:3128", "http_proxy": "http://a:b@c"})
    both = {network.PROXY: f"http://{USER}:one-of@p", "all_proxy": f"http://{USER}:two-of@q"}
    assert {"one-of", "two-of"} < set(network.secrets(both))


@pytest.mark.parametrize(
    "url", ["http://u:s3cr3t-s@[::1", "http://u:s3cr3t-s@p:port", "u:s3cr3t-s@", "http://[u:s3cr3t-s@p"]
)
def test_they_are_so_too_where_nothing_else_of_the_url_can_be_read(url: str) -> None:
    assert "s3cr3t-s" in network.secrets({"HTTPS_PROXY": url})


# --- a proxy that is none, or fails ---


@pytest.mark.parametrize(
    "url",
    [
        "socks5://u:s3cr3t-s@127.0.0.1:1080",
        "ftp://u:s3cr3t-s@proxy.example",
        "http://u:s3cr3t-s@",
        "http://u:s3cr3t-s@proxy.example:port",
        "http://u:s3cr3t-s@proxy.example:99999",
        "http://u:s3cr3t-s@[::1",
        "http://u:s3cr3t-s/x@proxy.example",
        "http://u:s3cr3t-s@proxy.example\x01",
        "http://u:s3cr3t-s\t@proxy.example",
        "://u:s3cr3t-s",
    ],
)
def test_a_proxy_that_cannot_be_one_is_named_by_its_variable_only(url: str, authority: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="ALL_PROXY is not the URL of an http proxy") as caught:
        Asker(f"https://{NAME}", environment={**authority, "ALL_PROXY": url})
    assert "s3cr3t-s" not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert network.PROXY in caught.value.hint
    Asker(f"http://{NAME}", environment={**authority, "ALL_PROXY": url}).client.secrets()  # and harms nobody else


HTML = b"<html><title>Log in to the Wi-Fi</title></html>"
FAILURES: list[tuple[str, Says, type[SyncerError], str]] = [
    ("502", response(HTML, "502 Bad Gateway", "Content-Type: text/html"), UnavailableError, "the proxy answered 502"),
    ("403", response(HTML, "403 Forbidden", "Content-Type: text/html"), UnavailableError, "the proxy answered 403"),
    ("302", response(b"", "302 Found", "Location: http://evil.example/"), UnavailableError, "the proxy answered 302"),
    ("200 and a page", response(HTML, "200 OK", "Content-Type: text/html"), UnavailableError, "before it was safe"),
    ("a page without a head", HTML, UnavailableError, "the proxy opened no tunnel"),
    ("nothing", b"", UnavailableError, "the proxy opened no tunnel"),
    ("half a line", b"HTTP/1.1 20", UnavailableError, "the proxy opened no tunnel"),
    ("half a head", b"HTTP/1.1 200 OK\r\nX-A", UnavailableError, ""),
    ("a head without end", b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 99_999, UnavailableError, ""),
]


@pytest.mark.parametrize(("says", "kind", "words"), [one[1:] for one in FAILURES], ids=[one[0] for one in FAILURES])
def test_a_proxy_that_opens_no_tunnel_is_what_is_blamed(
    says: Says, kind: type[SyncerError], words: str, authority: dict[str, str]
) -> None:
    with proxy(says=says) as way, scripted(then=GOOD) as api:
        asker = asked(api, {**authority, "HTTPS_PROXY": way.url(f"{USER}:{PASSWORD}")})
        with pytest.raises(kind) as caught:
            asker.fetch()
        assert 0 == api.connections
    assert kind is type(caught.value)
    assert words in str(caught.value)
    assert [] == [w for w in (KEY, PASSWORD, "Wi-Fi") if w in "".join(traceback.format_exception(caught.value))]
    assert KEY.encode() not in b"".join(way.heads)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("opening", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nX: "])
@pytest.mark.parametrize("drips", [True, False], ids=["drips", "is silent"])
def test_a_proxy_that_takes_its_time_is_beaten_by_the_deadline(
    opening: bytes, drips: bool, authority: dict[str, str]
) -> None:
    over = threading.Event()

    def slow(connection: socket.socket) -> None:
        connection.sendall(opening)
        while not over.wait(0.05):
            if drips:
                connection.sendall(b"1")

    limits = Limits(connect=5.0, read=5.0, whole=0.6) if drips else Limits(connect=5.0, read=0.4, whole=60.0)
    with proxy(says=slow) as way, scripted(then=GOOD) as api:
        asker = asked(api, {**authority, "HTTPS_PROXY": way.url()}, limits=limits)
        with pytest.raises(UnavailableError, match="the proxy did not answer in time"):
            asker.fetch()
        over.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_said_to_be_it(scheme: str, authority: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with scripted(then=GOOD) as api:
        for url, words in ((f"http://127.0.0.1:{port}", "refused"), ("http://no-such.invalid:3128", "resolved")):
            asker = asked(api, {**authority, network.PROXY: url}, scheme)
            with pytest.raises(UnavailableError, match=f"the proxy: .*{words}"):
                asker.fetch()


def test_a_proxy_whose_certificate_proves_nothing_is_told_nothing(authority: dict[str, str]) -> None:
    with proxy(tls=server("proxy.shop.example")) as way, scripted(then=GOOD) as api:
        environment = {**authority, "HTTPS_PROXY": way.url(f"{USER}:{PASSWORD}", "https")}
        with asking(api, environment) as asker, pytest.raises(SyncerError, match="is for another host"):
            asker.fetch()
    assert [] == way.heads


@pytest.mark.parametrize(
    ("says", "kind", "words"),
    [
        (response(HTML, "502 Bad Gateway", "Content-Type: text/html"), UnavailableError, "502"),
        (response(HTML, "200 OK", "Content-Type: text/html"), ProtocolError, "text/html"),
        (response(b"", "302 Found", "Location: http://portal.example/login"), ProtocolError, "another server"),
        (GOOD[:-3], UnavailableError, "cut short"),
    ],
    ids=["502", "a page for people", "a portal", "cut"],
)
def test_a_proxy_for_http_that_answers_itself_gives_no_data(
    says: bytes, kind: type[SyncerError], words: str, authority: dict[str, str]
) -> None:
    with proxy(says=says) as way, scripted(then=GOOD) as api:
        asker = asked(api, {**authority, network.PROXY: way.url(f"{USER}:{PASSWORD}")}, "http")
        with pytest.raises(kind, match=words) as caught:
            asker.fetch()
    assert PASSWORD not in f"{caught.value}{caught.value.hint}{caught.value.evidence!r}"


def test_an_answer_that_is_cut_on_its_way_through_a_tunnel_is_asked_for_again(authority: dict[str, str]) -> None:
    with proxy() as way, scripted(*secure(GOOD[:40], GOOD[:-1], GOOD)) as api:
        asker = asked(api, {**authority, "HTTPS_PROXY": way.url()}, attempts=3)
        assert [{"id": 1}] == asker.fetch()[1]
        assert 2 == len(asker.watcher.of(Retrying))


# --- authorities ---


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"", "holds no"), (b"not a certificate", "holds no"), (b"\xff\xfe\0", "holds no")],
)
def test_a_file_of_authorities_that_is_none_is_said_before_anything_is_asked(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "mine.pem"
    if content is not None:
        file.write_bytes(content)
    with scripted(then=GOOD) as api:
        with pytest.raises(ConfigError, match=words) as caught:
            Asker(f"https://127.0.0.1:{api.port}", environment={network.BUNDLE: str(file)})
        assert 0 == api.connections
    assert network.BUNDLE in str(caught.value)


def test_a_file_of_authorities_may_be_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert bundle(tmp_path) == network.bundle({network.BUNDLE: " ~/authority.pem "})
    assert network.bundle({}) is True
    assert network.bundle({network.BUNDLE: "  "}) is True


def test_a_directory_is_no_file_of_authorities(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=network.BUNDLE):
        network.bundle({network.BUNDLE: str(tmp_path)})
