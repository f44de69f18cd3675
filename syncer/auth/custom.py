"""Whatever else signs requests: any `requests.auth.AuthBase`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError, CredentialsError, StoppedError, SyncerError, TransientError
from .secrets import secret, variable
from .style import Context, Signable, Watched


@dataclass(frozen=True, slots=True)
class Custom:
    """Any `requests.auth.AuthBase`, or what makes one.

    `make` is called once in a run with the secrets of `env`, by name: `Custom(lambda own: AWS4Auth(own["ID"],
    own["KEY"]), env=("ID", "KEY"))`; without `env` it is the AuthBase itself. What it puts into headers is masked
    as far as it can be seen: the latest 64 values of headers that it set. One that waits for an answer and sends
    again by itself, as requests' own HTTPDigestAuth does, does not get to: there is Digest for that.
    """

    make: Callable[..., Any] = field(repr=False)
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
        auth = _guarded(lambda: self.make(values)) if self.env else self.make
        if not callable(auth):
            raise ConfigError(
                f"the connector's own auth is made, but a {type(auth).__name__} signs nothing",
                hint="Custom needs an AuthBase, or a function of the secrets that gives one",
            )
        return _Calling(auth, values.values())


class _Calling:
    """Calls it, and watches what it does."""

    def __init__(self, auth: Callable[[Any], Any], secrets: Iterable[str]) -> None:
        self._auth, self._secrets, self._sent = auth, tuple(secrets), Watched()

    def ready(self, ahead: float) -> None:
        """Nothing."""

    def sign(self, request: Signable) -> None:
        """As the AuthBase does it; one that gives back another request is taken at its word."""
        before = dict(request.headers)
        _guarded(lambda: self._sign(request))
        self._sent.note(before, request.headers)

    def _sign(self, request: Signable) -> None:
        signed = self._auth(request)
        if signed is not None and signed is not request:
            request.url, request.headers, request.body = signed.url, signed.headers, signed.body
        for name, value in list(request.headers.items()):
            if isinstance(value, bytes):
                request.headers[name] = value.decode("latin-1")
            elif not isinstance(value, str):
                raise TypeError

    def secrets(self) -> Iterable[str]:
        """Its variables, and what it put into headers."""
        return (*self._secrets, *self._sent)

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """No: what it does after a refusal is not known."""
        return False


def _guarded(work: Callable[[], Any]) -> Any:
    """What the author's code gives. It may raise anything, with a message that holds what it signs with."""
    try:
        return work()
    except (SyncerError, TransientError, StoppedError):
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise _failed(error) from None
    except OSError as error:  # what requests raises is one, too
        raise TransientError(f"the connector's own auth failed with {type(error).__name__}") from None
    except Exception as error:
        raise _failed(error) from None


def _failed(error: Exception) -> CredentialsError:
    return CredentialsError(
        f"the connector's own auth failed with {type(error).__name__}", hint="check its code and its secrets"
    )
