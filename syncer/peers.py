"""Which addresses a name stands for, a connection to one of them, and whether it may be spoken to.

A timeout of requests covers neither the question for the addresses of a name nor all of them together: both
are bounded here. And a name is no promise: whoever runs its zone may let it lead into the user's own network
from one minute to the next. So the address that a connection has reached is looked at before a byte is sent.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from .errors import ProtocolError

PUBLIC, NEAR, OWN, NEVER = range(4)
"""How close an address is: anybody's, in a network of the user's, this very machine, or where no API is (link-local,
multicast, the places where clouds keep the keys of a machine)."""

_SHARE = 0.2
_GLOBAL = ipaddress.ip_network("2000::/3")
_EMBEDDING = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))  # NAT64, IPv4-compatible
_METADATA = frozenset(("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))

Address = tuple[Any, ...]
"""What getaddrinfo says: family, kind, protocol, canonical name, and the address itself."""


class Peers:
    """Who may be reached in one run: nobody closer than the API itself was when it was first looked up.

    `home` is the API's host; without it the first host that is asked for is taken for it.
    """

    def __init__(self, home: str | None = None) -> None:
        self._home = home and _plain(home)
        self._closest: int | None = None

    def connect(
        self,
        host: str,
        port: int,
        seconds: float,
        monotonic: Callable[[], float],
        *,
        options: Iterable[Any] = (),
        proxy: bool = False,
    ) -> socket.socket:
        """A connection, within so many seconds in all. ProtocolError if it leads where the API cannot be.

        A proxy is the user's own choice and may be anywhere.
        """
        end = monotonic() + seconds
        found = resolve(host, port, seconds)
        if self._closest is None and not proxy:
            away = self._home is not None and self._home != _plain(host)
            own = resolve(self._home or host, port, end - monotonic()) if away else found
            self._closest = min(closeness(str(address[4][0])) for address in own)
        sock = connect(found, end, monotonic, options)
        try:
            peer = str(sock.getpeername()[0])
            if not proxy and closeness(peer) > (self._closest or PUBLIC):
                raise ProtocolError(
                    f"{_plain(host)} leads to {peer}, into your own network, where the API is not",
                    hint="nothing was sent; if you have changed networks (a VPN?), run the same command again",
                )
        except BaseException:
            sock.close()
            raise
        return sock


def closeness(address: str) -> int:
    """PUBLIC, NEAR, OWN or NEVER; of an IPv6 address that stands for an IPv4 one, what that is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if str(ip) in _METADATA:
        return NEVER
    if isinstance(ip, ipaddress.IPv6Address) and not ip.is_loopback and not ip.is_unspecified:
        inner = ip.ipv4_mapped or ip.sixtofour
        if any(ip in network for network in _EMBEDDING):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return closeness(str(inner))
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return NEVER
    if ip.is_loopback:
        return OWN
    anybodys = ip.is_global and (ip.version == 4 or ip in _GLOBAL)
    return PUBLIC if anybodys else NEAR


def resolve(host: str, port: int, seconds: float) -> Sequence[Address]:
    """The addresses of a name; gaierror if there are none, or none in time.

    The question is asked in a thread of its own, because nothing else can end it.
    """
    answer: SimpleQueue[Sequence[Address] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=ask, name=f"addresses of {host}", daemon=True).start()
    try:
        found = answer.get(timeout=max(seconds, 0.001))
    except Empty:
        raise socket.gaierror(socket.EAI_AGAIN, "not in time") from None
    if isinstance(found, Exception):
        raise found
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return found


def connect(
    addresses: Sequence[Address], end: float, monotonic: Callable[[], float], options: Iterable[Any] = ()
) -> socket.socket:
    """A connection to the first address that answers; each has its share of the time until the end of it."""
    whole = end - monotonic()
    error: OSError = TimeoutError("no address answered in time")
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        left = end - monotonic()
        if left <= 0:
            break
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as fault:
            error = fault
            continue
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(min(left, max(left / (len(addresses) - place), whole * _SHARE)))
            sock.connect(address)
        except OSError as fault:
            error = fault
            sock.close()
        else:
            return sock
    raise error


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
