"""The gateway as an ASGI application: the guard, and behind it the routes."""

import logging
import re
from copy import deepcopy
from functools import lru_cache
from time import perf_counter
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import ScalarRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.utils import normalize_path

from farm._version import __version__
from farm.gateway.entrance import Entrance
from farm.gateway.gateway import Gateway
from farm.gateway.guard import Guard
from farm.gateway.problems import MEDIA_TYPE, Problem
from farm.gateway.routes import ROUTES
from farm.gateway.routes_aggregates import AGGREGATE_ROUTES
from farm.gateway.routes_schedules import SCHEDULE_ROUTES
from farm.gateway.seat import Seat, seat_of
from farm.registry import registered

__all__ = ["Application"]

logger = logging.getLogger("farm.gateway")


class Application:
    """Answers HTTP requests, and counts them."""

    def __init__(self, gateway: Gateway) -> None:
        settings = gateway.settings
        self.routes = _routes(gateway)
        self._allowed = _allowed(self.routes)
        self._metrics = gateway.metrics
        self._aggregates = gateway.aggregates
        self._guard = Guard(
            self._route, Entrance(gateway), names=settings.names, max_body=settings.max_body
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        began, status = perf_counter(), LEFT
        # As the routes read it: who stands before them must not take //v1//x for something else.
        scope["path"] = normalize_path(scope["path"])

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._guard(scope, receive, sending)
        finally:
            route = _route_of(scope["path"])
            self._metrics.answered(_method(scope), route, status, perf_counter() - began)

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request that the guard has let through."""
        if scope["method"] == "GET" and (again := self._aggregates.again(scope)):
            start = {"type": "http.response.start", "status": again.status}
            await send(start | {"headers": again.headers})
            await send({"type": "http.response.body", "body": again.body})
            return
        if scope["method"] == "OPTIONS":  # the framework forgets one of two handlers of a path
            for path, methods in self._allowed:
                if path.fullmatch(scope["path"]):
                    headers = [(b"allow", methods.encode())]
                    await send({"type": "http.response.start", "status": 204, "headers": headers})
                    await send({"type": "http.response.body", "body": b""})
                    return
        await self.routes(scope, receive, send)


def _allowed(routes: Litestar) -> list[tuple[re.Pattern[str], str]]:
    """The methods of each path, as the header ``Allow`` has them."""
    paths = routes.openapi_schema.to_schema()["paths"]
    return [
        (re.compile(re.sub(r"\{.*?\}", "[^/]+", path)), ", ".join(sorted(map(str.upper, item))))
        for path, item in paths.items()
    ]


BEARER = SecurityScheme(
    type="http",
    scheme="bearer",
    description="The token that `farm keys new NAME --role client --http` prints",
)
LEFT = 499
"""What is counted for a peer that left before it was answered."""


def _routes(gateway: Gateway) -> Litestar:
    async def itself() -> Gateway:
        return gateway

    async def seat(request: Request[Any, Any, Any]) -> Seat:
        return seat_of(request.scope)

    return Litestar(
        [
            *ROUTES,
            *SCHEDULE_ROUTES,
            *AGGREGATE_ROUTES,
            openapi,
            *([docs] if gateway.settings.docs else []),
        ],
        dependencies={"gateway": Provide(itself), "seat": Provide(seat)},
        exception_handlers={
            Problem: _answer_problem,
            HTTPException: _answer_http,
            404: _answer_http,
            RecursionError: _answer_depth,
            Exception: _answer_bug,
        },
        openapi_config=OpenAPIConfig(
            title="Compute farm",
            version=__version__,
            description="Runs registered functions on a compute farm. Errors are"
            " `application/problem+json`.",
            render_plugins=[],
            components=Components(security_schemes={"bearer": BEARER}),
            # The empty one: as long as there are no tokens, none is asked for.
            security=[{"bearer": []}] if gateway.door.asks else [{}, {"bearer": []}],
        ),
        logging_config=None,
    )


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def openapi(request: Request[Any, Any, Any], gateway: Gateway) -> dict[str, Any]:
    """The description of all of this."""
    return _described(request, gateway)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def docs(request: Request[Any, Any, Any], gateway: Gateway) -> bytes:
    """A page that shows it; its script comes from the internet."""
    return ScalarRenderPlugin().render(request, _described(request, gateway))


def _described(request: Request[Any, Any, Any], gateway: Gateway) -> dict[str, Any]:
    """The OpenAPI document, with the names of the functions that there are, and what is open."""
    document = deepcopy(request.app.openapi_schema.to_schema())
    for path in gateway.door.open & document["paths"].keys():
        for operation in document["paths"][path].values():
            operation["security"] = []
    names = [one.name for one in registered()]
    for kind in ("TaskRequest", "JobRequest") if names else ():
        document["components"]["schemas"][kind]["properties"]["function"]["enum"] = names
    return document


def _answer(problem: Problem) -> Response[bytes]:
    return Response(
        problem.content(),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def _answer_problem(_request: Any, problem: Problem) -> Response[bytes]:
    return _answer(problem)


def _answer_depth(_request: Any, _error: RecursionError) -> Response[bytes]:
    return _answer(Problem(400, "the body is nested too deep"))


def _answer_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("%s %s: this is a bug", request.method, request.url.path, exc_info=error)
    return _answer(Problem(500, f"this is a mistake in farm: {error!r}; its log says more"))


PARAMETERS = {"begin": "from", "end": "to"}
"""What parameters are called in queries, where that is no name for Python."""


def _answer_http(_request: Any, error: Exception) -> Response[bytes]:
    """What the framework refuses by itself."""
    status = getattr(error, "status_code", 500)
    detail = str(getattr(error, "detail", error))
    if isinstance(error, ValidationException):
        cause = str(error.__cause__ or error)
        said, _, path = cause.partition(" - at `$.")
        field = path.rstrip("`").removeprefix("data").removeprefix(".")
        if not field and (found := re.search(r"field `(.*?)`", said)):
            field = found[1]
        if "RFC3339" in said:
            said += "; write 2026-03-08T02:30:00-05:00, or Z for UTC"
        field = PARAMETERS.get(field, field)
        return _answer(Problem(422, said[:1].lower() + said[1:], field=field or "body"))
    problem = Problem(status, "the body is no JSON: " + detail if status == 400 else detail)  # noqa: PLR2004
    response = _answer(problem)
    for name, value in (getattr(error, "headers", None) or {}).items():
        response.headers.setdefault(name, value)
    return response


def _method(scope: Any) -> str:
    known = {"GET", "POST", "DELETE", "HEAD", "OPTIONS"}
    return str(scope["method"]) if scope["method"] in known else "other"


# Few labels, whatever callers ask for.
_LABELS = [
    (re.compile(pattern), label)
    for pattern, label in (
        (r"/v1/(tasks|jobs)", r"/v1/\1"),
        (r"/v1/(tasks|jobs)/[^/]+", r"/v1/\1/{id}"),
        (r"/v1/jobs/[^/]+/(tasks|events)", r"/v1/jobs/{id}/\1"),
        (r"/v1/aggregates", "/v1/aggregates"),
        (r"/v1/aggregates/[^/]+", "/v1/aggregates/{name}"),
        (r"/v1/aggregates/[^/]+/manifest", "/v1/aggregates/{name}/manifest"),
        (r"/v1/aggregates/[^/]+/nodes/[^/]+", "/v1/aggregates/{name}/nodes/{key}"),
        (r"/v1/schedules", "/v1/schedules"),
        (r"/v1/schedules/[^/]+", "/v1/schedules/{name}"),
        (r"/v1/schedules/[^/]+/(history|pause|resume|run|backfill)", r"/v1/schedules/{name}/\1"),
        (r"/v1/(functions|status|hosts|queues)", r"/v1/\1"),
        (r"/v1/queues/[^/]+/(pause|resume|purge)", r"/v1/queues/{name}/\1"),
        (r"/health/(live|ready)", r"/health/\1"),
        (r"/(metrics|openapi\.json|docs)", r"/\1"),
    )
]


@lru_cache(maxsize=1024)
def _route_of(path: str) -> str:
    """The route of a path, as a label."""
    for pattern, label in _LABELS:
        if found := pattern.fullmatch(path.rstrip("/")):
            return found.expand(label)
    return "other"
