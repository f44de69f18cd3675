"""The shape of a record: which names it has and of what kind each value is, without the values.

Most records of a page share a few shapes. So a page is counted by shape, one look into a dictionary for each
record, and what it says of every field is worked out once for each shape; see `seen`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .page import JSON

DEPTH = 8
"""Objects and lists nested deeper are counted as such, whatever is in them."""
ELEMENTS = 1000
"""Of a longer list of objects only so many are looked at."""
VARIANTS = 50
"""So many different objects of one list are told apart."""
HELD = 500_000
"""So many names, and letters of names, are remembered of all shapes together; then all are forgotten."""
_LONGEST = 20_000

Kind = Any
"""The type of a plain value, the Shape of an object, or for a list the frozenset of its elements' kinds."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The names of an object in their order, and the kind of each value. Compared by identity, to be counted fast."""

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is known of objects with these names and types: their shape, or which values decide it.

    A plan that is not remembered is not `kept`, nor are the shapes that it makes.
    """

    names: tuple[str, ...]
    types: tuple[type, ...]
    flat: Shape | None
    nested: tuple[str, ...]
    only: str
    made: dict[Kind, Shape]
    kept: bool


_plans: dict[tuple[tuple[str, ...], tuple[type, ...]], _Plan] = {}
_known = _plans.get
_held = 0


def shape(values: Mapping[str, JSON], depth: int = 1) -> Shape:
    """The shape of an object. The same for equal shapes, as long as there are not thousands of them."""
    plan = _known((tuple(values), tuple(map(type, values.values())))) or _planned(values)
    if plan.flat:
        return plan.flat
    if plan.only:
        value = values[plan.only]
        inner = shape(value, depth + 1) if type(value) is dict and depth < DEPTH else kind(value, depth)
    else:
        inner = tuple([kind(values[name], depth) for name in plan.nested])
    return plan.made.get(inner) or _made(plan, inner)


def kind(value: Any, depth: int) -> Kind:
    """The kind of an object or a list that stands in an object at this depth."""
    if type(value) is dict:
        return shape(value, depth + 1) if depth < DEPTH else dict
    if depth >= DEPTH:
        return list
    kinds: set[Kind] = set(map(type, value))
    if dict in kinds or list in kinds:
        kinds -= {dict, list}
        for item in value[:ELEMENTS]:
            if (type(item) is dict or type(item) is list) and len(kinds) < VARIANTS:
                kinds.add(kind(item, depth + 1))
    return frozenset(kinds)


def _planned(values: Mapping[str, JSON]) -> _Plan:
    names, types = tuple(values), tuple(map(type, values.values()))
    nested = tuple(name for name, one in zip(names, types, strict=True) if one is dict or one is list)
    only = nested[0] if len(nested) == 1 else ""
    size = sum(map(len, names)) + len(names)
    kept = size <= _LONGEST  # what comes as data must not fill the memory
    plan = _Plan(names, types, None if nested else Shape(names, types), nested, only, {}, kept)
    if kept:
        _hold(size)
        _plans[names, types] = plan
    return plan


def _made(plan: _Plan, inner: Kind) -> Shape:
    kinds = iter((inner,) if plan.only else inner)
    made = Shape(plan.names, tuple(next(kinds) if one is dict or one is list else one for one in plan.types))
    if plan.kept:
        _hold(len(plan.names))
        plan.made[inner] = made
    return made


def _hold(size: int) -> None:
    """Make room for this much more."""
    global _held
    _held += size
    if _held > HELD:
        _plans.clear()
        _held = size
