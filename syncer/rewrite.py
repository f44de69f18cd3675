"""Changes to the source of a model, made so that everything else in the file stays as it is written.

The only module that imports libcst, which is an extra. An edit that cannot be made raises CannotError with the
reason in words, and changes nothing.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import EnumType
from typing import Any

import libcst as cst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor
from pydantic import Field

from .edits import TYPES, Add, Edit
from .expected import ITEMS, Step
from .seen import ABSENT, NULL

_LISTS = {"list", "List", "Sequence", "Collection", "tuple", "Tuple", "set", "Set", "frozenset", "FrozenSet"}
_MAPPINGS = {"dict", "Dict", "Mapping"}


class CannotError(Exception):
    """An edit that somebody has to make by hand, and why."""


def edited(source: bytes, edit: Edit, namespace: Mapping[str, Any]) -> bytes:
    """The source of a module, whose names stand for these values, with one edit made. CannotError if it cannot be."""
    module = cst.parse_module(source)
    if module.bytes != source:
        raise CannotError("the file is written in a way that would not survive")
    if hidden := [name for name in ("str", "int", "float", "bool", "dict", "list", "object") if name in namespace]:
        raise CannotError(f"{hidden[0]} means something else in this file")
    found = _class(module, edit.model.__qualname__)
    if isinstance(edit, Add):
        return _add(module, found, edit, namespace).bytes
    line, field = _field(found, edit.attribute)
    for value in edit.values:
        module = _replaced(module, *_choice(module, field.annotation.annotation, edit.inner, value, namespace))
        line, field = _field(_class(module, edit.model.__qualname__), edit.attribute)
    if edit.kinds:
        wanted = [type_ for kind, type_ in TYPES.items() if kind in edit.kinds]
        null = NULL in edit.kinds or (ABSENT in edit.kinds and not edit.inner)
        looser = _within(field.annotation.annotation, edit.inner, lambda one: _wider(one, wanted, null=null))
        changed = field.with_changes(annotation=field.annotation.with_changes(annotation=looser))
        if ABSENT in edit.kinds and not edit.inner:
            _unhidden(_class(module, edit.model.__qualname__), line, edit.attribute)
            changed = _optional(changed)
        module = _replaced(module, field, changed)
    return module.bytes


def fields(source: bytes, qualname: str) -> list[str]:
    """The names that a class annotates, in their order. CannotError if there is no such class, or more than one."""
    return [one.target.value for _, one in _annotated(_class(cst.parse_module(source), qualname))]  # type: ignore[attr-defined]


def quoted(text: str) -> str:
    """A text as Python writes it, in double quotes unless that takes more escapes; what is not printed is escaped."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    escaped = {"\\": "\\\\", quote: f"\\{quote}"}
    inner = (escaped.get(char) or (char if char.isprintable() else repr(char)[1:-1]) for char in text)
    return f"{quote}{''.join(inner)}{quote}"


def _replaced(module: cst.Module, old: cst.CSTNode, new: cst.CSTNode) -> cst.Module:
    return cst.ensure_type(module.deep_replace(old, new), cst.Module)


def _class(module: cst.Module, qualname: str) -> cst.ClassDef:
    body: Sequence[cst.CSTNode] = module.body
    found: list[cst.ClassDef] = []
    for name in qualname.split("."):
        found = [one for one in body if isinstance(one, cst.ClassDef) and one.name.value == name]
        if len(found) != 1:
            raise CannotError(f"the file has {len(found) or 'no'} plain class {qualname}")
        body = found[0].body.body
    if not isinstance(found[0].body, cst.IndentedBlock):
        raise CannotError(f"the class {qualname} stands on one line")
    return found[0]


def _annotated(found: cst.ClassDef) -> Iterator[tuple[cst.SimpleStatementLine, cst.AnnAssign]]:
    for line in found.body.body:
        if isinstance(line, cst.SimpleStatementLine):
            for one in line.body:
                if isinstance(one, cst.AnnAssign) and isinstance(one.target, cst.Name):
                    yield line, one


def _field(found: cst.ClassDef, attribute: str) -> tuple[cst.SimpleStatementLine, cst.AnnAssign]:
    lines = [pair for pair in _annotated(found) if pair[1].target.value == attribute]  # type: ignore[attr-defined]
    if len(lines) != 1:
        raise CannotError(f"the class {found.name.value} does not say what {attribute} is")
    return lines[0]


def _within(
    expression: cst.BaseExpression, inner: Sequence[Step], change: Callable[[cst.BaseExpression], cst.BaseExpression]
) -> cst.BaseExpression:
    """A type in which the one at the end of the way is changed."""
    if isinstance(expression, cst.SimpleString):
        return _quoted(expression, lambda one: _within(one, inner, change))
    if not inner:
        return change(expression)
    if isinstance(expression, cst.BinaryOperation):
        for side in ("left", "right"):
            try:
                return expression.with_changes(**{side: _within(getattr(expression, side), inner, change)})
            except CannotError:
                continue
    if isinstance(expression, cst.Subscript):
        head, count = _last(expression.value), len(expression.slice)
        if head == "Annotated":
            return _sliced(expression, 0, inner, change)
        if head in ("Optional", "Union"):
            for number in range(count):
                try:
                    return _sliced(expression, number, inner, change)
                except CannotError:
                    continue
        if head in (_LISTS if inner[0] is ITEMS else _MAPPINGS):
            return _sliced(expression, 0 if inner[0] is ITEMS else count - 1, inner[1:], change)
    raise CannotError(f"what is in it is not written in the type {_code(expression)}")


def _sliced(
    expression: cst.Subscript,
    number: int,
    inner: Sequence[Step],
    change: Callable[[cst.BaseExpression], cst.BaseExpression],
) -> cst.Subscript:
    elements = list(expression.slice)
    element = elements[number]
    if not isinstance(element.slice, cst.Index):
        raise CannotError(f"the type {_code(expression)} cannot be read")
    changed = _within(element.slice.value, inner, change)
    elements[number] = element.with_changes(slice=element.slice.with_changes(value=changed))
    return expression.with_changes(slice=elements)


def _quoted(string: cst.SimpleString, change: Callable[[cst.BaseExpression], cst.BaseExpression]) -> cst.BaseExpression:
    """A type in quotes, changed within them."""
    text = string.evaluated_value
    if not isinstance(text, str):
        raise CannotError(f"the type {string.value} cannot be read")
    try:
        changed = _code(change(cst.parse_expression(text)))
    except cst.ParserSyntaxError:
        raise CannotError(f"the type {string.value} cannot be read") from None
    return string.with_changes(value=quoted(changed) if string.quote == '"' else repr(changed))


def _wider(expression: cst.BaseExpression, types: Sequence[str], *, null: bool) -> cst.BaseExpression:
    """A type that takes these as well; None stays the last."""
    if isinstance(expression, cst.SimpleString):
        return _quoted(expression, lambda one: _wider(one, types, null=null))
    if isinstance(expression, cst.Subscript) and _last(expression.value) == "Annotated" and _aliased(expression):
        first = expression.slice[0]
        inner = cst.ensure_type(first.slice, cst.Index).value
        wider = first.with_changes(slice=cst.Index(_wider(inner, types, null=null)))
        return expression.with_changes(slice=[wider, *expression.slice[1:]])
    parts = list(_alternatives(expression))
    there = {_code(one) for one in parts}
    null = null and "None" not in there
    added: list[cst.BaseExpression] = [cst.parse_expression(one) for one in types if one not in there]
    if not added and not null:
        return expression
    if isinstance(expression, cst.BinaryOperation) and _code(expression.right) == "None":
        return expression.with_changes(left=_joined([expression.left, *added]))
    return _joined([expression, *added, *([cst.Name("None")] if null else [])])


def _alternatives(expression: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    if isinstance(expression, cst.BinaryOperation):
        yield from _alternatives(expression.left)
        yield from _alternatives(expression.right)
    else:
        yield expression


def _joined(parts: Sequence[cst.BaseExpression]) -> cst.BaseExpression:
    found, *others = parts
    for one in others:
        found = cst.BinaryOperation(found, cst.BitOr(), one)
    return found


def _aliased(annotated: cst.Subscript) -> bool:
    """Whether what is annotated must stay whole: of a part of a type, alias and default would be lost."""
    calls = [one.slice.value for one in annotated.slice if isinstance(one.slice, cst.Index)]
    return any(
        argument.keyword is None or "alias" in argument.keyword.value or "default" in argument.keyword.value
        for call in calls
        if isinstance(call, cst.Call) and _last(call.func) == "Field"
        for argument in call.args
    )


def _choice(
    module: cst.Module,
    expression: cst.BaseExpression,
    inner: Sequence[Step],
    value: str | int,
    namespace: Mapping[str, Any],
) -> tuple[cst.CSTNode, cst.CSTNode]:
    """The node that lists the choices of a type, and the same with one more."""
    written = quoted(value) if isinstance(value, str) else repr(value)
    try:
        return expression, _within(expression, inner, lambda one: _chosen(one, written))
    except CannotError:
        names: set[str] = set()

        def look(one: cst.BaseExpression) -> cst.BaseExpression:
            names.update(_names(one))
            return one

        _within(expression, inner, look)
    for name in sorted(names):
        enum = isinstance(namespace.get(name), EnumType)
        for statement in module.body:
            if enum and isinstance(statement, cst.ClassDef) and statement.name.value == name:
                return statement, _member(statement, value, written)
            for definition in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
                if (found := _defined(definition, name)) and "Literal" in _names(found):
                    return found, _chosen(found, written)
    raise CannotError(f"the choices of {_code(expression)} are not listed in this file")


def _defined(statement: cst.CSTNode, name: str) -> cst.BaseExpression | None:
    """The type that a statement calls by this name."""
    if isinstance(statement, cst.Assign) and [_code(one.target) for one in statement.targets] == [name]:
        return statement.value
    if isinstance(statement, cst.AnnAssign) and _code(statement.target) == name:
        return statement.value
    if isinstance(statement, cst.TypeAlias) and statement.name.value == name:
        return statement.value
    return None


def _chosen(expression: cst.BaseExpression, written: str) -> cst.BaseExpression:
    """A type whose Literal has one more choice."""
    if isinstance(expression, cst.SimpleString):
        return _quoted(expression, lambda one: _chosen(one, written))
    if isinstance(expression, cst.BinaryOperation):
        try:
            return expression.with_changes(left=_chosen(expression.left, written))
        except CannotError:
            return expression.with_changes(right=_chosen(expression.right, written))
    if isinstance(expression, cst.Subscript):
        head = _last(expression.value)
        if head == "Literal":
            return _longer(expression, written)
        for number in range({"Annotated": 1, "Optional": 1, "Union": len(expression.slice)}.get(head, 0)):
            try:
                return _sliced(expression, number, (), lambda one: _chosen(one, written))
            except CannotError:
                continue
    raise CannotError(f"there is no Literal in {_code(expression)}")


def _longer(literal: cst.Subscript, written: str) -> cst.Subscript:
    *before, last = literal.slice
    if any(_code(one.slice) == written for one in literal.slice):
        return literal
    comma = before[-1].comma if before else cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    added = last.with_changes(slice=cst.Index(cst.parse_expression(written)))
    return literal.with_changes(slice=[*before, last.with_changes(comma=comma), added])


def _member(found: cst.ClassDef, value: str | int, written: str) -> cst.ClassDef:
    """An Enum with one more member."""
    lines = [
        (number, one)
        for number, line in enumerate(found.body.body)
        if isinstance(line, cst.SimpleStatementLine)
        for one in line.body
        if isinstance(one, cst.Assign)
    ]
    names = {_code(target.target) for _, one in lines for target in one.targets}
    if not lines or not isinstance(found.body, cst.IndentedBlock):
        raise CannotError(f"the class {found.name.value} lists no choices")
    if any(_code(one.value) == written for _, one in lines):
        return found
    plain = _plain(str(value)).upper() if any(name.isupper() for name in names) else _plain(str(value))
    name = _free(plain, names)
    return _inserted(found, lines[-1][0] + 1, f"{name} = {written}")


def _optional(field: cst.AnnAssign) -> cst.AnnAssign:
    """The field with None where it is absent."""
    if field.value is None:
        return field.with_changes(
            value=cst.Name("None"),
            equal=cst.AssignEqual(cst.SimpleWhitespace(" "), cst.SimpleWhitespace(" ")),
        )
    call = field.value
    if not isinstance(call, cst.Call) or _last(call.func) != "Field":
        raise CannotError(f"nobody can say what {_code(call)} is if the field is absent")
    none = cst.Name("None")
    arguments = list(call.args)
    for number, one in enumerate(arguments):
        if (one.keyword is None and number == 0) or (one.keyword and one.keyword.value == "default"):
            arguments[number] = one.with_changes(value=none)
            break
    else:
        comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")) if arguments else cst.MaybeSentinel.DEFAULT
        plain = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        arguments.insert(0, cst.Arg(none, keyword=cst.Name("default"), equal=plain, comma=comma))
    return field.with_changes(value=call.with_changes(args=arguments))


def _unhidden(found: cst.ClassDef, line: cst.SimpleStatementLine, attribute: str) -> None:
    """CannotError if a value of this name in the class would hide a type that its other fields are given."""
    others = [one for other, one in _annotated(found) if other is not line]
    if attribute in set().union(*(_names(one.annotation) for one in others)):
        raise CannotError(f"a default of {attribute} would hide the type of that name")


def _add(module: cst.Module, found: cst.ClassDef, edit: Add, namespace: Mapping[str, Any]) -> cst.Module:
    if not edit.name:
        raise CannotError("a field without a name cannot be named")
    used = set().union(*(_names(one.annotation) for _, one in _annotated(found)))
    there = {name for name in dir(edit.model) if not name.startswith("__")} | set(edit.model.model_fields)
    known = used | there | {"str", "int", "float", "bool", "dict", "list", "object", "None"}
    name = edit.name if _spelt(edit.name) else _plain(edit.name)
    name = f"field_{name}" if name.startswith("model_") else name  # pydantic keeps such names for itself
    if keyword.iskeyword(name) or name in known:
        name = _free(f"{name}_", known)
    generator = edit.model.model_config.get("alias_generator")
    default = "None"
    if name != edit.name or generator:
        if namespace.get("Field", Field) is not Field:
            raise CannotError("Field means something else in this file")
        default = f"Field(default=None, alias={quoted(edit.name)})"
    wanted = edit.type if edit.type == "object" else f"{edit.type} | None"
    last = max(
        (n for n, line in enumerate(found.body.body) if any(line is one for one, _ in _annotated(found))), default=None
    )
    place = len(found.body.body) if last is None else last + 1
    module = _replaced(module, found, _inserted(found, place, f"{name}: {wanted} = {default}"))
    if default == "None" or "Field" in namespace:
        return module
    return _imported(module)


def _imported(module: cst.Module) -> cst.Module:
    """The module with Field imported, among the names that come from pydantic already if there are any."""
    for line in module.body:
        for one in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if not isinstance(one, cst.ImportFrom) or not one.module or one.relative:
                continue
            if _code(one.module) == "pydantic" and not isinstance(one.names, cst.ImportStar):
                names = list(one.names)
                place = next((n for n, name in enumerate(names) if _code(name.name) > "Field"), len(names))
                comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
                if place < len(names):
                    names.insert(place, names[place].with_changes(name=cst.Name("Field"), asname=None, comma=comma))
                else:
                    last = names.pop()
                    between = names[-1].comma if names else comma
                    names += [last.with_changes(comma=between), last.with_changes(name=cst.Name("Field"), asname=None)]
                return _replaced(module, one, one.with_changes(names=names))
    context = CodemodContext()
    AddImportsVisitor.add_needed_import(context, "pydantic", "Field")
    return AddImportsVisitor(context).transform_module(module)


def _inserted(found: cst.ClassDef, place: int, code: str) -> cst.ClassDef:
    body = list(found.body.body)
    body.insert(place, cst.parse_statement(code))
    return found.with_changes(body=found.body.with_changes(body=body))


def _spelt(name: str) -> bool:
    """Whether an attribute can have this name, and keeps it: Python folds some letters into others."""
    return name.isidentifier() and unicodedata.normalize("NFKC", name) == name and not name.startswith("_")


def _plain(name: str) -> str:
    """A name like this one that an attribute can have."""
    plain = re.sub(r"[^0-9A-Za-z]+", "_", name[:60]).strip("_")
    plain = f"field_{plain}" if not plain or plain[0].isdigit() else plain
    return plain.rstrip("_")


def _free(name: str, known: set[str]) -> str:
    found, number = name, 1
    while found in known or keyword.iskeyword(found):
        number += 1
        found = f"{name.rstrip('_')}_{number}"
    return found


def _names(node: cst.CSTNode) -> set[str]:
    """The names that a type uses, also in quotes, where they are no choice and nothing that is passed on."""
    found: set[str] = set()

    class Names(cst.CSTVisitor):
        passed = 0

        def visit_Name(self, node: cst.Name) -> None:  # noqa: N802
            found.add(node.value)

        def visit_Subscript(self, node: cst.Subscript) -> bool:  # noqa: N802
            choices = _last(node.value) == "Literal"
            found.update(["Literal"] if choices else [])
            return not choices

        def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
            self.passed += 1

        def leave_Call(self, original_node: cst.Call) -> None:  # noqa: N802
            self.passed -= 1

        def visit_SimpleString(self, node: cst.SimpleString) -> None:  # noqa: N802
            if not self.passed:
                found.update(re.findall(r"\w+", node.value))

    node.visit(Names())
    return found


def _last(expression: cst.BaseExpression) -> str:
    """`Literal` of `typing.Literal`."""
    if isinstance(expression, cst.Attribute):
        return expression.attr.value
    return expression.value if isinstance(expression, cst.Name) else ""


def _code(node: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(node)
