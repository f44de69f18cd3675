"""Canaries: every kind of secret, an API that repeats it wherever it can, and a search of all that is left behind.

One pull meets every scenario, told with -v, with a log and metrics; then every other command speaks of it. Nothing of
a secret may be in what they print, in a file below the user's directory or the state directory, or in what a foreign
server heard. What an API writes into its records is data (D24): it stays there, and nowhere else.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from tests.api import PAGINATION, Api, Asked, Reply, record
from tests.command import Done, Project
from tests.proxy import proxy
from tests.scripted import response
from tests.test_secrets import Ears

TOKEN, PASSWORD = "cAnAry/7f3+9=%2e&z", 'pAss"w0rd<c4n4ry>/0'
SESSION, PROXY, STRAY = "s3ss10n/c4n4ry+=&x", "pr0xy/c4n4ry:p4ss", "str4y-c4n4ry-of-another-tool"
NETRC, USERINFO, OLD = "n3trc-c4n4ry-p4ss", "us3r1nf0-c4n4ry", "0ld-k3y-c4n4ry/1"
USER = "octocat"
PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
PROXY_PAIR = base64.b64encode(f"someone:{PROXY}".encode()).decode()
SECRETS = {
    "the token": TOKEN,
    "the password": PASSWORD,
    "the pair": PAIR,
    "the session": SESSION,
    "the proxy's password": PROXY,
    "the proxy's pair": PROXY_PAIR,
    "a stray variable": STRAY,
    "netrc": NETRC,
    "a user name in a link": USERINFO,
}
AUTHS = {
    "bearer": 'Bearer(env="SHOP_AUTH")',
    "header": 'ApiKey(env="SHOP_AUTH", header="X-Key")',
    "query": 'ApiKey(env="SHOP_AUTH", param="api_key")',
    "basic": 'Basic("SHOP_USER", "SHOP_PASSWORD")',
    "login": 'Login(url="/login", fields={"user": "SHOP_USER", "pass": "SHOP_PASSWORD"}, public=("SHOP_USER",), '
    'token=Cookie("sid"))',
}


def some_of(every: Iterable[str], *always: str) -> list[Any]:
    """Some in the short form, the others in the long one."""
    return [one if one in always else pytest.param(one, marks=pytest.mark.long) for one in every]


ENVIRONMENT = {"AWS_SECRET_ACCESS_KEY": STRAY, "SHOP_USER": USER}
DOTENV = f"SHOP_AUTH='{TOKEN}'\nSHOP_PASSWORD='{PASSWORD}'\n"


def forms(secret: str) -> set[str]:
    """The ways in which a server may write a secret down."""
    escaped = json.dumps(secret)[1:-1]
    coded = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    hexed = {"".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in secret)}
    hexed |= {"".join(c if c.isalnum() else f"\\u{ord(c):04X}" for c in secret)}
    lower = {re.sub("%..", lambda match: match.group().lower(), form) for form in coded}
    twice = {quote(form, safe="") for form in coded}
    html_ways = {html.escape(secret), html.escape(secret, quote=False), secret.replace("/", "&#x2F;")}
    return {secret, escaped, escaped.replace("/", "\\/")} | hexed | coded | lower | twice | html_ways


NEEDLES = {name: [form.encode() for form in forms(secret)] for name, secret in SECRETS.items()}


def hits(content: bytes) -> list[str]:
    """Which secrets are in it, in whatever form."""
    return [name for name, needles in NEEDLES.items() if any(needle in content for needle in needles)]


def carried(asked: Asked) -> list[str]:
    """The secrets that came with a request."""
    given = [
        asked.headers.get("authorization", "").rpartition(" ")[2],
        asked.headers.get("cookie", "").removeprefix("sid="),
        asked.headers.get("x-key", ""),
        asked.query.get("api_key", ""),
        asked.query.get("pass", ""),
    ]
    found = [one for one in given if one]
    return [*found, PASSWORD] if PAIR in found else found


# --- what the API does: each function is a stream ---


@dataclass(frozen=True)
class Said:
    """One request, and the secrets in it in every form."""

    asked: Asked
    base: str
    other: str
    files: str
    secrets: list[str]

    @property
    def text(self) -> str:
        return " ".join(form for secret in self.secrets for form in sorted(forms(secret)))

    @property
    def codes(self) -> list[str]:
        return [quote(secret, safe="") for secret in self.secrets]

    @property
    def first(self) -> bool:
        return not {"at", "step"} & self.asked.query.keys()

    def query(self, *names: str) -> str:
        return "&".join(f"{name}={code}" for name in names for code in self.codes)

    def items(self, link: str | None = None, *rows: Any, **headers: str) -> Reply:
        return Reply(headers=headers, body={"items": list(rows) or [record(1)], "next": link})


Act = Callable[[Said], Reply | None]


def link_in_query(said: Said) -> Reply:
    names = ("api_key", "API_KEY", "token", "sid", "x")
    return said.items(f"{said.base}{said.asked.path}?at=1&{said.query(*names)}" if said.first else None)


def link_within_query(said: Said) -> Reply:
    inner = quote(f"http://h/?api_key={said.codes[0]}", safe="")
    return said.items(
        f"{said.base}{said.asked.path}?at=1&back={inner}&auth=Bearer%20{said.codes[0]}" if said.first else None
    )


def link_in_path(said: Said) -> Reply:
    return said.items(f"/t/{said.codes[0]}/items?at=1")


def link_in_user(said: Said) -> Reply:
    return said.items(f"http://x:{said.codes[0]}@{said.base.partition('//')[2]}/items")


def link_with_a_user_of_its_own(said: Said) -> Reply:
    return said.items(f"http://x:{USERINFO}@{said.base.partition('//')[2]}/items")


def link_in_fragment(said: Said) -> Reply:
    return said.items(f"{said.base}{said.asked.path}?at=1#{said.codes[0]}" if said.first else None)


def link_elsewhere(said: Said) -> Reply:
    return said.items(f"{said.other}/{said.codes[0]}?api_key={said.codes[0]}")


def link_to_a_declared_host(said: Said) -> Reply:
    return said.items(f"{said.files}/rest?at=1&{said.query('api_key', 't')}" if said.first else None)


def link_to_a_declared_host_in_path(said: Said) -> Reply:
    return said.items(f"{said.files}/{said.codes[0]}")


def link_with_an_old_key(said: Said) -> Reply:
    return said.items(f"{said.base}{said.asked.path}?at=1&api_key={quote(OLD)}" if said.first else None)


def moved_in_query(said: Said) -> Reply | None:
    return Reply(302, {"Location": f"?step=1&{said.query('api_key', 't')}"}) if said.first else said.items()


def moved_in_path(said: Said) -> Reply | None:
    return Reply(302, {"Location": f"/moved_in_path/{said.codes[0]}?step=1"}) if said.first else said.items()


def moved_in_user(said: Said) -> Reply:
    return Reply(302, {"Location": f"http://x:{said.codes[0]}@{said.base.partition('//')[2]}/"})


def moved_elsewhere(said: Said) -> Reply:
    return Reply(302, {"Location": f"{said.other}/{said.codes[0]}?api_key={said.codes[0]}"})


def moved_to_a_declared_host(said: Said) -> Reply:
    return Reply(302, {"Location": f"{said.files}/rest?{said.query('api_key', 't')}"})


def moved_to_a_declared_host_in_path(said: Said) -> Reply:
    return Reply(302, {"Location": f"{said.files}/{said.codes[0]}"})


def page_for_people(said: Said) -> Reply:
    return Reply(headers={"Content-Type": "text/html"}, body=f"<html>{said.text}</html>".encode())


def page_of_another_type(said: Said) -> Reply:
    return Reply(headers={"Content-Type": f"text/{said.codes[0]}"}, body=f"{said.text}".encode())


def no_list(said: Said) -> Reply:
    return Reply(body={"error": said.text, "items": {said.text: said.text}})


def half_of_it(said: Said) -> Reply:
    return Reply(body=json.dumps({"items": [{"id": said.text}]}).encode()[:-3])


def odd_coding(said: Said) -> Reply:
    return Reply(headers={"Content-Encoding": said.codes[0]}, body=said.text.encode())


def no_such(said: Said) -> Reply:
    return Reply(404, {"X-You-Sent": said.codes[0]}, body=f"<html>{said.text}</html>".encode())


def bad_request(said: Said) -> Reply:
    return Reply(400, {"WWW-Authenticate": f'Bearer error="{said.codes[0]}"'}, body={"message": said.text})


def a_teapot(said: Said) -> Reply:
    return Reply(418, body={"message": said.text})


def limits_with_names(said: Said) -> Reply:
    code = said.codes[0]
    return said.items(
        None,
        record(1),
        **{
            "RateLimit-Policy": f'"{code}";q=1000;w=60',
            "RateLimit": f'"{code}";r=900;t=30',
            "X-RateLimit-Limit": code,
            "X-RateLimit-Resource": code,
            "Retry-After": code,
            "Date": code,
            "Link": f'<{said.base}/x?api_key={code}>; rel="{code}"',
        },
    )


def cursor_is_a_secret(said: Said) -> Reply:
    return said.items(f"{said.base}{said.asked.path}?at={said.codes[0]}")


def unchanged(said: Said) -> Reply:
    row = record(1, name="clean")
    return said.items(None, row, ETag=f'"{said.codes[0]}"', **{"Cache-Control": "max-age=0"})


def unchanged_but_telling(said: Said) -> Reply:
    return Reply(headers={"ETag": '"v1"'}, body={"items": [record(1)], "you": said.text, "next": None})


def fields_with_its_name(said: Said) -> Reply:
    return said.items(None, {**record(1), said.secrets[0]: 1}, {**record(2, name=None), said.secrets[0]: {"a": 1}})


def totals(said: Said) -> Reply:
    return Reply(body={"items": [record(1)], "total": said.secrets[0], "next": None})


def crashing_model(said: Said) -> Reply:
    return said.items(None, record(1, name="raises"), record(2, name="refuses"), record(3, name="exits"))


def said_in_records(said: Said) -> Reply:
    """Data: one record is taken, one refused, and one is no JSON that every reader takes."""
    rows = json.dumps([record(1, name=said.secrets[0]), record(2, name=None, note=said.secrets[0])])[1:-1]
    third = json.dumps(record(3, name=said.secrets[0])).replace('"id": 3', '"id": NaN')
    return Reply(body=f'{{"items": [{rows}, {third}], "next": null}}'.encode())


ACTS: tuple[Act, ...] = (
    link_in_query,
    link_within_query,
    link_in_path,
    link_in_user,
    link_with_a_user_of_its_own,
    link_in_fragment,
    link_elsewhere,
    link_to_a_declared_host,
    link_to_a_declared_host_in_path,
    link_with_an_old_key,
    moved_in_query,
    moved_in_path,
    moved_in_user,
    moved_elsewhere,
    moved_to_a_declared_host,
    moved_to_a_declared_host_in_path,
    page_for_people,
    page_of_another_type,
    no_list,
    half_of_it,
    odd_coding,
    no_such,
    bad_request,
    a_teapot,
    limits_with_names,
    cursor_is_a_secret,
    unchanged,
    unchanged_but_telling,
    fields_with_its_name,
    totals,
    crashing_model,
    said_in_records,
)
STORMS: dict[str, Act] = {
    "refused": lambda said: Reply(403, body={"message": said.text}),
    "limited": lambda said: Reply(
        429, {"Retry-After": "7200", "X-RateLimit-Name": said.codes[0]}, body=said.text.encode()
    ),
    "storm": lambda said: Reply(500, {"Server": said.codes[0]}, body=said.text.encode()),
}
"""What ends a whole pull; each has one to itself."""
DATA = "said_in_records"

MODEL = """
import os
from typing import Any

from pydantic import AwareDatetime, BaseModel, field_validator

from syncer import *


class Item(BaseModel):
    id: int
    name: str
    price: float
    updated_at: AwareDatetime

    @field_validator("name")
    @classmethod
    def said(cls, name: str) -> str:
        secret = os.environ["AWS_SECRET_ACCESS_KEY"] + " " + open(".env").read()
        if name == "raises":
            raise RuntimeError(secret)
        if name == "refuses":
            raise ValueError(secret)
        if name == "exits":
            raise SystemExit(secret)
        return name
"""


def written(base: str, auth: str, streams: list[str], hosts: tuple[str, ...]) -> str:
    declared = "".join(
        f'Stream(name="{one}", path="/{one}", records="items", model=Item, pagination={PAGINATION["next"]}, '
        f'total="total", max_rejects="100%", conditional={one.startswith("unchanged")}),'
        for one in streams
    )
    return (
        f'{MODEL}\n\nconnector = Connector(name="shop", base_url="{base}", auth={AUTHS[auth]}, hosts={hosts!r}, '
        f'headers={{"X-Client": "syncer-tests"}}, streams=({declared}))\n'
    )


class Scenery:
    """An API behind a proxy, a declared host beside it, a stranger, and a user with secrets everywhere."""

    def __init__(self, path: Path, auth: str, acts: dict[str, Act]) -> None:
        self.project, self.auth, self.acts = Project(path / "home"), auth, acts
        self.project.path.mkdir()
        (self.project.path / ".env").write_text(DOTENV)
        (self.project.path / ".netrc").write_text(f"default login eve password {NETRC}\n")
        (self.project.path / ".netrc").chmod(0o600)
        self.said: list[tuple[str, Done]] = []

    def __enter__(self) -> Scenery:
        self.ears = Ears().__enter__()
        self.files = Api(1, style="next").__enter__()
        self.api = Api(1, style="next", misbehave=self._misbehave).__enter__()
        self._proxy = proxy(user=f"someone:{PROXY}")
        self.way = self._proxy.__enter__()
        port = self.api.url.rpartition(":")[2]
        self.base = f"http://api.shop.example:{port}"
        self.hosts = (f"http://files.shop.example:{self.files.url.rpartition(':')[2]}",)
        self.project.write(written(self.base, self.auth, list(self.acts), self.hosts))
        return self

    def __exit__(self, *error: object) -> None:
        self._proxy.__exit__(None, None, None)
        for one in (self.api, self.files, self.ears):
            one.__exit__(*error)

    def _misbehave(self, asked: Asked) -> Reply | None:
        if asked.path == "/login":
            return Reply(200, {"Set-Cookie": f"sid={SESSION}; HttpOnly"}, body={"user": USER})
        act = self.acts.get(asked.path.split("/")[1])
        other = f"http://127.0.0.1:{self.ears.port}"
        secrets = carried(asked)
        return act(Said(asked, self.base, other, self.hosts[0], secrets)) if act and secrets else Reply(404)

    def run(self, *arguments: str) -> Done:
        """Run a command with all the secrets in force."""
        user = f"someone:{quote(PROXY, safe='')}"
        environment = {**ENVIRONMENT, "SYNCER_PROXY": self.way.url(user), "HTTPS_PROXY": self.way.url(user)}
        done = self.project.run(*arguments, env=environment)
        self.said.append((" ".join(arguments), done))
        return done

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """All that is left, and all that was said, with its place; what holds the secrets by right left out."""
        for command, done in self.said:
            yield f"stdout of {command}", done.stdout.encode()
            yield f"stderr of {command}", done.stderr.encode()
        home = self.project.path
        for root in (home, Path(f"{home}-state")):
            for path in root.rglob("*") if root.is_dir() else ():
                if path.is_file() and path.name not in (".env", ".netrc") and "connectors" not in path.parts:
                    yield str(path.relative_to(home.parent)), path.read_bytes()
        for number, asked in enumerate(self.files.seen):
            yield f"request {number} to the declared host", json.dumps([asked.line, dict(asked.headers)]).encode()
        for number, heard in enumerate(self.ears.heard):
            yield f"what the stranger heard, {number}", heard
        for asked in self.api.seen:
            yield f"what the API heard of others: {asked.path}", json.dumps(_foreign(asked)).encode()
        for head in self.way.heads:
            yield "what the proxy heard of others", re.sub(rb"(?m)^Proxy-Authorization: .*$", b"", _without_own(head))


def _foreign(asked: Asked) -> Any:
    """A request to the API without the credentials that belong there."""
    own = {"authorization", "cookie", "x-key"}
    return {name: value for name, value in asked.headers.items() if name not in own}


def _without_own(head: bytes) -> bytes:
    """A request through the proxy, over http as it was told to, without the credentials of the API in it."""
    head = re.sub(rb"(?im)^(Authorization|Cookie|X-Key): .*$", b"", head)
    return re.sub(rb"api_key=[^& ]*|moved_in_path/[^? ]*", b"", head)


def without_data(place: str, content: bytes) -> bytes:
    """The content without the records of the API in it."""
    if re.search(rf"{DATA}\.jsonl(\.g\d+)?$", place):
        return b""
    if place.endswith(".rejects.jsonl") or place.startswith("stdout of rejects"):
        return b"\n".join(_without_record(line) for line in content.split(b"\n"))
    return content


def _without_record(line: bytes) -> bytes:
    try:
        return json.dumps(_bare(json.loads(line))).encode()
    except ValueError:
        return line


def _bare(value: Any) -> Any:
    """What is said of rejects, without the records themselves and the values in them that were refused."""
    if isinstance(value, dict):
        return {name: _bare(item) for name, item in value.items() if name not in ("record", "text", "values")}
    return [_bare(item) for item in value] if isinstance(value, list) else value


LOUD = ("-v", "--log", "log.jsonl", "--metrics", "metrics.prom", "--patience", "1s")


@pytest.mark.parametrize("auth", some_of(AUTHS, "login"))
def test_a_secret_is_nowhere_but_where_it_belongs(tmp_path: Path, auth: str) -> None:
    """Half of a pull, the rest of it, the same again where nothing has changed, and every other command."""
    with Scenery(tmp_path, auth, {act.__name__: act for act in ACTS}) as scenery:
        scenery.run("pull", "shop", "--max-pages", "1", *LOUD)
        scenery.run("pull", "shop", "--json", "--log", "-", "--patience", "1s")
        again = scenery.run("pull", "shop", *LOUD)
        scenery.run("check", "shop")
        scenery.run("check", "shop", "--json")
        scenery.run("status", "shop")
        scenery.run("status", "shop", "--json")
        listed = scenery.run("runs", "shop", "--json").json()
        scenery.run("runs")
        scenery.run("runs", "show", listed[-1]["id"])
        scenery.run("runs", "show", listed[-1]["id"], "--json")
        scenery.run("rejects", "shop", "--json")
        scenery.run("rejects", "shop", "--json", "--all")
        scenery.run("rejects", "replay", "shop", "crashing_model", "fields_with_its_name", "--json")
        scenery.run("list", "shop", "--json")
        everything = list(scenery.everything())
    found = {place: hits(without_data(place, content)) for place, content in everything}
    assert {} == {place: names for place, names in found.items() if names}
    assert [] == scenery.ears.heard
    assert len(scenery.files.seen) >= 4
    places = {place for place, _ in everything}
    for kind in ("log.jsonl", "metrics.prom", "state.db", "runs/", "cache.db", ".evidence", "rejects.jsonl"):
        assert any(kind in place for place in places), kind
    assert 9 == again.code
    assert all(act.__name__ in {asked.path.split("/")[1] for asked in scenery.api.seen} for act in ACTS)


@pytest.mark.parametrize("auth", some_of(AUTHS, "basic", "login"))
@pytest.mark.parametrize("storm", STORMS)
def test_nor_is_it_where_everything_fails(tmp_path: Path, auth: str, storm: str) -> None:
    with Scenery(tmp_path, auth, {storm: STORMS[storm]}) as scenery:
        code = scenery.run("pull", "shop", *LOUD).code
        scenery.run("pull", "shop", "--json", "--patience", "0.01s")
        scenery.run("check", "shop", "--json", "--patience", "0.01s")
        scenery.run("runs", "shop", "--json")
        found = {place: hits(content) for place, content in scenery.everything()}
    assert {} == {place: names for place, names in found.items() if names}
    assert (5 if storm == "refused" else 4) == code


def test_what_an_api_writes_into_its_records_is_kept_as_data(tmp_path: Path) -> None:
    """A masked record would be another record, and a masked reject could not be tried again."""
    with Scenery(tmp_path, "bearer", {DATA: said_in_records}) as scenery:
        done = scenery.run("pull", "shop", "--json")
        rejected = scenery.run("rejects", "shop", "--json", "--all").lines()
    (line,) = scenery.project.output(DATA).splitlines()
    assert (0, TOKEN) == (done.code, json.loads(line)["name"])
    assert TOKEN == rejected[0]["record"]["note"]
    assert TOKEN in rejected[1]["text"]
    assert [["name"], [""]] == [[reason["path"] for reason in reject["reasons"]] for reject in rejected]


@pytest.mark.parametrize("auth", some_of(("bearer", "query", "login"), "query"))
def test_a_database_holds_secrets_in_its_records_only(tmp_path: Path, auth: str) -> None:
    acts = {act.__name__: act for act in ACTS if act is not said_in_records}
    with Scenery(tmp_path, auth, acts) as scenery:
        scenery.run("pull", "shop", "--sink", "sqlite", *LOUD)
        scenery.run("pull", "shop", "--sink", "sqlite", "--json")
        scenery.run("rejects", "shop", "--sink", "sqlite", "--all", "--json")
        found = {place: hits(without_data(place, content)) for place, content in scenery.everything()}
        with closing(sqlite3.connect(scenery.project.data / "shop" / "shop.db")) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {name: repr(database.execute(f'SELECT * FROM "{name}"').fetchall()).encode() for name in tables}
    assert {} == {place: names for place, names in found.items() if names and not place.endswith("shop.db")}
    rows["syncer_rejects"] = re.sub(rb'"record":\{.*?\},"page"', b"", rows["syncer_rejects"])
    assert {} == {name: hits(content) for name, content in rows.items() if hits(content)}
    assert len(tables) > len(acts) / 2


# --- the proxy's own secrets, where the proxy repeats them ---


@pytest.mark.parametrize(
    ("scheme", "line", "code"),
    [
        ("http", "407 Proxy Authentication Required", 5),
        ("http", "502 Bad Gateway", 4),
        ("http", "403 Forbidden", 5),
        ("http", "200 OK", 9),
        ("https", "407 Proxy Authentication Required", 5),
        ("https", "502 Bad Gateway", 4),
        ("https", "403 Forbidden", 4),
        ("https", "200 OK", 4),
    ],
)
def test_a_proxy_that_repeats_its_password_is_not_believed_to_be_harmless(
    tmp_path: Path, scheme: str, line: str, code: int
) -> None:
    project = Project(tmp_path / "home")
    project.path.mkdir()
    said = f"<html>{PROXY_PAIR} {' '.join(sorted(forms(PROXY)))}</html>".encode()
    answer = response(said, line, "Content-Type: text/html", f"X-Echo: {PROXY_PAIR}")
    with proxy(says=answer) as way:
        project.write(written(f"{scheme}://api.shop.example:1", "bearer", ["items"], ()))
        user = f"someone:{quote(PROXY, safe='')}"
        environment = {**ENVIRONMENT, "SHOP_AUTH": TOKEN, "SYNCER_PROXY": way.url(user)}
        commands = [("pull", "shop", *LOUD), ("check", "shop", "--json"), ("runs", "shop", "--json")]
        done = [project.run(*arguments, env=environment) for arguments in commands]
    contents = {str(path): path.read_bytes() for path in project.path.rglob("*") if path.is_file()}
    contents = {place: content for place, content in contents.items() if "connectors" not in place}
    contents |= {f"said {number}": one.said.encode() for number, one in enumerate(done)}
    assert {} == {place: hits(content) for place, content in contents.items() if hits(content)}
    assert code == done[0].code
    assert [True] * len(way.heads) == [PROXY_PAIR.encode() in head for head in way.heads]


def test_a_connector_that_fails_to_load_tells_no_secret(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / ".env").write_text(DOTENV)
    project.write("import os\nraise RuntimeError(os.environ['AWS_SECRET_ACCESS_KEY'] + open('.env').read())\n")
    for arguments in (("pull", "shop"), ("list",), ("list", "--json"), ("check", "shop", "--json")):
        done = project.run(*arguments, env=ENVIRONMENT)
        assert [] == hits(done.said.encode()), arguments


@pytest.mark.parametrize(
    "url", ["http://x:{}@h.example", "ftp://x:{}@h.example", "http://x:{}@", "x:{}@h.example", "http://h.example?k={}"]
)
def test_a_base_url_with_a_password_is_refused_without_showing_it(tmp_path: Path, url: str) -> None:
    project = Project(tmp_path)
    project.write(written(url.format(USERINFO), "bearer", ["items"], ()))
    done = project.run("pull", "shop", env={**ENVIRONMENT, "SHOP_AUTH": TOKEN})
    assert (2, []) == (done.code, hits(done.said.encode()))


BUG = """
class Bug:
    cursor = "stable"

    def after(self, response, records):
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        raise ZeroDivisionError(f"of {secret} and " + open(".env").read())


items = Stream(name="items", path="/items", records="items", model=Item, pagination=Bug())
connector = Connector(name="shop", base_url="{url}", auth=AUTH, streams=(items,))
"""


def test_the_traceback_of_a_bug_tells_no_secret(tmp_path: Path) -> None:
    """The only one that a user may see; a debugger of a library would print what the variables hold."""
    with Scenery(tmp_path, "bearer", {"items": lambda said: said.items()}) as scenery:
        scenery.project.write(MODEL + BUG.replace("{url}", scenery.base).replace("AUTH", AUTHS["bearer"]))
        home, user = scenery.project.path, f"someone:{quote(PROXY, safe='')}"
        environment = {**ENVIRONMENT, "SYNCER_PROXY": scenery.way.url(user)}
        process = scenery.project.start("pull", "shop", *LOUD, env=environment)
        said = "".join(process.communicate(timeout=60))
        everything = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert (1, True, True) == (process.returncode, "ZeroDivisionError" in said, "bug in syncer" in said), said
    assert [] == hits(said.encode())
    kept = {place: hits(content) for place, content in everything.items() if not place.endswith((".env", ".netrc"))}
    assert {} == {place: names for place, names in kept.items() if names and "connectors" not in place}
