"""Tools of the system that some tests need: python -m tests.tools installs those that are missing.

Only as root, and where there is ``apt-get``; a test whose tool is missing skips, and says so. What
is installed is not started: nobody has asked for a service.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["SBIN", "TOOLS", "find"]

# By the name of the program: the package that has it.
TOOLS = {
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "initdb": "postgresql",
    "postgres": "postgresql",
}
SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
POLICY = Path("/usr/sbin/policy-rc.d")
START_NOTHING = "#!/bin/sh\nexit 101\n"
INSTALL = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"]


def find(name):
    """Where a program is; None if it is not there."""
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join([SBIN, *versions]))


def main():
    missing = sorted({package for tool, package in TOOLS.items() if find(tool) is None})
    if not missing:
        return
    if os.geteuid() or find("apt-get") is None:
        sys.stderr.write(f"tests that need {', '.join(missing)} will skip: only root installs it\n")
        return
    sys.stderr.write(f"installing {', '.join(missing)} for tests\n")
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text(START_NOTHING, "ascii")
        POLICY.chmod(0o755)
    try:
        for command in (["apt-get", "update", "--quiet"], [*INSTALL, *missing]):
            subprocess.run(
                command,
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=False,
            )
    finally:
        if ours:
            POLICY.unlink()
    for tool, package in TOOLS.items():
        if find(tool) is None:
            sys.stderr.write(f"tests that need {tool} will skip: {package} could not be had\n")


if __name__ == "__main__":
    main()
