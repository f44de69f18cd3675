"""The picture of one source or of several as one HTML page that needs nothing but itself.

It is made by jinja2, which escapes all that it puts in, from the three files in `assets`. The page says itself
what it may do: show its own style sheet and run its own script, each known by its hash, and nothing else.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, charts, exhibit, history
from .errors import ConfigError, SinkError
from .picture import Picture, Row
from .review import Group
from .sinks import disk
from .space import size
from .terminal import counted, safe

if TYPE_CHECKING:
    from jinja2 import Template

BARS = 60
"""How many runs the charts show, the latest."""
OVER_TIME = 12
"""How many causes are followed from run to run."""
SAMPLED = 30
"""How many causes of a source have samples: the commonest."""
OPEN = 3
"""How many of them are open at once."""
LINES = 40
"""How many lines of a sample are shown."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Page:
    """What makes pages. ConfigError where the libraries for that are missing, before anything was read."""

    template: Template

    @staticmethod
    def ready() -> Page:
        """Load all that is needed."""
        charts.bars([], [], str)
        try:
            from jinja2 import Environment, StrictUndefined
            from markupsafe import Markup
        except ImportError:
            raise ConfigError(
                "a page cannot be made: jinja2, which lays it out, is missing", hint="pip install 'syncer[report]'"
            ) from None

        def harmless(value: Any) -> Any:
            return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value

        environment = Environment(
            autoescape=True, undefined=StrictUndefined, finalize=harmless, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {
            "number": lambda value: f"{value:,}",
            "moment": history.moment,
            "took": history.took,
            "outcome": history.outcome,
            "size": size,
            "counted": counted,
        }
        style, script = _asset("report.css"), _asset("report.js")
        environment.globals |= {
            "style": Markup(style),  # noqa: S704 ours, as is the script
            "script": Markup(script),  # noqa: S704
            "style_hash": _digest(style),
            "script_hash": _digest(script),
            "version": __version__,
        }
        return Page(environment.from_string(_asset("report.html")))

    def html(self, seen: Sequence[Picture], made: str) -> str:
        """The page; `made` is the stamp of the moment it is made."""
        from markupsafe import Markup

        drawn: Callable[[str], Markup] = Markup  # the charts escape what they say themselves
        return self.template.render(made=made, sources=[_source(one, drawn) for one in seen])


def write(path: Path, content: str) -> None:
    """Put a page in the file's place at once: no reader ever sees half of it. SinkError if that fails.

    Only its owner may read a new file, since it holds records; one that is there keeps its mode.
    """
    with disk.explained(path, "write"):
        place = Path(os.path.realpath(path))
        if place.exists() and not place.is_file():
            raise SinkError(f"cannot write {path}: it is not a file", hint="name a file, or `--html -` for stdout")
        beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o600
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode())
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            beside.replace(place)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from None


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The hash by which a browser knows a style sheet or a script."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _source(seen: Picture, drawn: Callable[[str], str]) -> Row:
    """What the page says of one source."""
    runs = [_run(row) for row in seen.runs]
    latest = runs[:BARS][::-1]
    return {
        "name": seen.source,
        "runs": runs,
        "streams": seen.streams,
        "sums": {name: sum(row.get(name, 0) for row in seen.streams) for name in ("records", "rejects")},
        "balanced": all(row["balance"]["balanced"] for row in seen.streams if row["balance"]),
        "pulled": any(row["balance"] for row in seen.streams),
        "charts": [{**chart, "svg": drawn(chart["svg"])} for chart in _charts(latest)] if len(latest) > 1 else [],
        "over_time": [{**one, "svg": drawn(one["svg"])} for one in _over_time(latest)],
        "drift": seen.drift,
        "causes": [_cause(group, number) for number, group in enumerate(seen.causes)],
        "rejects": sum(group.count for group in seen.causes),
        "new": sum(group.new for group in seen.causes),
        "sampled": SAMPLED,
        "commands": seen.commands,
        "notes": seen.notes,
    }


def _run(row: Row) -> Row:
    """A run of the ledger, with what the page sums up and sorts by."""
    sums = [sum(history.counts(stream)[place] for stream in row["streams"]) for place in range(5)]
    causes: dict[str, int] = {}
    for stream in row["streams"]:
        told = stream.get("rejected_by_cause")
        for cause, count in (told if isinstance(told, dict) else {}).items():
            if isinstance(count, int):
                name = f"{stream['stream']}: {cause}"
                causes[name] = causes.get(name, 0) + count
    return {
        **row,
        **dict(zip(("pages", "fetched", "written", "rejected", "repeated"), sums, strict=True)),
        "whole": row["status"] == "complete",
        "waits": sum(row["waited"].values()),
        "why": history.why(row),
        "following": list(history.following(row)),
        "by_cause": causes,
    }


def _charts(runs: Sequence[Row]) -> Iterator[Row]:
    """A chart for each number that is followed from run to run, the oldest run on the left."""
    labels = _labels([datetime.fromisoformat(run["started"]) for run in runs])
    for title, name, shown in (
        ("Records written", "written", _count),
        ("Records rejected", "rejected", _count),
        ("Duration", "seconds", history.took),
        ("Waiting, all requests together", "waits", history.took),
    ):
        values = [run[name] for run in runs]
        told = [
            (value, f"{history.moment(run['started'])}: {shown(value)}")
            for run, value in zip(runs, values, strict=True)
        ]
        series = [
            [bar if run["whole"] is whole else None for run, bar in zip(runs, told, strict=True)]
            for whole in (True, False)
        ]
        yield {
            "title": title,
            "latest": shown(values[-1]),
            "most": shown(max(values)),
            "svg": charts.bars(series, labels, _axis if shown is _count else shown),
        }


def _over_time(runs: Sequence[Row]) -> Iterator[Row]:
    """The causes that came most often in these runs, each with its numbers."""
    totals: dict[str, int] = {}
    for run in runs:
        for cause, count in run["by_cause"].items():
            totals[cause] = totals.get(cause, 0) + count
    for cause, total in sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))[:OVER_TIME]:
        counts = [run["by_cause"].get(cause, 0) for run in runs]
        told = [
            (count, f"{history.moment(run['started'])}: {count:,}") for run, count in zip(runs, counts, strict=True)
        ]
        had = [(run, count) for run, count in zip(runs, counts, strict=True) if count]
        yield {
            "cause": cause,
            "total": total,
            "latest": counts[-1],
            "had": [{"started": run["started"], "id": run["id"], "count": count} for run, count in had],
            "of": len(runs),
            "svg": charts.bars([told], [""] * len(runs), str, small=True),
        }


def _cause(group: Group, number: int) -> Row:
    """What was refused for one cause."""
    first = group.samples[0]
    samples = []
    for sample in group.samples if number < SAMPLED else ():
        lines = exhibit.abridged(exhibit.laid(sample.row), LINES)
        samples.append(
            {
                "id": sample.id,
                "run": sample.row["run"],
                "page": sample.row["page"],
                "index": sample.row["index"],
                "at": sample.row["at"],
                "request": str(sample.row.get("request") or ""),
                "lines": [({">": "fault", "!": "reason"}.get(line[:1], ""), line) for line in lines],
            }
        )
    return {
        "stream": group.stream,
        "name": group.cause,
        "count": group.count,
        "share": group.share,
        "new": group.new,
        "first": group.first,
        "last": group.last,
        "pages": group.pages,
        "values": [(value, count) for value, count in group.values.items() if value],
        "reasons": [(reason["path"] or "(record)", reason["message"]) for reason in first.row["reasons"][:3]],
        "samples": samples,
        "open": number < OPEN,
    }


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _axis(value: float) -> str:
    """`0`, `2,400`, `1.2 M`: as short as a number beside an axis should be."""
    return f"{value / 10**6:,.3g} M" if value >= 10**6 else f"{value:,.10g}"


def _labels(moments: Sequence[datetime]) -> list[str]:
    """The days of the runs, or the times of day where all are of one."""
    if len({moment.date() for moment in moments}) == 1:
        return [f"{moment:%H:%M}" for moment in moments]
    return [f"{moment.day} {_MONTHS[moment.month - 1]}" for moment in moments]
