"""The loop: one page, one commit. Nothing else knows all the pieces.

A page's records and rejects are durable before, or together with, the checkpoint that covers them. A
crash at any instruction leaves at most a tail that no checkpoint vouches for; the next pull cuts it off
and asks for that page again. So a pull that is killed any number of times ends in the same bytes as one
that was never disturbed (I1, I2, I3).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shlex import quote

from .ahead import MOST, Ahead, Beside, Now, Several
from .auth import Environment, need
from .cache import Cache
from .checkpoint import PENDING, Checkpoint, changes
from .client import Client, Session
from .clock import Clock
from .drift import Change
from .drift import changes as drift
from .errors import (
    ConfigError,
    CredentialsError,
    ProtocolError,
    RejectBudgetError,
    SinkError,
    StateError,
    StoppedError,
    SyncerError,
    UnavailableError,
)
from .events import Committed, Event, Noticed, Observer, Started
from .expected import expected
from .fetch import pages
from .kept import AGE, ROOM, Pages
from .masks import MASK_KEY, key_mark, key_of
from .page import Page
from .pagination import anew
from .report import Budget, Report, StreamReport
from .rota import paced
from .sinks import Sink, sink
from .sinks.disk import evidence
from .stream import Connector, Stream, base_url, fingerprint, first_request
from .validate import Reject, Validator, less
from .wire import origin

OUT = Path("data")
STAYS = "the output of the last complete pull stays in place until this one is complete"


@dataclass(frozen=True)
class Options:
    """What the user asked of this pull."""

    out: Path
    sink: str = "jsonl"
    settings: Mapping[str, str] | None = None
    restart: bool = False
    accept_changes: bool = False
    max_pages: int | None = None
    max_rejects: str | None = None
    patience: float = 900.0
    outage: float = 0.0
    concurrency: int | None = None
    """How many requests may be under way at once; 1 does one thing after another, None is as many as help."""

    keep_pages: bool = False
    """Whether pages are kept for `syncer rebuild`, also of streams that do not say so."""
    keep_size: float = ROOM
    keep_age: float = AGE

    @property
    def flags(self) -> str:
        """The options that every later command about this output has to repeat."""
        out = "" if self.out == OUT else f" --out {quote(str(self.out))}"
        return out + ("" if self.sink == "jsonl" else f" --sink {self.sink}")

    @property
    def given(self) -> str:
        """The settings, and whether pages are kept, as a command that goes on has to repeat them."""
        settings = "".join(f" --set {quote(f'{name}={value}')}" for name, value in (self.settings or {}).items())
        return settings + (" --keep-pages" if self.keep_pages else "")


def pull(
    connector: Connector,
    streams: Sequence[Stream],
    options: Options,
    environment: Environment,
    clock: Clock,
    observe: Observer,
    session: Session | None = None,
) -> Report:
    """Bring these streams up to date, one after another, and report.

    An error of one stream does not keep the others from their turn, unless it is sure to meet them
    too: a missing secret, an API that is away, a disk that is full. ConfigError and CredentialsError
    come before anything is fetched or written. `session` stands in for the strict one in tests.
    """
    settings = ready(connector, streams, options.settings or {}, environment)
    targets = [sink(options.sink, options.out, connector.name, stream) for stream in streams]
    report = Report(connector.name, options.sink, clock.stamp(), options.flags, options.given)
    began = clock.monotonic()

    turn, over = threading.Lock(), threading.Event()

    def watch(event: Event) -> None:
        with turn:
            if not over.is_set():  # a request that nobody wants any more may outlive the pull
                report.watch(event)
                observe(event)

    with connector.server() if connector.server else nullcontext(base_url(connector, settings)) as url:
        known = None if connector.server else origin(url)
        pacer = paced(connector.rate, connector.auth, known, environment, clock, watch)
        client = Client(
            url,
            connector.auth,
            connector.headers,
            environment,
            pacer,
            clock,
            patience=options.patience,
            outage=options.outage,
            session=session,
            answers=connector.answers,
            hosts=connector.hosts,
        )
        try:
            for stream, target in zip(streams, targets, strict=True):
                done = StreamReport(stream.name, target.places())
                report.streams.append(done)
                _guarded(connector, stream, settings, client, target, clock, watch, options, done)
                watch(done.ended())
                if clock.stop or isinstance(done.error, CredentialsError | UnavailableError | SinkError):
                    break
        finally:
            client.close()
            with turn:
                over.set()
    report.unbegun = [stream.name for stream in streams[len(report.streams) :]]
    report.seconds = clock.monotonic() - began
    if len(report.streams) < len(streams) or any(done.status == "stopped" for done in report.streams):
        report.signal = clock.stop.signal
    return report


def ready(
    connector: Connector, streams: Sequence[Stream], given: Mapping[str, str], environment: Environment
) -> dict[str, str]:
    """The settings in force, once everything these streams need is there; ConfigError or CredentialsError if not."""
    needed = connector.needs(streams)
    known = connector.needs()
    for name in given:
        if name not in known:
            hint = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"connector {connector.name} has no setting {name!r}", hint=hint)
    settings = {name: given.get(name) or environment.get(variable(connector, name), "") for name in needed}
    for name, value in settings.items():
        if not value.strip():
            what = connector.settings.get(name, "")
            raise ConfigError(
                f"connector {connector.name} needs the setting {name}" + (f": {what}" if what else ""),
                hint=f"add --set {name}=…, or set {variable(connector, name)}",
            )
    url = base_url(connector, settings)
    for stream in streams:
        first_request(stream, url, settings, None)
    if connector.auth and not connector.auth.optional:
        need(connector.auth, environment)
    return settings


def variable(connector: Connector, setting: str) -> str:
    """The environment variable that fills a setting."""
    return f"SYNCER_{connector.name}_{setting}".upper().replace("-", "_")


def _guarded(
    connector: Connector,
    stream: Stream,
    settings: Mapping[str, str],
    client: Client,
    target: Sink,
    clock: Clock,
    observe: Observer,
    options: Options,
    done: StreamReport,
) -> None:
    """Pull one stream, and turn how it ended into a status."""
    try:
        _pull(connector, stream, settings, client, target, clock, observe, options, done)
    except StoppedError:
        done.status = "stopped"
    except SyncerError as error:
        done.error = error.at(f"{connector.name}/{stream.name}")
        if error.evidence and not stream.masks:  # nobody can tell where in it a record is
            kept = evidence(options.out / connector.name, stream.name, error.evidence, client.secrets())
            error.hint += f"; the answer begins in {kept}" if kept else ""
    finally:
        if client.cache:
            client.cache.close()
        target.close()
        done.drift = drifted(done.checkpoint, stream) if done.checkpoint else ()


def _pull(
    connector: Connector,
    stream: Stream,
    settings: Mapping[str, str],
    client: Client,
    target: Sink,
    clock: Clock,
    observe: Observer,
    options: Options,
    done: StreamReport,
) -> None:
    """Bring one stream up to date, one committed page at a time."""
    before = target.open()
    key = _key(before, stream, options, connector.name)
    checkpoint = _start(before, connector, stream, settings, client.base_url, clock, options, key)

    def notice(text: str) -> None:
        done.notes.append(text)
        observe(Noticed(text))

    for note in target.notes:
        notice(note)
    client.cache = _cache(connector, stream, client, checkpoint, options, notice)
    done.resumed, done.run, done.stored = checkpoint.counts.pages > 0, checkpoint.counts, checkpoint.stored
    observe(Started(stream.name, done.resumed, checkpoint.counts.pages, checkpoint.counts.fetched, checkpoint.bookmark))
    if refreshing(stream, checkpoint) and not checkpoint.counts.pages:
        notice(STAYS)
    keeper = _keeper(connector.name, stream, options, notice)
    validator = Validator(stream, target.refuses, client.safe, key=key, keep=keeper is not None)
    budget = Budget.parse(options.max_rejects or stream.max_rejects)
    since, older, pulled = checkpoint.bookmark, 0, 0
    held = before.stored.written
    floor = validator.order(since)
    untold: list[Callable[[], None]] = []

    def settled() -> None:
        """Wait until the page before this one is durable, and tell of it."""
        tell = untold.pop() if untold else None
        beside.settle()
        if tell:
            tell()

    def tell(before: Checkpoint, after: Checkpoint, page: Page, rejects: Sequence[Reject]) -> None:
        done.committed(before, after)
        done.causes.update(reject.cause for reject in rejects)
        if page.note:
            notice(page.note)
        if slipped := _slipped(stream, page, before.total, after.total):
            notice(slipped)
        now = after.counts
        counts = (now.pages, now.fetched, now.written, now.rejected, now.repeated)
        observe(Committed(stream.name, *counts, after.total, page.request.digest()))

    coming, beside = _coming(stream, client, checkpoint, options, key), Beside()
    try:
        for page in coming.pages(settled):
            if not target.steady:
                settled()
            stamp = clock.stamp()
            verdict = validator.judge(page, checkpoint.run, stamp)
            records, rejects, _ = checkpoint.unseen(verdict, keyed=bool(stream.key))
            after = checkpoint.advance(
                page, verdict, validator.order, stamp, incremental=stream.incremental, keyed=bool(stream.key)
            )
            passed = budget.passed(
                after.counts,
                len(page.records),
                len(rejects),
                over=not after.open,
                whole=not stream.incremental,
                replaces=refreshing(stream, after),
            )
            if not after.open:
                after = after.ended("over budget" if passed else "short" if after.short else "complete")
            if keeper:
                after = replace(after, kept=keeper.keep(after, page, stamp, verdict.kept, client.secrets()))
            settled()
            untold.append(partial(tell, checkpoint, after, page, rejects))
            beside.begin(partial(target.commit, records, rejects, after))
            if floor is not None:
                older += sum(less(record.order, floor) for record in records)
            checkpoint, pulled = after, pulled + 1
            if passed:
                settled()
                what = f"{connector.name} {stream.name}{options.flags}"
                raise RejectBudgetError(
                    f"{passed}; most often {done.causes.most_common(1)[0][0]}" if done.causes else passed,
                    hint=f"see `syncer rejects {what}`; everything is saved"
                    + (_KEPT if refreshing(stream, after) else "")
                    + ("; to go on add --max-rejects 100%, or" if after.open else ";")
                    + f" mend the model, as `syncer drift {what}` proposes, and type `syncer rejects replay {what}`",
                )
            if checkpoint.open and clock.stop:
                raise StoppedError
            if checkpoint.open and options.max_pages is not None and pulled >= options.max_pages:
                done.status = "capped"
                return
    finally:
        coming.close()
        settled()
        beside.close()
        if keeper:
            if checkpoint.status == "complete":
                keeper.complete(checkpoint.generation)
            keeper.close()
    if older:
        notice(
            f"{older:,} of {done.counts.fetched:,} records are older than {since}, which the run asked from, and are"
            f" written again: does the API know {stream.since or stream.since_body!r}?"
        )
    if len(checkpoint.boundary) >= PENDING:
        notice(
            f"{PENDING:,} records or more share the highest {stream.replication_key} or have none;"
            " the next pull may write some of them again"
        )
    if not checkpoint.counts.fetched and not stream.incremental and held:
        notice(f"the API sent no records any more: the output, which had {held:,}, is empty now")
    if checkpoint.status == "short":
        done.status = "short"
        raise ProtocolError(
            f"the API declared {checkpoint.least:,} records, but its pages end after {checkpoint.counts.fetched:,}",
            hint="what came is saved"
            + (_KEPT if refreshing(stream, checkpoint) else "")
            + ("; the bookmark stays where it was" if stream.incremental else "")
            + "; pull again, and if it stays so, ask the API's owner which of the two is true",
        )
    done.status = "complete"
    done.notes[:] = [note for note in done.notes if note != STAYS]


def _coming(stream: Stream, client: Client, checkpoint: Checkpoint, options: Options, key: bytes) -> Now | Ahead:
    """The pages from the checkpoint on, fetched ahead unless that would change what they are."""
    most = MOST if options.concurrency is None else options.concurrency
    alone = most == 1 or client.cache is not None or stream.pagination.cursor == "single-use"
    several = None if alone else Several(lambda request: client.fetch(request, stream, resumed=True), most)
    coming = pages(
        stream,
        client,
        checkpoint.cursor,
        number=checkpoint.counts.pages,
        seen=checkpoint.trail,
        last=checkpoint.last,
        empty=checkpoint.empty,
        back=checkpoint.back,
        tail=checkpoint.tail,
        limit=options.max_pages,
        several=several,
        key=key,
    )
    return Now(coming) if several is None else Ahead(coming, several)


def _keeper(source: str, stream: Stream, options: Options, notice: Callable[[str], None]) -> Pages | None:
    """What keeps the pages, if they are to be kept."""
    if not (options.keep_pages or stream.keep_pages):
        return None
    home, room, age = options.out / source, options.keep_size, options.keep_age
    return Pages(home, options.sink, stream.name, notice, room=room, age=age)


def _cache(
    connector: Connector,
    stream: Stream,
    client: Client,
    checkpoint: Checkpoint,
    options: Options,
    notice: Callable[[str], None],
) -> Cache | None:
    """The answers kept of a conditional stream; those from before `--restart` or `syncer reset` are dropped.

    And so are those of a stream that has come to mask what is in them.
    """
    directory = options.out / connector.name / ".syncer" / "cache"
    if not stream.conditional and not (stream.masks and directory.exists()):
        return None
    cache = Cache(directory, stream.name, client.auth, client.environment, notice)
    if not checkpoint.counts.pages and (options.restart or checkpoint.run == 1):
        cache.clear()
    if stream.masks:
        cache.clear()
        cache.close()
        return None
    return cache


def drifted(checkpoint: Checkpoint, stream: Stream) -> list[Change]:
    """What the run of this checkpoint saw that the complete runs before it did not. Without those: what is refused."""
    whole = None if checkpoint.open else not stream.incremental
    return drift(checkpoint.seen, checkpoint.baseline, expected(stream.model), whole=whole)


def _slipped(stream: Stream, page: Page, before: int | None, now: int | None) -> str:
    """What to say where a list that is counted from its start has become shorter while it was read."""
    counted = stream.pagination.cursor == "shifting" and not anew(stream.pagination, page.request)
    if not counted or before is None or now is None or now >= before:
        return ""
    return (
        f"page {page.number}: the API declares {now:,} records, {before:,} before; its cursor counts from the start,"
        " so records may have slipped past it"
    )


_KEPT = " beside the output of the last complete pull, which stays in place"


def refreshing(stream: Stream, checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint speaks of an output that grows beside an older one."""
    return checkpoint.generation > 1 and (not stream.incremental or checkpoint.bookmark is None)


_KEYS = ("primary_key", "replication_key")
"""What cannot change under an output that exists: its rows and its bookmark would mean something else."""

_ASKED = ("path", "method", "parameters", "body", "headers", "records", "pagination")
"""What cannot change in the middle of a run either: its cursor would go on asking what was asked before."""


def _start(
    checkpoint: Checkpoint,
    connector: Connector,
    stream: Stream,
    settings: Mapping[str, str],
    url: str,
    clock: Clock,
    options: Options,
    key: bytes,
) -> Checkpoint:
    """Where this pull begins: the saved position if it still means the same, else the beginning of a new run."""
    now = fingerprint(connector, stream, settings)
    if not options.restart:
        unchanged(checkpoint, now, accepted=options.accept_changes)
    now |= {MASK_KEY: key_mark(key)} if key else {}
    if checkpoint.open and checkpoint.counts.pages and stream.pagination.cursor == "single-use" and not options.restart:
        raise StateError(
            "the saved position can be used only once, and the pull that stopped may have used it",
            hint="to begin this stream anew, add --restart",
        )
    if checkpoint.open and not options.restart:
        return replace(checkpoint, fingerprint=now)
    nothing = checkpoint.status == "short" and checkpoint.bookmark is None  # to go on from, but something to replace
    anew = options.restart or not stream.incremental or nothing
    since = stream.start if checkpoint.bookmark is None or anew else checkpoint.bookmark
    first = first_request(stream, url, settings, since)
    return checkpoint.begin(first.below(url), now, clock.stamp(), anew=anew and checkpoint.run > 0)


def _key(checkpoint: Checkpoint, stream: Stream, options: Options, source: str) -> bytes:
    """The key for what the stream masks; nothing if it masks nothing. StateError if it is no longer that of the output.

    By a new key nothing equals what is there: no record of a primary key that is masked would be found again.
    """
    if not stream.masks:
        return b""
    anew = options.restart or (options.accept_changes and not any(stream.masks.touches([name]) for name in stream.key))
    return key_of(options.out / source, "" if anew else checkpoint.fingerprint.get(MASK_KEY, ""), make=True)


def unchanged(checkpoint: Checkpoint, now: Mapping[str, str], *, accepted: bool = False) -> None:
    """Refuse to mix what was pulled before a change with what would come after it, unless the user has accepted that.

    `now` is the fingerprint of what the next page would be; some of its parts cannot change all the same. StateError.
    """
    saved = {part: text for part, text in checkpoint.fingerprint.items() if part != MASK_KEY}
    changed = changes(saved, now) if checkpoint.run else []
    never = [part for part in changed if part.startswith(_KEYS + _ASKED if checkpoint.open else _KEYS)]
    if accepted:
        changed = never
    if not changed:
        return
    accept = "--accept-changes goes on from here, and asks for nothing that is older than the bookmark; "
    raise StateError(
        "this is not what the checkpoint was made with: " + "; ".join(changed),
        hint="--restart pulls everything anew and replaces the output at the end; "
        + ("--accept-changes cannot go on from here; " if never else accept)
        + "another --out leaves this output alone",
    )
