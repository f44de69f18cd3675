"""What a model can say of a field that pydantic does not know: how an API writes it, and that it is not to be kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, GetCoreSchemaHandler, PlainValidator
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from .errors import ConfigError


def _from_epoch(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("should be whole seconds since 1970, as a number")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        raise ValueError("should be seconds since 1970 in a year up to 9999") from None


EpochSeconds = Annotated[datetime, PlainValidator(_from_epoch, json_schema_input_type=int)]
"""Whole seconds since 1970 as a JSON number (Stripe's `created`). Compared as a moment, written as it came."""


MASK = "masked:"
REMOVED = f"{MASK}removed"
"""What stands in rejects and kept pages where a value was removed."""
_MASK = f"^{MASK}(?:removed|[0-9a-f]{{32}})$"
_MARK = "syncer_masked"
BRANCH = "syncer_mask"
"""Among the places of a fault that `again` finds: it is only that there is no mask."""


@dataclass(frozen=True, slots=True)
class Masked:
    """Says that the value of a field is for validation only: `email: Annotated[str, Masked()]`.

    What is written anywhere is a hash of it, the same for the same value within one output; with
    `Masked("remove")` nothing is. null stays null. ConfigError for any other word.
    """

    how: Literal["hash", "remove"] = "hash"

    def __post_init__(self) -> None:
        """Refuse what is neither of the two."""
        if self.how not in ("hash", "remove"):
            raise ConfigError("Masked is neither hash nor remove", hint='write Masked() or Masked("remove")')

    @staticmethod  # so that the class itself, without parentheses, says the same
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The field's own validation, marked for `again`."""
        schema: Any = handler(source)
        return cast("CoreSchema", {**schema, "metadata": {**schema.get("metadata", {}), _MARK: True}})


def again(model: type[BaseModel]) -> SchemaValidator:
    """What validates records of a model in which masks stand for values: they pass, all else is as it was."""
    schema: Any = _open(model.__pydantic_core_schema__)
    # Without the last word, models within would be validated by what they made of themselves before.
    return SchemaValidator(schema, _use_prebuilt=False)


def _open(schema: Any) -> Any:
    """A core schema whose marked places take masks too."""
    if isinstance(schema, list | tuple):
        return type(schema)(_open(one) for one in schema)
    if not isinstance(schema, dict):
        return schema
    made = {name: _open(part) for name, part in schema.items() if name != "metadata"}
    if _MARK not in (schema.get("metadata") or {}):
        return made
    mask = core_schema.str_schema(pattern=_MASK)
    return core_schema.union_schema([(mask, BRANCH), cast("CoreSchema", made)], mode="left_to_right")


def is_mask(value: Any) -> bool:
    """Whether a value is one that was put in the place of another."""
    return isinstance(value, str) and re.fullmatch(_MASK, value) is not None
