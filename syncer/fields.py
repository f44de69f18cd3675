"""Field types for models that pydantic does not have: how an API writes a thing, and what it means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import PlainValidator


def _from_epoch(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("should be whole seconds since 1970, as a number")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        raise ValueError("should be seconds since 1970 in a year up to 9999") from None


EpochSeconds = Annotated[datetime, PlainValidator(_from_epoch, json_schema_input_type=int)]
"""Whole seconds since 1970 as a JSON number (Stripe's `created`). Compared as a moment, written as it came."""
