"""One page over the wire: paced, signed, sent, judged and, where that may help, asked for again.

The only layer that retries: how often and after how long is said in `retry`.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from urllib3.exceptions import HTTPError

from . import answers, network, wire
from .answers import When
from .auth import Auth, Context, Environment, Signer, identity, is_set, named, opened, state, values
from .cache import Cache
from .clock import Clock
from .decode import DecodeError, decode, encode
from .errors import (
    CredentialsError,
    ProtocolError,
    SyncerError,
    TransientError,
    UnavailableError,
)
from .events import Asking, Observer, Received, Requested, Told
from .events import Retrying as Again
from .limits import limited, limits, wait
from .moments import http_date
from .pacer import Pacer
from .page import JSON, Request, Response
from .rate import later, pause
from .reach import Reach
from .retry import Allowance, Tries, failure
from .rota import Rota
from .validators import Kept

if TYPE_CHECKING:
    from .stream import Stream

Session = requests.Session
_HOPS = 5
_EVIDENCE = 65536
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESOLUTION = timedelta(seconds=1)  # of a Date header


@dataclass
class Client:
    """Asks one API, at one base URL, in one run's name."""

    base_url: str
    auth: Auth | None
    headers: Mapping[str, str]
    environment: Environment
    pacer: Pacer | Rota
    clock: Clock
    patience: float = 900.0
    outage: float = 0.0
    attempts: int = 3
    limits: wire.Limits = field(default_factory=wire.Limits)
    session: Session | None = None
    answers: Sequence[When] = ()
    cache: Cache | None = None
    hosts: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Open strict sessions unless one is given; nothing is sent yet. ConfigError for a proxy that is none."""
        own = identity(self.auth, self.environment) if self._has_secrets() else None
        home = urlsplit(self.base_url).hostname
        self._session = self.session or wire.session(self.limits, identity=own, home=home)
        self._tokens = self.session or wire.session(self.limits, identity=own)
        self._bare = self.session or wire.session(self.limits, home=home)
        self._allowance, self._opening = Allowance(), threading.RLock()
        parameters = self.auth.query() if self.auth else ()
        self._reach = Reach(self.base_url, self.hosts, parameters, self.secrets, named(self.environment))
        places = (self._reach.origin, *self._reach.hosts)
        self._proxies = {place: network.route(place, self.environment) for place in places}
        self._trusted = network.bundle(self.environment)

    @property
    def observe(self) -> Observer:
        """Who is told of waits and retries."""
        return self.pacer.observe

    def close(self) -> None:
        """Close the connections."""
        for session in (self._session, self._tokens, self._bare):
            session.close()

    def fetch(self, request: Request, stream: Stream, *, resumed: bool) -> tuple[Response, Sequence[JSON]]:
        """The answer to a request and the records in it.

        Raises UnavailableError when attempts or patience run out, CredentialsError when the API refuses
        the secrets, ProtocolError when the answer cannot be trusted, StoppedError when a signal ends a
        wait; and for a request the API refuses, ConfigError if it opened the run, else StateError.
        """
        self.observe(Asking(stream.name, request.below(self.base_url).digest()))
        tries = Tries(self._allowance, self.attempts, self.patience, self.outage)
        reason = [""]

        def tell(state: RetryCallState) -> None:
            self.observe(Again(failure(state).reason, state.attempt_number + 1))

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=tries.wait,
            stop=tries.stop,
            before_sleep=tell,
            sleep=lambda seconds: pause(self.clock, self.observe, seconds, tries.why(reason[0])),
            reraise=True,
        )
        try:
            return retrying(self._attempt, request, stream, reason, resumed)
        except TransientError as error:
            raise self._unavailable(error, tries.failures) from None

    def same_origin(self, request: Request) -> bool:
        """Whether a request stays with the API it was handed out by: scheme, host and port as they will be used."""
        return self._reach.place(request) == self._reach.origin

    def clean(self, request: Request) -> Request:
        """A request whose URL carries no secret; see Reach."""
        return self._reach.clean(request)

    def handed(self, request: Request) -> Request:
        """A request that the API named for its next page, safe to save and to follow; ProtocolError if it is not."""
        return self._reach.handed(request)

    def safe(self, text: str) -> str:
        """A text that may repeat what the server was told, without secrets."""
        return self._reach.safe(text)

    def secrets(self) -> list[str]:
        """The secrets in force, for taking them out of what is shown or stored."""
        found = network.secrets(self.environment)
        if self.auth:
            found += self._signer.secrets() if self._signer else values(self.auth.secrets(), self.environment)
        return list(dict.fromkeys(found))

    @property
    def _signer(self) -> Signer | None:
        """What signs, one for all threads; opened when it is first needed: a missing secret is the first request's."""
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> Signer | None:
        if not self.auth or (self.auth.optional and not self._has_secrets()):
            return None
        send = wire.sender(self._tokens, self.limits, self.clock.now, self.environment)
        turn = lambda: getattr(self.pacer, "turn", 0)  # noqa: E731
        return opened(
            self.auth, Context(self.environment, self.clock, self.base_url, send, state(self.environment), turn)
        )

    def _has_secrets(self) -> bool:
        return self.auth is not None and is_set(self.auth, self.environment)

    def _attempt(
        self, request: Request, stream: Stream, reason: list[str], resumed: bool
    ) -> tuple[Response, Sequence[JSON]]:
        asked = request
        try:
            for hop in range(_HOPS + 1):
                kept = self.cache.find(asked, self.headers) if self.cache else None
                answer = self._send(asked, kept, moved=hop > 0)
                with answer:
                    if answer.status_code in answers.REDIRECTS:
                        location = answer.headers.get("Location", "")
                        asked = self._reach.redirected(asked, answer.url, answer.status_code, location)
                        continue
                    content = self._content(answer)
                    self.observe(Received(len(content)))
                    if answer.status_code != answers.UNCHANGED:
                        kept = None
                    elif self.cache and kept and not kept.confirmed(_named(answer)):
                        self.cache.forget(asked, self.headers)
                        continue
                    content = kept.body if kept else content
                    response, records = self._judged(request, answer, content, stream, resumed, kept)
                    if self.cache and response.status == answers.PAGE and not response.over:
                        self.cache.keep(asked, self.headers, response.headers, content, self.secrets())
                    return response, records
            raise ProtocolError(f"the API redirects more than {_HOPS} times")
        except TransientError as error:
            reason[0] = error.reason
            raise
        except requests.exceptions.SSLError as error:
            raise wire.untrusted(error, urlsplit(asked.url).netloc, self._variables()) from None
        except (requests.RequestException, HTTPError, OSError) as error:
            reason[0] = f"{urlsplit(asked.url).netloc}: {wire.cause(error)}"
            raise TransientError(reason[0]) from None

    def _content(self, answer: requests.Response) -> bytes:
        """The body; of an answer that is no page also nothing, if it is damaged: its status says enough."""
        if answer.status_code < 300:
            return wire.read(answer, self.limits)
        try:
            return wire.read(answer, self.limits)
        except (TransientError, ProtocolError, requests.RequestException, HTTPError, OSError):
            return b""

    def _send(self, request: Request, kept: Kept | None, *, moved: bool) -> requests.Response:
        """The answer to a request; `moved`: to one that an answer redirected to, whose query may be a signature."""
        if (delay := self.pacer.delay()) > self.patience:
            raise self._unavailable(TransientError("the limit is spent", wait=delay, limited=True), 0)
        prepared = self._prepared(request, kept)
        own = wire.origin(prepared.url or "") == self._reach.origin
        signer, shown = (
            self._signer if own else None,
            self._reach.safe(request.whole if own and not moved else request.shown),
        )
        if signer:
            signer.ready(max(0.0, delay))
        try:
            answer = self._sent(prepared, signer, shown)
        except wire.StaleConnectionError:  # no fault of the page, and sure to end with a connection of its own
            answer = self._sent(self._prepared(request, kept), signer, shown)
        if signer and signer.renew(stale := answer.status_code, _named(answer)):
            answer.close()
            answer = self._sent(self._prepared(request, kept), signer, shown)
            if answer.status_code == stale and stale not in answers.REFUSED:  # a status that the style declares
                answer.close()
                raise self._refused(str(stale), answer)
        return answer

    def _sent(self, prepared: requests.PreparedRequest, signer: Signer | None, shown: str) -> requests.Response:
        """The answer to a request, signed as late as can be: signatures and tokens do not keep."""
        self.pacer.acquire()
        self._allowance.requests += 1
        if signer:
            signer.sign(prepared)  # type: ignore[arg-type]
            self._checked(prepared)
        place, began = wire.origin(prepared.url or ""), self.clock.monotonic()
        session = self._session if place == self._reach.origin else self._bare
        # Not session.send: it reads and inflates the body of every redirect, also when told not to follow it.
        try:
            answer = session.get_adapter(prepared.url or "").send(
                prepared,
                stream=True,
                timeout=(self.limits.connect, self.limits.read),
                verify=self._trusted,
                proxies=self._proxies[place],
            )
        finally:
            self.pacer.arrived()
        took = self.clock.monotonic() - began
        answer.elapsed = timedelta(seconds=took)
        self.observe(Requested(prepared.method or "", shown, answer.status_code, took))
        return answer

    def _prepared(self, request: Request, kept: Kept | None) -> requests.PreparedRequest:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "syncer"}
        headers |= {**self.headers, **request.headers, **(kept.validators if kept else {})}
        if request.body is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            data = encode(request.body) if request.body is not None else None
            prepared = requests.Request(request.method, request.whole, headers=headers, data=data).prepare()
        except requests.exceptions.InvalidHeader:
            raise ProtocolError("the next page has a header that cannot be sent") from None
        except (requests.RequestException, ValueError):
            raise ProtocolError("the next page has a URL that cannot be asked for") from None
        place = wire.origin(prepared.url or "")
        if not self._reach.known(place):
            raise ProtocolError("the next page is on another server; credentials do not go there")
        if place != self._reach.origin:
            self._reach.bared(prepared.headers)
        return prepared

    def _checked(self, prepared: requests.PreparedRequest) -> None:
        """Refuse what a style made of a request if it leads elsewhere or cannot be sent, without showing it."""
        try:
            elsewhere = wire.origin(prepared.url or "") != self._reach.origin
        except ProtocolError:
            elsewhere = True
        if elsewhere:
            raise CredentialsError("the auth style leads to another server", hint="check the connector's auth")
        for name, value in prepared.headers.items():
            if not _NAME.fullmatch(name) or re.search(r"[\r\n\0]|[^\x00-\xff]", value):
                raise CredentialsError("the auth style makes a header that cannot be sent", hint="check its auth")

    def _judged(
        self,
        request: Request,
        answer: requests.Response,
        content: bytes,
        stream: Stream,
        resumed: bool,
        kept: Kept | None,
    ) -> tuple[Response, Sequence[JSON]]:
        """The page in an answer, or the one that it confirms; everything else that it may be is raised."""
        headers = _named(answer)
        status, whole = (answers.PAGE, kept.updated(headers)) if kept else (answer.status_code, headers)
        date = http_date(headers.get("date", "")) or self.clock.now()
        broken: DecodeError | None = None
        body: JSON = None
        records: Sequence[JSON] = ()
        try:
            body, records = decode(content, stream.records)
        except DecodeError as error:
            broken, body = error, error.body
        said = None if kept else content if body is None else body
        meaning = answers.meaning(
            (*stream.answers, *self.answers),
            status,
            whole,
            body,
            limited=limited(status, headers, said, date),
            resumed=resumed,
        )
        name = f"{status} {http.client.responses.get(status, '')}".strip()
        held, why = wait(status, headers, said, date) or (0.0, "")
        quotas = [
            replace(quota, name=self._reach.safe(quota.name), scope=self._reach.safe(quota.scope))
            for quota in limits(headers, said, date)
        ]
        self.pacer.learn(quotas)
        for quota in quotas:
            if quota.remaining is not None:
                self.observe(Told(f"{quota.name} {quota.scope}".strip(), quota.remaining, quota.reset))
        if meaning == "limit":
            self.pacer.limited(held, f"limit ({name})")
            spare = self.pacer.delay() if isinstance(self.pacer, Rota) else held  # others may go on
            raise TransientError(f"limit ({name})", wait=max(0.0, min(held, spare)), limited=True)
        if meaning == "retry":
            raise TransientError(f"server answered {name}", wait=held)
        if held and meaning in ("page", "empty"):
            self.pacer.hold(held, self._reach.safe(why))
        read = date - answer.elapsed - _RESOLUTION
        if meaning == "empty":
            return Response(request, answer.url, status, whole, None, read, over=True), []
        if meaning != "page":
            fault = self._refused(name, answer) if meaning == "refused" else answers.unwelcome(request, name, meaning)
            fault.evidence = self._reach.evidence(content, _EVIDENCE)
            raise fault
        if broken is not None:
            raise self._unreadable(broken, whole, content)
        return Response(request, answer.url, status, whole, body, read), records

    def _unreadable(self, broken: DecodeError, headers: Mapping[str, str], content: bytes) -> Exception:
        """The error for an answer without records: one that another attempt may mend if it was damaged on the way."""
        kind = self.safe(headers.get("content-type", "")).partition(";")[0].strip().lower()
        evidence, said = self._reach.evidence(content, _EVIDENCE), self._reach.safe(str(broken))
        if broken.damaged and ("json" in kind or not kind):
            return TransientError(said, evidence=evidence)
        return answers.unreadable(f"{said} but {kind}" if broken.damaged and kind.isprintable() else said, evidence)

    def _refused(self, name: str, answer: requests.Response) -> CredentialsError:
        variables = self._variables()
        if (place := wire.origin(answer.url)) != self._reach.origin:
            return CredentialsError(
                f"{place[1]} answered {name}", hint="it is one of the connector's hosts, which are shown no credentials"
            )
        if answer.status_code == 407 and self._proxies[place]:
            return CredentialsError("the proxy wants other credentials", hint=network.WRONG)
        if self.auth and not self._signer:
            return CredentialsError(f"the API answered {name} without credentials", hint=f"set {variables}")
        hint = f"check {variables}: is it right, and does it allow this?" if variables else "this API wants credentials"
        return CredentialsError(f"the API answered {name}", hint=hint)

    def _variables(self) -> str:
        """The variables to blame for a refusal: of several credentials, those of the one that was shown."""
        members: Sequence[Auth] = getattr(self.auth, "members", (self.auth,) if self.auth else ())
        blamed = members[getattr(self.pacer, "turn", 0)] if len(members) > 1 else self.auth
        return ", ".join(blamed.variables()) if blamed else ""

    def _unavailable(self, error: TransientError, failures: int) -> SyncerError:
        if error.evidence is not None:
            return answers.unreadable(error.reason, error.evidence)
        if error.limited or error.wait > self.patience:
            back = later(self.clock, error.wait)
            at = f"{back:%Y-%m-%d %H:%M:%S} UTC" if back.year < 9999 else "the end of time"
            when = f"again after {at}" if error.wait else "again later"
            return UnavailableError(
                f"{error.reason}, and that lasts longer than the patience of {self.patience:g} s",
                hint=f"run the same command {when}, or give --patience",
            )
        tries = f" ({failures} attempts)" if failures > 1 else ""
        return UnavailableError(
            f"{error.reason}{tries}",
            hint="run the same command again later: it goes on from here; --patience 6h waits for the API to come back",
        )


def _named(answer: requests.Response) -> dict[str, str]:
    """The headers of an answer, their names in lower case."""
    return {name.lower(): value for name, value in answer.headers.items()}
