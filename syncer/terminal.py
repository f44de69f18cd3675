"""What reaches a terminal: plain, harmless and never fatal.

Server text may hold escape sequences, and stdout may be a pipe that closed or a disk that is full. Neither
may do harm: the text is shown escaped, and a pull goes on without anybody listening.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from typing import Any, TextIO

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
CUT: list[str] = []
"""Why stdout did not take all that was printed; that its reader has gone is no reason."""


def safe(text: str) -> str:
    """The text with control characters, C1 codes, bidirectional overrides and half surrogates spelt out."""
    return _UNSAFE.sub(lambda match: _escaped(match.group()), text)


def one_line(text: str) -> str:
    """The same for text that must stay on one line."""
    return safe(text).replace("\n", "\\n").replace("\t", " ")


def counted(number: int, noun: str) -> str:
    """`1 page`, `2 pages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(text: str, limit: int) -> str:
    """One line of at most so many characters."""
    line = one_line(text)
    return line if len(line) <= limit else line[:limit] + "…"


def writable(value: Any) -> Any:
    """A value for JSON in which text that is no Unicode, such as the name of a file can be, is spelt out."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", lambda match: _escaped(match.group()), value)
    if isinstance(value, dict):
        return {writable(name): writable(item) for name, item in value.items()}
    return [writable(item) for item in value] if isinstance(value, list) else value


def say(text: str, *, error: bool = False) -> None:
    """Print, to stdout or stderr; a stream that is gone is replaced by nothing, once and for all."""
    stream = sys.stderr if error else sys.stdout
    try:
        stream.write(_encodable(safe(text), stream) + "\n")
        stream.flush()
    except (OSError, ValueError) as fault:
        if not error and getattr(fault, "errno", None) in _FULL:
            CUT.append(os.strerror(fault.errno))  # type: ignore[union-attr,arg-type]
        silence(stream)


def harmless(line: bytes) -> str:
    """A line of JSON in which what could harm a terminal is escaped the way JSON does it."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", line.decode())


def say_json(line: bytes) -> None:
    """Print a line of JSON to stdout, harmless and in the encoding of stdout."""
    text = harmless(line)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") != "utf8":
        text = re.sub(r"[^\x00-\x7f]", lambda match: json.dumps(match.group())[1:-1], text)
    say(text)


def silence(stream: TextIO) -> None:
    """Let whatever is still written to this stream vanish."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        return


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte of a path that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding, "replace")
