"""One message of every type, and the frames that protocol version 1 makes of it.

``python -m tests.golden.frames`` writes ``frames_v1.json``. Frames of a released version never
change: what a new release adds goes to the end of a message, and gets a file of its own version.
"""

import json
from pathlib import Path

from farm.model import Blob, Ending
from farm.protocol.codec import ATTACH_BYTES, encode
from farm.protocol.messages import (
    Accepted,
    Answer,
    Ask,
    Assign,
    Attach,
    Beat,
    Bye,
    Cancel,
    CancelReply,
    Claim,
    ClientHello,
    ClientWelcome,
    Credit,
    Drain,
    DrainHost,
    Drop,
    Ended,
    Failure,
    Function,
    Grant,
    Group,
    HostHello,
    HostWelcome,
    JobInfo,
    JobOpen,
    JobSeal,
    NeedFunction,
    Noted,
    Progress,
    Query,
    QueueCredit,
    Recall,
    Refused,
    Rejected,
    Report,
    Result,
    Results,
    Shares,
    Started,
    Submit,
    Taken,
    TaskKey,
    Template,
    Told,
)

GOLDEN = Path(__file__).with_name("frames_v1.json")

SESSION = bytes(range(16))
HASH = bytes(range(16, 32))
EPOCH = 1_700_000_000_000
LARGE = b"\x07" * (ATTACH_BYTES + 1)
BLOB = 1 << 20
FAILURE = Failure("died", "killed by signal 9", "host-1", -9, "builtins.ValueError", 2)
KEYS = (TaskKey("order 7", body=HASH), TaskKey("nightly sync", unique=True))
CLAIM = Claim(EPOCH, 7, 2, SESSION, 40, 3, started=True)

FROM_CLIENT = [
    ClientHello(
        1,
        "0.1.0",
        "3.11",
        b"i" * 16,
        SESSION,
        b"s" * 16,
        3,
        EPOCH,
        b"t" * 16,
        99,
        1 << 26,
        [(1, 5)],
    ),
    Submit(
        [
            Group(1, 2, HASH, [b"a", b"bc"], 3, keys=KEYS),
            Group(
                3,
                1000,
                HASH,
                [LARGE],
                len(LARGE),
                packed=True,
                start=10,
                job=4,
                template=Template(
                    *(-1, 2, 0.5, 1, 60.0, False, 3600.0, 30.0, 5.0),
                    queue="mail",
                    concurrency_key="a customer",
                    explicit=("retries",),
                    eta=1_900_000_000.5,
                ),
            ),
        ]
    ),
    Function(HASH, "module.function", b"pickle"),
    JobOpen(4, "nightly"),
    JobSeal(4, 1000),
    Cancel(11, [(SESSION, 1, 2)], 2.5),
    Attach(12, [(SESSION, 1, 2)], "nightly"),
    Taken(5),
    Query(13, "tasks", {"state": "queued", "limit": 20, "longer_than": 1.5}),
    Beat(1.25),
    Bye("closed"),
    DrainHost(14, "host-1"),
    Shares("peers/0123456789abcdef"),
]
TO_CLIENT = [
    ClientWelcome(
        1,
        "0.1.0",
        "3.11",
        EPOCH,
        b"t" * 16,
        100,
        True,
        10.0,
        1 << 26,
        4096,
        1 << 27,
        "/srv/farm.db-blobs",
        b"k" * 16,
    ),
    Accepted(101, [(1, 2), (3, 1000)]),
    Refused(1, 2, "busy", 1.5, "the farm is full", "mail"),
    QueueCredit("mail", 4),
    Credit(8192, 1 << 28, 2.5),
    Results(
        1,
        102,
        [
            Result(SESSION, 1, 2, Ending.OK, [b"x", LARGE], 1 + len(LARGE), seconds=0.25),
            Result(SESSION, 3, 10, Ending.OK, [b"list"], 4, packed=True),
            Result(SESSION, 13, 1, Ending.LOST, [], failure=FAILURE, output=b"printed"),
            Result(SESSION, 14, 1, Ending.OK, [Blob("kept/18bcfe56800.1f", BLOB)], BLOB),
        ],
    ),
    Started([(1, 2)]),
    CancelReply(11, [(SESSION, 1, 2)], [(SESSION, 5, 1)], [(SESSION, 7, 1)]),
    JobInfo(12, [(SESSION, 3, 1000)], SESSION, 4, "nightly", "sealed"),
    Answer(13, {"tasks": [1, 2.5, None, True, "text"]}, "no such question"),
    Beat(0.0, 1.25),
    Bye("stopping"),
    Rejected("version", "this farm speaks protocol 1", True),
    Progress([(SESSION, 3, 10.0, 100.0, "half way")]),
]
FROM_HOST = [
    HostHello(
        1,
        "0.1.0",
        "3.11",
        b"i" * 16,
        "host-1",
        3,
        8,
        16,
        EPOCH,
        b"t" * 16,
        99,
        [CLAIM],
        4242,
        "10.0.0.1",
        {"gpu": "no"},
        "the disk is full",
        "cgroup v2",
        platform="linux-x86_64",
        packages={"numpy": "2.1.3"},
        keys=[b"p" * 32, b"q" * 32],
    ),
    Report(
        6,
        16,
        [
            Ended(
                EPOCH,
                7,
                2,
                40,
                2,
                Ending.OK,
                [b"x", LARGE],
                1 + len(LARGE),
                seconds=0.25,
                output=b"printed",
            ),
            Ended(EPOCH, 7, 2, 42, 1, Ending.LOST, [], failure=FAILURE),
        ],
        [(EPOCH, 8, 50, 1)],
        [(EPOCH, 9, 60, 4)],
        [(EPOCH, 8, 50, 10.0, 100.0, "half way")],
        "the disk is full",
        waits=[(EPOCH, 8, 1)],
    ),
    NeedFunction(HASH),
    Beat(1.25, 0.0, [(EPOCH, 8, 50, 1)], {"cpu": 0.5}),
    Bye("drained"),
    Told(3, b"printed", 100, "not for long"),
    Shares("peers/0123456789abcdef"),
]
TO_HOST = [
    HostWelcome(1, "0.1.0", EPOCH, b"t" * 16, 100, 10.0, 30.0, [CLAIM], "another Python"),
    Assign(
        EPOCH,
        [
            Grant(7, 2, SESSION, 40, 2, HASH, [b"a", LARGE], 1 + len(LARGE)),
            Grant(8, 1, SESSION, 50, 10, HASH, [b"items"], 5, True, 20, 30, 0.125, 60.0),
        ],
    ),
    Recall([(EPOCH, 7, 40, 3)], 2.5),
    Drop([CLAIM]),
    Noted(6, 102),
    Function(HASH, "module.function", b"pickle"),
    Beat(0.0, 1.25),
    Bye("stopping"),
    Rejected("replaced", "a newer connection came", False),
    Drain("somebody asked for it"),
    Ask(3, "output", EPOCH, 8, 50, 100),
]
SAMPLES = {
    f"{direction} {type(message).__name__}": (number, message)
    for direction, messages in (
        ("from_client", FROM_CLIENT),
        ("to_client", TO_CLIENT),
        ("from_host", FROM_HOST),
        ("to_host", TO_HOST),
    )
    for number, message in enumerate(messages)
}
"""By direction and type: the message, and the number it is sent with."""


def read() -> dict[str, list[bytes]]:
    """The golden frames, by the names of ``SAMPLES``."""
    stored = json.loads(GOLDEN.read_text("utf-8"))
    return {name: [_unpack(frame) for frame in frames] for name, frames in stored.items()}


def write() -> None:
    """Make the golden frames anew; only while their version is not released."""
    frames = {
        name: [_pack(frame) for frame in encode(number, message)]
        for name, (number, message) in SAMPLES.items()
    }
    GOLDEN.write_text(json.dumps(frames, indent=1) + "\n", "utf-8")


def _pack(frame: bytes) -> str:
    """A frame as hexadecimal; one that repeats a byte as that byte, ``*`` and how often."""
    if len(frame) > 1 and len(set(frame)) == 1:
        return f"{frame[:1].hex()}*{len(frame)}"
    return frame.hex()


def _unpack(text: str) -> bytes:
    byte, _, times = text.partition("*")
    return bytes.fromhex(byte) * int(times or 1)


if __name__ == "__main__":
    write()
