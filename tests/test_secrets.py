"""A secret goes to the API it belongs to and nowhere else: not to the disk, not to a screen, not to another server.

The first half looks for canaries in everything that a pull leaves behind, while the server repeats them wherever it
can. The second half hands out links to a second server and listens there.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from syncer import Bearer
from syncer.client import Client
from syncer.clock import Clock
from syncer.errors import ProtocolError
from syncer.pacer import Pacer
from syncer.page import Request
from tests.api import Api, Asked, Reply, connector, record
from tests.command import Done, Project

TOKEN, PASSWORD = "cAnAry/7f3+9=%2e&z", "pAsswOrd:c4n4ry/0"
"""Secrets that look different in a URL, in JSON and in base64."""
USER = "octocat"
"""No secret beside a password: an API filters by it."""
ENVIRONMENT = {"SHOP_TOKEN": TOKEN, "SHOP_PASSWORD": PASSWORD, "SHOP_USER": USER}
AUTH = {
    "bearer": 'Bearer(env="SHOP_TOKEN")',
    "header": 'ApiKey(env="SHOP_TOKEN", header="X-Key")',
    "query": 'ApiKey(env="SHOP_TOKEN", param="api_key")',
    "basic": 'Basic("SHOP_USER", "SHOP_PASSWORD")',
}


def forms(secret: str) -> set[str]:
    """The ways in which a server may write a secret down."""
    escaped = json.dumps(secret)[1:-1]
    return {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), escaped, escaped.replace("/", "\\/")}


PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
NEEDLES = [needle.encode() for needle in (*forms(TOKEN), *forms(PASSWORD), PAIR, quote(PAIR, safe=""))]


def carried(asked: Asked) -> list[str]:
    """The secrets that came with a request."""
    coded = asked.headers.get("authorization", "")
    if coded.startswith("Basic "):
        return [PASSWORD, PAIR] if coded == f"Basic {PAIR}" else []
    places = (coded.removeprefix("Bearer "), asked.headers.get("x-key"), asked.query.get("api_key"))
    return [TOKEN] if TOKEN in places else []


def found(project: Project, *said: Done) -> dict[str, list[bytes]]:
    """Every place that holds a secret, with the forms it has there."""
    contents = {str(path.relative_to(project.path)): path for path in project.data.rglob("*") if path.is_file()}
    places = {name: path.read_bytes() for name, path in contents.items()}
    places |= {f"stdout {number}": done.stdout.encode() for number, done in enumerate(said)}
    places |= {f"stderr {number}": done.stderr.encode() for number, done in enumerate(said)}
    hits = {name: [needle for needle in NEEDLES if needle in content] for name, content in places.items()}
    return {name: needles for name, needles in hits.items() if needles}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def parrot(api: Api, asked: Asked) -> Reply | None:
    """An API that repeats credentials in its links, its redirects and its errors. Only its records are free of them."""
    said = " ".join(form for secret in carried(asked) for form in sorted(forms(secret))) + asked.line
    codes = [quote(secret, safe="") for secret in carried(asked)]
    stream = asked.path[1:]
    if stream in ("whole", "within") and "at" not in asked.query:
        whole = "&".join(f"api_key={code}&API_KEY={code}&t={code}" for code in codes)
        within = "&".join(f"auth=Bearer%20{code}&back=http%3A%2F%2Fh%2F%3Fapi_key%3D{code}" for code in codes)
        link = f"{api.url}{asked.path}?at=4&{whole if stream == 'whole' else within}"
        return Reply(body={**api.page(asked)[0], "next": link})
    if stream == "moved" and "step" not in asked.query:
        return Reply(302, {"Location": "?step=1&" + "&".join(f"api_key={code}&t={code}" for code in codes)})
    if stream == "page":
        return Reply(headers={"Content-Type": "text/html"}, body=f"<html>{said}</html>".encode())
    if stream == "listless":
        return Reply(body={"error": said, "items": {"you said": said}})
    if stream in ("gone", "storm"):
        return Reply(404 if stream == "gone" else 500, body=f"<html>{said}</html>".encode())
    return None


STREAMS = ("whole", "moved", "page", "listless", "gone", "within", "storm")
"""What the parrot does; the storm comes last because it ends the pull."""


@pytest.mark.parametrize(
    ("auth", "sink"),
    [("bearer", "jsonl"), ("header", "sqlite"), ("query", "jsonl"), ("basic", "jsonl")],
)
def test_a_secret_that_the_server_repeats_stays_out_of_files_and_off_screens(
    project: Project, auth: str, sink: str
) -> None:
    """Half of a pull, told with -v, and the rest of it as JSON; good streams and failing ones in each."""
    records = [record(number, name=None if number in (2, 6) else "fine") for number in range(1, 9)]
    with Api(dict.fromkeys(STREAMS, records), style="next") as api:
        api.misbehave = lambda asked: parrot(api, asked)
        project.write(connector(api.url, style="next", streams=STREAMS, more=f"auth={AUTH[auth]}"))
        options = ("--patience", "0.01s", "--sink", sink)
        half = project.run("pull", "shop", "-v", "--max-pages", "1", *options, env=ENVIRONMENT)
        assert [True] * len(api.seen) == [bool(carried(asked)) for asked in api.seen]
        assert set(STREAMS) == {asked.path[1:] for asked in api.seen}
        assert (9, {}) == (half.code, found(project, half))
        rest = project.run("pull", "shop", "--json", *options, env=ENVIRONMENT)
        states = {stream["stream"]: stream["status"] for stream in rest.json()["streams"]}
        assert ("complete", "complete", "failed") == (states["whole"], states["moved"], states["storm"])
        rejects = project.run("rejects", "shop", "--json", "--all", "--sink", sink)
        assert ["whole", "whole"] == [one["stream"] for one in rejects.lines() if one["stream"] == "whole"]
    assert {} == found(project, rest, rejects)


class Ears:
    """A port that listens to whatever is said to it and answers nothing."""

    def __enter__(self) -> Ears:
        self.heard: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Hear what is still waiting, then stop."""
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                if self._over.is_set():
                    return
                continue
            with connection:
                connection.settimeout(2)
                self.heard.append(connection.recv(65536))


REFUSED = ""
OWN, OTHER = "http://127.0.0.1:{own}", "http://127.0.0.1:{other}"
TRICKS = {
    # the API itself, spelt in many ways, or what a careless reader takes for another server
    f"{OWN}/got": "/got",
    "HTTP://127.0.0.1:{own}/got": "/got",
    "hTTp://127.0.0.1:0{own}/got": "/got",
    "http://127%2e0%2e0%2e1:{own}/got": "/got",
    "http://@127.0.0.1:{own}/got": "/got",
    "//127.0.0.1:{own}/got": "/got",
    "/got": "/got",
    "got": "/got",
    "http:got": "/got",
    "http:/got": "/got",
    "http:///got": "/got",
    "../../got": "/got",
    "/a/./../got": "/got",
    "/%2e%2e/got": "/../got",
    "/a%2fgot": "/a%2Fgot",
    "/%2f%2f127.0.0.1:{other}/got": "/%2F%2F127.0.0.1:{other}/got",
    "?next=http://127.0.0.1:{other}/got": "/s?next=http://127.0.0.1:{other}/got",
    f"{OWN}/@127.0.0.1:{{other}}/got": "/@127.0.0.1:{other}/got",
    f"{OWN}//127.0.0.1:{{other}}/got": "/127.0.0.1:{other}/got",  # the server itself folds the first slashes
    f"{OWN}/..//127.0.0.1:{{other}}/got": "/127.0.0.1:{other}/got",
    f"{OWN}/{OTHER}/got": "/http://127.0.0.1:{other}/got",
    f"{OWN}?@127.0.0.1:{{other}}/got": "/?@127.0.0.1:{other}/got",
    f"{OWN}/got#@127.0.0.1:{{other}}/": "/got",
    f"{OWN}\\@127.0.0.1:{{other}}/got": "/%5C@127.0.0.1:{other}/got",
    f"{OWN}\\got": "/%5Cgot",
    "http:127.0.0.1:{other}/got": "/127.0.0.1:{other}/got",
    "http:/127.0.0.1:{other}/got": "/127.0.0.1:{other}/got",
    "http:///127.0.0.1:{other}/got": "/127.0.0.1:{other}/got",
    "http:\\\\127.0.0.1:{other}\\got": "/%5C%5C127.0.0.1:{other}%5Cgot",
    "http:/\\127.0.0.1:{other}/got": "/%5C127.0.0.1:{other}/got",
    "\\\\127.0.0.1:{other}\\got": "/%5C%5C127.0.0.1:{other}%5Cgot",
    "/\\127.0.0.1:{other}/got": "/%5C127.0.0.1:{other}/got",
    "\\/127.0.0.1:{other}/got": "/%5C/127.0.0.1:{other}/got",
    "/ /127.0.0.1:{other}/got": "/%20/127.0.0.1:{other}/got",
    "////127.0.0.1:{other}/got": "/127.0.0.1:{other}/got",
    f"{OWN}/got\r\nHost: 127.0.0.1:{{other}}": "/gotHost:%20127.0.0.1:{other}",
    "\uff0f\uff0f127.0.0.1:{other}/got": "/%EF%BC%8F%EF%BC%8F127.0.0.1:{other}/got",
    "\u2028//127.0.0.1:{other}/got": "/%E2%80%A8/127.0.0.1:{other}/got",
    "\ufeffhttp://127.0.0.1:{other}/got": "/%EF%BB%BFhttp:/127.0.0.1:{other}/got",
    # another server
    f"{OTHER}/got": REFUSED,
    OTHER: REFUSED,
    "//127.0.0.1:{other}/got": REFUSED,
    "hTTp://127.0.0.1:0{other}/got": REFUSED,
    " http://127.0.0.1:{other}/got": REFUSED,
    "\x01http://127.0.0.1:{other}/got": REFUSED,
    " //127.0.0.1:{other}/got": REFUSED,
    "/\t/127.0.0.1:{other}/got": REFUSED,
    "ht\ttp://127.0.0.1:{other}/got": REFUSED,
    "/\n/127.0.0.1:{other}/got": REFUSED,
    f"{OTHER}/@127.0.0.1:{{own}}/got": REFUSED,
    f"{OTHER}#@127.0.0.1:{{own}}/got": REFUSED,
    f"{OTHER}?@127.0.0.1:{{own}}/got": REFUSED,
    f"{OTHER}\\@127.0.0.1:{{own}}/got": REFUSED,
    f"{OTHER}\\got": REFUSED,
    "http://127%2e0%2e0%2e1:{other}/got": REFUSED,
    "http://127.0.0.1:/got": REFUSED,
    "http://127.0.0.1:0/got": REFUSED,
    # this one under another scheme or name
    "https://127.0.0.1:{own}/got": REFUSED,
    "https://127.0.0.1:{other}/got": REFUSED,
    "https:got": REFUSED,
    "https:/got": REFUSED,
    "https:///got": REFUSED,
    "http://localhost:{own}/got": REFUSED,
    "http://localhost:{other}/got": REFUSED,
    "http://127.1:{own}/got": REFUSED,
    "http://127.1:{other}/got": REFUSED,
    "http://2130706433:{other}/got": REFUSED,
    "http://0x7f000001:{other}/got": REFUSED,
    "http://017700000001:{other}/got": REFUSED,
    "http://0:{other}/got": REFUSED,
    "http://127.0.0.1.:{other}/got": REFUSED,
    "http://127.0.0.1..:{own}/got": REFUSED,
    "http://127.0.0.1.evil.example:{own}/got": REFUSED,
    "http://[::1]:{own}/got": REFUSED,
    "http://[::ffff:127.0.0.1]:{own}/got": REFUSED,
    "http://[::ffff:127.0.0.1]:{other}/got": REFUSED,
    "http://[::1%25lo]:{other}/got": REFUSED,
    "http://[::1%lo]:{other}/got": REFUSED,
    "http://[fe80::1%25eth0]:{other}/got": REFUSED,
    "http://%40127.0.0.1:{own}/got": REFUSED,
    "http://" + "a" * 300 + ":{own}/got": REFUSED,
    # a user name
    "http://someone@127.0.0.1:{own}/got": REFUSED,
    "http://someone:else@127.0.0.1:{own}/got": REFUSED,
    "http://someone:else@127.0.0.1:{other}/got": REFUSED,
    "http://:@127.0.0.1:{own}/got": REFUSED,
    f"{OWN}@127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN};@127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN}%2f@127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN} @127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN}\t@127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN}%40127.0.0.1:{{other}}/got": REFUSED,
    # what no two readers agree about
    f"{OWN}.127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN}./got": REFUSED,
    f"{OWN};127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN},127.0.0.1:{{other}}/got": REFUSED,
    f"{OWN}:{{other}}/got": REFUSED,
    f"{OWN}+1/got": REFUSED,
    f"{OWN}e0/got": REFUSED,
    f"{OWN}%00.x/got": REFUSED,
    f"{OWN}\0.x/got": REFUSED,
    f"{OWN}%0d%0aHost:%20127.0.0.1:{{other}}/got": REFUSED,
    "http://127.0.0.1:+{own}/got": REFUSED,
    "http://127.0.0.1:-1/got": REFUSED,
    "http://127.0.0.1:1{own}0/got": REFUSED,
    "http://127.0.0.1%2f:{own}/got": REFUSED,
    "http://127.0.0.1%3a{other}/got": REFUSED,
    "http://127.0.0.1]:{other}/got": REFUSED,
    "http://[127.0.0.1]:{own}/got": REFUSED,
    "http://[v1.127.0.0.1]:{own}/got": REFUSED,
    "http://[::1": REFUSED,
    "http://\\127.0.0.1:{other}/got": REFUSED,
    "http://*.0.0.1:{own}/got": REFUSED,
    "http://.127.0.0.1:{own}/got": REFUSED,
    "http://①②⑦.0.0.1:{own}/got": REFUSED,
    "http://①②⑦.0.0.1:{other}/got": REFUSED,
    "http://\uff11\uff12\uff17.0.0.1:{other}/got": REFUSED,
    "http://127\u30020\u30020\u30021:{other}/got": REFUSED,
    "http://ⓛocalhost:{other}/got": REFUSED,
    "http://ex\u2100mple:{other}/got": REFUSED,
    "http://xn--\u00e9:{other}/got": REFUSED,
    # what is not asked over http
    "file:///etc/passwd": REFUSED,
    "file://127.0.0.1:{other}/got": REFUSED,
    "ftp://127.0.0.1:{own}/got": REFUSED,
    "ws://127.0.0.1:{own}/got": REFUSED,
    "gopher://127.0.0.1:{other}/_got": REFUSED,
    "http+unix://127.0.0.1:{own}/got": REFUSED,
    "httpx://127.0.0.1:{other}/got": REFUSED,
    "view-source:http://127.0.0.1:{other}/got": REFUSED,
    "blob:http://127.0.0.1:{other}/got": REFUSED,
    "javascript:alert(1)": REFUSED,
    "data:application/json,[]": REFUSED,
}
"""Links, and where each leads on the API that hands it out, or that it is not followed at all."""


@pytest.mark.parametrize("auth", ["bearer", "query"])
@pytest.mark.parametrize("place", ["next", "redirect"])
def test_a_link_is_followed_on_the_server_that_gave_it_or_not_at_all(project: Project, auth: str, place: str) -> None:
    """One stream for each of the links, in one pull; the other server never hears a word."""
    with Ears() as ears, Api() as api:
        own = api.url.rpartition(":")[2]
        expected = {
            link.format(own=own, other=ears.port): goal.format(other=ears.port) for link, goal in TRICKS.items()
        }
        if place == "redirect":  # a header cannot hold these
            expected = {link: goal for link, goal in expected.items() if not set("\r\n\0") & set(link)}
        links = {f"s{number}": link for number, link in enumerate(expected)}

        def misbehave(asked: Asked) -> Reply:
            link = links.get(asked.path[1:])
            if link is None or asked.query.keys() - {"api_key"}:
                return Reply(body={"items": [], "next": None})
            if place == "redirect":
                return Reply(302, {"Location": link.encode().decode("latin-1")}, body=b"")
            return Reply(body={"items": [], "next": link})

        api.misbehave = misbehave
        project.write(connector(api.url, style="next", streams=links, more=f"auth={AUTH[auth]}"))
        done = project.run("pull", "shop", "--json", env=ENVIRONMENT)
    assert [] == ears.heard
    assert [True] * len(api.seen) == [bool(carried(asked)) for asked in api.seen]
    ended = {links[stream["stream"]]: (stream["error"] or {}).get("type") for stream in done.json()["streams"]}
    assert {link: None if goal else "ProtocolError" for link, goal in expected.items()} == ended
    asked = [re.sub(r"[?&]api_key=[^&]*", "", one.line) for one in api.seen]
    followed = [
        [f"/{name}", *([expected[link].replace("/s?", f"/{name}?")] * bool(expected[link]))]
        for name, link in links.items()
    ]
    assert [line for lines in followed for line in lines] == asked


def test_there_are_more_than_a_hundred_tricks() -> None:
    assert len(TRICKS) > 100
    assert 30 < len([goal for goal in TRICKS.values() if goal]) < 50


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.org/v1/items",
        "http://api.example.org:443/v1/items",
        "https://api.example.org:80/v1/items",
        "https://api.example.org.evil.example/v1/items",
        "https://evil.example/https://api.example.org/v1",
        "https://api.example.org@evil.example/v1/items",
        "https://api.example.org:443@evil.example/v1/items",
        "https://evil.example\\@api.example.org/v1/items",
        "https://evil.example#@api.example.org/v1/items",
        "https://evil.example?@api.example.org/v1/items",
        "https://apí.example.org/v1/items",
        "https://xn--ap-zja.example.org/v1/items",
        "ftp://api.example.org/v1/items",
    ],
)
def test_an_https_api_is_left_neither_for_another_host_nor_for_http(url: str) -> None:
    clock = Clock()
    auth = Bearer(env="SHOP_TOKEN")
    client = Client("https://api.example.org/v1", auth, {}, ENVIRONMENT, Pacer(None, clock, print), clock)
    assert client.same_origin(Request("https://API.example.org:443/v1/items"))
    try:
        stays = client.same_origin(Request(url))
    except ProtocolError:
        stays = False
    assert not stays


def test_neither_netrc_nor_a_proxy_of_the_environment_has_a_say(project: Project) -> None:
    (project.path / ".netrc").write_text(
        "machine 127.0.0.1 login someone password from-netrc\ndefault login x password y\n"
    )
    (project.path / ".netrc").chmod(0o600)
    with Ears() as ears, Api(4) as api:
        project.write(connector(api.url, more=f"auth={AUTH['bearer']}"))
        project.write(connector(api.url, name="open"), "open")
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), f"http://127.0.0.1:{ears.port}")
        assert 0 == project.run("pull", "shop", env={**ENVIRONMENT, **proxies}).code
        assert 0 == project.run("pull", "open", env=proxies).code
    assert ([], [f"Bearer {TOKEN}", None]) == (ears.heard, [asked.headers.get("authorization") for asked in api.seen])
