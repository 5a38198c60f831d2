"""What may be set in each section of a configuration; ``farm.config`` says where."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from farm.model import DEFAULT_ADDRESS

__all__ = [
    "ClientConfig",
    "CoordinatorConfig",
    "GatewayConfig",
    "HostConfig",
    "LogConfig",
]

DURATION = {"kind": "duration"}
SIZE = {"kind": "size"}
RESOURCES = {"kind": "resources"}
LABELS = {"kind": "labels"}
ADDRESSES = {"kind": "addresses"}


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[client]``: how programs and commands find the farm."""

    address: Annotated[
        str,
        Meta(
            min_length=1,
            extra=ADDRESSES,
            description="The farm: `tcp://HOST:PORT` or `ipc://PATH`; several of it, as a list or"
            " with commas, are tried in turn",
        ),
    ] = DEFAULT_ADDRESS
    connect_timeout: Annotated[
        float,
        Meta(gt=0, extra=DURATION, description="How long to look for a farm before giving up"),
    ] = 10.0
    token_file: Annotated[
        str, Meta(description="A file with the token, if it is not in `FARM_TOKEN`")
    ] = ""


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[coordinator]``: the process that keeps the tasks."""

    listen: Annotated[
        str,
        Meta(
            min_length=1,
            description="Where clients connect; hosts use the next port, or `PATH.hosts`",
        ),
    ] = DEFAULT_ADDRESS
    store: Annotated[
        str,
        Meta(
            description="A path, or `memory:` for tasks that need not survive a restart; if empty,"
            " `farm.db` in the user's state folder"
        ),
    ] = ""
    keys: Annotated[
        str,
        Meta(description="The folder of its keys; if empty, `keys` in the user's state folder"),
    ] = ""
    max_tasks: Annotated[int, Meta(ge=1, description="How many unfinished tasks are accepted")] = (
        1_000_000
    )
    max_bytes: Annotated[
        int, Meta(ge=1, extra=SIZE, description="How many bytes of arguments they may have")
    ] = 2 << 30
    session_max_tasks: Annotated[
        int, Meta(ge=0, description="How many of them one client may have; 0: all of them")
    ] = 0
    session_max_bytes: Annotated[
        int, Meta(ge=0, extra=SIZE, description="And how many bytes of arguments; 0: all")
    ] = 0
    resident_payload_bytes: Annotated[
        int,
        Meta(
            ge=1,
            extra=SIZE,
            description="How many of them stay in memory: the rest is in the store alone, and read"
            " back before its turn; of no effect with `memory:`",
        ),
    ] = 256 << 20
    far_seconds: Annotated[
        float,
        Meta(
            gt=0,
            extra=DURATION,
            description="The arguments of tasks that start later than this are in the store alone"
            " until shortly before; of no effect with `memory:`",
        ),
    ] = 60.0
    resident_result_bytes: Annotated[
        int,
        Meta(
            ge=1,
            extra=SIZE,
            description="How many bytes of results stay in memory for clients that read slowly; the"
            " rest is read back from the store",
        ),
    ] = 256 << 20
    beat_seconds: Annotated[
        float,
        Meta(gt=0, extra=DURATION, description="How often each side of a connection shows life"),
    ] = 10.0
    lease_seconds: Annotated[
        float,
        Meta(
            gt=0,
            extra=DURATION,
            description="After how long a silence of its host a task is given to another;"
            " at least two beats",
        ),
    ] = 30.0
    recovery_seconds: Annotated[
        float,
        Meta(
            gt=0,
            extra=DURATION,
            description="How long a restarted coordinator waits for the hosts it had",
        ),
    ] = 5.0
    unclaimed_ttl: Annotated[
        float,
        Meta(gt=0, extra=DURATION, description="How long results that nobody took are kept"),
    ] = 604_800.0
    result_ttl: Annotated[
        float,
        Meta(
            gt=0,
            extra=DURATION,
            description="How long results of named jobs are kept, even when their owner has them",
        ),
    ] = 604_800.0
    max_result_bytes: Annotated[
        int,
        Meta(
            ge=1,
            extra=SIZE,
            description="The room for results: beyond it the oldest that were taken are dropped,"
            " and while unread ones fill it new tasks wait",
        ),
    ] = 4 << 30
    history_ttl: Annotated[
        float,
        Meta(gt=0, extra=DURATION, description="How long is remembered how a task ended"),
    ] = 604_800.0
    history_rows: Annotated[
        int, Meta(ge=1, description="How many endings are remembered; alike ones count as one")
    ] = 1_000_000
    history_bytes: Annotated[int, Meta(ge=1, extra=SIZE, description="And in how many bytes")] = (
        64 << 20
    )
    key_ttl: Annotated[
        float,
        Meta(
            gt=0,
            extra=DURATION,
            description="How long an idempotency key belongs to its task, and the outcome is kept",
        ),
    ] = 86_400.0
    max_keys: Annotated[
        int, Meta(ge=1, description="How many keys of tasks are held; then new ones are refused")
    ] = 1_000_000
    max_key_bytes: Annotated[
        int,
        Meta(
            ge=1,
            extra=SIZE,
            description="How many bytes they and the results kept for them may have; the same",
        ),
    ] = 1 << 30
    resources: Annotated[
        list[str],
        Meta(
            description="Names of resources that hosts may have, for tasks that are submitted"
            " before any such host is there"
        ),
    ] = []
    host_labels: Annotated[
        list[str],
        Meta(
            extra=LABELS,
            description="What every host must have, or it gets no work: `platform=linux-x86_64`,"
            " `package.numpy=2.1`, labels of your own",
        ),
    ] = []
    session_ttl: Annotated[
        float,
        Meta(
            gt=0,
            extra=DURATION,
            description="How long a silent client without work is remembered",
        ),
    ] = 604_800.0


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[host]``: the process that runs tasks on one machine."""

    slots: Annotated[
        int,
        Meta(
            ge=0,
            description="How many tasks run at a time; 0: one for each CPU that it may use",
        ),
    ] = 0
    name: Annotated[
        str, Meta(description="What the host is called; if empty, as its machine, with a number")
    ] = ""
    preload: Annotated[
        list[str],
        Meta(description="Modules that are imported once, before the first worker starts"),
    ] = []
    modules: Annotated[
        list[str],
        Meta(
            description="Modules that each worker imports; functions registered there can be run by"
            " name, over HTTP"
        ),
    ] = []
    grace: Annotated[
        float,
        Meta(
            ge=0,
            extra=DURATION,
            description="How long tasks may run on when the host stops, before they are ended and"
            " given back; 0: as long as they take",
        ),
    ] = 0.0
    kill_after: Annotated[
        float,
        Meta(
            ge=0,
            extra=DURATION,
            description="How long a worker over a limit has to end before it is killed",
        ),
    ] = 3.0
    max_lent: Annotated[
        int,
        Meta(
            ge=0,
            description="How many slots may be lent while their tasks wait for others;"
            " 0: four for each slot, 64 at least",
        ),
    ] = 0
    max_tasks_per_worker: Annotated[
        int, Meta(ge=0, description="A worker is replaced after so many tasks; 0: never")
    ] = 0
    resources: Annotated[
        dict[str, float],
        Meta(
            extra=RESOURCES,
            description="What it has for tasks that need it, such as `{gpu = 2, licence = 1}`;"
            " `memory` and `gpu` are found out unless they are said here",
        ),
    ] = {}
    labels: Annotated[
        list[str],
        Meta(extra=LABELS, description='What tasks may ask of a host: `["ssd", "zone=a"]`'),
    ] = []
    packages: Annotated[
        list[str],
        Meta(
            description="Packages whose versions it tells the farm, besides `cloudpickle` and"
            " `numpy`; tasks may ask for them: `package.torch=2`"
        ),
    ] = []
    max_memory_per_worker: Annotated[
        int,
        Meta(
            ge=0,
            extra=SIZE,
            description="And when it has come to so much memory of its own; 0: never",
        ),
    ] = 0


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[gateway]``: the process that answers HTTP."""

    listen: Annotated[
        str, Meta(min_length=1, description="Where it listens: `HOST:PORT`, or `[HOST]:PORT`")
    ] = "127.0.0.1:8080"
    modules: Annotated[
        list[str],
        Meta(description="Modules whose registered functions can be run; hosts need them, too"),
    ] = []
    names: Annotated[
        list[str],
        Meta(
            description="Names by which callers reach it, besides `localhost` and addresses in"
            " digits"
        ),
    ] = []
    tokens: Annotated[
        Literal["auto", "always", "never"],
        Meta(description="Whether requests must show a bearer token; `auto`: once there are any"),
    ] = "auto"
    tls_cert: Annotated[
        str, Meta(description="Its certificate, a file in PEM: then it speaks HTTPS")
    ] = ""
    tls_key: Annotated[str, Meta(description="The private key of that, a file in PEM")] = ""
    health_open: Annotated[bool, Meta(description="Whether `/health/…` needs no token")] = True
    metrics_open: Annotated[bool, Meta(description="Whether `/metrics` needs no token")] = False
    docs: Annotated[
        bool,
        Meta(description="A page about the API at `/docs`; its script comes from the internet"),
    ] = False
    max_body: Annotated[
        int, Meta(ge=1024, extra=SIZE, description="How many bytes a request may have")
    ] = 4 << 20
    max_items: Annotated[int, Meta(ge=1, le=8192, description="How many tasks a job may have")] = (
        4096
    )
    max_pending: Annotated[
        int, Meta(ge=1, description="How many tasks of one caller may be unfinished")
    ] = 10_000
    max_connections: Annotated[int, Meta(ge=1, description="How many connections it takes")] = 1024
    max_sessions: Annotated[
        int, Meta(ge=1, description="How many callers with tokens have a session at a time")
    ] = 64
    max_waits: Annotated[
        int, Meta(ge=0, description="How many requests may wait for tasks, or follow jobs")
    ] = 512
    max_wait: Annotated[
        float, Meta(ge=0, extra=DURATION, description="How long one of them waits for a task")
    ] = 60.0
    result_ttl: Annotated[
        float,
        Meta(
            gt=0,
            extra=DURATION,
            description="How long results can be read, unless the request says otherwise",
        ),
    ] = 86_400.0


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[log]``: what services write to stderr, one event a line."""

    format: Annotated[Literal["text", "json"], Meta(description="How a line is written")] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least weight that is written"),
    ] = "info"
