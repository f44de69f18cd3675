"""When, and for how long: the ways in which servers write a moment, a length of time or a count.

A number names a moment or a length of time, and nothing beside it says which:

    from 10^12    milliseconds since 1970
    from 10^9     seconds since 1970
    below         seconds from now

A moment since 1970 that is more than a YEAR from the server's Date is no moment and is ignored; whatever else
would be longer than a YEAR is taken for a YEAR. All is measured from `date`, the server's own Date, so that our
clock need not be right. Only ASCII digits count: Python's int() and float() would take `1_000`, `٣` and `inf`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime

YEAR = 365 * 86400.0
"""No wait is longer: whoever says so is wrong, or means never."""

_MOST = 10**15
_LONGEST = 64
_SAYING = 65536

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_LEADING = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?(?=\s*(?:;|\Z))")
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_UNITS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_PIECE = rf"([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?) ?({'|'.join(sorted(_UNITS, key=len, reverse=True))})(?![a-z])"
_EACH = re.compile(_PIECE)
_LENGTH = re.compile(rf"(?:{_PIECE} ?){{1,5}}")
_AGAIN = re.compile(
    rf"\b(?:again|available|retry|wait|resets?)(?: (?:in|after|for|at least|another|about))?:? ((?:{_PIECE} ?){{1,5}})"
)
_AFTER = re.compile(r"\b(?:again|retry) (?:in|after):? ([0-9]{1,6}(?:\.[0-9]{1,9})?)(?!\.?[0-9]| ?[a-z]|[-:/])")


def number(value: object) -> float | None:
    """How many, 0 to 10^15, as JSON or as a header says it, where parameters may follow; None for all else."""
    if isinstance(value, str):
        found = _LEADING.match(value.strip())
        return float(found[0]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, Decimal) and not value.is_finite():
        return None
    return float(value) if 0 <= value <= _MOST else None


def seconds(value: object, date: datetime, unit: float = 1.0) -> float | None:
    """The seconds, 0 to YEAR, to the moment that a value names or in the length of time that it names.

    A number (see above; a short one counts `unit`s), an HTTP date, an ISO 8601 date with its time, or a length
    such as `6m0s`. None for all else.
    """
    if isinstance(value, str):
        value = value.strip()
        if len(value) > _LONGEST:
            return None
        if not _NUMBER.fullmatch(value):
            moment = http_date(value) or _iso(value)
            return _length(value) if moment is None else _capped((moment - date).total_seconds())
    count = number(value)
    if count is None:
        return None
    count *= unit
    if count < 10**9:
        return _capped(count)
    left = (count / 1000 if count >= 10**12 else count) - date.timestamp()
    return _capped(left) if abs(left) <= YEAR else None


def http_date(value: str) -> datetime | None:
    """The moment an HTTP date names (RFC 9110, section 5.6.7), or None if it is not one."""
    if len(value) > _LONGEST or not re.match(r"[A-Z][a-z]+,? ", value):
        return None
    try:
        moment = parsedate_to_datetime(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


def again_in(text: str) -> float | None:
    """The longest wait that a text for people names: "try again in 12s", "retry after 35"."""
    text = " ".join(text[:_SAYING].lower().split())
    waits = [_length(said.strip()) for said, *_ in _AGAIN.findall(text)]
    waits += [_capped(float(said)) for said in _AFTER.findall(text)]
    return max((wait for wait in waits if wait is not None), default=None)


def _iso(value: str) -> datetime | None:
    if not _ISO.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _length(value: str) -> float | None:
    if not _LENGTH.fullmatch(value):
        return None
    return _capped(sum(float(count) * _UNITS[unit] for count, unit in _EACH.findall(value)))


def _capped(wait: float) -> float:
    return min(max(0.0, wait), YEAR)
