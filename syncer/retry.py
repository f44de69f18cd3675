"""When to ask again, after how long, and when to leave an API alone.

One page gets `attempts` tries, with waits of full jitter, capped, and never less than the server asked for:

    wait = max(random between 0 and min(60, 0.5 × 2ⁿ), Retry-After)

Of all requests of a pull at most a tenth, and ten, are such repetitions: an API that is going down is not
helped by three times its load (Google, Site Reliability Engineering, chapter 21). Where attempts or that
allowance are used up the circuit is open: nothing is sent for a while but single probes, further and
further apart, for as long as the user waits out an outage.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tenacity import RetryCallState, wait_random_exponential

from .errors import TransientError

_BACKOFF = wait_random_exponential(multiplier=0.5, max=60)
_SHARE = 10
_FREE = 10
_PROBE = 15.0
_FARTHEST = 300.0


@dataclass
class Allowance:
    """How many of a pull's requests may be repetitions."""

    requests: int = 0
    retries: int = 0

    def spent(self) -> bool:
        """Whether no more repetition is allowed for now."""
        return self.retries >= _FREE + self.requests // _SHARE


@dataclass
class Tries:
    """The attempts at one page, for tenacity: how long to wait after one that failed, and when to stop.

    `patience` is how many seconds to wait for a limit in all, `outage` how many for an API that is away.
    """

    allowance: Allowance
    attempts: int
    patience: float
    outage: float
    failures: int = 0
    probes: int = 0

    def wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt."""
        error = failure(state)
        if error.limited:
            floor = error.wait or 2.0 ** min(6, state.attempt_number - 1)
            return max(_BACKOFF(state), floor, 1.0)
        self.failures += 1
        if self.failures < self.attempts and not self.allowance.spent():
            self.allowance.retries += 1
            return max(_BACKOFF(state), error.wait)
        self.probes += 1
        farthest = min(_FARTHEST, _PROBE * 2.0 ** min(self.probes - 1, 10))
        wait = random.uniform(farthest / 2, farthest)
        left = self.outage - state.idle_for
        return max(min(wait, left) if left >= 1 else wait, error.wait)  # the last probe is at the end of the patience

    def stop(self, state: RetryCallState) -> bool:
        """Whether that wait is not worth it any more."""
        waited = state.idle_for + state.upcoming_sleep
        if self.probes:
            return waited > self.outage
        return waited > (self.patience if failure(state).limited else max(self.patience, self.outage))

    def why(self, reason: str) -> str:
        """What a wait is for, in words."""
        return f"{reason}; one probe now and then until it answers" if self.probes else reason


def failure(state: RetryCallState) -> TransientError:
    """What the last attempt ended in."""
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, TransientError) else TransientError("no answer")
