"""What a request is told that cannot be done: RFC 9457, ``application/problem+json``."""

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from farm.errors import FarmError

__all__ = ["MEDIA_TYPE", "Problem", "ProblemBody", "busy", "busy_if_away", "whole_seconds"]

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS_MAX = 120


class ProblemBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a request was not done."""

    status: int
    title: str
    """The status in words."""
    detail: str
    """What happened, to what, and what to do."""
    type: str = "about:blank"
    field: str | None = None
    """Which part of the request is wrong: ``kwargs.width``, ``options.queue``."""
    retry_after: int | None = None
    """In how many seconds there may be room: as the header ``Retry-After``."""


class Problem(Exception):
    """A request that is answered with a status of 400 or above."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        retry: float | None = None,
        challenge: bool = False,
    ) -> None:
        super().__init__(detail)
        self._challenge = challenge
        self.status = status
        self.retry_after = None if retry is None else whole_seconds(retry)
        self.body = ProblemBody(
            status=status,
            title=HTTPStatus(status).phrase,
            detail=detail,
            field=field,
            retry_after=self.retry_after,
        )

    @property
    def headers(self) -> dict[str, str]:
        """What the response says beside its body."""
        said = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return said | {"www-authenticate": 'Bearer realm="farm"'} if self._challenge else said

    def content(self) -> bytes:
        """The body, encoded."""
        return msgspec.json.encode(self.body)

    async def send(
        self, send: Callable[[Any], Any], headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer an ASGI request with it."""
        content = self.content()
        said = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(content)),
            **self.headers,
            **(headers or {}),
        }
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in said.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": content})


def whole_seconds(seconds: float) -> int:
    """As ``Retry-After`` has it: never sooner than there may be room."""
    return min(RETRY_SECONDS_MAX, max(1, math.ceil(seconds)))


def busy(detail: str, retry: float = 1.0) -> Problem:
    """There is no room now."""
    return Problem(503, detail, retry=retry)


class busy_if_away:  # noqa: N801 - a context, read as a phrase
    """A farm that cannot be reached is a ``Problem`` 503; a wrong question, a 404."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConnectionError):
            raise busy(str(error)) from None
        if isinstance(error, FarmError):
            raise Problem(404, str(error)) from None
