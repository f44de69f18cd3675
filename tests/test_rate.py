"""How fast one may ask: the rate as people write it, and waits that end when they should."""

from __future__ import annotations

import pytest

from syncer import DAY, HOUR, MINUTE, SECOND, Rate
from syncer.errors import ConfigError, StoppedError
from syncer.rate import pause
from tests.scripted import Time, Watcher

# --- the declared rate ---


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/s", Rate(5)),
        ("100/min", Rate(100, per=MINUTE)),
        ("5000/h", Rate(5000, per=HOUR)),
        ("1/day", Rate(1, per=DAY)),
        ("3/10s", Rate(3, per=10 * SECOND)),
        ("3/0.5s", Rate(3, per=0.5)),
    ],
)
def test_a_rate_is_shown_as_people_write_it(text: str, rate: Rate) -> None:
    assert text == str(rate)


@pytest.mark.parametrize(("limit", "per"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_a_rate_that_allows_nothing_is_refused(limit: int, per: float) -> None:
    with pytest.raises(ConfigError):
        Rate(limit, per=per)


# --- waiting ---


def test_a_pause_ends_at_a_stop_too() -> None:
    time = Time()
    time.stop_after = 1.0
    with pytest.raises(StoppedError):
        pause(time.clock, Watcher(), 60.0, "retry")
    assert time.slept <= 1.1 + 1e-6


def test_a_pause_lasts_exactly_as_long_as_it_should() -> None:
    time = Time()
    pause(time.clock, Watcher(), 12.34, "retry")
    assert pytest.approx(12.34) == time.slept
