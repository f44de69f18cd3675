"""What has drifted, and the patch of a model that would take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from ..terminal import say
from .given import (
    OUT,
    AsJson,
    Folder,
    Out,
    SinkKind,
    Source,
    Streams,
    Yes,
    again,
    confirm,
    looked_up,
    masked,
    print_json,
    variables,
)
from .recorded import secrets

if TYPE_CHECKING:
    from ..edits import Pulled


def drift(
    source: Source,
    streams: Streams = None,
    out: Out = OUT,
    sink: SinkKind = "jsonl",
    apply: Annotated[bool, typer.Option("--apply", help="Write the change to the connector's file.")] = False,
    yes: Yes = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show what in a source is not as it was, and the change by which its models would take it."""
    from .. import account, overview, patch
    from ..config import catalogue, own
    from ..pull import drifted
    from ..sinks import sink as open_sink

    connector, chosen = looked_up(source, streams, folder)
    hide = secrets(connector, variables())
    place = catalogue(folder)[source]
    found = {stream.name: open_sink(sink, out, source, stream).peek() for stream in chosen}
    rows = [
        account.stream(stream, saved, drifted(saved, stream) if saved else ())
        for stream in chosen
        for saved in [found[stream.name]]
    ]
    pulled: list[Pulled] = [
        patch.shown(stream, saved, lambda one: open_sink(sink, out, source, one), lambda text: masked(text, hide))
        for stream in chosen
        if (saved := found[stream.name]) and saved.run
    ]
    proposal, fault = None, None
    try:
        proposal = patch.propose(source, place, pulled) if pulled else None
    except ConfigError as error:
        fault = error
    command, flags = again("drift", source, streams, folder), overview.flags(out, sink, None)
    nothing = overview.elsewhere(command, out, sink, source, chosen)
    if not as_json:
        text = account.text(connector.name, rows, proposal) + (f"\n\n{nothing}" if nothing else "")
        say(masked(text, hide))
    if apply and fault:
        raise fault
    applied = bool(apply and proposal and proposal.diff)
    if apply and proposal and proposal.diff:
        if not own(place):
            raise ConfigError(f"{source} is not a connector of your own", hint=patch.copying(source, place))
        if not yes:
            if as_json:
                say(masked(proposal.diff, hide), error=True)
            confirm(f"Write this change to {proposal.file}?", "this changes a file")
        patch.apply(proposal)
    replay = again("rejects replay", source, streams, folder) + flags
    following = account.following(proposal, fault, applied, f"{command}{flags} --apply", replay)
    if proposal and proposal.diff and not own(place):
        following = patch.copying(source, place)
    if as_json:
        row = account.to_json(rows, proposal, fault, applied)
        if row["patch"]:
            row["patch"]["diff"] = masked(row["patch"]["diff"], hide)
        print_json(row)
        if nothing:
            say(nothing, error=True)
    elif following:
        say(f"\n{following}")
