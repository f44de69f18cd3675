"""Lets requests out as fast as they may go, and no faster: the declared Rate, the server's word, what was found out.

All of it is shared by the processes on this machine that ask the same host with the same credential, and
outlives them (see shared.py). Four things hold a request back, and the one that lasts longest counts:

    rate     in any `per` seconds at most `limit` requests: the one `limit` ago must have left the window
    hold     the server asked for silence
    quota    the server says what is left until when: never more than that; spread out if the rate is to be,
             or if it falls faster than we send, for then others share it and it has to last for them too
    pace     nobody said anything, but the server refused: the requests that it had let pass say how fast one
             may ask; from there up by three hundredths a second, down by a sixth at a refusal, and then, for ten
             minutes at first, no nearer than three hundredths to what was refused

A declared rate is kept whatever the server allows. A request counts from when it arrived at the server, and
that is known only when the answer comes. The time in between is added to its window, so that requests that
travel for unequal times are not too many in the server's eyes, but on average not more than a fiftieth of
the window, for a slow server counts at once and answers late: what fast answers leave over, a late one may
use. This guard is what full use of a rate costs.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .auth import Auth, Environment, source
from .clock import Clock
from .errors import StoppedError
from .events import Observer
from .rate import DAY, MINUTE, Rate, pause
from .shared import Quota, Shared, State, Turn, boot

STATE = "SYNCER_STATE"

_GUARD = 0.02
_LONGEST_GUARD = 0.25
_SECONDS_GUARD = 5.0
TICK = 1e-6
_EVIDENCE = 4
_GAP = 2.0
_WALK = 2000
_SAFE = 0.95
_DOWN = 5 / 6
_UP = 0.03
_BACK = 0.05
_BELOW = 0.97
_LIFE = 10 * MINUTE
_SLACK = 8
_SAME = 2.0
_OTHERS = 3
_FARTHEST = 60.0
_QUOTAS = 8


class Said(Protocol):
    """What a server says of one limit, as of now (see limits.Limit)."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def remaining(self) -> float | None: ...  # noqa: D102
    @property
    def quota(self) -> float | None: ...  # noqa: D102
    @property
    def reset(self) -> float | None: ...  # noqa: D102
    @property
    def refill(self) -> float | None: ...  # noqa: D102
    @property
    def cost(self) -> float: ...  # noqa: D102
    @property
    def scope(self) -> str: ...  # noqa: D102


class _Own(threading.local):
    """The latest request of this thread: its number, when it went, from when it counts, and whether it passed.

    `refusals` is how many were refused in a row.
    """

    number = -1
    went = 0.0
    counts = 0.0
    passed = False
    refusals = 0


@dataclass
class Pacer:
    """Holds every request back until the rate, and the server's own word, allow it."""

    rate: Rate | None
    clock: Clock
    observe: Observer
    path: Path | None = None
    boot: str = field(default_factory=boot)

    def __post_init__(self) -> None:
        """Touch nothing yet: the file is made with the first request."""
        limit, self._per = (self.rate.limit, self.rate.per) if self.rate else (0, 0.0)
        self._shared = Shared(self.path, self.clock, self.observe, self.boot, limit, self._per)
        self._most = min(_LONGEST_GUARD * self._per, _SECONDS_GUARD)
        self._guard = self._most / 5
        self._own = _Own()
        self._head, self._others = -1, float("-inf")

    def acquire(self) -> None:
        """Return when the next request may go out, and count it. StoppedError if a signal ends the wait."""
        while (due := self.take())[0] > 0:
            pause(self.clock, self.observe, max(due[0], TICK), due[1])

    def take(self) -> tuple[float, str]:
        """Count the next request if it may go out now: 0.0 or less; else seconds until it may, and what for."""
        return self._shared.turn(self._take)

    def delay(self) -> float:
        """Seconds until the next request may go out; 0.0 or less if it may now."""
        return self._shared.turn(self._due)[0]

    def arrived(self) -> None:
        """The answer to the latest request has begun, or will not come: it has arrived at the server by now."""
        if self.rate:
            self._shared.turn(self._arrived)

    def hold(self, seconds: float, reason: str) -> None:
        """Let nothing out for this long, here and in every process; an earlier, longer hold stays."""
        self._shared.turn(lambda turn: _hold(turn, seconds, reason))

    def learn(self, limits: Iterable[Said]) -> None:
        """Take the server's word, from the answer to the latest request, on what is left."""
        if said := tuple(limits):
            self._shared.turn(lambda turn: self._learn(turn, said))

    def limited(self, wait: float = 0.0, reason: str = "limit") -> None:
        """The server refused the latest request for a limit, and asked for so many seconds, or for none."""
        self._shared.turn(lambda turn: self._limited(turn, wait, reason))

    def _due(self, turn: Turn) -> tuple[float, str]:
        """How long until the next request, and what it is that holds it back."""
        state, now = turn.state, turn.now
        if state.head != self._head:
            self._others = now if self._head >= 0 else self._others
            self._head = state.head
        waits = [(state.held - now, state.reason)]
        if self.rate:
            name = f"rate {self.rate}" + (", shared" if now - self._others < max(self._per, MINUTE) else "")
            if state.head >= self.rate.limit:
                waits.append((turn.time(state.head - self.rate.limit) + self.rate.per - now, name))
            if self.rate.spread:
                waits.append((state.due - now, name))
        if _interval(state, now, self.rate):
            waits.append((state.due - now, f"about {state.pace:.3g}/s pass" if state.pace else "quota to share"))
        waits += [(_spent(quota, now), f"quota spent ({name})") for name, quota in state.quotas.items()]
        return max(waits, key=lambda due: due[0])

    def _take(self, turn: Turn) -> tuple[float, str]:
        """The same; and if the request may go now, count it."""
        due = self._due(turn)
        if due[0] > 0:
            return due
        if self.clock.stop:
            raise StoppedError
        state, now, own = turn.state, turn.now, self._own
        if own.passed:
            own.refusals = 0
            _found(turn, own.number, own.went)
        if gap := _interval(state, now, self.rate):
            _rise(state, now, gap, self.rate)
        state.due = gap + (state.due if now - state.due < 2 * gap else now)  # a little late is made up for
        own.number, own.went, own.counts, own.passed = state.head, now, now + self._guard, True
        turn.put(own.number, own.counts)
        self._head = state.head = state.head + 1
        for name, quota in list(state.quotas.items()):
            if quota.remaining is None or quota.refill or quota.reset > now:
                _use(quota, now)
            else:
                del state.quotas[name]
        return due

    def _arrived(self, turn: Turn) -> None:
        own = self._own
        if not turn.first() <= own.number or turn.time(own.number) != own.counts:
            return
        counts = min(own.counts, turn.now)
        turn.put(own.number, counts)
        self._guard = min(self._most, self._guard + _GUARD * self._per - (counts - own.went))
        own.counts = counts

    def _learn(self, turn: Turn, said: tuple[Said, ...]) -> None:
        state, now, asked = turn.state, turn.now, self._own.number + 1
        for limit in said:
            name = limit.name if not limit.scope or limit.scope in limit.name else f"{limit.name}, {limit.scope}"
            name, known, refill = name[:60], state.quotas.get(name[:60]), limit.refill or 0.0
            reset = limit.reset if limit.reset is not None else getattr(limit, "window", None)
            # Sent since the one answered, here or elsewhere on this machine: the server had not seen these.
            left = limit.remaining - (state.head - asked) * limit.cost if limit.remaining is not None else None
            if left is None or refill:
                if refill:
                    size = limit.quota or 0.0
                    state.quotas[name] = Quota(left, 0.0, refill=refill, size=size, cost=limit.cost, seen=now)
            elif reset is not None:
                first = limit.remaining or 0.0
                if known is None or known.remaining is None or abs(now + reset - known.reset) > _SAME:
                    known = Quota(left, 0.0, since=now, first=first, head=asked)
                elif now - self._others < MINUTE:  # answers overtake one another: the lower figure is the later one
                    left = max(min(known.remaining, left), left - _SLACK * limit.cost)
                others = (known.first - first) / (limit.cost or 1.0) - (asked - known.head)
                known.remaining, known.reset, known.cost = left, now + reset, limit.cost
                known.seen, known.others = now, max(0.0, others)
                state.quotas[name] = known
        while len(state.quotas) > _QUOTAS:
            del state.quotas[max(state.quotas, key=lambda name: state.quotas[name].remaining or 0.0)]

    def _limited(self, turn: Turn, wait: float, reason: str) -> None:
        state, now, own = turn.state, turn.now, self._own
        own.passed, own.refusals = False, own.refusals + 1
        _hold(turn, max(wait, 1.0) if wait else 2.0 ** min(6, own.refusals - 1), reason)
        if wait > MINUTE or any(_spent(quota, now) > 0 for quota in state.quotas.values()):
            return  # a quota: to be waited for, not to be spread over its hour
        state.refused += 1
        if own.went <= state.fell:
            return  # it was under way when another was refused
        if state.pace:
            again = state.ceiling and state.pace > 0.9 * state.ceiling
            state.life = min(DAY, 4 * state.life) if again else _LIFE
            state.ceiling, state.until = _BELOW * state.pace, now + state.life
            state.pace = state.base = _DOWN * state.pace
        elif state.began < 0:
            state.began = now
        state.fell = now


def place(origin: object, auth: Auth | None, environment: Environment) -> Path | None:
    """Where what is known of a host and a credential is kept; None if this user has no such place.

    The name tells neither: it is a digest of both.
    """
    known = {**os.environ, **environment}
    home = known.get("XDG_STATE_HOME", "")
    try:
        base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
        directory = Path(known[STATE]) if known.get(STATE) else base / "syncer"
    except RuntimeError:  # no home
        return None
    secrets = [source(name, known) for name in auth.variables()] if auth else []
    name = hashlib.blake2b(repr((origin, secrets)).encode("utf-8", "replace"), digest_size=16, person=b"syncer pacer")
    return directory / "pacing" / name.hexdigest()


def _hold(turn: Turn, seconds: float, reason: str) -> None:
    if turn.now + seconds > turn.state.held:
        turn.state.held, turn.state.reason = turn.now + seconds, reason


def _spent(quota: Quota, now: float) -> float:
    """Seconds until a quota allows the next request."""
    if quota.remaining is None:
        return -1.0
    if quota.refill:
        needed = min(quota.cost, quota.size or quota.cost)
        return (needed - quota.remaining) / quota.refill - (now - quota.seen)
    return quota.reset - now if quota.remaining < quota.cost else -1.0


def _use(quota: Quota, now: float) -> None:
    """Take a request off a quota."""
    if quota.remaining is None:
        return
    if quota.refill:
        full = quota.remaining + quota.refill * (now - quota.seen)
        quota.remaining, quota.seen = min(full, quota.size or full), now
    quota.remaining -= quota.cost


def _interval(state: State, now: float, rate: Rate | None) -> float:
    """Seconds between two requests, where they should be spread out."""
    even = rate is not None and rate.spread
    gaps = [rate.per / rate.limit if rate and even else 0.0, 1 / state.pace if state.pace else 0.0]
    for quota in state.quotas.values():
        if quota.remaining is None:
            gaps.append(quota.cost / quota.refill)
        elif quota.reset > now and quota.remaining >= quota.cost > 0 and (even or quota.others >= _OTHERS):
            left = quota.reset - now
            theirs = quota.others / max(quota.seen - quota.since, 1.0) * left * quota.cost
            gaps.append(min(_FARTHEST, left * quota.cost / max(quota.remaining - theirs, quota.remaining / 4)))
    return max(gaps)


def _rise(state: State, now: float, gap: float, rate: Rate | None) -> None:
    """Go up a little, if the pace is what held this request back."""
    if not state.pace or now >= state.due + gap:
        return
    if state.ceiling and now < state.until:
        state.pace = min(state.ceiling, state.pace + _BACK * state.base / state.pace)
        return
    state.pace += _UP * state.base / state.pace
    if rate and state.pace > 1.5 * rate.limit / rate.per:
        state.pace = 0.0  # what was in the way has gone


def _found(turn: Turn, number: int, went: float) -> None:
    """A request passed after others were refused: all that passed, over all that time, is a pace that is allowed."""
    state = turn.state
    if state.pace or state.began < 0 or went <= state.fell:
        return
    count, first = 0, went
    for earlier in range(number - 1, max(turn.first(), number - _WALK) - 1, -1):
        moment = turn.time(earlier)
        if moment <= state.began and first - moment > _GAP:
            break
        count, first = count + 1, moment
    if count - state.refused >= _EVIDENCE and went > first:
        state.pace = state.base = _SAFE * (count - state.refused) / (went - first)
        state.ceiling = 0.0
        state.began, state.refused = -1.0, 0
