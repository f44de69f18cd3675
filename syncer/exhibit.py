"""What a person sees of rejects: the causes, each with a sample, and one record with its faults where they are.

Lines end before column 80, and nothing that came as data can do harm to a terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from .decode import encode
from .page import JSON
from .replay import Settled
from .report import SHOWN
from .review import Found, Group, Row, locate, raw
from .terminal import counted, one_line, shortened

WIDTH = 79
SAMPLE = 220
"""Characters of a sample: three lines of a terminal."""
DEEPEST = 12
"""Levels of a record that are set in further."""
OPEN, CLOSE = ">>>", "<<<"


def grouped(source: str, groups: Sequence[Group], commands: Mapping[str, str], limit: int | None = None) -> str:
    """The groups as text; `commands` are what to type to see all, to see one, and to try them again."""
    if not groups:
        return f"{source}: no rejects"
    total, new = sum(group.count for group in groups), sum(group.new for group in groups)
    head = f"{source}: {counted(total, 'reject')}, {counted(len(groups), 'cause')}"
    blocks = [head + (f", {new:,} of them new" if new else "")]
    blocks += ["\n".join(_group(group)) for group in groups[:limit]]
    if limit is not None and len(groups) > limit:
        blocks.append(f"and {counted(len(groups) - limit, 'more cause')}")
    blocks.append(
        f"every one of them: {commands['all']}, or with --json for machines\n"
        f"one as a whole: {commands['show']} {groups[0].samples[0].id}\n"
        f"how to mend the model: {commands['drift']}\n"
        f"when the model is mended: {commands['replay']} --dry-run"
    )
    return "\n\n".join(blocks)


def _group(group: Group) -> Iterator[str]:
    sample = group.samples[0]
    row = sample.row
    yield from _prose(f"{group.count:>7,}  {group.stream}  {one_line(group.cause)}", " " * 9, first="")
    seen = f"{group.first[:19]} to {group.last[:19]}".replace("T", " ")
    yield f"    {group.share:.1%} of all, on {counted(group.pages, 'page')}, {seen}"
    if group.new:
        yield f"    new: no pull before run {group.runs[0]:,} had it"
    for reason in row["reasons"][:3]:
        yield from _prose(shortened(f"{reason['path'] or '(record)'}: {reason['message']}", SAMPLE), "    ")
    values = [f"{one_line(value)} ({count:,})" for value, count in group.values.items() if value]
    if len(values) > 1 and ("…" not in group.values or max(group.values.values()) > group.values["…"]):
        yield from _prose("values: " + ", ".join(values), "    ")
    yield f"    sample {sample.id}, run {row['run']}, page {row['page']}, record {row['index']}:"
    yield from _cut(_excerpt(row), WIDTH - 4, "    ")


def reject(found: Found) -> str:
    """One of many: its place, its reasons and its record, three lines."""
    row = found.row
    reasons = "; ".join(
        f"{one_line(reason['path'] or '(record)')}: {one_line(reason['message'])}" for reason in row["reasons"]
    )
    return (
        f"{found.stream}, run {row['run']}, page {row['page']}, record {row['index']}, {row['at']}, {found.id}\n"
        f"  {reasons}\n  {shortened(raw(row), 10_000)}"
    )


def whole(found: Found, command: str) -> str:
    """A reject with all that is known of it, every reason beside its place; `command` is what tries it again."""
    row = found.row
    head = [
        f"reject {found.id} of {found.stream}, refused on {row['at'][:19].replace('T', ' ')} UTC",
        f"run {row['run']}, page {row['page']}, record {row['index']}",
    ]
    head += [f"by the model {one_line(str(row['model']))}"] if row.get("model") else []
    head += _cut(one_line(str(row.get("request") or "")), WIDTH - 2, "  ")
    more = [f"and {counted(row['more'], 'more fault')} that were not written down"] if row.get("more") else []
    parts = (head, laid(row), more, [f"when the model is mended: {command}"])
    return "\n\n".join("\n".join(part) for part in parts if part)


def laid(row: Row) -> list[str]:
    """The record of a reject over several lines; `>` stands before one with a fault, `!` before what is wrong."""
    if "record" in row:
        return list(_laid(row["record"], "", _notes(row), "", 0, ""))
    faults = [text for texts in _notes({**row, "record": None}).values() for text in texts]
    lines = [line for text in faults for line in _prose(one_line(text), "    ", first="! ")]
    return [*lines, *_cut(one_line(str(row["text"])), WIDTH - 2, "  ")]


def abridged(lines: Sequence[str], most: int, around: int = 3) -> list[str]:
    """At most so many of these lines, those with faults and what is around them first; a gap says how long it is."""
    kept: set[int] = set()
    wanted = [number for number, line in enumerate(lines) if line[:1] in (">", "!")]
    for distance in range(len(lines) if len(lines) <= most else around + 1):
        for number in (one + way for one in [0, *wanted] for way in (distance, -distance)):
            if len(kept) < most and 0 <= number < len(lines):
                kept.add(number)
    shown: list[str] = []
    before = -1
    for number in [*sorted(kept), len(lines)]:
        if number - before > 1:
            shown.append(f"  … {counted(number - before - 1, 'line')}")
        shown += lines[number : number + 1]
        before = number
    return shown


def replayed(source: str, rows: Sequence[Settled], commands: Mapping[str, str]) -> str:
    """What a replay did, or would do, and what to type next; `commands` show what is left, move, and pull on."""
    dry = any(row.dry_run for row in rows)
    blocks = [f"{source}: what a replay would do; nothing was changed" if dry else f"{source}: replayed, offline"]
    blocks += ["\n".join(_settled(row)) for row in rows]
    passed, failed = sum(row.passed.total() for row in rows), sum(row.failed.total() for row in rows)
    following = [f"to move them     {commands['replay']}"] if dry and passed else []
    following += [f"what is left     {commands['left']}"] if failed and not dry else []
    following += (
        [f"to go on         {commands['pull']}"] if not dry and (passed or any(row.older for row in rows)) else []
    )
    return "\n\n".join([*blocks, "\n".join(following)] if following else blocks)


def purged(source: str, rows: Sequence[Settled]) -> str:
    """What a purge did."""
    return "\n\n".join([f"{source}: purged", *("\n".join(_settled(row)) for row in rows)])


def _settled(row: Settled) -> Iterator[str]:
    """What became of the rejects of one stream."""
    would = "would " if row.dry_run else ""
    count = row.gone + row.failed.total()
    yield f"{row.stream}: {counted(count, 'reject')}" + (f", judged by {row.model}" if row.model and count else "")
    for words, causes in (
        (f"{would}pass", row.passed),
        (f"{would}stay", row.failed),
        (f"{would}go, counted as purged", row.purged),
    ):
        if causes:
            yield f"{causes.total():>7,}  {words}"
            for cause, number in causes.most_common(SHOWN):
                yield from _prose(f"{number:,}  {one_line(cause)}", " " * 13, first=" " * 9)
            if others := causes.most_common()[SHOWN:]:
                yield f"         {sum(n for _, n in others):,}  … {counted(len(others), 'more cause')}"
    if row.repeated:
        yield f"{row.repeated:>7,}  {would}go as repeated: a version as new is there already"
    if row.older:
        words = (
            f"{counted(row.older, 'reject')} of the last complete output stay until the refresh under way is complete"
        )
        yield from _prose(words, "  ")
    for note in row.notes:
        yield from _prose(f"note: {one_line(note)}", "  ")
    if row.error:
        yield from _prose(one_line(str(row.error)), "  ", first="  failed: ")
        yield from _prose(one_line(row.error.hint), "    ", first="  → ") if row.error.hint else ()


def _notes(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """What to say at each place of the record."""
    notes: dict[str, list[str]] = {}
    for reason in row["reasons"]:
        at, _, rest = locate(row["record"], reason["path"])
        notes.setdefault(at, []).append(f"{rest + ': ' if rest else ''}{reason['type']}: {reason['message']}")
    return notes


def _laid(value: JSON, path: str, notes: Mapping[str, list[str]], lead: str, depth: int, tail: str) -> Iterator[str]:
    """A value over several lines; `>` stands before one with a fault, `!` before what is wrong with it."""
    indent = "  " * min(depth, DEEPEST)
    faults = [
        line
        for text in notes.get(path, ())
        for line in _prose(one_line(text), f"!   {indent}  ", first=f"! {indent}  ")
    ]
    first = f"{'>' if faults else ' '} {indent}"
    if not value or not isinstance(value, dict | list):
        text = lead + one_line(encode(value).decode()) + tail
        yield from _cut(text, WIDTH - len(first) - 2, f"  {indent}  ", first=first)
        yield from faults
        return
    brackets, items = ("[]", None) if isinstance(value, list) else ("{}", list(value.items()))
    yield from _cut(lead + brackets[0], WIDTH - len(first) - 2, f"  {indent}  ", first=first)
    yield from faults
    last = len(value) - 1
    if items is None:
        for index, item in enumerate(value):
            yield from _laid(item, f"{path}[{index}]", notes, "", depth + 1, "," if index < last else "")
    else:
        for index, (key, item) in enumerate(items):
            inner = f"{path}.{key}" if path else key
            name = one_line(encode(key).decode())
            yield from _laid(item, inner, notes, f"{name}: ", depth + 1, "," if index < last else "")
    yield f"  {indent}{brackets[1]}{tail}"


def _excerpt(row: Row) -> str:
    """Some of a record on one line, with its faults marked, around the first of them."""
    if "record" not in row:
        return shortened(str(row["text"]), SAMPLE)
    places = {at for reason in row["reasons"] for at, _, rest in [locate(row["record"], reason["path"])] if at}
    missing = {locate(row["record"], reason["path"])[0] for reason in row["reasons"] if reason["type"] == "missing"}
    text = one_line("".join(_marked(row["record"], "", places - missing)))
    start = text.find(OPEN)
    if start > SAMPLE // 2:
        text = "…" + text[start - SAMPLE // 3 :]
    return shortened(text, SAMPLE)


def _marked(value: JSON, path: str, places: set[str]) -> Iterator[str]:
    """Compact JSON in which the values at these places stand between marks."""
    bad = path in places and bool(path)
    yield OPEN if bad else ""
    if isinstance(value, dict):
        for index, (key, item) in enumerate(value.items()):
            yield ("," if index else "{") + encode(key).decode() + ":"
            yield from _marked(item, f"{path}.{key}" if path else key, places)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield "," if index else "["
            yield from _marked(item, f"{path}[{index}]", places)
        yield "]" if value else "[]"
    else:
        yield encode(value).decode()
    yield CLOSE if bad else ""


def _prose(text: str, indent: str, *, first: str | None = None) -> list[str]:
    """Words over several lines."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _cut(text: str, width: int, indent: str, *, first: str | None = None) -> Iterator[str]:
    """Text over several lines, cut where it must be, nothing left out."""
    pieces = [text[at : at + max(width, 8)] for at in range(0, len(text), max(width, 8))]
    yield from ((indent if first is None else first) + piece for piece in islice(pieces, 1))
    yield from (indent + piece for piece in islice(pieces, 1, None))
