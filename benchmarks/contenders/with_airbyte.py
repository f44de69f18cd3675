"""Airbyte's CDK: a declarative source, `read` into a file.

Its messages are what a destination would be given; what a destination costs is not in the figure. Nothing is validated,
null fields are left out, there is no checkpoint within a full refresh and no fsync. The pages of a stream are asked
for one after the other; where the API allows so many requests, its budget of calls is declared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.contender import Contender, Job, in_lines


def manifest(job: Job) -> dict[str, Any]:
    """The source, as its builder would write it in YAML."""
    following = "{{ response.next }}" if job.paging == "cursor" else "{{ response.page + 1 }}"
    requester = {"type": "HttpRequester", "url_base": job.url, "path": "", "http_method": "GET"}
    paginator = {
        "type": "DefaultPaginator",
        "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": job.paging},
        "pagination_strategy": {
            "type": "CursorPagination",
            "cursor_value": following,
            "stop_condition": "{{ not response.next }}",
        },
    }
    extractor = {"type": "DpathExtractor", "field_path": ["records"]}
    stream = {
        "type": "DeclarativeStream",
        "name": "items",
        "primary_key": ["id"],
        "retriever": {
            "type": "SimpleRetriever",
            "requester": requester,
            "record_selector": {"type": "RecordSelector", "extractor": extractor},
            "paginator": paginator,
        },
        "schema_loader": {
            "type": "InlineSchemaLoader",
            "schema": {"type": "object", "additionalProperties": True, "properties": {}},
        },
    }
    budget = {
        "type": "HTTPAPIBudget",
        "policies": [
            {
                "type": "MovingWindowCallRatePolicy",
                "rates": [{"limit": job.limit, "interval": "PT1S"}],
                "matchers": [],
            }
        ],
    }
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["items"]},
        "streams": [stream],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
        **({"api_budget": budget} if job.limit else {}),
    }


def start(job: Job) -> Sequence[Sequence[str]]:
    catalog = {
        "streams": [
            {
                "stream": {"name": "items", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
                "sync_mode": "full_refresh",
                "destination_sync_mode": "append",
            }
        ]
    }
    files = {"config": {}, "catalog": catalog, "manifest": manifest(job)}
    for name, holds in files.items():
        (job.out / f"{name}.json").write_text(json.dumps(holds))
    read = [job.program("airbyte", "source-declarative-manifest"), "read", "--manifest-path", "manifest.json"]
    return [[*read, "--config", "config.json", "--catalog", "catalog.json"]]


CONTENDERS = (
    Contender(
        name="Airbyte CDK",
        does="a declarative source, its messages into a file; nothing validated, no checkpoint in between, no fsync",
        start=start,
        ids=lambda job: in_lines([job.out / "stdout"], b'"type":"RECORD"'),
    ),
)
