"""Many small argument lists as one flat list: what pickles fastest and shares nothing."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

__all__ = ["flatten", "is_unsharing", "unflatten"]

Flat = tuple[int, list[Any]]
"""How many arguments each item has, and the arguments of all items, one after the other."""


def is_unsharing(values: Sequence[Any], atoms: frozenset[Any]) -> bool:
    """Whether nothing in these can be changed, so that sharing parts goes unnoticed."""
    kinds = set(map(type, values))
    if kinds <= atoms:
        return True
    tuples = (value for value in values if type(value) is tuple)
    return kinds <= atoms | {tuple} and set(map(type, chain.from_iterable(tuples))) <= atoms


def flatten(items: Sequence[Any], atoms: frozenset[Any]) -> Flat | None:
    """Tuples of one length whose parts are all of the types ``atoms``; None if they are not."""
    if set(map(type, items)) != {tuple}:
        return None
    lengths = set(map(len, items))
    flat = list(chain.from_iterable(items))
    if len(lengths) != 1 or not flat or not set(map(type, flat)) <= atoms:
        return None
    return lengths.pop(), flat


def unflatten(length: int, flat: list[Any]) -> list[tuple[Any, ...]]:
    """The tuples that ``flatten`` took apart."""
    parts = iter(flat)
    return list(zip(*[parts] * length, strict=True))
