"""Who asks: by a bearer token, as soon as the farm has given any out; before, by an address.

Whether tokens are asked for is settled when the gateway starts, or with the first token after that,
and stays so: the revocation of the last one opens nothing.
"""

import re
from pathlib import Path
from typing import Any

from farm.errors import ConfigError
from farm.gateway.problems import Problem
from farm.gateway.settings import GatewaySettings
from farm.identity import Identity, Role
from farm.keys import KeyStore, Kind, keys_folder

__all__ = ["Door", "identity_of"]

IDENTITY = "farm.identity"
"""Where a request has the identity of who asks, if it came with a token."""
ADMINS = re.compile(
    r"/v1/(queues/[^/]+/(pause|resume|purge)|schedules/[^/]+/(pause|resume|run|backfill))/?"
)
SCHEME = "bearer "


def identity_of(scope: Any) -> Identity | None:
    """Who asks with a token, if tokens are asked for."""
    found: Identity | None = scope.get(IDENTITY)
    return found


class Door:
    """Lets in who shows a token that is good for it; anybody, as long as there are no tokens.

    ``open``: the paths for which nobody needs one.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._keys = KeyStore(Path(keys_folder(settings.keys)))
        self._asks = settings.tokens == "always"
        self._never = settings.tokens == "never"
        self._seen: object = None
        self.open = {
            *(("/health/live", "/health/ready") if settings.health_open else ()),
            *(("/metrics",) if settings.metrics_open else ()),
            *(("/docs", "/openapi.json") if settings.docs else ()),
        }

    @property
    def asks(self) -> bool:
        """Whether tokens are asked for; raises ``ConfigError`` if the keys cannot be read."""
        if self._asks or self._never:
            return self._asks
        signature = self._keys.signature()
        if signature != self._seen:
            self._seen = signature
            entries = self._keys.ring().entries if signature else ()
            self._asks = any(entry.kind is Kind.HTTP for entry in entries)
        return self._asks

    def enter(self, scope: Any, authorization: str) -> None:
        """Note who asks, or raise the ``Problem`` that keeps a request out."""
        path = scope["path"].rstrip("/") or "/"
        if path in self.open or not self._is_asked():
            return
        identity = self._known(authorization)
        if identity is None:
            raise Problem(401, _why(authorization), challenge=True)
        if ADMINS.fullmatch(path) and identity.role is not Role.ADMIN:
            raise Problem(
                403,
                f"this needs the token of an admin, and that of {identity.name!r} is a"
                f" {identity.role}'s: farm keys new NAME --role admin --http  makes one",
            )
        scope[IDENTITY] = identity

    def _is_asked(self) -> bool:
        try:
            return self.asks
        except ConfigError as error:
            raise Problem(503, f"the keys cannot be read: {error}", retry=5) from None

    def _known(self, authorization: str) -> Identity | None:
        if not authorization.lower().startswith(SCHEME):
            return None
        try:
            return self._keys.bearer(authorization[len(SCHEME) :].strip())
        except ConfigError as error:
            raise Problem(503, f"the keys cannot be read: {error}", retry=5) from None

    def stays(self, scope: Any, authorization: str) -> bool:
        """Whether who was let in still is good for it: the token may have ended meanwhile."""
        before = identity_of(scope)
        try:
            return before is None or self._known(authorization) == before
        except Problem:
            return True  # nothing is known of it now


def _why(authorization: str) -> str:
    if not authorization:
        return (
            "send a token, as  Authorization: Bearer TOKEN : who runs this farm makes one with"
            "  farm keys new NAME --role client --http"
        )
    if not authorization.lower().startswith(SCHEME):
        return "the header Authorization has to be  Bearer TOKEN"
    return "this token is not good here: it is another farm's, or was revoked, or has expired"
