"""Tells somebody of a run that needs them: by a command, a webhook, or whatever Apprise knows.

    cmd:PROGRAM ARGUMENTS       gets the report on its standard input; run without a shell
    https://… or http://…       gets it as the JSON body of a POST
    any other URL               gets its text; needs the extra `notify` (Apprise: mail, chat, push)

The report is the run's row in the ledger with `because`, why it is sent, and `text`, the same in words, where Slack
and its like look for it. A notification has SECONDS to be taken; one that fails is a note and nothing else.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from . import network, wire
from .decode import encode
from .errors import ConfigError, SyncerError
from .log import redacted
from .terminal import one_line, shortened, writable

REASONS = ("failed", "causes", "drift")
SECONDS = 20.0
"""How long a notification may take."""
_COMMAND = "cmd:"
_LONGEST = 300
Row = Mapping[str, Any]


class _FailedError(Exception):
    """A notification was not taken; the message holds nothing secret."""


def wanted(text: str | None) -> frozenset[str]:
    """What to notify of: `failed,causes,drift`, all without a word. ConfigError for anything else."""
    found = frozenset(REASONS if text is None else filter(None, map(str.strip, text.split(","))))
    if not found or found - {*REASONS}:
        raise ConfigError(f"--notify-on {text!r} is not known", hint=f"name some of {','.join(REASONS)}")
    return found


def checked(target: str) -> None:
    """Refuse what nobody can be notified by, without showing it: it may hold a secret. ConfigError."""
    hint = "give --notify 'cmd:PROGRAM', https://…, or a URL that Apprise knows"
    if target.startswith(_COMMAND):
        try:
            words = shlex.split(target.removeprefix(_COMMAND))
        except ValueError:
            raise ConfigError("the quotes in --notify do not match", hint=hint) from None
        if not words:
            raise ConfigError("--notify cmd: names no program", hint=hint)
    elif target.startswith(("https://", "http://")):
        try:
            sound = bool(urlsplit(target).hostname) and target.isascii() and target.isprintable() and " " not in target
            _ = urlsplit(target).port
        except ValueError:
            sound = False
        if not sound:
            raise ConfigError("--notify is no URL that can be asked", hint=hint)
    elif "://" in target:
        _apprise(target)
    else:
        raise ConfigError("--notify is neither a command nor a URL", hint=hint)


def secrets(target: str) -> list[str]:
    """What of a target must not be written down: who knows a webhook's address can write to it."""
    if target.startswith(_COMMAND):
        return []
    after = target.partition("://")[2]
    return [part for part in (target, after, after.partition("/")[2]) if len(part) >= 8]


def because(row: Row, earlier: Iterable[Row]) -> list[str]:
    """Why somebody should hear of this run; `earlier` are the runs before it. Nothing of one that a signal ended."""
    code = row["exit_code"]
    if type(code) is not int or code >= 128:
        return []
    known = {
        (stream.get("stream"), cause)
        for past in earlier
        if past.get("sink") == row.get("sink") and past.get("id") != row.get("id")
        for stream in past["streams"]
        for cause in stream.get("rejected_by_cause", {})
    }
    met = {(stream.get("stream"), cause) for stream in row["streams"] for cause in stream.get("rejected_by_cause", {})}
    found = ["failed"] if code else []
    found += ["causes"] if met - known else []
    return found + (["drift"] if any(_news(stream) for stream in row["streams"]) else [])


def _news(stream: Mapping[str, Any]) -> bool:
    """Whether a stream is not as it was, or as its model says; of a first run what nobody named is no news."""
    return any(one.get("before") or one.get("rejected") for one in stream.get("drift", ()))


def told(row: Row, reasons: Sequence[str], hide: Sequence[str]) -> dict[str, Any]:
    """The report that is sent."""
    source, code = row["source"], row["exit_code"]
    ended = f"failed with exit code {code}" if code else "is complete"
    words = {"failed": ended, "causes": "met rejects of new causes", "drift": "sees that the API has changed"}
    lines = [f"syncer: {source} " + ", ".join(words[one] for one in reasons)]
    errors = [row.get("error"), *(stream.get("error") for stream in row["streams"])]
    lines += [f"{error['message']} → {error['hint']}" for error in errors if error]
    if "causes" in reasons:
        lines += [
            f"{count} rejected: {stream['stream']}: {cause}"
            for stream in row["streams"]
            for cause, count in list(stream.get("rejected_by_cause", {}).items())[:3]
        ]
    text = "\n".join(shortened(one_line(line), _LONGEST) for line in lines[:12])
    body: dict[str, Any] = redacted(writable({**row, "because": list(reasons), "text": text}), hide)
    return body


def send(target: str, body: Mapping[str, Any], environment: Mapping[str, str], notice: Callable[[str], None]) -> None:
    """Notify, for SECONDS at most. Whatever goes wrong is said in a note, without the target."""
    done: list[str] = []

    def work() -> None:
        try:
            _send(target, body, environment)
            done.append("")
        except (_FailedError, SyncerError) as error:
            done.append(str(error))
        except Exception as error:  # of a plugin, whose words may hold the address
            done.append(type(error).__name__)

    worker = threading.Thread(target=work, daemon=True)
    try:
        worker.start()
        worker.join(SECONDS + 1)
    except RuntimeError:  # no more threads
        done.append("this machine has no more threads")
    why = done[0] if done else f"it was not taken within {SECONDS:g} s"
    if why:
        notice(f"the notification was not sent: {why}")


def _send(target: str, body: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    if target.startswith(_COMMAND):
        _run(shlex.split(target.removeprefix(_COMMAND)), encode(body))
    elif target.startswith(("https://", "http://")):
        _post(target, encode(body), environment)
    elif not _apprise(target).notify(body=str(body["text"]), title=f"syncer: {body['source']}"):
        raise _FailedError("the service did not take it")


def _run(words: Sequence[str], content: bytes) -> None:
    try:
        process = subprocess.Popen(  # noqa: S603 the user's own command, split and not given to a shell
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise _FailedError(f"its command cannot be run: {error.strerror}") from None
    try:
        process.communicate(content, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise _FailedError(f"its command did not end within {SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise _FailedError(f"its command ended with exit code {process.returncode}")


def _post(url: str, content: bytes, environment: Mapping[str, str]) -> None:
    place = wire.origin(url)
    host = place[1]
    session = wire.session(wire.Limits(wire=2**16, plain=2**16), home=host)
    try:
        answer = session.post(
            url,
            data=content,
            headers={"Content-Type": "application/json", "User-Agent": "syncer"},
            timeout=(SECONDS / 2, SECONDS / 2),
            allow_redirects=False,
            stream=True,
            verify=network.bundle(environment),
            proxies=network.route(place, environment),
        )
        status = answer.status_code
        answer.close()
    except Exception as error:
        raise _FailedError(f"{host}: {wire.cause(error)}") from None
    finally:
        session.close()
    if not 200 <= status < 300:
        raise _FailedError(f"{host} answered {status}")


def _apprise(target: str) -> Any:
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            "--notify is a URL that only Apprise knows, which is not installed", hint="pip install 'syncer[notify]'"
        ) from None
    found = apprise.Apprise()
    if not found.add(target):
        raise ConfigError("--notify is a URL that Apprise does not know", hint="see github.com/caronc/apprise")
    return found
