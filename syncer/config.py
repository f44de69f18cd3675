"""Where things are: the environment with `.env`, and the connectors.

Connectors are found by file name, without running them: the built-in ones, `connectors/*.py` in the working
directory (or the directory given), and installed packages with the entry point group `syncer.connectors`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from .errors import ConfigError, SyncerError
from .stream import NAME, Connector

GROUP = "syncer.connectors"
OUT = "SYNCER_OUT"
SINK = "SYNCER_SINK"
CONNECTORS = "SYNCER_CONNECTORS"
LOG = "SYNCER_LOG"

Place = Path | EntryPoint | ConfigError
"""A file, an entry point, or what is wrong with this name."""


def environment(directory: Path) -> Mapping[str, str]:
    """The environment variables, and beneath them those of a file called `.env` in a directory.

    Values are taken as they stand: a `$` in a secret is a `$`. ConfigError if the file cannot be read.
    """
    return {**_written(directory / ".env"), **os.environ}


def adopt(directory: Path) -> None:
    """Make the variables that stand for options, if only `.env` in a directory has them, the environment's."""
    written = _written(directory / ".env")
    for name in (OUT, SINK, CONNECTORS, LOG):
        if written.get(name):
            os.environ.setdefault(name, written[name])


def _written(file: Path) -> dict[str, str]:
    try:
        if not file.is_file():
            return {}
        from dotenv.parser import parse_stream  # only where there is something to read: starting takes long enough

        with file.open(encoding="utf-8-sig") as text:
            lines = list(parse_stream(text))
        for line in lines:
            if line.error:
                raise ConfigError(
                    f"{file}, line {line.original.line}, is not NAME=VALUE",
                    hint="mend it, or make it a comment: # at its beginning",
                )
        return {line.key: line.value for line in lines if line.key is not None and line.value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read ({type(error).__name__})", hint="it should be UTF-8 text") from None


def catalogue(directory: Path | None) -> dict[str, Place]:
    """Every connector there is, by name, without loading any; a name that cannot be used stands for why.

    Hidden files are left out, as editors make them beside the file that is open. ConfigError without the directory.
    """
    found: dict[str, Place] = {}
    if directory is not None and not directory.is_dir():
        raise ConfigError(f"there is no directory {directory}", hint="give the directory that holds your connectors")
    folders = [*_built_in(), directory or Path("connectors")]
    for folder in folders:
        for file in sorted(folder.glob("*.py")) if folder.is_dir() else []:
            if not file.name.startswith(("_", ".")):
                _add(found, file.stem, file.resolve())
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        _add(found, point.name, point)
    return found


def connector(name: str, directory: Path | None) -> Connector:
    """The connector of this name. ConfigError if there is none, or it cannot be loaded."""
    found = catalogue(directory)
    if name not in found:
        from difflib import get_close_matches

        close = get_close_matches(name, found, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(found))}"
        raise ConfigError(f"there is no connector {name!r}", hint=f"{hint}; `syncer list` shows them all")
    return load(name, found[name])


def load(name: str, place: Place, source: bytes | None = None) -> Connector:
    """Run a connector's file, or load its entry point. ConfigError with the line at fault if that fails.

    With a `source` that is run in the place of its file; the module that is loaded already stays as it is.
    """
    if isinstance(place, ConfigError):
        raise place
    try:
        if source is not None:
            loaded = _instead(name, place, source)
        else:
            loaded = place.load() if isinstance(place, EntryPoint) else _module(name, place)
    except SyncerError as error:
        raise ConfigError(f"connector {name}: {error.message}", hint=error.hint) from None
    except (Exception, SystemExit) as error:  # whatever an author's file raises is theirs to see, in one line
        raise ConfigError(f"connector {name}: {_line(error, place)}") from None
    value = loaded if isinstance(loaded, Connector) else getattr(loaded, "connector", None)
    if not isinstance(value, Connector):
        raise ConfigError(
            f"{_shown(place)} has no `connector = Connector(...)`", hint="see the README: your first connector"
        )
    if value.name != name:
        raise ConfigError(
            f"{_shown(place)} holds the connector {value.name!r}",
            hint="the file and its connector must have the same name",
        )
    return value


def own(place: Place) -> bool:
    """Whether a connector is a file of the user's, and not built in or installed."""
    if not isinstance(place, Path) or not {"site-packages", "dist-packages"}.isdisjoint(place.parts):
        return False
    return place.parent not in [folder.resolve() for folder in _built_in()]


def module_of(name: str, place: Place) -> ModuleType:
    """The module of a connector that is loaded."""
    return sys.modules[place.module if isinstance(place, EntryPoint) else f"syncer_connectors.{name}"]


def source_of(place: Place) -> Path:
    """The file that a connector is in. ConfigError if it is in none."""
    if isinstance(place, ConfigError):
        raise place
    if isinstance(place, Path):
        return place
    found = find_spec(place.module)
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise ConfigError(f"{_shown(place)} is in no file of Python")
    return Path(found.origin)


def _instead(name: str, place: Place, source: bytes) -> object:
    """What a connector's module would hold, were this its source."""
    before = module_of(name, place)
    module = ModuleType(before.__name__)
    module.__file__, module.__package__ = str(source_of(place)), before.__package__
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, module.__file__, "exec"), module.__dict__)  # noqa: S102 the same program, but for its models
    finally:
        sys.modules[module.__name__] = before
    return getattr(module, place.attr, module) if isinstance(place, EntryPoint) and place.attr else module


def _built_in() -> list[Path]:
    """The connectors in the wheel; in a checkout, those beside the package."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "connectors"
    return [package / "connectors"] + ([beside] if (package.parent / "pyproject.toml").is_file() else [])


def _add(found: dict[str, Place], name: str, place: Path | EntryPoint) -> None:
    if not NAME.match(name):
        found[name] = ConfigError(
            f"{_shown(place)}: {name!r} cannot be the name of a connector", hint="use a-z, 0-9, _ and -"
        )
    elif name not in found:
        found[name] = place
    elif not isinstance(known := found[name], ConfigError) and not _same(known, place):
        found[name] = ConfigError(
            f"there are two connectors called {name}: {_shown(known)} and {_shown(place)}", hint="rename one of them"
        )


def _same(one: Path | EntryPoint, other: Path | EntryPoint) -> bool:
    """Whether two finds are one connector: the same file, or a copy of it as an install from a checkout makes one."""
    if isinstance(one, Path) and isinstance(other, Path):
        return one == other or _content(one) == _content(other)
    return one == other


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _module(name: str, file: Path) -> object:
    """Run a connector's file. Not through importlib, which takes one of the same second and length for the old."""
    module = ModuleType(f"syncer_connectors.{name}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)  # noqa: S102 connectors are programs, see the README
    return module


def _line(error: BaseException, place: Path | EntryPoint) -> str:
    line = next(
        (frame.tb_lineno for frame in _frames(error) if frame.tb_frame.f_code.co_filename == str(place)),
        getattr(error, "lineno", None),
    )
    where = f"{_shown(place)}, line {line}" if line else _shown(place)
    return f"{where}: {type(error).__name__}: {error}"


def _frames(error: BaseException):  # type: ignore[no-untyped-def]
    frame = error.__traceback__
    while frame is not None:
        yield frame
        frame = frame.tb_next


def _shown(place: Path | EntryPoint) -> str:
    return str(place) if isinstance(place, Path) else f"the entry point {place.value}"
