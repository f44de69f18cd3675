"""Several credentials for one API, each with its own quota: a request goes out with the one that has most left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import ConfigError
from .style import Auth, Context, Signable, Signer, opened


@dataclass(frozen=True, slots=True)
class TokenPool:
    """Several styles of which each request uses one: the one with most left of its own limit."""

    members: tuple[Auth, ...]
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse a pool with nobody in it."""
        if not isinstance(self.members, tuple) or not self.members:
            raise ConfigError("TokenPool needs a tuple of styles", hint='TokenPool((Bearer(env="A"), Bearer(env="B")))')
        for member in self.members:
            if hasattr(member, "members"):
                raise ConfigError(
                    f"TokenPool cannot hold a {type(member).__name__}",
                    hint="a certificate belongs around the pool: ClientCertificate(…, auth=TokenPool(…))",
                )

    def variables(self) -> tuple[str, ...]:
        """Those of all members."""
        return _all(member.variables() for member in self.members)

    def secrets(self) -> tuple[str, ...]:
        """Those of all members."""
        return _all(member.secrets() for member in self.members)

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of all members."""
        return _all(getattr(member, "keys", ()) for member in self.members)

    def query(self) -> tuple[str, ...]:
        """Those of all members."""
        return _all(member.query() for member in self.members)

    def open(self, context: Context) -> _Turns:
        """What signs the requests of one run."""
        return _Turns([opened(member, context) for member in self.members], context)


class _Turns:
    """Passes everything on to the member whose turn it is."""

    def __init__(self, signers: list[Signer], context: Context) -> None:
        self._signers, self._context = signers, context

    def ready(self, ahead: float) -> None:
        """Nothing: whose turn it is shows only when the request leaves."""

    def sign(self, request: Signable) -> None:
        """As the member does it."""
        self._now.sign(request)

    def secrets(self) -> Iterable[str]:
        """Those of all members."""
        return tuple(value for signer in self._signers for value in signer.secrets())

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """As the member does it."""
        return self._now.renew(status, headers)

    @property
    def _now(self) -> Signer:
        return self._signers[self._context.turn() % len(self._signers)]


def _all(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for some in names for name in some))
