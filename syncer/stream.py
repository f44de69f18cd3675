"""What an author declares: a Stream (one kind of record) and a Connector (one API). Frozen values, no code.

Field names in a declaration are the API's own, as they stand in its JSON, also where the model uses aliases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote, urlsplit

from .answers import When
from .auth import Auth
from .errors import ConfigError
from .page import JSON, Path, Place, Request, digest, steps
from .pagination import Cursor, Pagination, SinglePage
from .rate import Rate

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .masks import Masks

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
"""What connectors and streams may be called: their names become files, tables and variables."""
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_REFERENCE = re.compile(r'"\$ref": "#/\$defs/([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One kind of record of one API.

    `path` is taken below the connector's base URL and may hold `{placeholders}`, filled by `--set`.
    `records` is the place of the list in the body (`""`: the body is the list) and `total` the place
    where the API declares how many there are. `replication_key` is the field that grows with every
    change and `since` the query parameter that asks for records from a value of it on (`since_body`:
    a place in the JSON body); `start` is that value for the first run.

    `unknown` says what becomes of fields that the model does not name: `drop` leaves them out of the
    output, `keep` writes them too, `reject` rejects the record. They are counted by name in any case.
    `answers` are rules for what this API's answers mean where that differs from the rest; those of the
    stream count before those of its connector. `max_rejects` is the budget (`"100"` or `"2%"`) unless the
    user names one. `max_empty_pages` empty pages in a row end the run as an endless loop, and so does the
    same page twice in a row unless `may_repeat`. Raise `version` when records change meaning without a
    change of the model. `conditional` keeps the API's answers beside the output, whole, and asks for them
    again only if they have changed, for an API whose ETag or Last-Modified can be trusted. `size` names the
    parameter with the page size (`size_body`: its place in the body), so that a page which the API calls too
    large can be asked for in a smaller one; that of the pagination counts without it.

    `mask` are paths to values that are never written down but as a hash, such as `("meta.email", "lines[].phone")`,
    where the model does not name them; where it does, it says `Annotated[str, Masked()]`. `keep_pages` keeps every
    page as it came, as `syncer pull --keep-pages` does, for `syncer rebuild`.
    """

    name: str
    path: str
    model: type[BaseModel]
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, JSON] = field(default_factory=dict)
    body: JSON = None
    headers: Mapping[str, str] = field(default_factory=dict)
    records: Path = ""
    pagination: Pagination = field(default_factory=SinglePage)
    primary_key: str | tuple[str, ...] | None = None
    replication_key: str | None = None
    since: str | None = None
    since_body: Path | None = None
    start: JSON = None
    total: Place | None = None
    unknown: Literal["drop", "keep", "reject"] = "drop"
    max_rejects: str | None = None
    max_empty_pages: int = 10
    may_repeat: bool = False
    answers: tuple[When, ...] = ()
    version: int = 1
    conditional: bool = False
    size: str | None = None
    size_body: Path | None = None
    mask: tuple[str, ...] = ()
    keep_pages: bool = False

    def __post_init__(self) -> None:
        """Refuse names that cannot be files, values of another kind, and keys that the model does not have."""
        _check_name("stream", self.name)
        _check_stream(self)
        if self.name.startswith(("sqlite_", "syncer_")):
            raise ConfigError(
                f"{self.name!r} cannot be the name of a stream", hint="SQLite keeps such names for itself"
            )
        _check_template(f"stream {self.name}", self.path)
        _check_headers(f"stream {self.name}", self.headers)
        _check_complete(self.model)
        known = wire_names(self.model)
        for model in nested(self.model, set()):
            wire_names(model)
        for key in (*self.key, *([self.replication_key] if self.replication_key else [])):
            if key not in known:
                raise ConfigError(
                    f"stream {self.name}: {self.model.__name__} has no field {key!r}",
                    hint=f"its fields are {', '.join(known)}",
                )
        _check_masks(self)
        if self.conditional and (self.method != "GET" or self.body is not None):
            raise ConfigError(f"stream {self.name}: conditional needs a GET without a body")
        if (self.since or self.since_body) and not self.replication_key:
            raise ConfigError(f"stream {self.name}: since needs a replication_key")
        if self.replication_key and not (self.since or self.since_body):
            raise ConfigError(f"stream {self.name}: replication_key needs since (or since_body) to ask for news only")

    @property
    def key(self) -> tuple[str, ...]:
        """The fields of the primary key; empty if there is none."""
        if self.primary_key is None:
            return ()
        return (self.primary_key,) if isinstance(self.primary_key, str) else self.primary_key

    @property
    def masks(self) -> Masks:
        """Which of its values are never written."""
        from .masks import masks

        return masks(self.model, self.mask)

    @property
    def incremental(self) -> bool:
        """Whether a later run asks only for what is new."""
        return self.replication_key is not None


@dataclass(frozen=True, kw_only=True)
class Connector:
    """One API: where it is, who asks, how fast, and its streams.

    `settings` explains the placeholders of `base_url` and the paths, by name. `hosts` are other origins that
    the API's links and redirects may lead to, as in `("https://files.shop.example",)`: they are sent neither
    credentials nor `headers`. `server` is for an API that has to be started first: a function that gives a
    context manager, which serves for as long as it is open and yields the base URL in force; `base_url`
    then only names the API.
    """

    name: str
    base_url: str
    streams: tuple[Stream, ...]
    auth: Auth | None = None
    rate: Rate | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[When, ...] = ()
    hosts: tuple[str, ...] = ()
    server: Callable[[], AbstractContextManager[str]] | None = None

    def __post_init__(self) -> None:
        """Refuse a name that cannot be a directory, two streams of one name, and hosts that are no origins."""
        _check_name("connector", self.name)
        _check_connector(self)
        _check_template("base_url", self.base_url)
        _check_headers(f"connector {self.name}", self.headers)
        _check_hosts(self.hosts, self.base_url)
        if not isinstance(self.streams, tuple) or not self.streams:
            raise ConfigError("streams is not a tuple of streams", hint="write streams=(orders,) with its comma")
        names = [stream.name for stream in self.streams]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"there are two streams called {twice[0]}", hint="rename one of them")

    def stream(self, name: str) -> Stream:
        """The stream of this name; ConfigError naming those there are."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise ConfigError(
            f"connector {self.name} has no stream {name!r}",
            hint=f"its streams are {', '.join(stream.name for stream in self.streams)}",
        )

    def needs(self, streams: Iterable[Stream] | None = None) -> tuple[str, ...]:
        """The names of the settings that these streams (or all) need, in the order they are met."""
        chosen = self.streams if streams is None else streams
        templates = [self.base_url, *(stream.path for stream in chosen)]
        return tuple(dict.fromkeys(name for template in templates for name in placeholders(template)))


def placeholders(template: str) -> tuple[str, ...]:
    """The names in braces, in order."""
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name)


def base_url(connector: Connector, settings: Mapping[str, str]) -> str:
    """The connector's base URL with its placeholders filled, without a slash at the end."""
    url = connector.base_url.format_map({k: v.strip() for k, v in settings.items()}).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        shown = "the base URL" if "@" in url or "?" in url else repr(url)  # no password, no key
        raise ConfigError(f"{shown} is not an http or https URL", hint="example: https://api.example.org/v1")
    if parts.username is not None or parts.query or parts.fragment or " " in url:
        raise ConfigError("a base URL must not hold a user name, a query or a fragment")
    return url


def first_request(stream: Stream, url: str, settings: Mapping[str, str], since: JSON) -> Request:
    """The request a run begins with: everything below a base URL, or what is new since a bookmark."""
    path = stream.path.format_map({name: _segment(name, settings[name]) for name in placeholders(stream.path)})
    request = Request(
        url=f"{url}/{path.lstrip('/')}" if path else url,
        method=stream.method,
        params=dict(stream.params),
        body=stream.body,
        headers=dict(stream.headers),
    )
    if since is None:
        return request
    if stream.since_body is not None:
        return request.with_body(stream.since_body, since)
    return request.with_param(stream.since or "", since)


def fingerprint(connector: Connector, stream: Stream, settings: Mapping[str, str]) -> dict[str, str]:
    """What makes a saved position meaningful, part by part, so that a change can be named."""
    url = base_url(connector, settings)
    request = first_request(stream, url, settings, None)
    return {
        "base URL": url,
        "path": request.below(url).url,
        "method": request.method,
        "parameters": _canonical(request.params),
        "body": _canonical(request.body),
        "headers": _canonical({**connector.headers, **request.headers}),
        "records": _canonical(stream.records),
        "pagination": repr(stream.pagination),
        **judging(stream),
    }


def judging(stream: Stream) -> dict[str, str]:
    """The part of the fingerprint that no setting changes: what a record is, and which are accepted."""
    from .masks import rules

    masked = sorted(rules(stream.model, stream.mask))
    keyed = " masked" if any(stream.masks.touches([name]) for name in stream.key) else ""
    return {
        "primary_key": _canonical(stream.key) + keyed,
        "replication_key": _canonical([stream.replication_key, stream.since, stream.since_body]),
        "unknown fields": stream.unknown,
        "model": " ".join([stream.model.__name__, model_fingerprint(stream.model), *_field_marks(stream.model)]),
        "version": str(stream.version),
        **({"masked fields": _canonical(masked)} if masked else {}),
    }


def model_fingerprint(model: type[BaseModel]) -> str:
    """A digest of the model's JSON Schema: changes with its fields, types and bounds, not with its comments."""
    if (schema := _schema(model)) is not None:
        return digest(_canonical(schema).encode(), 8)
    return digest(re.sub(r" at 0x[0-9a-f]+", "", repr(sorted(model.model_fields.items()))).encode(), 8)


def _schema(model: type[BaseModel]) -> Any:
    """The model's JSON Schema without its comments; None for a model that has none."""
    from pydantic.errors import PydanticInvalidForJsonSchema

    try:
        return _without_prose(model.model_json_schema())
    except PydanticInvalidForJsonSchema:
        return None


def _field_marks(model: type[BaseModel]) -> list[str]:
    """`name:mark` of each field, by which a change can be named; empty for a model that has no JSON Schema."""
    schema = _schema(model) or {}
    parts, required = schema.get("$defs", {}), schema.get("required", ())
    marks = []
    for name, shape in schema.get("properties", {}).items():
        reached, texts = [shape], [str(name in required)]
        used: set[str] = set()
        while reached:
            texts.append(_canonical(reached.pop()))
            new = [part for part in _REFERENCE.findall(texts[-1]) if part not in used]
            used.update(new)
            reached += [parts.get(part) for part in new]
        marks.append(f"{quote(name)}:{digest(chr(10).join(texts).encode(), 2)}")
    return marks


def wire_names(model: type[BaseModel]) -> dict[str, str]:
    """The model's fields: the API's name of each, and the attribute that holds it."""
    names: dict[str, str] = {}
    for attribute, info in model.model_fields.items():
        alias = info.validation_alias
        if alias is not None and not isinstance(alias, str):
            raise ConfigError(
                f"model {model.__name__}: the field {attribute} has an alias that is not a plain name",
                hint='use Field(alias="name")',
            )
        names[alias or attribute] = attribute
    return names


def nested(annotation: Any, seen: set[Any]) -> set[Any]:
    """The models within a type, itself included, at any depth; `seen` are those known already, and grows."""
    fields = getattr(annotation, "model_fields", None)
    if isinstance(annotation, type) and isinstance(fields, dict):
        if annotation not in seen:
            seen.add(annotation)
            for info in fields.values():
                nested(info.annotation, seen)
    else:
        for inner in get_args(annotation):
            nested(inner, seen)
    return seen


def _segment(name: str, value: str) -> str:
    value = value.strip().strip("/")
    if not value or not value.isprintable() or any(part in ("", ".", "..") for part in value.split("/")):
        raise ConfigError(f"--set {name}={value!r} cannot be part of a URL", hint=f"give a plain value: --set {name}=…")
    return quote(value, safe="/@:,+~")


def _check_kind(where: str, name: str, value: Any, right: bool, example: str) -> None:
    if not right:
        shown = value.__name__ if isinstance(value, type) else repr(value)
        raise ConfigError(f"{where}: {name}={shown[:60]} is not of the right kind", hint=f"example: {example}")


def _check_stream(stream: Stream) -> None:
    """Python checks no types, and whoever has no type checker would learn of a typing error page by page."""
    page, rules = stream.pagination, stream.answers
    cursor = getattr(page, "cursor", None)
    model = isinstance(stream.model, type) and hasattr(stream.model, "model_fields")
    styled = not isinstance(page, type) and callable(getattr(page, "after", None)) and cursor in get_args(Cursor)
    where = f"stream {stream.name}"
    for name, right, example in (
        ("model", model, "model=Order, a class that is a pydantic BaseModel"),
        ("path", isinstance(stream.path, str), 'path="/orders"'),
        ("method", stream.method in ("GET", "POST"), 'method="POST"; the other is GET'),
        ("unknown", stream.unknown in ("drop", "keep", "reject"), 'unknown="keep"; the others are drop and reject'),
        ("params", isinstance(stream.params, Mapping), 'params={"per_page": 100}'),
        ("headers", isinstance(stream.headers, Mapping), 'headers={"Accept": "application/json"}'),
        ("records", isinstance(stream.records, str | tuple), 'records="data.orders"'),
        ("pagination", styled, 'pagination=NextLink("next", cursor="stable"); or shifting, expiring, single-use'),
        ("answers", isinstance(rules, tuple) and all(isinstance(one, When) for one in rules), "answers=(When(…),)"),
        ("max_empty_pages", type(stream.max_empty_pages) is int, "max_empty_pages=10"),
        ("version", type(stream.version) is int, "version=2"),
        ("mask", isinstance(stream.mask, tuple), 'mask=("meta.email",) with its comma'),
    ):
        _check_kind(where, name, getattr(stream, name), right, example)


def _check_masks(stream: Stream) -> None:
    """Refuse to mask what is kept whole elsewhere: in a cursor, as a bookmark, or with the API's answers."""
    from .masks import rules

    where, found = f"stream {stream.name}", stream.masks
    if not found:
        return
    if stream.conditional:
        raise ConfigError(f"{where}: conditional keeps answers whole, and fields of them are masked", hint="choose one")
    if stream.replication_key and found.touches([stream.replication_key]):
        raise ConfigError(
            f"{where}: the replication_key cannot be masked", hint="the bookmark holds it as the API needs it"
        )
    for key in stream.key:
        if f"{key} remove" in rules(stream.model, stream.mask):
            raise ConfigError(f"{where}: the primary key cannot be removed", hint="mask it by its hash: Masked()")
    for path in _followed(stream):
        if found.touches(path):
            raise ConfigError(
                f"{where}: {'.'.join(map(str, path))} is masked, but the next page is asked for by it",
                hint="the checkpoint holds the next request as the API needs it",
            )


def _followed(stream: Stream) -> Iterator[tuple[str | int, ...]]:
    """The places in a record from which the next request is made."""
    inner = getattr(stream.pagination, "pages", None)
    styles = [stream.pagination, *([inner] if callable(getattr(inner, "after", None)) else [])]
    for style in [*styles, *(window for one in styles if (window := getattr(one, "window", None)))]:
        if (path := getattr(style, "field", None)) is not None:
            yield steps(path)
        places = [getattr(style, name, None) for name in ("token", "path")] + [one for one, _ in _also(style)]
        for place in places:
            above = steps(stream.records)
            if isinstance(place, str | tuple) and steps(place)[: len(above)] == above:
                yield from filter(None, [steps(place)[len(above) + 1 :]])


def _also(style: Any) -> Sequence[tuple[Any, Any]]:
    return getattr(style, "also", ())


def _check_connector(connector: Connector) -> None:
    auth, rules = connector.auth, connector.answers
    styled = auth is None or (not isinstance(auth, type) and callable(getattr(auth, "variables", None)))
    for name, right, example in (
        ("base_url", isinstance(connector.base_url, str), 'base_url="https://api.shop.example"'),
        ("rate", connector.rate is None or isinstance(connector.rate, Rate), "rate=Rate(5, per=MINUTE)"),
        ("auth", styled, 'auth=Bearer(env="SHOP_TOKEN")'),
        ("headers", isinstance(connector.headers, Mapping), 'headers={"Accept": "application/json"}'),
        ("settings", isinstance(connector.settings, Mapping), 'settings={"repo": "the repository, as owner/name"}'),
        ("answers", isinstance(rules, tuple) and all(isinstance(one, When) for one in rules), "answers=(When(…),)"),
    ):
        _check_kind(f"connector {connector.name}", name, getattr(connector, name), right, example)


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not NAME.match(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a {what}",
            hint="use a-z, 0-9, _ and -, at most 63, a letter or digit first",
        )


def _check_headers(where: str, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        sendable = isinstance(name, str) and isinstance(value, str) and _HEADER.fullmatch(f"{name}:{value}")
        if not sendable:
            raise ConfigError(
                f"{where}: the header {name!r} cannot be sent", hint='example: headers={"Accept-Language": "en"}'
            )


def _check_hosts(hosts: tuple[str, ...], base_url: str) -> None:
    """Refuse what is no origin, and a way from https to http."""
    if not isinstance(hosts, tuple):
        raise ConfigError("hosts is not a tuple", hint='write hosts=("https://files.shop.example",) with its comma')
    for host in hosts:
        if not re.fullmatch(r"https?://[a-zA-Z0-9.-]+(:[0-9]{1,4}|:[1-5][0-9]{4})?", host):
            raise ConfigError(
                f"{host!r} in hosts is not an origin",
                hint="scheme, host and perhaps a port: https://files.shop.example",
            )
        if host.startswith("http:") and base_url.startswith("https:"):
            raise ConfigError(f"{host!r} in hosts leads from https to http", hint="name its https:// address")


def _check_complete(model: type[BaseModel]) -> None:
    """Refuse a model with a type that is defined nowhere: pydantic itself only complains at the first record."""
    from pydantic.errors import PydanticUndefinedAnnotation

    try:
        model.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise ConfigError(f"model {model.__name__}: the type {error.name} is not defined") from None


def _check_template(what: str, template: str) -> None:
    try:
        placeholders(template)
    except ValueError as error:
        raise ConfigError(f"{what}: {template!r} is no template: {error}", hint="write {name} for a setting") from None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def _without_prose(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: _without_prose(value)
            for key, value in schema.items()
            if not (key in ("title", "description", "examples") and isinstance(value, str | list))
        }
    return [_without_prose(item) for item in schema] if isinstance(schema, list) else schema
