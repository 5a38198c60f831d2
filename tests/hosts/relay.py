"""A TCP relay whose connections can be stalled, slowed and reset: ``python -m tests.hosts.relay``.

``relay PARENT PORT=HOST:PORT …`` listens on each port and passes on what comes. It is told what to
do with a port by lines on its stdin: ``PORT pass``, ``PORT stall`` (nothing is read in either
direction, and new connections are accepted and stay silent), ``PORT slow`` or ``PORT reset``.
"""

import asyncio
import contextlib
import os
import sys

from farm.parent import watch_parent

__all__ = ["main"]

PIECE_BYTES = 1 << 16
SLOW_BYTES, SLOW_SECONDS = 4096, 0.02
"""Slow is so many bytes at a time with so long between: 200 KB a second, and 20 ms late."""


class Port:
    """One port: where it leads, and what is done with what passes."""

    def __init__(self, host, port):
        self._to = host, port
        self._open = asyncio.Event()
        self._open.set()
        self._slow = False
        self._writers = set()

    def be(self, mode):
        self._slow = mode == "slow"
        if mode == "stall":
            self._open.clear()
        else:
            self._open.set()
        if mode == "reset":
            for writer in self._writers:
                writer.transport.abort()

    async def serve(self, reader, writer):
        await self._open.wait()
        try:
            there, back = await asyncio.open_connection(*self._to)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, back}
        self._writers |= pair
        passing = [self._pass(reader, back), self._pass(there, writer)]
        try:
            await asyncio.wait(
                [asyncio.ensure_future(one) for one in passing],
                return_when=asyncio.FIRST_COMPLETED,
            )
            await self._open.wait()
        finally:
            self._writers -= pair
            for one in pair:
                one.close()

    async def _pass(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(SLOW_BYTES if self._slow else PIECE_BYTES):
                if self._slow:
                    await asyncio.sleep(SLOW_SECONDS)
                await self._open.wait()
                writer.write(data)
                await writer.drain()


async def relay(words):
    ports = {}
    for word in words:
        port, _, target = word.partition("=")
        host, _, to = target.rpartition(":")
        ports[port] = Port(host, int(to))
        await asyncio.start_server(ports[port].serve, "0.0.0.0", int(port))
    orders = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(orders)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await orders.readline():
        port, mode = line.decode().split()
        ports[port].be(mode)


def main(arguments):
    parent, *words = arguments
    watch_parent(lambda: os._exit(1), None, int(parent))
    asyncio.run(relay(words))


if __name__ == "__main__":
    main(sys.argv[1:])
