"""The fork server and its agent: neither waits for the other to listen."""

import socket
import subprocess
import sys

from farm_workers.forkstart import ANSWER, ASK, EXIT_FORK, Ask

PATIENCE = 20.0
MANY = 1000
WITHOUT_PROCESSES = """\
import os

from farm_workers import forkserver


def fork():
    raise OSError("no more processes")


os.fork = fork
forkserver.main({fd}, "{{}}")
"""


def test_an_agent_may_ask_for_many_workers_before_it_hears_of_any():
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with theirs:
        script = WITHOUT_PROCESSES.format(fd=theirs.fileno())
        server = subprocess.Popen([sys.executable, "-c", script], pass_fds=[theirs.fileno()])
    with server, ours:
        ours.settimeout(PATIENCE)
        for slot in range(MANY):
            ours.sendall(ASK.pack(Ask.SPAWN, slot))
        heard = [ANSWER.unpack(ours.recv(ANSWER.size, socket.MSG_WAITALL)) for _ in range(MANY)]
        assert heard == [(slot, 0, EXIT_FORK, 0) for slot in range(MANY)]
        ours.close()
        assert server.wait(PATIENCE) == 0
