"""The routes about aggregates."""

from time import time
from typing import Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from farm.gateway.aggregates import cache_control
from farm.gateway.describing import problems
from farm.gateway.gateway import Gateway

__all__ = ["AGGREGATE_ROUTES"]

Name = Annotated[str, PathParameter(description="An aggregate: `GET /v1/aggregates`")]
Version = Annotated[
    int | None, QueryParameter(ge=1, le=2**53, description="A version; default: the newest")
]
Match = Annotated[
    str,
    HeaderParameter(name="If-None-Match", max_length=200, description="An ETag that is known"),
]
OURS = {"version", "as_of"}
FOREVER = "max-age=31536000, immutable"


class Aggregates(Controller):
    """Answers that were computed before anybody asked."""

    path = "/v1/aggregates"
    tags = ["aggregates"]  # noqa: RUF012 - as the framework has it

    @get(responses=problems(404, 422, 503), summary="List the aggregates")
    async def all(self, gateway: Gateway) -> list[dict[str, Any]]:
        """What is published: versions, how old they are, and whether they are complete."""
        return await gateway.aggregates.all()

    @get("/{name:str}", responses=problems(404, 410, 422, 503), summary="Read an aggregate")
    async def read(
        self,
        request: Request[Any, Any, Any],
        name: Name,
        gateway: Gateway,
        version: Version = None,
        as_of: Annotated[
            str | None,
            QueryParameter(max_length=64, description="What was served then, as ISO writes it"),
        ] = None,
        if_none_match: Match = "",
    ) -> Response[Any]:
        """One group, named by its columns and a window: `?channel=%23en&hour=2015-09-12T13`.

        Without any, what the aggregate is kept by, and its versions. The ETag is the version.
        """
        where = {key: value for key, value in request.query_params.items() if key not in OURS}
        if not where:
            return Response(await gateway.aggregates.describe(name))
        stamp = gateway.aggregates.stamp(name)
        found = await gateway.aggregates.read(name, where, version, as_of)
        if version is None and as_of is None:
            gateway.aggregates.keep(request.scope, name, stamp, found)
        etag = f'"{found.version}"'
        headers = {"etag": etag, "cache-control": cache_control(found.until, time())}
        if etag in if_none_match:
            return Response(None, status_code=304, headers=headers)
        return Response(found.data, headers=headers)

    @get(
        "/{name:str}/manifest",
        responses=problems(404, 410, 422, 503),
        summary="Fetch a version",
        media_type="application/octet-stream",
    )
    async def manifest(
        self, name: Name, gateway: Gateway, version: Version = None
    ) -> Response[bytes]:
        """What a version is made of, for readers that keep it: `farm_scheduler.open(NAME)`."""
        number, as_of, data = await gateway.aggregates.manifest(name, version)
        headers = {"etag": f'"{number}"', "x-as-of": f"{as_of:.3f}"}
        if version is not None:
            headers["cache-control"] = FOREVER
        return Response(data, headers=headers, media_type="application/octet-stream")

    @get(
        "/{name:str}/nodes/{key:str}",
        responses=problems(404, 410, 422, 503),
        summary="Fetch a part of a version",
        media_type="application/octet-stream",
    )
    async def node(
        self,
        name: Name,
        key: Annotated[str, PathParameter(description="A key, as a manifest has it")],
        gateway: Gateway,
    ) -> Response[bytes]:
        """Never changes: what is known by its content can be kept for ever."""
        data = await gateway.aggregates.node(key)
        headers = {"cache-control": FOREVER}
        return Response(data, headers=headers, media_type="application/octet-stream")


AGGREGATE_ROUTES: list[Any] = [Aggregates]
"""For the application."""
