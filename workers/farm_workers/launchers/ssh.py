"""The command line of ``ssh`` for a host, what the agent there is told, and why a run ended.

Everything that may be secret is in ``Start``, which travels over standard input.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import msgspec

from farm.errors import ConfigError
from farm.resources import label_table
from farm_workers.launchers.hosts import HostEntry
from farm_workers.launchers.orders import LINE_BYTES_MAX, Start

__all__ = ["SSH_FAILED", "TOKEN", "Why", "command", "start_line", "start_of", "why_ended"]

TOKEN = "FARM_TOKEN"  # noqa: S105 - the name of a variable
MODULE = "farm_workers.launchers.remote"
OPTIONS = (
    "BatchMode=yes",  # nobody is there to be asked
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ControlPath=none",  # a connection of its own: it ends when this one does
)

NOT_FOUND, NOT_EXECUTABLE = 127, 126
SSH_FAILED = 255
USAGE = 2


def command(entry: HostEntry, folder: Path) -> list[str]:
    """How ``ssh`` is started; paths in the file are seen from ``folder``."""
    words = ["ssh", "-T"]
    for option in (*entry.ssh_options, *OPTIONS):  # the first that is said counts
        words += ["-o", option]
    if entry.identity:
        words += ["-i", str(folder / Path(entry.identity).expanduser())]
        words += ["-o", "IdentitiesOnly=yes"]
    if entry.port:
        words += ["-p", str(entry.port)]
    if entry.user:
        words += ["-l", entry.user]
    return [*words, "--", entry.target, f"exec {_python(entry)} -P -m {MODULE}"]


def _python(entry: HostEntry) -> str:
    """The Python there, as every shell understands it."""
    path = f"{entry.venv.rstrip('/')}/bin/python" if entry.venv else entry.python or "python3"
    if path.startswith("~/"):
        return '"$HOME"/' + shlex.quote(path[2:])
    return shlex.quote(path)


def start_of(entry: HostEntry, address: str, token: str) -> Start:
    """What the agent is told; ``address`` is for hosts that have none of their own."""
    settings = {
        "address": entry.address or address,
        "name": entry.name,
        "slots": entry.slots or None,
        "labels": label_table(entry.labels, f"hosts.{entry.name}.labels"),
        "resources": entry.resources,
        "packages": entry.packages,
        "preload": entry.preload,
        "imports": entry.modules,
        "grace_seconds": entry.grace or None,
        "kill_seconds": entry.kill_after,
        "max_lent": entry.max_lent or None,
        "max_tasks_per_worker": entry.max_tasks_per_worker,
        "max_memory_per_worker": entry.max_memory_per_worker,
    }
    secret = {TOKEN: token} if token else {}
    return Start(
        settings=settings,
        directory=entry.directory,
        environment=entry.environment | secret,
        linger=None if entry.detach else entry.linger,
    )


def start_line(start: Start) -> bytes:
    """As it travels; raises ``ConfigError`` if it is too much."""
    line = msgspec.json.encode(start) + b"\n"
    if len(line) > LINE_BYTES_MAX:
        raise ConfigError(
            f"host {start.settings['name']}: what is said of it has {len(line)} bytes; there may be"
            f" {LINE_BYTES_MAX}"
        )
    return line


class Why(NamedTuple):
    """Why ``ssh`` has ended, and what to do. ``again``: trying again may help by itself."""

    text: str
    again: bool


# What ssh says, and what is to be done; "{host}" is where it connects.
_SAYINGS: dict[str, Why] = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": Why(
        "its host key is not the one that is known: it was installed anew, or somebody poses as"
        " it; if you know why, remove the old key with `ssh-keygen -R {host}`",
        again=False,
    ),
    "Host key verification failed": Why(
        "its host key is not known here: connect once with `ssh {host}` and compare it, or add it"
        " to known_hosts",
        again=False,
    ),
    "Permission denied": Why(
        "it refuses the login: check user and identity, and that the public key stands in"
        " authorized_keys there",
        again=False,
    ),
    "Too many authentication failures": Why(
        "it refuses the login after too many keys: say which one with identity", again=False
    ),
    "UNPROTECTED PRIVATE KEY FILE": Why(
        "others can read the private key: chmod 600 it", again=False
    ),
    "Bad configuration option": Why(
        "ssh does not know one of its options: see ssh_options", again=False
    ),
    "Could not resolve hostname": Why(
        "its name cannot be resolved: check ssh, or the name of the table", again=True
    ),
    "Connection refused": Why(
        "nothing answers at its ssh port: is sshd running, and port right?", again=True
    ),
    "No route to host": Why("it cannot be reached: is it on, and on this network?", again=True),
    "Network is unreachable": Why(
        "it cannot be reached: is this machine on the network?", again=True
    ),
    "timed out": Why(
        "it does not answer: is it on, and does a firewall let ssh through?", again=True
    ),
    "Connection closed by": Why("sshd there closes the connection: see its log", again=True),
    "kex_exchange_identification": Why("sshd there closes the connection: see its log", again=True),
}
_NO_FARM = re.compile(r"No module named '?(farm_workers|farm)\b")
_NO_MODULE = re.compile(r"No module named '?([A-Za-z_][\w.]*)")


def why_ended(entry: HostEntry, code: int, lines: list[str], *, began: bool) -> Why:
    """Why ``ssh`` has ended with this code and these last lines on its standard error.

    ``began``: the agent was there.
    """
    said = "\n".join(lines)
    if not began:
        if code == SSH_FAILED:
            for text, why in _SAYINGS.items():
                if text in said:
                    return why._replace(text=why.text.format(host=entry.target))
        if what := _why_not_begun(entry, code, said):
            return Why(what, again=False)
    last = next((line for line in reversed(lines) if line.strip()), "")
    told = f": {last.strip()[:300]}" if last else ""
    if code == SSH_FAILED:
        what = "the connection ended, or the agent was killed" if began else "ssh could not connect"
        return Why(what + told, again=True)
    return Why(f"the agent ended with code {code}{told}", again=True)


def _why_not_begun(entry: HostEntry, code: int, said: str) -> str:
    python = f"{entry.venv.rstrip('/')}/bin/python" if entry.venv else entry.python or "python3"
    if code in {NOT_FOUND, NOT_EXECUTABLE}:
        return (
            f"there is no {python} that could be run: install it there, or say where it is with"
            " venv or python"
        )
    if _NO_FARM.search(said):
        return (
            f"{python} there has no farm, or one too old to be launched: run"
            f" `{python} -m pip install --upgrade compute-farm` there"
        )
    if code == USAGE and "nknown option" in said:
        return f"{python} there is older than 3.11, and farm needs that: say another with python"
    if found := _NO_MODULE.search(said):
        return f"{python} there lacks the module {found[1]}: install compute-farm there again"
    return ""
