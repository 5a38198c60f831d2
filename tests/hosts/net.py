"""A network of its own: namespaces joined by a bridge, for processes that have real addresses.

Everything is in namespaces, the bridge as well: nothing of it is in the machine's own network, runs
do not see each other, and the deletion of the namespaces removes all. Their names have the process
id of who made them; a keeper, a process that outlives a SIGKILL of the maker, deletes them.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["Network", "why_not"]

PREFIX = "farmtest"
NAMESPACES = Path("/run/netns")
SUBNET = "10.77.0"
HUB = "hub"


def why_not():
    """Why namespaces cannot be made here; empty if they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if missing := [tool for tool in ("ip", "nsenter", "unshare") if not shutil.which(tool)]:
        return f"there is no {missing[0]!r}: install iproute2 and util-linux"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(2)}-try"
    made = _ip("netns", "add", name, check=False)
    if made.returncode == 0:
        made = _ip("-n", name, "link", "add", "name", "try", "type", "bridge", check=False)
        _ip("netns", "del", name)
    return f"namespaces cannot be made: {made.stderr.strip()}" if made.returncode else ""


class Network:
    """Namespaces by short names, each with an address; a context that removes them.

    ``hosts`` is the file that processes in the namespaces have as ``/etc/hosts``.
    """

    def __init__(self, folder):
        self._run = f"{PREFIX}{os.getpid()}-{secrets.token_hex(2)}"
        self._keeper = None
        self.addresses = {}
        self.hosts = Path(folder) / "etc-hosts"
        self.name_them({})

    def __enter__(self):
        _sweep()
        # It reads until this process is gone, and then does what __exit__ would have done.
        script = f"import sys; sys.stdin.read(); from {__name__} import remove; remove(sys.argv[1])"
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", script, self._run], stdin=subprocess.PIPE, start_new_session=True
        )
        hub = self._add(HUB)
        _ip("-n", hub, "link", "add", "name", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "dev", "bridge", "up")
        return self

    def __exit__(self, *_):
        self._keeper.communicate()

    def add(self, name, number):
        """A namespace with the address of this number, and a link named ``name`` at the hub."""
        space, hub = self._add(name), self.space(HUB)
        link = ("link", "add", "name", name, "type", "veth", "peer", "name", "eth", "netns", space)
        _ip("-n", hub, *link)
        _ip("-n", hub, "link", "set", "dev", name, "master", "bridge", "up")
        _ip("-n", space, "link", "set", "dev", "eth", "up")
        self.set_address(name, number)

    def set_address(self, name, number):
        """Give a namespace this address in place of the one that it had."""
        space = self.space(name)
        _ip("-n", space, "addr", "flush", "dev", "eth")
        address = self.addresses[name] = f"{SUBNET}.{number}"
        _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth")

    def name_them(self, names):
        """What the names of machines mean from now on: addresses by name."""
        lines = ["127.0.0.1 localhost", *(f"{names[name]} {name}" for name in names)]
        # In place: it is mounted over another, and a new file would not be seen there.
        self.hosts.write_text("\n".join(lines) + "\n")

    def command(self, name, command):
        """This command in that namespace; it becomes the process itself."""
        mount = f"mount --bind {self.hosts} /etc/hosts && exec " + '"$@"'
        enter = ["nsenter", f"--net={NAMESPACES / self.space(name)}", "unshare", "--mount"]
        return [*enter, "sh", "-c", mount, "sh", *command]

    def link(self, name, *, up):
        """Plug a cable in, or pull it out at the hub."""
        _ip("-n", self.space(HUB), "link", "set", "dev", name, "up" if up else "down")

    def blackhole(self, name, address, *, on):
        """Whether what ``name`` sends to an address vanishes; the other direction is as it was."""
        route = ("route", "replace" if on else "del", "blackhole", f"{address}/32")
        _ip("-n", self.space(name), *route, check=on)

    def space(self, name):
        """The full name of a namespace."""
        return f"{self._run}-{name}"

    def _add(self, name):
        space = self.space(name)
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "dev", "lo", "up")
        return space


def remove(prefix):
    """End what runs in the namespaces whose names begin so, and delete them."""
    for path in sorted(NAMESPACES.glob(f"{prefix}-*")):
        found = _ip("netns", "pids", path.name, check=False).stdout.split()
        for pid in map(int, found):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _ip("netns", "del", path.name, check=False)


def _sweep():
    """Remove what is left of makers that are gone, should their keepers be gone with them."""
    for path in NAMESPACES.glob(f"{PREFIX}*-*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            remove("-".join(path.name.split("-")[:3]))


def _ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done
