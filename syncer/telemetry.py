"""A pull as a trace for a collector of OpenTelemetry: spans for the pull, in it its streams, in these their pages.

    pull shop
    └── stream orders
        ├── page      GET https://api.example.org/orders?page=1   200   (event: wait)
        └── page      GET https://api.example.org/orders?page=2   200   (events: retry, wait)

The span of a page lasts from when it is asked for until it is saved, so those of pages that are asked for ahead
overlap. It is sent over OTLP/HTTP, and only if the user says so, to where the standard OTEL_* variables lead.
OpenTelemetry is an extra and imported here only. A pull neither waits for its collector nor ends because of it:
spans go out in a thread of their own, at the end there are PATIENCE seconds for the last of them, and spans that
do not arrive are lost, which is said.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import __version__, network, wire
from .clock import Clock
from .errors import ConfigError
from .events import Asking, Began, Committed, Ended, Event, Finished, Noticed, Requested, Retrying, Started, Waited
from .log import redacted
from .terminal import counted, one_line, writable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

PATIENCE = 5.0
"""Seconds that a pull gives its collector at the end."""
LOCAL = "http://localhost:4318"
"""Where a collector listens if nothing else is said."""
_WHERE = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_HOW = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_TRUST = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")
_TOLD = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_ANSWER = 2**20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Traces:
    """Makes spans of the events of one run, and sends them. ConfigError if that cannot be."""

    def __init__(
        self,
        run: str,
        source: str,
        secrets: Sequence[str],
        clock: Clock,
        environment: Mapping[str, str],
        notice: Callable[[str], None],
    ) -> None:
        self._run, self._source, self._secrets, self._clock, self._notice = run, source, secrets, clock, notice
        self._provider, self._delivery = _provided(environment)
        self._parent = _parent(environment)
        self._pull: Span | None = None
        self._stream: Span | None = None
        self._pages: dict[str, _Page] = {}
        self._own = threading.local()
        self._since = self._spans = 0
        self._why = ""

    def __call__(self, event: Event) -> None:
        """Begin, complete or end the span that an event is about."""
        match event:
            case Began(streams, _, sink):
                known = {"syncer.source": self._source, "syncer.run": self._run, "syncer.sink": sink}
                self._pull = self._begun(f"pull {self._source}", None, {**known, "syncer.streams": list(streams)})
                self._since = self._now()
            case Started(stream, resumed, _, _, since):
                asked = {} if since is None else {"syncer.since": self._said(str(since))}
                self._streaming(stream).set_attributes({"syncer.resumed": resumed, **asked})
            case Asking(_, request):
                self._asking(request)
            case Requested(method, url, status):
                self._answered(method, url, status)
            case Retrying(reason, attempt):
                self._happened("retry", {"syncer.reason": reason, "syncer.attempt": attempt})
            case Waited(seconds, reason):
                self._happened("wait", {"syncer.reason": reason, "syncer.seconds": float(seconds)})
            case Noticed(text):
                self._noted(self._stream or self._pull, "note", {"syncer.text": text})
            case Committed(stream, pages, fetched, written, rejected, repeated, _, request):
                counts = {"fetched": fetched, "written": written, "rejected": rejected, "repeated": repeated}
                self._saved(stream, pages, {f"syncer.{name}": count for name, count in counts.items()}, request)
            case Ended(stream, status, error, _, code):
                self._over(stream, status, error, code)
            case Finished(code, _, error):
                self._finished(code, error)
            case _:
                pass

    def _asking(self, request: str) -> None:
        if before := self._pages.pop(request, None):
            self._close(before.span, before.seen)
        self._pages[request] = self._own.page = _Page(self._begun("page", self._stream or self._pull, {}), self._now())

    def _saved(self, stream: str, pages: int, counts: Mapping[str, int], request: str) -> None:
        self._streaming(stream).set_attributes({"syncer.pages": pages, **counts})
        if page := self._pages.pop(request, None):
            page.span.set_attributes({"syncer.page": pages, **counts})
            self._close(page.span)

    def _answered(self, method: str, url: str, status: int) -> None:
        """The request that was last answered is the one that the span of its page is about."""
        if page := self._at_hand():
            parts, page.status = urlsplit(url), status
            page.span.set_attribute("http.request.method", method)
            page.span.set_attribute("url.full", self._said(url))
            page.span.set_attribute("server.address", self._said(parts.hostname or ""))
            page.span.set_attribute("server.port", parts.port or (443 if parts.scheme == "https" else 80))
            page.span.set_attribute("http.response.status_code", status)
            if page.retries:
                page.span.set_attribute("http.request.resend_count", page.retries)

    def _at_hand(self) -> _Page | None:
        """The page that this thread has asked for last; its span takes nothing more once it is saved."""
        page: _Page | None = getattr(self._own, "page", None)
        if page:
            page.seen = self._now()
        return page

    def _happened(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Something held up the page at hand; or, before any was asked for, the pull."""
        if page := self._at_hand():
            page.retries += name == "retry"
        self._noted(page.span if page else self._stream or self._pull, name, attributes)

    def _noted(self, span: Span | None, name: str, attributes: Mapping[str, Any]) -> None:
        if span:
            told = {key: self._said(value) if isinstance(value, str) else value for key, value in attributes.items()}
            span.add_event(name, told, self._now())

    def _over(self, stream: str, status: str, error: str, code: int) -> None:
        span = self._streaming(stream)
        span.set_attribute("syncer.status", status)
        left, self._pages, self._own.page = list(self._pages.values()), {}, None
        blamed = next((page for page in left if page.status >= 400), next(iter(left), None)) if error else None
        for page in left:
            if page is blamed:
                self._failed(page.span, error, str(page.status) if page.status >= 400 else f"exit {code}")
            self._close(page.span, self._now() if page is blamed else page.seen)
        if error:
            self._why = self._why or error
            self._failed(span, error, f"exit {code}")
        self._close(span)
        self._stream, self._since = None, self._now()

    def _finished(self, code: int, error: str) -> None:
        if self._pull:
            self._pull.set_attribute("process.exit.code", code)
            if code:
                self._failed(self._pull, error or self._why or "stopped by a signal", f"exit {code}")
            self._close(self._pull)
            self._pull = None
        # Not in this thread: the SDK waits longer than a pull should, and for every batch.
        closing = threading.Thread(target=self._provider.shutdown, name="end of traces", daemon=True)
        closing.start()
        closing.join(PATIENCE)
        if self._delivery and (lost := self._delivery.lost(self._spans)):
            self._notice(f"{lost}; the pull is none the worse for it")

    def _streaming(self, stream: str) -> Span:
        """The span of the stream at hand."""
        if not self._stream:
            self._stream = self._begun(f"stream {stream}", self._pull, {"syncer.stream": stream}, self._since)
        return self._stream

    def _begun(self, name: str, parent: Span | None, attributes: Mapping[str, Any], since: int = 0) -> Span:
        from opentelemetry.trace import SpanKind, set_span_in_context

        return self._provider.get_tracer("syncer", __version__).start_span(
            self._said(name),
            set_span_in_context(parent) if parent else self._parent,
            SpanKind.CLIENT if name == "page" else SpanKind.INTERNAL,
            {key: self._said(value) if isinstance(value, str) else value for key, value in attributes.items()},
            start_time=since or self._now(),
        )

    def _failed(self, span: Span, error: str, kind: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_status(Status(StatusCode.ERROR, self._said(error)))
        span.set_attribute("error.type", kind)

    def _close(self, span: Span, moment: int | None = None) -> None:
        self._spans += int(span.is_recording() and span.get_span_context().trace_flags.sampled)
        span.end(moment or self._now())

    def _now(self) -> int:
        return (self._clock.now() - _EPOCH) // timedelta(microseconds=1) * 1000

    def _said(self, text: str) -> str:
        """Text of a server, or of the user, as it may leave this machine."""
        return one_line(str(redacted(writable(text), self._secrets)))


@dataclass
class _Page:
    """A page that was asked for and is not saved yet; `seen` is when it was last heard of."""

    span: Span
    seen: int
    status: int = 0
    retries: int = 0


class _Delivery:
    """Hands spans to an exporter and counts those that arrive; the SDK takes it for the exporter."""

    def __init__(self, inner: SpanExporter, collector: str) -> None:
        self._inner, self._collector = inner, collector
        self.delivered = 0
        self.answer: int | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        result = self._inner.export(spans)
        self.delivered += len(spans) if result.name == "SUCCESS" else 0
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True

    def lost(self, spans: int) -> str:
        """What to say of the spans that did not arrive; empty if all did."""
        if not (lost := spans - self.delivered):
            return ""
        why = ", which did not answer" if self.answer is None else ""
        why = why or (f", which answered {self.answer}" if self.answer and self.answer >= 300 else "")
        return f"{lost:,} of {counted(spans, 'span')} did not reach the collector at {self._collector}{why}"


def secrets(environment: Mapping[str, str]) -> list[str]:
    """What is secret of the way to the collector: the values of the headers it is told."""
    pairs = [pair for name in _TOLD for pair in environment.get(name, "").split(",")]
    return [value for pair in pairs if (value := pair.partition("=")[2].strip())]


def _provided(environment: Mapping[str, str]) -> tuple[TracerProvider, _Delivery | None]:
    """The SDK, and what sends its spans. ConfigError if it is not there, or is told what it cannot do."""
    origin, wanted = _asked(environment)
    for variable, value in environment.items():  # of .env; the SDK reads nothing else
        if variable.startswith("OTEL_"):
            os.environ.setdefault(variable, value)
    logger = logging.getLogger("opentelemetry")  # else it would write on the terminal, tracebacks too
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

        own = {"service.name": "syncer", "service.version": __version__}
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        if not wanted:
            return TracerProvider(ALWAYS_OFF, resource, shutdown_on_exit=False), None
        made = TracerProvider(resource=resource, shutdown_on_exit=False)
        session = wire.session(wire.Limits(wire=_ANSWER, plain=_ANSWER), home=origin[1])
        session.max_redirects = 0  # some of the headers are secrets
        session.proxies.update(network.route(origin, environment))
        trusted = True if any(environment.get(name) for name in _TRUST) else network.bundle(environment)
        certificates = trusted if isinstance(trusted, str) else None
        exporter = OTLPSpanExporter(session=session, certificate_file=certificates)
        delivery = _Delivery(exporter, f"{origin[1]}:{origin[2]}")
        session.hooks["response"].append(lambda answer, **_: setattr(delivery, "answer", answer.status_code))
        made.add_span_processor(BatchSpanProcessor(delivery))  # type: ignore[arg-type]  # all that is asked of one
    except ImportError:
        raise ConfigError(
            "traces cannot be sent: OpenTelemetry is missing", hint="pip install 'syncer[otel]'"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"an OTEL_ variable has a value that OpenTelemetry refuses: {error}", hint="correct it, or unset it"
        ) from None
    return made, delivery


def _asked(environment: Mapping[str, str]) -> tuple[network.Origin, bool]:
    """Where the collector is, and whether it is to get anything. ConfigError for what is not done here."""

    def given(names: Sequence[str]) -> tuple[str, str]:
        return next(((name, value) for name in names if (value := environment.get(name, "").strip())), (names[0], ""))

    _, kind = given(("OTEL_TRACES_EXPORTER",))
    if kind not in ("", "otlp", "none"):
        raise ConfigError(f"OTEL_TRACES_EXPORTER asks for {kind!r}; traces are sent by otlp", hint="unset it")
    name, protocol = given(_HOW)
    if protocol not in ("", "http/protobuf"):
        raise ConfigError(
            f"{name} asks for {protocol!r}; traces are sent as http/protobuf",
            hint=f"set {name}=http/protobuf, and the endpoint to where the collector listens for it, often port 4318",
        )
    name, url = given(_WHERE)
    try:
        parts = urlsplit(url or LOCAL)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{name} is not a URL", hint=f"example: {name}={LOCAL}")
    return (parts.scheme, parts.hostname, port), kind != "none"


def _parent(environment: Mapping[str, str]) -> Any:
    """The span that this pull is a part of, if whoever started it says so in TRACEPARENT."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    names = ("traceparent", "tracestate")
    return TraceContextTextMapPropagator().extract(
        {name: given for name in names if (given := environment.get(name.upper(), ""))}
    )
