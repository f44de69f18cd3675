"""Which values of a stream's records are never written, and what is written instead.

A field is masked by its model (`Annotated[str, Masked()]`) or by a path of its stream (`mask=("meta.email",)`). In
the place of a value stands `masked:` and a hash of it under the key of the output, or nothing at all. Whatever does
not have the shape that leads to a masked field is masked as a whole: an address that comes as text where the model
expects an object with a street is still an address. null stays null.

    OUT/SOURCE/.syncer/mask.key     32 random bytes, for the owner only; part of the output's state
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel

from .decode import Unparsable, encode, text_of
from .errors import ConfigError, SinkError, StateError
from .fields import MASK, REMOVED, Masked, is_mask
from .page import JSON, MISSING

Step = str | int
KEY = 32
"""The length of a key, in bytes."""
MASK_KEY = "masking key"
"""The part of a checkpoint's fingerprint that says which key it was."""
_ITEM = "[]"


@dataclass(eq=False)
class _Node:
    """A place in a record: its rule, what lies below it, and of which kinds of JSON it may be without a mask in it."""

    rule: str = ""
    names: dict[str, _Node] = field(default_factory=dict)
    items: _Node | None = None
    rest: _Node | None = None
    either: list[_Node] = field(default_factory=list)
    kind: str = ""
    below: frozenset[str] = frozenset()
    """The rules that hold in it or below it."""

    def inner(self) -> list[_Node]:
        """All that can be reached from here in a step."""
        return [*self.names.values(), *self.either, *(one for one in (self.items, self.rest) if one)]


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of one stream. False if there are none."""

    root: _Node

    def __bool__(self) -> bool:
        return bool(self.root.below)

    def applied(
        self, value: JSON, key: bytes, *, done: AbstractSet[str] = frozenset(), kept: bool = False
    ) -> tuple[JSON, list[str]]:
        """A record without its masked values, and the places where something stands in for one.

        `done` are places that were masked before. With `kept`, a mark stands where a value is removed, so that
        the record can be judged again.
        """
        places: list[str] = []
        work = _Work(key, done, kept, places)
        try:
            found = work.masked(value, [self.root], "")
        except RecursionError:
            found = work.hidden(value, "hash", "")
        return (REMOVED if found is MISSING else found), places

    def blanked(self, value: JSON) -> JSON:
        """A record in which whatever is masked is the empty value of its type: what is left tells its shape only."""
        try:
            return _Work(b"", frozenset(), True, [], blank=True).masked(value, [self.root], "")
        except RecursionError:
            return None

    def column(self, name: str) -> bool:
        """Whether a field of the record is masked as a whole."""
        return any(node.rule for node in _all(_children([self.root], name)))

    def touches(self, path: Sequence[Step]) -> bool:
        """Whether a place lies at, above or below one that is masked."""
        nodes = [self.root]
        for step in path:
            if any(node.rule for node in _all(nodes)):
                return True
            nodes = _children(nodes, _ITEM if isinstance(step, int) else step)
        return any(node.below for node in _all(nodes))

    def seen(self, path: Sequence[Step]) -> tuple[tuple[Step, ...], bool]:
        """A place of which a fault is told, cut where it leads into a masked value; and whether a mask has part in it.

        Names of alternatives, which pydantic puts among the steps, are passed over.
        """
        nodes = [self.root]
        for index, step in enumerate(path):
            known = _all(nodes)
            if any(node.rule for node in known):
                return tuple(path[:index]), True
            if not any(node.below for node in known):
                return tuple(path), False
            nodes = _children(nodes, _ITEM if isinstance(step, int) else step) or nodes
        return tuple(path), any(node.below for node in _all(nodes))

    def shown(self, path: str) -> str:
        """The same of a path as text, such as `lines[2].price` or `lines[].price`."""
        found = [int(index) if index else name or _ITEM for name, index in _STEPS.findall(path)]
        cut, _ = self.seen(found)
        return path if len(cut) == len(found) else _text(cut)


_STEPS = re.compile(r"([^.\[\]]+)|\[(\d*)\]")


@lru_cache(maxsize=256)
def masks(model: type[BaseModel], paths: tuple[str, ...] = ()) -> Masks:
    """The masks that a model and the paths of its stream declare. ConfigError for a path that is none."""
    memo: dict[Any, _Node] = {}
    root = _Node(either=[_node(model, memo), *(_path(path) for path in paths)])
    _gathered(root)
    for path in paths:
        _undeclared(model, path, memo[model])
    return Masks(root)


def hashed(value: JSON, key: bytes) -> str:
    """What stands for a value; equal values have the same in one output, and without the key nothing can be told."""
    try:
        plain = value.text.encode() if isinstance(value, Unparsable) else encode(value, ordered=True)
    except (ValueError, RecursionError):
        plain = text_of(value).encode("utf-8", "surrogatepass")
    return MASK + blake2b(plain, key=key, digest_size=16, person=b"syncer mask").hexdigest()


def key_mark(key: bytes) -> str:
    """What a checkpoint says of the key, so that another one is noticed."""
    return blake2b(key, digest_size=8, person=b"syncer key").hexdigest()


def key_of(home: Path, mark: str, *, make: bool) -> bytes:
    """The key of the output in a directory. `mark` is what its checkpoint says of it, "" if nothing.

    StateError if it is gone or another one, SinkError if it cannot be read or made. Without `make` one that is
    not there is made up and not kept.
    """
    path = home / ".syncer" / "mask.key"
    try:
        found = _read(path)
        if mark and (found is None or key_mark(found) != mark):
            raise StateError(
                f"{path} is {'gone' if found is None else 'another one'}: masks would no longer equal older ones",
                hint="restore it from a backup; or pull with --restart, which makes a new one and replaces the output",
            )
        if found is None:
            found = os.urandom(KEY)
            if make:
                _write(path, found)
                found = _read(path) or found  # another pull may have been first
        return found
    except OSError as error:
        raise SinkError(
            f"cannot keep {path}: {error.strerror}", hint="mend that and run the same command again"
        ) from None


def _read(path: Path) -> bytes | None:
    """A key; None if there is none, or none of ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    try:
        found = os.read(descriptor, KEY + 1)
    finally:
        os.close(descriptor)
    return found if len(found) == KEY else None


def _write(path: Path, key: bytes) -> None:
    """Keep a new key, whole and durably or not at all, unless there is one by now."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    coming = path.with_name(f"mask.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        os.write(descriptor, key)
        os.fsync(descriptor)
        if path.is_file() and _read(path) is None:
            path.replace(path.with_name("mask.key.damaged"))
        with suppress(FileExistsError):
            os.link(coming, path)
    finally:
        os.close(descriptor)
        coming.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class _Work:
    """One record being masked."""

    key: bytes
    done: AbstractSet[str]
    kept: bool
    places: list[str]
    blank: bool = False

    def masked(self, value: JSON, nodes: Iterable[_Node], at: str) -> JSON:
        known = _all(nodes)
        rules = {node.rule for node in known if node.rule}
        if value is None:
            return value
        if rules:
            return self.hidden(value, "remove" if "remove" in rules else "hash", at)
        below = [node for node in known if node.below]
        if not below:
            return value
        if isinstance(value, dict) and any(node.names or node.rest for node in below):
            made = {
                name: self.masked(one, _children(known, name), f"{at}.{name}" if at else name)
                for name, one in value.items()
            }
            return {name: one for name, one in made.items() if one is not MISSING}
        if isinstance(value, list) and any(node.items for node in below):
            items = [self.masked(one, _children(known, _ITEM), f"{at}[{n}]") for n, one in enumerate(value)]
            return [one for one in items if one is not MISSING]
        if _kind(value) in {"scalar" if node.kind == "any" else node.kind for node in known if not node.below}:
            return value
        rules = {rule for node in below for rule in node.below}
        return self.hidden(value, "remove" if "remove" in rules else "hash", at)

    def hidden(self, value: JSON, rule: str, at: str) -> JSON:
        if self.blank:
            return type(value)() if isinstance(value, str | int | float | Decimal | list | dict) else ""
        self.places.append(at)
        if rule == "remove":
            return REMOVED if self.kept else MISSING
        return value if at in self.done and is_mask(value) else hashed(value, self.key)


def _kind(value: JSON) -> str:
    return "object" if isinstance(value, dict) else "list" if isinstance(value, list) else "scalar"


def _text(steps: Iterable[Step]) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else step if step == _ITEM else f".{step}" if text else step
    return text


def _all(nodes: Iterable[_Node]) -> list[_Node]:
    """These places and their alternatives."""
    found: dict[int, _Node] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if id(node) not in found:
            found[id(node)] = node
            waiting.extend(node.either)
    return list(found.values())


def _children(nodes: Iterable[_Node], step: str) -> list[_Node]:
    """What may lie one step below; the items of a list for `[]`."""
    found = []
    for node in _all(nodes):
        child = node.items if step == _ITEM else node.names.get(step, node.rest)
        found += [child] if child else []
    return found


def _gathered(root: _Node) -> None:
    """Say at every place which rules hold below it; models may hold themselves."""
    nodes: dict[int, _Node] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) not in nodes:
            nodes[id(node)] = node
            waiting.extend(node.inner())
    changed = True
    while changed:
        changed = False
        for node in nodes.values():
            rules = frozenset({node.rule} - {""}).union(*(one.below for one in node.inner()))
            changed, node.below = changed or rules != node.below, rules


def _rule(metadata: Sequence[Any]) -> str:
    """The rule in what is said of a field. ConfigError unless it is said last: a bound would be put to the mask."""
    found = [one for one in metadata if one is Masked or isinstance(one, Masked)]
    if found and found[-1] is not metadata[-1]:
        raise ConfigError("Masked is not the last word on its field", hint="write Annotated[str, …, Masked()]")
    return "" if not found else found[-1].how if isinstance(found[-1], Masked) else "hash"


def _node(annotation: Any, memo: dict[Any, _Node]) -> _Node:
    while hasattr(annotation, "__value__"):  # type X = …
        annotation = annotation.__value__
    try:
        if annotation in memo:
            return memo[annotation]
    except TypeError:  # a Literal or default that cannot be hashed
        return _Node(kind="scalar")
    node = memo[annotation] = _Node(kind="any" if annotation in (Any, object) else "scalar")
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        node.kind, node.either, node.rule = "", [_node(inner[0], memo)], _rule(inner[1:])
    elif origin in (Union, UnionType):
        node.kind, node.either = "", [_node(one, memo) for one in inner if one is not type(None)]
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        node.kind, node.rest = "object", _node(inner[1], memo)
        key = _node(inner[0], memo)
        _gathered(key)
        if key.below:
            raise ConfigError("the names in an object cannot be masked", hint="mask the object as a whole")
    elif isinstance(origin, type) and issubclass(origin, Iterable):
        node.kind, node.items = "list", _Node(either=[_node(one, memo) for one in inner if one is not Ellipsis])
    elif isinstance(annotation, type):
        _shaped(annotation, node, memo)
    return node


def _shaped(annotation: type, node: _Node, memo: dict[Any, _Node]) -> None:
    """The place of an object whose names the type knows; or of a list, for a named tuple."""
    if issubclass(annotation, Mapping | dict):
        node.kind = "object"
    elif issubclass(annotation, list | tuple | set | frozenset):
        node.kind = "list"
    known = getattr(annotation, "model_fields", None) or getattr(annotation, "__pydantic_fields__", None)
    if isinstance(known, dict):
        fields = {name: _Node(either=[_node(i.annotation, memo)], rule=_rule(i.metadata)) for name, i in known.items()}
        if issubclass(annotation, BaseModel) and annotation.__pydantic_root_model__:
            node.kind, node.either = "", [fields["root"]]
            return
        aliases = {i.validation_alias: fields[name] for name, i in known.items() if isinstance(i.validation_alias, str)}
        node.kind, node.names = "object", {**fields, **aliases}
    elif is_typeddict(annotation) or dataclasses.is_dataclass(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        node.kind, node.names = "object", {name: _node(one, memo) for name, one in hints.items()}
    elif issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        hints = get_type_hints(annotation, include_extras=True)
        node.kind, node.items = "list", _Node(either=[_node(one, memo) for one in hints.values()])


def _steps(path: str) -> list[str]:
    """`lines[].email` as its steps. ConfigError for what is no path."""
    if not isinstance(path, str) or not re.fullmatch(r"[^.\[\]]+(\[\])*(\.[^.\[\]]+(\[\])*)*", path):
        raise ConfigError(
            f"mask={str(path)[:60]!r} is not a path", hint='write mask=("meta.email", "lines[].phone"), with its comma'
        )
    return [name or _ITEM for name, _ in _STEPS.findall(path)]


def _path(path: str) -> _Node:
    node = _Node(rule="hash")
    for step in reversed(_steps(path)):
        node = _Node(items=node) if step == _ITEM else _Node(rest=node) if step == "*" else _Node(names={step: node})
    return node


def _undeclared(model: type[BaseModel], path: str, root: _Node) -> None:
    """Refuse a path to what the model names: its type would not take the mask when a reject is judged again."""
    nodes = [root]
    for step in _steps(path):
        nodes = _children(nodes, step)
    if nodes and not all(node.kind == "any" for node in nodes):
        raise ConfigError(
            f"mask={path!r} leads to what {model.__name__} names itself",
            hint="write it into the model: Annotated[…, Masked()]",
        )


def rules(model: type[BaseModel], paths: tuple[str, ...]) -> Iterator[str]:
    """The masks in words, for a fingerprint: where each is and what it does."""
    seen: set[int] = set()
    waiting: list[tuple[str, _Node]] = [("", masks(model, paths).root)]
    while waiting:
        at, node = waiting.pop()
        if id(node) in seen or not node.below:
            continue
        seen.add(id(node))
        if node.rule:
            yield f"{at} {node.rule}"
        waiting += [(f"{at}.{name}" if at else name, one) for name, one in node.names.items()]
        waiting += [(at, one) for one in node.either]
        waiting += [(at + _ITEM, node.items)] if node.items else []
        waiting += [(f"{at}.*", node.rest)] if node.rest else []
