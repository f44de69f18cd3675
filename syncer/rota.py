"""One Pacer for each credential of a TokenPool: a request goes out on the budget that has most left."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from math import inf

from .auth import Auth, Environment
from .clock import Clock
from .events import Observer
from .pacer import TICK, Pacer, Said, place
from .rate import Rate, pause


def paced(
    rate: Rate | None, auth: Auth | None, origin: object, environment: Environment, clock: Clock, observe: Observer
) -> Pacer | Rota:
    """What holds back the requests to an API; `origin` is None where nothing is to be shared with other processes."""
    members: Sequence[Auth | None] = getattr(auth, "members", (auth,))
    pacers = [
        Pacer(rate, clock, observe, place(origin, one, environment) if origin is not None else None) for one in members
    ]
    return pacers[0] if len(pacers) == 1 else Rota(pacers)


class _Own(threading.local):
    """Whose turn the latest request of this thread was."""

    turn = 0


class Rota:
    """Several pacers, used like one: a spent one waits for its own reset while the others go on."""

    def __init__(self, pacers: Sequence[Pacer]) -> None:
        self._pacers, self._own, self._lock = pacers, _Own(), threading.Lock()
        self._left = [(inf, inf)] * len(pacers)
        self._last = -1

    @property
    def observe(self) -> Observer:
        """Who is told of waits."""
        return self._pacers[0].observe

    @property
    def turn(self) -> int:
        """On which budget the latest request of this thread goes."""
        return self._own.turn

    def delay(self) -> float:
        """Seconds until the next request may go out on any of them."""
        return min(pacer.delay() for pacer in self._pacers)

    def acquire(self) -> None:
        """Return when the next request may go out on one of them, and count it there."""
        while True:
            with self._lock:
                self._own.turn = self._last = self._next()
                wait, reason = self._pacers[self._last].take()
            if wait <= 0:
                return
            pause(self._pacers[0].clock, self.observe, max(wait, TICK), reason)

    def arrived(self) -> None:
        """The answer to the latest request has begun, or will not come."""
        self._pacers[self._own.turn].arrived()

    def hold(self, seconds: float, reason: str) -> None:
        """Let nothing out for this long on the budget of the latest request."""
        self._pacers[self._own.turn].hold(seconds, reason)

    def learn(self, limits: Iterable[Said]) -> None:
        """Take the server's word on what is left of that budget."""
        said = tuple(limits)
        known = [(one.remaining, one.reset) for one in said if one.remaining is not None]
        if known:
            remaining, reset = min(known, key=lambda one: one[0])
            until = inf if reset is None else self._pacers[0].clock.monotonic() + reset
            self._left[self._own.turn] = remaining, until
        self._pacers[self._own.turn].learn(said)

    def _next(self) -> int:
        """The one that may go first; of several the one with most left; of several in turn."""
        delays = [max(0.0, pacer.delay()) for pacer in self._pacers]
        now = self._pacers[0].clock.monotonic()
        left = [known if now < until else inf for known, until in self._left]
        count = len(delays)
        after = [(self._last + 1 + place) % count for place in range(count)]
        return min(after, key=lambda place: (delays[place], -left[place]))

    def limited(self, wait: float = 0.0, reason: str = "limit") -> None:
        """The server refused the latest request for a limit of that budget."""
        self._pacers[self._own.turn].limited(wait, reason)
