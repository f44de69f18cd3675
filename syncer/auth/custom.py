"""Whatever else signs requests: any `requests.auth.AuthBase`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, CredentialsError, SyncerError
from .secrets import secret, variable
from .style import Context, Signable, Watched


@dataclass(frozen=True, slots=True)
class Custom:
    """Any `requests.auth.AuthBase`, or what makes one.

    `make` is called once in a run with the secrets of `env`, by name: `Custom(lambda own: AWS4Auth(own["ID"],
    own["KEY"]), env=("ID", "KEY"))`. What it puts into headers is masked as far as it can be seen: the latest
    64 values of headers that it set. One that waits for an answer and sends again by itself, as
    requests' own HTTPDigestAuth does, does not get to: there is Digest for that.
    """

    make: Callable[..., Any]
    env: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable, and what cannot be called."""
        if not callable(self.make) or isinstance(self.env, str):
            raise ConfigError("Custom needs an AuthBase or a function that makes one, and env= as a tuple")
        for name in self.env:
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables it is made with."""
        return self.env

    secrets = variables

    def query(self) -> tuple[str, ...]:
        """The parameters that it adds, as declared by `params`."""
        return self.params

    def open(self, context: Context) -> _Calling:
        """What signs the requests of one run."""
        values = {name: secret(name, context.environment, lines=True) for name in self.env}
        return _Calling(self.make(values) if self.env else self.make, values.values())


class _Calling:
    """Calls it, and watches what it does."""

    def __init__(self, auth: Callable[[Any], Any], secrets: Iterable[str]) -> None:
        self._auth, self._secrets, self._sent = auth, tuple(secrets), Watched()

    def ready(self, ahead: float) -> None:
        """Nothing."""

    def sign(self, request: Signable) -> None:
        """As the AuthBase does it; one that gives back another request is taken at its word."""
        before = dict(request.headers)
        try:
            signed = self._auth(request)
        except SyncerError:
            raise
        except Exception as error:  # it is the author's, and its message may hold what it signs with
            raise CredentialsError(
                f"the connector's own auth failed with {type(error).__name__}", hint="check its code and its secrets"
            ) from None
        if signed is not None and signed is not request:
            request.url, request.headers, request.body = signed.url, signed.headers, signed.body
        self._sent.note(before, request.headers)

    def secrets(self) -> Iterable[str]:
        """Its variables, and what it put into headers."""
        return (*self._secrets, *self._sent)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """No: what it does after a refusal is not known."""
        return False
