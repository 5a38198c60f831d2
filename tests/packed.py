"""Packed payloads, opened for tests the way that clients and workers do it by halves."""

from farm.payload import open_items, open_values

__all__ = ["load_items", "load_values"]


def load_items(data, start=0, stop=None):
    """The items as tuples of arguments, bare or not."""
    items, bare = open_items(data, start, stop)
    return [(item,) for item in items] if bare else items


def load_values(data):
    """The values, each of them loaded."""
    values, load = open_values(data)
    return list(map(load, values)) if load else values
