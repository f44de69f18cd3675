"""Credentials: where a secret comes from and where it goes. Read when sending, kept out of everything else.

Each style is a frozen value that names environment variables. One that needs no more than its secrets has
`sign`, one that asks a server for a token or remembers something has `open`; what comes of either signs the
requests of one run (see style). `query` names the parameters that carry a secret, so that they are taken
out of every link the API hands back. Nothing here ends up in a Request, a checkpoint, a reject or a message.

    secrets  where they come from, and masks     style    what a style is
    keys     Bearer, Basic, ApiKey, ApiKeys      digest   Digest
    tokens   what a server gives                 store    what must outlive a run
    oauth    ClientCredentials, RefreshToken     jwt      SignedJWT, JWTBearer, ServiceAccount, GitHubApp
    session  Login, Cookie                       signing  Hmac; aws: SigV4
    pool     TokenPool                           tls      ClientCertificate; custom: Custom
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .keys import ApiKey, ApiKeys, Basic, Bearer
from .secrets import Environment, given, mask, named, secret, source, variable
from .store import state
from .style import Auth, Context, Send, Signable, Signer, Told, identity, is_set, need, opened, values

if TYPE_CHECKING:
    from .aws import SigV4
    from .custom import Custom
    from .digest import Digest
    from .jwt import GitHubApp, JWTBearer, ServiceAccount, SignedJWT
    from .oauth import ClientCredentials, RefreshToken
    from .pool import TokenPool
    from .session import Cookie, Login
    from .signing import Hmac
    from .tls import ClientCertificate

__all__ = [
    "ApiKey",
    "ApiKeys",
    "Auth",
    "Basic",
    "Bearer",
    "ClientCertificate",
    "ClientCredentials",
    "Context",
    "Cookie",
    "Custom",
    "Digest",
    "Environment",
    "GitHubApp",
    "Hmac",
    "JWTBearer",
    "Login",
    "RefreshToken",
    "Send",
    "ServiceAccount",
    "SigV4",
    "Signable",
    "SignedJWT",
    "Signer",
    "TokenPool",
    "Told",
    "given",
    "identity",
    "is_set",
    "mask",
    "named",
    "need",
    "opened",
    "secret",
    "source",
    "state",
    "values",
    "variable",
]

_HOMES = {
    "aws": ("SigV4",),
    "custom": ("Custom",),
    "digest": ("Digest",),
    "jwt": ("GitHubApp", "JWTBearer", "ServiceAccount", "SignedJWT"),
    "oauth": ("ClientCredentials", "RefreshToken"),
    "pool": ("TokenPool",),
    "session": ("Cookie", "Login"),
    "signing": ("Hmac",),
    "tls": ("ClientCertificate",),
}


def __getattr__(name: str) -> Any:
    """A style, imported when it is first asked for."""
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
