"""What an output holds of records that are about to join it, and how it tells records apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..decode import encode
from ..page import JSON, digest
from ..stream import Stream

Values = Mapping[str, JSON]
"""A record's values by the API's names."""


@dataclass(frozen=True, slots=True)
class Held:
    """The versions that are in the output, of the records that were asked for.

    `key` is what the sink tells records apart by, and `versions` has the replication value of the valid version under
    each key that was found, null for a stream that has none.
    """

    key: Callable[[Values], bytes]
    versions: Mapping[bytes, JSON]


def identity(stream: Stream) -> Callable[[Values], bytes]:
    """What tells records apart: the primary key as JSON; the whole record where a stream has none."""
    if stream.key:
        # A copy: what orjson returns keeps the room that it was written in, some twenty times that of a key.
        return lambda values: bytes(memoryview(encode([values.get(name) for name in stream.key])))
    return lambda values: digest(encode(values, ordered=True), 16).encode()
