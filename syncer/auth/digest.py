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
from .style import Context, Signable, Watched

_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_LONGEST = 4096
_ELEMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])+')
_PART = re.compile(r'(?:([A-Za-z][\w-]*)\s+)?([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.ASCII)


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
        self._own, self._sent, self._used = "", Watched(), threading.local()

    def ready(self, ahead: float) -> None:
        """Nothing: only a 401 says what is needed."""

    def sign(self, request: Signable) -> None:
        """Answer the challenge, if there was one."""
        with self._lock:
            self._used.nonce = self._challenge.get("nonce")
            if not self._challenge:
                return
            self._count += 1
            count, challenge, own = self._count, self._challenge, self._own
        parts = urlsplit(request.url or "")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        made = proof(challenge, self._user, self._password, request.method or "GET", target, own, count)
        request.headers["Authorization"] = made
        self._sent.keep(made.partition(' response="')[2].partition('"')[0])

    def secrets(self) -> Iterable[str]:
        """The password, and the latest proofs of it."""
        return (self._password, *self._sent)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether a 401 brings a challenge that can be answered, other than the one that this request answered."""
        found = challenge(headers.get("www-authenticate", "")) if status == 401 else {}
        with self._lock:
            if not found or found["nonce"] == self._used.nonce:
                return False
            if found["nonce"] != self._challenge.get("nonce"):
                # One nonce of our own for each of theirs: some servers take the first request's for a session's.
                self._challenge, self._count, self._own = found, 0, secrets.token_hex(16)
        return True


def challenge(header: str) -> dict[str, str]:
    """The strongest Digest challenge that we can answer; empty if there is none."""
    if len(header) > _LONGEST or not (header.isascii() and header.isprintable()):
        return {}
    found: list[dict[str, str]] = []
    parts = dict[str, str]()
    for element in _ELEMENT.findall(header):
        if not (part := _PART.fullmatch(element.strip())):
            parts = {}  # another scheme begins, which has no parts
            continue
        scheme, name, quoted, bare = part.groups()
        if scheme:
            parts = {}
            if scheme.lower() == "digest":
                found.append(parts)
        parts[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    usable = [parts for parts in found if _rank(parts) >= 0 and "auth" in _offers(parts) and parts.get("nonce")]
    return max(usable, key=_rank, default={})


def proof(parts: Mapping[str, str], user: str, password: str, method: str, target: str, own: str, count: int) -> str:
    """The Authorization header that answers a challenge; `own` is our nonce, `count` how often theirs was used."""
    algorithm = parts.get("algorithm", "MD5").upper()

    def hashed(text: str) -> str:
        return hashlib.new(_HASHES[algorithm.removesuffix("-SESS")], text.encode(), usedforsecurity=False).hexdigest()

    realm, nonce, used = parts.get("realm", ""), parts["nonce"], f"{count:08x}"
    first = hashed(f"{user}:{realm}:{password}")
    if algorithm.endswith("-SESS"):
        first = hashed(f"{first}:{nonce}:{own}")
    second = hashed(f"{method}:{target}")
    modern = "qop" in parts
    told = hashed(f"{first}:{nonce}:{used}:{own}:auth:{second}" if modern else f"{first}:{nonce}:{second}")
    named = {"username": user, "realm": realm, "nonce": nonce, "uri": target, "response": told}
    named |= {"opaque": parts["opaque"]} if "opaque" in parts else {}
    named |= {"cnonce": own} if modern or algorithm.endswith("-SESS") else {}
    header = ", ".join(f'{name}="{_escaped(value)}"' for name, value in named.items())
    header += f", algorithm={parts['algorithm']}" if "algorithm" in parts else ""
    return f"Digest {header}" + (f", qop=auth, nc={used}" if modern else "")


def _rank(parts: Mapping[str, str]) -> int:
    """How strong a challenge's algorithm is; -1 if it is none of ours."""
    name = parts.get("algorithm", "MD5").upper().removesuffix("-SESS")
    return list(_HASHES).index(name) if name in _HASHES else -1


def _offers(parts: Mapping[str, str]) -> list[str]:
    return [offer.strip().lower() for offer in parts.get("qop", "auth").split(",")]


def _escaped(text: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", text)
