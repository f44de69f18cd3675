"""Bytes to JSON without losing a digit, and without losing a page to one bad value.

A page is cut into its records, which stay the bytes they came as until somebody asks for one (Rows). Integers
stay exact and numbers with a fraction become Decimals, so that what is written is what was sent. When a
page does not parse as a whole, its list of records is cut into elements by their brackets and each is parsed
alone: the one that holds NaN, broken UTF-8 or a number of 5,000 digits becomes an Unparsable, and the rest of
the page is read as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, overload

import msgspec
import orjson

from .page import JSON, Path, dig, steps

VALUES = 20_000_000
RECORDS = 250_000
"""What a page may hold: more would not fit into memory once it is decoded, whatever its bytes weigh."""

DEPTH = 200
"""Records nested deeper are rejected: readers of the output stop at about this depth."""


class DecodeError(ValueError):
    """The bytes are not one JSON document, or hold no list where the records should be."""

    def __init__(self, message: str, *, damaged: bool, body: JSON = None) -> None:
        super().__init__(message)
        self.body = body
        self.damaged = damaged
        """Whether the bytes look cut or mangled on the way, so that asking again may help."""


@dataclass(frozen=True, slots=True)
class Unparsable:
    """One element of a page that is not JSON; `text` is its ASCII form, broken bytes as escapes."""

    text: str
    problem: str


class UnfitError(ValueError):
    """A value that cannot be written as a line of JSON: `kind` names the fault, `path` the place."""

    def __init__(self, kind: str, message: str, path: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.kind = kind
        self.path = path


class Rows(Sequence[JSON]):
    """The records of a page as they came: bytes each, decoded when one is asked for. Unparsable where it is no JSON."""

    __slots__ = ("raws",)

    def __init__(self, raws: list[bytes]) -> None:
        self.raws = raws

    def __len__(self) -> int:
        return len(self.raws)

    @overload
    def __getitem__(self, index: int) -> JSON: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> JSON:
        if isinstance(index, slice):
            return Rows(self.raws[index])
        return _element(self.raws[index].decode("utf-8", "surrogateescape"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def decode(content: bytes, records: Path) -> tuple[JSON, Sequence[JSON]]:
    """The document, and the list of records in it. DecodeError if it has no list there, or one too long."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if sum(map(content.count, (b",", b"[", b"{"))) > VALUES:
        raise DecodeError(f"the answer may hold more than {VALUES:,} values; ask for smaller pages", damaged=False)
    body, found = _cut(content, records) or _decoded(content, records)
    if len(found) > RECORDS:
        raise DecodeError(
            f"the page holds {len(found):,} records, at most {RECORDS:,} can be taken; ask for smaller pages",
            damaged=False,
        )
    return body, found


def _cut(content: bytes, records: Path) -> tuple[JSON, Rows] | None:
    """The same for a document with nothing odd in it; None for all others."""
    try:
        return _shell(content, steps(records))
    except (ValueError, ArithmeticError, RecursionError):  # also what msgspec raises
        return None


def _shell(content: bytes | msgspec.Raw, path: tuple[str | int, ...]) -> tuple[JSON, Rows] | None:
    if not path:
        rows = Rows([bytes(raw) for raw in _LIST.decode(content)])
        return rows, rows
    step, *rest = path
    members = _OBJECT.decode(content)
    inner = _shell(members[step], tuple(rest)) if step in members else None
    if inner is None:
        return None
    body = {name: inner[0] if name == step else _DECODER.decode(bytes(raw).decode()) for name, raw in members.items()}
    return body, inner[1]


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_EXACT = msgspec.json.Decoder(float_hook=Decimal)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _decoded(content: bytes, records: Path) -> tuple[JSON, list[JSON]]:
    try:
        body = _DECODER.decode(content.decode("utf-8"))
    except (ValueError, ArithmeticError, RecursionError) as error:
        return _recover(content, records, error)
    found = dig(body, records)
    if not isinstance(found, list):
        where = f"at {'.'.join(map(str, steps(records)))!r}" if steps(records) else "at its top"
        raise DecodeError(f"the answer holds no list of records {where}; {_shape(body)}", damaged=False, body=body)
    return body, found


def encode(value: JSON, *, ordered: bool = False) -> bytes:
    """One line of JSON, without the newline, no digit lost. UnfitError if there is no such line.

    `ordered` sorts the names in it, for comparing what was sent in one order with what comes in another.
    """
    option = orjson.OPT_SORT_KEYS if ordered else 0
    try:
        line = _trimmed(orjson.dumps(value, default=_number, option=option))
    except (TypeError, orjson.JSONEncodeError):
        return _trimmed(orjson.dumps(_fit(value, ()), option=option))
    if line.count(b"[") + line.count(b"{") > DEPTH:
        _fit(value, ())
    return line


def _trimmed(line: bytes) -> bytes:
    """The same in a buffer of its own length: orjson's begins with a kilobyte, and a page may have many short lines."""
    return bytes(memoryview(line)) if len(line) < _SPACIOUS else line


_SPACIOUS = 1024


def exact(line: bytes) -> JSON:
    """One line that `encode` made, no digit lost. ValueError or RecursionError if it is not one."""
    try:
        return _EXACT.decode(line)
    except (msgspec.MsgspecError, RecursionError):  # of integers with more than 4,300 digits, and of what is no JSON
        return _DECODER.decode(line.decode())


def text_of(value: JSON) -> str:
    """A JSON-like text for a value that has no line of JSON, in plain ASCII, every digit as it came."""
    if isinstance(value, Unparsable):
        return value.text
    try:
        return _text(value)
    except RecursionError:
        return json.dumps(value, default=str)


def _text(value: JSON) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return _digits(value) if isinstance(value, Decimal) else json.dumps(value)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse)


def _number(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal) and _in_range(value):
        return orjson.Fragment(_digits(value))
    raise TypeError(type(value).__name__)


def _digits(value: Decimal) -> str:
    """All digits of a number, its exponent as orjson writes it, which has one from a millionth down."""
    return f"{value:e}" if value and value.adjusted() == -6 else str(value).replace("E", "e")


def _in_range(value: Decimal) -> bool:
    """Whether a double, which is what most readers make of it, is neither infinite nor zero for it."""
    number = float(value)
    return not math.isinf(number) and (number != 0 or not value)


def _fit(value: JSON, path: tuple[str | int, ...]) -> Any:
    """The value with what orjson cannot carry as fragments of JSON; UnfitError names what nothing can carry."""
    if len(path) > DEPTH:
        raise UnfitError("too_deep", f"nested deeper than {DEPTH} levels", path[:8])
    if isinstance(value, dict):
        return {_fit(key, path): _fit(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_fit(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise UnfitError("lone_surrogate", "Text should be valid Unicode, but holds half a surrogate pair", path)
        return value
    if isinstance(value, Decimal):
        if not _in_range(value):
            raise UnfitError("number_out_of_range", "Number is too large or too small for JSON's readers", path)
        return orjson.Fragment(_digits(value))
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value


_OUTSIDE = re.compile(r'(?:[^"\[\]{},:]++|(?P<string>"(?:[^"\\]|\\.)*+(?:"|\Z)))*+(?P<mark>[\[\]{},:]|\Z)', re.DOTALL)
_INSIDE = re.compile(r'(?:[^"\[\]{}]++|"(?:[^"\\]|\\.)*+(?:"|\Z))*+(?P<mark>[\[\]{}]|\Z)', re.DOTALL)
_NESTED = 200_000
"""A page nested deeper than this is not taken apart."""


def _recover(content: bytes, records: Path, error: Exception) -> tuple[JSON, list[JSON]]:
    """The slow way: cut the list into its elements, parse the rest, then each element alone."""
    text = content.decode("utf-8", "surrogateescape")
    spans = list(_elements(text, steps(records)))
    if not spans:
        raise DecodeError(f"the answer is not JSON ({_brief(error)})", damaged=True)
    (start, end), *elements = spans
    try:
        body = _DECODER.decode(f"{text[:start]}[]{text[end:]}")
    except (ValueError, ArithmeticError, RecursionError) as again:
        raise DecodeError(f"the answer is not JSON ({_brief(again)})", damaged=True) from None
    if dig(body, records) != []:  # a second member of the same name hides the list that was cut out
        raise DecodeError("the answer holds no list of records", damaged=False)
    return body, [_element(text[first:last]) for first, last in elements]


def _element(text: str) -> JSON:
    try:
        return _DECODER.decode(text)
    except (ValueError, ArithmeticError, RecursionError) as error:
        escaped = text.strip().encode("ascii", "backslashreplace").decode("ascii")
        return Unparsable(escaped, _brief(error))


def _elements(text: str, path: tuple[str | int, ...]) -> Iterator[tuple[int, int]]:
    """The span of the list at a path, brackets included, then those of its elements; nothing if it never closes.

    One step a bracket, so that it is linear; inside an element nothing else is looked at.
    """
    wanted = list(map(str, path))
    trail: list[str | int | None] = []
    open_: list[str] = []
    spans: list[tuple[int, int]] = []
    below = {"[": 0, "{": 0}  # the brackets open inside the element at hand
    at, begin, depth, start = 0, -1, 0, 0
    while len(open_) < _NESTED:
        inside = begin >= 0 and len(open_) > depth
        token = (_INSIDE if inside else _OUTSIDE).match(text, at)
        mark = token.group("mark") if token else ""
        if not token or not mark:
            return
        at = token.end()
        if mark in "[{":
            if mark == "[" and begin < 0 and len(trail) == len(path) and list(map(str, trail)) == wanted:
                begin, depth, start = at - 1, len(open_) + 1, at
            elif begin >= 0:
                below[mark] += 1
            open_.append(mark)
            trail.append(0 if mark == "[" else None)
        elif mark == ":" and open_ and open_[-1] == "{":
            trail[-1] = _key(token.group("string") or "")
        elif mark == ",":
            if begin >= 0:
                spans.append((start, at - 1))
                start = at
            elif open_ and open_[-1] == "[":
                trail[-1] = int(trail[-1] or 0) + 1
        elif mark in "]}":
            pair = "[" if mark == "]" else "{"
            if begin < 0 and open_[-1:] != [pair]:
                return
            if begin >= 0 and not (below[pair] if inside else pair == "["):
                continue  # one too many in an element, which will not parse; the list itself still has to close
            closed = ""
            while closed != pair:
                closed = open_.pop()
                trail.pop()
                below[closed] -= inside
            if begin >= 0 and len(open_) < depth:
                if text[start : at - 1].strip():
                    spans.append((start, at - 1))
                yield begin, at
                yield from spans
                return


def _key(string: str) -> str:
    try:
        return str(json.loads(string))
    except ValueError:
        return string


def _shape(body: JSON) -> str:
    """What stands at the top of a document, for somebody who looks for the list."""
    if not isinstance(body, dict):
        return "it is a list" if isinstance(body, list) else "it is neither an object nor a list"
    kinds = {dict: "object", list: "list", str: "text", type(None): "null"}
    return "it has " + (
        ", ".join(f"{key[:40]} ({kinds.get(type(v), 'value')})" for key, v in list(body.items())[:8]) or "nothing"
    )


def _brief(error: Exception) -> str:
    """What went wrong, without the bytes it went wrong on."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8 at byte {error.start}"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at character {error.pos}"
    if isinstance(error, ArithmeticError):
        return "a number out of range"
    return "a number of too many digits" if "digit" in str(error) else str(error)[:80]
