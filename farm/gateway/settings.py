"""What a gateway process is told at its start, and what it says when it serves or cannot."""

from enum import IntEnum
from typing import Literal

import msgspec

from farm.errors import ConfigError
from farm.settings_file import FileSettings

__all__ = ["ExitCode", "GatewaySettings", "Word", "parse_listen"]


class ExitCode(IntEnum):
    """How a gateway process ended; the numbers are those of the ``farm`` command."""

    OK = 0
    FAILED = 1
    """The farm refuses this session for good."""
    CONFIG = 3
    REFUSED = 11
    """The address is taken, or not safe to listen on."""
    BUG = 70


class GatewaySettings(
    FileSettings, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One gateway. ``address`` is where clients of the farm connect, empty: what the token says."""

    address: str
    token: str = ""
    """The path of a file with its token; if empty, what ``FARM_TOKEN`` says."""
    keys: str = ""
    """The folder with the keys of this user's own farm; empty: the usual one."""
    tokens: Literal["auto", "always", "never"] = "auto"
    """Whether requests must show a token; ``auto``: as soon as there are any."""
    tls_cert: str = ""
    """The certificate of this gateway, with those that it rests on, as a file in PEM."""
    tls_key: str = ""
    """Its private key, as a file in PEM."""
    health_open: bool = True
    """Whether ``/health/live`` and ``/health/ready`` need no token."""
    metrics_open: bool = False
    """Whether ``/metrics`` needs none."""
    listen: str = "127.0.0.1:8080"
    modules: list[str] = []
    """Imported at the start; their registered functions can be run."""
    names: list[str] = []
    """Names by which callers reach it, besides ``localhost`` and addresses in digits."""
    insecure: bool = False
    """Listen where other machines can connect, although there are no tokens."""
    docs: bool = False
    """Serve a page that shows the API, at ``/docs``; its script comes from the internet."""
    max_body: int = 4 << 20
    """Bytes of a request."""
    max_items: int = 4096
    """Tasks of a job."""
    max_pending: int = 10_000
    """Tasks of one caller that are not over."""
    max_connections: int = 1024
    max_sessions: int = 64
    """Callers with tokens that have a session with the farm at a time."""
    max_waits: int = 512
    """Requests that wait for a task, or follow a job, at a time."""
    max_wait: float = 60.0
    """How long one of them waits for a task, in seconds."""
    result_ttl: float = 86_400.0
    """How long a result can be read, in seconds, unless the request says otherwise."""
    schedules: str = ""
    """What the schedulers on this machine keep, if there are any."""
    sys_path: list[str] | None = None
    """In place of this process's ``sys.path`` when modules are imported."""
    parent_fd: int | None = None
    """The process ends when this pipe does."""
    parent_pid: int | None = None
    """And when this parent of it does."""
    ready_fd: int | None = None
    """One ``Word`` is written here, as a line of JSON, once it is known whether it serves."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a gateway says at its start: where it serves, or the kind of its error and why."""

    url: str = ""
    error: str = ""
    message: str = ""


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[HOST]:PORT``; raises ``ConfigError``."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # an IPv6 address without brackets
    if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the last port
        raise ConfigError(f"listen is {text!r}; write HOST:PORT, such as 127.0.0.1:8080")
    return host, int(port)
