"""Where a secret comes from, and how it is kept out of what is shown or stored.

A style names variables. For a variable NAME, the first of these that is set counts:

    NAME            the secret itself, in the environment or in .env
    NAME_FILE       a file that holds it (Docker, Kubernetes)
    NAME_COMMAND    a command that prints it; run without a shell, once in a run, for at most 30 seconds
    NAME_KEYRING    its place in the desktop's keyring, as service/user (with the extra `keyring`)
"""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import stat
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote_plus

from ..errors import ConfigError, CredentialsError

Environment = Mapping[str, str]

_WORDS = ("TOKEN", "KEY", "SECRET", "PASS", "AUTH", "CREDENTIAL", "COOKIE")
_TELLING = 8
_LARGEST = 65536
_LONGEST = 30.0
_OUTPUT: dict[str, str] = {}
"""What commands printed: one may ask a person to unlock something, and that once is enough for a process."""


def secret(name: str, environment: Environment, *, lines: bool = False) -> str:
    """The secret of a variable, without the newline that `echo` and editors add.

    CredentialsError if it is missing, empty, or holds a character that no HTTP header can; `lines` allows
    line ends and any letters, for keys and for the names of files, which are not sent.
    """
    place, found = _found(name, environment)
    value = found.strip()
    if not value:
        raise CredentialsError(
            f"the environment variable {name} is not set",
            hint=f"export {name}=… or write {name}=… into a file called .env here; "
            f"or set {name}_FILE, {name}_COMMAND or {name}_KEYRING to where it is kept",
        )
    plain = re.sub(r"[\r\n\t]", "", value) if lines else value
    if not plain.isprintable() or not (lines or plain.isascii()):
        what = f"the environment variable {name}" if place == name else f"what {place} leads to"
        raise CredentialsError(
            f"{what} holds a character that cannot be sent",
            hint=f"set {place} again: it must be one line of printable ASCII",
        )
    return value


def variable(name: str) -> None:
    """Refuse what cannot be an environment variable, without showing it: it may be the secret itself. ConfigError."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigError(
            "what should be the name of an environment variable cannot be one",
            hint='name the variable that holds the secret, as in env="SHOP_TOKEN"; never the secret itself',
        )


def given(name: str, environment: Environment) -> bool:
    """Whether something says where the secret is; nothing is opened or run to find out whether it is there."""
    return bool(source(name, environment))


def source(name: str, environment: Environment) -> str:
    """The secret itself, or where the environment says that it is: enough to tell one account from another."""
    return next((found for suffix in ("", *_SOURCES) if (found := environment.get(name + suffix, "").strip())), "")


def forget(name: str, environment: Environment) -> None:
    """Run the command of a variable again when it is next asked for: what it printed has been refused."""
    _OUTPUT.pop(environment.get(name + "_COMMAND", "").strip(), None)


def named(environment: Environment) -> list[str]:
    """The value of every variable that is named like a secret, whoever's it is; short ones are words."""
    found = [value.strip() for name, value in environment.items() if any(word in name.upper() for word in _WORDS)]
    return [value for value in found if len(value) >= _TELLING]


def mask(content: bytes, secrets: Iterable[str]) -> bytes:
    """The content with every secret as `***`, also where it is escaped for a URL, for JSON or for HTML."""
    for value in sorted(filter(None, secrets), key=len, reverse=True):  # one may be the beginning of another
        content = _written(value).sub(b"***", content)
    return content


@lru_cache(maxsize=256)
def _written(value: str) -> re.Pattern[bytes]:
    """A secret in all the ways that servers write one: its letters and digits stand as they are in each."""
    return re.compile("".join(char if char.isalnum() else _ways(char) for char in value).encode())


def _ways(char: str) -> str:
    code = ord(char)
    plain = {char, json.dumps(char)[1:-1], f"\\{char}", quote_plus(char, safe=""), html.escape(char)}
    coded = f"%(?:25)?{code:02x}", f"\\\\u{code:04x}", f"&#0*{code};", f"&#x0*{code:x};"
    return f"(?:{'|'.join([*map(re.escape, sorted(plain, key=len, reverse=True)), *(f'(?i:{way})' for way in coded)])})"


def _found(name: str, environment: Environment) -> tuple[str, str]:
    """The variable that counts, and the secret it holds or leads to."""
    if environment.get(name, "").strip():
        return name, environment[name]
    for suffix, read in _SOURCES.items():
        if place := environment.get(name + suffix, "").strip():
            return name + suffix, read(name + suffix, place, environment)
    return name, ""


def _file(name: str, place: str, environment: Environment) -> str:
    try:
        path = Path(place).expanduser()
        if not stat.S_ISREG(path.stat().st_mode):
            raise CredentialsError(f"{name} names something that is not a file", hint=f"set {name} to a file's path")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        text = content.decode()
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not text"
        raise CredentialsError(
            f"the file that {name} names cannot be read: {why}", hint=f"check the path in {name}, and who may read it"
        ) from None
    if not text.strip():
        raise CredentialsError(f"the file that {name} names is empty", hint=f"write the secret into it, or set {name}")
    return _bounded(name, text)


def _command(name: str, place: str, environment: Environment) -> str:
    if place in _OUTPUT:
        return _OUTPUT[place]
    hint = f"run the command in {name} yourself and see what it says; it should print the secret and nothing else"
    try:
        code, printed = _run(shlex.split(place), {**os.environ, **environment})
    except subprocess.TimeoutExpired:
        raise CredentialsError(f"the command in {name} did not end within {_LONGEST:g} s", hint=hint) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "its quotes do not match"
        raise CredentialsError(f"the command in {name} cannot be run: {why}", hint=hint) from None
    text = _bounded(name, printed.decode("utf-8", "replace"))
    if code:
        raise CredentialsError(f"the command in {name} failed with exit code {code}", hint=hint)
    if not text.strip():
        raise CredentialsError(f"the command in {name} printed nothing", hint=hint)
    _OUTPUT[place] = text
    return text


def _run(words: list[str], environment: Environment) -> tuple[int, bytes]:
    """The exit code of a command and what it printed, of very much only the beginning."""
    process = subprocess.Popen(  # noqa: S603 the user's own command, split and not given to a shell
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # may hold the secret
        env=environment,
    )
    printed: list[bytes] = []
    pipe = process.stdout
    # A thread, for a pipe may be kept open by what the command started, and be read from for ever.
    reader = threading.Thread(target=lambda: printed.append(pipe.read(_LARGEST + 1) if pipe else b""), daemon=True)
    reader.start()
    try:
        reader.join(_LONGEST)
        if not printed:
            raise subprocess.TimeoutExpired(words, _LONGEST)
        if len(printed[0]) > _LARGEST:
            return 0, printed[0]
        return process.wait(_LONGEST), printed[0]
    finally:
        process.kill()
        process.wait()
        if pipe and printed:
            pipe.close()


def _keyring(name: str, place: str, environment: Environment) -> str:
    service, slash, user = place.rpartition("/")
    if not slash or not service or not user:
        raise CredentialsError(f"{name} is not of the form service/user", hint=f"set {name}=service/user")
    try:
        import keyring
    except ImportError:
        raise ConfigError(
            f"{name} is set, but the keyring cannot be read here", hint="pip install 'syncer[keyring]'"
        ) from None
    bare = name.removesuffix("_KEYRING")
    try:
        value = keyring.get_password(service, user)
    except Exception as error:  # a backend may raise what it likes, and tell what it was asked for
        raise CredentialsError(
            f"this machine has no keyring that can be opened ({type(error).__name__})",
            hint=f"set {bare} or {bare}_FILE instead",
        ) from None
    if not value:
        raise CredentialsError(
            f"the keyring holds nothing at the place that {name} names", hint=f"keyring set {service} {user}"
        )
    return _bounded(name, value)


def _bounded(name: str, text: str) -> str:
    if len(text) > _LARGEST:
        raise CredentialsError(f"what {name} leads to is too long for a secret", hint=f"check {name}")
    return text


_SOURCES: dict[str, Callable[[str, str, Environment], str]] = {
    "_FILE": _file,
    "_COMMAND": _command,
    "_KEYRING": _keyring,
}
