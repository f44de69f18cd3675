"""The quotas that the headers of an answer speak of, in any convention of the field.

Nearly all say rate limit in their names and one of a dozen words behind it (`_KINDS`), with which of several
buckets is meant before or after: `X-RateLimit-Remaining-Minute`, `Anthropic-RateLimit-Tokens-Reset`. So they are
read by their words rather than by a table of vendors; the few others stand at the end.

What is malformed is ignored, and so is a value longer than LONGEST: nobody needs as much to state a limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from .moments import YEAR, number, seconds

LONGEST = 8192
"""Header values with more characters than this are not read."""

_DAY = 86400.0
_MINUTE = 60.0

_KINDS = {
    **dict.fromkeys(("remaining", "left", "available"), "remaining"),
    **dict.fromkeys(("limit", "max", "quota", "dailylimit"), "quota"),
    **dict.fromkeys(("reset", "resets", "resettime"), "reset"),
    **dict.fromkeys(("used", "usage"), "used"),
    **dict.fromkeys(("interval", "window"), "window"),
}
_ORDER = ("after", "reset", "remaining", "used", "window", "quota")
_NOISE = ("time", "date", "ms", "milliseconds", "after")
_WINDOWS = {
    **dict.fromkeys(("second", "secondly"), 1.0),
    **dict.fromkeys(("minute", "minutely"), _MINUTE),
    **dict.fromkeys(("hour", "hourly"), 3600.0),
    **dict.fromkeys(("day", "daily"), _DAY),
    **dict.fromkeys(("month", "monthly"), 31 * _DAY),
}
_LABELS = ("x-ratelimit-resource", "x-ratelimit-bucket", "ratelimit-name", "ratelimit-scope", "ratelimit-reason")
_NAMED = (
    ("Xero day", "x-daylimit-remaining", "", _DAY),
    ("Xero minute", "x-minlimit-remaining", "", _MINUTE),
    ("Xero app minute", "x-appminlimit-remaining", "", _MINUTE),
    ("Etsy second", "x-remaining-this-second", "x-limit-per-second", 1.0),
    ("Etsy day", "x-remaining-today", "x-limit-per-day", _DAY),
    ("Pipedrive day", "x-daily-requests-left", "", _DAY),
)
_BUCKETS = (("Shopify bucket", "x-shopify-shop-api-call-limit"), ("Recharge bucket", "x-recharge-limit"))
_DRAINS_IN = 20.0
"""Shopify's buckets of 40, 80 and 400 calls leak 2, 4 and 20 a second."""
_META = ("x-app-usage", "x-page-usage", "x-ad-account-usage", "x-business-use-case-usage")

_PARAMETER = re.compile(r";\s*w(?:indow)?=([0-9]{1,9})(?![0-9.])")
_FRACTION = re.compile(r"\s*([0-9]{1,9})/([0-9]{1,9})\s*")
_USAGE = re.compile(r"\s*((?:per-app-)?api-usage)=([0-9]{1,9})/([0-9]{1,9})(?:\([^()]*\))?\s*")
_PAIR = re.compile(r"\s*([a-z]+)=([0-9]{1,10})\s*")
_SHOWABLE = re.compile(r"[A-Za-z0-9_.:/ -]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One quota that the server speaks of, as of the moment it answered.

    name        what to show: the convention and, in brackets, which of several
    remaining   calls, or points, that are left
    quota       of how many
    reset       seconds until it is whole again
    window      seconds that the quota is for: where `reset` is not said, it takes no longer to be whole again
    refill      what comes back each second, for leaky buckets and where only a rate is said
    cost        what a request like the one answered takes
    scope       which of several buckets; empty if there is one
    """

    name: str
    remaining: float | None = None
    quota: float | None = None
    reset: float | None = None
    window: float | None = None
    refill: float | None = None
    cost: float = 1.0
    scope: str = ""

    @property
    def spent(self) -> bool:
        """Whether the next request is one too many."""
        return self.remaining is not None and self.remaining < self.cost

    @property
    def back(self) -> float | None:
        """Seconds until a spent quota allows the next request, by the server's word; None if it did not say."""
        if self.refill and self.remaining is not None:
            needed = min(self.cost, self.quota or self.cost) - self.remaining
            return min(max(0.0, needed) / self.refill, YEAR)
        return self.reset


def read(headers: Mapping[str, str], date: datetime) -> tuple[list[Limit], list[str]]:
    """The quotas in the headers, and the names of the headers that nobody could make sense of."""
    families: dict[str, dict[str, dict[str, list[float]]]] = {}
    found: list[Limit] = []
    strange: list[str] = []
    for name, value in headers.items():
        words = name.replace("rate-limit", "ratelimit").split("-") if len(name) <= 100 else []
        place = next((place for place, word in enumerate(words, 1) if word.endswith("ratelimit")), 0)
        family, rest = "-".join(words[:place]), words[place:]
        if not place or "retry" in rest or any(word.startswith("concurren") for word in rest):
            continue
        kinds = {_KINDS[word] for word in rest if word in _KINDS} | ({"after"} & {*rest})
        kind = next((kind for kind in _ORDER if kind in kinds), "")
        scope = "-".join(word for word in rest if word not in _KINDS and word not in _NOISE)
        if not kind and (rest[-1] in _WINDOWS if rest else number(value) is not None):
            kind = "quota"
        if kind in ("after", "reset", "window"):
            known = [seconds(value, date, 0.001 if {"ms", "milliseconds"} & {*rest} else 1.0)]
        elif kind:
            known = [number(part) for part in value.split(",")] if len(value) <= LONGEST else []
        elif rest == ["policy"] or "=" in value or not rest:
            quotas = _structured(family, headers, rest == ["policy"]) or _pairs(family, scope, value)
            found += quotas
            strange += [name] * (not quotas and not _items(value))
            continue
        else:
            continue
        counts = [count for count in known if count is not None]
        if not counts:
            strange.append(name)
            continue
        said = families.setdefault(family, {}).setdefault(scope, {})
        said[kind] = said.get(kind, []) + counts
        if kind in ("quota", "remaining") and (window := _PARAMETER.search(value[:LONGEST])):
            said.setdefault("parameter", [float(window[1])])
    for family, scopes in families.items():
        for scope, said in scopes.items():
            if said.keys() & {"remaining", "quota", "used"} or (len(scopes) == 1 and said.keys() & {"reset", "after"}):
                found += _quotas(family, scope, said, scopes.get("", {}), _label(headers), date)
    return [*found, *_others(headers), *_usage(headers)], strange


def _quotas(
    family: str, scope: str, said: dict[str, list[float]], common: dict[str, list[float]], label: str, date: datetime
) -> list[Limit]:
    """The quotas in headers of one family and scope; `common` is what the family says for all its scopes."""
    used, quotas = said.get("used", []), said.get("quota", [])
    if family == "x-amzn-ratelimit":
        return [Limit(name="Amazon rate", refill=quotas[0])] if quotas and quotas[0] else []
    if len(used) == len(quotas) == 2:  # Strava: of the quarter of an hour, and of the day, by the clock
        lengths = {"quarter of an hour": 900.0, "day": _DAY}
        return [
            _named(
                family,
                scope,
                remaining=max(0.0, quota - taken),
                quota=quota,
                window=length,
                reset=length - date.timestamp() % length,
            )
            for quota, taken, (scope, length) in zip(quotas, used, lengths.items(), strict=True)
        ]
    remaining = min(said["remaining"]) if "remaining" in said else None
    if remaining is None and used and quotas:
        remaining = max(0.0, quotas[0] - max(used))
    resets = next((waits for key in ("after", "reset") for waits in (said.get(key), common.get(key)) if waits), [None])
    own = [_WINDOWS[word] for word in (*scope.split("-"), *family.split("-")) if word in _WINDOWS]
    windows = [*said.get("window", []), *said.get("parameter", []), *own, *common.get("window", [])]
    return [
        _named(
            family,
            scope or label,
            remaining=remaining,
            quota=next(iter(quotas), None),
            reset=max(resets, key=lambda wait: wait or 0.0),
            window=min(windows[0], YEAR) if windows else None,
        )
    ]


def _named(family: str, scope: str, **counts: float | None) -> Limit:
    """A Limit called by its headers; what cannot be shown of the server's words is left out."""
    scope = scope if _SHOWABLE.fullmatch(scope) else ""
    family = "-".join(word.capitalize() for word in family.split("-")).replace("Ratelimit", "RateLimit")
    return Limit(name=f"{family} ({scope})" if scope else family, scope=scope, **counts)  # type: ignore[arg-type]


def _label(headers: Mapping[str, str]) -> str:
    """Which of several buckets the quota without a name in its headers is about: GitHub, Discord, GitLab, Jira."""
    if headers.get("x-ratelimit-global", "").strip().lower() == "true":
        return "global"
    return next((value.strip() for name in _LABELS if (value := headers.get(name, ""))), "")


def _pairs(family: str, scope: str, value: str) -> list[Limit]:
    """`limit=100, remaining=50, reset=5`: the seventh draft of RateLimit, and Zendesk's endpoints."""
    parts = [_PAIR.fullmatch(part) for part in re.split("[;,]", value)] if len(value) <= LONGEST else [None]
    said = {_KINDS.get(part[1], part[1]): float(part[2]) for part in parts if part}
    if not all(parts) or "remaining" not in said:
        return []
    quota, reset = said.get("quota", said.get("total")), said.get("reset")
    reset = min(reset, YEAR) if reset is not None else None
    return [_named(family, scope, remaining=said["remaining"], quota=quota, reset=reset)]


def _structured(family: str, headers: Mapping[str, str], alone: bool) -> list[Limit]:
    """The RateLimit and RateLimit-Policy fields of the IETF drafts since the eighth: named policies, several of them.

    `alone` asks for the policies that the RateLimit field does not speak of.
    """
    policies = _items(headers.get(f"{family}-policy", ""))
    current = _items(headers.get(family, ""))
    if alone:
        policies = {name: policy for name, policy in policies.items() if name not in current}
        current = {name: {} for name in policies}
    found = []
    for name, state in current.items():
        policy = policies.get(name, {})
        if "concurrent" in str(policy.get("qu", "")) or not (alone or number(state.get("r")) is not None):
            continue
        window, reset = (number(part) for part in (policy.get("w"), state.get("t")))
        found.append(
            _named(
                family,
                name,
                remaining=number(state.get("r")),
                quota=number(policy.get("q")),
                reset=None if reset is None else min(reset, YEAR),
                window=None if window is None else min(window, YEAR),
            )
        )
    return found


def _items(value: str) -> dict[str, dict[str, object]]:
    """The names and parameters in a structured list; nothing of a malformed one, as the drafts demand."""
    if not value or len(value) > LONGEST or not value.isascii():
        return {}
    from http_sf import StructuredFieldError, Token, parse  # 30 ms, for the few who send it

    try:
        items = parse(value.encode(), tltype="list")
    except (StructuredFieldError, ValueError):
        return {}
    named: dict[str, dict[str, object]] = {}
    for item, parameters in items:  # type: ignore[misc, str-unpack, union-attr]
        if isinstance(item, str | Token):
            named[str(item)] = dict(parameters)  # type: ignore[arg-type]
        elif isinstance(item, int) and not isinstance(item, bool):  # the sixth draft: the quota itself
            named[f"{item}"] = {"q": item, **dict(parameters)}  # type: ignore[arg-type]
    return named


def _others(headers: Mapping[str, str]) -> Iterator[Limit]:
    """The quotas in headers that do not say rate limit."""
    for name, remaining, quota, window in _NAMED:
        if (left := number(headers.get(remaining))) is not None:
            yield Limit(name=name, remaining=left, quota=number(headers.get(quota)), window=window, scope=name)
    for name, header in _BUCKETS:
        if (found := _FRACTION.fullmatch(headers.get(header, ""))) and (size := float(found[2])):
            left = max(0.0, size - float(found[1]))
            rate = size / _DRAINS_IN
            yield Limit(name=name, remaining=left, quota=size, reset=(size - left) / rate, refill=rate)
    for part in headers.get("sforce-limit-info", "")[:LONGEST].split(";"):
        if found := _USAGE.fullmatch(part):
            left = max(0.0, float(found[3]) - float(found[2]))
            name = f"Salesforce {found[1]}"
            yield Limit(name=name, remaining=left, quota=float(found[3]), window=_DAY, scope=found[1])


def _usage(headers: Mapping[str, str]) -> Iterator[Limit]:
    """Meta's usage headers: JSON that tells percentages, and when access comes back, in minutes or seconds."""
    for name in _META:
        try:
            said = json.loads(value) if len(value := headers.get(name, "")) <= LONGEST else None
        except (ValueError, RecursionError):
            continue
        groups = [("", said)] if name != _META[-1] else said.items() if isinstance(said, dict) else []
        for scope, usages in groups:
            for usage in usages if isinstance(usages, list) else [usages]:
                if isinstance(usage, dict):
                    yield from _share(name, f"{scope} {usage.get('type', '')}".strip(), usage)


def _share(name: str, scope: str, usage: dict[str, object]) -> Iterator[Limit]:
    shares = [number(usage.get(key)) for key in ("call_count", "total_time", "total_cputime", "acc_id_util_pct")]
    used = max((share for share in shares if share is not None), default=None)
    minutes, rest = number(usage.get("estimated_time_to_regain_access")), number(usage.get("reset_time_duration"))
    if used is not None:
        reset = min(minutes * _MINUTE if minutes else rest or 0.0, YEAR) if minutes or rest else None
        left = 0.0 if minutes else max(0.0, 100.0 - used)
        yield _named(name, scope, remaining=left, quota=100.0, reset=reset, window=3600.0)
