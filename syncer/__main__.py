"""`python -m syncer` is `syncer`, and both begin here."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command. Until a pull takes it over, Ctrl-C just ends the process, also in the middle of an import."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
