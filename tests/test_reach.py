"""Where requests may go: the API's own origin with credentials, a declared host without, and nowhere else."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from syncer import ApiKey, ApiKeys, Basic, Bearer, ClientCertificate, Connector, Cookie, Hmac, Login, NextLink, Stream
from syncer.auth import Auth
from syncer.errors import ConfigError, CredentialsError, ProtocolError
from syncer.events import Requested
from syncer.fetch import pages
from syncer.page import Request
from syncer.reach import Reach
from tests.api import Api, Asked, Reply, connector, record
from tests.command import Project
from tests.scripted import Server, Talk, response, scripted
from tests.secure import AUTHORITY, HOST, bundle, over_tls, server
from tests.test_client import CANARY, GOOD, LIST, Asker, Item, headers_of, status, told

ENVIRONMENT = {"API_TOKEN": CANARY, "API_USER": "somebody"}
LINKED = Stream(name="items", path="/items", model=Item, records="items", pagination=NextLink("next"))
DECLARED = {"X-Tenant": "of-ours", "X-Api-Key": "written-into-the-connector", "Accept-Language": "de"}
LOGIN = Login(url="/login", fields={"user": "API_USER", "password": "API_TOKEN"}, token=Cookie("sid"))
AUTHS: dict[str, Auth] = {
    "bearer": Bearer("API_TOKEN"),
    "another header": ApiKey("API_TOKEN", header="X-Key"),
    "parameter": ApiKey("API_TOKEN", param="api_key"),
    "several": ApiKeys(headers={"DD-KEY": "API_TOKEN"}, params={"app": "API_TOKEN"}),
    "basic": Basic("API_USER", "API_TOKEN"),
    "login": LOGIN,
    "hmac": Hmac(secret="API_TOKEN", key="API_USER", signs="{method}{target}", headers={"X-Sign": "{signature}"}),
}
ANYBODYS = {"host", "accept", "accept-encoding", "accept-language", "user-agent"}


def moved(place: str, code: int = 302) -> bytes:
    return status(f"{code} Moved", f"Location: {place}")


def logged_in(*answers: bytes) -> tuple[bytes, ...]:
    return (response(b"{}", "200 OK", "Set-Cookie: sid=s3ss10n-c4n4ry; HttpOnly"), *answers)


def whole(heard: Server) -> bytes:
    """Everything a server was sent."""
    return b"".join(heard.requests)


def traces(heard: Server) -> list[bytes]:
    """What of our own a server was sent."""
    pair = base64.b64encode(f"somebody:{CANARY}".encode())
    needles = [
        CANARY.encode(),
        pair,
        b"s3ss10n-c4n4ry",
        b"somebody",
        b"X-Sign",
        *(v.encode() for v in DECLARED.values()),
    ]
    return [needle for needle in needles if needle in whole(heard) and needle != b"de"]


@pytest.mark.parametrize("auth", AUTHS)
def test_a_redirect_to_a_declared_host_is_followed_and_shows_it_nothing(auth: str) -> None:
    with scripted(GOOD) as files:
        answers = (moved(f"{files.url}/a/1?sig=of+theirs"),)
        with scripted(*(logged_in(*answers) if auth == "login" else answers)) as api:
            asker = Asker(
                api.url, auth=AUTHS[auth], environment=ENVIRONMENT, headers=DECLARED, hosts=(files.url,), attempts=1
            )
            first = Request(f"{api.url}/items", headers={"X-Page": CANARY[:5], "Prefer": "odata"})
            assert [{"id": 1}] == asker.fetch(first)[1]
            asker.client.close()
        assert [] != traces(api)
    assert ["/a/1?sig=of+theirs"] == files.targets
    assert [] == traces(files)
    assert ANYBODYS | {"prefer"} == set(headers_of(files))
    assert "de" == headers_of(files)["accept-language"]


@pytest.mark.parametrize("auth", AUTHS)
def test_a_next_page_on_a_declared_host_is_read_without_credentials_and_the_one_after_it_with_them(auth: str) -> None:
    def page(number: int, following: str | None) -> bytes:
        return response(json.dumps({"items": [{"id": number}], "next": following}).encode())

    ours: list[str] = []

    def second(talk: Talk) -> None:
        talk.hear()
        talk.say(page(2, f"{ours[0]}/items?page=3"))
        talk.end()

    with scripted(second) as files:
        answers = (page(1, f"{files.url}/items?page=2"), page(3, None))
        with scripted(*(logged_in(*answers) if auth == "login" else answers)) as api:
            ours.append(api.url)
            asker = Asker(api.url, auth=AUTHS[auth], environment=ENVIRONMENT, headers=DECLARED, hosts=(files.url,))
            found = list(pages(LINKED, asker.client, Request(f"{api.url}/items")))
            asker.client.close()
    assert [1, 2, 3] == [page.records[0]["id"] for page in found]
    assert Request(f"{files.url}/items?page=2") == found[0].next
    assert Request("/items?page=3") == found[1].next
    assert [] == traces(files)
    first, last = (headers_of(api, number) for number in (-2, -1))
    credentials = {"authorization", "x-key", "dd-key", "cookie", "x-sign"}
    assert credentials & set(first) == credentials & set(last)
    assert ("parameter" == auth) == (f"api_key={CANARY}" in api.targets[-1])


@pytest.mark.parametrize(
    "place", ["http://localhost:{port}/", "http://127.0.0.1:{other}/", "https://127.0.0.1:{port}/"]
)
def test_a_host_that_is_declared_opens_the_way_to_itself_only(place: str) -> None:
    with scripted(then=GOOD) as files, scripted(then=GOOD) as stranger:
        target = place.format(port=files.port, other=stranger.port)
        with scripted(moved(target)) as api, pytest.raises(ProtocolError, match="another server") as caught:
            Asker(api.url, hosts=(files.url,)).fetch()
        assert (0, 0) == (files.connections, stranger.connections)
    assert "hosts=" in caught.value.hint


def test_a_declared_host_that_redirects_to_a_stranger_is_not_followed() -> None:
    with scripted(then=GOOD) as stranger, scripted(moved(f"{stranger.url}/")) as files:
        with scripted(moved(f"{files.url}/")) as api, pytest.raises(ProtocolError, match="another server"):
            Asker(api.url, hosts=(files.url,)).fetch()
        assert (1, 0) == (files.connections, stranger.connections)


def test_a_declared_host_may_send_back_to_the_api_which_is_shown_the_credentials_again() -> None:
    ours: list[str] = []

    def back(talk: Talk) -> None:
        talk.hear()
        talk.say(moved(f"{ours[0]}/done"))
        talk.end()

    with scripted(back) as files, scripted(moved(f"{files.url}/"), GOOD) as api:
        ours.append(api.url)
        Asker(api.url, auth=AUTHS["bearer"], hosts=(files.url,)).fetch()
    assert [f"Bearer {CANARY}"] * 2 == [headers_of(api, number)["authorization"] for number in (0, 1)]
    assert [] == traces(files)


def test_the_body_of_a_request_moves_with_it_and_its_type() -> None:
    with scripted(GOOD) as files, scripted(moved(f"{files.url}/", 307)) as api:
        asker = Asker(api.url, auth=AUTHS["bearer"], hosts=(files.url,))
        asker.fetch(Request(f"{api.url}/items", "POST", body={"size": 4}))
    assert b'{"size":4}' == files.requests[0].partition(b"\r\n\r\n")[2]
    assert "application/json" == headers_of(files)["content-type"]
    assert [] == traces(files)


# --- secrets in addresses ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"?page=2&api_key={CANARY}", "?page=2"),
        (f"?x={CANARY}&page=2", "?page=2"),
        (f"?x=%63{CANARY[1:]}&page=2", "?page=2"),
        ("?api_key=theirs&page=2", "?api_key=theirs&page=2"),
        ("?token=a%2Bb%3D%3D&page=2", "?token=a%2Bb%3D%3D&page=2"),
    ],
)
def test_a_declared_host_is_not_told_our_key_but_keeps_its_own(query: str, expected: str) -> None:
    with scripted(GOOD) as files, scripted(moved(f"{files.url}/a{query}")) as api:
        Asker(api.url, auth=AUTHS["parameter"], hosts=(files.url,)).fetch()
    assert [f"/a{expected}"] == files.targets


@pytest.mark.parametrize("place", [f"/{CANARY}/a", f"/a?y=key:{CANARY}", f"/a;{CANARY}", f"/a#{CANARY}"])
@pytest.mark.parametrize("by", ["redirect", "next"])
def test_an_address_on_a_declared_host_that_holds_our_key_is_not_followed(place: str, by: str) -> None:
    with scripted(then=GOOD) as files:
        link = files.url + place
        body = json.dumps({"items": [{"id": 1}], "next": link}).encode()
        with scripted(moved(link) if by == "redirect" else response(body)) as api:
            asker = Asker(api.url, auth=AUTHS["parameter"], hosts=(files.url,), attempts=1)
            said = told(pages(LINKED, asker.client, Request(f"{api.url}/items")))
        assert CANARY not in said
        assert CANARY.encode() not in whole(files)
        assert CANARY not in repr(asker.watcher.events)


def test_a_fragment_is_not_kept_and_neither_is_what_was_set_beside_it_lost() -> None:
    reach = Asker("http://api.shop.example", auth=AUTHS["parameter"], environment=ENVIRONMENT).client
    came = Request("http://api.shop.example/items?a=1&api_key=x#part", params={"page": 2})
    assert Request("http://api.shop.example/items?a=1", params={"page": 2}) == reach.clean(came)
    assert Request("http://api.shop.example/items") == reach.clean(Request("http://api.shop.example/items#part"))


def test_evidence_that_is_full_of_secrets_ends_with_none_of_them_cut_in_half() -> None:
    secret = "0123456789abcdef"
    for size in range(600, 640):
        kept = Reach("http://h.example", (), (), lambda: [secret]).evidence((secret * 200).encode(), size)
        assert b"" == kept.replace(b"***", b"").replace(b"**", b"").replace(b"*", b"")
        assert kept
    assert b"short" == Reach("http://h.example", (), (), lambda: [secret]).evidence(b"short", 100)


def test_an_address_that_the_api_redirects_to_is_told_to_nobody_with_its_query() -> None:
    """Such addresses are often signed, and good for whoever has them."""
    with scripted(GOOD) as files, scripted(moved("/mine?sig=s1gned"), moved(f"{files.url}/a?sig=s1gned")) as api:
        asker = Asker(api.url, hosts=(files.url,))
        asker.fetch(Request(f"{api.url}/items", params={"page": 2}))
    urls = [event.url for event in asker.watcher.of(Requested)]
    assert [f"{api.url}/items?page=2", f"{api.url}/mine", f"{files.url}/a"] == urls
    assert ["/items?page=2", "/mine?sig=s1gned", "/a?sig=s1gned"] == api.targets + files.targets


def test_a_secret_in_the_path_of_a_redirect_is_told_to_nobody() -> None:
    with scripted(moved(f"/t/{CANARY}/items"), GOOD) as api:
        asker = Asker(api.url, auth=AUTHS["bearer"])
        asker.fetch()
    assert f"/t/{CANARY}/items" == api.targets[1]
    assert CANARY not in repr(asker.watcher.events)


def test_bytes_that_a_location_should_have_encoded_are_encoded() -> None:
    raw = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: /caf\xc3\xa9?q=\xff%20\r\n\r\n"
    with scripted(raw, GOOD) as api:
        Asker(api.url).fetch()
    assert ["/items", "/caf%C3%A9?q=%FF%20"] == api.targets


# --- what a declared host answers ---


@pytest.mark.parametrize("line", ["401 Unauthorized", "403 Forbidden"])
def test_a_declared_host_that_refuses_makes_nobody_look_for_other_credentials(line: str) -> None:
    with scripted(status(line)) as files, scripted(*logged_in(moved(f"{files.url}/"))) as api:
        asker = Asker(api.url, auth=LOGIN, environment=ENVIRONMENT, hosts=(files.url,))
        with pytest.raises(CredentialsError, match=f"{HOST} answered {line[:3]}") as caught:
            asker.fetch()
        assert 2 == api.connections  # one login
    assert "API_TOKEN" not in caught.value.hint


# --- TLS ---


def secured(directory: Path, **more: str) -> Mapping[str, str]:
    return {**ENVIRONMENT, "SYNCER_CA_BUNDLE": bundle(directory), **more}


def test_nobody_is_led_from_https_to_http_not_even_to_a_declared_host(tmp_path: Path) -> None:
    context = server()
    with scripted(then=GOOD) as files, scripted(over_tls(context, moved(f"{files.url}/"))) as api:
        asker = Asker(f"https://{HOST}:{api.port}", environment=secured(tmp_path), hosts=(files.url,))
        with pytest.raises(ProtocolError, match="another server"):
            asker.fetch()
        with pytest.raises(ProtocolError, match="another server"):
            asker.fetch(Request(f"{files.url}/items"))
        asker.client.close()
        assert 0 == files.connections


@pytest.mark.parametrize("back", [True, False], ids=["to the API", "to a third"])
def test_a_declared_host_cannot_lead_from_https_to_http_either(tmp_path: Path, back: bool) -> None:
    ours: list[str] = []

    def away(talk: Talk) -> None:
        talk.hear()
        talk.say(moved(f"{ours[0]}/"))

    with scripted(then=GOOD) as third, scripted(over_tls(server(), away)) as files:
        secure = f"https://{HOST}:{files.port}"
        with scripted(moved(f"{secure}/"), then=GOOD) as api:
            ours.append(api.url if back else third.url)
            asker = Asker(api.url, environment=secured(tmp_path), hosts=(secure, third.url))
            with pytest.raises(ProtocolError, match="from https to http"):
                asker.fetch()
            asker.client.close()
            assert (1, 0) == (api.connections, third.connections)


def test_the_clients_certificate_is_shown_to_the_api_and_not_to_a_declared_host(tmp_path: Path) -> None:
    ours = AUTHORITY.issue_cert("client@shop.example")
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "own.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "own.key"))
    names = {"API_CERT": str(tmp_path / "own.pem"), "API_KEY": str(tmp_path / "own.key")}
    shown: list[Any] = []

    def curious(answer: bytes) -> Callable[[Talk], None]:
        context = server()
        context.verify_mode = ssl.CERT_OPTIONAL
        AUTHORITY.configure_trust(context)

        def serve(talk: Talk) -> None:
            talk.hear()
            shown.append(talk.connection.getpeercert())  # type: ignore[attr-defined]
            talk.say(answer)

        return over_tls(context, serve)

    with scripted(curious(GOOD)) as files:
        secure = f"https://{HOST}:{files.port}"
        with scripted(curious(moved(f"{secure}/"))) as api:
            auth = ClientCertificate(certificate="API_CERT", key="API_KEY")
            asker = Asker(
                f"https://{HOST}:{api.port}", auth=auth, environment=secured(tmp_path, **names), hosts=(secure,)
            )
            assert [{"id": 1}] == asker.fetch()[1]
            asker.client.close()
    assert [True, False] == [bool(certificate) for certificate in shown]


# --- declarations ---


def declared(base: str, *hosts: Any) -> Connector:
    return Connector(name="shop", base_url=base, streams=(LIST,), hosts=tuple(hosts))


@pytest.mark.parametrize(
    "host",
    [
        "files.shop.example",
        "//files.shop.example",
        "https://files.shop.example/",
        "https://files.shop.example/path",
        "https://files.shop.example?x",
        "https://files.shop.example#x",
        "https://user@files.shop.example",
        "https://user:password@files.shop.example",
        "https://files.shop.example:0x50",
        "https://files.shop.example:123456",
        "https://*.shop.example",
        "https://",
        "ftp://files.shop.example",
        "https://files shop.example",
        "https://files.shop.example\n",
        "http://files.shop.example",
        "",
    ],
)
def test_what_is_no_origin_or_leads_away_from_tls_cannot_be_declared(host: str) -> None:
    with pytest.raises(ConfigError, match="in hosts"):
        declared("https://api.shop.example", host)


def test_hosts_need_their_comma() -> None:
    with pytest.raises(ConfigError, match="tuple"):
        Connector(name="shop", base_url="https://h.example", streams=(LIST,), hosts="https://files.shop.example")  # type: ignore[arg-type]


def test_origins_can_be_declared() -> None:
    hosts = ("https://files.shop.example", "https://FILES2.shop.example:8443")
    assert hosts == declared("https://api.shop.example", *hosts).hosts
    assert ("http://files.shop.example",) == declared("http://api.shop.example", "http://files.shop.example").hosts


# --- the whole command ---


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_a_pull_that_stops_on_a_declared_host_goes_on_there_and_only_while_it_is_declared(
    tmp_path: Path, sink: str
) -> None:
    project = Project(tmp_path)
    records = [record(number) for number in range(1, 13)]
    auth = 'auth=Bearer(env="SHOP_TOKEN")'
    with Api(records, style="next") as files, Api(records, style="next") as api:

        def elsewhere(asked: Asked) -> Reply:
            body = api.page(asked)[0]
            return Reply(body={**body, "next": body["next"] and body["next"].replace(api.url, files.url)})

        api.misbehave = elsewhere
        options = ("--sink", sink)
        with_host = connector(api.url, style="next", more=f'{auth}, hosts=("{files.url}",)')
        project.write(with_host)
        stopped = project.run("pull", "shop", "--max-pages", "2", *options, env={"SHOP_TOKEN": CANARY})
        assert (0, 1, 1) == (stopped.code, len(api.seen), len(files.seen))
        project.write(connector(api.url, style="next", more=auth))
        refused = project.run("pull", "shop", *options, env={"SHOP_TOKEN": CANARY})
        assert (9, 1, 1) == (refused.code, len(api.seen), len(files.seen))
        assert "on another server" in refused.stderr + refused.stdout
        project.write(with_host)
        done = project.run("pull", "shop", "--json", *options, env={"SHOP_TOKEN": CANARY})
    assert (0, 12) == (done.code, done.json()["streams"][0]["stored"]["written"])
    assert (1, 3) == (len(api.seen), len(files.seen))  # one page is looked at again: its cursor counts from the start
    assert [None] * 3 == [asked.headers.get("authorization") for asked in files.seen]
    assert f"Bearer {CANARY}" == api.seen[0].headers["authorization"]
