"""A tap and a JSON lines target, both of Singer's SDK, at the fastest that its documentation offers.

The messages are encoded by msgspec, types are not made to conform, the target validates nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender, Job, in_lines, in_sqlite

NESTED = ("customer", "tags")
AMOUNTS = ("subtotal", "tax", "discount", "weight")


def schema() -> dict[str, Any]:
    """The types of a record, as Singer's messages state them."""
    return dict(json.loads((Path(__file__).parent / "schema.json").read_text()))


def tap() -> None:
    """`with_singer.py tap --config …`: messages on stdout."""
    import msgspec
    from singer_sdk import RESTStream, Tap
    from singer_sdk.contrib.msgspec import MsgSpecWriter
    from singer_sdk.helpers.conform import TypeConformanceLevel
    from singer_sdk.pagination import BaseAPIPaginator

    class Told(BaseAPIPaginator):
        """The next page as the answer tells it: its number, or its cursor."""

        def __init__(self, paging: str) -> None:
            super().__init__(None)
            self.paging = paging

        def get_next(self, response: Any) -> Any:
            end = msgspec.json.decode(b"{" + response.content[response.content.rindex(b'"page":') :])
            if end["next"] is None:
                return None
            return end["next"] if self.paging == "cursor" else end["page"] + 1

    class Items(RESTStream):
        name = "items"
        path = ""
        primary_keys = ("id",)
        schema = schema()
        TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

        @property
        def url_base(self) -> str:
            return str(self.config["url"])

        def get_new_paginator(self) -> Told:
            return Told(self.config["paging"])

        def get_url_params(self, context: Any, next_page_token: Any) -> dict[str, Any]:
            return {self.config["paging"]: next_page_token} if next_page_token else {}

        def parse_response(self, response: Any) -> Any:
            yield from msgspec.json.decode(response.content)["records"]

    class Bench(Tap):
        name = "tap-bench"
        message_writer_class = MsgSpecWriter
        config_jsonschema = {  # noqa: RUF012
            "properties": {"url": {"type": "string"}, "paging": {"type": "string"}},
            "required": ["url", "paging"],
        }

        def discover_streams(self) -> list[Any]:
            return [Items(self)]

    Bench.cli()


def target() -> None:
    """`with_singer.py target --config …`: messages from stdin into items.jsonl."""
    import msgspec
    from singer_sdk import Target
    from singer_sdk.contrib.msgspec import MsgSpecReader
    from singer_sdk.sinks import BatchSink

    encode = msgspec.json.Encoder(decimal_format="number").encode

    class Lines(BatchSink):
        max_size = 10_000
        include_sdc_metadata_properties = False

        def process_batch(self, context: dict[str, Any]) -> None:
            with (Path(self.config["out"]) / "items.jsonl").open("ab") as file:
                file.write(b"".join([encode(record) + b"\n" for record in context["records"]]))

    class Bench(Target):
        name = "target-bench"
        message_reader_class = MsgSpecReader
        default_sink_class = Lines
        config_jsonschema = {  # noqa: RUF012
            "properties": {"out": {"type": "string"}, "validate_records": {"type": "boolean"}}
        }

    Bench.cli()


def database() -> None:
    """`with_singer.py database --config …`: messages from stdin into a table of items.db."""
    import msgspec
    from singer_sdk.contrib.msgspec import MsgSpecReader
    from singer_sdk.sql import SQLConnector, SQLSink, SQLTarget

    encode = msgspec.json.Encoder(decimal_format="number").encode

    class Connection(SQLConnector):
        allow_temp_tables = False
        allow_column_alter = False

        def get_sqlalchemy_url(self, config: Any) -> str:
            return f"sqlite:///{config['out']}/items.db"

    class Rows(SQLSink):
        connector_class = Connection
        max_size = 10_000
        include_sdc_metadata_properties = False

        def preprocess_record(self, record: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
            """Values that SQLite has a type for: the SDK leaves that to the target."""
            for name in NESTED:
                record[name] = encode(record[name]).decode()
            for name in AMOUNTS:
                value = record[name]
                record[name] = None if value is None else float(value)
            return record

    class Bench(SQLTarget):
        name = "target-bench"
        message_reader_class = MsgSpecReader
        default_sink_class = Rows
        config_jsonschema = {  # noqa: RUF012
            "properties": {"out": {"type": "string"}, "validate_records": {"type": "boolean"}}
        }

    Bench.cli()


def started(job: Job, target: list[str], config: dict[str, Any]) -> Sequence[Sequence[str]]:
    """Both ends, each with its file of settings."""
    (job.out / "tap.json").write_text(json.dumps({"url": job.url, "paging": job.paging}))
    (job.out / "target.json").write_text(json.dumps(config))
    tap = job.script("singer", "with_singer.py", "tap", "--config", "tap.json")
    return [tap, [*target, "--config", "target.json"]]


def released(job: Job) -> Sequence[Sequence[str]]:
    config = {"destination_path": str(job.out), "do_timestamp_file": False}
    return started(job, [job.program("target-jsonl", "target-jsonl")], config)


def own(side: str) -> Any:
    def start(job: Job) -> Sequence[Sequence[str]]:
        config = {"out": str(job.out), "validate_records": False}
        return started(job, job.script("singer", "with_singer.py", side), config)

    return start


CONTENDERS = (
    Contender(
        name="Singer, SDK tap and SDK target, jsonl",
        does="msgspec on both sides, no types made to conform, nothing validated; state at the end, no fsync;"
        " the target is a dozen lines of ours over the SDK",
        start=own("target"),
        ids=lambda job: in_lines([job.out / "items.jsonl"]),
    ),
    Contender(
        name="Singer, SDK tap and target-jsonl",
        does="the released target, which validates each record against the JSON schema; state at the end, no fsync",
        start=released,
        ids=lambda job: in_lines([job.out / "items.jsonl"]),
    ),
    Contender(
        name="Singer, SDK tap and SDK target, SQLite",
        does="the SDK's own SQL sink over SQLAlchemy; nothing validated, a transaction per 10,000 records",
        start=own("database"),
        ids=lambda job: in_sqlite(job.out / "items.db"),
    ),
)

if __name__ == "__main__":
    side = sys.argv.pop(1)
    {"tap": tap, "target": target, "database": database}[side]()
