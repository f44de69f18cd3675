"""TLS on loopback: an authority of our own, certificates of every kind, and answers over them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import trustme

from tests.scripted import Talk

AUTHORITY = trustme.CA(organization_name="the authority of the tests")
STRANGER = trustme.CA(organization_name="an authority that nobody trusts")
HOST = "127.0.0.1"


def bundle(directory: Path, authority: trustme.CA = AUTHORITY) -> str:
    """The path of a file with an authority's certificate."""
    file = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


def server(
    *names: str, by: trustme.CA = AUTHORITY, since: datetime | None = None, until: datetime | None = None
) -> ssl.SSLContext:
    """What a server shows that has a certificate for these names, or for the address of loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    by.issue_cert(*(names or (HOST,)), not_before=since, not_after=until).configure_cert(context)
    return context


def selfmade() -> ssl.SSLContext:
    """What a server shows that has signed its own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with STRANGER.cert_pem.tempfile() as certificate, STRANGER.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    return context


def over_tls(
    context: ssl.SSLContext, answer: bytes | Callable[[Talk], None], *, goodbye: bool = True
) -> Callable[[Talk], None]:
    """The same answer over TLS; without `goodbye` the connection ends without a close_notify, as if it were cut."""

    def serve(talk: Talk) -> None:
        talk.connection.settimeout(20)
        talk.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each goodbye takes 40 ms
        with context.wrap_socket(talk.connection, server_side=True) as secure:
            talk.connection = secure
            if callable(answer):
                answer(talk)
                return
            talk.hear()
            talk.say(answer)
            if goodbye:
                with suppress(OSError):  # the client goes without one
                    secure.unwrap()
            else:
                talk.end()

    return serve
