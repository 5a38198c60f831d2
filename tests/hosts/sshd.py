"""A real sshd on the loopback, with keys of its own, in a temporary folder."""

import getpass
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.processes import free_ports
from tests.tools import find

__all__ = ["Sshd"]

RUN = Path("/run/sshd")
"""Where an sshd of root separates its privileges; it makes no sense of its own."""
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
SetEnv {environ}
"""


class Sshd:
    """Runs until ``stop``; ``options`` are what `ssh_options` need to reach it."""

    def __init__(self, folder):
        missing = [name for name in ("ssh", "sshd", "ssh-keygen") if find(name) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} is not there (python -m tests.tools installs it)")
        self.folder = folder
        folder.mkdir()
        if not os.geteuid():
            RUN.mkdir(mode=0o755, exist_ok=True)
        self.identity = folder / "user"
        for name in ("host", "user", "stranger"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
        self.port = free_ports()
        self.known = folder / "known"
        self.know("host")
        self.state = folder / "state"
        self._start()

    def know(self, name):
        """Let clients know the host by this key."""
        key = (self.folder / f"{name}.pub").read_text()
        self.known.write_text(f"[127.0.0.1]:{self.port} {key}")

    @property
    def options(self):
        return [f"UserKnownHostsFile={self.known}", "GlobalKnownHostsFile=/dev/null"]

    def defaults(self, **more):
        """What a file of hosts says, to reach it."""
        return {
            "ssh": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "identity": str(self.identity),
            "ssh_options": self.options,
        } | more

    def _start(self):
        paths = [REPOSITORY / name for name in ("", "workers", "scheduler")]
        environ = {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "XDG_STATE_HOME": str(self.state),
            "XDG_CONFIG_HOME": str(self.state),
        }
        text = " ".join(f"{name}={value}" for name, value in environ.items())
        config = self.folder / "config"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder, environ=text))
        self.process = subprocess.Popen(
            [find("sshd"), "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "Server listening" in line:
                return
        pytest.fail(f"sshd does not start: {''.join(said)}")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.process.stderr.close()
