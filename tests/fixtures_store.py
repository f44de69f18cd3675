"""The answers kept under fixtures/: recorded exchanges by connector and stream, and the odd ones by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
ODD = FIXTURES / "odd"

Exchange = dict[str, Any]


def exchanges(connector: str, stream: str) -> list[Exchange]:
    """The recorded exchanges of one stream, in the order they happened; empty if none were recorded."""
    files = sorted((FIXTURES / connector / stream).glob("*.json"), key=lambda file: int(file.stem))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def settings(connector: str, stream: str) -> dict[str, str]:
    """What the placeholders of the connector stood for when the stream was recorded."""
    found: dict[str, str] = exchanges(connector, stream)[0].get("settings", {})
    return found


def odd() -> dict[str, Exchange]:
    """The odd answers, by the names of their oddities."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(ODD.glob("*.json"))}


def content(answer: Exchange) -> bytes:
    """The bytes of an answer's body, as a server would send them."""
    if "text" in answer:
        text: str = answer["text"]
        return text.encode("utf-8")
    return json.dumps(answer["body"], ensure_ascii=False).encode("utf-8")
