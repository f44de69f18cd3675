"""What can go wrong, grouped by who has to act, with the exit code of each.

    SyncerError                   1   a bug of ours, if nothing below fits
    ├── ConfigError               2   you, before running again: nothing was fetched
    ├── RejectBudgetError         3   you: look at the rejects, mend the model or raise the budget
    ├── FetchError                4   the API did not give the page; the last checkpoint holds
    │   ├── UnavailableError      4   nobody: run again later
    │   ├── TooLargeError         4   you: ask for smaller pages, if the stream cannot do so by itself
    │   └── ProtocolError         9   the API's owner: the server broke the protocol
    ├── CredentialsError          5   you: the secret is missing or refused
    ├── SinkError                 6   you: the destination or its disk
    ├── LockError                 7   nobody: another pull is at work
    └── StateError                8   you: state and destination disagree, a decision is needed

Two never leave the package: TransientError (one attempt failed, the client may try again) and
StoppedError (a signal arrived during a wait; the run ends at its last checkpoint with 128 + signal).
"""

from __future__ import annotations


class SyncerError(Exception):
    """Something syncer can explain: what happened, where, and what to type next."""

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "", evidence: bytes = b"") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.evidence = evidence

    def at(self, where: str) -> SyncerError:
        """The same error, saying where it happened unless it already does."""
        self.where = self.where or where
        return self

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class ConfigError(SyncerError):
    """The command, the connector or a setting is wrong; nothing was fetched."""

    exit_code = 2


class RejectBudgetError(SyncerError):
    """More records were rejected than the budget allows; all of them are saved."""

    exit_code = 3


class FetchError(SyncerError):
    """The API did not give the page; the last checkpoint holds."""

    exit_code = 4


class UnavailableError(FetchError):
    """The API is down, or its limit lasts longer than the user's patience."""


class TooLargeError(FetchError):
    """The API calls a page too large; a smaller one may come."""


class ProtocolError(FetchError):
    """The server's answer cannot be trusted: a loop, a foreign next link, a short read, no list."""

    exit_code = 9


class CredentialsError(SyncerError):
    """A secret is missing, malformed or refused by the API."""

    exit_code = 5


class SinkError(SyncerError):
    """The destination refused the page: disk full, read-only, no permission, input/output error."""

    exit_code = 6


class LockError(SyncerError):
    """Another pull of the same stream into the same output is at work."""

    exit_code = 7


class StateError(SyncerError):
    """The checkpoint and what it speaks of disagree; syncer will not guess."""

    exit_code = 8


class TransientError(Exception):
    """One attempt at a page failed in a way that another attempt may mend.

    `wait` is the server's own word in seconds, a floor for the next attempt; `limited` tells a
    limit (the server works, come back later) from a failure. `evidence` is the beginning of an answer
    that arrived but could not be read.
    """

    def __init__(self, reason: str, *, wait: float = 0.0, limited: bool = False, evidence: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.limited = limited
        self.evidence = evidence


class StoppedError(Exception):
    """A signal asked the run to stop while it was waiting."""
