"""Running dead tasks again."""

from typing import TYPE_CHECKING, Any

import msgspec

from farm.client.future import Future
from farm.errors import FarmError
from farm.protocol.messages import Function, Group

if TYPE_CHECKING:
    from farm.client.client import Client

__all__ = ["retry_dead"]

ACCEPT_SECONDS = 30.0
_groups = msgspec.msgpack.Decoder(Group)


def retry_dead(client: "Client", task: str) -> Future[Any]:
    """Submit a dead task's call again, as a new task with the same options, and forget the dead.

    The dead one is forgotten when the new one is accepted: if this process ends in between, both
    are there, and the call may run once more. Raises ``FarmError`` if there is no such dead task.
    """
    found: Any = client.query("dead_task", id=task)
    function: Any = client.query("function", id=task)
    group = _groups.decode(found["group"])
    future = client.connection.submit_again(group, Function(**function))
    if not client.connection.wait_acknowledged(ACCEPT_SECONDS):
        raise FarmError(f"the farm has not accepted task {future.id}, which is to replace {task}")
    client.query("drop_dead", ids=[task])
    return future
