"""By what an answer can be asked about again, and what a 304 makes of it (RFC 9110, 13.1; RFC 9111, 4.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from .auth import mask
from .moments import http_date

ENTRY = 16 * 2**20
"""The largest body that is kept, in bytes."""

_SETTLED = timedelta(seconds=60)
_ETAG = re.compile(r"[\x21-\x7e]{1,1024}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,256}")
_NEVER = re.compile(
    r"connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|content-length|content-encoding"
    r"|set-cookie2?|date|age|retry-after"
)
"""Response headers that speak of one transfer, not of the page."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A page that the API sent before. `validators` are the request headers that ask whether it still is so."""

    validators: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def confirmed(self, headers: Mapping[str, str]) -> bool:
        """Whether a 304 with these headers is about this very answer."""
        by = "etag" if "etag" in self.headers or "etag" in headers else "last-modified"
        mine = self.headers.get(by, "")
        return headers.get(by, mine).removeprefix("W/") == mine.removeprefix("W/")

    def updated(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The page's headers after a 304 with these: its own are newer, but it has no content to describe."""
        return {**self.headers, **{name: value for name, value in headers.items() if not name.startswith("content-")}}


def lasting(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer that speak of the page."""
    return {name: value for name, value in headers.items() if not _NEVER.fullmatch(name)}


def keepable(answered: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer may be kept: it can be asked about, nothing forbids it, and it can be sent back as it is."""
    kept = lasting(answered)
    control = {part.strip().partition("=")[0].lower() for part in answered.get("cache-control", "").split(",")}
    vary = {part.strip() for part in answered.get("vary", "").split(",")}
    valid = all(_NAME.fullmatch(name) and value.isprintable() for name, value in kept.items())
    if "no-store" in control or "*" in vary or not valid or len(body) > ENTRY:
        return False
    if "etag" in kept:
        return bool(validators(kept))
    # A page that changes twice in a second has one Last-Modified for both.
    changed, sent = http_date(kept.get("last-modified", "")), http_date(answered.get("date", ""))
    return changed is not None and sent is not None and sent - changed >= _SETTLED


def validators(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that ask whether an answer with these is still so; none if there is nothing to ask by."""
    if "etag" in headers:
        return {"If-None-Match": headers["etag"]} if _ETAG.fullmatch(headers["etag"]) else {}
    changed = headers.get("last-modified", "")
    return {"If-Modified-Since": changed} if changed.isascii() and http_date(changed) else {}


def telling(headers: Mapping[str, str], body: bytes, secrets: Iterable[str]) -> bool:
    """Whether a secret is in an answer: some APIs repeat the key they were asked with."""
    text = json.dumps(dict(headers)).encode() + body
    return mask(text, secrets) != text
