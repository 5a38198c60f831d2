"""What routes have in common for the OpenAPI document: answers that are problems, the key."""

from typing import Annotated

from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter

from farm.gateway.problems import MEDIA_TYPE, ProblemBody
from farm.gateway.submitting import KEY_CHARS_MAX

__all__ = ["Key", "problems"]

REASONS = {
    400: "It is no HTTP request, or its body no JSON",
    401: "A token is asked for, and none is shown that is good here",
    403: "This needs the token of an admin",
    404: "There is no such task, job, queue or schedule, or it is kept no longer",
    408: "The body came too slowly",
    409: "Another call has this idempotency key; or the scheduler cannot do it",
    410: "The result went to the client that submitted the task, and is not kept",
    413: "The body, or the job, is too large",
    415: "The body is not sent as JSON",
    421: "The gateway is not called so",
    422: "A field is wrong: `field` says which",
    429: "This caller has too many tasks pending; `Retry-After` says when to come back",
    503: "The farm has no room, or cannot be reached; `Retry-After` says when to come back",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The answers of a route that are problems, for the OpenAPI document."""
    return {
        status: ResponseSpec(
            ProblemBody,
            description=REASONS[status],
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in sorted({400, 401, *statuses, 421})
    }


Key = Annotated[
    str,
    HeaderParameter(
        name="Idempotency-Key",
        max_length=KEY_CHARS_MAX,
        description="Of calls with one key, within a day, one runs, and the others end as it does:"
        " send the same key when you try again",
    ),
]
