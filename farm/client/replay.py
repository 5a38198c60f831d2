"""The call of a task, made again here."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from farm.errors import FarmError, UnknownTask
from farm.model import Token
from farm.payload import load_call, load_function, open_items
from farm.protocol.messages import Group
from farm.task import TaskContext, set_source

if TYPE_CHECKING:
    from farm.client.client import Client

__all__ = ["Call", "fetch_call"]

_groups = msgspec.msgpack.Decoder(Group)


class Call(NamedTuple):
    """A function and its arguments; ``item`` as in ``farm.current_task()``."""

    task: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    item: int

    def run(self) -> Any:
        """Make the call, as the current task of this process; raises what it raises."""
        context = TaskContext(self.task, self.item, 1, Token(0, 0), None, report=lambda *_: None)
        set_source(lambda: context)
        try:
            return self.function(*self.args, **self.kwargs)
        finally:
            set_source(None)


def fetch_call(client: "Client", task: str) -> Call:
    """What a task calls, opened in this process.

    Raises ``UnknownTask`` if the farm does not have its arguments (any more), ``PayloadError`` if
    they cannot be opened here.
    """
    try:
        found: Any = client.query("call", id=task)
        function: Any = client.query("function", id=task)
    except FarmError as error:
        raise UnknownTask(str(error)) from None
    group = _groups.decode(found["group"])
    made = load_function(function["data"])
    kwargs: dict[str, Any] = {}
    if group.packed:
        (args,), bare = open_items(group.payloads[0], group.start, group.start + 1)
        args = (args,) if bare else args
    else:
        args, kwargs = load_call(group.payloads[0])
    return Call(task, function["name"], made, args, kwargs, group.start)
