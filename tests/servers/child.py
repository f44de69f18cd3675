"""A server in a child process: started, waited for, killed and started again on its own port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import requests

HOST = "127.0.0.1"
PATIENCE = 60.0
TIED = Path(__file__).with_name("tied.py")


class Server:
    """A child process that serves HTTP on loopback for as long as the `with` lasts.

    `program` gives, for a port, what to run: the name of a module or a file, and its arguments.
    `ready` is a path that answers with 200 once the server is up. The log goes into `directory`.
    """

    def __init__(self, program: Callable[[int], Sequence[str]], ready: str, directory: Path) -> None:
        self.port = 0
        self._program = program
        self._ready = ready
        self._directory = directory
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end; the same after a restart."""
        return f"http://{HOST}:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the child is running."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the child and wait until it answers; again on the port it had, if it had one."""
        attempts = 1 if self.port else 3
        while True:
            attempts -= 1
            self.port = self.port or _free_port()
            try:
                self._start()
            except ConnectionError:
                if not attempts:
                    raise
                self.port = 0  # somebody took it in between
            else:
                return

    def kill(self) -> None:
        """End the child as a power cut would, without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """End the child the polite way, and by force only if it does not listen."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(TIED), *self._program(self.port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._directory), "PYTHONUTF8": "1"},
            )
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < end:
                if not self.alive:
                    raise ConnectionError(f"the server ended at once:\n{self._log.read_text()}")
                try:
                    if session.get(self.url + self._ready, timeout=5).status_code == 200 and self.alive:
                        return
                except requests.RequestException:
                    pass
                time.sleep(0.05)
        raise TimeoutError(f"the server did not answer:\n{self._log.read_text()}")

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
