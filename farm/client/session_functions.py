"""The functions that the tasks of a session use, and which of them a coordinator was sent."""

from collections.abc import Callable, Iterable

from farm.protocol.messages import Function

__all__ = ["FUNCTIONS_MAX", "Functions"]

FUNCTIONS_MAX = 256
"""Functions kept; above that, those that no kept task uses are dropped."""


class Functions:
    """``in_use`` says whose functions cannot be dropped, by their hashes."""

    def __init__(self, in_use: Callable[[], Iterable[bytes]]) -> None:
        self._in_use = in_use
        self._kept: dict[bytes, Function] = {}
        self._kept_max = FUNCTIONS_MAX
        self._told: set[bytes] = set()  # hashes that a coordinator was sent; it asks if it forgot

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, functions: Iterable[Function]) -> None:
        """Have these as well; their tasks are in use when this is called again."""
        if len(self._kept) > self._kept_max:
            used = set(self._in_use())
            self._kept = {key: one for key, one in self._kept.items() if key in used}
            self._told.intersection_update(self._kept)
            # Doubled while so many are in use, so that looking costs a constant share of adding.
            self._kept_max = max(FUNCTIONS_MAX, 2 * len(self._kept))
        for function in functions:
            self._kept[function.hash] = function

    def tell(self, key: bytes, send: Callable[[Function], None]) -> None:
        """Send one, unless a coordinator was sent it."""
        if key not in self._told:
            send(self._kept[key])
            self._told.add(key)

    def lacking(self, keys: Iterable[bytes]) -> None:
        """The coordinator does not have these, whatever it was sent."""
        self._told.difference_update(keys)
