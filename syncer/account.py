"""What `syncer drift` says: what is not as it was, the patch that would take it, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .checkpoint import Checkpoint
from .drift import Change
from .errors import ConfigError
from .patch import Proposal
from .stream import Stream
from .terminal import counted, one_line, safe, shortened

Row = dict[str, Any]

SHOWN = 20
"""How many changes of a stream are shown to people."""
WIDTH = 76


def stream(found: Stream, checkpoint: Checkpoint | None, changes: Sequence[Change]) -> Row:
    """What one stream has to say, for machines."""
    if checkpoint is None or not checkpoint.run:
        return {"stream": found.name, "run": None, "status": "never pulled", "records_before": 0, "changes": []}
    return {
        "stream": found.name,
        "run": checkpoint.run,
        "status": checkpoint.status,
        "records_before": checkpoint.baseline.there,
        "changes": [change.to_json() for change in changes],
    }


def to_json(rows: Sequence[Row], proposal: Proposal | None, fault: ConfigError | None, applied: bool) -> Row:
    """All of it for machines; the keys are documented in docs/reference.md."""
    return {
        "streams": list(rows),
        "patch": proposal.to_json() if proposal else None,
        "applied": applied,
        "note": f"{fault.message}: {fault.hint}" if fault else None,
    }


def text(source: str, rows: Sequence[Row], proposal: Proposal | None) -> str:
    """What the streams have to say, and the patch, for people."""
    parts = ["\n".join([_head(source, row), *_changes(row)]) for row in rows]
    return "\n\n".join([*parts, *(_patch(proposal) if proposal else [])])


def following(proposal: Proposal | None, fault: ConfigError | None, applied: bool, apply: str, replay: str) -> str:
    """What to type next: to apply the patch, then to replay the rejects. Empty if there is nothing to do."""
    if fault:
        return f"note: {fault.message}\n  → {fault.hint}"
    if proposal is None or not proposal.diff:
        return ""
    if not applied:
        return f"next     {apply}"
    written = f"{proposal.file} is written"
    return f"{written}\nnext     {replay}" if proposal.passing else written


def _head(source: str, row: Row) -> str:
    name = f"{source}/{row['stream']}"
    if row["run"] is None:
        return f"{name}: never pulled"
    open_ = ", which is not over yet" if row["status"] == "open" else ""
    if not row["records_before"]:
        return f"{name}: the first run, beside its model{open_}"
    return f"{name}: run {row['run']} beside {row['records_before']:,} records of the complete runs before{open_}"


def _changes(row: Row) -> list[str]:
    lines = [] if row["changes"] or row["run"] is None else ["  nothing has changed"]
    for change in row["changes"][:SHOWN]:
        model = f"; the model takes {change['model']}" if change["model"] and change["change"] != "vanished" else ""
        seen = f"in {change['count']:,} of {counted(change['of'], 'record')}"
        seen += f" since {change['first_seen'][:19].replace('T', ' ')}"
        seen += f", {change['rejected']:,} rejected" if change["rejected"] else ""
        lines += ["  " + shortened(change["text"] + model, WIDTH), f"      {one_line(seen)}"]
    more = row["changes"][SHOWN:]
    return [*lines, *([f"  … {counted(len(more), 'more change')}: --json has them all"] if more else [])]


def _patch(found: Proposal) -> list[str]:
    total = found.passing + found.left.total()
    parts = [f"with this change the models would take it:\n\n{safe(found.diff).rstrip()}"] if found.diff else []
    if total:
        passing = "all of" if found.passing == total else f"{found.passing:,} of"
        would = f"{passing} the {counted(total, 'reject')} would pass"
        stay = [f"  {count:>7,}  {shortened(cause, WIDTH - 11)}" for cause, count in found.left.most_common(SHOWN)]
        parts.append("\n".join([f"{would}, and these would stay:" if stay else would, *stay]))
    notes = [f"note: {one_line(note)}" for note in found.notes]
    return [*parts, *(["\n".join(notes)] if notes else [])]
