"""Which column each field of a stream gets in a SQLite table, and how a value goes in so that it comes out unchanged.

SQLite changes what does not fit the type of a column: "01234" becomes 1234 in one of numbers. So a type is
given only where every value that the model takes keeps its own in it, and the rest is refused or has no type.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from pydantic import RootModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..decode import encode
from ..errors import ConfigError
from ..page import JSON
from ..stream import Stream, wire_names

LIMIT = 2000
"""How many columns a table may have, where SQLite was not built with another limit."""
_INTEGERS = range(-(2**63), 2**63)


def columns(stream: Stream) -> dict[str, str]:
    """The API's name of each field and the kind of its column: INTEGER, REAL, TEXT, JSON, or none for a mixture."""
    schema: Mapping[str, Any] = stream.model.model_json_schema(by_alias=True, schema_generator=_Shapes)
    definitions = schema.get("$defs", {})
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    properties = schema.get("properties", {})
    names = properties if issubclass(stream.model, RootModel) else wire_names(stream.model)
    kinds = {name: _kind(properties.get(name, {"type": "mixed"}), definitions) for name in names}
    kinds |= {name: "TEXT" for name in kinds if stream.masks.column(name)}
    if len(folded(kinds)) < len(kinds):
        raise ConfigError(f"stream {stream.name}: SQLite cannot hold two fields whose names differ only by case")
    if len(kinds) > LIMIT or any("\0" in name for name in kinds):
        raise ConfigError(f"stream {stream.name}: SQLite takes {LIMIT:,} fields, and no name with a NUL in it")
    return kinds


def _kind(schema: Any, definitions: Mapping[str, Any]) -> str:
    if not isinstance(schema, Mapping):
        return ""
    if "$ref" in schema:
        return _kind(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        kinds = {_kind(choice, definitions) for choice in choices if choice != {"type": "null"}}
        if len(kinds) == 1:
            return kinds.pop()
        return "JSON" if "JSON" in kinds else ""
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return "TEXT" if all(isinstance(value, str) for value in values) else ""
    kind = schema.get("type")
    return _KINDS.get(kind, "JSON") if isinstance(kind, str) else "JSON"


_KINDS = {
    "integer": "INTEGER",
    "boolean": "INTEGER",
    "number": "REAL",
    "string": "TEXT",
    "decimal": "TEXT",
    "mixed": "",
}


class _Shapes(GenerateJsonSchema):
    """JSON Schema of what a model takes, with two types of our own, and without giving up on any model."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 pydantic's own form

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return {"type": "decimal"}

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return self._converted(schema, super().function_before_schema(schema))

    def function_wrap_schema(self, schema: core_schema.WrapValidatorFunctionSchema) -> JsonSchemaValue:
        return self._converted(schema, super().function_wrap_schema(schema))

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {"type": "mixed"}

    def _converted(self, schema: Mapping[str, Any], inner: JsonSchemaValue) -> JsonSchemaValue:
        """What comes before a validator that may turn anything into the type, unless the author says what."""
        if "json_schema_input_schema" in schema or {"type": "decimal"} in inner.get("anyOf", [inner]):
            return inner
        return {"type": inner["type"] if inner.get("type") in ("object", "array") else "mixed"}


def declared(kind: str) -> str:
    """How a column of a kind is declared; JSON is told from TEXT, for the same text means another thing in it."""
    return "JSON TEXT" if kind == "JSON" else kind


def unfit(value: JSON, kind: str) -> tuple[str, str] | None:
    """Why a column of this kind would not give back this value."""
    if value is None or kind not in ("INTEGER", "REAL"):
        return None
    if kind == "INTEGER" and isinstance(value, int):
        return None if value in _INTEGERS else ("sink_integer_range", "SQLite holds integers from -2^63 to 2^63-1")
    if kind == "REAL" and isinstance(value, float):
        return None
    if kind == "REAL" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return None if _held(value) else ("sink_number_range", "SQLite would hold another number than this one")
    return "sink_column_type", f"The model has numbers here, and SQLite's column of type {kind} might change this value"


def _held(value: int | Decimal) -> bool:
    """Whether a double stands for this number: an integer exactly or by its shortest digits, a fraction nearly."""
    try:
        number = float(value)
    except OverflowError:
        return False
    if math.isinf(number) or (number == 0) != (value == 0):
        return False
    return isinstance(value, Decimal) or number == value or Decimal(repr(number)) == value


def bound(value: JSON, kind: str) -> Any:
    """A JSON value as SQLite takes it, exactly."""
    if value is None:
        return None
    if kind == "JSON" or isinstance(value, dict | list):
        return encode(value).decode()
    if isinstance(value, str):
        return value
    if kind == "TEXT":
        return encode(value).decode()
    if isinstance(value, bool | float):
        return value
    if kind == "REAL":
        return float(value)
    if isinstance(value, Decimal):
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    return value if value in _INTEGERS else str(value)


def fold(name: str) -> bytes:
    """What SQLite tells the names of columns apart by: without case, in ASCII only."""
    return name.encode("utf-8", "surrogatepass").lower()


def folded(names: Iterable[str]) -> dict[bytes, str]:
    """Names by what SQLite tells them apart by."""
    return {fold(name): name for name in names}


def quoted(name: str) -> str:
    """A name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'
