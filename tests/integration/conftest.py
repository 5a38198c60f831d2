"""Fixtures of tests that open sockets and start processes."""

import socket

import pytest


@pytest.fixture
def free_address():
    """A function that returns a loopback TCP address of which this port and the next are free."""

    def find():
        for _ in range(100):
            with socket.create_server(("127.0.0.1", 0)) as first:
                port = first.getsockname()[1]
                try:
                    socket.create_server(("127.0.0.1", port + 1)).close()
                except (OSError, OverflowError):
                    continue
                return f"tcp://127.0.0.1:{port}"
        raise AssertionError("no two neighbouring ports are free")

    return find
