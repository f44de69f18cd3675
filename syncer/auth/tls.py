"""Mutual TLS: a certificate of the client's own."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CredentialsError
from .secrets import Environment, secret, variable
from .style import Auth, Context, Signable, Signer, opened


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A client certificate, alone or with another style: `auth=Bearer(…)`.

    `certificate` and `key` are variables that hold the paths of PEM files (without `key` the first holds both),
    `password` is the variable of an encrypted key's password. `authority` is one with the path of the
    certificates that the server's own is checked against, where that is not a public one.
    """

    certificate: str
    key: str | None = None
    password: str | None = None
    authority: str | None = None
    auth: Auth | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable."""
        for name in self.variables():
            variable(name)

    def variables(self) -> tuple[str, ...]:
        """The variables of the paths and the password, and those of the other style."""
        return (*self._own, *(self.auth.variables() if self.auth else ()))

    def secrets(self) -> tuple[str, ...]:
        """The password's, and those of the other style."""
        return (*filter(None, (self.password,)), *(self.auth.secrets() if self.auth else ()))

    @property
    def keys(self) -> tuple[str, ...]:
        """The variables that are not sent as they are: all its own, and what the other style says."""
        return (*self._own, *getattr(self.auth, "keys", ()))

    @property
    def members(self) -> tuple[Auth, ...]:
        """Those with a limit of their own: the members of a pool behind the certificate, or the one that it is."""
        return getattr(self.auth, "members", (self,))

    @property
    def _own(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.certificate, self.key, self.password, self.authority)))

    def query(self) -> tuple[str, ...]:
        """Those of the other style."""
        return self.auth.query() if self.auth else ()

    def identity(self, environment: Environment) -> ssl.SSLContext:
        """The TLS context with the certificate. CredentialsError if it cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        password = secret(self.password, environment, lines=True) if self.password else ""
        names = [name for name in (self.certificate, self.key) if name]
        # Always a password: OpenSSL would ask for one at the terminal.
        self._load(
            names,
            environment,
            lambda own, key=None: context.load_cert_chain(own, key, password=lambda: password),
        )
        if self.authority:
            self._load([self.authority], environment, context.load_verify_locations)
        return context

    def open(self, context: Context) -> Signer:
        """What signs the requests of one run, beside the certificate."""
        return opened(self.auth, context) if self.auth else _Nothing(context.environment, self.password)

    def _load(self, names: list[str], environment: Environment, load: object) -> None:
        values = [(name, secret(name, environment, lines=True)) for name in names]
        if inside := [name for name, value in values if "-----BEGIN" in value]:
            raise CredentialsError(
                f"{inside[0]} leads to what is in a certificate's file, and should be its path",
                hint=f"set {inside[0]}=/path/to/file.pem",
            )
        try:
            load(*(str(Path(value).expanduser()) for _, value in values))  # type: ignore[operator]
        except (OSError, ValueError, RuntimeError) as error:  # ssl.SSLError is an OSError
            bad = isinstance(error, ssl.SSLError) or not isinstance(error, OSError)
            why = "the files do not hold PEM that fits together" if bad else error.strerror  # type: ignore[union-attr]
            named = f" and {self.password}" if bad and self.password else ""
            raise CredentialsError(
                f"the certificate cannot be used: {why}", hint=f"check {' and '.join(names)}{named}"
            ) from None


class _Nothing:
    """Signs nothing: the certificate says it all."""

    def __init__(self, environment: Environment, password: str | None) -> None:
        self._secrets = (secret(password, environment, lines=True),) if password else ()

    def ready(self, ahead: float) -> None:
        """Nothing."""

    def sign(self, request: Signable) -> None:
        """Nothing."""

    def secrets(self) -> Iterable[str]:
        """The password of the key."""
        return self._secrets

    def renew(self, status: int, headers: Mapping[str, str]) -> bool:
        """No."""
        return False
