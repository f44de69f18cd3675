"""HTTP Digest (RFC 7616): a password that is proved and not sent."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from .secrets import secret, variable
from .style import Context, Signable

_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_PART = re.compile(r'([a-zA-Z]{1,20})\s*=\s*(?:"((?:[^"\\]|\\.){0,1000})"|([^\s",]{1,200}))')
_MOST = 20


@dataclass(frozen=True, slots=True)
class Digest:
    """HTTP Digest. Both are variables; the first request goes out without, and its 401 says how to prove it."""

    username: str
    password: str
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable."""
        for name in self.variables():
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables that hold the user name and the password."""
        return (self.username, self.password)

    def secrets(self) -> tuple[str, ...]:
        """The password's."""
        return (self.password,)

    def query(self) -> tuple[str, ...]:
        """None: the proof travels in a header."""
        return ()

    def open(self, context: Context) -> _Proof:
        """What signs the requests of one run."""
        return _Proof(*(secret(name, context.environment) for name in self.variables()))


class _Proof:
    """Remembers the server's latest challenge, and how often it was used."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._lock, self._challenge, self._count = threading.Lock(), dict[str, str](), 0

    def ready(self, ahead: float) -> None:
        """Nothing: only a 401 says what is needed."""

    def sign(self, request: Signable) -> None:
        """Answer the challenge, if there was one."""
        with self._lock:
            if self._challenge:
                self._count += 1
                count, challenge = self._count, self._challenge
            else:
                return
        parts = urlsplit(request.url or "")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own = secrets.token_hex(16)
        request.headers["Authorization"] = proof(
            challenge, self._user, self._password, request.method or "GET", target, own, count
        )

    def secrets(self) -> Iterable[str]:
        """The password."""
        return (self._password,)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether a 401 brings a challenge that can be answered and was not answered just now."""
        found = challenge(headers.get("www-authenticate", "")) if status == 401 else {}
        with self._lock:
            if not found or (found["nonce"] == self._challenge.get("nonce") and self._count):
                return False
            self._challenge, self._count = found, 0
        return True


def challenge(header: str) -> dict[str, str]:
    """The strongest Digest challenge that we can answer; empty if there is none."""
    found = []
    for text in re.split(r"(?:\A|,\s*)(?=[A-Za-z]{1,20}\s+[A-Za-z]{1,20}\s*=)", header[:8192])[:_MOST]:
        if text[:7].lower() == "digest ":
            parts = {name.lower(): quoted or bare for name, quoted, bare in _PART.findall(text[7:])}
            offers = re.split(r"\s*,\s*", parts.get("qop", "auth"))
            algorithm = parts.get("algorithm", "MD5").upper()
            usable = "auth" in offers and algorithm.removesuffix("-SESS") in _HASHES
            if usable and parts.get("nonce") and header.isascii() and header.isprintable():
                found.append({**parts, "algorithm": algorithm})
    return max(found, key=lambda parts: list(_HASHES).index(parts["algorithm"].removesuffix("-SESS")), default={})


def proof(parts: Mapping[str, str], user: str, password: str, method: str, target: str, own: str, count: int) -> str:
    """The Authorization header that answers a challenge; `own` is our nonce, `count` how often theirs was used."""
    algorithm = parts["algorithm"]

    def hashed(text: str) -> str:
        return hashlib.new(_HASHES[algorithm.removesuffix("-SESS")], text.encode(), usedforsecurity=False).hexdigest()

    realm, nonce, used = parts.get("realm", ""), parts["nonce"], f"{count:08x}"
    first = hashed(f"{user}:{realm}:{password}")
    if algorithm.endswith("-SESS"):
        first = hashed(f"{first}:{nonce}:{own}")
    second = hashed(f"{method}:{target}")
    modern = "qop" in parts
    told = hashed(f"{first}:{nonce}:{used}:{own}:auth:{second}" if modern else f"{first}:{nonce}:{second}")
    header = f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{target}", response="{told}"'
    header += f", algorithm={parts['algorithm']}" if "algorithm" in parts else ""
    header += f', opaque="{parts["opaque"]}"' if "opaque" in parts else ""
    return header + (f', qop=auth, nc={used}, cnonce="{own}"' if modern else "")
