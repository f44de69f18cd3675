"""Whether there is room for what a pull will write."""

from __future__ import annotations

import shutil
from pathlib import Path

LEAST = 100 * 10**6
"""So few bytes are not much, whatever the file system."""
SHARE = 0.05
PLENTY = 5 * 10**9
"""So many are enough, however small a share they are."""


def short(out: Path, needed: int) -> str:
    """A warning if the file system of a directory has little room left, else nothing.

    `needed` is what the last complete pull received, in bytes; 0 if nobody knows. The directory need not be there.
    """
    place = out.absolute()
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        total, _, free = shutil.disk_usage(place)
    except OSError:
        return ""
    why = low(free, total, needed)
    return f"{out} has {size(free)} left{why}; a full disk stops a pull, and nothing committed is lost" if why else ""


def low(free: int, total: int, needed: int) -> str:
    """Why so little room is too little; empty if it is enough."""
    if not total:
        return ""
    if free < needed:
        return f", and the last complete pull received {size(needed)}"
    if free < LEAST:
        return ", which is not much"
    return f", which is {free / total:.1%} of its file system" if free < min(SHARE * total, PLENTY) else ""


def size(count: float) -> str:
    """Bytes for people: `812 B`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
