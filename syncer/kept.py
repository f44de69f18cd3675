"""Pages kept as they came, so that an output can be made anew under another model without asking the API again.

    OUT/SOURCE/.syncer/pages/cache.db

A page is kept under its place in the output, counted from the last full refresh, with all that the loop knows of it:
the bytes of its records, the requests before and behind it, the run and the moment. The checkpoint vouches for them
by a chain of fingerprints (`Checkpoint.kept`), so whatever is gone, changed or put there is found out, and named.
Of a stream that masks the records are kept with their masks. diskcache opens it as it opens the cache: see there.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .cache import opened
from .checkpoint import Checkpoint
from .decode import Rows, Unparsable, encode, text_of
from .page import Page, Request, digest
from .validate import Mask, Reason
from .validators import telling

ROOM = 2 * 2**30
AGE = 365 * 86400.0
_FORM = b"syncer page 1\n"
_HEAD = len(_FORM) + 32
_LARGEST = 2**31
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """A page that was kept: which run of the output it was, and when it was judged."""

    run: int
    stamp: str
    page: Page


class Pages:
    """The kept pages of one stream in one output. Nothing here stops a pull: what cannot be kept is said once."""

    def __init__(
        self,
        home: Path,
        kind: str,
        stream: str,
        notice: Callable[[str], None] = lambda text: None,
        *,
        room: float = ROOM,
        age: float = AGE,
    ) -> None:
        self._directory, self._prefix = home / ".syncer" / "pages", f"{kind}/{stream}"
        self._notice, self._room, self._age = notice, room, age
        self._inner: Any = None
        self._over = False

    def keep(
        self, after: Checkpoint, page: Page, stamp: str, kept: Sequence[tuple[bytes, Mask]], secrets: Sequence[str]
    ) -> str:
        """Keep the page that a checkpoint covers last; what that checkpoint has to say of the pages kept so far.

        `kept` are its records with their masks, where the stream masks.
        """
        if self._over:
            return after.kept
        try:
            if not self._inner:
                self._inner = opened(self._directory)
                if after.stored.pages == 1:
                    self._forget(after.generation + 1)
            entry = packed(after.kept, after.run, page, stamp, kept)
            if telling({}, _plain(entry), secrets):
                self._notice(f"page {page.number} repeats a secret and is not kept")
                return after.kept
            if self._inner.volume() + len(entry) > self._room:
                self._inner.expire()
                if self._inner.volume() + len(entry) > self._room:
                    self._end(f"{self._directory} is full: pages are not kept from page {page.number} on")
                    return after.kept
            key = f"{self._prefix}/{after.generation}/{after.stored.pages}"
            self._inner.set(key, entry, expire=self._age, tag=f"{self._prefix}/{after.generation}")
            return digest(entry, 16)
        except Exception as error:  # whatever is wrong with a database that somebody may have put there
            self._end(f"pages are not kept from page {page.number} on ({type(error).__name__}: {self._directory})")
            return after.kept

    def complete(self, generation: int) -> None:
        """Forget the pages of outputs that this one has replaced."""
        with suppress(Exception):
            if self._inner:
                self._forget(generation)

    def read(self, checkpoint: Checkpoint) -> Iterator[Kept | int]:
        """Every page of the output in its order; the number of its place for one that is not there as it was kept."""
        try:
            self._inner = self._inner or (opened(self._directory) if self._directory.is_dir() else None)
        except Exception:  # the same as nothing
            self._inner = None
        chain: str | None = ""
        last = checkpoint.stored.pages
        for number in range(1, last + 1):
            entry = self._entry(checkpoint.generation, number) if checkpoint.kept else None
            found = unpacked(entry) if entry is not None else None
            if entry is None or found is None:
                chain = None
                yield number
                continue
            before, kept = found
            mine = digest(entry, 16)
            whole = chain in (None, before) and (number < last or mine == checkpoint.kept)
            chain = mine if whole else None
            yield kept if whole else number

    def missing(self, checkpoint: Checkpoint) -> str:
        """Which pages are not there as they were kept, in words; "" if all are."""
        starts, gone = {checkpoint.stored.pages - checkpoint.counts.pages: checkpoint.run}, []
        for number, found in enumerate(self.read(checkpoint), 1):
            if isinstance(found, Kept):
                starts[number - found.page.number] = found.run
            else:
                gone.append(number)
        where: dict[str, list[int]] = {}
        for number in gone:
            below = max((start for start in starts if start < number), default=None)
            above = min((start for start in starts if start >= number), default=None)
            if below is not None and (above is None or starts[above] == starts[below] + 1):
                where.setdefault(f"run {starts[below]}", []).append(number - below)
            else:  # whole runs are gone, and with them how many pages each had
                first = "before" if below is None else f"from run {starts[below]} to before"
                where.setdefault(f"{first} run {starts[above or 0]}, of the output", []).append(number)
        said = [f"{name}, {_ranges(numbers)}" for name, numbers in where.items()]
        more = f" and {len(said) - _SHOWN} more runs" if len(said) > _SHOWN else ""
        return (
            f"{len(gone):,} of the {checkpoint.stored.pages:,} pages: {'; '.join(said[:_SHOWN])}{more}" if gone else ""
        )

    def close(self) -> None:
        """Close the database."""
        with suppress(Exception):
            if self._inner is not None:
                self._inner.close()
        self._inner = None

    def _entry(self, generation: int, number: int) -> bytes | None:
        with suppress(Exception):
            entry = self._inner.get(f"{self._prefix}/{generation}/{number}")
            return entry if isinstance(entry, bytes) else None
        return None

    def _forget(self, generation: int) -> None:
        for older in range(max(1, generation - 5), generation):
            self._inner.evict(f"{self._prefix}/{older}")

    def _end(self, notice: str) -> None:
        self.close()
        self._over = True
        self._notice(notice)


def packed(before: str, run: int, page: Page, stamp: str, kept: Sequence[tuple[bytes, Mask]] = ()) -> bytes:
    """A page as it is kept."""
    raws, odd = _raws(page.records) if not kept else ([raw for raw, _ in kept], {})
    head = {
        "before": before,
        "run": run,
        "stamp": stamp,
        "number": page.number,
        "request": page.request.to_json(),
        "asked": page.asked,
        "next": page.next.to_json() if page.next else None,
        "total": page.total,
        "date": page.date.isoformat(),
        "digest": page.digest,
        "tail": list(page.tail),
        "note": page.note,
        "sizes": [len(raw) for raw in raws],
        "odd": odd,
        "masked": [{**asdict(mask), "places": sorted(mask.places)} for _, mask in kept],
    }
    text = encode(head)
    rest = len(text).to_bytes(4) + text + zlib.compress(b"".join(raws), 1)
    return _FORM + _seal(rest) + rest


def unpacked(entry: bytes) -> tuple[str, Kept] | None:
    """The mark of the page before it and the page, from its kept form; None if it is none."""
    try:
        if not entry.startswith(_FORM):
            return None
        rest = entry[_HEAD:]
        if entry[len(_FORM) : _HEAD] != _seal(rest):
            return None
        end = 4 + int.from_bytes(rest[:4])
        head = json.loads(rest[4:end])
        body = zlib.decompressobj().decompress(rest[end:], _LARGEST)
        raws, at = list[bytes](), 0
        for size in head["sizes"]:
            raws.append(body[at : at + size])
            at += size
        if at != len(body):
            return None
        rows = Rows(raws)
        odd = head["odd"]
        records: Sequence[Any] = rows
        if odd:
            plain = {int(index): Unparsable(raws[int(index)].decode(), problem) for index, problem in odd.items()}
            records = [plain.get(index) or rows[index] for index in range(len(raws))]
        page = Page(
            number=head["number"],
            request=Request.from_json(head["request"]),
            asked=head["asked"],
            records=records,
            next=Request.from_json(head["next"]) if head["next"] else None,
            total=head["total"],
            date=datetime.fromisoformat(head["date"]),
            digest=head["digest"],
            tail=tuple(head["tail"]),
            note=head["note"],
            masked={index: _mask(saved) for index, saved in enumerate(head["masked"])},
        )
        return str(head["before"]), Kept(int(head["run"]), str(head["stamp"]), page)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, zlib.error, RecursionError):
        return None


def _seal(rest: bytes) -> bytes:
    """What tells a page that has rotted from one that has not."""
    return digest(rest, 16).encode()


def _mask(saved: Any) -> Mask:
    faults = tuple(Reason(**fault) for fault in saved["faults"])
    return Mask(frozenset(saved["places"]), faults, saved["more"], saved["alone"])


def _raws(records: Sequence[Any]) -> tuple[list[bytes], dict[str, str]]:
    """The records as bytes, and what is wrong with those that are no JSON."""
    if isinstance(records, Rows):
        return list(records.raws), {}
    odd = {str(index): one.problem for index, one in enumerate(records) if isinstance(one, Unparsable)}
    return [text_of(one).encode() for one in records], odd


def _plain(entry: bytes) -> bytes:
    """All that is in an entry, for looking into it."""
    end = _HEAD + 4 + int.from_bytes(entry[_HEAD : _HEAD + 4])
    return entry[:end] + zlib.decompress(entry[end:])


def _ranges(numbers: Sequence[int]) -> str:
    """`page 3`, `pages 3 to 7 and 9`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    texts = [" to ".join(f"{one:,}" for one in (span[0], span[-1])[: len(span)]) for span in spans]
    shown = ", ".join(texts[:_SHOWN]) + (", …" if len(texts) > _SHOWN else "")
    return f"{'page' if len(numbers) == 1 else 'pages'} {shown}"
