"""What the user's own network asks for: a proxy on the way out, and an authority that signs its certificates.

Read from the environment here, and by nothing else: requests would also take passwords from `.netrc`, and
send a token through a proxy in clear text.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # public in all but typeshed

from .errors import ConfigError

PROXY, BUNDLE = "SYNCER_PROXY", "SYNCER_CA_BUNDLE"
_SECURE = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

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
    if not url or _loopback(plain) or proxy_bypass_environment(f"{plain}:{port}", {"no": spared}):
        return {}
    return {scheme: _checked(name, url)}


def bundle(environment: Mapping[str, str]) -> str | bool:
    """The file of the certificate authorities to trust, or True for those that everybody trusts."""
    given = environment.get(BUNDLE, "").strip()
    if given and not Path(given).exists():
        raise ConfigError(f"{BUNDLE} names {given}, which is not there", hint="name a file of certificates in PEM")
    return given or True


def secrets(environment: Mapping[str, str]) -> list[str]:
    """What is secret of the proxies there are: the password, and what is sent of it."""
    found: list[str] = []
    for name in (PROXY, *_SECURE):
        _, url = _given((name,), environment)
        user, mark, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
        if mark:
            pair = f"{unquote(user)}:{unquote(password)}"
            found += [password, unquote(password), base64.b64encode(pair.encode()).decode()]
    return list(dict.fromkeys(found))


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
        raise ConfigError(f"{name} is not the URL of an http proxy", hint="example: http://proxy.example.org:3128")
    return url


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
