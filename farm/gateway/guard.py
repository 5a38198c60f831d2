"""What stands before the routes: refuses what must not be read, and reads the rest within bounds.

In this order, and all of it before a byte of the body is read: is it meant for this gateway (Host,
Origin), who asks (by a token, where there are any), is it JSON, has the farm room, has the caller,
is it small enough. What is being read has a bound for all requests together, and a clock. A request
that waits ends with its connection, and with its token.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from farm.gateway.door import identity_of
from farm.gateway.problems import Problem, busy

__all__ = ["Admission", "Guard", "Head"]

BODY_SECONDS = 10.0
"""How long the body of a request may take."""
BODIES = 16
"""As many bodies of the largest size may be in memory at a time."""
STAY_SECONDS = 0.5
"""How often is looked whether the token of a request that waits is good still."""
JSON = "application/json"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Admission(Protocol):
    """Who may come in, and whether more may be submitted."""

    async def enter(self, scope: Any, authorization: str) -> None:
        """Note in the scope who asks; raises the ``Problem`` that keeps a request out."""

    def leave(self, scope: Any) -> None:
        """A request that was let in, or not, is answered."""

    def stays(self, scope: Any, authorization: str) -> bool:
        """Whether a request that waits may go on: its token may have ended meanwhile."""

    def check_room(self, queue: str, caller: str, scope: Any) -> None:
        """Raise the ``Problem`` that keeps a caller from submitting to a queue now.

        An empty queue: whichever the body names.
        """


class Head:
    """What a request says before its body."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            twice = name in self._headers
            self._headers[name] = self._headers[name] + b", " + value if twice else value
        self._query = scope["query_string"]

    def header(self, name: bytes) -> str:
        """A header, or an empty text; one that is there twice counts as both, and fits nothing."""
        return self._headers.get(name, b"").decode("latin-1")

    @property
    def queue(self) -> str:
        """The queue that the address names."""
        found: list[str] = parse_qs(self._query.decode("latin-1")).get("queue", [""])
        return found[-1]

    @property
    def submits(self) -> bool:
        """Whether it is to submit tasks."""
        return self.method == "POST" and self.path.rstrip("/") in {"/v1/tasks", "/v1/jobs"}

    @property
    def waits(self) -> bool:
        """Whether it may be long in coming to its end."""
        asked = unquote_to_bytes(self._query)  # as the routes read it
        return self.method == "GET" and (b"wait=" in asked or self.path.endswith("/events"))

    @property
    def has_body(self) -> bool:
        """Whether there is a body, or something is said of one."""
        said = self.header(b"content-type") or self.header(b"transfer-encoding")
        return bool(said or self.length)

    @property
    def length(self) -> int | None:
        """How long the body is, if it says so."""
        text = self.header(b"content-length")
        return int(text) if text.isdecimal() else None


def caller_of(scope: Any) -> str:
    """Who asks: a name, by the token that was shown; where there are no tokens, an address."""
    if (identity := identity_of(scope)) is not None:
        return identity.name
    client = scope.get("client")
    return str(client[0]) if client else "local"


class Guard:
    """An ASGI application around another. ``names`` are those under which callers may reach it."""

    def __init__(
        self,
        app: App,
        admission: Admission,
        *,
        names: Collection[str] = (),
        max_body: int = 4 << 20,
    ) -> None:
        self._app = app
        self._admission = admission
        self._names = {"localhost", *(name.lower() for name in names)}
        self._max_body = max_body
        self._bytes_left = BODIES * max_body
        self.refused: dict[int, int] = {}
        """How many requests were refused here, by status."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head, taken = Head(scope), _Taken()
        try:
            await self._answer(head, taken, scope, receive, send)
        except Problem as problem:
            self.refused[problem.status] = self.refused.get(problem.status, 0) + 1
            # A peer that asked whether to send its body does not know that this is its end.
            close = problem.status == HTTPStatus.REQUEST_TIMEOUT or head.header(b"expect")
            await problem.send(send, {"connection": "close"} if close else None)
        finally:
            self._admission.leave(scope)
            self._bytes_left += taken.size

    async def _answer(
        self, head: Head, taken: "_Taken", scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._check_meant(head)
        authorization = head.header(b"authorization")
        await self._admission.enter(scope, authorization)
        self._check(head, scope)
        if head.waits:
            await self._while_connected(authorization, scope, receive, send)
            return
        body = await self._read(head, receive, taken)
        if body is not None:  # else the peer has gone
            await self._app(scope, _once(body), send)

    def _check_meant(self, head: Head) -> None:
        host = _host_of(head.header(b"host"))
        if not self._is_ours(host):
            raise Problem(
                421, f"this gateway is not called {host!r}: start it with --name, or use localhost"
            )
        origin = head.header(b"origin")
        if origin and _site_of(origin) != head.header(b"host").lower():
            raise Problem(403, f"pages of {origin} may not use this farm")
        if head.header(b"sec-fetch-site") == "cross-site":
            raise Problem(403, "pages of other sites may not use this farm")

    def _check(self, head: Head, scope: Scope) -> None:
        if head.submits or head.has_body:
            kind, _, parameter = head.header(b"content-type").partition(";")
            charset = parameter.strip().lower()
            if kind.strip().lower() != JSON or charset not in {"", "charset=utf-8"}:
                raise Problem(415, f"send JSON, with the header Content-Type: {JSON}")
        if head.header(b"content-encoding").lower() not in {"", "identity"}:
            raise Problem(415, "send JSON as it is, without a Content-Encoding")
        if head.submits:
            self._admission.check_room(head.queue, caller_of(scope), scope)
        if (head.length or 0) > self._max_body:
            raise self._too_large()

    def _is_ours(self, host: str) -> bool:
        if host in self._names:
            return True
        with suppress(ValueError):  # names can be made to mean this machine; digits cannot
            ipaddress.ip_address(host)
            return True
        return False

    def _too_large(self) -> Problem:
        return Problem(413, f"a request may have {self._max_body:,} bytes; send less at a time")

    async def _read(self, head: Head, receive: Receive, taken: "_Taken") -> bytes | None:
        """The body; None if the peer has gone. Raises ``Problem``."""
        if not head.has_body:
            return b""
        self._take(taken, head.length or 0)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._max_body:
                        raise self._too_large()
                    self._take(taken, size)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Problem(
                408, f"the body did not come within {BODY_SECONDS:g} s; send it at once"
            ) from None

    def _take(self, taken: "_Taken", size: int) -> None:
        """Have so many bytes of the room for bodies, in all."""
        more = size - taken.size
        if more > self._bytes_left:
            raise busy("too many requests are being read")
        if more > 0:
            self._bytes_left -= more
            taken.size = size

    async def _while_connected(
        self, authorization: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have a request answered, unless its peer goes, or its token ends, before."""
        began = False

        async def sending(message: Any) -> None:
            nonlocal began
            began = True
            await send(message)

        request = asyncio.ensure_future(self._app(scope, _once(b""), sending))
        gone = asyncio.ensure_future(_gone(receive))
        ended = asyncio.ensure_future(self._until_ended(scope, authorization))
        try:
            await asyncio.wait({request, gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                request.result()
                return
        finally:
            for one in (request, gone, ended):
                one.cancel()
                with suppress(asyncio.CancelledError):
                    await one
        if ended.done() and not ended.cancelled() and not began:
            raise Problem(401, "the token has ended while this waited", challenge=True)

    async def _until_ended(self, scope: Scope, authorization: str) -> None:
        """Return when the token of a request is good no more."""
        while self._admission.stays(scope, authorization):  # noqa: ASYNC110 - files change unasked
            await asyncio.sleep(STAY_SECONDS)


class _Taken:
    """How much of the room for bodies one request has."""

    size = 0


def _once(body: bytes) -> Receive:
    """What an application receives of a request that was read; it hears of no more."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        return {}

    return receive


async def _gone(receive: Receive) -> None:
    """Return when the peer has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _site_of(origin: str) -> str:
    """The host and port of an Origin header; of one that is no URL nothing, which is nobody's."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that do not match
        return ""


def _host_of(header: str) -> str:
    """The name in a Host header, without port and brackets."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
