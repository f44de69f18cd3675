"""The records that the server sends: made once, the same in every run, kept in a cache as ready answers.

A record has 25 fields in about a kilobyte of JSON: one nested object, one list, times, amounts, texts. Where a
workload wants bad ones, every hundredth breaks its model in one of three ways.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = ("invoice", "credit_note", "order")
STATUSES = ("draft", "open", "paid", "void", "overdue")
CHANNELS = ("web", "shop", "phone", "partner")
CURRENCIES = ("EUR", "USD", "CHF", "SEK", "JPY")
LANGUAGES = ("de", "en", "fr", "sv", "ja")
NAMES = ("Ada Lindqvist", "Grace Okafor", "Jörg Müller", "Chloé Martin", "Tove Ekström", "Noor Haddad", "佐藤 由美")
CITIES = ("Lund", "Basel", "Graz", "Lyon", "Kyoto", "Leeds", "Porto", "Ghent", "Turku", "Brno", "Split")
TAGS = ("gift", "express", "fragile", "b2b", "repeat", "reviewed", "export", "manual")
TEXT = (
    "Delivered in two parts because the second pallet was still at the border; the customer was told by phone, agreed"
    " to the later date and asked for one invoice over both parts, to be sent once everything has arrived."
)
RECORD = (
    '{"id":%d,"uuid":"%s","kind":"%s","number":"R-2024-%08d","status":"%s","created_at":"%s","updated_at":"%s",'
    '"due_on":"%s","customer":{"id":%d,"name":"%s","email":"customer.%d@mail.example","city":"%s","country":"%s",'
    '"vip":%s},"tags":[%s],"currency":"%s","subtotal":%d.%02d,"tax":%d.%02d,"discount":%s,"quantity":%d,"weight":%s,'
    '"paid":%s,"priority":%d,"channel":"%s","language":"%s","reference":%s,'
    '"url":"https://shop.example/documents/%d?view=full&version=%d","note":"%s","description":"%s","version":%d}'
)
BAD_EVERY = 100
BAD_FIRST = 50


@dataclass(frozen=True)
class Pages:
    """A file of answers, one after the other, and what is in it."""

    path: Path
    lengths: tuple[int, ...]
    records: int
    per_page: int
    bad: bool

    @property
    def size(self) -> int:
        return sum(self.lengths)


def is_bad(number: int) -> bool:
    return number % BAD_EVERY == BAD_FIRST


def cursor(page: int) -> str:
    """The name of a page that nobody can guess from the one before."""
    return hashlib.blake2b(b"page %d" % page, digest_size=12).hexdigest()


def record(number: int, bad: bool) -> str:
    """The JSON of one record."""
    made = FIRST + timedelta(seconds=37 * number)
    changed = made + timedelta(seconds=number % 9973)
    mixed = number * 2654435761 % 2**32
    tags = ",".join(f'"{TAGS[(mixed >> shift) % len(TAGS)]}"' for shift in range(2 + number % 3))
    text = RECORD % (
        number,
        f"{mixed:08x}-{number % 65536:04x}-4{number % 4096:03x}-8{mixed % 4096:03x}-{number:012x}",
        KINDS[number % 3],
        number,
        STATUSES[mixed % 5],
        made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        changed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        (made + timedelta(days=30)).strftime("%Y-%m-%d"),
        mixed % 50_000,
        NAMES[mixed % 7],
        mixed % 50_000,
        CITIES[mixed % 11],
        ("SE", "CH", "AT", "FR")[mixed % 4],
        "true" if mixed % 10 == 0 else "false",
        tags,
        CURRENCIES[mixed % 5],
        mixed % 10_000,
        number % 100,
        mixed % 2_000,
        mixed % 100,
        "null" if number % 4 else f"{mixed % 50}.5",
        1 + mixed % 12,
        f"{mixed % 90}.{number % 1000:03d}",
        "true" if number % 2 else "false",
        mixed % 5,
        CHANNELS[mixed % 4],
        LANGUAGES[number % 5],
        "null" if number % 3 else f'"PO-{mixed}"',
        number,
        number % 7,
        TEXT[: 80 + mixed % 60],
        TEXT,
        number % 7,
    )
    if bad and is_bad(number):
        how = number // BAD_EVERY % 3
        if how == 0:
            return text.replace('"quantity":', '"quantity":"a dozen","ordered":', 1)
        if how == 1:
            return text.replace(f'"currency":"{CURRENCIES[mixed % 5]}"', '"currency":null', 1)
        return text.replace('"priority":', '"urgency":', 1)
    return text


def answers(records: int, per_page: int, bad: bool) -> Iterator[bytes]:
    """The body of every page."""
    pages = -(-records // per_page)
    for page in range(1, pages + 1):
        numbers = range((page - 1) * per_page + 1, min(page * per_page, records) + 1)
        body = ",".join([record(number, bad) for number in numbers])
        following = f'"{cursor(page + 1)}"' if page < pages else "null"
        end = f'],"page":{page},"pages":{pages},"total":{records},"next":{following}}}'
        yield ('{"records":[' + body + end).encode()


def pages(cache: Path, records: int, per_page: int, bad: bool = False) -> Pages:
    """The file with these pages, from the cache or newly made."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = cache / f"{records}-by-{per_page}{'-bad' if bad else ''}-{version}.pages"
    index = path.with_suffix(".json")
    if not index.exists():
        cache.mkdir(parents=True, exist_ok=True)
        lengths = []
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as made:
            for body in answers(records, per_page, bad):
                made.write(body)
                lengths.append(len(body))
        Path(made.name).replace(path)
        index.write_text(json.dumps(lengths))
    return Pages(path, tuple(json.loads(index.read_text())), records, per_page, bad)
