"""What the user's own network asks for: a proxy on the way out, and an authority that signs its certificates.

Read from the environment here, and by nothing else: requests would also take passwords from `.netrc`, and
send a token through a proxy in clear text.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # public in all but typeshed

from .errors import ConfigError

PROXY, BUNDLE = "SYNCER_PROXY", "SYNCER_CA_BUNDLE"
_SECURE = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

WRONG = f"check the user name and the password in the URL of the proxy: {PROXY}, or else HTTPS_PROXY"
"""What to do where a proxy refuses its credentials."""

Origin = tuple[str, str, int]


def route(origin: Origin, environment: Mapping[str, str]) -> dict[str, str]:
    """The proxy on the way to an origin, as requests wants it; empty if there is none. ConfigError if it is none.

    SYNCER_PROXY counts for every API, the usual variables only for https, where a proxy sees nothing of what
    it passes on. Neither counts for this machine itself, nor for what NO_PROXY names.
    """
    scheme, host, port = origin
    plain = host.strip("[]")
    name, url = _given((PROXY, *(_SECURE if scheme == "https" else ())), environment)
    spared = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if not url or _loopback(plain) or _spared(plain, port, spared):
        return {}
    return {scheme: _checked(name, url)}


def bundle(environment: Mapping[str, str]) -> str | bool:
    """The file of the certificate authorities to trust, or True for those that everybody trusts. ConfigError."""
    if not (given := environment.get(BUNDLE, "").strip()):
        return True
    try:
        path = str(Path(given).expanduser())
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError, RuntimeError) as error:  # ssl.SSLError is an OSError
        missing = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        why = "cannot be read" if missing else "holds no certificate in PEM"
        raise ConfigError(f"{BUNDLE} names {given}, which {why}", hint="name a file of certificates in PEM") from None
    return path


def authorization(proxy: str) -> str:
    """What is shown to a proxy whose URL holds a user name; empty if it holds none."""
    user, password = _shown(proxy)
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user or password else ""


def secrets(environment: Mapping[str, str]) -> list[str]:
    """What is secret of the proxies there are, and what is sent of it: the password, or a user name without one."""
    found: list[str] = []
    for name in (PROXY, *_SECURE):
        _, url = _given((name,), environment)
        written = url.partition("://")[2].rpartition("@")[0]
        user, mark, password = written.partition(":")
        raw = password if mark else user
        found += [raw, unquote(raw), authorization(url).removeprefix("Basic ")]
    return [value for value in dict.fromkeys(found) if value]


def _shown(url: str) -> tuple[str, str]:
    """The user name and the password in a URL; none in one that cannot be read."""
    try:
        user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    except ValueError:
        return "", ""
    return unquote(user), unquote(password)


def _given(names: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, str]:
    """The first of these variables that is set, and its URL."""
    for name in names:
        if url := environment.get(name, "").strip():
            return name, url if "://" in url else f"http://{url}"
    return "", ""


def _checked(name: str, url: str) -> str:
    """The URL of a proxy that can be used; its text is not shown, it may hold a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable or not url.isprintable():
        raise ConfigError(
            f"{name} is not the URL of an http proxy",
            hint=f"example: http://proxy.example.org:3128; {PROXY} counts before the others",
        )
    return url


def _spared(host: str, port: int, names: str) -> bool:
    """Whether NO_PROXY names a host: by its name, the end of it, an address, or a network such as 10.0.0.0/8."""
    if proxy_bypass_environment(f"{host}:{port}", {"no": names}):
        return True
    with suppress(ValueError):
        ip = ipaddress.ip_address(host)
        for name in names.split(","):
            with suppress(ValueError):
                if "/" in name and ip in ipaddress.ip_network(name.strip(), strict=False):
                    return True
    return False


def _loopback(host: str) -> bool:
    """Whether a host is this machine, also where it is written as a number (127.1, 2130706433)."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        try:
            ip = ipaddress.ip_address(socket.inet_aton(name))
        except (OSError, ValueError):
            return False
    return bool((getattr(ip, "ipv4_mapped", None) or ip).is_loopback)
