"""A secret goes to the API it belongs to and nowhere else: not to the disk, not to a screen, not to another server.

The first half looks for canaries in everything that a pull leaves behind, while the server repeats them wherever it
can. The second half hands out links to a second server and listens there.
"""

from __future__ import annotations

import base64
import json
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


ELSEWHERE = [
    "http://127.0.0.1:{other}/items",
    "http://127.0.0.1:{other}",
    "//127.0.0.1:{other}/items",
    "///127.0.0.1:{other}/items",
    "////127.0.0.1:{other}/items",
    "http:///127.0.0.1:{other}/items",
    "http:127.0.0.1:{other}/items",
    "http:/127.0.0.1:{other}/items",
    "HTTP://127.0.0.1:{other}/items",
    "hTTp://127.0.0.1:0{other}/items",
    "https://127.0.0.1:{other}/items",
    "https://127.0.0.1:{own}/items",
    "http://localhost:{other}/items",
    "http://localhost:{own}/items",
    "http://127.0.0.1.:{other}/items",
    "http://127.1:{other}/items",
    "http://2130706433:{other}/items",
    "http://0x7f000001:{other}/items",
    "http://[::ffff:127.0.0.1]:{other}/items",
    "http://127.0.0.1:{own}@127.0.0.1:{other}/items",
    "http://someone:else@127.0.0.1:{other}/items",
    "http://someone:else@127.0.0.1:{own}/items",
    "http://127.0.0.1:{own}%40127.0.0.1:{other}/items",
    "http://127.0.0.1:{own};@127.0.0.1:{other}/items",
    "http://127.0.0.1:{own}\\@127.0.0.1:{other}/items",
    "http://127.0.0.1:{other}\\@127.0.0.1:{own}/items",
    "http://127.0.0.1:{other}#@127.0.0.1:{own}/items",
    "http://127.0.0.1:{other}?@127.0.0.1:{own}/items",
    "http://127.0.0.1:{other}/@127.0.0.1:{own}/items",
    "http:\\\\127.0.0.1:{other}\\items",
    "\\\\127.0.0.1:{other}\\items",
    "/\\127.0.0.1:{other}/items",
    "\\/127.0.0.1:{other}/items",
    "/\t/127.0.0.1:{other}/items",
    "ht\ttp://127.0.0.1:{other}/items",
    " http://127.0.0.1:{other}/items",
    "http://127.0.0.1:{own}.127.0.0.1:{other}/items",
    "http://①②⑦.0.0.1:{other}/items",
    "/\n/127.0.0.1:{other}/items",
    "http://127.0.0.1:{own}/items?x=1\r\nHost: 127.0.0.1:{other}",
]
"""Ways to say another server, or to say this one so that a careless reader takes another for it."""


@pytest.mark.parametrize("auth", ["bearer", "query"])
@pytest.mark.parametrize("place", ["next", "redirect"])
def test_another_server_never_hears_a_credential(project: Project, auth: str, place: str) -> None:
    """One stream for each of the links, in one pull; none of them may bring the client to speak to the other server."""
    with Ears() as ears, Api() as api:
        own = api.url.rpartition(":")[2]
        links = {f"s{number}": link.format(own=own, other=ears.port) for number, link in enumerate(ELSEWHERE)}
        if place == "redirect":
            links = {name: link for name, link in links.items() if link.isascii() and "\n" not in link}

        def misbehave(asked: Asked) -> Reply:
            link = links.get(asked.path[1:])
            if link is None or asked.query.keys() - {"api_key"}:
                return Reply(404)
            return Reply(302, {"Location": link}) if place == "redirect" else Reply(body={"items": [], "next": link})

        api.misbehave = misbehave
        project.write(connector(api.url, style="next", streams=links, more=f"auth={AUTH[auth]}"))
        done = project.run("pull", "shop", "--json", "--patience", "0.01s", env=ENVIRONMENT)
    assert [] == ears.heard
    assert [True] * len(api.seen) == [bool(carried(asked)) for asked in api.seen]
    ended = {links[stream["stream"]]: (stream["error"] or {}).get("type") for stream in done.json()["streams"]}
    assert list(links.values()) == list(ended)
    assert list(ended.values()).count("ProtocolError") >= 20


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
