"""Commands and services of the farm as processes that have imported already.

A tenth of a second and more goes by before `python -m farm` knows what it was asked, and the suite
asks it some hundreds of times. So one process imports the farm and is forked for each: the copy
has the folder, the environment, the search path, the descriptors and the command line that it was
told, runs the module as ``__main__`` and ends as any interpreter does. Its exit code is told by
the process that forked it and waits for it.

What a process imports before it is forked can be chosen: a service of a farm finds no more than
its own (``tests/forked_services.py``).
"""

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

__all__ = ["Adopted", "Forked", "parents", "run"]

REPOSITORY = Path(__file__).resolve().parents[1]
PATHS = [str(REPOSITORY / name) for name in ("", "workers", "scheduler")]
IMPORTS = (
    *("farm.cli.main", "farm.client.client", "farm.config", "farm.local"),
    *("farm.coordinator.service", "farm_workers.service"),
    # What most commands load when they are asked something.
    *("farm.keys.store", "farm.transport.proof", "farm_scheduler.freshness"),
    *("farm_scheduler.settings", "pickletools", "tests.forked_services"),
)
NUMBER = struct.Struct("i")
STANDARD = 3
"""Descriptors 0, 1 and 2."""
GIVEN_MAX = 16
"""Descriptors that one process can be given."""
REQUEST_BYTES_MAX = 1 << 20
LINKS = 100
"""The first descriptor of those under which a process has links."""
NAP_SECONDS = 0.0005

_asking = threading.Lock()
_links = {}
"""Sockets to those that are forked, by what they have imported."""
_parents = set()
"""Their process ids, if they are of this process."""


class Forked:
    """A module that runs as a process of its own; it is used as ``subprocess.Popen`` is.

    The first of the words may be a file instead, and ``imports`` are the modules that the process
    it is forked from has imported. ``pass_fds`` and ``start_new_session`` are those of ``Popen``.
    With ``links`` to processes that have imported this and that, it can fork them as well, and does
    so with the services of a farm.
    """

    is_adopted = False

    def __init__(
        self,
        words,
        *,
        cwd,
        env,
        stdin=None,
        stdout,
        stderr,
        pass_fds=(),
        start_new_session=False,
        imports=IMPORTS,
        links=(),
    ):
        self._told, theirs = socket.socketpair()
        self.args = words
        self.returncode = None
        self.stdin, given_in = _pipe(stdin, "w") if stdin else (None, os.open(os.devnull, 0))
        self.stdout, given_out = _pipe(stdout, "r")
        self.stderr, given_err = _pipe(stderr, "r")
        given = [given_in, given_out, given_err]
        numbers = [*range(STANDARD), *pass_fds, *range(LINKS, LINKS + len(links))]
        told = [words, str(cwd), env, numbers, start_new_session, links, self.is_adopted]
        with theirs, _asking:
            fds = [*given, *pass_fds, *(_link(one).fileno() for one in links), theirs.fileno()]
            socket.send_fds(_link(imports), [json.dumps(told).encode()], fds)
        for descriptor, kind in zip(given, (None, stdout, stderr), strict=True):
            if kind in {None, subprocess.PIPE}:
                os.close(descriptor)
        self.pid = self._hear()

    def poll(self):
        """Its exit code, or None while it runs."""
        return self._look(0)

    def wait(self, timeout=None):
        """Its exit code, once it has ended."""
        if self._look(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number):
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds):
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            self.returncode = self._hear()
            self._told.close()
        return self.returncode

    def _hear(self):
        """The next number that is told: its process id, then its exit code."""
        (number,) = NUMBER.unpack(self._told.recv(NUMBER.size, socket.MSG_WAITALL))
        return number


class Adopted(Forked):
    """The same as a child of this process, which has to adopt orphans; Linux only."""

    is_adopted = True

    def _look(self, seconds):
        if self.returncode is None:
            ended = os.pidfd_open(self.pid)
            select.select([ended], [], [], seconds)
            os.close(ended)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                self._told.close()
        return self.returncode


def parents():
    """The process ids of those that are forked: they are nobody's to end."""
    return frozenset(_parents)


def run(words, *, cwd, env, timeout):
    """Run a module to its end, with nothing on its standard input."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Forked(words, cwd=cwd, env=env, stdout=out, stderr=err)
        try:
            process.wait(timeout)
        finally:
            process.kill()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(words, process.returncode, *said)


def _pipe(kind, mode):
    """This end as a file, if it is a pipe, and the descriptor to give away."""
    if kind is not subprocess.PIPE:
        return None, kind if isinstance(kind, int) else kind.fileno()
    reads, writes = os.pipe()
    ours, theirs = (reads, writes) if mode == "r" else (writes, reads)
    return os.fdopen(ours, mode), theirs


def _link(imports):
    """The socket to the process that is forked, which ends with all that have the socket.

    A request is one message, for several may ask.
    """
    if imports not in _links:
        _links[imports] = _begin(imports)
    return _links[imports]


def _begin(imports):
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", str(theirs.fileno()), *imports],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(PATHS)},
        )

    _parents.add(process.pid)

    def end():
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _asked(asks):
    """What was asked, and the descriptors for it: returns in copies of this process alone."""
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        head, given, _, _ = socket.recv_fds(asks, REQUEST_BYTES_MAX, GIVEN_MAX)
        if not head:
            sys.exit()
        *request, is_adopted = json.loads(head)
        if not os.fork():
            asks.close()
            told = socket.socket(fileno=given.pop())
            keeper = os.getpid()
            if not (pid := os.fork()):
                told.close()
                while is_adopted and os.getppid() == keeper:
                    time.sleep(NAP_SECONDS)
                return request, given
            _keep(pid, told, given, is_adopted=is_adopted)
        for descriptor in given:
            os.close(descriptor)


def _keep(pid, told, given, *, is_adopted):
    """Say which process it is, and how it ends; an orphan is adopted by whoever does that."""
    for descriptor in given:
        os.close(descriptor)
    told.sendall(NUMBER.pack(pid))
    if is_adopted:
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        told.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _become(words, folder, environ, numbers, is_leader, links, given):
    """Be the interpreter that was asked for, as far as its module can tell."""
    _have(given, numbers)
    if links:
        from tests import forked, forked_services  # noqa: PLW0406 - this one is __main__

        for number, imports in enumerate(links, LINKS):
            os.set_inheritable(number, False)
            forked._links[tuple(imports)] = socket.socket(fileno=number)
        forked_services.begin_forked(setattr)
    if is_leader:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = environ.get("PYTHONPATH", "").split(os.pathsep)
    own = [path for path in sys.path if path not in PATHS]
    is_file = words[0].endswith(".py")
    first = str(Path(words[0]).parent) if is_file else folder
    sys.path[:] = [first, *filter(None, paths), *own]
    sys.argv[:] = words
    if is_file:
        runpy.run_path(words[0], run_name="__main__")
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _have(given, numbers):
    """Have the descriptors under these numbers; one may have the number of another by now."""
    lifted = [fcntl.fcntl(one, fcntl.F_DUPFD, max(numbers) + 1) for one in given]
    for one in given:
        os.close(one)
    for one, number in zip(lifted, numbers, strict=True):
        os.dup2(one, number)
        os.close(one)


def _main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in sys.argv[2:]:
        import_module(name)
    gc.freeze()
    request, given = _asked(socket.socket(fileno=int(sys.argv[1])))
    _become(*request, given)


if __name__ == "__main__":
    _main()
