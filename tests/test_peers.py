"""A name may lead anywhere, and from one minute to the next elsewhere: what is close is not reached from afar.

What needs public addresses, metadata services and names of its own runs in a network of its own, where the loopback
device has all of these addresses: the scenes at the end, each in a process of its own under `unshare`. Where that
is not allowed they are skipped; the rest injects `getaddrinfo`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from syncer import ClientCredentials
from syncer.errors import ProtocolError, SyncerError, UnavailableError
from syncer.peers import NEAR, NEVER, OWN, PUBLIC, Peers, closeness, connect, resolve
from syncer.wire import Limits
from tests.command import CLEAN
from tests.scripted import Time, response, scripted
from tests.test_client import GOOD, Asker, status

API = "93.184.216.34"
SOON = Time().monotonic


@pytest.mark.parametrize(
    ("expected", "addresses"),
    [
        (PUBLIC, "93.184.216.34 8.8.8.8 2606:2800:220:1::1 64:ff9b::808:808 ::ffff:8.8.8.8 2002:808:808::1 ::8.8.8.8"),
        (NEAR, "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 0.1.2.3 198.18.0.1 192.0.2.1 240.0.0.1"),
        (NEAR, "255.255.255.255 fd00::1 fc00::1 fec0::1 2001:db8::1 64:ff9b:1::808:808 ::ffff:0:808:808 100::1"),
        (NEAR, "::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1::1 ::10.0.0.1 2001:0:4136:e378:8000:63bf:3fff:fdd2 4000::1"),
        (OWN, "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 ::127.0.0.1"),
        (NEVER, "169.254.169.254 169.254.0.1 fe80::1 fe80::1%eth0 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe"),
        (NEVER, "2002:a9fe:a9fe::1 0.0.0.0 :: ::ffff:0.0.0.0 224.0.0.1 ff02::1 239.1.2.3 ::169.254.169.254"),
        (NEVER, "fd00:ec2::254 100.100.100.200 168.63.129.16 192.0.0.192 ::ffff:100.100.100.200"),
    ],
)
def test_how_close_an_address_is(expected: int, addresses: str) -> None:
    assert {} == {address: closeness(address) for address in addresses.split() if closeness(address) != expected}


# --- names that lead close ---


@contextmanager
def listening(*places: str) -> Iterator[tuple[int, list[bytes]]]:
    """A port on all addresses of this machine, and what was said to it on each connection."""
    heard: list[bytes] = []
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    listener = socket.create_server(("", 0), family=family, dualstack_ipv6=both, backlog=64)
    listener.settimeout(0.1)
    over = threading.Event()

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if over.is_set():
                    return
                continue
            with connection, suppress(OSError):
                connection.settimeout(5)
                heard.append(connection.recv(65536))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        over.set()
        thread.join(10)
        listener.close()


Answers = dict[str, list[str]]


def found(addresses: list[str], port: int) -> list[Any]:
    return [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses
    ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What names stand for, where they are here; everything else is looked up."""
    known: Answers = {}
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> Any:
        return found(known[host], port) if host in known else ask(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


WAYS_HOME = [
    *("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1"),
    *("017700000001", "0177.0.0.1", "0", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[0:0:0:0:0:0:0:1]", "127.0.0.2", "127.255.255.254", "home.shop.example", "mixed.shop.example"),
]


@pytest.mark.parametrize("host", WAYS_HOME)
def test_an_api_on_the_internet_cannot_lead_to_this_machine_however_it_is_spelt(names: Answers, host: str) -> None:
    names |= {"api.shop.example": [API], "home.shop.example": ["127.0.0.1"], "mixed.shop.example": ["::1", "127.0.0.1"]}
    with listening() as (port, heard):
        try:
            with pytest.raises(ProtocolError, match="into your own network") as caught:
                Peers("api.shop.example").connect(host, port, 5.0, Time().monotonic).close()
        except OSError:
            pytest.skip("this machine does not know that spelling")
    assert "nothing was sent" in caught.value.hint
    assert [b""] == heard


def test_an_api_on_this_machine_is_reached_however_it_is_spelt(names: Answers) -> None:
    with scripted(then=GOOD) as api:
        names["api.shop.example"] = ["127.0.0.1"]
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "api.shop.example", "API.shop.example."):
            names["API.shop.example."] = ["127.0.0.1"]
            reached = Peers(host).connect(host, api.port, 5.0, Time().monotonic)
            assert ("127.0.0.1", api.port) == reached.getpeername()
            reached.close()


def test_the_closest_that_a_name_allows_is_its_farthest_address(names: Answers) -> None:
    """A zone that names the internet and this machine together does not open this machine."""
    names["api.shop.example"] = [API, "127.0.0.1"]
    with listening() as (port, heard):
        peers = Peers("api.shop.example")
        names["rebound.shop.example"] = ["127.0.0.1"]
        with pytest.raises(ProtocolError):
            peers.connect("rebound.shop.example", port, 5.0, Time().monotonic)
    assert [b""] == heard


@pytest.mark.parametrize(
    ("home", "host", "allowed"),
    [
        (API, "127.0.0.1", False),
        ("10.1.2.3", "127.0.0.1", False),
        ("fd00::1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "127.0.0.1", True),
        ("169.254.169.254", "127.0.0.1", True),
    ],
)
def test_nobody_is_closer_than_the_api_was_at_first(names: Answers, home: str, host: str, allowed: bool) -> None:
    names |= {"api.shop.example": [home], "next.shop.example": [host]}
    with listening() as (port, _):
        peers = Peers("api.shop.example")
        if allowed:
            peers.connect("next.shop.example", port, 5.0, Time().monotonic).close()
        else:
            with pytest.raises(ProtocolError, match=r"leads to 127\.0\.0\.1"):
                peers.connect("next.shop.example", port, 5.0, Time().monotonic)
            names["api.shop.example"] = ["127.0.0.1"]  # and what was seen at first stays
            with pytest.raises(ProtocolError, match=r"leads to 127\.0\.0\.1"):
                peers.connect("api.shop.example", port, 5.0, Time().monotonic)


def test_a_proxy_may_be_anywhere_and_opens_nothing(names: Answers) -> None:
    names |= {"api.shop.example": [API], "next.shop.example": ["127.0.0.1"]}
    with listening() as (port, _):
        peers = Peers("api.shop.example")
        peers.connect("127.0.0.1", port, 5.0, Time().monotonic, proxy=True).close()
        with pytest.raises(ProtocolError):
            peers.connect("next.shop.example", port, 5.0, Time().monotonic)


# --- black holes ---


@contextmanager
def black_holes(count: int) -> Iterator[tuple[int, list[str]]]:
    """So many addresses of loopback with a port that answers no SYN: the queue of who waits to be accepted is full."""
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
    listeners, waiting = [], []
    addresses = [f"127.0.77.{number}" for number in range(1, count + 1)]
    try:
        for address in addresses:
            listener = socket.socket()
            listeners.append(listener)
            listener.bind((address, port))
            listener.listen(0)
            for _ in range(20):
                filler = socket.socket()
                waiting.append(filler)
                filler.settimeout(0.2)
                try:
                    filler.connect((address, port))
                except TimeoutError:
                    break
            else:
                pytest.skip("this system answers although nobody accepts")
        yield port, addresses
    finally:
        for one in (*listeners, *waiting):
            one.close()


@pytest.mark.timeout(60)
def test_a_silent_host_with_many_addresses_takes_the_time_for_connecting_once(names: Answers) -> None:
    """Forty times that time would be longer than the test may take, and the system's own patience is two minutes."""
    with black_holes(2) as (port, holes):
        names["api.shop.example"] = holes * 40
        asker = Asker(f"http://api.shop.example:{port}", attempts=1, limits=Limits(connect=1.5))
        with pytest.raises(UnavailableError, match="in time"):
            asker.fetch()


def test_an_address_that_answers_is_reached_behind_one_that_does_not() -> None:
    with black_holes(1) as (port, holes), socket.create_server(("127.0.0.1", port)) as listener:
        clock = time.monotonic  # the first must leave the second its share of the real time
        reached = connect(found([*holes, "127.0.0.1"], port), clock() + 2.0, clock)
        assert listener.getsockname() == reached.getpeername()
        reached.close()


def test_addresses_that_refuse_are_passed_over_and_the_last_refusal_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, clock = listener.getsockname()[1], Time().monotonic
        reached = connect(found(["127.0.0.9", "::1", "127.0.0.1"], port), clock() + 5.0, clock)
        assert ("127.0.0.1", port) == reached.getpeername()
        reached.close()
        with pytest.raises(ConnectionRefusedError):
            connect(found(["127.0.0.9"], port), clock() + 5.0, clock)


def test_no_time_left_is_no_connection() -> None:
    clock = Time().monotonic
    with pytest.raises(TimeoutError):
        connect(found(["127.0.0.1"], 1), clock() - 1.0, clock)


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A lookup that does not end while the test lasts, but for the names in it."""
    over, known = threading.Event(), dict[str, Any]()

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host not in known:
            over.wait(50)
            raise socket.gaierror(socket.EAI_AGAIN, "too late")
        return found(known[host], port)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield known
    over.set()


@pytest.mark.timeout(30)
def test_a_lookup_without_an_answer_is_not_waited_for(mute: dict[str, Any]) -> None:
    asker = Asker("http://api.shop.example", attempts=1, limits=Limits(connect=0.4))
    with pytest.raises(UnavailableError, match="cannot be resolved"):
        asker.fetch()
    assert any(thread.name == "addresses of api.shop.example" for thread in threading.enumerate())


@pytest.mark.timeout(30)
def test_neither_is_one_for_the_api_where_another_host_comes_first(mute: dict[str, Any]) -> None:
    mute["other.shop.example"] = ["127.0.0.1"]
    with listening() as (port, heard), pytest.raises(socket.gaierror):
        Peers("api.shop.example").connect("other.shop.example", port, 0.4, Time().monotonic)
    assert [] == heard


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "a..example", "xn--\u00e9.example"])
def test_a_name_without_an_address_says_so(host: str) -> None:
    with pytest.raises((OSError, UnicodeError)):
        resolve(host, 80, 10.0)


def test_a_name_that_cannot_be_looked_up_ends_in_an_error_of_ours() -> None:
    with pytest.raises(SyncerError):
        Asker("http://" + "a" * 64 + ".example", attempts=1).fetch()


# --- a network of its own ---

ADDRESSES = {
    "api.shop.example": API,
    "other.shop.example": "93.184.216.35",
    "home.shop.example": "127.0.0.1",
    "home6.shop.example": "::1",
    "mapped.shop.example": "::ffff:127.0.0.1",
    "private.shop.example": "10.1.2.3",
    "private2.shop.example": "192.168.7.7",
    "private6.shop.example": "fd00::7",
    "shared.shop.example": "100.64.0.7",
    "metadata.shop.example": "169.254.169.254",
    "metadata6.shop.example": "fd00:ec2::254",
    "nat64.shop.example": "64:ff9b::7f00:1",
    "sixtofour.shop.example": "2002:7f00:1::1",
}
FORMS = ("127.1", "2130706433", "0x7f000001", "017700000001", "0", "0.0.0.0")


class Everywhere:
    """One server on every address of a network of its own: it answers for each by its host, and knows who was asked."""

    def __init__(self, answers: dict[str, Callable[[], bytes]]) -> None:
        self.heard: list[str] = []
        self._answers = answers
        self._listener = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(10)
                said = connection.recv(65536)
                if said:
                    host = said.partition(b"Host: ")[2].partition(b"\r\n")[0].decode().rpartition(":")[0]
                    self.heard.append(f"{host} at {connection.getsockname()[0].removeprefix('::ffff:')}")
                    connection.sendall(self._answers.get(host, lambda: GOOD)())
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(65536)


def named(names: dict[str, str]) -> None:
    """Change what names stand for, as whoever runs their zone can."""
    Path("/etc/hosts").write_text("".join(f"{address} {name}\n" for name, address in names.items()))


def ended(asker: Asker, target: str = "/items") -> str:
    """The error that a fetch ends in, or nothing."""
    try:
        asker.fetch(target)
    except SyncerError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def scene_rebinding() -> Any:
    named({"api.shop.example": API})
    world = Everywhere({})
    asker = Asker(f"http://api.shop.example:{world.port}")
    first = ended(asker)
    results = {}
    for name, address in ADDRESSES.items():
        named({"api.shop.example": address})
        results[name] = ended(asker)
    return {"first": first, "heard": sorted(set(world.heard)), "ended": results}


def scene_redirects() -> Any:
    named(ADDRESSES)
    found: dict[str, Any] = {}
    for base in ("api.shop.example", "private.shop.example", "home.shop.example"):
        places = [place for place in (*ADDRESSES, *FORMS) if place != base]
        coming = iter(places)
        world = Everywhere({base: lambda: status("302 Found", f"Location: http://{next(coming)}:{world.port}/got")})  # noqa: B023
        hosts = [f"http://{place}:{world.port}" for place in places]
        asker = Asker(f"http://{base}:{world.port}", hosts=hosts, attempts=1)
        results = {place: ended(asker) for place in places}
        reached = [place for place, error in results.items() if not error]
        refused = [
            place for place, error in results.items() if error.startswith("ProtocolError") and "leads to" in error
        ]
        stray = sorted({one for one in world.heard if one.partition(" ")[0] in refused})
        found[base] = {"reached": reached, "refused": refused, "stray": stray}
    return found


def scene_tokens() -> Any:
    """An API on the internet whose tokens come from this machine, by the connector's own word."""
    named(ADDRESSES)
    token = response(b'{"access_token": "t0k3n-0f-h3r3", "expires_in": 3600}')
    world = Everywhere({"127.0.0.1": lambda: token})
    auth = ClientCredentials(
        token_url=f"http://127.0.0.1:{world.port}/token", client_id="API_USER", client_secret="API_TOKEN"
    )
    environment = {"API_USER": "somebody", "API_TOKEN": "s3cr3t-0f-th3-us3r"}
    asker = Asker(f"http://api.shop.example:{world.port}", auth=auth, environment=environment)
    first = ended(asker)
    named({"api.shop.example": "127.0.0.1"})
    return {"first": first, "second": ended(asker), "heard": world.heard}


def scene_lookup() -> Any:
    """A resolver that hears every question and answers none."""
    named({})
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    resolver.bind(("127.0.0.1", 53))
    asker = Asker("http://api.shop.example", attempts=1, limits=Limits(connect=0.5))
    error = ended(asker)
    waiting = any(thread.name == "addresses of api.shop.example" for thread in threading.enumerate())
    resolver.settimeout(5)
    return {"error": error, "waiting": waiting, "asked": b"shop" in resolver.recv(512)}


def scene_syn() -> Any:
    """A host that is not there: what is sent to it gets lost."""
    subprocess.run(
        "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up"
        " && ip addr add 10.9.9.1/24 dev v0 && ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:01 dev v0"
        " && ip neigh add 10.9.9.3 lladdr 02:00:00:00:00:01 dev v0",
        shell=True,
        check=True,
    )
    Path("/etc/hosts").write_text("10.9.9.2 api.shop.example\n10.9.9.3 api.shop.example\n")
    return ended(Asker("http://api.shop.example", attempts=1, limits=Limits(connect=0.6)))


SETTING = """
set -e
ip link set lo up
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/resolv.conf" /etc/resolv.conf
for address in $3; do ip addr add "$address" dev lo $(case $address in *:*) echo nodad;; esac) ; done
exec "$4" -m tests.test_peers "$2"
"""


def scene(name: str) -> Any:
    """What a scene found out, played in a network of its own."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("there is no `unshare` or no `ip`")
    if subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a network of its own is not allowed here: that wants root")
    own = [address for address in ADDRESSES.values() if address not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")]
    with TemporaryDirectory() as directory:
        (Path(directory) / "hosts").touch()
        (Path(directory) / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        addresses = " ".join(f"{address}/{128 if ':' in address else 32}" for address in own)
        command = ["unshare", "-n", "-m", "sh", "-c", SETTING, "sh", directory, name, addresses, sys.executable]
        done = subprocess.run(command, env=CLEAN, capture_output=True, text=True, check=False, timeout=120)
    if "RTNETLINK" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no such network can be made here: {done.stderr.strip()[:200]}")
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_a_name_that_is_bound_anew_in_the_middle_of_a_pull_leads_nowhere_closer() -> None:
    """DNS rebinding: what answered from the internet is, a moment later, an address of ours."""
    found = scene("rebinding")
    assert "" == found["first"]
    outside = {"api.shop.example", "other.shop.example"}
    assert dict.fromkeys(outside, "") == {name: error for name, error in found["ended"].items() if name in outside}
    close = {name: error for name, error in found["ended"].items() if name not in outside}
    assert [] == [
        name for name, error in close.items() if not error.startswith("ProtocolError: api.shop.example leads")
    ]
    assert [f"api.shop.example at {API}", "api.shop.example at 93.184.216.35"] == found["heard"]


def test_a_declared_host_is_reached_only_if_it_is_no_closer_than_the_api() -> None:
    found = scene("redirects")
    outside = ["api.shop.example", "other.shop.example"]
    private = [name for name in ADDRESSES if name.startswith(("private", "shared"))]
    home = [name for name in ADDRESSES if name.startswith(("home", "mapped", "nat64", "sixtofour"))]
    never = [name for name in ADDRESSES if name.startswith("metadata")]
    allowed = {
        "api.shop.example": outside,
        "private.shop.example": [*outside, *private],
        "home.shop.example": [*outside, *private, *home, *FORMS],
    }
    for base, places in allowed.items():
        assert set(places) - {base} == set(found[base]["reached"])
        assert {*home, *private, *never, *FORMS} - set(places) == set(found[base]["refused"])
        assert [] == found[base]["stray"]


def test_tokens_may_come_from_where_the_connector_says_and_the_api_stays_where_it_was() -> None:
    found = scene("tokens")
    assert "" == found["first"]
    assert "leads to 127.0.0.1" in found["second"]
    assert ["127.0.0.1 at 127.0.0.1", f"api.shop.example at {API}"] == found["heard"]


def test_a_resolver_that_does_not_answer_is_not_waited_for() -> None:
    found = scene("lookup")
    assert "cannot be resolved" in found["error"]
    assert (True, True) == (found["asked"], found["waiting"])


def test_a_host_that_answers_nothing_is_given_up_in_time() -> None:
    assert "did not answer in time" in scene("syn")


if __name__ == "__main__":
    print(json.dumps(globals()[f"scene_{sys.argv[1]}"]()), flush=True)
    os._exit(0)  # a lookup may still be waiting
