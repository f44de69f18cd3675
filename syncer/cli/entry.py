"""Where the command begins and ends: what went wrong becomes a message and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

from ..errors import SyncerError
from ..terminal import CUT, say
from .commands import app
from .given import explain, print_json, without_secrets


def main() -> NoReturn:
    """Run the command; every SyncerError becomes its message and its exit code."""
    _stand_in()
    try:
        _adopt()
        app(prog_name="syncer", standalone_mode=True)
    except SyncerError as error:
        if "--json" in sys.argv:
            said = {"error": without_secrets(error.message), "hint": without_secrets(error.hint)}
            print_json({"exit_code": error.exit_code, **said})
        explain(error)
        _leave(error.exit_code)
    except BrokenPipeError:
        _leave(0)
    except MemoryError:
        _spent("out of memory")
    except SystemExit as done:
        _leave(done.code if isinstance(done.code, int) else 1)
    except Exception as error:  # a bug of ours: the only traceback a user may see
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and sys.argv[1:2] != ["pull"]:
            CUT.append(os.strerror(error.errno))  # typer printing the help
            _leave(0)
        if isinstance(error, OSError) and error.errno in _SPENT:
            _spent(os.strerror(error.errno))
        if isinstance(error, RuntimeError) and "new thread" in str(error):
            _spent(str(error))
        import traceback

        say(without_secrets(traceback.format_exc()), error=True)
        say("error: this is a bug in syncer, please report it; nothing committed was lost", error=True)
        _leave(1)
    _leave(0)


_SPENT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT)


def _spent(what: str) -> NoReturn:
    """Say what this machine has no more of."""
    say(f"error: {what}\n  → nothing committed was lost: make room and run the same command again", error=True)
    _leave(6)


def _stand_in() -> None:
    """Open what the caller closed: else an output file becomes descriptor 1 and the summary goes into it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 it lives as long as we do


def _leave(code: int) -> NoReturn:
    """Exit without the interpreter complaining that stdout has gone away."""
    if CUT and not code and sys.argv[1:2] != ["pull"]:  # what a pull brings is not on stdout
        say(f"error: the output is cut off: {CUT[0]}\n  → make room and run the same command again", error=True)
        code = 6
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            from ..terminal import silence

            silence(stream)
    sys.exit(code)


def _adopt() -> None:
    """Let `.env` fill in for the environment where options read it; the help is about neither."""
    from ..config import adopt

    if "--help" not in sys.argv:
        adopt(Path())
