"""The heart: a pull that is killed anywhere, any number of times, ends in the bytes of one that never was."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncer.checkpoint import Checkpoint
from syncer.sinks import sink as make
from tests.world import PAGINATION, Api, run, stream, tree

SINKS = ["jsonl", "sqlite"]
STEPS = ("open", "write", "fsync", "ftruncate", "replace", "rename", "unlink")


class Killer:
    """Counts every step that touches disk, database or API, and kills the process before step number `at`."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        for name in STEPS:
            setattr(os, name, self.before(getattr(os, name)))
        Api.send = self.before(Api.send)  # type: ignore[method-assign]
        killer = self

        class Connection(sqlite3.Connection):
            def execute(self, *args: Any) -> sqlite3.Cursor:
                killer.step()
                return super().execute(*args)

            def executemany(self, *args: Any) -> sqlite3.Cursor:
                killer.step()
                return super().executemany(*args)

        connect = sqlite3.connect
        sqlite3.connect = lambda *args, **options: connect(*args, factory=Connection, **options)  # type: ignore[assignment]

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **options: Any) -> Any:
            self.step()
            return function(*args, **options)

        return stepped


def killed(at: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed (-9) before its step number `at`; False if it ended before that."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            killer = Killer(at)
            killer.install()
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def story(kind: str, style: str, out: Path, sink: str) -> Callable[[], object]:
    """What is interrupted: a first pull, a full refresh over an older output, or a second incremental pull."""
    source = stream(style, incremental=kind == "incremental")
    if kind != "first":
        assert run(out, source, sink, Api(Api().records[:7])).exit_code == 0
    return lambda: run(out, source, sink)


CASES = [("first", style) for style in PAGINATION] + [("refresh", "token"), ("incremental", "keyset")]


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(("kind", "style"), CASES)
def test_a_pull_killed_before_any_step_ends_as_if_it_had_not_been(
    tmp_path: Path, kind: str, style: str, sink: str
) -> None:
    """A real SIGKILL before every write, fsync, statement and request in turn (after one is before the next)."""
    calm = tmp_path / "calm"
    story(kind, style, calm, sink)()
    expected = tree(calm, sink)

    for step in itertools.count(1):
        out = tmp_path / str(step)
        work = story(kind, style, out, sink)
        if not killed(step, work):
            break
        left = make(sink, out, "shop", stream(style))
        assert (left.peek() or Checkpoint()).counts.balanced()
        assert all(line.startswith(b'{"v":1') for line in left.rejects())
        work()

        assert expected == tree(out, sink), f"killed before step {step}"

    assert step > 20


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(("kind", "style"), [("first", "page"), ("refresh", "link"), ("incremental", "token")])
def test_a_pull_killed_again_and_again_even_while_it_recovers_ends_the_same(
    tmp_path: Path, kind: str, style: str, sink: str, seed: int, long: bool
) -> None:
    """Random kill points, one after another on the same output, until a pull gets through."""
    calm = tmp_path / "calm"
    story(kind, style, calm, sink)()
    expected = tree(calm, sink)
    dice = random.Random(f"{seed} {kind} {style} {sink}")
    kills = 0

    for life in range(400 if long else 12):
        out = tmp_path / str(life)
        work = story(kind, style, out, sink)
        while killed(dice.randrange(1, 70), work):
            kills += 1

        assert expected == tree(out, sink), f"life {life}, seed {seed}"

    assert kills > 6
    print(f"{kills} kills over {life + 1} pulls")


@pytest.mark.parametrize("sink", SINKS)
def test_at_most_one_page_is_asked_for_again(tmp_path: Path, sink: str) -> None:
    """A resumed pull begins with the page that was not committed."""
    out, source = tmp_path, stream("token")
    run(out, source, sink, max_pages=3)
    api = Api()

    run(out, source, sink, api)

    assert api.requests == 1
