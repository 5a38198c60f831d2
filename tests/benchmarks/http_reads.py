"""Reads a second of an HTTP server: python -m tests.benchmarks.http_reads PORT PATH COUNT.

A process of its own, over connections that are kept open, with as little work for each request as
can be: it must not be what is measured. Prints reads a second.
"""

import select
import socket
import sys
import time

__all__ = ["CONNECTIONS"]

CONNECTIONS = 32
RECEIVE_BYTES = 1 << 16


class Connection:
    """One request at a time; every answer says how long it is."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        self._received = b""

    def ask(self) -> None:
        self._received = b""
        self.socket.sendall(self._request)

    def is_answered(self) -> bool:
        """Whether, with what has come now, the answer is whole."""
        data = self.socket.recv(RECEIVE_BYTES)
        self._received += data
        head, whole, body = self._received.partition(b"\r\n\r\n")
        if not data or not head.startswith(b"HTTP/1.1 200"[: len(head)]):
            raise AssertionError(self._received)
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return bool(whole) and len(body) >= int(length)


def main(port: int, path: str, count: int) -> float:
    """Ask so often, over all connections at once."""
    connections = {}
    waiting = select.epoll()
    for _ in range(CONNECTIONS):
        one = Connection(port, path)
        connections[one.socket.fileno()] = one
        waiting.register(one.socket, select.EPOLLIN)
    asked = answered = 0
    began = time.perf_counter()
    for one in connections.values():
        one.ask()
        asked += 1
    while answered < asked:
        for number, _ in waiting.poll():
            if connections[number].is_answered():
                answered += 1
                if asked < count:
                    connections[number].ask()
                    asked += 1
    took = time.perf_counter() - began
    for one in connections.values():
        one.socket.close()
    return answered / took


if __name__ == "__main__":
    print(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
