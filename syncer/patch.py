"""The model patch: the change of a connector's source by which its models would take what was seen.

What a model refuses comes from the stored rejects, judged again under the model as it is now; fields that it does not
name from what was seen. Each is an edit of one class (`rewrite`). Before a patch is shown, the patched source has
been run, and the rejects have been judged once more: an edit that does not do what it is for is left out, and said.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from shlex import quote
from typing import Any

from pydantic import BaseModel

from .checkpoint import Checkpoint
from .config import Place, load, module_of, source_of
from .edits import Edit, Judged, Loosen, Pulled, atoms, key, limited, merged, wanted, where
from .errors import ConfigError, SinkError, StateError, SyncerError
from .masks import KEY
from .page import Page, Request
from .seen import joined
from .sinks import Sink
from .stream import Connector, Stream, nested
from .validate import Validator

INSTALL = 'pip install "syncer[patch]"'
BATCH = 1000
"""So many rejects are judged at a time."""
ROUNDS = 5
_HURT = "(record): model_error"
_STAMP = "rejected"


@dataclass(frozen=True)
class Proposal:
    """A patch. Of the rejects `passing` would pass; `left` counts the others by cause. `notes` say what it leaves."""

    file: Path
    before: bytes
    after: bytes
    passing: int
    left: Counter[str]
    notes: Sequence[str]

    @property
    def diff(self) -> str:
        """The patch as a unified diff; empty if there is nothing to change."""
        name = os.path.relpath(self.file)
        name = str(self.file) if name.startswith("..") else name
        old, new = (text.decode("utf-8", "replace").splitlines(keepends=True) for text in (self.before, self.after))
        lines = difflib.unified_diff(old, new, fromfile=name, tofile=name)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def to_json(self) -> dict[str, Any]:
        """The same for machines; the keys are documented in docs/reference.md."""
        return {
            "file": str(self.file),
            "diff": self.diff,
            "rejects_passing": self.passing,
            "rejects_left": self.left.total(),
            "left_by_cause": dict(self.left.most_common()),
            "notes": list(self.notes),
        }


def shown(
    stream: Stream, checkpoint: Checkpoint, sink: Callable[[Stream], Sink], safe: Callable[[str], str] = str
) -> Pulled:
    """All that a stream showed; what the first complete run has seen is no news once there is another."""
    seen = joined(checkpoint.baseline, checkpoint.seen)
    return Pulled(stream, seen, checkpoint.baseline.known, sink, safe)


def propose(name: str, place: Place, pulled: Sequence[Pulled]) -> Proposal:
    """The patch of a connector for what its streams showed.

    ConfigError if libcst is not installed, or the file is not as it was when the connector was loaded. StateError
    for rejects that cannot be read.
    """
    try:
        from . import rewrite
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "libcst":
            raise
        raise ConfigError("to propose a change of the model, syncer needs libcst", hint=INSTALL) from None
    del rewrite
    file = source_of(place)
    bench = _Bench(name, place, _read(file), pulled)
    bench.same()
    before = [_judged(one, one.stream) for one in pulled]
    notes: dict[str, None] = {}
    tried = _settled(bench, before, notes)
    left = sum((one.left for one in tried.judged), Counter[str]())
    passing = sum(one.passing for one in tried.judged)
    text = _formatted(file, bench.source, tried.text)
    return Proposal(file, bench.source, text, passing, left, list(dict.fromkeys([*notes, *tried.faults])))


def _settled(bench: _Bench, before: Sequence[Judged], notes: dict[str, None]) -> _Tried:
    """The edits that work, tried: what is hidden behind one fault is only seen when that is mended."""
    best = _Tried(bench.source, [], [], before)
    for _ in range(ROUNDS):
        done = set(_atoms(best.edits))
        more = [edit for edit in bench.wanted(best.judged, notes) if not done.issuperset(_atoms([edit]))]
        more = limited(more, best.edits, notes)
        if not more:
            break
        edits = merged([*best.edits, *more])
        found = bench.tried(edits, before) or _one_by_one(bench, best.edits, more, before, notes)
        if set(_atoms(found.edits)) <= done:
            return replace(best, faults=[*best.faults, *found.faults])
        best = found
    return best


def _one_by_one(
    bench: _Bench, good: Sequence[Edit], more: Sequence[Edit], before: Sequence[Judged], notes: dict[str, None]
) -> _Tried:
    """What of the edits works together, found out on some of the rejects."""
    few = bench.judged(bench.loaded(bench.source), BATCH)
    kept = list(good)
    for edit in more:
        for atom in atoms(edit):
            if bench.tried(merged([*kept, atom]), few, BATCH):
                kept = merged([*kept, atom])
            else:
                notes[f"{where(edit)}: that does not go with the rest of the model; change it by hand"] = None
    return bench.tried(kept, before) or bench.tried(good, before) or _Tried(bench.source, [], [], before)


def _atoms(edits: Iterable[Edit]) -> list[tuple[Any, ...]]:
    """What the edits do, one thing each, in values that two loads of a model have in common."""
    return [
        (*key(atom), *((atom.kinds, atom.values) if isinstance(atom, Loosen) else ()))
        for edit in edits
        for atom in atoms(edit)
    ]


def apply(proposal: Proposal) -> None:
    """Write the patched source in the place of the old one, as a whole or not at all, with its owner and its mode.

    ConfigError if the file has changed meanwhile, SinkError if it cannot be written.
    """
    file = proposal.file
    if _read(file) != proposal.before:
        raise ConfigError(f"{file} has changed meanwhile; nothing was written", hint="type the same command again")
    beside = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        status = file.stat()
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(proposal.after)
                opened.flush()
                with suppress(PermissionError):
                    os.fchown(opened.fileno(), status.st_uid, status.st_gid)
                os.fchmod(opened.fileno(), stat.S_IMODE(status.st_mode))
                os.fsync(opened.fileno())
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(f"{file} cannot be written: {error.strerror}", hint="check who may write there") from None


def copying(name: str, place: Place) -> str:
    """How to come by a connector of one's own where this one is built in or installed."""
    own = f"my-{name}"[:60]
    return (
        f"{name} is not a connector of your own. To change it, copy it, write\n"
        f'name="{own}" in the copy, make the change there, and pull {own} instead:\n'
        f"  mkdir -p connectors && cp {quote(str(source_of(place)))} connectors/{own}.py"
    )


@dataclass(frozen=True)
class _Tried:
    """A patched source: the edits made in it, what is to be said of others, and what becomes of the rejects."""

    text: bytes
    edits: Sequence[Edit]
    faults: Sequence[str]
    judged: Sequence[Judged]


class _Bench:
    """Where edits are tried on a connector's source before anybody sees them."""

    def __init__(self, name: str, place: Place, source: bytes, pulled: Sequence[Pulled]) -> None:
        self.source, self._name, self._place, self._pulled = source, name, place, pulled
        self.module = module_of(name, place)

    def same(self) -> None:
        """ConfigError unless the file still declares the models that were loaded from it."""
        with suppress(SyncerError):
            found = self.loaded(self.source)
            if all(_kept(one.stream, found.stream(one.stream.name), ()) for one in self._pulled):
                return
        raise ConfigError(
            f"{source_of(self._place)} is not as it was when it was loaded", hint="type the same command again"
        )

    def loaded(self, text: bytes) -> Connector:
        """The connector that such a file declares. ConfigError if it cannot be loaded."""
        return load(self._name, self._place, text)

    def judged(self, new: Connector, limit: int | None = None) -> list[Judged]:
        """What becomes of the rejects under its models."""
        return [_judged(one, new.stream(one.stream.name), limit) for one in self._pulled]

    def wanted(self, judged: Sequence[Judged], notes: dict[str, None]) -> list[Edit]:
        """What the models of this file still refuse or do not name."""
        return wanted(self._pulled, judged, self.module.__name__, notes)

    def tried(self, edits: Sequence[Edit], before: Sequence[Judged], limit: int | None = None) -> _Tried | None:
        """The source with those of the edits that can be made; None unless they do what they are for, and no harm."""
        from .rewrite import CannotError, edited

        text, made, faults = self.source, [], []
        for edit in edits:
            try:
                text = edited(text, edit, vars(self.module))
                made.append(edit)
            except CannotError as error:
                faults.append(f"{where(edit)}: {error}; change it by hand")
        try:
            new = self.loaded(text)
            after = self.judged(new, limit)
        except SyncerError:
            return None
        done = set(_atoms(made))
        hurt = any(one.left[_HURT] > other.left[_HURT] for one, other in zip(after, before, strict=True))
        kept = all(_kept(one.stream, new.stream(one.stream.name), done) for one in self._pulled)
        if hurt or not kept or done.intersection(_atoms(wanted(self._pulled, after, None, {}))):
            return None
        return _Tried(text, made, faults, after)


_KEY = bytes(KEY)
"""Any key does: nothing of what is judged here is kept."""


def _judged(pulled: Pulled, stream: Stream, limit: int | None = None) -> Judged:
    """The rejects of a stream, or the first of them, under a model of it."""
    target = pulled.sink(stream)
    mask_key = _KEY if stream.masks else b""
    validator, found = Validator(stream, target.refuses, pulled.safe, key=mask_key), Judged(stream)
    batch: list[Any] = []

    def settle() -> None:
        page = Page(0, Request(""), "", batch, None, None, datetime(1970, 1, 1, tzinfo=UTC), "")
        verdict = validator.judge(page, 0, _STAMP)
        found.seen = joined(found.seen, verdict.seen)
        found.passing += len(verdict.records)
        found.left.update(reject.cause for reject in verdict.rejects)
        batch.clear()

    for number, line in enumerate(target.rejects()):
        if limit is not None and number >= limit:
            break
        try:
            row = json.loads(line, parse_float=Decimal)
            if "record" in row:
                batch.append(row["record"])
            else:
                found.left[f"(record): {row['reasons'][0]['type']}"] += 1
        except (ValueError, TypeError, LookupError, RecursionError):
            raise StateError(
                f"line {number + 1:,} of the rejects of {stream.name} cannot be read",
                hint=f"{target.places()['rejects']} was changed by hand: restore it, or take the line out",
            ) from None
        if len(batch) >= BATCH:
            settle()
    settle()
    return found


def _declared(stream: Stream) -> dict[str, tuple[type[BaseModel], dict[str, str]]]:
    """Every model of a stream by name, with its fields in words that two loads of one file have in common."""
    return {
        model.__qualname__: (
            model,
            {name: re.sub(r" at 0x[0-9a-f]+", "", repr(info)) for name, info in model.model_fields.items()},
        )
        for model in nested(stream.model, set())
    }


def _kept(old: Stream, new: Stream, done: Iterable[tuple[Any, ...]]) -> bool:
    """Whether the models are as they were, but for what was to be done. Choices may be longer in other places too."""
    after, touched = _declared(new), {key[:2] for key in done}
    for name, (model, fields) in _declared(old).items():
        others = after[name][1] if name in after else {}
        if not touched and fields.keys() != others.keys():
            return False
        for attribute, said in fields.items():
            meant = any((one.__qualname__, attribute) in touched for one in model.__mro__)
            if others.get(attribute) != said and not meant and not (touched and "Literal" in said):
                return False
    return True


def _formatted(file: Path, before: bytes, after: bytes) -> bytes:
    """The source as ruff formats it, where ruff is installed and the file was so before."""
    beside = Path(sys.executable).with_name("ruff")
    command = str(beside) if beside.is_file() else shutil.which("ruff")

    def ruff(text: bytes) -> bytes | None:
        if not command or before == after:
            return None
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(  # noqa: S603 the user's own formatter, on the user's own file
                [command, "format", "--no-cache", "--stdin-filename", str(file), "-"],
                cwd=file.parent,
                input=text,
                capture_output=True,
                timeout=60,
                check=False,
            )
            return done.stdout if done.returncode == 0 else None
        return None

    return (ruff(after) or after) if ruff(before) == before else after


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint="check who may read it") from None
