"""A network between hosts and a coordinator that can be cut without closing anything."""

import contextlib
import selectors
import socket
import threading

from tests.processes import free_ports

__all__ = ["Proxy"]


class Proxy:
    """Passes the connections to one port on to another, unless it is ``cut``."""

    def __init__(self, target):
        self.target = target
        self.cut = threading.Event()
        self._healed = threading.Condition()
        self._closing = False
        self._threads = []
        self._sockets = []
        self.port = free_ports() + 1  # an agent that is told of the one below connects to it
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept)

    def _start(self, run, *arguments):
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                self._sockets.append(near)
                self._start(self._carry, near)

    def _carry(self, near):
        with contextlib.suppress(OSError):
            self._wait()  # a connection that is made while it is cut gets no answer
            far = socket.create_connection(("127.0.0.1", self.target))
            self._sockets.append(far)
            selector = selectors.DefaultSelector()
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65_536)
                    self._wait()
                    if not data:
                        near.close()
                        far.close()
                        return
                    key.data.sendall(data)

    def _wait(self):
        with self._healed:
            self._healed.wait_for(lambda: self._closing or not self.cut.is_set())

    def heal(self):
        """Let everything through again, what was held back first."""
        with self._healed:
            self.cut.clear()
            self._healed.notify_all()

    def close(self):
        with self._healed:
            self._closing = True
            self._healed.notify_all()
        for one in (self.listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)
