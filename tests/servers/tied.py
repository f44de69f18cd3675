"""Runs a program as `python -m NAME` or `python FILE.py` would, and ends it when standard input closes.

    python tied.py datasette serve FILE
    python tied.py site.py --port 8000

Whoever starts a server through this holds the other end of its standard input. However that process
ends, the pipe closes with it, and so no server is ever left behind.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    sys.argv = sys.argv[1:]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
